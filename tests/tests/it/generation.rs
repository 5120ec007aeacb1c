//! Generation keeps its hooks: edits hold in every cached step as in a run over the whole text, and what is kept of a
//! growing text is what that run keeps.

use arrakis_core::{Edit, Error, Model, ModelExt, PosSlice, Result, Site, Stream, Tokens, edit};
use arrakis_models::{Decoder, Generated, Generation, Sampling};
use tch::{Kind, Tensor};

use crate::fixtures::greatest;
use crate::laws::{LEN, assert_close, everywhere, prompt, rotates_alike};

const NEW: usize = 5;

fn sampling() -> Sampling {
    Sampling { max_tokens: NEW, ..Sampling::default() }
}

/// The kinds of edit that a growing text takes, each at a point of `model`.
fn edits(model: &Decoder) -> Vec<(arrakis_core::HookPoint, Edit<'static>)> {
    let dims = model.dims();
    let last = dims.n_layers - 1;
    let steer = Stream::new(5, "steer").normals(&[dims.d_model as i64]).unwrap() * 0.3;
    let gone = (LEN + 1, 2);
    vec![
        (Site::Z.at(0), edit::head(dims.n_heads - 1, edit::zero())),
        (Site::RESID_PRE.at(last), edit::add(&steer)),
        (Site::RESID_POST.at(0), edit::position(3, edit::scale(1.7))),
        (Site::MLP_POST.at(last), edit::position(gone.0, edit::zero())),
        (Site::PATTERN.at(last), edit::head(0, edit::key(gone.1, edit::zero()))),
    ]
}

fn edited<'a>(model: &'a Decoder, tokens: &'a Tokens) -> Generation<'a> {
    let generation = Generation::new(model, tokens).sampling(sampling());
    edits(model).into_iter().fold(generation, |generation, (point, edit)| generation.edit(point, edit))
}

#[test]
fn edits_hold_in_cached_steps_exactly_as_in_recomputation() {
    everywhere(Kind::Double, |model| {
        if !rotates_alike(model, LEN, LEN + NEW as i64) {
            return Ok(());
        }
        let tokens = prompt(model, "edited generation", 2, LEN);
        let found = edited(model, &tokens).keep("*").run(|_, _| Ok(()))?;
        assert_eq!(found.tokens.positions() as i64, LEN + NEW as i64);
        // The whole text at once, under the same edits: every activation, and the tokens chosen on the way.
        let trace = edits(model).into_iter().fold(model.trace(&found.tokens), |trace, (at, edit)| trace.edit(at, edit));
        let whole = trace.keep("*").run()?;
        assert_eq!(found.cache.points(), whole.cache.points());
        for (point, value) in whole.cache.iter() {
            assert_close(value, found.cache.get(point)?, 1e-10, point);
        }
        let chosen = whole.logits()?.argmax(-1, false);
        for (row, ids) in found.rows.iter().enumerate() {
            let recomputed: Vec<i64> = Vec::try_from(chosen.get(row as i64).narrow(0, LEN - 1, NEW as i64)).unwrap();
            assert_eq!(*ids, recomputed, "row {row}");
        }
        let plain = model.trace(&found.tokens).run()?;
        assert!(greatest(plain.logits()?, whole.logits()?) > 1e-6, "the edits do something");
        Ok(())
    });
}

