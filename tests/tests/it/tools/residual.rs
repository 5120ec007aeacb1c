//! `residual.sources`, `residual.movement`, `residual.gradient`

use arrakis_core::{Context, Metric, Model as _, ModelExt as _, Prompt, RowTokens, Site, Tokens, Tool as _, Weight};
use arrakis_tools::{ResidualGradient, ResidualMovement, ResidualSources};
use tch::{Kind, Tensor};

use super::{TransformerLens, assert_close, assert_small, each_folder, golden, loaded, refused};
use crate::fixtures;

fn difference(answer: impl Into<RowTokens>, wrong: impl Into<RowTokens>) -> Metric {
    Metric::LogitDifference { answer: answer.into(), wrong: wrong.into() }
}

#[test]
fn gradients_are_those_of_transformer_lens() {
    let Some(fixture) = TransformerLens::open() else { return };
    let expected = fixture.file("patching");
    let metric = difference(fixture.tokens("answer_tokens"), fixture.tokens("wrong_tokens"));
    let (clean, corrupted) = (fixture.prompt("clean_tokens"), fixture.prompt("corrupted_tokens"));
    let number = |name: &str| expected[name].double_value(&[]);
    // TransformerLens' metric is a mean over the two rows, and normalised.
    let factor = 1.0 / (2.0 * (number("clean_logit_diff") - number("corrupted_logit_diff")));
    let cx = Context::new(&fixture.model);
    let found = ResidualGradient::new(corrupted.clone(), metric.clone()).run(&cx).unwrap();
    let stream =
        fixture.model.trace(&corrupted.tokens(&fixture.model).unwrap()).keep("*hook_resid_*").run().unwrap().cache;
    for (row, found) in found.rows.iter().enumerate() {
        for place in 0..4 {
            let point = if place < 3 { Site::RESID_PRE.at(place) } else { Site::RESID_POST.at(2) };
            let gradient = &expected[&format!("grad.{point}")];
            let products = (gradient * &stream[point]).sum_dim_intlist(-1, false, Kind::Double).get(row as i64);
            let here = &found.gradient_x_activation.values[place * 10..][..10];
            let here: Vec<f64> = here.iter().map(|value| value * factor).collect();
            assert_close(&here, &products, 1e-9, &format!("grad.{point}"));
            let norms = gradient.square().sum_dim_intlist(-1, false, Kind::Double).sqrt().get(row as i64);
            let here: Vec<f64> =
                found.gradient_norm.values[place * 10..][..10].iter().map(|value| value * factor.abs()).collect();
            assert_close(&here, &norms, 1e-9, &format!("length of grad.{point}"));
        }
    }
    // The path leads from the corrupted stream to the clean one.
    let mut asked = ResidualGradient::new(clean, metric);
    asked.baseline = Some(corrupted);
    let expected = &expected["integrated_gradients.resid_pre0.16_midpoint"];
    let one_by_one = Context::new(&fixture.model).with_memory_limit(1);
    for cx in [cx, one_by_one] {
        for (row, found) in asked.run(&cx).unwrap().rows.iter().enumerate() {
            let here: Vec<f64> = found.integrated.lines[0].values.iter().map(|value| value * factor).collect();
            assert_close(&here, &expected.get(row as i64), 1e-9, "integrated gradients");
        }
    }
    fixtures::say("5 answers of TransformerLens' gradients compared");
}

#[test]
fn identities_hold_everywhere() {
    each_folder("residual stream", |model, rows, name| {
        let prompt = Prompt::Rows(vec![rows[0].clone(), rows[1][..7].to_vec()]);
        let cx = Context::new(model);
        for found in ResidualSources::new(prompt.clone()).run(&cx).unwrap().rows {
            assert_small(found.sum_gap, 1e-9, name);
            for layer in 0..model.dims().n_layers {
                let sum: f64 = found.shares.lines.iter().map(|line| line.values[layer]).sum();
                assert_small((sum - 1.0).abs(), 1e-9, name);
            }
        }
        for found in ResidualMovement::new(prompt.clone()).run(&cx).unwrap().rows {
            assert_small(found.path_gap, 1e-9, name);
            assert!(found.straightness <= 1.0 + 1e-12, "{name}");
        }
        let found = ResidualGradient { steps: 2, ..ResidualGradient::new(prompt, Metric::Logit(3.into())) };
        for found in found.run(&cx).unwrap().rows {
            assert_small(found.gradient_gap, 1e-9, name);
        }
    });
}

