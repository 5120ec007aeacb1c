//! A linear probe at each layer, beside what it learns of labels that mean nothing.

use arrakis_core::{Answer, Axis, Context, Error, Prompt, Result, Series, Stack, Tool, register_tools};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::control::Control;
use super::labelled::Labelled;
use super::linear_fit::{LinearFit, Samples};
use super::split::{self, Split};
use crate::{gap, token_vectors};

/// How a probe is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProbeMethod {
    /// Logistic regression, each class against the rest.
    #[default]
    Logistic,
    /// Ridge regression of 0 and 1, each class against the rest.
    Ridge,
}

/// Trains a linear probe for labels of texts at each hook point, and compares it with a control task.
///
/// Vectors at one position are centred and scaled by one number for all entries, both from the training texts. The probe
/// minimises the summed loss plus `½ penalty |w|²` (the bias is free), one class against the rest; the greatest score
/// wins. Accuracy is over held-out texts, a seeded share of each class, or of the groups where they are given. The control labels are drawn from the labels'
/// own frequencies, one for each token type, for training and held-out texts alike; selectivity is the accuracy less the
/// mean control accuracy over `controls` draws.
/// Identity: at the minimum of a convex objective the gradient is zero; `stationary_gap` is its greatest absolute entry,
/// of the mean over texts, for probes and controls.
/// Source: Alain & Bengio, "Understanding intermediate layers using linear classifier probes" (2016); Hewitt & Liang,
/// "Designing and interpreting probes with control tasks" (2019).
///
/// ```
/// # use arrakis_core::{Context, Prompt, Tool};
/// # use arrakis_tools::LinearProbe;
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// # let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default()).unwrap();
/// let texts = Prompt::Rows((2..10).map(|id| vec![id, 3 + id % 2]).collect());
/// let labels = (2..10).map(|id| if id % 2 == 0 { "even" } else { "odd" });
/// let found = LinearProbe::new(texts, labels).run(&Context::new(&model)).unwrap();
/// assert!(found.best_accuracy > 0.9);
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinearProbe {
    /// The texts.
    pub texts: Prompt,
    /// The label of each text; every class needs two texts at least.
    pub labels: Vec<String>,
    /// The group of each text, where some belong together (a statement and its negation, say): a group is held out whole
    /// or not at all, so that what its texts share cannot be remembered.
    #[serde(default)]
    pub groups: Option<Vec<String>>,
    /// The hook points, by printed name, `*` standing for anything.
    #[serde(default = "residual")]
    pub points: String,
    /// Position that is read; each text's last one if absent.
    #[serde(default)]
    pub position: Option<i64>,
    /// How the probe is trained.
    #[serde(default)]
    pub method: ProbeMethod,
    /// The penalty on the squared weights, above 0.
    #[serde(default = "one")]
    pub penalty: f64,
    /// Share of each class that is held out, in `0..1`.
    #[serde(default = "third")]
    pub held_out: f64,
    /// What shares a label in the control task.
    #[serde(default)]
    pub control: Control,
    /// How often control labels are drawn.
    #[serde(default = "five")]
    pub controls: usize,
}

fn residual() -> String {
    "blocks.*.hook_resid_post".into()
}

const fn one() -> f64 {
    1.0
}

const fn third() -> f64 {
    0.3
}

const fn five() -> usize {
    5
}

impl LinearProbe {
    /// A logistic probe of the residual stream after every block.
    pub fn new(texts: impl Into<Prompt>, labels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            texts: texts.into(),
            labels: labels.into_iter().map(Into::into).collect(),
            groups: None,
            points: residual(),
            position: None,
            method: ProbeMethod::default(),
            penalty: one(),
            held_out: third(),
            control: Control::default(),
            controls: five(),
        }
    }
}

/// What probes find, point by point.
#[derive(Debug, Clone)]
pub struct Probed {
    /// Accuracy on held-out texts: of the probe, of the control, their difference, and of the commonest class.
    pub accuracy: Series,
    /// Accuracy on the texts that were learned from, of the probe and of the control.
    pub training: Series,
    /// The point with the greatest accuracy, the first one where several are equal.
    pub best: String,
    /// Its accuracy.
    pub best_accuracy: f64,
    /// Its selectivity.
    pub best_selectivity: f64,
    /// Its weights, for vectors as they are: `[class, entry]`.
    pub directions: Stack,
    /// Texts that are held out.
    pub held_out: usize,
    /// Greatest absolute entry of the gradient at a solution.
    pub stationary_gap: f64,
}

impl From<Probed> for Answer {
    fn from(found: Probed) -> Self {
        Self::new()
            .with("accuracy", found.accuracy)
            .with("best", found.best)
            .with("best_accuracy", found.best_accuracy)
            .with("best_selectivity", found.best_selectivity)
            .with("training", found.training)
            .with("directions", found.directions)
            .with("held_out", found.held_out as f64)
            .with("stationary_gap", found.stationary_gap)
    }
}

