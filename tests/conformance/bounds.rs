//! Error bounds of decode(encode(x)) per type, encoding in windows, and decoding of arbitrary bytes.

use crate::engines::{BLOCKS, encodings, engines, every};
use proptest::prelude::*;
use quantoscope_core::DType;
use quantoscope_core::float::{f16_to_f32, f32_to_f16};
use quantoscope_core::quant::{Encoding, ImportanceUse, decoder};
use quantoscope_tests::generators::{generate, importance, word};
use quantoscope_tests::property::property;

/// The largest error that a block with these extremes may have: half a step (a whole one where the top of the
/// range is clamped), and what binary16 does to the header over the whole range of codes. Searches minimise a
/// sum and promise nothing of one value; theirs is what a hundred thousand blocks keep to with room to spare.
fn bound(e: Encoding, x: &[f32]) -> f32 {
    let min = x.iter().copied().fold(f32::INFINITY, f32::min);
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let absmax = max.abs().max(min.abs());
    let off = |v: f32| (f16_to_f32(f32_to_f16(v)) - v).abs();
    let (step, steps, codes, bias) = match e {
        Encoding::LatticeAsym => ((max - min) / 15.0, 0.5, 15.0, off(min)),
        Encoding::LatticeSym => (absmax / 7.0, 0.5, 15.0, off(-8.0 * absmax / 7.0)),
        Encoding::Type(DType::Q4_1) => ((max - min) / 15.0, 0.5, 15.0, off(min)),
        Encoding::Type(DType::Q5_1) => ((max - min) / 31.0, 0.5, 31.0, off(min)),
        Encoding::Type(DType::Q4_0) => (absmax / 8.0, 1.0, 8.0, 0.0),
        Encoding::Type(DType::Q5_0) => (absmax / 16.0, 1.0, 16.0, 0.0),
        Encoding::Type(DType::Q8_0) => (absmax / 127.0, 0.5, 127.0, 0.0),
        Encoding::Type(DType::Q6_K) => (absmax / 32.0, 2.0, 32.0, 0.0),
        Encoding::Type(DType::Q5_K) => (absmax / 16.0, 2.0, 31.0, 0.0),
        Encoding::Type(DType::Q4_K) => (absmax / 8.0, 2.0, 15.0, 0.0),
        Encoding::Type(DType::Q3_K) => (absmax / 4.0, 2.0, 4.0, 0.0),
        Encoding::Type(DType::Q2_K) => (absmax / 2.0, 2.0, 3.0, 0.0),
        Encoding::Type(DType::IQ4_NL | DType::IQ4_XS) => (absmax / 8.0, 2.0, 8.0, 0.0),
        Encoding::Type(DType::IQ3_S) => (absmax / 4.0, 2.0, 4.0, 0.0),
        // Seven signs of eight are stored, the last is their parity: eight values of one magnitude and an odd number of
        // negative ones turn one of them over, so that its error is its distance from the other side.
        Encoding::Type(DType::IQ3_XXS) => (absmax, 2.0, 4.0, 0.0),
        Encoding::Type(DType::IQ2_XS | DType::IQ2_XXS) => (absmax, 2.0, 2.0, 0.0),
        Encoding::Type(DType::IQ2_S) => (absmax, 1.0, 2.0, 0.0),
        Encoding::Type(DType::IQ1_S | DType::IQ1_M) => (absmax, 1.25, 1.0, 0.0),
        Encoding::Type(DType::MXFP4) => (absmax / 4.0, 1.0, 0.0, 0.0),
        Encoding::Type(DType::TQ1_0 | DType::TQ2_0 | DType::Q2_0) => (absmax, 0.5, 1.0, 0.0),
        // Its scales are cut off, and round to zero; and one bit says little.
        Encoding::Type(DType::NVFP4 | DType::Q1_0) => (absmax, 1.0, 1.0, 0.0),
        other => panic!("no bound for {other}"),
    };
    (steps * step + codes * off(step) + bias) * 1.0001 + absmax * 1e-6
}

