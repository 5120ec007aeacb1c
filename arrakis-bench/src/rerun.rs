//! Runs done again: the same tool or experiment, parameters, seed and model.

use arrakis_core::device;
use tch::Kind;

use crate::{Asked, Bench, Error, Experiment, Kept, Record, Result, Study, Wanted, Work};
use crate::{device_name, dtype_name, environment, experiments};

impl Record {
    /// The model of the run as it was loaded; an error if the run does not say by which name.
    pub fn wanted(&self) -> Result<Wanted> {
        let refuse = |why: String| Error::NoRerun { id: self.id.clone(), why };
        let Some(name) = self.model.name.clone() else {
            return Err(refuse("it does not say which model it ran on; name it by `Bench::named`".into()));
        };
        let kinds = [Kind::Float, Kind::Double, Kind::BFloat16, Kind::Half];
        let kind = kinds.into_iter().find(|kind| dtype_name(*kind) == self.environment.dtype);
        let kind = kind.ok_or_else(|| refuse(format!("no model is loaded as {}", self.environment.dtype)))?;
        let device = device::device(&self.environment.device)?;
        Ok(Wanted { name, device, kind, layout: self.model.layout.clone() })
    }

    /// An error that says why the run cannot be done again here: by this program, on the files as they are now.
    pub fn check_rerun(&self) -> Result<()> {
        self.experiment()?;
        self.same_read()?;
        self.free_to_write()
    }

    /// The experiment of the run in this program, if it is a run of one; an error names the program that has it.
    pub fn experiment(&self) -> Result<Option<&'static Experiment>> {
        if self.what != Work::Experiment {
            return Ok(None);
        }
        let named: Vec<&'static Experiment> =
            experiments().into_iter().filter(|known| known.name == self.name).collect();
        let same_crate = |known: &&&Experiment| self.owner.as_deref().map(package) == Some(package(known.owner));
        // Of several with one name in one crate, the code tells which.
        let same_code = |known: &&&Experiment| self.version.as_deref() == Some(known.version);
        let of_crate: Vec<&&'static Experiment> = named.iter().filter(same_crate).collect();
        match &of_crate[..] {
            [only] => Ok(Some(only)),
            [] if self.environment.program.is_some() && self.environment.program == environment::program().0 => {
                let why = format!(
                    "this program has no `#[experiment]` `{}` of `{}`; what conducted it is to be called as it was then",
                    self.name,
                    self.owner.as_deref().unwrap_or("an unknown crate")
                );
                Err(Error::NoRerun { id: self.id.clone(), why })
            }
            [] => Err(Error::Elsewhere {
                id: self.id.clone(),
                name: self.name.clone(),
                owner: self.owner.clone().unwrap_or_else(|| "an unknown crate".into()),
                program: self.environment.program.clone().unwrap_or_else(|| "an unknown program".into()),
            }),
            several => several.iter().copied().find(same_code).map(|found| Some(*found)).ok_or_else(|| {
                let why = format!("{} experiments are called `{}`, and none has its code", several.len(), self.name);
                Error::NoRerun { id: self.id.clone(), why }
            }),
        }
    }
}

/// The name in `name 0.1.0`.
fn package(owner: &str) -> &str {
    owner.split(' ').next().unwrap_or(owner)
}

impl Bench<'_> {
    /// Does a run again, with its parameters, its seed and its number of threads, as a new run of this bench.
    ///
    /// An error if this bench's model is not the one of the run, down to its weights, if this program does not have the
    /// experiment, if a file that the run read is another now, or if something else would be lost where it wrote. An
    /// experiment whose code has changed since is run as it is now, and the host is told.
    pub fn rerun(&self, before: &Record) -> Result<Asked<Kept>> {
        self.same_model(before)?;
        before.check_rerun()?;
        crate::plugin::since(before)?.iter().for_each(|words| self.listener().log(words));
        let experiment = before.experiment()?;
        let mut bench = self.clone().seed(before.seed).reuse(false);
        (bench.memory_limit, bench.rerun) = (before.memory_limit, true);
        let _threads = Threads::set(before.environment.threads);
        let parameters = before.parameters.clone();
        match (before.what, experiment) {
            (Work::Study, _) => {
                let study: Study = serde_json::from_value(parameters)
                    .map_err(|error| Error::NoRerun { id: before.id.clone(), why: error.to_string() })?;
                Ok(study.run(&bench)?.asked.map(Kept::Answer))
            }
            (_, None) => Ok(bench.ask(&before.name, parameters)?.map(Kept::Answer)),
            (_, Some(experiment)) => {
                if before.version.as_deref() != Some(experiment.version) {
                    bench.listener().log(&format!(
                        "`{}` has other code than in run `{}`",
                        experiment.path(),
                        before.id
                    ));
                }
                experiment.run(&bench, parameters)
            }
        }
    }

    /// An error that says in what this bench's model is not the one of a run.
    fn same_model(&self, before: &Record) -> Result<()> {
        let (model, was) = (self.model(), &before.model);
        let optional = |value: Option<&str>| value.unwrap_or("none").to_owned();
        let properties = [
            ("digest", was.digest.clone(), model.digest()?),
            ("dtype", before.environment.dtype.clone(), dtype_name(model.kind())),
            ("device", before.environment.device.clone(), device_name(model.device())),
            ("layout", optional(was.layout.as_deref()), optional(model.layout())),
            // Format 1 did not say by which tokenizer.
            match before.format {
                1 => ("tokenizer", String::new(), String::new()),
                _ => ("tokenizer", optional(was.tokenizer.as_deref()), optional(model.tokenizer_digest()?.as_deref())),
            },
        ];
        match properties.into_iter().find(|(_, was, is)| was != is) {
            None => Ok(()),
            Some((what, was, is)) => Err(Error::OtherModel { id: before.id.clone(), what, was, is }),
        }
    }
}

/// LibTorch's number of threads, for a while.
struct Threads(i32);

impl Threads {
    fn set(threads: i32) -> Self {
        let before = tch::get_num_threads();
        if threads != before {
            tch::set_num_threads(threads);
        }
        Self(before)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if tch::get_num_threads() != self.0 {
            tch::set_num_threads(self.0);
        }
    }
}
