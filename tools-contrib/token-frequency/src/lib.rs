//! The direction of token frequency in the residual stream: how much a model leans on what is frequent.

use arrakis_core::{
    Answer, Axis, Context, Corpus, Error, ModelExt, PosSlice, Ranking, Result, Series, Site, Stack, Tool, Weight,
    Window, answer, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Finds the direction that raises frequent tokens, and how far the residual stream goes along it.
///
/// Tokens of a corpus are counted. The direction is the one of the stream whose logits are nearest to the centred
/// logarithm of the counts, by least squares; `fit` is the share of their variance that it explains. `along` is the mean
/// of the stream along it after each block, in units of the direction's own length, over the corpus.
/// Identity: what least squares leaves over is at right angles to every logit direction, and `normal_gap` is the cosine
/// that remains at most.
/// Source: Stolfo et al., "Confidence regulation neurons in language models" (2024).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenFrequency {
    /// The texts that are counted, and read.
    pub corpus: Corpus,
    /// What is added to every count, so that unseen tokens have one.
    #[serde(default = "one")]
    pub smoothing: f64,
    /// Tokens read at once; the model's context at most.
    #[serde(default = "width")]
    pub window: usize,
    /// How many tokens are named that the direction raises most.
    #[serde(default = "ten")]
    pub top: usize,
}

const fn one() -> f64 {
    1.0
}

const fn width() -> usize {
    128
}

const fn ten() -> usize {
    10
}

/// The answer of [`TokenFrequency`].
#[derive(Debug)]
pub struct Frequency {
    /// The mean of the stream along the direction, after each block.
    pub along: Series,
    /// The tokens that the direction raises most.
    pub raised: Ranking,
    /// The share of the variance of the logarithms that the direction explains.
    pub fit: f64,
    /// The cosine of what is left over with a logit direction, at most.
    pub normal_gap: f64,
    /// The direction: `[d_model]`, in double.
    pub direction: Stack,
}

impl From<Frequency> for Answer {
    fn from(frequency: Frequency) -> Self {
        Self::new()
            .with("along", frequency.along)
            .with("raised", frequency.raised)
            .with("direction", frequency.direction)
            .with("fit", frequency.fit)
            .with("normal_gap", frequency.normal_gap)
    }
}

impl Tool for TokenFrequency {
    const NAME: &'static str = "contrib.token_frequency";
    type Output = Frequency;

    fn run(&self, cx: &Context<'_>) -> Result<Frequency> {
        let model = cx.model();
        let vocab = model.dims().vocab;
        let invalid = |what: String, why: String| Err(Error::Invalid { what, why });
        if !self.smoothing.is_finite() || self.smoothing <= 0.0 {
            return invalid(format!("smoothing {}", self.smoothing), "give a finite number above 0".into());
        }
        if !(1..=vocab).contains(&self.top) {
            return invalid(format!("top {}", self.top), format!("give a number in 1..={vocab}"));
        }
        let windows = self.corpus.windows(model, self.window.min(model.dims().context))?;
        let wanted = self.logarithms(&windows, vocab)?.f_to_device(model.device())?;
        let unembed = model.weight(Weight::U.global())?.f_to_kind(Kind::Double)?;
        // A logit that is the same for all tokens changes nothing, so each direction of the stream is centred too.
        let unembed = unembed.f_sub(&unembed.f_mean_dim(-1, true, Kind::Double)?)?;
        let direction = least_squares(&unembed, &wanted)?;
        let logits = direction.f_unsqueeze(0)?.f_matmul(&unembed)?.f_squeeze_dim(0)?;
        let left = wanted.f_sub(&logits)?;
        let (all, rest) = (square(&wanted)?, square(&left)?);
        let raised: Vec<i64> = Vec::try_from(logits.f_topk(self.top as i64, -1, true, true)?.1)?;
        let entries = raised
            .into_iter()
            .map(|id| Ok((model.token(id), logits.f_double_value(&[id])?)))
            .collect::<Result<Vec<_>>>();
        Ok(Frequency {
            along: along(cx, &windows, &direction)?,
            raised: Ranking::new("raised by the direction of token frequency", "logit", entries?),
            fit: if all > 0.0 { 1.0 - rest / all } else { f64::NAN },
            normal_gap: normal_gap(&unembed, &left)?,
            direction: Stack::new(
                "direction of token frequency",
                "logit of a token per unit",
                vec![Axis::indices("d_model", model.dims().d_model)],
                direction,
            )?,
        })
    }
}

