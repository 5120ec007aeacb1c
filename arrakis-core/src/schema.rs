//! What a JSON schema says of a value, in words.

use serde_json::Value;

use crate::FILE_KEYWORD;

/// What a value may be: `text or [text]`, brackets for a list.
#[must_use]
pub fn kind(schema: &Value, root: &Value) -> String {
    match schema.get(FILE_KEYWORD).and_then(Value::as_str) {
        Some("read") => return "file".to_owned(),
        Some("written") => return "file to write".to_owned(),
        _ => {}
    }
    let schema = found(schema, root);
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
        return join(choices.iter().map(Value::to_string));
    }
    if let Some(choices) = choices(schema) {
        return join(choices.map(|choice| kind(choice, root)));
    }
    match schema.get("type") {
        Some(Value::Array(types)) => {
            let one = |name: &Value| {
                let mut one = schema.clone();
                one["type"] = name.clone();
                kind(&one, root)
            };
            join(types.iter().filter(|name| *name != "null").map(one))
        }
        Some(Value::String(name)) => match name.as_str() {
            "string" => "text".to_owned(),
            "array" => list(schema, root),
            "boolean" => "true or false".to_owned(),
            "object" => object(schema, root),
            other => other.to_owned(),
        },
        _ => "any JSON".to_owned(),
    }
}

/// The schema that a reference stands for.
#[must_use]
pub fn found<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let name = schema.get("$ref").and_then(Value::as_str);
    name.and_then(|name| root.pointer(name.trim_start_matches('#'))).unwrap_or(schema)
}

/// The schemas of which a value fits one, that of `null` apart, if there are several.
#[must_use]
pub fn choices(schema: &Value) -> Option<impl Iterator<Item = &Value>> {
    let choices = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(*key)?.as_array())?;
    Some(choices.iter().filter(|choice| choice.get("type").is_none_or(|name| name != "null")))
}

/// A list: `[text]`, or its entries one by one where each has a place.
fn list(schema: &Value, root: &Value) -> String {
    if let Some(entries) = schema.get("prefixItems").and_then(Value::as_array) {
        let entries: Vec<String> = entries.iter().map(|entry| kind(entry, root)).collect();
        return format!("[{}]", entries.join(", "));
    }
    schema.get("items").map_or_else(|| "[…]".into(), |items| format!("[{}]", kind(items, root)))
}

fn object(schema: &Value, root: &Value) -> String {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return "object".to_owned() };
    let fields: Vec<String> =
        properties.iter().map(|(name, schema)| format!("{name:?}: {}", kind(schema, root))).collect();
    format!("{{{}}}", fields.join(", "))
}

fn join(choices: impl Iterator<Item = String>) -> String {
    choices.collect::<Vec<String>>().join(" or ")
}
