//! One block: what attention and MLP read of the residual stream, and what they write to it.

use arrakis_core::{Residual, Result, Site, Tap};
use tch::Tensor;

use crate::attention::{Attention, Surroundings};
use crate::mlp::Mlp;
use crate::norm::Norm;

/// What lies before `hook_attn_out` and nowhere else.
const ATTENTION: &[Site] = &[
    Site::ATTN_IN,
    Site::Q_INPUT,
    Site::K_INPUT,
    Site::V_INPUT,
    Site::LN1_SCALE,
    Site::LN1_NORMALIZED,
    Site::Q,
    Site::K,
    Site::V,
    Site::ROT_Q,
    Site::ROT_K,
    Site::ATTN_SCORES,
    Site::PATTERN,
    Site::Z,
    Site::RESULT,
];

/// What lies before `hook_mlp_out` and nowhere else.
const MLP: &[Site] =
    &[Site::MLP_IN, Site::LN2_SCALE, Site::LN2_NORMALIZED, Site::MLP_PRE, Site::MLP_PRE_LINEAR, Site::MLP_POST];

/// A block of a decoder.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) ln1: Norm,
    pub(crate) attention: Attention,
    /// Absent where the MLP shares the norm of attention.
    pub(crate) ln2: Option<Norm>,
    pub(crate) mlp: Mlp,
    pub(crate) residual: Residual,
}

impl Block {
    /// The residual stream after the block, and the keys and values of everything seen, unless attention was left out.
    pub(crate) fn apply(
        &self,
        resid: Tensor,
        around: &Surroundings<'_>,
        tap: &mut Tap<'_>,
    ) -> Result<(Tensor, Option<(Tensor, Tensor)>)> {
        let resid_pre = tap.at(Site::RESID_PRE, resid)?;
        let given = if around.keep { None } else { tap.given(Site::ATTN_OUT, ATTENTION)? };
        let (attn_out, normalized, seen) = if let Some(given) = given {
            (given, None, None)
        } else {
            let (inputs, normalized) = self.attention.inputs(&self.ln1, &resid_pre, tap)?;
            let (attn_out, seen) = self.attention.apply(&inputs, around, tap)?;
            (tap.at(Site::ATTN_OUT, attn_out)?, Some(normalized), Some(seen))
        };
        let resid_mid = match self.residual {
            Residual::Serial => tap.at(Site::RESID_MID, resid_pre.f_add(&attn_out)?)?,
            Residual::Parallel => resid_pre.shallow_clone(),
        };
        let mlp_out = if let Some(given) = tap.given(Site::MLP_OUT, MLP)? {
            given
        } else {
            let mlp_in = match (&self.ln2, normalized) {
                (Some(ln2), _) => {
                    let mlp_in = tap.at(Site::MLP_IN, resid_mid.shallow_clone())?;
                    ln2.tapped(&mlp_in, tap, Site::LN2_SCALE, Site::LN2_NORMALIZED)?.0
                }
                (None, Some(normalized)) => normalized,
                (None, None) => self.ln1.apply(&resid_pre)?,
            };
            let mlp_out = self.mlp.apply(&mlp_in, tap)?;
            tap.at(Site::MLP_OUT, mlp_out)?
        };
        let written = match self.residual {
            Residual::Serial => resid_mid.f_add(&mlp_out)?,
            Residual::Parallel => resid_pre.f_add(&attn_out)?.f_add(&mlp_out)?,
        };
        Ok((tap.at(Site::RESID_POST, written)?, seen))
    }
}
