//! Profiles: rows that are the whole, arithmetic counted by hand, and runs that are what they are without a profile.

use std::time::Duration;

use arrakis_bench::Profile;
use arrakis_bench::profile::Spent;
use arrakis_core::print::Room;
use arrakis_core::{
    Answer, Context, Error, Metric, Model, ModelExt, Part, PosSlice, Prompt, Site, Tokens, Tool, Weight, edit,
};
use arrakis_models::{Decoder, Generation, Sampling};
use arrakis_tools::{Mlps, PathPatching};
use tch::{Kind, Tensor};

use crate::families::loaded;
use crate::leviathan::{self, causal_configs};
use crate::{fixtures, laws};

fn golden(name: &str) -> Decoder {
    loaded(&fixtures::root().join("tests/golden").join(name), Kind::Float)
}

fn tokens() -> Tokens {
    Tokens::from_rows(&[vec![3, 1, 4], vec![1, 5, 9]]).unwrap()
}

fn of(profile: &Profile, component: &str) -> Spent {
    let found = profile.by_component().into_iter().find(|(name, _)| *name == component);
    found.unwrap_or_else(|| panic!("there is no row `{component}` in\n{profile}")).1
}

/// Rows and what lies outside are the whole, by component and by layer.
fn assert_whole(profile: &Profile) {
    let (whole, outside) = (profile.whole(), profile.outside());
    for (wall, flops, bytes) in [
        sum(profile.rows().iter().map(|row| row.spent)),
        sum(profile.by_component().into_iter().map(|(_, spent)| spent)),
        sum(profile.by_layer().into_iter().map(|(_, spent)| spent)),
    ] {
        assert_eq!((wall + outside.wall, flops, bytes), (whole.wall, whole.flops, whole.bytes));
    }
    assert!(whole.wall > Duration::ZERO && outside.wall < whole.wall);
}

fn sum(spent: impl Iterator<Item = Spent>) -> (Duration, u64, u64) {
    let sum = spent.fold(Spent::default(), Spent::with);
    (sum.wall, sum.flops, sum.bytes)
}

#[test]
fn arithmetic_and_bytes_are_those_counted_by_hand() {
    let (model, tokens) = (golden("gpt2"), tokens());
    let mut profile = Profile::new();
    profile.run(&model, |model| model.trace(&tokens).run()).unwrap();
    assert_whole(&profile);
    // 2 layers of 4 heads of 6, d_model 24, 96 neurons, 61 tokens; 2 rows of 3 positions; 2 operations each.
    let map = |inputs: u64, outputs: u64| 2 * 6 * inputs * outputs;
    assert_eq!((of(&profile, "q, k, v").flops, of(&profile, "out").flops), (2 * 3 * map(24, 24), 2 * map(24, 24)));
    assert_eq!(of(&profile, "attention").flops, 2 * 2 * (2 * 2 * 4 * 3 * 3 * 6));
    assert_eq!((of(&profile, "MLP in").flops, of(&profile, "MLP out").flops), (2 * map(24, 96), 2 * map(96, 24)));
    assert_eq!(of(&profile, "unembedding").flops, map(24, 61));
    assert_eq!(profile.whole().flops, 186_912);
    assert_eq!((profile.passes(), profile.failed(), profile.positions()), (1, 0, 6));
    // 4 bytes each: q, k, v, z, attn_out; neurons before and after; mlp_out; the stream in the middle and at the end.
    assert_eq!(of(&profile, "q, k, v").bytes, 2 * 3 * 4 * 6 * 24);
    assert_eq!(of(&profile, "activation").bytes, 2 * 4 * 6 * 96);
    assert_eq!(of(&profile, "norm").bytes, 5 * 4 * 6 * 24);
    // The stream that enters the first block is the sum of the embeddings; elsewhere it was counted where it was made.
    assert_eq!(of(&profile, "residual").bytes, 5 * 4 * 6 * 24);
    assert_eq!(of(&profile, "unembedding").bytes, 4 * 6 * 61);
    assert_eq!(of(&profile, "norm").visits, 5);

    let mut last = Profile::new();
    last.run(&model, |model| model.trace(&tokens).logits(PosSlice::Last).run()).unwrap();
    assert_eq!(of(&last, "unembedding").flops, map(24, 61) / 3);
}

