//! A run at work: what it records of itself while it goes on.

mod names;

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use arrakis_core::{Answer, Draw, Error as CoreError, Host};
use serde_json::Value;
use tch::Tensor;

use crate::environment::peak_memory;
use crate::journal::Event;
use crate::writing::{METRICS, RESULT, SOURCE, TENSORS, Writing};
use crate::{Error, FileRecord, Metric, Outcome, Record, Result, Status, git, tensors};
use names::{Names, Owner};

/// A run at work; it listens for its bench, so that it hears of the random streams that are opened.
pub(crate) struct Running<'a> {
    record: RefCell<Record>,
    /// Where it is written, unless nothing is logged.
    writing: Option<Writing>,
    host: &'a dyn Host,
    /// What storing and drawing took.
    aside: Cell<Duration>,
    ended: Cell<bool>,
    names: Names,
}

impl<'a> Running<'a> {
    pub(crate) fn new(record: Record, writing: Option<Writing>, host: &'a dyn Host) -> Self {
        let (aside, ended, names) = (Cell::default(), Cell::default(), Names::default());
        Self { record: RefCell::new(record), writing, host, aside, ended, names }
    }

    pub(crate) fn id(&self) -> String {
        self.record.borrow().id.clone()
    }

    /// Adds to the record, and to the journal; an error if the run has ended, for nothing would keep it.
    pub(crate) fn add(&self, event: Event) -> Result<()> {
        self.at_work()?;
        if let Some(writing) = &self.writing {
            writing.journal(&event)?;
        }
        event.enter(&mut self.record.borrow_mut());
        Ok(())
    }

    fn at_work(&self) -> Result<()> {
        if self.ended.get() {
            let (what, why) = (format!("run `{}`", self.record.borrow().id), "it has ended".into());
            return Err(CoreError::Invalid { what, why }.into());
        }
        Ok(())
    }

    /// Stores the exact code.
    pub(crate) fn source(&self, text: &str) -> Result<()> {
        self.store(SOURCE, |writing| writing.file(SOURCE, text.as_bytes()))
    }

