//! The mathematics of mixers: against the fixtures, against loops, and against finite differences.

use arrakis_core::{Result, Stream};
use arrakis_leviathan::mixer::correlation::{attend, scores};
use arrakis_leviathan::mixer::{LagWeights, involution, original};
use tch::{Kind, Tensor};

use crate::fixtures::{self, greatest};
use crate::laws::assert_close;

/// Queries, keys and values of `[batch, head, pos, d_head]`.
fn signals(seed: u64, size: &[i64]) -> [Tensor; 3] {
    ["q", "k", "v"].map(|name| Stream::new(seed, name).normals(size).unwrap())
}

/// Queries beside keys, as mixers take them: `[batch, pos, 2 * head, d_head]`.
fn beside(q: &Tensor, k: &Tensor) -> Tensor {
    Tensor::cat(&[q, k], 1).transpose(1, 2)
}

/// Queries and keys that were made to lag: twice `[batch, head, pos, width]`.
fn lagged(weights: &LagWeights, q: &Tensor, k: &Tensor) -> (Tensor, Tensor) {
    let both = weights.lagged(&beside(q, k)).unwrap().transpose(1, 2);
    let heads = q.size()[1];
    (both.narrow(1, 0, heads), both.narrow(1, heads, heads))
}

/// The correlation by its definition, term by term: `[batch, head, query, key]`.
fn by_loops(matrix: &Tensor, q: &Tensor, k: &Tensor) -> Tensor {
    let [batch, heads, len, d_head] = q.size()[..] else { panic!("four dimensions") };
    let window = matrix.size()[3];
    let number = |x: &Tensor, place: &[i64]| x.double_value(place);
    let mut values = Vec::new();
    for row in 0..batch {
        for head in 0..heads {
            for (query, key) in (0..len).flat_map(|query| (0..len).map(move |key| (query, key))) {
                let mut sum = 0.0;
                for (l, m) in (0..window).flat_map(|l| (0..window).map(move |m| (l, m))) {
                    if query - l < 0 || key - m < 0 {
                        continue;
                    }
                    let dot: f64 = (0..d_head)
                        .map(|d| number(q, &[row, head, query - l, d]) * number(k, &[row, head, key - m, d]))
                        .sum();
                    sum += number(matrix, &[0, head, l, m]) * dot;
                }
                values.push(sum / (d_head as f64).sqrt());
            }
        }
    }
    Tensor::from_slice(&values).view([batch, heads, len, len])
}

fn forms(heads: i64) -> Vec<(&'static str, LagWeights)> {
    let numbers = |name: &str, size: &[i64]| Stream::new(5, name).normals(size).unwrap();
    let terms = |rank: i64| LagWeights::Terms {
        query: numbers("alpha", &[1, heads, rank, 3]),
        key: numbers("beta", &[1, heads, rank, 3]),
    };
    vec![
        ("diagonal", LagWeights::Diagonal(numbers("a", &[1, heads, 3]))),
        ("separable", terms(1)),
        ("low rank", terms(2)),
    ]
}

#[test]
fn every_form_of_the_lag_matrix_is_its_definition() {
    let [q, k, _] = signals(1, &[2, 2, 6, 4]);
    for (name, weights) in forms(2) {
        let matrix = weights.matrix().unwrap();
        let defined = by_loops(&matrix, &q, &k);
        let (lagged_q, lagged_k) = lagged(&weights, &q, &k);
        assert_close(&(lagged_q.matmul(&lagged_k.transpose(2, 3)) / 2.0), &defined, 1e-12, name);
        let by_row = matrix.repeat([2, 1, 1, 1]);
        let watched = scores(&by_row, &q.transpose(1, 2), &k.transpose(1, 2), 0).unwrap();
        assert_close(&(watched / 2.0), &defined, 1e-12, format!("{name}, watched"));
    }
}

#[test]
fn a_window_longer_than_the_text_is_silent_before_it() {
    let [q, k, _] = signals(2, &[1, 2, 2, 4]);
    for (name, weights) in forms(2) {
        let (lagged_q, lagged_k) = lagged(&weights, &q, &k);
        let product = lagged_q.matmul(&lagged_k.transpose(2, 3)) / 2.0;
        assert_close(&product, &by_loops(&weights.matrix().unwrap(), &q, &k), 1e-12, name);
    }
}

