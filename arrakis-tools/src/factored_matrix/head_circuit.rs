//! The question what a head's circuit is, as a matrix.

use arrakis_core::{Answer, Axis, Context, Grid, Ranking, Result, Series, Tool, answer, register_tools};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::{Circuit, FactoredMatrix, HeadPlace, index, lags};

/// Describes what a head moves (OV) or looks for (QK) by the singular values and eigenvalues of its circuit.
///
/// The OV circuit `W_V W_O` says what is written for what is read, the QK circuit `W_Q W_Kᵀ` which keys a query looks
/// for, both from the residual stream to itself (`[d_model, d_model]`, of rank `d_head`); with `vocab` they go from
/// token to token, through `W_E` and `W_U`, and nothing as large as vocabulary times vocabulary is formed. The copying
/// score is the sum of the eigenvalues' real parts over that of their absolute values: 1 for a head that writes what it
/// reads. Norms and rotations are no part of it: fold the norms first where their weights matter. Where scores compare
/// queries and keys of earlier positions too, a head has a QK circuit for each pair of `lags`: `W_Q W_Kᵀ` times the
/// entry of its lag matrix.
/// Identities: `product_gap` is the greatest absolute difference of the singular value decomposition from the product
/// (of 64 rows, with `vocab`), `norm_gap` that of the norm from the root of the squared singular values, and
/// `trace_gap` that of the product's diagonal from the eigenvalues, each summed.
/// Source: Elhage et al., "A mathematical framework for transformer circuits" (2021).
///
/// ```
/// # use arrakis_core::{Context, Tool};
/// # use arrakis_tools::{Circuit, HeadCircuit};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/llama");
/// let model = arrakis_models::load(folder, &arrakis_models::LoadOptions::default())?;
/// let found = HeadCircuit::new(0, 3, Circuit::Ov).run(&Context::new(&model))?;
/// assert!(found.copying_score.abs() <= 1.0 && found.product_gap < 1e-12);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeadCircuit {
    /// The head's layer.
    pub layer: usize,
    /// The query head.
    pub head: usize,
    /// Which of its circuits.
    pub circuit: Circuit,
    /// Lags of query and key, wanted for a QK circuit where scores compare those of earlier positions too: how far before
    /// the attending position the query's token lies, and how far before the position attended to the key's.
    #[serde(default)]
    pub lags: Option<[usize; 2]>,
    /// Whether it goes from token to token, in place of from stream to stream.
    #[serde(default)]
    pub vocab: bool,
    /// How many tokens with the greatest entries on the diagonal are listed, with `vocab`.
    #[serde(default = "ten")]
    pub top: usize,
}

const fn ten() -> usize {
    10
}

impl HeadCircuit {
    /// A circuit of a head, from stream to stream.
    #[must_use]
    pub const fn new(layer: usize, head: usize, circuit: Circuit) -> Self {
        Self { layer, head, circuit, lags: None, vocab: false, top: ten() }
    }
}

/// A circuit as a matrix.
#[derive(Debug, Clone)]
pub struct CircuitSpectrum {
    /// Singular values, greatest first.
    pub singular_values: Series,
    /// Eigenvalues that may differ from 0, by absolute value: `[eigenvalue, real and imaginary part]`.
    pub eigenvalues: Grid,
    /// The Frobenius norm.
    pub norm: f64,
    /// The sum of the eigenvalues' real parts over that of their absolute values, in -1..=1.
    pub copying_score: f64,
    /// The sum of the diagonal.
    pub trace: f64,
    /// The tokens with the greatest entries on the diagonal, if the circuit goes from token to token.
    pub own_tokens: Option<Ranking>,
    /// Greatest absolute difference of the decomposition from the product.
    pub product_gap: f64,
    /// Absolute difference of the norm from the root of the sum of squared singular values.
    pub norm_gap: f64,
    /// Absolute difference of the trace from the sum of the eigenvalues.
    pub trace_gap: f64,
}

impl From<CircuitSpectrum> for Answer {
    fn from(found: CircuitSpectrum) -> Self {
        let answer = Self::new()
            .with("singular_values", found.singular_values)
            .with("eigenvalues", found.eigenvalues)
            .with("norm", found.norm)
            .with("copying_score", found.copying_score)
            .with("trace", found.trace);
        let answer = match found.own_tokens {
            Some(ranking) => answer.with("own_tokens", ranking),
            None => answer,
        };
        answer
            .with("product_gap", found.product_gap)
            .with("norm_gap", found.norm_gap)
            .with("trace_gap", found.trace_gap)
    }
}

