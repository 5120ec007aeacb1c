//! Files that parameters name: which of them are read and which are written, as the schema of the parameters says.

use std::path::PathBuf;

use serde_json::Value;

use crate::{Error, Result};

/// The keyword of a JSON schema that says what is done with the file that a text names: `"read"` or `"written"`.
pub const FILE_KEYWORD: &str = "x-file";

/// What is done with a file that a parameter names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileUse {
    /// It is read, so that its content determines the result.
    Read,
    /// It is written, so that it is a part of the result.
    Written,
}

/// A file that a parameter names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterFile {
    /// The path to the parameter: `corpus`, `inputs.0.file`.
    pub parameter: String,
    /// The file, as it was given.
    pub path: PathBuf,
    /// What is done with it.
    pub usage: FileUse,
}

impl ParameterFile {
    /// The files that parameters name, by the schema of the parameters; an error if that says something unknown of one.
    ///
    /// A field of a tool says it by `#[schemars(extend("x-file" = "read"))]`, or `"written"`:
    ///
    /// ```
    /// use std::path::PathBuf;
    ///
    /// use arrakis_core::{FileUse, ParameterFile};
    /// use schemars::JsonSchema;
    ///
    /// #[derive(JsonSchema)]
    /// struct Copy {
    ///     #[schemars(extend("x-file" = "read"))]
    ///     from: PathBuf,
    ///     #[schemars(extend("x-file" = "written"))]
    ///     to: Option<PathBuf>,
    /// }
    ///
    /// let schema = schemars::schema_for!(Copy).to_value();
    /// let files = ParameterFile::of(&schema, &serde_json::json!({ "from": "a.txt", "to": null }))?;
    /// assert_eq!((files[0].parameter.as_str(), files[0].usage, files.len()), ("from", FileUse::Read, 1));
    /// # Ok::<(), arrakis_core::Error>(())
    /// ```
    pub fn of(schema: &Value, parameters: &Value) -> Result<Vec<Self>> {
        let mut walk = Walk { root: schema, files: Vec::new() };
        walk.at(schema, parameters, "", &mut Vec::new())?;
        Ok(walk.files)
    }
}

/// A walk through parameters, beside their schema.
struct Walk<'a> {
    root: &'a Value,
    files: Vec<ParameterFile>,
}

impl<'a> Walk<'a> {
    /// Looks at a value; `seen` are the references that were followed for it, for types may go round.
    fn at(&mut self, schema: &'a Value, value: &Value, path: &str, seen: &mut Vec<&'a str>) -> Result<()> {
        self.note(schema, value, path)?;
        self.within(schema, value, path)?;
        for key in ["anyOf", "oneOf", "allOf"] {
            for choice in schema.get(key).and_then(Value::as_array).into_iter().flatten() {
                self.at(choice, value, path, seen)?;
            }
        }
        let Some(reference) = schema.get("$ref").and_then(Value::as_str).filter(|name| !seen.contains(name)) else {
            return Ok(());
        };
        seen.push(reference);
        match self.root.pointer(reference.trim_start_matches('#')) {
            Some(found) => self.at(found, value, path, seen),
            None => Ok(()),
        }
    }

    /// Looks at what an object or a list holds.
    fn within(&mut self, schema: &'a Value, value: &Value, path: &str) -> Result<()> {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match value {
            Value::Object(members) => {
                let (properties, others) = (schema.get("properties"), schema.get("additionalProperties"));
                for (name, value) in members {
                    if let Some(schema) = properties.and_then(|known| known.get(name)).or(others) {
                        self.at(schema, value, &below(name), &mut Vec::new())?;
                    }
                }
            }
            Value::Array(entries) => {
                let (first, others) = (schema.get("prefixItems"), schema.get("items"));
                for (place, value) in entries.iter().enumerate() {
                    if let Some(schema) = first.and_then(|first| first.get(place)).or(others) {
                        self.at(schema, value, &below(&place.to_string()), &mut Vec::new())?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Notes the file that a value names, if the schema says that it names one.
    fn note(&mut self, schema: &Value, value: &Value, path: &str) -> Result<()> {
        let (Some(said), Some(name)) = (schema.get(FILE_KEYWORD), value.as_str()) else { return Ok(()) };
        let usage = match said.as_str() {
            Some("read") => FileUse::Read,
            Some("written") => FileUse::Written,
            _ => {
                let why = format!("`{FILE_KEYWORD}` is `\"read\"` or `\"written\"`, and this is `{said}`");
                return Err(Error::Invalid { what: format!("schema of parameter `{path}`"), why });
            }
        };
        let file = ParameterFile { parameter: path.to_owned(), path: name.into(), usage };
        if !self.files.contains(&file) {
            self.files.push(file);
        }
        Ok(())
    }
}
