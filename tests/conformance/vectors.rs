//! Every committed vector, recomputed by every engine.

use crate::engines::{NamedEngine, engines};
use quantoscope_core::DType;
use quantoscope_core::float::{f32_to_bf16, f32_to_f16};
use quantoscope_core::quant::{EncodeError, Encoding, ImportanceUse, encoder};
use quantoscope_tests::generators::{blocks, generate, importance, lattice_fixture};
use quantoscope_tests::vectors::{VectorCase, VectorFile, f32_bytes, load, sha256};

const FILES: [&str; 31] = [
    "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q8_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q8_k", "iq1_s",
    "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_nl", "iq4_xs", "tq1_0", "tq2_0", "mxfp4",
    "nvfp4", "q1_0", "q2_0", "f16", "bf16", "q4_asym", "q4_sym",
];

/// The upper bytes of the floating-point fields of a block; all are binary16 but that of Q8_K.
pub(crate) fn tops(d: DType) -> &'static [usize] {
    match d {
        DType::Q4_1 | DType::Q5_1 | DType::Q8_1 | DType::Q4_K | DType::Q5_K | DType::LATTICE_Q4 => &[1, 3],
        DType::Q2_K => &[81, 83],
        DType::Q3_K => &[109],
        DType::Q6_K => &[209],
        DType::Q8_K => &[3],
        DType::TQ1_0 => &[53],
        DType::TQ2_0 => &[65],
        DType::IQ1_M => &[55],
        DType::MXFP4 | DType::NVFP4 => &[],
        _ => &[1],
    }
}

/// Whether a floating-point field of a block is infinite.
fn infinite(d: DType, block: &[u8]) -> bool {
    match d {
        // A nibble of the field in each of four words.
        DType::IQ1_M => block[55] >> 4 & 7 == 7 && block[53] >> 6 == 3,
        _ => tops(d).iter().any(|&at| block[at] & 0x7C == 0x7C),
    }
}

/// The generated input, which must be the one the reference saw.
fn input(case: &VectorCase) -> Vec<f32> {
    let x = generate(&case.family, case.seed, case.n);
    assert_eq!(Some(sha256(&f32_bytes(&x))), case.input_sha256, "generators differ: {}", case.family);
    x
}

/// The bytes, or the refusal, with the generated importance where the case has any.
fn encode(engine: &NamedEngine, e: Encoding, x: &[f32], case: &VectorCase) -> Result<Vec<u8>, EncodeError> {
    let Some(row) = &case.importance else { return engine.encode(e, x) };
    let weights = importance(row.seed, row.columns);
    assert_eq!(sha256(&f32_bytes(&weights)), row.sha256, "generators differ: importance");
    engine.encode_weighted(e, x, &weights)
}

fn check_decoded(engine: &NamedEngine, d: DType, raw: &[u8], case: &VectorCase, place: &str) {
    if let Some(want) = &case.decoded_sha256 {
        assert_eq!(&sha256(&f32_bytes(&engine.decode(d, raw, case.n))), want, "decoded: {place}");
    }
}

/// Values for which the encoder must do what the reference does.
fn check_case(engine: &NamedEngine, e: Encoding, case: &VectorCase, place: &str) {
    let raw = encode(engine, e, &input(case), case).unwrap_or_else(|r| panic!("{place}: {r:?}"));
    if let Some(want) = case.bytes() {
        assert_eq!(raw, want, "{place}");
    }
    assert_eq!(Some(sha256(&raw)), case.bytes_sha256, "{place}");
    check_decoded(engine, e.dtype(), &raw, case, place);
}

/// Block by block: refused exactly where a header field of the reference is infinite, else the same bytes.
fn check_huge(engine: &NamedEngine, e: Encoding, case: &VectorCase, place: &str) {
    let x = input(case);
    let (length, size) = (e.dtype().block_len() as usize, e.dtype().block_bytes() as usize);
    let known = case.bytes();
    for (n, block) in x.chunks(length).enumerate() {
        let bytes = known.as_ref().map(|b| &b[n * size..][..size]);
        let refused = match (bytes, &case.refused) {
            (Some(b), _) => infinite(e.dtype(), b),
            (None, Some(list)) => list[n],
            _ => panic!("{place}: nothing to judge by"),
        };
        match encode(engine, e, block, case) {
            // Where ggml's own sums overflow its header may be finite, and its values are nonsense.
            Err(EncodeError::F16Overflow { index }) => {
                let loud = block.iter().any(|x| x.abs() > if length > 32 { 1e9 } else { 1e18 });
                let sums = length > 32 || case.importance.is_some();
                assert!((refused || loud && sums) && index < length, "{place}, block {n}");
            }
            Err(other) => panic!("{place}, block {n}: {other:?}"),
            Ok(raw) => assert!(!refused && bytes.is_none_or(|b| b == raw), "{place}, block {n}"),
        }
    }
}

