//! Weights by TransformerLens' names: where each lies among the parameters, and how it is turned.

use arrakis_core::{Error, Result, Weight, WeightPoint, unknown_weight};
use tch::Tensor;

use crate::config::{Config, Mixer};
use crate::layout::{Layout, Role};
use crate::parameters::Parameters;

/// Weights of the lags of a diagonal lag matrix: `[head, lag]`.
pub const LAG: Weight = Weight::new("attn.lag");
/// Weights of the query lags of each term of a lag matrix: `[head, rank, lag]`.
pub const QUERY_LAG: Weight = Weight::new("attn.lag_Q");
/// Weights of the key lags of each term of a lag matrix: `[head, rank, lag]`.
pub const KEY_LAG: Weight = Weight::new("attn.lag_K");
/// What makes the kernels of an involution: `[head, d_model, kernel]`.
pub const KERNEL: Weight = Weight::new("attn.W_kernel");
/// Bias of the kernels of an involution: `[head, kernel]`.
pub const KERNEL_B: Weight = Weight::new("attn.b_kernel");
/// Scores of the experts: `[d_model, expert]`.
pub const ROUTER: Weight = Weight::new("mlp.W_router");

const GLOBAL: [Weight; 5] = [Weight::E, Weight::POS, Weight::LN_FINAL_W, Weight::LN_FINAL_B, Weight::U];

const BLOCK: [Weight; 22] = [
    Weight::LN1_W,
    Weight::LN1_B,
    Weight::Q,
    Weight::K,
    Weight::V,
    KERNEL,
    Weight::O,
    Weight::Q_B,
    Weight::K_B,
    Weight::V_B,
    KERNEL_B,
    Weight::O_B,
    LAG,
    QUERY_LAG,
    KEY_LAG,
    Weight::LN2_W,
    Weight::LN2_B,
    ROUTER,
    Weight::IN,
    Weight::IN_B,
    Weight::OUT,
    Weight::OUT_B,
];

/// How a part of a parameter becomes TransformerLens' weight.
#[derive(Clone, Copy)]
enum Turn {
    /// It is the same.
    None,
    /// `[d_model, head * d]` becomes `[head, d_model, d]`.
    HeadsOut,
    /// `[head * d, d_model]` becomes `[head, d, d_model]`, and `[head * d]` `[head, d]`.
    HeadsIn,
    /// `[expert, d_model, d_mlp]` becomes `[d_model, expert * d_mlp]`.
    Into,
    /// The first two dimensions become one.
    Joined,
}

/// A weight's place: the parameter, its part of the last dimension where it is not all of it, and the turn.
struct Place {
    role: Role,
    part: Option<(i64, i64)>,
    turn: Turn,
}

fn place(config: &Config, weight: WeightPoint) -> Option<Place> {
    let whole = |role, turn| Some(Place { role, part: None, turn });
    if weight.layer.is_none() {
        return match weight.weight {
            Weight::E => whole(Role::Embed, Turn::None),
            Weight::POS => whole(Role::Position, Turn::None),
            Weight::LN_FINAL_W => whole(Role::NormFinal, Turn::None),
            Weight::LN_FINAL_B => whole(Role::NormFinalBias, Turn::None),
            Weight::U => whole(Role::Unembed, Turn::None),
            _ => None,
        };
    }
    let d_model = config.d_model as i64;
    let third = |number: i64| match config.mixer {
        Mixer::Involution { .. } => None,
        Mixer::Attention | Mixer::Correlation { .. } | Mixer::Original => Some((number * d_model, d_model)),
    };
    let values = third(2).unwrap_or((0, d_model));
    let kernels = match config.mixer {
        Mixer::Involution { kernel } => Some((d_model, (config.n_heads * kernel) as i64)),
        Mixer::Attention | Mixer::Correlation { .. } | Mixer::Original => None,
    };
    let matrix = |part: (i64, i64)| Some(Place { role: Role::Inward, part: Some(part), turn: Turn::HeadsOut });
    let bias = |part: (i64, i64)| Some(Place { role: Role::InwardBias, part: Some(part), turn: Turn::HeadsIn });
    match weight.weight {
        Weight::LN1_W => whole(Role::Norm1, Turn::None),
        Weight::LN1_B => whole(Role::Norm1Bias, Turn::None),
        Weight::Q => matrix(third(0)?),
        Weight::K => matrix(third(1)?),
        Weight::V => matrix(values),
        KERNEL => matrix(kernels?),
        Weight::O => whole(Role::Outward, Turn::HeadsIn),
        Weight::Q_B => bias(third(0)?),
        Weight::K_B => bias(third(1)?),
        Weight::V_B => bias(values),
        KERNEL_B => bias(kernels?),
        Weight::O_B => whole(Role::OutwardBias, Turn::None),
        LAG => whole(Role::Lag, Turn::None),
        QUERY_LAG => whole(Role::QueryLag, Turn::None),
        KEY_LAG => whole(Role::KeyLag, Turn::None),
        Weight::LN2_W => whole(Role::Norm2, Turn::None),
        Weight::LN2_B => whole(Role::Norm2Bias, Turn::None),
        ROUTER => whole(Role::Router, Turn::None),
        Weight::IN => whole(Role::In, Turn::Into),
        Weight::IN_B => whole(Role::InBias, Turn::Joined),
        Weight::OUT => whole(Role::Out, Turn::Joined),
        Weight::OUT_B => whole(Role::OutBias, Turn::None),
        _ => None,
    }
}

