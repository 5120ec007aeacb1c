//! A text whose tokens are coloured by a number each.

use arrakis_core::Scale;

use crate::Result;
use crate::colour::{Ramp, scale_of};
use crate::colour_bar::ColourBar;
use crate::field::{count, odd_notes, some};
use crate::label;
use crate::page::{self, Widget};
use crate::picture::Picture;
use crate::scene::{Anchor, Scene};
use crate::theme::Theme;

const SIZE: f64 = 12.0;
const LINE: f64 = 20.0;
const WIDTH: f64 = 560.0;
/// The most lines of one text.
const MOST: usize = 80;

/// Tokens with a number each, in one or several rows.
#[derive(Debug, Clone)]
pub(crate) struct ColouredText {
    pub(crate) title: String,
    pub(crate) value: String,
    pub(crate) tokens: Vec<String>,
    /// The name of each row, empty for an only one, and its numbers, one a token.
    pub(crate) rows: Vec<(String, Vec<f64>)>,
}

impl ColouredText {
    /// How its numbers become colours.
    pub(crate) fn scale(&self) -> Scale {
        scale_of(self.rows.iter().flat_map(|(_, values)| values))
    }
}

impl Picture for ColouredText {
    fn title(&self) -> &str {
        &self.title
    }

    fn scene(&self, theme: &Theme) -> Result<Scene> {
        some(&self.title, "it has no tokens", self.tokens.len())?;
        some(&self.title, "it has no numbers", self.rows.len())?;
        let all = || self.rows.iter().flat_map(|(_, values)| values);
        let mut notes = odd_notes(all(), "grey", "drawn as the end of the scale");
        let ramp = Ramp::over(all().copied(), self.scale());
        let bar = ColourBar::new(ramp, &self.value, 130.0, theme);
        let room = (theme.width - 2.0 * Theme::MARGIN - bar.width()).min(WIDTH);
        let texts: Vec<String> = self.tokens.iter().map(|token| label::visible(token, &theme.font)).collect();

        let mut scene = Scene::default();
        let mut y = 2.0;
        let mut lines = 0;
        'rows: for (name, values) in &self.rows {
            count(&self.title, "numbers for its tokens", self.tokens.len(), values.len())?;
            if !name.is_empty() {
                let name = label::cut(&label::visible(name, &theme.font), Theme::LABEL, room, &theme.font);
                scene.text((0.0, y + 7.0), Anchor::Start, &name, Theme::LABEL, theme.muted);
                y += 16.0;
            }
            let mut x = 0.0;
            for (place, (text, &value)) in texts.iter().zip(values).enumerate() {
                let text = label::cut(text, SIZE, room - 4.0, &theme.font);
                let width = theme.measure(&text, SIZE) + 4.0;
                let broken = place > 0 && self.tokens[place - 1].contains('\n');
                if x > 0.0 && (x + width > room || broken) {
                    (x, y, lines) = (0.0, y + LINE, lines + 1);
                    if lines >= MOST {
                        notes.push(format!("the first {place} of {} tokens", texts.len()));
                        break 'rows;
                    }
                }
                let fill = if value.is_nan() { theme.missing } else { ramp.colour(value) };
                scene.rect((x, y), (width, LINE - 3.0), fill);
                scene.text((x + 2.0, y + (LINE - 3.0) / 2.0), Anchor::Start, &text, SIZE, fill.ink());
                x += width;
                scene.width = scene.width.max(x);
            }
            (y, lines) = (y + LINE + 6.0, lines + 1);
        }
        let width = scene.width.max(200.0_f64.min(room));
        let end = bar.draw(&mut scene, (width + 14.0, 2.0), (y - 10.0).clamp(96.0, 200.0), theme);
        scene.width = width + bar.width();
        scene.height = y.max(end);
        Ok(scene.framed(&self.title, &notes, theme))
    }

    fn widget(&self) -> Result<Option<Widget>> {
        page::text(self).map(Some)
    }
}
