//! Which kernels answer as the definition does: known values, and those at which devices differ.

use super::kernel::Kernel;
use super::{Gpu, Outcome};
use quantoscope_core::DType;
use quantoscope_core::error::Result;
use quantoscope_core::float::{f32_to_bf16, f32_to_f16};
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::quant::Encoding;

/// What the probe found of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All its answers were the definition's, to the byte.
    Exact,
    /// At least one was not: it is not used.
    Refused,
}

/// Values of a block.
const VALUES: usize = 32;
/// Blocks of each kind.
const ROUNDS: u64 = 64;

/// Asks a kernel; an error is the device's, not the kernel's.
pub async fn judge(gpu: &Gpu, kernel: Kernel) -> Result<Verdict> {
    let cases = match kernel {
        Kernel::Quantize { from, to } => stored(from, to),
        Kernel::Dequantize(from) => blocks(from),
    };
    let right = agrees(gpu, kernel, &cases).await? && doubts(gpu, kernel).await?;
    Ok(if right { Verdict::Exact } else { Verdict::Refused })
}

/// Bytes for a kernel, and what it makes of them.
struct Known {
    input: Vec<u8>,
    answer: Vec<u8>,
}

async fn ask(gpu: &Gpu, kernel: Kernel, input: &[u8], out: &mut [u8]) -> Result<Outcome> {
    let found = gpu.kernels.iter().find(|(k, _, _)| *k == kernel);
    let Some((_, pipeline, _)) = found else { return Ok(Outcome::Declined) };
    gpu.run(kernel, pipeline, input, out).await
}

async fn agrees(gpu: &Gpu, kernel: Kernel, known: &Known) -> Result<bool> {
    let mut out = vec![0; known.answer.len()];
    let outcome = ask(gpu, kernel, &known.input, &mut out).await?;
    Ok(outcome == Outcome::Done && !out.is_empty() && out == known.answer)
}

/// Whether the kernel hands back each of the things that it must not judge.
async fn doubts(gpu: &Gpu, kernel: Kernel) -> Result<bool> {
    for input in unanswerable(kernel) {
        let mut out = vec![0; kernel.bytes_out(input.len() / kernel.bytes_in(1))];
        if ask(gpu, kernel, &input, &mut out).await? != Outcome::Declined {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Blocks with one number that decides for the processor, which is the last of an odd count.
fn unanswerable(kernel: Kernel) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    match kernel {
        Kernel::Quantize { from, .. } => {
            let mut bad = vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
            if from != DType::F16 {
                // Too large for the binary16 of the header.
                bad.push(f32::from_bits(0x7F00_0000));
            }
            for x in bad {
                let mut values = vec![1.0; 3 * VALUES];
                values[2 * VALUES + 31] = x;
                all.push(store(from, &values));
            }
        }
        Kernel::Dequantize(from) => {
            let size = from.block_bytes() as usize;
            for scale in [0x7C00_u16, 0xFC01] {
                let mut raw = vec![0; 3 * size];
                raw[2 * size..2 * size + 2].copy_from_slice(&scale.to_le_bytes());
                all.push(raw);
            }
        }
    }
    all
}

/// Values as a type stores them; what F16 cannot hold becomes infinite.
fn store(dtype: DType, values: &[f32]) -> Vec<u8> {
    match dtype {
        DType::F16 => values.iter().flat_map(|&x| f32_to_f16(x).to_le_bytes()).collect(),
        DType::BF16 => values.iter().flat_map(|&x| f32_to_bf16(x).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

/// Every block that the definition takes, with its bytes; their count is odd.
fn stored(from: DType, to: DType) -> Known {
    let mut known = Known { input: Vec::new(), answer: Vec::new() };
    let mut bytes = vec![0; to.block_bytes() as usize];
    let mut values = [0.0; VALUES];
    for kind in 0..KINDS {
        for round in 0..ROUNDS {
            let raw = store(from, &paint(kind, round));
            let decoded = Scalar.decode(from, &raw, &mut values);
            if decoded.and_then(|()| Scalar.encode(Encoding::Type(to), &values, None, &mut bytes)).is_ok() {
                known.input.extend(&raw);
                known.answer.extend(&bytes);
            }
        }
    }
    if (known.answer.len() / bytes.len()).is_multiple_of(2) {
        known.input.truncate(known.input.len() - VALUES * from.block_bytes() as usize);
        known.answer.truncate(known.answer.len() - bytes.len());
    }
    known
}

/// Blocks of any bytes whose scales are finite, with their values.
fn blocks(from: DType) -> Known {
    let (size, count) = (from.block_bytes() as usize, 16 * ROUNDS + 1);
    let fields = if matches!(from, DType::Q4_1 | DType::Q5_1) { 2 } else { 1 };
    let mut input: Vec<u8> =
        (0..).flat_map(|at| word(1, at).to_le_bytes()).take(size * count as usize).collect();
    for (n, block) in input.chunks_exact_mut(size).enumerate() {
        for field in 0..fields {
            // Every seventh scale is a subnormal number, and every fifth 0.
            let top = &mut block[2 * field + 1];
            *top &= if n % 7 == 0 { 0x83 } else { 0xBF };
            if n % 5 == field {
                *top &= 0x80;
                block[2 * field] = 0;
            }
        }
    }
    let mut values = vec![0.0; VALUES * count as usize];
    let answer = match Scalar.decode(from, &input, &mut values) {
        Ok(()) => store(DType::F32, &values),
        Err(_) => Vec::new(),
    };
    Known { input, answer }
}

/// The numbers of a stream: SplitMix64 as a counter.
pub fn word(seed: u64, at: u64) -> u64 {
    let mut z = seed.wrapping_add(at.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

const KINDS: u64 = 14;

/// A block of a kind: what rounding, fusing, reordering, flushing or a forgotten sign of zero would change.
fn paint(kind: u64, round: u64) -> [f32; VALUES] {
    let seed = kind << 32 | round;
    let octave = |low: u64, count: u64| f32::from_bits(((low + word(seed, 99) % count) as u32) << 23);
    let mut block = [0.0; VALUES];
    for (at, x) in (0..).zip(&mut block) {
        let w = word(seed, at);
        let bits = w as u32;
        let sign = bits & 0x8000_0000;
        // Nearly normal: the sum of four uniforms.
        let z = (0..4).map(|k| (w >> (16 * k) & 0xFFFF) as f32 - 32767.5).sum::<f32>() / 32768.0;
        *x = match kind {
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
            4 => {
                ((w >> 40) as i32 % 31 - 15) as f32
                    * 0.5
                    * f32::from_bits(0x3F80_0000 | word(seed, 98) as u32 >> 9)
            }
            5 => 0.0,
            6 => f32::from_bits(sign),
            7 => f32::from_bits(sign | (word(seed, 97) as u32 & 0x7F_FFFF) >> (round % 24)),
            8 => f32::from_bits(bits & 0x807F_FFFF) * if round.is_multiple_of(2) { 1.0 } else { 64.0 },
            9 => z * f32::from_bits(1 << 23) * 8.0,
            10 => octave(0, 140),
            11 => f32::from_bits(sign | octave(100, 20).to_bits()),
            // Far from zero: what is subtracted is much greater than what is left.
            12 => z * 0.01 + octave(117, 16),
            _ => f32::from_bits(sign | ((bits >> 8 & 0x7F) + 16) << 23 | (w >> 41) as u32),
        };
    }
    block
}
