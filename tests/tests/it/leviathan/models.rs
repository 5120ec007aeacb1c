//! Models of every mixer and feed-forward: the laws of hooks and caches, files, tools.

use arrakis_core::{Context, Model, ModelExt, PosSlice, Result, Site, Stream, Tokens, Tool, Weight, edit};
use arrakis_leviathan::{Config, FeedForward, Lags, Leviathan, Mixer, Positions, sites, weights};
use arrakis_models::{Generation, LoadOptions, Sampling};
use tch::{Device, Kind, Tensor};

use super::{causal_configs, config, correlation, model};
use crate::fixtures::greatest;
use crate::laws::{self, LEN, assert_close, assert_equal, prompt};

/// Runs a law on every causal configuration, naming the one that breaks it.
fn everywhere(kind: Kind, law: impl Fn(&Leviathan) -> Result<()>) {
    for config in causal_configs() {
        let model = model(&config, 3, kind);
        if let Err(error) = law(&model) {
            panic!("{config:?}: {error}");
        }
    }
}

#[test]
fn points_are_visited_in_order_and_of_their_shapes() {
    everywhere(Kind::Float, |model| laws::points_are_visited(model));
    laws::points_are_visited(&model(&config(Mixer::Original), 3, Kind::Float)).unwrap();
}

#[test]
fn an_identity_edit_is_bit_equal_and_watching_is_rounding() {
    everywhere(Kind::Double, |model| {
        laws::identity_changes_nothing(model)?;
        laws::replay_changes_nothing(model)?;
        let tokens = prompt(model, "watching", 2, LEN);
        let plain = model.trace(&tokens).run()?;
        for point in model.points() {
            let kept = model.trace(&tokens).keep(*point).run()?;
            assert_close(kept.logits()?, plain.logits()?, 1e-12, format!("watching {point}"));
        }
        let watched = model.trace(&tokens).keep("*").run()?;
        assert_close(watched.logits()?, plain.logits()?, 1e-12, "everything watched");
        Ok(())
    });
}

#[test]
fn no_token_changes_what_came_before_it() {
    everywhere(Kind::Double, |model| {
        for watch in [false, true] {
            let tokens = prompt(model, "causal", 1, LEN);
            let logits = |tokens: &Tokens| {
                let trace = model.trace(tokens);
                let trace = if watch { trace.keep(Site::PATTERN) } else { trace };
                Ok::<_, arrakis_core::Error>(trace.run()?.logits()?.shallow_clone())
            };
            let before = logits(&tokens)?;
            for changed in 1..LEN {
                let mut ids = tokens.row(0)?;
                ids[changed as usize] = (ids[changed as usize] + 1) % model.dims().vocab as i64;
                let after = logits(&Tokens::from_ids(&ids)?)?;
                let early = |x: &Tensor| x.narrow(1, 0, changed);
                assert_close(&early(&before), &early(&after), 1e-13, format!("token {changed}"));
                assert!(greatest(&before.narrow(1, changed, 1), &after.narrow(1, changed, 1)) > 1e-9);
            }
        }
        Ok(())
    });
}

#[test]
fn the_published_score_sees_the_future_and_the_other_rows() {
    let model = model(&config(Mixer::Original), 3, Kind::Double);
    let tokens = prompt(&model, "leak", 2, LEN);
    let before = model.trace(&tokens).run().unwrap().logits.unwrap();
    let mut rows = [tokens.row(0).unwrap(), tokens.row(1).unwrap()];
    rows[0][7] = (rows[0][7] + 1) % 11;
    let after = model.trace(&Tokens::from_rows(&rows).unwrap()).run().unwrap().logits.unwrap();
    // Its loss is therefore no evidence: what is to be predicted is in what it reads.
    assert!(greatest(&before.narrow(0, 0, 1).narrow(1, 0, 7), &after.narrow(0, 0, 1).narrow(1, 0, 7)) > 1e-6);
    assert!(greatest(&before.narrow(0, 1, 1), &after.narrow(0, 1, 1)) > 1e-6, "and of other rows too");
    let cached = model.trace(&tokens).keep_past().run().unwrap_err().to_string();
    assert!(cached.contains("original"), "{cached}");
}

