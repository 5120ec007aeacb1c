//! A sweep gives what its cases give one by one, on every model.

use arrakis_core::{
    Case, Context, Edit, Error, HookPoint, Model, ModelExt, PosSlice, Result, Site, Stream, Sweep, Tokens, edit,
};
use arrakis_models::Decoder;
use tch::{Kind, Tensor};

use crate::fixtures::{greatest, say};
use crate::laws::{LEN, assert_close, everywhere, prompt};

type Described = Vec<(HookPoint, Edit<'static>)>;

/// Cases of every sort: by position, by head, whole, at several points, before the blocks and after them.
fn cases(model: &Decoder, other: &Tokens) -> Vec<Described> {
    let dims = model.dims();
    let last = dims.n_layers - 1;
    let clean = model.trace(other).keep("*").run().unwrap().cache;
    let patch = |point: HookPoint| edit::patch(&clean[point]);
    let steer = Stream::new(5, "steer").normals(&[dims.d_model as i64]).unwrap() * 0.3;
    let mut cases: Vec<Described> = Vec::new();
    for layer in 0..dims.n_layers {
        for position in [0, 2, 5, -1] {
            let point = Site::RESID_PRE.at(layer);
            cases.push(vec![(point, edit::position(position, patch(point)))]);
        }
        let point = Site::Z.at(layer);
        cases.extend((0..dims.n_heads).map(|head| vec![(point, edit::head(head, patch(point)))]));
        cases.push(vec![(point, edit::head(0, edit::position(4, patch(point))))]);
        cases.push(vec![(point, edit::from_position(3, patch(point)))]);
        let pattern = Site::PATTERN.at(layer);
        cases.push(vec![(pattern, edit::head(0, edit::position(-2, patch(pattern))))]);
        cases.push(vec![(pattern, edit::head(0, edit::position(6, edit::key(1, patch(pattern)))))]);
        cases.push(vec![(Site::V.at(layer), edit::mean())]);
        cases.push(vec![(Site::MLP_OUT.at(layer), edit::position(3, edit::zero()))]);
    }
    let twice = |point: HookPoint| edit::position(5, edit::scale(0.5)).then(edit::position(-2, patch(point)));
    cases.push(vec![(Site::ATTN_OUT.at(0), twice(Site::ATTN_OUT.at(0))), (Site::MLP_OUT.at(last), edit::zero())]);
    cases.push(vec![
        (Site::RESID_POST.at(0), edit::add(&steer)),
        (Site::RESID_POST.at(0), edit::position(1, edit::scale(2.0))),
    ]);
    // Values that are known whatever comes in are not computed.
    let known = |point: HookPoint| (point, patch(point));
    cases.push(vec![known(Site::ATTN_OUT.at(0)), known(Site::MLP_OUT.at(0)), known(Site::ATTN_OUT.at(last))]);
    cases.push(vec![(Site::EMBED.global(), edit::position(4, edit::zero()))]);
    cases.push(vec![(Site::LN_FINAL_NORMALIZED.global(), edit::position(-1, edit::scale(0.5)))]);
    cases
}

fn swept<'a>(cx: &Context<'a>, tokens: &'a Tokens, cases: Vec<Described>) -> Sweep<'a> {
    let case = |edits: Described| edits.into_iter().fold(Case::new(), |case, (point, edit)| case.edit(point, edit));
    Sweep::new(cx, tokens).cases(cases.into_iter().map(case))
}

fn one_by_one(model: &Decoder, tokens: &Tokens, cases: Vec<Described>) -> Result<Vec<Tensor>> {
    let run = |edits: Described| {
        let run = edits.into_iter().fold(model.trace(tokens), |trace, (point, edit)| trace.edit(point, edit)).run()?;
        Ok(run.logits()?.shallow_clone())
    };
    cases.into_iter().map(run).collect()
}

fn agrees(kind: Kind, bound: f64) {
    let count = std::cell::Cell::new(0);
    everywhere(kind, |model| {
        let (tokens, other) = (prompt(model, "swept", 2, LEN), prompt(model, "other", 2, LEN));
        let expected = one_by_one(model, &tokens, cases(model, &other))?;
        let contexts = [Context::new(model), Context::new(model).with_memory_limit(1)];
        for cx in &contexts {
            for wanted in [PosSlice::All, PosSlice::Last, PosSlice::At(vec![-1, 4])] {
                let mut seen = vec![0; expected.len()];
                let sweep = swept(cx, &tokens, cases(model, &other)).logits(wanted.clone());
                sweep.run(|case, found| {
                    seen[case] += 1;
                    let expected = wanted.of(&expected[case], 1, None)?;
                    // Rounding is relative: single precision has seven digits of a logit, whatever its size.
                    let scale = expected.abs().max().double_value(&[]).max(1.0);
                    let apart = greatest(&expected, found.logits()?) / scale;
                    assert!(apart <= bound, "case {case}, {wanted:?}: {apart:e} apart");
                    Ok(())
                })?;
                assert!(seen.iter().all(|times| *times == 1), "{seen:?}");
                count.set(count.get() + expected.len());
            }
        }
        Ok(())
    });
    say(&format!("sweeps: {} cases as one by one, {kind:?}", count.get()));
}

#[test]
fn a_sweep_gives_what_its_cases_give_one_by_one() {
    agrees(Kind::Double, 1e-10);
}

#[test]
fn in_single_precision_too() {
    agrees(Kind::Float, 1e-5);
}

#[test]
fn padded_rows_are_swept_as_they_are_alone() {
    everywhere(Kind::Double, |model| {
        let rows =
            |name: &str| vec![prompt(model, name, 1, LEN).row(0).unwrap(), prompt(model, name, 1, 6).row(0).unwrap()];
        let (tokens, other) = (Tokens::from_rows(&rows("padded"))?, Tokens::from_rows(&rows("padding"))?);
        let expected = one_by_one(model, &tokens, cases(model, &other))?;
        swept(&Context::new(model), &tokens, cases(model, &other)).logits(PosSlice::Last).run(|case, found| {
            let expected = PosSlice::Last.of(&expected[case], 1, tokens.mask())?;
            assert_close(&expected, found.logits()?, 1e-10, format!("case {case}"));
            Ok(())
        })
    });
}

#[test]
fn what_a_sweep_keeps_is_what_runs_keep() {
    everywhere(Kind::Double, |model| {
        let (tokens, other) = (prompt(model, "kept", 1, LEN), prompt(model, "other", 1, LEN));
        let clean = model.trace(&other).keep(Site::Z).run()?.cache;
        let (points, last) = ([Site::RESID_POST.at(0), Site::Q_INPUT.at(1)], model.dims().n_layers);
        let edits = |layer: usize| edit::head(0, edit::position(3, edit::patch(&clean[Site::Z.at(layer)])));
        let cases = (0..2).map(|layer| Case::new().edit(Site::Z.at(layer), edits(layer)));
        let cx = Context::new(model);
        let sweep = points.iter().fold(Sweep::new(&cx, &tokens).cases(cases), |sweep, point| sweep.keep(*point));
        sweep.stop_at(last.min(2)).run(|case, found| {
            let trace = points.iter().fold(model.trace(&tokens), |trace, point| trace.keep(*point));
            let run = trace.edit(Site::Z.at(case), edits(case)).run()?;
            assert!(found.logits.is_none());
            for point in points {
                assert_close(&run.cache[point], found.cache.get(point)?, 1e-10, point);
            }
            Ok(())
        })
    });
}

#[test]
fn an_edit_of_every_case_holds_before_their_own() {
    everywhere(Kind::Double, |model| {
        let (tokens, other) = (prompt(model, "under", 2, LEN), prompt(model, "other", 2, LEN));
        let noise = Stream::new(9, "noise").normals(&[2, LEN, model.dims().d_model as i64])?;
        let last = Site::MLP_OUT.at(model.dims().n_layers - 1);
        let under =
            || [(Site::EMBED.global(), edit::position(2, edit::add(&noise.narrow(1, 2, 1)))), (last, edit::scale(0.7))];
        let together = |described: Described| under().into_iter().chain(described).collect::<Described>();
        let expected = one_by_one(model, &tokens, cases(model, &other).into_iter().map(together).collect())?;
        let cx = Context::new(model);
        let sweep = swept(&cx, &tokens, cases(model, &other)).logits(PosSlice::Last);
        let sweep = under().into_iter().fold(sweep, |sweep, (point, edit)| sweep.under(point, edit));
        sweep.run(|case, found| {
            let expected = PosSlice::Last.of(&expected[case], 1, None)?;
            assert_close(&expected, found.logits()?, 1e-10, format!("case {case}"));
            Ok(())
        })
    });
}

#[test]
fn values_known_beforehand_are_left_out_and_nothing_else() {
    everywhere(Kind::Double, |model| {
        let (tokens, other) = (prompt(model, "frozen", 2, LEN), prompt(model, "other", 2, LEN));
        let clean = model.trace(&other).keep(Site::ATTN_OUT).keep(Site::MLP_OUT).keep(Site::Z).run()?.cache;
        let last = model.dims().n_layers - 1;
        let described = |case: usize| -> Described {
            let frozen = |site: Site, layer: usize| (site.at(layer), edit::patch(&clean[site.at(layer)]));
            let layers = (0..=last).filter(|layer| *layer != case);
            let attention = layers.clone().map(|layer| frozen(Site::ATTN_OUT, layer));
            let mlps = layers.filter(|_| case > 0).map(|layer| frozen(Site::MLP_OUT, layer));
            attention.chain(mlps).collect()
        };
        let count = model.dims().n_layers;
        let expected = one_by_one(model, &tokens, (0..count).map(described).collect())?;
        let cx = Context::new(model);
        swept(&cx, &tokens, (0..count).map(described).collect()).run(|case, found| {
            assert_close(&expected[case], found.logits()?, 1e-10, format!("case {case}"));
            Ok(())
        })?;
        // Every case alone, so that everything in its batch is known.
        for (case, expected) in expected.iter().enumerate() {
            swept(&cx, &tokens, vec![described(case)]).run(|_, found| {
                assert_close(expected, found.logits()?, 1e-10, format!("case {case} alone"));
                Ok(())
            })?;
        }
        Ok(())
    });
}

#[test]
fn a_plan_says_what_is_saved_and_what_makes_no_sense_is_refused() -> Result<()> {
    let model = crate::families::loaded(&crate::fixtures::root().join("tests/golden/gpt2"), Kind::Float);
    let tokens = prompt(&model, "planned", 1, LEN);
    let cx = Context::new(&model);
    let by_position = || {
        let cell = |layer: usize| (0..LEN).map(move |pos| (layer, pos));
        let case = |(layer, pos)| Case::new().edit(Site::RESID_PRE.at(layer), edit::position(pos, edit::zero()));
        (0..model.dims().n_layers).flat_map(cell).map(case)
    };
    let plan = Sweep::new(&cx, &tokens).cases(by_position()).logits(PosSlice::Last).plan()?;
    assert_eq!(plan.cases, model.dims().n_layers * LEN as usize);
    assert_eq!(plan.loop_passes, plan.cases);
    assert!(plan.passes < plan.loop_passes / 2 && plan.flops < 0.7 * plan.loop_flops, "{plan}");
    let dry = cx.with_dry_run();
    let planned = Sweep::new(&dry, &tokens).cases(by_position()).run(|_, _| panic!("nothing is run"));
    assert!(matches!(planned, Err(Error::Planned(_))));
    let refused = |point: HookPoint, edit: Edit<'static>, stop: Option<usize>| {
        let sweep = Sweep::new(&cx, &tokens).case(Case::new().edit(point, edit));
        let sweep = match stop {
            Some(stop) => sweep.stop_at(stop),
            None => sweep,
        };
        sweep.run(|_, _| Ok(())).expect_err("it makes no sense").to_string()
    };
    assert!(refused(Site::Z.at(9), edit::zero(), None).contains("blocks.9.attn.hook_z"));
    assert!(refused(Site::Z.at(1), edit::zero(), Some(1)).contains("behind block 1"));
    assert!(refused(Site::Z.at(0), edit::head(99, edit::zero()), None).contains("out of range"));
    assert!(refused(Site::Z.at(0), edit::position(LEN, edit::zero()), None).contains("out of range"));
    assert!(refused(Site::Z.at(0), edit::position(-LEN - 1, edit::zero()), None).contains("out of range"));
    assert!(Sweep::new(&cx, &tokens).run(|_, _| panic!("there is no case")).is_ok());
    Ok(())
}
