//! Parts of a sum as bars, each beginning where the last one ended.

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
const LONGEST_LABEL: f64 = 190.0;
/// The most parts with a bar of their own; the smallest others are one bar.
const MOST: usize = 40;

/// The parts of a sum, in order.
#[derive(Debug, Clone)]
pub(crate) struct Waterfall(pub(crate) Ranking);

impl Picture for Waterfall {
    fn title(&self) -> &str {
        &self.0.title
    }

    fn scene(&self, theme: &Theme) -> Result<Scene> {
        let Ranking { title, value, entries } = &self.0;
        some(title, "it has no parts", entries.len())?;
        let mut notes =
            odd_notes(entries.iter().map(|entry| &entry.value), "left out of the sum", "left out of the sum");
        let (parts, others) = shown(&self.0);
        if others > 0 {
            notes.push(format!("{others} small parts are one bar"));
        }
        let mut ends = vec![0.0];
        for (_, value) in &parts {
            let before: f64 = ends.last().copied().unwrap_or(0.0);
            ends.push(before + if value.is_finite() { *value } else { 0.0 });
        }
        let sum = ends.last().copied().unwrap_or(0.0);

        let names: Vec<String> = parts.iter().map(|(name, _)| name.clone()).chain(["sum".to_owned()]).collect();
        let (names, room) = label::prepared(&names, Theme::LABEL, LONGEST_LABEL, theme);
        let range = Ramp::over(ends.iter().copied(), Scale::Sequential);
        let most = range.low.abs().max(range.high.abs());
        let texts: Vec<String> =
            parts.iter().map(|(_, value)| *value).chain([sum]).map(|value| short(value, most)).collect();
        let text_room = texts.iter().map(|text| theme.measure(text, Theme::SMALL) + 8.0).fold(0.0, f64::max);
        let whole = WIDTH.min(theme.width - 2.0 * Theme::MARGIN) - room - 8.0 - text_room;
        // A negative bar has its number on its left, which needs room only where the bar begins near the edge.
        let before =
            parts.iter().zip(&ends).zip(&texts).filter(|((part, _), _)| part.1 < 0.0).map(|((part, end), text)| {
                let at = (whole - text_room) * range.share(end + part.1);
                theme.measure(text, Theme::SMALL) + 8.0 - at
            });
        let before = before.fold(0.0, f64::max);
        let left = room + 8.0 + before;
        let width = (whole - before).max(60.0).round();
        let x = |value: f64| left + width * range.share(value);
        let height = names.len() as f64 * PITCH;

        let mut scene = Scene::default();
        let marks = ticks(range.low, range.high, (width / 70.0).clamp(2.0, 8.0));
        for (&value, text) in marks.values.iter().zip(&marks.texts) {
            let at = x(value).round() + 0.5;
            scene.rule((at, 0.0), (at, height), theme.faint);
            scene.text((at, height + 13.0), Anchor::Middle, text, Theme::SMALL, theme.ink);
        }
        for (row, (name, text)) in names.iter().zip(&texts).enumerate() {
            let middle = (row as f64 + 0.5) * PITCH;
            let last = row == parts.len();
            let (from, to) = if last { (0.0, sum) } else { (ends[row], ends[row + 1]) };
            let colour = match to >= from {
                _ if last => of_line(0, 1),
                true => POSITIVE,
                false => NEGATIVE,
            };
            scene.text((room, middle), Anchor::End, name, Theme::LABEL, theme.ink);
            let (start, end) = (x(from.min(to)), x(from.max(to)));
            scene.rect((start, middle - THICK / 2.0), ((end - start).max(1.0), THICK), colour);
            if !last {
                // A thin line leads on to the next bar.
                scene.rule((x(to), middle + THICK / 2.0), (x(to), middle + PITCH - THICK / 2.0), theme.axis);
            }
            let (at, anchor) = if to < from { (start - 4.0, Anchor::End) } else { (end + 4.0, Anchor::Start) };
            scene.text((at, middle), anchor, text, Theme::SMALL, theme.muted);
        }
        let zero = x(0.0).round() + 0.5;
        scene.rule((zero, -2.0), (zero, height + 2.0), theme.axis);
        let whole = left + width + text_room;
        let name = label::cut(&label::visible(value, &theme.font), Theme::LABEL, whole, &theme.font);
        let half = theme.measure(&name, Theme::LABEL) / 2.0;
        let middle = (left + width / 2.0).clamp(half, (whole - half).max(half));
        scene.text((middle, height + 31.0), Anchor::Middle, &name, Theme::LABEL, theme.muted);
        (scene.width, scene.height) = (whole, height + 38.0);
        Ok(scene.framed(title, &notes, theme))
    }
}

/// The parts with a bar of their own, in order, the others as one; and how many those are.
fn shown(parts: &Ranking) -> (Vec<(String, f64)>, usize) {
    let all = parts.entries.iter().map(|entry| (entry.label.clone(), entry.value));
    if parts.entries.len() <= MOST {
        return (all.collect(), 0);
    }
    let mut sizes: Vec<usize> = (0..parts.entries.len()).collect();
    sizes.sort_by(|&a, &b| parts.entries[b].value.abs().total_cmp(&parts.entries[a].value.abs()));
    let kept = &sizes[..MOST - 1];
    let rest: f64 = sizes[MOST - 1..].iter().map(|&place| parts.entries[place].value).filter(|v| v.is_finite()).sum();
    let mut shown: Vec<(String, f64)> =
        all.enumerate().filter(|(place, _)| kept.contains(place)).map(|(_, part)| part).collect();
    let others = parts.entries.len() - shown.len();
    shown.push((format!("{others} others"), rest));
    (shown, others)
}
