//! What a component does to a logit by itself, and what becomes of it when the layers after it answer.

use arrakis_core::{
    Answer, Axis, Context, Grid, Model, Prompt, Residual, Result, RowTokens, Site, Tool, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ablated::Ablated;
use crate::{answer_and_wrong, gap};

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
        let tokens = answer_and_wrong::title(&self.answer, self.wrong.as_ref(), cx.model())?;
        let grids = |effects: &[(f64, f64)], columns: &Axis| -> Result<[Grid; 3]> {
            let grid = |title: &str, of: fn(&(f64, f64)) -> f64| -> Result<Grid> {
                let values = effects.iter().map(of).collect();
                let title = format!("{title} on {tokens}");
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

    fn measured(&self, model: &dyn Model) -> Result<Option<String>> {
        answer_and_wrong::measured(&self.answer, self.wrong.as_ref(), model).map(Some)
    }
}

register_tools!(AblationEffects);
