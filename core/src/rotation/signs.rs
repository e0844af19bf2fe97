//! Seeded signs. They are part of the format of a rotated checkpoint, so every bit is fixed.
//!
//! The generator is SplitMix64 (Steele, Lea, Flood, 2014) with lattice's start: the state begins at `seed +
//! G`, and `G` is added before each output.

use alloc::vec::Vec;

/// Increment of SplitMix64: 2^64 divided by the golden ratio.
const G: u64 = 0x9E37_79B9_7F4A_7C15;

/// Output function of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Seed of block `index` of a block-diagonal rotation. Mixed, so that neighbouring blocks do not have shifted
/// copies of the same signs.
pub fn block_seed(seed: u64, index: u64) -> u64 {
    mix(seed.wrapping_add(index.wrapping_mul(G)))
}

/// Returns the signs of `count` elements, true for -1.
pub fn signs(seed: u64, count: usize) -> Vec<bool> {
    let mut state = seed.wrapping_add(G);
    let mut next = || {
        state = state.wrapping_add(G);
        mix(state) & 1 == 1
    };
    (0..count).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_signs() {
        let golden = [
            (0, 0x6cda_f47f_6198_faaa, 550),
            (1, 0x50e4_8b1a_8fa1_c26d, 526),
            (42, 0x00f3_4d1e_bf73_92a1, 498),
            (0x00C0_FFEE, 0xa895_65b2_2d10_f2f3, 499),
            (0xCAFE_BABE_DEAD_BEEF, 0x52df_8c40_2791_abc0, 525),
        ];
        for (seed, first, count) in golden {
            let all = signs(seed, 1024);
            let word = all[..64].iter().enumerate().fold(0_u64, |w, (i, &s)| w | u64::from(s) << i);
            assert_eq!(word, first, "{seed:x}");
            assert_eq!(all.iter().filter(|&&s| s).count(), count, "{seed:x}");
        }
    }

    #[test]
    fn the_published_block_seeds() {
        let seeds = [0xe658_8447_cc47_8205, 0xca82_16fa_9058_d0fa, 0xece4_5bab_ce87_0479];
        assert_eq!([0, 1, 2].map(|i| block_seed(0x00C0_FFEE, i)), seeds);
        assert_eq!(block_seed(0, 0), 0);
    }
}
