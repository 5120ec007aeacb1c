//! What a head's output changes on its way to another when all other heads are frozen.

use arrakis_core::{Case, Context, Error, Metric, PosSlice, Result, Site, Sweep, Weight, edit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::pair::{Pair, Runs};
use crate::measured::mean;
use crate::{HeadInput, HeadPlace};

/// The bytes of streams that are held at once where no bound is given.
const BYTES: u64 = 256 << 20;

/// A head that receives, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// Its block.
    pub layer: usize,
    /// Its place in the block, among the query heads.
    pub head: usize,
    /// What it receives by.
    pub input: HeadInput,
}

/// What the MLPs between sender and receiver do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mlps {
    /// They answer to what the sender writes, and belong to the path.
    #[default]
    Recomputed,
    /// They write what they wrote in the corrupted run: the direct path alone.
    Frozen,
}

/// A corrupted run in which heads are frozen.
pub(super) struct Frozen<'a> {
    cx: &'a Context<'a>,
    pair: &'a Pair,
    pub(super) runs: Runs,
    mlps: Mlps,
    /// The first position at which anything differs.
    from: i64,
}

impl<'a> Frozen<'a> {
    pub(super) fn of(cx: &'a Context<'a>, pair: &'a Pair, metric: &Metric, mlps: Mlps) -> Result<Self> {
        let n_layers = cx.model().dims().n_layers;
        let sites = [Site::RESID_PRE, Site::Z, Site::ATTN_OUT, Site::MLP_OUT];
        let points: Vec<_> = sites.iter().flat_map(|site| (0..n_layers).map(|layer| site.at(layer))).collect();
        let runs = pair.run(cx, metric, &points)?;
        let from = if pair.corrupted.mask().is_some() { 0 } else { pair.first_difference()? };
        Ok(Self { cx, pair, runs, mlps, from })
    }

    /// Query heads of a block.
    pub(super) fn heads(&self) -> usize {
        self.cx.model().dims().n_heads
    }

    /// How many senders are followed at once.
    pub(super) fn at_once(&self) -> usize {
        let numbers = self.pair.corrupted.batch() * self.pair.corrupted.positions() * self.cx.model().dims().d_model;
        let bytes = (numbers * self.cx.model().kind().elt_size_in_bytes()).max(1) as u64;
        (self.cx.memory_limit().unwrap_or(BYTES) / bytes).max(1) as usize
    }

