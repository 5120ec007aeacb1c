//! Which states, restored one by one under noise, bring an answer back.

use arrakis_core::{
    Answer, Axis, Case, Context, Error, Grid, HookPoint, ModelExt, PosSlice, Prompt, Result, Site, Sweep, TokenChoice,
    Tool, edit, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::noise::{Noised, Subject};
use crate::index;

/// Drowns the subject of a prompt in noise, restores single states, and measures how much of the answer comes back.
///
/// The token embeddings of the subject get Gaussian noise of `noise` times the embeddings' standard deviation, drawn
/// `samples` times. Then the residual stream after each block, at each position, is set back to what it is without noise;
/// likewise what attention, and what the MLP, writes in a window of layers around each layer. The numbers are the
/// answer's probability, as a mean over the samples. Identity: with the whole stream set back after the first block the
/// answer is as likely as without noise; `restored_gap` is the absolute difference.
/// Source: Meng et al., "Locating and editing factual associations in GPT" (2022), section 2.
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # use arrakis_tools::{CausalTrace, Subject};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let asked = CausalTrace::new(Prompt::Ids(vec![9, 3, 17, 40]), Subject::Positions(vec![1]));
/// let found = asked.run(&Context::new(&model))?.rows.remove(0);
/// assert!(found.restored_gap < 1e-4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CausalTrace {
    /// The prompt, whose next token is the answer.
    pub prompt: Prompt,
    /// What noise is put on, in every row.
    pub subject: Subject,
    /// The answer; each row's likeliest next token if absent.
    #[serde(default)]
    pub answer: Option<TokenChoice>,
    /// The noise, in standard deviations of the token embeddings.
    #[serde(default = "three")]
    pub noise: f64,
    /// How many draws of noise.
    #[serde(default = "ten")]
    pub samples: usize,
    /// How many layers of attention, or MLPs, are restored together; a third of the layers, and ten at most, if absent.
    #[serde(default)]
    pub window: Option<usize>,
}

const fn three() -> f64 {
    3.0
}

const fn ten() -> usize {
    10
}

impl CausalTrace {
    /// The usual trace: three standard deviations, ten draws.
    pub fn new(prompt: impl Into<Prompt>, subject: Subject) -> Self {
        Self { prompt: prompt.into(), subject, answer: None, noise: three(), samples: ten(), window: None }
    }
}

/// What restored states bring back, row by row.
#[derive(Debug, Clone)]
pub struct Traces {
    /// One entry for each row.
    pub rows: Vec<RowTrace>,
}

/// What restored states bring back of one prompt's answer.
#[derive(Debug, Clone)]
pub struct RowTrace {
    /// The answer.
    pub answer: String,
    /// Its probability without noise.
    pub clean: f64,
    /// Its mean probability under noise, nothing restored.
    pub corrupted: f64,
    /// The standard deviation of the noise.
    pub deviation: f64,
    /// Its mean probability with the stream restored after a block: `[layer, position]`.
    pub resid: Grid,
    /// The same with attention restored in a window of layers: `[layer, position]`.
    pub attention: Grid,
    /// The same with MLPs restored in a window of layers: `[layer, position]`.
    pub mlp: Grid,
    /// Absolute difference of the probability from the clean one, with the whole stream restored after the first block.
    pub restored_gap: f64,
}

impl From<Traces> for Answer {
    fn from(traces: Traces) -> Self {
        let count = traces.rows.len();
        let mut answer = Self::new();
        for (place, row) in traces.rows.into_iter().enumerate() {
            let name = |name: &str| index::row_part(place, count, name);
            answer = answer
                .with(name("answer"), row.answer)
                .with(name("clean"), row.clean)
                .with(name("corrupted"), row.corrupted)
                .with(name("resid"), row.resid)
                .with(name("mlp"), row.mlp)
                .with(name("attention"), row.attention)
                .with(name("noise_deviation"), row.deviation)
                .with(name("restored_gap"), row.restored_gap);
        }
        answer
    }
}

impl Tool for CausalTrace {
    const NAME: &'static str = "causal_tracing.trace";
    type Output = Traces;

