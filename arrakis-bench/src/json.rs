//! Values as JSON and back, in which NaN and infinities are strings anywhere within, because JSON has no word for them.

mod from_value;
mod to_value;

use std::cmp::Ordering;

use arrakis_core::{Result, number};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The JSON of a value; NaN and infinities are the strings `"NaN"`, `"Infinity"`, `"-Infinity"`, never `null`.
///
/// ```
/// let json = arrakis_bench::json::to_value(&(1.5, [f64::NAN], Some(f64::NEG_INFINITY)))?;
/// assert_eq!(json.to_string(), r#"[1.5,["NaN"],"-Infinity"]"#);
/// let (half, nan, _): (f64, [f64; 1], Option<f64>) = arrakis_bench::json::from_value(json)?;
/// assert!(half == 1.5 && nan[0].is_nan());
/// # Ok::<(), arrakis_core::Error>(())
/// ```
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value> {
    Ok(value.serialize(to_value::Finite(serde_json::value::Serializer))?)
}

/// The value that [`to_value`] made a JSON of. Where a number is wanted, the three strings are numbers.
pub fn from_value<T: DeserializeOwned>(json: Value) -> Result<T> {
    Ok(T::deserialize(from_value::Json(json))?)
}

/// How two numbers stand to each other, whole numbers exactly; nothing if one of them is none, or is NaN.
pub(crate) fn order_of(a: &Value, b: &Value) -> Option<Ordering> {
    match (whole(a), whole(b)) {
        // Doubles hold whole numbers up to 2^53 only.
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => number_of(a)?.partial_cmp(&number_of(b)?),
    }
}

/// A whole number, also one that is written as a double.
fn whole(json: &Value) -> Option<i128> {
    let exact = json.as_u64().map(i128::from).or_else(|| json.as_i64().map(i128::from));
    let double = || json.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 1e38);
    exact.or_else(|| double().map(|number| number as i128))
}

/// A number, also one of the three strings.
pub(crate) fn number_of(json: &Value) -> Option<f64> {
    (json.is_number() || json.is_string()).then(|| number::from_value(json).ok())?
}
