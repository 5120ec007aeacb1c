//! `patching.activation`

use arrakis_core::{
    Context, Grid, Metric, Model as _, ModelExt as _, Prompt, RowTokens, Site, Tokens, Tool as _, edit,
};
use arrakis_models::Decoder;
use arrakis_tools::{
    ActivationPatching, AttributionPatching, DirectPath, HeadInput, HeadPlace, Mlps, PatchKind, PatchScale,
    PathPatching, Receiver, Steer,
};
use tch::Kind;

use super::{TransformerLens, assert_close, assert_small, each_folder, golden, loaded, refused};
use crate::planted;

const KINDS: [PatchKind; 6] =
    [PatchKind::ResidPre, PatchKind::ResidMid, PatchKind::AttnOut, PatchKind::MlpOut, PatchKind::Z, PatchKind::ZByPos];

/// TransformerLens' name of each kind, `get_act_patch_NAME`.
fn name(kind: PatchKind) -> &'static str {
    match kind {
        PatchKind::ResidPre => "resid_pre",
        PatchKind::ResidMid => "resid_mid",
        PatchKind::AttnOut => "attn_out",
        PatchKind::MlpOut => "mlp_out",
        PatchKind::Z => "attn_head_out_all_pos",
        PatchKind::ZByPos => "attn_head_out_by_pos",
        PatchKind::Q => "attn_head_q_all_pos",
        PatchKind::QByPos => "attn_head_q_by_pos",
        PatchKind::K => "attn_head_k_all_pos",
        PatchKind::KByPos => "attn_head_k_by_pos",
        PatchKind::V => "attn_head_v_all_pos",
        PatchKind::VByPos => "attn_head_v_by_pos",
        PatchKind::Pattern => "attn_head_pattern_all_pos",
        PatchKind::PatternByPos => "attn_head_pattern_by_pos",
        PatchKind::PatternByPair => "attn_head_pattern_dest_src_pos",
    }
}

fn difference(answer: impl Into<RowTokens>, wrong: impl Into<RowTokens>) -> Metric {
    Metric::LogitDifference { answer: answer.into(), wrong: wrong.into() }
}

#[test]
fn agrees_with_transformer_lens() {
    let Some(fixture) = TransformerLens::open() else { return };
    let expected = fixture.file("patching");
    let metric = difference(fixture.tokens("answer_tokens"), fixture.tokens("wrong_tokens"));
    let (clean, corrupted) = (fixture.prompt("clean_tokens"), fixture.prompt("corrupted_tokens"));
    let kinds = PatchKind::ALL.to_vec();
    let asked = ActivationPatching { kinds, ..ActivationPatching::new(clean, corrupted, metric) };
    let found = asked.run(&Context::new(&fixture.model)).unwrap();
    assert_close(&[found.clean], &expected["clean_logit_diff"], 1e-10, "clean");
    assert_close(&[found.corrupted], &expected["corrupted_logit_diff"], 1e-10, "corrupted");
    assert_small(found.whole_patch_gap, 1e-10, "everything patched");
    for kind in PatchKind::ALL {
        let expected = &expected[&format!("patch.{}", name(kind))];
        if kind == PatchKind::PatternByPair {
            let pairs = arrakis_core::answer::numbers(&found.pairs.as_ref().unwrap().values).unwrap();
            assert_close(&pairs, expected, 1e-9, name(kind));
            continue;
        }
        // By head and position, TransformerLens has [layer, pos, head]; of patterns [layer, head, pos].
        let turned = matches!(kind, PatchKind::ZByPos | PatchKind::QByPos | PatchKind::KByPos | PatchKind::VByPos);
        let expected = if turned { expected.transpose(1, 2) } else { expected.shallow_clone() };
        assert_close(&found.grid(kind).unwrap().values, &expected, 1e-9, name(kind));
    }
    // The bundles `_every` are the same kinds, one after the other.
    let bundle = |name: &str, kinds: &[PatchKind], turned: bool| {
        for (place, kind) in kinds.iter().enumerate() {
            let expected = expected[name].get(place as i64);
            let by_pos_of_pattern = *kind == PatchKind::PatternByPos;
            let expected = if turned { expected.transpose(1, 2) } else { expected };
            let what = format!("{name} {kind:?} {by_pos_of_pattern}");
            assert_close(&found.grid(*kind).unwrap().values, &expected, 1e-9, &what);
        }
    };
    bundle("patch.block_every", &[PatchKind::ResidPre, PatchKind::AttnOut, PatchKind::MlpOut], false);
    let all = [PatchKind::Z, PatchKind::Q, PatchKind::K, PatchKind::V, PatchKind::Pattern];
    bundle("patch.attn_head_all_pos_every", &all, false);
    let by_pos = [PatchKind::ZByPos, PatchKind::QByPos, PatchKind::KByPos, PatchKind::VByPos, PatchKind::PatternByPos];
    bundle("patch.attn_head_by_pos_every", &by_pos, true);
}

