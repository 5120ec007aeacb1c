//! How the next token is chosen.

use arrakis_core::{Error, Result, Stream};

/// How the next token is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// How many tokens at most; generation also ends where the context does.
    pub max_tokens: usize,
    /// Divides the logits; 0 always takes the likeliest token.
    pub temperature: f64,
    /// Chooses among this many of the likeliest tokens only.
    pub top_k: Option<usize>,
    /// Chooses among the likeliest tokens that hold this much probability together (Holtzman et al. 2020).
    pub top_p: Option<f64>,
    /// The seed of the choices.
    pub seed: u64,
    /// Tokens that end a row.
    pub stop: Vec<i64>,
}

impl Default for Sampling {
    /// Twenty tokens, each the likeliest.
    fn default() -> Self {
        Self { max_tokens: 20, temperature: 0.0, top_k: None, top_p: None, seed: 0, stop: Vec::new() }
    }
}

impl Sampling {
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |what: &str, why: &str| Err(Error::Invalid { what: what.into(), why: why.into() });
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            return refuse("temperature", "it is 0 or a positive number");
        }
        if self.top_k == Some(0) {
            return refuse("top_k", "it is at least 1");
        }
        if self.top_p.is_some_and(|mass| !(mass > 0.0 && mass <= 1.0)) {
            return refuse("top_p", "it is above 0 and at most 1");
        }
        Ok(())
    }

    /// The next token of a row from its logits; none where they hold NaN or no greatest one that is finite.
    pub(crate) fn choose(&self, logits: &[f64], stream: &mut Stream) -> Option<i64> {
        if logits.iter().any(|logit| logit.is_nan()) {
            return None;
        }
        let mut order: Vec<usize> = (0..logits.len()).collect();
        if self.temperature == 0.0 {
            // The first of equals, as LibTorch's `argmax` has it.
            let likeliest = order.into_iter().rev().max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
            return likeliest.filter(|id| logits[*id].is_finite()).map(|id| id as i64);
        }
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        order.truncate(self.top_k.unwrap_or(usize::MAX));
        let greatest = logits[*order.first()?];
        if !greatest.is_finite() {
            return None;
        }
        let weights: Vec<f64> = order.iter().map(|id| ((logits[*id] - greatest) / self.temperature).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut mass = 0.0;
        let kept = weights.iter().position(|weight| {
            mass += weight / total;
            self.top_p.is_some_and(|wanted| mass >= wanted)
        });
        let kept = kept.map_or(weights.len(), |last| last + 1);
        let mut draw = stream.uniform() * weights[..kept].iter().sum::<f64>();
        let chosen = weights[..kept].iter().position(|weight| {
            draw -= weight;
            draw < 0.0
        });
        Some(order[chosen.unwrap_or(kept - 1)] as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::Sampling;
    use arrakis_core::Stream;

    #[test]
    fn top_k_and_top_p_leave_only_the_likeliest() {
        let logits = [1.0, 3.0, 2.0, -1.0];
        let drawn = |sampling: &Sampling| {
            let mut stream = Stream::new(3, "draws");
            let mut seen: Vec<i64> = (0..200).map(|_| sampling.choose(&logits, &mut stream).unwrap()).collect();
            seen.sort_unstable();
            seen.dedup();
            seen
        };
        let sampling = Sampling { temperature: 1.0, ..Sampling::default() };
        assert_eq!(drawn(&Sampling { top_k: Some(2), ..sampling.clone() }), [1, 2]);
        assert_eq!(drawn(&Sampling { top_p: Some(0.5), ..sampling.clone() }), [1]);
        assert_eq!(drawn(&sampling), [0, 1, 2, 3]);
        assert_eq!(drawn(&Sampling::default()), [1]);
        let unlikely = [f64::NEG_INFINITY, 0.0];
        for temperature in [0.0, 1.0] {
            let sampling = Sampling { temperature, ..Sampling::default() };
            let chosen = |logits: &[f64]| sampling.choose(logits, &mut Stream::new(3, "one draw"));
            assert_eq!(chosen(&unlikely), Some(1));
            assert_eq!(chosen(&[0.0, f64::NAN]), None);
            assert_eq!(chosen(&[0.0, f64::INFINITY]), None);
            assert_eq!(chosen(&[f64::NEG_INFINITY; 2]), None);
        }
    }
}
