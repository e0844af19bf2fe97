//! What the page's worker does with the module: opens models from files and drives runs. `reference` does the same with the
//! core alone.
#![allow(dead_code)]

pub mod models;
pub mod reference;

use js_sys::{Array, Function, Object, Reflect, Uint8Array};
use quantoscope_wasm::driver::browser::{SaveOptions, Watcher};
use quantoscope_wasm::{Imatrix, Model, Plan, Run};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, File};

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

/// A file that was picked.
pub fn picked(name: &str, bytes: &[u8]) -> File {
    File::new_with_u8_array_sequence(&Array::of1(&Uint8Array::from(bytes)), name).unwrap()
}

/// A signal that never aborts.
pub fn signal() -> AbortSignal {
    let made = Function::new_no_args("return new AbortController().signal").call0(&JsValue::NULL);
    made.unwrap().unchecked_into()
}

pub fn watcher() -> Watcher {
    object(&[("signal", signal().into()), ("report", Function::new_no_args("").into())]).unchecked_into()
}

/// Opens one file, as the page's worker does.
pub async fn open(bytes: &[u8]) -> Result<Model, JsValue> {
    open_files(&[("model.safetensors", bytes)]).await
}

/// Opens a model of several files, the first of which was picked.
pub async fn open_files(files: &[(&str, &[u8])]) -> Result<Model, JsValue> {
    let names: Vec<String> = files.iter().map(|(name, _)| (*name).into()).collect();
    let root = names.first().cloned();
    let files = files.iter().map(|(name, bytes)| picked(name, bytes)).collect();
    quantoscope_wasm::open_model(names, files, root, None, false, None, signal()).await
}

/// Opens an importance matrix.
pub async fn open_imatrix(name: &str, bytes: &[u8]) -> Result<Imatrix, JsValue> {
    quantoscope_wasm::open_imatrix(picked(name, bytes), signal()).await
}

/// Drives a run that writes nothing to its end.
pub async fn drive(run: &Run) -> Result<(), JsValue> {
    run.drive(watcher()).await
}

/// Saves a conversion in the private storage, and reads the result: a file, or the archive of a folder.
pub async fn saved(run: &Run) -> Result<Vec<u8>, JsValue> {
    saved_with(run, &[]).await
}

/// The same with more options.
pub async fn saved_with(run: &Run, more: &[(&str, JsValue)]) -> Result<Vec<u8>, JsValue> {
    let options = [
        ("name", "saved.bin".into()),
        ("kind", "private".into()),
        ("released", Array::new().into()),
        ("prepare", Function::new_no_args("return Promise.resolve()").into()),
    ];
    let options = object(&[&options[..], more].concat()).unchecked_into::<SaveOptions>();
    let saved = run.save(options, watcher()).await?;
    let file: File = get(&saved, "file").unchecked_into();
    Ok(Uint8Array::new(&JsFuture::from(file.array_buffer()).await?).to_vec())
}

/// What a plan writes.
pub async fn converted(plan: &Plan) -> Result<Vec<u8>, JsValue> {
    saved(&plan.run()?).await
}

pub fn recipe(to: &str, dtype: &str) -> JsValue {
    object(&[("to", to.into()), ("type", dtype.into())])
}
