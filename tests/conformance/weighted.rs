//! Encoding with importance weights, beyond the vectors: independence of rows, use of weights, refusals.

use crate::engines::{BLOCKS, encodings, engines};
use proptest::prelude::*;
use quantoscope_core::DType;
use quantoscope_core::quant::{EncodeError, Encoding, ImportanceUse, encoder};
use quantoscope_tests::generators::{generate, importance};
use quantoscope_tests::property::property;

/// Those that use it.
fn users() -> impl Iterator<Item = Encoding> {
    BLOCKS.into_iter().filter(|e| e.importance() != ImportanceUse::Ignored)
}

fn block(e: Encoding) -> usize {
    e.dtype().block_len() as usize
}

proptest! {
    #![proptest_config(property(file!(), 24))]

    /// A row may be cut at any block, its importance with it.
    #[test]
    fn weighted_blocks_of_a_row_are_independent(seed: u64, cut in 0_usize..12) {
        for (engine, e) in engines().iter().flat_map(|n| users().map(move |e| (n, e))) {
            let (n, at) = (12 * block(e), cut * block(e));
            let (x, w) = (generate("scaled", seed, n), importance(seed, n));
            let whole = engine.encode_weighted(e, &x, &w).unwrap();
            let ends = [(&x[..at], &w[..at]), (&x[at..], &w[at..])];
            let parts = ends.map(|(x, w)| engine.encode_weighted(e, x, w).unwrap()).concat();
            prop_assert!(e.needs_whole_rows() || whole == parts, "{} {}", engine.name, e);
        }
    }

    /// Every row has the same importance and knows nothing of the others, however few blocks it has.
    #[test]
    fn weighted_rows_are_independent(seed: u64, blocks in 1_usize..5, rows in 1_usize..24) {
        for (engine, e) in engines().iter().flat_map(|n| users().map(move |e| (n, e))) {
            let columns = blocks * block(e);
            let (x, w) = (generate("heavy", seed, rows * columns), importance(seed, columns));
            let whole = engine.encode_weighted(e, &x, &w).unwrap();
            let each = x.chunks(columns).map(|row| engine.encode_weighted(e, row, &w).unwrap());
            prop_assert!(whole == each.collect::<Vec<_>>().concat(), "{} {}", engine.name, e);
        }
    }
}

#[test]
fn weighted_whole_row_types_depend_on_the_row() {
    for e in users() {
        let n = 64 * block(e);
        let differs = (0..4).any(|seed| {
            let (x, w) = (generate("scaled", seed, n), importance(seed, n));
            let whole = engines()[0].encode_weighted(e, &x, &w).unwrap();
            let parts = [(&x[..n / 2], &w[..n / 2]), (&x[n / 2..], &w[n / 2..])];
            whole != parts.map(|(x, w)| engines()[0].encode_weighted(e, x, w).unwrap()).concat()
        });
        assert_eq!(differs, e.needs_whole_rows(), "{e}");
    }
}

#[test]
fn weighted_use_of_importance_equals_the_table() {
    let (x, w) = (generate("heavy", 3, 2048), importance(3, 1024));
    for (engine, e) in engines().iter().flat_map(|n| encodings().into_iter().map(move |e| (n, e))) {
        let without = engine.encode(e, &x).unwrap();
        let with = engine.encode_weighted(e, &x, &w).unwrap();
        assert_eq!(without == with, e.importance() == ImportanceUse::Ignored, "{} {e}", engine.name);
    }
}

/// What matters comes out closer, what does not is let go.
#[test]
fn weighted_important_columns_have_less_error() {
    let x = generate("normal", 5, 1 << 15);
    let w: Vec<f32> = (0..256).map(|i| if i % 8 == 3 { 64.0 } else { 1.0 }).collect();
    for e in users() {
        let error = |raw: Vec<u8>| {
            let back = engines()[0].decode(e.dtype(), &raw, x.len());
            let off = |i: &usize| f64::from(x[*i] - back[*i]).powi(2);
            (0..x.len()).filter(|i| i % 8 == 3).map(|i| off(&i)).sum::<f64>()
        };
        let with = error(engines()[0].encode_weighted(e, &x, &w).unwrap());
        let without = error(engines()[0].encode(e, &x).unwrap());
        assert!(with < 0.95 * without, "{e}: {with} and {without}");
    }
}

