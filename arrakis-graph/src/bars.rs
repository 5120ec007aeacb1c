//! A ranking as horizontal bars, signed ones on both sides of 0.

use arrakis_core::{Ranking, Scale};

use crate::Result;
use crate::colour::{NEGATIVE, POSITIVE, Ramp, of_line};
use crate::field::{odd_notes, some};
use crate::label;
use crate::picture::Picture;
use crate::scene::{Anchor, Scene};
use crate::theme::Theme;
use crate::ticks::{short, ticks};

const WIDTH: f64 = 520.0;
const PITCH: f64 = 19.0;
const THICK: f64 = 13.0;
const LONGEST_LABEL: f64 = 230.0;
/// The most bars in one picture.
const MOST: usize = 60;

impl Picture for Ranking {
    fn title(&self) -> &str {
        &self.title
    }

    fn scene(&self, theme: &Theme) -> Result<Scene> {
        some(&self.title, "it has no entries", self.entries.len())?;
        let shown = &self.entries[..self.entries.len().min(MOST)];
        let values: Vec<f64> = shown.iter().map(|entry| entry.value).collect();
        let mut notes = odd_notes(&values, "without a bar", "as long as the longest bar");
        if shown.len() < self.entries.len() {
            notes.push(format!("the first {MOST} of {} entries", self.entries.len()));
        }

        let labels: Vec<String> = shown.iter().map(|entry| entry.label.clone()).collect();
        let (labels, label_room) = label::prepared(&labels, Theme::LABEL, LONGEST_LABEL, theme);
        let range = Ramp::over(values.iter().copied().chain([0.0]), Scale::Sequential);
        let most = values.iter().filter(|value| value.is_finite()).fold(0.0_f64, |most, value| most.max(value.abs()));
        let texts: Vec<String> = values.iter().map(|&value| short(value, most)).collect();
        let text_room = |negative: bool| {
            let side = texts.iter().zip(&values).filter(|(_, value)| (**value < 0.0) == negative);
            side.map(|(text, _)| theme.measure(text, Theme::SMALL) + 8.0).fold(0.0, f64::max)
        };
        let (before, after) = (text_room(true), text_room(false));
        let left = label_room + 8.0 + before;
        let width = (WIDTH.min(theme.width - 2.0 * Theme::MARGIN) - left - after).max(60.0).round();
        let x = |value: f64| left + width * range.share(value);
        let zero = x(0.0).round() + 0.5;
        let height = shown.len() as f64 * PITCH;

        let mut scene = Scene::default();
        let marks = ticks(range.low, range.high, (width / 70.0).clamp(2.0, 8.0));
        for (&value, text) in marks.values.iter().zip(&marks.texts) {
            let at = if value == 0.0 { zero } else { x(value).round() + 0.5 };
            scene.rule((at, 0.0), (at, height), theme.faint);
            scene.text((at, height + 13.0), Anchor::Middle, text, Theme::SMALL, theme.ink);
        }
        let signed = values.iter().any(|&value| value < 0.0) && values.iter().any(|&value| value > 0.0);
        for (index, (entry, text)) in shown.iter().zip(&texts).enumerate() {
            let middle = (index as f64 + 0.5) * PITCH;
            scene.text((label_room, middle), Anchor::End, &labels[index], Theme::LABEL, theme.ink);
            let end = if entry.value.is_nan() { zero } else { x(entry.value) };
            let colour = match (signed, entry.value < 0.0) {
                (false, _) => of_line(0, 1),
                (true, true) => NEGATIVE,
                (true, false) => POSITIVE,
            };
            if (end - zero).abs() > 0.25 {
                scene.rect((zero.min(end), middle - THICK / 2.0), ((end - zero).abs(), THICK), colour);
            }
            let (at, anchor) =
                if entry.value < 0.0 { (end - 4.0, Anchor::End) } else { (end.max(zero) + 4.0, Anchor::Start) };
            scene.text((at, middle), anchor, text, Theme::SMALL, theme.muted);
        }
        scene.rule((zero, -2.0), (zero, height + 2.0), theme.axis);
        let room = label_room + 8.0 + before + width + after;
        let name = label::cut(&label::visible(&self.value, &theme.font), Theme::LABEL, room, &theme.font);
        let half = theme.measure(&name, Theme::LABEL) / 2.0;
        let middle = (left + width / 2.0).clamp(half, (room - half).max(half));
        scene.text((middle, height + 31.0), Anchor::Middle, &name, Theme::LABEL, theme.muted);
        scene.width = room;
        scene.height = height + 38.0;
        Ok(scene.framed(&self.title, &notes, theme))
    }
}
