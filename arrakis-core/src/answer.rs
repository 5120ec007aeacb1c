//! The few shapes every answer is made of, so that printing, logging and plotting are written once.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tch::Tensor;

use crate::number;
use crate::{Error, Result};

/// A labelled axis of a shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axis {
    /// What runs along the axis: `layer`, `head`, `position`, `token` …
    pub name: String,
    /// One label for each entry.
    pub labels: Vec<String>,
}

impl Axis {
    /// An axis with the given labels.
    pub fn new(name: impl Into<String>, labels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { name: name.into(), labels: labels.into_iter().map(Into::into).collect() }
    }

    /// An axis labelled `0..len`.
    pub fn indices(name: impl Into<String>, len: usize) -> Self {
        Self::new(name, (0..len).map(|index| index.to_string()))
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether the axis has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// How numbers become colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// From the least to the greatest.
    #[default]
    Sequential,
    /// Signed, centred at 0.
    Diverging,
}

/// A table of numbers: `[row, column]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// What the picture is called.
    pub title: String,
    /// The rows.
    pub rows: Axis,
    /// The columns.
    pub columns: Axis,
    /// What a number is, with its unit: `probability`, `logit difference` …
    pub value: String,
    /// `rows * columns` numbers, row by row.
    #[serde(with = "number::list")]
    pub values: Vec<f64>,
    /// A text for each cell, if it has one (a token in a logit lens).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cells: Option<Vec<String>>,
    /// How numbers become colours.
    #[serde(default)]
    pub scale: Scale,
}

impl Grid {
    /// A grid of `values` (`rows * columns`, row by row), with a sequential scale.
    pub fn new(
        title: impl Into<String>,
        value: impl Into<String>,
        rows: Axis,
        columns: Axis,
        values: Vec<f64>,
    ) -> Result<Self> {
        let (title, value) = (title.into(), value.into());
        Self { title, rows, columns, value, values, cells: None, scale: Scale::Sequential }.checked()
    }

    /// A grid of a tensor `[row, column]` of any float kind.
    pub fn from_tensor(
        title: impl Into<String>,
        value: impl Into<String>,
        rows: Axis,
        columns: Axis,
        values: &Tensor,
    ) -> Result<Self> {
        Self::new(title, value, rows, columns, numbers(values)?)
    }

    /// The same grid, if it has a number, and a text if it has texts, for each cell.
    fn checked(self) -> Result<Self> {
        check_count(&self.title, self.rows.len() * self.columns.len(), self.values.len())?;
        if let Some(cells) = &self.cells {
            check_count(&self.title, self.values.len(), cells.len())?;
        }
        Ok(self)
    }

    /// The same grid, its colours centred at 0.
    #[must_use]
    pub fn diverging(mut self) -> Self {
        self.scale = Scale::Diverging;
        self
    }

    /// The same grid with a text in each cell (`rows * columns`, row by row).
    pub fn with_cells(mut self, cells: Vec<String>) -> Result<Self> {
        check_count(&self.title, self.values.len(), cells.len())?;
        self.cells = Some(cells);
        Ok(self)
    }

    /// The cells with the greatest absolute numbers, greatest first; NaN counts as none.
    #[must_use]
    pub fn strongest(&self, count: usize) -> Ranking {
        let mut places: Vec<usize> = (0..self.values.len()).filter(|place| !self.values[*place].is_nan()).collect();
        places.sort_by(|a, b| self.values[*b].abs().total_cmp(&self.values[*a].abs()));
        let width = self.columns.len();
        let label = |place: usize| {
            let (row, column) = (&self.rows.labels[place / width], &self.columns.labels[place % width]);
            format!("{} {row}, {} {column}", self.rows.name, self.columns.name)
        };
        let entries = places.into_iter().take(count).map(|place| (label(place), self.values[place]));
        Ranking::new(format!("{}: strongest", self.title), self.value.clone(), entries)
    }

    /// The number at a row and column, if there is one.
    #[must_use]
    pub fn get(&self, row: usize, column: usize) -> Option<f64> {
        (column < self.columns.len()).then(|| self.values.get(row * self.columns.len() + column).copied())?
    }
}

/// One line of a [`Series`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// One number for each entry of the axis.
    #[serde(with = "number::list")]
    pub values: Vec<f64>,
}

