//! The bench: a model, tools asked of it, and a log of every run.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use arrakis_core::{Context, Draw, Host, Model, Silent};

use crate::hypothesis::Hypothesis;
use crate::running::Running;
use crate::{Log, Record};

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
    pub(crate) memory_limit: Option<u64>,
    pub(crate) reuse: bool,
    pub(crate) rerun: bool,
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
            rerun: false,
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

    /// Whether a run is done again ([`rerun`](Self::rerun)): work that else goes on where an earlier run stood begins anew then.
    #[must_use]
    pub const fn is_rerun(&self) -> bool {
        self.rerun
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

    /// The same bench, recording in a run at work.
    pub(crate) fn within(&self, running: Rc<Running<'a>>) -> Self {
        Self { running: Some(running), ..self.clone() }
    }

    /// How hypotheses are tested on this bench: by default, with random choices that follow from its seed.
    ///
    /// The seed of the test comes from the stream `hypothesis`, which a run at work records.
    #[must_use]
    pub fn hypothesis(&self) -> Hypothesis {
        // JSON readers take whole numbers for doubles.
        let seed = self.stream("hypothesis").below(1 << 53);
        Hypothesis { seed, ..Hypothesis::default() }
    }

    /// What a tool works with on this bench; random streams that it opens are recorded in the run at work.
    #[must_use]
    pub fn context(&self) -> Context<'_> {
        self.context_for(self.listener())
    }

    pub(crate) fn context_for<'b>(&self, host: &'b dyn Host) -> Context<'b>
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
