//! What a value may be, in words, from its JSON schema.

use arrakis_core::FILE_KEYWORD;
use serde_json::Value;

/// One of the forms that a value may have.
pub(super) struct Form {
    /// The form, in words.
    pub(super) kind: String,
    /// What it means.
    pub(super) doc: String,
}

/// What a value may be: `text or [text]`, brackets for a list.
pub(super) fn kind(schema: &Value, root: &Value) -> String {
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

/// The forms of a value, or of the entries of a list, where they differ in meaning and each is explained.
pub(super) fn forms(schema: &Value, root: &Value) -> Vec<Form> {
    let schema = found(schema, root);
    if let Some(items) = schema.get("items") {
        return forms(items, root);
    }
    let doc = |choice: &Value| {
        let doc = choice.get("description").and_then(Value::as_str).unwrap_or_default();
        doc.split("\n\n").next().unwrap_or_default().replace('\n', " ")
    };
    let all: Vec<&Value> = choices(schema).into_iter().flatten().collect();
    if let [only] = all[..] {
        return forms(only, root);
    }
    // Plain texts and lists say it all by what they are.
    let named = |choice: &&Value| choice.get("const").is_some() || choice.get("properties").is_some();
    if all.iter().any(|choice| !named(choice)) {
        return Vec::new();
    }
    let form = |choice: &&Value| Form { kind: kind(choice, root), doc: doc(choice) };
    all.iter().map(form).filter(|form| !form.doc.is_empty()).collect()
}

/// What a field's line says it may be; forms that are listed below it are not repeated.
pub(super) fn short(schema: &Value, root: &Value) -> String {
    let whole = kind(schema, root);
    if whole.len() <= 60 || forms(schema, root).is_empty() {
        return whole;
    }
    if whole.starts_with('[') { "a list of the following".into() } else { "one of the following".into() }
}

/// The schema that a reference stands for.
fn found<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let name = schema.get("$ref").and_then(Value::as_str);
    name.and_then(|name| root.pointer(name.trim_start_matches('#'))).unwrap_or(schema)
}

fn choices(schema: &Value) -> Option<impl Iterator<Item = &Value>> {
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
