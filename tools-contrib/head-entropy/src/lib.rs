//! How spread each attention head is: a tool crate as an outsider would write it, on `arrakis-core` alone.

use std::cell::RefCell;

use arrakis_core::{
    Answer, Axis, Context, Error, Grid, ModelExt, PosSlice, Prompt, Result, Scores, Site, Tool, answer, edit,
    register_tools,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Measures how spread the attention of each head is.
///
/// The entropy of each row of the pattern, in nats, as a share of what a uniform row over the same keys has, and the
/// mean over the real queries that see more than one key: 0 looks at one key, 1 at all alike. The measure of focus in
/// Clark et al., "What Does BERT Look At?" (2019), made comparable between positions.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeadEntropy {
    /// What to read.
    pub prompt: Prompt,
}

/// The answer of [`HeadEntropy`].
#[derive(Debug, Clone)]
pub struct Entropies {
    /// Share of the greatest entropy: `[layer, head]`.
    pub entropy: Grid,
}

impl From<Entropies> for Answer {
    fn from(entropies: Entropies) -> Self {
        Self::new().with("entropy", entropies.entropy)
    }
}

impl Tool for HeadEntropy {
    const NAME: &'static str = "contrib.head_entropy";
    type Output = Entropies;

    fn run(&self, cx: &Context<'_>) -> Result<Entropies> {
        let model = cx.model();
        if let Some(layer) = (0..model.dims().n_layers).find(|layer| model.scores(*layer) == Scores::None) {
            let why = "it is made without scores, so its rows are no shares of attention".into();
            return Err(Error::Invalid { what: format!("the pattern of layer {layer}"), why });
        }
        let tokens = self.prompt.tokens(model)?;
        let real = match tokens.mask() {
            Some(mask) => mask.shallow_clone(),
            None => tokens.ids().f_ones_like()?.f_to_kind(Kind::Bool)?,
        };
        let rows = RefCell::new(Vec::new());
        // Each pattern is reduced as it flows past, and none is kept.
        let reduce = edit::with(|pattern| {
            rows.borrow_mut().push(spread(pattern, &real)?);
            Ok(pattern.shallow_clone())
        });
        model.trace(&tokens).edit(Site::PATTERN, reduce).logits(PosSlice::None).run()?;
        let heads = Tensor::f_stack(&rows.into_inner(), 0)?;
        let dims = model.dims();
        let (layers, columns) = (Axis::indices("layer", dims.n_layers), Axis::indices("head", dims.n_heads));
        let values = answer::numbers(&heads)?;
        Ok(Entropies {
            entropy: Grid::new("spread of attention", "share of the greatest entropy", layers, columns, values)?,
        })
    }
}

/// The mean share of the greatest entropy over real queries, for each head: `[head]`.
fn spread(pattern: &Tensor, real: &Tensor) -> Result<Tensor> {
    let pattern = pattern.f_to_kind(Kind::Double)?;
    let entropy = pattern.f_special_entr()?.f_sum_dim_intlist(-1, false, None::<Kind>)?;
    let greatest = real.f_to_kind(Kind::Double)?.f_cumsum(1, None::<Kind>)?.f_clamp_min(1)?.f_log()?.f_unsqueeze(1)?;
    let counted = greatest.f_gt(0)?.f_logical_and(&real.f_unsqueeze(1)?)?.f_to_kind(Kind::Double)?;
    let share = entropy.f_div(&greatest.f_clamp_min(f64::MIN_POSITIVE)?)?.f_mul(&counted)?;
    let total = share.f_sum_dim_intlist([0, 2].as_slice(), false, None::<Kind>)?;
    Ok(total.f_div(&counted.f_sum(None::<Kind>)?)?)
}

register_tools!(HeadEntropy);

#[cfg(feature = "plugin")]
arrakis_core::export_plugin!();