#[test]
fn what_is_kept_may_leave_out_the_prompt_and_ends_with_each_row() -> Result<()> {
    let model = crate::families::loaded(&crate::fixtures::root().join("tests/golden/llama"), Kind::Double);
    let padded = Tokens::from_rows(&[vec![9, 3, 17, 40], vec![5, 8]])?;
    let run = |sampling: Sampling| Generation::new(&model, &padded).sampling(sampling).keep(Site::RESID_POST);
    let whole = run(sampling()).run(|_, _| Ok(()))?;
    let new = run(sampling()).new_tokens_only().run(|_, _| Ok(()))?;
    let point = Site::RESID_POST.at(1);
    assert_close(&whole.cache[point].narrow(1, 4, NEW as i64), &new.cache[point], 0.0, "the new tokens");
    // Padded rows are generated as they are alone.
    for row in 0..2 {
        let alone = Tokens::from_ids(&padded.row(row)?)?;
        let alone: Generated = Generation::new(&model, &alone).sampling(sampling()).keep(point).run(|_, _| Ok(()))?;
        assert_eq!(alone.rows[0], whole.rows[row]);
        let last = |generated: &Generated, row: i64| {
            let value = generated.cache[point].get(row);
            value.narrow(0, value.size()[0] - NEW as i64, NEW as i64)
        };
        assert_close(&last(&alone, 0), &last(&whole, row as i64), 1e-10, row);
    }
    // A row that ends early is masked from there on.
    let stop = whole.rows[0][1];
    let ended = run(Sampling { stop: vec![stop], ..sampling() }).run(|_, _| Ok(()))?;
    assert_eq!(ended.rows[0].last(), Some(&stop));
    assert_eq!(ended.tokens.row(0)?, [&[9, 3, 17, 40], &ended.rows[0][..]].concat());
    assert_eq!(ended.tokens.row(1)?, [&[5, 8], &ended.rows[1][..]].concat());
    Ok(())
}

#[test]
fn edits_without_meaning_in_a_growing_text_are_refused() -> Result<()> {
    let model = crate::families::loaded(&crate::fixtures::root().join("tests/golden/gpt2"), Kind::Float);
    let tokens = Tokens::from_ids(&[9, 3, 17])?;
    let refused = |at: arrakis_core::HookPoint, edit: Edit<'static>| -> String {
        let run = Generation::new(&model, &tokens).sampling(sampling()).edit(at, edit).run(|_, _| Ok(()));
        run.expect_err("it has no meaning").to_string()
    };
    assert!(refused(Site::Z.at(0), edit::mean()).contains("mean over positions"));
    assert!(refused(Site::Z.at(0), edit::position(-1, edit::zero())).contains("a growing text has none"));
    assert!(refused(Site::Z.at(0), edit::position(99, edit::zero())).contains("never had"));
    assert!(refused(Site::Z.at(9), edit::zero()).contains("blocks.9"));
    assert!(refused(Site::Z.at(0), edit::head(99, edit::zero())).contains("out of range"));
    let cut = |wanted: PosSlice| model.trace(&tokens).keep_slice(Site::RESID_PRE, wanted).run();
    assert!(matches!(cut(PosSlice::At(vec![3])), Err(Error::OutOfRange { .. })));
    Ok(())
}

#[test]
fn kept_positions_are_those_of_the_whole() {
    everywhere(Kind::Float, |model| {
        let rows = [prompt(model, "long row", 1, LEN).row(0)?, prompt(model, "short row", 1, LEN - 3).row(0)?];
        let tokens = Tokens::from_rows(&rows)?;
        let whole = model.trace(&tokens).keep("*").run()?;
        let at = PosSlice::At(vec![-1, 0]);
        let cut = model.trace(&tokens).keep_slice("*", at.clone()).keep_on(tch::Device::Cpu).run()?;
        let last = model.trace(&tokens).keep_slice("*", PosSlice::Last).run()?;
        for (point, value) in whole.cache.iter() {
            let dimension = point.site.pos_dimension().expect("every point has positions");
            let mask = tokens.mask();
            assert_close(&at.of(value, dimension, mask)?, &cut.cache[point], 0.0, point);
            let each =
                (0..2).map(|row| value.get(row).narrow(dimension as i64 - 1, rows[row as usize].len() as i64 - 1, 1));
            assert_close(&Tensor::stack(&each.collect::<Vec<_>>(), 0), &last.cache[point], 0.0, point);
        }
        let trace = || model.trace(&tokens).keep_slice("*", PosSlice::Last).keep_slice(Site::RESID_PRE, at.clone());
        let (plan, run) = (trace().plan()?, trace().run()?);
        for (planned, (point, value)) in plan.kept.iter().zip(run.cache.iter()) {
            assert_eq!((planned.point, &planned.shape), (point, &value.size()));
        }
        // Gradients are cut as values are.
        let metric = |logits: &Tensor| Ok(logits.select(1, -1).select(1, 5).sum(Kind::Float));
        let points = [Site::RESID_PRE, Site::PATTERN, Site::Z];
        let all = points.iter().fold(model.trace(&tokens), |trace, site| trace.keep(*site)).gradients(metric).run()?;
        let some = points.iter().fold(model.trace(&tokens), |trace, site| trace.keep_slice(*site, PosSlice::Last));
        let some = some.gradients(metric).run()?;
        for (point, value) in all.gradients.iter() {
            let dimension = point.site.pos_dimension().expect("every point has positions");
            let wanted = PosSlice::Last.of(value, dimension, tokens.mask())?;
            assert_close(&wanted, &some.gradients[point], 0.0, point);
        }
        Ok(())
    });
}