/// Where nothing counts, ggml's searches find the scale 0, but for the types of small blocks with a minimum,
/// whose first grid stands, and those of a grid, some of which do and some of which do not.
#[test]
fn weighted_zero_importance_has_scale_zero() {
    let x = generate("normal", 7, 1024);
    for (engine, e) in engines().iter().flat_map(|n| users().map(move |e| (n, e))) {
        let raw = engine.encode_weighted(e, &x, &[0.0; 512]).unwrap();
        let back = engine.decode(e.dtype(), &raw, x.len());
        match e.dtype() {
            DType::Q4_1 => assert!(x.iter().zip(&back).all(|(a, b)| (a - b).abs() < 0.01), "{}", engine.name),
            DType::Q5_1 => {
                assert!(x.iter().zip(&back).all(|(a, b)| (a - b).abs() < 0.005), "{}", engine.name)
            }
            _ if e.importance() != ImportanceUse::Optional => assert!(back.iter().all(|x| x.is_finite())),
            _ => assert!(back.iter().all(|&x| x == 0.0), "{} {e}", engine.name),
        }
    }
}

#[test]
fn weighted_nan_or_infinity_leaves_the_output_unchanged() {
    for e in users() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let (mut x, w) = (generate("normal", 1, 1024), importance(1, 512));
            (x[700], x[1023]) = (bad, bad);
            let mut out = vec![0xA5; e.dtype().bytes_for(1024).unwrap() as usize];
            let refusal = encoder(e).unwrap()(&x, Some(&w), &mut out);
            assert_eq!(refusal, Err(EncodeError::NonFinite { index: 700 }), "{e}");
            assert!(out.iter().all(|&b| b == 0xA5), "{e}");
        }
    }
}

#[test]
fn weighted_overflow_names_the_largest_value() {
    for (engine, e) in engines().iter().flat_map(|n| users().map(move |e| (n, e))) {
        for loud in [1e12, -1e12, 3e38, -3e38] {
            let mut x = generate("normal", 1, 1024);
            x[700] = loud;
            let refusal = engine.encode_weighted(e, &x, &[1.0; 512]);
            assert_eq!(refusal, Err(EncodeError::F16Overflow { index: 700 }), "{} {e} {loud:e}", engine.name);
        }
    }
}

/// Weights are checked where they are read; whatever they are, nothing panics, and no scale that is not
/// finite is written.
#[test]
fn weighted_any_importance_gives_finite_blocks() {
    let odd = [0.0, -0.0, 1e-45, 1e-38, 1e38, f32::MAX, -1.0, f32::INFINITY, f32::NAN];
    for family in ["normal", "ties", "tiny", "huge", "scaled"] {
        let x = generate(family, 11, 2048);
        for (engine, e) in engines().iter().flat_map(|n| users().map(move |e| (n, e))) {
            for (k, x) in x.chunks(256).enumerate() {
                let w: Vec<f32> = (0..256).map(|i| odd[(i * i + k * i) % odd.len()]).collect();
                let Ok(raw) = engine.encode_weighted(e, x, &w) else { continue };
                let back = engine.decode(e.dtype(), &raw, x.len());
                assert!(back.iter().all(|x| x.is_finite()), "{} {e} {family}", engine.name);
            }
        }
    }
}

#[test]
fn weighted_mismatched_lengths_panic() {
    for e in users() {
        for (values, weights) in [(512, 0), (512, 1024), (768, 512), (512, 500), (512, 8)] {
            let run = move || {
                let mut out = vec![0; e.dtype().bytes_for(values).unwrap() as usize];
                encoder(e).unwrap()(&vec![1.0; values as usize], Some(&vec![1.0; weights]), &mut out)
            };
            assert!(std::panic::catch_unwind(run).is_err(), "{e} {values} {weights}");
        }
        assert_eq!(encoder(e).unwrap()(&[], Some(&[]), &mut []), Ok(()), "{e}");
    }
}