#[test]
fn attribution_agrees_with_transformer_lens() {
    let Some(fixture) = TransformerLens::open() else { return };
    let expected = fixture.file("patching");
    let metric = difference(fixture.tokens("answer_tokens"), fixture.tokens("wrong_tokens"));
    let (clean, corrupted) = (fixture.prompt("clean_tokens"), fixture.prompt("corrupted_tokens"));
    let kinds = vec![
        PatchKind::ResidPre,
        PatchKind::AttnOut,
        PatchKind::MlpOut,
        PatchKind::ZByPos,
        PatchKind::QByPos,
        PatchKind::KByPos,
        PatchKind::VByPos,
    ];
    let asked =
        AttributionPatching { kinds, ..AttributionPatching::new(clean.clone(), corrupted.clone(), metric.clone()) };
    let found = asked.run(&Context::new(&fixture.model)).unwrap();
    assert_small(found.head_gap, 1e-10, "heads");
    for (kind, grid) in &found.grids {
        let site = match kind {
            PatchKind::ZByPos => "attn.hook_z",
            PatchKind::QByPos => "attn.hook_q",
            PatchKind::KByPos => "attn.hook_k",
            PatchKind::VByPos => "attn.hook_v",
            PatchKind::ResidPre => "hook_resid_pre",
            PatchKind::AttnOut => "hook_attn_out",
            _ => "hook_mlp_out",
        };
        let expected = &expected[&format!("attribution_patch.{site}")];
        let expected = if expected.dim() == 3 { expected.transpose(1, 2) } else { expected.shallow_clone() };
        assert_close(&grid.values, &expected, 1e-9, site);
    }
    // What is checked is what activation patching finds.
    let exact = ActivationPatching::new(clean, corrupted, metric).run(&Context::new(&fixture.model)).unwrap();
    let resid = exact.grid(PatchKind::ResidPre).unwrap();
    let checks = found.checks.iter().filter(|check| check.kind == PatchKind::ResidPre);
    for check in checks {
        let near = resid.values.iter().map(|value| (value - check.exact).abs()).fold(f64::INFINITY, f64::min);
        assert_small(near, 1e-10, &check.label);
    }
    assert_eq!(found.checks.len(), 21);
}