fn check(e: Encoding, x: &[f32]) -> Result<(), TestCaseError> {
    // Where some but not all sub-blocks are zeros the reference, and so our bytes, mix up the others.
    if e == Encoding::Type(DType::IQ3_S) && x.chunks(32).any(|sub| sub.iter().all(|&x| x == 0.0)) {
        return Ok(());
    }
    let raw = every().encode(e, x).expect("in range");
    let back = every().decode(e.dtype(), &raw, x.len());
    let worst = x.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    prop_assert!(worst <= bound(e, x), "{} {} > {}", e, worst, bound(e, x));
    Ok(())
}

proptest! {
    #![proptest_config(property(file!(), 300))]

    #[test]
    fn encode_random_values_error_within_bound(x in prop::collection::vec(-1e3_f32..1e3, 256), scale in -20..5) {
        let x: Vec<f32> = x.iter().map(|v| v * 2.0_f32.powi(scale)).collect();
        for e in BLOCKS {
            for block in x.chunks(e.dtype().block_len() as usize) {
                check(e, block)?;
            }
        }
    }

    #[test]
    fn encode_partial_lattice_blocks_error_within_bound(x in prop::collection::vec(-1e3_f32..1e3, 1..32)) {
        check(Encoding::LatticeAsym, &x)?;
        check(Encoding::LatticeSym, &x)?;
    }

    /// Each block stands alone: a window may start at any of them.
    #[test]
    fn encode_in_windows_equals_whole(seed: u64, cut in 0_usize..8) {
        for e in encodings() {
            let block = e.dtype().block_len().max(32) as usize;
            let x = generate("heavy", seed, 8 * block);
            let whole = every().encode(e, &x).unwrap();
            let parts = [&x[..cut * block], &x[cut * block..]].map(|p| every().encode(e, p).unwrap());
            prop_assert_eq!(&whole, &parts.concat());
        }
    }
}

#[test]
fn encode_column_windows_use_their_weights() {
    for e in BLOCKS.into_iter().filter(|e| e.importance() >= ImportanceUse::Wanted) {
        let (x, weights) = (generate("heavy", 3, 2 * 1024), importance(4, 1024));
        let whole = every().encode_weighted(e, &x, &weights).unwrap();
        let parts = x.chunks(256).zip(weights.chunks(256).cycle());
        let parts = parts.map(|(x, w)| every().encode_weighted(e, x, w).unwrap());
        assert_eq!(whole, parts.collect::<Vec<_>>().concat(), "{e}");
        assert_ne!(whole, every().encode_weighted(e, &x, &[1.0; 1024]).unwrap(), "{e}");
    }
}

#[test]
fn decode_any_bytes_succeeds() {
    let decodable = DType::ALL.iter().copied().filter(|&d| decoder(d).is_some());
    for (engine, d) in engines().iter().flat_map(|e| decodable.clone().map(move |d| (e, d))) {
        let size = d.block_bytes() as usize;
        let fills = [0x00, 0xFF, 0x7C, 0x80].map(|b| vec![b; size * 100]);
        let random = (0..).flat_map(|at| word(9, at).to_le_bytes()).take(size * 1000).collect();
        for raw in fills.into_iter().chain([random]) {
            let n = raw.len() / size * d.block_len() as usize;
            assert_eq!(engine.decode(d, &raw, n).len(), n);
        }
    }
}

#[test]
fn encode_empty_input_gives_no_bytes() {
    for e in encodings() {
        assert_eq!(every().encode(e, &[]), Ok(Vec::new()), "{e}");
        assert!(every().decode(e.dtype(), &[], 0).is_empty());
    }
}

#[test]
fn encode_f64_rounds_to_nearest() {
    let raw: Vec<u8> =
        [1.0 + 2.0_f64.powi(-25), -1e300, f64::NAN].iter().flat_map(|x| x.to_le_bytes()).collect();
    let x = every().decode(DType::F64, &raw, 3);
    assert!(x[0] == 1.0 && x[1] == f32::NEG_INFINITY && x[2].is_nan());
}
