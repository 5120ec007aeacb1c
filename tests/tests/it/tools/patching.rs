//! `patching.activation`

use arrakis_core::{Context, Metric, Model as _, ModelExt as _, Prompt, RowTokens, Site, Tokens, Tool as _, edit};
use arrakis_models::Decoder;
use arrakis_tools::{ActivationPatching, PatchKind, PatchScale};
use tch::Kind;

use super::{TransformerLens, assert_close, assert_small, each_folder, golden, loaded, refused};

const KINDS: [PatchKind; 6] =
    [PatchKind::ResidPre, PatchKind::ResidMid, PatchKind::AttnOut, PatchKind::MlpOut, PatchKind::Z, PatchKind::ZByPos];

fn difference(answer: impl Into<RowTokens>, wrong: impl Into<RowTokens>) -> Metric {
    Metric::LogitDifference { answer: answer.into(), wrong: wrong.into() }
}

#[test]
fn agrees_with_transformer_lens() {
    let Some(fixture) = TransformerLens::open() else { return };
    let expected = fixture.file("patching");
    let metric = difference(fixture.tokens("answer_tokens"), fixture.tokens("wrong_tokens"));
    let (clean, corrupted) = (fixture.prompt("clean_tokens"), fixture.prompt("corrupted_tokens"));
    let asked = ActivationPatching { kinds: KINDS.to_vec(), ..ActivationPatching::new(clean, corrupted, metric) };
    let found = asked.run(&Context::new(&fixture.model)).unwrap();
    assert_close(&[found.clean], &expected["clean_logit_diff"], 1e-10, "clean");
    assert_close(&[found.corrupted], &expected["corrupted_logit_diff"], 1e-10, "corrupted");
    assert_small(found.whole_patch_gap, 1e-10, "everything patched");
    let names = ["resid_pre", "resid_mid", "attn_out", "mlp_out", "attn_head_out_all_pos", "attn_head_out_by_pos"];
    for (kind, name) in KINDS.into_iter().zip(names) {
        let expected = &expected[&format!("patch.{name}")];
        // By head and position, TransformerLens has [layer, pos, head].
        let expected = if kind == PatchKind::ZByPos { expected.transpose(1, 2) } else { expected.shallow_clone() };
        assert_close(&found.grid(kind).unwrap().values, &expected, 1e-9, name);
    }
}

/// The grid of a kind by one whole pass for each patch.
fn plain(model: &Decoder, clean: &Tokens, corrupted: &Tokens, metric: &Metric, kind: PatchKind) -> Vec<f64> {
    let site = match kind {
        PatchKind::ResidMid => Site::RESID_MID,
        PatchKind::AttnOut => Site::ATTN_OUT,
        PatchKind::MlpOut => Site::MLP_OUT,
        PatchKind::Z | PatchKind::ZByPos => Site::Z,
        PatchKind::ResidPre => Site::RESID_PRE,
    };
    let measure = metric.prepare(model, corrupted).unwrap();
    let source = model.trace(clean).keep(site).run().unwrap().cache;
    let (heads, positions) = (model.dims().n_heads, corrupted.positions() as i64);
    let mut values = Vec::new();
    for layer in 0..model.dims().n_layers {
        let at = |position: i64| edit::position(position, edit::set(&source[site.at(layer)].narrow(1, position, 1)));
        let head = |head: usize| edit::head(head, edit::set(&source[site.at(layer)].narrow(2, head as i64, 1)));
        let by_pos = |head: usize, position: i64| {
            let value = source[site.at(layer)].narrow(2, head as i64, 1).narrow(1, position, 1);
            edit::head(head, edit::position(position, edit::set(&value)))
        };
        let edits: Vec<edit::Edit<'_>> = match kind {
            PatchKind::Z => (0..heads).map(head).collect(),
            PatchKind::ZByPos => (0..heads)
                .flat_map(|head| (0..positions).map(move |pos| (head, pos)))
                .map(|(h, p)| by_pos(h, p))
                .collect(),
            _ => (0..positions).map(at).collect(),
        };
        for edit in edits {
            let run = model.trace(corrupted).edit(site.at(layer), edit).run().unwrap();
            values.push(measure.of(run.logits().unwrap()).unwrap().mean(Kind::Double).double_value(&[]));
        }
    }
    values
}

