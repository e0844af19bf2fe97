//! An importance matrix from a picked file: read through once, then a source of weights for plans.

use crate::api_error::IntoApiResult;
use crate::opening::whole;
use crate::view::to_js;
use quantoscope_core::format::{Warning, imatrix};
use serde::Serialize;
use std::rc::Rc;
use wasm_bindgen::prelude::*;

/// Reads an importance matrix (GGUF or `.dat`) in pieces that the driver supplies.
#[wasm_bindgen]
pub struct ImatrixOpening(imatrix::ImatrixOpening);

/// A byte range of the file.
#[derive(Serialize)]
struct RangeView {
    start: u64,
    end: u64,
}

#[wasm_bindgen]
impl ImatrixOpening {
    /// Starts on the file `name` of `bytes` bytes.
    ///
    /// # Errors
    /// `usage` where `bytes` is not a whole number below 2^53.
    #[wasm_bindgen(constructor)]
    pub fn new(name: &str, bytes: f64) -> Result<ImatrixOpening, JsValue> {
        whole(bytes).map(|len| ImatrixOpening(imatrix::ImatrixOpening::new(name, len))).into_api_result()
    }

    /// The bytes that are needed next as `{start, end}`, or nothing at the end.
    pub fn want(&self) -> Result<JsValue, JsValue> {
        let Some(range) = self.0.want() else { return Ok(JsValue::UNDEFINED) };
        to_js(&RangeView { start: range.start, end: range.end })
    }

    /// Takes bytes from the start of the wanted range, all of them or fewer.
    ///
    /// # Errors
    /// Those of the format, with byte offset and tensor.
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), JsValue> {
        self.0.data(bytes).into_api_result()
    }

    /// The matrix, once nothing more is wanted.
    ///
    /// # Errors
    /// `truncated` or `empty` where the file holds no whole matrix.
    pub fn finish(self) -> Result<Imatrix, JsValue> {
        self.0.finish().map(|matrix| Imatrix(Rc::new(matrix))).into_api_result()
    }
}

/// A checked importance matrix. Its sums stay in the file.
#[wasm_bindgen]
pub struct Imatrix(Rc<imatrix::Imatrix>);

impl Imatrix {
    /// The core's matrix.
    pub(crate) fn get(&self) -> &imatrix::Imatrix {
        &self.0
    }
}

/// An importance matrix, as the page shows it.
#[derive(Serialize)]
struct ImatrixView<'a> {
    file: &'a str,
    bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    sha256: String,
    /// Names of the calibration texts.
    datasets: &'a [String],
    /// Chunks of the calibration texts that were evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    chunks: Option<u64>,
    /// Names of the tensors that it has sums for.
    tensors: Vec<&'a str>,
    warnings: &'a [Warning],
}

#[wasm_bindgen]
impl Imatrix {
    /// The matrix as the page shows it.
    pub fn view(&self) -> Result<JsValue, JsValue> {
        let matrix = self.get();
        to_js(&ImatrixView {
            file: &matrix.file,
            bytes: matrix.len,
            sha256: matrix.sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
            datasets: &matrix.datasets,
            chunks: matrix.chunks,
            tensors: matrix.entries.keys().map(String::as_str).collect(),
            warnings: &matrix.warnings,
        })
    }
}
