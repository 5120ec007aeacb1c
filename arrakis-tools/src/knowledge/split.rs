//! Which texts a probe learns from, and which are held out.

use arrakis_core::{Error, Result, Stream};

use super::labelled::Labelled;

/// Places of texts that are learned from and held out.
pub(crate) struct Split {
    /// Those that are learned from.
    pub(crate) train: Vec<usize>,
    /// Those that are held out.
    pub(crate) test: Vec<usize>,
}

impl Split {
    /// A share of each class held out, or of the groups where there are some; every class is on both sides.
    pub(crate) fn of(texts: &Labelled, groups: Option<&[String]>, share: f64, stream: &mut Stream) -> Result<Self> {
        let held_out = match groups {
            Some(groups) => by_group(texts, groups, share, stream)?,
            None => by_class(texts, share, stream),
        };
        let all = 0..texts.labels.len();
        let (test, train): (Vec<usize>, Vec<usize>) = all.partition(|text| held_out[*text]);
        Ok(Self { train, test })
    }
}

/// The labels of the texts at those places.
pub(crate) fn labels_of(places: &[usize], labels: &[usize]) -> Vec<usize> {
    places.iter().map(|place| labels[*place]).collect()
}

/// How many of `len` are held out: one at least, and one is left.
fn count(len: usize, share: f64) -> usize {
    ((len as f64 * share).round() as usize).clamp(1, len - 1)
}

/// Whether each text is held out, by a share of each class.
fn by_class(texts: &Labelled, share: f64, stream: &mut Stream) -> Vec<bool> {
    let mut held_out = vec![false; texts.labels.len()];
    for class in 0..texts.classes.len() {
        let own: Vec<usize> = (0..texts.labels.len()).filter(|text| texts.labels[*text] == class).collect();
        for place in &stream.permutation(own.len())[..count(own.len(), share)] {
            held_out[own[*place]] = true;
        }
    }
    held_out
}

/// Whether each text is held out, by a share of the groups.
fn by_group(texts: &Labelled, groups: &[String], share: f64, stream: &mut Stream) -> Result<Vec<bool>> {
    let refuse = |why: String| Err(Error::Invalid { what: "groups".into(), why });
    if groups.len() != texts.labels.len() {
        return refuse(format!("{} groups for {} texts", groups.len(), texts.labels.len()));
    }
    let mut names = groups.to_vec();
    names.sort();
    names.dedup();
    if names.len() < 2 {
        return refuse(format!("every text is of `{}`; give two groups at least", names[0]));
    }
    let mut chosen = vec![false; names.len()];
    for place in &stream.permutation(names.len())[..count(names.len(), share)] {
        chosen[*place] = true;
    }
    let held_out: Vec<bool> = groups.iter().map(|group| chosen[names.partition_point(|name| name < group)]).collect();
    for (class, name) in texts.classes.iter().enumerate() {
        let held = |text: &usize| texts.labels[*text] == class && held_out[*text];
        let count = texts.labels.iter().filter(|label| **label == class).count();
        let out = (0..texts.labels.len()).filter(held).count();
        if out == 0 || out == count {
            return refuse(format!(
                "{out} of the {count} texts of class `{name}` are held out, and both sides need one; give more groups, \
                 or another seed"
            ));
        }
    }
    Ok(held_out)
}
