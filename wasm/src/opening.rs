//! The opening of a model, for a driver that reads slices of picked files.

use crate::api_error::IntoApiResult;
use crate::model::Model;
use crate::view::to_js;
use quantoscope_core::format::{self, AprWriter, Checkpoint, Root, Want};
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
    /// Starts at a file of this name, or at a directory where there is none. With `companions`, the files beside the
    /// weights are read too. `apr_writer` is `core` or `serve`, as `--apr-writer` takes it.
    ///
    /// # Errors
    /// `usage` for another writer.
    #[wasm_bindgen(constructor)]
    pub fn new(
        file: Option<String>,
        companions: bool,
        apr_writer: Option<String>,
    ) -> Result<Opening, JsValue> {
        let writer = apr_writer.map(|name| AprWriter::parse(&name)).transpose().into_api_result()?;
        let opening = format::Opening::new(file.as_deref().map_or(Root::Dir, Root::File));
        let opening = opening.with_apr_writer(writer);
        Ok(Opening(if companions { opening.with_companions() } else { opening }))
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
        self.0.listed(listing(files)?).into_api_result()
    }

    /// Answers `open` with a length, or with nothing where there is no such file.
    pub fn opened(&mut self, bytes: Option<f64>) -> Result<(), JsValue> {
        bytes.map(whole).transpose().and_then(|len| self.0.opened(len)).into_api_result()
    }

    /// Answers `read`.
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), JsValue> {
        self.0.data(bytes).into_api_result()
    }

    /// The model, once it is `ready`. `folder` is the name of its directory, where that is known.
    pub fn finish(self, folder: Option<String>) -> Result<Model, JsValue> {
        let checkpoint = self.0.finish().into_api_result()?;
        Ok(Model::new(Checkpoint { folder, ..checkpoint }))
    }
}

/// What can be chosen from where the files `[{name, bytes}]` are not one checkpoint: names of files, and of folders, which
/// end in `/`.
#[wasm_bindgen]
pub fn choices(files: JsValue) -> Result<Vec<String>, JsValue> {
    Ok(format::choices(&listing(files)?))
}

/// The programs that `apr_writer` of an [`Opening`] names.
#[wasm_bindgen]
pub fn apr_writers() -> Vec<String> {
    AprWriter::ALL.map(|writer| writer.name().into()).into()
}

/// A listing of files from the page.
fn listing(files: JsValue) -> Result<Vec<(String, u64)>, JsValue> {
    let files: Vec<ListedFile> = serde_wasm_bindgen::from_value(files)?;
    let names = files.into_iter().map(|f| Ok((f.name, whole(f.bytes)?)));
    names.collect::<Result<_, Error>>().into_api_result()
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
