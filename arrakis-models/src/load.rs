//! From a checkpoint to a decoder: every tensor consumed, every name found, every shape as the config says.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use tch::{Device, Kind, Tensor};

use crate::architecture::{Architecture, MlpKind};
use crate::attention::Attention;
use crate::block::Block;
use crate::checkpoint::Checkpoint;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::families::{self, Biased, Blueprint, Unembed};
use crate::linear::Linear;
use crate::mlp::Mlp;
use crate::names::{Names, Orientation, Qkv};
use crate::norm::Norm;
use crate::points::points;
use crate::tensors::Tensors;

/// How a model is to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOptions {
    /// The kind of the weights and of what flows: `Float`, `Double`, `BFloat16` or `Half`.
    pub kind: Kind,
    /// Where the weights are to lie; choose it with [`arrakis_core::device::device`].
    pub device: Device,
}

impl Default for LoadOptions {
    /// 32-bit floats on the CPU; such weights are mapped, not read.
    fn default() -> Self {
        Self { kind: Kind::Float, device: Device::Cpu }
    }
}

/// Loads a model: a folder, a `.gguf` file, or a hub id.
///
/// # Errors
/// Names the file, config field or tensor that is missing, damaged, unknown or left over.
pub fn load(model: &str, options: &LoadOptions) -> Result<Decoder> {
    Decoder::from_checkpoint(&Checkpoint::open(model)?, options)
}