    fn run(&self, cx: &Context<'_>) -> Result<Traces> {
        let tokens = self.prompt.tokens(cx.model())?;
        let n_layers = cx.model().dims().n_layers;
        let window = self.window.unwrap_or((n_layers / 3).clamp(1, 10));
        if window == 0 || window > n_layers {
            let why = format!("give a number in 1..={n_layers}");
            return Err(Error::Invalid { what: format!("window {window}"), why });
        }
        let row = |row: usize| self.row(cx, (&tokens.row(row)?, row), window);
        Ok(Traces { rows: (0..tokens.batch()).map(row).collect::<Result<_>>()? })
    }
}

impl CausalTrace {
    fn row(&self, cx: &Context<'_>, ids: (&[i64], usize), window: usize) -> Result<RowTrace> {
        let model = cx.model();
        let n_layers = model.dims().n_layers;
        let noised = Noised::of(cx, ids, &self.subject, self.answer.as_ref(), (self.noise, self.samples))?;
        let sites = [Site::RESID_POST, Site::ATTN_OUT, Site::MLP_OUT];
        let trace = model.trace(&noised.row).logits(PosSlice::None);
        let clean = sites.iter().fold(trace, |trace, site| trace.keep(*site)).run()?.cache;
        let source = |point: HookPoint| -> Result<Tensor> {
            Ok(clean.get(point)?.f_expand([self.samples as i64, -1, -1], false)?)
        };
        // Before the subject nothing differs, so that nothing is to be restored.
        let (first, len) = (noised.subject[0], noised.row.positions() as i64);
        let mut cases = vec![Case::new().edit(Site::RESID_POST.at(0), edit::patch(&source(Site::RESID_POST.at(0))?))];
        // Nothing restored: a factor of 1 on the last value.
        let last = Site::RESID_POST.at(n_layers - 1);
        cases.push(Case::new().edit(last, edit::position(-1, edit::identity())));
        for site in sites {
            let around = if site == Site::RESID_POST { 1 } else { window };
            for layer in 0..n_layers {
                let from = layer.saturating_sub(around / 2).min(n_layers - around);
                for position in first..len {
                    let restored = (from..from + around).try_fold(Case::new(), |case, layer| -> Result<Case<'_>> {
                        let point = site.at(layer);
                        Ok(case.edit(point, edit::position(position, edit::patch(&source(point)?))))
                    });
                    cases.push(restored?);
                }
            }
        }
        let mut found = vec![f64::NAN; cases.len()];
        let sweep = Sweep::new(cx, &noised.tokens).under(Site::EMBED.global(), noised.edit());
        sweep.cases(cases).logits(PosSlice::Last).run(|case, run| {
            found[case] = noised.probability(run.logits()?)?;
            Ok(())
        })?;
        let (restored, corrupted) = (found[0], found[1]);
        let positions = Axis::new("position", labels(cx, &noised)?);
        let layers = Axis::indices("layer", n_layers);
        let width = (len - first) as usize;
        let mut grids = found[2..].chunks(n_layers * width).map(|values| {
            let by_layer = values.chunks(width);
            by_layer.flat_map(|row| vec![corrupted; first as usize].into_iter().chain(row.to_vec())).collect()
        });
        let mut grid = |what: &str| {
            let values: Vec<f64> = grids.next().unwrap_or_default();
            Grid::new(
                format!("restoring {what}"),
                "probability of the answer",
                layers.clone(),
                positions.clone(),
                values,
            )
        };
        let around =
            |what: &str| if window == 1 { what.to_owned() } else { format!("{what} in {window} layers around") };
        let (resid, attention, mlp) =
            (grid("the stream after a block")?, grid(&around("attention"))?, grid(&around("MLPs"))?);
        Ok(RowTrace {
            answer: model.token(noised.answer),
            clean: noised.clean,
            corrupted,
            deviation: noised.deviation,
            resid,
            attention,
            mlp,
            restored_gap: (restored - noised.clean).abs(),
        })
    }
}

/// The tokens, the subject's with an asterisk, as in the paper.
fn labels(cx: &Context<'_>, noised: &Noised) -> Result<Vec<String>> {
    let labels = noised.row.labels(cx.model(), 0)?.into_iter().enumerate();
    let label = |(place, label): (usize, String)| {
        if noised.subject.contains(&(place as i64)) { format!("{label}*") } else { label }
    };
    Ok(labels.map(label).collect())
}

register_tools!(CausalTrace);
