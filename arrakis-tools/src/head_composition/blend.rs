//! The question what a blend of heads would do in the place of one head or of all.

use std::cell::RefCell;

use arrakis_core::{
    Answer, Cache, Context, Error, Metric, Model, ModelExt, PosSlice, Prompt, Ranking, Result, Run, Site, Tokens, Tool,
    Weight, answer, edit, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::{HeadPlace, gap, index};

/// Blends the heads of a layer into one by weights, and puts what it writes in the place of one head or of all.
///
/// A blend of `writes` writes `Σ w z W_O`, a weighted sum of what the heads write. A blend of `circuits` is a head of
/// its own: it attends with the weighted sum of the patterns, `A = Σ w A_h`, and moves with that of the OV circuits,
/// `A x Σ w W_V W_O` (with the value biases). Heads are a sum of independent circuits, which is what lets one be
/// exchanged for another. The output bias stays, later layers run anew, and the effect is measured at each row's last
/// token, as means over the rows.
/// Identity: a blend with weight 1 on a single head is that head; `single_gap` is the greatest absolute difference of
/// the two writes, for the replaced head, or for the one with the greatest weight where all are replaced.
/// Source: Elhage et al., "A mathematical framework for transformer circuits" (2021), on the independence of heads and
/// their QK and OV circuits.
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # use arrakis_tools::BlendedHead;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let mut asked = BlendedHead::new(Prompt::Ids(vec![9, 3, 17]), 1, vec![0.5, 0.5, 0.0, 0.0]);
/// asked.replace = Some(1);
/// assert!(asked.run(&Context::new(&model))?.divergence >= 0.0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlendedHead {
    /// What to read.
    pub prompt: Prompt,
    /// The layer whose heads are blended.
    pub layer: usize,
    /// The weight of each query head of the layer.
    pub weights: Vec<f64>,
    /// The head in whose place the blend writes; all of them if absent.
    #[serde(default)]
    pub replace: Option<usize>,
    /// What is blended.
    #[serde(default)]
    pub of: BlendOf,
    /// What is measured before and after, beside the change of the prediction.
    #[serde(default)]
    pub metric: Option<Metric>,
    /// How many tokens with the greatest changes are ranked.
    #[serde(default = "ten")]
    pub top: usize,
}

/// What is blended of heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BlendOf {
    /// What they write.
    #[default]
    Writes,
    /// Their patterns, and their OV circuits.
    Circuits,
}

const fn ten() -> usize {
    10
}

impl BlendedHead {
    /// The blend of what the heads of `layer` write, in the place of all of them.
    pub fn new(prompt: impl Into<Prompt>, layer: usize, weights: Vec<f64>) -> Self {
        let prompt = prompt.into();
        Self { prompt, layer, weights, replace: None, of: BlendOf::default(), metric: None, top: ten() }
    }
}

/// What a blended head changes; numbers are means over the rows.
#[derive(Debug, Clone)]
pub struct Blended {
    /// The metric without the blend, if there is one.
    pub before: Option<f64>,
    /// The metric with the blend, if there is one.
    pub after: Option<f64>,
    /// Kullback-Leibler divergence of the prediction with the blend from the one without, in nats.
    pub divergence: f64,
    /// The tokens whose log probability changes most, in nats.
    pub changed: Ranking,
    /// Greatest absolute difference of the blend of a single head from that head's write.
    pub single_gap: f64,
}

impl From<Blended> for Answer {
    fn from(found: Blended) -> Self {
        let numbers = [("before", found.before), ("after", found.after)];
        let answer = numbers.into_iter().fold(Self::new(), |answer, (name, number)| match number {
            Some(number) => answer.with(name, number),
            None => answer,
        });
        answer.with("divergence", found.divergence).with("changed", found.changed).with("single_gap", found.single_gap)
    }
}

impl Tool for BlendedHead {
    const NAME: &'static str = "head_composition.blend";
    type Output = Blended;

    fn run(&self, cx: &Context<'_>) -> Result<Blended> {
        let model = cx.model();
        self.check(model)?;
        let top = index::count("top", self.top, model.dims().vocab)?;
        let tokens = self.prompt.tokens(model)?;
        let measure = self.metric.as_ref().map(|metric| metric.prepare(model, &tokens)).transpose()?;
        let wanted = measure.as_ref().map_or(PosSlice::Last, arrakis_core::Measure::wanted);
        check_memory(cx, &tokens)?;
        cx.progress(0, 2)?;
        let plain = model.trace(&tokens).logits(wanted.clone()).keep(Site::RESID_PRE.at(self.layer)).run()?;
        cx.progress(1, 2)?;
        let (blended, single_gap) = self.blended(model, &tokens, wanted, &plain)?;

        let mean = |run: &Run| -> Result<Option<f64>> {
            let Some(measure) = &measure else { return Ok(None) };
            let values = measure.of(run.logits()?)?;
            Ok(Some(values.f_to_kind(Kind::Double)?.f_mean(Kind::Double)?.f_double_value(&[])?))
        };
        let predicted = |run: &Run| -> Result<Tensor> {
            let logits = run.logits()?;
            let last = if logits.size()[1] == 1 { PosSlice::All } else { PosSlice::Last };
            let last = last.of(logits, 1, tokens.mask())?.f_select(1, 0)?;
            Ok(last.f_to_kind(Kind::Double)?.f_log_softmax(-1, Kind::Double)?)
        };
        let (before, after) = (predicted(&plain)?, predicted(&blended)?);
        let change = after.f_sub(&before)?;
        let by_token = before.f_exp()?.f_mul(&change.f_neg()?)?;
        let divergence = by_token.f_sum_dim_intlist(-1, false, Kind::Double)?.f_mean(Kind::Double)?;
        let change = change.f_mean_dim(0, false, Kind::Double)?;
        let (_, ids) = change.f_abs()?.f_topk(top as i64, -1, true, true)?;
        let values = answer::numbers(&change.f_index_select(0, &ids)?)?;
        let ids: Vec<i64> = Vec::try_from(ids.f_to_device(Device::Cpu)?)?;
        let entries = ids.into_iter().map(|id| model.token(id)).zip(values);
        Ok(Blended {
            before: mean(&plain)?,
            after: mean(&blended)?,
            divergence: divergence.f_double_value(&[])?,
            changed: Ranking::new("tokens that change most", "change of the log probability (nats)", entries),
            single_gap,
        })
    }