#[test]
fn the_error_of_attribution_is_of_second_order() {
    each_folder("attribution patching", |model, rows, name| {
        let kinds = vec![PatchKind::Z, PatchKind::ZByPos, PatchKind::Pattern, PatchKind::PatternByPair];
        let corrupted: Vec<Vec<i64>> = rows.iter().map(|row| row.iter().rev().copied().collect()).collect();
        let (clean, corrupted) = (Prompt::Rows(rows.to_vec()), Prompt::Rows(corrupted));
        let asked = AttributionPatching {
            kinds,
            scale: PatchScale::Raw,
            ..AttributionPatching::new(clean.clone(), corrupted, difference(3, 8))
        };
        let found = asked.run(&Context::new(model)).unwrap();
        assert_small(found.head_gap, 1e-9, name);
        let whole = &found.grid(PatchKind::Z).unwrap().values;
        let by_pos = &found.grid(PatchKind::ZByPos).unwrap().values;
        for (place, value) in whole.iter().enumerate() {
            let len = rows[0].len();
            let sum: f64 = by_pos[place * len..(place + 1) * len].iter().sum();
            assert_small((sum - value).abs(), 1e-9, "positions sum to the head");
        }
        // Directly: the estimate's error is quadratic in the size of a change of the stream.
        let tokens = clean.tokens(model).unwrap();
        let measure = difference(3, 8).prepare(model, &tokens).unwrap();
        let point = Site::RESID_PRE.at(model.dims().n_layers - 1);
        let metric = |logits: &tch::Tensor| Ok(measure.of(logits)?.mean(Kind::Double));
        let base = model.trace(&tokens).keep(point).logits(measure.wanted()).gradients(metric).run().unwrap();
        let direction = arrakis_core::Stream::new(3, "change").normals(&base.cache[point].size()).unwrap();
        let error = |size: f64| {
            let change = &direction * size;
            let run = model.trace(&tokens).edit(point, edit::add(&change)).logits(measure.wanted()).run().unwrap();
            let exact = metric(run.logits().unwrap()).unwrap().double_value(&[]) - base.metric.unwrap();
            (exact - (&base.gradients[point] * change).sum(Kind::Double).double_value(&[])).abs()
        };
        let (small, smaller) = (1e-3, 2.5e-4);
        let slope = (error(small) / error(smaller)).ln() / (small / smaller).ln();
        assert!((slope - 2.0).abs() <= 0.1, "{name}: slope {slope}");
    });
}

#[test]
fn paths_agree_with_transformer_lens() {
    let Some(fixture) = TransformerLens::open() else { return };
    let expected = fixture.file("patching");
    let metric = difference(fixture.tokens("answer_tokens"), fixture.tokens("wrong_tokens"));
    let (clean, corrupted) = (fixture.prompt("clean_tokens"), fixture.prompt("corrupted_tokens"));
    let cx = Context::new(&fixture.model);
    let inputs = [HeadInput::Q, HeadInput::K, HeadInput::V];
    for (mlps, name) in [(Mlps::Frozen, "mlps_frozen"), (Mlps::Recomputed, "mlps_recomputed")] {
        let asked = PathPatching { mlps, ..PathPatching::new(clean.clone(), corrupted.clone(), metric.clone()) };
        let found = asked.run(&cx).unwrap();
        assert_small(found.replay_gap, 1e-10, "nothing sent");
        assert_close(&found.grid.values, &expected[&format!("path_patch.to_logits.{name}")], 1e-9, name);
        for (input, letter) in inputs.into_iter().zip(["q", "k", "v"]) {
            let receivers = Some(vec![Receiver { layer: 2, head: 3, input }]);
            let found = PathPatching { receivers, ..asked.clone() }.run(&cx).unwrap();
            assert_small(found.replay_gap, 1e-10, "nothing sent");
            let name = format!("path_patch.to_receiver_{letter}.{name}");
            assert_close(&found.grid.values, &expected[&name], 1e-9, &name);
        }
    }
    let expected = fixture.file("bridge");
    for (input, letter) in inputs.into_iter().zip(["q", "k", "v"]) {
        let (sender, mlps, scale) = (HeadPlace { layer: 0, head: 1 }, Mlps::Frozen, PatchScale::Normalised);
        let (clean, corrupted, metric) = (clean.clone(), corrupted.clone(), metric.clone());
        let found = DirectPath { clean, corrupted, metric, sender, input, mlps, scale }.run(&cx).unwrap();
        assert_close(&found.grid.values, &expected[&format!("direct_path.{letter}")], 1e-9, letter);
    }
}

