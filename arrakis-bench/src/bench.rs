//! The bench: a model, tools asked of it, and a log of every run.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use arrakis_core::{Answer, Context, Draw, Host, Model, Silent, SweepPlan, Tool, tool};
use serde_json::Value;

use crate::conduct::guarded;
use crate::running::{Running, digest_of_answer};
use crate::{Call, Error, Log, Record, Result, Status, Subject, json, parameters};

/// Where a bench logs unless it is told otherwise.
pub const FOLDER: &str = "experiments";

/// A model on the bench: tools are asked of it, and every run is logged.
///
/// ```no_run
/// # fn show(model: &dyn arrakis_core::Model) -> arrakis_bench::Result<()> {
/// use arrakis_bench::Bench;
/// let bench = Bench::new(model).named("gpt2").seed(1);
/// let asked = bench.ask("logit_lens.lens", serde_json::json!({ "prompt": "The capital of France is" }))?;
/// println!("{}\nlogged as {}", asked.answer, asked.record.id);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Bench<'a> {
    model: &'a dyn Model,
    pub(crate) name: Option<String>,
    log: Option<Log>,
    pub(crate) seed: u64,
    pub(crate) host: &'a dyn Host,
    pub(crate) draw: Option<&'a dyn Draw>,
    memory_limit: Option<u64>,
    pub(crate) reuse: bool,
    /// The run that runs of this bench are parts of, if another bench conducts it.
    pub(crate) parent: Option<String>,
    /// The run at work.
    pub(crate) running: Option<Rc<Running<'a>>>,
}

/// What a run gave, and what is known of it.
#[derive(Debug, Clone)]
pub struct Asked<T> {
    /// The answer.
    pub answer: T,
    /// The record of the run.
    pub record: Record,
    /// The run's folder, unless nothing is logged.
    pub folder: Option<PathBuf>,
    /// Whether the answer is that of an earlier run.
    pub reused: bool,
}

impl<T> Asked<T> {
    /// The pictures of the run.
    #[must_use]
    pub fn pictures(&self) -> Vec<PathBuf> {
        let folder = self.folder.as_deref().unwrap_or(Path::new(""));
        self.record.pictures.iter().map(|name| folder.join(name)).collect()
    }
}

impl<'a> Bench<'a> {
    /// A bench that logs into `experiments/`, with seed 0 and no pictures.
    #[must_use]
    pub fn new(model: &'a dyn Model) -> Self {
        Self {
            model,
            name: None,
            log: Some(Log::open(FOLDER)),
            seed: 0,
            host: &Silent,
            draw: None,
            memory_limit: None,
            reuse: false,
            parent: None,
            running: None,
        }
    }

    /// The same bench, with the name by which the model is remembered: a path or a hub id.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The same bench, logging into another folder.
    #[must_use]
    pub fn log_to(mut self, folder: impl Into<PathBuf>) -> Self {
        self.log = Some(Log::open(folder));
        self
    }

    /// The same bench, logging as another log does.
    #[must_use]
    pub fn logged(mut self, log: Log) -> Self {
        self.log = Some(log);
        self
    }

    /// The same bench, logging nothing.
    #[must_use]
    pub fn unlogged(mut self) -> Self {
        self.log = None;
        self
    }

    /// The same bench with another root seed.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The same bench with somebody listening.
    #[must_use]
    pub const fn host(mut self, host: &'a dyn Host) -> Self {
        self.host = host;
        self
    }

    /// The same bench, drawing every logged answer.
    #[must_use]
    pub const fn draw(mut self, draw: &'a dyn Draw) -> Self {
        self.draw = Some(draw);
        self
    }

    /// The same bench with a bound on the bytes that a tool may hold in activations.
    #[must_use]
    pub const fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// The same bench, whether it gives the result of a completed run with the same key in place of computing it again.
    ///
    /// Typed answers ([`run`](Self::run)) are always computed: a log has no types.
    #[must_use]
    pub const fn reuse(mut self, reuse: bool) -> Self {
        self.reuse = reuse;
        self
    }

    /// The same bench, whose runs are parts of another run, which a bench elsewhere conducts.
    #[must_use]
    pub fn part_of(mut self, run: impl Into<String>) -> Self {
        self.parent = Some(run.into());
        self
    }

