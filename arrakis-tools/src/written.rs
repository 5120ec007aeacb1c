//! What each component writes of a logit difference, at one position of each row.

use arrakis_core::{HookPoint, Model, Result, Site, Tokens, Weight};
use tch::{Kind, Tensor};

use crate::logit_attribution::rows::{self, ReadRows};
use crate::work_kind::work_kind;
use crate::{gap, reduce};

/// The parts of a logit difference, in double.
pub(crate) struct Written {
    /// The components, in the order of writing.
    pub(crate) names: Vec<String>,
    /// Their parts: `[component, row]`.
    pub(crate) parts: Tensor,
    /// The heads' parts: `[layer, head, row]`.
    pub(crate) heads: Tensor,
    /// The part of each layer's attention bias: `[layer, row]`.
    pub(crate) attention_bias: Tensor,
    /// The parts of attention, heads and bias together: `[layer, row]`.
    attention: Tensor,
    /// The model's logit difference: `[row]`.
    pub(crate) difference: Tensor,
}

impl Written {
    /// The parts of the logit of `answer` minus that of `wrong` (`[row]`, ids), at a position of each row.
    pub(crate) fn of(
        model: &dyn Model,
        tokens: &Tokens,
        position: Option<i64>,
        answer: &Tensor,
        wrong: Option<&Tensor>,
    ) -> Result<Self> {
        let dims = model.dims();
        let read = ReadRows::of(model, tokens, position)?;
        let embeds: Vec<HookPoint> = [Site::EMBED, Site::POS_EMBED]
            .map(Site::global)
            .into_iter()
            .filter(|point| model.points().contains(point))
            .collect();
        let blocks: Vec<HookPoint> =
            (0..dims.n_layers).flat_map(|layer| [Site::ATTN_OUT.at(layer), Site::MLP_OUT.at(layer)]).collect();
        let heads: Vec<HookPoint> = (0..dims.n_layers).map(|layer| Site::Z.at(layer)).collect();
        let scale = Site::LN_FINAL_SCALE.global();
        let components = [embeds, blocks].concat();
        let points = [&components[..], &heads, &[scale]].concat();
        let (run, kept) = reduce::reduce(model, tokens, read.wanted(), &points, |_, value| read.at(value))?;

        let direction = rows::direction(model, answer, wrong)?;
        let dot = |values: &Tensor| values.f_mul(&direction)?.f_sum_dim_intlist(-1, false, Kind::Double);
        let scale = kept.get(scale)?;
        let part = |written: &Tensor| -> Result<Tensor> { Ok(dot(&model.final_norm_with_scale(written, scale)?)?) };

        let mut names: Vec<String> = components.iter().map(|point| component_label(*point)).collect();
        let mut parts = Vec::with_capacity(components.len() + 2);
        for point in &components {
            parts.push(part(kept.get(*point)?)?);
        }
        if let Some(bias) = model.weight_if_any(Weight::LN_FINAL_B.global())? {
            names.push("ln_final_bias".into());
            parts.push(dot(&bias.f_to_kind(Kind::Double)?)?);
        }
        if let Some(bias) = model.weight_if_any(Weight::U_B.global())? {
            names.push("unembed_bias".into());
            let bias = bias.f_to_kind(Kind::Double)?.f_unsqueeze(0)?.f_expand([tokens.batch() as i64, -1], false)?;
            parts.push(rows::difference(&bias, answer, wrong)?);
        }

        let (mut by_head, mut biases, mut attention) = (Vec::new(), Vec::new(), Vec::new());
        // A copy of all output weights in double would take longer than the pass.
        let kind = work_kind(model);
        for (layer, point) in heads.into_iter().enumerate() {
            let out = model.weight(Weight::O.at(layer))?.f_to_kind(kind)?;
            let z = kept.get(point)?.f_to_kind(kind)?.f_transpose(0, 1)?;
            by_head.push(part(&z.f_matmul(&out)?.f_to_kind(Kind::Double)?)?);
            biases.push(match model.weight_if_any(Weight::O_B.at(layer))? {
                Some(bias) => part(&bias.f_to_kind(Kind::Double)?.f_unsqueeze(0)?)?,
                None => Tensor::f_zeros([tokens.batch() as i64], (Kind::Double, model.device()))?,
            });
            attention.push(part(kept.get(Site::ATTN_OUT.at(layer))?)?);
        }
        let difference = rows::difference(&read.logits(run.logits()?)?, answer, wrong)?;
        Ok(Self {
            names,
            parts: Tensor::f_stack(&parts, 0)?,
            heads: Tensor::f_stack(&by_head, 0)?,
            attention_bias: Tensor::f_stack(&biases, 0)?,
            attention: Tensor::f_stack(&attention, 0)?,
            difference,
        })
    }

    /// How far the parts' sum is from the logit difference, at most.
    pub(crate) fn sum_gap(&self) -> Result<f64> {
        gap::gap(&self.parts.f_sum_dim_intlist(0, false, Kind::Double)?, &self.difference)
    }

    /// How far the heads and the bias together are from their layer's part, at most.
    pub(crate) fn head_gap(&self) -> Result<f64> {
        let heads = self.heads.f_sum_dim_intlist(1, false, Kind::Double)?;
        gap::gap(&heads.f_add(&self.attention_bias)?, &self.attention)
    }
}

/// TransformerLens' name of a component.
pub(crate) fn component_label(point: HookPoint) -> String {
    let name = point.site.name().trim_start_matches("hook_");
    point.layer.map_or_else(|| name.to_owned(), |layer| format!("{layer}_{name}"))
}
