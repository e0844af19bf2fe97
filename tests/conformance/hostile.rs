//! Arbitrary input for every decoder, encoder and transcoder of every engine: no panic, all output written,
//! no dependence on neighbouring blocks, and errors that name the element.
//!
//! Each seed is a case. `FUZZ_SEED=1000000 FUZZ_CASES=100000 cargo test --release -p quantoscope-tests --test
//! conformance hostile` walks others than the committed few.

use crate::engines::{self, encodings};
use quantoscope_core::DType;
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::quant::{EncodeError, Encoding, ImportanceUse, decoder, transcoder};
use quantoscope_tests::generators::{importance, word};
use std::ops::Range;

/// Blocks of a case, at most.
const BLOCKS: u64 = 5;

fn seeds() -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("FUZZ_SEED").unwrap_or(0);
    first..first + number("FUZZ_CASES").unwrap_or(60)
}

fn engines() -> impl Iterator<Item = &'static dyn Kernels> {
    engines::engines().into_iter().map(|e| e.kernels)
}

fn readable() -> Vec<DType> {
    DType::ALL.iter().copied().filter(|d| decoder(*d).is_some()).collect()
}

/// Bytes of any kind: noise, noise with long runs of 0x00 or 0xFF, or one byte throughout.
fn bytes(seed: u64, n: usize) -> Vec<u8> {
    let byte = |i: u64| word(seed, i) as u8;
    let kind = word(seed, u64::MAX) % 4;
    (0..n as u64)
        .map(|i| match kind {
            0 => byte(i),
            1 => byte(i / 40 * 40),
            2 => [0xFF, 0x00, byte(i)][(word(seed, i / 16) % 3) as usize],
            _ => byte(0),
        })
        .collect()
}

/// Values of any kind. Each block has its own range of exponents, among them the least and the greatest, so
/// that blocks which can be written stand beside blocks which cannot.
fn values(seed: u64, n: usize, block: u64) -> Vec<f32> {
    let value = |i: u64| {
        let of_block = word(seed ^ 0xB10C, i / block);
        let bits = word(seed, i) as u32;
        let exponents = 1 + (of_block >> 8) % 60;
        let exponent = (of_block % 255 + (word(seed, i) >> 32) % exponents).min(254) as u32;
        match of_block >> 32 & 7 {
            0 => f32::from_bits(bits & 0xFF7F_FFFF),
            1 if bits & 3 == 0 => f32::from_bits(bits & 0x8000_0000),
            2 => f32::from_bits((of_block as u32 & 0x7F_FFFF) | exponent << 23 | (bits & 0x8000_0000)),
            _ => f32::from_bits((bits & 0x807F_FFFF) | exponent << 23),
        }
    };
    (0..n as u64).map(value).collect()
}

/// Weights of any kind: usual ones, or any bits that are a weight.
fn weights(seed: u64, n: usize) -> Vec<f32> {
    match seed % 3 {
        0 => values(seed ^ 0x1339, n, 32).into_iter().map(f32::abs).collect(),
        _ => importance(seed, n),
    }
}

fn decode(engine: &dyn Kernels, d: DType, raw: &[u8], n: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; n];
    // What binary32 cannot hold is refused, and infinite in what is left.
    let done = engine.decode(d, raw, &mut out);
    assert!(done.is_ok() || d == DType::F64, "{done:?}");
    out
}

/// The same bits, but for NaN: what a NaN carries is not promised.
fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan())
}

#[test]
fn decode_any_bytes_equals_block_by_block() {
    for engine in engines() {
        for d in readable() {
            let (len, size) = (d.block_len() as usize, d.block_bytes() as usize);
            for seed in seeds() {
                let place = format!("{} {d} FUZZ_SEED={seed}", engine.name());
                let count = word(seed, 1 << 40) % (BLOCKS * 64 / d.block_len().min(64)) + seed % 2;
                let raw = bytes(seed, count as usize * size);
                let all = decode(engine, d, &raw, count as usize * len);
                let each = raw.chunks(size).flat_map(|b| decode(engine, d, b, len)).collect::<Vec<_>>();
                assert!(same(&all, &each), "{place}: a neighbour shows");
                assert!(same(&all, &decode(&Scalar, d, &raw, all.len())), "{place}: not the definition's");
            }
        }
    }
}

/// A lattice tensor may end within a block; no value of it depends on where.
#[test]
fn decode_lattice_any_length_succeeds() {
    for engine in engines() {
        for seed in seeds() {
            let raw = bytes(seed, 3 * 20);
            let all = decode(engine, DType::LATTICE_Q4, &raw, 96);
            for n in 65..96 {
                let part = decode(engine, DType::LATTICE_Q4, &raw, n);
                assert!(same(&part, &all[..n]), "{} {n} FUZZ_SEED={seed}", engine.name());
            }
        }
    }
}

/// Encodes into two buffers of different old content: every byte is written.
fn encode(engine: &dyn Kernels, e: Encoding, x: &[f32], w: Option<&[f32]>) -> Result<Vec<u8>, EncodeError> {
    let into = |old: u8| {
        let mut out = vec![old; e.dtype().bytes_for(x.len() as u64).expect("whole blocks") as usize];
        engine.encode(e, x, w, &mut out).map(|()| out)
    };
    let written = into(0x00);
    assert!(written == into(0xA5), "{} {e}: the buffer's old content shows", engine.name());
    written
}