/// Numbers along one axis, as one or several lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// What the picture is called.
    pub title: String,
    /// What runs along the horizontal axis.
    pub axis: Axis,
    /// What a number is, with its unit.
    pub value: String,
    /// The lines.
    pub lines: Vec<Line>,
}

impl Series {
    /// A series of named lines, each as long as the axis.
    pub fn new(
        title: impl Into<String>,
        value: impl Into<String>,
        axis: Axis,
        lines: impl IntoIterator<Item = (impl Into<String>, Vec<f64>)>,
    ) -> Result<Self> {
        let title = title.into();
        let lines: Vec<Line> = lines.into_iter().map(|(name, values)| Line { name: name.into(), values }).collect();
        Self { title, axis, value: value.into(), lines }.checked()
    }

    /// The same series, if every line is as long as the axis.
    fn checked(self) -> Result<Self> {
        for line in &self.lines {
            check_count(&self.title, self.axis.len(), line.values.len())?;
        }
        Ok(self)
    }
}

/// One entry of a [`Ranking`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What is ranked.
    pub label: String,
    /// Its number.
    #[serde(with = "number")]
    pub value: f64,
}

/// Labelled numbers in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// What the picture is called.
    pub title: String,
    /// What a number is, with its unit.
    pub value: String,
    /// The entries, in the order to be shown.
    pub entries: Vec<Entry>,
}

impl Ranking {
    /// A ranking in the given order.
    pub fn new(
        title: impl Into<String>,
        value: impl Into<String>,
        entries: impl IntoIterator<Item = (impl Into<String>, f64)>,
    ) -> Self {
        let entries = entries.into_iter().map(|(label, value)| Entry { label: label.into(), value }).collect();
        Self { title: title.into(), value: value.into(), entries }
    }

    /// The same entries from the greatest number to the least; NaN comes last.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        let key = |entry: &Entry| if entry.value.is_nan() { f64::NEG_INFINITY } else { entry.value };
        self.entries.sort_by(|a, b| key(b).total_cmp(&key(a)));
        self
    }

    /// The first `count` entries.
    #[must_use]
    pub fn top(mut self, count: usize) -> Self {
        self.entries.truncate(count);
        self
    }
}

/// A tensor of more than two dimensions with a name for each axis.
#[derive(Debug)]
pub struct Stack {
    /// What the picture is called.
    pub title: String,
    /// What a number is, with its unit.
    pub value: String,
    /// The axes, one for each dimension.
    pub axes: Vec<Axis>,
    /// The numbers.
    pub values: Tensor,
}

impl Stack {
    /// A stack whose axes are as long as the dimensions of `values`.
    pub fn new(title: impl Into<String>, value: impl Into<String>, axes: Vec<Axis>, values: Tensor) -> Result<Self> {
        let title = title.into();
        let lengths: Vec<i64> = axes.iter().map(|axis| axis.len() as i64).collect();
        if lengths != values.size() {
            return Err(Error::Labels {
                what: title,
                expected: format!("{:?}", values.size()),
                found: format!("{lengths:?}"),
            });
        }
        Ok(Self { title, value: value.into(), axes, values })
    }
}

impl Clone for Stack {
    fn clone(&self) -> Self {
        Self {
            title: self.title.clone(),
            value: self.value.clone(),
            axes: self.axes.clone(),
            values: self.values.shallow_clone(),
        }
    }
}

/// One part of an answer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Part {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// A table of numbers.
    Grid(Grid),
    /// Numbers along an axis.
    Series(Series),
    /// Labelled numbers in order.
    Ranking(Ranking),
    /// A tensor with named axes.
    Stack(Stack),
}

macro_rules! part_from {
    ($($from:ty => $variant:ident),*) => {$(
        impl From<$from> for Part {
            fn from(part: $from) -> Self {
                Self::$variant(part)
            }
        }
    )*};
}
part_from!(f64 => Number, String => Text, Grid => Grid, Series => Series, Ranking => Ranking, Stack => Stack);

impl From<&str> for Part {
    fn from(part: &str) -> Self {
        Self::Text(part.to_owned())
    }
}

/// An answer: named parts in the order in which a reader wants them.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    parts: Vec<(String, Part)>,
}

