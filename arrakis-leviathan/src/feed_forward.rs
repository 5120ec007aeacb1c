//! The feed-forward half of a block: one map, or a mixture of which each position uses a few.

use arrakis_core::{Result, Site, Tap};
use tch::{Kind, Tensor};

use crate::config::FeedForward;
use crate::layout::Role;
use crate::linear::linear;
use crate::network::Reader;
use crate::sites::{ROUTER, ROUTER_SCORES};

/// What the feed-forward writes for its normalised input: `[batch, pos, d_model]`.
pub(crate) fn apply(x: &Tensor, kind: FeedForward, reader: &Reader<'_>, tap: &mut Tap<'_>) -> Result<Tensor> {
    let FeedForward::Mixture { top_k, .. } = kind else { return dense(x, reader, tap) };
    let scores = tap.at(ROUTER_SCORES, linear(x, reader.get(Role::Router)?, None)?)?;
    let weights = tap.at(ROUTER, routes(&scores, top_k as i64)?)?;
    if tap.watches_any(&[Site::MLP_PRE, Site::MLP_POST]) {
        every_expert(x, &weights, reader, tap)
    } else {
        chosen_experts(x, &weights, reader)
    }
}

fn dense(x: &Tensor, reader: &Reader<'_>, tap: &mut Tap<'_>) -> Result<Tensor> {
    let of_one = |role| -> Result<Tensor> { Ok(reader.get(role)?.f_squeeze_dim(1)?) };
    let pre = tap.at(Site::MLP_PRE, linear(x, &of_one(Role::In)?, Some(&of_one(Role::InBias)?))?)?;
    let post = tap.at(Site::MLP_POST, pre.f_gelu("tanh")?)?;
    linear(&post, &of_one(Role::Out)?, Some(reader.get(Role::OutBias)?))
}

/// How much each expert counts: the softmax of the best `top_k` scores, 0 for the others: `[batch, pos, expert]`.
///
/// One expert alone counts by its part of the softmax over all (Fedus et al. 2022); its softmax over itself is 1 whatever the
/// scores are, so that nothing would be learned of them.
pub(crate) fn routes(scores: &Tensor, top_k: i64) -> Result<Tensor> {
    let (best, which) = scores.f_topk(top_k, -1, true, true)?;
    let weights = match top_k {
        1 => scores.f_softmax(-1, None::<Kind>)?.f_gather(-1, &which, false)?,
        _ => best.f_softmax(-1, None::<Kind>)?,
    };
    Ok(scores.f_zeros_like()?.f_scatter(-1, &which, &weights)?)
}

/// Every expert's neurons, those of experts that are not used silenced: what whoever looks at neurons sees.
fn every_expert(x: &Tensor, weights: &Tensor, reader: &Reader<'_>, tap: &mut Tap<'_>) -> Result<Tensor> {
    let input = reader.get(Role::In)?.f_transpose(1, 2)?.f_flatten(2, 3)?;
    let pre = tap.at(Site::MLP_PRE, linear(x, &input, Some(&reader.get(Role::InBias)?.f_flatten(1, 2)?))?)?;
    let experts = weights.size()[2];
    let active = pre.f_gelu("tanh")?.f_unflatten(2, [experts, -1])?.f_mul(&weights.f_unsqueeze(3)?)?;
    let post = tap.at(Site::MLP_POST, active.f_flatten(2, 3)?)?;
    linear(&post, &reader.get(Role::Out)?.f_flatten(1, 2)?, Some(reader.get(Role::OutBias)?))
}

/// The same, computed only where an expert is used: positions are gathered by expert, and what comes of them is added
/// where they lie.
fn chosen_experts(x: &Tensor, weights: &Tensor, reader: &Reader<'_>) -> Result<Tensor> {
    let (input, output) = (reader.get(Role::In)?, reader.get(Role::Out)?);
    let [stack, experts, d_model, neurons] = input.size()[..] else {
        return Err(arrakis_core::Error::Invalid { what: "experts".into(), why: format!("{:?}", input.size()) });
    };
    let (size, options) = (x.size(), (Kind::Int64, x.device()));
    let rows = size[0] * size[1];
    let groups = stack * experts;
    // `[stack * expert, row of the model]`, in which the rows of one model follow each other.
    let by_group = weights.f_reshape([stack, rows / stack, experts])?.f_transpose(1, 2)?.f_reshape([groups, -1])?;
    let used = by_group.f_ne(0.0)?;
    let counts = used.f_sum_dim_intlist(1, false, Kind::Int64)?;
    let most = counts.f_max()?.f_int64_value(&[])?.max(1);
    let places = used.f_nonzero()?;
    let (group, row) = (places.f_select(1, 0)?, places.f_select(1, 1)?);
    let starts = counts.f_cumsum(0, Kind::Int64)?.f_sub(&counts)?;
    let within = Tensor::f_arange(group.size()[0], options)?.f_sub(&starts.f_index_select(0, &group)?)?;
    let slot = group.f_mul_scalar(most)?.f_add(&within)?;
    let row_of_all = group.f_floor_divide_scalar(experts)?.f_mul_scalar(rows / stack)?.f_add(&row)?;
    // Slots that nobody fills read a row of zeros behind the last, and write there.
    let read = Tensor::f_full([groups * most], rows, options)?.f_scatter(0, &slot, &row_of_all)?;
    let weight = by_group.f_masked_select(&used)?;
    let weight = Tensor::f_zeros([groups * most], (x.kind(), x.device()))?.f_scatter(0, &slot, &weight)?;
    let flat = x.f_reshape([rows, d_model])?.f_constant_pad_nd([0, 0, 0, 1])?;
    let gathered = flat.f_index_select(0, &read)?.f_view([groups, most, d_model])?;
    let bias = reader.get(Role::InBias)?.f_reshape([groups, 1, neurons])?;
    let pre = bias.f_baddbmm(&gathered, &input.f_reshape([groups, d_model, neurons])?, 1, 1)?;
    let written = pre.f_gelu("tanh")?.f_bmm(&output.f_reshape([groups, neurons, d_model])?)?;
    let weighted = written.f_view([-1, d_model])?.f_mul(&weight.f_unsqueeze(1)?)?;
    let sum = flat.f_zeros_like()?.f_index_add(0, &read, &weighted)?.f_narrow(0, 0, rows)?;
    let sum = sum.f_view([stack, -1, d_model])?.f_add(&reader.get(Role::OutBias)?.f_unsqueeze(1)?)?;
    Ok(sum.f_view(&size[..])?)
}
