//! Texts of a picture: tokens made visible, cut and wrapped to measure, thinned so that none overlap.

use arrakis_core::Axis;

use crate::font::Font;
use crate::theme::Theme;

/// A text in which everything can be seen.
///
/// A newline is `↵`, a tab `→`; a space that begins, ends or follows a space is `·`, one between two words stays.
/// A character that the font lacks is `\u{XXXX}`.
pub(crate) fn visible(text: &str, font: &Font) -> String {
    shown(text, |character| font.shows(character))
}

/// A text in which everything can be seen by a reader whose fonts have every character.
///
/// What has no shape, or turns the text around it, is `\u{XXXX}`.
pub(crate) fn spelled(text: &str) -> String {
    shown(text, |character| !unseen(character))
}

/// Whether a character has no shape of its own: controls, formats, spaces, private and unassigned ones.
fn unseen(character: char) -> bool {
    let format = matches!(character,
        '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E000}'..='\u{F8FF}'
        | '\u{E0000}'..='\u{E0FFF}' | '\u{F0000}'..);
    character.is_control() || character.is_whitespace() || format
}

fn shown(text: &str, shows: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut before = None;
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        let open = |neighbour: Option<char>| neighbour.is_none_or(char::is_whitespace);
        match character {
            ' ' if open(before) || open(rest.peek().copied()) => shown.push('·'),
            ' ' => shown.push(' '),
            '\n' => shown.push('↵'),
            '\t' => shown.push('→'),
            _ if shows(character) => shown.push(character),
            _ => shown.extend(format!("\\u{{{:04X}}}", u32::from(character)).chars()),
        }
        before = Some(character);
    }
    shown
}

/// A text cut with `…` to fit a width.
pub(crate) fn cut(text: &str, size: f64, width: f64, font: &Font) -> String {
    if font.width(text, size) <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = font.width("…", size);
    for character in text.chars() {
        used += font.width(character.encode_utf8(&mut [0; 4]), size);
        if used > width {
            break;
        }
        kept.push(character);
    }
    kept.truncate(kept.trim_end().len());
    kept.push('…');
    kept
}

/// A label cut with `…` in its middle to fit a width: labels of one axis differ at both ends.
pub(crate) fn shortened(text: &str, size: f64, width: f64, font: &Font) -> String {
    if font.width(text, size) <= width {
        return text.to_owned();
    }
    let letters: Vec<char> = text.chars().collect();
    let wide = |letter: char| font.width(letter.encode_utf8(&mut [0; 4]), size);
    let (mut from, mut to, mut used) = (0, letters.len(), font.width("…", size));
    if letters.is_empty() {
        return String::new();
    }
    loop {
        let begin = from < letters.len() - to;
        let next = if begin { letters[from] } else { letters[to - 1] };
        used += wide(next);
        if used > width || from + 1 >= to {
            break;
        }
        if begin { from += 1 } else { to -= 1 }
    }
    letters[..from].iter().chain(&['…']).chain(&letters[to..]).collect()
}

/// A text in lines no wider than `width`, broken between words but not at `U+A0`; a longer word is cut.
pub(crate) fn wrap(text: &str, size: f64, width: f64, font: &Font) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let breaks = |letter: char| letter.is_whitespace() && letter != '\u{A0}';
    for word in text.split(breaks).filter(|word| !word.is_empty()) {
        match lines.last_mut() {
            Some(line) if font.width(&format!("{line} {word}"), size) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(cut(word, size, width, font)),
        }
    }
    lines
}

/// The distance between lines of text, in sizes of the text.
pub(crate) const LINE: f64 = 1.1;

/// The labels of an axis, thinned to a step.
#[derive(Debug)]
pub(crate) struct Labels {
    /// Every label, visible and cut.
    pub(crate) texts: Vec<String>,
    /// Every how many entries one is shown, and which is the first.
    pub(crate) step: usize,
    first: usize,
    /// Whether they read upwards.
    pub(crate) turned: bool,
    /// How much room they take across their axis.
    pub(crate) extent: f64,
    pub(crate) size: f64,
}

