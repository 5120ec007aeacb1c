//! What holds for every model, whatever its family: the laws of hooks, of batches and of cached passes.

use std::path::PathBuf;

use arrakis_core::{
    Error, HookPoint, Hooks, Model, ModelExt, Pass, PosSlice, Result, Site, Stream, Tokens, Weight, edit, unwatched,
};
use arrakis_models::Decoder;
use arrakis_models::architecture::Positions;
use tch::{Kind, Tensor};

use crate::families::loaded;
use crate::fixtures::{self, greatest};

pub(crate) const LEN: i64 = 8;

fn folders() -> Vec<PathBuf> {
    fixtures::model_folders()
}

/// Runs a law on every folder, naming the folder that breaks it.
pub(crate) fn everywhere(kind: Kind, law: impl Fn(&Decoder) -> Result<()>) {
    for folder in folders() {
        let model = loaded(&folder, kind);
        if let Err(error) = law(&model) {
            panic!("`{}`: {error}", folder.display());
        }
    }
}

/// Whether texts of two lengths are rotated alike: under dynamic and longrope scaling a model is another function at
/// another length, so that what a text of one length left behind is not what the longer one would have computed.
pub(crate) fn rotates_alike(model: &Decoder, a: i64, b: i64) -> bool {
    match &model.architecture().positions {
        Positions::Learned => true,
        Positions::Rotary(rope) => rope.frequencies(a as usize) == rope.frequencies(b as usize),
    }
}

pub(crate) fn prompt(model: &dyn Model, name: &str, batch: i64, len: i64) -> Tokens {
    let mut stream = Stream::new(7, name);
    let vocab = model.dims().vocab as u64;
    let rows: Vec<Vec<i64>> =
        (0..batch).map(|_| (0..len).map(|_| stream.below(vocab - 3) as i64 + 3).collect()).collect();
    Tokens::from_rows(&rows).unwrap()
}

pub(crate) fn assert_equal(a: &Tensor, b: &Tensor, what: impl std::fmt::Display) {
    assert_eq!(greatest(a, b), 0.0, "{what}");
}

pub(crate) fn assert_close(a: &Tensor, b: &Tensor, bound: f64, what: impl std::fmt::Display) {
    let apart = greatest(a, b);
    assert!(apart <= bound, "{what}: {apart:e} apart");
}

/// Watches everything, and remembers where it was called.
#[derive(Default)]
struct Visits(Vec<HookPoint>);

impl Hooks for Visits {
    fn watches(&self, _: HookPoint) -> bool {
        true
    }

    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor> {
        self.0.push(point);
        Ok(value)
    }
}

/// The points declared are those visited, in order and of the shape they say.
pub(crate) fn points_are_visited(model: &dyn Model) -> Result<()> {
    let tokens = prompt(model, "points", 2, LEN);
    let mut visits = Visits::default();
    model.forward(Pass::tokens(tokens.ids(), &mut visits))?;
    assert_eq!(visits.0, model.points());
    let run = model.trace(&tokens).keep("*").run()?;
    for (point, value) in run.cache.iter() {
        assert_eq!(value.size(), point.shape(model.dims(), 2, LEN), "{point}");
    }
    Ok(())
}

/// An identity edit is bit equal, at each point and at all of them.
pub(crate) fn identity_changes_nothing(model: &dyn Model) -> Result<()> {
    let tokens = prompt(model, "identity", 2, LEN);
    for point in model.points() {
        let kept = model.trace(&tokens).keep(*point).run()?;
        let edited = model.trace(&tokens).edit(*point, edit::identity()).run()?;
        assert_equal(kept.logits()?, edited.logits()?, point);
    }
    let whole = model.trace(&tokens).keep("*").run()?;
    let edited = model.trace(&tokens).edit("*", edit::identity()).keep("*").run()?;
    for (point, value) in whole.cache.iter() {
        assert_equal(value, &edited.cache[point], point);
    }
    Ok(())
}

