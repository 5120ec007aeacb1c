//! The score as first published, for reproduction only: it sees the future and mixes rows and heads.

use arrakis_core::Result;
use tch::Tensor;

/// `scipy.signal.correlate(q, k, mode="same")` over all four axes, by FFT; no gradient passes through it.
///
/// `q` and `k` have one shape: `[batch, head, pos, d_head]`.
pub fn correlation(q: &Tensor, k: &Tensor) -> Result<Tensor> {
    let _off = tch::no_grad_guard();
    let size = q.size();
    let axes: Vec<i64> = (0..size.len() as i64).collect();
    let full: Vec<i64> = size.iter().map(|len| 2 * len - 1).collect();
    let spectrum = |x: &Tensor| x.f_fft_rfftn(&full[..], &axes[..], "backward");
    // Correlation is convolution with the second signal reversed.
    let product = spectrum(q)?.f_mul(&spectrum(&k.f_flip(&axes)?)?)?;
    let mut result = product.f_fft_irfftn(&full[..], &axes[..], "backward")?;
    for (axis, len) in size.iter().enumerate() {
        result = result.f_narrow(axis as i64, (len - 1) / 2, *len)?;
    }
    Ok(result)
}

/// The published scores: the correlation times the keys, over `√d_head`; no mask: `[batch, head, query, key]`.
pub fn scores(q: &Tensor, k: &Tensor) -> Result<Tensor> {
    let d_head = q.size()[3] as f64;
    Ok(correlation(q, k)?.f_matmul(&k.f_transpose(2, 3)?)?.f_div_scalar(d_head.sqrt())?)
}
