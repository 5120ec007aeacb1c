//! Tools of a loaded library, asked like linked ones.

#![allow(unsafe_code)]

use serde_json::{Map, Value};

use super::abi::{self, Call, Entry};
use super::crossing::{lend_text, mistake, read, strided, text};
use super::failure::{asked, there};
use super::handles::counted;
use super::host::{HOST, Held, Running};
use super::stamp::StampedTool;
use crate::{Answer, Context, Error, Result, ToolEntry};

/// A tool of a loaded plugin.
pub struct LoadedTool {
    name: &'static str,
    table: abi::Tool,
    schema: Value,
}

// SAFETY: the functions of a plugin may be called from any thread, and at the same time; its library stays loaded.
unsafe impl Send for LoadedTool {}
// SAFETY: as above.
unsafe impl Sync for LoadedTool {}

/// Tensors that changed hands on this thread; what one side has given the other has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handles {
    /// Given to a plugin.
    pub given: u64,
    /// Taken from a plugin, those that it freed through the host among them.
    pub taken: u64,
}

impl Handles {
    /// Those of this program.
    #[must_use]
    pub fn here() -> Self {
        let (given, taken) = counted();
        Self { given, taken }
    }
}

/// What a plugin handed over.
pub struct Adopted {
    /// Its tools.
    pub tools: Vec<ToolEntry>,
    count: Option<unsafe extern "C" fn(given: *mut u64, taken: *mut u64)>,
}

impl Adopted {
    /// The tensors that the plugin has given and taken on this thread, if it counts them.
    #[must_use]
    pub fn handles(&self) -> Option<Handles> {
        let (mut given, mut taken) = (0, 0);
        // SAFETY: the library stays loaded, and both are places for a number.
        self.count.map(|count| unsafe { count(&raw mut given, &raw mut taken) })?;
        Some(Handles { given, taken })
    }
}

/// Takes over the tools of a library that was loaded, and checks that they are those that it was stamped with.
///
/// # Safety
/// `entry` is the exported function of a plugin whose stamp has this ABI's major version, and whose library is never
/// unloaded.
pub unsafe fn adopt(entry: Entry, stamped: &[StampedTool]) -> Result<Adopted> {
    // SAFETY: the caller vouches for it.
    let plugin = unsafe { entry(&raw const HOST) };
    if plugin.is_null() {
        return Err(mistake("Plugin", "it hands nothing over: it does not work with this version of arrakis"));
    }
    // SAFETY: a plugin's table tells its size and lasts.
    let plugin = unsafe { read(plugin)? };
    if plugin.major != abi::MAJOR {
        let why = format!("its table is of ABI {} and its stamp of {}", plugin.major, abi::MAJOR);
        return Err(mistake("Plugin", why));
    }
    if plugin.tool_count != stamped.len() {
        let why = format!("its table has {} tools and its stamp names {}", plugin.tool_count, stamped.len());
        return Err(mistake("Plugin", why));
    }
    // SAFETY: as above.
    let tools = unsafe { strided(plugin.tools, plugin.tool_count, plugin.tool_stride, "tools of the plugin")? };
    // Nothing is kept of a plugin before all of it is known to be right.
    let names = tools.iter().map(names).collect::<Result<Vec<_>>>()?;
    check_stamped(&names, stamped)?;
    let schemas = tools.iter().zip(&names).map(|(tool, (name, _))| schema(tool, name)).collect::<Result<Vec<_>>>()?;
    let tools = tools.into_iter().zip(names).zip(schemas).map(|((table, (name, owner)), schema)| {
        let (name, owner): (&'static str, &'static str) = (name.to_owned().leak(), owner.to_owned().leak());
        ToolEntry::loaded(name, owner, Box::leak(Box::new(LoadedTool { name, table, schema })))
    });
    Ok(Adopted { tools: tools.collect(), count: plugin.handles })
}

/// The name of a tool, and its owner.
fn names(table: &abi::Tool) -> Result<(&'static str, &'static str)> {
    // SAFETY: the texts of a plugin's table last.
    let (name, owner) = unsafe { (text(table.name, "name of a tool")?, text(table.owner, "owner of a tool")?) };
    if name.is_empty() {
        return Err(mistake("name of a tool", "it is empty"));
    }
    Ok((name, owner))
}

/// The schema of a tool that can be asked.
fn schema(table: &abi::Tool, name: &str) -> Result<Value> {
    let what = format!("schema of `{name}`");
    there(table.ask, "Tool.ask")?;
    let schema = there(table.schema, "Tool.schema")?;
    // SAFETY: the state is the tool's own.
    let schema = asked(&what, |to| unsafe { schema(table.state, to) })?;
    let schema: Value = serde_json::from_slice(&schema).map_err(|error| mistake(&what, error.to_string()))?;
    if schema.is_object() { Ok(schema) } else { Err(mistake(&what, "it is no JSON object")) }
}