/// A kept activation put in its own place is bit equal.
pub(crate) fn replay_changes_nothing(model: &dyn Model) -> Result<()> {
    let tokens = prompt(model, "replay", 2, LEN);
    for point in model.points() {
        let kept = model.trace(&tokens).keep(*point).run()?;
        let replayed = model.trace(&tokens).edit(*point, edit::set(&kept.cache[*point])).run()?;
        assert_equal(kept.logits()?, replayed.logits()?, point);
    }
    Ok(())
}

/// A run may stop at any layer, and go on from there to the same bits.
pub(crate) fn halves_are_the_whole(model: &dyn Model) -> Result<()> {
    let tokens = prompt(model, "halves", 2, LEN);
    let whole = model.trace(&tokens).run()?;
    for layer in 0..=model.dims().n_layers {
        let half = model.trace(&tokens).stop_at(layer).run()?;
        assert!(half.logits.is_none());
        let rest = model.trace(&tokens).start_at(layer, &half.residual).run()?;
        assert_equal(whole.logits()?, rest.logits()?, format!("layer {layer}"));
    }
    Ok(())
}

#[test]
fn points_declared_are_points_visited_in_order_and_of_the_shape_they_say() {
    everywhere(Kind::Float, |model| points_are_visited(model));
    everywhere(Kind::BFloat16, |model| points_are_visited(model));
}

#[test]
fn an_identity_edit_is_bit_equal_at_every_point() {
    everywhere(Kind::Float, |model| identity_changes_nothing(model));
}

#[test]
fn replaying_a_kept_activation_changes_nothing() {
    everywhere(Kind::Float, |model| replay_changes_nothing(model));
}

#[test]
fn the_whole_residual_of_another_prompt_is_the_other_prompt() {
    everywhere(Kind::Float, |model| {
        let (clean, other) = (prompt(model, "clean", 2, LEN), prompt(model, "other", 2, LEN));
        for layer in 0..model.dims().n_layers {
            let point = Site::RESID_PRE.at(layer);
            let kept = model.trace(&clean).keep(point).run()?;
            let patched = model.trace(&other).edit(point, edit::set(&kept.cache[point])).run()?;
            assert_equal(kept.logits()?, patched.logits()?, point);
        }
        Ok(())
    });
}

#[test]
fn fused_attention_is_explicit_attention() {
    everywhere(Kind::Float, |model| {
        let tokens = prompt(model, "fused", 2, LEN);
        let padded = tokens.clone().with_mask(&Tensor::from_slice2(&[[1; LEN as usize], [0, 0, 0, 1, 1, 1, 1, 1]]))?;
        for tokens in [&tokens, &padded] {
            let fused = model.trace(tokens).logits(PosSlice::Last).run()?;
            let explicit = model.trace(tokens).keep(Site::PATTERN).logits(PosSlice::Last).run()?;
            assert_close(fused.logits()?, explicit.logits()?, 1e-5, "logits");
        }
        Ok(())
    });
}

#[test]
fn watching_changes_nothing_beyond_rounding() {
    everywhere(Kind::Double, |model| {
        let tokens = prompt(model, "watching", 2, LEN);
        let unwatched = unwatched(|hooks| model.forward(Pass::tokens(tokens.ids(), hooks)))?;
        let watched = model.trace(&tokens).keep("*").run()?;
        assert_close(&unwatched.logits.expect("logits"), watched.logits()?, 1e-12, "logits");
        Ok(())
    });
}

#[test]
fn a_run_may_stop_at_any_layer_and_go_on_from_there() {
    everywhere(Kind::Float, |model| halves_are_the_whole(model));
}

