//! Rotary positions: the frequencies of every kind of scaling, and the rotation.
//!
//! Definitions: Su et al. 2021 (`RoFormer`); linear (Chen et al. 2023); dynamic NTK and yarn (Peng et al. 2023); longrope
//! (Ding et al. 2024); llama3 (Meta, 2024). Frequencies are computed in double, whatever the kind of the model.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use arrakis_core::Result;

/// Rotary positions of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rope {
    /// How many of a head's dimensions are rotated: the first ones.
    pub dims: usize,
    /// The base of the wavelengths.
    pub theta: f64,
    /// How the frequencies are scaled.
    pub scaling: Scaling,
    /// The positions that the model was made for.
    pub context: usize,
}

/// How frequencies are scaled beyond the length of pretraining; fields as in a Hugging Face config.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Scaling {
    /// Not at all.
    Default {},
    /// Every frequency divided by a factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// The base grows with the length of the text beyond the context.
    Dynamic {
        /// How strongly it grows.
        factor: f64,
    },
    /// Low frequencies divided, high ones kept, a smooth passage between them.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Where low frequencies begin, in turns over the original context.
        low_freq_factor: f64,
        /// Where high frequencies begin, in turns over the original context.
        high_freq_factor: f64,
        /// The length of pretraining.
        original_max_position_embeddings: usize,
    },
    /// Interpolated where turns are few and kept where they are many, with warmer attention.
    Yarn {
        /// The divisor of low frequencies; the ratio of the contexts if absent.
        factor: Option<f64>,
        /// The length of pretraining; the context if absent.
        original_max_position_embeddings: Option<usize>,
        /// Multiplies cosine and sine; from `factor` if absent.
        attention_factor: Option<f64>,
        /// Turns from which frequencies are kept.
        beta_fast: Option<f64>,
        /// Turns up to which frequencies are interpolated.
        beta_slow: Option<f64>,
        /// Numerator of the attention factor.
        mscale: Option<f64>,
        /// Denominator of the attention factor.
        mscale_all_dim: Option<f64>,
        /// Whether the passage begins and ends at whole dimensions; true if absent.
        truncate: Option<bool>,
    },
    /// A divisor for each frequency, one list for texts within the original context and one beyond it.
    Longrope {
        /// Divisors within the original context.
        short_factor: Vec<f64>,
        /// Divisors beyond it.
        long_factor: Vec<f64>,
        /// The length of pretraining.
        original_max_position_embeddings: usize,
        /// The ratio of the contexts if absent.
        factor: Option<f64>,
        /// Multiplies cosine and sine; from `factor` if absent.
        attention_factor: Option<f64>,
    },
}

/// Cosine and sine of each position: `[batch or 1, pos, 1, dims]`.
#[derive(Debug)]
pub struct Rotation {
    cos: Tensor,
    sin: Tensor,
    dims: i64,
}

impl Rope {
    /// Whether the frequencies depend on the length of the text; cached keys are then kept unrotated.
    ///
    /// Such a model is another function at another length: all rows of a batch are rotated for the longest of them, as
    /// in transformers, and a cached pass rotates all keys for the whole length but keeps the values that the shorter
    /// text left behind. Padded and unpadded, batched and single, cached and whole passes agree at equal lengths, or at
    /// lengths with the same [`frequencies`](Self::frequencies).
    #[must_use]
    pub const fn depends_on_length(&self) -> bool {
        matches!(self.scaling, Scaling::Dynamic { .. } | Scaling::Longrope { .. })
    }

