//! What a component does to a logit by itself, and what becomes of it when the layers after it answer.

use arrakis_core::{
    Answer, Axis, Cache, Context, Grid, HookPoint, ModelExt, Prompt, Residual, Result, RowTokens, Site, Tokens, Tool,
    Weight, answer, edit, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::gap;
use crate::logit_attribution::rows::{ReadRows, difference};

/// Compares the direct effect of every component on a logit difference with its total effect, when it is ablated.
///
/// The total effect is the logit difference of the model less that of the model with the component's output replaced at
/// every position, and all that follows computed anew. The direct effect replaces it in the final stream alone: nothing
/// between answers, and the final norm takes its own scale. What remains, total less direct, went through later layers:
/// negative where they make up for the loss. All in logits, means over the rows. Identity: nothing comes after the last
/// MLP (in a parallel block, nor after the last attention), so nothing of theirs remains; `last_gap` is the greatest
/// absolute value.
/// Source: McGrath et al., "The Hydra effect: emergent self-repair in language model computations" (2023).
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # use arrakis_tools::AblationEffects;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let found = AblationEffects::new(Prompt::Ids(vec![9, 3, 17]), 4, 8).run(&Context::new(&model))?;
/// assert_eq!(found.total.columns.labels, ["attention", "MLP"]);
/// assert!(found.last_gap < 1e-4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AblationEffects {
    /// What to read.
    pub prompt: Prompt,
    /// The token whose logit is measured, one for all rows or one for each.
    pub answer: RowTokens,
    /// The token it is compared with; if absent, the logit of `answer` alone is measured.
    #[serde(default)]
    pub wrong: Option<RowTokens>,
    /// Position of the logits; each row's last one if absent.
    #[serde(default)]
    pub position: Option<i64>,
    /// What stands in the place of an ablated output.
    #[serde(default)]
    pub ablation: LensAblation,
    /// Whether single heads are ablated too.
    #[serde(default)]
    pub heads: bool,
}

/// What stands in the place of an ablated output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LensAblation {
    /// Zeros.
    #[default]
    Zero,
    /// Its mean over the rows and their real positions.
    Mean,
}

impl AblationEffects {
    /// The effects of zeros in the place of each layer's attention and MLP.
    pub fn new(prompt: impl Into<Prompt>, answer: impl Into<RowTokens>, wrong: impl Into<RowTokens>) -> Self {
        let (prompt, answer, wrong) = (prompt.into(), answer.into(), Some(wrong.into()));
        Self { prompt, answer, wrong, position: None, ablation: LensAblation::default(), heads: false }
    }
}

/// Direct and total effects, means over the rows.
#[derive(Debug, Clone)]
pub struct Effects {
    /// The model's logit difference.
    pub logit_difference: f64,
    /// Total effects: `[layer, attention or MLP]`.
    pub total: Grid,
    /// Direct effects: `[layer, attention or MLP]`.
    pub direct: Grid,
    /// Total less direct: `[layer, attention or MLP]`.
    pub remaining: Grid,
    /// Total, direct and remaining effects of the heads, if they were asked for: `[layer, head]`.
    pub heads: Option<[Grid; 3]>,
    /// Greatest absolute remaining effect of what nothing comes after.
    pub last_gap: f64,
}

impl From<Effects> for Answer {
    fn from(found: Effects) -> Self {
        let mut answer = Self::new()
            .with("logit_difference", found.logit_difference)
            .with("total", found.total)
            .with("direct", found.direct)
            .with("remaining", found.remaining);
        if let Some([total, direct, remaining]) = found.heads {
            answer = answer.with("head_total", total).with("head_direct", direct).with("head_remaining", remaining);
        }
        answer.with("last_gap", found.last_gap)
    }
}

impl Tool for AblationEffects {
    const NAME: &'static str = "logit_lens.effects";
    type Output = Effects;

