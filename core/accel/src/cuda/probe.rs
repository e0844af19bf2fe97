//! Which kernels of a device are exact: each is run on values chosen to go wrong, and held against the definition.

use super::engine::{Call, Device};
use super::texts::{self, LEN};
use quantoscope_core::DType;
use quantoscope_core::float::{f32_to_bf16, f32_to_f16};
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::quant::Encoding;

/// Blocks that a kernel is tried on: enough for every kind of values below, many times.
const BLOCKS: usize = 256;

/// The kernels of a device that gave the definition's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exact(Vec<(DType, &'static str)>);

impl Exact {
    /// Runs every kernel. One that fails, or differs in one bit, is not exact.
    pub fn probe(device: &dyn Device) -> Exact {
        let values = hard_values();
        let mut exact = Vec::new();
        for dtype in texts::TYPES {
            for source in texts::SOURCES {
                let entry = texts::encode(source).filter(|e| encodes(device, dtype, source, e, &values));
                exact.extend(entry.map(|entry| (dtype, entry)));
            }
            if decodes(device, dtype) {
                exact.push((dtype, texts::DECODE));
            }
        }
        Exact(exact)
    }

    /// Whether this kernel is exact.
    pub fn has(&self, dtype: DType, entry: &str) -> bool {
        self.0.iter().any(|&(d, e)| d == dtype && e == entry)
    }

    /// How many are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// Word `at` of a fixed stream: a counter whose bits are mixed.
fn word(at: usize) -> u32 {
    let mut z = (at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    z = (z ^ (z >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (z >> 32) as u32
}

/// One value; the kinds alternate by block. All can be encoded, whichever type stores them.
fn hard_value(at: usize) -> f32 {
    let (block, place, bits) = (at / LEN, at % LEN, word(at));
    let sign = bits & 0x8000_0000;
    // Exponents near those of binary16, so that its subnormal numbers and its ties are met.
    let octave = 100 + block as u32 / 8 % 34;
    let significand = |bits: u32| bits >> 4 & 0x7F_FFFF;
    let spread = |octaves: u32| f32::from_bits(sign | (octave - bits % octaves) << 23 | significand(bits));
    let top = f32::from_bits(octave << 23 | significand(word(block)));
    match block % 8 {
        // Beside the halves between codes, at a scale with a full significand: there it matters how often is rounded.
        0..=1 => {
            let parts = [32, 30, 62, 254][block / 8 % 4];
            let part = if place == 5 { 0 } else { bits % (2 * parts + 1) };
            let part = if place == 9 { 2 * parts } else { part };
            top * ((part as f32 - parts as f32) / parts as f32)
        }
        // The same for types with a minimum: just below the first of those halves.
        2 => match place {
            5 => 0.0,
            9 => top,
            _ => f32::from_bits((top / [30.0, 62.0][block / 8 % 2]).to_bits() - place as u32),
        },
        3 => spread(16),
        // On those halves, with both ends of the range in the block.
        4 => match place {
            5 => -16.0,
            9 => 15.0,
            _ => (bits % 63) as f32 / 2.0 - 16.0,
        },
        // Zeros of both signs, and numbers so small that devices like to forget them.
        5 => f32::from_bits(sign | if bits >> 8 & 3 == 0 { bits & 0x1FF } else { 0 }),
        6 => f32::from_bits(sign | bits & 0x03FF_FFFF),
        // Equal magnitudes.
        _ => f32::from_bits(sign | octave << 23),
    }
}

fn hard_values() -> Vec<f32> {
    (0..BLOCKS * LEN).map(hard_value).collect()
}

/// As a source stores them.
fn stored(source: DType, values: &[f32]) -> Vec<u8> {
    match source {
        DType::BF16 => values.iter().flat_map(|&x| f32_to_bf16(x).to_le_bytes()).collect(),
        DType::F16 => values.iter().flat_map(|&x| f32_to_f16(x).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

/// Runs an entry on a ground of which no byte may stay.
fn runs(device: &dyn Device, dtype: DType, entry: &'static str, src: &[u8], want: &[u8]) -> bool {
    let mut out: Vec<u8> = want.iter().map(|b| !b).collect();
    let call = Call { dtype, entry, src, out: &mut out, blocks: BLOCKS as u32 };
    device.run(call).is_ok_and(|refused| !refused) && out == want
}

/// A kernel also has to say so where a value cannot be encoded.
fn refuses(device: &dyn Device, dtype: DType, source: DType, entry: &'static str, src: &[u8]) -> bool {
    let infinity = stored(source, &[f32::NEG_INFINITY]);
    let mut src = src.to_vec();
    let middle = src.len() / 2;
    src[middle..middle + infinity.len()].copy_from_slice(&infinity);
    let mut out = vec![0; BLOCKS * dtype.block_bytes() as usize];
    device
        .run(Call { dtype, entry, src: &src, out: &mut out, blocks: BLOCKS as u32 })
        .is_ok_and(|refused| refused)
}

fn encodes(device: &dyn Device, dtype: DType, source: DType, entry: &'static str, values: &[f32]) -> bool {
    let src = stored(source, values);
    let (mut room, mut want) = (vec![0.0; values.len()], vec![0; BLOCKS * dtype.block_bytes() as usize]);
    Scalar.recode(source, &src, Encoding::Type(dtype), &mut room, &mut want).is_ok()
        && runs(device, dtype, entry, &src, &want)
        && refuses(device, dtype, source, entry, &src)
}

fn decodes(device: &dyn Device, dtype: DType) -> bool {
    let (size, values) = (dtype.block_bytes() as usize, BLOCKS * LEN);
    let mut src: Vec<u8> = (0..BLOCKS * size).map(|at| word(at) as u8).collect();
    for block in src.chunks_exact_mut(size) {
        // The fields stay finite: scale, and minimum where there is one. A code may well look so too.
        block[1] &= 0xBF;
        block[3] &= 0xBF;
    }
    let mut want = vec![0.0; values];
    Scalar.decode(dtype, &src, &mut want).is_ok()
        && runs(device, dtype, texts::DECODE, &src, &stored(DType::F32, &want))
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
        let values = hard_values();
        for dtype in texts::TYPES {
            let differs = |x: &&[f32]| {
                let [twice, once] = twice_and_once(x, dtype);
                twice != once
            };
            let blocks = values.chunks(LEN).filter(differs).count();
            assert!(blocks > 0, "{dtype}: {blocks} of {BLOCKS} blocks");
        }
    }
}