#[test]
fn packed_patches_are_those_of_the_plain_loop() {
    let golden = crate::fixtures::root().join("tests/golden");
    for (name, kind, bound) in
        [("gpt2", Kind::Double, 1e-10), ("llama", Kind::Double, 1e-10), ("llama", Kind::Float, 1e-5)]
    {
        let model = loaded(&golden.join(name), kind);
        let rows =
            [vec![vec![9, 3, 17, 40, 5], vec![2, 6, 17, 8, 5]], vec![vec![9, 7, 17, 41, 5], vec![3, 6, 18, 8, 5]]];
        let [clean, corrupted] = rows.map(Prompt::Rows);
        for metric in [difference(3, 8), Metric::Loss, Metric::Probability(3.into())] {
            let mut asked = ActivationPatching::new(clean.clone(), corrupted.clone(), metric.clone());
            (asked.kinds, asked.scale) = (KINDS.to_vec(), PatchScale::Raw);
            let (clean, corrupted) = (clean.tokens(&model).unwrap(), corrupted.tokens(&model).unwrap());
            let packed = asked.run(&Context::new(&model)).unwrap();
            let one_by_one = asked.run(&Context::new(&model).with_memory_limit(1)).unwrap();
            for patched in KINDS {
                let expected = tch::Tensor::from_slice(&plain(&model, &clean, &corrupted, &metric, patched));
                for found in [&packed, &one_by_one] {
                    assert_close(
                        &found.grid(patched).unwrap().values,
                        &expected,
                        bound,
                        &format!("{name} {patched:?}"),
                    );
                }
            }
        }
    }
}

#[test]
fn everything_patched_is_the_clean_run() {
    each_folder("activation patching", |model, rows, name| {
        let corrupted: Vec<Vec<i64>> = rows.iter().map(|row| row.iter().rev().copied().collect()).collect();
        let asked = ActivationPatching::new(Prompt::Rows(rows.to_vec()), Prompt::Rows(corrupted), difference(3, 8));
        let found = asked.run(&Context::new(model)).unwrap();
        assert_small(found.whole_patch_gap, 1e-10, name);
        // After the last block only the last position is read: patching it there brings everything back.
        let last = found.grid(PatchKind::ResidPre).unwrap();
        assert_eq!(last.values.len(), model.dims().n_layers * rows[0].len());
    });
}

#[test]
fn padded_rows_are_patched_by_head() {
    let model = golden("llama");
    let (clean, corrupted) = ([vec![9, 3, 17, 40], vec![5, 8]], [vec![9, 7, 17, 40], vec![6, 8]]);
    let ask = |rows: std::ops::Range<usize>| {
        let (clean, corrupted) = (Prompt::Rows(clean[rows.clone()].to_vec()), Prompt::Rows(corrupted[rows].to_vec()));
        let mut asked = ActivationPatching::new(clean, corrupted, difference(3, 8));
        (asked.kinds, asked.scale) = (vec![PatchKind::Z], PatchScale::Raw);
        asked.run(&Context::new(&model)).unwrap()
    };
    let (together, first, second) = (ask(0..2), ask(0..1), ask(1..2));
    let values = |patches: &arrakis_tools::Patches| patches.grid(PatchKind::Z).unwrap().values.clone();
    for (both, (first, second)) in values(&together).iter().zip(values(&first).iter().zip(values(&second))) {
        assert_small((both - (first + second) / 2.0).abs(), 1e-10, "mean over rows");
    }
}

#[test]
fn chosen_layers_are_those_of_the_whole() {
    let model = golden("gpt2");
    let prompts = [vec![9, 3, 17, 40], vec![9, 7, 17, 40]].map(Prompt::Ids);
    let asked = ActivationPatching::new(prompts[0].clone(), prompts[1].clone(), difference(3, 8));
    let whole = asked.run(&Context::new(&model)).unwrap();
    let found = ActivationPatching { layers: Some(vec![1]), ..asked }.run(&Context::new(&model)).unwrap();
    for kind in [PatchKind::ResidPre, PatchKind::Z] {
        let (part, whole) = (found.grid(kind).unwrap(), whole.grid(kind).unwrap());
        assert_eq!(part.values[..], whole.values[4..]);
        assert_eq!(part.rows.labels, ["1"]);
    }
    assert_eq!(whole.grid(PatchKind::ResidPre).unwrap().columns.labels, ["[9]", "[3] /[7]", "[17]", "[40]"]);
}

#[test]
fn nothing_to_patch_is_said() {
    let model = golden("gpt2");
    let prompt = Prompt::Ids(vec![9, 3, 17, 40]);
    let mut asked = ActivationPatching::new(prompt.clone(), prompt, difference(3, 8));
    assert!(refused(&asked, &model).contains("nothing to normalise by"));
    asked.scale = PatchScale::Raw;
    let found = asked.run(&Context::new(&model)).unwrap();
    for (_, grid) in &found.grids {
        for value in &grid.values {
            assert_small((value - found.corrupted).abs(), 1e-12, &grid.title);
        }
    }
}