    fn run(&self, cx: &Context<'_>) -> Result<Effects> {
        let runs = Ablated::of(self, cx)?;
        let dims = cx.model().dims();
        let (mut layers, mut heads) = (Vec::new(), Vec::new());
        for layer in 0..dims.n_layers {
            cx.progress(layer as u64, dims.n_layers as u64)?;
            for site in [Site::ATTN_OUT, Site::MLP_OUT] {
                layers.extend(runs.effects(cx, site, layer, &[None])?);
            }
            if self.heads {
                let all: Vec<Option<usize>> = (0..dims.n_heads).map(Some).collect();
                heads.extend(runs.effects(cx, Site::Z, layer, &all)?);
            }
        }
        let value = if self.wrong.is_some() { "logit difference" } else { "logit" };
        let grids = |effects: &[(f64, f64)], columns: &Axis| -> Result<[Grid; 3]> {
            let grid = |title: &str, of: fn(&(f64, f64)) -> f64| -> Result<Grid> {
                let values = effects.iter().map(of).collect();
                Ok(Grid::new(title, value, Axis::indices("layer", dims.n_layers), columns.clone(), values)?.diverging())
            };
            let total = grid("total effect", |effect| effect.0)?;
            let direct = grid("direct effect", |effect| effect.1)?;
            Ok([total, direct, grid("effect through later layers", |effect| effect.0 - effect.1)?])
        };
        let [total, direct, remaining] = grids(&layers, &Axis::new("component", ["attention", "MLP"]))?;
        let last = &remaining.values[remaining.values.len() - 2..];
        let mlp = last[1].abs();
        let last_gap = if dims.residual == Residual::Parallel { gap::worse(mlp, last[0].abs()) } else { mlp };
        let heads = if self.heads { Some(grids(&heads, &Axis::indices("head", dims.n_heads))?) } else { None };
        Ok(Effects { logit_difference: runs.difference, total, direct, remaining, heads, last_gap })
    }
}

/// The bytes of activations of a pass where no bound is given.
const CPU_BYTES: u64 = 256 << 20;
const GPU_BYTES: u64 = 2 << 30;

/// The run as it is, and the means to do it again with something ablated.
struct Ablated {
    tokens: Tokens,
    read: ReadRows,
    answer: Tensor,
    wrong: Option<Tensor>,
    ablation: LensAblation,
    kept: Cache,
    /// Which positions are real: `[batch, pos]`, in double.
    real: Tensor,
    /// The final stream at the read positions: `[batch, d_model]`, in the model's kind.
    last: Tensor,
    difference: f64,
}

impl Ablated {
    fn of(asked: &AblationEffects, cx: &Context<'_>) -> Result<Self> {
        let model = cx.model();
        let dims = model.dims();
        let tokens = asked.prompt.tokens(model)?;
        let answer = asked.answer.ids(model, tokens.batch())?;
        let wrong = asked.wrong.as_ref().map(|wrong| wrong.ids(model, tokens.batch())).transpose()?;
        let read = ReadRows::of(model, &tokens, asked.position)?;
        let mut trace = model.trace(&tokens).logits(read.wanted());
        trace = trace.keep(Site::RESID_PRE).keep(Site::ATTN_OUT).keep(Site::MLP_OUT);
        trace = trace.keep(Site::RESID_POST.at(dims.n_layers - 1));
        if asked.heads {
            trace = trace.keep(Site::Z);
        }
        let run = trace.run()?;
        let logits = read.logits(run.logits()?)?;
        let value = difference(&logits, &answer, wrong.as_ref())?.f_mean(Kind::Double)?.f_double_value(&[])?;
        let real = match tokens.mask() {
            Some(mask) => mask.f_to_kind(Kind::Double)?.f_to_device(model.device())?,
            None => Tensor::f_ones(tokens.ids().size(), (Kind::Double, model.device()))?,
        };
        let last = read.at(run.cache.get(Site::RESID_POST.at(dims.n_layers - 1))?)?.f_to_kind(model.kind())?;
        let (kept, ablation) = (run.cache, asked.ablation);
        Ok(Self { tokens, read, answer, wrong, ablation, kept, real, last, difference: value })
    }

    /// What stands in the place of the value: one for all rows and positions.
    fn replacement(&self, value: &Tensor) -> Result<Tensor> {
        let rest = value.size()[2..].to_vec();
        match self.ablation {
            LensAblation::Zero => Ok(Tensor::f_zeros(&rest[..], (value.kind(), value.device()))?),
            LensAblation::Mean => {
                let mut shape = self.real.size();
                shape.resize(value.dim(), 1);
                let weighted = value.f_to_kind(Kind::Double)?.f_mul(&self.real.f_view(&shape[..])?)?;
                let sum = weighted.f_sum_dim_intlist(&[0_i64, 1][..], false, Kind::Double)?;
                Ok(sum.f_div(&self.real.f_sum(Kind::Double)?)?.f_to_kind(value.kind())?)
            }
        }
    }

