//! Models whose circuits are built by hand, so that what a tool finds in them is known.

use std::fs;

use arrakis_core::{Context, ModelExt as _, Prompt, Stream, Tokens, Tool as _};
use arrakis_models::{Decoder, LoadOptions, load};
use arrakis_tools::AttentionHeads;
use serde_json::json;
use tch::{Device, Kind, Tensor};

/// The previous-token head of [`induction`]: layer and head.
pub(crate) const PREVIOUS: (usize, usize) = (0, 1);

/// The induction head of [`induction`]: layer and head.
pub(crate) const INDUCTION: (usize, usize) = (1, 2);

/// The tokens of [`induction`]; 0 begins a text.
pub(crate) const VOCAB: i64 = 32;

/// The positions of [`induction`], and the length of a head's vector.
const CONTEXT: i64 = 48;
const HEADS: i64 = 4;
const D_MODEL: i64 = HEADS * CONTEXT;

/// Where the parts of the residual stream begin: this token, this position, the token before, the token that follows.
pub(crate) const TOKEN: i64 = 0;
pub(crate) const POSITION: i64 = TOKEN + VOCAB;
pub(crate) const BEFORE: i64 = POSITION + CONTEXT;
pub(crate) const NEXT: i64 = BEFORE + VOCAB;
/// What is left over takes the negative sum of everything written, so that the centring of the norms changes nothing.
const BALANCE: i64 = NEXT + VOCAB;

/// A GPT-2 of two layers and four heads that copies what followed a token when it came first (Elhage et al. 2021).
///
/// Head [`PREVIOUS`] attends from every position to the one before, by positions, and writes its token to the part
/// `BEFORE` of the stream. Head [`INDUCTION`] matches its token (part `TOKEN`) with that part of the keys, so it attends
/// to what followed the token earlier, and writes the token there to the part `NEXT`, which alone is unembedded. Where a
/// token is new it rests on position 0, whose token 0 it does not copy: texts begin with 0, and tokens of a text differ
/// but for what is to be copied. All other heads are small random noise, and the MLPs write nothing.
///
/// So there is one circuit: `PREVIOUS` feeds the keys of `INDUCTION` (K-composition), and the latter the logits.
pub(crate) fn induction() -> Decoder {
    let mut tensors = vec![
        ("wte.weight".to_owned(), one_hot(VOCAB, TOKEN)),
        ("wpe.weight".to_owned(), one_hot(CONTEXT, POSITION)),
        ("lm_head.weight".to_owned(), 2.0 * plain(VOCAB, NEXT)),
    ];
    let mut noise = Stream::new(7, "planted");
    for layer in 0..2 {
        let mut small = |shape: &[i64]| noise.normals(shape).unwrap().to_kind(Kind::Float) * 0.005;
        let (mut read, mut write) = (small(&[D_MODEL, 3 * D_MODEL]), small(&[D_MODEL, D_MODEL]));
        if layer == 0 {
            plant_previous(&mut read, &mut write);
        } else {
            plant_induction(&mut read, &mut write);
        }
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let ones = || Tensor::ones([D_MODEL], (Kind::Float, Device::Cpu));
        tensors.extend(
            [
                ("attn.c_attn.weight", read),
                ("attn.c_attn.bias", zeros(&[3 * D_MODEL])),
                ("attn.c_proj.weight", write),
                ("attn.c_proj.bias", zeros(&[D_MODEL])),
                ("mlp.c_fc.weight", small(&[D_MODEL, 4])),
                ("mlp.c_fc.bias", zeros(&[4])),
                ("mlp.c_proj.weight", zeros(&[4, D_MODEL])),
                ("mlp.c_proj.bias", zeros(&[D_MODEL])),
                ("ln_1.weight", ones()),
                ("ln_1.bias", zeros(&[D_MODEL])),
                ("ln_2.weight", ones()),
                ("ln_2.bias", zeros(&[D_MODEL])),
            ]
            .map(|(name, tensor)| (format!("h.{layer}.{name}"), tensor)),
        );
    }
    tensors.push(("ln_f.weight".to_owned(), Tensor::ones([D_MODEL], (Kind::Float, Device::Cpu))));
    tensors.push(("ln_f.bias".to_owned(), Tensor::zeros([D_MODEL], (Kind::Float, Device::Cpu))));

    let folder = tempfile::tempdir().unwrap();
    Tensor::write_safetensors(&tensors, folder.path().join("model.safetensors")).unwrap();
    let config = json!({
        "model_type": "gpt2", "vocab_size": VOCAB, "n_positions": CONTEXT, "n_embd": D_MODEL, "n_layer": 2,
        "n_head": HEADS, "n_inner": 4, "tie_word_embeddings": false,
    });
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let options = LoadOptions { kind: Kind::Double, device: Device::Cpu };
    load(&folder.path().to_string_lossy(), &options).unwrap()
}