impl Labels {
    /// Labels under entries `pitch` apart: turned when words do not fit, thinned when that is not enough.
    pub(crate) fn across(labels: &[String], pitch: f64, size: f64, longest: f64, theme: &Theme) -> Self {
        let gap = 0.6 * size;
        let (texts, widest) = prepared(labels, size, longest.max(pitch - gap), theme);
        let roomy = widest + gap;
        let turned = roomy > pitch && !numeric(labels);
        let step = step_for(if turned { LINE * size } else { roomy } / pitch);
        let widths = texts.iter().step_by(step).map(|text| theme.measure(text, size));
        let extent = if turned { widths.fold(0.0, f64::max) } else { size };
        Self { texts, step, first: first(labels, step), turned, extent, size }
    }

    /// Labels beside entries `pitch` apart.
    pub(crate) fn beside(labels: &[String], pitch: f64, size: f64, longest: f64, theme: &Theme) -> Self {
        let (texts, extent) = prepared(labels, size, longest, theme);
        let dense = step_for(LINE * size / pitch);
        let step = if dense > 1 && numeric(labels) { step_for(2.0 * LINE * size / pitch) } else { dense };
        Self { texts, step, first: first(labels, step), turned: false, extent, size }
    }

    /// The labels to be shown, with their places in the axis.
    pub(crate) fn shown(&self) -> impl Iterator<Item = (usize, &str)> {
        self.texts.iter().map(String::as_str).enumerate().skip(self.first).step_by(self.step)
    }
}

/// An axis of one hook point in several layers, `blocks.3.hook_resid_post`, as an axis of layers that is named so.
///
/// Labels as long as these would be cut where they differ.
pub(crate) fn by_layer(axis: &Axis) -> Axis {
    let layer = |label: &String| {
        let (layer, site) = label.strip_prefix("blocks.")?.split_once('.')?;
        layer.parse::<usize>().is_ok().then(|| (layer.to_owned(), site.to_owned()))
    };
    let points: Vec<(String, String)> = axis.labels.iter().map_while(layer).collect();
    match points.first() {
        Some((_, site)) if points.len() == axis.len() && points.iter().all(|(_, other)| other == site) => {
            Axis::new(format!("blocks.*.{site}"), points.iter().map(|(layer, _)| layer))
        }
        _ => axis.clone(),
    }
}

/// The greatest width of the labels once they are visible and cut.
pub(crate) fn widest(labels: &[String], size: f64, longest: f64, theme: &Theme) -> f64 {
    prepared(labels, size, longest, theme).1
}

/// The first label to be shown: of numbers one by one that at a multiple of the step.
fn first(labels: &[String], step: usize) -> usize {
    let numbers: Vec<usize> = labels.iter().map_while(|label| label.parse().ok()).collect();
    let one_by_one = numbers.len() == labels.len() && numbers.windows(2).all(|two| two[1] == two[0] + 1);
    let multiple = numbers.iter().position(|number| number.is_multiple_of(step));
    multiple.filter(|_| one_by_one).unwrap_or(0)
}

/// Whether labels are rising whole numbers, so that leaving some out loses nothing; numbers in no order are names.
pub(crate) fn numeric(labels: &[String]) -> bool {
    let numbers: Vec<i64> = labels.iter().map_while(|label| label.parse().ok()).collect();
    numbers.len() == labels.len() && numbers.is_sorted_by(|a, b| a < b)
}

/// Labels as an axis shows them, visible and cut, and the greatest width of them.
pub(crate) fn prepared(labels: &[String], size: f64, longest: f64, theme: &Theme) -> (Vec<String>, f64) {
    // Numbers that were written with as many decimals each lose the zeros at the end.
    let numbers = labels.iter().all(|label| label.parse::<f64>().is_ok());
    let decimal = numbers && labels.iter().all(|label| label.contains('.'));
    let plain = |label: &String| match label.trim_end_matches('0').trim_end_matches('.') {
        "" | "-" | "-0" if decimal => "0".to_owned(),
        number if decimal => number.replace('-', "−"),
        _ if numbers => label.replace('-', "−"),
        _ => visible(label, &theme.font),
    };
    let texts: Vec<String> = labels.iter().map(|label| shortened(&plain(label), size, longest, &theme.font)).collect();
    let widest = texts.iter().map(|text| theme.measure(text, size)).fold(0.0, f64::max);
    (texts, widest)
}

/// The least of 1, 2, 5, 10, 20 … that is at least `least`.
fn step_for(least: f64) -> usize {
    let mut decade = 1;
    loop {
        for factor in [1, 2, 5] {
            let step: usize = decade * factor;
            if step as f64 >= least || step > 1 << 40 {
                return step;
            }
        }
        decade *= 10;
    }
}
