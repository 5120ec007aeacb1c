//! The kinds of plots over hook points: what each draws of values that are known.

use arrakis::Pictures;
use arrakis_bench::Bench;
use arrakis_core::{Axis, Cache, HookPoint, Kept, ModelExt as _, PlotSpec, RowLabels, Site, Stack, Tokens};
use arrakis_graph::{Backend as _, Mark, Picture, Scene, Svg as SvgBackend, Theme, kinds, plot, reads};
use tch::{Device, Kind, Tensor};

use super::STYLE;
use super::svg::Svg;
use crate::fixtures::root;

const LEN: i64 = 4;
const HEADS: i64 = 2;
const LAYERS: usize = 3;

/// What a run of a small made-up model keeps: two rows, of which the second is zeros.
fn cache() -> Cache {
    let mut cache = Cache::new();
    let causal = || Tensor::ones([LEN, LEN], (Kind::Float, Device::Cpu)).tril(0);
    let two = |row: &Tensor| Tensor::stack(&[row, &row.zeros_like()], 0);
    for layer in 0..LAYERS {
        // Head 0 looks at itself, head 1 at the one before (the first at itself).
        let own = Tensor::eye(LEN, (Kind::Float, Device::Cpu));
        let before = own.roll([-1], [1]).tril(0);
        let before =
            &before + Tensor::eye(LEN, (Kind::Float, Device::Cpu)) * before.sum_dim_intlist(-1, true, None).eq(0.0);
        cache.insert(Site::PATTERN.at(layer), two(&(Tensor::stack(&[own, before], 0) * causal())));
        let counted =
            |shape: &[i64]| Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, Device::Cpu)).reshape(shape);
        cache.insert(Site::ROT_Q.at(layer), two(&(counted(&[LEN, HEADS, 4]) - 10.0)));
        cache.insert(Site::ROT_K.at(layer), two(&counted(&[LEN, 1, 4])));
        cache.insert(Site::MLP_POST.at(layer), two(&(counted(&[LEN, 5]) * (layer as f64 + 1.0) - 4.0)));
        cache.insert(
            Site::RESID_POST.at(layer),
            two(&(Tensor::ones([LEN, 9], (Kind::Float, Device::Cpu)) * (layer as f64 + 1.0))),
        );
        cache.insert(
            Site::LN1_SCALE.at(layer),
            two(&(Tensor::ones([LEN, 1], (Kind::Float, Device::Cpu)) * (layer as f64 + 2.0))),
        );
    }
    cache
}

fn labels() -> Vec<String> {
    ["The", " cat", "\n", " cat"].map(str::to_owned).to_vec()
}

fn draw(spec: &PlotSpec) -> arrakis_graph::Result<Box<dyn Picture>> {
    let (cache, labels) = (cache(), labels());
    plot(spec, Kept { cache: &cache, labels: &labels, ids: &[5, 6, 7, 6], places: &[0, 1, 2, 3] })
}

fn scene(spec: &PlotSpec) -> Scene {
    draw(spec).unwrap().scene(&Theme::new(&STYLE).unwrap()).unwrap()
}

fn svg(spec: &PlotSpec) -> Svg {
    Svg::of(&String::from_utf8(SvgBackend.render(draw(spec).unwrap().as_ref(), &STYLE).unwrap()).unwrap())
}

/// The colours of each panel, row by row.
fn panels(scene: &Scene) -> Vec<Vec<String>> {
    let cells = |mark: &Mark| match mark {
        Mark::Cells { fills, .. } => Some(fills.iter().map(ToString::to_string).collect()),
        _ => None,
    };
    scene.marks.iter().filter_map(cells).collect()
}

