//! `attention.top`, `attention.ablate`, `attention.knockout` and `attention.merge`

use arrakis_core::answer::numbers;
use arrakis_core::{
    Context, Metric, Model as _, ModelExt as _, Prompt, RowTokens, Site, Tokens, Tool as _, Weight, edit,
};
use arrakis_tools::{AblatedPart, AblationKind, AttentionAblation, AttentionKnockout, AttentionMerge, AttentionTop};
use tch::Kind;

use super::{TransformerLens, assert_close, assert_small, each_folder, golden, refused};
use crate::planted;

fn difference(answer: impl Into<RowTokens>, wrong: impl Into<RowTokens>) -> Metric {
    Metric::LogitDifference { answer: answer.into(), wrong: wrong.into() }
}

#[test]
fn top_lists_the_greatest_of_the_pattern() {
    each_folder("most attended tokens", |model, rows, name| {
        let found = AttentionTop::new(Prompt::Rows(rows.to_vec())).run(&Context::new(model)).unwrap();
        for (ids, found) in rows.iter().zip(found.rows) {
            assert_small(found.rest_gap, 1e-12, name);
            let tokens = Tokens::from_ids(ids).unwrap();
            let run = model.trace(&tokens).keep(Site::PATTERN).run().unwrap();
            let patterns = run.cache.stack(Site::PATTERN).unwrap().squeeze_dim(1);
            let (expected, _) = patterns.topk(3, -1, true, true);
            assert_close(&numbers(&found.attention.values).unwrap(), &expected, 1e-12, name);
            // The listed keys are where the listed attention lies; the first query sees one key alone.
            let keys = &found.keys.values;
            let there = patterns.gather(-1, &keys.clamp_min(0), false).where_self(&keys.ge(0), &keys.zeros_like());
            assert_close(&numbers(&found.attention.values).unwrap(), &there, 1e-12, name);
            assert_eq!(numbers(&keys.select(2, 0).select(0, 0).get(0)).unwrap(), [0.0, -1.0, -1.0], "{name}");
        }
    });
}

#[test]
fn ablations_agree_with_transformer_lens() {
    let Some(fixture) = TransformerLens::open() else { return };
    let expected = fixture.file("patching");
    let metric = difference(fixture.tokens("answer_tokens"), fixture.tokens("wrong_tokens"));
    let asked = AttentionAblation::new(fixture.prompt("clean_tokens"), metric);
    let resample = Some(fixture.prompt("corrupted_tokens"));
    for (kind, source, name) in [
        (AblationKind::Zero, None, "zero_head"),
        (AblationKind::Mean, None, "mean_head"),
        (AblationKind::Resample, resample, "resample_head"),
    ] {
        let found = AttentionAblation { kind, source, ..asked.clone() }.run(&Context::new(&fixture.model)).unwrap();
        assert_close(&found.heads_after.unwrap().values, &expected[&format!("ablate.{name}")], 1e-9, name);
        assert_small(found.unchanged_gap, 1e-10, name);
        assert_close(&[found.before], &expected["clean_logit_diff"], 1e-9, "before");
        if kind == AblationKind::Zero {
            let mlps = &found.layers_after.unwrap().lines[0].values;
            assert_close(mlps, &expected["ablate.zero_mlp"], 1e-9, "zero_mlp");
        }
    }
}

#[test]
fn ablations_are_those_of_the_plain_loop() {
    each_folder("ablations", |model, rows, name| {
        // The second row is shorter, so the batch is padded.
        let rows = vec![rows[0].clone(), rows[1][..rows[1].len() - 2].to_vec()];
        let (prompt, metric) = (Prompt::Rows(rows.clone()), difference(3, 8));
        let parts = vec![AblatedPart::Head, AblatedPart::Attention, AblatedPart::Mlp];
        let asked = AttentionAblation { parts, ..AttentionAblation::new(prompt.clone(), metric.clone()) };
        let found = asked.run(&Context::new(model)).unwrap();
        let one_by_one = asked.run(&Context::new(model).with_memory_limit(1)).unwrap();
        assert_small(found.unchanged_gap, 1e-9, name);
        let tokens = prompt.tokens(model).unwrap();
        let measure = metric.prepare(model, &tokens).unwrap();
        let layer = model.dims().n_layers - 1;
        let value = |site: Site, edit| {
            let run = model.trace(&tokens).edit(site.at(layer), edit).logits(measure.wanted()).run().unwrap();
            measure.of(run.logits().unwrap()).unwrap().mean(Kind::Double).double_value(&[])
        };
        for found in [&found, &one_by_one] {
            let heads = found.heads_after.as_ref().unwrap();
            for head in 0..model.dims().n_heads {
                let expected = value(Site::Z, edit::head(head, edit::zero()));
                assert_small((heads.get(layer, head).unwrap() - expected).abs(), 1e-9, name);
            }
            for (line, site) in found.layers_after.as_ref().unwrap().lines.iter().zip([Site::ATTN_OUT, Site::MLP_OUT]) {
                assert_small((line.values[layer] - value(site, edit::zero())).abs(), 1e-9, name);
            }
        }
    });
}

