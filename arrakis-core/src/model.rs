//! The one waist between models and everything else.

use tch::{Device, Kind, Tensor};

use crate::{
    Dims, Error, HookPoint, NormKind, Output, Pass, Result, Scores, Tokens, Trace, Weight, WeightPoint, nearest_name,
};

/// A language model that can be watched, edited and asked for its weights.
pub trait Model: Send {
    /// The sizes.
    fn dims(&self) -> &Dims;

    /// The kind of the weights and of what flows.
    fn kind(&self) -> Kind;

    /// Where the weights lie.
    fn device(&self) -> Device;

    /// Every hook point, in the order in which a pass with everything watched visits them.
    fn points(&self) -> &[HookPoint];

    /// One pass.
    fn forward(&self, pass: Pass<'_>) -> Result<Output>;

    /// The logits of a residual stream (`[…, d_model]`): final norm with its own scale, then unembedding: `[…, vocab]`.
    fn unembed(&self, residual: &Tensor) -> Result<Tensor>;

    /// Every weight there is, in order.
    fn weights(&self) -> Vec<WeightPoint>;

    /// A weight in TransformerLens' orientation; a view where that is possible.
    fn weight(&self, weight: WeightPoint) -> Result<Tensor>;

    /// A new model in which the given weights stand in place of the old; it shares all others.
    fn with_weights(&self, edits: Vec<(WeightPoint, Tensor)>) -> Result<Box<dyn Model>>;

    /// The token ids of a text, with the special tokens that the model expects around it.
    fn encode(&self, text: &str) -> Result<Vec<i64>>;

    /// The id of the one token that a text is; an error says into which tokens it splits.
    fn token_id(&self, text: &str) -> Result<i64>;

    /// The text of token ids.
    fn decode(&self, tokens: &[i64]) -> Result<String>;

    /// The text of one token, with its leading space; its number in brackets where there is no tokenizer.
    fn token(&self, token: i64) -> String {
        self.decode(&[token]).unwrap_or_else(|_| format!("[{token}]"))
    }

    /// A digest of the weights and of what is done with them (blake3, hexadecimal).
    fn digest(&self) -> Result<String>;

    /// A digest of what turns text into tokens (blake3, hexadecimal); none where there is no tokenizer.
    fn tokenizer_digest(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// How the weights are laid out, where that rounds otherwise than weights as they were loaded: `packed`.
    fn layout(&self) -> Option<&'static str> {
        None
    }

    /// The weight of that printed name; an error names the nearest.
    fn weight_named(&self, name: &str) -> Result<Tensor> {
        let known = self.weights();
        match known.iter().find(|weight| weight.to_string() == name) {
            Some(weight) => self.weight(*weight),
            None => Err(unknown_weight(name, &known)),
        }
    }

    /// A weight that a model may lack (a bias, say).
    fn weight_if_any(&self, weight: WeightPoint) -> Result<Option<Tensor>> {
        if self.weights().contains(&weight) { self.weight(weight).map(Some) } else { Ok(None) }
    }

    /// What parts of the residual stream (`[…, d_model]`) become under the final norm with `scale` held fixed.
    ///
    /// Linear in the parts: centred in layer norm, divided by `scale` (broadcast), times the norm's weight, no bias.
    fn final_norm_with_scale(&self, parts: &Tensor, scale: &Tensor) -> Result<Tensor> {
        let centred = match self.dims().norm {
            NormKind::Layer => parts.f_sub(&parts.f_mean_dim(-1, true, parts.kind())?)?,
            NormKind::Rms => parts.shallow_clone(),
        };
        let scaled = centred.f_div(scale)?;
        match self.weight_if_any(Weight::LN_FINAL_W.global())? {
            Some(weight) => Ok(scaled.f_mul(&weight)?),
            None => Ok(scaled),
        }
    }
}

/// The error for a weight that is not among `known`.
#[must_use]
pub fn unknown_weight(name: &str, known: &[WeightPoint]) -> Error {
    let names: Vec<String> = known.iter().map(ToString::to_string).collect();
    Error::UnknownWeight { name: name.to_owned(), nearest: nearest_name(name, names.iter().map(String::as_str)) }
}

/// What every model can be asked in its own words.
pub trait ModelExt: Model {
    /// A run over `tokens`, to be described and then [`run`](Trace::run).
    fn trace<'a>(&'a self, tokens: &'a Tokens) -> Trace<'a, Self> {
        Trace::new(self, tokens)
    }

    /// What the attention scores of a layer are made of; [`Scores::None`] where there is no such layer.
    fn scores(&self, layer: usize) -> Scores {
        Scores::of(self.points(), layer)
    }

    /// Texts as one batch, padded on the right where they differ in length.
    fn tokens(&self, texts: &[impl AsRef<str>]) -> Result<Tokens> {
        let rows: Result<Vec<Vec<i64>>> = texts.iter().map(|text| self.encode(text.as_ref())).collect();
        Tokens::from_rows(&rows?)
    }
}

impl<M: Model + ?Sized> ModelExt for M {}
