//! Parity with llama.cpp's `test-quantize-stats`: root mean square and largest error of every type on an F16 GGUF.
//!
//! The figures were computed through ggml's library by `generate/quantize_stats.py`.

use crate::support::{compare, gguf, remake};
use quantoscope_core::DType;
use quantoscope_core::plan::measure;
use quantoscope_core::quant::Encoding;
use quantoscope_core::recipe::Recipe;
use quantoscope_core::report::stats;
use quantoscope_core::schedule::Budget;
use quantoscope_tests::generators::generate;
use quantoscope_tests::memory::{MemoryModel, run};
use quantoscope_tests::models::{self, Kv, Tensor};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The last digit that the tool prints.
const TOLERANCE: f64 = 1e-8;

#[derive(Deserialize)]
struct ToolFigures {
    rmse: f64,
    maxerr: f64,
}

#[derive(Deserialize)]
struct ToolCase {
    name: String,
    family: String,
    seed: u64,
    shape: [u64; 2],
    types: BTreeMap<String, ToolFigures>,
}

fn cases() -> Vec<ToolCase> {
    #[derive(Deserialize)]
    struct ToolFile {
        tensors: Vec<ToolCase>,
    }
    let file: ToolFile =
        serde_json::from_str(include_str!("../fixtures/quantize-stats.json")).expect("a fixture");
    file.tensors
}

fn model(cases: &[ToolCase]) -> MemoryModel {
    let tensor = |c: &ToolCase| {
        let values = generate(&c.family, c.seed, (c.shape[0] * c.shape[1]) as usize);
        Tensor::of(&c.name, DType::F16, &c.shape, &values)
    };
    let tensors: Vec<Tensor> = cases.iter().map(tensor).collect();
    let metadata = [("general.architecture", Kv::Text("llama"))];
    MemoryModel::file("f16.gguf", models::gguf(&metadata, &tensors)).expect("a sound file")
}

#[track_caller]
fn assert_near(found: (Option<f64>, Option<f64>), expected: &ToolFigures, place: &str) {
    let (rmse, max) = (found.0.expect("a figure"), found.1.expect("a figure"));
    assert!((rmse - expected.rmse).abs() <= TOLERANCE, "{place}: rmse {rmse}, {}", expected.rmse);
    assert!((max - expected.maxerr).abs() <= TOLERANCE, "{place}: maxerr {max}, {}", expected.maxerr);
}

/// All types of the fixture: those that need no importance matrix.
fn types(cases: &[ToolCase]) -> Vec<DType> {
    let types: Vec<DType> = cases[0].types.keys().map(|t| DType::parse(t).expect("a type")).collect();
    assert_eq!(types.len(), 21, "every type that ggml quantizes without an importance matrix");
    types
}

#[test]
fn sweep_of_an_f16_gguf_equals_quantize_stats() {
    let cases = cases();
    let (source, types) = (model(&cases), types(&cases));
    let encodings: Vec<Encoding> = types.iter().map(|t| Encoding::Type(*t)).collect();
    let plan = measure::sweep(&source.checkpoint, &encodings, None, &|_| true).expect("a plan");
    let made = run(&plan, &[&source], Budget::default()).expect("a run");
    let report = stats(&plan, &made.collected, 0);
    for case in &cases {
        let tensor = report.tensors.iter().find(|t| t.name == case.name.as_str()).expect("the tensor");
        assert_eq!(tensor.encodings.len(), types.len());
        for row in &tensor.encodings {
            let name = row.encoding.name();
            let place = format!("{} {name}", case.name);
            let error = row.error.as_ref().expect("figures");
            assert_near((error.rmse, error.max_abs), &case.types[name], &place);
        }
    }
}

#[test]
fn compare_of_an_f16_gguf_with_each_type_equals_quantize_stats() {
    let cases = cases();
    let source = model(&cases);
    for dtype in types(&cases) {
        let made = remake(&source, &Recipe { pure: true, ..gguf(dtype) });
        let report = compare(&source, &made);
        assert_eq!(report.tensors.len(), cases.len());
        for row in &report.tensors {
            let case = cases.iter().find(|c| row.tensor == c.name.as_str()).expect("the tensor");
            assert_eq!(row.qtype, dtype, "{}", case.name);
            let place = format!("{} {dtype}", case.name);
            assert_near((row.error.rmse, row.error.max_abs), &case.types[dtype.name()], &place);
        }
    }
}
