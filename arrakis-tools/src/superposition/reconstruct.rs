//! What is lost when activations keep only their principal components.

use arrakis_core::{
    Answer, Axis, Context, Corpus, Error, HookPoint, ModelExt, PosSlice, Result, Series, Site, Tool, answer, edit,
    register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::covariance;
use crate::corpus_pass::{Batch, CorpusLoss, CorpusPass};
use crate::moments::Principal;
use crate::{index, token_vectors};

/// Replaces activations by their projection on the first `k` principal components, and measures the loss for each `k`.
///
/// At the point every vector becomes `mean + V_k V_kᵀ (x - mean)`, with mean and directions taken from `corpus`; 0
/// components leave the mean alone. The loss is the mean cross entropy of the next token, in nats, over `test`.
/// Identity: with all components nothing changes, and `whole_gap` is the absolute difference of that loss from the
/// model's own.
/// Source: Pearson, "On lines and planes of closest fit to systems of points in space" (1901); Cai et al., "Isotropy in
/// the contextual embedding space" (2021), for language models on principal components.
///
/// ```
/// # use arrakis_core::{Context, Corpus, Tool};
/// # use arrakis_tools::Reconstruct;
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default()).unwrap();
/// let corpus = Corpus::Rows(vec![vec![9, 3, 17, 4], vec![5, 8, 2]]);
/// let found = Reconstruct::new(corpus, "blocks.0.hook_resid_post", [1, 4]).run(&Context::new(&model)).unwrap();
/// assert!(found.whole_gap < 1e-4);
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reconstruct {
    /// The texts that mean and directions are taken from.
    pub corpus: Corpus,
    /// The hook point, by its printed name: `blocks.3.hook_resid_post`.
    pub point: String,
    /// How many components are kept, one loss for each.
    pub components: Vec<usize>,
    /// The texts that the loss is taken over; those of `corpus` if absent.
    #[serde(default)]
    pub test: Option<Corpus>,
    /// Tokens read at once; 256 if absent, or what the context holds.
    #[serde(default)]
    pub window: Option<usize>,
    /// Tokens at the start of each window that are left out; the first ones are often unlike all others.
    #[serde(default)]
    pub skip: usize,
}

impl Reconstruct {
    /// The loss with each number of `components` kept at `point`.
    pub fn new(
        corpus: impl Into<Corpus>,
        point: impl Into<String>,
        components: impl IntoIterator<Item = usize>,
    ) -> Self {
        let components = components.into_iter().collect();
        Self { corpus: corpus.into(), point: point.into(), components, test: None, window: None, skip: 0 }
    }
}

/// The loss by components kept.
#[derive(Debug, Clone)]
pub struct Reconstructed {
    /// The model's own loss, in nats.
    pub loss: f64,
    /// The loss by components kept, in nats.
    pub losses: Series,
    /// Share of the variance that the components hold.
    pub share: Series,
    /// Absolute difference between the loss with all components and the model's own.
    pub whole_gap: f64,
}

impl From<Reconstructed> for Answer {
    fn from(found: Reconstructed) -> Self {
        Self::new()
            .with("loss", found.loss)
            .with("losses", found.losses)
            .with("share", found.share)
            .with("whole_gap", found.whole_gap)
    }
}

impl Tool for Reconstruct {
    const NAME: &'static str = "superposition.reconstruct";
    type Output = Reconstructed;

