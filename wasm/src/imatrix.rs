//! An importance matrix from a picked file: read through once, then a source of weights for plans.

use crate::api_error::IntoApiResult;
use crate::driver::source::read_slice;
use crate::driver::watch::Watch;
use crate::view::to_js;
use quantoscope_core::format::{Warning, imatrix};
use serde::Serialize;
use wasm_bindgen::prelude::*;
use web_sys::{AbortSignal, File};

/// An importance matrix is read in pieces of at most this many bytes.
const PIECE: u64 = 1 << 20;

/// Reads the importance matrix `file` (GGUF or `.dat`).
///
/// # Errors
/// Those of the format, with byte offset and tensor; those of a read; `interrupted`.
#[wasm_bindgen]
pub async fn open_imatrix(file: File, signal: AbortSignal) -> Result<Imatrix, JsValue> {
    let matrix = read(&file, &Watch::new(Some(signal))).await.into_api_result()?;
    Ok(Imatrix { matrix, file })
}

async fn read(file: &File, watch: &Watch) -> quantoscope_core::error::Result<imatrix::Imatrix> {
    let mut opening = imatrix::ImatrixOpening::new(&file.name(), file.size() as u64);
    let mut piece = Vec::new();
    while let Some(range) = opening.want() {
        piece.resize((range.end - range.start).min(PIECE) as usize, 0);
        read_slice(file, range.start, &mut piece, watch).await?;
        opening.data(&piece)?;
    }
    opening.finish()
}

/// A checked importance matrix. Its sums stay in the file.
#[wasm_bindgen]
pub struct Imatrix {
    matrix: imatrix::Imatrix,
    file: File,
}

impl Imatrix {
    /// The core's matrix.
    pub(crate) fn get(&self) -> &imatrix::Imatrix {
        &self.matrix
    }

    /// Its file.
    pub(crate) fn source(&self) -> File {
        self.file.clone()
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
    ///
    /// # Errors
    /// That of the conversion to a JavaScript value.
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
