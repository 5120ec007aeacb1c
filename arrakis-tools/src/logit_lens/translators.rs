//! The translators of a tuned lens: one affine map for each layer, and the file they are kept in.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use arrakis_core::{Error, Model, Result};
use tch::{Kind, Tensor};

use crate::work_kind::work_kind;

/// `h ↦ h + h A + b` for the stream before each block; zeros are the plain logit lens.
pub(super) struct Translators {
    /// `A`: `[layer, d_model, d_model]`.
    pub(super) weights: Tensor,
    /// `b`: `[layer, d_model]`.
    pub(super) biases: Tensor,
}

const WEIGHTS: &str = "translators.weight";
const BIASES: &str = "translators.bias";
const DIGEST: &str = "model_digest";

impl Translators {
    /// Translators that change nothing.
    pub(super) fn identity(model: &dyn Model) -> Result<Self> {
        let (layers, d_model) = (model.dims().n_layers as i64, model.dims().d_model as i64);
        let options = (work_kind(model), model.device());
        Ok(Self {
            weights: Tensor::f_zeros([layers, d_model, d_model], options)?,
            biases: Tensor::f_zeros([layers, d_model], options)?,
        })
    }

    /// The stream before block `layer` (`[…, d_model]`) as the final stream is expected to be, in the working kind.
    pub(super) fn apply(&self, layer: usize, stream: &Tensor) -> Result<Tensor> {
        translated(stream, &self.weights.f_select(0, layer as i64)?, &self.biases.f_select(0, layer as i64)?)
    }

    /// Reads the translators that were trained for `model`.
    pub(super) fn read(file: &Path, model: &dyn Model) -> Result<Self> {
        let refuse = |why: String| Error::Invalid { what: format!("tuned lens `{}`", file.display()), why };
        let cure = "train it with `logit_lens.tuned_train`";
        if !file.is_file() {
            return Err(refuse(format!("there is no such file; {cure}")));
        }
        let tensors = Tensor::read_safetensors(file).map_err(|error| refuse(error.to_string()))?;
        let tensor = |name: &str| {
            let found = tensors.iter().find(|(known, _)| known == name);
            found.map(|(_, tensor)| tensor).ok_or_else(|| refuse(format!("it has no tensor `{name}`; {cure}")))
        };
        let digest: Vec<u8> = Vec::try_from(tensor(DIGEST)?.f_to_kind(Kind::Uint8)?.f_reshape([-1])?)?;
        if digest != model.digest()?.into_bytes() {
            return Err(refuse(format!("it was trained for another model, or another kind of numbers; {cure}")));
        }
        let own = Self::identity(model)?;
        let take = |name: &str, like: &Tensor| -> Result<Tensor> {
            let found = tensor(name)?;
            if found.size() != like.size() {
                let why = format!("`{name}` has shape {:?} where {:?} is wanted", found.size(), like.size());
                return Err(refuse(why));
            }
            if found.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
                return Err(refuse(format!("`{name}` holds numbers that are not finite")));
            }
            Ok(found.f_to_kind(like.kind())?.f_to_device(like.device())?)
        };
        Ok(Self { weights: take(WEIGHTS, &own.weights)?, biases: take(BIASES, &own.biases)? })
    }

    /// Writes the translators under a temporary name, and renames the file when it is whole.
    pub(super) fn write(&self, file: &Path, model: &dyn Model) -> Result<()> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let digest = Tensor::f_from_slice(model.digest()?.as_bytes())?;
        let mut partial = file.as_os_str().to_owned();
        partial.push(format!(".{}-{}.partial", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        let partial = PathBuf::from(partial);
        let tensors =
            [(WEIGHTS, self.weights.shallow_clone()), (BIASES, self.biases.shallow_clone()), (DIGEST, digest)];
        Tensor::write_safetensors(&tensors, &partial).map_err(|error| Error::Invalid {
            what: format!("tuned lens `{}`", file.display()),
            why: format!("cannot be written: {error}"),
        })?;
        let renamed = std::fs::rename(&partial, file);
        renamed.map_err(|source| Error::File { verb: "write", path: file.to_owned(), source })
    }
}

/// `h + h A + b`.
pub(super) fn translated(stream: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let stream = stream.f_to_kind(weight.kind())?;
    Ok(stream.f_add(&stream.f_matmul(weight)?)?.f_add(bias)?)
}

/// The logits of a stream (`[…, d_model]`), in the working kind: `[…, vocab]`.
pub(super) fn logits(model: &dyn Model, stream: &Tensor) -> Result<Tensor> {
    Ok(model.unembed(&stream.f_to_kind(model.kind())?)?.f_to_kind(work_kind(model))?)
}

/// The divergence of `logits` from the distribution with the given log probabilities, in nats: `[…]` of `[…, vocab]`.
pub(super) fn divergence(log_probabilities: &Tensor, logits: &Tensor) -> Result<Tensor> {
    let apart = log_probabilities.f_sub(&logits.f_log_softmax(-1, None::<Kind>)?)?;
    Ok(log_probabilities.f_exp()?.f_mul(&apart)?.f_sum_dim_intlist(-1, false, None::<Kind>)?)
}
