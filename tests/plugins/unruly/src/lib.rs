//! A plugin that does wrong where it is asked to, and nothing where it is asked to do nothing.

use std::process::Command;

use arrakis_core::{
    Answer, Axis, AxisKind, Context, Error, Grid, HookPoint, Hooks, ModelExt, Pass, PosSlice, Prompt, Result, Site,
    Stack, Tool, Weight, edit, register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Gives an answer without parts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

impl Tool for Empty {
    const NAME: &'static str = "unruly.empty";
    type Output = Answer;

    fn run(&self, _: &Context<'_>) -> Result<Answer> {
        Ok(Answer::new())
    }
}

/// Watches every point of a pass and changes nothing.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Watching {
    /// What to read.
    pub prompt: Prompt,
    /// Passes.
    pub passes: usize,
}

struct All(u64);

impl Hooks for All {
    fn watches(&self, point: HookPoint) -> bool {
        point.site == Site::RESID_POST
    }

    fn visit(&mut self, _: HookPoint, value: Tensor) -> Result<Tensor> {
        self.0 += 1;
        Ok(value)
    }
}

impl Tool for Watching {
    const NAME: &'static str = "unruly.watching";
    type Output = Answer;

    fn run(&self, cx: &Context<'_>) -> Result<Answer> {
        let tokens = self.prompt.tokens(cx.model())?;
        let mut hooks = All(0);
        for _ in 0..self.passes {
            cx.model().forward(Pass { logits: PosSlice::None, ..Pass::tokens(tokens.ids(), &mut hooks) })?;
        }
        Ok(Answer::new().with("visits", hooks.0 as f64))
    }
}

/// Goes wrong in a way of one's choice.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wrong {
    /// How.
    pub how: How,
}

/// A way of going wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Panics in `run`.
    Run,
    /// Panics with something that is no text.
    Thing,
    /// Panics with something that panics when it is dropped.
    Bomb,
    /// Panics in a hook.
    Hook,
    /// Panics where it is asked whether it watches.
    Watch,
    /// Panics where it hears that a point is passed.
    Passed,
    /// Panics in a hook, and answers as if nothing had been.
    Swallowed,
    /// Fails in a hook.
    Failing,
    /// Changes the shape of a value in a hook.
    Shape,
    /// Panics in the metric of a gradient.
    Metric,
    /// Panics in `Drop`, after it has answered.
    Drop,
    /// Asks for a point that is not there.
    Point,
    /// Lets LibTorch panic.
    Torch,
    /// Gives a stack without a tensor's worth of numbers.
    Stack,
    /// Calls itself until the stack is full.
    Overflow,
    /// Aborts.
    Abort,
    /// Ends the process.
    Exit,
    /// Has the process killed.
    Killed,
    /// Runs the program once more, to its end, and ends the process.
    Child,
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bomb went off");
    }
}

struct Told(Answer, Option<Bomb>);

impl From<Told> for Answer {
    fn from(mut told: Told) -> Self {
        drop(told.1.take());
        told.0
    }
}

impl Tool for Wrong {
    const NAME: &'static str = "unruly.wrong";
    type Output = Answer;