/// Path patching as it is defined, in three whole passes by hand: for heads that share keys and values, with weights
/// repeated for each of them.
#[test]
fn paths_are_those_of_the_definition_on_every_family() {
    each_folder("path patching", |model, rows, name| {
        let dims = model.dims();
        if dims.n_layers < 2 {
            return;
        }
        let (last, group) = (dims.n_layers - 1, dims.n_heads / dims.n_kv_heads);
        let corrupted: Vec<Vec<i64>> = rows.iter().map(|row| row.iter().rev().copied().collect()).collect();
        let (clean, corrupted) = (Prompt::Rows(rows.to_vec()), Prompt::Rows(corrupted));
        let (from, onto) = (clean.tokens(model).unwrap(), corrupted.tokens(model).unwrap());
        let source = model.trace(&from).keep(Site::Z).run().unwrap().cache;
        let base = model.trace(&onto).keep("*").run().unwrap();
        let measure = difference(3, 8).prepare(model, &onto).unwrap();
        let head = dims.n_heads - 1;
        for input in [HeadInput::Q, HeadInput::K, HeadInput::V] {
            let asked = PathPatching {
                receivers: Some(vec![Receiver { layer: last, head, input }]),
                scale: PatchScale::Raw,
                ..PathPatching::new(clean.clone(), corrupted.clone(), difference(3, 8))
            };
            let found = asked.run(&Context::new(model)).unwrap();
            assert_small(found.replay_gap, 1e-10, name);
            // Sender: the first head of the first block; all other heads frozen.
            let z = Site::Z.at(0);
            let mut trace = model.trace(&onto).edit(z, edit::head(0, edit::patch(&source[z])));
            for layer in 1..last {
                trace = trace.edit(Site::Z.at(layer), edit::patch(&base.cache[Site::Z.at(layer)]));
            }
            let sent = trace.stop_at(last).run().unwrap().residual;
            // What the receiver alone makes of it: its own output from its own queries, keys or values.
            let (site, place, heads) = match input {
                HeadInput::Q => (Site::Q_INPUT, head, dims.n_heads),
                HeadInput::K => (Site::K_INPUT, head / group, dims.n_kv_heads),
                HeadInput::V => (Site::V_INPUT, head / group, dims.n_kv_heads),
            };
            let by_head = sent.unsqueeze(2).expand([-1, -1, heads as i64, -1], false);
            let z = Site::Z.at(last);
            let input = edit::head(place, edit::patch(&by_head));
            let alone = model.trace(&onto).edit(site.at(last), input).keep(z).run().unwrap().cache;
            let run = model.trace(&onto).edit(z, edit::head(head, edit::patch(&alone[z]))).run().unwrap();
            let logits = run.logits().unwrap().narrow(1, -1, 1);
            let expected = measure.of(&logits).unwrap().mean(Kind::Double).double_value(&[]);
            assert_small((found.grid.values[0] - expected).abs(), 1e-9, name);
        }
    });
}

#[test]
fn steering_agrees_with_transformer_lens() {
    let Some(fixture) = TransformerLens::open() else { return };
    let expected = fixture.file("patching");
    let vector = arrakis_core::answer::numbers(&expected["steer.vector"]).unwrap();
    let mut asked = Steer::along(fixture.prompt("clean_tokens"), 1, vector, Metric::Logit(3.into()));
    asked.strengths = vec![1.0];
    let found = asked.run(&Context::new(&fixture.model)).unwrap();
    let logits = arrakis_core::answer::numbers(&found.logits).unwrap();
    assert_close(&logits, &expected["steer.logits_last"], 1e-10, "steered");
    assert_small(found.zero_gap, 0.0, "strength 0");
}

#[test]
fn steering_by_prompts_and_bad_directions() {
    let model = golden("llama");
    let ids = |ids: &[i64]| Prompt::Ids(ids.to_vec());
    let asked = Steer::between(ids(&[9, 3, 17]), 1, ids(&[5, 6]), ids(&[5, 7]), Metric::Logit(3.into()));
    let found = asked.run(&Context::new(&model)).unwrap();
    assert!(found.norm > 0.0 && found.metric.lines[0].values.len() == 5);
    let refused_with = |change: &dyn Fn(&mut Steer)| {
        let mut asked = asked.clone();
        change(&mut asked);
        refused(&asked, &model)
    };
    assert!(refused_with(&|steer| steer.layer = 99).contains("layer 99"));
    assert!(refused_with(&|steer| steer.vector = Some(vec![1.0])).contains("`vector`, or both"));
    assert!(
        refused_with(&|steer| (steer.vector, steer.towards, steer.away) = (Some(vec![1.0]), None, None))
            .contains("vector")
    );
    assert!(refused_with(&|steer| steer.away = None).contains("towards"));
    assert!(refused_with(&|steer| steer.strengths = vec![f64::NAN]).contains("strengths"));
    assert!(refused_with(&|steer| steer.top = 0).contains("top 0"));
}