#[test]
fn the_fixtures_are_met() {
    let Some(shared) = fixtures::shared() else {
        return fixtures::say("leviathan: no fixtures; set ARRAKIS_SHARED");
    };
    let file = shared.join("fixtures/leviathan/correlation.safetensors");
    let stored = arrakis_bench::read_tensors(&file).unwrap();
    let named = |name: &str| stored.iter().find(|(known, _)| known == name).expect(name).1.shallow_clone();
    let (q, k, v) = (named("q"), named("k"), named("v"));

    let weights = LagWeights::Diagonal(named("lag_weights").unsqueeze(0));
    let (lagged_q, lagged_k) = lagged(&weights, &q, &k);
    let causal = Tensor::ones([8, 8], (Kind::Bool, tch::Device::Cpu)).tril(0);
    let scores = lagged_q.matmul(&lagged_k.transpose(2, 3)) / 2.0;
    let seen = scores.masked_fill(&causal.logical_not(), 0.0);
    assert_close(&seen, &named("causal.scores"), 1e-10, "causal.scores");
    let pattern = scores.masked_fill(&causal.logical_not(), f64::NEG_INFINITY).softmax(-1, Kind::Double);
    assert_close(&pattern, &named("causal.pattern"), 1e-10, "causal.pattern");
    let output = attend(&lagged_q, &lagged_k, &v, (None, true), 0.5).unwrap();
    assert_close(&output, &named("causal.output"), 1e-10, "causal.output");

    assert_close(&original::correlation(&q, &k).unwrap(), &named("original.correlation"), 1e-10, "correlation");
    let scores = original::scores(&q, &k).unwrap();
    assert_close(&scores, &named("original.scores"), 1e-10, "original.scores");
    assert_close(&scores.softmax(-1, Kind::Double).matmul(&v), &named("original.output"), 1e-10, "original.output");
}

#[test]
fn one_lag_of_weight_one_is_attention_bit_for_bit() {
    let size = [2, 2, 9, 4];
    let [q, k, v] = signals(3, &size).map(|x| x.to_kind(Kind::Float));
    let ones = |size: &[i64]| Tensor::ones(size, (Kind::Float, tch::Device::Cpu));
    let forms = [
        LagWeights::Diagonal(ones(&[1, 2, 1])),
        LagWeights::Terms { query: ones(&[1, 2, 1, 1]), key: ones(&[1, 2, 1, 1]) },
    ];
    let attention = attend(&q, &k, &v, (None, true), 0.5).unwrap();
    for weights in forms {
        let (q, k) = lagged(&weights, &q, &k);
        assert_eq!(greatest(&attend(&q, &k, &v, (None, true), 0.5).unwrap(), &attention), 0.0);
    }
}

#[test]
fn wide_queries_are_attended_block_by_block_as_in_one_piece() {
    for len in [1, 127, 128, 129, 300] {
        let [q, k, _] = signals(8, &[2, 2, len, 6]);
        let v = Stream::new(8, "values").normals(&[2, 2, len, 3]).unwrap();
        let causal = Tensor::ones([len, len], (Kind::Bool, tch::Device::Cpu)).tril(0);
        let scores = (q.matmul(&k.transpose(2, 3)) * 0.5).masked_fill(&causal.logical_not(), f64::NEG_INFINITY);
        let whole = scores.softmax(-1, Kind::Double).matmul(&v);
        assert_close(&attend(&q, &k, &v, (None, true), 0.5).unwrap(), &whole, 1e-12, len);
        assert_close(&attend(&q, &k, &v, (Some(&causal), false), 0.5).unwrap(), &whole, 1e-12, len);
    }
}

