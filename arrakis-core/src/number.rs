//! Numbers in JSON: NaN and infinities are strings, because JSON has no word for them and `null` would lose them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::{Error, Result};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Number {
    Finite(f64),
    Other(String),
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        if number.is_finite() {
            return Self::Finite(number);
        }
        Self::Other(
            if number.is_nan() {
                "NaN"
            } else if number > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            }
            .to_owned(),
        )
    }
}

impl TryFrom<Number> for f64 {
    type Error = String;

    fn try_from(number: Number) -> std::result::Result<Self, String> {
        match number {
            Number::Finite(number) => Ok(number),
            Number::Other(text) => match text.as_str() {
                "NaN" => Ok(f64::NAN),
                "Infinity" => Ok(f64::INFINITY),
                "-Infinity" => Ok(f64::NEG_INFINITY),
                _ => Err(format!("`{text}` is not a number")),
            },
        }
    }
}

/// Writes one number.
pub fn serialize<S: Serializer>(number: &f64, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    Number::from(*number).serialize(serializer)
}

/// Reads one number.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<f64, D::Error> {
    f64::try_from(Number::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// The JSON value of a number.
#[must_use]
pub fn to_value(number: f64) -> Value {
    match Number::from(number) {
        Number::Finite(number) => Value::from(number),
        Number::Other(text) => Value::String(text),
    }
}

/// The number of a JSON value.
pub fn from_value(value: &Value) -> Result<f64> {
    deserialize(value).map_err(Error::from)
}

/// Lists of numbers, for `#[serde(with = "number::list")]`.
pub mod list {
    use super::{Deserialize, Deserializer, Number, Serializer};

    /// Writes a list of numbers.
    pub fn serialize<S: Serializer>(numbers: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(numbers.iter().map(|number| Number::from(*number)))
    }

    /// Reads a list of numbers.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        let numbers = Vec::<Number>::deserialize(deserializer)?;
        numbers.into_iter().map(|number| f64::try_from(number).map_err(serde::de::Error::custom)).collect()
    }
}