    fn run(&self, cx: &Context<'_>) -> Result<Answer> {
        let (model, point) = (cx.model(), Site::RESID_POST.at(0));
        let tokens = Prompt::Ids(vec![1, 2, 3]).tokens(model)?;
        let trace = || model.trace(&tokens);
        let panicking = || edit::with(|_| panic!("a hook is unwell"));
        match self.how {
            How::Run => panic!("the tool is unwell"),
            How::Thing => std::panic::panic_any(17_u8),
            How::Bomb => std::panic::panic_any(Bomb),
            How::Hook => drop(trace().edit(point, panicking()).run()?),
            How::Watch => drop(model.forward(Pass::tokens(tokens.ids(), &mut Afraid))?),
            How::Passed => drop(model.forward(Pass::tokens(tokens.ids(), &mut Startled))?),
            How::Swallowed => drop(trace().edit(point, panicking()).run().is_err()),
            How::Failing => {
                let refuse = edit::with(|_| Err(Error::Invalid { what: "hook".into(), why: "it would not".into() }));
                drop(trace().edit(point, refuse).run()?);
            }
            How::Shape => drop(trace().edit(point, edit::with(|value| Ok(value.f_get(0)?))).run()?),
            How::Metric => {
                let metric = |_: &Tensor| panic!("the metric is unwell");
                drop(trace().keep(Site::RESID_POST).gradients(metric).run()?);
            }
            How::Drop => return Ok(Told(Answer::new(), Some(Bomb)).into()),
            How::Point => drop(trace().keep("blocks.0.hook_resid_pots").run()?),
            How::Torch => drop(Tensor::from_slice(&[1.0, 2.0]) + Tensor::from_slice(&[1.0, 2.0, 3.0])),
            How::Stack => {
                let axes = vec![Axis::indices("entry", 3)];
                return Ok(
                    Answer::new().with("stack", Stack::new("stack", "number", axes, Tensor::from_slice(&[1.0]))?)
                );
            }
            How::Overflow => drop(deeper(std::hint::black_box(1))),
            How::Abort => std::process::abort(),
            How::Exit => std::process::exit(0),
            How::Killed => {
                let ended = Command::new("sh").args(["-c", "kill -KILL $PPID"]).status();
                return Err(Error::Other(format!("it was not killed: {ended:?}").into()));
            }
            How::Child => {
                let program = std::env::current_exe().map_err(|error| Error::Other(error.into()))?;
                let ended = Command::new(program).arg("tools").output().map_err(|error| Error::Other(error.into()))?;
                std::process::exit(if ended.status.success() { 0 } else { 9 });
            }
        }
        Ok(Answer::new())
    }
}

struct Afraid;

impl Hooks for Afraid {
    fn watches(&self, _: HookPoint) -> bool {
        panic!("nobody shall look")
    }

    fn visit(&mut self, _: HookPoint, value: Tensor) -> Result<Tensor> {
        Ok(value)
    }
}

struct Startled;

impl Hooks for Startled {
    fn watches(&self, _: HookPoint) -> bool {
        false
    }

    fn visit(&mut self, _: HookPoint, value: Tensor) -> Result<Tensor> {
        Ok(value)
    }

    fn passed(&mut self, point: HookPoint) {
        panic!("startled by {point}")
    }
}

#[expect(unconditional_recursion, reason = "this is what is asked for")]
fn deeper(depth: usize) -> String {
    let room = std::hint::black_box([depth; 64]);
    format!("{}{}", room[0], deeper(room[1] + 1))
}

/// Does everything that a tool can do with its context, and tells what it saw.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Everything {
    /// What to read; a text needs a tokenizer.
    pub prompt: Prompt,
    /// A text to encode and decode again, if the model has a tokenizer.
    #[serde(default)]
    pub text: Option<String>,
    /// Numbers of an answer's stack.
    #[serde(default = "few")]
    pub numbers: usize,
}

const fn few() -> usize {
    7
}

/// The lag matrices of a Leviathan, as a crate that does not know it names them.
const LAG: Site =
    Site::new("attn.hook_lag", &[AxisKind::Batch, AxisKind::Head, AxisKind::Named("lag"), AxisKind::Named("lag")]);

fn named(point: HookPoint) -> bool {
    point.site.axes().iter().any(|axis| matches!(axis, AxisKind::Named(_)))
}

impl Tool for Everything {
    const NAME: &'static str = "unruly.everything";
    type Output = Answer;

