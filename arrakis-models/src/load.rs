//! From a checkpoint to a decoder: every tensor consumed, every name found, every shape as the config says.

use std::sync::{Arc, OnceLock};

use tch::{Device, Kind};

use crate::architecture::{Architecture, MlpNorm, QkNorm, Window};
use crate::attention::Attention;
use crate::block::Block;
use crate::checkpoint::Checkpoint;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::families::{self, Biased, Blueprint, Unembed};
use crate::linear::Linear;
use crate::mlp::Mlp;
use crate::names::{MlpIn, Qkv};
use crate::points::points;
use crate::reader::Reader;
use crate::tokenizer::Later;

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
        let decoder = reader.decoder(blueprint)?;
        reader.nothing_left()?;
        let tokenizer = Arc::new(Later::new(checkpoint.tokenizer_later(), checkpoint.tokenizer_digest_later()));
        Ok(Self { tokenizer, files: checkpoint.tensors.identities().unwrap_or_default(), ..decoder })
    }
}

/// The greatest size: no model comes near it, and no product of two sizes overflows.
const GREATEST: usize = 1 << 30;

fn check_sizes(architecture: &Architecture) -> Result<()> {
    let dims = &architecture.dims;
    let sizes = [
        ("layers", dims.n_layers),
        ("heads", dims.n_heads),
        ("key-value heads", dims.n_kv_heads),
        ("d_model", dims.d_model),
        ("d_head", dims.d_head),
        ("d_mlp", dims.d_mlp),
        ("vocabulary", dims.vocab),
        ("context", dims.context),
    ];
    let refuse = |what: String| Err(Error::Config { family: dims.family.clone(), what });
    if let Some((what, size)) = sizes.iter().find(|(_, size)| *size == 0 || *size > GREATEST) {
        return refuse(format!("the size `{what}` is {size}"));
    }
    if !dims.n_heads.is_multiple_of(dims.n_kv_heads) {
        return refuse(format!("{} heads do not divide into {} key-value heads", dims.n_heads, dims.n_kv_heads));
    }
    if architecture.windows.contains(&Window::Sliding(0)) {
        return refuse("a window of 0 positions lets nothing through".into());
    }
    Ok(())
}

impl Reader<'_> {
    fn decoder(&self, blueprint: Blueprint) -> Result<Decoder> {
        let architecture = blueprint.architecture;
        let dims = &architecture.dims;
        let (d_model, vocab) = (dims.d_model as i64, dims.vocab as i64);
        let embed = self.embedding(self.names.embed, &[vocab, d_model])?;
        let pos_embed = match self.names.pos_embed {
            Some(name) => Some(self.embedding(name, &[dims.context as i64, d_model])?),
            None => None,
        };
        let unembed = match blueprint.unembed {
            Unembed::Tied => {
                self.check_tied(&embed)?;
                embed.shallow_clone()
            }
            Unembed::Own => self.unembedding(&[vocab, d_model])?,
        };
        let blocks = (0..dims.n_layers).map(|layer| self.block(&architecture, layer)).collect::<Result<_>>()?;
        Ok(Decoder {
            embed,
            pos_embed,
            blocks,
            ln_final: self.norm(self.names.ln_final, 0, d_model)?,
            unembed: Linear::new(unembed.f_transpose(0, 1)?, None),
            points: points(&architecture),
            architecture,
            tokenizer: Arc::new(Later::new(|| Err(Error::NoTokenizer { looked: Vec::new() }), || Ok(None))),
            files: Vec::new(),
            digest: OnceLock::new(),
        })
    }

    fn block(&self, architecture: &Architecture, layer: usize) -> Result<Block> {
        let d_model = architecture.dims.d_model as i64;
        let ln2 = match architecture.mlp_norm {
            MlpNorm::Own => Some(self.norm(self.names.ln2, layer, d_model)?),
            MlpNorm::Shared => None,
        };
        Ok(Block {
            ln1: self.norm(self.names.ln1, layer, d_model)?,
            attention: self.attention(architecture, layer)?,
            ln2,
            mlp: self.mlp(architecture, layer)?,
            residual: architecture.dims.residual,
        })
    }

    fn attention(&self, architecture: &Architecture, layer: usize) -> Result<Attention> {
        let dims = &architecture.dims;
        let (n_heads, n_kv_heads, d_head) = (dims.n_heads as i64, dims.n_kv_heads as i64, dims.d_head as i64);
        let (d_model, q_width, kv_width) = (dims.d_model as i64, n_heads * d_head, n_kv_heads * d_head);
        let ([q, k, v], stacked) = self.qkv(layer, d_model, d_head, q_width, kv_width)?;
        let qk_norms = match (architecture.qk_norm, self.names.qk_norms) {
            (QkNorm::PerHead, Some([q, k])) => Some([
                self.head_norms(q, layer, dims.n_heads, d_head)?,
                self.head_norms(k, layer, dims.n_kv_heads, d_head)?,
            ]),
            _ => None,
        };
        Ok(Attention {
            q,
            k,
            v,
            stacked,
            o: self.linear(self.names.o, layer, q_width, d_model, self.has(Biased::O))?,
            qk_norms,
            n_heads,
            n_kv_heads,
            d_head,
            score_scale: architecture.score_scale.factor(dims.d_head, layer),
            score_precision: architecture.score_precision,
        })
    }

    /// The three maps, and the one that they are views of where the checkpoint stacks them.
    fn qkv(
        &self,
        layer: usize,
        d_model: i64,
        d_head: i64,
        q_width: i64,
        kv_width: i64,
    ) -> Result<([Linear; 3], Option<Linear>)> {
        let bias = self.has(Biased::Qkv);
        let whole = |name| self.linear(name, layer, d_model, q_width + 2 * kv_width, bias);
        match self.names.qkv {
            Qkv::Separate { q, k, v } => {
                let map = |name, width| self.linear(name, layer, d_model, width, bias);
                Ok(([map(q, q_width)?, map(k, kv_width)?, map(v, kv_width)?], None))
            }
            Qkv::Stacked(name) => {
                let whole = whole(name)?;
                let part = |start, width| whole.outputs(start, width);
                let parts = [part(0, q_width)?, part(q_width, kv_width)?, part(q_width + kv_width, kv_width)?];
                Ok((parts, Some(whole)))
            }
            Qkv::ByHead(name) => {
                let whole = whole(name)?;
                let third = |first| whole.every_third(first, d_head);
                Ok(([third(0)?, third(1)?, third(2)?], None))
            }
        }
    }

    fn mlp(&self, architecture: &Architecture, layer: usize) -> Result<Mlp> {
        let dims = &architecture.dims;
        let (d_model, d_mlp, bias) = (dims.d_model as i64, dims.d_mlp as i64, self.has(Biased::Mlp));
        let map = |name, width| self.linear(name, layer, d_model, width, bias);
        let (gate, input) = match self.names.mlp_in {
            MlpIn::Plain(name) => (None, map(name, d_mlp)?),
            MlpIn::Gated { gate, linear } => (Some(map(gate, d_mlp)?), map(linear, d_mlp)?),
            MlpIn::Stacked(name) => {
                let whole = map(name, 2 * d_mlp)?;
                (Some(whole.outputs(0, d_mlp)?), whole.outputs(d_mlp, d_mlp)?)
            }
        };
        let output = self.linear(self.names.mlp_out, layer, d_mlp, d_model, bias)?;
        Ok(Mlp { gate, input, output, activation: architecture.activation })
    }
}
