//! Gradients along the straight way from one stream to another.

use arrakis_core::{Context, Measure, Model, ModelExt, Result, Site, Tokens};
use tch::{Device, Kind, Tensor};

/// The bytes of activations of a recorded pass where no bound is given.
const CPU_BYTES: u64 = 512 << 20;
const GPU_BYTES: u64 = 4 << 30;

/// The way from a baseline to the stream.
pub(super) struct Path {
    /// `[batch, pos]`.
    pub(super) integrated: Tensor,
    /// `[batch]`.
    pub(super) baseline_metric: Tensor,
}

impl Path {
    /// Integrates along the path, several midpoints to a pass.
    pub(super) fn along(
        cx: &Context<'_>,
        tokens: &Tokens,
        measure: &Measure,
        start: &Tensor,
        end: &Tensor,
        steps: usize,
    ) -> Result<Self> {
        let model = cx.model();
        let way = end.f_sub(start)?;
        let rows = tokens.batch() as i64;
        let limit = cx.memory_limit().unwrap_or(if model.device() == Device::Cpu { CPU_BYTES } else { GPU_BYTES });
        let pack = (limit / recorded_bytes(model, tokens)).max(1) as usize;
        let midpoints: Vec<f64> = (0..steps).map(|step| (step as f64 + 0.5) / steps as f64).collect();
        let mut sum = way.f_zeros_like()?.f_to_kind(Kind::Double)?;
        for (done, chunk) in midpoints.chunks(pack).enumerate() {
            cx.progress((done * pack) as u64, steps as u64)?;
            let copies = chunk.len() as i64;
            let streams =
                chunk.iter().map(|at| Ok(start.f_add(&way.f_mul_scalar(*at)?)?)).collect::<Result<Vec<_>>>()?;
            let streams = Tensor::f_cat(&streams, 0)?;
            let mut packed = Tokens::from_tensor(&tokens.ids().f_repeat([copies, 1])?)?;
            if let Some(mask) = tokens.mask() {
                packed = packed.with_mask(&mask.f_repeat([copies, 1])?)?;
            }
            let point = Site::RESID_PRE.at(0);
            let trace = model.trace(&packed).start_at(0, &streams).keep(point).logits(measure.wanted());
            let run = trace
                .gradients(|logits| {
                    let values = (0..copies)
                        .map(|copy| Ok(measure.of(&logits.f_narrow(0, copy * rows, rows)?)?.f_sum(None::<Kind>)?))
                        .collect::<Result<Vec<_>>>()?;
                    Ok(Tensor::f_stack(&values, 0)?.f_sum(None::<Kind>)?)
                })
                .run()?;
            let gradient = run.gradients.get(point)?.f_to_kind(Kind::Double)?;
            let shape = [&[copies], &way.size()[..]].concat();
            sum = sum.f_add(&gradient.f_view(&shape[..])?.f_sum_dim_intlist(0, false, Kind::Double)?)?;
        }
        let integrated = sum.f_mul(&way.f_to_kind(Kind::Double)?)?.f_sum_dim_intlist(-1, false, Kind::Double)?;
        let baseline = model.trace(tokens).start_at(0, start).logits(measure.wanted()).run()?;
        Ok(Self {
            integrated: integrated.f_div_scalar(steps as f64)?,
            baseline_metric: measure.of(baseline.logits()?)?.f_to_kind(Kind::Double)?,
        })
    }
}

/// About how many bytes a recorded pass over the prompt holds.
fn recorded_bytes(model: &dyn Model, tokens: &Tokens) -> u64 {
    let (dims, pos) = (model.dims(), tokens.positions());
    let block = pos * (10 * dims.d_model + 5 * dims.d_mlp + 4 * dims.n_heads * dims.d_head);
    let numbers = dims.n_layers * (block + 2 * dims.n_heads * pos * pos) + 4 * pos * dims.vocab;
    (tokens.batch() * numbers * model.kind().elt_size_in_bytes()).max(1) as u64
}
