//! Inputs of the probe: values at which devices differ, with the bytes of the CPU reference, and values that
//! every device must decline.

use super::Kernel;
use quantoscope_core::DType;
use quantoscope_core::float::{f32_to_bf16, f32_to_f16};
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::quant::Encoding;

/// One input of a kernel and what the kernel must do with it.
pub(super) struct ProbeCase {
    pub src: Vec<u8>,
    /// Importance weights of the columns, of two blocks; empty for an unweighted kernel.
    pub weights: Vec<f32>,
    /// Bytes of the CPU reference; `None` if the kernel must decline.
    pub expected: Option<Vec<u8>>,
    /// Whether the kernel may decline instead: values at the limits of a search in binary32.
    pub may_decline: bool,
}

impl ProbeCase {
    /// Values per row.
    pub(super) fn width(&self, kernel: Kernel) -> usize {
        if self.weights.is_empty() { kernel.block().block_len() as usize } else { self.weights.len() }
    }
}

/// Values of each kind, for each source type.
const VALUES: u64 = 2048;
/// Values of each kind for a scale search, few of whose results depend on a single rounding.
const SEARCH_VALUES: u64 = 8192;

/// All cases of a kernel.
pub(super) fn cases(kernel: Kernel) -> Vec<ProbeCase> {
    let must_decline = must_decline(kernel);
    let computed = match kernel {
        Kernel::Quantize { weighted: true, .. } => {
            (0..4).flat_map(|n| encode_cases(kernel, &weights(kernel, n))).collect()
        }
        Kernel::Quantize { .. } => encode_cases(kernel, &[]),
        Kernel::Dequantize(from) => vec![decode_case(from)],
        Kernel::Rotate(_) => Vec::new(),
    };
    // A type may refuse every row of a kind.
    computed.into_iter().filter(|c| !c.src.is_empty()).chain(must_decline).collect()
}

/// Weights of two blocks: all 1, usual ones, mostly 0, or of many magnitudes.
fn weights(kernel: Kernel, kind: u64) -> Vec<f32> {
    let len = 2 * kernel.block().block_len();
    let weight = |at| {
        let w = word(kind << 40, at);
        let unit = (w >> 40) as f32 / 16_777_216.0;
        match kind {
            0 => 1.0,
            1 => unit * unit * 8.0,
            2 if !w.is_multiple_of(3) => 0.0,
            2 => unit,
            _ => f32::from_bits(((100 + w % 40) as u32) << 23) * (1.0 + unit),
        }
    };
    (0..len).map(weight).collect()
}

/// Three rows or blocks of which the last holds one number that the CPU must handle.
fn must_decline(kernel: Kernel) -> Vec<ProbeCase> {
    let mut all = Vec::new();
    let weights = if kernel.is_weighted() { weights(kernel, 0) } else { Vec::new() };
    match kernel {
        Kernel::Quantize { from, .. } => {
            let mut bad = vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
            if from != DType::F16 {
                // Overflows the F16 of the header.
                bad.push(f32::from_bits(0x7F00_0000));
            }
            for x in bad {
                let mut values = vec![1.0; 3 * weights.len().max(kernel.block().block_len() as usize)];
                if let Some(last) = values.last_mut() {
                    *last = x;
                }
                let src = store(from, &values);
                all.push(ProbeCase { src, weights: weights.clone(), expected: None, may_decline: true });
            }
        }
        Kernel::Dequantize(from) => {
            let size = from.block_bytes() as usize;
            for &at in f16_offsets(from) {
                for scale in [0x7C00_u16, 0xFC01] {
                    let mut src = vec![0; 3 * size];
                    src[2 * size + at..2 * size + at + 2].copy_from_slice(&scale.to_le_bytes());
                    all.push(ProbeCase { src, weights: Vec::new(), expected: None, may_decline: true });
                }
            }
        }
        Kernel::Rotate(_) => {}
    }
    all
}

