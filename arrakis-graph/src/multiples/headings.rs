//! What stands above panels: words where there is room, else numbers, thinned.

use super::choice::Choice;
use crate::label;
use crate::theme::Theme;

/// What stands above panels of some width.
pub(super) struct Headings {
    /// The name of what is counted, where the panels have room for numbers only.
    pub(super) name: Option<String>,
    pub(super) texts: Vec<String>,
}

pub(super) fn headings(choice: &Choice, width: f64, theme: &Theme) -> Headings {
    let whole: Vec<String> = choice.panels.iter().map(|(_, head)| label::visible(head, &theme.font)).collect();
    let fits = |text: &String| theme.measure(text, Theme::SMALL) <= width + 2.0;
    let split = |text: &String| text.rsplit_once(' ').map(|(name, number)| (name.to_owned(), number.to_owned()));
    let numbered = whole.iter().filter(|text| !text.is_empty()).all(|text| split(text).is_some());
    if whole.iter().all(fits) || !numbered {
        let cut = |text: &String| label::shortened(text, Theme::SMALL, width, &theme.font);
        return Headings { name: None, texts: whole.iter().map(cut).collect() };
    }
    let name = whole.iter().find_map(split).map(|(name, _)| name);
    let texts: Vec<String> = whole.iter().map(|text| split(text).map_or(String::new(), |(_, number)| number)).collect();
    let widest = texts.iter().map(|text| theme.measure(text, Theme::SMALL)).fold(0.0, f64::max);
    // Numbers that would touch are thinned.
    let step = ((widest + 3.0) / (width + 3.0)).ceil().max(1.0) as usize;
    let thin =
        |(place, text): (usize, String)| if (place % choice.wide).is_multiple_of(step) { text } else { String::new() };
    Headings { name, texts: texts.into_iter().enumerate().map(thin).collect() }
}
