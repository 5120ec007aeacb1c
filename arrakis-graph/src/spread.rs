//! Counts over equal bins, as bars.

use arrakis_core::Series;

use crate::chart::Chart;
use crate::colour::of_line;
use crate::measure::Measure;
use crate::scene::Scene;
use crate::theme::Theme;

/// A count this many times another hides it on an even axis.
const FAR: f64 = 30.0;

/// How often numbers occur, in equal bins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spread {
    /// What is counted.
    pub(crate) counted: String,
    /// The lower end of the first bin.
    pub(crate) low: f64,
    /// The width of a bin.
    pub(crate) step: f64,
    pub(crate) counts: Vec<f64>,
}

impl Spread {
    /// What a series is if it is one line of whole counts over decimal numbers that name bins by their lower ends.
    pub(crate) fn of(series: &Series) -> Option<Self> {
        let [line] = series.lines.as_slice() else { return None };
        let labels = &series.axis.labels;
        let ends: Vec<f64> =
            labels.iter().filter(|label| label.contains('.')).map_while(|end| end.parse().ok()).collect();
        let (low, last) = (*ends.first()?, *ends.last()?);
        let step = (last - low) / (ends.len() - 1).max(1) as f64;
        // Ends are written with few decimals.
        let equal = step > 0.0 && ends.windows(2).all(|two| (two[1] - two[0] - step).abs() < 0.05 * step);
        let counts = line.values.iter().all(|count| *count >= 0.0 && count.fract() == 0.0);
        let all = ends.len() == labels.len() && labels.len() == line.values.len();
        (equal && counts && all).then(|| Self { counted: series.value.clone(), low, step, counts: line.values.clone() })
    }

    /// Whether counts are drawn by their logarithm: the greatest would hide the least.
    pub(crate) fn by_log(&self) -> bool {
        let seen = || self.counts.iter().copied().filter(|count| *count > 0.0);
        seen().fold(0.0, f64::max) > FAR * seen().fold(f64::INFINITY, f64::min)
    }

    /// The bars over an axis of the numbers, whose name is `value`.
    pub(crate) fn bars(&self, size: (f64, f64), value: &str, theme: &Theme) -> Scene {
        let (up, name) = if self.by_log() {
            (Measure::log(self.counts.clone()), format!("{} (log)", self.counted))
        } else {
            (Measure::padded(self.counts.iter().copied().chain([0.0])), self.counted.clone())
        };
        let mut scene = Scene::default();
        let chart = Chart::new(up, &name, size, theme);
        chart.draw(&mut scene, theme);
        let along = Measure::over([self.low, self.low + self.step * self.counts.len() as f64]);
        let pitch = chart.width / self.counts.len() as f64;
        for (bin, &count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0.0) {
            let (x, y) = (chart.left + bin as f64 * pitch, chart.y(count));
            let gap = if pitch > 6.0 { 1.0 } else { 0.0 };
            scene.rect((x + gap / 2.0, y), (pitch - gap, chart.top + chart.height - y), of_line(0, 1));
        }
        scene.height = chart.numbers_below(&mut scene, &along, value, theme);
        scene.width = chart.left + chart.width + 10.0;
        scene
    }
}
