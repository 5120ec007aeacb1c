//! Where a run's time, memory and arithmetic go: by layer and by component, in sum equal to the whole.

mod component;
mod process;
mod profiled;
mod report;
mod spent;
mod timed;

use std::mem;

use arrakis_core::Model;

use crate::environment::peak_memory;
use process::{Clock, resident};
use profiled::Profiled;
use spent::Ledger;

pub use spent::{Row, Spent};

/// What runs of a model cost; several runs add up.
///
/// The model is timed between one hook point and the next, and what lies between is the component that ends there: `out`
/// from `attn.hook_z` to `hook_attn_out`, and so on. Watched are only points that exist anyhow, so the model computes
/// what it would compute without a profile, to the bit, and norms and attention stay fused: scores, pattern and z are one
/// row, `attention`, unless the run itself watches them or the profile goes [step by step](Profile::step_by_step).
///
/// - **Time** is wall time, and processor time of all threads of this process, whoever's they are. What no pass took is
///   [`outside`](Profile::outside) (a tool's own arithmetic, the way back of gradients), so the rows and it are the whole
///   exactly. What hooks of the run itself take, edits and what is kept, is the row `hooks`. On a GPU kernels run on
///   after they are called, so there a row is the time of calling; only the whole means something.
/// - **FLOPs** are those of the matrix products, two for each multiplication with its addition, with every masked pair
///   of positions counted: the maps into and out of heads and neurons, scores, mixing, the unembedding. Norms, softmax,
///   activation functions and sums are not counted; lags, kernels and experts are taken for plain attention and neurons.
/// - **Bytes** are those of the values that flow through the points, each counted once: what a cache of all of them would
///   hold, not what the allocator held. Fused attention has no scores to count.
/// - **Resident** is how far the process' memory lay above that at the start of the run (Linux; LibTorch counts no
///   allocations on the CPU). It is read at the points, and the process' own high-water mark is added at the end where
///   the run raised it; what an allocator keeps for later counts, and blocks that it had kept before do not.
///
/// ```no_run
/// # fn show(model: &dyn arrakis_core::Model, tokens: &arrakis_core::Tokens) -> arrakis_bench::Result<()> {
/// use arrakis_bench::Profile;
/// use arrakis_core::ModelExt;
/// let mut profile = Profile::new();
/// let run = profile.run(model, |model| model.trace(tokens).run())?;
/// println!("{profile}");
/// # drop(run);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Profile {
    steps: bool,
    ledger: Ledger,
    whole: Spent,
}

impl Profile {
    /// A profile of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same profile, with a row each for scores, pattern and z.
    ///
    /// Attention is then computed step by step in place of fused: it takes longer, and differs by rounding.
    #[must_use]
    pub const fn step_by_step(mut self) -> Self {
        self.steps = true;
        self
    }

    /// Does `work` with a model whose passes are counted in this profile, and gives what `work` gives.
    ///
    /// `work` may run the model as often as it likes, through traces, sweeps, generations or tools, and edit its
    /// weights. What was spent until an error is counted too.
    pub fn run<T, E>(&mut self, model: &dyn Model, work: impl FnOnce(&dyn Model) -> Result<T, E>) -> Result<T, E> {
        let (floor, mark) = (resident(), peak_memory());
        let ledger = mem::take(&mut self.ledger).above(floor.unwrap_or(0));
        let profiled = Profiled::new(model, ledger, self.steps);
        let start = Clock::now();
        let outcome = work(&profiled);
        let spent = start.spent();
        self.ledger = profiled.into_ledger();
        self.whole.add(spent);
        let reached = peak_memory().filter(|reached| Some(*reached) > mark).into_iter().chain(resident()).max();
        if let (Some(floor), Some(reached)) = (floor, reached) {
            self.whole.reach(reached.saturating_sub(floor));
        }
        outcome
    }

    /// What each component of each layer took, in the order in which a pass meets them.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        self.ledger.rows()
    }

    /// What each component took in all layers together.
    #[must_use]
    pub fn by_component(&self) -> Vec<(&'static str, Spent)> {
        self.summed(|row| row.component)
    }

    /// What each layer took; `None` is what lies before the first and after the last.
    #[must_use]
    pub fn by_layer(&self) -> Vec<(Option<usize>, Spent)> {
        self.summed(|row| row.layer)
    }

    /// What all runs took, inside passes and outside.
    #[must_use]
    pub fn whole(&self) -> Spent {
        let inside = self.inside();
        let mut whole = Spent { flops: inside.flops, bytes: inside.bytes, visits: inside.visits, ..self.whole };
        whole.reach(inside.resident);
        whole
    }

    /// What the rows are in sum.
    #[must_use]
    pub fn inside(&self) -> Spent {
        self.rows().iter().fold(Spent::default(), |sum, row| sum.with(row.spent))
    }

    /// What the runs took outside the passes: the whole less all rows.
    #[must_use]
    pub fn outside(&self) -> Spent {
        let inside = self.inside();
        let (wall, cpu) = (self.whole.wall.saturating_sub(inside.wall), self.whole.cpu.saturating_sub(inside.cpu));
        Spent { wall, cpu, ..Spent::default() }
    }

    /// How many passes were begun.
    #[must_use]
    pub const fn passes(&self) -> usize {
        self.ledger.passes
    }

    /// How many of them ended with an error.
    #[must_use]
    pub const fn failed(&self) -> usize {
        self.ledger.failed
    }

    /// How many positions the passes ran, rows of batches and padding counted.
    #[must_use]
    pub const fn positions(&self) -> u64 {
        self.ledger.positions
    }

    fn summed<K: PartialEq + Copy>(&self, key: impl Fn(&Row) -> K) -> Vec<(K, Spent)> {
        let mut sums: Vec<(K, Spent)> = Vec::new();
        for row in self.rows() {
            let key = key(row);
            match sums.iter_mut().find(|(known, _)| *known == key) {
                Some((_, sum)) => sum.add(row.spent),
                None => sums.push((key, row.spent)),
            }
        }
        sums
    }
}
