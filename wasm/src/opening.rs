//! The opening of a model from picked files.

use crate::api_error::{IntoApiResult, api_error, set};
use crate::driver::source::read_slice;
use crate::driver::watch::Watch;
use crate::model::{Model, PickedFiles};
use js_sys::Array;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::format::{self, AprWriter, Checkpoint, Opening, Root, Want};
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use web_sys::{AbortSignal, File};

/// Opens the model in `files`, whose `names` are relative to its folder: at the file `root`, or at the folder where that is
/// absent. `folder` is the folder's name, where that is known. With `companions`, the files beside the weights are read
/// too. `apr_writer` is `core` or `serve`, as `--apr-writer` takes it.
///
/// # Errors
/// Those of the formats and of a read; `interrupted`; `usage` for another writer. An error has `choices`, names of files
/// and of folders (which end in `/`), where the files are not one checkpoint, and `aprWriters` where they decide.
#[wasm_bindgen]
pub async fn open_model(
    names: Vec<String>,
    files: Vec<File>,
    root: Option<String>,
    folder: Option<String>,
    companions: bool,
    apr_writer: Option<String>,
    signal: AbortSignal,
) -> Result<Model, JsValue> {
    let writer = apr_writer.map(|name| AprWriter::parse(&name)).transpose().into_api_result()?;
    let opening = Opening::new(root.as_deref().map_or(Root::Dir, Root::File)).with_apr_writer(writer);
    let opening = if companions { opening.with_companions() } else { opening };
    let picked = Rc::new(PickedFiles(names.into_iter().zip(files).collect()));
    let checkpoint = read(opening, &picked, &Watch::new(Some(signal))).await;
    let model = checkpoint.and_then(|c| Model::new(Checkpoint { folder, ..c }, picked.clone()));
    model.map_err(|error| {
        let whole = root.is_none() && matches!(error.code(), Code::Usage | Code::NotFound);
        let choices = if whole { format::choices(&listing(&picked)) } else { Vec::new() };
        let undecided = error.code() == Code::UnknownDtype
            && writer.is_none()
            && error.detail().file.as_deref().is_some_and(|file| file.ends_with(".apr"));
        let failure = api_error(&error);
        if !choices.is_empty() {
            set(&failure, "choices", choices.iter().map(JsValue::from).collect::<Array>().into());
        }
        if undecided {
            let writers = AprWriter::ALL.map(|writer| JsValue::from(writer.name()));
            set(&failure, "aprWriters", writers.iter().collect::<Array>().into());
        }
        failure
    })
}

/// Answers what the opening asks for.
async fn read(mut opening: Opening, picked: &PickedFiles, watch: &Watch) -> Result<Checkpoint> {
    loop {
        match opening.want() {
            Want::Ready => return opening.finish(),
            Want::List => opening.listed(listing(picked))?,
            Want::Open(name) => opening.opened(picked.0.get(&*name).map(length))?,
            Want::Read { file, range } => {
                let file = picked.file(opening.file_name(file).unwrap_or_default())?;
                let len = usize::try_from(range.end.saturating_sub(range.start)).map_err(|_| too_large())?;
                let mut bytes = vec![0; len];
                read_slice(&file, range.start, &mut bytes, watch).await?;
                opening.data(&bytes)?;
            }
        }
    }
}

fn too_large() -> Error {
    Error::new(Code::MemoryBudget, "a header does not fit the memory of a page")
}

fn listing(picked: &PickedFiles) -> Vec<(String, u64)> {
    picked.0.iter().map(|(name, file)| (name.clone(), length(file))).collect()
}

fn length(file: &File) -> u64 {
    file.size() as u64
}
