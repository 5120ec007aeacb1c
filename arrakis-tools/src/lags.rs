//! What QK circuits and patterns are worth where scores are no dot products of a pair's own query and key.

use arrakis_core::{Error, Model, ModelExt, PosSlice, Result, Scores, Site, answer};
use tch::{Kind, Tensor};

/// How far before the attending position the query's token lies, and how far before the key the key's token.
pub(crate) type Lags = [usize; 2];

/// What the QK circuit of each head of a layer is multiplied by at these lags, in double: `[head]`; nothing where heads
/// have one circuit.
///
/// Scores that lag are `Σ A[l, m] q_{t-l} · k_{s-m}`, so that a head has a circuit for each pair of lags.
pub(crate) fn weights(model: &dyn Model, layer: usize, lags: Option<Lags>) -> Result<Option<Tensor>> {
    check(model, layer)?;
    let of_lags = |why: String| Error::Invalid { what: "lags".into(), why };
    if model.scores(layer) != Scores::Lagged {
        return match lags {
            None | Some([0, 0]) => Ok(None),
            Some(_) => {
                Err(of_lags(format!("the scores of layer {layer} compare a pair's own query and key; leave them out")))
            }
        };
    }
    let matrices = matrices(model, layer)?;
    let window = matrices.size()[2] as usize;
    // Where heads begin and stay at lag zero there is one circuit, times a number.
    let elsewhere = matrices.f_flatten(1, 2)?.f_narrow(1, 1, matrices.size()[1] * matrices.size()[2] - 1)?;
    let lags = lags.or((elsewhere.f_ne(0.0)?.f_any()?.f_int64_value(&[])? == 0).then_some([0, 0]));
    let Some([query, key]) = lags else {
        let why = format!(
            "wanted where heads compare queries and keys of earlier positions too: {}",
            most(&matrices, layer)?
        );
        return Err(of_lags(why));
    };
    if let Some(lag) = [query, key].into_iter().find(|lag| *lag >= window) {
        return Err(Error::OutOfRange { what: "lag".into(), index: lag as i64, len: window as i64 });
    }
    let weights = matrices.f_select(1, query as i64)?.f_select(1, key as i64)?;
    if weights.f_ne(0.0)?.f_any()?.f_int64_value(&[])? == 0 {
        let why = format!(
            "no head of layer {layer} compares a query {query} and a key {key} before: {}",
            most(&matrices, layer)?
        );
        return Err(of_lags(why));
    }
    Ok(Some(weights))
}

/// An error where the heads of a layer compare no queries and keys by their dot products.
pub(crate) fn check(model: &dyn Model, layer: usize) -> Result<()> {
    let refused = |why: String| Err(Error::Invalid { what: format!("queries and keys of layer {layer}"), why });
    match model.scores(layer) {
        Scores::Pairs | Scores::Lagged => Ok(()),
        Scores::Others(point) => refused(format!("its scores are no dot products of them, as `{point}` shows")),
        Scores::None => {
            refused("it has no scores: positions make their kernels alone; ask for values (`ov`, `v`)".into())
        }
    }
}

/// An error where the patterns of a layer are made without scores, and are no shares.
pub(crate) fn shares(model: &dyn Model, layers: &[usize]) -> Result<()> {
    let Some(layer) = layers.iter().find(|layer| model.scores(**layer) == Scores::None) else { return Ok(()) };
    let why = "it is made without scores, so that its rows are no shares of attention (they may be negative, and need \
               not sum to 1); `attention.patterns` shows it";
    Err(Error::Invalid { what: format!("the pattern of layer {layer}"), why: why.into() })
}

/// Lags as the end of a title.
pub(crate) fn suffix(lags: Option<Lags>) -> String {
    lags.map_or_else(String::new, |[query, key]| format!(" at lags {query} and {key}"))
}

/// The lag matrices of a layer's heads, in double: `[head, query lag, key lag]`.
fn matrices(model: &dyn Model, layer: usize) -> Result<Tensor> {
    // They are the same for every text; one position of nothing shows them.
    let tokens = arrakis_core::Tokens::from_ids(&[0])?;
    let nothing = Tensor::f_zeros([1, 1, model.dims().d_model as i64], (model.kind(), model.device()))?;
    let trace = model.trace(&tokens).start_at(layer, &nothing).stop_at(layer + 1).logits(PosSlice::None);
    let run = trace.keep(Site::LAG.at(layer)).run()?;
    Ok(run.cache.get(Site::LAG.at(layer))?.f_get(0)?.f_to_kind(Kind::Double)?)
}

/// The lags that each head weighs most, in words.
fn most(matrices: &Tensor, layer: usize) -> Result<String> {
    let window = matrices.size()[2];
    let flat = matrices.f_flatten(1, 2)?;
    let places: Vec<i64> = Vec::try_from(flat.f_abs()?.f_argmax(1, false)?.f_to_device(tch::Device::Cpu)?)?;
    let values = answer::numbers(&flat)?;
    let width = (window * window) as usize;
    let of_head = |(head, place): (usize, &i64)| {
        let label = crate::index::head_label(layer, head);
        let value = values[head * width + *place as usize];
        format!("{label} weighs [{}, {}] most, by {value:.2}", place / window, place % window)
    };
    let heads: Vec<String> = places.iter().enumerate().take(MOST).map(of_head).collect();
    Ok(format!("give those of query and key ({})", heads.join("; ")))
}

/// How many heads are named.
const MOST: usize = 4;
