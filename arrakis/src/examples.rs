//! An example for each tool: parameters that show something on the demo model, and the part of the answer worth a picture.

use arrakis_core::{Answer, Error, Part, Result};
use arrakis_graph::drawable;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The model that examples are for; `cargo xtask demo` puts it there.
pub const MODEL: &str = "models/SmolLM2-135M-Instruct.gguf";

/// The examples; files that they name lie in the project, and paths count from its root.
const EXAMPLES: &str = include_str!("../../docs/examples.json");

/// What a tool may be asked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// The tool's parameters.
    pub parameters: Map<String, Value>,
    /// The part of the answer that is drawn; the first that has a picture if absent.
    #[serde(default)]
    pub picture: Option<String>,
}

/// Every example with the name of its tool.
pub fn examples() -> Result<Vec<(String, Example)>> {
    let examples: Map<String, Value> = serde_json::from_str(EXAMPLES)?;
    let read = |(tool, example)| Ok((tool, serde_json::from_value(example)?));
    examples.into_iter().map(read).collect()
}

/// The example of a tool, if it has one.
pub fn example(tool: &str) -> Result<Option<Example>> {
    Ok(examples()?.into_iter().find(|(name, _)| name == tool).map(|(_, example)| example))
}

impl Example {
    /// The part of an answer that is drawn.
    pub fn drawn<'a>(&self, answer: &'a Answer) -> Result<&'a Part> {
        let wanted = |name: &str| self.picture.as_deref().is_none_or(|picture| picture == name);
        let mut parts = answer.parts().filter(|(name, part)| wanted(name) && drawable(part));
        parts.next().map(|(_, part)| part).ok_or_else(|| {
            let known: Vec<&str> = answer.parts().filter(|(_, part)| drawable(part)).map(|(name, _)| name).collect();
            Error::Invalid { what: "picture".into(), why: format!("the answer has {known:?} to draw") }
        })
    }
}
