//! Named random streams: a counter-based generator keyed by seed and name, so that order and threads change nothing.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tch::Tensor;

use crate::Result;

/// A stream of random numbers, the same for the same seed and name everywhere.
#[derive(Debug, Clone)]
pub struct Stream {
    generator: ChaCha8Rng,
}

impl Stream {
    /// The stream `name` of the root `seed`.
    #[must_use]
    pub fn new(seed: u64, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("arrakis random stream 1");
        hasher.update(&seed.to_le_bytes());
        hasher.update(name.as_bytes());
        Self { generator: ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()) }
    }

    /// A number in `0.0..1.0`.
    pub fn uniform(&mut self) -> f64 {
        (self.generator.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A whole number in `0..bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        // Draws from the incomplete last block are drawn again, so that no number is more likely.
        let limit = u64::MAX - u64::MAX % bound;
        loop {
            let draw = self.generator.next_u64();
            if draw < limit {
                return draw % bound;
            }
        }
    }

    /// A number of the standard normal distribution (Box and Muller, 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// A tensor of standard normal numbers, in double on the CPU.
    pub fn normals(&mut self, shape: &[i64]) -> Result<Tensor> {
        let count: i64 = shape.iter().product();
        let numbers: Vec<f64> = (0..count).map(|_| self.normal()).collect();
        Ok(Tensor::f_from_slice(&numbers)?.f_view(shape)?)
    }

    /// A tensor of coins that fall true with `probability`, as booleans on the CPU.
    pub fn coins(&mut self, shape: &[i64], probability: f64) -> Result<Tensor> {
        let count: i64 = shape.iter().product();
        let bound = (probability.clamp(0.0, 1.0) * (1_u64 << 32) as f64) as u64;
        let coins: Vec<bool> = (0..count).map(|_| u64::from(self.generator.next_u32()) < bound).collect();
        Ok(Tensor::f_from_slice(&coins)?.f_view(shape)?)
    }

    /// `0..count` in random order.
    pub fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for place in (1..count).rev() {
            order.swap(place, self.below(place as u64 + 1) as usize);
        }
        order
    }
}