    /// A case in which a head writes what it wrote in the clean run, and every other head what it wrote in the corrupted
    /// one, up to block `end`; without a sender nothing is changed.
    fn case(&self, sender: Option<HeadPlace>, end: usize) -> Result<Case<'static>> {
        let base = |site: Site, layer: usize| self.runs.base.get(site.at(layer));
        let first = sender.map_or(0, |sender| sender.layer);
        let mut case = Case::new();
        for layer in first..end {
            let mut attention = base(Site::ATTN_OUT, layer)?.shallow_clone();
            if let Some(sender) = sender.filter(|sender| sender.layer == layer) {
                let head = |z: &Tensor| z.f_select(2, sender.head as i64);
                let z = Site::Z.at(layer);
                let change = head(self.runs.source.get(z)?)?.f_sub(&head(self.runs.base.get(z)?)?)?;
                let out = self.cx.model().weight(Weight::O.at(layer))?.f_select(0, sender.head as i64)?;
                attention = attention.f_add(&change.f_matmul(&out)?)?;
            }
            case = case.edit(Site::ATTN_OUT.at(layer), edit::from_position(self.from, edit::patch(&attention)));
            if self.mlps == Mlps::Frozen {
                let written = edit::patch(base(Site::MLP_OUT, layer)?);
                case = case.edit(Site::MLP_OUT.at(layer), edit::from_position(self.from, written));
            }
        }
        Ok(case)
    }

    /// The metric with each of the senders, the logits being the receiver.
    pub(super) fn to_logits(&self, senders: &[Option<HeadPlace>]) -> Result<Vec<f64>> {
        let end = self.cx.model().dims().n_layers;
        let cases = senders.iter().map(|sender| self.case(*sender, end)).collect::<Result<Vec<_>>>()?;
        self.metrics(cases)
    }

    /// The residual stream before each of `layers` with each of the senders, all of which lie before the last of
    /// `layers`: `[batch, pos, d_model]`, by sender and layer.
    pub(super) fn streams(&self, senders: &[Option<HeadPlace>], layers: &[usize]) -> Result<Vec<Vec<Tensor>>> {
        let end = layers.iter().copied().max().unwrap_or(0);
        let cases = senders.iter().map(|sender| self.case(*sender, end)).collect::<Result<Vec<_>>>()?;
        let between = layers.iter().filter(|layer| **layer < end);
        let sweep = Sweep::new(self.cx, &self.pair.corrupted).cases(cases).logits(PosSlice::None).stop_at(end);
        let sweep = between.fold(sweep, |sweep, layer| sweep.keep(Site::RESID_PRE.at(*layer)));
        let mut streams: Vec<Vec<Tensor>> = (0..senders.len()).map(|_| Vec::new()).collect();
        sweep.run(|case, found| {
            for layer in layers {
                let point = Site::RESID_PRE.at(*layer);
                let base = self.runs.base.get(point)?;
                let stream = if *layer == end { &found.residual } else { found.cache.get(point)? };
                // Positions that were not run are as they were.
                let before = base.f_narrow(1, 0, base.size()[1] - stream.size()[1])?;
                streams[case].push(Tensor::f_cat(&[&before, stream], 1)?);
            }
            Ok(())
        })?;
        Ok(streams)
    }

    /// The metric when receivers read other streams, everything else being as in the corrupted run but for them.
    ///
    /// Heads that share their keys and values receive one by one: what each of them makes of its own keys or values is
    /// computed alone, and put in the place of its output.
    pub(super) fn received(&self, jobs: &[Vec<(Receiver, Tensor)>]) -> Result<Vec<f64>> {
        let dims = self.cx.model().dims();
        let group = dims.n_heads / dims.n_kv_heads;
        let shared = |(receiver, _): &(Receiver, Tensor)| group > 1 && receiver.input != HeadInput::Q;
        let input = |case: Case<'static>, (receiver, stream): &(Receiver, Tensor)| -> Result<Case<'static>> {
            let (site, head, heads) = match receiver.input {
                HeadInput::Q => (Site::Q_INPUT, receiver.head, dims.n_heads),
                HeadInput::K => (Site::K_INPUT, receiver.head / group, dims.n_kv_heads),
                HeadInput::V => (Site::V_INPUT, receiver.head / group, dims.n_kv_heads),
            };
            let by_head = stream.f_unsqueeze(2)?.f_expand([-1, -1, heads as i64, -1], false)?;
            let edit = edit::from_position(self.from, edit::head(head, edit::patch(&by_head)));
            Ok(case.edit(site.at(receiver.layer), edit))
        };
        if !jobs.iter().flatten().any(shared) {
            let case = |job: &Vec<(Receiver, Tensor)>| job.iter().try_fold(Case::new(), &input);
            return self.metrics(jobs.iter().map(case).collect::<Result<Vec<_>>>()?);
        }
        let layers: Vec<usize> = jobs.iter().flatten().map(|(receiver, _)| receiver.layer).collect();
        let mut cases: Vec<Case<'static>> = jobs.iter().map(|_| Case::new()).collect();
        let mut at: Vec<usize> = layers.clone();
        at.sort_unstable();
        at.dedup();
        for layer in at {
            let (mut alone, mut owners) = (Vec::new(), Vec::new());
            for (place, job) in jobs.iter().enumerate() {
                if job.iter().any(|(receiver, _)| receiver.layer != job[0].0.layer) {
                    let why = "they share keys and values and lie in several layers; give those of one layer at a time";
                    return Err(Error::Invalid { what: "receivers".into(), why: why.into() });
                }
                let mut heads: Vec<usize> = job.iter().map(|(receiver, _)| receiver.head).collect();
                heads.sort_unstable();
                heads.dedup();
                for head in heads.into_iter().filter(|_| job[0].0.layer == layer) {
                    let own = job.iter().filter(|(receiver, _)| receiver.head == head);
                    alone.push(own.into_iter().try_fold(Case::new(), &input)?);
                    owners.push((place, head));
                }
            }
            let z = Site::Z.at(layer);
            let sweep = Sweep::new(self.cx, &self.pair.corrupted).cases(alone).logits(PosSlice::None);
            let mut outputs: Vec<(usize, usize, Tensor)> = Vec::new();
            sweep.stop_at(layer + 1).keep(z).run(|case, found| {
                let (job, head) = owners[case];
                outputs.push((job, head, found.cache.get(z)?.shallow_clone()));
                Ok(())
            })?;
            for (job, head, output) in outputs {
                let edit = edit::from_position(self.from, edit::head(head, edit::patch(&output)));
                cases[job] = std::mem::take(&mut cases[job]).edit(z, edit);
            }
        }
        self.metrics(cases)
    }

    fn metrics(&self, cases: Vec<Case<'static>>) -> Result<Vec<f64>> {
        let mut values = vec![f64::NAN; cases.len()];
        let measure = &self.runs.measure;
        Sweep::new(self.cx, &self.pair.corrupted).cases(cases).logits(measure.wanted()).run(|case, found| {
            values[case] = mean(measure, &found.logits()?.f_to_kind(Kind::Double)?)?;
            Ok(())
        })?;
        Ok(values)
    }
}
