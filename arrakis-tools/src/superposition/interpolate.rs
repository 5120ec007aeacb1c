//! What the model says between the activations of two prompts.

use arrakis_core::{
    Answer, Axis, Context, Error, Grid, HookPoint, ModelExt, PosSlice, Prompt, Result, Series, Site, TokenChoice,
    Tokens, Tool, answer, edit, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::token_effects::Chosen;
use crate::{gap, index, token_vectors};

/// Moves the activations of one prompt towards those of another at a hook point, and reads what the model says on the way.
///
/// At step `α` the vectors at the chosen position are `(1 - α) a + α b`, `a` from the run of `from` and `b` from that of
/// `to`; the rest of the run is that of `from`. Prompts of several rows are paired and answered row by row. Divergences
/// are Kullback-Leibler, in nats, of the step's prediction from that of either prompt: `Σ p log(p / q)`, `p` the step's.
/// Identities: at `α = 0` the logits are those of `from` (`start_gap`), and where all positions of a residual stream
/// are moved, at `α = 1` those of `to` (`end_gap`).
/// Source: Bowman et al., "Generating sentences from a continuous space" (2016), for interpolation between texts;
/// Heimersheim & Mendel, "Activation plateaus & sensitive directions in GPT2" (2024), for it at an
/// activation of a language model.
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # use arrakis_tools::Interpolate;
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default()).unwrap();
/// let (from, to) = (Prompt::Ids(vec![9, 3, 17]), Prompt::Ids(vec![9, 5, 17]));
/// let found = Interpolate::new(from, to, "blocks.0.hook_resid_post").run(&Context::new(&model)).unwrap();
/// assert!(found.rows[0].end_gap.is_some_and(|gap| gap < 1e-4));
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interpolate {
    /// What is run.
    pub from: Prompt,
    /// What its activations are moved towards.
    pub to: Prompt,
    /// The hook point, by its printed name: `blocks.3.hook_resid_post`.
    pub point: String,
    /// Position that is moved, counted in each prompt; all of them if absent, and then both must be equally long.
    #[serde(default)]
    pub position: Option<i64>,
    /// Steps from one prompt to the other, both ends counted.
    #[serde(default = "eleven")]
    pub steps: usize,
    /// How many of the likeliest tokens are shown at each step.
    #[serde(default = "five")]
    pub top: usize,
    /// Tokens whose probability is followed.
    #[serde(default)]
    pub targets: Vec<TokenChoice>,
}

const fn eleven() -> usize {
    11
}

const fn five() -> usize {
    5
}

impl Interpolate {
    /// Eleven steps from one prompt to the other at every position.
    pub fn new(from: impl Into<Prompt>, to: impl Into<Prompt>, point: impl Into<String>) -> Self {
        Self {
            from: from.into(),
            to: to.into(),
            point: point.into(),
            position: None,
            steps: eleven(),
            top: five(),
            targets: Vec::new(),
        }
    }
}

/// What the model says between prompts, row by row.
#[derive(Debug, Clone)]
pub struct Interpolated {
    /// One answer for each pair of rows.
    pub rows: Vec<RowInterpolated>,
}

/// What the model says between two texts.
#[derive(Debug, Clone)]
pub struct RowInterpolated {
    /// The likeliest next tokens and their probabilities: `[step, rank]`.
    pub tokens: Grid,
    /// Divergence of the prediction from that of either prompt, in nats.
    pub divergence: Series,
    /// Probability of each target.
    pub targets: Option<Series>,
    /// Greatest absolute difference between the first step's logits and those of `from`.
    pub start_gap: f64,
    /// Greatest absolute difference between the last step's logits and those of `to`, where everything is moved.
    pub end_gap: Option<f64>,
}

impl From<Interpolated> for Answer {
    fn from(found: Interpolated) -> Self {
        let count = found.rows.len();
        found.rows.into_iter().enumerate().fold(Self::new(), |answer, (row, found)| {
            let name = |name: &str| index::row_part(row, count, name);
            let mut answer = answer.with(name("tokens"), found.tokens).with(name("divergence"), found.divergence);
            if let Some(targets) = found.targets {
                answer = answer.with(name("targets"), targets);
            }
            answer = answer.with(name("start_gap"), found.start_gap);
            match found.end_gap {
                Some(gap) => answer.with(name("end_gap"), gap),
                None => answer,
            }
        })
    }
}

impl Tool for Interpolate {
    const NAME: &'static str = "superposition.interpolate";
    type Output = Interpolated;

    fn run(&self, cx: &Context<'_>) -> Result<Interpolated> {
        let model = cx.model();
        let point = token_vectors::point(model, &self.point)?;
        index::count("top", self.top, model.dims().vocab)?;
        if self.steps < 2 {
            let why = "both ends are counted; give two at least".into();
            return Err(Error::Invalid { what: format!("steps {}", self.steps), why });
        }
        let targets: Vec<i64> = self.targets.iter().map(|token| token.id(model)).collect::<Result<_>>()?;
        let (from, to) = (self.from.tokens(model)?, self.to.tokens(model)?);
        if from.batch() != to.batch() {
            let why = format!("{} and {} rows; rows are paired", from.batch(), to.batch());
            return Err(Error::Invalid { what: "`from` and `to`".into(), why });
        }
        let rows = (0..from.batch()).map(|row| {
            cx.progress(row as u64, from.batch() as u64)?;
            self.row(cx, point, &[from.row(row)?, to.row(row)?], &targets, row)
        });
        Ok(Interpolated { rows: rows.collect::<Result<_>>()? })
    }
}

