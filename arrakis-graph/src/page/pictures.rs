//! What a page shows of answers and pictures: what can be explored where there is such a thing, else what is drawn.

use arrakis_core::{Answer, Part, PlotSpec};
use serde_json::json;

use super::{Page, Widget};
use crate::kinds::plot_parts;
use crate::picture::{Picture, picture_of};
use crate::spread::Spread;
use crate::ticks::short;
use crate::{Result, svg};

impl Page {
    /// A whole answer: its numbers and texts, then a section for each part that has a picture.
    pub fn answer(self, answer: &Answer) -> Result<Self> {
        let facts: Vec<(String, String)> = answer
            .parts()
            .filter_map(|(name, part)| match part {
                Part::Number(number) => Some((name.to_owned(), short(*number, number.abs()))),
                Part::Text(text) => Some((name.to_owned(), text.clone())),
                _ => None,
            })
            .collect();
        let mut page = if facts.is_empty() { self } else { self.facts(&facts) };
        let parts: Vec<(&str, &Part)> = answer.parts().collect();
        if is_one_sheet(&parts)
            && let Ok(sheet) = plot_parts(&PlotSpec::new("feature"), &parts)
        {
            return page.picture(sheet.as_ref());
        }
        for (_, part) in parts {
            // Whole numbers in a stack are names, of tokens or positions: their colours would mean nothing.
            if matches!(part, Part::Stack(stack) if stack.values.kind() == tch::Kind::Int64) {
                continue;
            }
            if let Ok(picture) = picture_of(part) {
                page = page.picture(picture)?;
            }
        }
        Ok(page)
    }

    /// A picture under its title: what can be explored where there is such a thing, else as it is drawn.
    pub fn picture(self, picture: &dyn Picture) -> Result<Self> {
        let title = picture.title().to_owned();
        match picture.widget()? {
            Some(widget) => Ok(self.heading(&title).widget(widget)),
            None => self.drawn(picture),
        }
    }

    /// A picture whose title is that of the page: what is drawn with its own title shows it once.
    pub(crate) fn only_picture(mut self, picture: &dyn Picture) -> Result<Self> {
        if let Some(widget) = picture.widget()? {
            return Ok(self.widget(widget));
        }
        self.title_is_drawn = true;
        self.drawn(picture)
    }

    /// A picture as it is drawn, in the reader's light or dark.
    fn drawn(mut self, picture: &dyn Picture) -> Result<Self> {
        let theme = &self.theme;
        let mut drawn = svg::svg(&picture.scene(theme)?, picture.title(), theme)?;
        // No number is drawn in the inks of the theme, so that they may follow the reader's choice.
        for (ink, name) in theme.inks() {
            drawn = drawn.replace(&format!("=\"{ink}\""), &format!("=\"var(--{name})\""));
        }
        // The first rectangle is the ground.
        drawn = drawn.replacen(&format!("fill=\"{}\"", theme.ground), "fill=\"none\"", 1);
        self.put(format_args!("<figure>{drawn}</figure>\n"));
        Ok(self)
    }

    fn widget(mut self, widget: Widget) -> Self {
        let (place, first) = (self.widgets.len(), self.blobs.len());
        let mut data = widget.data;
        data["first_blob"] = json!(first);
        self.widgets.push(data);
        self.blobs.extend(widget.blobs);
        self.put(format_args!("<section class=\"widget\" id=\"widget-{place}\"></section>\n"));
        self
    }
}

/// Whether a sheet of a feature would leave out nothing: its texts are the only grid, and its spread the only series.
fn is_one_sheet(parts: &[(&str, &Part)]) -> bool {
    let count = |wanted: fn(&Part) -> bool| parts.iter().filter(|(_, part)| wanted(part)).count();
    let spreads = count(|part| matches!(part, Part::Series(series) if Spread::of(series).is_some()));
    let series = count(|part| matches!(part, Part::Series(_)));
    count(|part| matches!(part, Part::Grid(_))) == 1
        && count(|part| matches!(part, Part::Stack(_))) == 0
        && series <= 1
        && series == spreads
}