    fn run(&self, cx: &Context<'_>) -> Result<Reconstructed> {
        let model = cx.model();
        let point = token_vectors::point(model, &self.point)?;
        let width = token_vectors::width(model, point)?;
        if self.components.is_empty() {
            return Err(Error::Invalid { what: "components".into(), why: "the list is empty; give one number".into() });
        }
        if let Some(kept) = self.components.iter().find(|kept| **kept > width) {
            return Err(Error::Invalid { what: format!("components {kept}"), why: format!("there are {width}") });
        }
        let cx = &covariance::bounded(cx, point, width)?;
        let seen = CorpusPass::of(cx, &self.corpus, self.window, 2 * width)?.without_first(self.skip)?;
        let moments = covariance::moments(cx, &seen, point, width)?;
        let principal = Principal::of(&moments.covariance()?)?;
        let test = CorpusPass::of_predictions(cx, self.test.as_ref().unwrap_or(&self.corpus), self.window)?;

        let mut kept = self.components.clone();
        kept.push(width);
        let mut own = CorpusLoss::default();
        let mut losses = vec![CorpusLoss::default(); kept.len()];
        test.each(cx, |batch| {
            let prefix = Prefix::run(cx, batch, point, &mut own)?;
            for (kept, loss) in kept.iter().zip(&mut losses) {
                let directions = principal.directions.f_narrow(0, 0, *kept as i64)?;
                let project = |value: &Tensor| projected(value, moments.mean(), &directions, self.skip);
                loss.add(&prefix.logits(cx, batch, point, edit::with(project))?, batch)?;
            }
            Ok(())
        })?;

        let own = own.mean();
        let mut losses: Vec<f64> = losses.iter().map(CorpusLoss::mean).collect();
        let whole = losses.pop().unwrap_or(f64::NAN);
        let variances = answer::numbers(&principal.variances)?;
        let total: f64 = variances.iter().sum();
        let share = self.components.iter().map(|kept| variances[..*kept].iter().sum::<f64>() / total).collect();
        let axis = Axis::new("components", index::labels(&self.components));
        let title = format!("components kept at {point}");
        let whole_line = vec![own; self.components.len()];
        Ok(Reconstructed {
            loss: own,
            losses: Series::new(
                title.clone(),
                "loss (nats)",
                axis.clone(),
                [("projected", losses), ("unchanged", whole_line)],
            )?,
            share: Series::new(title, "share of the variance", axis, [("share", share)])?,
            whole_gap: (whole - own).abs(),
        })
    }
}

/// A value whose vectors are replaced by their mean and their projection on `directions` (`[component, width]`), but for
/// those of the first `skip` positions.
fn projected(value: &Tensor, mean: &Tensor, directions: &Tensor, skip: usize) -> Result<Tensor> {
    let (len, skip) = (value.size()[1], skip as i64);
    if skip >= len {
        return Ok(value.shallow_clone());
    }
    let part = value.f_narrow(1, skip, len - skip)?;
    let size = part.size();
    let left = part.f_flatten(0, 1)?.f_flatten(1, -1)?.f_to_kind(Kind::Double)?.f_sub(mean)?;
    let kept = left.f_matmul(&directions.f_transpose(0, 1)?)?.f_matmul(directions)?;
    let kept = kept.f_add(mean)?.f_reshape(&size[..])?.f_to_kind(value.kind())?;
    Ok(value.f_slice_scatter(&kept, 1, skip, len, 1)?)
}

/// The residual stream before the layer of a point, so that the layers before it run once for all edits there.
struct Prefix(Option<(usize, Tensor)>);

impl Prefix {
    /// Runs the model as it is, and takes its loss too.
    fn run(cx: &Context<'_>, batch: &Batch<'_>, point: HookPoint, loss: &mut CorpusLoss) -> Result<Self> {
        let trace = cx.model().trace(&batch.tokens);
        let Some(layer) = point.layer else {
            loss.add(trace.run()?.logits()?, batch)?;
            return Ok(Self(None));
        };
        let start = Site::RESID_PRE.at(layer);
        let run = trace.keep(start).run()?;
        loss.add(run.logits()?, batch)?;
        Ok(Self(Some((layer, run.cache.get(start)?.shallow_clone()))))
    }

    /// The logits with an edit at the point: `[batch, pos, vocab]`.
    fn logits(&self, cx: &Context<'_>, batch: &Batch<'_>, point: HookPoint, edit: edit::Edit<'_>) -> Result<Tensor> {
        let trace = cx.model().trace(&batch.tokens).logits(PosSlice::All).edit(point, edit);
        let run = match &self.0 {
            Some((layer, residual)) => trace.start_at(*layer, residual).run()?,
            None => trace.run()?,
        };
        Ok(run.logits()?.shallow_clone())
    }
}

register_tools!(Reconstruct);
