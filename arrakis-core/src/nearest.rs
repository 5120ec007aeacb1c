//! The name that was meant: the known one that is most like a name that is unknown.

use strsim::{damerau_levenshtein, jaro_winkler};

/// How a known name is like an unknown one, the closest way first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    /// A part of it, between dots, is the name.
    Part,
    /// So many letters are to be changed.
    Letters(usize),
    /// A part of it begins as the name does, or the name as that part.
    Beginning,
    /// So many letters of a part of it are to be changed.
    LettersOfPart(usize),
}

/// The known name most like `name`, if any is alike at all: up to a third of its letters mistyped, or a part of it.
///
/// ```
/// use arrakis_core::nearest_name;
/// let tools = ["logit_lens.lens", "patching.steer", "patching.path"];
/// assert_eq!(nearest_name("logit_lens.lesn", tools).as_deref(), Some("logit_lens.lens"));
/// assert_eq!(nearest_name("steering", tools).as_deref(), Some("patching.steer"));
/// assert_eq!(nearest_name("nothing", tools), None);
/// ```
pub fn nearest_name<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let name = name.to_lowercase();
    let liked = known.into_iter().filter_map(|candidate| {
        let lower = candidate.to_lowercase();
        Some((likeness(&name, &lower)?, jaro_winkler(&name, &lower), candidate))
    });
    let best = liked.min_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)))?;
    Some(best.2.to_owned())
}

fn likeness(name: &str, known: &str) -> Option<Likeness> {
    let parts = || known.split('.');
    let within = |name: &str, known: &str, most: usize| {
        let apart = damerau_levenshtein(name, known);
        (apart <= most).then_some(apart)
    };
    if name.is_empty() {
        return None;
    }
    if format!(".{known}.").contains(&format!(".{name}.")) {
        return Some(Likeness::Part);
    }
    // What both have before a dot says nothing about the rest.
    let (rest, known_rest) = without_shared(name, known);
    let letters = rest.chars().count();
    if let Some(apart) = within(rest, known_rest, letters.div_ceil(3).min(letters.saturating_sub(1))) {
        return Some(Likeness::Letters(apart));
    }
    if name.contains('.') {
        return None;
    }
    let begins = |part: &str| part.len().min(name.len()) >= 3 && (part.starts_with(name) || name.starts_with(part));
    if parts().any(begins) {
        return Some(Likeness::Beginning);
    }
    // There are many parts, and short words are all alike.
    let most = name.chars().count() / 4;
    parts().filter_map(|part| within(name, part, most)).min().map(Likeness::LettersOfPart)
}

/// Two names without the parts that both begin with; the last part stays.
fn without_shared<'a>(name: &'a str, known: &'a str) -> (&'a str, &'a str) {
    let (mut name, mut known) = (name, known);
    while let (Some((own, rest)), Some((other, known_rest))) = (name.split_once('.'), known.split_once('.'))
        && own == other
    {
        (name, known) = (rest, known_rest);
    }
    (name, known)
}