impl Tool for LinearProbe {
    const NAME: &'static str = "knowledge.probe";
    type Output = Probed;

    fn run(&self, cx: &Context<'_>) -> Result<Probed> {
        let model = cx.model();
        self.check()?;
        let points = token_vectors::points(model, &self.points)?;
        let texts = Labelled::of(model, &self.texts, &self.labels, 2)?;
        let split = Split::of(&texts, self.groups.as_deref(), self.held_out, &mut cx.stream("knowledge.probe split"))?;
        let controls = self.control.labels(cx, &texts, self.position, self.controls)?;
        let classes = texts.classes.len();
        let [train, test] = [&split.train, &split.test].map(|places| split::labels_of(places, &texts.labels));
        let majority = (0..classes).max_by_key(|class| train.iter().filter(|label| *label == class).count());
        let common = test.iter().filter(|label| Some(**label) == majority).count() as f64 / test.len() as f64;

        let vectors = token_vectors::at_position(cx, &texts.rows, self.position, &points)?;
        let [mut held, mut held_control, mut learned, mut learned_control] = [const { Vec::new() }; 4];
        let mut stationary_gap = 0.0;
        let mut best: Option<(usize, LinearFit)> = None;
        for (place, (point, vectors)) in points.iter().zip(&vectors).enumerate() {
            cx.progress(place as u64, points.len() as u64)?;
            let pick = |places: &[usize]| -> Result<Tensor> {
                let places: Vec<i64> = places.iter().map(|place| *place as i64).collect();
                Ok(vectors.f_index_select(0, &Tensor::f_from_slice(&places)?.f_to_device(vectors.device())?)?)
            };
            let (x, unseen) = (pick(&split.train)?, pick(&split.test)?);
            let samples = Samples::of(&x, &point.to_string())?;
            let fit = samples.fit(&train, classes, self.method, self.penalty)?;
            stationary_gap = gap::worse(stationary_gap, fit.gradient);
            held.push(fit.accuracy(&unseen, &test)?);
            learned.push(fit.accuracy(&x, &train)?);
            let (mut control_held, mut control_learned) = (0.0, 0.0);
            for labels in &controls {
                let [train, test] = [&split.train, &split.test].map(|places| split::labels_of(places, labels));
                let fit = samples.fit(&train, classes, self.method, self.penalty)?;
                stationary_gap = gap::worse(stationary_gap, fit.gradient);
                control_held += fit.accuracy(&unseen, &test)? / controls.len() as f64;
                control_learned += fit.accuracy(&x, &train)? / controls.len() as f64;
            }
            held_control.push(control_held);
            learned_control.push(control_learned);
            if best.as_ref().is_none_or(|(known, _)| held[place] > held[*known]) {
                best = Some((place, fit));
            }
        }

        let Some((place, fit)) = best else {
            return Err(Error::Invalid { what: "points".into(), why: "there are none".into() });
        };
        let selectivity: Vec<f64> = held.iter().zip(&held_control).map(|(own, control)| own - control).collect();
        let axis = Axis::new("point", points.iter().map(ToString::to_string));
        let commonest = vec![common; points.len()];
        let width = token_vectors::width(model, points[place])?;
        Ok(Probed {
            best: points[place].to_string(),
            best_accuracy: held[place],
            best_selectivity: selectivity[place],
            directions: Stack::new(
                format!("probe at {}", points[place]),
                "weight",
                vec![Axis::new("class", texts.classes), Axis::indices("entry", width)],
                fit.weights,
            )?,
            accuracy: Series::new(
                "accuracy on held-out texts",
                "share",
                axis.clone(),
                [
                    ("probe", held),
                    ("control", held_control),
                    ("selectivity", selectivity),
                    ("commonest class", commonest),
                ],
            )?,
            training: Series::new(
                "accuracy on training texts",
                "share",
                axis,
                [("probe", learned), ("control", learned_control)],
            )?,
            held_out: split.test.len(),
            stationary_gap,
        })
    }
}

impl LinearProbe {
    fn check(&self) -> Result<()> {
        let refuse = |what: String, why: &str| Err(Error::Invalid { what, why: why.into() });
        if !(self.penalty > 0.0 && self.penalty.is_finite()) {
            return refuse(format!("penalty {}", self.penalty), "give a number above 0, or the probe has no minimum");
        }
        if !(self.held_out > 0.0 && self.held_out < 1.0) {
            return refuse(format!("held_out {}", self.held_out), "give a share between 0 and 1");
        }
        if self.controls == 0 {
            return refuse("controls 0".into(), "give one at least");
        }
        Ok(())
    }
}

register_tools!(LinearProbe);
