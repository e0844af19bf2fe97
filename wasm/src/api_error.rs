//! Errors as objects of JavaScript, with the codes and messages of the command line.

use js_sys::{BigInt, Object, Reflect};
use quantoscope_core::Error;
use wasm_bindgen::JsValue;

/// The largest integer below which every integer is a number of its own.
pub(crate) const SAFE: u64 = 1 << 53;

/// An error as `{code, message, file?, tensor?, offset?, element?}`.
pub(crate) fn api_error(error: &Error) -> JsValue {
    let detail = error.detail();
    let made = object(&[("code", detail.code.as_str().into()), ("message", detail.message.as_str().into())]);
    if let Some(file) = &detail.file {
        set(&made, "file", file.as_str().into());
    }
    if let Some(tensor) = &detail.tensor {
        set(&made, "tensor", tensor.as_str().into());
    }
    if let Some(offset) = detail.offset {
        set(&made, "offset", integer(offset));
    }
    if let Some(element) = detail.element {
        set(&made, "element", integer(element));
    }
    made
}

/// A plain object.
pub(crate) fn object(pairs: &[(&str, JsValue)]) -> JsValue {
    let object = Object::new().into();
    for (key, value) in pairs {
        set(&object, key, value.clone());
    }
    object
}

/// Sets a property of a plain object that was just made, which cannot fail.
pub(crate) fn set(object: &JsValue, key: &str, value: JsValue) {
    let _ = Reflect::set(object, &key.into(), &value);
}

/// A hostile header may name an offset beyond 2^53, which becomes a `bigint`.
fn integer(n: u64) -> JsValue {
    if n <= SAFE { (n as f64).into() } else { BigInt::from(n).into() }
}

/// The core's result with its error as a JavaScript value.
pub(crate) trait IntoApiResult<T> {
    /// Converts the error.
    fn into_api_result(self) -> Result<T, JsValue>;
}

impl<T> IntoApiResult<T> for Result<T, Error> {
    fn into_api_result(self) -> Result<T, JsValue> {
        self.map_err(|e| api_error(&e))
    }
}
