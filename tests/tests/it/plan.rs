//! What a run would hold, said before it runs, is what it then holds.

use arrakis_core::{Cache, ModelExt, PosSlice, Site, Tokens};
use tch::{Kind, Tensor};

use crate::families::loaded;
use crate::fixtures;

fn bytes(value: &Tensor) -> u64 {
    (value.numel() * value.kind().elt_size_in_bytes()) as u64
}

fn sum(cache: &Cache) -> u64 {
    cache.iter().map(|(_, value)| bytes(value)).sum()
}

#[test]
fn a_plan_is_what_the_run_holds_in_every_folder() {
    let tokens = Tokens::from_rows(&[vec![3, 1, 4, 1, 5], vec![2, 7, 1]]).unwrap();
    for folder in fixtures::model_folders() {
        for kind in [Kind::Double, Kind::Float, Kind::BFloat16] {
            let model = loaded(&folder, kind);
            let trace = || model.trace(&tokens).keep("*").keep_before(Site::Z).keep_past();
            let (plan, run) = (trace().plan().unwrap(), trace().run().unwrap());
            assert_eq!((plan.batch, plan.pos), (2, 5));
            let order: Vec<_> = plan.kept.iter().map(|value| value.point).collect();
            assert_eq!(order, run.cache.points());
            for value in &plan.kept {
                let found = &run.cache[value.point];
                assert_eq!(value.shape, found.size(), "{}", value.point);
                if kind == Kind::BFloat16 && value.point.site == Site::ATTN_SCORES {
                    assert!(bytes(found) <= value.bytes);
                } else {
                    assert_eq!(value.bytes, bytes(found), "{} of `{}` in {kind:?}", value.point, folder.display());
                }
            }
            assert_eq!(plan.before.iter().map(|value| value.bytes).sum::<u64>(), sum(&run.before));
            assert_eq!(plan.logits_bytes, bytes(run.logits().unwrap()));
            let past = run.past.unwrap();
            let pairs = past.layers.iter().map(|(keys, values)| bytes(keys) + bytes(values));
            assert_eq!(plan.past_bytes, pairs.sum::<u64>());
        }
    }
}

#[test]
fn a_plan_follows_what_the_run_is() {
    let model = loaded(&fixtures::root().join("tests/golden/llama"), Kind::Double);
    let tokens = Tokens::from_ids(&[3, 1, 4, 1]).unwrap();
    let metric = |logits: &Tensor| Ok(logits.sum(Kind::Double));
    let trace = || model.trace(&tokens).keep(Site::Z).keep(Site::Z.at(0)).gradients(metric);
    let (plan, run) = (trace().plan().unwrap(), trace().run().unwrap());
    assert_eq!((plan.kept_bytes(), plan.gradient_bytes), (sum(&run.cache), sum(&run.gradients)));
    assert_eq!(plan.bytes(), plan.kept_bytes() + plan.gradient_bytes + plan.logits_bytes);

    let past = model.trace(&tokens).keep_past().run().unwrap().past.unwrap();
    let trace = || model.trace(&tokens).past(&past).keep("*").keep_past().logits(PosSlice::Last);
    let (plan, run) = (trace().plan().unwrap(), trace().run().unwrap());
    assert_eq!((plan.kept_bytes(), plan.logits_bytes), (sum(&run.cache), bytes(run.logits().unwrap())));
    let pairs = run.past.unwrap().layers;
    assert_eq!(plan.past_bytes, pairs.iter().map(|(keys, values)| bytes(keys) + bytes(values)).sum::<u64>());

    let trace = || model.trace(&tokens).keep("*").stop_at(1);
    let (plan, run) = (trace().plan().unwrap(), trace().run().unwrap());
    assert_eq!((plan.kept_bytes(), plan.logits_bytes), (sum(&run.cache), 0));
    let rest = || model.trace(&tokens).keep("*").start_at(1, &run.residual).logits(PosSlice::At(vec![0, 2]));
    let (plan, run) = (rest().plan().unwrap(), rest().run().unwrap());
    assert_eq!((plan.kept_bytes(), plan.logits_bytes), (sum(&run.cache), bytes(run.logits().unwrap())));

    let unknown = model.trace(&tokens).keep("blocks.0.attn.hook_zz").plan().unwrap_err().to_string();
    assert!(unknown.contains("blocks.0.attn.hook_z"), "{unknown}");
    plan.check(plan.bytes()).unwrap();
    let refused = plan.check(plan.bytes() - 1).unwrap_err().to_string();
    assert!(refused.contains(&format!("{} bytes", plan.bytes())), "{refused}");
}
