//! One GGUF file: the metadata of a GGUF source carried over, that of a converted Hugging Face checkpoint
//! ([`assembly`]), or `general.*` of another source; then the tensors.
//!
//! Knows no architecture's keys. Spec: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod assembly;

pub(in crate::plan) use assembly::metadata as gguf_metadata;

use super::{Contents, Target, layout_tensors, place_in_one_file, split, usage};
use crate::dtype::{DType, DTypeKind};
use crate::error::{Code, Error, Result};
use crate::format::gguf::{DEFAULT_ALIGNMENT, layout_metadata, layout_of};
use crate::format::imatrix::Imatrix;
use crate::format::limits::{MAX_GGUF_AXES, MAX_GGUF_NAME};
use crate::format::{Checkpoint, Container, companions};
use crate::model::tensor_role::is_buffer;
use crate::plan::gguf_mapping::GgufMapping;
use crate::plan::provenance::{self, RECIPE, ROTATION};
use crate::plan::{OutFile, Output, Warning};
use crate::quant::has_decoder;
use crate::recipe::presets::Preset;
use crate::recipe::{Reason, Recipe, TensorNaming, can_target};
use crate::tensor::{MetaValue, Metadata, TensorInfo};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use serde_json::Value;

pub(super) struct Gguf;

impl Target for Gguf {
    fn container(&self) -> Container {
        Container::Gguf
    }

    fn check(&self, recipe: &Recipe) -> Result<()> {
        recipe.types().try_for_each(|dtype| {
            if dtype.ggml_id().is_none() {
                return Err(usage(format!("GGUF has no tensor type {dtype}")));
            }
            if !can_target(dtype) {
                let message = format!("encoding to {dtype} is not supported yet");
                return Err(Error::new(Code::UnsupportedDtype, message));
            }
            Ok(())
        })
    }

    fn holds(&self, dtype: DType) -> bool {
        dtype.ggml_id().is_some()
    }

    fn leaves_out(&self, tensor: &TensorInfo) -> Option<Reason> {
        let text = "buffer that loaders compute: GGUF has no place for it".into();
        is_buffer(&tensor.name, &tensor.shape).then_some(Reason { code: "buffer", text })
    }

    fn misfit(&self, tensor: &TensorInfo) -> Option<String> {
        let (name, axes) = (tensor.name.len() as u64, tensor.shape.axes().len() as u64);
        if name > MAX_GGUF_NAME {
            return Some(format!("its name has {name} bytes; ggml reads at most {MAX_GGUF_NAME}"));
        }
        if axes > MAX_GGUF_AXES {
            return Some(format!("it has {axes} axes; ggml has at most {MAX_GGUF_AXES}"));
        }
        let decoded = tensor.dtype.kind() != DTypeKind::Integer && has_decoder(tensor.dtype);
        let held = decoded || self.holds(tensor.dtype) || tensor.dtype == DType::UNKNOWN;
        (!held).then(|| format!("ggml has no type {}", tensor.dtype))
    }

    fn lay_out(
        &self,
        contents: &Contents<'_>,
        outputs: &mut [Output],
        warnings: &mut Vec<Warning>,
    ) -> Result<Vec<OutFile>> {
        let checkpoint = contents.checkpoint;
        let alignment = match checkpoint.container {
            Container::Gguf => checkpoint.alignment,
            _ => DEFAULT_ALIGNMENT,
        };
        let metadata = metadata(contents, warnings)?;
        if contents.recipe.gguf.vocab_only {
            return Ok(vec![OutFile::literal("", layout_metadata(&metadata, alignment)?)]);
        }
        let files = split::files_of(contents, outputs)?;
        if files.len() > 1 {
            return lay_out_split(metadata, alignment, outputs, &files);
        }
        warnings.extend(split::not_split(&contents.recipe.split));
        let layout = layout_of(&metadata, alignment, layout_tensors(outputs))?;
        Ok(place_in_one_file(outputs, layout))
    }
}

