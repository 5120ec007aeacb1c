//! ggml's block formats, spread to `f32`.
//!
//! Layouts are those of `ggml-common.h`; a K block is 256 values in sub-blocks with scales of their own.

use std::thread;

use half::f16;
use tch::Kind;

/// How a tensor's numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Plain(Kind),
    Blocks(Blocks),
}

/// A format of quantised blocks.
#[allow(non_camel_case_types, reason = "ggml's names")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocks {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4_K,
    Q5_K,
    Q6_K,
}

/// ggml's names of the types that are not read.
const OTHERS: [(u32, &str); 23] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

impl Format {
    /// The format of ggml's type `id`; its name if it is not read.
    pub(super) fn of(id: u32) -> Result<Self, String> {
        Ok(match id {
            0 => Self::Plain(Kind::Float),
            1 => Self::Plain(Kind::Half),
            30 => Self::Plain(Kind::BFloat16),
            2 => Self::Blocks(Blocks::Q4_0),
            3 => Self::Blocks(Blocks::Q4_1),
            6 => Self::Blocks(Blocks::Q5_0),
            7 => Self::Blocks(Blocks::Q5_1),
            8 => Self::Blocks(Blocks::Q8_0),
            12 => Self::Blocks(Blocks::Q4_K),
            13 => Self::Blocks(Blocks::Q5_K),
            14 => Self::Blocks(Blocks::Q6_K),
            _ => {
                let name = OTHERS.iter().find(|(other, _)| *other == id).map(|(_, name)| format!("`{name}`"));
                return Err(name.unwrap_or_else(|| id.to_string()));
            }
        })
    }

    pub(super) fn blocks(self) -> Option<Blocks> {
        match self {
            Self::Plain(_) => None,
            Self::Blocks(blocks) => Some(blocks),
        }
    }

    /// Kind of the tensor that is handed out.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Plain(kind) => kind,
            Self::Blocks(_) => Kind::Float,
        }
    }

    /// Values and bytes of a block.
    pub(super) fn block(self) -> (usize, usize) {
        match self {
            Self::Plain(kind) => (1, kind.elt_size_in_bytes()),
            Self::Blocks(blocks) => blocks.block(),
        }
    }
}

impl Blocks {
    /// Values and bytes of a block.
    pub(crate) fn block(self) -> (usize, usize) {
        match self {
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q4_K => (256, 144),
            Self::Q5_K => (256, 176),
            Self::Q6_K => (256, 210),
        }
    }

    /// The values of whole blocks, written by as many threads as LibTorch has.
    pub(crate) fn values(self, bytes: &[u8], out: &mut [f32]) {
        let (values, size) = self.block();
        let n_blocks = bytes.len() / size;
        let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1);
        let share = n_blocks.div_ceil(threads).max(4096);
        thread::scope(|scope| {
            let mut parts = bytes.chunks(share * size).zip(out.chunks_mut(share * values));
            let own = parts.next();
            for (bytes, out) in parts {
                scope.spawn(move || self.spread(bytes, out));
            }
            if let Some((bytes, out)) = own {
                self.spread(bytes, out);
            }
        });
    }

    fn spread(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::Q4_0 => each(bytes, out, q4_0),
            Self::Q4_1 => each(bytes, out, q4_1),
            Self::Q5_0 => each(bytes, out, q5_0),
            Self::Q5_1 => each(bytes, out, q5_1),
            Self::Q8_0 => each(bytes, out, q8_0),
            Self::Q4_K => each(bytes, out, q4_k),
            Self::Q5_K => each(bytes, out, q5_k),
            Self::Q6_K => each(bytes, out, q6_k),
        }
    }
}

fn each<const SIZE: usize, const VALUES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; SIZE], &mut [f32; VALUES]),
) {
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        block(bytes, out);
    }
}

/// The half-precision number at `at`.
fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(block, 0);
    for i in 0..16 {
        let byte = block[2 + i];
        out[i] = d * (f32::from(byte & 15) - 8.0);
        out[i + 16] = d * (f32::from(byte >> 4) - 8.0);
    }
}

fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for i in 0..16 {
        let byte = block[4 + i];
        out[i] = d * f32::from(byte & 15) + m;
        out[i + 16] = d * f32::from(byte >> 4) + m;
    }
}

/// Bit 4 of the values `i` and `i + 16`, from the 32 high bits at `at`.
fn high(block: &[u8], at: usize, i: usize) -> (u8, u8) {
    let bit = |i: usize| ((block[at + i / 8] >> (i % 8)) & 1) << 4;
    (bit(i), bit(i + 16))
}

fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half(block, 0);
    for i in 0..16 {
        let (byte, (first, second)) = (block[6 + i], high(block, 2, i));
        out[i] = d * (f32::from(byte & 15 | first) - 16.0);
        out[i + 16] = d * (f32::from(byte >> 4 | second) - 16.0);
    }
}

fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for i in 0..16 {
        let (byte, (first, second)) = (block[8 + i], high(block, 4, i));
        out[i] = d * f32::from(byte & 15 | first) + m;
        out[i + 16] = d * f32::from(byte >> 4 | second) + m;
    }
}

fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half(block, 0);
    for i in 0..32 {
        out[i] = d * f32::from(block[2 + i].cast_signed());
    }
}

/// Scale and minimum of sub-block `j`: six bits each, the upper two of the last four packed with the first four.
fn scale_and_min(scales: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (scales[j] & 63, scales[j + 4] & 63)
    } else {
        (scales[j + 4] & 15 | scales[j - 4] >> 6 << 4, scales[j + 4] >> 4 | scales[j] >> 6 << 4)
    };
    (f32::from(scale), f32::from(min))
}

fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (half(block, 0), half(block, 2));
    for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(&block[4..16], j);
        let (scale, min) = (d * scale, dmin * min);
        for (i, out) in out.iter_mut().enumerate() {
            let nibble = block[16 + j / 2 * 32 + i] >> (j % 2 * 4) & 15;
            *out = scale * f32::from(nibble) - min;
        }
    }
}

fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (half(block, 0), half(block, 2));
    for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(&block[4..16], j);
        let (scale, min) = (d * scale, dmin * min);
        for (i, out) in out.iter_mut().enumerate() {
            let nibble = block[48 + j / 2 * 32 + i] >> (j % 2 * 4) & 15;
            let high = (block[16 + i] >> j & 1) << 4;
            *out = scale * f32::from(nibble | high) - min;
        }
    }
}

fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half(block, 208);
    for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (half, part) = (j / 4, j % 4);
        for (i, out) in out.iter_mut().enumerate() {
            let nibble = block[half * 64 + part % 2 * 32 + i] >> (part / 2 * 4) & 15;
            let high = (block[128 + half * 32 + i] >> (part * 2) & 3) << 4;
            let scale = block[192 + j * 2 + i / 16].cast_signed();
            *out = d * f32::from(scale) * (f32::from(nibble | high) - 32.0);
        }
    }
}
