//! Conducting a run: its record from the start, its work, its end; and what the work may record meanwhile.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Instant;

use arrakis_core::{Answer, Host, Stream};
use serde::Serialize;
use tch::Tensor;

use crate::running::Running;
use crate::{Asked, Bench, Error, Log, Metric, Note, Outcome, Record, Result, Subject, git, json};

impl<'a> Bench<'a> {
    /// Conducts a run of `subject`: `work` is given a bench that records in it.
    ///
    /// Tools that `work` asks of its bench are recorded as calls; runs that it conducts become children of this one.
    /// The run ends completed, failed with the error or panic of `work`, or interrupted where it was cancelled; if the
    /// process is killed it is found to be interrupted.
    ///
    /// ```no_run
    /// # fn show(bench: &arrakis_bench::Bench<'_>) -> arrakis_bench::Result<()> {
    /// use arrakis_bench::Subject;
    /// let subject = Subject::experiment("halves", serde_json::json!({ "count": 3 }));
    /// let asked = bench.conduct(&subject, |bench| {
    ///     for step in 0..3 {
    ///         bench.metric("half", step, 0.5_f64.powi(step as i32))?;
    ///     }
    ///     bench.result(&"done")
    /// })?;
    /// println!("{}: {:?}", asked.record.id, asked.record.metrics);
    /// # Ok(())
    /// # }
    /// ```
    pub fn conduct<T>(&self, subject: &Subject, work: impl FnOnce(&Bench<'a>) -> Result<T>) -> Result<Asked<T>> {
        let record = self.record(subject)?;
        let writing = self.log().map(|log| log.begin(&record)).transpose()?;
        if writing.is_some() && record.environment.git.is_some() {
            git::start();
        }
        let folder = writing.as_ref().map(|writing| writing.folder().to_path_buf());
        let running = Rc::new(Running::new(record, writing, self.host));
        let bench = self.within(Rc::clone(&running));
        let start = Instant::now();
        let outcome = guarded(&subject.name, || {
            if let Some(source) = &subject.source {
                running.source(source)?;
            }
            work(&bench)
        });
        let (answer, record) = running.end(outcome, start.elapsed())?;
        Ok(Asked { answer, record, folder, reused: false })
    }

    /// The completed run that can stand for one of `subject`, if this bench [reuses](Self::reuse) runs and has one.
    pub fn reusable(&self, subject: &Subject) -> Result<Option<Record>> {
        match self.log() {
            Some(log) if self.reuse => log.completed(&self.record(subject)?.key),
            _ => Ok(None),
        }
    }

    /// The result of such a run, as `read` reads it; one that cannot be read is told of and not used.
    pub(crate) fn recalled<T>(
        &self,
        subject: &Subject,
        read: impl FnOnce(&Log, &Record) -> Result<T>,
    ) -> Result<Option<Asked<T>>> {
        let (Some(log), Some(record)) = (self.log(), self.reusable(subject)?) else { return Ok(None) };
        match read(log, &record) {
            Ok(answer) => {
                let folder = Some(log.run_folder(&record.id));
                Ok(Some(Asked { answer, record, folder, reused: true }))
            }
            Err(error) => {
                self.listener().log(&format!("run {} is not reused: {error}", record.id));
                Ok(None)
            }
        }
    }

    /// The record of a run of `subject` that starts now.
    pub(crate) fn record(&self, subject: &Subject) -> Result<Record> {
        let parent = self.running.as_ref().map(|running| running.id()).or_else(|| self.parent.clone());
        Record::start(subject, self.seed, self.memory_limit, self.name.as_deref(), parent.as_deref(), self.model())
    }

    /// The id of the run at work, if there is one.
    #[must_use]
    pub fn run_id(&self) -> Option<String> {
        self.running.as_ref().map(|running| running.id())
    }

    /// Records a value of a metric; it is there also if the process is killed.
    pub fn metric(&self, name: impl Into<String>, step: u64, value: f64) -> Result<()> {
        self.at_work("metric")?.metric(Metric { name: name.into(), step, value })
    }

    /// Writes a free text about the run.
    pub fn note(&self, text: impl Into<String>) -> Result<()> {
        let note = Note::new(text);
        self.at_work("note")?.note(|record| record.notes.push(note))
    }

    /// Marks the run with a word to find it by.
    pub fn tag(&self, tag: impl Into<String>) -> Result<()> {
        let tag = tag.into();
        crate::edit::check_tag(&tag)?;
        self.at_work("tag")?.note(|record| {
            if !record.tags.contains(&tag) {
                record.tags.push(tag);
            }
        })
    }

    /// Stores a tensor as `<name>.safetensors`; one that is stored again under its name replaces the first.
    pub fn tensor(&self, name: &str, tensor: &Tensor) -> Result<()> {
        self.at_work("tensor")?.tensor(name, tensor)
    }

    /// Stores a file of the run's own, a table of another program, say.
    pub fn file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.at_work("file")?.file(name, bytes)
    }

    /// Stores a picture, its name ending with its form: `heads.svg`.
    pub fn picture(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let running = self.at_work("picture")?;
        running.file(name, bytes)?;
        running.picture(name)
    }

    /// Stores the result of the run, of any type; NaN and infinities survive as strings.
    ///
    /// [`Log::result`](crate::Log::result) reads it back.
    pub fn result<T: Serialize + ?Sized>(&self, result: &T) -> Result<()> {
        self.at_work("result")?.outcome(Outcome::Value, &json::to_value(result)?)
    }

    /// Stores the result of the run, made of shapes, which are drawn if this bench draws.
    ///
    /// [`Log::answer`](crate::Log::answer) reads it back.
    pub fn answer(&self, answer: &Answer) -> Result<()> {
        self.at_work("answer")?.answer(answer, self.draw)
    }

    /// The random stream of that name, from its beginning; a run records which were opened.
    #[must_use]
    pub fn stream(&self, name: &str) -> Stream {
        self.context().stream(name)
    }

    /// Tells that `done` of `total` steps are finished; an error if the work was cancelled meanwhile.
    pub fn progress(&self, done: u64, total: u64) -> Result<()> {
        Ok(self.context().progress(done, total)?)
    }

    /// Who listens: the run at work, if there is one, which passes on what it hears.
    #[must_use]
    pub fn listener(&self) -> &dyn Host {
        match &self.running {
            Some(running) => running.as_ref(),
            None => self.host,
        }
    }

    fn at_work(&self, what: &'static str) -> Result<&Running<'a>> {
        self.running.as_deref().ok_or(Error::NoRunAtWork { what })
    }
}

/// A panic of `work` as an error with its message.
pub(crate) fn guarded<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(Error::Panicked { name: name.to_owned(), message: message(panic.as_ref()) }))
}

fn message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        // LibTorch's words go on with a C++ backtrace, which the plain forms of tch write escaped.
        (_, Some(text)) => {
            let cut = |text: &str, mark: &str| text.split(mark).next().unwrap_or_default().to_owned();
            cut(&cut(text, "\nException raised"), "\\nException raised")
        }
        _ => "it did not say why".to_owned(),
    }
}