#[test]
fn every_kind_over_points_draws_what_a_run_kept() {
    for kind in kinds().iter().filter(|kind| kind.reads_points()) {
        let spec = PlotSpec::new(kind.name()).titled("A title");
        let picture = svg(&spec);
        assert!(picture.has("A title"), "{}", kind.name());
        assert!(!kind.about().is_empty() && picture.texts.len() > 4, "{}", kind.name());
        let known: Vec<HookPoint> = cache().points().to_vec();
        assert!(!reads(&spec, &known).unwrap().is_empty());
    }
    assert_eq!(kinds().iter().filter(|kind| kind.reads_points()).count(), 8);
}

#[test]
fn attention_has_a_panel_for_each_layer_and_head_and_nothing_above_the_diagonal() {
    let spec = PlotSpec::new("attention");
    let panels = panels(&scene(&spec));
    assert_eq!(panels.len(), LAYERS * HEADS as usize);
    let (least, most, blank) = ("#440154", "#FDE725", "#FFFFFF");
    assert_eq!(panels[0][..8], [most, blank, blank, blank, least, most, blank, blank]);
    assert_eq!(panels[1][4..12], [most, least, blank, blank, least, most, least, blank]);
    let picture = svg(&spec);
    for text in ["layer 0", "layer 2", "head 1", "query", "key", "·cat", "↵"] {
        assert!(picture.has(text), "`{text}` is missing");
    }
}

#[test]
fn a_stack_of_attention_is_drawn_as_attention_is() {
    let axes = |keys: &str| vec![Axis::indices("head", 2), Axis::indices("query", 2), Axis::indices(keys, 2)];
    let drawn = |keys: &str, values: [f64; 4]| {
        let values = Tensor::from_slice(&values).reshape([1, 2, 2]).repeat([2, 1, 1]);
        let stack = Stack::new("Patterns", "attention", axes(keys), values).unwrap();
        SvgBackend.render(&stack, &STYLE).map(|bytes| String::from_utf8(bytes).unwrap()).unwrap()
    };
    let cells = |svg: &str| svg.matches("#440154").count();
    let (past, both) = ([1.0, 0.0, 0.0, 1.0], [1.0, 0.5, 0.0, 1.0]);
    assert_eq!(cells(&drawn("position", past)), cells(&drawn("key", past)) + 2, "what no query may see is left white");
    assert_eq!(cells(&drawn("position", both)), cells(&drawn("key", both)));
}

