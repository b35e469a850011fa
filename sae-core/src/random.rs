//! Random numbers that are the same on every machine: hashes of keys, SplitMix64 for single draws, ChaCha8 for long
//! sequences whose state is saved. Everything in the workspace that is random comes from here.

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use serde::{Deserialize, Serialize};

/// The increment of SplitMix64: 2^64 divided by the golden ratio.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64 (Steele, Lea and Flood 2014): spreads the bits of a hash or a counter.
pub fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The 64-bit FNV-1a hash of some bytes.
pub fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The upper 53 bits of `x` as a number from 0 to 1, 1 excluded.
pub fn unit(x: u64) -> f64 {
    (x >> 11) as f64 / (1u64 << 53) as f64
}

/// The generator SplitMix64: fast, with 64 bits of state, for draws that need no independence beyond that.
///
/// ```
/// let mut random = sae_core::random::SplitMix64::new(1);
/// let first = random.next_u64();
/// assert_eq!(first, sae_core::random::SplitMix64::nth(1, 1));
/// assert!((0.0..1.0).contains(&random.next_f64()) && random.below(6) < 6);
/// ```
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator whose numbers are determined by the seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Number `n` of the generator with this seed, counted from 1, without computing those before it.
    pub fn nth(seed: u64, n: u64) -> u64 {
        mix(seed.wrapping_add(n.wrapping_mul(GAMMA)))
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// The next number, from 0 to 1, 1 excluded.
    pub fn next_f64(&mut self) -> f64 {
        unit(self.next_u64())
    }

    /// The next number, from 0 to `end`, `end` excluded; 0 if `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next_u64()) * end as u128) >> 64) as usize
    }
}

/// Independent random numbers for each purpose, from one seed: ChaCha8, with the purpose as its stream.
pub fn chacha(seed: u64, purpose: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(purpose);
    rng
}

/// The state of a [`chacha`] generator, as checkpoints store it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChaChaState {
    seed: u64,
    purpose: u64,
    /// Number of 32-bit words drawn. Text, because JSON readers need not support integers of this size.
    drawn: String,
}

impl ChaChaState {
    /// The state of a generator that was made with `seed`.
    pub fn new(rng: &ChaCha8Rng, seed: u64) -> Self {
        Self { seed, purpose: rng.get_stream(), drawn: rng.get_word_pos().to_string() }
    }

    /// A generator that continues from this state; `None` if the state is damaged.
    pub fn restore(&self) -> Option<ChaCha8Rng> {
        let mut rng = chacha(self.seed, self.purpose);
        rng.set_word_pos(self.drawn.parse().ok()?);
        Some(rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn numbers_are_those_of_the_published_generators() {
        // The test vectors of SplitMix64 for seed 1234567, and of FNV-1a.
        let mut random = SplitMix64::new(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        for (n, expected) in (1..).zip(expected) {
            assert_eq!((random.next_u64(), SplitMix64::nth(1_234_567, n)), (expected, expected));
        }
        assert_eq!((fnv1a(*b""), fnv1a(*b"foobar")), (0xcbf2_9ce4_8422_2325, 0x8594_4171_f739_67e8));
        assert_eq!((unit(0), unit(u64::MAX) < 1.0, random.below(0)), (0.0, true, 0));
    }

    #[test]
    fn a_restored_generator_continues_with_the_same_numbers() {
        let mut rng = chacha(7, 3);
        assert_ne!(rng.next_u64(), chacha(7, 4).next_u64());
        let state = ChaChaState::new(&rng, 7);
        let mut restored = state.restore().unwrap();
        assert_eq!(restored.next_u64(), rng.next_u64());
        assert!(ChaChaState { drawn: "many".into(), ..state }.restore().is_none());
    }
}
