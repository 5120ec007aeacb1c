//! Maps and norms of a stack of models: each model's rows meet its own weights, in one product.

use arrakis_core::Result;
use tch::{Kind, Tensor};

use crate::config::NORM_EPS;

/// `x W + b` for `x` of `[stack * batch, pos, in]`, `weight` of `[stack, in, out]` and `bias` of `[stack, out]`.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (stack, size) = (weight.size()[0], x.size());
    if stack == 1 {
        let bias = bias.map(|bias| bias.f_squeeze_dim(0)).transpose()?;
        return Ok(x.f_linear(&weight.f_squeeze_dim(0)?.f_transpose(0, 1)?, bias.as_ref())?);
    }
    let rows = x.f_reshape([stack, -1, size[size.len() - 1]])?;
    let product = match bias {
        Some(bias) => bias.f_unsqueeze(1)?.f_baddbmm(&rows, weight, 1, 1)?,
        None => rows.f_bmm(weight)?,
    };
    let mut shape = size;
    let last = shape.len() - 1;
    shape[last] = weight.size()[2];
    Ok(product.f_view(&shape[..])?)
}

/// A weight of a stack (`[stack, …]`) as it meets values of `[stack * batch, …]`: one entry for each row.
pub(crate) fn by_row(weight: &Tensor, rows: i64) -> Result<Tensor> {
    let stack = weight.size()[0];
    if stack == 1 || stack == rows {
        return Ok(weight.shallow_clone());
    }
    Ok(weight.f_repeat_interleave_self_int(rows / stack, 0, rows)?)
}

/// The layer norm of `x` (`[stack * batch, pos, d]`) with `weight` and `bias` of `[stack, d]`.
pub(crate) fn norm(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let width = weight.size()[1];
    if weight.size()[0] == 1 {
        let (weight, bias) = (weight.f_squeeze_dim(0)?, bias.f_squeeze_dim(0)?);
        return Ok(x.f_layer_norm([width], Some(&weight), Some(&bias), NORM_EPS, false)?);
    }
    weighted(&x.f_layer_norm([width], None::<Tensor>, None::<Tensor>, NORM_EPS, false)?, weight, bias)
}

/// A normalised stream times the norm's weight, plus its bias.
pub(crate) fn weighted(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (stack, size) = (weight.size()[0], x.size());
    let rows = x.f_view([stack, -1, size[size.len() - 1]])?;
    Ok(bias.f_unsqueeze(1)?.f_addcmul(&rows, &weight.f_unsqueeze(1)?)?.f_view(&size[..])?)
}

/// The divisor of the layer norm of a centred stream: `[…, 1]`.
pub(crate) fn divisor(centred: &Tensor) -> Result<Tensor> {
    Ok(centred.f_square()?.f_mean_dim(-1, true, None::<Kind>)?.f_add_scalar(NORM_EPS)?.f_sqrt()?)
}
