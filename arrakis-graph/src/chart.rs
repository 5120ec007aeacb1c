//! The frame of a chart: numbers up the side, lines behind the data, names of both axes.

use crate::label;
use crate::measure::Measure;
use crate::scene::{Anchor, Scene};
use crate::theme::Theme;
use crate::ticks::Ticks;

/// Where a chart lies and what its height measures.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) up: Measure,
    name: String,
}

impl Chart {
    /// A chart as wide as the theme allows, at most `widest`, with the name of its numbers and room for them.
    pub(crate) fn new(up: Measure, name: &str, (widest, height): (f64, f64), theme: &Theme) -> Self {
        let name = label::cut(&label::visible(name, &theme.font), Theme::LABEL, height + 40.0, &theme.font);
        let texts = marks(&up, height).texts;
        let room = texts.iter().map(|text| theme.measure(text, Theme::LABEL)).fold(0.0, f64::max);
        let left = if name.is_empty() { 0.0 } else { 19.0 } + room + 8.0;
        let width = (widest.min(theme.width - 2.0 * Theme::MARGIN) - left).max(80.0).round();
        Self { left, top: 4.0, width, height, up, name }
    }

    /// The height at which a number lies.
    pub(crate) fn y(&self, value: f64) -> f64 {
        self.top + self.height * (1.0 - self.up.share(value))
    }

    /// The ground line.
    pub(crate) fn ground(&self) -> f64 {
        self.top + self.height + 0.5
    }

    /// Draws ticks, the lines behind the data and the axes.
    pub(crate) fn draw(&self, scene: &mut Scene, theme: &Theme) {
        let Self { left, top, width, height, .. } = *self;
        let marks = marks(&self.up, height);
        for (&value, text) in marks.values.iter().zip(&marks.texts) {
            let y = self.y(value).round() + 0.5;
            let colour = if value == 0.0 && self.up.low() < 0.0 { theme.axis } else { theme.faint };
            scene.rule((left, y), (left + width, y), colour);
            scene.text((left - 7.0, y), Anchor::End, text, Theme::LABEL, theme.ink);
        }
        scene.rule((left - 0.5, self.ground()), (left + width, self.ground()), theme.axis);
        scene.rule((left - 0.5, top), (left - 0.5, self.ground()), theme.axis);
        let half = theme.measure(&self.name, Theme::LABEL) / 2.0;
        let middle = top + (height / 2.0).max(half - top);
        scene.turned((6.0, middle), Anchor::Middle, &self.name, Theme::LABEL, theme.muted);
    }

    /// Draws numbers below the chart, and their name; returns where they end below.
    pub(crate) fn numbers_below(&self, scene: &mut Scene, along: &Measure, name: &str, theme: &Theme) -> f64 {
        let marks = along.ticks((self.width / 70.0).clamp(2.0, 9.0));
        for (&value, text) in marks.values.iter().zip(&marks.texts) {
            let x = (self.left + self.width * along.share(value)).round() + 0.5;
            scene.rule((x, self.ground()), (x, self.ground() + 3.5), theme.axis);
            scene.text((x, self.ground() + 12.0), Anchor::Middle, text, Theme::LABEL, theme.ink);
        }
        self.name_below(scene, name, self.ground() + 18.0, theme)
    }

    /// Draws the name of what runs along, below `y`; returns where it ends.
    pub(crate) fn name_below(&self, scene: &mut Scene, name: &str, y: f64, theme: &Theme) -> f64 {
        let name = label::cut(&label::visible(name, &theme.font), Theme::LABEL, self.width, &theme.font);
        scene.text((self.left + self.width / 2.0, y + 11.0), Anchor::Middle, &name, Theme::LABEL, theme.muted);
        if name.is_empty() { y + 4.0 } else { y + 18.0 }
    }
}

/// The ticks up the side: three at least, if there is room, so that a scale can be read off them.
fn marks(up: &Measure, height: f64) -> Ticks {
    let few = up.ticks(height / 44.0);
    if few.values.len() < 3 && height >= 100.0 { up.ticks(height / 22.0) } else { few }
}
