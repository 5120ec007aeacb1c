//! The named tensors of one or several mapped files.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrakis_core::remembered::FileIdentity;
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::gguf::Blocks;
use crate::mapped::{self, Mapped};

/// Named tensors, mapped and not yet read.
///
/// Tensors handed out share memory with the map and with each other: they are frozen weights, never written in place.
#[derive(Debug, Default)]
pub struct Tensors {
    stored: BTreeMap<String, Stored>,
}

/// Where a tensor lies and what must be undone to have it.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) file: Arc<Mapped>,
    pub(crate) bytes: Range<usize>,
    /// Shape of the tensor once its layout is undone.
    pub(crate) shape: Vec<i64>,
    pub(crate) kind: Kind,
    pub(crate) coding: Coding,
    pub(crate) layout: Layout,
}

/// How numbers are written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Coding {
    /// As LibTorch has them.
    Plain,
    /// In quantised blocks.
    Blocks(Blocks),
}

/// Axes that a strided tensor may have.
pub(crate) const MOST_AXES: usize = 8;

/// How a tensor is arranged in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As it is wanted.
    Same,
    /// As `[out, in]` where `[in, out]` is wanted.
    Transposed,
    /// Rows of each head in the order 0, d/2, 1, d/2 + 1, … in which llama.cpp rotates them.
    RotaryPairs { n_heads: i64 },
    /// With this many elements from one to the next along each axis.
    Strided([i64; MOST_AXES]),
}

impl Tensors {
    /// Faults the pages of plain tensors in, on a thread of its own, while the caller does something else.
    ///
    /// The first pass over mapped weights waits for its pages; a process that has a tokenizer to read first need not.
    pub fn read_ahead(&self) {
        const PAGE: usize = 4096;
        let plain = |stored: &&Stored| matches!(stored.coding, Coding::Plain);
        let ranges: Vec<(Arc<Mapped>, Range<usize>)> =
            self.stored.values().filter(plain).map(|stored| (stored.file.clone(), stored.bytes.clone())).collect();
        std::thread::spawn(move || {
            for (file, range) in ranges {
                let bytes = file.bytes().get(range).unwrap_or_default();
                std::hint::black_box(bytes.iter().step_by(PAGE).fold(0_u8, |sum, byte| sum ^ byte));
            }
        });
    }
}

impl Stored {
    pub(crate) fn read(&self, name: &str) -> Result<Tensor> {
        let shape: Vec<i64> = match self.layout {
            Layout::Transposed => self.shape.iter().rev().copied().collect(),
            Layout::Strided(_) => vec![(self.bytes.len() / self.kind.elt_size_in_bytes()) as i64],
            Layout::Same | Layout::RotaryPairs { .. } => self.shape.clone(),
        };
        let tensor = match self.coding {
            Coding::Plain => self.file.tensor(name, self.bytes.clone(), &shape, self.kind)?,
            Coding::Blocks(blocks) => {
                let bytes = self.file.bytes().get(self.bytes.clone()).unwrap_or_default();
                mapped::filled(name, &shape, |out| blocks.values(bytes, out))?
            }
        };
        let arranged = match self.layout {
            Layout::Same => return Ok(tensor),
            Layout::Transposed => tensor.f_transpose(0, 1),
            Layout::Strided(strides) => tensor.f_as_strided(&self.shape, &strides[..self.shape.len()], None),
            Layout::RotaryPairs { n_heads } => {
                let pairs = [&[n_heads, shape[0] / n_heads / 2, 2], &shape[1..]].concat();
                tensor.f_view(pairs.as_slice()).and_then(|t| t.f_transpose(1, 2)).and_then(|t| t.f_reshape(&shape))
            }
        };
        arranged.map_err(|e| Error::Torch { tensor: name.to_owned(), cause: e.to_string() })
    }
}

impl Tensors {
    /// Names in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.stored.keys().map(String::as_str)
    }

    /// Number of tensors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stored.len()
    }

    /// Whether there are no tensors.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    /// Shape of the tensor that [`get`](Self::get) gives.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[i64]> {
        self.stored.get(name).map(|stored| stored.shape.as_slice())
    }

    /// Kind of the tensor that [`get`](Self::get) gives.
    #[must_use]
    pub fn kind(&self, name: &str) -> Option<Kind> {
        self.stored.get(name).map(|stored| stored.kind)
    }

    /// The tensor, on the CPU, in the dtype it is stored in.
    ///
    /// What the file holds as it is wanted is not copied; quantised blocks are spread to `f32`.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] with the nearest name, or [`Error::Torch`].
    pub fn get(&self, name: &str) -> Result<Tensor> {
        match self.stored.get(name) {
            Some(stored) => stored.read(name),
            None => Err(Error::NoSuchTensor {
                tensor: name.to_owned(),
                nearest: arrakis_core::nearest_name(name, self.names()),
            }),
        }
    }

    /// Bytes that all tensors take in their files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.stored.values().map(|stored| stored.bytes.len() as u64).sum()
    }

    /// The file that a tensor lies in.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&Path> {
        self.stored.get(name).map(|stored| stored.file.path())
    }

    /// The files that the tensors lie in, in the order of their names.
    #[must_use]
    pub fn files(&self) -> Vec<&Path> {
        self.mapped().map(Mapped::path).collect()
    }

    /// Those files as they were opened; nothing if the place of one cannot be told.
    pub(crate) fn identities(&self) -> Option<Vec<FileIdentity>> {
        self.mapped().map(|file| file.identity().cloned()).collect()
    }

    fn mapped(&self) -> impl Iterator<Item = &Mapped> {
        let files: BTreeMap<&Path, &Mapped> =
            self.stored.values().map(|stored| (stored.file.path(), &*stored.file)).collect();
        files.into_values()
    }

    pub(crate) fn insert(&mut self, name: String, stored: Stored) -> Result<()> {
        match self.stored.entry(name) {
            Entry::Vacant(place) => {
                place.insert(stored);
                Ok(())
            }
            Entry::Occupied(place) => Err(Error::Duplicate {
                tensor: place.key().clone(),
                first: place.get().file.path().to_owned(),
                second: stored.file.path().to_owned(),
            }),
        }
    }
}