    fn run(&self, cx: &Context<'_>) -> Result<Answer> {
        let model = cx.model();
        let tokens = self.prompt.tokens(model)?;
        cx.log("a line of the log");
        cx.progress(1, 3)?;
        let limit = cx.memory_limit().map_or_else(|| "none".to_owned(), |bytes| bytes.to_string());
        let layer = model.dims().n_layers - 1;
        // Hooks, gradients, and a run that goes on from keys and values, under an edit.
        let halved = edit::scale(0.5);
        let run = model
            .trace(&tokens)
            .keep(Site::RESID_POST)
            .keep(Site::PATTERN.at(0))
            .keep_before(Site::RESID_MID.at(0))
            .edit(Site::RESID_MID.at(0), halved)
            .gradients(|logits| Ok(logits.f_get(0)?.f_get(-1)?.f_get(3)?))
            .run()?;
        let whole = model.trace(&tokens).keep_past().logits(PosSlice::At(vec![0, -1])).run()?;
        let past = whole.past.as_ref().map(|past| past.before(1)).transpose()?;
        let rest = arrakis_core::Tokens::from_tensor(&tokens.ids().f_narrow(1, 1, tokens.positions() as i64 - 1)?)?;
        let mut on = model.trace(&rest).logits(PosSlice::Last);
        if let Some(past) = &past {
            on = on.past(past);
        }
        let on = on.run()?;
        let stopped = model.trace(&tokens).stop_at(layer).run()?;
        let from = model.trace(&tokens).start_at(layer, &stopped.residual).run()?;
        // Weights, and a model of its own.
        let value = model.weight(Weight::V.at(0))?;
        let edited = model.with_weights(vec![(Weight::V.at(0), value.f_zeros_like()?)])?;
        let without = edited.trace(&tokens).logits(PosSlice::Last).run()?;
        let scale = model.trace(&tokens).keep(Site::LN_FINAL_SCALE).run()?;
        let normed = model.final_norm_with_scale(&from.residual, scale.cache.get(Site::LN_FINAL_SCALE)?)?;
        let mut words = vec![
            format!("limit {limit}"),
            format!("{:?} {:?} {:?}", model.dims(), model.kind(), model.device()),
            model.digest()?,
            edited.digest()?,
            model.weights().iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            model.points().iter().map(|point| format!("{point}{:?}", point.site.axes())).collect::<Vec<_>>().join(" "),
            model.token(3),
        ];
        for wrong in [model.weight_named("blocks.0.attn.W_P").err(), model.token_id("two words").err()] {
            words.extend(wrong.map(|error| error.to_string()));
        }
        if let Some(text) = &self.text {
            let ids = model.encode(text)?;
            words.push(format!("{ids:?} {} {}", model.decode(&ids)?, model.token_id(" a").unwrap_or(-1)));
        }
        words.push(format!("{:?} {:?}", model.tokenizer_digest()?, model.layout()));
        if model.points().contains(&LAG.at(0)) {
            let lags = model.trace(&tokens).keep(LAG).run()?.cache.get(LAG.at(0))?.size();
            words.push(format!("lags {lags:?}"));
        }
        cx.progress(2, 3)?;
        let mut answer = Answer::new();
        // What only some models have, its axes under their names.
        let own: Vec<HookPoint> = model.points().iter().copied().filter(|point| named(*point)).collect();
        for point in own {
            let value = model.trace(&tokens).keep(point.to_string().as_str()).run()?.cache.get(point)?.shallow_clone();
            let name = |axis: &AxisKind| if let AxisKind::Named(name) = axis { name } else { "entry" };
            let axes = point.site.axes().iter().zip(value.size());
            let axes = axes.map(|(axis, len)| Axis::indices(name(axis), len as usize)).collect();
            answer = answer.with(point.to_string(), Stack::new("own", "number", axes, value)?);
        }
        let tensors = [
            ("logits", run.logits()?.shallow_clone()),
            ("kept", run.cache.get(Site::RESID_POST.at(layer))?.shallow_clone()),
            ("before", run.before.get(Site::RESID_MID.at(0))?.shallow_clone()),
            ("gradient", run.gradients.get(Site::RESID_POST.at(0))?.shallow_clone()),
            ("pattern", run.cache.get(Site::PATTERN.at(0))?.shallow_clone()),
            ("two", whole.logits()?.shallow_clone()),
            ("on", on.logits()?.shallow_clone()),
            ("from", from.logits()?.shallow_clone()),
            ("without", without.logits()?.shallow_clone()),
            ("unembedded", model.unembed(&from.residual)?),
            ("normed", normed),
            ("noise", cx.stream("noise").normals(&[self.numbers as i64])?),
        ];
        for (name, tensor) in tensors {
            let axes = tensor.size().iter().map(|len| Axis::indices("entry", *len as usize)).collect();
            answer = answer.with(name, Stack::new(name, "number", axes, tensor)?);
        }
        let awkward = vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.1 + 0.2, f64::MIN_POSITIVE / 3.0];
        let (rows, columns) = (Axis::indices("row", 2), Axis::indices("column", 3));
        answer = answer.with("awkward", Grid::new("awkward", "number", rows, columns, awkward)?);
        cx.progress(3, 3)?;
        Ok(answer.with("words", words.join("\n")))
    }
}

register_tools!(Empty, Watching, Wrong, Everything);

arrakis_core::export_plugin!();