fn check_stamped(names: &[(&str, &str)], stamped: &[StampedTool]) -> Result<()> {
    let (mut found, mut said) = (names.to_vec(), Vec::new());
    said.extend(stamped.iter().map(|tool| (tool.tool.as_str(), tool.owner.as_str())));
    found.sort_unstable();
    said.sort_unstable();
    if found == said {
        return Ok(());
    }
    let differing = |a: &[(&str, &str)], b: &[(&str, &str)]| {
        let names: Vec<String> =
            a.iter().filter(|tool| !b.contains(tool)).map(|(name, owner)| format!("`{name}` of `{owner}`")).collect();
        if names.is_empty() { "nothing more".to_owned() } else { names.join(", ") }
    };
    let (found_more, said_more) = (differing(&found, &said), differing(&said, &found));
    Err(mistake("Plugin", format!("its stamp names {said_more} and its table {found_more}")))
}

impl LoadedTool {
    /// The JSON schema of its parameters.
    pub(crate) const fn schema(&self) -> &Value {
        &self.schema
    }

    /// The parameters with every default filled in.
    pub(crate) fn complete(&self, parameters: Value) -> Result<Value> {
        let parameters = if parameters.is_null() { Value::Object(Map::new()) } else { parameters };
        let Some(complete) = self.table.complete else { return Ok(self.with_defaults(parameters)) };
        let text = serde_json::to_string(&parameters)?;
        // SAFETY: the state is the tool's own, and the text is lent.
        let complete = self.asked(|to| unsafe { complete(self.table.state, lend_text(&text), to) })?;
        serde_json::from_slice(&complete).map_err(|error| self.wrong("parameters", &error))
    }

    fn with_defaults(&self, mut parameters: Value) -> Value {
        let fields = self.schema.get("properties").and_then(Value::as_object);
        if let Some(given) = parameters.as_object_mut() {
            for (name, field) in fields.into_iter().flatten() {
                if let (false, Some(default)) = (given.contains_key(name), field.get("default")) {
                    given.insert(name.clone(), default.clone());
                }
            }
        }
        parameters
    }

    /// Asks with JSON parameters.
    pub(crate) fn ask(&self, parameters: &Value, cx: &Context<'_>) -> Result<Answer> {
        let ask = there(self.table.ask, "Tool.ask")?;
        let parameters = serde_json::to_string(parameters)?;
        let (model, running) = (Held::lent(cx.model()), Running::new(cx));
        let limited = if cx.memory_limit().is_some() { abi::MEMORY_LIMITED } else { 0 };
        let dry_run = if cx.dry_run() { abi::DRY_RUN } else { 0 };
        let call = Call {
            size: size_of::<Call>(),
            host: &raw const HOST,
            context: running.handle(),
            model: model.handle(),
            parameters: lend_text(&parameters),
            seed: cx.seed(),
            memory_limit: cx.memory_limit().unwrap_or(0),
            flags: limited | dry_run,
            reserved: 0,
        };
        // SAFETY: the state is the tool's own, and the call lives until this returns.
        let json = self.asked(|to| unsafe { ask(self.table.state, &raw const call, to) })?;
        let json: Value = serde_json::from_slice(&json).map_err(|error| self.wrong("answer", &error))?;
        let tensors = running.attached.take();
        self.check_attached(&json, &tensors)?;
        Answer::join(json, tensors).map_err(|error| match error {
            Error::Json(error) => self.wrong("answer", &error),
            other => other,
        })
    }

    /// An error that names a tensor that the answer does not, or that is there twice: it would be lost without a word.
    fn check_attached(&self, json: &Value, tensors: &[(String, tch::Tensor)]) -> Result<()> {
        let tagged = |part: &Value| part.get("stack").and_then(|stack| Some(stack.get("tensor")?.as_str()?.to_owned()));
        let named: Vec<String> =
            json.as_object().into_iter().flat_map(|parts| parts.values()).filter_map(tagged).collect();
        let lost = tensors.iter().enumerate().find(|(place, (name, _))| {
            !named.contains(name) || tensors[..*place].iter().any(|(known, _)| known == name)
        });
        match lost {
            None => Ok(()),
            Some((_, (name, _))) => Err(mistake(
                &format!("answer of `{}`", self.name),
                format!("the tensor `{name}` is attached and no part names it, or it is attached twice"),
            )),
        }
    }

    fn asked(&self, call: impl FnOnce(*mut abi::Bytes) -> u32) -> Result<Vec<u8>> {
        asked(self.name, call)
    }

    fn wrong(&self, what: &str, error: &serde_json::Error) -> Error {
        mistake(&format!("{what} of `{}`", self.name), error.to_string())
    }
}