impl Tool for HeadCircuit {
    const NAME: &'static str = "factored_matrix.circuit";
    type Output = CircuitSpectrum;

    fn run(&self, cx: &Context<'_>) -> Result<CircuitSpectrum> {
        let model = cx.model();
        let top = index::count("top", self.top, model.dims().vocab)?;
        let place = HeadPlace::new(self.layer, self.head);
        place.check(model)?;
        cx.progress(0, 1)?;
        let matrix = if self.vocab {
            self.circuit.of_vocabulary(model, place, self.lags)?
        } else {
            self.circuit.of_head(model, place, self.lags)?
        };
        let name = format!("{} circuit of {}{}", self.circuit.name(), place.label(), lags::suffix(self.lags));
        let own_tokens = if self.vocab { Some(own_tokens(cx, &matrix, &name, top)?) } else { None };

        let svd = matrix.svd()?;
        let most_rows = if self.vocab { 64 } else { matrix.rows() };
        let values = answer::numbers(&svd.singular_values)?;
        let norm = matrix.norm()?.f_double_value(&[])?;
        let squares = values.iter().map(|value| value * value).sum::<f64>();
        let trace = matrix.trace()?.f_double_value(&[])?;
        let eigenvalues = sorted(&matrix.eigenvalues()?)?;
        let sum = eigenvalues.iter().map(|[real, _]| real).sum::<f64>();
        let sizes = eigenvalues.iter().map(|[real, imaginary]| real.hypot(*imaginary)).sum::<f64>();
        let ranks = Axis::new("rank", (1..=values.len()).map(|rank| rank.to_string()));
        Ok(CircuitSpectrum {
            singular_values: Series::new(
                format!("singular values of the {name}"),
                "singular value",
                ranks,
                [(self.circuit.name(), values)],
            )?,
            eigenvalues: eigenvalue_grid(&name, &eigenvalues)?,
            norm,
            copying_score: sum / sizes,
            trace,
            own_tokens,
            product_gap: svd.product_gap(most_rows, |rows| matrix.select_rows(rows)?.dense())?,
            norm_gap: (norm - squares.sqrt()).abs(),
            trace_gap: (trace - sum).abs(),
        })
    }
}

/// The tokens with the greatest entries on the diagonal of a circuit from token to token.
fn own_tokens(cx: &Context<'_>, matrix: &FactoredMatrix, name: &str, top: usize) -> Result<Ranking> {
    let (values, ids) = matrix.diagonal()?.f_topk(top as i64, -1, true, true)?;
    let ids: Vec<i64> = Vec::try_from(ids.f_to_device(tch::Device::Cpu)?)?;
    let entries = ids.into_iter().map(|id| cx.model().token(id)).zip(answer::numbers(&values)?);
    Ok(Ranking::new(format!("a token's own entry in the {name}"), "entry", entries))
}

/// Real and imaginary parts of complex numbers, by absolute value, greatest first.
pub(crate) fn sorted(eigenvalues: &Tensor) -> Result<Vec<[f64; 2]>> {
    let flat = answer::numbers(&eigenvalues.f_view_as_real()?)?;
    let mut pairs: Vec<[f64; 2]> = flat.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect();
    // Conjugates are equally large; the one above the real axis comes first, so that the order is one.
    let key = |pair: &[f64; 2]| (pair[0].hypot(pair[1]), pair[1]);
    pairs.sort_by(|a, b| {
        let ((a, a_imaginary), (b, b_imaginary)) = (key(a), key(b));
        b.total_cmp(&a).then(b_imaginary.total_cmp(&a_imaginary))
    });
    Ok(pairs)
}

/// Eigenvalues as a grid: `[eigenvalue, real and imaginary part]`.
pub(crate) fn eigenvalue_grid(name: &str, eigenvalues: &[[f64; 2]]) -> Result<Grid> {
    let (rows, columns) = (Axis::indices("eigenvalue", eigenvalues.len()), Axis::new("part", ["real", "imaginary"]));
    Ok(Grid::new(format!("eigenvalues of the {name}"), "eigenvalue", rows, columns, eigenvalues.concat())?.diverging())
}

register_tools!(HeadCircuit);
