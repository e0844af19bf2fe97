//! The committed PTX in the interpreter: bytes and refusals equal the CPU reference.
//!
//! `PTX_BLOCKS=1000 cargo test --release -p quantoscope-tests --test conformance ptx::` takes so many random
//! blocks of each type, and the long vectors too; a test run takes a hundredth of that, and of vectors those
//! of few blocks.

use crate::engines::NamedEngine;
use crate::vectors::tops;
use quantoscope_accel::cuda::launch::{WeightedColumns, dequantize, quantize};
use quantoscope_accel::cuda::ptx_modules::{PtxModule, SOURCES, TYPES};
use quantoscope_accel::cuda::task::CudaTask;
use quantoscope_core::DType;
use quantoscope_core::float::{f32_to_bf16, f32_to_f16};
use quantoscope_core::kernels::Scalar;
use quantoscope_core::quant::Encoding;
use quantoscope_tests::generators::{blocks, generate, importance, word};
use quantoscope_tests::ptx::{LaunchInputs, Programs};
use quantoscope_tests::vectors::{f32_bytes, load, sha256};

/// What stands where nothing was written yet.
const NOTHING: u8 = 0xA5;
const SCALAR: NamedEngine = NamedEngine { name: "scalar", kernels: &Scalar };
const WIDE: [DType; 5] = [DType::Q2_K, DType::Q3_K, DType::Q4_K, DType::Q5_K, DType::Q6_K];
/// The types with 32 values a block.
pub(crate) const SMALL: [DType; 5] = [DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1];

fn asked() -> Option<usize> {
    std::env::var("PTX_BLOCKS").ok().and_then(|text| text.parse().ok())
}

fn random_blocks() -> usize {
    asked().unwrap_or(10)
}

fn len(d: DType) -> usize {
    d.block_len() as usize
}

/// The blocks, and whether any was refused; the first is at place `first` of its row.
fn encode(
    programs: &Programs,
    (from, to): (DType, DType),
    raw: &[u8],
    weights: &[f32],
    first: u32,
) -> (Vec<u8>, bool) {
    let count = raw.len() / (len(to) * from.block_bytes() as usize);
    let columns =
        (!weights.is_empty()).then(|| WeightedColumns { row: (weights.len() / len(to)) as u32, first });
    let launch = quantize(from, to, count as u32, columns).unwrap();
    let out = vec![NOTHING; count * to.block_bytes() as usize];
    programs.run(&[launch], LaunchInputs { src: raw, out, weights, table: &[], between: 0 }).unwrap()
}

