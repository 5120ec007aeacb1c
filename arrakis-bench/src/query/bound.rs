//! What the values of a field are compared with.

use std::cmp::Ordering;

use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;
use jiff::{Span, Timestamp};
use serde_json::Value;

use crate::json::{number_of, order_of};

/// The value of a term.
#[derive(Debug, Clone)]
pub(super) enum Bound {
    /// A text, and what it is if it is JSON.
    Plain(String, Option<Value>),
    /// A time, from its first moment to the one after its last: a day, a second.
    Time(Timestamp, Timestamp),
}

impl Bound {
    pub(super) fn new(text: &str) -> Self {
        Self::Plain(text.to_owned(), serde_json::from_str(text).ok())
    }

    /// A day, or a moment; both in UTC unless it says otherwise.
    pub(super) fn date(text: &str) -> Result<Self, String> {
        let in_utc = |time: DateTime| Offset::UTC.to_timestamp(time);
        let next = |start: Timestamp, span: Span| start.checked_add(span).map(|end| Self::Time(start, end));
        if let Ok(date) = text.parse::<Date>()
            && !text.contains(':')
        {
            return in_utc(date.into()).and_then(|start| next(start, Span::new().hours(24))).map_err(|e| e.to_string());
        }
        let moment = text.parse::<Timestamp>().or_else(|_| text.parse::<DateTime>().and_then(in_utc));
        moment
            .and_then(|start| next(start, Span::new().nanoseconds(1)))
            .map_err(|_| format!("`{text}` is no date; give `2026-01-31` or `2026-01-31T12:00:00Z`"))
    }

    /// How a value stands to this one; nothing if they cannot be compared.
    pub(super) fn compare(&self, value: &Value) -> Option<Ordering> {
        match self {
            Self::Time(start, end) => {
                let value: Timestamp = value.as_str()?.parse().ok()?;
                Some(match value {
                    value if value < *start => Ordering::Less,
                    value if value >= *end => Ordering::Greater,
                    _ => Ordering::Equal,
                })
            }
            Self::Plain(text, json) => {
                if value.as_str() == Some(text) || json.as_ref() == Some(value) {
                    return Some(Ordering::Equal);
                }
                let plain = Value::String(text.clone());
                let bound = json.as_ref().filter(|json| number_of(json).is_some()).unwrap_or(&plain);
                match (number_of(value), number_of(bound)) {
                    (Some(_), Some(_)) => order_of(value, bound),
                    (None, None) => value.as_str().map(|value| value.cmp(text)),
                    _ => None,
                }
            }
        }
    }

    /// Whether it is a number, to be compared with numbers.
    pub(super) fn is_number(&self) -> bool {
        let Self::Plain(text, json) = self else { return false };
        json.as_ref().and_then(number_of).or_else(|| number_of(&Value::String(text.clone()))).is_some()
    }

    /// Whether a comparison with that value would be one with NaN, which is neither less nor greater.
    pub(super) fn is_nan(&self, value: &Value) -> bool {
        !matches!(self, Self::Time(..)) && number_of(value).is_some_and(f64::is_nan)
    }

    /// Whether the text of a value contains this one, whatever the case.
    pub(super) fn is_in(&self, value: &Value) -> bool {
        let Self::Plain(text, _) = self else { return self.compare(value) == Some(Ordering::Equal) };
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        shown.to_lowercase().contains(&text.to_lowercase())
    }
}

/// The order of two values of one field: numbers first, NaN the last of them, then texts; `down` turns the values round.
pub(super) fn order(a: &Value, b: &Value, down: bool) -> Ordering {
    let turned = |order: Ordering| if down { order.reverse() } else { order };
    match (number_of(a), number_of(b)) {
        (Some(x), Some(y)) => x.is_nan().cmp(&y.is_nan()).then(turned(order_of(a, b).unwrap_or(Ordering::Equal))),
        (a, b) if a.is_some() || b.is_some() => b.is_some().cmp(&a.is_some()),
        _ => turned(match (a.as_str(), b.as_str()) {
            (Some(a), Some(b)) => a.cmp(b),
            _ => a.to_string().cmp(&b.to_string()),
        }),
    }
}
