//! The hooks of one pass, timed: what the run's own hooks watch goes to them, and every point ends a component.

use std::ffi::c_void;

use arrakis_core::{Dims, HookPoint, Hooks, Input, Pass, Result, Site};
use tch::{Kind, Tensor};

use super::Spent;
use super::component::{self, HOOKS, OF_EXPERTS, STEPS, WATCHED, WITHIN_ATTENTION, WITHIN_MLP, component};
use super::process::{Clock, Memory};
use super::spent::Ledger;

/// What is known of a pass before it begins.
pub(super) struct Shape {
    batch: i64,
    pos: i64,
    seen: i64,
    kind: Kind,
}

/// A stopwatch around the hooks of a run.
pub(super) struct Timed<'a> {
    inner: &'a mut dyn Hooks,
    dims: &'a Dims,
    shape: Shape,
    steps: bool,
    pub(super) ledger: Ledger,
    memory: Memory,
    last: Clock,
    /// The data of the value seen last: a value that passes several points is counted once.
    counted: *const c_void,
    met: Met,
    /// What the inner hooks give in place of attention or MLP in this block.
    given: [Option<Tensor>; 2],
}

/// What was met in a block.
#[derive(Default)]
struct Met {
    /// That queries, keys and values were made.
    projection: bool,
    /// Scores, which fused attention does not show.
    scores: bool,
    /// What each head writes.
    result: bool,
}

impl Shape {
    pub(super) fn of(pass: &Pass<'_>, kind: Kind) -> Self {
        let size = match pass.input {
            Input::Tokens(tokens) => tokens.size(),
            Input::Residual(residual) => residual.size(),
        };
        let length = |dimension: usize| size.get(dimension).copied().unwrap_or(0);
        let seen = pass.past.map_or(0, arrakis_core::KeyValues::len);
        Self { batch: length(0), pos: length(1), seen, kind }
    }

    pub(super) fn positions(&self) -> u64 {
        self.batch.unsigned_abs() * self.pos.unsigned_abs()
    }
}

impl<'a> Timed<'a> {
    pub(super) fn new(inner: &'a mut dyn Hooks, dims: &'a Dims, shape: Shape, steps: bool, ledger: Ledger) -> Self {
        Self {
            inner,
            dims,
            shape,
            steps,
            ledger,
            memory: Memory::open(),
            last: Clock::now(),
            counted: std::ptr::null(),
            met: Met::default(),
            given: [None, None],
        }
    }

    /// Ends a component.
    pub(super) fn lap(&mut self, layer: Option<usize>, component: &'static str, flops: u64, bytes: u64) {
        let now = Clock::now();
        let resident = self.ledger.height(&self.memory);
        self.ledger.add(layer, component, Spent { flops, bytes, visits: 1, resident, ..self.last.until(now) });
        self.last = now;
    }

    fn count(&mut self, point: HookPoint, value: &Tensor) {
        let numbers = value.numel() as u64;
        let keys = (self.shape.seen + self.shape.pos).unsigned_abs();
        let mut flops = component::flops(point.site, numbers, keys, !self.met.scores, self.met.result, self.dims);
        let (mut bytes, data) = (numbers * value.kind().elt_size_in_bytes() as u64, value.data_ptr().cast_const());
        match point.site {
            Site::Q | Site::K | Site::V if self.met.projection => bytes = 0,
            // The model did not tell when they were made.
            Site::Z if !self.met.projection => flops += component::projection(self.shape.positions(), self.dims),
            _ if data == self.counted => bytes = 0,
            _ => {}
        }
        self.counted = data;
        self.lap(point.layer, component(point.site, !self.met.scores), flops, bytes);
        match point.site {
            Site::RESID_PRE => self.met = Met::default(),
            Site::ATTN_SCORES => self.met.scores = true,
            Site::RESULT => self.met.result = true,
            _ => {}
        }
    }

    /// Whether attention goes step by step in this block, be it for the run's own hooks or for the profile.
    fn goes_by_steps(&self, layer: Option<usize>) -> bool {
        let watched = || STEPS.iter().any(|site| self.inner.watches(HookPoint { site: *site, layer }));
        self.given[0].is_none() && (self.steps || watched())
    }

    /// Asks the inner hooks early what they give in this block, so that what is then left out is not watched here.
    ///
    /// Tells whether there was anything to ask.
    fn ask_given(&mut self, layer: Option<usize>) -> Result<bool> {
        self.given = [None, None];
        let mut asked = false;
        for (given, site) in self.given.iter_mut().zip([Site::ATTN_OUT, Site::MLP_OUT]) {
            let point = HookPoint { site, layer };
            if self.inner.watches(point) {
                *given = self.inner.given(point)?;
                asked = true;
            }
        }
        Ok(asked)
    }
}

impl Hooks for Timed<'_> {
    fn watches(&self, point: HookPoint) -> bool {
        let site = &point.site;
        let left_out = (self.given[0].is_some() && WITHIN_ATTENTION.contains(site))
            || (self.given[1].is_some() && WITHIN_MLP.contains(site))
            || (self.dims.others.contains_key("expert") && OF_EXPERTS.contains(site));
        let own = !left_out && (WATCHED.contains(site) || (STEPS.contains(site) && self.goes_by_steps(point.layer)));
        own || self.inner.watches(point)
    }

    fn visit(&mut self, point: HookPoint, mut value: Tensor) -> Result<Tensor> {
        self.count(point, &value);
        let watched = self.inner.watches(point);
        if watched {
            value = self.inner.visit(point, value)?;
        }
        let asked = point.site == Site::RESID_PRE && self.ask_given(point.layer)?;
        if watched || asked {
            self.counted = value.data_ptr().cast_const();
            self.lap(point.layer, HOOKS, 0, 0);
        }
        Ok(value)
    }

    fn given(&mut self, point: HookPoint) -> Result<Option<Tensor>> {
        let asked = match point.site {
            Site::ATTN_OUT => self.given[0].take(),
            Site::MLP_OUT => self.given[1].take(),
            _ => None,
        };
        if asked.is_some() || !self.inner.watches(point) { Ok(asked) } else { self.inner.given(point) }
    }

    fn passed(&mut self, point: HookPoint) {
        let positions = self.shape.positions();
        let (numbers, flops) = match point.site {
            Site::V => (component::projected(positions, self.dims), component::projection(positions, self.dims)),
            // What was shown is counted already.
            _ if self.inner.watches(point) => (0, 0),
            _ => {
                let shape = point.shape(self.dims, self.shape.batch, self.shape.pos);
                (shape.iter().product::<i64>().unsigned_abs(), 0)
            }
        };
        self.met.projection |= point.site == Site::V;
        let bytes = numbers * self.shape.kind.elt_size_in_bytes() as u64;
        self.lap(point.layer, component(point.site, true), flops, bytes);
        self.inner.passed(point);
    }
}
