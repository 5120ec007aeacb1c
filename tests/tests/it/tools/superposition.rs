//! `superposition.*`

use arrakis_core::{
    Context, Corpus, Model as _, ModelExt as _, Prompt, Site, Tokens, Tool as _, answer, edit, loss_by_row,
};
use arrakis_tools::{
    ActivationCovariance, Feature, FeatureGeometry, Geometry, Interpolate, PrincipalConcepts, Reconstruct, Side,
    Through, TopTokens,
};
use tch::{Kind, Tensor};

use super::{assert_close, assert_small, each_folder, golden, refused};

fn corpus() -> Corpus {
    Corpus::Rows(vec![vec![9, 3, 17, 40, 5, 22, 8], vec![5, 8, 2], vec![7, 7, 31, 30, 12, 1], vec![4]])
}

#[test]
fn streamed_moments_are_those_of_the_whole() {
    each_folder("covariance of a corpus", |model, rows, name| {
        let documents = [rows[0].clone(), rows[1][..3].to_vec(), rows[1][3..].to_vec()];
        let mut asked = ActivationCovariance::new(Corpus::Rows(documents.to_vec()), "blocks.1.hook_resid_post");
        asked.window = Some(4);
        let windows: Vec<Vec<i64>> =
            documents.iter().flat_map(|ids| ids.chunks(4).map(<[i64]>::to_vec).collect::<Vec<_>>()).collect();
        let vectors: Vec<Tensor> = windows
            .iter()
            .map(|ids| {
                let tokens = Tokens::from_ids(ids).unwrap();
                model.trace(&tokens).keep(Site::RESID_POST.at(1)).run().unwrap().cache[Site::RESID_POST.at(1)].get(0)
            })
            .collect();
        let whole = Tensor::cat(&vectors, 0);
        let expected = whole.transpose(0, 1).cov(1, None::<&Tensor>, None::<&Tensor>);
        // With next to no memory every window is a batch of its own.
        let few = (4 * 8 * model.dims().d_model * model.dims().d_model) as u64;
        for cx in [Context::new(model), Context::new(model).with_memory_limit(few)] {
            let found = asked.run(&cx).unwrap();
            assert_eq!(found.tokens as i64, whole.size()[0]);
            let scale = expected.abs().max().double_value(&[]);
            let apart = (&found.covariance.values - &expected).abs().max().double_value(&[]);
            assert_small(apart / scale, 1e-12, name);
            assert_close(&found.mean.lines[0].values, &whole.mean_dim(0, false, Kind::Double), 1e-9, name);
            assert_small(found.trace_gap, 1e-9, name);
            assert_small(found.eigen_gap, 1e-9, name);
            let ratio =
                expected.trace().double_value(&[]).powi(2) / expected.square().sum(Kind::Double).double_value(&[]);
            assert_small((found.participation_ratio - ratio).abs() / ratio, 1e-9, name);
        }
    });
}

#[test]
fn scores_of_principal_directions_vary_as_their_eigenvalues() {
    each_folder("principal concepts", |model, rows, name| {
        for point in ["blocks.0.hook_resid_post", "blocks.1.mlp.hook_post", "blocks.1.attn.hook_z"] {
            let mut asked = PrincipalConcepts::new(Corpus::Rows(rows.to_vec()), point);
            asked.components = 3;
            asked.through = if point.contains("resid") { Through::Embed } else { Through::Unembed };
            let found = asked.run(&Context::new(model)).unwrap();
            assert_small(found.variance_gap, 1e-9, name);
            assert_small(found.orthonormal_gap, 1e-9, name);
            for row in found.contexts_high.values.chunks(5).chain(found.tokens_high.unwrap().values.chunks(5)) {
                assert!(row.windows(2).all(|pair| pair[0] >= pair[1]), "{name} {point}");
            }
        }
    });
}