/// Lays out the files of a split. The first one has all metadata; the others have only the keys of the split.
fn lay_out_split(
    metadata: Metadata,
    alignment: u64,
    outputs: &mut [Output],
    files: &[Range<usize>],
) -> Result<Vec<OutFile>> {
    let too_many = || usage("a split has at most 2147483647 tensors");
    let (count, tensors) = (files.len(), i32::try_from(outputs.len()).map_err(|_| too_many())?);
    let mut keys = metadata;
    let mut made = Vec::with_capacity(count);
    for (index, range) in files.iter().enumerate() {
        keys.0.extend(split_keys(index, count, tensors));
        let outputs = outputs.get_mut(range.clone()).unwrap_or_default();
        let layout = layout_of(&keys, alignment, layout_tensors(outputs))?;
        split::place(outputs, index, &layout.offsets, &layout.sizes);
        let name = split::name(index, count, "gguf");
        made.push(OutFile { len: layout.file_len, ..OutFile::literal(&name, layout.header) });
        keys.0.clear();
    }
    Ok(made)
}

/// Prefix of the keys of a split.
const SPLIT: &str = "split.";

/// The keys of file `index` of a split, in the order of llama.cpp's converter. Callers keep the counts within their types.
fn split_keys(index: usize, count: usize, tensors: i32) -> [(String, MetaValue); 3] {
    let short = |n: usize| MetaValue::U16(u16::try_from(n).unwrap_or(u16::MAX));
    [
        ("split.no".into(), short(index)),
        ("split.count".into(), short(count)),
        ("split.tensors.count".into(), MetaValue::I32(tensors)),
    ]
}

/// Prefix of llama.cpp's keys about the importance matrix that a file was made with.
const IMATRIX: &str = "quantize.imatrix.";

/// Longest text about an importance matrix, in bytes: llama.cpp reads no longer ones.
const MAX_IMATRIX_TEXT: usize = 127;

/// The metadata of the file.
fn metadata(contents: &Contents<'_>, warnings: &mut Vec<Warning>) -> Result<Metadata> {
    let Contents { checkpoint, recipe, imatrix, rotation, mapping } = *contents;
    if recipe.gguf.verbatim && checkpoint.container == Container::Gguf {
        let kept = checkpoint.metadata.0.iter().filter(|(key, _)| !key.starts_with(SPLIT));
        let mut kept = kept.cloned().collect();
        recipe.gguf.overridden()?.into_iter().for_each(|o| o.append_to(&mut kept));
        return Ok(Metadata(kept));
    }
    let mut metadata = match (mapping, checkpoint.container) {
        (Some(mapping), _) if cfg!(feature = "conversion") => {
            assembly::metadata(contents, mapping, warnings)?
        }
        (_, container) => {
            let mut metadata = match container {
                Container::Gguf => carried(&checkpoint.metadata, imatrix.is_some()),
                _ => {
                    warnings.push(Warning::new("not_runnable", not_runnable(checkpoint, recipe)));
                    general(checkpoint)
                }
            };
            metadata.0.push(("general.quantization_version".into(), MetaValue::U32(2)));
            let file_type = file_type_of(contents);
            metadata.0.extend(file_type.map(|id| ("general.file_type".into(), MetaValue::U32(id))));
            metadata
        }
    };
    recipe.gguf.overridden()?.into_iter().for_each(|o| o.append_to(&mut metadata.0));
    metadata.0.extend(imatrix.map(imatrix_keys).unwrap_or_default());
    if !recipe.compat {
        metadata.0.push((RECIPE.into(), MetaValue::String(provenance::recipe(recipe))));
        let rotation = rotation.map(|r| (ROTATION.into(), MetaValue::String(provenance::rotation(r))));
        metadata.0.extend(rotation);
    }
    Ok(metadata)
}

/// Why llama.cpp does not load a GGUF whose tensors keep the names of the source, and what to do.
fn not_runnable(checkpoint: &Checkpoint, recipe: &Recipe) -> String {
    let missing =
        |file| (format!("{file} is not among the files"), ". Open the whole folder for a file that runs");
    let (why, advice) = match checkpoint.container {
        Container::Safetensors if recipe.names == TensorNaming::Source => {
            ("tensor names of the source were asked for".into(), "")
        }
        Container::Safetensors if checkpoint.config.is_none() => missing("config.json"),
        Container::Safetensors if !companions::has_tokenizer(checkpoint) => missing("tokenizer.json"),
        Container::Safetensors => ("config.json is not the configuration of a model".into(), ""),
        other => (format!("only Hugging Face folders are converted to its names, not {}", other.name()), ""),
    };
    format!(
        "not runnable in llama.cpp: {why}; the tensors keep their names, and no tokenizer is written{advice}"
    )
}