#[test]
fn one_lag_is_attention_bit_for_bit() {
    for lags in [Lags::Diagonal, Lags::Separable] {
        let attention = Leviathan::new(&config(Mixer::Attention), 5).unwrap();
        let leviathan = Leviathan::new(&config(correlation(1, lags)), 5).unwrap();
        let tokens = prompt(&attention, "one lag", 2, LEN);
        let run = |model: &Leviathan| model.trace(&tokens).run().unwrap().logits.unwrap();
        assert_equal(&run(&attention), &run(&leviathan), format!("{lags:?}"));
    }
}

#[test]
fn cached_padded_and_batched_passes_are_the_whole_pass() {
    everywhere(Kind::Double, |model| {
        let tokens = prompt(model, "cached", 2, LEN);
        let whole = model.trace(&tokens).run()?;
        let first = Tokens::from_tensor(&tokens.ids().narrow(1, 0, 5))?;
        let past = model.trace(&first).keep_past().run()?.past.expect("asked for");
        let mut past = past;
        for pos in 5..LEN {
            let next = Tokens::from_tensor(&tokens.ids().narrow(1, pos, 1))?;
            let run = model.trace(&next).past(&past).keep_past().run()?;
            assert_close(run.logits()?, &whole.logits()?.narrow(1, pos, 1), 1e-12, format!("cached {pos}"));
            let watched = model.trace(&next).past(&past).keep("*").run()?;
            assert_close(watched.logits()?, run.logits()?, 1e-12, format!("cached and watched {pos}"));
            past = run.past.expect("asked for");
        }
        let row = tokens.row(0)?;
        let single = model.trace(&Tokens::from_ids(&row[..5])?).logits(PosSlice::Last).run()?;
        for left in [true, false] {
            let pads = [0; 3];
            let ids = if left { [&pads[..], &row[..5]].concat() } else { [&row[..5], &pads[..]].concat() };
            let real: Vec<bool> = (0..8).map(|pos| if left { pos >= 3 } else { pos < 5 }).collect();
            let padded = Tokens::from_ids(&ids)?.with_mask(&Tensor::from_slice(&real).unsqueeze(0))?;
            let run = model.trace(&padded).logits(PosSlice::Last).run()?;
            assert_close(run.logits()?, single.logits()?, 1e-12, format!("padded, left {left}"));
            let watched = model.trace(&padded).logits(PosSlice::Last).keep("*").run()?;
            assert_close(watched.logits()?, single.logits()?, 1e-12, format!("padded and watched, left {left}"));
        }
        let rows = Tokens::from_rows(&[tokens.row(0)?, tokens.row(1)?[..6].to_vec()])?;
        let batch = model.trace(&rows).logits(PosSlice::Last).run()?;
        let short = model.trace(&Tokens::from_ids(&tokens.row(1)?[..6])?).logits(PosSlice::Last).run()?;
        assert_close(&batch.logits()?.narrow(0, 1, 1), short.logits()?, 1e-12, "a row of a batch");
        Ok(())
    });
}

#[test]
fn a_run_stops_and_goes_on_and_gradients_are_finite_differences() {
    everywhere(Kind::Double, |model| {
        laws::halves_are_the_whole(model)?;
        let tokens = prompt(model, "gradients", 2, LEN);
        let metric = |logits: &Tensor| Ok(logits.select(1, -1).select(1, 5).sum(Kind::Double));
        let mut sites = vec![Site::RESID_PRE, Site::V, Site::Z, Site::MLP_POST];
        match model.config().mixer {
            Mixer::Correlation { .. } => sites.push(sites::LAG),
            Mixer::Involution { .. } => sites.push(sites::KERNEL),
            _ => sites.push(Site::PATTERN),
        }
        if matches!(model.config().feed_forward, FeedForward::Mixture { .. }) {
            sites.extend([sites::ROUTER_SCORES, sites::ROUTER]);
        }
        let trace = sites.iter().fold(model.trace(&tokens), |trace, site| trace.keep(site.at(0)));
        let run = trace.gradients(metric).run()?;
        for point in sites.into_iter().map(|site| site.at(0)) {
            let direction = Stream::new(1, "direction").normals(&run.cache[point].size())?;
            let along = |step: f64| -> Result<f64> {
                let moved = model.trace(&tokens).edit(point, edit::add(&(&direction * step))).run()?;
                Ok(metric(moved.logits()?)?.double_value(&[]))
            };
            let difference = (along(1e-5)? - along(-1e-5)?) / 2e-5;
            let gradient = (&run.gradients[point] * &direction).sum(Kind::Double).double_value(&[]);
            let apart = (difference - gradient).abs() / gradient.abs().max(1.0);
            assert!(apart < 1e-6, "{point}: {difference} and {gradient}");
        }
        Ok(())
    });
}

