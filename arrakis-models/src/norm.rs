//! Norms, fused where nobody watches and step by step where somebody does.

use arrakis_core::{NormKind, Result, Site, Tap};
use tch::{Kind, Tensor};

use crate::architecture::wide;

/// A norm over the last dimension.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) kind: NormKind,
    pub(crate) eps: f64,
    /// `[d]`, or `[head, d]` with a weight for each head.
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
}

impl Clone for Norm {
    fn clone(&self) -> Self {
        let bias = self.bias.as_ref().map(Tensor::shallow_clone);
        Self { kind: self.kind, eps: self.eps, weight: self.weight.shallow_clone(), bias }
    }
}

impl Norm {
    /// The norm of `x` (`[…, d]`), shown to nobody.
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        match (self.kind, &self.weight.size()[..]) {
            (NormKind::Layer, [width]) => {
                Ok(x.f_layer_norm([*width], Some(&self.weight), self.bias.as_ref(), self.eps, false)?)
            }
            (NormKind::Layer, size) => {
                let plain = x.f_to_kind(wide(x.kind()))?;
                let width = size.last().copied().unwrap_or(1);
                self.weighted(&plain.f_layer_norm([width], None::<Tensor>, None::<Tensor>, self.eps, false)?, x.kind())
            }
            (NormKind::Rms, _) => {
                let wide = x.f_to_kind(wide(x.kind()))?;
                let inverse = self.scale_squared(&wide)?.f_rsqrt()?;
                self.weighted(&wide.f_mul(&inverse)?, x.kind())
            }
        }
    }

    /// `x` times the weight, plus the bias, rounded to `kind`: before the weight, unless the weight is finer than that.
    fn weighted(&self, x: &Tensor, kind: Kind) -> Result<Tensor> {
        let weighted = x.f_to_kind(self.weight.kind())?.f_mul(&self.weight)?.f_to_kind(kind)?;
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
            let whole = self.apply(x)?;
            tap.passed(normalized);
            return Ok((whole, None));
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
        let whole = self.weighted(&value, x.kind())?;
        tap.passed(normalized);
        Ok((whole, edited))
    }

    /// The mean square of `centred` over its last dimension, plus epsilon.
    fn scale_squared(&self, centred: &Tensor) -> Result<Tensor> {
        Ok(centred.f_square()?.f_mean_dim(-1, true, None::<Kind>)?.f_add_scalar(self.eps)?)
    }
}
