//! Experiments: functions that know their own source, registered by name.

mod arguments;
mod kept;
mod logged;

use arrakis_core::{Field, ParameterFile, nearest_name};
use serde_json::Value;

use crate::{Asked, Bench, Error, Result, outside};

pub use arguments::{Given, Recorded};
pub use kept::{Keep, KeepAnswer, KeepJson, KeepPart, Kept, Returned};
pub use logged::{conduct, perform};

/// A registered experiment; `#[experiment]` makes one of a function.
#[derive(Debug, Clone, Copy)]
pub struct Experiment {
    /// The name of the function.
    pub name: &'static str,
    /// The module that it lies in: `my_crate::heads`.
    pub module: &'static str,
    /// The crate that holds it, with its version: `my-crate 0.1.0`.
    pub owner: &'static str,
    /// Its doc comment.
    pub doc: &'static str,
    /// Its exact text, comments included.
    pub source: &'static str,
    /// The version of its code: blake3 over its tokens, so that a comment keeps it and a token changes it.
    ///
    /// Of the function alone: what it calls is in the digest of the program, which is in the key of a run.
    pub version: &'static str,
    #[doc(hidden)]
    pub schema: fn() -> Value,
    #[doc(hidden)]
    pub check: fn(Value) -> Result<()>,
    #[doc(hidden)]
    pub run: fn(&Bench<'_>, Value) -> Result<Asked<Kept>>,
}

inventory::collect!(Experiment);

impl Experiment {
    /// Its arguments, the bench apart.
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        Field::of_schema(&(self.schema)())
    }

    /// The JSON schema of its arguments.
    #[must_use]
    pub fn schema(&self) -> Value {
        (self.schema)()
    }

    /// An error that names an argument that is unknown, missing or of another type.
    pub fn check(&self, arguments: Value) -> Result<()> {
        (self.check)(arguments)
    }

    /// Runs it with arguments as JSON; the errors are those of [`check`](Self::check) and its own.
    pub fn run(&self, bench: &Bench<'_>, arguments: Value) -> Result<Asked<Kept>> {
        (self.run)(bench, arguments)
    }

    /// The path of the function: `my_crate::heads::induction`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}::{}", self.module, self.name)
    }
}

/// Every experiment linked into this program, by name.
#[must_use]
pub fn experiments() -> Vec<&'static Experiment> {
    let mut experiments: Vec<&'static Experiment> = inventory::iter::<Experiment>.into_iter().collect();
    experiments.sort_by_key(|experiment| (experiment.name, experiment.module));
    experiments
}

/// The experiment of that name; the end of its path, `heads::induction`, where several have one name.
pub fn experiment(name: &str) -> Result<&'static Experiment> {
    let experiments = experiments();
    let ends = |path: &str| path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with("::"));
    let found: Vec<&'static Experiment> =
        experiments.iter().filter(|experiment| ends(&experiment.path())).copied().collect();
    match found[..] {
        [only] => Ok(only),
        [] => Err(Error::UnknownExperiment {
            name: name.to_owned(),
            nearest: nearest_name(name, experiments.iter().map(|experiment| experiment.name)),
        }),
        [first, second, ..] => {
            Err(Error::TwoExperiments { name: name.to_owned(), first: first.path(), second: second.path() })
        }
    }
}

#[doc(hidden)]
#[must_use]
pub fn schema<T: schemars::JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

impl Bench<'_> {
    /// Runs an experiment or asks a tool, by name with JSON.
    pub fn perform(&self, name: &str, parameters: Value) -> Result<Asked<Kept>> {
        match named(name)? {
            Named::Experiment(experiment) => experiment.run(self, parameters),
            Named::Tool => Ok(self.ask(name, parameters)?.map(Kept::Answer)),
        }
    }

    /// The error that [`perform`](Self::perform) would give for such a name or such parameters before anything runs: also
    /// for a file that they name and that is not there.
    pub fn check(name: &str, parameters: Value) -> Result<()> {
        outside::check(&Self::files(name, parameters)?)
    }

    /// The files that such parameters name; the errors are those of [`check`](Self::check), files that are not there apart.
    pub fn files(name: &str, parameters: Value) -> Result<Vec<ParameterFile>> {
        Ok(match named(name)? {
            Named::Experiment(experiment) => {
                experiment.check(parameters.clone())?;
                ParameterFile::of(&experiment.schema(), &parameters)?
            }
            Named::Tool => arrakis_core::tool(name)?.files(&Self::complete(name, parameters)?)?,
        })
    }
}

impl<T> Asked<T> {
    /// The same run, its answer made another by `change`.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Asked<U> {
        let Self { answer, record, folder, reused } = self;
        Asked { answer: change(answer), record, folder, reused }
    }
}

/// What has a name.
enum Named {
    Tool,
    Experiment(&'static Experiment),
}

/// The tool or experiment of that name; an error names the nearest of both.
fn named(name: &str) -> Result<Named> {
    if arrakis_core::tool(name).is_ok() {
        return Ok(Named::Tool);
    }
    experiment(name).map(Named::Experiment).map_err(|error| match error {
        Error::UnknownExperiment { .. } => {
            let tools = arrakis_core::tools();
            let known = tools.iter().map(|tool| tool.name()).chain(experiments().into_iter().map(|known| known.name));
            Error::UnknownWork { name: name.to_owned(), nearest: nearest_name(name, known) }
        }
        error => error,
    })
}
