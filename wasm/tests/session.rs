//! The interface that the page's worker drives, driven from Rust in a browser's worker.
#![cfg(target_arch = "wasm32")]

mod page;

use js_sys::Array;
use page::{NAME, converted, drive, file, get, number, object, open, recipe, saved, text, values, weight};
use quantoscope_core::quant::{Encoding, encoder};
use quantoscope_core::{Code, DType};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

#[wasm_bindgen_test]
async fn model_summary_is_plain_objects() {
    let model = open(&weight()).await.ok().unwrap();
    let summary = model.summary().unwrap();
    assert_eq!(text(&summary, "container"), "safetensors");
    assert_eq!(number(&summary, "elements"), 128.0);
    assert!(get(&summary, "architecture").is_null());
    let tensors = model.tensors().unwrap();
    assert_eq!(text(&tensors, "0.name"), NAME);
    assert_eq!(number(&tensors, "0.shape.1"), 32.0);
    assert_eq!(number(&tensors, "0.bytes"), 512.0);
}

#[wasm_bindgen_test]
async fn conversion_equals_the_core() {
    let bytes = weight();
    let plan = open(&bytes).await.ok().unwrap().plan(recipe("gguf", "q8_0"), true).ok().unwrap();
    let view = plan.view().unwrap();
    assert_eq!(text(&view, "tensors.0.dtype_out"), "Q8_0");
    let run = plan.run().ok().unwrap();
    assert_eq!(run.total(), 512.0);
    let out = saved(&run).await.unwrap();
    assert_eq!(out.len() as f64, number(&view, "files.0.bytes"));
    let mut expected = vec![0; 4 * 34];
    encoder(Encoding::Type(DType::Q8_0)).unwrap()(&values(), None, &mut expected).unwrap();
    // A GGUF pads its tensors to 32 bytes.
    let at = out.len() - expected.len().next_multiple_of(32);
    assert_eq!(out[at..at + expected.len()], expected);
    assert!(out.starts_with(b"GGUF"));
    assert!(number(&run.report().unwrap(), "tensors.0.error.cosine") > 0.9999);
}

#[wasm_bindgen_test]
async fn tensor_details_have_statistics_and_errors() {
    let bytes = weight();
    let model = open(&bytes).await.ok().unwrap();
    let groups: Array = model.tensor_encodings(0).unwrap().unchecked_into();
    assert_eq!(text(&groups, "0.0.encoding"), "q4_0");
    let run = model.tensor_errors(0, vec!["q4_0".into(), "q8_0".into()], false).ok().unwrap();
    drive(&run).await.unwrap();
    assert!(number(&run.report().unwrap(), "tensors.0.encodings.0.sqnr_db") > 10.0);
    assert_eq!(text(&model.tensor_errors(0, vec!["q9".into()], false).err().unwrap(), "code"), "usage");
    let run = model.tensor_values(0, false).ok().unwrap();
    drive(&run).await.unwrap();
    let report = run.report().unwrap();
    assert_eq!(number(&report, "tensors.0.stats.nan"), 0.0);
    let counts: Array = get(&report, "tensors.0.histogram.counts").unchecked_into();
    let total: f64 = counts.iter().filter_map(|c| c.as_f64()).sum();
    assert!((total - 128.0).abs() < 1e-9);
}

#[wasm_bindgen_test]
async fn sampled_sweep_measures_the_tensors_of_the_outline() {
    let model = open(&weight()).await.ok().unwrap();
    let outline = model.sweep_outline(vec!["q8_0".into()], 2).ok().unwrap();
    assert_eq!((number(&outline, "tensors.0"), number(&outline, "rows.0")), (0.0, 2.0));
    // There is no tensor 99.
    let run = model.sampled_sweep(vec![0, 99], vec!["q8_0".into()], 2).ok().unwrap();
    drive(&run).await.unwrap();
    let report = run.report().unwrap();
    assert_eq!(number(&report, "tensors.0.sampled.rows"), 2.0);
    assert!(number(&report, "tensors.0.encodings.0.sqnr_db") > 20.0);
    assert_eq!(text(&model.sweep_outline(vec![], 0).err().unwrap(), "code"), "usage");
}

#[wasm_bindgen_test]
async fn model_compared_with_itself_passes() {
    let bytes = weight();
    let (a, b) = (open(&bytes).await.ok().unwrap(), open(&bytes).await.ok().unwrap());
    let run = a.compare(&b, "a".into(), "b".into(), Some(1.0)).ok().unwrap();
    drive(&run).await.unwrap();
    let report = run.report().unwrap();
    assert_eq!(text(&report, "run.engine"), "simd128");
    assert_eq!(text(&report, "tensors.0.verdict"), "green");
    assert_eq!(get(&report, "passes"), JsValue::TRUE);
}

#[wasm_bindgen_test]
async fn errors_are_objects_with_the_codes_of_the_command_line() {
    let error = open(b"no model of ours").await.err().unwrap();
    assert_eq!(text(&error, "code"), Code::HeaderTooLarge.as_str());
    let short = file(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#, &[]);
    let error = open(&short).await.err().unwrap();
    assert_eq!(text(&error, "file"), "model.safetensors");
    assert_eq!(text(&error, "tensor"), "a");
    let model = open(&weight()).await.ok().unwrap();
    let error = model.plan(recipe("safetensors", "q4_0"), false).err().unwrap();
    assert_eq!(text(&error, "code"), "usage");
    let nan = model.compare(&model, "a".into(), "b".into(), Some(f64::NAN)).err().unwrap();
    assert_eq!(text(&nan, "code"), "usage");
}

#[wasm_bindgen_test]
async fn nan_is_refused_with_its_element() {
    let mut bytes = weight();
    let at = bytes.len() - 512 + 4 * 70;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let plan = open(&bytes).await.ok().unwrap().plan(object(&[("to", "q4".into())]), false).ok().unwrap();
    let error = converted(&plan).await.err().unwrap();
    assert_eq!(text(&error, "code"), "non_finite");
    assert_eq!(number(&error, "element"), 70.0);
    assert_eq!(text(&error, "tensor"), NAME);
}
