//! What is wrong with a value that does not fit its JSON schema: where, what it is, and what it is to be.

use serde_json::Value;

use crate::schema::{choices, found, kind};

/// What is longer is shown in short, or cut.
const LONG: usize = 80;

/// Says where a value first does not fit a schema whose references lie in `root`; nothing if it fits.
///
/// `path` is the value's own: `layers`, `inputs.0`; what lies within it is named from there.
///
/// ```
/// let schema = serde_json::json!({ "type": "array", "items": { "type": "integer", "minimum": 0 } });
/// let said = |value| arrakis_core::misfit(&schema, &schema, &value, "layers");
/// assert_eq!(said(serde_json::json!([3])), None);
/// assert_eq!(said(3.into()).unwrap(), "`layers` is `3` where [integer] is wanted; give `[3]`");
/// assert_eq!(said(serde_json::json!([1, -1])).unwrap(), "`layers.1` is `-1` where at least 0 is wanted");
/// ```
#[must_use]
pub fn misfit(schema: &Value, root: &Value, value: &Value, path: &str) -> Option<String> {
    let walk = Walk { root };
    walk.at(schema, value, path).map(|found| format!("`{}` {}", found.path, walk.words(&found)))
}

struct Walk<'a> {
    root: &'a Value,
}

/// Something that does not fit.
struct Misfit<'a> {
    path: String,
    why: Why<'a>,
}

enum Why<'a> {
    /// It says it all.
    Words(String),
    /// A value is of another kind than its schema wants.
    Kind { schema: &'a Value, value: Value },
}

impl Misfit<'_> {
    fn words(path: &str, why: String) -> Self {
        Self { path: path.to_owned(), why: Why::Words(why) }
    }

    fn depth(&self) -> usize {
        depth(&self.path)
    }
}

impl<'a> Walk<'a> {
    fn at(&self, schema: &'a Value, value: &Value, path: &str) -> Option<Misfit<'a>> {
        let whole = schema;
        let schema = found(schema, self.root);
        if let Some(wanted) = schema.get("const") {
            return (wanted != value).then(|| other(whole, value, path));
        }
        if let Some(wanted) = schema.get("enum").and_then(Value::as_array) {
            return (!wanted.contains(value)).then(|| other(whole, value, path));
        }
        if choices(schema).is_some() {
            return self.of_choices(schema, value, path);
        }
        if !has_type(schema, value) {
            return Some(other(whole, value, path));
        }
        let least = schema
            .get("minimum")
            .and_then(Value::as_f64)
            .filter(|least| value.as_f64().is_some_and(|own| own < *least));
        if let Some(least) = least {
            return Some(Misfit::words(path, format!("is `{value}` where at least {least} is wanted")));
        }
        match value {
            Value::Object(_) => self.within_object(schema, value, path),
            Value::Array(entries) => self.within_list(schema, entries, path),
            _ => None,
        }
    }

    /// Of several forms that do not fit, the one that fits the farthest is meant.
    fn of_choices(&self, schema: &'a Value, value: &Value, path: &str) -> Option<Misfit<'a>> {
        let all = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(*key)?.as_array())?;
        let misfits: Option<Vec<Misfit<'a>>> = all.iter().map(|choice| self.at(choice, value, path)).collect();
        let deepest = misfits?.into_iter().max_by_key(Misfit::depth)?;
        Some(if deepest.depth() > depth(path) { deepest } else { other(schema, value, path) })
    }

    fn within_object(&self, schema: &'a Value, value: &Value, path: &str) -> Option<Misfit<'a>> {
        let (properties, others) = (schema.get("properties"), schema.get("additionalProperties"));
        for (name, value) in value.as_object()? {
            match properties.and_then(|known| known.get(name)).or(others) {
                Some(Value::Bool(false)) => return Some(Misfit::words(path, format!("has no field `{name}`"))),
                Some(schema) => {
                    let found = self.at(schema, value, &below(path, name));
                    if found.is_some() {
                        return found;
                    }
                }
                None => {}
            }
        }
        let mut required = schema.get("required").and_then(Value::as_array)?.iter().filter_map(Value::as_str);
        let missing = required.find(|name| value.get(name).is_none())?;
        Some(Misfit::words(path, format!("lacks `{missing}`")))
    }

    fn within_list(&self, schema: &'a Value, entries: &[Value], path: &str) -> Option<Misfit<'a>> {
        let (first, others) = (schema.get("prefixItems").and_then(Value::as_array), schema.get("items"));
        let schema_of = |place: usize| first.and_then(|first| first.get(place)).or(others);
        let found = entries
            .iter()
            .enumerate()
            .find_map(|(place, entry)| self.at(schema_of(place)?, entry, &below(path, &place.to_string())));
        found.or_else(|| {
            let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
            let most = schema.get("maxItems").and_then(Value::as_u64).unwrap_or(u64::MAX);
            let fits = (least..=most).contains(&(entries.len() as u64));
            (!fits).then(|| {
                Misfit::words(path, format!("has {} entries where {} is wanted", entries.len(), self.brief(schema)))
            })
        })
    }

    /// What is wrong, and the cure where it is plain.
    fn words(&self, found: &Misfit<'a>) -> String {
        let (schema, value) = match &found.why {
            Why::Words(words) => return words.clone(),
            Why::Kind { schema, value } => (*schema, value),
        };
        if let Some(text) = value.as_str().filter(|text| text.starts_with(['{', '[']))
            && let Err(error) = serde_json::from_str::<Value>(text)
        {
            return format!("begins like JSON and is none: {error}");
        }
        let list = Value::Array(vec![value.clone()]);
        let cure = if self.at(schema, &list, "").is_none() { format!("; give `{list}`") } else { String::new() };
        format!("is `{}` where {} is wanted{cure}", cut(&value.to_string()), self.brief(schema))
    }

    /// What a value may be, of long objects the first key only.
    fn brief(&self, schema: &Value) -> String {
        let whole = kind(schema, self.root);
        let schema = found(schema, self.root);
        if whole.chars().count() <= LONG {
            return whole;
        }
        if let Some(choices) = choices(schema) {
            return choices.map(|choice| self.brief_object(choice)).collect::<Vec<String>>().join(" or ");
        }
        self.brief_object(schema)
    }

    fn brief_object(&self, schema: &Value) -> String {
        let keys = found(schema, self.root).get("properties").and_then(Value::as_object);
        match keys.and_then(|keys| keys.keys().next()) {
            Some(key) => format!("{{{key:?}: …}}"),
            None => cut(&kind(schema, self.root)),
        }
    }
}

fn has_type(schema: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "integer" => value.is_i64() || value.is_u64(),
        // NaN and infinities are strings.
        "number" => value.is_number() || matches!(value.as_str(), Some("NaN" | "Infinity" | "-Infinity")),
        _ => true,
    };
    match schema.get("type") {
        Some(Value::String(name)) => is(name),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(is),
        _ => true,
    }
}

fn other<'a>(schema: &'a Value, value: &Value, path: &str) -> Misfit<'a> {
    Misfit { path: path.to_owned(), why: Why::Kind { schema, value: value.clone() } }
}

fn depth(path: &str) -> usize {
    path.matches('.').count()
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= LONG { text.to_owned() } else { text.chars().take(LONG).chain(['…']).collect() }
}
