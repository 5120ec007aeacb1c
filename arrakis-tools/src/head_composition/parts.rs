//! What each component wrote of a head's input, through the norm before it.

use std::cell::RefCell;

use arrakis_core::{HookPoint, Model, ModelExt, NormKind, PosSlice, Result, Site, Tokens, Weight, edit};
use tch::{Kind, Tensor};

use super::receiver::Receiver;
use crate::{HeadInput, HeadPlace};

/// What the components wrote of a receiver's input, in double.
pub(super) struct Parts {
    /// The components, in the order of writing.
    pub(super) names: Vec<String>,
    /// At one position: `[component, d_head]`.
    pub(super) at: Tensor,
    /// The sender's, at every position: `[pos, d_head]`.
    pub(super) sender: Tensor,
    /// The sum of all, at every position: `[pos, d_head]`.
    pub(super) sum: Tensor,
}

impl Parts {
    /// The parts in a row of tokens, of which only those at a position and the sender's are kept.
    pub(super) fn of(
        model: &dyn Model,
        ids: &[i64],
        receiver: &Receiver,
        sender: HeadPlace,
        position: i64,
    ) -> Result<Self> {
        let embeds = [Site::EMBED, Site::POS_EMBED].map(Site::global);
        let embeds = embeds.into_iter().filter(|point| model.points().contains(point));
        let layer = receiver.place.layer;
        let blocks = (0..layer).flat_map(|layer| [Site::Z.at(layer), Site::MLP_OUT.at(layer)]);
        let points: Vec<HookPoint> = embeds.chain(blocks).collect();
        let reading = RefCell::new(Reading::new(model, receiver, sender, position)?);
        let look = |point: HookPoint, value: &Tensor| {
            reading.borrow_mut().see(point, &value.f_get(0)?.f_to_kind(Kind::Double)?)?;
            Ok(value.shallow_clone())
        };
        let tokens = Tokens::from_ids(ids)?;
        // The stream that enters the receiver's block is all that it reads.
        let trace = model.trace(&tokens).logits(PosSlice::None).stop_at(layer);
        points.iter().fold(trace, |trace, point| trace.edit(*point, edit::at_point(&look))).run()?;
        reading.into_inner().end()
    }
}

/// A head's input as it is being written.
struct Reading<'a> {
    model: &'a dyn Model,
    receiver: &'a Receiver,
    sender: HeadPlace,
    position: i64,
    /// `W_Q`, `W_K` or `W_V` of the head: `[d_model, d_head]`.
    projection: Tensor,
    /// From the stream, before the norm's division, to the input: `[d_model, d_head]`.
    matrix: Tensor,
    parts: Parts,
}

impl<'a> Reading<'a> {
    fn new(model: &'a dyn Model, receiver: &'a Receiver, sender: HeadPlace, position: i64) -> Result<Self> {
        let layer = receiver.place.layer;
        let weight = match receiver.input {
            HeadInput::Q => Weight::Q,
            HeadInput::K => Weight::K,
            HeadInput::V => Weight::V,
        };
        let projection = model.weight(weight.at(layer))?.f_get(receiver.head)?.f_to_kind(Kind::Double)?;
        let weighted = match model.weight_if_any(Weight::LN1_W.at(layer))? {
            Some(norm) => projection.f_mul(&norm.f_to_kind(Kind::Double)?.f_unsqueeze(1)?)?,
            None => projection.shallow_clone(),
        };
        let matrix = match model.dims().norm {
            // To centre what is read is to centre what reads it.
            NormKind::Layer => weighted.f_sub(&weighted.f_mean_dim(0, true, Kind::Double)?)?,
            NormKind::Rms => weighted,
        };
        let whole = &receiver.vectors;
        let parts = Parts {
            names: Vec::new(),
            at: whole.f_narrow(0, 0, 0)?,
            sender: whole.f_zeros_like()?,
            sum: whole.f_zeros_like()?,
        };
        Ok(Self { model, receiver, sender, position, projection, matrix, parts })
    }

    /// Adds what is written at a hook point: `[pos, d_model]`, or `[pos, head, d_head]` at `hook_z`.
    fn see(&mut self, point: HookPoint, value: &Tensor) -> Result<()> {
        let name = point.site.name().trim_start_matches("hook_");
        match point.layer {
            Some(layer) if point.site == Site::Z => self.add_heads(layer, value),
            Some(layer) => self.add_written(format!("{layer}_{name}"), value),
            None => self.add_written(name.to_owned(), value),
        }
    }

    /// Adds what the heads of a layer wrote, and its output bias.
    fn add_heads(&mut self, layer: usize, z: &Tensor) -> Result<()> {
        let through = self.model.weight(Weight::O.at(layer))?.f_to_kind(Kind::Double)?.f_matmul(&self.matrix)?;
        let parts = Tensor::f_einsum("phd,hde->phe", &[z, &through], None::<&[i64]>)?;
        let parts = parts.f_div(&self.receiver.scale.f_unsqueeze(1)?)?;
        if layer == self.sender.layer {
            self.parts.sender = parts.f_select(1, self.sender.head as i64)?;
        }
        let heads = 0..z.size()[1] as usize;
        self.add(heads.map(|head| HeadPlace::new(layer, head).label()).collect(), &parts)?;
        match self.model.weight_if_any(Weight::O_B.at(layer))? {
            Some(bias) => {
                self.add_written(format!("{layer}_attn_bias"), &bias.f_to_kind(Kind::Double)?.f_unsqueeze(0)?)
            }
            None => Ok(()),
        }
    }

    /// Adds a component by what it wrote to the stream: `[pos or 1, d_model]`.
    fn add_written(&mut self, name: String, written: &Tensor) -> Result<()> {
        let part = written.f_matmul(&self.matrix)?.f_div(&self.receiver.scale)?;
        self.add(vec![name], &part.f_unsqueeze(1)?)
    }

    /// Adds components by what they are of the input: `[pos, component, d_head]`.
    fn add(&mut self, names: Vec<String>, parts: &Tensor) -> Result<()> {
        let found = &mut self.parts;
        found.names.extend(names);
        found.at = Tensor::f_cat(&[&found.at, &parts.f_get(self.position)?], 0)?;
        found.sum = found.sum.f_add(&parts.f_sum_dim_intlist(1, false, Kind::Double)?)?;
        Ok(())
    }

    /// The parts, with the biases of the norm and of the projection.
    fn end(mut self) -> Result<Parts> {
        let layer = self.receiver.place.layer;
        let shape = self.parts.sum.f_unsqueeze(1)?.size();
        if let Some(bias) = self.model.weight_if_any(Weight::LN1_B.at(layer))? {
            let part = bias.f_to_kind(Kind::Double)?.f_unsqueeze(0)?.f_matmul(&self.projection)?;
            self.add(vec![format!("{layer}_ln1_bias")], &part.f_expand(&shape, false)?)?;
        }
        let bias = match self.receiver.input {
            HeadInput::Q => Weight::Q_B,
            HeadInput::K => Weight::K_B,
            HeadInput::V => Weight::V_B,
        };
        if let Some(bias) = self.model.weight_if_any(bias.at(layer))? {
            let part = bias.f_get(self.receiver.head)?.f_to_kind(Kind::Double)?.f_expand(&shape, false)?;
            self.add(vec![format!("{layer}_{}_bias", self.receiver.input.name())], &part)?;
        }
        Ok(self.parts)
    }
}