#[test]
fn a_batch_is_its_rows() {
    let model = golden("llama");
    let rows = [vec![9, 3, 17, 40, 5], vec![5, 8, 2]];
    let ask = |rows: &[Vec<i64>]| {
        let asked = AttentionAblation::new(Prompt::Rows(rows.to_vec()), difference(3, 8));
        asked.run(&Context::new(&model)).unwrap().heads_after.unwrap().values
    };
    let cut = |rows: &[Vec<i64>]| {
        let asked = AttentionKnockout::new(Prompt::Rows(rows.to_vec()), difference(3, 8), vec![1]);
        let found = asked.run(&Context::new(&model)).unwrap();
        [vec![found.after], found.heads.values, found.attention.values].concat()
    };
    for (both, first, second) in
        [(ask(&rows), ask(&rows[..1]), ask(&rows[1..])), (cut(&rows), cut(&rows[..1]), cut(&rows[1..]))]
    {
        for (both, (first, second)) in both.iter().zip(first.iter().zip(&second)) {
            assert_small((both - (first + second) / 2.0).abs(), 1e-10, "mean over rows");
        }
    }
}

#[test]
fn means_leave_padding_out_of_account() {
    let model = golden("gpt2");
    let ask = |source: Prompt| {
        let mut asked = AttentionAblation::new(Prompt::Ids(vec![9, 3, 17, 40]), Metric::Loss);
        (asked.kind, asked.source) = (AblationKind::Mean, Some(source));
        asked.run(&Context::new(&model)).unwrap().heads_after.unwrap().values
    };
    // Three times the same row, once beside a longer one that pads the others: five real tokens and thrice two.
    let padded = ask(Prompt::Rows(vec![vec![4, 5], vec![4, 5, 6, 7]]));
    let tokens = Tokens::from_rows(&[vec![4, 5], vec![4, 5, 6, 7]]).unwrap();
    let run = model.trace(&tokens).keep(Site::Z.at(0)).run().unwrap();
    let z = &run.cache[Site::Z.at(0)];
    let mean = (z.get(0).narrow(0, 0, 2).sum_dim_intlist(0, false, Kind::Double)
        + z.get(1).sum_dim_intlist(0, false, Kind::Double))
        / 6.0;
    let own = Tokens::from_ids(&[9, 3, 17, 40]).unwrap();
    let measure = Metric::Loss.prepare(&model, &own).unwrap();
    let edit = edit::head(1, edit::set(&mean.get(1).view([1, 1, 1, -1])));
    let run = model.trace(&own).edit(Site::Z.at(0), edit).run().unwrap();
    let expected = measure.of(run.logits().unwrap()).unwrap().double_value(&[0]);
    assert_small((padded[1] - expected).abs(), 1e-10, "mean");
}

#[test]
fn the_planted_circuit_is_missed() {
    let model = planted::induction();
    let ids = planted::repeated();
    let (last, read) = (ids.len() - 1, ids[..ids.len() - 1].to_vec());
    let metric = Metric::Logit(ids[last].into());
    let found = AttentionAblation::new(Prompt::Ids(read.clone()), metric.clone()).run(&Context::new(&model)).unwrap();
    let mut found: Vec<&str> = found.strongest.entries[..2].iter().map(|entry| entry.label.as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, ["L0H1", "L1H2"]);
    // The last token came first at 11, and what followed it is at 12.
    let asked = AttentionKnockout::new(Prompt::Ids(read), metric, vec![12]);
    let found = asked.run(&Context::new(&model)).unwrap();
    assert!(found.before - found.after > 5.0);
    assert_eq!(found.heads.strongest(1).entries[0].label, "layer 1, head 2");
    assert!(found.attention.get(1, 2).unwrap() > 0.98);
}

#[test]
fn knockout_agrees_with_transformer_lens() {
    let Some(fixture) = TransformerLens::open() else { return };
    let expected = &fixture.file("patching")["knockout.logits_last"];
    let mut asked = AttentionKnockout::new(fixture.prompt("clean_tokens"), difference(3, 8), vec![3]);
    (asked.layers, asked.heads) = (Some(vec![1]), Some(vec![0]));
    let found = asked.run(&Context::new(&fixture.model)).unwrap();
    assert_close(&numbers(&found.logits.values).unwrap(), expected, 1e-9, "knockout.logits_last");
    assert_small(found.row_gap.max(found.renormalised_gap), 1e-10, "rows");
    // One head cut alone is all heads cut, where only one was chosen.
    assert_small((found.after - found.before - found.heads.values[0]).abs(), 1e-10, "one head");
    assert_small((found.heads.values[0] - found.layers.lines[0].values[0]).abs(), 1e-10, "one layer");
}

