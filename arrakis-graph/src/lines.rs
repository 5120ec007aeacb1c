//! A series as lines over an axis of labels.

use arrakis_core::{Line, Series};

use crate::Result;
use crate::axes::column_labels;
use crate::colour::{Ramp, of_line};
use crate::field::{count, odd_notes, some};
use crate::label::{self, Labels};
use crate::picture::Picture;
use crate::scene::{Anchor, Scene};
use crate::theme::Theme;
use crate::ticks::ticks;

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

impl Picture for Series {
    fn title(&self) -> &str {
        &self.title
    }

    fn scene(&self, theme: &Theme) -> Result<Scene> {
        some(&self.title, "its axis has no entries", self.axis.len())?;
        some(&self.title, "it has no lines", self.lines.len())?;
        for line in &self.lines {
            count(&self.title, "values in each line", self.axis.len(), line.values.len())?;
        }
        let values = || self.lines.iter().flat_map(|line| &line.values);
        let mut notes = odd_notes(values(), "left out", "drawn at the edge");
        let (low, high) = padded(values().copied());
        let marks = ticks(low, high, HEIGHT / 44.0);
        let tick_room = marks.texts.iter().map(|text| theme.measure(text, Theme::LABEL)).fold(0.0, f64::max);

        let mut scene = Scene::default();
        let name = label::visible(&self.value, &theme.font);
        let name = label::cut(&name, Theme::LABEL, HEIGHT + 40.0, &theme.font);
        let left = if name.is_empty() { 0.0 } else { 19.0 } + tick_room + 8.0;
        let width = (WIDTH.min(theme.width - 2.0 * Theme::MARGIN) - left).max(80.0).round();
        let top = legend(&mut scene, self, left + width, theme, &mut notes);
        let frame = Frame { left, top, width, low, high, count: self.axis.len() };

        for (&value, text) in marks.values.iter().zip(&marks.texts) {
            let y = frame.y(value).round() + 0.5;
            let colour = if value == 0.0 && low < 0.0 { theme.axis } else { theme.faint };
            scene.rule((left, y), (left + width, y), colour);
            scene.text((left - 7.0, y), Anchor::End, text, Theme::LABEL, theme.ink);
        }
        let ground = top + HEIGHT + 0.5;
        scene.rule((left - 0.5, ground), (left + width, ground), theme.axis);
        scene.rule((left - 0.5, top), (left - 0.5, ground), theme.axis);
        for (index, line) in self.lines.iter().enumerate() {
            frame.draw(&mut scene, &line.values, of_line(index, self.lines.len()));
        }

        let pitch = frame.pitch();
        let labels = Labels::across(&self.axis.labels, pitch, Theme::LABEL, LONGEST_LABEL, theme);
        column_labels(&mut scene, &labels, (frame.x(0.0) - pitch / 2.0, ground + 0.5), pitch, theme);
        let axis = label::cut(&label::visible(&self.axis.name, &theme.font), Theme::LABEL, width, &theme.font);
        let bottom = ground + 7.0 + labels.extent;
        scene.text((left + width / 2.0, bottom + 11.0), Anchor::Middle, &axis, Theme::LABEL, theme.muted);
        let half = theme.measure(&name, Theme::LABEL) / 2.0;
        let middle = top + (HEIGHT / 2.0).max(half - top);
        scene.turned((6.0, middle), Anchor::Middle, &name, Theme::LABEL, theme.muted);
        scene.width = left + width + 6.0;
        scene.height = bottom + 18.0;
        Ok(scene.framed(&self.title, &notes, theme))
    }
}

/// The range of the finite numbers with a little room around it, and 0 if it is near.
fn padded(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let Ramp { low, high, .. } = Ramp::over(values, arrakis_core::Scale::Sequential);
    let room = (high / 2.0 - low / 2.0) * 0.08;
    let pad_low = if low >= 0.0 && low < high * 0.3 { 0.0 } else { low - room };
    let pad_high = if high <= 0.0 && high > low * 0.3 { 0.0 } else { high + room };
    (pad_low.max(f64::MIN), pad_high.min(f64::MAX))
}

/// Draws the names of the lines above the frame, in rows; returns where they end below.
fn legend(scene: &mut Scene, series: &Series, width: f64, theme: &Theme, notes: &mut Vec<String>) -> f64 {
    if let [line] = series.lines.as_slice()
        && line.name.is_empty()
    {
        return 4.0;
    }
    let named = |line: &Line| label::visible(&line.name, &theme.font);
    let names = series.lines.iter().take(NAMED).map(named);
    let names: Vec<String> = names.map(|name| label::cut(&name, Theme::LABEL, width - SAMPLE, &theme.font)).collect();
    let rooms: Vec<f64> = names.iter().map(|name| SAMPLE + theme.measure(name, Theme::LABEL) + APART).collect();
    let widest = rooms.iter().copied().fold(0.0, f64::max);
    let one_row = rooms.iter().sum::<f64>() - APART <= width;
    let (mut x, mut y) = (0.0, 6.0);
    for (index, (name, room)) in names.iter().zip(&rooms).enumerate() {
        if x > 0.0 && x + room - APART > width {
            (x, y) = (0.0, y + 17.0);
        }
        scene.stroke(vec![(x + 1.0, y), (x + SAMPLE - 7.0, y)], 2.2, of_line(index, series.lines.len()));
        scene.text((x + SAMPLE, y), Anchor::Start, name, Theme::LABEL, theme.ink);
        x += if one_row { *room } else { widest };
    }
    if series.lines.len() > NAMED {
        notes.push(format!("{} lines, of which the first {NAMED} are named", series.lines.len()));
    }
    y + 20.0
}

/// Where points lie.
struct Frame {
    left: f64,
    top: f64,
    width: f64,
    low: f64,
    high: f64,
    count: usize,
}

impl Frame {
    /// The distance between neighbours: few points each get a band as wide, so that labels stay inside.
    fn pitch(&self) -> f64 {
        if self.few() { self.width / self.count as f64 } else { (self.width - 2.0 * INSET) / (self.count - 1) as f64 }
    }

    fn x(&self, place: f64) -> f64 {
        self.left + if self.few() { (place + 0.5) * self.pitch() } else { INSET + place * self.pitch() }
    }

    fn few(&self) -> bool {
        self.count <= DOTS
    }

    fn y(&self, value: f64) -> f64 {
        let range = Ramp { scale: arrakis_core::Scale::Sequential, low: self.low, high: self.high };
        self.top + HEIGHT * (1.0 - range.share(value))
    }

    /// Draws a line, broken where a number is missing; an infinite one is a dot on the edge.
    fn draw(&self, scene: &mut Scene, values: &[f64], colour: crate::colour::Colour) {
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
            let point = (self.x(place as f64), self.y(value));
            if self.few() || value.is_infinite() {
                scene.disk(point, 2.6, colour);
            }
            run.push(point);
        }
        finish(scene, &mut run);
    }

    /// The points to be drawn: all of them, or of very many the least and the greatest in each pixel.
    fn places(&self, values: &[f64]) -> Vec<usize> {
        let bins = self.width as usize;
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
