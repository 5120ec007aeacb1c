//! What a logit lens keeps of the logits of every layer and position, and its labelled shapes.

use arrakis_core::{Axis, Context, Grid, Model, Ranking, Result, Series, Stack, answer};
use tch::Tensor;

use crate::work_kind::work_kind;
use crate::{RowLens, gap};

/// The bytes of logits held at once where no bound is given: each chunk lays the unembedding out anew, so few are best.
const LOGIT_BYTES: u64 = 512 << 20;

/// What is kept of the logits of every layer and position.
pub(crate) struct Reading {
    /// Probabilities of the likeliest tokens: `[layer, read, rank]`.
    probabilities: Tensor,
    /// Their ids: `[layer, read, rank]`.
    ids: Tensor,
    /// In nats: `[layer, read]`.
    entropy: Tensor,
    /// Probabilities of the targets: `[layer, read, target]`.
    target_probability: Tensor,
    /// Ranks of the targets: `[layer, read, target]`.
    target_rank: Tensor,
    logit_gap: f64,
}

impl Reading {
    /// Reads a `stream` (`[layer, read, d_model]`), in chunks that hold the memory bound.
    ///
    /// `output` are the model's own logits: `[read, vocab]`.
    pub(crate) fn of(cx: &Context<'_>, stream: &Tensor, top: usize, targets: &[i64], output: &Tensor) -> Result<Self> {
        let model = cx.model();
        let (layers, read, d_model) = stream.size3()?;
        let kind = work_kind(model);
        // Logits and probabilities are held together, and for a moment what conversions and ranks make of them.
        let row_bytes = (4 * model.dims().vocab * kind.elt_size_in_bytes()) as u64;
        let most = (cx.memory_limit().unwrap_or(LOGIT_BYTES) / row_bytes).max(1) as i64;
        // Chunks of equal length: a short last one would read the whole unembedding for a few rows.
        let rows = layers * read;
        let chunk = most.min((rows - 1) / ((rows - 1) / most + 1) + 1);
        let flat = stream.f_reshape([rows, d_model])?;
        let targets = Tensor::f_from_slice(targets)?.f_to_device(model.device())?;

        let mut parts: [Vec<Tensor>; 5] = Default::default();
        let mut logit_gap = 0.0;
        let last = (layers - 1) * read;
        for start in (0..rows).step_by(chunk as usize) {
            cx.cancelled()?;
            let len = chunk.min(rows - start);
            let logits = model.unembed(&flat.f_narrow(0, start, len)?)?.f_to_kind(kind)?;
            let first = start.max(last);
            if first < start + len {
                let here = logits.f_narrow(0, first - start, start + len - first)?;
                let there = output.f_narrow(0, first - last, start + len - first)?;
                logit_gap = gap::worse(logit_gap, gap::gap(&here, &there)?);
            }
            let probabilities = logits.f_softmax(-1, kind)?;
            let (likeliest, ids) = probabilities.f_topk(top as i64, -1, true, true)?;
            let own = logits.f_index_select(-1, &targets)?.f_unsqueeze(-1)?;
            let ranks = logits.f_unsqueeze(1)?.f_gt_tensor(&own)?.f_sum_dim_intlist(-1, false, kind)?;
            let chosen = probabilities.f_index_select(-1, &targets)?;
            // The logarithm of the partition is the greatest logit less its own log probability, so no entry but one
            // needs a logarithm: `H = ln Z - Σ p logit`.
            let greatest = logits.f_amax([-1], false)?;
            let partition = greatest.f_sub(&likeliest.f_select(-1, 0)?.f_log()?)?;
            let entropy = partition.f_sub(&Tensor::f_linalg_vecdot(&probabilities, &logits, -1)?)?.f_clamp_min(0)?;
            for (list, part) in parts.iter_mut().zip([likeliest, ids, entropy, chosen, ranks]) {
                list.push(part);
            }
        }
        let joined = |list: &[Tensor], width: &[i64]| -> Result<Tensor> {
            Ok(Tensor::f_cat(list, 0)?.f_reshape([&[layers, read], width].concat())?)
        };
        let (top, count) = (top as i64, targets.size()[0]);
        Ok(Self {
            probabilities: joined(&parts[0], &[top])?,
            ids: joined(&parts[1], &[top])?,
            entropy: joined(&parts[2], &[])?,
            target_probability: joined(&parts[3], &[count])?,
            target_rank: joined(&parts[4], &[count])?,
            logit_gap,
        })
    }

    /// The reading in labelled shapes; the columns come first among what was read, the followed position is at `place`.
    pub(crate) fn shown(
        self,
        model: &dyn Model,
        layers: &Axis,
        columns: &Axis,
        place: i64,
        targets: &[i64],
    ) -> Result<RowLens> {
        let width = columns.len() as i64;
        let names = |ids: &Tensor| -> Result<Vec<String>> {
            let ids: Vec<i64> = Vec::try_from(ids.f_to_device(tch::Device::Cpu)?.f_contiguous()?.f_reshape([-1])?)?;
            Ok(ids.into_iter().map(|id| model.token(id)).collect())
        };
        let (ids, probabilities) = (self.ids.f_narrow(1, 0, width)?, self.probabilities.f_narrow(1, 0, width)?);
        let best = probabilities.f_select(2, 0)?;
        let grid = Grid::from_tensor("logit lens", "probability", layers.clone(), columns.clone(), &best)?
            .with_cells(names(&ids.f_select(2, 0)?)?)?;
        let entropy = self.entropy.f_narrow(1, 0, width)?;
        let entropy = Grid::from_tensor("entropy of the lens", "nats", layers.clone(), columns.clone(), &entropy)?;

        let ranks = Axis::new("rank", (1..=ids.size()[2]).map(|rank| rank.to_string()));
        let followed = self.probabilities.f_select(1, place)?;
        let followed_names = names(&self.ids.f_select(1, place)?)?;
        let final_names = followed_names[followed_names.len() - ranks.len()..].to_vec();
        let final_values = answer::numbers(&followed.f_select(0, -1)?)?;
        let top = Ranking::new("likeliest next tokens", "probability", final_names.into_iter().zip(final_values));
        let by_layer =
            Grid::from_tensor("likeliest tokens by layer", "probability", layers.clone(), ranks.clone(), &followed)?
                .with_cells(followed_names)?;

        let series = |title: &str, value: &str, values: &Tensor| -> Result<Option<Series>> {
            let lines = targets.iter().enumerate().map(|(target, id)| {
                let values = values.f_select(1, place)?.f_select(1, target as i64)?;
                Ok((model.token(*id), answer::numbers(&values)?))
            });
            let lines = lines.collect::<Result<Vec<_>>>()?;
            if lines.is_empty() {
                return Ok(None);
            }
            Series::new(title, value, layers.clone(), lines).map(Some)
        };
        let axes = vec![layers.clone(), columns.clone(), ranks];
        Ok(RowLens {
            grid,
            entropy,
            by_layer,
            top,
            target_probability: series("targets in the lens", "probability", &self.target_probability)?,
            target_rank: series("targets in the lens", "rank (0 is the likeliest)", &self.target_rank)?,
            ids: Stack::new("likeliest tokens", "token id", axes.clone(), ids)?,
            probabilities: Stack::new("likeliest tokens", "probability", axes, probabilities)?,
            logit_gap: self.logit_gap,
        })
    }
}
