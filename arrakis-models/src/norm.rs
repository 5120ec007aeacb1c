//! Norms, fused where nobody watches and step by step where somebody does.

use arrakis_core::{NormKind, Result, Site, Tap};
use tch::{Kind, Tensor};

/// A norm over the last dimension.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) kind: NormKind,
    pub(crate) eps: f64,
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
}

impl Clone for Norm {
    fn clone(&self) -> Self {
        let bias = self.bias.as_ref().map(Tensor::shallow_clone);
        Self { kind: self.kind, eps: self.eps, weight: self.weight.shallow_clone(), bias }
    }
}

/// The kind in which a norm is computed: 16-bit floats are too coarse for it.
fn wide(kind: Kind) -> Kind {
    if matches!(kind, Kind::BFloat16 | Kind::Half) { Kind::Float } else { kind }
}

impl Norm {
    /// The norm of `x` (`[…, d]`), shown to nobody.
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        match self.kind {
            NormKind::Layer => {
                let width = [self.weight.size()[0]];
                Ok(x.f_layer_norm(width, Some(&self.weight), self.bias.as_ref(), self.eps, false)?)
            }
            NormKind::Rms => {
                let wide = x.f_to_kind(wide(x.kind()))?;
                let inverse = self.scale_squared(&wide)?.f_rsqrt()?;
                self.weighted(&wide.f_mul(&inverse)?.f_to_kind(x.kind())?)
            }
        }
    }

    fn weighted(&self, x: &Tensor) -> Result<Tensor> {
        let weighted = x.f_mul(&self.weight)?;
        match &self.bias {
            Some(bias) => Ok(weighted.f_add(bias)?),
            None => Ok(weighted),
        }
    }

    /// The norm of `x` (`[…, d]`), its scale and its normalised value shown at two sites; and the site that was edited,
    /// if one was.
    pub(crate) fn tapped(
        &self,
        x: &Tensor,
        tap: &mut Tap<'_>,
        scale: Site,
        normalized: Site,
    ) -> Result<(Tensor, Option<Site>)> {
        if !tap.watches_any(&[scale, normalized]) {
            return Ok((self.apply(x)?, None));
        }
        let wide = x.f_to_kind(wide(x.kind()))?;
        let centred = match self.kind {
            NormKind::Layer => wide.f_sub(&wide.f_mean_dim(-1, true, None::<Kind>)?)?,
            NormKind::Rms => wide,
        };
        let (divisor, scale_edited) = tap.at_noting(scale, self.scale_squared(&centred)?.f_sqrt()?)?;
        let divided = centred.f_div(&divisor)?;
        let (value, edited) = tap.at_noting(normalized, divided.f_to_kind(x.kind())?)?;
        let edited = if edited { Some(normalized) } else { scale_edited.then_some(scale) };
        Ok((self.weighted(&value)?, edited))
    }

    /// The mean square of `centred` over its last dimension, plus epsilon.
    fn scale_squared(&self, centred: &Tensor) -> Result<Tensor> {
        Ok(centred.f_square()?.f_mean_dim(-1, true, None::<Kind>)?.f_add_scalar(self.eps)?)
    }
}