#[test]
fn paths_that_make_no_sense_are_refused() {
    let model = golden("llama");
    let [clean, corrupted] = [vec![9, 3, 17, 40], vec![9, 7, 17, 40]].map(Prompt::Ids);
    let asked = PathPatching::new(clean.clone(), corrupted.clone(), difference(3, 8));
    let with = |receivers: Vec<Receiver>| PathPatching { receivers: Some(receivers), ..asked.clone() };
    let receiver = |layer, head| Receiver { layer, head, input: HeadInput::K };
    assert!(refused(&with(vec![]), &model).contains("receivers"));
    assert!(refused(&with(vec![receiver(9, 0)]), &model).contains("layer 9"));
    assert!(refused(&with(vec![receiver(1, 99)]), &model).contains("head 99"));
    assert!(refused(&with(vec![receiver(0, 0), receiver(1, 0)]), &model).contains("one layer at a time"));
    let direct = DirectPath {
        clean,
        corrupted,
        metric: difference(3, 8),
        sender: HeadPlace { layer: model.dims().n_layers - 1, head: 0 },
        input: HeadInput::Q,
        mlps: Mlps::Frozen,
        scale: PatchScale::Raw,
    };
    assert!(refused(&direct, &model).contains("is the last"));
    let mut asked = AttributionPatching::new(direct.clean.clone(), direct.corrupted.clone(), Metric::Rank(3.into()));
    assert!(refused(&asked, &model).contains("gradient"));
    asked.kinds = vec![];
    assert!(refused(&asked, &model).contains("kinds"));
}

/// The grid of a kind by one whole pass for each patch.
fn plain(model: &Decoder, clean: &Tokens, corrupted: &Tokens, metric: &Metric, kind: PatchKind) -> Vec<f64> {
    let site = match kind {
        PatchKind::ResidMid => Site::RESID_MID,
        PatchKind::AttnOut => Site::ATTN_OUT,
        PatchKind::MlpOut => Site::MLP_OUT,
        PatchKind::Z | PatchKind::ZByPos => Site::Z,
        _ => Site::RESID_PRE,
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
        // Other cases share their batches, and some processors sum those in another order.
        for (part, whole) in part.values.iter().zip(&whole.values[4..]) {
            assert_small((part - whole).abs(), 1e-10, &format!("{kind:?}"));
        }
        assert_eq!((part.values.len(), &part.rows.labels[..]), (4, &["1".to_owned()][..]));
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

/// The token that came before the first time is what the corrupted text lacks: the previous-token head tells it to the
/// keys of the induction head, and the induction head alone tells the logits.
#[test]
fn paths_of_the_planted_circuit_are_found() {
    let model = planted::induction();
    let mut clean = planted::repeated();
    clean.pop();
    let first = 11;
    assert_eq!(clean[first], clean[clean.len() - 1]);
    let (mut corrupted, followed) = (clean.clone(), clean[first + 1]);
    corrupted[first] = 28;
    let [clean, corrupted] = [clean, corrupted].map(Prompt::Ids);
    let to = |receivers| {
        let metric = difference(followed, 14);
        let asked = PathPatching { receivers, ..PathPatching::new(clean.clone(), corrupted.clone(), metric) };
        let found = asked.run(&Context::new(&model)).unwrap();
        assert_small(found.replay_gap, 1e-9, "nothing sent");
        found.grid
    };
    let only = |grid: &Grid, (layer, head): (usize, usize)| {
        let found = grid.get(layer, head).unwrap();
        assert!(found > 0.9, "{}: {:?}", grid.title, grid.values);
        let others = grid.values.iter().filter(|value| value.abs() > 0.1).count();
        assert_eq!(others, 1, "{}: {:?}", grid.title, grid.values);
    };
    only(&to(None), planted::INDUCTION);
    let (layer, head) = planted::INDUCTION;
    let into = |input| to(Some(vec![Receiver { layer, head, input }]));
    only(&into(HeadInput::K), planted::PREVIOUS);
    for input in [HeadInput::Q, HeadInput::V] {
        assert!(into(input).values.iter().all(|value| value.abs() < 0.1), "{input:?}: {:?}", into(input).values);
    }
}
