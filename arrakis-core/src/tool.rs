//! Tools: a tool is a question. Its fields are the parameters, its doc comments the help, `run` is the answer.

use std::sync::{PoisonError, RwLock};

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::plugin::LoadedTool;
use crate::{Answer, Context, Error, Model, ParameterFile, Result, misfit, nearest_name};

/// A question that can be asked of a model.
///
/// Derive `Serialize`, `Deserialize` and `JsonSchema`, deny unknown fields, and [`register_tools!`](crate::register_tools)
/// it; then it can be asked from Rust, by name with JSON, and from the command line. A field that names a file says
/// whether that is read or written ([`ParameterFile`]), so that runs on other files are told apart.
pub trait Tool: Serialize + DeserializeOwned + JsonSchema {
    /// The name: subject, point, question; `logit_lens.lens`.
    const NAME: &'static str;

    /// The typed answer.
    type Output: Into<Answer>;

    /// Answers the question.
    fn run(&self, cx: &Context<'_>) -> Result<Self::Output>;

    /// What is measured, in words and with the ids of tokens, so that whoever asks by name sees which were meant; the
    /// answer's first part, `measured`.
    fn measured(&self, _model: &dyn Model) -> Result<Option<String>> {
        Ok(None)
    }
}

/// A registered tool, linked into this program or loaded.
#[derive(Clone, Copy)]
pub struct ToolEntry {
    name: &'static str,
    owner: &'static str,
    source: Source,
}

#[derive(Clone, Copy)]
enum Source {
    /// Erased to functions.
    Linked {
        schema: fn() -> Value,
        ask: fn(Value, &Context<'_>) -> Result<Answer>,
        complete: fn(Value) -> Result<Value>,
    },
    Loaded(&'static LoadedTool),
}

inventory::collect!(ToolEntry);

impl ToolEntry {
    /// The entry of a tool; `owner` is the crate that holds it.
    #[must_use]
    pub const fn of<T: Tool>(owner: &'static str) -> Self {
        let source = Source::Linked { schema: schema::<T>, ask: ask::<T>, complete: complete::<T> };
        Self { name: T::NAME, owner, source }
    }

    /// The entry of a tool of a plugin.
    pub(crate) const fn loaded(name: &'static str, owner: &'static str, tool: &'static LoadedTool) -> Self {
        Self { name, owner, source: Source::Loaded(tool) }
    }

    /// The tool's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The crate that holds it, with its version.
    #[must_use]
    pub const fn owner(&self) -> &'static str {
        self.owner
    }

    /// What the tool answers: the doc comment of its struct.
    #[must_use]
    pub fn doc(&self) -> String {
        self.schema().get("description").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Whether the first line of its help has a word that begins so.
    fn speaks_of(&self, word: &str) -> bool {
        let line = self.doc().lines().next().unwrap_or_default().to_lowercase();
        let word = word.to_lowercase();
        word.chars().count() >= 3
            && line.split(|letter: char| !letter.is_alphanumeric()).any(|own| own.starts_with(&word))
    }

    /// The JSON schema of its parameters.
    #[must_use]
    pub fn schema(&self) -> Value {
        match self.source {
            Source::Linked { schema, .. } => schema(),
            Source::Loaded(tool) => tool.schema().clone(),
        }
    }

    /// Its parameters, from the schema.
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        Field::of_schema(&self.schema())
    }

    /// The files that such parameters name.
    pub fn files(&self, parameters: &Value) -> Result<Vec<ParameterFile>> {
        ParameterFile::of(&self.schema(), parameters)
    }

    /// Asks with JSON parameters.
    pub fn ask(&self, parameters: Value, cx: &Context<'_>) -> Result<Answer> {
        match self.source {
            Source::Linked { ask, .. } => ask(parameters, cx),
            Source::Loaded(tool) => tool.ask(&parameters, cx),
        }
    }

    /// The parameters with every default filled in, without asking.
    pub fn complete(&self, parameters: Value) -> Result<Value> {
        match self.source {
            Source::Linked { complete, .. } => complete(parameters),
            Source::Loaded(tool) => tool.complete(parameters),
        }
    }
}

/// One parameter of a tool.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What it is: the doc comment of the field.
    pub doc: String,
    /// Whether it must be given.
    pub required: bool,
    /// What stands if it is not given.
    pub default: Option<Value>,
    /// Its JSON schema.
    pub schema: Value,
}

impl Field {
    /// The properties of an object's JSON schema, in order.
    #[must_use]
    pub fn of_schema(schema: &Value) -> Vec<Self> {
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let field = |(name, schema): (String, Value)| Self {
            required: required.contains(&name.as_str()),
            doc: schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned(),
            default: schema.get("default").cloned(),
            schema,
            name,
        };
        properties.into_iter().map(field).collect()
    }
}

/// The tools of loaded plugins.
static LOADED: RwLock<Vec<&'static ToolEntry>> = RwLock::new(Vec::new());

/// Every tool linked into this program or loaded, by name.
#[must_use]
pub fn tools() -> Vec<&'static ToolEntry> {
    let mut tools: Vec<&'static ToolEntry> = inventory::iter::<ToolEntry>.into_iter().collect();
    tools.extend(LOADED.read().unwrap_or_else(PoisonError::into_inner).iter());
    tools.sort_by_key(|tool| tool.name);
    tools
}