    /// The angle per position of each pair of dimensions, for a text of `length` positions.
    #[must_use]
    pub fn frequencies(&self, length: usize) -> Vec<f64> {
        let plain = |theta: f64| -> Vec<f64> {
            (0..self.dims / 2).map(|pair| theta.powf(-(2.0 * pair as f64) / self.dims as f64)).collect()
        };
        match &self.scaling {
            Scaling::Default {} => plain(self.theta),
            Scaling::Linear { factor } => plain(self.theta).into_iter().map(|frequency| frequency / factor).collect(),
            Scaling::Dynamic { factor } => {
                let (context, dims) = (self.context as f64, self.dims as f64);
                let stretch = factor * (length.max(self.context) as f64) / context - (factor - 1.0);
                plain(self.theta * stretch.powf(dims / (dims - 2.0)))
            }
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let scale = |frequency: f64| {
                    let turns = *original_max_position_embeddings as f64 * frequency / TAU;
                    let smooth = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    let smooth = smooth.clamp(0.0, 1.0);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                };
                plain(self.theta).into_iter().map(scale).collect()
            }
            Scaling::Yarn { beta_fast, beta_slow, truncate, .. } => {
                let (factor, original) = self.yarn_extent();
                let dims = self.dims as f64;
                let place = |turns: f64| dims * (original / (turns * TAU)).ln() / (2.0 * self.theta.ln());
                let (mut low, mut high) = (place(beta_fast.unwrap_or(32.0)), place(beta_slow.unwrap_or(1.0)));
                if truncate.unwrap_or(true) {
                    (low, high) = (low.floor(), high.ceil());
                }
                let (low, mut high) = (low.max(0.0), high.min(dims - 1.0));
                if low >= high {
                    high = low + 0.001;
                }
                let scale = |(pair, frequency): (usize, f64)| {
                    let ramp = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    frequency / factor * ramp + frequency * (1.0 - ramp)
                };
                plain(self.theta).into_iter().enumerate().map(scale).collect()
            }
            Scaling::Longrope { short_factor, long_factor, original_max_position_embeddings, .. } => {
                let factors = if length > *original_max_position_embeddings { long_factor } else { short_factor };
                plain(self.theta).into_iter().zip(factors).map(|(frequency, factor)| frequency / factor).collect()
            }
        }
    }

    /// What cosine and sine are multiplied by.
    #[must_use]
    pub fn attention_factor(&self) -> f64 {
        match &self.scaling {
            Scaling::Yarn { attention_factor, mscale, mscale_all_dim, .. } => attention_factor.unwrap_or_else(|| {
                let (factor, _) = self.yarn_extent();
                let warmth = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
                match (mscale, mscale_all_dim) {
                    (Some(above), Some(below)) if *above != 0.0 && *below != 0.0 => warmth(*above) / warmth(*below),
                    _ => warmth(1.0),
                }
            }),
            Scaling::Longrope { original_max_position_embeddings, factor, attention_factor, .. } => attention_factor
                .unwrap_or_else(|| {
                    let original = *original_max_position_embeddings as f64;
                    let factor = factor.unwrap_or(self.context as f64 / original);
                    if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() }
                }),
            _ => 1.0,
        }
    }

    fn yarn_extent(&self) -> (f64, f64) {
        let Scaling::Yarn { factor, original_max_position_embeddings, .. } = &self.scaling else {
            return (1.0, self.context as f64);
        };
        let original = original_max_position_embeddings.unwrap_or(self.context) as f64;
        (factor.unwrap_or(self.context as f64 / original), original)
    }

    /// Cosine and sine for `positions` (`[batch or 1, pos]`) of a text of `length` positions.
    pub fn rotation(&self, positions: &Tensor, length: usize, kind: Kind, device: Device) -> Result<Rotation> {
        let frequencies = Tensor::f_from_slice(&self.frequencies(length))?;
        let positions = positions.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        let half = positions.f_unsqueeze(-1)?.f_mul(&frequencies)?;
        let angles = Tensor::f_cat(&[&half, &half], -1)?.f_unsqueeze(2)?;
        let factor = self.attention_factor();
        let table = |values: Tensor| -> Result<Tensor> {
            Ok(values.f_mul_scalar(factor)?.f_to_kind(kind)?.f_to_device(device)?)
        };
        Ok(Rotation { cos: table(angles.f_cos()?)?, sin: table(angles.f_sin()?)?, dims: self.dims as i64 })
    }
}

impl Rotation {
    /// `x` (`[batch, pos, head, d_head]`) with its first dimensions rotated.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let d_head = x.size()[3];
        if self.dims == d_head {
            return self.turn(x);
        }
        let turned = self.turn(&x.f_narrow(3, 0, self.dims)?)?;
        Ok(Tensor::f_cat(&[&turned, &x.f_narrow(3, self.dims, d_head - self.dims)?], 3)?)
    }

    fn turn(&self, x: &Tensor) -> Result<Tensor> {
        let half = self.dims / 2;
        let swapped = Tensor::f_cat(&[&x.f_narrow(3, half, half)?.f_neg()?, &x.f_narrow(3, 0, half)?], 3)?;
        Ok(x.f_mul(&self.cos)?.f_add(&swapped.f_mul(&self.sin)?)?)
    }
}
