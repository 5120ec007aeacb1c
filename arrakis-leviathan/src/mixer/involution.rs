//! Involution, made causal: each position makes a kernel over the last positions, shared by the channels of a group.

use arrakis_core::Result;
use tch::{Kind, Tensor};

/// Values (`[batch, key, head, d_head]`) gathered by each position's kernel (`[batch, pos, head, kernel]`): entry `j`
/// weighs what lies `j` positions back. The positions are the last of the keys: `[batch, pos, head, d_head]`.
pub fn gather(kernel: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (keys, pos) = (v.size()[1], kernel.size()[1]);
    let span = kernel.size()[3];
    let padded = v.f_constant_pad_nd([0, 0, 0, 0, span - 1, 0])?;
    let mut sum = None;
    for back in 0..span {
        let values = padded.f_narrow(1, keys - pos + span - 1 - back, pos)?;
        let weight = kernel.f_narrow(3, back, 1)?;
        sum = Some(match sum {
            None => values.f_mul(&weight)?,
            Some(sum) => Tensor::f_addcmul(&sum, &values, &weight)?,
        });
    }
    sum.ok_or_else(|| arrakis_core::Error::Invalid { what: "kernel".into(), why: "it spans nothing".into() })
}

/// The same as a pattern over keys, zero outside the kernel; rows need not sum to 1: `[batch, head, query, key]`.
pub fn pattern(kernel: &Tensor, keys: i64) -> Result<Tensor> {
    let (pos, span, options) = (kernel.size()[1], kernel.size()[3], (Kind::Int64, kernel.device()));
    let query = Tensor::f_arange_start(keys - pos, keys, options)?.f_unsqueeze(1)?;
    let back = query.f_sub(&Tensor::f_arange(keys, options)?)?;
    let inside = back.f_ge(0)?.f_logical_and(&back.f_lt(span)?)?;
    let by_head = kernel.f_transpose(1, 2)?;
    let size = by_head.size();
    let back = back.f_clamp(0, span - 1)?.f_expand([size[0], size[1], pos, keys], false)?;
    Ok(by_head.f_gather(3, &back, false)?.f_masked_fill(&inside.f_logical_not()?, 0.0)?)
}
