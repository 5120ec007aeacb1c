//! Command lines as they would be typed.

use serde_json::{Map, Value};

/// The words that give a tool its parameters.
pub(crate) fn fields(parameters: &Map<String, Value>) -> Vec<String> {
    let field = |(name, value): (&String, &Value)| match value {
        Value::String(text) if name == "prompt" => format!("--prompt {}", quoted(text)),
        // A text that reads as JSON stays a text only within JSON's own quotes.
        Value::String(text) if serde_json::from_str::<Value>(text).is_err() => format!("{name}={}", quoted(text)),
        value => format!("{name}={}", quoted(&value.to_string())),
    };
    parameters.iter().map(field).collect()
}

/// A word for the shell.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:".contains(letter);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
