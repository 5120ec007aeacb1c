//! Round numbers along a range, and numbers as text.

/// Round numbers of a range, written with the same number of decimals.
#[derive(Debug)]
pub(crate) struct Ticks {
    pub(crate) values: Vec<f64>,
    pub(crate) texts: Vec<String>,
}

/// About `count` ticks from `low` to `high`, at multiples of 1, 2 or 5 times a power of ten; two at least, if they fit.
pub(crate) fn ticks(low: f64, high: f64, count: f64) -> Ticks {
    let denser = [1.0, 2.0].into_iter().map(|times| spaced(low, high, count * times));
    denser.into_iter().find(|ticks| ticks.values.len() >= 2).unwrap_or_else(|| spaced(low, high, count * 4.0))
}

fn spaced(low: f64, high: f64, count: f64) -> Ticks {
    let raw = (high / 2.0 - low / 2.0) / count.max(1.0) * 2.0;
    let decade = 10f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * decade >= raw * 0.999).unwrap_or(10.0);
    let step = factor * decade;
    let slack = step * 1e-6;
    let first = ((low - slack) / step).ceil();
    let last = ((high + slack) / step).floor();
    let values: Vec<f64> = if step.is_normal() && last - first < 1000.0 {
        (0..=(last - first).max(0.0) as usize).map(|index| (first + index as f64) * step + 0.0).collect()
    } else {
        vec![low]
    };
    let most = low.abs().max(high.abs());
    let texts = values.iter().map(|&value| text(value, step, most)).collect();
    Ticks { values, texts }
}

/// A number to about three digits of the greatest beside it, `most`.
pub(crate) fn short(value: f64, most: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "∞".into() } else { "−∞".into() };
    }
    let most = if most > 0.0 { most } else { 1.0 };
    let written = text(value, 10f64.powf(most.log10().floor() - 2.0), most);
    let vanished = value != 0.0 && written.chars().all(|c| matches!(c, '0' | '.'));
    // A small number is not 0: it is written by its own size.
    if vanished { text(value, 0.0, 0.0) } else { written }
}

fn text(value: f64, step: f64, most: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let written = if (1e-3..1e6).contains(&most) {
        let decimals = (-step.log10() - 1e-9).ceil().clamp(0.0, 9.0) as usize;
        format!("{value:.decimals$}")
    } else {
        let plain = if most > 0.0 { format!("{value:.2e}") } else { format!("{value:.0e}") };
        match plain.split_once('e') {
            Some((digits, _)) if digits.parse::<f64>() == Ok(0.0) => "0".into(),
            Some((digits, power)) => format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.')),
            None => plain,
        }
    };
    let zero = written.chars().all(|c| matches!(c, '-' | '0' | '.'));
    if zero { written.trim_start_matches('-').to_owned() } else { written.replace('-', "−") }
}
