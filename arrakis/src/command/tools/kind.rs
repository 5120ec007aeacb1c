//! The forms that a value may have, each explained, from its JSON schema.

use arrakis_core::schema::{choices, found, kind};
use serde_json::Value;

/// One of the forms that a value may have.
pub(super) struct Form {
    /// The form, in words.
    pub(super) kind: String,
    /// What it means.
    pub(super) doc: String,
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
