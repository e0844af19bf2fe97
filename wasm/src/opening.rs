//! The opening of a model, for a driver that reads slices of picked files.

use crate::api_error::IntoApiResult;
use crate::model::Model;
use crate::view::to_js;
use quantoscope_core::format::{self, Root, Want};
use quantoscope_core::{Code, Error};
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;

/// Opens a model step by step: asks for listings, lengths and bytes.
#[wasm_bindgen]
pub struct Opening(format::Opening);

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum WantView<'a> {
    List,
    Open { name: &'a str },
    Read { name: &'a str, start: u64, end: u64 },
    Ready,
}

#[derive(Deserialize)]
struct ListedFile {
    name: String,
    bytes: f64,
}

#[wasm_bindgen]
impl Opening {
    /// Starts at a file of this name, or at a directory where there is none.
    #[wasm_bindgen(constructor)]
    pub fn new(file: Option<String>) -> Opening {
        Opening(format::Opening::new(file.as_deref().map_or(Root::Dir, Root::File)))
    }

    /// `{kind: "list"}`, `{kind: "open", name}`, `{kind: "read", name, start, end}` or `{kind: "ready"}`.
    pub fn want(&self) -> Result<JsValue, JsValue> {
        let want = self.0.want();
        to_js(&match &want {
            Want::List => WantView::List,
            Want::Open(name) => WantView::Open { name },
            Want::Read { file, range } => {
                let name = self.0.file_name(*file).unwrap_or_default();
                WantView::Read { name, start: range.start, end: range.end }
            }
            Want::Ready => WantView::Ready,
        })
    }

    /// Answers `list` with `[{name, bytes}]`.
    pub fn listed(&mut self, files: JsValue) -> Result<(), JsValue> {
        let files: Vec<ListedFile> = serde_wasm_bindgen::from_value(files)?;
        let names = files.into_iter().map(|f| Ok((f.name, whole(f.bytes)?))).collect::<Result<_, Error>>();
        names.and_then(|names| self.0.listed(names)).into_api_result()
    }

    /// Answers `open` with a length, or with nothing where there is no such file.
    pub fn opened(&mut self, bytes: Option<f64>) -> Result<(), JsValue> {
        bytes.map(whole).transpose().and_then(|len| self.0.opened(len)).into_api_result()
    }

    /// Answers `read`.
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), JsValue> {
        self.0.data(bytes).into_api_result()
    }

    /// The model, once it is `ready`.
    pub fn finish(self) -> Result<Model, JsValue> {
        self.0.finish().map(Model::new).into_api_result()
    }
}

/// A size of the browser as an integer.
///
/// # Errors
/// `usage` where it is not a whole number below 2^53.
pub fn whole(n: f64) -> Result<u64, Error> {
    if n >= 0.0 && n <= (1_u64 << 53) as f64 && n.fract() == 0.0 {
        return Ok(n as u64);
    }
    Err(Error::new(Code::Usage, "a size is not a whole number below 2^53"))
}
