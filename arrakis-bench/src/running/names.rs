//! The names of a run's files: each is of one thing, which may be stored again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use arrakis_core::Error as CoreError;

use crate::Result;
use crate::export::PAGE;
use crate::writing::{METRICS, RECORD, RESULT, SOURCE, TENSORS};

/// The names that a run gives to files of its own.
const TAKEN: [&str; 6] = [RECORD, RESULT, TENSORS, SOURCE, METRICS, PAGE];

/// Whose a file of a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// A tensor's of that name.
    Tensor(String),
    /// The experiment's.
    File,
    /// The experiment's, and a picture.
    Picture,
    /// The answer's, a picture of one of its parts.
    Drawn,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor(name) => write!(f, "the tensor `{name}`"),
            Self::File => f.write_str("a file of the experiment's own"),
            Self::Picture => f.write_str("a picture of the experiment's own"),
            Self::Drawn => f.write_str("a picture of the answer"),
        }
    }
}

/// The names that are taken, and whose they are.
#[derive(Debug, Default)]
pub(super) struct Names(RefCell<BTreeMap<String, Owner>>);

impl Names {
    /// An error if a name is another's, or no name of a file.
    pub(super) fn free(&self, name: &str, owner: &Owner) -> Result<()> {
        check(name)?;
        match self.0.borrow().get(name) {
            Some(known) if known != owner => {
                let why = format!("the run has stored {known} under that name; choose another");
                Err(CoreError::Invalid { what: format!("{owner}, `{name}`"), why }.into())
            }
            _ => Ok(()),
        }
    }

    /// Takes a name for one that has stored a file, perhaps again.
    pub(super) fn take(&self, name: &str, owner: Owner) {
        self.0.borrow_mut().insert(name.to_owned(), owner);
    }
}

/// An error if a file of a run cannot have that name.
fn check(name: &str) -> Result<()> {
    let refuse = |why: &str| Err(CoreError::Invalid { what: format!("file name `{name}`"), why: why.into() }.into());
    if TAKEN.contains(&name) {
        return refuse("the run has a file of its own of that name; choose another");
    }
    let letters = |letter: char| letter.is_alphanumeric() || " -_.,+=@()[]".contains(letter);
    if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.chars().all(letters) {
        return refuse(
            "give letters, digits and `-_.` alone, no folder, at most 200 bytes, and no dot at the beginning",
        );
    }
    Ok(())
}