/// Byte offsets of the F16 numbers of a block.
fn f16_offsets(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
        DType::Q2_K => &[80, 82],
        DType::Q3_K => &[108],
        DType::Q6_K => &[208],
        _ => &[0],
    }
}

/// Values converted to a float type; F16 overflow becomes infinity.
fn store(dtype: DType, values: &[f32]) -> Vec<u8> {
    match dtype {
        DType::F16 => values.iter().flat_map(|&x| f32_to_f16(x).to_le_bytes()).collect(),
        DType::BF16 => values.iter().flat_map(|&x| f32_to_bf16(x).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

/// One case of all kinds that must be computed, and one case per kind that may be declined.
fn encode_cases(kernel: Kernel, weights: &[f32]) -> Vec<ProbeCase> {
    if kernel.block().block_len() == SMALL {
        return vec![rows(kernel, weights, &KINDS, VALUES, false)];
    }
    let extreme = |kind: &&u64| !MODERATE_KINDS.contains(kind);
    let alone = KINDS.iter().chain(&WIDE_KINDS).filter(extreme);
    let alone = alone.map(|&kind| rows(kernel, weights, &[kind], VALUES, true));
    [rows(kernel, weights, &MODERATE_KINDS, SEARCH_VALUES, false)].into_iter().chain(alone).collect()
}

/// All rows of some kinds that the CPU reference accepts, with its bytes. The number of rows is odd.
fn rows(kernel: Kernel, weights: &[f32], kinds: &[u64], values: u64, may_decline: bool) -> ProbeCase {
    let (from, to) = (kernel.from(), kernel.to());
    let width = weights.len().max(kernel.block().block_len() as usize);
    let (mut src, mut expected) = (Vec::new(), Vec::new());
    let mut row = vec![0; to.bytes_for(width as u64).unwrap_or(0) as usize];
    let mut decoded = vec![0.0; width];
    let importance = (!weights.is_empty()).then_some(weights);
    let mut rows = 0;
    for &kind in kinds {
        for round in 0..(values / width as u64).max(4) {
            let raw = store(from, &row_of_kind(kind, round, width));
            let accepted = Scalar
                .decode(from, &raw, &mut decoded)
                .and_then(|()| Scalar.encode(Encoding::Type(to), &decoded, importance, &mut row));
            if accepted.is_ok() {
                src.extend(&raw);
                expected.extend(&row);
                rows += 1;
            }
        }
    }
    if rows % 2 == 0 {
        src.truncate(src.len().saturating_sub(width * from.block_bytes() as usize));
        expected.truncate(expected.len().saturating_sub(row.len()));
    }
    ProbeCase { src, weights: weights.to_vec(), expected: Some(expected), may_decline }
}

/// Blocks of random bytes with finite scales, and their values.
fn decode_case(from: DType) -> ProbeCase {
    let (size, count) = (from.block_bytes() as usize, 16 * VALUES / from.block_len() + 1);
    let mut src: Vec<u8> =
        (0..).flat_map(|at| word(1, at).to_le_bytes()).take(size * count as usize).collect();
    for (n, block) in src.chunks_exact_mut(size).enumerate() {
        for (order, &at) in f16_offsets(from).iter().enumerate() {
            // Every seventh scale is subnormal, and every fifth is 0.
            let top = &mut block[at + 1];
            *top &= if n % 7 == 0 { 0x83 } else { 0xBF };
            if n % 5 == order {
                *top &= 0x80;
                block[at] = 0;
            }
        }
    }
    let mut values = vec![0.0; (from.block_len() * count) as usize];
    let expected = match Scalar.decode(from, &src, &mut values) {
        Ok(()) => store(DType::F32, &values),
        Err(_) => Vec::new(),
    };
    ProbeCase { src, weights: Vec::new(), expected: Some(expected), may_decline: false }
}

/// Number `at` of a random stream: SplitMix64 as a counter.
pub(super) fn word(seed: u64, at: u64) -> u64 {
    let mut z = seed.wrapping_add(at.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Block length of the types without a scale search.
const SMALL: u64 = 32;
/// Kinds of values for all types; see [`value`].
const KINDS: [u64; 17] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
/// Kinds for super-blocks only.
const WIDE_KINDS: [u64; 6] = [17, 18, 19, 20, 21, 22];
/// Kinds at which no search comes near the limits of binary32.
const MODERATE_KINDS: [u64; 11] = [0, 4, 5, 6, 12, 15, 16, 17, 18, 20, 21];

/// A row of a kind of values that rounding, fusing, reordering, flushing or a lost sign of zero would change.
fn row_of_kind(kind: u64, round: u64, width: usize) -> Vec<f32> {
    let mut row = vec![0.0; width];
    // Kinds are defined over 32 values; longer rows repeat them with other seeds.
    for (part, values) in (0..).zip(row.chunks_mut(32)) {
        let seed = kind << 32 | part << 16 | round;
        for (at, x) in (0..).zip(values) {
            *x = value(kind, round, seed, at);
        }
    }
    row
}

fn value(kind: u64, round: u64, seed: u64, at: u64) -> f32 {
    let octave = |low: u64, count: u64| f32::from_bits(((low + word(seed, 99) % count) as u32) << 23);
    let w = word(seed, at);
    let bits = w as u32;
    let sign = bits & 0x8000_0000;
    // Nearly normal: the sum of four uniforms.
    let z = (0..4).map(|k| (w >> (16 * k) & 0xFFFF) as f32 - 32767.5).sum::<f32>() / 32768.0;
    let part = (seed >> 16) as u32 & 0xFFFF;
    // A number between 1 and 2, the same for the whole row.
    let ratio = f32::from_bits(0x3F80_0000 | word(seed, 98) as u32 >> 9);
    match kind {
        0 => z * 0.02,
        1 => z * octave(127 - 40, 60),
        // Midpoints between codes of the types, their F32 neighbours, and the extreme codes.
        2 | 3 => {
            let (low, top) = [(-8, 8), (0, 15), (-16, 16), (0, 31), (-127, 127)][(round % 5) as usize];
            let halves = 2 * low + (w >> 40) as i32 % (2 * (top - low) + 1);
            let near = match (kind, w % 3) {
                (2, _) | (_, 0) => 0.0,
                (_, 1) => f32::from_bits(0x3300_0000),
                _ => -f32::from_bits(0x3300_0000),
            };
            let x = halves as f32 / 2.0 + near;
            [x, low as f32, top as f32][if at > 1 { 0 } else { at as usize + 1 }] * octave(110, 30)
        }
        // A ratio that is not a power of two, so that factors are rounded.
        4 => ((w >> 40) as i32 % 31 - 15) as f32 * 0.5 * ratio,
        5 => 0.0,
        6 => f32::from_bits(sign),
        7 => f32::from_bits(sign | (word(seed, 97) as u32 & 0x7F_FFFF) >> (round % 24)),
        8 => f32::from_bits(bits & 0x807F_FFFF) * if round.is_multiple_of(2) { 1.0 } else { 64.0 },
        9 => z * f32::from_bits(1 << 23) * 8.0,
        10 => octave(0, 140),
        11 => f32::from_bits(sign | octave(100, 20).to_bits()),
        // Far from zero: subtracting the minimum cancels most bits.
        12 => z * 0.01 + octave(117, 16),
        13 => f32::from_bits(sign | ((bits >> 8 & 0x7F) + 16) << 23 | (w >> 41) as u32),
        // Next to midpoints between codes, at a scale with a full significand: fused and separate rounding
        // differ there.
        14 => {
            let parts = [32, 30, 62, 254][(round % 4) as usize];
            let part = match at {
                5 => 0,
                9 => 2 * parts,
                _ => (w >> 32) as u32 % (2 * parts + 1),
            };
            let top = ratio * octave(100, 34);
            top * ((part as f32 - parts as f32) / parts as f32)
        }
        // The same for types with a minimum: just below the first midpoint.
        15 => match at {
            5 => 0.0,
            9 => ratio,
            _ => f32::from_bits((ratio / [30.0, 62.0][(round % 2) as usize]).to_bits() - at as u32),
        },
        // Sub-blocks of many scales and offsets; of one sign; mostly zeros.
        17 => (z + (part % 3) as f32 - 1.0) * f32::from_bits((120 - part * 2 % 16) << 23),
        18 => f32::from_bits(z.to_bits() & 0x7FFF_FFFF | (part % 2) << 31) * 0.02 * ratio,
        19 if w >> 61 > 0 => 0.0,
        19 => z * ratio,
        // Representable values and midpoints; some sub-blocks with an offset, some around zero.
        20 => {
            let q = (w >> 40) as u32 % (2 << (part % 6 + 1)) as u32;
            (q as f32 * 0.5 - (part % 5) as f32) * ratio * 0.015625
        }
        // One outlier, and the same sub-block with opposite signs next to it.
        21 => {
            let w = word(seed & !(1 << 16), at) as u32;
            let x = if w.is_multiple_of(16) { 1.0 } else { 0.001 };
            f32::from_bits(w & 0x7F_FFFF | 0x3F80_0000 | (part % 2) << 31) * x
        }
        // So close to zero that products of products may be subnormal.
        22 => z * octave(78, 24),
        // Magnitudes of sixteen octaves next to each other.
        _ => f32::from_bits(sign | (120 - (bits >> 8 & 15)) << 23 | (w >> 41) as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes of a block before clamping: of separate and of fused operations.
    fn separate_and_fused(x: &[f32], dtype: DType) -> [Vec<i32>; 2] {
        let top = x.iter().copied().fold(0.0, |a: f32, b| if b.abs() > a.abs() { b } else { a });
        let (low, high) = x.iter().fold((x[0], x[0]), |(l, h), &b| (l.min(b), h.max(b)));
        let (d, zero, plus) = match dtype {
            DType::Q8_0 => (top.abs() / 127.0, 0.0, 0.5 - f32::EPSILON / 4.0),
            DType::Q4_0 => (top / -8.0, 0.0, 8.5),
            DType::Q5_0 => (top / -16.0, 0.0, 16.5),
            DType::Q4_1 => ((high - low) / 15.0, low, 0.5),
            _ => ((high - low) / 31.0, low, 0.5),
        };
        let id = if d == 0.0 || (1.0 / d).is_infinite() { 0.0 } else { 1.0 / d };
        let away = |x: f32| if dtype == DType::Q8_0 { plus.copysign(x * id) } else { plus };
        let separate = x.iter().map(|&x| ((x - zero) * id + away(x)) as i32).collect();
        [separate, x.iter().map(|&x| (x - zero).mul_add(id, away(x)) as i32).collect()]
    }

    #[test]
    fn encode_cases_with_contraction_give_other_codes() {
        for dtype in [DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1] {
            let kernel = Kernel::Quantize { from: DType::F32, to: dtype, weighted: false };
            let values: Vec<f32> = rows(kernel, &[], &KINDS, VALUES, false)
                .src
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect();
            let differs = |x: &&[f32]| {
                let [separate, fused] = separate_and_fused(x, dtype);
                separate != fused
            };
            assert!(values.chunks(32).filter(differs).count() > 0, "{dtype}");
        }
    }

    #[test]
    fn cases_have_an_odd_number_of_rows_and_a_block() {
        for (to, weighted) in [(DType::Q4_0, false), (DType::Q4_K, false), (DType::Q6_K, true)] {
            for from in [DType::F32, DType::F16, DType::BF16] {
                let kernel = Kernel::Quantize { from, to, weighted };
                for case in cases(kernel) {
                    let width = case.width(kernel) as u64;
                    let rows = case.src.len() as u64 / (width * from.block_bytes());
                    assert_eq!(rows % 2, 1);
                    assert!(case.expected.is_none_or(|e| e.len() as u64 >= to.bytes_for(width).unwrap()));
                }
            }
        }
    }
}
