//! Parts of queries and keys as scores see them: after their norm and their rotation.

use arrakis_core::{Model, ModelExt, NormKind, PosSlice, Result, Site, Tokens, Weight, edit};
use tch::{Kind, Tensor};

use super::parts::Parts;
use super::receiver::Receiver;
use crate::HeadInput;

/// Parts of a head's input as they meet the other end of its circuit, in double.
pub(super) struct Turned {
    /// The sender's, at every position: `[pos, d_head]`.
    pub(super) sender: Tensor,
    /// Every component's, at one position: `[component, d_head]`.
    pub(super) components: Tensor,
}

impl Turned {
    /// The parts after the input's norm, with the scale that the whole has, and after its rotation.
    ///
    /// How a model rotates is its own affair, so the parts are put where its queries or keys are, at their positions.
    pub(super) fn of(model: &dyn Model, receiver: &Receiver, parts: &Parts, position: i64) -> Result<Self> {
        let layer = receiver.place.layer;
        let (site, turned_site) = match receiver.input {
            HeadInput::Q => (Site::Q, Site::ROT_Q),
            HeadInput::K => (Site::K, Site::ROT_K),
            HeadInput::V => (Site::V, Site::V),
        };
        if site == turned_site || !model.points().contains(&turned_site.at(layer)) {
            return Ok(Self { sender: parts.sender.shallow_clone(), components: parts.at.shallow_clone() });
        }

        // One row of all positions with the sender's parts, then rows of the one position with the components'.
        let (len, d_head) = parts.sender.size2()?;
        let count = parts.at.size()[0];
        let more = (count - 1) / len + 1;
        let padded = parts.at.f_constant_pad_nd([0, 0, 0, more * len - count])?;
        let vectors = Tensor::f_cat(&[&parts.sender, &padded], 0)?.f_view([1 + more, len, d_head])?;
        let options = (Kind::Int64, model.device());
        let every = Tensor::f_arange(len, options)?.f_unsqueeze(0)?;
        let positions = Tensor::f_cat(&[every, Tensor::f_full([more, len], position, options)?], 0)?;
        let tokens = Tokens::from_tensor(&positions.f_zeros_like()?)?;
        let residual = Tensor::f_zeros([1 + more, len, model.dims().d_model as i64], (model.kind(), model.device()))?;
        let put =
            edit::with(|value| Ok(value.f_select_scatter(&vectors.f_to_kind(value.kind())?, 2, receiver.head)?));
        let run = model
            .trace(&tokens)
            .start_at(layer, &residual)
            .stop_at(layer + 1)
            .positions(&positions)
            .logits(PosSlice::None)
            .edit(site.at(layer), put)
            .keep(turned_site.at(layer))
            .run()?;
        let turned = run.cache.get(turned_site.at(layer))?.f_select(2, receiver.head)?.f_to_kind(Kind::Double)?;
        let mut turned = turned.f_reshape([-1, d_head])?;
        if model.weights().contains(&Weight::Q_NORM.at(layer)) {
            // The model normed each part with a scale of its own.
            let own = norm_scale(model, &vectors.f_view([-1, d_head])?)?;
            let whole = receiver.vectors.f_index_select(0, &positions.f_reshape([-1])?)?;
            turned = turned.f_mul(&own)?.f_div(&norm_scale(model, &whole)?)?;
        }
        Ok(Self { sender: turned.f_narrow(0, 0, len)?, components: turned.f_narrow(0, len, count)? })
    }
}

/// The divisor of the norm of queries and keys (`[…, d_head]`): `[…, 1]`.
fn norm_scale(model: &dyn Model, x: &Tensor) -> Result<Tensor> {
    let centred = match model.dims().norm {
        NormKind::Layer => x.f_sub(&x.f_mean_dim(-1, true, Kind::Double)?)?,
        NormKind::Rms => x.shallow_clone(),
    };
    let squared = centred.f_square()?.f_mean_dim(-1, true, Kind::Double)?;
    Ok(squared.f_add_scalar(model.dims().norm_eps)?.f_sqrt()?)
}
