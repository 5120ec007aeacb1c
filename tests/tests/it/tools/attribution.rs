//! `logit_attribution.direct`

use arrakis_core::{Context, Model, Prompt, RowTokens, Tool as _, Weight};
use arrakis_tools::{Attribution, DirectAttribution};
use tch::{Kind, Tensor};

use super::{TransformerLens, assert_close, assert_small, each_folder, golden};

fn of_clean_run(fixture: &TransformerLens, model: &dyn Model) -> Attribution {
    let (answer, wrong) = (fixture.tokens("answer_tokens"), fixture.tokens("wrong_tokens"));
    DirectAttribution::new(fixture.prompt("clean_tokens"), answer, wrong).run(&Context::new(model)).unwrap()
}

fn parts(found: &Attribution, count: i64) -> Vec<f64> {
    arrakis_core::answer::numbers(&found.parts_by_row.values.narrow(0, 0, count)).unwrap()
}

#[test]
fn agrees_with_transformer_lens() {
    let Some(fixture) = TransformerLens::open() else { return };
    let found = of_clean_run(&fixture, &fixture.model);
    // In the processed model the final norm's weight is part of the unembedding, so that `logit_attrs` holds it.
    let expected = fixture.file("attribution.processed");
    assert_close(&parts(&found, 8), &expected["logit_attrs.decompose_resid"], 1e-9, "components");
    let names: Vec<&str> = found.parts.entries.iter().map(|entry| entry.label.as_str()).collect();
    assert_eq!(names[..4], ["embed", "pos_embed", "0_attn_out", "0_mlp_out"]);

    // `logit_attrs` of the raw model leaves the weight out; so it is that of a model whose weight is 1.
    let ones = Tensor::ones([fixture.model.dims().d_model as i64], (Kind::Double, tch::Device::Cpu));
    let plain = fixture.model.with_weights(vec![(Weight::LN_FINAL_W.global(), ones)]).unwrap();
    let found = of_clean_run(&fixture, plain.as_ref());
    let expected = fixture.file("attribution.raw");
    assert_close(&parts(&found, 8), &expected["logit_attrs.decompose_resid"], 1e-9, "raw components");
    let heads = arrakis_core::answer::numbers(&found.heads_by_row.values).unwrap();
    assert_close(&heads, &expected["logit_attrs.stack_head_results"].narrow(0, 0, 12), 1e-9, "raw heads");
    let mean = expected["logit_attrs.accumulated_resid"].mean_dim(1, false, Kind::Double);
    assert_close(&found.accumulated.lines[0].values, &mean, 1e-9, "accumulated");
    let places = ["0_pre", "0_mid", "1_pre", "1_mid", "2_pre", "2_mid", "final_post"];
    assert_eq!(found.accumulated.axis.labels, places);

    let mut single = DirectAttribution::new(fixture.prompt("clean_tokens"), fixture.tokens("answer_tokens"), 0);
    single.wrong = None;
    let found = single.run(&Context::new(plain.as_ref())).unwrap();
    assert_close(&parts(&found, 8), &expected["logit_attrs.answer_only.decompose_resid"], 1e-9, "answer only");
}

#[test]
fn parts_sum_to_the_logit_difference() {
    each_folder("direct attribution", |model, rows, name| {
        // The second row is shorter, so the batch is padded.
        let prompt = Prompt::Rows(vec![rows[0].clone(), rows[1][..7].to_vec()]);
        let answer = RowTokens::Each(vec![3.into(), 8.into()]);
        for (position, wrong) in [(None, Some(5.into())), (Some(2), None), (Some(-7), Some(9.into()))] {
            let mut asked = DirectAttribution::new(prompt.clone(), answer.clone(), 0);
            (asked.position, asked.wrong) = (position, wrong);
            let found = asked.run(&Context::new(model)).unwrap();
            assert_small(found.sum_gap, 1e-9, name);
            assert_small(found.head_gap, 1e-9, name);
            assert_small((found.sum_of_parts - found.logit_difference).abs(), 1e-9, name);
        }
    });
}

#[test]
fn a_batch_is_the_mean_of_its_rows() {
    let model = golden("llama");
    let cx = Context::new(&model);
    let rows = [vec![9, 3, 17, 40], vec![5, 8]];
    let ask = |rows: &[Vec<i64>]| DirectAttribution::new(Prompt::Rows(rows.to_vec()), 3, 8).run(&cx).unwrap();
    let (together, first, second) = (ask(&rows), ask(&rows[..1]), ask(&rows[1..]));
    for (both, (first, second)) in together.heads.values.iter().zip(first.heads.values.iter().zip(second.heads.values))
    {
        assert_small((both - (first + second) / 2.0).abs(), 1e-12, "mean over rows");
    }
}

#[test]
fn the_greatest_components_are_listed_by_size() {
    let model = golden("gpt2");
    let mut asked = DirectAttribution::new(Prompt::Ids(vec![9, 3, 17, 40]), 3, 8);
    asked.top = 1000;
    let found = asked.run(&Context::new(&model)).unwrap();
    assert!(found.top.entries.is_sorted_by(|a, b| a.value.abs() >= b.value.abs()));
    let sum: f64 = found.top.entries.iter().map(|entry| entry.value).sum();
    assert_small((sum - found.logit_difference).abs(), 1e-10, "heads, MLPs, embeddings and biases are everything");
}
