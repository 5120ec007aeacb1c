//! Pairs of numbers as dots, the outermost with their names.

use crate::Result;
use crate::chart::Chart;
use crate::colour::of_line;
use crate::field::{count, odd_notes, some};
use crate::label;
use crate::measure::Measure;
use crate::picture::Picture;
use crate::scene::{Anchor, Scene};
use crate::theme::Theme;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 340.0;
/// How many dots are named, and how wide a name may be.
const NAMED: usize = 12;
const LONGEST_NAME: f64 = 110.0;

/// Named pairs of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Scatter {
    pub(crate) title: String,
    /// What the two numbers are.
    pub(crate) names: (String, String),
    pub(crate) labels: Vec<String>,
    pub(crate) along: Vec<f64>,
    pub(crate) up: Vec<f64>,
}

impl Picture for Scatter {
    fn title(&self) -> &str {
        &self.title
    }

    fn scene(&self, theme: &Theme) -> Result<Scene> {
        some(&self.title, "it has no points", self.labels.len())?;
        count(&self.title, "numbers along", self.labels.len(), self.along.len())?;
        count(&self.title, "numbers up", self.labels.len(), self.up.len())?;
        let notes = odd_notes(self.along.iter().chain(&self.up), "points left out for", "points at the edge for");
        let along = Measure::padded(self.along.iter().copied());
        let mut scene = Scene::default();
        let chart = Chart::new(Measure::padded(self.up.iter().copied()), &self.names.1, (WIDTH, HEIGHT), theme);
        chart.draw(&mut scene, theme);
        if along.low() < 0.0 && along.high() > 0.0 {
            let x = chart.left + chart.width * along.share(0.0);
            scene.rule((x, chart.top), (x, chart.ground()), theme.axis);
        }
        let point = |place: usize| (chart.left + chart.width * along.share(self.along[place]), chart.y(self.up[place]));
        let drawn: Vec<usize> =
            (0..self.labels.len()).filter(|&place| !self.along[place].is_nan() && !self.up[place].is_nan()).collect();
        let radius = if drawn.len() > 400 { 1.6 } else { 2.8 };
        for &place in &drawn {
            scene.disk(point(place), radius, of_line(0, 1));
        }
        names(&mut scene, self, &drawn, point, &chart, theme);
        scene.height = chart.numbers_below(&mut scene, &along, &self.names.0, theme);
        scene.width = chart.left + chart.width + 10.0;
        Ok(scene.framed(&self.title, &notes, theme))
    }
}

/// Names the points farthest from the middle, where a name overlaps no other and covers no point.
fn names(
    scene: &mut Scene,
    scatter: &Scatter,
    drawn: &[usize],
    point: impl Fn(usize) -> (f64, f64),
    chart: &Chart,
    theme: &Theme,
) {
    let middle = |pick: fn((f64, f64)) -> f64| {
        let mut places: Vec<f64> = drawn.iter().map(|&place| pick(point(place))).collect();
        places.sort_by(f64::total_cmp);
        places.get(places.len() / 2).copied().unwrap_or(0.0)
    };
    let (x, y) = (middle(|point| point.0), middle(|point| point.1));
    let mut outer: Vec<usize> = drawn.to_vec();
    let far = |place: usize| (point(place).0 - x).hypot(point(place).1 - y);
    outer.sort_by(|&a, &b| far(b).total_cmp(&far(a)));
    let mut taken: Vec<(f64, f64, f64)> = Vec::new();
    for place in outer {
        if taken.len() == NAMED {
            break;
        }
        let text = label::visible(&scatter.labels[place], &theme.font);
        let text = label::shortened(&text, Theme::SMALL, LONGEST_NAME, &theme.font);
        let width = theme.measure(&text, Theme::SMALL);
        let (x, y) = point(place);
        // To the right of the point, to its left, above it or below it.
        let places = [(x + 5.0, y), (x - 5.0 - width, y), (x - width / 2.0, y - 11.0), (x - width / 2.0, y + 11.0)];
        let fits = |&(start, at): &(f64, f64)| {
            let inside = start >= chart.left + 2.0
                && start + width <= chart.left + chart.width + 8.0
                && at >= chart.top + 5.0
                && at <= chart.ground() - 6.0;
            let free = |&(from, other, wide): &(f64, f64, f64)| {
                (at - other).abs() > 11.0 || start > from + wide + 4.0 || from > start + width + 4.0
            };
            let bare = |&other: &usize| {
                let (x, y) = point(other);
                other == place || (at - y).abs() > 7.0 || x < start - 2.0 || x > start + width + 2.0
            };
            inside && taken.iter().all(free) && drawn.iter().all(bare)
        };
        if let Some((start, at)) = places.into_iter().find(fits)
            && !text.is_empty()
        {
            scene.text((start, at), Anchor::Start, &text, Theme::SMALL, theme.ink);
            taken.push((start, at, width));
        }
    }
}