impl Answer {
    /// An answer without parts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same answer with one more part.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, part: impl Into<Part>) -> Self {
        self.parts.push((name.into(), part.into()));
        self
    }

    /// The same answer with the parts of another after its own.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self
    }

    /// The parts in order.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &Part)> {
        self.parts.iter().map(|(name, part)| (name.as_str(), part))
    }

    /// The part of that name, if there is one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|(known, _)| known == name).map(|(_, part)| part)
    }

    /// Splits the answer into JSON and the tensors it refers to by name.
    ///
    /// NaN and infinities are the strings `"NaN"`, `"Infinity"`, `"-Infinity"`, never `null`. An error if two parts have
    /// one name.
    pub fn split(&self) -> Result<(Value, Vec<(String, Tensor)>)> {
        let mut tensors = Vec::new();
        let mut object = Map::new();
        for (name, part) in &self.parts {
            let value = match part {
                Part::Number(number) => tagged("number", number::to_value(*number)),
                Part::Text(text) => tagged("text", Value::String(text.clone())),
                Part::Grid(grid) => tagged("grid", serde_json::to_value(grid)?),
                Part::Series(series) => tagged("series", serde_json::to_value(series)?),
                Part::Ranking(ranking) => tagged("ranking", serde_json::to_value(ranking)?),
                Part::Stack(stack) => {
                    tensors.push((name.clone(), stack.values.shallow_clone()));
                    tagged("stack", serde_json::to_value(StackHead::of(name, stack))?)
                }
            };
            if object.insert(name.clone(), value).is_some() {
                let why = "the answer has two of that name; name them apart".into();
                return Err(Error::Invalid { what: format!("part `{name}`"), why });
            }
        }
        Ok((Value::Object(object), tensors))
    }

    /// Puts together what [`Answer::split`] took apart.
    pub fn join(json: Value, mut tensors: Vec<(String, Tensor)>) -> Result<Self> {
        let object: Map<String, Value> = serde_json::from_value(json)?;
        let mut parts = Vec::with_capacity(object.len());
        for (name, value) in object {
            let tagged: Map<String, Value> = serde_json::from_value(value)?;
            let Some((tag, value)) = tagged.into_iter().next() else {
                return Err(Error::Invalid { what: format!("part `{name}`"), why: "it is empty".into() });
            };
            let part = match tag.as_str() {
                "number" => Part::Number(number::from_value(&value)?),
                "text" => Part::Text(serde_json::from_value(value)?),
                "grid" => Part::Grid(serde_json::from_value::<Grid>(value)?.checked()?),
                "series" => Part::Series(serde_json::from_value::<Series>(value)?.checked()?),
                "ranking" => Part::Ranking(serde_json::from_value(value)?),
                "stack" => Part::Stack(serde_json::from_value::<StackHead>(value)?.with(&mut tensors)?),
                _ => {
                    return Err(Error::Invalid { what: format!("part `{name}`"), why: format!("`{tag}` is no shape") });
                }
            };
            parts.push((name, part));
        }
        Ok(Self { parts })
    }
}

/// The JSON side of a [`Stack`], which names its tensor.
#[derive(Serialize, Deserialize)]
struct StackHead {
    title: String,
    value: String,
    axes: Vec<Axis>,
    tensor: String,
}

impl StackHead {
    fn of(name: &str, stack: &Stack) -> Self {
        let Stack { title, value, axes, .. } = stack;
        Self { title: title.clone(), value: value.clone(), axes: axes.clone(), tensor: name.to_owned() }
    }

    fn with(self, tensors: &mut Vec<(String, Tensor)>) -> Result<Stack> {
        let place = tensors.iter().position(|(name, _)| *name == self.tensor);
        let place = place.ok_or_else(|| Error::Invalid {
            what: format!("tensor `{}`", self.tensor),
            why: "the answer names it and it is not there".into(),
        })?;
        Stack::new(self.title, self.value, self.axes, tensors.swap_remove(place).1)
    }
}

fn tagged(tag: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(tag.to_owned(), value)]))
}

fn check_count(title: &str, expected: usize, found: usize) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Labels { what: title.to_owned(), expected: expected.to_string(), found: found.to_string() })
}

/// The numbers of a tensor of any kind and shape, row by row, in double.
pub fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    let flat = tensor.f_detach()?.f_to_device(tch::Device::Cpu)?.f_to_kind(tch::Kind::Double)?.f_contiguous()?;
    Ok(Vec::try_from(flat.f_reshape([-1])?)?)
}
