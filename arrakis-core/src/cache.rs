//! The activations kept by a run, in the order in which they were met.

use std::collections::HashMap;
use std::ops::Index;

use tch::Tensor;

use crate::{Error, HookPoint, Result, Site};

/// Activations by hook point.
#[derive(Debug, Default)]
pub struct Cache {
    order: Vec<HookPoint>,
    values: HashMap<HookPoint, Tensor>,
}

impl Cache {
    /// A cache without activations.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value, in place of an earlier one at the same point.
    pub fn insert(&mut self, point: HookPoint, value: Tensor) {
        if self.values.insert(point, value).is_none() {
            self.order.push(point);
        }
    }

    /// The value at a point; an error says how to keep it.
    pub fn get(&self, point: impl Into<HookPoint>) -> Result<&Tensor> {
        let point = point.into();
        self.values.get(&point).ok_or_else(|| Error::NotKept { point: point.to_string() })
    }

    /// The value at a point of that printed name; an error says how to keep it.
    pub fn named(&self, name: &str) -> Result<&Tensor> {
        let point = self.order.iter().find(|point| point.to_string() == name);
        let value = point.and_then(|point| self.values.get(point));
        value.ok_or_else(|| Error::NotKept { point: name.to_owned() })
    }

    /// Whether a point was kept.
    #[must_use]
    pub fn contains(&self, point: impl Into<HookPoint>) -> bool {
        self.values.contains_key(&point.into())
    }

    /// The kept points, in the order in which they were met.
    #[must_use]
    pub fn points(&self) -> &[HookPoint] {
        &self.order
    }

    /// Points and values, in the order in which they were met.
    pub fn iter(&self) -> impl Iterator<Item = (HookPoint, &Tensor)> {
        self.order.iter().filter_map(|point| Some((*point, self.values.get(point)?)))
    }

    /// The values of a site from the first layer to the last, stacked: `[layer, …]`.
    pub fn stack(&self, site: Site) -> Result<Tensor> {
        let mut points: Vec<HookPoint> = self.order.iter().copied().filter(|point| point.site == site).collect();
        points.sort_by_key(|point| point.layer);
        let values: Vec<&Tensor> = points.iter().filter_map(|point| self.values.get(point)).collect();
        if values.is_empty() {
            return Err(Error::NotKept { point: format!("blocks.*.{site}") });
        }
        Ok(Tensor::f_stack(&values, 0)?)
    }

    /// The bytes that the kept values hold.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.values.values().map(|value| value.numel() * value.kind().elt_size_in_bytes()).sum()
    }

    /// The number of kept points.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether nothing was kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

/// Panics if the point was not kept; [`Cache::get`] gives an error in its place.
impl Index<HookPoint> for Cache {
    type Output = Tensor;

    fn index(&self, point: HookPoint) -> &Tensor {
        match self.get(point) {
            Ok(value) => value,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Panics if the point was not kept; [`Cache::get`] gives an error in its place.
impl Index<Site> for Cache {
    type Output = Tensor;

    fn index(&self, site: Site) -> &Tensor {
        &self[site.global()]
    }
}