#[test]
fn completeness_shrinks_fourfold_as_steps_double() {
    let model = golden("gpt2");
    let cx = Context::new(&model);
    let mut asked = ResidualGradient::new(Prompt::Ids(vec![9, 3, 17, 40]), difference(3, 8));
    asked.baseline = Some(Prompt::Ids(vec![9, 7, 17, 41]));
    let mut complete = |steps: usize| {
        asked.steps = steps;
        asked.run(&cx).unwrap().rows[0].completeness
    };
    let found = [32, 64, 128].map(&mut complete);
    for pair in found.windows(2) {
        let ratio = pair[0] / pair[1];
        assert!((3.5..4.5).contains(&ratio), "{found:?}");
    }
}

#[test]
fn a_block_that_writes_nothing_does_not_move_the_stream() {
    let model = golden("gpt2");
    let zeros = |weight: Weight| {
        let value = model.weight(weight.at(1)).unwrap();
        (weight.at(1), value.zeros_like())
    };
    let still =
        model.with_weights([Weight::O, Weight::O_B, Weight::OUT, Weight::OUT_B].map(zeros).into_iter().collect());
    let still = still.unwrap();
    let cx = Context::new(still.as_ref());
    let prompt = Prompt::Ids(vec![9, 3, 17, 40]);
    let found = ResidualMovement::new(prompt.clone()).run(&cx).unwrap().rows.remove(0);
    assert_eq!(found.lengths.lines[0].values[1], 0.0);
    assert_small(found.influence.lines[0].values[1].abs(), 1e-12, "influence");
    assert_small((found.straightness - 1.0).abs(), 1e-12, "one update is a straight way");
    assert!(found.lengths.lines[0].values[0] > 0.0);
    let found = ResidualSources::new(prompt).run(&cx).unwrap().rows.remove(0);
    assert_small((found.shares.lines[0].values[1] - 1.0).abs(), 1e-12, "all of it was there before");
    assert_eq!(found.attention_share.get(1, 2), Some(0.0));
}

#[test]
fn movement_is_that_of_the_kept_stream() {
    let model = golden("gpt-neox");
    let ids = [9, 3, 17, 40];
    let kept = model.trace(&Tokens::from_ids(&ids).unwrap()).keep("*hook_resid_*").run().unwrap().cache;
    let (pre, post) = (&kept[Site::RESID_PRE.at(1)], &kept[Site::RESID_POST.at(1)]);
    let found = ResidualMovement { prompt: Prompt::Ids(ids.to_vec()), position: Some(-2) };
    let found = found.run(&Context::new(&model)).unwrap().rows.remove(0);
    let update = (post - pre).square().sum_dim_intlist(-1, false, Kind::Double).sqrt();
    assert_close(&found.update.values[4..8], &update.get(0), 1e-12, "update");
    let cosine = Tensor::cosine_similarity(pre, post, -1, 1e-12).get(0).get(2).double_value(&[]);
    assert_small((found.cosines.lines[1].values[1] - cosine).abs(), 1e-12, "cosine");
    assert_small((found.angle.get(1, 2).unwrap().to_radians().cos() - cosine).abs(), 1e-12, "angle");
}

#[test]
fn a_batch_is_its_rows() {
    let model = golden("llama");
    let cx = Context::new(&model);
    let rows = [vec![9, 3, 17, 40], vec![5, 8]];
    let ask = |rows: &[Vec<i64>], answer: RowTokens| {
        ResidualGradient::new(Prompt::Rows(rows.to_vec()), difference(answer, 8)).run(&cx).unwrap()
    };
    let together = ask(&rows, RowTokens::Each(vec![3.into(), 4.into()]));
    for (row, answer) in [3, 4].into_iter().enumerate() {
        let (alone, with) = (&ask(&rows[row..=row], answer.into()).rows[0], &together.rows[row]);
        let expected = Tensor::from_slice(&alone.gradient_x_activation.values);
        assert_close(&with.gradient_x_activation.values, &expected, 1e-10, "gradient times activation");
        let expected = Tensor::from_slice(&alone.integrated.lines[0].values);
        assert_close(&with.integrated.lines[0].values, &expected, 1e-10, "integrated gradients");
    }
    let together = ResidualSources::new(Prompt::Rows(rows.to_vec())).run(&cx).unwrap();
    let alone = ResidualSources::new(Prompt::Rows(rows[1..].to_vec())).run(&cx).unwrap();
    assert_eq!(together.rows[1].shares, alone.rows[0].shares);
}