#[test]
fn contexts_show_the_token_and_what_is_around_it() {
    let model = golden("gpt2");
    let mut asked = PrincipalConcepts::new(corpus(), "blocks.0.hook_resid_post");
    asked.around = 1;
    let found = asked.run(&Context::new(&model)).unwrap();
    let cells = found.contexts_high.cells.unwrap();
    assert!(cells.iter().all(|cell| cell.contains('«') && cell.matches('[').count() <= 3), "{cells:?}");
    // The direction's own score, from one run of the document.
    let cell = &cells[0];
    let token: i64 = cell.split("«[").nth(1).unwrap().split(']').next().unwrap().parse().unwrap();
    let Corpus::Rows(rows) = corpus() else { unreachable!() };
    assert!(rows.iter().flatten().any(|id| *id == token));
}

#[test]
fn first_tokens_are_left_out_where_asked() {
    let model = golden("llama");
    let rows = vec![vec![9, 3, 17, 40, 5], vec![5, 8, 2], vec![4], vec![7, 7]];
    let vectors: Vec<Tensor> = rows
        .iter()
        .filter(|ids| ids.len() > 1)
        .map(|ids| {
            let tokens = Tokens::from_ids(ids).unwrap();
            let run = model.trace(&tokens).keep(Site::RESID_POST.at(1)).run().unwrap();
            run.cache[Site::RESID_POST.at(1)].get(0).narrow(0, 1, ids.len() as i64 - 1)
        })
        .collect();
    let expected = Tensor::cat(&vectors, 0).transpose(0, 1).cov(1, None::<&Tensor>, None::<&Tensor>);
    let asked = ActivationCovariance::new(Corpus::Rows(rows.clone()), "blocks.1.hook_resid_post");
    let asked = ActivationCovariance { skip: 1, ..asked };
    let found = asked.run(&Context::new(&model)).unwrap();
    assert_eq!(found.tokens, 7);
    assert!(found.covariance.values.allclose(&expected, 0.0, 1e-12, false));
    assert!(refused(&ActivationCovariance { skip: 5, ..asked }, &model).contains("skip 5"));

    let corpus = || Corpus::Rows(rows.clone());
    let top = TopTokens::new(corpus(), Feature::Neuron { layer: 1, neuron: 3 });
    let found = TopTokens { skip: 1, ..top }.run(&Context::new(&model)).unwrap();
    assert_eq!(found.places.len(), 7);
    assert!(found.places.iter().all(|(_, place)| *place > 0));
    assert_small(found.replay_gap, 1e-12, "replay");
    // With every position left alone, no component is needed.
    let kept = Reconstruct::new(Corpus::Rows(vec![vec![9, 3, 17], vec![5, 8, 2]]), "blocks.0.hook_resid_post", [0]);
    let kept = Reconstruct { test: Some(Corpus::Rows(vec![vec![9, 3]])), skip: 2, ..kept };
    let found = kept.run(&Context::new(&model)).unwrap();
    assert_small((found.losses.lines[0].values[0] - found.loss).abs(), 1e-12, "nothing is replaced");
}

#[test]
fn all_components_change_nothing_and_none_leave_the_mean() {
    each_folder("reconstruction from principal components", |model, rows, name| {
        let rows = vec![rows[0].clone(), rows[1][..4].to_vec(), vec![3]];
        for point in ["blocks.1.hook_resid_post", "blocks.0.mlp.hook_post", "hook_embed"] {
            let asked = Reconstruct { skip: 1, ..Reconstruct::new(Corpus::Rows(rows.clone()), point, [0, 2]) };
            let found = asked.run(&Context::new(model)).unwrap();
            assert_small(found.whole_gap, 1e-9, name);
            assert_small(found.share.lines[0].values[0], 0.0, name);
            assert!(found.share.lines[0].values[1] <= 1.0 + 1e-12);
        }
    });
}

