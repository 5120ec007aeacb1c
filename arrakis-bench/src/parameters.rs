//! Parameters that came as JSON: checked against the tool's fields before anything runs, and its defaults filled in.

use arrakis_core::{Error, Field, Result, ToolEntry, nearest_name};
use serde_json::{Map, Value};

use crate::error::hint;

/// The parameters with every default filled in; an error names a field that the tool has not, or every one it misses.
pub(crate) fn complete(tool: &ToolEntry, parameters: Value) -> Result<Value> {
    let given = checked("field", &tool.fields(), parameters)
        .map_err(|why| Error::Parameters { tool: tool.name().to_owned(), why })?;
    tool.complete(Value::Object(given))
}

/// Parameters by name; says why if one is not among `fields`, each a `what`, or which of those are missing.
pub(crate) fn checked(what: &str, fields: &[Field], parameters: Value) -> Result<Map<String, Value>, String> {
    let given = match parameters {
        Value::Null => Map::new(),
        Value::Object(given) => given,
        other => return Err(format!("parameters are a JSON object, and this is `{other}`")),
    };
    if let Some(name) = given.keys().find(|name| fields.iter().all(|field| field.name != **name)) {
        let nearest = nearest_name(name, fields.iter().map(|field| field.name.as_str()));
        return Err(format!("there is no {what} `{name}`{}", hint(nearest.as_deref())));
    }
    let missing = |field: &&Field| field.required && !given.contains_key(&field.name);
    let missing: Vec<String> = fields.iter().filter(missing).map(|field| format!("`{}`", field.name)).collect();
    if missing.is_empty() { Ok(given) } else { Err(format!("{} must be given", missing.join(" and "))) }
}
