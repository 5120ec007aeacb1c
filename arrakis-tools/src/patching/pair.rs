//! Two prompts that are laid over each other, and what both runs measure and hold.

use arrakis_core::{
    Axis, Cache, Context, Error, HookPoint, Measure, Metric, Model, ModelExt, Prompt, Result, Tokens, Trace,
};
use tch::Device;

use super::kind::PatchScale;
use crate::measured::mean;

/// A clean and a corrupted prompt of the same lengths.
pub(super) struct Pair {
    pub(super) clean: Tokens,
    pub(super) corrupted: Tokens,
}

/// What both prompts measure, and hold at the points asked for.
pub(super) struct Runs {
    pub(super) measure: Measure,
    /// The metric of the clean run.
    pub(super) clean: f64,
    /// The metric of the corrupted run.
    pub(super) corrupted: f64,
    pub(super) source: Cache,
    pub(super) base: Cache,
}

impl Pair {
    /// The tokens of both prompts; an error if they cannot be laid over each other.
    pub(super) fn of(model: &dyn Model, clean: &Prompt, corrupted: &Prompt) -> Result<Self> {
        let (clean, corrupted) = (clean.tokens(model)?, corrupted.tokens(model)?);
        let invalid = |why: String| Err(Error::Invalid { what: "the clean and the corrupted prompt".into(), why });
        if clean.batch() != corrupted.batch() {
            return invalid(format!("they have {} and {} rows", clean.batch(), corrupted.batch()));
        }
        for row in 0..clean.batch() {
            let (here, there) = (clean.row(row)?.len(), corrupted.row(row)?.len());
            if here != there {
                return invalid(format!(
                    "they have {here} and {there} tokens in row {row}; patching wants them equally long"
                ));
            }
        }
        Ok(Self { clean, corrupted })
    }

    /// An error if rows differ in length, so that positions do not lie over each other.
    pub(super) fn check_positions(&self, what: &str) -> Result<()> {
        if self.clean.mask().is_none() {
            return Ok(());
        }
        let why = "its rows differ in length, so its positions do not lie over each other; ask for all positions alone";
        Err(Error::Invalid { what: format!("`{what}` of a batch"), why: why.into() })
    }

    /// The first position whose token differs in any row; the last position if none does.
    pub(super) fn first_difference(&self) -> Result<i64> {
        let len = self.clean.positions() as i64;
        let differing = self.clean.ids().f_ne_tensor(self.corrupted.ids())?.f_any_dim(0, false)?;
        let places: Vec<bool> = Vec::try_from(differing.f_to_device(Device::Cpu)?)?;
        Ok(places.iter().position(|differs| *differs).map_or(len - 1, |place| place as i64))
    }

    /// Both runs, with what they hold at `points`.
    pub(super) fn run(&self, cx: &Context<'_>, metric: &Metric, points: &[HookPoint]) -> Result<Runs> {
        let model = cx.model();
        let run = |tokens: &Tokens| -> Result<(Measure, f64, Cache)> {
            let measure = metric.prepare(model, tokens)?;
            let trace = model.trace(tokens).logits(measure.wanted());
            let run = points.iter().copied().fold(trace, Trace::keep).run()?;
            let value = mean(&measure, run.logits()?)?;
            Ok((measure, value, run.cache))
        };
        let (_, clean, source) = run(&self.clean)?;
        let (measure, corrupted, base) = run(&self.corrupted)?;
        Ok(Runs { measure, clean, corrupted, source, base })
    }

    /// The positions, labelled with the tokens of both prompts where there is one row.
    pub(super) fn positions(&self, model: &dyn Model) -> Result<Axis> {
        if self.clean.batch() > 1 {
            return Ok(Axis::indices("position", self.clean.positions()));
        }
        let (here, there) = (self.clean.labels(model, 0)?, self.corrupted.labels(model, 0)?);
        // A space that begins a label is made visible where it is shown, one within it is not.
        let visible = |token: &str| token.strip_prefix(' ').map_or_else(|| token.to_owned(), |rest| format!("·{rest}"));
        let label = |(here, there): (String, String)| {
            if here == there { here } else { format!("{here} /{}", visible(&there)) }
        };
        Ok(Axis::new("position", here.into_iter().zip(there).map(label)))
    }
}

/// The metric that stands for 0, and what lies between it and 1; an error if there is nothing to normalise by.
pub(super) fn zero_and_one(scale: PatchScale, clean: f64, corrupted: f64) -> Result<(f64, f64)> {
    let whole = clean - corrupted;
    match scale {
        PatchScale::Raw => Ok((0.0, 1.0)),
        PatchScale::Normalised if whole == 0.0 => {
            let why = "both runs measure the same, so there is nothing to normalise by; ask with `scale` `raw`".into();
            Err(Error::Invalid { what: "the clean and the corrupted prompt".into(), why })
        }
        PatchScale::Normalised => Ok((corrupted, whole)),
    }
}
