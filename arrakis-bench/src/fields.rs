//! Parameters from a command line: a JSON file, then `field=value` one by one.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// The parameters of a file and, over them, those of `field=value`.
///
/// A value is JSON if it parses as JSON, else a string; `a.b=` sets `b` within `a`.
pub fn parameters(file: Option<&Path>, fields: &[String]) -> Result<Map<String, Value>> {
    let from_file = match file {
        Some(path) => read(path)?,
        None => Map::new(),
    };
    let mut given = Map::new();
    for field in fields {
        let Some((name, value)) = field.split_once('=') else {
            return Err(Error::Usage(format!("`{field}` is no `field=value`; options of arrakis begin with `--`")));
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        set(&mut given, name, value).map_err(Error::Usage)?;
    }
    let mut parameters = from_file;
    merge(&mut parameters, given);
    Ok(parameters)
}

fn read(path: &Path) -> Result<Map<String, Value>> {
    let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(parameters)) => Ok(parameters),
        Ok(_) => Err(Error::Usage(format!("`{}` is no JSON object of parameters", path.display()))),
        Err(error) => Err(Error::Usage(format!("`{}` is no JSON: {error}", path.display()))),
    }
}

/// Sets the value of a field, `a.b` being `b` within `a`; says why if it cannot.
pub(crate) fn set(object: &mut Map<String, Value>, name: &str, value: Value) -> Result<(), String> {
    let path: Vec<&str> = name.split('.').collect();
    if path.contains(&"") {
        return Err(format!("`{name}` names no field"));
    }
    set_within(object, &path, value).map_err(|()| format!("`{name}` is given twice"))
}

fn set_within(object: &mut Map<String, Value>, path: &[&str], value: Value) -> Result<(), ()> {
    let [name, rest @ ..] = path else { return Err(()) };
    if rest.is_empty() {
        return if object.insert((*name).to_owned(), value).is_none() { Ok(()) } else { Err(()) };
    }
    let inner = object.entry(*name).or_insert_with(|| Value::Object(Map::new()));
    inner.as_object_mut().map_or(Err(()), |inner| set_within(inner, rest, value))
}

/// Puts `over` in the place of what `under` says, object by object.
pub(crate) fn merge(under: &mut Map<String, Value>, over: Map<String, Value>) {
    for (name, value) in over {
        match (under.get_mut(&name), value) {
            (Some(Value::Object(inner)), Value::Object(value)) => merge(inner, value),
            (_, value) => drop(under.insert(name, value)),
        }
    }
}