impl Decoder {
    /// Builds the decoder of an opened checkpoint.
    ///
    /// # Errors
    /// Names the config field or tensor that is missing, unknown or left over.
    pub fn from_checkpoint(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Self> {
        let blueprint = families::blueprint(&checkpoint.config)?;
        check_sizes(&blueprint.architecture)?;
        let reader = Reader::new(&checkpoint.tensors, &blueprint, options);
        let decoder = reader.decoder(&blueprint)?;
        reader.nothing_left()?;
        let tokenizer = match checkpoint.tokenizer() {
            Ok(tokenizer) => Some(Arc::new(tokenizer)),
            Err(Error::NoTokenizer { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { tokenizer, files: checkpoint.files().to_owned(), ..decoder })
    }
}

fn check_sizes(architecture: &Architecture) -> Result<()> {
    let dims = &architecture.dims;
    let sizes = [
        ("layers", dims.n_layers),
        ("heads", dims.n_heads),
        ("key-value heads", dims.n_kv_heads),
        ("d_model", dims.d_model),
        ("d_head", dims.d_head),
        ("vocabulary", dims.vocab),
    ];
    let refuse = |what: String| Err(Error::Config { family: dims.family.clone(), what });
    if let Some((what, _)) = sizes.iter().find(|(_, size)| *size == 0) {
        return refuse(format!("the number of {what} is 0"));
    }
    if !dims.n_heads.is_multiple_of(dims.n_kv_heads) {
        return refuse(format!("{} heads do not divide into {} key-value heads", dims.n_heads, dims.n_kv_heads));
    }
    Ok(())
}

struct Reader<'a> {
    tensors: &'a Tensors,
    names: Names,
    prefix: &'static str,
    biases: Vec<Biased>,
    options: &'a LoadOptions,
    taken: RefCell<HashSet<String>>,
}

impl<'a> Reader<'a> {
    fn new(tensors: &'a Tensors, blueprint: &Blueprint, options: &'a LoadOptions) -> Self {
        let names = blueprint.names;
        let found = |prefix: &&&str| tensors.shape(&format!("{prefix}{}", names.embed)).is_some();
        let prefix = names.prefixes.iter().find(found).or(names.prefixes.first()).copied().unwrap_or_default();
        Self { tensors, names, prefix, biases: blueprint.biases.clone(), options, taken: RefCell::default() }
    }

    fn decoder(&self, blueprint: &Blueprint) -> Result<Decoder> {
        let architecture = blueprint.architecture.clone();
        let dims = &architecture.dims;
        let (d_model, vocab) = (dims.d_model as i64, dims.vocab as i64);
        let embed = self.block_tensor(self.names.embed, 0, &[vocab, d_model])?;
        let pos_embed = match self.names.pos_embed {
            Some(name) => Some(self.block_tensor(name, 0, &[dims.context as i64, d_model])?),
            None => None,
        };
        let unembed = match blueprint.unembed {
            Unembed::Tied => {
                self.check_tied(&embed)?;
                embed.shallow_clone()
            }
            Unembed::Own => self.tensor(self.names.unembed, &[vocab, d_model])?,
        };
        let blocks = (0..dims.n_layers).map(|layer| self.block(&architecture, layer)).collect::<Result<_>>()?;
        Ok(Decoder {
            embed,
            pos_embed,
            blocks,
            ln_final: self.norm(self.names.ln_final, 0, &architecture)?,
            unembed: Linear { weight: unembed.f_transpose(0, 1)?, bias: None },
            points: points(&architecture, false),
            architecture,
            tokenizer: None,
            files: Vec::new(),
            digest: OnceLock::new(),
        })
    }

    fn block(&self, architecture: &Architecture, layer: usize) -> Result<Block> {
        let dims = &architecture.dims;
        let (d_model, d_mlp) = (dims.d_model as i64, dims.d_mlp as i64);
        let (n_heads, n_kv_heads, d_head) = (dims.n_heads as i64, dims.n_kv_heads as i64, dims.d_head as i64);
        let (q_width, kv_width) = (n_heads * d_head, n_kv_heads * d_head);
        let [q, k, v] = self.qkv(layer, d_model, q_width, kv_width)?;
        let mlp = self.has(Biased::Mlp);
        let gate = match (architecture.mlp, self.names.gate) {
            (MlpKind::Gated, Some(name)) => Some(self.linear(name, layer, d_model, d_mlp, mlp)?),
            _ => None,
        };
        Ok(Block {
            ln1: self.norm(self.names.ln1, layer, architecture)?,
            attention: Attention {
                q,
                k,
                v,
                o: self.linear(self.names.o, layer, q_width, d_model, self.has(Biased::O))?,
                n_heads,
                n_kv_heads,
                d_head,
                score_scale: architecture.score_scale.factor(dims.d_head, layer),
            },
            ln2: Some(self.norm(self.names.ln2, layer, architecture)?),
            mlp: Mlp {
                gate,
                input: self.linear(self.names.input, layer, d_model, d_mlp, mlp)?,
                output: self.linear(self.names.output, layer, d_mlp, d_model, mlp)?,
                activation: architecture.activation,
            },
            residual: dims.residual,
        })
    }

    fn qkv(&self, layer: usize, d_model: i64, q_width: i64, kv_width: i64) -> Result<[Linear; 3]> {
        let bias = self.has(Biased::Qkv);
        match self.names.qkv {
            Qkv::Separate { q, k, v } => Ok([
                self.linear(q, layer, d_model, q_width, bias)?,
                self.linear(k, layer, d_model, kv_width, bias)?,
                self.linear(v, layer, d_model, kv_width, bias)?,
            ]),
            Qkv::Stacked(name) => {
                let whole = self.linear(name, layer, d_model, q_width + 2 * kv_width, bias)?;
                let part = |start: i64, width: i64| -> Result<Linear> {
                    let bias = whole.bias.as_ref().map(|bias| bias.f_narrow(0, start, width)).transpose()?;
                    Ok(Linear { weight: whole.weight.f_narrow(1, start, width)?, bias })
                };
                Ok([part(0, q_width)?, part(q_width, kv_width)?, part(q_width + kv_width, kv_width)?])
            }
        }
    }

    fn linear(&self, name: &str, layer: usize, d_in: i64, d_out: i64, bias: bool) -> Result<Linear> {
        let name = self.full_name(name, layer);
        let weight = match self.names.orientation {
            Orientation::OutIn => self.tensor(&format!("{name}.weight"), &[d_out, d_in])?.f_transpose(0, 1)?,
            Orientation::InOut => self.tensor(&format!("{name}.weight"), &[d_in, d_out])?,
        };
        let bias = if bias { Some(self.tensor(&format!("{name}.bias"), &[d_out])?) } else { None };
        Ok(Linear { weight, bias })
    }

    fn norm(&self, name: &str, layer: usize, architecture: &Architecture) -> Result<Norm> {
        let name = self.full_name(name, layer);
        let width = [architecture.dims.d_model as i64];
        let bias = if self.has(Biased::Norm) { Some(self.tensor(&format!("{name}.bias"), &width)?) } else { None };
        let weight = self.tensor(&format!("{name}.weight"), &width)?;
        Ok(Norm { kind: architecture.dims.norm, eps: architecture.dims.norm_eps, weight, bias })
    }

    fn has(&self, bias: Biased) -> bool {
        self.biases.contains(&bias)
    }

    fn full_name(&self, name: &str, layer: usize) -> String {
        format!("{}{}", self.prefix, name.replace("{}", &layer.to_string()))
    }

    fn block_tensor(&self, name: &str, layer: usize, shape: &[i64]) -> Result<Tensor> {
        self.tensor(&self.full_name(name, layer), shape)
    }

    /// A tensor of the checkpoint in the kind and on the device asked for.
    fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let Some(found) = self.tensors.shape(name) else {
            let nearest = arrakis_core::nearest_name(name, self.tensors.names());
            return Err(Error::MissingWeight { tensor: name.to_owned(), nearest });
        };
        if found != shape {
            let (tensor, expected, found) = (name.to_owned(), shape.to_vec(), found.to_vec());
            return Err(Error::WrongShape { tensor, expected, found });
        }
        self.taken.borrow_mut().insert(name.to_owned());
        Ok(self.tensors.get(name)?.f_to_device(self.options.device)?.f_to_kind(self.options.kind)?)
    }

    /// A tied unembedding that is stored all the same must be the embedding.
    fn check_tied(&self, embed: &Tensor) -> Result<()> {
        let name = self.names.unembed;
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
    fn nothing_left(&self) -> Result<()> {
        let taken = self.taken.borrow();
        let left = self.tensors.names().filter(|name| !taken.contains(*name) && !self.is_buffer(name));
        let tensors: Vec<String> = left.map(str::to_owned).collect();
        if tensors.is_empty() { Ok(()) } else { Err(Error::LeftoverWeights { tensors }) }
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