/// The index that a refusal names must be that of an end of its block's range.
fn check_blame(e: Encoding, x: &[f32], refused: EncodeError, place: &str) {
    let EncodeError::F16Overflow { index } = refused else { panic!("{place}: {refused:?}") };
    let len = e.dtype().block_len() as usize;
    let block = &x[index / len * len..][..len];
    let end = |f: fn(f32, f32) -> f32| block.iter().copied().reduce(f) == Some(x[index]);
    assert!(x[index] != 0.0 && (end(f32::max) || end(f32::min)), "{place}: {index} is not to blame");
}

/// `part` values make a part that no other can influence: a block, or with weights a row.
fn check_encoded(engine: &dyn Kernels, e: Encoding, x: &[f32], w: Option<&[f32]>, part: usize, place: &str) {
    let outcome = encode(engine, e, x, w);
    assert!(outcome == encode(&Scalar, e, x, w), "{place}: not the definition's");
    let alone: Vec<_> = x.chunks(part).map(|part| encode(engine, e, part, w)).collect();
    match outcome {
        Err(refused) => {
            let first = alone.into_iter().enumerate().find_map(|(n, r)| Some(r.err()?.shifted(n * part)));
            assert_eq!(Some(refused), first, "{place}");
            check_blame(e, x, refused, place);
        }
        Ok(raw) => {
            assert!(
                Ok(&raw) == alone.into_iter().collect::<Result<Vec<_>, _>>().map(|v| v.concat()).as_ref(),
                "{place}: a neighbour shows"
            );
            let back = decode(engine, e.dtype(), &raw, x.len());
            assert!(back.iter().all(|v| !v.is_nan()), "{place}: decodes to NaN");
        }
    }
}

/// Runs `check` over all engines, encodings and seeds, with values for some rows of a few blocks.
fn for_each_case(
    these: impl Fn(Encoding) -> bool,
    check: impl Fn(&dyn Kernels, Encoding, u64, usize, Vec<f32>),
) {
    for engine in engines() {
        for e in encodings().into_iter().filter(|e| these(*e)) {
            for seed in seeds() {
                let (rows, blocks) = (word(seed, 1 << 40) % 4, 1 + word(seed, 1 << 41) % 3);
                let cols = (blocks * e.dtype().block_len().max(32)) as usize;
                let x = values(seed, rows as usize * cols, e.dtype().block_len().max(32));
                check(engine, e, seed, cols, x);
            }
        }
    }
}

#[test]
fn encode_any_finite_values_succeeds_or_names_the_value() {
    let refused = std::cell::Cell::new(0);
    for_each_case(
        |e| e.importance() != ImportanceUse::Required,
        |engine, e, seed, _, x| {
            let place = format!("{} {e} FUZZ_SEED={seed}", engine.name());
            check_encoded(engine, e, &x, None, e.dtype().block_len() as usize, &place);
            refused.set(refused.get() + u32::from(encode(engine, e, &x, None).is_err()));
        },
    );
    assert!(refused.get() > 0, "no case was ever refused: the values are too tame");
}

#[test]
fn encode_any_weights_equals_row_by_row() {
    for_each_case(
        |e| e.importance() != ImportanceUse::Ignored,
        |engine, e, seed, cols, x| {
            let place = format!("{} {e}, weighted, FUZZ_SEED={seed}", engine.name());
            check_encoded(engine, e, &x, Some(&weights(seed, cols)), cols, &place);
        },
    );
}

#[test]
fn encode_non_finite_values_names_the_first() {
    for_each_case(
        |e| e.dtype().is_quantized(),
        |engine, e, seed, cols, mut x| {
            let places: Vec<usize> = (0..3)
                .filter_map(|k| word(seed ^ 0xBAD, k).checked_rem(x.len() as u64))
                .map(|at| at as usize)
                .collect();
            for (k, &at) in places.iter().enumerate() {
                x[at] = f32::from_bits(0x7F80_0000 | word(seed, k as u64) as u32);
            }
            let Some(&index) = places.iter().min() else { return };
            let w = weights(seed, cols);
            let got = encode(engine, e, &x, Some(&w));
            assert_eq!(got, Err(EncodeError::NonFinite { index }), "{} {e} FUZZ_SEED={seed}", engine.name());
        },
    );
}

fn transcode(engine: &dyn Kernels, from: DType, to: DType, raw: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let mut out = vec![0xA5; raw.len() / from.block_bytes() as usize * to.block_bytes() as usize];
    engine.transcode(from, to, raw, &mut out).map(|()| out)
}

fn check_transcoded(engine: &dyn Kernels, from: DType, to: DType, raw: &[u8], place: &str) {
    let size = from.block_bytes() as usize;
    let outcome = transcode(engine, from, to, raw);
    let first = raw.chunks(size).position(|block| transcode(engine, from, to, block).is_err());
    assert_eq!(
        outcome.as_ref().err().copied(),
        first.map(|block| EncodeError::NotExact { block }),
        "{place}"
    );
    if let Ok(out) = outcome {
        let n = raw.len() / size * from.block_len() as usize;
        assert!(same(&decode(engine, from, raw, n), &decode(engine, to, &out, n)), "{place}: values differ");
    }
}

#[test]
fn transcode_any_blocks_is_exact_or_names_the_block() {
    let pairs = || DType::ALL.iter().flat_map(|a| DType::ALL.iter().map(|b| (*a, *b)));
    for engine in engines() {
        for (from, to) in pairs().filter(|(from, to)| transcoder(*from, *to).is_some()) {
            for seed in seeds() {
                let raw = bytes(seed, (word(seed, 1 << 40) % BLOCKS * from.block_bytes()) as usize);
                let place = format!("{} {from} to {to} FUZZ_SEED={seed}", engine.name());
                check_transcoded(engine, from, to, &raw, &place);
            }
        }
    }
}
