//! What the page's worker does, in Rust.
#![allow(dead_code)]

use js_sys::{Array, Object, Reflect, Uint8Array, WebAssembly};
use quantoscope_wasm::{Model, Opening, Run};
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

/// Answers as the page's worker does.
pub fn open(bytes: &[u8]) -> Result<Model, JsValue> {
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

pub fn memory(at: u32, len: u32) -> Uint8Array {
    let memory: WebAssembly::Memory = wasm_bindgen::memory().unchecked_into();
    Uint8Array::new_with_byte_offset_and_length(&memory.buffer(), at, len)
}

/// Runs everything; the bytes that came out, at the offsets where they belong.
pub async fn drive(run: &Run, sides: &[&[u8]]) -> Result<Vec<u8>, JsValue> {
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
        let anew = JsFuture::from(run.execute()).await?;
        if anew.is_truthy() {
            // What was written is written again.
            out.fill(0xEE);
            continue;
        }
        if !get(&job, "write").is_null() {
            let at = number(&job, "write.region.offset") as usize;
            // A copy outside first: room for one inside may move the memory.
            let bytes = memory(run.output(), run.output_len()).slice(0, run.output_len()).to_vec();
            out.resize(out.len().max(at + bytes.len()), 0);
            out[at..at + bytes.len()].copy_from_slice(&bytes);
        }
    }
}

pub fn recipe(to: &str, dtype: &str) -> JsValue {
    object(&[("to", to.into()), ("type", dtype.into())])
}
