//! One block: what attention and MLP read of the residual stream, and what they write to it.

use arrakis_core::{Residual, Result, Site, Tap};
use tch::Tensor;

use crate::attention::{Attention, Surroundings};
use crate::mlp::Mlp;
use crate::norm::Norm;

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
    /// The residual stream after the block, and the keys and values of everything seen.
    pub(crate) fn apply(
        &self,
        resid: Tensor,
        around: &Surroundings<'_>,
        tap: &mut Tap<'_>,
    ) -> Result<(Tensor, (Tensor, Tensor))> {
        let resid_pre = tap.at(Site::RESID_PRE, resid)?;
        let (inputs, normalized) = self.attention.inputs(&self.ln1, &resid_pre, tap)?;
        let (attn_out, seen) = self.attention.apply(&inputs, around, tap)?;
        let attn_out = tap.at(Site::ATTN_OUT, attn_out)?;
        let resid_mid = match self.residual {
            Residual::Serial => tap.at(Site::RESID_MID, resid_pre.f_add(&attn_out)?)?,
            Residual::Parallel => resid_pre.shallow_clone(),
        };
        let mlp_in = match &self.ln2 {
            Some(ln2) => {
                let mlp_in = tap.at(Site::MLP_IN, resid_mid.shallow_clone())?;
                ln2.tapped(&mlp_in, tap, Site::LN2_SCALE, Site::LN2_NORMALIZED)?.0
            }
            None => normalized,
        };
        let mlp_out = self.mlp.apply(&mlp_in, tap)?;
        let mlp_out = tap.at(Site::MLP_OUT, mlp_out)?;
        let written = match self.residual {
            Residual::Serial => resid_mid.f_add(&mlp_out)?,
            Residual::Parallel => resid_pre.f_add(&attn_out)?.f_add(&mlp_out)?,
        };
        Ok((tap.at(Site::RESID_POST, written)?, seen))
    }
}
