//! PyTorch's `.bin` files, of zip form and of the form before 1.6: read without running what they ask for.
//!
//! A state dict is a pickle, which may call anything; here it is only read (see `machine`), and names other than the few
//! of a state dict are an error. Reading takes at most 256 bytes of memory for each of the pickle's, of which there may
//! be 16 MiB; tensors stay in the map.

mod global;
mod legacy;
mod machine;
mod opcode;
mod pickle;
mod state;
mod zip;

use std::path::Path;
use std::sync::Arc;

use pickle::Pickle;
use state::Storages;

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::mapped::Mapped;
use crate::tensors::Tensors;

/// Adds the tensors of one file.
pub(crate) fn read(path: &Path, tensors: &mut Tensors) -> Result<()> {
    let file = Mapped::open(path)?;
    if zip::is_zip(&file) {
        read_zip(&file, tensors)
    } else if legacy::is_legacy(&file) {
        legacy::read(&file, tensors)
    } else {
        Err(Error::Damaged { path: path.to_owned(), what: "it is no PyTorch file, neither zip nor pickle".to_owned() })
    }
}

/// An archive: `NAME/data.pkl` and a member `NAME/data/KEY` for each storage.
fn read_zip(file: &Arc<Mapped>, tensors: &mut Tensors) -> Result<()> {
    let members = zip::members(file)?;
    let mut pickles = members.iter().filter_map(|(name, bytes)| {
        let root = name.strip_suffix("data.pkl")?;
        (root.is_empty() || root.ends_with('/')).then_some((root, bytes))
    });
    let (Some((root, pickle)), None) = (pickles.next(), pickles.next()) else {
        let what = "the archive should have one member `data.pkl`".to_owned();
        return Err(Error::Damaged { path: file.path().to_owned(), what });
    };
    if let Some(order) = members.get(format!("{root}byteorder").as_str())
        && file.bytes().get(order.clone()) != Some(b"little".as_slice())
    {
        return Err(Error::Unsupported {
            path: file.path().to_owned(),
            what: "a byte order but little-endian".to_owned(),
        });
    }
    let prefix = format!("{root}data/");
    let storages: Storages =
        members.iter().filter_map(|(name, bytes)| Some((name.strip_prefix(&prefix)?, bytes.clone()))).collect();
    let pickle = Pickle::read(&mut Cursor::within(file, pickle.clone()))?;
    state::read(&pickle, &storages, file, tensors)
}
