//! The interface that the page's worker drives, driven from Rust in a browser's worker.
#![cfg(target_arch = "wasm32")]

use js_sys::{Array, Object, Reflect, Uint8Array, WebAssembly};
use quantoscope_core::quant::{Encoding, encoder};
use quantoscope_core::{Code, DType};
use quantoscope_wasm::{Model, Opening, Run};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

const NAME: &str = "model.layers.0.mlp.up_proj.weight";

fn get(value: &JsValue, path: &str) -> JsValue {
    let step = |at: JsValue, key: &str| match key.parse::<u32>() {
        Ok(index) => Reflect::get_u32(&at, index).unwrap(),
        Err(_) => Reflect::get(&at, &key.into()).unwrap(),
    };
    path.split('.').fold(value.clone(), step)
}

fn text(value: &JsValue, path: &str) -> String {
    get(value, path).as_string().unwrap_or_else(|| panic!("{path} is no text"))
}

fn number(value: &JsValue, path: &str) -> f64 {
    get(value, path).as_f64().unwrap_or_else(|| panic!("{path} is no number"))
}

fn object(pairs: &[(&str, JsValue)]) -> JsValue {
    let object = Object::new();
    for (key, value) in pairs {
        Reflect::set(&object, &(*key).into(), value).unwrap();
    }
    object.into()
}

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn values() -> Vec<f32> {
    (0_i16..128).map(|i| f32::from((i * 37) % 101 - 50) / 64.0).collect()
}

/// A model of one 4 x 32 weight.
fn weight() -> Vec<u8> {
    let header = format!(r#"{{"{NAME}":{{"dtype":"F32","shape":[4,32],"data_offsets":[0,512]}}}}"#);
    let data: Vec<u8> = values().iter().flat_map(|v| v.to_le_bytes()).collect();
    file(&header, &data)
}

/// Answers as the page's worker does.
fn open(bytes: &[u8]) -> Result<Model, JsValue> {
    let mut opening = Opening::new(Some("model.safetensors".into()));
    loop {
        let want = opening.want()?;
        match text(&want, "kind").as_str() {
            "ready" => return opening.finish(),
            "open" if text(&want, "name") == "model.safetensors" => {
                opening.opened(Some(bytes.len() as f64))?;
            }
            "open" => opening.opened(None)?,
            "read" => {
                let (start, end) = (number(&want, "start") as usize, number(&want, "end") as usize);
                opening.data(&bytes[start..end])?;
            }
            other => panic!("asked for {other}"),
        }
    }
}

fn memory(at: u32, len: u32) -> Uint8Array {
    let memory: WebAssembly::Memory = wasm_bindgen::memory().unchecked_into();
    Uint8Array::new_with_byte_offset_and_length(&memory.buffer(), at, len)
}

/// Runs everything; the bytes that came out, at the offsets where they belong.
fn drive(run: &mut Run, sides: &[&[u8]]) -> Result<Vec<u8>, JsValue> {
    let mut out = Vec::new();
    loop {
        let job = run.next_job()?;
        if job.is_undefined() {
            return Ok(out);
        }
        let reads: Array = get(&job, "reads").unchecked_into();
        for (index, read) in reads.iter().enumerate() {
            let side = usize::from(text(&read, "side") == "candidate");
            let (offset, len) =
                (number(&read, "region.offset") as usize, number(&read, "region.run") as usize);
            memory(run.input(index), len as u32).copy_from(&sides[side][offset..offset + len]);
        }
        run.execute()?;
        if !get(&job, "write").is_null() {
            let at = number(&job, "write.region.offset") as usize;
            out.resize(at, 0);
            out.extend(memory(run.output(), run.output_len()).to_vec());
        }
    }
}

fn recipe(to: &str, dtype: &str) -> JsValue {
    object(&[("to", to.into()), ("type", dtype.into())])
}

#[wasm_bindgen_test]
fn a_model_is_told_as_plain_objects() {
    let model = open(&weight()).ok().unwrap();
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
fn a_plan_is_carried_out_to_the_bytes_of_the_core() {
    let bytes = weight();
    let plan = open(&bytes).ok().unwrap().plan(recipe("gguf", "q8_0"), true).ok().unwrap();
    let view = plan.view().unwrap();
    assert_eq!(text(&view, "tensors.0.dtype_out"), "Q8_0");
    let size = number(&view, "files.0.bytes") as usize;
    let mut run = plan.run().ok().unwrap();
    assert_eq!(run.total(), 512.0);
    let mut out = drive(&mut run, &[&bytes]).unwrap();
    let mut expected = vec![0; 4 * 34];
    encoder(Encoding::Type(DType::Q8_0)).unwrap()(&values(), None, &mut expected).unwrap();
    assert_eq!(out[out.len() - expected.len()..], expected);
    out.resize(size, 0);
    let header = plan.header(0);
    out[..header.len()].copy_from_slice(&header);
    assert!(out.starts_with(b"GGUF"));
    assert!(number(&run.report().unwrap(), "tensors.0.error.cosine") > 0.9999);
}

#[wasm_bindgen_test]
fn a_tensor_is_looked_into() {
    let bytes = weight();
    let mut run = open(&bytes).ok().unwrap().look(0).ok().unwrap();
    drive(&mut run, &[&bytes]).unwrap();
    let report = run.report().unwrap();
    assert_eq!(number(&report, "tensors.0.stats.nan"), 0.0);
    assert!(number(&report, "tensors.0.encodings.0.sqnr_db") > 10.0);
    let counts: Array = get(&report, "tensors.0.histogram.counts").unchecked_into();
    let total: f64 = counts.iter().filter_map(|c| c.as_f64()).sum();
    assert!((total - 128.0).abs() < 1e-9);
}

#[wasm_bindgen_test]
fn a_model_equals_itself() {
    let bytes = weight();
    let (a, b) = (open(&bytes).ok().unwrap(), open(&bytes).ok().unwrap());
    let mut run = a.compare(&b, "a".into(), "b".into(), Some(1.0)).ok().unwrap();
    drive(&mut run, &[&bytes, &bytes]).unwrap();
    let report = run.report().unwrap();
    assert_eq!(text(&report, "tensors.0.verdict"), "green");
    assert_eq!(get(&report, "passes"), JsValue::TRUE);
}

#[wasm_bindgen_test]
fn errors_are_objects_with_the_codes_of_the_command_line() {
    let error = open(b"no model of ours").err().unwrap();
    assert_eq!(text(&error, "code"), Code::HeaderTooLarge.as_str());
    let short = file(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#, &[]);
    let error = open(&short).err().unwrap();
    assert_eq!(text(&error, "file"), "model.safetensors");
    assert_eq!(text(&error, "tensor"), "a");
    let model = open(&weight()).ok().unwrap();
    let error = model.plan(recipe("safetensors", "q4_0"), false).err().unwrap();
    assert_eq!(text(&error, "code"), "usage");
    let nan = model.compare(&model, "a".into(), "b".into(), Some(f64::NAN)).err().unwrap();
    assert_eq!(text(&nan, "code"), "usage");
}

#[wasm_bindgen_test]
fn nan_is_refused_with_its_element() {
    let mut bytes = weight();
    let at = bytes.len() - 512 + 4 * 70;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let plan = open(&bytes).ok().unwrap().plan(object(&[("to", "q4".into())]), false).ok().unwrap();
    let error = drive(&mut plan.run().ok().unwrap(), &[&bytes]).err().unwrap();
    assert_eq!(text(&error, "code"), "non_finite");
    assert_eq!(number(&error, "element"), 70.0);
    assert_eq!(text(&error, "tensor"), NAME);
}