    fn measured(&self, model: &dyn Model) -> Result<Option<String>> {
        self.metric.as_ref().map(|metric| metric.described(model)).transpose()
    }
}

impl BlendedHead {
    fn check(&self, model: &dyn Model) -> Result<()> {
        let dims = model.dims();
        HeadPlace::new(self.layer, self.replace.unwrap_or(0)).check(model)?;
        if self.weights.len() != dims.n_heads {
            let why = format!("{} are given, and the layer has {} heads", self.weights.len(), dims.n_heads);
            return Err(Error::Invalid { what: "weights".into(), why });
        }
        match self.weights.iter().position(|weight| !weight.is_finite()) {
            None => Ok(()),
            Some(head) => {
                let why = format!("that of head {head} is {}; give finite numbers", self.weights[head]);
                Err(Error::Invalid { what: "weights".into(), why })
            }
        }
    }

    /// The run in which the blend writes, from the layer on, and the gap of a single head's blend.
    fn blended(&self, model: &dyn Model, tokens: &Tokens, wanted: PosSlice, plain: &Run) -> Result<(Run, f64)> {
        let sites: &[Site] = match self.of {
            BlendOf::Writes => &[Site::Z],
            BlendOf::Circuits => &[Site::V, Site::PATTERN],
        };
        let (seen, single_gap) = (RefCell::new(Cache::new()), RefCell::new(0.0));
        let out = model.weight(Weight::O.at(self.layer))?;
        let single = self.replace.unwrap_or_else(|| {
            let size = |head: &usize| self.weights[*head].abs();
            (0..self.weights.len()).max_by(|a, b| size(a).total_cmp(&size(b))).unwrap_or(0)
        });
        let one: Vec<f64> = (0..self.weights.len()).map(|head| f64::from(u8::from(head == single))).collect();
        let residual = plain.cache.get(Site::RESID_PRE.at(self.layer))?;
        let mut trace = model.trace(tokens).start_at(self.layer, residual).logits(wanted);
        for site in sites {
            let look = edit::at_point(|point, value| {
                seen.borrow_mut().insert(point, value.shallow_clone());
                Ok(value.shallow_clone())
            });
            trace = trace.edit(site.at(self.layer), look);
        }
        let run = trace
            .edit(
                Site::RESULT.at(self.layer),
                edit::with(|result| {
                    let seen = seen.borrow();
                    let write = self.write(&seen, &out, &self.weights)?;
                    let alone = self.write(&seen, &out, &one)?;
                    single_gap.replace(gap::gap(&alone, &result.f_select(2, single as i64)?)?);
                    let slot = self.replace.unwrap_or(0) as i64;
                    let rest = if self.replace.is_some() { result.shallow_clone() } else { result.f_zeros_like()? };
                    Ok(rest.f_slice_scatter(&write.f_unsqueeze(2)?, 2, slot, slot + 1, 1)?)
                }),
            )
            .run()?;
        Ok((run, single_gap.into_inner()))
    }

    /// What the blend with these weights writes: `[batch, pos, d_model]`.
    fn write(&self, seen: &Cache, out: &Tensor, weights: &[f64]) -> Result<Tensor> {
        let weights = Tensor::f_from_slice(weights)?.f_to_kind(out.kind())?.f_to_device(out.device())?;
        let out = out.f_mul(&weights.f_view([-1, 1, 1])?)?;
        match self.of {
            BlendOf::Writes => {
                let z = seen.get(Site::Z.at(self.layer))?;
                Ok(Tensor::f_einsum("bphd,hdm->bpm", &[z, &out], None::<&[i64]>)?)
            }
            BlendOf::Circuits => {
                let (values, pattern) = (seen.get(Site::V.at(self.layer))?, seen.get(Site::PATTERN.at(self.layer))?);
                let pattern = pattern.f_to_kind(values.kind())?.f_mul(&weights.f_view([-1, 1, 1])?)?;
                let pattern = pattern.f_sum_dim_intlist(1, false, None::<Kind>)?;
                // Query heads that share values may share what they write, too.
                let (_, keys, kv_heads, d_head) = values.size4()?;
                let shared =
                    out.f_view([kv_heads, -1, d_head, out.size()[2]])?.f_sum_dim_intlist(1, false, None::<Kind>)?;
                let moved = pattern.f_matmul(&values.f_reshape([-1, keys, kv_heads * d_head])?)?;
                Ok(moved.f_matmul(&shared.f_reshape([kv_heads * d_head, -1])?)?)
            }
        }
    }
}

/// An error if what the heads of a layer write, before and after, is more than may be held.
fn check_memory(cx: &Context<'_>, tokens: &Tokens) -> Result<()> {
    let dims = cx.model().dims();
    let numbers = 2 * tokens.batch() * tokens.positions() * dims.n_heads * dims.d_model;
    let bytes = (numbers * cx.model().kind().elt_size_in_bytes()) as u64;
    match cx.memory_limit() {
        Some(limit) if bytes > limit => Err(Error::TooMuchMemory { bytes, limit }),
        _ => Ok(()),
    }
}

register_tools!(BlendedHead);
