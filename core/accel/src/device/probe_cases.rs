//! What a probe asks: values at which devices differ, with the definition's bytes, and values that no device may judge.

use super::Kernel;
use quantoscope_core::DType;
use quantoscope_core::float::{f32_to_bf16, f32_to_f16};
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::quant::Encoding;

/// Blocks for a kernel.
pub struct ProbeCase {
    pub src: Vec<u8>,
    /// Of the columns, where they have weights: then rows are two blocks long.
    pub weights: Vec<f32>,
    /// What it has to make of them; none where it has to decline.
    pub answer: Option<Vec<u8>>,
    /// Whether it may as well decline: values at the ends of what searches can do in binary32.
    pub may_decline: bool,
}

impl ProbeCase {
    /// Values of a row.
    pub fn width(&self, kernel: Kernel) -> usize {
        if self.weights.is_empty() { kernel.block().block_len() as usize } else { self.weights.len() }
    }
}

/// Values that are asked of each kind, for each type of source.
const ASKED: u64 = 2048;
/// The same of what a search has to answer, few of whose results depend on one rounding.
const SEARCHED: u64 = 8192;

/// All that is known of a kernel.
pub fn questions(kernel: Kernel) -> Vec<ProbeCase> {
    let unanswerable = unanswerable(kernel);
    let known = match kernel {
        Kernel::Quantize { weighted: true, .. } => {
            (0..4).flat_map(|n| stored(kernel, &weights(kernel, n))).collect()
        }
        Kernel::Quantize { .. } => stored(kernel, &[]),
        Kernel::Dequantize(from) => vec![blocks(from)],
        Kernel::Rotate(_) => Vec::new(),
    };
    // Of some kinds a type refuses every row.
    known.into_iter().filter(|q| !q.src.is_empty()).chain(unanswerable).collect()
}

/// Weights of two blocks: equal ones, usual ones, ones that are often 0, ones of many sizes.
fn weights(kernel: Kernel, kind: u64) -> Vec<f32> {
    let len = 2 * kernel.block().block_len();
    let weight = |at| {
        let w = word(kind << 40, at);
        let part = (w >> 40) as f32 / 16_777_216.0;
        match kind {
            0 => 1.0,
            1 => part * part * 8.0,
            2 if !w.is_multiple_of(3) => 0.0,
            2 => part,
            _ => f32::from_bits(((100 + w % 40) as u32) << 23) * (1.0 + part),
        }
    };
    (0..len).map(weight).collect()
}

/// Blocks with one number that decides for the processor, which is the last of an odd count of rows.
fn unanswerable(kernel: Kernel) -> Vec<ProbeCase> {
    let mut all = Vec::new();
    let weights = if kernel.is_weighted() { weights(kernel, 0) } else { Vec::new() };
    match kernel {
        Kernel::Quantize { from, .. } => {
            let mut bad = vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
            if from != DType::F16 {
                // Too large for the binary16 of the header.
                bad.push(f32::from_bits(0x7F00_0000));
            }
            for x in bad {
                let mut values = vec![1.0; 3 * weights.len().max(kernel.block().block_len() as usize)];
                if let Some(last) = values.last_mut() {
                    *last = x;
                }
                let src = store(from, &values);
                all.push(ProbeCase { src, weights: weights.clone(), answer: None, may_decline: true });
            }
        }
        Kernel::Dequantize(from) => {
            let size = from.block_bytes() as usize;
            for &at in fields(from) {
                for scale in [0x7C00_u16, 0xFC01] {
                    let mut src = vec![0; 3 * size];
                    src[2 * size + at..2 * size + at + 2].copy_from_slice(&scale.to_le_bytes());
                    all.push(ProbeCase { src, weights: Vec::new(), answer: None, may_decline: true });
                }
            }
        }
        Kernel::Rotate(_) => {}
    }
    all
}

/// Where the binary16 numbers of a block are.
fn fields(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
        DType::Q2_K => &[80, 82],
        DType::Q3_K => &[108],
        DType::Q6_K => &[208],
        _ => &[0],
    }
}

