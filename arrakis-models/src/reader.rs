//! Tensors of a checkpoint by a family's names: each of the shape that the config says, and none left over.

use std::cell::RefCell;
use std::collections::HashSet;

use arrakis_core::NormKind;
use tch::{Kind, Tensor};

use crate::architecture::wide;
use crate::error::{Error, Result};
use crate::families::{Biased, Blueprint};
use crate::linear::Linear;
use crate::load::LoadOptions;
use crate::names::{Names, NormWeights, Orientation};
use crate::norm::Norm;
use crate::tensors::Tensors;

/// A checkpoint that is being read, and what of it has been.
pub(crate) struct Reader<'a> {
    tensors: &'a Tensors,
    pub(crate) names: Names,
    prefix: &'static str,
    biases: Vec<Biased>,
    norm: (NormKind, f64),
    options: &'a LoadOptions,
    taken: RefCell<HashSet<String>>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(tensors: &'a Tensors, blueprint: &Blueprint, options: &'a LoadOptions) -> Self {
        let names = blueprint.names;
        let found = |prefix: &&&str| tensors.shape(&format!("{prefix}{}", names.embed)).is_some();
        let prefix = names.prefixes.iter().find(found).or(names.prefixes.first()).copied().unwrap_or_default();
        let dims = &blueprint.architecture.dims;
        let norm = (dims.norm, dims.norm_eps);
        Self { tensors, names, prefix, biases: blueprint.biases.clone(), norm, options, taken: RefCell::default() }
    }

    pub(crate) fn has(&self, bias: Biased) -> bool {
        self.biases.contains(&bias)
    }

    /// A linear map, as `[in, out]`.
    pub(crate) fn linear(&self, name: &str, layer: usize, d_in: i64, d_out: i64, bias: bool) -> Result<Linear> {
        let name = self.full_name(name, layer);
        let weight = match self.names.orientation {
            Orientation::OutIn => self.tensor(&format!("{name}.weight"), &[d_out, d_in])?.f_transpose(0, 1)?,
            Orientation::InOut => self.tensor(&format!("{name}.weight"), &[d_in, d_out])?,
        };
        let bias = if bias { Some(self.tensor(&format!("{name}.bias"), &[d_out])?) } else { None };
        Ok(Linear::new(weight, bias))
    }

    /// A norm over vectors of `width`.
    pub(crate) fn norm(&self, name: &str, layer: usize, width: i64) -> Result<Norm> {
        let name = self.full_name(name, layer);
        let bias = if self.has(Biased::Norm) { Some(self.tensor(&format!("{name}.bias"), &[width])?) } else { None };
        let name = format!("{name}.weight");
        let weight = match self.names.norm_weights {
            NormWeights::Whole => self.tensor(&name, &[width])?,
            // The sum needs more digits than 16-bit floats have, so it stays wide.
            NormWeights::LessOne => self.tensor_as(&name, &[width], wide(self.options.kind))?.f_add_scalar(1.0)?,
        };
        Ok(Norm { kind: self.norm.0, eps: self.norm.1, weight, bias })
    }

    /// A norm of each of `heads`, stored one by one.
    pub(crate) fn head_norms(&self, name: &str, layer: usize, heads: usize, d_head: i64) -> Result<Norm> {
        let name = self.full_name(name, layer);
        let one = |head: usize| self.tensor(&name.replace("{head}", &head.to_string()), &[d_head]);
        let weights: Vec<Tensor> = (0..heads).map(one).collect::<Result<_>>()?;
        Ok(Norm { kind: self.norm.0, eps: self.norm.1, weight: Tensor::f_stack(&weights, 0)?, bias: None })
    }

    pub(crate) fn embedding(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        self.tensor(&self.full_name(name, 0), shape)
    }

    /// An unembedding with a tensor of its own.
    pub(crate) fn unembedding(&self, shape: &[i64]) -> Result<Tensor> {
        self.tensor(self.unembed_name(), shape)
    }

    /// A tied unembedding that is stored all the same must be the embedding.
    pub(crate) fn check_tied(&self, embed: &Tensor) -> Result<()> {
        let name = self.unembed_name();
        if self.tensors.shape(name).is_none() {
            return Ok(());
        }
        let stored = self.tensor(name, &embed.size())?;
        if stored.f_equal(embed)? {
            return Ok(());
        }
        Err(Error::Untied { unembed: name.to_owned(), embed: self.full_name(self.names.embed, 0) })
    }

    /// An error that names the tensors nobody has read.
    pub(crate) fn nothing_left(&self) -> Result<()> {
        let taken = self.taken.borrow();
        let left = self.tensors.names().filter(|name| !taken.contains(*name) && !self.is_buffer(name));
        let tensors: Vec<String> = left.map(str::to_owned).collect();
        if tensors.is_empty() { Ok(()) } else { Err(Error::LeftoverWeights { tensors }) }
    }

    fn unembed_name(&self) -> &'static str {
        let names = self.names.unembed;
        let found = names.iter().find(|name| self.tensors.shape(name).is_some());
        found.or(names.first()).copied().unwrap_or_default()
    }

    fn full_name(&self, name: &str, layer: usize) -> String {
        format!("{}{}", self.prefix, name.replace("{}", &layer.to_string()))
    }

    /// A tensor of the checkpoint in the kind and on the device asked for.
    fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        self.tensor_as(name, shape, self.options.kind)
    }

    fn tensor_as(&self, name: &str, shape: &[i64], kind: Kind) -> Result<Tensor> {
        let Some(found) = self.tensors.shape(name) else {
            let nearest = arrakis_core::nearest_name(name, self.tensors.names());
            return Err(Error::MissingWeight { tensor: name.to_owned(), nearest });
        };
        if found != shape {
            let (tensor, expected, found) = (name.to_owned(), shape.to_vec(), found.to_vec());
            return Err(Error::WrongShape { tensor, expected, found });
        }
        self.taken.borrow_mut().insert(name.to_owned());
        Ok(self.tensors.get(name)?.f_to_device(self.options.device)?.f_to_kind(kind)?)
    }

    fn is_buffer(&self, name: &str) -> bool {
        let name = name.strip_prefix(self.prefix).unwrap_or(name);
        self.names.buffers.iter().any(|buffer| {
            let (before, after) = buffer.split_once("{}").unwrap_or((buffer, ""));
            let layer = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            layer.is_some_and(|layer| layer.bytes().all(|digit| digit.is_ascii_digit()))
        })
    }
}