#[test]
fn a_cached_pass_is_the_whole_pass_also_under_an_edit() {
    everywhere(Kind::Float, |model| {
        let layer = model.dims().n_layers - 1;
        let zero = || edit::head(0, edit::zero());
        // Three positions after five, and after as many as lie beyond the short contexts of some fixtures.
        for (past, len) in [(LEN - 3, LEN), (LEN + 9, LEN + 12)] {
            if !rotates_alike(model, past, len) {
                continue;
            }
            let tokens = prompt(model, "cached", 2, len);
            let whole = model.trace(&tokens).edit(Site::Z.at(layer), zero()).logits(PosSlice::Last).run()?;
            let first = Tokens::from_tensor(&tokens.ids().narrow(1, 0, past))?;
            let first = model.trace(&first).edit(Site::Z.at(layer), zero()).keep_past().run()?;
            let rest = Tokens::from_tensor(&tokens.ids().narrow(1, past, len - past))?;
            let past = first.past.expect("it was asked for");
            let rest = model.trace(&rest).past(&past).edit(Site::Z.at(layer), zero()).logits(PosSlice::Last).run()?;
            assert_close(whole.logits()?, rest.logits()?, 1e-5, "logits");
        }
        Ok(())
    });
}

#[test]
fn a_padded_prompt_is_the_prompt_on_either_side_and_cached() {
    everywhere(Kind::Float, |model| {
        let short = prompt(model, "short", 1, LEN - 3);
        let alone = model.trace(&short).logits(PosSlice::Last).run()?;
        let alone_watched = model.trace(&short).logits(PosSlice::Last).keep("*").run()?;
        let pad = Tensor::zeros([1, 3], (Kind::Int64, tch::Device::Cpu));
        let real = Tensor::ones([1, LEN - 3], (Kind::Int64, tch::Device::Cpu));
        for left in [true, false] {
            let joined = |a: &Tensor, b: &Tensor| if left { Tensor::cat(&[a, b], 1) } else { Tensor::cat(&[b, a], 1) };
            let padded = Tokens::from_tensor(&joined(&pad, short.ids()))?.with_mask(&joined(&pad, &real))?;
            let run = model.trace(&padded).logits(PosSlice::Last).run()?;
            assert_close(alone.logits()?, run.logits()?, 1e-5, format!("left {left}"));
            let run = model.trace(&padded).logits(PosSlice::Last).keep("*").run()?;
            assert_close(alone_watched.logits()?, run.logits()?, 1e-5, format!("watched, left {left}"));
            for (point, value) in run.cache.iter().filter(|(point, _)| point.site != Site::ATTN_SCORES) {
                assert_eq!(value.isfinite().all().int64_value(&[]), 1, "{point} has pads that are not finite");
            }
            if left {
                let next = Tokens::from_tensor(&short.ids().narrow(1, 0, 1))?;
                let (with, without) = (model.trace(&padded).keep_past().run()?, model.trace(&short).keep_past().run()?);
                let (with, without) = (with.past.expect("asked for"), without.past.expect("asked for"));
                let (with, without) = (model.trace(&next).past(&with).run()?, model.trace(&next).past(&without).run()?);
                assert_close(with.logits()?, without.logits()?, 1e-5, "after a padded past");
            }
        }
        Ok(())
    });
}

#[test]
fn a_batch_is_its_rows() {
    everywhere(Kind::Float, |model| {
        for (long, short) in [(LEN, LEN - 2), (LEN + 12, LEN + 12)] {
            assert!(rotates_alike(model, long, short));
            let (long, short) = (prompt(model, "long", 1, long), prompt(model, "short", 1, short));
            let rows = [long.row(0)?, short.row(0)?];
            let batch = model.trace(&Tokens::from_rows(&rows)?).logits(PosSlice::Last).run()?.logits.expect("logits");
            for (row, single) in [long, short].iter().enumerate() {
                let single = model.trace(single).logits(PosSlice::Last).run()?;
                assert_close(&batch.narrow(0, row as i64, 1), single.logits()?, 1e-5, format!("row {row}"));
            }
        }
        Ok(())
    });
}