#[test]
fn rows_are_renormalised_without_their_edges() {
    each_folder("knockout", |model, rows, name| {
        for (metric, queries) in [(difference(3, 8), None), (Metric::Loss, Some(vec![-2, -1]))] {
            let asked = AttentionKnockout::new(Prompt::Rows(rows.to_vec()), metric, vec![-2]);
            let asked = AttentionKnockout { queries, ..asked };
            let found = asked.run(&Context::new(model)).unwrap();
            assert_small(found.row_gap, 1e-10, name);
            assert_small(found.renormalised_gap, 1e-10, name);
            // A window as wide as the model is all of it.
            let wide = AttentionKnockout { window: 2 * model.dims().n_layers, ..asked };
            let found = wide.run(&Context::new(model)).unwrap();
            for change in &found.layers.lines[0].values {
                assert_small((change - (found.after - found.before)).abs(), 1e-9, name);
            }
        }
    });
}

#[test]
fn merging_a_head_with_itself_changes_nothing() {
    each_folder("merged heads", |model, rows, name| {
        let asked = AttentionMerge::new(Prompt::Rows(rows.to_vec()), [0, 0], [1, 1]);
        let found = AttentionMerge { blend: 0.3, ..asked.clone() }.run(&Context::new(model)).unwrap();
        assert_small(found.same_gap, 1e-9, name);
        let same = AttentionMerge { second: [0, 0], ..asked }.run(&Context::new(model)).unwrap();
        assert_small((same.after - same.before).abs(), 1e-9, name);
        assert!(same.similarity.entries.iter().all(|entry| (entry.value - 1.0).abs() < 1e-12), "{name}");
    });
}

#[test]
fn merged_heads_have_the_average_of_their_weights() {
    let model = golden("llama");
    let dims = model.dims();
    assert!(dims.n_kv_heads > 1 && dims.n_heads > dims.n_kv_heads, "the heads are grouped");
    let group = dims.n_heads / dims.n_kv_heads;
    let tokens = Tokens::from_ids(&[9, 3, 17, 40]).unwrap();
    let expected = |pairs: &[(Weight, i64, i64)]| {
        let edits = pairs.iter().map(|(weight, a, b)| {
            let whole = model.weight(weight.at(0)).unwrap().copy();
            let mean = (whole.get(*a) + whole.get(*b)) / 2.0;
            let _ = (whole.get(*a).copy_(&mean), whole.get(*b).copy_(&mean));
            (weight.at(0), whole)
        });
        let edited = model.with_weights(edits.collect()).unwrap();
        let run = edited.trace(&tokens).run().unwrap();
        arrakis_core::loss_by_row(run.logits().unwrap(), &tokens).unwrap().double_value(&[0])
    };
    let ask = |a: usize, b: usize| {
        let asked = AttentionMerge::new(Prompt::Ids(vec![9, 3, 17, 40]), [0, a], [0, b]);
        asked.run(&Context::new(&model)).unwrap()
    };
    // In one group keys and values are shared already; of two groups they are merged too, which reaches the others.
    let (within, across) = (ask(0, 1), ask(0, group));
    assert_small((within.after - expected(&[(Weight::Q, 0, 1), (Weight::O, 0, 1)])).abs(), 1e-12, "one group");
    let g = group as i64;
    let all = [(Weight::Q, 0, g), (Weight::O, 0, g), (Weight::K, 0, 1), (Weight::V, 0, 1)];
    assert_small((across.after - expected(&all)).abs(), 1e-12, "two groups");
    assert!(within.merged.contains("one already"), "{}", within.merged);
    assert!(across.merged.contains("L0H1"), "{}", across.merged);
}

#[test]
fn what_cannot_be_asked_is_said() {
    let model = golden("gpt2");
    let prompt = Prompt::Ids(vec![9, 3, 17, 40]);
    let why = super::message(AttentionTop::new(prompt.clone()).run(&Context::new(&model).with_memory_limit(100)));
    assert!(why.contains("choose fewer `layers`, `heads` or `positions`"), "{why}");
    let ablation = AttentionAblation::new(prompt.clone(), Metric::Loss);
    let with = |kind, source: Option<Vec<i64>>| AttentionAblation {
        kind,
        source: source.map(Prompt::Ids),
        ..ablation.clone()
    };
    assert!(refused(&with(AblationKind::Resample, None), &model).contains("wants a prompt"));
    assert!(refused(&with(AblationKind::Resample, Some(vec![1, 2])), &model).contains("[2] tokens"));
    assert!(refused(&with(AblationKind::Zero, Some(vec![1, 2])), &model).contains("zeros come from nowhere"));
    let knockout = AttentionKnockout::new(prompt.clone(), Metric::Logit(3.into()), vec![0, 1, 2, 3]);
    assert!(refused(&knockout, &model).contains("nothing left to attend to"));
    let unseen = AttentionKnockout { metric: Metric::Loss, ..knockout.clone() };
    assert!(refused(&unseen, &model).contains("nothing follows the last position"));
    let ahead = AttentionKnockout { queries: Some(vec![1]), keys: vec![2], ..knockout };
    assert!(refused(&ahead, &model).contains("position 1 does not see it"));
    let merge = AttentionMerge { blend: f64::NAN, ..AttentionMerge::new(prompt, [0, 0], [0, 1]) };
    assert!(refused(&merge, &model).contains("from 0 to 1"));
}
