//! How long each part of one row's stream is, which share of the stream it makes up, and what it projects to.

use arrakis_core::{Context, PosSlice, Result, Tokens};
use tch::{Kind, Tensor};

use super::direction::Along;
use super::{ResidualWrites, Split, StreamPlace, Sublayers};
use crate::{Direction, gap};

/// The measures of all parts at the read positions, in the order of writing.
pub(super) struct Measured {
    pub(super) labels: Vec<String>,
    /// `[component, pos]`.
    pub(super) norms: Tensor,
    /// `[component, pos]`.
    pub(super) shares: Tensor,
    /// `[component, pos]`, if there is a direction.
    pub(super) projections: Option<Tensor>,
    /// `[pos]`.
    pub(super) stream_norms: Tensor,
    /// How far the parts' sum is from the stream, at most.
    pub(super) sum_gap: f64,
    /// How far the projections' sum is from the stream's projection, at most.
    pub(super) projection_gap: Option<f64>,
}

impl Measured {
    /// Splits the stream of one row at the given positions.
    pub(super) fn of(
        cx: &Context<'_>,
        ids: &[i64],
        positions: Vec<i64>,
        place: StreamPlace,
        split: Split,
        direction: Option<&Direction>,
    ) -> Result<Self> {
        let model = cx.model();
        let (layers, mid, _) = place.resolve(model.dims())?;
        let tokens = Tokens::from_ids(ids)?;
        let writes = ResidualWrites::of(cx, &tokens, &PosSlice::At(positions), split == Split::Neurons)?;
        let stream = writes.stream(place)?.f_select(0, 0)?;
        let scale = writes.final_scale()?.f_select(0, 0)?.f_squeeze_dim(-1)?;
        let along = direction.map(|direction| Along::of(direction, model, &scale)).transpose()?;
        let mut sums = Sums::new(&stream, along)?;
        let whole = writes.embeddings()?;
        sums.parts(&whole.labels, &whole.stack.f_select(1, 0)?)?;
        for layer in 0..layers + usize::from(mid) {
            cx.progress(layer as u64, layers as u64)?;
            let attention = match split {
                Split::Sublayers => writes.sublayers(layer, Sublayers::Attention)?,
                Split::Heads | Split::Neurons => writes.heads(layer)?,
            };
            sums.parts(&attention.labels, &attention.stack.f_select(1, 0)?)?;
            if layer == layers {
                continue;
            }
            if split == Split::Neurons {
                let (active, out) = writes.neuron_factors(layer)?;
                sums.neurons(layer, &active.f_select(0, 0)?, &out)?;
            } else {
                let mlp = writes.sublayers(layer, Sublayers::Mlp)?;
                sums.parts(&mlp.labels, &mlp.stack.f_select(1, 0)?)?;
            }
        }
        if split != Split::Sublayers {
            let bias = writes.accumulated_bias(place, split == Split::Neurons)?;
            sums.parts(&["bias".to_owned()], &bias.f_expand_as(&stream)?.f_unsqueeze(0)?)?;
        }
        sums.finish()
    }
}

/// Measures as they are collected.
struct Sums {
    /// `[pos, d_model]`.
    stream: Tensor,
    /// The squared length of the stream: `[pos]`.
    squared: Tensor,
    direction: Option<Along>,
    labels: Vec<String>,
    norms: Vec<Tensor>,
    shares: Vec<Tensor>,
    projections: Vec<Tensor>,
    sum: Tensor,
}

impl Sums {
    fn new(stream: &Tensor, direction: Option<Along>) -> Result<Self> {
        Ok(Self {
            stream: stream.shallow_clone(),
            squared: stream.f_square()?.f_sum_dim_intlist(-1, false, Kind::Double)?,
            direction,
            labels: Vec::new(),
            norms: Vec::new(),
            shares: Vec::new(),
            projections: Vec::new(),
            sum: stream.f_zeros_like()?,
        })
    }

    /// Adds parts: `[component, pos, d_model]`.
    fn parts(&mut self, labels: &[String], parts: &Tensor) -> Result<()> {
        self.labels.extend_from_slice(labels);
        self.norms.push(norm(parts)?);
        let along = parts.f_mul(&self.stream)?.f_sum_dim_intlist(-1, false, Kind::Double)?;
        self.shares.push(along.f_div(&self.squared)?);
        if let Some(direction) = &self.direction {
            self.projections.push(direction.project(parts)?);
        }
        self.sum = self.sum.f_add(&parts.f_sum_dim_intlist(0, false, Kind::Double)?)?;
        Ok(())
    }

    /// Adds neurons, from how active they are (`[pos, neuron]`) and what each writes for a 1 (`[neuron, d_model]`).
    ///
    /// Every measure is linear in the activity, so what each neuron writes at each position is never laid out.
    fn neurons(&mut self, layer: usize, active: &Tensor, out: &Tensor) -> Result<()> {
        let count = out.size()[0] as usize;
        self.labels.extend((0..count).map(|neuron| super::neuron_label(layer, neuron)));
        let active_by_neuron = active.f_transpose(0, 1)?;
        self.norms.push(active_by_neuron.f_abs()?.f_mul(&norm(out)?.f_unsqueeze(-1)?)?);
        let along = out.f_matmul(&self.stream.f_transpose(0, 1)?)?;
        self.shares.push(active_by_neuron.f_mul(&along)?.f_div(&self.squared)?);
        if let Some(direction) = &self.direction {
            self.projections.push(direction.project_written(&active_by_neuron, out)?);
        }
        self.sum = self.sum.f_add(&active.f_matmul(out)?)?;
        Ok(())
    }

    fn finish(self) -> Result<Measured> {
        let joined = |list: &[Tensor]| Tensor::f_cat(list, 0);
        let whole = self.direction.as_ref().map(|direction| direction.project(&self.stream)).transpose()?;
        let projections = if self.projections.is_empty() { None } else { Some(joined(&self.projections)?) };
        let projection_gap = match (&whole, &projections) {
            (Some(whole), Some(parts)) => Some(gap::gap(&parts.f_sum_dim_intlist(0, false, Kind::Double)?, whole)?),
            _ => None,
        };
        Ok(Measured {
            labels: self.labels,
            norms: joined(&self.norms)?,
            shares: joined(&self.shares)?,
            projections,
            stream_norms: self.squared.f_sqrt()?,
            sum_gap: gap::gap(&self.sum, &self.stream)?,
            projection_gap,
        })
    }
}

/// The length of vectors along the last dimension.
fn norm(values: &Tensor) -> Result<Tensor> {
    Ok(values.f_square()?.f_sum_dim_intlist(-1, false, Kind::Double)?.f_sqrt()?)
}
