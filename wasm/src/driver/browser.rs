//! Functions of the browser that `web-sys` does not have, or has without the errors that they throw.

use js_sys::{Function, Promise, Reflect};
use quantoscope_core::{Code, Error};
use wasm_bindgen::prelude::*;
use web_sys::{AbortSignal, ReadableStreamByobReader, StorageManager, WorkerGlobalScope};

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = "
/** Of a call of the page: what stops it, and where its progress goes. */
export interface Watcher {
  signal: AbortSignal;
  /** While work that comes first is under way: settles when that may be over. */
  held?: Promise<void> | undefined;
  report(done: number, total: number, label: string, device: boolean, restarted: boolean): void;
}

/** Where a conversion is saved, and how. */
export interface SaveOptions {
  name: string;
  kind: 'file' | 'directory' | 'private';
  handle?: FileSystemHandle | undefined;
  /** Keys of earlier results that may be removed. */
  released: string[];
  /** Options of the check of a rotation. */
  tokens?: number | undefined;
  tolerance?: number | undefined;
  allowUnprobed?: boolean | undefined;
  /** Selects the engine, after the check. */
  prepare(): Promise<void>;
}

/** What was saved; `file` and `key` of a result in the private storage. */
export interface SavedFiles {
  report: unknown;
  file: File | null;
  key: string | null;
  written: { path: string; file: File }[];
}
";

#[wasm_bindgen]
extern "C" {
    /// Milliseconds.
    #[wasm_bindgen(js_namespace = performance)]
    pub fn now() -> f64;

    /// Calls `call` once.
    #[wasm_bindgen(js_name = setTimeout)]
    pub fn set_timeout(call: &Function, milliseconds: u32) -> i32;

    /// Forgets a call.
    #[wasm_bindgen(js_name = clearTimeout)]
    pub fn clear_timeout(id: i32);

    /// A random name.
    #[wasm_bindgen(js_namespace = crypto, js_name = randomUUID)]
    pub fn random_uuid() -> String;

    /// See `TYPES`.
    #[derive(Clone)]
    #[wasm_bindgen(typescript_type = "Watcher")]
    pub type Watcher;

    /// What stops the call.
    #[wasm_bindgen(method, getter)]
    pub fn signal(this: &Watcher) -> AbortSignal;

    /// Settles when the call may go on; absent while nothing holds it.
    #[wasm_bindgen(method, getter)]
    pub fn held(this: &Watcher) -> Option<Promise>;

    /// Reports progress.
    #[wasm_bindgen(method)]
    pub fn report(this: &Watcher, done: f64, total: f64, label: &str, device: bool, restarted: bool);

    /// See `TYPES`.
    #[wasm_bindgen(typescript_type = "SaveOptions")]
    pub type SaveOptions;

    /// The name of the result.
    #[wasm_bindgen(method, getter)]
    pub fn name(this: &SaveOptions) -> String;

    /// `file`, `directory` or `private`.
    #[wasm_bindgen(method, getter)]
    pub fn kind(this: &SaveOptions) -> String;

    /// The file or folder that a person picked.
    #[wasm_bindgen(method, getter)]
    pub fn handle(this: &SaveOptions) -> JsValue;

    /// Keys of earlier results that may be removed.
    #[wasm_bindgen(method, getter)]
    pub fn released(this: &SaveOptions) -> Vec<String>;

    /// `--probe-tokens`
    #[wasm_bindgen(method, getter)]
    pub fn tokens(this: &SaveOptions) -> Option<u32>;

    /// `--tolerance`
    #[wasm_bindgen(method, getter)]
    pub fn tolerance(this: &SaveOptions) -> Option<f64>;

    /// `--allow-unprobed`
    #[wasm_bindgen(method, getter, js_name = allowUnprobed)]
    pub fn allow_unprobed(this: &SaveOptions) -> Option<bool>;

    /// Selects the engine.
    #[wasm_bindgen(method)]
    pub fn prepare(this: &SaveOptions) -> Promise;

    /// See `TYPES`.
    #[wasm_bindgen(typescript_type = "SavedFiles")]
    pub type SavedFiles;

    /// A stream of bytes. Its reader is asked for here, because that throws where files are no byte streams.
    pub type ByteStream;

    /// A reader that fills buffers.
    #[wasm_bindgen(method, catch, js_name = getReader)]
    pub fn reader(this: &ByteStream, options: &JsValue) -> Result<ReadableStreamByobReader, JsValue>;
}

/// The private storage of the page.
pub fn private_storage() -> StorageManager {
    js_sys::global().unchecked_into::<WorkerGlobalScope>().navigator().storage()
}

/// A property of an object; undefined where it has none.
pub fn property(object: &JsValue, key: &str) -> JsValue {
    Reflect::get(object, &key.into()).unwrap_or_default()
}

/// What the browser says of an error that it threw.
pub fn words(reason: &JsValue) -> String {
    property(reason, "message").as_string().or_else(|| reason.as_string()).unwrap_or_default()
}

/// An error of the browser with the code of the core.
pub fn thrown(reason: &JsValue) -> Error {
    let code = match property(reason, "name").as_string().unwrap_or_default().as_str() {
        "QuotaExceededError" => Code::NoSpace,
        "NotFoundError" => Code::NotFound,
        "AbortError" => Code::Interrupted,
        _ => Code::Io,
    };
    Error::new(code, words(reason))
}