#[test]
fn losses_are_those_of_whole_passes() {
    let model = golden("llama");
    let rows = vec![vec![9, 3, 17, 40, 5, 22, 8], vec![5, 8, 2, 11, 30, 9, 9]];
    let asked = Reconstruct::new(Corpus::Rows(rows.clone()), "blocks.1.hook_resid_pre", [0]);
    let found = asked.run(&Context::new(&model)).unwrap();
    let tokens = Tokens::from_rows(&rows).unwrap();
    let point = Site::RESID_PRE.at(1);
    let plain = model.trace(&tokens).keep(point).run().unwrap();
    let mean = plain.cache[point].mean_dim(&[0_i64, 1][..], false, Kind::Double);
    let loss = |logits: &Tensor| loss_by_row(logits, &tokens).unwrap().mean(Kind::Double).double_value(&[]);
    assert_small((found.loss - loss(plain.logits().unwrap())).abs(), 1e-12, "own loss");
    let edited = model.trace(&tokens).edit(point, edit::set(&mean)).run().unwrap();
    assert_small((found.losses.lines[0].values[0] - loss(edited.logits().unwrap())).abs(), 1e-12, "the mean alone");
}

#[test]
fn interpolation_begins_and_ends_with_the_prompts() {
    each_folder("interpolation between prompts", |model, rows, name| {
        let (from, to) = (Prompt::Rows(rows.to_vec()), Prompt::Rows(vec![rows[1].clone(), rows[0].clone()]));
        let mut asked = Interpolate::new(from, to, "blocks.0.hook_resid_post");
        (asked.steps, asked.targets) = (4, vec![3.into()]);
        let whole = asked.run(&Context::new(model)).unwrap();
        let one_by_one = asked.run(&Context::new(model).with_memory_limit(1)).unwrap();
        assert_eq!(whole.rows.len(), 2);
        for (found, alone) in whole.rows.iter().zip(&one_by_one.rows) {
            assert_small(found.start_gap, 1e-9, name);
            assert_small(found.end_gap.unwrap(), 1e-9, name);
            let alone = Tensor::from_slice(&alone.tokens.values);
            assert_close(&found.tokens.values, &alone, 1e-9, name);
            let [first, second] = [&found.divergence.lines[0].values, &found.divergence.lines[1].values];
            assert_small(first[0].abs().max(second[3].abs()), 1e-9, name);
        }
        for point in ["hook_embed", "blocks.1.hook_resid_pre", "blocks.1.ln1.hook_normalized"] {
            let asked = Interpolate::new(Prompt::Ids(rows[0].clone()), Prompt::Ids(rows[1].clone()), point);
            let found = asked.run(&Context::new(model)).unwrap().rows.remove(0);
            assert_small(found.start_gap.max(found.end_gap.unwrap_or(0.0)), 1e-9, name);
        }
        // Prompts of unlike lengths meet at one position.
        let (from, to) = (Prompt::Ids(rows[0].clone()), Prompt::Ids(rows[1][..3].to_vec()));
        let mut asked = Interpolate::new(from, to, "blocks.0.mlp.hook_post");
        assert!(refused(&asked, model).contains("give a `position`"));
        asked.position = Some(-1);
        assert_small(asked.run(&Context::new(model)).unwrap().rows[0].start_gap, 1e-9, name);
    });
}

/// Vectors of length 1 at equal angles.
fn polygon(corners: usize) -> Tensor {
    let angle = |corner: usize| std::f64::consts::TAU * corner as f64 / corners as f64;
    let numbers: Vec<f64> = (0..corners).flat_map(|corner| [angle(corner).cos(), angle(corner).sin()]).collect();
    Tensor::from_slice(&numbers).view([corners as i64, 2])
}

