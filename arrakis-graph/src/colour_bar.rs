//! The bar beside a heatmap that says which number a colour is.

use crate::colour::Ramp;
use crate::label;
use crate::scene::{Anchor, Scene};
use crate::theme::Theme;
use crate::ticks::ticks;

/// A colour bar with ticks and the name of the number.
#[derive(Debug)]
pub(crate) struct ColourBar {
    ramp: Ramp,
    /// The name of the number, in lines.
    name: Vec<String>,
    name_width: f64,
    tick_width: f64,
}

impl ColourBar {
    const THICK: f64 = 12.0;
    const LINE: f64 = 14.0;

    /// A bar beside cells that are about `height` tall together, whose name is broken into lines as long.
    pub(crate) fn new(ramp: Ramp, name: &str, height: f64, theme: &Theme) -> Self {
        let longest = height.clamp(130.0, 300.0);
        let mut name = label::wrap(&label::visible(name, &theme.font), Theme::LABEL, longest, &theme.font);
        name.truncate(3);
        let name_width = name.iter().map(|line| theme.measure(line, Theme::LABEL)).fold(0.0, f64::max);
        let texts = ticks(ramp.low, ramp.high, 8.0).texts;
        let tick_width = texts.iter().map(|text| theme.measure(text, Theme::SMALL)).fold(0.0, f64::max);
        Self { ramp, name, name_width, tick_width }
    }

    /// The width it takes, with the gap before it.
    pub(crate) fn width(&self) -> f64 {
        14.0 + Self::THICK + 7.0 + self.tick_width + 5.0 + Self::LINE * self.name.len() as f64
    }

    /// Draws the bar, its greatest number at the top; returns where it ends below.
    pub(crate) fn draw(&self, scene: &mut Scene, (x, y): (f64, f64), height: f64, theme: &Theme) -> f64 {
        let height = height.round();
        let steps = height as usize;
        for step in 0..steps {
            let share = 1.0 - (step as f64 + 0.5) / steps as f64;
            let value = self.ramp.low * (1.0 - share) + self.ramp.high * share;
            let under = if step + 1 == steps { 1.0 } else { 1.5 };
            scene.rect((x, y + step as f64), (Self::THICK, under), self.ramp.colour(value));
        }
        let marks = ticks(self.ramp.low, self.ramp.high, (height / 44.0).clamp(2.0, 8.0));
        for (&value, text) in marks.values.iter().zip(&marks.texts) {
            let at = y + height * (1.0 - self.ramp.share(value));
            scene.rule((x + Self::THICK + 0.5, at), (x + Self::THICK + 3.0, at), theme.axis);
            scene.text((x + Self::THICK + 6.0, at), Anchor::Start, text, Theme::SMALL, theme.ink);
        }
        let middle = y + (height / 2.0).max(self.name_width / 2.0);
        for (index, line) in self.name.iter().enumerate() {
            let name_x = x + Self::THICK + 6.0 + self.tick_width + 13.0 + Self::LINE * index as f64;
            scene.turned((name_x, middle), Anchor::Middle, line, Theme::LABEL, theme.muted);
        }
        y + height.max(self.name_width) + 2.0
    }

    /// Draws the bar level, its greatest number on the right and its name behind it; returns where it ends below.
    pub(crate) fn draw_level(&self, scene: &mut Scene, (x, y): (f64, f64), width: f64, theme: &Theme) -> f64 {
        let steps = width as usize;
        for step in 0..steps {
            let share = (step as f64 + 0.5) / steps as f64;
            let value = self.ramp.low * (1.0 - share) + self.ramp.high * share;
            let under = if step + 1 == steps { 1.0 } else { 1.5 };
            scene.rect((x + step as f64, y), (under, Self::THICK), self.ramp.colour(value));
        }
        let marks = ticks(self.ramp.low, self.ramp.high, (width / 50.0).clamp(2.0, 8.0));
        for (&value, text) in marks.values.iter().zip(&marks.texts) {
            let at = x + steps as f64 * self.ramp.share(value);
            scene.rule((at, y + Self::THICK + 0.5), (at, y + Self::THICK + 3.0), theme.axis);
            scene.text((at, y + Self::THICK + 11.0), Anchor::Middle, text, Theme::SMALL, theme.ink);
        }
        let name = self.name.join(" ");
        scene.text((x + width + 10.0, y + Self::THICK / 2.0), Anchor::Start, &name, Theme::LABEL, theme.muted);
        y + Self::THICK + 18.0
    }
}
