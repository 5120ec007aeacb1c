//! A run done again with one output replaced, and what that costs a logit.

use arrakis_core::{Cache, Context, HookPoint, ModelExt, Result, Site, Tokens, Weight, answer, edit};
use tch::{Device, Kind, Tensor};

use super::{AblationEffects, LensAblation};
use crate::answer_and_wrong;
use crate::logit_attribution::rows::{ReadRows, difference};

/// The bytes of activations of a pass where no bound is given.
const CPU_BYTES: u64 = 256 << 20;
const GPU_BYTES: u64 = 2 << 30;

/// The run as it is, and the means to do it again with something ablated.
pub(super) struct Ablated {
    tokens: Tokens,
    read: ReadRows,
    answer: Tensor,
    wrong: Option<Tensor>,
    ablation: LensAblation,
    kept: Cache,
    /// Which positions are real: `[batch, pos]`, in double.
    real: Tensor,
    /// The final stream at the read positions: `[batch, d_model]`, in the model's kind.
    last: Tensor,
    pub(super) difference: f64,
}

impl Ablated {
    pub(super) fn of(asked: &AblationEffects, cx: &Context<'_>) -> Result<Self> {
        let model = cx.model();
        let dims = model.dims();
        let tokens = asked.prompt.tokens(model)?;
        let (answer, wrong) = answer_and_wrong::ids(&asked.answer, asked.wrong.as_ref(), model, tokens.batch())?;
        let read = ReadRows::of(model, &tokens, asked.position)?;
        let mut trace = model.trace(&tokens).logits(read.wanted());
        trace = trace.keep(Site::RESID_PRE).keep(Site::ATTN_OUT).keep(Site::MLP_OUT);
        trace = trace.keep(Site::RESID_POST.at(dims.n_layers - 1));
        if asked.heads {
            trace = trace.keep(Site::Z);
        }
        let run = trace.run()?;
        let logits = read.logits(run.logits()?)?;
        let value = difference(&logits, &answer, wrong.as_ref())?.f_mean(Kind::Double)?.f_double_value(&[])?;
        let real = match tokens.mask() {
            Some(mask) => mask.f_to_kind(Kind::Double)?.f_to_device(model.device())?,
            None => Tensor::f_ones(tokens.ids().size(), (Kind::Double, model.device()))?,
        };
        let last = read.at(run.cache.get(Site::RESID_POST.at(dims.n_layers - 1))?)?.f_to_kind(model.kind())?;
        let (kept, ablation) = (run.cache, asked.ablation);
        Ok(Self { tokens, read, answer, wrong, ablation, kept, real, last, difference: value })
    }

    /// What stands in the place of the value: one for all rows and positions.
    fn replacement(&self, value: &Tensor) -> Result<Tensor> {
        let rest = value.size()[2..].to_vec();
        match self.ablation {
            LensAblation::Zero => Ok(Tensor::f_zeros(&rest[..], (value.kind(), value.device()))?),
            LensAblation::Mean => {
                let mut shape = self.real.size();
                shape.resize(value.dim(), 1);
                let weighted = value.f_to_kind(Kind::Double)?.f_mul(&self.real.f_view(&shape[..])?)?;
                let sum = weighted.f_sum_dim_intlist(&[0_i64, 1][..], false, Kind::Double)?;
                Ok(sum.f_div(&self.real.f_sum(Kind::Double)?)?.f_to_kind(value.kind())?)
            }
        }
    }

    /// Total and direct effect of the value at a point, or of some of its heads, one at a time.
    pub(super) fn effects(
        &self,
        cx: &Context<'_>,
        site: Site,
        layer: usize,
        heads: &[Option<usize>],
    ) -> Result<Vec<(f64, f64)>> {
        let model = cx.model();
        let point = site.at(layer);
        let value = self.kept.get(point)?;
        let replacement = self.replacement(value)?;
        let limit = cx.memory_limit().unwrap_or(if model.device() == Device::Cpu { CPU_BYTES } else { GPU_BYTES });
        let pack = (limit / self.bytes(cx)).max(1) as usize;
        let mut found = Vec::with_capacity(heads.len());
        for heads in heads.chunks(pack) {
            cx.cancelled()?;
            let totals = self.ablated(cx, point, layer, &replacement, heads)?;
            for (head, total) in heads.iter().zip(totals) {
                let lost = self.read.at(&value.f_sub(&replacement)?)?;
                let lost = match head {
                    None => lost,
                    Some(head) => {
                        let out = model.weight(Weight::O.at(layer))?.f_select(0, *head as i64)?;
                        lost.f_select(1, *head as i64)?.f_matmul(&out.f_to_kind(Kind::Double)?)?
                    }
                };
                let stream = self.last.f_to_kind(Kind::Double)?.f_sub(&lost)?.f_to_kind(model.kind())?;
                let direct = self.measured(&model.unembed(&stream)?.f_to_kind(Kind::Double)?)?;
                found.push((self.difference - total, self.difference - direct));
            }
        }
        Ok(found)
    }

    /// The logit difference with the value replaced and everything after it computed anew: one for each head.
    fn ablated(
        &self,
        cx: &Context<'_>,
        point: HookPoint,
        layer: usize,
        replacement: &Tensor,
        heads: &[Option<usize>],
    ) -> Result<Vec<f64>> {
        let (copies, rows) = (heads.len() as i64, self.tokens.batch() as i64);
        let mut tokens = Tokens::from_tensor(&self.tokens.ids().f_repeat([copies, 1])?)?;
        if let Some(mask) = self.tokens.mask() {
            tokens = tokens.with_mask(&mask.f_repeat([copies, 1])?)?;
        }
        let stream = self.kept.get(Site::RESID_PRE.at(layer))?.f_repeat([copies, 1, 1])?;
        let ablate = edit::with(|value| {
            let parts = heads.iter().enumerate().map(|(copy, head)| {
                let own = value.f_narrow(0, copy as i64 * rows, rows)?;
                let Some(head) = head else { return Ok(replacement.f_expand_as(&own)?) };
                let head = *head as i64;
                let set = replacement.f_narrow(0, head, 1)?.f_expand_as(&own.f_narrow(2, head, 1)?)?;
                Ok(own.f_slice_scatter(&set, 2, head, head + 1, 1)?)
            });
            Ok(Tensor::f_cat(&parts.collect::<Result<Vec<_>>>()?, 0)?)
        });
        let trace = cx.model().trace(&tokens).start_at(layer, &stream).edit(point, ablate);
        let run = trace.logits(self.read.wanted()).run()?;
        let logits = run.logits()?;
        (0..copies).map(|copy| self.measured(&self.read.logits(&logits.f_narrow(0, copy * rows, rows)?)?)).collect()
    }

    /// The mean logit difference of logits (`[batch, vocab]`).
    fn measured(&self, logits: &Tensor) -> Result<f64> {
        let values = answer::numbers(&difference(logits, &self.answer, self.wrong.as_ref())?)?;
        Ok(values.iter().sum::<f64>() / values.len() as f64)
    }

    /// About how many bytes one copy of the rows holds at once in a pass.
    fn bytes(&self, cx: &Context<'_>) -> u64 {
        let (dims, pos) = (cx.model().dims(), self.tokens.positions());
        let stream = pos * (8 * dims.d_model + 4 * dims.d_mlp + 4 * dims.n_heads * dims.d_head);
        let numbers = stream + 2 * dims.n_heads * pos * pos + 3 * dims.vocab;
        (self.tokens.batch() * numbers * cx.model().kind().elt_size_in_bytes()).max(1) as u64
    }
}