    /// Total and direct effect of the value at a point, or of some of its heads, one at a time.
    fn effects(&self, cx: &Context<'_>, site: Site, layer: usize, heads: &[Option<usize>]) -> Result<Vec<(f64, f64)>> {
        let model = cx.model();
        let point = site.at(layer);
        let value = self.kept.get(point)?;
        let replacement = self.replacement(value)?;
        let limit = cx.memory_limit().unwrap_or(if model.device() == Device::Cpu { CPU_BYTES } else { GPU_BYTES });
        let pack = (limit / self.bytes(cx)).max(1) as usize;
        let mut found = Vec::with_capacity(heads.len());
        for heads in heads.chunks(pack) {
            cx.cancelled()?;
            let totals = self.ablated(cx, point, layer, &replacement, heads)?;
            for (head, total) in heads.iter().zip(totals) {
                let lost = self.read.at(&value.f_sub(&replacement)?)?;
                let lost = match head {
                    None => lost,
                    Some(head) => {
                        let out = model.weight(Weight::O.at(layer))?.f_select(0, *head as i64)?;
                        lost.f_select(1, *head as i64)?.f_matmul(&out.f_to_kind(Kind::Double)?)?
                    }
                };
                let stream = self.last.f_to_kind(Kind::Double)?.f_sub(&lost)?.f_to_kind(model.kind())?;
                let direct = self.measured(&model.unembed(&stream)?.f_to_kind(Kind::Double)?)?;
                found.push((self.difference - total, self.difference - direct));
            }
        }
        Ok(found)
    }

    /// The logit difference with the value replaced and everything after it computed anew: one for each head.
    fn ablated(
        &self,
        cx: &Context<'_>,
        point: HookPoint,
        layer: usize,
        replacement: &Tensor,
        heads: &[Option<usize>],
    ) -> Result<Vec<f64>> {
        let (copies, rows) = (heads.len() as i64, self.tokens.batch() as i64);
        let mut tokens = Tokens::from_tensor(&self.tokens.ids().f_repeat([copies, 1])?)?;
        if let Some(mask) = self.tokens.mask() {
            tokens = tokens.with_mask(&mask.f_repeat([copies, 1])?)?;
        }
        let stream = self.kept.get(Site::RESID_PRE.at(layer))?.f_repeat([copies, 1, 1])?;
        let ablate = edit::with(|value| {
            let parts = heads.iter().enumerate().map(|(copy, head)| {
                let own = value.f_narrow(0, copy as i64 * rows, rows)?;
                let Some(head) = head else { return Ok(replacement.f_expand_as(&own)?) };
                let head = *head as i64;
                let set = replacement.f_narrow(0, head, 1)?.f_expand_as(&own.f_narrow(2, head, 1)?)?;
                Ok(own.f_slice_scatter(&set, 2, head, head + 1, 1)?)
            });
            Ok(Tensor::f_cat(&parts.collect::<Result<Vec<_>>>()?, 0)?)
        });
        let trace = cx.model().trace(&tokens).start_at(layer, &stream).edit(point, ablate);
        let run = trace.logits(self.read.wanted()).run()?;
        let logits = run.logits()?;
        (0..copies).map(|copy| self.measured(&self.read.logits(&logits.f_narrow(0, copy * rows, rows)?)?)).collect()
    }

    /// The mean logit difference of logits (`[batch, vocab]`).
    fn measured(&self, logits: &Tensor) -> Result<f64> {
        let values = answer::numbers(&difference(logits, &self.answer, self.wrong.as_ref())?)?;
        Ok(values.iter().sum::<f64>() / values.len() as f64)
    }

    /// About how many bytes one copy of the rows holds at once in a pass.
    fn bytes(&self, cx: &Context<'_>) -> u64 {
        let (dims, pos) = (cx.model().dims(), self.tokens.positions());
        let stream = pos * (8 * dims.d_model + 4 * dims.d_mlp + 4 * dims.n_heads * dims.d_head);
        let numbers = stream + 2 * dims.n_heads * pos * pos + 3 * dims.vocab;
        (self.tokens.batch() * numbers * cx.model().kind().elt_size_in_bytes()).max(1) as u64
    }
}

register_tools!(AblationEffects);