/// A text for [`induction`]: the token 0, and twelve different tokens twice.
pub(crate) fn repeated() -> Vec<i64> {
    let once = [5, 17, 9, 30, 2, 11, 23, 8, 14, 27, 1, 20];
    [&[0][..], &once, &once].concat()
}

/// A one in the part that begins at `start` for each of `count` entries: `[count, d_model]`.
fn plain(count: i64, start: i64) -> Tensor {
    let part = Tensor::eye(count, (Kind::Float, Device::Cpu));
    part.constant_pad_nd([start, D_MODEL - start - count])
}

/// The same, balanced so that each row sums to 0.
fn one_hot(count: i64, start: i64) -> Tensor {
    let rows = plain(count, start);
    let _ = rows.narrow(1, BALANCE, D_MODEL - BALANCE).fill_(-1.0 / (D_MODEL - BALANCE) as f64);
    rows
}

/// The columns of a head among the queries (0), keys (1) or values (2).
fn columns(read: &Tensor, head: usize, which: i64) -> Tensor {
    read.narrow(1, which * D_MODEL + head as i64 * CONTEXT, CONTEXT)
}

/// The first `count` entries of a head's vector read the part that begins at `start`: `[d_model, d_head]`.
fn reading(count: i64, start: i64) -> Tensor {
    plain(count, start).transpose(0, 1).constant_pad_nd([0, CONTEXT - count])
}

/// The first `count` entries of a head's vector are written to the part that begins at `start`: `[d_head, d_model]`.
fn writing(count: i64, start: i64) -> Tensor {
    one_hot(count, start).constant_pad_nd([0, 0, 0, CONTEXT - count])
}

fn plant_previous(read: &mut Tensor, write: &mut Tensor) {
    let head = PREVIOUS.1;
    let position = reading(CONTEXT, POSITION);
    columns(read, head, 0).copy_(&position);
    // The key at a position answers the query at the next one; the last position has none.
    let next = position.constant_pad_nd([1, 0]).narrow(1, 0, CONTEXT);
    columns(read, head, 1).copy_(&next);
    columns(read, head, 2).copy_(&reading(VOCAB, TOKEN));
    // A normalised one is about 10 here.
    write.narrow(0, head as i64 * CONTEXT, CONTEXT).copy_(&(writing(VOCAB, BEFORE) * 0.1));
}

fn plant_induction(read: &mut Tensor, write: &mut Tensor) {
    let head = INDUCTION.1;
    columns(read, head, 0).copy_(&(reading(VOCAB, TOKEN) * 1.6));
    let keys = reading(VOCAB, BEFORE) * 1.6;
    // Half a match with every token: rest.
    let _ = keys.get(POSITION).narrow(0, 0, VOCAB).fill_(0.8);
    columns(read, head, 1).copy_(&keys);
    let values = reading(VOCAB, TOKEN);
    let _ = values.get(TOKEN).fill_(0.0);
    columns(read, head, 2).copy_(&values);
    write.narrow(0, head as i64 * CONTEXT, CONTEXT).copy_(&(writing(VOCAB, NEXT) * 0.12));
}

#[test]
fn the_planted_model_copies_what_followed() {
    let model = induction();
    let ids = repeated();
    let tokens = Tokens::from_ids(&ids).unwrap();
    let run = model.trace(&tokens).run().unwrap();
    let probabilities = run.logits.unwrap().get(0).softmax(-1, Kind::Double);
    for (place, next) in ids.iter().enumerate().skip(14) {
        let probability = probabilities.double_value(&[place as i64 - 1, *next]);
        assert!(probability > 0.98, "position {place}: {probability}");
    }
    // Where nothing can be copied nothing is known.
    assert!(probabilities.narrow(0, 1, 11).max().double_value(&[]) < 0.1);
}

#[test]
fn head_scores_find_the_planted_heads() {
    let model = induction();
    let asked = AttentionHeads { prompt: Some(Prompt::Ids(repeated())), ..AttentionHeads::default() };
    let found = asked.run(&Context::new(&model)).unwrap();
    for (grid, (layer, head)) in [(&found.previous_token, PREVIOUS), (&found.induction, INDUCTION)] {
        assert!(grid.get(layer, head).unwrap() > 0.98, "{}: {:?}", grid.title, grid.values);
        let others = grid.values.iter().filter(|score| **score > 0.2).count();
        assert_eq!(others, 1, "{}: {:?}", grid.title, grid.values);
    }
    let loss = found.loss.unwrap();
    assert!(loss.second_half < 0.05 && loss.first_half > 3.0, "{loss:?}");
}
