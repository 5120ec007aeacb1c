//! Asking tools: typed or by name, as a run of their own or as a call of the run at work.

use std::cell::Cell;
use std::time::Instant;

use arrakis_core::{Answer, Context, Host, SweepPlan, Tool, ToolEntry, tool};
use serde_json::Value;

use crate::conduct::guarded;
use crate::journal::Event;
use crate::running::digest_of_answer;
use crate::{Asked, Bench, Call, Error, Result, Status, Subject, json, parameters};

impl Bench<'_> {
    /// Asks a tool of this program; within an experiment it is a call of the run.
    pub fn run<T: Tool>(&self, tool: &T) -> Result<Asked<T::Output>>
    where
        T::Output: Clone,
    {
        let parameters = json::to_value(tool)?;
        let files = ToolEntry::of::<T>("").files(&parameters)?;
        let subject = Subject::tool(T::NAME, parameters).files(files);
        let subject = match arrakis_core::tool(T::NAME) {
            Ok(entry) => subject.owner(entry.owner()),
            Err(_) => subject,
        };
        self.ask_as(&subject, |cx| tool.run(cx), |output| output.clone().into())
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
        let subject = Subject::tool(name, parameters.clone()).owner(tool.owner()).files(tool.files(&parameters)?);
        if self.running.is_none()
            && let Some(reused) = self.recalled(&subject, |log, record| log.answer(&record.id))?
        {
            return Ok(reused);
        }
        self.ask_as(&subject, |cx| tool.ask(parameters, cx), Answer::clone)
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

    fn ask_as<T>(
        &self,
        subject: &Subject,
        ask: impl FnOnce(&Context<'_>) -> arrakis_core::Result<T>,
        answer: impl FnOnce(&T) -> Answer,
    ) -> Result<Asked<T>> {
        let Some(running) = &self.running else {
            return self.conduct(subject, |bench| {
                let value = ask(&bench.context())?;
                bench.answer(&answer(&value))?;
                Ok(value)
            });
        };
        let mut record = self.record(subject)?;
        running.inherit(&record)?;
        let start = Instant::now();
        let outcome = guarded(&subject.name, || Ok(ask(&self.context())?));
        let seconds = start.elapsed().as_secs_f64();
        let digest = outcome.as_ref().ok().map(|value| digest_of_answer(&answer(value))).transpose()?;
        let error = outcome.as_ref().err().map(ToString::to_string);
        let (tool, parameters) = (subject.name.clone(), subject.parameters.clone());
        running.add(Event::Call(Call { tool, parameters, digest, error, seconds }))?;
        if outcome.is_ok() {
            subject.still(&record)?;
            record.wrote = subject.written()?;
            running.inherit(&record)?;
        }
        (record.status, record.seconds) = (Status::Completed, Some(seconds));
        outcome.map(|answer| Asked { answer, record, folder: None, reused: false })
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
