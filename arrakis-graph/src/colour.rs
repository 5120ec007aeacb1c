//! Colours, and the ramps that turn numbers into them.

use arrakis_core::Scale;

/// A colour in sRGB: red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Colour(pub(crate) u8, pub(crate) u8, pub(crate) u8);

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
    0x44_01_54, 0x47_0d_60, 0x48_18_6a, 0x48_23_74, 0x47_2d_7b, 0x45_36_81, 0x42_40_86, 0x3f_49_89, 0x3b_52_8b,
    0x37_5a_8d, 0x33_63_8d, 0x2f_6a_8e, 0x2c_72_8e, 0x29_7a_8e, 0x26_81_8e, 0x23_89_8e, 0x21_90_8c, 0x1f_98_8b,
    0x1f_9f_88, 0x21_a6_85, 0x28_ae_80, 0x31_b5_7b, 0x3e_bc_74, 0x4c_c2_6c, 0x5d_c9_63, 0x6e_ce_58, 0x82_d3_4c,
    0x96_d8_3f, 0xab_dc_32, 0xc0_df_24, 0xd5_e2_1a, 0xea_e5_1a, 0xfd_e7_25,
];

/// `ColorBrewer`'s red–blue (Brewer, 2002), turned so that blue is negative, with a white middle.
const BLUE_RED: [u32; 11] = [
    0x05_30_61, 0x21_66_ac, 0x43_93_c3, 0x92_c5_de, 0xd1_e5_f0, 0xff_ff_ff, 0xfd_db_c7, 0xf4_a5_82, 0xd6_60_4d,
    0xb2_18_2b, 0x67_00_1f,
];

/// Okabe and Ito's palette (2008) from the most to the least legible on white; black is left to the text.
const OKABE_ITO: [u32; 7] = [0x00_72_b2, 0xd5_5e_00, 0x00_9e_73, 0xcc_79_a7, 0xe6_9f_00, 0x56_b4_e9, 0xf0_e4_42];

/// The blue and the red of signed bars.
pub(crate) const NEGATIVE: Colour = Colour::hex(0x21_66_ac);
pub(crate) const POSITIVE: Colour = Colour::hex(0xc0_3a_3a);

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
        let room = if high > low { 0.0 } else { if low == 0.0 { 1.0 } else { low.abs() * 0.5 } };
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
