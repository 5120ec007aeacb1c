//! Results compared: number by number, with a tolerance, saying where the greatest difference is.

mod names;

use std::cmp::Ordering;
use std::fmt;

use arrakis_core::{Answer, answer, number};
use serde::Serialize;
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::Result;
use crate::json::number_of;
use names::Names;

/// How one part of two results differs: a part of an answer, a field of a value, a tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The part.
    pub part: String,
    /// How many numbers both have there.
    pub numbers: usize,
    /// How many of them are further apart than the tolerance.
    pub apart: usize,
    /// The pair that is furthest apart, if any is apart at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub greatest: Option<Apart>,
    /// What is not a number and differs: a text, a shape, something that only one of them has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other: Vec<String>,
}

/// Two numbers at one place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Apart {
    /// Where: `row 3, column 7`, with the names and labels that the part has.
    pub place: String,
    /// The first number.
    #[serde(with = "number")]
    pub a: f64,
    /// The second.
    #[serde(with = "number")]
    pub b: f64,
    /// Their absolute difference; infinite between a number and NaN.
    #[serde(with = "number")]
    pub by: f64,
}

impl Difference {
    fn new(part: impl Into<String>) -> Self {
        Self { part: part.into(), numbers: 0, apart: 0, greatest: None, other: Vec::new() }
    }

    /// Whether the part is equal within the tolerance.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.apart == 0 && self.other.is_empty()
    }

    fn number(&mut self, a: f64, b: f64, tolerance: f64, place: impl FnOnce() -> String) {
        self.numbers += 1;
        // Equal infinities agree, and NaN agrees with NaN.
        let equal = a.partial_cmp(&b) == Some(Ordering::Equal) || (a.is_nan() && b.is_nan());
        let by = if equal { 0.0 } else { (a - b).abs() };
        let by = if by.is_nan() { f64::INFINITY } else { by };
        // A tolerance that is no number tolerates nothing.
        self.apart += usize::from(by.partial_cmp(&tolerance).is_none_or(Ordering::is_gt));
        if by > self.greatest.as_ref().map_or(0.0, |greatest| greatest.by) {
            self.greatest = Some(Apart { place: place(), a, b, by });
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.part)?;
        // Where nothing can be compared, only that is worth a word.
        let compared = self.numbers > 0 || self.other.is_empty();
        if compared {
            write!(f, "{} of {} numbers apart", self.apart, self.numbers)?;
        }
        if let Some(Apart { place, a, b, by }) = &self.greatest {
            write!(f, "; the greatest difference is {by:e}")?;
            write!(f, "{}{place}: {a} and {b}", if place.is_empty() { "" } else { " at " })?;
        }
        match &self.other[..] {
            [] => Ok(()),
            [only] => write!(f, "{}{only}", if compared { "; " } else { "" }),
            several => several.iter().try_for_each(|other| write!(f, "\n  {other}")),
        }
    }
}

/// How two answers differ, part by part; numbers are equal if they are at most `tolerance` apart.
///
/// With a tolerance of 0 they are equal to the bit, the sign of zero apart. Parts that are equal are given too.
pub fn compare_answers(a: &Answer, b: &Answer, tolerance: f64) -> Result<Vec<Difference>> {
    let ((json_a, tensors_a), (json_b, tensors_b)) = (a.split()?, b.split()?);
    let mut differences = compare_json(&json_a, &json_b, tolerance);
    for (name, tensor) in &tensors_a {
        if let Some((_, other)) = tensors_b.iter().find(|(known, _)| known == name) {
            // What only one of them has, and axes of other lengths, the JSON tells.
            let found = differences.iter_mut().find(|difference| difference.part == *name);
            compare_tensors_into(found, tensor, other, tolerance)?;
        }
    }
    Ok(differences)
}

/// How two tensors differ.
pub fn compare_tensors(name: &str, a: &Tensor, b: &Tensor, tolerance: f64) -> Result<Difference> {
    let mut difference = Difference::new(name);
    compare_tensors_into(Some(&mut difference), a, b, tolerance)?;
    Ok(difference)
}

