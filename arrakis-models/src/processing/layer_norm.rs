//! Norms folded into what reads through them.

use arrakis_core::{Model, NormKind, Result, Weight, WeightPoint};

use super::{Step, centred};

/// Folds the weight and bias of every norm into the weights that read through it.
///
/// Afterwards each norm only centres (layer norm) and divides: its weight is 1 and its bias, where it has one, 0.
/// A reader `W`, `b` behind a norm `w`, `v` becomes `diag(w) W` and `b + v W`; a bias stands where there was none if the
/// norm has one. In layer-norm families the readers are then centred over `d_model`, as what they read has no mean.
/// A norm that attention and MLP share is folded into both; norms of queries and keys (`attn.q_norm`) stay as they are,
/// since rotation comes between them and the scores. A tied unembedding becomes one of its own: the embedding stays.
///
/// Scales, `hook_normalized`, queries, keys, values, neurons and logits are what they were.
/// What a folded norm's weight did in half precision is rounded anew, once for each weight (see the
/// [module](super)); a norm weight that was kept in float32 (Gemma's `1 + w`) loses that.
///
/// # Errors
/// A weight that is unknown to this library, or a model without one that a norm must be folded into.
///
/// # Source
/// `fold_layer_norm` of TransformerLens 3.9.
pub fn fold_layer_norm(model: &dyn Model) -> Result<Box<dyn Model>> {
    let mut step = Step::new("folding of norms", model)?;
    let known = model.weights();
    for layer in 0..model.dims().n_layers {
        let at = |(weight, bias): (Weight, Weight)| (weight.at(layer), bias.at(layer));
        let attention = [(Weight::Q, Weight::Q_B), (Weight::K, Weight::K_B), (Weight::V, Weight::V_B)].map(at);
        let gate = known.contains(&Weight::GATE.at(layer)).then_some((Weight::GATE, Weight::GATE_B));
        let mlp = gate.into_iter().chain([(Weight::IN, Weight::IN_B)]).map(at);
        if known.contains(&Weight::LN2_W.at(layer)) {
            fold(&mut step, at((Weight::LN1_W, Weight::LN1_B)), attention)?;
            fold(&mut step, at((Weight::LN2_W, Weight::LN2_B)), mlp)?;
        } else {
            fold(&mut step, at((Weight::LN1_W, Weight::LN1_B)), attention.into_iter().chain(mlp))?;
        }
    }
    let unembed = (Weight::U.global(), Weight::U_B.global());
    fold(&mut step, (Weight::LN_FINAL_W.global(), Weight::LN_FINAL_B.global()), [unembed])?;
    step.end()
}

/// Folds one norm into its readers, each with `d_model` as the last dimension but one.
fn fold(
    step: &mut Step<'_>,
    (norm_weight, norm_bias): (WeightPoint, WeightPoint),
    readers: impl IntoIterator<Item = (WeightPoint, WeightPoint)>,
) -> Result<()> {
    let Some(scale) = step.weight_if_any(norm_weight)? else { return Ok(()) };
    let shift = step.weight_if_any(norm_bias)?;
    for (weight, bias) in readers {
        let reader = step.weight(weight)?;
        if let Some(shift) = &shift {
            step.add(bias, shift.f_matmul(&reader)?)?;
        }
        let scaled = reader.f_mul(&scale.f_unsqueeze(-1)?)?;
        let folded = if step.model.dims().norm == NormKind::Layer { centred(&scaled, -2)? } else { scaled };
        step.set(weight, folded);
    }
    step.set(norm_weight, scale.f_ones_like()?);
    if let Some(shift) = shift {
        step.set(norm_bias, shift.f_zeros_like()?);
    }
    Ok(())
}
