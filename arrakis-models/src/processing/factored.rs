//! Queries, keys, values and outputs of each head in the basis that their products choose.

use arrakis_core::{Error, Model, Result, Site, Weight};
use tch::Tensor;

use super::{Step, fold_value_biases};

/// Rewrites each head by the singular value decompositions of what it does.
///
/// Only the products `W_Q W_Kᵀ` and `W_V W_O` of a head act on the stream; the basis between the two is free.
/// Afterwards, with `U S Vᵀ` the decomposition of the product:
/// - queries and keys, each with its bias as one more row, are `U √S` and `V √S`: orthogonal columns of equal norms;
/// - values are `U S` and outputs `Vᵀ`: the rows of `W_O` are orthonormal and `d_head` is in order of singular values.
///
/// Value biases are folded first ([`fold_value_biases`]). Scores, patterns and what heads write are what they were, but
/// for those biases; queries, keys, values and `z` are in another basis, whose signs are arbitrary.
///
/// # Errors
/// A model whose queries and keys are rotated or normed, since rotation and norm know the old basis; one whose heads
/// share keys and values, since no basis serves all of them; and a weight that is unknown to this library.
///
/// # Source
/// `refactor_factored_attn_matrices` of TransformerLens 3.9; Elhage et al., A Mathematical Framework for Transformer
/// Circuits, 2021.
pub fn refactor_factored_attention(model: &dyn Model) -> Result<Box<dyn Model>> {
    let name = "refactoring of attention";
    if let Some(why) = obstacle(model) {
        return Err(Error::Invalid { what: name.into(), why });
    }
    let folded = fold_value_biases(model)?;
    let mut step = Step::new(name, &*folded)?;
    for layer in 0..model.dims().n_layers {
        refactor_qk(&mut step, layer)?;
        let (v, o) = (Weight::V.at(layer), Weight::O.at(layer));
        let product = Factored::new(&step.weight(v)?, &step.weight(o)?.f_transpose(1, 2)?)?;
        step.set(v, product.left.f_mul(&product.singular_values.f_unsqueeze(1)?)?);
        step.set(o, product.right.f_transpose(1, 2)?);
    }
    step.end()
}

/// Why the basis between two factors is not free.
fn obstacle(model: &dyn Model) -> Option<String> {
    let dims = model.dims();
    let family = &dims.family;
    if model.points().iter().any(|point| point.site == Site::ROT_Q) {
        return Some(format!("`{family}` rotates queries and keys by position, which fixes the basis they are in"));
    }
    if model.weights().iter().any(|weight| weight.weight == Weight::Q_NORM) {
        return Some(format!("`{family}` norms queries and keys, which fixes the basis they are in"));
    }
    (dims.n_kv_heads != dims.n_heads).then(|| {
        format!(
            "{} heads of `{family}` share {} of keys and values, and no basis serves all of them",
            dims.n_heads, dims.n_kv_heads
        )
    })
}

fn refactor_qk(step: &mut Step<'_>, layer: usize) -> Result<()> {
    let sides = [(Weight::Q.at(layer), Weight::Q_B.at(layer)), (Weight::K.at(layer), Weight::K_B.at(layer))];
    let known = step.model.weights();
    let biased = sides.iter().any(|(_, bias)| known.contains(bias));
    let with_bias = |(weight, bias)| -> Result<Tensor> {
        let weight = step.weight(weight)?;
        if !biased {
            return Ok(weight);
        }
        let row = match step.weight_if_any(bias)? {
            Some(bias) => bias.f_unsqueeze(1)?,
            None => weight.f_narrow(1, 0, 1)?.f_zeros_like()?,
        };
        Ok(Tensor::f_cat(&[weight, row], 1)?)
    };
    let product = Factored::new(&with_bias(sides[0])?, &with_bias(sides[1])?)?;
    let root = product.singular_values.f_sqrt()?.f_unsqueeze(1)?;
    for ((weight, bias), factor) in sides.into_iter().zip([&product.left, &product.right]) {
        let even = factor.f_mul(&root)?;
        let d_model = step.model.dims().d_model as i64;
        step.set(weight, even.f_narrow(1, 0, d_model)?);
        if biased {
            step.set(bias, even.f_select(1, d_model)?);
        }
    }
    Ok(())
}

/// The singular value decomposition of `a bᵀ` for `a` and `b` of `[head, …, d_head]`, without the product.
struct Factored {
    /// `[head, …, d_head]`, orthonormal columns.
    left: Tensor,
    /// `[head, d_head]`, greatest first.
    singular_values: Tensor,
    /// `[head, …, d_head]`, orthonormal columns.
    right: Tensor,
}

impl Factored {
    fn new(a: &Tensor, b: &Tensor) -> Result<Self> {
        let (a_basis, a_rest) = Tensor::f_linalg_qr(a, "reduced")?;
        let (b_basis, b_rest) = Tensor::f_linalg_qr(b, "reduced")?;
        let (left, singular_values, right) = a_rest.f_matmul(&b_rest.f_transpose(1, 2)?)?.f_svd(true, true)?;
        Ok(Self { left: a_basis.f_matmul(&left)?, singular_values, right: b_basis.f_matmul(&right)? })
    }
}
