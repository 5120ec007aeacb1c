//! How far a model is from a reference file: the logits, hidden states and attentions that another library computed.

use std::path::Path;

use arrakis_core::{Error, HookPoint, Model, ModelExt, PosSlice, Result, Run, Site, Tokens, Weight, loss_by_row};
use tch::{Device, Kind, Tensor};

use crate::{Tensors, safetensors};

/// The bound in double precision: what a different order of the same operations costs.
pub const FLOAT64: f64 = 1e-10;
/// The bound in single precision, against a reference in double.
pub const FLOAT32: f64 = 2e-5;

/// The bound of a kind, where it has one: half precision has none that holds for every model.
#[must_use]
pub const fn bound(kind: Kind) -> Option<f64> {
    match kind {
        Kind::Double => Some(FLOAT64),
        Kind::Float => Some(FLOAT32),
        _ => None,
    }
}

/// One tensor of the reference, compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The tensor's name in the reference: `plain.f64.logits`.
    pub name: String,
    /// The greatest absolute difference; infinite where one of the two is not a number or only one is infinite.
    pub greatest: f64,
    /// Where it is: one index for each axis.
    pub at: Vec<i64>,
    /// The shape of the tensor.
    pub shape: Vec<i64>,
    /// How many of its numbers were compared; padding is not.
    pub compared: usize,
}

/// Compares a model with every tensor of a reference file that its kind can be compared with.
///
/// A case (`plain`, `leftpad` …) has `input_ids`, `attention_mask` and `position_ids`; of it are compared `logits`, with
/// and without anyone watching, `hidden_states.I`, `final_norm_input`, `attentions.I`, `loss` and `greedy_ids`. Models in
/// half precision are compared with `native.logits`. Real positions only; equal infinities agree.
/// A reference of which nothing can be compared is an error.
pub fn parity(model: &dyn Model, reference: &Path) -> Result<Vec<Comparison>> {
    let mut tensors = Tensors::default();
    safetensors::read(reference, &mut tensors).map_err(|error| Error::Other(Box::new(error)))?;
    let origin = if matches!(model.kind(), Kind::Float | Kind::Double) { "f64" } else { "native" };
    let ending = format!(".{origin}.logits");
    let cases: Vec<String> = tensors.names().filter_map(|name| Some(name.strip_suffix(&ending)?.to_owned())).collect();
    let mut comparisons = Vec::new();
    for name in &cases {
        Case::read(name, origin, &tensors)?.compare(model, &mut comparisons)?;
    }
    if comparisons.is_empty() {
        let why = format!("there is no tensor `CASE{ending}` to compare with");
        return Err(Error::Invalid { what: format!("`{}`", reference.display()), why });
    }
    Ok(comparisons)
}

struct Case<'a> {
    prefix: String,
    tensors: &'a Tensors,
    tokens: Tokens,
    mask: Tensor,
    positions: Tensor,
}

impl<'a> Case<'a> {
    fn read(case: &str, origin: &str, tensors: &'a Tensors) -> Result<Self> {
        // `leftpad_defaultpos` is `leftpad` with the positions counted over padding too.
        let counted = case.strip_suffix("_defaultpos");
        let input = |name: &str| get(tensors, &format!("{}.{name}", counted.unwrap_or(case)));
        let (ids, mask) = (input("input_ids")?, input("attention_mask")?.f_to_kind(Kind::Bool)?);
        let positions = match counted {
            Some(_) => Tensor::f_arange(ids.size()[1], (Kind::Int64, Device::Cpu))?.f_expand_as(&ids)?,
            None => input("position_ids")?,
        };
        let tokens = Tokens::from_tensor(&ids)?.with_mask(&mask)?;
        Ok(Self { prefix: format!("{case}.{origin}"), tensors, tokens, mask, positions })
    }

    fn compare(&self, model: &dyn Model, comparisons: &mut Vec<Comparison>) -> Result<()> {
        let positions = self.positions.f_to_device(model.device())?;
        let trace = || model.trace(&self.tokens).positions(&positions);
        let unwatched = trace().run()?;
        comparisons.push(self.difference("logits", unwatched.logits()?, Axis::Position)?);
        if self.has("attentions.0") || self.has("hidden_states.0") {
            let sites = [Site::RESID_PRE, Site::RESID_POST, Site::PATTERN, Site::LN_FINAL_NORMALIZED];
            let watched = sites.into_iter().fold(trace(), arrakis_core::Trace::keep).run()?;
            self.compare_watched(model, &watched, comparisons)?;
        }
        if self.has("loss") {
            let loss = loss_by_row(unwatched.logits()?, &self.tokens)?.f_mean(None::<Kind>)?;
            comparisons.push(self.difference("loss", &loss, Axis::None)?);
        }
        let case = self.prefix.split('.').next().unwrap_or_default();
        let greedy = format!("{case}.greedy_ids");
        if model.kind() == Kind::Double && self.tensors.shape(&greedy).is_some() {
            comparisons.push(greedy_difference(model, greedy.clone(), &get(self.tensors, &greedy)?)?);
        }
        Ok(())
    }

