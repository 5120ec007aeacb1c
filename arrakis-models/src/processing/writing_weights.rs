//! Writing weights without a mean.

use arrakis_core::{Error, Model, NormKind, Result, Weight};

use super::{Step, centred};

/// Takes the mean over `d_model` out of everything that is written to the residual stream.
///
/// Embeddings, positions, and the output weights and biases of attention and MLP. Every reader of a layer-norm model
/// centres what it reads, so a mean in the stream is never seen; without it the stream's own values are what is read.
/// A tied unembedding is left as it is: it reads.
///
/// # Errors
/// A model with RMS norms, which divide by the root of the mean square and centre nothing, so that the mean is seen;
/// and a weight that is unknown to this library.
///
/// # Source
/// `center_writing_weights` of TransformerLens 3.9.
pub fn centre_writing_weights(model: &dyn Model) -> Result<Box<dyn Model>> {
    let name = "centring of writing weights";
    if model.dims().norm == NormKind::Rms {
        let why = format!(
            "the RMS norms of `{}` do not centre what they read, so the mean of what is written counts; only \
             layer-norm models stay the function they are",
            model.dims().family
        );
        return Err(Error::Invalid { what: name.into(), why });
    }
    let mut step = Step::new(name, model)?;
    let blocks = (0..model.dims().n_layers)
        .flat_map(|layer| [Weight::O, Weight::O_B, Weight::OUT, Weight::OUT_B].map(|weight| weight.at(layer)));
    for writer in [Weight::E.global(), Weight::POS.global()].into_iter().chain(blocks) {
        if let Some(weight) = step.weight_if_any(writer)? {
            step.set(writer, centred(&weight, -1)?);
        }
    }
    step.end()
}
