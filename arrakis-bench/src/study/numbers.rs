//! The numbers of a cell.

use arrakis_core::Part;
use serde_json::Value;

use crate::json::number_of;
use crate::{Asked, Kept};

/// The numbers of a run: those of its result, and the last value of each metric, `metrics.` before a name that is taken.
pub(super) fn numbers(asked: &Asked<Kept>) -> Vec<(String, f64)> {
    let mut numbers = Vec::new();
    match &asked.answer {
        Kept::Answer(answer) => numbers.extend(answer.parts().filter_map(|(name, part)| match part {
            Part::Number(number) => Some((name.to_owned(), *number)),
            _ => None,
        })),
        Kept::Json(value) => leaves("", value, &mut numbers),
    }
    for metric in &asked.record.metrics {
        let taken = numbers.iter().any(|(name, _)| *name == metric.name);
        let name = if taken { format!("metrics.{}", metric.name) } else { metric.name.clone() };
        numbers.push((name, metric.value));
    }
    numbers
}

/// The numbers within objects, by their path.
fn leaves(path: &str, value: &Value, numbers: &mut Vec<(String, f64)>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(name, value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            leaves(&path, value, numbers);
        }),
        value => {
            let path = if path.is_empty() { "result" } else { path };
            numbers.extend(number_of(value).map(|number| (path.to_owned(), number)));
        }
    }
}