impl TokenFrequency {
    /// The centred logarithms of the counts: `[vocab]`, in double.
    fn logarithms(&self, windows: &[Window], vocab: usize) -> Result<Tensor> {
        let mut counts = vec![self.smoothing; vocab];
        for (window, id) in windows.iter().flat_map(|window| window.ids.iter().map(move |id| (window, *id))) {
            let count = usize::try_from(id).ok().and_then(|place| counts.get_mut(place));
            let Some(count) = count else {
                let what = format!("token id in document {} of the corpus", window.document);
                return Err(Error::OutOfRange { what, index: id, len: vocab as i64 });
            };
            *count += 1.0;
        }
        let logarithms = Tensor::f_from_slice(&counts)?.f_log()?;
        Ok(logarithms.f_sub(&logarithms.f_mean(Kind::Double)?)?)
    }
}

/// The row `d` (`[d_model]`) for which `d @ unembed` is nearest to `wanted`, the shortest of them.
fn least_squares(unembed: &Tensor, wanted: &Tensor) -> Result<Tensor> {
    let inverse = unembed.f_matmul(&unembed.f_transpose(0, 1)?)?.f_linalg_pinv(1e-13, true)?;
    let solve = |wanted: &Tensor| inverse.f_matmul(&unembed.f_matmul(wanted)?);
    let first = solve(wanted)?;
    // Products of the matrix with itself lose half of the digits; what is left over brings them back.
    let left = wanted.f_sub(&unembed.f_transpose(0, 1)?.f_matmul(&first)?)?;
    Ok(first.f_add(&solve(&left)?)?)
}

/// The greatest cosine between what is left over and the logits of a direction of the stream.
fn normal_gap(unembed: &Tensor, left: &Tensor) -> Result<f64> {
    let products = unembed.f_matmul(&left.f_unsqueeze(-1)?)?.f_squeeze_dim(-1)?.f_abs()?;
    let lengths = unembed.f_norm_scalaropt_dim(2.0, [-1_i64], false)?.f_mul(&left.f_norm()?)?;
    Ok(answer::numbers(&products.f_div(&lengths.f_clamp_min(f64::MIN_POSITIVE)?)?.f_max()?)?[0])
}

fn square(values: &Tensor) -> Result<f64> {
    Ok(answer::numbers(&values.f_square()?.f_sum(Kind::Double)?)?[0])
}

/// The mean of the stream along the direction after each block, over every token.
fn along(cx: &Context<'_>, windows: &[Window], direction: &Tensor) -> Result<Series> {
    let model = cx.model();
    let layers = model.dims().n_layers;
    let scale = direction.f_dot(direction)?;
    let (mut sums, mut count) = (vec![0.0; layers], 0);
    for (place, window) in windows.iter().enumerate() {
        cx.progress(place as u64, windows.len() as u64)?;
        let tokens = Window::batch(std::slice::from_ref(window))?;
        let run = model.trace(&tokens).keep(Site::RESID_POST).logits(PosSlice::None).run()?;
        for (layer, sum) in sums.iter_mut().enumerate() {
            let stream = run.cache.get(Site::RESID_POST.at(layer))?.f_to_kind(Kind::Double)?;
            *sum += answer::numbers(&stream.f_matmul(direction)?.f_sum(Kind::Double)?.f_div(&scale)?)?[0];
        }
        count += window.ids.len();
    }
    let means = sums.into_iter().map(|sum| sum / count as f64).collect();
    Series::new(
        "token frequency in the stream",
        "lengths of the direction",
        Axis::indices("layer", layers),
        [("mean", means)],
    )
}

register_tools!(TokenFrequency);

#[cfg(feature = "plugin")]
arrakis_core::export_plugin!();