fn compare_tensors_into(into: Option<&mut Difference>, a: &Tensor, b: &Tensor, tolerance: f64) -> Result<()> {
    let Some(difference) = into else { return Ok(()) };
    if a.size() != b.size() || a.kind() != b.kind() {
        let shown = |tensor: &Tensor| format!("{:?} of {}", tensor.size(), crate::dtype_name(tensor.kind()));
        difference.other.push(format!("{} and {}", shown(a), shown(b)));
        return Ok(());
    }
    let shape = a.size();
    if a.kind() == Kind::Int64 {
        // Beyond 2^53 whole numbers differ by less than doubles can tell.
        if !equal(a, b)? && answer::numbers(a)? == answer::numbers(b)? {
            difference.other.push("whole numbers beyond 2^53 differ".to_owned());
        }
    }
    for (place, (a, b)) in answer::numbers(a)?.into_iter().zip(answer::numbers(b)?).enumerate() {
        difference.number(a, b, tolerance, || index(place, &shape));
    }
    Ok(())
}

fn equal(a: &Tensor, b: &Tensor) -> arrakis_core::Result<bool> {
    Ok(a.f_eq_tensor(b)?.f_all()?.f_int64_value(&[])? != 0)
}

/// The index of a place in a tensor of that shape: `[0, 3, 7]`.
fn index(mut place: usize, shape: &[i64]) -> String {
    let mut index = vec![0; shape.len()];
    for (axis, len) in shape.iter().enumerate().rev() {
        let len = usize::try_from(*len).unwrap_or(1).max(1);
        index[axis] = place % len;
        place /= len;
    }
    format!("{index:?}")
}

/// How two JSON results differ, member by member of the outermost object.
#[must_use]
pub fn compare_json(a: &Value, b: &Value, tolerance: f64) -> Vec<Difference> {
    let (Value::Object(a), Value::Object(b)) = (a, b) else {
        let mut difference = Difference::new("result");
        walk(&mut difference, a, b, tolerance, &mut Vec::new(), &Names::default());
        return vec![difference];
    };
    let mut differences = Vec::new();
    for (part, value) in a {
        let mut difference = Difference::new(part);
        match b.get(part) {
            Some(other) => walk(&mut difference, value, other, tolerance, &mut Vec::new(), &Names::of(value)),
            None => difference.other.push("only the first has it".to_owned()),
        }
        differences.push(difference);
    }
    for part in b.keys().filter(|part| !a.contains_key(*part)) {
        let mut difference = Difference::new(part);
        difference.other.push("only the second has it".to_owned());
        differences.push(difference);
    }
    differences
}

fn walk(found: &mut Difference, a: &Value, b: &Value, tolerance: f64, path: &mut Vec<String>, names: &Names) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                path.push(key.clone());
                match b.get(key) {
                    Some(other) => walk(found, value, other, tolerance, path, names),
                    None => found.other.push(format!("only the first has {}", path.join("."))),
                }
                path.pop();
            }
            for key in b.keys().filter(|key| !a.contains_key(*key)) {
                let path = [&path[..], std::slice::from_ref(key)].concat().join(".");
                found.other.push(format!("only the second has {path}"));
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (place, (a, b)) in a.iter().zip(b).enumerate() {
                path.push(place.to_string());
                walk(found, a, b, tolerance, path, names);
                path.pop();
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            found.other.push(format!("{} entries and {} at {}", a.len(), b.len(), path.join(".")));
        }
        (Value::Number(x), Value::Number(y)) if (x.is_f64() || y.is_f64()) || x != y => {
            let (x, y) = (x.as_f64().unwrap_or(f64::NAN), y.as_f64().unwrap_or(f64::NAN));
            // Beyond 2^53 whole numbers differ by less than doubles can tell.
            if (x - y).abs() == 0.0 && a != b && !a.is_f64() && !b.is_f64() {
                found.other.push(format!("{a} and {b} at {}", path.join(".")));
            }
            found.number(x, y, tolerance, || names.place(path));
        }
        (a, b) if a == b => found.numbers += usize::from(a.is_number() || number_of(a).is_some()),
        (a, b) => {
            if let (Some(x), Some(y)) = (number_of(a), number_of(b)) {
                found.number(x, y, tolerance, || names.place(path));
            } else {
                let at = if path.is_empty() { String::new() } else { format!(" at {}", path.join(".")) };
                found.other.push(format!("{} and {}{at}", short(a), short(b)));
            }
        }
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 { text } else { text.chars().take(59).chain(['…']).collect() }
}