#[test]
fn wanted_logits_are_those_positions_of_all_logits() {
    everywhere(Kind::Double, |model| {
        let tokens = prompt(model, "wanted", 2, LEN);
        let all = model.trace(&tokens).run()?;
        let last = model.trace(&tokens).logits(PosSlice::Last).run()?;
        let some = model.trace(&tokens).logits(PosSlice::At(vec![0, -2])).run()?;
        assert_close(&all.logits()?.narrow(1, LEN - 1, 1), last.logits()?, 1e-12, "last");
        let both = Tensor::cat(&[all.logits()?.narrow(1, 0, 1), all.logits()?.narrow(1, LEN - 2, 1)], 1);
        assert_close(&both, some.logits()?, 1e-12, "some");
        assert!(model.trace(&tokens).logits(PosSlice::None).run()?.logits.is_none());
        Ok(())
    });
}

#[test]
fn gradients_are_finite_differences() {
    everywhere(Kind::Double, |model| {
        let tokens = prompt(model, "gradients", 1, LEN);
        let metric = |logits: &Tensor| Ok(logits.select(1, -1).select(1, 5) - logits.select(1, -1).select(1, 7));
        let last = model.dims().n_layers - 1;
        let points =
            [Site::RESID_PRE.at(0), Site::V.at(0), Site::PATTERN.at(last), Site::Z.at(last), Site::MLP_POST.at(last)];
        let trace = points.iter().fold(model.trace(&tokens), |trace, point| trace.keep(*point));
        let run = trace.gradients(metric).run()?;
        assert!(run.cache.iter().all(|(_, value)| !value.requires_grad()), "a run never holds a tape");
        for point in points {
            let direction = Stream::new(1, "direction").normals(&run.cache[point].size())?;
            let along = |step: f64| -> Result<f64> {
                let moved = model.trace(&tokens).edit(point, edit::add(&(&direction * step))).run()?;
                Ok(metric(moved.logits()?)?.double_value(&[0]))
            };
            let step = 1e-5;
            let difference = (along(step)? - along(-step)?) / (2.0 * step);
            let gradient = (&run.gradients[point] * &direction).sum(Kind::Double).double_value(&[]);
            let apart = (difference - gradient).abs() / gradient.abs().max(1.0);
            assert!(apart < 1e-6, "{point}: {difference} and {gradient}");
        }
        Ok(())
    });
}

#[test]
fn splitting_the_inputs_of_heads_changes_nothing_and_reaches_one_head() {
    everywhere(Kind::Double, |model| {
        let tokens = prompt(model, "split", 2, LEN);
        let plain = model.trace(&tokens).keep(Site::Q).run()?;
        let sites = [Site::Q_INPUT, Site::K_INPUT, Site::V_INPUT, Site::RESULT];
        let split = sites.iter().fold(model.trace(&tokens), |trace, site| trace.keep(*site)).run()?;
        assert_close(plain.logits()?, split.logits()?, 1e-12, "logits");
        let one =
            model.trace(&tokens).edit(Site::Q_INPUT.at(0), edit::head(1, edit::scale(-1.0))).keep(Site::Q).run()?;
        let (before, after) = (&plain.cache[Site::Q.at(0)], &one.cache[Site::Q.at(0)]);
        assert_close(&before.select(2, 0), &after.select(2, 0), 1e-12, "head 0 is as it was");
        assert!(greatest(&before.select(2, 1), &after.select(2, 1)) > 1e-6, "head 1 is another");
        let clash = model.trace(&tokens).keep(Site::Q_INPUT.at(0)).edit(Site::LN1_NORMALIZED.at(0), edit::zero()).run();
        assert!(matches!(clash, Err(Error::Edit { .. })), "an edit without effect is an error");
        Ok(())
    });
}

