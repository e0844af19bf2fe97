//! Plain objects for the page: what its views show of a model.

use crate::metadata::{ModelDimensions, dimensions};
use quantoscope_core::format::Checkpoint;
use quantoscope_core::tensor::{MetaValue, TensorInfo};
use serde::Serialize;
use wasm_bindgen::JsValue;

/// Text values longer than this are cut: the page shows them in one line.
const LONGEST_TEXT: usize = 240;

/// A value as plain JavaScript objects, absent values as `null`.
pub(crate) fn to_js<T: Serialize + ?Sized>(value: &T) -> Result<JsValue, JsValue> {
    let serializer = serde_wasm_bindgen::Serializer::json_compatible();
    value.serialize(&serializer).map_err(JsValue::from)
}

/// A model, without its tensors.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelSummary<'a> {
    container: String,
    architecture: Option<String>,
    dimensions: ModelDimensions,
    files: Vec<SourceFileView<'a>>,
    elements: u64,
    bytes: u64,
    file_bytes: u64,
    quantized: bool,
    metadata: Vec<(&'a str, String)>,
    warnings: Vec<&'a str>,
}

#[derive(Serialize)]
struct SourceFileView<'a> {
    name: &'a str,
    bytes: u64,
}

/// A tensor, as a row of the table.
#[derive(Serialize)]
pub(crate) struct TensorRow<'a> {
    index: usize,
    name: &'a str,
    dtype: String,
    quantized: bool,
    /// Numbers, because a hostile header may name an axis beyond 2^53 beside one of zero.
    shape: Vec<f64>,
    elements: u64,
    bytes: u64,
    file: u32,
    offset: u64,
}

/// The summary of `c`. Tensors of a checked checkpoint share no byte, so the sum of their sizes is at most that of the
/// files; the sum of their elements saturates.
pub(crate) fn summary(c: &Checkpoint) -> ModelSummary<'_> {
    ModelSummary {
        container: container(c),
        architecture: architecture(c),
        dimensions: dimensions(c),
        files: c.files.iter().map(|f| SourceFileView { name: &f.name, bytes: f.len }).collect(),
        elements: c.tensors.iter().fold(0, |n, t| t.shape.numel().saturating_add(n)),
        bytes: c.tensors.iter().map(TensorInfo::stored_bytes).sum(),
        file_bytes: c.files.iter().map(|f| f.len).sum(),
        quantized: c.tensors.iter().any(TensorInfo::is_quantized),
        metadata: c.metadata.0.iter().map(|(k, v)| (k.as_str(), text(v))).collect(),
        warnings: c.warnings.iter().map(|w| w.message.as_str()).collect(),
    }
}

/// The rows of the table, in the order of the checkpoint.
pub(crate) fn tensors(c: &Checkpoint) -> Vec<TensorRow<'_>> {
    c.tensors.iter().enumerate().map(|(index, t)| row(c, index, t)).collect()
}

fn row<'a>(c: &Checkpoint, index: usize, t: &'a TensorInfo) -> TensorRow<'a> {
    TensorRow {
        index,
        name: &t.name,
        dtype: c.type_name(t).into_owned(),
        quantized: t.is_quantized(),
        shape: t.shape.axes().iter().map(|&a| a as f64).collect(),
        elements: t.shape.numel(),
        bytes: t.stored_bytes(),
        file: t.file,
        offset: t.bytes.start,
    }
}

fn container(c: &Checkpoint) -> String {
    use quantoscope_core::format::Container;
    match (c.container, c.gguf_version) {
        (Container::Gguf, Some(version)) => format!("GGUF v{version}"),
        (Container::Gguf, None) => "GGUF".into(),
        (Container::Safetensors, _) => "safetensors".into(),
        (Container::LatticeQ4, _) => "lattice .q4".into(),
        (Container::Apr, _) => "APR".into(),
    }
}

/// What the model calls itself: GGUF in its metadata, others in `config.json`.
fn architecture(c: &Checkpoint) -> Option<String> {
    if let Some(name) = c.metadata.text("general.architecture") {
        return Some(name.into());
    }
    let config: serde_json::Value = serde_json::from_slice(c.config.as_deref()?).ok()?;
    config.get("model_type")?.as_str().map(Into::into)
}

/// A value in one line: long text is cut, arrays are counted.
pub(crate) fn text(value: &MetaValue) -> String {
    match value {
        MetaValue::U8(v) => v.to_string(),
        MetaValue::I8(v) => v.to_string(),
        MetaValue::U16(v) => v.to_string(),
        MetaValue::I16(v) => v.to_string(),
        MetaValue::U32(v) => v.to_string(),
        MetaValue::I32(v) => v.to_string(),
        MetaValue::U64(v) => v.to_string(),
        MetaValue::I64(v) => v.to_string(),
        MetaValue::F32(v) => v.to_string(),
        MetaValue::F64(v) => v.to_string(),
        MetaValue::Bool(v) => v.to_string(),
        MetaValue::String(v) => short(v),
        MetaValue::Bytes(v) => short(&String::from_utf8_lossy(v)),
        MetaValue::Array(a) => format!("{} values", a.len),
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
        None => text.into(),
    }
}
