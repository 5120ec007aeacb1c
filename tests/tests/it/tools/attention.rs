//! `attention.patterns` and `attention.heads`

use arrakis_core::{Context, Grid, ModelExt as _, Prompt, Site, TokenChoice, Tokens, Tool as _};
use arrakis_tools::{AttentionHeads, AttentionPatterns, HeadMethod, HeadScores};
use tch::Tensor;

use super::{TransformerLens, assert_close, assert_small, each_folder, golden, refused};

#[test]
fn patterns_are_what_the_model_attends_with() {
    each_folder("attention patterns", |model, rows, name| {
        let asked = AttentionPatterns::new(Prompt::Rows(rows.to_vec()));
        for (ids, found) in rows.iter().zip(asked.run(&Context::new(model)).unwrap().rows) {
            assert_small(found.row_gap, 1e-12, name);
            let tokens = Tokens::from_ids(ids).unwrap();
            let run = model.trace(&tokens).keep(Site::PATTERN).run().unwrap();
            let expected = run.cache.stack(Site::PATTERN).unwrap().squeeze_dim(1);
            assert_eq!(found.patterns.values, expected);
            // What a key receives, times those who see it, is all attention there is.
            let seen = (0..ids.len()).map(|key| (ids.len() - key) as f64);
            let given: f64 = found.received.values.iter().zip(seen.cycle()).map(|(mean, seen)| mean * seen).sum();
            let queries = found.received.rows.len() * ids.len();
            assert_small((given - queries as f64).abs(), 1e-9, name);
        }
    });
}

#[test]
fn chosen_layers_heads_and_query() {
    let model = golden("gpt2");
    let whole =
        AttentionPatterns::new(Prompt::Ids(vec![9, 3, 17, 40])).run(&Context::new(&model)).unwrap().rows.remove(0);
    let mut asked = AttentionPatterns::new(Prompt::Ids(vec![9, 3, 17, 40]));
    (asked.layers, asked.heads, asked.position) = (Some(vec![1]), Some(vec![3, 0]), Some(1));
    let found = asked.run(&Context::new(&model)).unwrap().rows.remove(0);
    assert_eq!(found.patterns.axes[1].labels, ["3", "0"]);
    let expected = whole.patterns.values.narrow(0, 1, 1).index_select(1, &Tensor::from_slice(&[3_i64, 0]));
    // Layer 0 is not watched here, so it may be computed otherwise and differ in the last bits.
    assert!(found.patterns.values.allclose(&expected, 0.0, 1e-12, false));
    // A query sees itself and what is before it, so no more can be listed.
    assert_eq!(found.attended.columns.len(), 2);
    assert_eq!(found.attended.rows.labels, ["L1H3", "L1H0"]);
    let sum = found.attended.get(0, 0).unwrap() + found.attended.get(0, 1).unwrap();
    assert_small((sum - 1.0).abs(), 1e-12, "attention of a query");
}

#[test]
fn heads_agree_with_transformer_lens() {
    let Some(fixture) = TransformerLens::open() else { return };
    let expected = fixture.file("factored");
    let asked = AttentionHeads { prompt: Some(fixture.prompt("repeated_tokens")), ..AttentionHeads::default() };
    let found = asked.run(&Context::new(&fixture.model)).unwrap();
    let pairs = [
        (&found.previous_token, "previous_token_score"),
        (&found.duplicate_token, "duplicate_token_score"),
        (&found.induction, "induction_score"),
        (&found.first_token, "first_token_score"),
        (&found.entropy, "mean_pattern_entropy"),
    ];
    for (grid, name) in pairs {
        assert_close(&grid.values, &expected[&format!("heads.{name}")], 1e-10, name);
    }
}

/// What TransformerLens 3.9's `head_detector` says of the golden GPT-2's patterns over [`SEEN`]: previous token,
/// duplicate token, induction, each `[layer, head]`.
const DETECTED: [(HeadMethod, bool, [[f64; 8]; 3]); 4] = [
    (
        HeadMethod::Mul,
        false,
        [
            [
                0.191_586_165_8,
                0.190_639_074_2,
                0.168_351_453,
                0.126_018_825_5,
                0.145_184_194_5,
                0.151_295_464_5,
                0.155_103_740_4,
                0.161_643_603_2,
            ],
            [
                0.030_548_491,
                0.049_515_461,
                0.156_035_777,
                0.021_746_546_7,
                0.074_112_080_6,
                0.076_753_294_5,
                0.071_939_678_6,
                0.067_165_795_6,
            ],
            [
                0.233_678_093_4,
                0.075_131_708_5,
                0.050_405_992_5,
                0.221_599_962_8,
                0.082_361_333_6,
                0.088_061_282_3,
                0.117_276_451_2,
                0.069_756_874_8,
            ],
        ],
    ),
    (
        HeadMethod::Mul,
        true,
        [
            [
                0.250_634_947_2,
                0.204_436_674_6,
                0.212_362_333_5,
                0.102_958_929_7,
                0.205_347_604,
                0.194_513_798_5,
                0.193_016_037_8,
                0.223_630_817,
            ],
            [
                0.027_908_280_6,
                0.069_835_973_6,
                0.217_218_810_8,
                0.031_198_754_4,
                0.102_774_610_2,
                0.111_605_641_7,
                0.098_863_414_5,
                0.106_823_205_7,
            ],
            [
                0.383_310_459,
                0.112_209_551_1,
                0.078_085_519_5,
                0.320_059_596_9,
                0.133_856_489_6,
                0.149_068_469_8,
                0.169_253_714_7,
                0.114_709_725_5,
            ],
        ],
    ),
    (
        HeadMethod::Abs,
        false,
        [
            [-0.545, -0.547, -0.592, -0.677, -0.638, -0.626, -0.618, -0.605],
            [-0.725, -0.687, -0.474, -0.742, -0.637, -0.632, -0.642, -0.651],
            [-0.318, -0.635, -0.685, -0.343, -0.621, -0.61, -0.551, -0.646],
        ],
    ),
    (
        HeadMethod::Abs,
        true,
        [
            [-0.161, -0.253, -0.228, -0.407, -0.22, -0.218, -0.283, -0.193],
            [-0.29, -0.29, -0.079, -0.363, -0.203, -0.173, -0.27, -0.192],
            [0.072, -0.305, -0.33, -0.035, -0.236, -0.2, -0.244, -0.254],
        ],
    ),
];