#[test]
fn every_folder_runs_as_it_does_without_a_profile() {
    let tokens = Tokens::from_rows(&[vec![3, 1, 4, 1, 5], vec![2, 7, 1]]).unwrap();
    let mut folders = 0;
    for folder in fixtures::model_folders() {
        let model = loaded(&folder, Kind::Float);
        let plain = model.trace(&tokens).run().unwrap();
        let mut profile = Profile::new();
        let run = profile.run(&model, |model| model.trace(&tokens).run()).unwrap();
        let what = fixtures::name(&folder);
        assert_eq!(run.logits().unwrap(), plain.logits().unwrap(), "{what}");
        assert_whole(&profile);
        let dims = model.dims();
        let positions = 10_u64;
        let [d_model, heads, kv_heads, neurons] =
            [dims.d_model, dims.n_heads * dims.d_head, dims.n_kv_heads * dims.d_head, dims.d_mlp]
                .map(|size| size as u64);
        let ins = model.points().iter().filter(|point| matches!(point.site, Site::MLP_PRE | Site::MLP_PRE_LINEAR));
        let mlps = (ins.count() + dims.n_layers) as u64 * d_model * neurons;
        let maps = dims.n_layers as u64 * 2 * d_model * (heads + kv_heads);
        // Each row's positions meet all five of it, masked or not.
        let mixing = dims.n_layers as u64 * 2 * heads * 5;
        let expected = 2 * positions * (maps + mlps + mixing + d_model * dims.vocab as u64);
        assert_eq!(profile.whole().flops, expected, "{what}");
        for component in ["set-up", "embedding", "norm", "q, k, v", "attention", "out", "residual", "MLP in"] {
            of(&profile, component);
        }
        of(&profile, "activation");
        of(&profile, "unembedding");
        let layers: Vec<Option<usize>> = profile.by_layer().into_iter().map(|(layer, _)| layer).collect();
        let expected: Vec<Option<usize>> = [None].into_iter().chain((0..dims.n_layers).map(Some)).collect();
        assert_eq!(layers, expected, "{what}");

        let mut steps = Profile::new().step_by_step();
        let run = steps.run(&model, |model| model.trace(&tokens).run()).unwrap();
        assert!(fixtures::greatest(run.logits().unwrap(), plain.logits().unwrap()) < 1e-4, "{what}");
        let by_steps = ["scores", "pattern", "z"].map(|component| of(&steps, component).flops);
        assert_eq!(by_steps, [mixing * positions, 0, mixing * positions], "{what}");
        assert_eq!(steps.whole().flops, profile.whole().flops, "{what}");
        folders += 1;
    }
    assert!(folders >= 9);
}

#[test]
fn leviathan_of_every_kind_runs_as_it_does_without_a_profile() {
    for config in causal_configs() {
        let model = leviathan::model(&config, 3, Kind::Float);
        let tokens = laws::prompt(&model, "profiled", 2, laws::LEN);
        let plain = model.trace(&tokens).run().unwrap();
        let mut profile = Profile::new();
        let run = profile.run(&model, |model| model.trace(&tokens).run()).unwrap();
        assert_eq!(run.logits().unwrap(), plain.logits().unwrap(), "{config:?}");
        assert_whole(&profile);
        let visits = ["norm", "q, k, v", "attention", "MLP out"].map(|component| of(&profile, component).visits);
        assert_eq!(visits, [5, 2, 2, 2], "{config:?}");
    }
}

#[test]
fn passes_of_any_work_add_up() {
    let (model, tokens) = (golden("llama"), tokens());
    let mut once = Profile::new();
    once.run(&model, |model| model.trace(&tokens).run()).unwrap();
    let mut profile = Profile::new();
    let sum = profile
        .run(&model, |model| -> arrakis_core::Result<f64> {
            // A run with hooks of its own, and one of a model with other weights.
            let kept = model.trace(&tokens).keep(Site::Z).edit(Site::Z.at(1), edit::head(0, edit::zero())).run()?;
            let zero = model.weight(Weight::O.at(0))?.f_zeros_like()?;
            let pruned = model.with_weights(vec![(Weight::O.at(0), zero)])?;
            let run = pruned.trace(&tokens).run()?;
            Ok((kept.logits()? + run.logits()?).sum(Kind::Double).double_value(&[]))
        })
        .unwrap();
    assert!(sum.is_finite());
    profile.run(&model, |model| model.trace(&tokens).run()).unwrap();
    assert_whole(&profile);
    assert_eq!((profile.passes(), profile.positions()), (3, 18));
    assert_eq!((profile.whole().flops, once.whole().flops), (3 * once.whole().flops, once.whole().flops));
    assert_eq!(of(&profile, "hooks").visits, 2);

    // A run that keeps patterns goes step by step in that block, and so do its rows.
    let mut profile = Profile::new();
    let kept = profile.run(&model, |model| model.trace(&tokens).keep(Site::PATTERN.at(1)).run()).unwrap();
    let plain = model.trace(&tokens).keep(Site::PATTERN.at(1)).run().unwrap();
    assert_eq!(kept.logits().unwrap(), plain.logits().unwrap());
    let mixing = of(&once, "attention").flops / 4;
    let by_rows = ["attention", "scores", "pattern", "z"].map(|component| of(&profile, component).flops);
    assert_eq!(by_rows, [2 * mixing, mixing, 0, mixing]);

    let mut profile = Profile::new();
    let sampling = Sampling { max_tokens: 3, ..Sampling::default() };
    let rows =
        profile.run(&model, |model| Generation::new(model, &tokens).sampling(sampling.clone()).run(|_, _| Ok(())));
    let plain = Generation::new(&model, &tokens).sampling(sampling.clone()).run(|_, _| Ok(())).unwrap();
    assert_eq!(rows.unwrap().rows, plain.rows);
    // The prompt, and two tokens that meet what was seen before them: 3 + 4 + 5 keys in all.
    assert_eq!((profile.passes(), profile.positions()), (3, 2 * 5));
    assert_eq!(of(&profile, "attention").flops, 2 * 2 * 2 * 2 * 24 * (3 * 3 + 4 + 5));
    let unembedded = profile.run(&model, |model| model.unembed(&Tensor::zeros([1, 24], (Kind::Float, model.device()))));
    assert_eq!(unembedded.unwrap().size(), [1, 61]);
    assert_whole(&profile);
}

