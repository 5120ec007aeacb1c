//! The model's side of hooks: a value comes in at a point and a value goes on.

use tch::Tensor;

use crate::{HookPoint, Result, Site};

/// What watches a pass.
///
/// A model calls [`visit`](Hooks::visit) at every point that is watched, in the order of
/// [`Model::points`](crate::Model::points), and goes on with the value returned.
pub trait Hooks {
    /// Whether anyone wants the value at `point`; a model does not compute what nobody watches.
    fn watches(&self, point: HookPoint) -> bool;

    /// Takes the value at `point` and gives the value that flows on.
    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor>;

    /// The value that flows on at `point` whatever comes in, if that is known beforehand.
    ///
    /// A model that asks may leave out what leads to nothing else, and does not visit the point then. It never has to ask.
    fn given(&mut self, point: HookPoint) -> Result<Option<Tensor>> {
        let _ = point;
        Ok(None)
    }

    /// Tells that what ends at `point` is computed, whether or not the value there was shown.
    ///
    /// For those who measure: a fused norm shows nothing, and says when it is over; queries, keys and values are made
    /// together, and `attn.hook_v` ends all three. A model never has to tell.
    fn passed(&mut self, point: HookPoint) {
        let _ = point;
    }
}

/// Hooks that watch nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Hooks for Unwatched {
    fn watches(&self, _: HookPoint) -> bool {
        false
    }

    fn visit(&mut self, _: HookPoint, value: Tensor) -> Result<Tensor> {
        Ok(value)
    }
}

/// Hooks within one block, or outside the blocks: what a forward pass threads its values through.
pub struct Tap<'a> {
    hooks: &'a mut dyn Hooks,
    layer: Option<usize>,
}

impl<'a> Tap<'a> {
    /// A tap outside the blocks.
    pub fn new(hooks: &'a mut dyn Hooks) -> Self {
        Self { hooks, layer: None }
    }

    /// The same hooks inside a block.
    pub fn block(&mut self, layer: usize) -> Tap<'_> {
        Tap { hooks: self.hooks, layer: Some(layer) }
    }

    /// Whether anyone wants the value of `site` here.
    #[must_use]
    pub fn watches(&self, site: Site) -> bool {
        self.hooks.watches(self.point(site))
    }

    /// Whether anyone wants one of the values of `sites` here.
    #[must_use]
    pub fn watches_any(&self, sites: &[Site]) -> bool {
        sites.iter().any(|site| self.watches(*site))
    }

    /// Shows `value` to the hooks, if they watch, and gives the value that flows on.
    pub fn at(&mut self, site: Site, value: Tensor) -> Result<Tensor> {
        let point = self.point(site);
        if self.hooks.watches(point) { self.hooks.visit(point, value) } else { Ok(value) }
    }

    /// The value that flows on at `site` whatever comes in, if it is known and nobody watches one of `others` here.
    pub fn given(&mut self, site: Site, others: &[Site]) -> Result<Option<Tensor>> {
        if !self.watches(site) || self.watches_any(others) {
            return Ok(None);
        }
        self.hooks.given(self.point(site))
    }

    /// Tells the hooks that what ends at `site` is computed, shown or not.
    pub fn passed(&mut self, site: Site) {
        self.hooks.passed(self.point(site));
    }

    /// As [`at`](Tap::at), and whether the value that flows on is another one.
    pub fn at_noting(&mut self, site: Site, value: Tensor) -> Result<(Tensor, bool)> {
        let before = value.data_ptr();
        let after = self.at(site, value)?;
        let edited = after.data_ptr() != before;
        Ok((after, edited))
    }

    /// The point of `site` here.
    #[must_use]
    pub const fn point(&self, site: Site) -> HookPoint {
        HookPoint { site, layer: self.layer }
    }
}
