//! The bench: a model, tools asked of it, and a log of every run.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use arrakis_core::{Answer, Context, Draw, Host, Model, Silent, SweepPlan, Tool, tool};
use serde_json::Value;

use crate::{Error, Log, Record, Result, Status, parameters};

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
    name: Option<String>,
    log: Option<Log>,
    seed: u64,
    host: &'a dyn Host,
    draw: Option<&'a dyn Draw>,
    memory_limit: Option<u64>,
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
        Self { model, name: None, log: Some(Log::open(FOLDER)), seed: 0, host: &Silent, draw: None, memory_limit: None }
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

    /// Asks a tool of this program.
    pub fn run<T: Tool>(&self, tool: &T) -> Result<Asked<T::Output>>
    where
        T::Output: Clone,
    {
        let parameters = serde_json::to_value(tool).map_err(arrakis_core::Error::from)?;
        let owner = arrakis_core::tool(T::NAME).ok().map(arrakis_core::ToolEntry::owner);
        self.log_run(T::NAME, owner, parameters, |cx| tool.run(cx), |output| output.clone().into())
    }

    /// The parameters of a tool with every default filled in, without asking; the errors are those of [`ask`](Self::ask).
    pub fn complete(name: &str, parameters: Value) -> Result<Value> {
        Ok(parameters::complete(tool(name)?, parameters)?)
    }

    /// Asks a tool by name; an error names an unknown tool or field, or every field that is missing.
    pub fn ask(&self, name: &str, parameters: Value) -> Result<Asked<Answer>> {
        let tool = tool(name)?;
        let parameters = parameters::complete(tool, parameters)?;
        let given = parameters.clone();
        self.log_run(name, Some(tool.owner()), parameters, |cx| tool.ask(given, cx), Answer::clone)
    }

    /// What the first sweep of a tool would run, without running or logging it; none if the tool makes no sweep.
    ///
    /// What comes before the sweep is run, for the plan follows from it: a clean and a corrupted run, say. A tool that
    /// works through its parts without a sweep is stopped at the first of them.
    pub fn plan(&self, name: &str, parameters: Value) -> Result<Option<SweepPlan>> {
        let tool = tool(name)?;
        let parameters = parameters::complete(tool, parameters)?;
        let host = Planning::default();
        let outcome = guarded(name, || Ok(tool.ask(parameters, &self.context().with_host(&host).with_dry_run())?));
        match outcome {
            Err(Error::Core(arrakis_core::Error::Planned(plan))) => Ok(Some(*plan)),
            Err(Error::Core(arrakis_core::Error::Cancelled)) | Ok(_) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn log_run<T>(
        &self,
        tool: &str,
        owner: Option<&str>,
        parameters: Value,
        ask: impl FnOnce(&Context<'_>) -> arrakis_core::Result<T>,
        answer: impl FnOnce(&T) -> Answer,
    ) -> Result<Asked<T>> {
        let mut record = Record::start(tool, owner, parameters, self.seed, self.name.as_deref(), self.model)?;
        let writing = self.log.as_ref().map(|log| log.begin(&record)).transpose()?;
        let start = Instant::now();
        let mut outcome = guarded(tool, || Ok(ask(&self.context())?));
        record.seconds = Some(start.elapsed().as_secs_f64());
        let Some(writing) = writing else {
            record.status = Status::Completed;
            return outcome.map(|answer| Asked { answer, record, folder: None });
        };
        if let Ok(value) = &outcome
            && let Err(error) = guarded(tool, || writing.answer(&answer(value), self.draw, &mut record))
        {
            outcome = Err(error);
        }
        for warning in &record.warnings {
            self.host.log(warning);
        }
        let folder = writing.folder().to_path_buf();
        match outcome {
            Ok(answer) => {
                writing.end(&mut record, Status::Completed, None)?;
                Ok(Asked { answer, record, folder: Some(folder) })
            }
            Err(error) => {
                // The tool's error matters more than that it could not be written down.
                let _ = writing.end(&mut record, Status::Failed, Some(error.to_string()));
                Err(error)
            }
        }
    }

    fn context(&self) -> Context<'a> {
        let context = Context::new(self.model).with_host(self.host).with_seed(self.seed);
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

/// A panic of `work` as an error with its message.
fn guarded<T>(tool: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(Error::Panicked { tool: tool.to_owned(), message: message(panic.as_ref()) }))
}

fn message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.split("\nException raised").next().unwrap_or_default().to_owned(),
        _ => "it did not say why".to_owned(),
    }
}