#[test]
fn involution_is_its_definition_and_its_pattern() {
    let (batch, len, heads, d_head, span) = (2, 6, 2, 3, 4);
    let v = Stream::new(4, "v").normals(&[batch, len, heads, d_head]).unwrap();
    let kernel = Stream::new(4, "kernel").normals(&[batch, len, heads, span]).unwrap();
    let gathered = involution::gather(&kernel, &v).unwrap();
    for place in 0..batch * len * heads * d_head {
        let (d, head) = (place % d_head, place / d_head % heads);
        let (pos, row) = (place / (d_head * heads) % len, place / (d_head * heads * len));
        let terms = (0..span).filter(|back| *back <= pos);
        let sum: f64 = terms
            .map(|back| kernel.double_value(&[row, pos, head, back]) * v.double_value(&[row, pos - back, head, d]))
            .sum();
        assert!((sum - gathered.double_value(&[row, pos, head, d])).abs() < 1e-12);
    }
    let pattern = involution::pattern(&kernel, len).unwrap();
    assert_close(&pattern.matmul(&v.transpose(1, 2)).transpose(1, 2), &gathered, 1e-12, "pattern");
    let last = involution::gather(&kernel.narrow(1, 4, 2), &v).unwrap();
    assert_close(&last, &gathered.narrow(1, 4, 2), 1e-12, "the last positions alone");
}

/// The greatest difference of a gradient from central differences along a random direction of each input.
fn against_differences(inputs: &[Tensor], loss: impl Fn(&[Tensor]) -> Tensor) -> f64 {
    let leaves: Vec<Tensor> = inputs.iter().map(|input| input.detach().copy().set_requires_grad(true)).collect();
    let gradients = Tensor::run_backward(&[loss(&leaves)], &leaves, false, false);
    let mut worst: f64 = 0.0;
    for (place, input) in inputs.iter().enumerate() {
        let direction = Stream::new(9, &format!("direction {place}")).normals(&input.size()).unwrap();
        let along = |step: f64| {
            let moved: Vec<Tensor> = inputs
                .iter()
                .enumerate()
                .map(|(other, x)| if other == place { x + &direction * step } else { x.shallow_clone() })
                .collect();
            loss(&moved).double_value(&[])
        };
        let difference = (along(1e-5) - along(-1e-5)) / 2e-5;
        let gradient = (&gradients[place] * &direction).sum(Kind::Double).double_value(&[]);
        worst = worst.max((difference - gradient).abs() / gradient.abs().max(1.0));
    }
    worst
}

#[test]
fn gradients_of_mixers_are_finite_differences() -> Result<()> {
    let [q, k, v] = signals(6, &[2, 2, 7, 4]);
    let wanted = Stream::new(6, "wanted").normals(&[2, 2, 7, 4])?;
    for (name, weights) in forms(2) {
        let (inputs, diagonal) = match &weights {
            LagWeights::Diagonal(a) => (vec![q.copy(), k.copy(), v.copy(), a.copy()], true),
            LagWeights::Terms { query, key } => (vec![q.copy(), k.copy(), v.copy(), query.copy(), key.copy()], false),
        };
        let worst = against_differences(&inputs, |x| {
            let weights = if diagonal {
                LagWeights::Diagonal(x[3].shallow_clone())
            } else {
                LagWeights::Terms { query: x[3].shallow_clone(), key: x[4].shallow_clone() }
            };
            let (q, k) = lagged(&weights, &x[0], &x[1]);
            (attend(&q, &k, &x[2], (None, true), 0.5).unwrap() * &wanted).sum(Kind::Double)
        });
        assert!(worst < 1e-6, "{name}: {worst:e}");
    }
    let kernel = Stream::new(6, "kernel").normals(&[2, 7, 2, 3])?;
    let worst = against_differences(&[kernel, v.transpose(1, 2).copy()], |x| {
        (involution::gather(&x[0], &x[1]).unwrap() * wanted.transpose(1, 2)).sum(Kind::Double)
    });
    assert!(worst < 1e-6, "involution: {worst:e}");
    // As published, no gradient passes through the correlation, which therefore stands still here.
    let fixed = original::correlation(&q, &k)?;
    let worst = against_differences(&[k, v], |x| {
        (attend(&fixed, &x[0], &x[1], (None, false), 0.5).unwrap() * &wanted).sum(Kind::Double)
    });
    assert!(worst < 1e-6, "original: {worst:e}");
    Ok(())
}