impl Interpolate {
    fn row(
        &self,
        cx: &Context<'_>,
        point: HookPoint,
        ids: &[Vec<i64>; 2],
        targets: &[i64],
        row: usize,
    ) -> Result<RowInterpolated> {
        let model = cx.model();
        let places = match self.position {
            Some(position) => [index::position(position, ids[0].len())?, index::position(position, ids[1].len())?],
            None if ids[0].len() == ids[1].len() => [0, 0],
            None => {
                let why = format!(
                    "{} and {} tokens in row {row}; give a `position`, or prompts of one length",
                    ids[0].len(),
                    ids[1].len()
                );
                return Err(Error::Invalid { what: "`from` and `to`".into(), why });
            }
        };
        let len = if self.position.is_some() { 1 } else { ids[0].len() as i64 };
        // What lies before the point's layer is the same at every step.
        let start = point.layer.map(|layer| Site::RESID_PRE.at(layer));
        let [tokens, other] = [Tokens::from_ids(&ids[0])?, Tokens::from_ids(&ids[1])?];
        let mut trace = model.trace(&tokens).keep(point).logits(PosSlice::Last);
        if let Some(start) = start {
            trace = trace.keep(start);
        }
        let first = trace.run()?;
        let second = model.trace(&other).keep(point).logits(PosSlice::Last).run()?;
        let end = |run: &arrakis_core::Run, place: i64| -> Result<Tensor> {
            Ok(run.cache.get(point)?.f_narrow(1, place, len)?.f_to_kind(Kind::Double)?)
        };
        let (a, b) = (end(&first, places[0])?, end(&second, places[1])?);

        let steps: Vec<f64> = (0..self.steps).map(|step| step as f64 / (self.steps - 1) as f64).collect();
        let chunk = self.steps_at_once(cx, ids[0].len());
        let mut logits = Vec::new();
        for steps in steps.chunks(chunk) {
            cx.cancelled()?;
            let count = steps.len() as i64;
            let mut shape = vec![1; a.dim()];
            shape[0] = count;
            let alpha = Tensor::f_from_slice(steps)?.f_to_device(a.device())?.f_view(&shape[..])?;
            // Written so that both ends are exact.
            let mixed = a.f_mul(&alpha.f_neg()?.f_add_scalar(1.0)?)?.f_add(&b.f_mul(&alpha)?)?;
            let change = |value: &Tensor| {
                Ok(value.f_slice_scatter(&mixed.f_to_kind(value.kind())?, 1, places[0], places[0] + len, 1)?)
            };
            let many = Tokens::from_rows(&vec![ids[0].clone(); steps.len()])?;
            let trace = model.trace(&many).logits(PosSlice::Last).edit(point, edit::with(change));
            let run = match start {
                Some(start) => {
                    let kept = first.cache.get(start)?;
                    let residual = kept.f_expand([count, kept.size()[1], kept.size()[2]], false)?.f_contiguous()?;
                    trace.start_at(start.layer.unwrap_or(0), &residual).run()?
                }
                None => trace.run()?,
            };
            logits.push(run.logits()?.f_select(1, 0)?.f_to_kind(Kind::Double)?);
        }
        let logits = Tensor::f_cat(&logits, 0)?;
        let ends = [first.logits()?.f_select(1, 0)?, second.logits()?.f_select(1, 0)?];
        let moved_all = self.position.is_none() && [Site::RESID_PRE, Site::RESID_POST].contains(&point.site);
        let end_gap =
            if moved_all { Some(gap::gap(&logits.f_narrow(0, self.steps as i64 - 1, 1)?, &ends[1])?) } else { None };
        self.shown(model, &steps, &logits, &ends, targets, end_gap)
    }

    /// How many steps are run at once.
    fn steps_at_once(&self, cx: &Context<'_>, len: usize) -> usize {
        let dims = cx.model().dims();
        // The widest things that a row holds: its neurons, and its logits three times over.
        let bytes = 8 * (len * (dims.d_mlp + 4 * dims.d_model) + 3 * dims.vocab) as u64;
        cx.memory_limit().map_or(self.steps, |limit| ((limit / bytes) as usize).clamp(1, self.steps))
    }

    fn shown(
        &self,
        model: &dyn arrakis_core::Model,
        steps: &[f64],
        logits: &Tensor,
        ends: &[Tensor; 2],
        targets: &[i64],
        end_gap: Option<f64>,
    ) -> Result<RowInterpolated> {
        let axis = Axis::new("step", steps.iter().map(|step| format!("{step:.3}")));
        let logarithms = logits.f_log_softmax(-1, Kind::Double)?;
        let probabilities = logarithms.f_exp()?;
        let divergence = |from: &Tensor| -> Result<Vec<f64>> {
            let from = from.f_to_kind(Kind::Double)?.f_log_softmax(-1, Kind::Double)?;
            let each = probabilities.f_mul(&logarithms.f_sub(&from)?)?;
            answer::numbers(&each.f_sum_dim_intlist(-1, false, Kind::Double)?)
        };
        let lines = [("from the first", divergence(&ends[0])?), ("from the second", divergence(&ends[1])?)];
        let followed =
            targets.iter().map(|id| Ok((model.token(*id), answer::numbers(&probabilities.f_select(1, *id)?)?)));
        let followed = followed.collect::<Result<Vec<_>>>()?;
        let targets = if followed.is_empty() {
            None
        } else {
            Some(Series::new("targets on the way", "probability", axis.clone(), followed)?)
        };
        Ok(RowInterpolated {
            tokens: Chosen::of(&probabilities, self.top, true)?.grid(
                model,
                "likeliest tokens on the way",
                "probability",
                axis.clone(),
            )?,
            divergence: Series::new("divergence on the way", "divergence (nats)", axis, lines)?,
            targets,
            start_gap: gap::gap(&logits.f_narrow(0, 0, 1)?, &ends[0])?,
            end_gap,
        })
    }
}

register_tools!(Interpolate);
