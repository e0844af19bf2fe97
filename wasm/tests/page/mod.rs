//! The page's worker in Rust: opens models from memory and drives runs. `reference` does the same with the core alone.
#![allow(dead_code)]

pub mod models;
pub mod reference;

use js_sys::{Array, Object, Reflect, Uint8Array, WebAssembly};
use quantoscope_wasm::{EquivalenceCheck, Imatrix, ImatrixOpening, Model, Opening, Plan, Run};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

pub const NAME: &str = "model.layers.0.mlp.up_proj.weight";

pub fn get(value: &JsValue, path: &str) -> JsValue {
    let step = |at: JsValue, key: &str| match key.parse::<u32>() {
        Ok(index) => Reflect::get_u32(&at, index).unwrap(),
        Err(_) => Reflect::get(&at, &key.into()).unwrap(),
    };
    path.split('.').fold(value.clone(), step)
}

pub fn text(value: &JsValue, path: &str) -> String {
    get(value, path).as_string().unwrap_or_else(|| panic!("{path} is no text"))
}

pub fn number(value: &JsValue, path: &str) -> f64 {
    get(value, path).as_f64().unwrap_or_else(|| panic!("{path} is no number"))
}

pub fn object(pairs: &[(&str, JsValue)]) -> JsValue {
    let object = Object::new();
    for (key, value) in pairs {
        Reflect::set(&object, &(*key).into(), value).unwrap();
    }
    object.into()
}

pub fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

pub fn values() -> Vec<f32> {
    (0_i16..128).map(|i| f32::from((i * 37) % 101 - 50) / 64.0).collect()
}

/// A model of one 4 x 32 weight.
pub fn weight() -> Vec<u8> {
    let header = format!(r#"{{"{NAME}":{{"dtype":"F32","shape":[4,32],"data_offsets":[0,512]}}}}"#);
    let data: Vec<u8> = values().iter().flat_map(|v| v.to_le_bytes()).collect();
    file(&header, &data)
}

/// Opens one file, as the page's worker does.
pub fn open(bytes: &[u8]) -> Result<Model, JsValue> {
    open_files(&[("model.safetensors", bytes)])
}

/// Opens a model of several files, the first of which was picked.
pub fn open_files(files: &[(&str, &[u8])]) -> Result<Model, JsValue> {
    let mut opening = Opening::new(Some(files[0].0.into()), false, None)?;
    loop {
        let want = opening.want()?;
        match text(&want, "kind").as_str() {
            "ready" => return opening.finish(None),
            "open" => {
                let name = text(&want, "name");
                let found = files.iter().find(|(n, _)| *n == name);
                opening.opened(found.map(|(_, bytes)| bytes.len() as f64))?;
            }
            "read" => {
                let name = text(&want, "name");
                let (start, end) = (number(&want, "start") as usize, number(&want, "end") as usize);
                let (_, bytes) = files.iter().find(|(n, _)| *n == name).unwrap();
                opening.data(&bytes[start..end])?;
            }
            other => panic!("asked for {other}"),
        }
    }
}

pub fn memory(at: u32, len: u32) -> Uint8Array {
    let memory: WebAssembly::Memory = wasm_bindgen::memory().unchecked_into();
    Uint8Array::new_with_byte_offset_and_length(&memory.buffer(), at, len)
}

/// Opens an importance matrix, a few bytes at a time.
pub fn open_imatrix(name: &str, bytes: &[u8]) -> Result<Imatrix, JsValue> {
    let mut opening = ImatrixOpening::new(name, bytes.len() as f64)?;
    loop {
        let want = opening.want()?;
        if want.is_undefined() {
            return opening.finish();
        }
        let (start, end) = (number(&want, "start") as usize, number(&want, "end") as usize);
        opening.data(&bytes[start..end.min(start + 97)])?;
    }
}

/// Offsets and lengths of the runs of a region.
fn runs(region: &JsValue) -> Vec<(usize, usize)> {
    let part = |key: &str| number(region, key) as usize;
    (0..part("count")).map(|i| (part("offset") + i * part("stride"), part("run"))).collect()
}

/// Puts what a window reads into this memory; `input` says where each read belongs. `sides` are source, candidate and
/// importance matrix.
fn gather(job: &JsValue, sides: &[&[u8]], input: impl Fn(usize) -> u32) {
    let reads: Array = get(job, "reads").unchecked_into();
    for (index, read) in reads.iter().enumerate() {
        let side = match text(&read, "side").as_str() {
            "source" => 0,
            "candidate" => 1,
            _ => sides.len() - 1,
        };
        let mut at = input(index);
        for (offset, len) in runs(&get(&read, "region")) {
            memory(at, len as u32).copy_from(&sides[side][offset..offset + len]);
            at += len as u32;
        }
    }
}

/// Drives the check of a rotation to its end.
pub async fn drive_check(check: &EquivalenceCheck, source: &[u8]) -> Result<(), JsValue> {
    loop {
        let job = check.next_job()?;
        if job.is_undefined() {
            return Ok(());
        }
        gather(&job, &[source], |index| check.input(index));
        JsFuture::from(check.execute()).await?;
    }
}

/// Drives a run to its end. Returns the bytes of its first file without the header, at their offsets.
pub async fn drive(run: &Run, sides: &[&[u8]]) -> Result<Vec<u8>, JsValue> {
    let mut out = Vec::new();
    loop {
        let job = run.next_job()?;
        if job.is_undefined() {
            return Ok(out);
        }
        gather(&job, sides, |index| run.input(index));
        let restarted = JsFuture::from(run.execute()).await?;
        if restarted.is_truthy() {
            // What was written is written again.
            out.fill(0xEE);
            continue;
        }
        if !get(&job, "write").is_null() {
            // A copy outside first: room for one inside may move the memory.
            let bytes = memory(run.output(), run.output_len()).slice(0, run.output_len()).to_vec();
            let mut made = bytes.as_slice();
            for (at, len) in runs(&get(&job, "write.region")) {
                let (part, rest) = made.split_at(len);
                out.resize(out.len().max(at + len), 0);
                out[at..at + len].copy_from_slice(part);
                made = rest;
            }
        }
    }
}

pub fn recipe(to: &str, dtype: &str) -> JsValue {
    object(&[("to", to.into()), ("type", dtype.into())])
}

/// The first file that a plan writes, whole.
pub async fn converted(plan: &Plan, sides: &[&[u8]]) -> Result<Vec<u8>, JsValue> {
    finished(plan, &drive(&plan.run()?, sides).await?)
}

/// The file of `size` bytes with its header and the bytes that a run made.
pub fn finished(plan: &Plan, made: &[u8]) -> Result<Vec<u8>, JsValue> {
    let mut file = plan.header(0);
    let header = file.len();
    file.resize(number(&plan.view()?, "files.0.bytes") as usize, 0);
    let rest = made.get(header..).unwrap_or_default();
    file[header..header + rest.len()].copy_from_slice(rest);
    Ok(file)
}