const SEEN: [i64; 14] = [9, 3, 17, 40, 8, 3, 22, 9, 3, 17, 40, 8, 3, 22];

#[test]
fn detector_agrees_with_transformer_lens() {
    let model = golden("gpt2");
    for (method, exclude, expected) in DETECTED {
        let asked = AttentionHeads {
            method,
            prompt: Some(Prompt::Ids(SEEN.to_vec())),
            exclude_bos: exclude,
            exclude_current_token: exclude,
            ..AttentionHeads::default()
        };
        let found = asked.run(&Context::new(&model)).unwrap();
        // Its `abs` is rounded to three digits.
        let bound = if method == HeadMethod::Abs { 5.1e-4 } else { 1e-9 };
        let grids = [&found.previous_token, &found.duplicate_token, &found.induction];
        for (grid, expected) in grids.into_iter().zip(expected) {
            assert_close(&grid.values, &Tensor::from_slice(&expected), bound, &format!("{method:?}, {}", grid.title));
        }
    }
}

#[test]
fn random_sequences_are_given_twice_and_drawn_anew_for_each_seed() {
    each_folder("heads on random tokens", |model, _, name| {
        let asked = AttentionHeads { length: 6, batch: 2, bos: Some(TokenChoice::Id(1)), ..AttentionHeads::default() };
        let run = |seed| asked.run(&Context::new(model).with_seed(seed)).unwrap();
        let (found, again, other) = (run(1), run(1), run(2));
        assert_eq!(found.tokens, again.tokens);
        assert_eq!(found.induction, again.induction);
        assert_ne!(found.tokens, other.tokens);
        assert_ne!(found.tokens[0], found.tokens[1]);
        for ids in &found.tokens {
            assert_eq!((ids.len(), ids[0]), (13, 1));
            assert_eq!(ids[1..7], ids[7..]);
        }
        assert_small(found.row_gap, 1e-12, name);
        assert_scores_are_shares(&found, name);
    });
}

fn assert_scores_are_shares(found: &HeadScores, name: &str) {
    let within = |grid: &Grid| grid.values.iter().all(|value| (0.0..=1.0).contains(value));
    for grid in [&found.previous_token, &found.duplicate_token, &found.induction, &found.first_token] {
        assert!(within(grid), "{name}: {}", grid.title);
    }
    for (ranking, grid) in found.best.iter().zip([&found.previous_token, &found.duplicate_token, &found.induction]) {
        let greatest = grid.values.iter().copied().fold(f64::MIN, f64::max);
        assert_eq!(ranking.entries[0].value, greatest);
    }
}

#[test]
fn the_loss_of_each_half_is_the_cross_entropy_there() {
    let model = golden("llama");
    let ids = [4, 9, 3, 17, 9, 3, 17];
    let asked = AttentionHeads { prompt: Some(Prompt::Ids(ids.to_vec())), ..AttentionHeads::default() };
    let loss = asked.run(&Context::new(&model)).unwrap().loss.unwrap();
    let tokens = Tokens::from_ids(&ids).unwrap();
    let logits = model.trace(&tokens).run().unwrap().logits.unwrap().get(0);
    let expected = |places: std::ops::Range<i64>| {
        let predicted = logits.narrow(0, places.start, places.end - places.start);
        let next = Tensor::from_slice(&ids[places.start as usize + 1..=places.end as usize]);
        predicted.cross_entropy_loss::<Tensor>(&next, None, tch::Reduction::Mean, -100, 0.0).double_value(&[])
    };
    assert_small((loss.first_half - expected(0..3)).abs(), 1e-12, "first half");
    assert_small((loss.second_half - expected(3..6)).abs(), 1e-12, "second half");
}

#[test]
fn a_prompt_that_is_not_given_twice_wants_the_detector() {
    let model = golden("gpt2");
    let prompt = Some(Prompt::Ids(vec![9, 3, 17, 40]));
    let asked = AttentionHeads { prompt: prompt.clone(), ..AttentionHeads::default() };
    assert!(refused(&asked, &model).contains("row 0 is not one sequence given twice"));
    let detector = AttentionHeads { method: HeadMethod::Mul, prompt, ..AttentionHeads::default() };
    let found = detector.run(&Context::new(&model)).unwrap();
    assert!(found.loss.is_none());
    assert!(found.duplicate_token.values.iter().all(|value| *value == 0.0));
    let excluding = AttentionHeads { exclude_bos: true, ..AttentionHeads::default() };
    assert!(refused(&excluding, &model).contains("choose the method `mul` or `abs`"));
}

#[test]
fn nan_is_shown() {
    let model = golden("gpt2");
    let asked = AttentionHeads {
        method: HeadMethod::Mul,
        prompt: Some(Prompt::Ids(vec![9, 3])),
        exclude_bos: true,
        exclude_current_token: true,
        ..AttentionHeads::default()
    };
    // Nothing is left of the pattern of two tokens.
    let found = asked.run(&Context::new(&model)).unwrap();
    assert!(found.induction.values.iter().all(|value| value.is_nan()));
}