#[test]
fn heads_layers_and_rows_can_be_chosen() {
    let spec = PlotSpec::new("attention").points(["blocks.1.*"]).heads([1]);
    let scene = scene(&spec);
    assert_eq!(panels(&scene).len(), 1);
    assert_eq!(draw(&spec).unwrap().title(), "Attention");
    assert!(svg(&spec).has("Attention (layer 1, head 1)"));
    let second = PlotSpec { row: 1, ..PlotSpec::new("residual_stream") };
    assert!(draw(&second).is_ok());
    for (spec, wanted) in [
        (PlotSpec { row: 2, ..spec.clone() }, "row of the batch 2 is out of range"),
        (spec.clone().heads([2]), "head 2 is out of range"),
        (PlotSpec::new("residual_stream").heads([0]), "shows no heads"),
        (PlotSpec::new("attention").points(["blocks.9.*"]), "was not kept"),
        (PlotSpec::new("atention"), "the nearest is `attention`"),
        (PlotSpec::new("waterfall"), "reads no hook points"),
    ] {
        let error = draw(&spec).err().unwrap().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn padding_is_left_out() {
    let (cache, labels) = (cache(), ["The", " cat"].map(str::to_owned));
    let kept = Kept { cache: &cache, labels: &labels, ids: &[5, 6], places: &[1, 2] };
    let picture = plot(&PlotSpec::new("attention"), kept).unwrap();
    let panels = panels(&picture.scene(&Theme::new(&STYLE).unwrap()).unwrap());
    assert!(panels.iter().all(|panel| panel.len() == 4));
    let far = Kept { places: &[3, 4], ..kept };
    let error = plot(&PlotSpec::new("attention"), far).err().unwrap().to_string();
    assert!(error.contains("keep all of them"), "{error}");
}

#[test]
fn a_dot_product_is_that_of_queries_with_the_shared_key_head() {
    // Query 0 of head 0 is (-10, -9, -8, -7), key 0 (0, 1, 2, 3): -46 / √4 = -23, the least of all.
    let scene = scene(&PlotSpec::new("qk_dot_product"));
    let panels = panels(&scene);
    assert_eq!(panels.len(), 6);
    let products = |head: f64| {
        let q = move |pos: f64, i: f64| pos * 8.0 + head * 4.0 + i - 10.0;
        (0..16).map(move |place| {
            let (query, key) = (f64::from(place / 4), f64::from(place % 4));
            (0..4).map(|i| q(query, f64::from(i)) * (key * 4.0 + f64::from(i))).sum::<f64>() / 2.0
        })
    };
    let seen = |(place, _): &(usize, f64)| place % 4 <= place / 4;
    let all: Vec<f64> =
        [0.0, 1.0].into_iter().flat_map(|head| products(head).enumerate().filter(seen)).map(|(_, v)| v).collect();
    let most = all.iter().copied().fold(0.0, f64::max);
    let place = products(1.0).position(|value| value == most).unwrap();
    assert_eq!(panels[1][place], "#67001F", "the greatest lies where it is");
    assert_ne!(panels[0][1], panels[0][0], "what no query sees is not 0");
}

#[test]
fn products_of_a_head_that_lags_are_read_with_its_lags() {
    let known: Vec<HookPoint> =
        (0..2).flat_map(|layer| [Site::ROT_Q, Site::ROT_K, Site::LAG].map(|site| site.at(layer))).collect();
    let spec = PlotSpec::new("qk_dot_product");
    assert_eq!(reads(&spec, &known).unwrap().len(), 6);
    let named = ["hook_rot_q", "hook_rot_k"].map(|site| format!("blocks.1.attn.{site}"));
    let chosen = reads(&PlotSpec { points: named.to_vec(), ..spec }, &known).unwrap();
    assert_eq!(chosen, [Site::ROT_Q.at(1), Site::ROT_K.at(1), Site::LAG.at(1)]);
}

#[test]
fn an_induction_head_is_framed_and_its_score_named() {
    // ` cat` comes again at 3; what followed it lies at 2, where head 1 looks.
    let picture = svg(&PlotSpec::new("induction_heads"));
    assert_eq!(picture.text.matches("stroke=\"#C03A3A\"").count(), LAYERS);
    assert!(picture.texts.iter().any(|text| text.written.contains("L0H1\u{A0}1.00")), "{}", picture.outline());
    let (cache, labels) = (cache(), labels());
    let kept = Kept { cache: &cache, labels: &labels, ids: &[1, 2, 3, 4], places: &[0, 1, 2, 3] };
    let error = plot(&PlotSpec::new("induction_heads"), kept).err().unwrap().to_string();
    assert!(error.contains("tokens come again"), "{error}");
}

#[test]
fn flow_between_heads_leaves_out_the_own_and_the_first_position() {
    // Head 1 moves from 3 to 2 and from 2 to 1; both steps in a row end at 1: one of four queries.
    let picture = svg(&PlotSpec::new("attention_stats"));
    let curves = picture.text.matches("<polyline").count();
    assert_eq!(curves, 3 * 4, "three pairs of layers, four pairs of heads");
    let error = draw(&PlotSpec::new("attention_stats").points(["blocks.0.*"])).err().unwrap().to_string();
    assert!(error.contains("two at least"), "{error}");
}

#[test]
fn norms_and_scales_lie_at_their_heights() {
    // √9 · (layer + 1): 3, 6, 9, one line for the first position on one for the others.
    let picture = svg(&PlotSpec::new("residual_stream"));
    assert!(picture.has("first position") && picture.has("layer"));
    assert_eq!((picture.disks, picture.areas), (2 * LAYERS, 1));
    let picture = svg(&PlotSpec::new("layer_norms"));
    assert!(picture.has("before attention (ln1)") && !picture.has("before the MLP (ln2)"));
    assert_eq!(picture.disks, LAYERS);
}

#[test]
fn far_norms_have_ticks_at_powers_of_ten() {
    let (mut cache, labels) = (Cache::new(), labels());
    for (layer, size) in [1e4, 1e7, 1e10].into_iter().enumerate() {
        cache.insert(Site::RESID_POST.at(layer), Tensor::full([1, LEN, 9], size, (Kind::Double, Device::Cpu)));
    }
    let kept = Kept { cache: &cache, labels: &labels, ids: &[5, 6, 7, 6], places: &[0, 1, 2, 3] };
    let picture = plot(&PlotSpec::new("residual_stream"), kept).unwrap();
    let picture = Svg::of(&String::from_utf8(SvgBackend.render(picture.as_ref(), &STYLE).unwrap()).unwrap());
    assert!(picture.has("100000") && picture.has("1e7") && picture.has("1e9"), "{}", picture.outline());
}

#[test]
fn violins_and_trajectories_show_neurons() {
    let picture = svg(&PlotSpec::new("neuron_activation"));
    assert_eq!((picture.areas, picture.disks), (LAYERS, LAYERS));
    assert!(picture.text.contains("5 neurons at 4 positions in each layer"));
    let picture = svg(&PlotSpec::new("neuron_activation_trajectories"));
    assert!(picture.has("layer 2, neuron 0") && picture.has("·cat"));
    assert!(picture.text.contains("the 6 neurons of 15 with the greatest range"));
}

#[test]
fn points_that_a_kind_does_not_read_are_refused() {
    let known: Vec<HookPoint> = cache().points().to_vec();
    let names =
        |spec: &PlotSpec| reads(spec, &known).map(|points| points.iter().map(ToString::to_string).collect::<Vec<_>>());
    let spec = PlotSpec::new("attention").points(["blocks.2.*", "blocks.0.attn.hook_pattern"]);
    assert_eq!(names(&spec).unwrap(), ["blocks.2.attn.hook_pattern", "blocks.0.attn.hook_pattern"]);
    for (spec, wanted) in [
        (PlotSpec::new("attention").points(["blocks.0.mlp.hook_post"]), "reads `attn.hook_pattern`"),
        (PlotSpec::new("attention").points(["blocks.7.attn.hook_patern"]), "matches no hook point"),
        (PlotSpec::new("patching"), "reads no hook points"),
    ] {
        let error = names(&spec).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn a_bench_draws_a_spec_by_whoever_draws_for_it() {
    let path = root().join("tests/golden/gpt2");
    let model = arrakis_models::load(path.to_str().unwrap(), &arrakis_models::LoadOptions::default()).unwrap();
    let tokens = Tokens::from_rows(&[vec![1, 2, 3], vec![4, 5]]).unwrap();
    let spec = PlotSpec { row: 1, ..PlotSpec::new("attention") };
    let pictures = Pictures::default();
    let bench = Bench::new(&model).unlogged().draw(&pictures);
    let mut trace = model.trace(&tokens);
    for point in bench.plotted(&spec).unwrap() {
        trace = trace.keep(point);
    }
    let run = trace.run().unwrap();
    let labels = RowLabels::of(&tokens, spec.row, &model).unwrap();
    assert_eq!((labels.ids.as_slice(), labels.places.as_slice()), (&[4, 5][..], &[0, 1][..]));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.svg");
    bench.plot(&spec, labels.beside(&run.cache), &file).unwrap();
    let picture = Svg::of(&std::fs::read_to_string(&file).unwrap());
    assert!(picture.has("[4]") && !picture.has("[1]"), "{}", picture.outline());
    let error = Bench::new(&model).unlogged().plot(&spec, labels.beside(&run.cache), &file).unwrap_err().to_string();
    assert!(error.contains("nobody draws for this bench"), "{error}");
}