#[test]
fn bad_input_is_named() {
    let model = golden("gpt2");
    let prompt = Prompt::Ids(vec![9, 3, 17, 40]);
    let sources = ResidualSources { position: Some(4), ..ResidualSources::new(prompt.clone()) };
    assert!(refused(&sources, &model).contains("position 4"));
    let movement = ResidualMovement { position: Some(-5), ..ResidualMovement::new(prompt.clone()) };
    assert!(refused(&movement, &model).contains("position -5"));
    let gradient = ResidualGradient::new(prompt.clone(), difference(3, 8));
    assert!(refused(&ResidualGradient { steps: 0, ..gradient.clone() }, &model).contains("steps 0"));
    let rank = ResidualGradient::new(prompt.clone(), Metric::Rank(3.into()));
    assert!(refused(&rank, &model).contains("a rank has no gradient"));
    let token = ResidualGradient::new(prompt, Metric::Logit(61.into()));
    assert!(refused(&token, &model).contains("token id 61"));
    let short = ResidualGradient { baseline: Some(Prompt::Ids(vec![9, 3])), ..gradient };
    assert!(refused(&short, &model).contains("its rows have [2] tokens and those of the prompt [4]"));
}

#[test]
fn half_precision_is_answered_in_finite_numbers() {
    let folder = fixtures::root().join("tests/golden/gpt2");
    for kind in [Kind::Float, Kind::BFloat16] {
        let model = loaded(&folder, kind);
        for name in [
            "logit_attribution.circulation",
            "logit_attribution.neurons",
            "logit_lens.effects",
            "logit_lens.layers",
            "residual.gradient",
            "residual.movement",
            "residual.sources",
            "residual_decomposition.full",
            "residual_decomposition.mlp_basis",
            "residual_decomposition.top",
        ] {
            let found = arrakis_core::tool(name).unwrap().ask(super::input::least(name), &Context::new(&model));
            let found = found.unwrap_or_else(|error| panic!("{name} in {kind:?}: {error}"));
            let (json, _) = found.split().unwrap();
            assert!(!json.to_string().contains("NaN"), "{name} in {kind:?}");
            for (part, value) in json.as_object().unwrap().iter().filter(|(part, _)| part.ends_with("gap")) {
                let bound = if kind == Kind::Float { 1e-4 } else { 0.2 };
                assert_small(value["number"].as_f64().unwrap(), bound, &format!("{name} {part} in {kind:?}"));
            }
        }
    }
}

#[test]
fn what_is_no_number_is_shown_as_none() {
    let model = golden("gpt2");
    let weight = Weight::OUT.at(0);
    let broken = model.weight(weight).unwrap().copy();
    let _ = broken.get(0).get(0).fill_(f64::NAN);
    let model = model.with_weights(vec![(weight, broken)]).unwrap();
    let cx = Context::new(&*model);
    let prompt = || Prompt::Ids(vec![9, 3, 17, 40]);
    let movement = ResidualMovement::new(prompt()).run(&cx).unwrap().rows.remove(0);
    assert!(movement.angle.values.iter().all(|angle| angle.is_nan()), "{:?}", movement.angle.values);
    assert!(movement.cosines.lines.iter().flat_map(|line| &line.values).all(|cosine| cosine.is_nan()));
    let sources = ResidualSources::new(prompt()).run(&cx).unwrap().rows.remove(0);
    assert!(sources.cosines.lines.iter().flat_map(|line| &line.values).all(|cosine| cosine.is_nan()));
    let rank = Metric::Rank(3.into());
    let tokens = prompt().tokens(&*model).unwrap();
    let measure = rank.prepare(&*model, &tokens).unwrap();
    let logits = model.trace(&tokens).run().unwrap().logits.unwrap();
    assert!(measure.of(&logits).unwrap().double_value(&[0]).is_nan());
}
