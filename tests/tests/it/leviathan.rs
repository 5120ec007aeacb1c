//! Leviathan: its mixers against loops and fixtures, its models under the laws, and its training.

mod mixers;
mod models;
mod tools;
mod training;

use arrakis_leviathan::{Config, FeedForward, Lags, Leviathan, Mixer, Positions};
use arrakis_models::LoadOptions;
use tch::{Device, Kind};

pub(crate) fn config(mixer: Mixer) -> Config {
    Config {
        n_layers: 2,
        n_heads: 2,
        d_model: 16,
        d_mlp: 24,
        vocab: 11,
        context: 32,
        positions: Positions::Learned,
        mixer,
        feed_forward: FeedForward::Dense,
    }
}

pub(crate) fn correlation(window: usize, lags: Lags) -> Mixer {
    Mixer::Correlation { window, lags }
}

/// Every mixer but the published one, which keeps no law of causal models.
pub(crate) fn causal_mixers() -> Vec<Mixer> {
    vec![
        Mixer::Attention,
        correlation(3, Lags::Diagonal),
        correlation(3, Lags::Separable),
        correlation(4, Lags::LowRank(2)),
        Mixer::Involution { kernel: 5 },
    ]
}

/// Every configuration that is causal: mixers, feed-forwards and positions.
pub(crate) fn causal_configs() -> Vec<Config> {
    let mixture = FeedForward::Mixture { experts: 3, top_k: 2 };
    let mut configs: Vec<Config> = causal_mixers().into_iter().map(config).collect();
    configs.push(Config { positions: Positions::Rotary, ..config(correlation(3, Lags::Separable)) });
    configs.push(Config { positions: Positions::Rotary, feed_forward: mixture, ..config(Mixer::Attention) });
    configs.push(Config { feed_forward: mixture, ..config(correlation(3, Lags::Diagonal)) });
    configs
}

/// A model in double precision with weights great enough that nothing is near zero by accident.
pub(crate) fn model(config: &Config, seed: u64, kind: Kind) -> Leviathan {
    use arrakis_core::Model as _;
    let begun = Leviathan::new(config, seed).unwrap();
    let weights = begun.weights().into_iter().map(|weight| {
        let value = begun.weight(weight).unwrap();
        let name = weight.to_string();
        let noise = arrakis_core::Stream::new(seed, &name).normals(&value.size()).unwrap().to_kind(Kind::Float);
        (name, value + noise * 0.2)
    });
    let weights: Vec<(String, tch::Tensor)> = weights.collect();
    let mut json = serde_json::json!({ "model_type": "leviathan" });
    json.as_object_mut().unwrap().extend(serde_json::to_value(config).unwrap().as_object().unwrap().clone());
    let options = LoadOptions { kind, device: Device::Cpu };
    let json = json.as_object().unwrap().clone();
    Leviathan::from_parts("a test".as_ref(), json, &weights, None, &options).unwrap()
}