#[test]
fn heads_read_and_write_by_their_own_weights_and_lags_can_be_ablated() {
    everywhere(Kind::Double, |model| {
        let tokens = prompt(model, "heads", 2, LEN);
        let run = model.trace(&tokens).keep("blocks.0.*").run()?;
        let normed = &run.cache[Site::LN1_NORMALIZED.at(0)] * model.weight(Weight::LN1_W.at(0))?
            + model.weight(Weight::LN1_B.at(0))?;
        let mut projections = vec![(Site::V, Weight::V, Weight::V_B)];
        if matches!(model.config().mixer, Mixer::Involution { .. }) {
            projections.push((sites::KERNEL, weights::KERNEL, weights::KERNEL_B));
        } else {
            projections.extend([(Site::Q, Weight::Q, Weight::Q_B), (Site::K, Weight::K, Weight::K_B)]);
        }
        for (site, weight, bias) in projections {
            let projected = Tensor::einsum("bpm,hmd->bphd", &[&normed, &model.weight(weight.at(0))?], None::<i64>)
                + model.weight(bias.at(0))?;
            assert_close(&projected, &run.cache[site.at(0)], 1e-12, site);
        }
        let z = &run.cache[Site::Z.at(0)];
        let result = Tensor::einsum("bphd,hdm->bphm", &[z, &model.weight(Weight::O.at(0))?], None::<i64>);
        assert_close(&result, &run.cache[Site::RESULT.at(0)], 1e-12, "result");
        let neurons = run.cache[Site::MLP_POST.at(0)].matmul(&model.weight(Weight::OUT.at(0))?)
            + model.weight(Weight::OUT_B.at(0))?;
        assert_close(&neurons, &run.cache[Site::MLP_OUT.at(0)], 1e-12, "neurons");
        let same = model.weights().into_iter().map(|weight| Ok((weight, model.weight(weight)?)));
        let same = model.with_weights(same.collect::<Result<_>>()?)?;
        assert_eq!(model.digest()?, same.digest()?);
        assert_equal(model.trace(&tokens).run()?.logits()?, same.trace(&tokens).run()?.logits()?, "every weight back");
        if let Mixer::Correlation { window, lags: Lags::Diagonal } = model.config().mixer {
            let here = Tensor::zeros([window as i64, window as i64], (Kind::Double, Device::Cpu));
            let _ = here.get(0).get(0).fill_(1.0);
            let ablated = model.trace(&tokens).edit(sites::LAG, edit::set(&here)).run()?;
            let attention = Config { mixer: Mixer::Attention, ..model.config().clone() };
            let zero_lag = (0..2).map(|layer| {
                let weight = weights::LAG.at(layer);
                let lags = model.weight(weight)?.zeros_like();
                let _ = lags.narrow(1, 0, 1).fill_(1.0);
                Ok((weight, lags))
            });
            let pruned = model.with_weights(zero_lag.collect::<Result<_>>()?)?;
            assert_close(ablated.logits()?, pruned.trace(&tokens).run()?.logits()?, 1e-12, "no lags");
            assert!(attention.parameters() < model.config().parameters());
            assert!(greatest(ablated.logits()?, run.logits()?) > 1e-6);
        }
        Ok(())
    });
}