#[test]
fn a_weight_put_back_changes_nothing_and_another_one_does() {
    everywhere(Kind::Float, |model| {
        let tokens = prompt(model, "weights", 1, LEN);
        let before = model.trace(&tokens).run()?;
        let same = model.weights().into_iter().map(|weight| Ok((weight, model.weight(weight)?)));
        let same = model.with_weights(same.collect::<Result<_>>()?)?;
        assert_close(before.logits()?, same.trace(&tokens).run()?.logits()?, 1e-5, "every weight put back");
        assert_eq!(model.digest()?, same.digest()?);
        let point = Weight::O.at(0);
        let pruned = model.with_weights(vec![(point, model.weight(point)?.zeros_like())])?;
        assert_ne!(model.digest()?, pruned.digest()?);
        let ablated = model.trace(&tokens).edit(Site::Z.at(0), edit::zero()).run()?;
        assert_close(pruned.trace(&tokens).run()?.logits()?, ablated.logits()?, 1e-5, "no output weight, no output");
        assert_equal(before.logits()?, model.trace(&tokens).run()?.logits()?, "the old model is as it was");
        Ok(())
    });
}

#[test]
fn heads_read_and_write_by_their_own_weights() {
    everywhere(Kind::Double, |model| {
        let tokens = prompt(model, "heads", 1, LEN);
        let run = model.trace(&tokens).keep("blocks.0.*").run()?;
        let mut normed = &run.cache[Site::LN1_NORMALIZED.at(0)] * model.weight(Weight::LN1_W.at(0))?;
        if let Some(bias) = model.weight_if_any(Weight::LN1_B.at(0))? {
            normed += bias;
        }
        let projections =
            [(Site::Q, Weight::Q, Weight::Q_B), (Site::K, Weight::K, Weight::K_B), (Site::V, Weight::V, Weight::V_B)];
        for (site, weight, bias) in projections {
            let weight = model.weight(weight.at(0))?;
            let mut projected = Tensor::einsum("bpm,hmd->bphd", &[&normed, &weight], None::<i64>);
            if let Some(bias) = model.weight_if_any(bias.at(0))? {
                projected += bias;
            }
            // Also where heads are normed: that comes after.
            assert_close(&projected, &run.cache[site.at(0)], 1e-12, site);
        }
        let z = &run.cache[Site::Z.at(0)];
        let result =
            Tensor::einsum("bphd,hdm->bphm", &[z.shallow_clone(), model.weight(Weight::O.at(0))?], None::<i64>);
        assert_close(&result, &run.cache[Site::RESULT.at(0)], 1e-12, "result");
        let rows = run.cache[Site::PATTERN.at(0)].sum_dim_intlist(-1, false, Kind::Double);
        assert_close(&rows, &rows.ones_like(), 1e-12, "rows of the pattern");
        Ok(())
    });
}

