//! Lines over an axis of labels, with bands around them where a line is a middle of many.

use arrakis_core::{Axis, Series};

use crate::Result;
use crate::axes::column_labels;
use crate::chart::Chart;
use crate::colour::{Colour, of_line};
use crate::field::{count, odd_notes, some};
use crate::label::{self, Labels};
use crate::measure::Measure;
use crate::picture::Picture;
use crate::scene::{Anchor, Scene};
use crate::spread::Spread;
use crate::theme::Theme;

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 240.0;
/// The room between the frame and the first and last of many points.
const INSET: f64 = 10.0;
const LONGEST_LABEL: f64 = 110.0;
/// Up to how many points each gets a dot, and up to how many lines each gets a place in the legend.
const DOTS: usize = 48;
const NAMED: usize = 24;
/// The room of a sample in the legend, and the gap after a name.
const SAMPLE: f64 = 24.0;
const APART: f64 = 18.0;

/// A line, and the band that it is the middle of.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) values: Vec<f64>,
    /// The lower and the upper edge of the band, as long as the line.
    pub(crate) band: Option<(Vec<f64>, Vec<f64>)>,
}

/// Lines with bands over one axis.
#[derive(Debug, Clone)]
pub(crate) struct Curves {
    pub(crate) title: String,
    pub(crate) axis: Axis,
    pub(crate) value: String,
    pub(crate) lines: Vec<Curve>,
    /// Whether numbers are spaced by their logarithm.
    pub(crate) log: bool,
    pub(crate) notes: Vec<String>,
}

impl Picture for Series {
    fn title(&self) -> &str {
        &self.title
    }

    fn scene(&self, theme: &Theme) -> Result<Scene> {
        if let Some(spread) = Spread::of(self) {
            return Ok(spread.bars((WIDTH, HEIGHT), &self.axis.name, theme).framed(&self.title, &[], theme));
        }
        let curve =
            |line: &arrakis_core::Line| Curve { name: line.name.clone(), values: line.values.clone(), band: None };
        let (title, axis, value) = (self.title.clone(), self.axis.clone(), self.value.clone());
        Curves { title, axis, value, lines: self.lines.iter().map(curve).collect(), log: false, notes: vec![] }
            .scene(theme)
    }
}

impl Picture for Curves {
    fn title(&self) -> &str {
        &self.title
    }

    fn scene(&self, theme: &Theme) -> Result<Scene> {
        some(&self.title, "its axis has no entries", self.axis.len())?;
        some(&self.title, "it has no lines", self.lines.len())?;
        let axis = label::by_layer(&self.axis);
        for curve in &self.lines {
            count(&self.title, "values in each line", self.axis.len(), curve.values.len())?;
            for edge in curve.band.iter().flat_map(|(low, high)| [low, high]) {
                count(&self.title, "values in each band", self.axis.len(), edge.len())?;
            }
        }
        let lines = || self.lines.iter().flat_map(|curve| &curve.values);
        let mut notes = odd_notes(lines(), "left out", "drawn at the edge");
        notes.extend_from_slice(&self.notes);
        let edges =
            || self.lines.iter().filter_map(|curve| curve.band.as_ref()).flat_map(|(low, high)| low.iter().chain(high));
        let all: Vec<f64> = lines().chain(edges()).copied().collect();
        let up = if self.log { Measure::log(all) } else { Measure::padded(all) };

        let mut scene = Scene::default();
        let mut chart = Chart::new(up, &self.value, (WIDTH, HEIGHT), theme);
        chart.top = legend(&mut scene, self, chart.left + chart.width, theme, &mut notes);
        chart.draw(&mut scene, theme);
        let frame = Frame { chart: &chart, count: self.axis.len() };
        for (index, curve) in self.lines.iter().enumerate() {
            if let Some((low, high)) = &curve.band {
                frame.band(&mut scene, low, high, of_line(index, self.lines.len()));
            }
        }
        for (index, curve) in self.lines.iter().enumerate() {
            frame.line(&mut scene, &curve.values, of_line(index, self.lines.len()));
        }

        let pitch = frame.pitch();
        let labels = Labels::across(&axis.labels, pitch, Theme::LABEL, LONGEST_LABEL, theme);
        column_labels(&mut scene, &labels, (frame.x(0.0) - pitch / 2.0, chart.ground() + 0.5), pitch, theme);
        scene.height = chart.name_below(&mut scene, &axis.name, chart.ground() + 7.0 + labels.extent, theme);
        scene.width = chart.left + chart.width + 6.0;
        Ok(scene.framed(&self.title, &notes, theme))
    }
}