/// Values as a type stores them; what F16 cannot hold becomes infinite.
fn store(dtype: DType, values: &[f32]) -> Vec<u8> {
    match dtype {
        DType::F16 => values.iter().flat_map(|&x| f32_to_f16(x).to_le_bytes()).collect(),
        DType::BF16 => values.iter().flat_map(|&x| f32_to_bf16(x).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

/// The kinds of rows together that have to be answered, and one by one those that may be declined.
fn stored(kernel: Kernel, weights: &[f32]) -> Vec<ProbeCase> {
    if kernel.block().block_len() == SMALL {
        return vec![rows(kernel, weights, &KINDS, ASKED, false)];
    }
    let odd = |kind: &&u64| !SURE.contains(kind);
    let alone = KINDS.iter().chain(&WIDE_KINDS).filter(odd);
    let alone = alone.map(|&kind| rows(kernel, weights, &[kind], ASKED, true));
    [rows(kernel, weights, &SURE, SEARCHED, false)].into_iter().chain(alone).collect()
}

/// Every row of some kinds that the definition takes, with its bytes; their count is odd.
fn rows(kernel: Kernel, weights: &[f32], kinds: &[u64], asked: u64, may_decline: bool) -> ProbeCase {
    let (from, to) = (kernel.from(), kernel.to());
    let width = weights.len().max(kernel.block().block_len() as usize);
    let (mut src, mut answer) = (Vec::new(), Vec::new());
    let mut row = vec![0; to.bytes_for(width as u64).unwrap_or(0) as usize];
    let mut values = vec![0.0; width];
    let importance = (!weights.is_empty()).then_some(weights);
    let mut rows = 0;
    for &kind in kinds {
        for round in 0..(asked / width as u64).max(4) {
            let raw = store(from, &paint(kind, round, width));
            let decoded = Scalar.decode(from, &raw, &mut values);
            if decoded.and_then(|()| Scalar.encode(Encoding::Type(to), &values, importance, &mut row)).is_ok()
            {
                src.extend(&raw);
                answer.extend(&row);
                rows += 1;
            }
        }
    }
    if rows % 2 == 0 {
        src.truncate(src.len().saturating_sub(width * from.block_bytes() as usize));
        answer.truncate(answer.len().saturating_sub(row.len()));
    }
    ProbeCase { src, weights: weights.to_vec(), answer: Some(answer), may_decline }
}

/// Blocks of any bytes whose fields are finite, with their values.
fn blocks(from: DType) -> ProbeCase {
    let (size, count) = (from.block_bytes() as usize, 16 * ASKED / from.block_len() + 1);
    let mut src: Vec<u8> =
        (0..).flat_map(|at| word(1, at).to_le_bytes()).take(size * count as usize).collect();
    for (n, block) in src.chunks_exact_mut(size).enumerate() {
        for (order, &at) in fields(from).iter().enumerate() {
            // Every seventh scale is a subnormal number, and every fifth 0.
            let top = &mut block[at + 1];
            *top &= if n % 7 == 0 { 0x83 } else { 0xBF };
            if n % 5 == order {
                *top &= 0x80;
                block[at] = 0;
            }
        }
    }
    let mut values = vec![0.0; (from.block_len() * count) as usize];
    let answer = match Scalar.decode(from, &src, &mut values) {
        Ok(()) => store(DType::F32, &values),
        Err(_) => Vec::new(),
    };
    ProbeCase { src, weights: Vec::new(), answer: Some(answer), may_decline: false }
}

/// The numbers of a stream: SplitMix64 as a counter.
pub fn word(seed: u64, at: u64) -> u64 {
    let mut z = seed.wrapping_add(at.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Values of the blocks that no search is for.
const SMALL: u64 = 32;
const KINDS: [u64; 17] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
/// Those that are for super-blocks alone.
const WIDE_KINDS: [u64; 6] = [17, 18, 19, 20, 21, 22];
/// Those at which no search comes near the ends of binary32.
const SURE: [u64; 11] = [0, 4, 5, 6, 12, 15, 16, 17, 18, 20, 21];

/// A row of a kind: what rounding, fusing, reordering, flushing or a forgotten sign of zero would change.
fn paint(kind: u64, round: u64, width: usize) -> Vec<f32> {
    let mut row = vec![0.0; width];
    // What is known of a kind is known of 32 values, and longer blocks are made of such.
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
    // A number between 1 and 2 that is the row's.
    let ratio = f32::from_bits(0x3F80_0000 | word(seed, 98) as u32 >> 9);
    match kind {
        0 => z * 0.02,
        1 => z * octave(127 - 40, 60),
        // Halves of the grids of the types, and their neighbours among binary32; the ends are there too.
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
        // A ratio that is no power of two, so that factors are rounded.
        4 => ((w >> 40) as i32 % 31 - 15) as f32 * 0.5 * ratio,
        5 => 0.0,
        6 => f32::from_bits(sign),
        7 => f32::from_bits(sign | (word(seed, 97) as u32 & 0x7F_FFFF) >> (round % 24)),
        8 => f32::from_bits(bits & 0x807F_FFFF) * if round.is_multiple_of(2) { 1.0 } else { 64.0 },
        9 => z * f32::from_bits(1 << 23) * 8.0,
        10 => octave(0, 140),
        11 => f32::from_bits(sign | octave(100, 20).to_bits()),
        // Far from zero: what is subtracted is much greater than what is left.
        12 => z * 0.01 + octave(117, 16),
        13 => f32::from_bits(sign | ((bits >> 8 & 0x7F) + 16) << 23 | (w >> 41) as u32),
        // Beside the halves between codes, at a scale with a full significand: there it matters how often is rounded.
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
        // The same for types with a minimum: just below the first of those halves.
        15 => match at {
            5 => 0.0,
            9 => ratio,
            _ => f32::from_bits((ratio / [30.0, 62.0][(round % 2) as usize]).to_bits() - at as u32),
        },
        // Parts of many scales and offsets; parts of one sign; parts that are mostly zeros.
        17 => (z + (part % 3) as f32 - 1.0) * f32::from_bits((120 - part * 2 % 16) << 23),
        18 => f32::from_bits(z.to_bits() & 0x7FFF_FFFF | (part % 2) << 31) * 0.02 * ratio,
        19 if w >> 61 > 0 => 0.0,
        19 => z * ratio,
        // What a type can hold, and halves between; some of the parts on a line, some around zero.
        20 => {
            let q = (w >> 40) as u32 % (2 << (part % 6 + 1)) as u32;
            (q as f32 * 0.5 - (part % 5) as f32) * ratio * 0.015625
        }
        // One value that is far from the others, and the same with other signs beside it.
        21 => {
            let w = word(seed & !(1 << 16), at) as u32;
            let x = if w.is_multiple_of(16) { 1.0 } else { 0.001 };
            f32::from_bits(w & 0x7F_FFFF | 0x3F80_0000 | (part % 2) << 31) * x
        }
        // So near to zero that products of products may be subnormal.
        22 => z * octave(78, 24),
        // Numbers of sixteen octaves beside each other.
        _ => f32::from_bits(sign | (120 - (bits >> 8 & 15)) << 23 | (w >> 41) as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes of a block before they are cut: rounded twice, and once.
    fn twice_and_once(x: &[f32], dtype: DType) -> [Vec<i32>; 2] {
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
        let twice = x.iter().map(|&x| ((x - zero) * id + away(x)) as i32).collect();
        [twice, x.iter().map(|&x| (x - zero).mul_add(id, away(x)) as i32).collect()]
    }

    #[test]
    fn a_device_that_contracts_gives_other_codes() {
        for dtype in [DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1] {
            let kernel = Kernel::Quantize { from: DType::F32, to: dtype, weighted: false };
            let values: Vec<f32> = rows(kernel, &[], &KINDS, ASKED, false)
                .src
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect();
            let differs = |x: &&[f32]| {
                let [twice, once] = twice_and_once(x, dtype);
                twice != once
            };
            assert!(values.chunks(32).filter(differs).count() > 0, "{dtype}");
        }
    }

    #[test]
    fn every_kind_is_asked_and_every_question_has_blocks() {
        for (to, weighted) in [(DType::Q4_0, false), (DType::Q4_K, false), (DType::Q6_K, true)] {
            for from in [DType::F32, DType::F16, DType::BF16] {
                let kernel = Kernel::Quantize { from, to, weighted };
                for question in questions(kernel) {
                    let width = question.width(kernel) as u64;
                    let rows = question.src.len() as u64 / (width * from.block_bytes());
                    assert_eq!(rows % 2, 1);
                    assert!(question.answer.is_none_or(|a| a.len() as u64 >= to.bytes_for(width).unwrap()));
                }
            }
        }
    }
}