#[test]
fn passes_that_make_no_sense_are_refused_by_name() {
    everywhere(Kind::Float, |model| {
        let tokens = prompt(model, "refused", 1, LEN);
        let dims = model.dims();
        let message = |run: Result<arrakis_core::Run>| run.expect_err("it makes no sense").to_string();
        let vocab = dims.vocab as i64;
        let outside = Tokens::from_ids(&[1, vocab])?;
        assert!(message(model.trace(&outside).run()).contains(&format!("token id {vocab} at row 0, position 1")));
        assert!(message(model.trace(&tokens).keep("blocks.0.hook_resid_pots").run()).contains("hook_resid_post"));
        assert!(message(model.trace(&tokens).keep(Site::Z.at(99)).run()).contains("blocks.99.attn.hook_z"));
        assert!(message(model.trace(&tokens).stop_at(0).keep(Site::Z.at(0)).run()).contains("blocks.0.attn.hook_z"));
        let head = edit::head(dims.n_heads, edit::zero());
        assert!(message(model.trace(&tokens).edit(Site::Z.at(0), head).run()).contains("out of range"));
        let position = edit::position(LEN, edit::zero());
        assert!(message(model.trace(&tokens).edit(Site::Z.at(0), position).run()).contains("out of range"));
        let shape = edit::with(|value| Ok(value.narrow(0, 0, 1).squeeze()));
        assert!(message(model.trace(&tokens).edit(Site::MLP_POST.at(0), shape).run()).contains("keeps shape"));
        let no_heads = edit::head(0, edit::zero());
        assert!(message(model.trace(&tokens).edit(Site::RESID_PRE.at(0), no_heads).run()).contains("wants a head"));
        assert!(message(model.trace(&tokens).logits(PosSlice::At(vec![LEN])).run()).contains("out of range"));
        let positions = Tensor::from_slice(&[-1_i64; LEN as usize]).unsqueeze(0);
        assert!(message(model.trace(&tokens).positions(&positions).run()).contains("negative"));
        assert!(message(model.trace(&tokens).positions(&positions.narrow(1, 0, 2)).run()).contains("positions"));
        assert!(message(model.trace(&tokens).stop_at(99).run()).contains("out of range"));
        let past = model.trace(&tokens).keep_past().run()?.past.expect("asked for");
        let two = prompt(model, "two", 2, 1);
        assert!(message(model.trace(&two).past(&past).run()).contains("key-value state"));
        assert!(message(model.trace(&tokens).gradients(|logits| Ok(logits.sum(Kind::Float))).run()).contains("keep"));
        assert!(Tokens::from_rows(&[vec![]]).is_err() && Tokens::from_rows(&[]).is_err());
        let unknown = model.weight(Weight::POS.at(0)).expect_err("no such weight").to_string();
        assert!(unknown.contains("blocks.0.pos_embed.W_pos"), "{unknown}");
        let wrong =
            model.with_weights(vec![(Weight::E.global(), Tensor::zeros([2, 2], (Kind::Float, tch::Device::Cpu)))]);
        assert!(wrong.err().expect("the shape is wrong").to_string().contains("embed.W_E"));
        Ok(())
    });
}

#[test]
fn a_prompt_beyond_the_context_is_refused_unless_the_rotation_stretches() {
    everywhere(Kind::Float, |model| {
        let context = model.dims().context as i64;
        if context > 100 {
            return Ok(());
        }
        let tokens = prompt(model, "long", 1, context + 1);
        let run = model.trace(&tokens).logits(PosSlice::Last).run();
        let stretches = matches!(
            &model.architecture().positions,
            arrakis_models::architecture::Positions::Rotary(rope) if rope.depends_on_length()
        );
        assert_eq!(run.is_ok(), stretches);
        if let Err(error) = run {
            assert!(error.to_string().contains("context"), "{error}");
        }
        Ok(())
    });
}

#[test]
fn packed_weights_change_nothing_beyond_rounding_and_no_edit_is_lost() {
    let law = |model: &Decoder, packed: &Decoder| -> Result<()> {
        let tokens = prompt(model, "packed", 2, LEN);
        let plain = model.trace(&tokens).run()?;
        assert_close(plain.logits()?, packed.trace(&tokens).run()?.logits()?, 1e-5, "logits");
        assert_eq!(model.digest()?, packed.digest()?);
        let layer = Weight::OUT.at(0);
        let doubled = || -> Result<_> { Ok(vec![(layer, model.weight(layer)? * 2.0)]) };
        let (plain, packed) = (model.with_weights(doubled()?)?, packed.with_weights(doubled()?)?);
        assert_equal(plain.trace(&tokens).run()?.logits()?, packed.trace(&tokens).run()?.logits()?, "edited");
        let metric = |logits: &Tensor| Ok(logits.select(1, -1).select(1, 5).sum(Kind::Float));
        let run = packed.trace(&tokens).keep(Site::RESID_PRE.at(0)).gradients(metric).run()?;
        assert!(run.gradients[Site::RESID_PRE.at(0)].abs().max().double_value(&[]) > 0.0);
        Ok(())
    };
    for folder in folders() {
        let packed = loaded(&folder, Kind::Float).packed().unwrap();
        law(&loaded(&folder, Kind::Float), &packed).unwrap_or_else(|error| panic!("`{}`: {error}", folder.display()));
    }
}
