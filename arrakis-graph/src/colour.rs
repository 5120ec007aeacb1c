//! Colours, and the ramps that turn numbers into them.

use std::fmt;

use arrakis_core::Scale;

/// A colour in sRGB: red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour(pub u8, pub u8, pub u8);

impl Colour {
    pub(crate) const WHITE: Self = Self(255, 255, 255);
    pub(crate) const BLACK: Self = Self(20, 20, 20);

    const fn hex(rgb: u32) -> Self {
        Self((rgb >> 16) as u8, (rgb >> 8) as u8, rgb as u8)
    }

    /// The colour a share `t` of the way to `other`.
    pub(crate) fn towards(self, other: Self, t: f64) -> Self {
        let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * t).round() as u8;
        Self(mix(self.0, other.0), mix(self.1, other.1), mix(self.2, other.2))
    }

    /// Relative luminance, from 0 to 1 (WCAG 2.2).
    pub(crate) fn luminance(self) -> f64 {
        let linear = |channel: u8| {
            let share = f64::from(channel) / 255.0;
            if share <= 0.04045 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(self.0) + 0.7152 * linear(self.1) + 0.0722 * linear(self.2)
    }

    /// Black or white, whichever stands out more on this colour.
    pub(crate) fn ink(self) -> Self {
        let contrast = |ink: Self| {
            let (a, b) = (ink.luminance(), self.luminance());
            (a.max(b) + 0.05) / (a.min(b) + 0.05)
        };
        if contrast(Self::BLACK) >= contrast(Self::WHITE) { Self::BLACK } else { Self::WHITE }
    }
}

/// Viridis (van der Walt and Smith, 2015), every eighth of its 256 colours.
const VIRIDIS: [u32; 33] = [
    0x0044_0154,
    0x0047_0d60,
    0x0048_186a,
    0x0048_2374,
    0x0047_2d7b,
    0x0045_3681,
    0x0042_4086,
    0x003f_4989,
    0x003b_528b,
    0x0037_5a8d,
    0x0033_638d,
    0x002f_6a8e,
    0x002c_728e,
    0x0029_7a8e,
    0x0026_818e,
    0x0023_898e,
    0x0021_908c,
    0x001f_988b,
    0x001f_9f88,
    0x0021_a685,
    0x0028_ae80,
    0x0031_b57b,
    0x003e_bc74,
    0x004c_c26c,
    0x005d_c963,
    0x006e_ce58,
    0x0082_d34c,
    0x0096_d83f,
    0x00ab_dc32,
    0x00c0_df24,
    0x00d5_e21a,
    0x00ea_e51a,
    0x00fd_e725,
];

/// `ColorBrewer`'s red–blue (Brewer, 2002), turned so that blue is negative, with a white middle.
const BLUE_RED: [u32; 11] = [
    0x0005_3061,
    0x0021_66ac,
    0x0043_93c3,
    0x0092_c5de,
    0x00d1_e5f0,
    0x00ff_ffff,
    0x00fd_dbc7,
    0x00f4_a582,
    0x00d6_604d,
    0x00b2_182b,
    0x0067_001f,
];

/// Okabe and Ito's palette (2008) from the most to the least legible on white; black is left to the text.
const OKABE_ITO: [u32; 7] = [0x0000_72b2, 0x00d5_5e00, 0x0000_9e73, 0x00cc_79a7, 0x00e6_9f00, 0x0056_b4e9, 0x00f0_e442];

impl fmt::Display for Colour {
    /// `#RRGGBB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02X}{:02X}{:02X}", self.0, self.1, self.2)
    }
}

/// The stops of the sequential ramp, as a page's script reads them.
pub(crate) fn viridis() -> Vec<[u8; 3]> {
    stops(&VIRIDIS)
}

/// The stops of the diverging ramp.
pub(crate) fn blue_red() -> Vec<[u8; 3]> {
    stops(&BLUE_RED)
}

fn stops(stops: &[u32]) -> Vec<[u8; 3]> {
    stops.iter().map(|&rgb| Colour::hex(rgb)).map(|Colour(r, g, b)| [r, g, b]).collect()
}

/// The blue and the red of signed bars.
pub(crate) const NEGATIVE: Colour = Colour::hex(0x0021_66ac);
pub(crate) const POSITIVE: Colour = Colour::hex(0x00c0_3a3a);

/// The colour of line `index` of `count`: Okabe and Ito's while they last, else steps of viridis.
pub(crate) fn of_line(index: usize, count: usize) -> Colour {
    match OKABE_ITO.get(index) {
        Some(&colour) if count <= OKABE_ITO.len() => Colour::hex(colour),
        _ => along(&VIRIDIS, 0.92 * index as f64 / (count - 1).max(1) as f64),
    }
}

fn along(stops: &[u32], share: f64) -> Colour {
    let place = share.clamp(0.0, 1.0) * (stops.len() - 1) as f64;
    let below = (place as usize).min(stops.len() - 2);
    Colour::hex(stops[below]).towards(Colour::hex(stops[below + 1]), place - below as f64)
}

/// The scale of numbers that do not say: diverging if any is negative.
pub(crate) fn scale_of<'a>(values: impl IntoIterator<Item = &'a f64>) -> Scale {
    let signed = values.into_iter().any(|&value| value < 0.0 && value.is_finite());
    if signed { Scale::Diverging } else { Scale::Sequential }
}

/// A range of numbers and the colours it runs through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ramp {
    pub(crate) scale: Scale,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Ramp {
    /// The ramp from the least to the greatest finite number, or as far below 0 as above.
    ///
    /// A single number gets a range around it; no finite number at all gets 0 to 1.
    pub(crate) fn over(values: impl IntoIterator<Item = f64>, scale: Scale) -> Self {
        let finite = values.into_iter().filter(|value| value.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = match scale {
            _ if low > high => (0.0, 1.0),
            Scale::Sequential => (low, high),
            Scale::Diverging => (-low.abs().max(high.abs()), low.abs().max(high.abs())),
        };
        let room = match (high > low, low == 0.0) {
            (true, _) => 0.0,
            (false, true) => 1.0,
            (false, false) => low.abs() * 0.5,
        };
        Self { scale, low: low - room, high: high + room }
    }

    /// How far `value` lies along the range, from 0 to 1; infinities lie at its ends.
    pub(crate) fn share(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        let (half_low, half_high) = (self.low / 2.0, self.high / 2.0);
        if half_high > half_low { (value / 2.0 - half_low) / (half_high - half_low) } else { 0.5 }
    }

    /// The colour of a number that is not NaN.
    pub(crate) fn colour(&self, value: f64) -> Colour {
        match self.scale {
            Scale::Sequential => along(&VIRIDIS, self.share(value)),
            Scale::Diverging => along(&BLUE_RED, self.share(value)),
        }
    }
}