#[test]
fn a_saved_model_is_the_model_and_damage_is_named() {
    let folder = tempfile::tempdir().unwrap();
    everywhere(Kind::Float, |model| {
        let place = folder.path().join("model");
        model.save(&place).unwrap();
        let options = LoadOptions::default();
        let loaded = Leviathan::load(&place.to_string_lossy(), &options).unwrap();
        assert_eq!(loaded.config(), model.config());
        assert_eq!(loaded.digest()?, model.digest()?);
        Ok(())
    });
    let place = folder.path().join("model");
    let load = || Leviathan::load(&place.to_string_lossy(), &LoadOptions::default()).unwrap_err().to_string();
    let config = std::fs::read_to_string(place.join("config.json")).unwrap();
    let changed = |from: &str, to: &str| std::fs::write(place.join("config.json"), config.replace(from, to)).unwrap();
    changed("\"d_mlp\": 24", "\"d_mlp\": 25");
    assert!(load().contains("mlp.W_in"));
    changed("\"n_layers\": 2", "\"n_layers\": 1");
    assert!(load().contains("blocks.1."));
    changed("\"n_layers\": 2", "\"n_layers\": 3");
    assert!(load().contains("blocks.2."));
    changed("\"n_heads\": 2", "\"n_heads\": 3");
    assert!(load().contains("n_heads"));
    changed("\"context\"", "\"kontext\"");
    assert!(load().contains("kontext"));
    changed("leviathan", "leviathon");
    assert!(load().contains("leviathan"));
    std::fs::write(place.join("config.json"), &config).unwrap();
    let file = place.join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
    assert!(load().contains("cut short"));
}

#[test]
fn configurations_that_make_no_model_are_refused_by_name() {
    let message = |config: Config| Leviathan::new(&config, 0).unwrap_err().to_string();
    let plain = || config(Mixer::Attention);
    assert!(message(Config { n_heads: 3, ..plain() }).contains("3 heads do not divide"));
    assert!(message(Config { n_layers: 0, ..plain() }).contains("n_layers"));
    assert!(message(Config { vocab: usize::MAX, ..plain() }).contains("vocab"));
    assert!(message(config(correlation(33, Lags::Diagonal))).contains("window: 33"));
    assert!(message(config(correlation(0, Lags::Separable))).contains("window: 0"));
    assert!(message(config(correlation(2, Lags::LowRank(3)))).contains("rank"));
    assert!(message(config(Mixer::Involution { kernel: 0 })).contains("kernel"));
    assert!(message(Config { n_heads: 16, positions: Positions::Rotary, ..plain() }).contains("rotated"));
    let mixture = FeedForward::Mixture { experts: 2, top_k: 3 };
    assert!(message(Config { feed_forward: mixture, ..plain() }).contains("3 of 2 experts"));
    for text in ["attention:1", "diagonal", "separable:x", "low_rank:4", "fourier"] {
        assert!(text.parse::<Mixer>().unwrap_err().to_string().contains(text));
    }
    for mixer in super::causal_mixers().into_iter().chain([Mixer::Original]) {
        assert_eq!(mixer.to_string().parse::<Mixer>().unwrap(), mixer);
    }
    let fitted = plain().fitted(5_000).unwrap();
    let next = Config { d_mlp: fitted.d_mlp + 1, ..plain() };
    assert!(fitted.parameters() <= 5_000 && next.parameters() > 5_000);
    assert!(plain().fitted(100).is_err());
}

#[test]
fn tools_and_generation_work_on_every_configuration() {
    everywhere(Kind::Float, |model| {
        let cx = Context::new(model);
        let ids = arrakis_core::Prompt::Ids(vec![1, 2, 3, 4, 1, 2, 3]);
        let lens = serde_json::json!({ "prompt": ids, "top": 2 });
        arrakis_core::tool("logit_lens.lens")?.ask(lens, &cx)?;
        if !matches!(model.config().mixer, Mixer::Involution { .. }) {
            // The usual length is cut to what a vocabulary of 11 and a context of 32 hold.
            arrakis_core::tool("attention.heads")?.ask(serde_json::json!({}), &cx)?;
        }
        let tokens = Tokens::from_ids(&[1, 2, 3])?;
        let sampling = Sampling { max_tokens: 6, ..Sampling::default() };
        let generated =
            Generation::new(model, &tokens).sampling(sampling).keep(Site::RESID_POST.at(1)).run(|_, _| Ok(()))?;
        let whole = model.trace(&generated.tokens).keep(Site::RESID_POST.at(1)).run()?;
        let point = Site::RESID_POST.at(1);
        assert_close(&whole.cache[point], &generated.cache[point], 1e-4, "generated");
        Ok(())
    });
    let _ = arrakis_tools::LogitLens::NAME;
}