    /// The model.
    #[must_use]
    pub const fn model(&self) -> &'a dyn Model {
        self.model
    }

    /// The log, unless nothing is logged.
    #[must_use]
    pub const fn log(&self) -> Option<&Log> {
        self.log.as_ref()
    }

    /// Asks a tool of this program; within an experiment it is a call of the run.
    pub fn run<T: Tool>(&self, tool: &T) -> Result<Asked<T::Output>>
    where
        T::Output: Clone,
    {
        let subject = Subject::tool(T::NAME, json::to_value(tool)?);
        let subject = match arrakis_core::tool(T::NAME) {
            Ok(entry) => subject.owner(entry.owner()),
            Err(_) => subject,
        };
        self.ask_as(subject, |cx| tool.run(cx), |output| output.clone().into())
    }

    /// The parameters of a tool with every default filled in, without asking; the errors are those of [`ask`](Self::ask).
    pub fn complete(name: &str, parameters: Value) -> Result<Value> {
        Ok(parameters::complete(tool(name)?, parameters)?)
    }

    /// Asks a tool by name; an error names an unknown tool or field, or every field that is missing.
    ///
    /// Within an experiment it is a call of the run. A bench that [reuses](Self::reuse) runs gives the answer of a run
    /// with the same key where there is one.
    pub fn ask(&self, name: &str, parameters: Value) -> Result<Asked<Answer>> {
        let tool = tool(name)?;
        let parameters = parameters::complete(tool, parameters)?;
        let subject = Subject::tool(name, parameters.clone()).owner(tool.owner());
        if self.running.is_none()
            && let Some(reused) = self.recalled(&subject)?
        {
            return Ok(reused);
        }
        self.ask_as(subject, |cx| tool.ask(parameters, cx), Answer::clone)
    }

    /// What the first sweep of a tool would run, without running or logging it; none if the tool makes no sweep.
    ///
    /// What comes before the sweep is run, for the plan follows from it: a clean and a corrupted run, say. A tool that
    /// works through its parts without a sweep is stopped at the first of them.
    pub fn plan(&self, name: &str, parameters: Value) -> Result<Option<SweepPlan>> {
        let tool = tool(name)?;
        let parameters = parameters::complete(tool, parameters)?;
        let host = Planning::default();
        let outcome = guarded(name, || Ok(tool.ask(parameters, &self.context_for(&host).with_dry_run())?));
        match outcome {
            Err(Error::Core(arrakis_core::Error::Planned(plan))) => Ok(Some(*plan)),
            Err(Error::Core(arrakis_core::Error::Cancelled)) | Ok(_) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same bench, recording in a run at work.
    pub(crate) fn within(&self, running: Rc<Running<'a>>) -> Self {
        Self { running: Some(running), ..self.clone() }
    }

    /// The answer of a run that can stand for one of `subject`; one that cannot be read is told of and not used.
    fn recalled(&self, subject: &Subject) -> Result<Option<Asked<Answer>>> {
        let (Some(log), Some(record)) = (&self.log, self.reusable(subject)?) else { return Ok(None) };
        match log.answer(&record.id) {
            Ok(answer) => {
                let folder = Some(log.run_folder(&record.id));
                Ok(Some(Asked { answer, record, folder, reused: true }))
            }
            Err(error) => {
                self.host.log(&format!("run {} is not reused: {error}", record.id));
                Ok(None)
            }
        }
    }

    fn ask_as<T>(
        &self,
        subject: Subject,
        ask: impl FnOnce(&Context<'_>) -> arrakis_core::Result<T>,
        answer: impl FnOnce(&T) -> Answer,
    ) -> Result<Asked<T>> {
        let Some(running) = &self.running else {
            return self.conduct(&subject, |bench| {
                let value = ask(&bench.context())?;
                bench.answer(&answer(&value))?;
                Ok(value)
            });
        };
        let mut record = self.record(&subject)?;
        let start = Instant::now();
        let outcome = guarded(&subject.name, || Ok(ask(&self.context())?));
        let seconds = start.elapsed().as_secs_f64();
        let digest = outcome.as_ref().ok().map(|value| digest_of_answer(&answer(value))).transpose()?;
        let error = outcome.as_ref().err().map(ToString::to_string);
        running.called(Call { tool: subject.name, parameters: subject.parameters, digest, error, seconds })?;
        (record.status, record.seconds) = (Status::Completed, Some(seconds));
        outcome.map(|answer| Asked { answer, record, folder: None, reused: false })
    }

    /// What a tool works with on this bench; random streams that it opens are recorded in the run at work.
    #[must_use]
    pub fn context(&self) -> Context<'_> {
        self.context_for(self.listener())
    }

    fn context_for<'b>(&self, host: &'b dyn Host) -> Context<'b>
    where
        'a: 'b,
    {
        let context = Context::new(self.model).with_host(host).with_seed(self.seed);
        match self.memory_limit {
            Some(bytes) => context.with_memory_limit(bytes),
            None => context,
        }
    }
}

/// Stops a tool at its first step: a sweep tells its plan before that.
#[derive(Debug, Default)]
struct Planning {
    begun: Cell<bool>,
}

impl Host for Planning {
    fn progress(&self, _: u64, _: u64) {
        self.begun.set(true);
    }

    fn cancelled(&self) -> bool {
        self.begun.get()
    }
}