#[test]
fn known_geometries_of_superposition_are_found() {
    let found = Geometry::of(&polygon(5), 5).unwrap();
    assert_close(&found.dimensionality, &Tensor::full([5], 0.4, (Kind::Double, tch::Device::Cpu)), 1e-12, "pentagon");
    assert_small((found.dimensions_per_feature - 0.4).abs(), 1e-12, "of five in a plane");
    let found = Geometry::of(&(polygon(3) * 7.0), 3).unwrap();
    let thirds = Tensor::full([3], 2.0 / 3.0, (Kind::Double, tch::Device::Cpu));
    assert_close(&found.dimensionality, &thirds, 1e-12, "triangle");

    // A pentagon in one plane, two antipodal pairs, one feature alone, and one without a vector.
    let mut numbers = vec![0.0; 11 * 5];
    let pentagon = answer::numbers(&polygon(5)).unwrap();
    for corner in 0..5 {
        numbers[corner * 5..corner * 5 + 2].copy_from_slice(&pentagon[corner * 2..corner * 2 + 2]);
    }
    for (row, column, value) in [(5, 2, 2.0), (6, 2, -2.0), (7, 3, 0.5), (8, 3, -0.5), (9, 4, 3.0)] {
        numbers[row * 5 + column] = value;
    }
    let matrix = Tensor::from_slice(&numbers).view([11, 5]);
    let found = Geometry::of(&matrix, 11).unwrap();
    let expected = [0.4, 0.4, 0.4, 0.4, 0.4, 0.5, 0.5, 0.5, 0.5, 1.0, 0.0];
    assert_close(&found.dimensionality, &Tensor::from_slice(&expected), 1e-12, "together");
    let interference = [1.5, 1.5, 1.5, 1.5, 1.5, 4.0, 4.0, 0.25, 0.25, 0.0, 0.0];
    assert_close(&found.interference, &Tensor::from_slice(&interference), 1e-12, "interference");
    assert_small(found.frame_gap.max(found.dimensionality_gap), 1e-12, "gaps");
    // The sum counts the dimensions, here where every frame is tight.
    assert_small((found.dimensionality.iter().sum::<f64>() - 5.0).abs(), 1e-12, "sum");
    assert_eq!(found.least_shared.entries[0].label, "9");
    assert_eq!(found.most_shared.entries.len(), 10);
}

#[test]
fn weights_have_a_geometry_in_every_family() {
    each_folder("geometry of weights", |model, _, name| {
        for (weight, head) in [("embed.W_E", None), ("blocks.0.mlp.W_out", None), ("blocks.0.attn.W_O", Some(1))] {
            let asked = FeatureGeometry { head, features: Some(Side::Rows), ..FeatureGeometry::new(weight) };
            let found = asked.run(&Context::new(model)).unwrap();
            assert_small(found.frame_gap.max(found.dimensionality_gap), 1e-9, name);
            let sum: f64 = found.dimensionality.iter().sum();
            // No more dimensions are shared out than there are.
            assert!(sum <= model.dims().d_model as f64 + 1e-9, "{name} {weight}: {sum}");
        }
    });
}

#[test]
fn what_cannot_be_asked_is_named() {
    let model = golden("gpt2");
    let cx = Context::new(&model);
    let asked = |point: &str| ActivationCovariance::new(corpus(), point);
    assert!(refused(&asked("blocks.*.hook_resid_post"), &model).contains("names 2 points where one is wanted"));
    assert!(refused(&asked("blocks.0.attn.hook_pattern"), &model).contains("no vector for each token"));
    assert!(refused(&asked("blocks.0.hook_resid_pst"), &model).contains("blocks.0.hook_resid_post"));
    let one = ActivationCovariance::new(Corpus::Rows(vec![vec![3]]), "hook_embed");
    assert!(refused(&one, &model).contains("two tokens at least"));
    let why = super::message(asked("hook_embed").run(&cx.with_memory_limit(100)));
    assert!(why.contains("choose a narrower point"), "{why}");
    let same =
        PrincipalConcepts { top: 1, ..PrincipalConcepts::new(Corpus::Rows(vec![vec![3], vec![3]]), "hook_embed") };
    assert!(refused(&same, &model).contains("do not vary"));
    let heads = FeatureGeometry::new("blocks.0.attn.W_Q");
    assert!(refused(&heads, &model).contains("choose a `head`"));
    let beyond = FeatureGeometry { head: Some(4), ..heads };
    assert!(refused(&beyond, &model).contains("head 4 is out of range: there are 4"));
    let nothing = Tensor::zeros([3, 2], (Kind::Double, tch::Device::Cpu));
    assert!(super::message(Geometry::of(&nothing, 1)).contains("it is zero"));
}
