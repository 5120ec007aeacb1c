//! How often numbers occur, as bars.

use crate::Result;
use crate::chart::Chart;
use crate::colour::of_line;
use crate::field::{odd_notes, some};
use crate::measure::Measure;
use crate::picture::Picture;
use crate::scene::Scene;
use crate::theme::Theme;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 220.0;
/// The most bars.
const MOST: usize = 80;

/// Numbers, of which only their distribution is of interest.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    pub(crate) title: String,
    pub(crate) value: String,
    pub(crate) values: Vec<f64>,
}

impl Picture for Histogram {
    fn title(&self) -> &str {
        &self.title
    }

    fn scene(&self, theme: &Theme) -> Result<Scene> {
        some(&self.title, "it has no numbers", self.values.len())?;
        let notes = odd_notes(&self.values, "left out", "left out");
        let finite: Vec<f64> = self.values.iter().copied().filter(|value| value.is_finite()).collect();
        let along = Measure::over(finite.iter().copied());
        let mut counts = vec![0_usize; bins(&finite)];
        let last = counts.len() - 1;
        for &value in &finite {
            counts[((along.share(value) * (last + 1) as f64) as usize).min(last)] += 1;
        }
        let most = counts.iter().copied().max().unwrap_or(0).max(1);

        let mut scene = Scene::default();
        let chart = Chart::new(Measure::padded([0.0, most as f64]), "count", (WIDTH, HEIGHT), theme);
        chart.draw(&mut scene, theme);
        let pitch = chart.width / counts.len() as f64;
        for (index, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (x, y) = (chart.left + index as f64 * pitch, chart.y(count as f64));
            let gap = if pitch > 6.0 { 1.0 } else { 0.0 };
            scene.rect((x + gap / 2.0, y), (pitch - gap, chart.top + chart.height - y), of_line(0, 1));
        }
        scene.height = chart.numbers_below(&mut scene, &along, &self.value, theme);
        scene.width = chart.left + chart.width + 10.0;
        Ok(scene.framed(&self.title, &notes, theme))
    }
}

/// How many bars show the numbers well: Freedman and Diaconis (1981), at least as many as Sturges (1926).
fn bins(finite: &[f64]) -> usize {
    let mut sorted = finite.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(least), Some(greatest)) = (sorted.first(), sorted.last()) else { return 1 };
    let quantile = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize];
    let width = 2.0 * (quantile(0.75) - quantile(0.25)) / (sorted.len() as f64).cbrt();
    let sturges = (sorted.len() as f64).log2().ceil() as usize + 1;
    let wanted = ((greatest - least) / width).ceil();
    if wanted.is_finite() { (wanted as usize).clamp(sturges, MOST.max(sturges)) } else { sturges }
}
