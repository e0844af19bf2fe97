//! Token ids for models without a text: drawn with a fixed seed.
//!
//! Ids follow `exp(U ln V)` with `U` uniform in `[0, 1)`: low ids are as frequent as those of common merges in most tokenizers.

use alloc::vec::Vec;

/// The seed if none is given.
pub const SEED: u64 = 0x5EED;

/// The next number of the SplitMix64 sequence.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Draws `count` token ids below `vocab`. Ids of `without` are drawn again, 64 times at most.
pub fn draw(count: usize, vocab: usize, without: &[u32], seed: u64) -> Vec<u32> {
    /// Times that an id of `without` is drawn again.
    const TRIES: usize = 64;
    let log = libm::log(vocab.max(1) as f64);
    let mut state = seed;
    let mut one = || {
        let uniform = (next(&mut state) >> 11) as f64 / (1_u64 << 53) as f64;
        // exp(U ln V) lies in [1, V).
        let id = libm::exp(uniform * log) as usize - 1;
        u32::try_from(id.min(vocab.saturating_sub(1))).unwrap_or(0)
    };
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        let mut id = one();
        for _ in 0..TRIES {
            if !without.contains(&id) {
                break;
            }
            id = one();
        }
        ids.push(id);
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_ids_are_in_the_vocabulary_and_repeatable() {
        for vocab in [1, 2, 300, 49_152] {
            let ids = draw(500, vocab, &[], SEED);
            assert!(ids.iter().all(|id| (*id as usize) < vocab), "{vocab}");
            assert_eq!(ids, draw(500, vocab, &[], SEED));
        }
        assert_ne!(draw(50, 49_152, &[], 1), draw(50, 49_152, &[], 2));
        assert!(!draw(500, 300, &[0, 1, 2], SEED).iter().any(|id| *id < 3));
        assert_eq!(draw(3, 1, &[0], SEED), [0, 0, 0]);
    }

    #[test]
    fn low_ids_are_frequent() {
        let ids = draw(1000, 40_000, &[], SEED);
        let low = ids.iter().filter(|id| **id < 200).count();
        assert!((400..600).contains(&low), "{low}");
    }
}
