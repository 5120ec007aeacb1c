//! A run at work: what it records of itself while it goes on.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use arrakis_core::{Answer, Draw, Error as CoreError, Host};
use serde_json::Value;
use tch::Tensor;

use crate::environment::peak_memory;
use crate::export::PAGE;
use crate::writing::{METRICS, RECORD, RESULT, SOURCE, TENSORS, Writing};
use crate::{Call, Error, FileRecord, Metric, Outcome, Record, Result, Status, git, tensors};

/// The names that a run gives to files of its own.
const TAKEN: [&str; 6] = [RECORD, RESULT, TENSORS, SOURCE, METRICS, PAGE];

/// A run at work; it listens for its bench, so that it hears of the random streams that are opened.
pub(crate) struct Running<'a> {
    record: RefCell<Record>,
    /// Where it is written, unless nothing is logged.
    writing: Option<Writing>,
    host: &'a dyn Host,
    /// What storing and drawing took.
    aside: Cell<Duration>,
    ended: Cell<bool>,
}

impl<'a> Running<'a> {
    pub(crate) fn new(record: Record, writing: Option<Writing>, host: &'a dyn Host) -> Self {
        let (aside, ended) = (Cell::default(), Cell::default());
        Self { record: RefCell::new(record), writing, host, aside, ended }
    }

    pub(crate) fn id(&self) -> String {
        self.record.borrow().id.clone()
    }

    /// Changes the record; an error if the run has ended, for nothing would keep the change.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        self.at_work()?;
        change(&mut self.record.borrow_mut());
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
        check_name(name)?;
        self.store(name, |writing| writing.file(name, bytes))
    }

    /// Stores a tensor in a file of its own.
    pub(crate) fn tensor(&self, name: &str, tensor: &Tensor) -> Result<()> {
        let file = format!("{name}.safetensors");
        check_name(&file)?;
        self.free_name(name, &file)?;
        let described = tensors::describe(&file, tensor)?;
        self.store(&file, |writing| {
            tensors::write_tensors(&writing.folder().join(&file), [(name.to_owned(), tensor)])?;
            writing.keep(&file)
        })?;
        self.note(|record| drop(record.tensors.insert(name.to_owned(), described)))
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
            self.note(|record| record.tensors.extend(described))?;
        }
        self.outcome(Outcome::Answer, &json)?;
        let (Some(draw), Some(writing)) = (draw, &self.writing) else { return Ok(()) };
        match self.aside(|| writing.draw(draw, answer)) {
            Ok(names) => names.into_iter().try_for_each(|name| {
                self.store(&name, |writing| writing.keep(&name))?;
                self.picture(&name)
            }),
            Err(error) => self.note(|record| record.warnings.push(format!("no picture: {error}"))),
        }
    }

    /// Stores the JSON of the result; an error if there is one already.
    pub(crate) fn outcome(&self, kind: Outcome, json: &Value) -> Result<()> {
        self.no_result()?;
        self.store(RESULT, |writing| writing.json(RESULT, json))?;
        self.note(|record| record.outcome = Some(kind))
    }

    /// Counts a file of the run among its pictures.
    pub(crate) fn picture(&self, name: &str) -> Result<()> {
        self.note(|record| {
            if !record.pictures.iter().any(|known| known == name) {
                record.pictures.push(name.to_owned());
            }
        })
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
        self.note(|record| match record.metrics.iter_mut().find(|known| known.name == metric.name) {
            Some(last) => *last = metric,
            None => record.metrics.push(metric),
        })
    }

    pub(crate) fn called(&self, call: Call) -> Result<()> {
        self.note(|record| record.calls.push(call))
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

    /// Writes a file of the run, if it is logged, and names it in the record.
    fn store(&self, name: &str, write: impl FnOnce(&Writing) -> Result<FileRecord>) -> Result<()> {
        self.at_work()?;
        let Some(writing) = &self.writing else { return Ok(()) };
        let before = self.record.borrow().files.get(name).cloned();
        let written = self.aside(|| {
            let written = write(writing)?;
            if let Some(before) = before.filter(|before| before.digest != written.digest) {
                writing.free(name, &before);
            }
            Ok::<_, Error>(written)
        })?;
        self.note(|record| drop(record.files.insert(name.to_owned(), written)))
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
        let mut record = self.record.borrow_mut();
        if !record.streams.iter().any(|known| known == name) {
            record.streams.push(name.to_owned());
        }
    }

    fn cancelled(&self) -> bool {
        self.host.cancelled()
    }
}

/// An error if a file of a run cannot have that name.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let refuse = |why: &str| Err(CoreError::Invalid { what: format!("file name `{name}`"), why: why.into() }.into());
    if TAKEN.contains(&name) {
        return refuse("the run has a file of its own of that name; choose another");
    }
    let letters = |letter: char| letter.is_alphanumeric() || " -_.,+=@()[]".contains(letter);
    if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.chars().all(letters) {
        return refuse(
            "give letters, digits and `-_.` alone, no folder, at most 200 bytes, and no dot at the beginning",
        );
    }
    Ok(())
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
