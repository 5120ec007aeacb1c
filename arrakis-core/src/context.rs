//! What a tool works with: a model, random streams, and someone who listens.

use crate::{Error, Model, Result, Stream};

/// Who listens to a running tool: a command line, a notebook, a test.
pub trait Host {
    /// `done` of `total` steps are finished.
    fn progress(&self, done: u64, total: u64) {
        let _ = (done, total);
    }

    /// A line for the log.
    fn log(&self, line: &str) {
        let _ = line;
    }

    /// The random stream of that name was opened.
    fn stream(&self, name: &str) {
        let _ = name;
    }

    /// Whether the work is to stop.
    fn cancelled(&self) -> bool {
        false
    }
}

/// A host that does not listen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Host for Silent {}

/// What a tool works with.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    model: &'a dyn Model,
    host: &'a dyn Host,
    seed: u64,
    memory_limit: Option<u64>,
    dry_run: bool,
}

impl<'a> Context<'a> {
    /// A context on `model` with seed 0, no memory bound and nobody listening.
    #[must_use]
    pub fn new(model: &'a dyn Model) -> Self {
        Self { model, host: &Silent, seed: 0, memory_limit: None, dry_run: false }
    }

    /// The same context with somebody listening.
    #[must_use]
    pub const fn with_host(mut self, host: &'a dyn Host) -> Self {
        self.host = host;
        self
    }

    /// The same context with another root seed.
    #[must_use]
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The same context with a bound on the bytes that a tool may hold in activations.
    #[must_use]
    pub const fn with_memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// The same context, in which a sweep only says what it would run: it ends with [`Error::Planned`].
    #[must_use]
    pub const fn with_dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Whether a sweep is to say what it would run in place of running.
    #[must_use]
    pub const fn dry_run(&self) -> bool {
        self.dry_run
    }

    /// The model.
    #[must_use]
    pub const fn model(&self) -> &'a dyn Model {
        self.model
    }

    /// The root of the random streams.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The random stream of that name, from its beginning.
    #[must_use]
    pub fn stream(&self, name: &str) -> Stream {
        self.host.stream(name);
        Stream::new(self.seed, name)
    }

    /// Tells that `done` of `total` steps are finished; an error if the work was cancelled meanwhile.
    pub fn progress(&self, done: u64, total: u64) -> Result<()> {
        self.host.progress(done, total);
        self.cancelled()
    }

    /// An error if the work was cancelled.
    pub fn cancelled(&self) -> Result<()> {
        if self.host.cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Writes a line to the log.
    pub fn log(&self, line: &str) {
        self.host.log(line);
    }

    /// The bound on the bytes that a tool may hold in activations, if there is one.
    #[must_use]
    pub const fn memory_limit(&self) -> Option<u64> {
        self.memory_limit
    }
}
