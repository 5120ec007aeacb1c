//! What a feature is, on one sheet: the texts where it is strongest, how it is spread, and what it makes a model say.

use arrakis_core::{Ranking, Scale};

use crate::Result;
use crate::colour::Ramp;
use crate::colour_bar::ColourBar;
use crate::field::{odd_notes, some};
use crate::label;
use crate::page::{self, Widget};
use crate::picture::Picture;
use crate::scene::{Anchor, Scene};
use crate::spread::Spread;
use crate::theme::Theme;
use crate::ticks::short;

/// The least width of a panel below the texts, and the gap between panels.
const PANEL: f64 = 200.0;
const GAP: f64 = 22.0;
/// The height of the bars of the spread.
const TALL: f64 = 175.0;
const PITCH: f64 = 20.0;
/// How many entries of a ranking are drawn.
const MOST: usize = 10;

/// A feature, as far as it is known.
#[derive(Debug, Clone)]
pub(crate) struct Feature {
    pub(crate) title: String,
    /// What its number is.
    pub(crate) value: String,
    /// Texts where it is strong, the strongest first.
    pub(crate) excerpts: Vec<Excerpt>,
    pub(crate) spread: Option<Spread>,
    /// What it promotes, suppresses …
    pub(crate) rankings: Vec<Ranking>,
    /// Numbers that are known of it, by name.
    pub(crate) facts: Vec<(String, f64)>,
}

/// Tokens of a text, each with the feature there.
#[derive(Debug, Clone)]
pub(crate) struct Excerpt {
    pub(crate) tokens: Vec<String>,
    pub(crate) values: Vec<f64>,
    /// The place of the token that the excerpt is shown for.
    pub(crate) here: usize,
}

impl Feature {
    /// The colours of its numbers: white where it does nothing.
    pub(crate) fn ramp(&self) -> Ramp {
        Ramp::over(self.excerpts.iter().flat_map(|excerpt| excerpt.values.iter().copied()), Scale::Diverging)
    }
}

impl Picture for Feature {
    fn title(&self) -> &str {
        &self.title
    }

    fn scene(&self, theme: &Theme) -> Result<Scene> {
        some(&self.title, "it has no texts", self.excerpts.len())?;
        let mut notes = odd_notes(self.excerpts.iter().flat_map(|excerpt| &excerpt.values), "grey", "in full colour");
        if self.rankings.iter().any(|ranking| ranking.entries.len() > MOST) {
            notes.push(format!("the first {MOST} entries of each ranking"));
        }
        if !self.facts.is_empty() {
            let facts = self.facts.iter().map(|(name, fact)| format!("{name} {}", short(*fact, fact.abs())));
            notes.push(facts.collect::<Vec<_>>().join(" · "));
        }

        let width = theme.width - 2.0 * Theme::MARGIN;
        let mut scene = self.texts(width, theme);
        let across = (((width + GAP) / (PANEL + GAP)) as usize).max(1);
        let panels = self.panels((width + GAP) / across as f64 - GAP, theme)?;
        for row in panels.chunks(across) {
            let y = scene.height + 16.0;
            for (column, panel) in row.iter().enumerate() {
                scene.height = scene.height.max(y + panel.height);
                scene.append(panel.clone(), (column as f64 * (width + GAP) / across as f64, y));
            }
        }
        Ok(scene.framed(&self.title, &notes, theme))
    }

    fn widget(&self) -> Result<Option<Widget>> {
        page::feature(self).map(Some)
    }
}

impl Feature {
    /// The excerpts below each other, each around its token in the middle, so far as there is room.
    fn texts(&self, width: f64, theme: &Theme) -> Scene {
        const SIZE: f64 = Theme::LABEL;
        let ramp = self.ramp();
        let most = self.excerpts.iter().map(|excerpt| excerpt.values[excerpt.here].abs()).fold(0.0, f64::max);
        let numbers: Vec<String> =
            self.excerpts.iter().map(|excerpt| short(excerpt.values[excerpt.here], most)).collect();
        let left = numbers.iter().map(|text| theme.measure(text, Theme::SMALL)).fold(0.0, f64::max) + 8.0;
        let room = width - left;
        let mut scene = Scene::default();
        for (row, (excerpt, number)) in self.excerpts.iter().zip(&numbers).enumerate() {
            let y = row as f64 * PITCH;
            scene.text((left - 8.0, y + 8.5), Anchor::End, number, Theme::SMALL, theme.muted);
            let shown = |token: &String| label::cut(&label::visible(token, &theme.font), SIZE, room / 2.0, &theme.font);
            let texts: Vec<String> = excerpt.tokens.iter().map(shown).collect();
            let widths: Vec<f64> = texts.iter().map(|text| theme.measure(text, SIZE) + 4.0).collect();
            let here = excerpt.here;
            let start = left + (room - widths[here]) / 2.0;
            let (mut from, mut x) = (here, start);
            while from > 0 && x - widths[from - 1] >= left {
                from -= 1;
                x -= widths[from];
            }
            for (place, text) in texts.iter().enumerate().skip(from) {
                if place > here && x + widths[place] > width {
                    break;
                }
                let value = excerpt.values[place];
                let fill = if value.is_nan() { theme.missing } else { ramp.colour(value) };
                scene.rect((x, y), (widths[place], PITCH - 3.0), fill);
                scene.text((x + 2.0, y + (PITCH - 3.0) / 2.0), Anchor::Start, text, SIZE, fill.ink());
                x += widths[place];
            }
            scene.frame((start, y), (widths[here], PITCH - 3.0), theme.ink);
        }
        let y = self.excerpts.len() as f64 * PITCH + 6.0;
        let bar = ColourBar::new(ramp, &self.value, width, theme);
        scene.height = bar.draw_level(&mut scene, (left, y), room.min(180.0), theme);
        scene.width = width;
        scene
    }

    /// The spread and the rankings.
    fn panels(&self, width: f64, theme: &Theme) -> Result<Vec<Scene>> {
        // Their own margins lie outside.
        let narrow = Theme { width: width + 2.0 * Theme::MARGIN, ..theme.clone() };
        let mut panels = Vec::new();
        if let Some(spread) = &self.spread {
            let bars = spread.bars((width, TALL), &self.value, theme);
            panels.push(bars.framed(&format!("{} by {}", spread.counted, self.value), &[], &narrow).unframed());
        }
        for ranking in &self.rankings {
            let mut ranking = ranking.clone().top(MOST);
            for entry in &mut ranking.entries {
                let shown = label::visible(&entry.label, &theme.font);
                entry.label = label::shortened(&shown, Theme::LABEL, width * 0.4, &theme.font);
            }
            panels.push(ranking.scene(&narrow)?.unframed());
        }
        Ok(panels)
    }
}