#[test]
fn a_run_from_a_layer_may_leave_out_the_positions_before_it() {
    everywhere(Kind::Double, |model| {
        let (tokens, cut) = (prompt(model, "suffix", 2, LEN), 3);
        let whole = model.trace(&tokens).keep(Site::RESID_PRE).keep_past().run()?;
        let past = whole.past.as_ref().expect("asked for").before(cut)?;
        for layer in 0..model.dims().n_layers {
            let ids = tokens.ids().narrow(1, cut, LEN - cut);
            let rest = Tokens::from_tensor(&ids)?;
            let stream = whole.cache[Site::RESID_PRE.at(layer)].narrow(1, cut, LEN - cut);
            let run = model.trace(&rest).start_at(layer, &stream).past(&past).run()?;
            assert_close(&whole.logits()?.narrow(1, cut, LEN - cut), run.logits()?, 1e-10, layer);
        }
        Ok(())
    });
}

#[test]
fn patching_within_a_slice_takes_the_slice_of_the_other_run() {
    everywhere(Kind::Double, |model| {
        let (tokens, other) = (prompt(model, "here", 2, LEN), prompt(model, "there", 2, LEN));
        let clean = model.trace(&other).keep(Site::Z.at(0)).keep(Site::PATTERN.at(0)).run()?;
        let z = &clean.cache[Site::Z.at(0)];
        let short = edit::head(1, edit::position(-2, edit::patch(z)));
        let long = edit::head(1, edit::position(-2, edit::set(&z.narrow(2, 1, 1).narrow(1, LEN - 2, 1))));
        let short = model.trace(&tokens).edit(Site::Z.at(0), short).run()?;
        let long = model.trace(&tokens).edit(Site::Z.at(0), long).run()?;
        assert_close(short.logits()?, long.logits()?, 0.0, "a head at a position");
        let pattern = edit::head(0, edit::patch(&clean.cache[Site::PATTERN.at(0)]));
        let run = model.trace(&tokens).edit(Site::PATTERN.at(0), pattern).keep(Site::PATTERN.at(0)).run()?;
        let expected = clean.cache[Site::PATTERN.at(0)].select(1, 0);
        assert_close(&expected, &run.cache[Site::PATTERN.at(0)].select(1, 0), 0.0, "a head's pattern");
        Ok(())
    });
}

#[test]
fn logits_that_are_no_numbers_choose_no_token() {
    let model = crate::families::loaded(&crate::fixtures::root().join("tests/golden/gpt2"), Kind::Double);
    let ids = [9, 3, 17];
    let tokens = Tokens::from_rows(&[ids.to_vec(), ids.to_vec()]).unwrap();
    for temperature in [0.0, 1.0] {
        let sampling = Sampling { temperature, ..sampling() };
        // The second row is broken from the first new token on.
        let broken = edit::row(1, edit::position(3, edit::scale(f64::NAN)));
        let generation = Generation::new(&model, &tokens).sampling(sampling).edit(Site::RESID_POST.at(0), broken);
        let why = generation.run(|_, _| Ok(())).unwrap_err().to_string();
        assert!(why.contains("the logits of row 1 at step 1: they hold NaN"), "{why}");
    }
}
