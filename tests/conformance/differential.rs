//! Every engine gives the definition's bytes and refusals, on values that nobody would think of.

use crate::engines::{NamedEngine, encodings, engines, every};
use proptest::prelude::*;
use quantoscope_core::DType;
use quantoscope_core::metric::{Histogram, PackedHistogram};
use quantoscope_core::quant::{Encoding, decoder};
use quantoscope_core::wire;
use quantoscope_tests::painters::{paint, word};
use quantoscope_tests::property::property;

/// Values in the hardest places: whole patterns at random, magnitudes spread over a few octaves around any, few
/// distinct values (so that extremes tie), and zeros of both signs.
fn values(seed: u64, n: usize) -> Vec<f32> {
    let (kind, octave) = (word(seed, 0) % 5, word(seed, 1) % 254);
    let finite =
        |bits: u32| f32::from_bits(if bits & 0x7F80_0000 == 0x7F80_0000 { bits & 0x807F_FFFF } else { bits });
    (0..n as u64)
        .map(|i| {
            let bits = word(seed, i + 2) as u32;
            let near = (bits & 0x807F_FFFF) | ((octave as u32).saturating_sub(bits >> 23 & 7) << 23);
            match kind {
                0 => finite(bits),
                1 => finite(near),
                2 => f32::from_bits(near & 0xFF80_0000),
                3 if bits >> 8 & 3 != 0 => f32::from_bits(bits & 0x8000_0000),
                3 => finite(near),
                _ => finite(near & 0xFFFF_0000),
            }
        })
        .collect()
}

proptest! {
    #![proptest_config(property(file!(), 200))]

    #[test]
    fn on_any_values(seed: u64, blocks in 1_usize..80) {
        for e in encodings() {
            // Whole groups of blocks, and what is left over.
            let x = values(seed, (32 * blocks).next_multiple_of(e.dtype().block_len() as usize));
            if let Ok(raw) = every().encode(e, &x) {
                every().decode(e.dtype(), &raw, x.len());
            }
        }
    }

    #[test]
    fn on_values_that_are_never_seen(seed: u64, blocks in 1_usize..20) {
        let n = 256 * blocks;
        let x = values(seed, n);
        for from in [DType::F32, DType::BF16, DType::F16, DType::Q8_0, DType::LATTICE_Q4] {
            let e = if from == DType::LATTICE_Q4 { Encoding::LatticeAsym } else { Encoding::Type(from) };
            let Ok(raw) = every().encode(e, &x) else { continue };
            for to in encodings().into_iter().filter(|to| !to.searches()) {
                let want = engines()[0].encode(to, &engines()[0].decode(from, &raw, n));
                for engine in engines() {
                    prop_assert!(engine.recode(from, &raw, to, n) == want, "{} {} {}", engine.name, from, to);
                }
            }
        }
    }

    #[test]
    fn on_what_is_measured(seed: u64, n in 0_usize..=256, bad in 0_usize..3) {
        let n = if seed % 2 == 0 { n.next_multiple_of(8) } else { n };
        let (mut x, mut y) = (values(seed, n), values(seed ^ 1, n));
        if bad > 0 && n > 0 {
            let (x, y) = (&mut x[word(seed, 0) as usize % n], &mut y[word(seed, 1) as usize % n]);
            *[x, y][bad - 1] = [f32::NAN, f32::INFINITY][word(seed, 2) as usize % 2];
        }
        let bytes = |engine: &NamedEngine| {
            let mut histogram = Histogram::new();
            engine.kernels.count(&mut histogram, &x);
            let mut packed = PackedHistogram::default();
            packed.merge(&histogram);
            wire::encode(&(engine.kernels.moments(&x), engine.kernels.pair(&x, &y), packed)).unwrap()
        };
        let want = bytes(&engines()[0]);
        for engine in engines() {
            prop_assert!(bytes(&engine) == want, "{}", engine.name);
        }
    }

    #[test]
    fn on_any_length_of_the_types_that_have_any(seed: u64, n in 0_usize..700) {
        let x = values(seed, n);
        for e in encodings().into_iter().filter(|e| e.dtype().block_len() == 1 || e.dtype().is_flat()) {
            let _ = every().encode(e, &x);
        }
    }

    /// One bad value somewhere, or two of different kinds.
    #[test]
    fn on_values_that_are_refused(seed: u64, at in 0_usize..2048, other in 0_usize..2048, kinds in 0_usize..9) {
        let mut x = paint("heavy", seed, 2048);
        x[at] = [f32::NAN, f32::NEG_INFINITY, -3e9][kinds / 3];
        x[other] = [f32::from_bits(0xFFFF_FFFF), f32::INFINITY, 2e30][kinds % 3];
        for e in encodings() {
            let _ = every().encode(e, &x);
        }
    }

    #[test]
    fn on_any_bytes(seed: u64, blocks in 1_usize..12) {
        for &d in DType::ALL.iter().filter(|&&d| decoder(d).is_some()) {
            let size = d.block_bytes() as usize * blocks;
            let raw: Vec<u8> = (0..).flat_map(|i| word(seed, i).to_le_bytes()).take(size).collect();
            every().decode(d, &raw, blocks * d.block_len() as usize);
        }
    }
}
