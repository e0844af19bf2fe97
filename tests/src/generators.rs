//! Generators of the vectors' inputs. `generate/generators.py` generates the same bits, so vectors store
//! outputs only. Only sums, products and bit patterns are used, so that no math library matters.

// Some test targets have it as a module of their own.
#![allow(unreachable_pub)]

/// Word `at` of the random stream `seed`: SplitMix64 as a counter.
pub fn word(seed: u64, at: u64) -> u64 {
    let mut z = seed.wrapping_add(at.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Nearly N(0, 1): the sum of twelve 16-bit uniforms.
pub fn normal(seed: u64, i: u64) -> f32 {
    let part = |k: u64| (word(seed, i * 4 + k / 4) >> (16 * (k % 4)) & 0xFFFF) as i32;
    ((0..12).map(part).sum::<i32>() - 393_210) as f32 * (1.0 / 65536.0)
}

/// Midpoints between codes of each type in turn, with both ends of the range in each block.
fn ties(block: u64, place: u64, aux: u64) -> f32 {
    let (low, top, half) =
        [(-4, 4, 4), (0, 15, 2), (0, 31, 2), (-127, 127, 2), (-7, 7, 2)][(block % 5) as usize];
    let swap = block / 5 % 2 == 1;
    match (place, swap) {
        (3, false) | (9, true) => top as f32,
        (9, false) | (3, true) => low as f32,
        _ => {
            let count = ((top - low) * half + 1) as u64;
            (low * half + (aux % count) as i32) as f32 / half as f32
        }
    }
}

/// Value `i` of a family.
fn value(family: &str, seed: u64, i: u64) -> f32 {
    let (block, place) = (i / 32, i % 32);
    let aux = word(seed, i * 4 + 3);
    let mantissa = (aux >> 40) as u32 & 0x7F_FFFF;
    let sign = (aux >> 63 << 31) as u32;
    let scaled = |exponent: u64| f32::from_bits((exponent as u32) << 23);
    let made = |exponent: u64| f32::from_bits(sign | (exponent as u32) << 23 | mantissa);
    let z = normal(seed, i);
    let small = z * 0.02_f32;
    match family {
        "normal" => small,
        "heavy" => z * z * z * 0.02_f32,
        "shifted" => small + 0.35_f32,
        "constant" => normal(seed, block * 32) * 0.02_f32,
        "zero" => 0.0,
        "negative_zero" => -0.0,
        "zeros" => f32::from_bits(sign),
        "sparse" if aux.is_multiple_of(50) => small,
        "sparse" => f32::from_bits(sign),
        "ties" => ties(block, place, aux >> 8),
        "magnitudes" => made(67 + aux % 75),
        "scaled" => z * scaled(word(seed ^ 0x005C_A1ED, block) % 64 + 127 - 54),
        "bf16" => f32::from_bits(small.to_bits() & 0xFFFF_0000),
        "f16" if small.abs() < 2.0_f32.powi(-14) => 0.0,
        "f16" => f32::from_bits(small.to_bits() & 0xFFFF_E000),
        "tiny" => made(aux % (1 + block % 40)),
        "huge" => made(137 + aux % (1 + block % 118)),
        "patterns" => f32::from_bits((aux >> 32) as u32),
        _ => panic!("no such family: {family}"),
    }
}

/// `n` values of a family.
pub fn generate(family: &str, seed: u64, n: usize) -> Vec<f32> {
    (0..n as u64).map(|i| value(family, seed, i)).collect()
}

/// `n` importance weights, one per column: from 2^-20 to 2^12, most near 1, one in 64 is 0, and some runs of
/// 32 are all 0.
pub fn importance(seed: u64, n: usize) -> Vec<f32> {
    let weight = |i: u64| {
        let w = word(seed ^ 0x1A47, i);
        if (w >> 16).is_multiple_of(64) || word(seed ^ 0x0005_7E7C, i / 32).is_multiple_of(64) {
            return 0.0;
        }
        // Near 1 but for every eighth, which may be anywhere.
        let exponent = if (w >> 8).is_multiple_of(8) { w % 32 + 107 } else { w % 4 + 125 };
        f32::from_bits((exponent as u32) << 23 | (w >> 41) as u32)
    };
    (0..n as u64).map(weight).collect()
}

/// `count` random blocks of `size` bytes whose floating-point fields, with upper bytes at `tops`, are finite.
pub fn blocks(seed: u64, count: usize, size: usize, tops: &[usize]) -> Vec<u8> {
    let mut raw: Vec<u8> = (0..).flat_map(|at| word(seed, at).to_le_bytes()).take(count * size).collect();
    for block in raw.chunks_mut(size) {
        for &at in tops {
            block[at] &= 0xBF;
        }
    }
    raw
}

/// The source values of the lattice fixtures: multiples of a quarter in [-25, 25).
pub fn lattice_fixture(seed: u64, n: usize) -> Vec<f32> {
    (0..n as u64).map(|i| ((i * 37 + 13 * seed) % 200) as f32 / 4.0 - 25.0).collect()
}