    /// Stores a file under a name of the user's.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.store_as(Owner::File, name, |writing| writing.file(name, bytes))
    }

    /// Stores a picture under a name of the user's.
    pub(crate) fn picture(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.store_as(Owner::Picture, name, |writing| writing.file(name, bytes))?;
        self.add(Event::Picture(name.to_owned()))
    }

    /// Stores a tensor in a file of its own.
    pub(crate) fn tensor(&self, name: &str, tensor: &Tensor) -> Result<()> {
        let file = format!("{name}.safetensors");
        self.free_name(name, &file)?;
        let described = tensors::describe(&file, tensor)?;
        self.store_as(Owner::Tensor(name.to_owned()), &file, |writing| {
            tensors::write_tensors(&writing.folder().join(&file), [(name.to_owned(), tensor)])?;
            writing.keep(&file)
        })?;
        self.add(Event::Tensor(name.to_owned(), described))
    }

    /// Stores the answer, and its pictures; a picture that cannot be drawn is a warning, for the numbers are there.
    pub(crate) fn answer(&self, answer: &Answer, draw: Option<&dyn Draw>) -> Result<()> {
        self.no_result()?;
        let (json, named) = answer.split()?;
        if !named.is_empty() {
            named.iter().try_for_each(|(name, _)| self.free_name(name, TENSORS))?;
            let described: Vec<_> = named
                .iter()
                .map(|(name, tensor)| Ok((name.clone(), tensors::describe(TENSORS, tensor)?)))
                .collect::<Result<_>>()?;
            self.store(TENSORS, |writing| {
                let named = named.iter().map(|(name, tensor)| (name.clone(), tensor));
                tensors::write_tensors(&writing.folder().join(TENSORS), named)?;
                writing.keep(TENSORS)
            })?;
            described.into_iter().try_for_each(|(name, tensor)| self.add(Event::Tensor(name, tensor)))?;
        }
        self.outcome(Outcome::Answer, &json)?;
        let (Some(draw), Some(writing)) = (draw, &self.writing) else { return Ok(()) };
        let warn = |error: &Error| self.add(Event::Warning(format!("no picture: {error}")));
        let free = |name: &str| self.names.free(name, &Owner::Drawn);
        match self.aside(|| writing.draw(draw, answer, &|name| free(name).is_err())) {
            Ok(names) => names.into_iter().try_for_each(|name| match free(&name) {
                Ok(()) => {
                    self.store_as(Owner::Drawn, &name, |writing| writing.keep(&name))?;
                    self.add(Event::Picture(name))
                }
                Err(error) => warn(&error),
            }),
            Err(error) => warn(&error),
        }
    }

    /// Stores the JSON of the result; an error if there is one already.
    pub(crate) fn outcome(&self, kind: Outcome, json: &Value) -> Result<()> {
        self.no_result()?;
        self.store(RESULT, |writing| writing.json(RESULT, json))?;
        self.add(Event::Outcome(kind))
    }

    fn no_result(&self) -> Result<()> {
        if self.record.borrow().outcome.is_none() {
            return Ok(());
        }
        let why = "the run has one already; store more as tensors, files or metrics".into();
        Err(CoreError::Invalid { what: "result".into(), why }.into())
    }

    pub(crate) fn metric(&self, metric: Metric) -> Result<()> {
        self.at_work()?;
        if let Some(writing) = &self.writing {
            writing.metric(&metric)?;
        }
        metric.enter(&mut self.record.borrow_mut().metrics);
        Ok(())
    }

    /// Remembers a file outside the log that was read; not one that the run itself has written.
    pub(crate) fn read(&self, path: String, file: FileRecord) -> Result<()> {
        let (known, own) = {
            let record = self.record.borrow();
            (record.read.get(&path).cloned(), record.wrote.contains_key(&path))
        };
        match known {
            _ if own => Ok(()),
            Some(known) if known == file => Ok(()),
            Some(_) => self.add(Event::Warning(format!("`{path}` changed while it was read again and again"))),
            None => self.add(Event::Read(path, file)),
        }
    }

    /// Remembers a file outside the log that was written.
    pub(crate) fn wrote(&self, path: String, file: FileRecord) -> Result<()> {
        self.add(Event::Wrote(path, file))
    }

    /// Remembers the files outside the log that a part of the run read and wrote.
    pub(crate) fn inherit(&self, part: &Record) -> Result<()> {
        part.read.iter().try_for_each(|(path, file)| self.read(path.clone(), file.clone()))?;
        part.wrote.iter().try_for_each(|(path, file)| self.wrote(path.clone(), file.clone()))
    }

    /// The record as it is by now.
    pub(crate) fn record(&self) -> Record {
        self.record.borrow().clone()
    }

    /// The last word on the run, which took so long.
    pub(crate) fn end<T>(&self, mut outcome: Result<T>, took: Duration) -> Result<(T, Record)> {
        let seconds = took.saturating_sub(self.aside.get()).as_secs_f64();
        let metrics = self.writing.as_ref().is_some_and(|writing| writing.folder().join(METRICS).exists());
        if metrics
            && let Err(error) = self.store(METRICS, |writing| writing.keep(METRICS))
            && outcome.is_ok()
        {
            outcome = Err(error);
        }
        self.ended.set(true);
        let mut record = self.record.borrow_mut();
        record.seconds = Some(seconds);
        record.ended = Some(jiff::Timestamp::now());
        record.peak_memory = peak_memory();
        record.status = match &outcome {
            Ok(_) => Status::Completed,
            Err(Error::Core(CoreError::Cancelled)) => Status::Interrupted,
            Err(_) => Status::Failed,
        };
        record.error = outcome.as_ref().err().map(ToString::to_string);
        for warning in &record.warnings {
            self.host.log(warning);
        }
        if let Some(writing) = &self.writing {
            if let Some(git) = &mut record.environment.git {
                git.dirty = git::dirty();
            }
            let written = writing.end(&mut record);
            // The error of the work matters more than that it could not be written down.
            if outcome.is_ok() {
                written?;
            }
        }
        outcome.map(|value| (value, record.clone()))
    }

    /// An error if another file has a tensor of that name.
    fn free_name(&self, name: &str, file: &str) -> Result<()> {
        match self.record.borrow().tensors.get(name) {
            Some(there) if there.file != file => {
                let why = format!("the run has one in `{}`; choose another name", there.file);
                Err(CoreError::Invalid { what: format!("tensor `{name}`"), why }.into())
            }
            _ => Ok(()),
        }
    }

    /// Writes a file that is `owner`'s; an error if the run has stored something else under its name.
    fn store_as(&self, owner: Owner, name: &str, write: impl FnOnce(&Writing) -> Result<FileRecord>) -> Result<()> {
        self.names.free(name, &owner)?;
        self.store(name, write)?;
        self.names.take(name, owner);
        Ok(())
    }

    /// Writes a file of the run, if it is logged, and names it in the record.
    fn store(&self, name: &str, write: impl FnOnce(&Writing) -> Result<FileRecord>) -> Result<()> {
        self.at_work()?;
        let Some(writing) = &self.writing else { return Ok(()) };
        let before = self.record.borrow().files.get(name).cloned();
        let written = self.aside(|| {
            if let Some(before) = before {
                // A process that is killed between the two contents names neither, and leaves nothing that no run has.
                writing.journal(&Event::Again(name.to_owned()))?;
                writing.free(name, &before);
            }
            write(writing)
        })?;
        self.add(Event::File(name.to_owned(), written))
    }

    /// Does what is not counted as work.
    fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        self.aside.set(self.aside.get() + start.elapsed());
        done
    }
}

impl Host for Running<'_> {
    fn progress(&self, done: u64, total: u64) {
        self.host.progress(done, total);
    }

    fn log(&self, line: &str) {
        self.host.log(line);
    }

    fn stream(&self, name: &str) {
        self.host.stream(name);
        if self.record.borrow().streams.iter().any(|known| known == name) {
            return;
        }
        let event = Event::Stream(name.to_owned());
        // Where the journal cannot be written, the record will not be either, and that is an error.
        if self.add(event.clone()).is_err() && !self.ended.get() {
            event.enter(&mut self.record.borrow_mut());
        }
    }

    fn cancelled(&self) -> bool {
        self.host.cancelled()
    }
}

/// The digest of an answer: blake3 over its JSON and over each of its tensors.
pub(crate) fn digest_of_answer(answer: &Answer) -> Result<String> {
    let (json, named) = answer.split()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(json.to_string().as_bytes());
    for (name, tensor) in &named {
        let described = tensors::describe("", tensor)?;
        hasher.update(format!("\n{name} {} {:?} {}", described.dtype, described.shape, described.digest).as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}