#[test]
fn what_a_run_leaves_out_is_left_out_under_a_profile_too() {
    let model = golden("gpt2");
    let [clean, corrupted] = [vec![3, 1, 4, 1], vec![3, 9, 4, 2]].map(Prompt::Ids);
    let metric = Metric::LogitDifference { answer: 5.into(), wrong: 6.into() };
    let asked = PathPatching { mlps: Mlps::Frozen, ..PathPatching::new(clean, corrupted, metric) };
    let plain = Answer::from(asked.run(&Context::new(&model)).unwrap()).split().unwrap().0;
    let mut profile = Profile::new();
    let found = profile.run(&model, |model| asked.run(&Context::new(model))).unwrap();
    assert_eq!(Answer::from(found).split().unwrap().0, plain);
    assert_whole(&profile);
    // Of eight blocks two have frozen attention and a frozen MLP, which are not computed.
    assert_eq!((of(&profile, "q, k, v").visits, of(&profile, "MLP in").visits), (6, 6));
}

#[test]
fn a_run_that_fails_half_way_keeps_what_it_took() {
    let (model, tokens) = (golden("gpt2"), tokens());
    let mut profile = Profile::new();
    let failed = profile.run(&model, |model| {
        model.trace(&tokens).run()?;
        model.trace(&tokens).edit(Site::MLP_POST.at(1), edit::with(|_| Err(Error::Cancelled))).run()
    });
    assert_eq!(failed.unwrap_err().to_string(), "cancelled");
    assert_eq!((profile.passes(), profile.failed()), (2, 1));
    assert_whole(&profile);
    assert_eq!((of(&profile, "activation").visits, of(&profile, "MLP out").visits), (4, 3));
    assert_eq!(of(&profile, "unfinished").visits, 1);
    assert!(profile.summary().starts_with("2 passes over 12 positions, 1 of them failed: "), "{}", profile.summary());
}

#[test]
fn a_profile_is_a_table_and_an_answer() {
    let (model, tokens) = (golden("llama"), tokens());
    let mut profile = Profile::new();
    profile.run(&model, |model| model.trace(&tokens).run()).unwrap();
    let table = profile.to_string();
    for head in ["component ", "layer ", "\nrotation ", "\nbefore and after ", "\noutside ", "\nwhole ", "GFLOP/s"] {
        assert!(table.contains(head), "{head} in\n{table}");
    }
    let answer = Answer::from(&profile);
    let Some(Part::Ranking(time)) = answer.get("wall_by_component") else { panic!("there is no time") };
    let sum: f64 = time.entries.iter().map(|entry| entry.value).sum();
    let Some(Part::Number(wall)) = answer.get("wall_ms") else { panic!("there is no whole") };
    assert!((sum - wall).abs() < 1e-6 * wall, "{sum} and {wall}");
    let Some(Part::Grid(places)) = answer.get("wall_by_place") else { panic!("there are no layers") };
    assert_eq!(places.rows.labels, ["0", "1"]);
    assert!(answer.text(Room::default()).contains("Time by component (ms)"));
    let folder = tempfile::tempdir().unwrap();
    let drawn = arrakis_graph::draw_answer(&answer, folder.path(), &arrakis_graph::Style::default()).unwrap();
    assert_eq!(drawn.len(), 5);
    // A profile of nothing is one too.
    assert!(Answer::from(Profile::new()).get("wall_by_place").is_none());
}
