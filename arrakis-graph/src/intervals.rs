//! Estimates with their intervals, one a row.

use crate::Result;
use crate::colour::{POSITIVE, of_line};
use crate::field::{count, odd_notes, some};
use crate::label;
use crate::measure::Measure;
use crate::picture::Picture;
use crate::scene::{Anchor, Scene};
use crate::theme::Theme;

const WIDTH: f64 = 500.0;
const PITCH: f64 = 24.0;
const LONGEST_LABEL: f64 = 200.0;
/// Half the height of the ends of an interval.
const CAP: f64 = 4.0;

/// Named estimates, each between two bounds.
#[derive(Debug, Clone)]
pub(crate) struct Intervals {
    pub(crate) title: String,
    pub(crate) value: String,
    pub(crate) labels: Vec<String>,
    pub(crate) low: Vec<f64>,
    pub(crate) estimate: Vec<f64>,
    pub(crate) high: Vec<f64>,
    /// What nothing would be, drawn as a line: 0 of a difference.
    pub(crate) reference: Option<f64>,
}

impl Picture for Intervals {
    fn title(&self) -> &str {
        &self.title
    }

    fn scene(&self, theme: &Theme) -> Result<Scene> {
        some(&self.title, "it has no rows", self.labels.len())?;
        for numbers in [&self.low, &self.estimate, &self.high] {
            count(&self.title, "numbers in each column", self.labels.len(), numbers.len())?;
        }
        let all = || self.low.iter().chain(&self.estimate).chain(&self.high);
        let mut notes = odd_notes(all(), "left out", "reaching over the edge");
        let along = Measure::padded(all().copied().chain(self.reference));
        let (names, room) = label::prepared(&self.labels, Theme::LABEL, LONGEST_LABEL, theme);
        let left = room + 10.0;
        let width = (WIDTH.min(theme.width - 2.0 * Theme::MARGIN) - left - 8.0).max(80.0).round();
        let x = |value: f64| left + width * along.share(value);
        let height = self.labels.len() as f64 * PITCH;

        let mut scene = Scene::default();
        let marks = along.ticks((width / 70.0).clamp(2.0, 8.0));
        for (&value, text) in marks.values.iter().zip(&marks.texts) {
            let at = x(value).round() + 0.5;
            scene.rule((at, 0.0), (at, height), theme.faint);
            scene.text((at, height + 13.0), Anchor::Middle, text, Theme::LABEL, theme.ink);
        }
        if let Some(reference) = self.reference {
            let at = x(reference).round() + 0.5;
            scene.rule((at, -2.0), (at, height + 2.0), theme.axis);
        }
        let mut apart = false;
        for (row, name) in names.iter().enumerate() {
            let y = (row as f64 + 0.5) * PITCH;
            scene.text((room, y), Anchor::End, name, Theme::LABEL, theme.ink);
            let (low, estimate, high) = (self.low[row], self.estimate[row], self.high[row]);
            let clear = self.reference.is_some_and(|reference| low > reference || high < reference);
            apart |= clear;
            let colour = if clear { POSITIVE } else { of_line(0, 1) };
            if !low.is_nan() && !high.is_nan() {
                scene.stroke(vec![(x(low), y), (x(high), y)], 1.8, colour);
                for end in [low, high].into_iter().filter(|end| end.is_finite()) {
                    scene.stroke(vec![(x(end), y - CAP), (x(end), y + CAP)], 1.8, colour);
                }
            }
            if !estimate.is_nan() {
                scene.disk((x(estimate), y), 3.6, colour);
            }
        }
        if let (true, Some(reference)) = (apart, self.reference) {
            notes.push(format!("red: the interval leaves out {}", crate::ticks::short(reference, reference.abs())));
        }
        let name = label::cut(&label::visible(&self.value, &theme.font), Theme::LABEL, width + left, &theme.font);
        let half = theme.measure(&name, Theme::LABEL) / 2.0;
        let middle = (left + width / 2.0).max(half);
        scene.text((middle, height + 31.0), Anchor::Middle, &name, Theme::LABEL, theme.muted);
        scene.width = (left + width + 8.0).max(middle + half);
        scene.height = height + 38.0;
        Ok(scene.framed(&self.title, &notes, theme))
    }
}
