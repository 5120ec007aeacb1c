//! Texts with a label each, as rows of token ids and numbered classes.

use arrakis_core::{Error, Model, Prompt, Result};

/// Labelled texts.
pub(crate) struct Labelled {
    /// The ids of each text.
    pub(crate) rows: Vec<Vec<i64>>,
    /// The class of each text, a place in `classes`.
    pub(crate) labels: Vec<usize>,
    /// The labels, in alphabetical order.
    pub(crate) classes: Vec<String>,
}

impl Labelled {
    /// The texts of a prompt with one label each; an error unless two classes have `least` texts at least.
    pub(crate) fn of(model: &dyn Model, texts: &Prompt, labels: &[String], least: usize) -> Result<Self> {
        let tokens = texts.tokens(model)?;
        let rows: Vec<Vec<i64>> = (0..tokens.batch()).map(|row| tokens.row(row)).collect::<Result<_>>()?;
        let refuse = |why: String| Err(Error::Invalid { what: "labels".into(), why });
        if labels.len() != rows.len() {
            return refuse(format!("{} labels for {} texts", labels.len(), rows.len()));
        }
        let mut classes = labels.to_vec();
        classes.sort();
        classes.dedup();
        if classes.len() < 2 {
            return refuse(format!("every text is `{}`; give texts of two classes at least", classes[0]));
        }
        let of_class = |class: &String| labels.iter().filter(|label| *label == class).count();
        if let Some(class) = classes.iter().find(|class| of_class(class) < least) {
            return refuse(format!("class `{class}` has {} texts and {least} are needed", of_class(class)));
        }
        let labels = labels.iter().map(|label| classes.partition_point(|class| class < label)).collect();
        Ok(Self { rows, labels, classes })
    }
}