    fn compare_watched(&self, model: &dyn Model, run: &Run, comparisons: &mut Vec<Comparison>) -> Result<()> {
        let mut watched = self.difference("logits", run.logits()?, Axis::Position)?;
        watched.name.push_str(" (watched)");
        comparisons.push(watched);
        let n_layers = model.dims().n_layers;
        let kept = |point: HookPoint| run.cache.get(point);
        let mut add = |name: String, value: &Tensor, axis: Axis| -> Result<()> {
            if self.has(&name) {
                comparisons.push(self.difference(&name, value, axis)?);
            }
            Ok(())
        };
        add("hidden_states.0".into(), kept(Site::RESID_PRE.at(0))?, Axis::Position)?;
        for layer in 0..n_layers {
            add(format!("attentions.{layer}"), kept(Site::PATTERN.at(layer))?, Axis::Query)?;
            let resid = kept(Site::RESID_POST.at(layer))?;
            // The last hidden state of transformers is the one after the final norm.
            if layer + 1 < n_layers {
                add(format!("hidden_states.{}", layer + 1), resid, Axis::Position)?;
            } else {
                add("final_norm_input".into(), resid, Axis::Position)?;
            }
        }
        let last = final_norm(model, kept(Site::LN_FINAL_NORMALIZED.global())?)?;
        add(format!("hidden_states.{n_layers}"), &last, Axis::Position)
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.shape(&format!("{}.{name}", self.prefix)).is_some()
    }

    fn difference(&self, name: &str, value: &Tensor, axis: Axis) -> Result<Comparison> {
        let name = format!("{}.{name}", self.prefix);
        let reference = get(self.tensors, &name)?;
        let real = match axis {
            Axis::Position => Some(self.mask.f_unsqueeze(-1)?),
            Axis::Query => Some(self.mask.f_unsqueeze(1)?.f_unsqueeze(-1)?),
            Axis::None => None,
        };
        difference(name, value, &reference, real.as_ref())
    }
}

/// The axis of a tensor that runs over positions, some of which may be padding.
#[derive(Clone, Copy)]
enum Axis {
    Position,
    Query,
    None,
}

/// What the unembedding reads: `hook_normalized` with the norm's weight and bias.
fn final_norm(model: &dyn Model, normalized: &Tensor) -> Result<Tensor> {
    let mut value = normalized.shallow_clone();
    if let Some(weight) = model.weight_if_any(Weight::LN_FINAL_W.global())? {
        value = value.f_mul(&weight)?;
    }
    if let Some(bias) = model.weight_if_any(Weight::LN_FINAL_B.global())? {
        value = value.f_add(&bias)?;
    }
    Ok(value)
}

/// The greatest absolute difference of two tensors of one shape, where `real` (broadcast) is true.
fn difference(name: String, value: &Tensor, reference: &Tensor, real: Option<&Tensor>) -> Result<Comparison> {
    let shape = reference.size();
    if value.size() != shape {
        let why = format!("the model's has shape {:?} and the reference {shape:?}", value.size());
        return Err(Error::Invalid { what: format!("`{name}`"), why });
    }
    let double = |tensor: &Tensor| tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double);
    let (value, reference) = (double(value)?, double(reference)?);
    let apart = value.f_sub(&reference)?.f_abs()?.f_nan_to_num(f64::INFINITY, f64::INFINITY, f64::INFINITY)?;
    let mut differences = apart.f_where_self(&value.f_ne_tensor(&reference)?, &apart.f_zeros_like()?)?;
    let mut compared = differences.numel();
    if let Some(real) = real {
        let real = real.f_expand_as(&differences)?;
        compared = real.f_sum(Kind::Int64)?.f_int64_value(&[])? as usize;
        differences = differences.f_where_self(&real, &differences.f_zeros_like()?)?;
    }
    let place = differences.f_argmax(None, false)?.f_int64_value(&[])?;
    let greatest = differences.f_max()?.f_double_value(&[])?;
    Ok(Comparison { name, greatest, at: index(place, &shape), shape, compared })
}

/// The index of the entry at `place` of a tensor of that shape, row by row.
fn index(mut place: i64, shape: &[i64]) -> Vec<i64> {
    let mut at: Vec<i64> = Vec::with_capacity(shape.len());
    for len in shape.iter().rev() {
        at.push(place % len);
        place /= len;
    }
    at.reverse();
    at
}

/// Greedy continuation without cached keys: the difference is how many ids are not those of the reference.
fn greedy_difference(model: &dyn Model, name: String, reference: &Tensor) -> Result<Comparison> {
    const GIVEN: i64 = 10;
    let len = reference.size()[1];
    let mut ids = reference.f_narrow(1, 0, GIVEN.min(len))?;
    while ids.size()[1] < len {
        let tokens = Tokens::from_tensor(&ids)?;
        let run = model.trace(&tokens).logits(PosSlice::Last).run()?;
        let next = run.logits()?.f_select(1, -1)?.f_argmax(-1, true)?.f_to_device(Device::Cpu)?;
        ids = Tensor::f_cat(&[ids, next], 1)?;
    }
    let wrong = ids.f_ne_tensor(reference)?;
    let place = wrong.f_to_kind(Kind::Int)?.f_argmax(None, false)?.f_int64_value(&[])?;
    let shape = reference.size();
    Ok(Comparison {
        name,
        greatest: wrong.f_sum(Kind::Double)?.f_double_value(&[])?,
        at: index(place, &shape),
        shape,
        compared: ids.numel(),
    })
}

fn get(tensors: &Tensors, name: &str) -> Result<Tensor> {
    tensors.get(name).map_err(|error| Error::Other(Box::new(error)))
}
