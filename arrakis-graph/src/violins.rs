//! Distributions side by side as violins: a smoothed density, the quartiles, the least and the greatest number.

use arrakis_core::Axis;

use crate::Result;
use crate::axes::column_labels;
use crate::chart::Chart;
use crate::colour::of_line;
use crate::field::{count, odd_notes, some};
use crate::label::Labels;
use crate::measure::{Measure, Spacing};
use crate::picture::Picture;
use crate::scene::Scene;
use crate::theme::Theme;

const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 260.0;
const LONGEST_LABEL: f64 = 110.0;
/// At how many heights a density is taken, and how far it is smoothed, in such steps.
const STEPS: usize = 96;
const SMOOTH: f64 = 1.6;

/// One distribution for each entry of an axis.
#[derive(Debug, Clone)]
pub(crate) struct Violins {
    pub(crate) title: String,
    pub(crate) axis: Axis,
    pub(crate) value: String,
    pub(crate) groups: Vec<Vec<f64>>,
    pub(crate) notes: Vec<String>,
}

impl Picture for Violins {
    fn title(&self) -> &str {
        &self.title
    }

    fn scene(&self, theme: &Theme) -> Result<Scene> {
        some(&self.title, "its axis has no entries", self.axis.len())?;
        count(&self.title, "distributions", self.axis.len(), self.groups.len())?;
        for (label, group) in self.axis.labels.iter().zip(&self.groups) {
            some(&self.title, &format!("`{label}` has no numbers"), group.len())?;
        }
        let all: Vec<f64> = self.groups.iter().flatten().copied().collect();
        let mut notes = odd_notes(&all, "left out", "drawn at the edge");
        notes.extend_from_slice(&self.notes);
        let up = Measure::of_tails(&all);
        if let Spacing::Symmetric(unit) = up.spacing() {
            notes.push(format!(
                "the height is linear up to ±{} and logarithmic beyond",
                crate::ticks::short(unit, unit)
            ));
        }
        notes.push("line: least to greatest; thick: middle half; dot: median".into());

        let mut scene = Scene::default();
        let chart = Chart::new(up, &self.value, (WIDTH, HEIGHT), theme);
        chart.draw(&mut scene, theme);
        let pitch = chart.width / self.groups.len() as f64;
        for (index, group) in self.groups.iter().enumerate() {
            let middle = chart.left + (index as f64 + 0.5) * pitch;
            violin(&mut scene, group, &chart, middle, (pitch * 0.45).min(40.0), theme);
        }
        let labels = Labels::across(&self.axis.labels, pitch, Theme::LABEL, LONGEST_LABEL, theme);
        column_labels(&mut scene, &labels, (chart.left, chart.ground() + 0.5), pitch, theme);
        scene.height = chart.name_below(&mut scene, &self.axis.name, chart.ground() + 7.0 + labels.extent, theme);
        scene.width = chart.left + chart.width + 6.0;
        Ok(scene.framed(&self.title, &notes, theme))
    }
}

fn violin(scene: &mut Scene, group: &[f64], chart: &Chart, middle: f64, half: f64, theme: &Theme) {
    let mut values: Vec<f64> = group.iter().copied().filter(|value| !value.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    let (Some(&least), Some(&greatest)) = (values.first(), values.last()) else { return };
    let density = density(&values, &chart.up);
    let most = density.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let height = |step: usize| chart.top + chart.height * (1.0 - step as f64 / STEPS as f64);
    // Only as high as there are numbers, however far the smoothing reaches.
    let (top, bottom) = (chart.y(greatest), chart.y(least));
    let edge: Vec<(f64, f64)> = (0..=STEPS)
        .map(|step| (half * density[step] / most, height(step).clamp(top, bottom)))
        .filter(|(width, _)| *width > 0.05)
        .collect();
    let right = edge.iter().map(|(width, y)| (middle + width, *y));
    let left = edge.iter().rev().map(|(width, y)| (middle - width, *y));
    scene.area(right.chain(left).collect(), of_line(0, 1), 0.5);
    let quartile = |share: f64| chart.y(values[((values.len() - 1) as f64 * share).round() as usize]);
    scene.stroke(vec![(middle, top), (middle, bottom)], 1.0, of_line(0, 1));
    scene.stroke(vec![(middle, quartile(0.75)), (middle, quartile(0.25))], (half / 5.0).clamp(2.0, 5.0), of_line(0, 1));
    scene.disk((middle, quartile(0.5)), (half / 7.0).clamp(1.4, 2.6), theme.ground);
}

/// How many numbers lie at each height, smoothed by a bell.
fn density(values: &[f64], up: &Measure) -> Vec<f64> {
    let mut counts = vec![0.0; STEPS + 1];
    for &value in values {
        counts[(up.share(value) * STEPS as f64).round() as usize] += 1.0;
    }
    let reach = (3.0 * SMOOTH).ceil() as i64;
    let bell = |apart: i64| (-0.5 * (apart as f64 / SMOOTH).powi(2)).exp();
    let smoothed = |step: i64| {
        let near =
            (-reach..=reach).filter_map(|apart| Some(bell(apart) * counts.get(usize::try_from(step + apart).ok()?)?));
        near.sum()
    };
    (0..=STEPS as i64).map(smoothed).collect()
}
