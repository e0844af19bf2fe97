//! Every committed vector, recomputed by the code that the page runs, in a browser's worker.
#![cfg(target_arch = "wasm32")]

#[path = "../../tests/src/painters.rs"]
#[allow(dead_code)]
mod painters;
#[path = "../../tests/src/vectors.rs"]
#[allow(dead_code)]
mod vectors;

use quantoscope_accel::{Engine, Level};
use quantoscope_core::kernels::Kernels;
use vectors::{Case, Vectors, f32_bytes, sha256};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// A browser has no files: the vectors are part of the test.
const FILES: [(&str, &str); 22] = [
    ("q8_0", include_str!("../../tests/vectors/q8_0.json")),
    ("q4_0", include_str!("../../tests/vectors/q4_0.json")),
    ("q4_1", include_str!("../../tests/vectors/q4_1.json")),
    ("q5_0", include_str!("../../tests/vectors/q5_0.json")),
    ("q5_1", include_str!("../../tests/vectors/q5_1.json")),
    ("q2_k", include_str!("../../tests/vectors/q2_k.json")),
    ("q3_k", include_str!("../../tests/vectors/q3_k.json")),
    ("q4_k", include_str!("../../tests/vectors/q4_k.json")),
    ("q5_k", include_str!("../../tests/vectors/q5_k.json")),
    ("q6_k", include_str!("../../tests/vectors/q6_k.json")),
    ("iq4_nl", include_str!("../../tests/vectors/iq4_nl.json")),
    ("iq4_xs", include_str!("../../tests/vectors/iq4_xs.json")),
    ("tq1_0", include_str!("../../tests/vectors/tq1_0.json")),
    ("tq2_0", include_str!("../../tests/vectors/tq2_0.json")),
    ("mxfp4", include_str!("../../tests/vectors/mxfp4.json")),
    ("nvfp4", include_str!("../../tests/vectors/nvfp4.json")),
    ("q1_0", include_str!("../../tests/vectors/q1_0.json")),
    ("q2_0", include_str!("../../tests/vectors/q2_0.json")),
    ("f16", include_str!("../../tests/vectors/f16.json")),
    ("bf16", include_str!("../../tests/vectors/bf16.json")),
    ("q4_asym", include_str!("../../tests/vectors/q4_asym.json")),
    ("q4_sym", include_str!("../../tests/vectors/q4_sym.json")),
];

/// Families that are about refusals or decoding alone; the native conformance tests go through those.
const ELSEWHERE: [&str; 5] = ["every", "blocks", "fixture", "huge", "patterns"];

fn check(kernels: &dyn Kernels, file: &str, Vectors { encoding, cases, .. }: &Vectors) -> usize {
    let dtype = encoding.dtype();
    let ordinary = cases.iter().filter(|c| !ELSEWHERE.contains(&c.family.as_str()));
    let recompute = |case: &Case| {
        let place = format!("{} {file} {} n={} seed={}", kernels.name(), case.family, case.n, case.seed);
        let input = painters::paint(&case.family, case.seed, case.n);
        let mut raw = vec![0; dtype.bytes_for(case.n as u64).unwrap() as usize];
        let weights = case.importance.as_ref().map(|row| painters::importance(row.seed, row.columns));
        kernels
            .encode(*encoding, &input, weights.as_deref(), &mut raw)
            .unwrap_or_else(|r| panic!("{place}: {r:?}"));
        assert_eq!(Some(sha256(&raw)), case.bytes_sha256, "{place}");
        let mut decoded = vec![0.0; case.n];
        kernels.decode(dtype, &raw, &mut decoded).unwrap_or_else(|e| panic!("{place}: {e:?}"));
        if let Some(want) = &case.decoded_sha256 {
            assert_eq!(&sha256(&f32_bytes(&decoded)), want, "decoded: {place}");
        }
    };
    ordinary.map(recompute).count()
}

#[wasm_bindgen_test]
fn the_page_has_vectors() {
    assert_eq!(Level::available(), [Level::Scalar, Level::Simd128]);
    assert_eq!(Engine::auto(), Engine::Cpu(Level::Simd128));
}

#[wasm_bindgen_test]
fn every_vector_on_every_level() {
    for (name, text) in FILES {
        let vectors: Vectors = serde_json::from_str(text).unwrap();
        for level in Level::available() {
            assert!(check(level.kernels(), name, &vectors) > 5, "{name}");
        }
    }
}
