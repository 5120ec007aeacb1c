//! The tools of one subject, at hand in an experiment.

use arrakis_core::{Answer, Error as CoreError, Tool, nearest_name};
use serde_json::Value;

use crate::{Asked, Bench, Result};

/// The tools of one subject: those whose names begin with it.
///
/// ```no_run
/// # fn show(bench: &arrakis_bench::Bench<'_>) -> arrakis_bench::Result<()> {
/// let lens = bench.use_tools("logit_lens")?;
/// let asked = lens.ask("lens", serde_json::json!({ "prompt": "The capital of France is" }))?;
/// println!("{} knows {:?}", asked.answer, lens.questions());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct Tools<'b, 'a> {
    bench: &'b Bench<'a>,
    subject: &'b str,
}

impl<'a> Bench<'a> {
    /// The tools of a subject: built in, of the user's crates and of plugins; an error names the nearest subject.
    pub fn use_tools<'b>(&'b self, subject: &'b str) -> Result<Tools<'b, 'a>> {
        let names: Vec<&str> = arrakis_core::tools().iter().map(|tool| tool.name()).collect();
        let mut subjects = names.iter().filter_map(|name| Some(name.rsplit_once('.')?.0));
        if subjects.clone().any(|known| known == subject) {
            return Ok(Tools { bench: self, subject });
        }
        let nearest = nearest_name(subject, &mut subjects);
        Err(CoreError::UnknownTool { name: subject.to_owned(), nearest, others: Vec::new() }.into())
    }
}

impl Tools<'_, '_> {
    /// What can be asked: the names of the tools without the subject.
    #[must_use]
    pub fn questions(&self) -> Vec<&'static str> {
        let tools = arrakis_core::tools();
        let of_subject = tools.iter().filter_map(|tool| tool.name().rsplit_once('.'));
        of_subject.filter(|(subject, _)| *subject == self.subject).map(|(_, question)| question).collect()
    }

    /// Asks by name: `ask("lens", ..)` of `logit_lens` asks `logit_lens.lens`. The errors are those of [`Bench::ask`].
    pub fn ask(&self, question: &str, parameters: Value) -> Result<Asked<Answer>> {
        self.bench.ask(&format!("{}.{question}", self.subject), parameters)
    }

    /// Asks a tool of this program; an error if it is of another subject.
    pub fn run<T: Tool>(&self, tool: &T) -> Result<Asked<T::Output>>
    where
        T::Output: Clone,
    {
        if T::NAME.rsplit_once('.').is_none_or(|(subject, _)| subject != self.subject) {
            let why = format!("it is no tool of `{}`; use its own subject", self.subject);
            return Err(CoreError::Invalid { what: format!("tool `{}`", T::NAME), why }.into());
        }
        self.bench.run(tool)
    }
}