/// Every weight that a model has.
pub(crate) fn list(config: &Config, layout: &Layout) -> Vec<WeightPoint> {
    let (before, after) = GLOBAL.split_at(2);
    let blocks = (0..config.n_layers).flat_map(|layer| BLOCK.map(|weight| weight.at(layer)));
    let all = before.iter().map(|weight| weight.global()).chain(blocks);
    all.chain(after.iter().map(|weight| weight.global()))
        .filter(|weight| stored(config, layout, *weight).is_some())
        .collect()
}

/// The place of a weight whose parameter the layout has.
fn stored(config: &Config, layout: &Layout, weight: WeightPoint) -> Option<Place> {
    place(config, weight).filter(|place| layout.place(place.role, weight.layer).is_some())
}

/// The part of the parameters of the first model of the stack that holds a weight, and how it is turned.
fn part(config: &Config, parameters: &Parameters, weight: WeightPoint) -> Result<(Tensor, Turn)> {
    let layout = &parameters.layout;
    let Place { role, part, turn } =
        stored(config, layout, weight).ok_or_else(|| unknown_weight(&weight.to_string(), &list(config, layout)))?;
    let whole = parameters.get(role, weight.layer)?.f_select(0, 0)?;
    let part = match part {
        Some((first, width)) => whole.f_narrow(-1, first, width)?,
        None => whole,
    };
    Ok((part, turn))
}

/// A weight of the first model of the stack, turned; an error names the nearest if there is none of that name.
pub(crate) fn get(config: &Config, parameters: &Parameters, weight: WeightPoint) -> Result<Tensor> {
    let heads = config.n_heads as i64;
    let (part, turn) = part(config, parameters, weight)?;
    Ok(match turn {
        Turn::None => part,
        Turn::HeadsOut => part.f_unflatten(1, [heads, -1])?.f_permute([1, 0, 2])?,
        Turn::HeadsIn => part.f_unflatten(0, [heads, -1])?,
        Turn::Into => part.f_permute([1, 0, 2])?.f_flatten(1, 2)?,
        Turn::Joined => part.f_flatten(0, 1)?,
    })
}

/// Writes a weight of the first model of the stack over the old one; errors as in [`get`].
pub(crate) fn set(config: &Config, parameters: &Parameters, weight: WeightPoint, value: &Tensor) -> Result<()> {
    let wanted = get(config, parameters, weight)?.size();
    if value.size() != wanted {
        let why = format!("shape {:?} where {wanted:?} is wanted", value.size());
        return Err(Error::Invalid { what: format!("weight `{weight}`"), why });
    }
    let (mut part, turn) = part(config, parameters, weight)?;
    let _off = tch::no_grad_guard();
    let turned = match turn {
        Turn::None => value.shallow_clone(),
        Turn::HeadsOut => value.f_permute([1, 0, 2])?.f_flatten(1, 2)?,
        Turn::HeadsIn => value.f_flatten(0, 1)?,
        Turn::Into => value.f_unflatten(1, [part.size()[0], -1])?.f_permute([1, 0, 2])?,
        Turn::Joined => value.f_unflatten(0, [part.size()[0], -1])?,
    };
    part.f_copy_(&turned)?;
    Ok(())
}