/// Plain conversions of every pattern, which encoders may refuse, by the function itself.
fn check_narrowing(d: DType, case: &VectorCase, place: &str) {
    let narrow = if d == DType::F16 { f32_to_f16 } else { f32_to_bf16 };
    let raw: Vec<u8> = input(case).iter().flat_map(|&x| narrow(x).to_le_bytes()).collect();
    assert_eq!(Some(sha256(&raw)), case.bytes_sha256, "{place}");
}

/// The `.q4` file around the block bytes, as the original writes it.
fn check_fixture(engine: &NamedEngine, e: Encoding, case: &VectorCase, place: &str) {
    let raw = engine.encode(e, &lattice_fixture(case.seed, case.n)).unwrap();
    assert_eq!(Some(&raw), case.bytes().as_ref(), "{place}");
    let shape = case.shape.as_ref().unwrap();
    let mut file = b"KHQ4\x02\0\0\0".to_vec();
    file.extend((shape.len() as u32).to_le_bytes());
    file.extend(shape.iter().chain([&(case.n as u64)]).flat_map(|n| n.to_le_bytes()));
    file.extend(raw);
    assert_eq!(Some(sha256(&file)), case.file_sha256, "{place}");
}

/// Every vector of a file.
pub(crate) fn check_file(
    engine: &NamedEngine,
    file: &str,
    VectorFile { encoding: e, provenance, cases }: &VectorFile,
) {
    let d = e.dtype();
    let enough = if encoder(*e).is_some() { 10 } else { 1 };
    assert!(!provenance.is_empty() && cases.len() >= enough, "{file}");
    let weighted = cases.iter().filter(|c| c.importance.is_some()).count();
    assert_eq!(weighted > 40, e.importance() != ImportanceUse::Ignored, "{file}");
    for case in cases {
        let weights = if case.importance.is_some() { ", weighted" } else { "" };
        let place =
            format!("{} {file} {} n={} seed={}{weights}", engine.name, case.family, case.n, case.seed);
        match case.family.as_str() {
            "every" => {
                let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
                let decoded = f32_bytes(&engine.decode(d, &all, 1 << 16));
                assert_eq!(Some(sha256(&decoded)), case.decoded_sha256, "{place}");
            }
            "blocks" => {
                let count = case.n / d.block_len() as usize;
                let raw = blocks(case.seed, count, d.block_bytes() as usize, tops(d));
                assert_eq!(Some(sha256(&raw)), case.bytes_sha256, "generators differ: {place}");
                check_decoded(engine, d, &raw, case, &place);
            }
            "fixture" => check_fixture(engine, *e, case, &place),
            "huge" | "patterns" if d.block_len() == 1 => check_narrowing(d, case, &place),
            "huge" => check_huge(engine, *e, case, &place),
            _ => check_case(engine, *e, case, &place),
        }
    }
}

#[test]
fn vectors_on_every_engine_match() {
    for engine in engines() {
        for file in FILES {
            check_file(&engine, file, &load(file));
        }
    }
}

#[test]
fn vectors_of_lattice_fixtures_equal_the_originals() {
    let hashes: Vec<_> = load("q4_asym").cases.into_iter().filter_map(|c| c.file_sha256).collect();
    assert!(hashes[0].starts_with("5a46caf7"), "gate_proj, [2, 33]");
    assert!(hashes[1].starts_with("9ed19221") && hashes[1].ends_with("169d8c"), "k_proj, [1, 32]");
}

#[test]
fn importance_generator_equals_the_python_one() {
    let hash = sha256(&f32_bytes(&importance(20_250_611, 4096)));
    assert_eq!(hash, "eecd4aa19c001807a4f9bad1c1fe40e86337bcc1a9d8c98b0ee72869105de50a");
}