/// Adds loaded tools to those that are found by name: all of them, or none where a name is taken.
pub fn register(entries: &'static [ToolEntry]) -> Result<()> {
    let mut loaded = LOADED.write().unwrap_or_else(PoisonError::into_inner);
    for (place, entry) in entries.iter().enumerate() {
        let known = inventory::iter::<ToolEntry>.into_iter().chain(loaded.iter().copied()).chain(&entries[..place]);
        if let Some(holder) = known.into_iter().find(|known| known.name == entry.name) {
            let (owner, other) = (holder.owner.to_owned(), entry.owner.to_owned());
            return Err(Error::ToolTaken { name: entry.name.to_owned(), owner, other });
        }
    }
    loaded.extend(entries);
    Ok(())
}

/// The tool of that name; an error names the nearest, or those that are about it.
pub fn tool(name: &str) -> Result<&'static ToolEntry> {
    let tools = tools();
    tools.iter().find(|tool| tool.name == name).copied().ok_or_else(|| {
        let names = |of: &dyn Fn(&ToolEntry) -> bool| -> Vec<String> {
            tools.iter().filter(|tool| of(tool)).map(|tool| tool.name.to_owned()).collect()
        };
        let mut others = names(&|tool| tool.name.split_once('.').is_some_and(|(subject, _)| subject == name));
        let nearest = nearest_name(name, tools.iter().map(|tool| tool.name)).filter(|_| others.is_empty());
        if nearest.is_none() && others.is_empty() {
            others = names(&|tool| tool.speaks_of(name));
        }
        Error::UnknownTool { name: name.to_owned(), nearest, others }
    })
}

fn schema<T: Tool>() -> Value {
    schemars::schema_for!(T).to_value()
}

fn parse<T: Tool>(parameters: Value) -> Result<T> {
    let parameters = if parameters.is_null() { Value::Object(Map::new()) } else { parameters };
    T::deserialize(&parameters).map_err(|error| {
        let schema = schema::<T>();
        let properties = schema.get("properties");
        let misfit = parameters
            .as_object()
            .into_iter()
            .flatten()
            .find_map(|(name, value)| misfit(properties?.get(name)?, &schema, value, name));
        Error::Parameters { tool: T::NAME.into(), why: misfit.unwrap_or_else(|| error.to_string()) }
    })
}

fn ask<T: Tool>(parameters: Value, cx: &Context<'_>) -> Result<Answer> {
    let tool = parse::<T>(parameters)?;
    let answer = tool.run(cx)?.into();
    Ok(match tool.measured(cx.model())? {
        Some(words) => Answer::new().with("measured", words).and(answer),
        None => answer,
    })
}

fn complete<T: Tool>(parameters: Value) -> Result<Value> {
    Ok(serde_json::to_value(parse::<T>(parameters)?)?)
}

/// Registers tools, so that they can be asked by name: `register_tools!(LogitLens, Patterns);`.
#[macro_export]
macro_rules! register_tools {
    ($($tool:ty),+ $(,)?) => {$(
        $crate::inventory::submit! {
            $crate::ToolEntry::of::<$tool>(concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")))
        }
        // Which tools a library has is read from its file before any of its code runs.
        const _: () = {
            const TEXT: &[&str] = &$crate::plugin::stamp::tool_text(
                <$tool as $crate::Tool>::NAME,
                concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")),
            );
            #[used]
            #[cfg_attr(target_os = "linux", unsafe(link_section = ".note.arrakis"))]
            static NOTE: $crate::plugin::stamp::Note<{ $crate::plugin::stamp::note_len(TEXT) }> =
                $crate::plugin::stamp::note($crate::plugin::stamp::TOOL, TEXT);
        };
    )+};
}
