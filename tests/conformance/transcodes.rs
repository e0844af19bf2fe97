//! Lossless transcodes: equal values to the bit, or a refusal.

use crate::engines::every;
use proptest::prelude::*;
use quantoscope_core::DType;
use quantoscope_core::quant::{EncodeError, Encoding, transcoder};
use quantoscope_tests::generators::{blocks, generate};
use quantoscope_tests::property::property;

fn transcode(from: DType, to: DType, raw: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let blocks = raw.len() / from.block_bytes() as usize;
    let mut out = vec![0; blocks * to.block_bytes() as usize];
    transcoder(from, to).unwrap()(raw, &mut out).map(|()| out)
}

fn decoded(d: DType, raw: &[u8]) -> Vec<u32> {
    let n = raw.len() / d.block_bytes() as usize * 32;
    every().decode(d, raw, n).iter().map(|x| x.to_bits()).collect()
}

const LATTICE: DType = DType::LATTICE_Q4;
const FAMILIES: [&str; 8] =
    ["normal", "heavy", "shifted", "constant", "zero", "sparse", "magnitudes", "ties"];

#[test]
fn transcode_lattice_and_q4_1_keeps_values() {
    for family in FAMILIES {
        let x = generate(family, 5, 3200);
        for e in [Encoding::LatticeAsym, Encoding::LatticeSym] {
            let raw = match every().encode(e, &x) {
                Ok(raw) => raw,
                Err(r) => panic!("{family}: {r:?}"),
            };
            let there = transcode(LATTICE, DType::Q4_1, &raw).unwrap();
            assert_eq!(decoded(LATTICE, &raw), decoded(DType::Q4_1, &there), "{family}");
            assert_eq!(transcode(DType::Q4_1, LATTICE, &there).unwrap(), raw, "{family}");
        }
        let raw = every().encode(Encoding::Type(DType::Q4_1), &x).unwrap();
        let there = transcode(DType::Q4_1, LATTICE, &raw).unwrap();
        assert_eq!(decoded(LATTICE, &there), decoded(DType::Q4_1, &raw), "{family}");
    }
}

#[test]
fn transcode_symmetric_lattice_to_q4_0_keeps_values() {
    let x = generate("normal", 6, 3200);
    let raw = every().encode(Encoding::LatticeSym, &x).unwrap();
    let there = transcode(LATTICE, DType::Q4_0, &raw).unwrap();
    assert_eq!(decoded(LATTICE, &raw), decoded(DType::Q4_0, &there));
}

#[test]
fn transcode_to_q4_0_with_another_bias_is_refused() {
    let mut x = generate("normal", 6, 96);
    // A subnormal scale: binary16 of -8 s is finer than -8 times binary16 of s.
    x[64..].iter_mut().for_each(|x| *x *= 1e-4);
    let raw = every().encode(Encoding::LatticeSym, &x).unwrap();
    assert_eq!(transcode(LATTICE, DType::Q4_0, &raw), Err(EncodeError::NotExact { block: 2 }));
    let raw = every().encode(Encoding::LatticeAsym, &x).unwrap();
    assert_eq!(transcode(LATTICE, DType::Q4_0, &raw), Err(EncodeError::NotExact { block: 0 }));
}

/// A block with these header fields and codes 0, 1, ... 15, 0, 1, ...
fn block(scale: u16, bias: u16) -> Vec<u8> {
    let mut raw = [scale.to_le_bytes(), bias.to_le_bytes()].concat();
    raw.extend((0..16_u8).map(|j| (2 * j % 16) | (((2 * j + 1) % 16) << 4)));
    raw
}

#[test]
fn transcode_to_invalid_lattice_is_refused() {
    let (one, minus_one, inf, nan) = (0x3C00, 0xBC00, 0x7C00, 0x7E00);
    for (d, m) in [(minus_one, one), (inf, one), (nan, one), (one, inf), (one, nan), (0x8000, 0x8000)] {
        let got = transcode(DType::Q4_1, LATTICE, &block(d, m));
        assert_eq!(got, Err(EncodeError::NotExact { block: 0 }), "{d:04x} {m:04x}");
    }
    for (s, b) in [(0, 0), (0x8000, 0), (minus_one, 0x4800), (inf, 0xFC00), (nan, nan)] {
        let got = transcode(LATTICE, DType::Q4_0, &block(s, b));
        assert_eq!(got, Err(EncodeError::NotExact { block: 0 }), "{s:04x} {b:04x}");
    }
}

#[test]
fn transcode_zero_scale_has_scale_one_and_zero_codes() {
    for (d, m) in [(0, 0x3C00), (0, 0), (0, 0x8000), (0x8000, 0), (0x8000, 0xBC00)] {
        let raw = block(d, m);
        let there = transcode(DType::Q4_1, LATTICE, &raw).unwrap();
        assert_eq!(there[..2], [0x00, 0x3C]);
        assert_eq!(decoded(LATTICE, &there), decoded(DType::Q4_1, &raw), "{d:04x} {m:04x}");
    }
}

proptest! {
    #![proptest_config(property(file!(), 200))]

    /// Any finite block: what is not refused has the same values.
    #[test]
    fn transcode_any_accepted_block_keeps_values(seed: u64, like_q4_0: bool) {
        for (from, to) in [(LATTICE, DType::Q4_1), (DType::Q4_1, LATTICE), (LATTICE, DType::Q4_0)] {
            let mut raw = blocks(seed, 1, 20, &[1, 3]);
            if like_q4_0 {
                let scale = quantoscope_core::float::f16_to_f32(u16::from_le_bytes([raw[0], raw[1]]));
                let bias = quantoscope_core::float::f32_to_f16(-8.0 * scale);
                raw[2..4].copy_from_slice(&bias.to_le_bytes());
            }
            if let Ok(out) = transcode(from, to, &raw) {
                prop_assert_eq!(decoded(from, &raw), decoded(to, &out));
            }
        }
    }
}
