//! Values as JSON and back, in which NaN and infinities are strings anywhere within, because JSON has no word for them.

mod from_value;
mod to_value;

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

/// A number, also one of the three strings.
pub(crate) fn number_of(json: &Value) -> Option<f64> {
    (json.is_number() || json.is_string()).then(|| number::from_value(json).ok())?
}
