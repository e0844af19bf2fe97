//! Every committed vector, recomputed by the code that the page runs, in a browser's worker.
#![cfg(target_arch = "wasm32")]

mod files;
#[path = "../../tests/src/generators.rs"]
#[allow(dead_code)]
mod generators;
#[path = "../../tests/src/vectors.rs"]
#[allow(dead_code)]
mod vectors;

use files::{ELSEWHERE, FILES};
use quantoscope_accel::{Engine, SimdLevel};
use quantoscope_core::kernels::Kernels;
use vectors::{VectorCase, VectorFile, f32_bytes, sha256};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

fn check(kernels: &dyn Kernels, file: &str, VectorFile { encoding, cases, .. }: &VectorFile) -> usize {
    let dtype = encoding.dtype();
    let ordinary = cases.iter().filter(|c| !ELSEWHERE.contains(&c.family.as_str()));
    let recompute = |case: &VectorCase| {
        let place = format!("{} {file} {} n={} seed={}", kernels.name(), case.family, case.n, case.seed);
        let input = generators::generate(&case.family, case.seed, case.n);
        let mut raw = vec![0; dtype.bytes_for(case.n as u64).unwrap() as usize];
        let weights = case.importance.as_ref().map(|row| generators::importance(row.seed, row.columns));
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
    assert_eq!(SimdLevel::available(), [SimdLevel::Scalar, SimdLevel::Simd128]);
    assert_eq!(Engine::auto().name(), SimdLevel::Simd128.name());
}

#[wasm_bindgen_test]
fn every_vector_on_every_level() {
    for (name, text) in FILES {
        let vectors: VectorFile = serde_json::from_str(text).unwrap();
        for level in SimdLevel::available() {
            assert!(check(level.kernels(), name, &vectors) > 5, "{name}");
        }
    }
}
