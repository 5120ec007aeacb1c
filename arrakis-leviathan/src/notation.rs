//! How positions, mixers and feed-forwards are written in a word: `separable:4`, `mixture:8:2`.

use std::fmt;
use std::str::FromStr;

use crate::config::{FeedForward, Lags, Mixer, Positions};
use crate::{Error, Result};

impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Learned => "learned",
            Self::Rotary => "rotary",
            Self::None => "none",
        })
    }
}

impl FromStr for Positions {
    type Err = Error;

    /// `learned`, `rotary` or `none`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "learned" => Ok(Self::Learned),
            "rotary" => Ok(Self::Rotary),
            "none" => Ok(Self::None),
            _ => Err(Error::config(format!("positions `{text}`"), "positions are `learned`, `rotary` or `none`")),
        }
    }
}

impl fmt::Display for Mixer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attention => f.write_str("attention"),
            Self::Correlation { window, lags: Lags::Diagonal } => write!(f, "diagonal:{window}"),
            Self::Correlation { window, lags: Lags::Separable } => write!(f, "separable:{window}"),
            Self::Correlation { window, lags: Lags::LowRank(rank) } => write!(f, "low_rank:{window}:{rank}"),
            Self::Original => f.write_str("original"),
            Self::Involution { kernel } => write!(f, "involution:{kernel}"),
        }
    }
}

impl FromStr for Mixer {
    type Err = Error;

    /// `attention`, `diagonal:W`, `separable:W`, `low_rank:W:R`, `original` or `involution:K`.
    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split(':');
        let name = words.next().unwrap_or_default();
        let numbers: Option<Vec<usize>> = words.map(|word| word.parse().ok()).collect();
        Ok(match (name, numbers.as_deref()) {
            ("attention", Some([])) => Self::Attention,
            ("diagonal", Some([window])) => Self::Correlation { window: *window, lags: Lags::Diagonal },
            ("separable", Some([window])) => Self::Correlation { window: *window, lags: Lags::Separable },
            ("low_rank", Some([window, rank])) => Self::Correlation { window: *window, lags: Lags::LowRank(*rank) },
            ("original", Some([])) => Self::Original,
            ("involution", Some([kernel])) => Self::Involution { kernel: *kernel },
            _ => {
                let why = "a mixer is `attention`, `diagonal:W`, `separable:W`, `low_rank:W:R`, `original` or \
                           `involution:K`";
                return Err(Error::config(format!("mixer `{text}`"), why));
            }
        })
    }
}

impl fmt::Display for FeedForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dense => f.write_str("dense"),
            Self::Mixture { experts, top_k } => write!(f, "mixture:{experts}:{top_k}"),
        }
    }
}

impl FromStr for FeedForward {
    type Err = Error;

    /// `dense` or `mixture:EXPERTS:TOP_K`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || Error::config(format!("feed-forward `{text}`"), "a feed-forward is `dense` or `mixture:EXPERTS:TOP_K`");
        if text == "dense" {
            return Ok(Self::Dense);
        }
        let numbers = text.strip_prefix("mixture:").and_then(|rest| rest.split_once(':')).ok_or_else(wrong)?;
        let number = |text: &str| text.parse().map_err(|_| wrong());
        Ok(Self::Mixture { experts: number(numbers.0)?, top_k: number(numbers.1)? })
    }
}