/// `general.file_type`, where the file has one type or is of a preset.
fn file_type_of(contents: &Contents<'_>) -> Option<u32> {
    let Contents { recipe, mapping, .. } = *contents;
    let auto = || mapping?.outtype.and_then(file_type);
    let plain = recipe.preset.map(Preset::file_type).or(recipe.dtype.and_then(file_type)).or_else(auto);
    let experts = |m: &GgufMapping| m.outtype.is_some() && m.logical.tensors.iter().any(is_kept_mxfp4);
    plain.map(|id| if is_plain(id) && mapping.is_some_and(experts) { MOSTLY_MXFP4_MOE } else { id })
}

/// `general.file_type` of a model whose experts stay MXFP4.
const MOSTLY_MXFP4_MOE: u32 = 38;

/// Whether a `general.file_type` is that of F32, F16 or BF16.
fn is_plain(file_type: u32) -> bool {
    matches!(file_type, 0 | 1 | 32)
}

fn is_kept_mxfp4(tensor: &TensorInfo) -> bool {
    tensor.packed.is_some() && tensor.dtype == DType::MXFP4
}

/// `general.file_type` of one type throughout, as llama.cpp numbers it. Of several presets with the same base type, the
/// small one is closest to that.
fn file_type(dtype: DType) -> Option<u32> {
    let preset = match dtype {
        DType::Q3_K => Preset::Q3_K_S,
        DType::Q4_K => Preset::Q4_K_S,
        DType::Q5_K => Preset::Q5_K_S,
        d => Preset::parse(d.name()).ok()?,
    };
    Some(preset.file_type())
}

/// The keys that llama-quantize writes about an importance matrix. Only the file's name is stored, not its path.
fn imatrix_keys(imatrix: &Imatrix) -> Vec<(String, MetaValue)> {
    let cut = |t: &str| t.get(..t.floor_char_boundary(MAX_IMATRIX_TEXT)).unwrap_or(t).to_string();
    let text = |t: &str| MetaValue::String(cut(t));
    let count = |n: u64| u32::try_from(n).ok().map(MetaValue::U32);
    let all = [
        ("file", Some(text(&imatrix.file))),
        ("dataset", imatrix.datasets.first().map(|d| text(d))),
        ("entries_count", count(imatrix.entries.len() as u64)),
        ("chunks_count", imatrix.chunks.and_then(count)),
    ];
    all.into_iter().filter_map(|(key, value)| Some((format!("{IMATRIX}{key}"), value?))).collect()
}

/// The metadata of a GGUF source without the keys that the conversion writes, or that are wrong in one file.
fn carried(source: &Metadata, weighted: bool) -> Metadata {
    let stale = |key: &str| {
        key.starts_with(SPLIT)
            || (weighted && key.starts_with(IMATRIX))
            || matches!(key, "general.quantization_version" | "general.file_type" | RECIPE | ROTATION)
    };
    Metadata(source.0.iter().filter(|(k, _)| !stale(k)).cloned().collect())
}

/// `general.*` of a source that has no GGUF metadata.
fn general(checkpoint: &Checkpoint) -> Metadata {
    let config = checkpoint.config.as_deref().and_then(|c| serde_json::from_slice::<Value>(c).ok());
    let text = |key: &str| config.as_ref()?.get(key)?.as_str().filter(|s| !s.is_empty()).map(String::from);
    let architecture = text("model_type").unwrap_or_else(|| "unknown".into());
    let mut pairs = vec![("general.architecture".to_string(), MetaValue::String(architecture))];
    pairs.push(("general.type".into(), MetaValue::String("model".into())));
    if let Some(name) = text("_name_or_path") {
        pairs.push(("general.name".into(), MetaValue::String(name)));
    }
    pairs.push(("quantoscope.tensor_names".into(), MetaValue::String("source".into())));
    Metadata(pairs)
}