fn decode(programs: &Programs, from: DType, raw: &[u8]) -> Vec<f32> {
    let count = raw.len() / from.block_bytes() as usize;
    let launch = dequantize(from, count as u32).unwrap();
    let out = vec![NOTHING; 4 * len(from) * count];
    let (out, _) = programs
        .run(&[launch], LaunchInputs { src: raw, out, weights: &[], table: &[], between: 0 })
        .unwrap();
    out.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

/// Values as a source stores them.
pub(crate) fn stored(source: DType, x: &[f32]) -> Vec<u8> {
    match source {
        DType::BF16 => x.iter().flat_map(|&x| f32_to_bf16(x).to_le_bytes()).collect(),
        DType::F16 => x.iter().flat_map(|&x| f32_to_f16(x).to_le_bytes()).collect(),
        _ => f32_bytes(x),
    }
}

/// What the definition makes of one row or block.
fn definition(from: DType, to: DType, raw: &[u8], weights: &[f32]) -> Option<Vec<u8>> {
    let values = raw.len() / from.block_bytes() as usize;
    let x = SCALAR.decode(from, raw, values);
    match weights {
        [] => SCALAR.encode(Encoding::Type(to), &x).ok(),
        weights => SCALAR.encode_weighted(Encoding::Type(to), &x, weights).ok(),
    }
}

/// How many blocks of a launch are not the definition's; the flag must be raised exactly where one is
/// refused.
fn differing(programs: &Programs, (from, to): (DType, DType), raw: &[u8], weights: &[f32]) -> usize {
    let (step, size) = (len(to) * from.block_bytes() as usize, to.block_bytes() as usize);
    let (got, flag) = encode(programs, (from, to), raw, weights, 0);
    // A block of a row knows only its own columns.
    let columns = |n: usize| match weights.len() {
        0 => weights,
        all => &weights[n * len(to) % all..][..len(to)],
    };
    let want = raw.chunks(step).enumerate().map(|(n, raw)| definition(from, to, raw, columns(n)));
    let pairs: Vec<_> = want.zip(got.chunks(size)).collect();
    assert_eq!(flag, pairs.iter().any(|(want, _)| want.is_none()), "{from} to {to}: refused");
    pairs.iter().filter(|(want, got)| want.as_ref().is_some_and(|want| want != got)).count()
}

/// The same for some blocks alone, so that a refusal is the block's own.
fn check_alone(programs: &Programs, (from, to): (DType, DType), raw: &[u8], weights: &[f32]) {
    for (n, block) in raw.chunks(len(to) * from.block_bytes() as usize).take(40).enumerate() {
        let columns = match weights.len() {
            0 => weights,
            all => &weights[n * len(to) % all..][..len(to)],
        };
        assert_eq!(differing(programs, (from, to), block, columns), 0, "{from} to {to}: {block:02x?}");
    }
}

/// Every vector of a type, or those of so few blocks.
fn vectors(programs: &Programs, d: DType, most: usize) {
    for (at, case) in load(&d.to_string().to_lowercase()).cases.iter().enumerate() {
        let place = format!("{d} {} n={} seed={}", case.family, case.n, case.seed);
        let weights = case.importance.as_ref().map_or(Vec::new(), |row| importance(row.seed, row.columns));
        // Without kernels for weights, or so long that the machine takes long.
        if len(d) < 256 && !weights.is_empty()
            || case.n > most.saturating_mul(len(d)) && case.family != "blocks"
        {
            continue;
        }
        let raw = if case.family == "blocks" {
            blocks(case.seed, case.n / len(d), d.block_bytes() as usize, tops(d))
        } else {
            let x = generate(&case.family, case.seed, case.n);
            // The sources of long blocks share a search: the machine is slow, and each case takes one.
            let sources = if len(d) == 256 && asked().is_none() { &SOURCES[at % 3..][..1] } else { &SOURCES };
            for &source in sources {
                assert_eq!(differing(programs, (source, d), &stored(source, &x), &weights), 0, "{place}");
            }
            encode(programs, (DType::F32, d), &f32_bytes(&x), &weights, 0).0
        };
        // The reference has no bytes of ours for what we refuse.
        if case.family == "huge" {
            continue;
        }
        assert_eq!(Some(sha256(&raw)), case.bytes_sha256, "{place}");
        if let Some(want) = &case.decoded_sha256 {
            assert_eq!(&sha256(&f32_bytes(&decode(programs, d, &raw))), want, "{place}");
        }
    }
}

#[test]
#[ignore = "make proof"]
fn ptx_vectors_match() {
    SMALL.iter().for_each(|&d| vectors(&Programs::unchanged(), d, usize::MAX));
}

#[test]
#[ignore = "make proof"]
fn ptx_super_block_vectors_match() {
    let most = if asked().is_some() { usize::MAX } else { 3 };
    WIDE.iter().for_each(|&d| vectors(&Programs::unchanged(), d, most));
}

#[test]
#[ignore = "make proof"]
fn ptx_random_values_equal_the_reference() {
    let families = ["heavy", "ties", "zeros", "scaled", "magnitudes", "tiny", "huge", "patterns"];
    let programs = Programs::unchanged();
    for d in TYPES {
        for (n, family) in families.iter().enumerate() {
            // Numbers of blocks that leave threads without one. What is asked for is a type's, not a
            // family's.
            let most = if len(d) == 256 { random_blocks() / families.len() } else { random_blocks() };
            let count = most + n % 7 + 1;
            let seed = word(0xC0DA, n as u64);
            let x = generate(family, seed, count * len(d));
            let weights = importance(seed, 3 * len(d));
            for (at, source) in SOURCES.into_iter().enumerate() {
                let raw = stored(source, &x);
                let given: &[&[f32]] = if len(d) == 256 { &[&[], &weights] } else { &[&[]] };
                for (weighted, weights) in given.iter().enumerate() {
                    // The sources share a search: the machine is slow, and each family takes one.
                    if len(d) == 256 && (at + n + weighted) % 3 > 0 && asked().is_none() {
                        continue;
                    }
                    let what = (source, d);
                    assert_eq!(differing(&programs, what, &raw, weights), 0, "{what:?} {family} {weighted}");
                    if ["huge", "patterns"].contains(family) {
                        check_alone(&programs, what, &raw, weights);
                    }
                }
            }
        }
    }
}

/// A slice may begin at any block of a row.
#[test]
fn ptx_first_block_uses_its_columns() {
    let programs = Programs::unchanged();
    let (x, weights) = (generate("heavy", 5, 3 * 256), importance(5, 3 * 256));
    for to in WIDE {
        let whole = definition(DType::F32, to, &f32_bytes(&x), &weights).unwrap();
        let size = to.block_bytes() as usize;
        for first in [1, 2] {
            let (got, flag) =
                encode(&programs, (DType::F32, to), &f32_bytes(&x[first * 256..]), &weights, first as u32);
            assert!(!flag && got == whole[first * size..], "{to} {first}");
        }
    }
}

#[test]
fn ptx_decode_any_bytes_equals_the_reference() {
    let programs = Programs::unchanged();
    for d in TYPES {
        let count = 33.max(random_blocks());
        let raw: Vec<u8> = (0..).map(|i| word(7, i) as u8).take(count * d.block_bytes() as usize).collect();
        let (want, got) = (SCALAR.decode(d, &raw, count * len(d)), decode(&programs, d, &raw));
        // Which NaN a product hands on is nobody's promise.
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        assert_eq!(want.iter().zip(&got).position(|pair| !same(pair)), None, "{d}");
    }
}

/// Work in slices, from blocks to blocks too: as the definition does it in one go.
#[test]
#[ignore = "make proof"]
fn cuda_task_in_slices_equals_whole() {
    let programs = Programs::unchanged();
    let (x, weights) = (generate("heavy", 3, 6 * 768), importance(3, 768));
    for (from, to, weights) in [
        (DType::BF16, DType::Q4_0, &[][..]),
        (DType::F32, DType::Q4_K, &weights),
        (DType::Q8_0, DType::F32, &[]),
        (DType::Q8_0, DType::Q6_K, &[]),
        (DType::Q5_0, DType::Q5_K, &weights),
        (DType::Q4_K, DType::Q8_0, &[]),
    ] {
        let raw = match from {
            DType::F32 | DType::BF16 => stored(from, &x),
            _ => SCALAR.encode(Encoding::Type(from), &x).unwrap(),
        };
        let values = SCALAR.decode(from, &raw, x.len());
        let want = match (to, weights) {
            (DType::F32, _) => f32_bytes(&values),
            (_, []) => SCALAR.encode(Encoding::Type(to), &values).unwrap(),
            (_, weights) => SCALAR.encode_weighted(Encoding::Type(to), &values, weights).unwrap(),
        };
        for cut in [1, 1000, 1 << 20] {
            let mut out = vec![NOTHING; want.len()];
            let work = CudaTask::Convert { from, to, weights };
            assert!(programs.execute(work, &raw, &mut out, cut).unwrap());
            assert!(out == want, "{from} to {to}, {cut}");
        }
        let work = CudaTask::Convert { from, to, weights };
        assert_eq!(work.slices(raw.len() - 1, want.len(), 1 << 20), None);
        assert_eq!(work.slices(raw.len(), want.len() + 1, 1 << 20), None);
    }
    let none = CudaTask::Convert { from: DType::F32, to: DType::IQ4_NL, weights: &[] };
    assert_eq!(none.slices(128, 18, 1 << 20), None);
}

/// Any float constant of an entry that is wrong, and the values tell. That below which all are zeros is met
/// by no values but such.
#[test]
#[ignore = "make proof"]
fn ptx_wrong_constant_is_detected() {
    let families = ["normal", "ties", "shifted", "zeros"];
    for d in TYPES {
        let count = if len(d) == 256 { 3 } else { 128 };
        let x: Vec<f32> = families.iter().flat_map(|f| generate(f, 11, count * len(d))).collect();
        let (raw, weights) = (f32_bytes(&x), importance(11, len(d)));
        let source = PtxModule::Type(d).source().unwrap();
        let (mut noticed, mut seen) = (0, Vec::new());
        for (at, _) in source.match_indices("0f") {
            let constant = &source[at..at + 10];
            let bits = u32::from_str_radix(&constant[2..], 16).unwrap();
            // Zeros are compared with or chosen; the others are calculated with.
            if bits & 0x7FFF_FFFF == 0 || constant == "0f26901D7D" || seen.contains(&bits) {
                continue;
            }
            seen.push(bits);
            // What grids differ by must be wrong by more before codes of few bits change.
            let by = if len(d) == 256 { 0x20_0000 } else { 0x1000 };
            let wrong = format!("0f{:08X}", bits - by);
            let programs = Programs::new(|text, source| match text == PtxModule::Type(d) {
                true => source.replace(constant, &wrong),
                false => source.to_string(),
            });
            let given: &[&[f32]] = if len(d) == 256 { &[&[], &weights] } else { &[&[]] };
            let differs = given.iter().any(|w| differing(&programs, (DType::F32, d), &raw, w) > 0);
            assert!(differs, "{d}: {bits:#x}");
            noticed += 1;
        }
        assert!(noticed >= 2, "{d} has {noticed} constants");
    }
}

/// What the text may not have: anything that rounds otherwise, flushes, or is younger than the language it
/// claims; and memory that is a thread's own, for that lies far away.
#[test]
fn ptx_modules_use_exact_operations_of_old_isa() {
    for text in PtxModule::all() {
        let source = text.source().unwrap();
        assert!(source.contains("\n.version 6.0\n.target sm_70\n"), "{text:?}");
        for line in source.lines() {
            let name = line.split_whitespace().find(|w| !w.starts_with('@')).unwrap_or("");
            let words: Vec<&str> = name.trim_end_matches(';').split('.').collect();
            let float = words.last() == Some(&"f32")
                && ["add", "sub", "mul", "div", "sqrt", "fma", "mad"].contains(&words[0]);
            assert!(!float || words.len() == 3 && words[1] == "rn" && words[0] != "fma", "{text:?}: {line}");
            assert!(!words.contains(&"local"), "{text:?}: {line}");
        }
    }
}
