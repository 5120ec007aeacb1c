//! Texts of a picture: tokens made visible, cut and wrapped to measure, thinned so that none overlap.

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

/// A text in lines no wider than `width`, broken between words; a longer word is cut.
pub(crate) fn wrap(text: &str, size: f64, width: f64, font: &Font) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
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
    /// Every how many entries one is shown.
    pub(crate) step: usize,
    /// Whether they read upwards.
    pub(crate) turned: bool,
    /// How much room they take across their axis.
    pub(crate) extent: f64,
    pub(crate) size: f64,
}

impl Labels {
    /// Labels under entries `pitch` apart: turned when words do not fit, thinned when that is not enough.
    pub(crate) fn across(labels: &[String], pitch: f64, size: f64, longest: f64, theme: &Theme) -> Self {
        let (texts, widest) = prepared(labels, size, longest, theme);
        let roomy = widest + 0.6 * size;
        let turned = roomy > pitch && !numeric(labels);
        let step = step_for(if turned { LINE * size } else { roomy } / pitch);
        let widths = texts.iter().step_by(step).map(|text| theme.measure(text, size));
        let extent = if turned { widths.fold(0.0, f64::max) } else { size };
        Self { texts, step, turned, extent, size }
    }

    /// Labels beside entries `pitch` apart.
    pub(crate) fn beside(labels: &[String], pitch: f64, size: f64, longest: f64, theme: &Theme) -> Self {
        let (texts, extent) = prepared(labels, size, longest, theme);
        let dense = step_for(LINE * size / pitch);
        let step = if dense > 1 && numeric(labels) { step_for(2.0 * LINE * size / pitch) } else { dense };
        Self { texts, step, turned: false, extent, size }
    }

    /// The labels to be shown, with their places in the axis.
    pub(crate) fn shown(&self) -> impl Iterator<Item = (usize, &str)> {
        self.texts.iter().map(String::as_str).enumerate().step_by(self.step)
    }
}

/// The greatest width of the labels once they are visible and cut.
pub(crate) fn widest(labels: &[String], size: f64, longest: f64, theme: &Theme) -> f64 {
    prepared(labels, size, longest, theme).1
}

/// Whether every label is a whole number, so that leaving some out loses nothing.
pub(crate) fn numeric(labels: &[String]) -> bool {
    labels.iter().all(|label| label.parse::<i64>().is_ok())
}

/// Labels as an axis shows them, visible and cut, and the greatest width of them.
pub(crate) fn prepared(labels: &[String], size: f64, longest: f64, theme: &Theme) -> (Vec<String>, f64) {
    // Numbers that were written with as many decimals each lose the zeros at the end.
    let decimal = labels.iter().all(|label| label.contains('.') && label.parse::<f64>().is_ok());
    let plain = |label: &String| match label.trim_end_matches('0').trim_end_matches('.') {
        number if decimal => {
            if matches!(number, "" | "-" | "-0") {
                "0".to_owned()
            } else {
                number.to_owned()
            }
        }
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