/// Draws the names of the lines above the frame, in rows; returns where they end below.
fn legend(scene: &mut Scene, shown: &Curves, width: f64, theme: &Theme, notes: &mut Vec<String>) -> f64 {
    let curves = &shown.lines;
    // An only line whose name says nothing new has none.
    if let [curve] = curves.as_slice()
        && (curve.name.is_empty() || curve.name == shown.value)
    {
        return 4.0;
    }
    let named = |curve: &Curve| label::visible(&curve.name, &theme.font);
    let names = curves.iter().take(NAMED).map(named);
    let names: Vec<String> =
        names.map(|name| label::shortened(&name, Theme::LABEL, width - SAMPLE, &theme.font)).collect();
    let rooms: Vec<f64> = names.iter().map(|name| SAMPLE + theme.measure(name, Theme::LABEL) + APART).collect();
    let widest = rooms.iter().copied().fold(0.0, f64::max);
    let one_row = rooms.iter().sum::<f64>() - APART <= width;
    let (mut x, mut y) = (0.0, 6.0);
    for (index, (name, room)) in names.iter().zip(&rooms).enumerate() {
        if x > 0.0 && x + room - APART > width {
            (x, y) = (0.0, y + 17.0);
        }
        scene.stroke(vec![(x + 1.0, y), (x + SAMPLE - 7.0, y)], 2.2, of_line(index, curves.len()));
        scene.text((x + SAMPLE, y), Anchor::Start, name, Theme::LABEL, theme.ink);
        x += if one_row { *room } else { widest };
    }
    if curves.len() > NAMED {
        notes.push(format!("{} lines, of which the first {NAMED} are named", curves.len()));
    }
    y + 20.0
}

/// Where points lie.
struct Frame<'a> {
    chart: &'a Chart,
    count: usize,
}

impl Frame<'_> {
    /// The distance between neighbours: few points each get a band as wide, so that labels stay inside.
    fn pitch(&self) -> f64 {
        let width = self.chart.width;
        if self.few() { width / self.count as f64 } else { (width - 2.0 * INSET) / (self.count - 1) as f64 }
    }

    fn x(&self, place: f64) -> f64 {
        self.chart.left + if self.few() { (place + 0.5) * self.pitch() } else { INSET + place * self.pitch() }
    }

    fn few(&self) -> bool {
        self.count <= DOTS
    }

    /// Draws a band, broken where an edge is missing.
    fn band(&self, scene: &mut Scene, low: &[f64], high: &[f64], colour: Colour) {
        let places: Vec<usize> = (0..low.len()).collect();
        for run in places.chunk_by(|&a, &b| [low[a], high[a], low[b], high[b]].iter().all(|value| !value.is_nan())) {
            if run.len() > 1 {
                let upper = run.iter().map(|&place| (self.x(place as f64), self.chart.y(high[place])));
                let lower = run.iter().rev().map(|&place| (self.x(place as f64), self.chart.y(low[place])));
                scene.area(upper.chain(lower).collect(), colour, 0.2);
            }
        }
    }

    /// Draws a line, broken where a number is missing; an infinite one is a dot on the edge.
    fn line(&self, scene: &mut Scene, values: &[f64], colour: Colour) {
        let mut run = Vec::new();
        let finish = |scene: &mut Scene, run: &mut Vec<(f64, f64)>| match run.as_slice() {
            [] => {}
            &[alone] => {
                scene.disk(alone, 2.6, colour);
                run.clear();
            }
            _ => scene.stroke(std::mem::take(run), 1.8, colour),
        };
        for place in self.places(values) {
            let value = values[place];
            if value.is_nan() {
                finish(scene, &mut run);
                continue;
            }
            let point = (self.x(place as f64), self.chart.y(value));
            if self.few() || value.is_infinite() {
                scene.disk(point, 2.6, colour);
            }
            run.push(point);
        }
        finish(scene, &mut run);
    }

    /// The points to be drawn: all of them, or of very many the least and the greatest in each pixel.
    fn places(&self, values: &[f64]) -> Vec<usize> {
        let bins = self.chart.width as usize;
        if values.len() <= bins * 2 {
            return (0..values.len()).collect();
        }
        let bounds = |bin: usize| bin * values.len() / bins..(bin + 1) * values.len() / bins;
        let ends = |bin| {
            let least = bounds(bin).min_by(|&a, &b| values[a].total_cmp(&values[b]));
            let most = bounds(bin).max_by(|&a, &b| values[a].total_cmp(&values[b]));
            let mut ends = [least.unwrap_or(0), most.unwrap_or(0)];
            ends.sort_unstable();
            ends
        };
        let mut places: Vec<usize> = (0..bins).flat_map(ends).collect();
        places.dedup();
        places
    }
}
