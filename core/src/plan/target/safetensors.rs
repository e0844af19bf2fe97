//! One safetensors file: plain floats and what the format can copy, widest elements first. Writes no configuration.
//!
//! Spec: <https://huggingface.co/docs/safetensors>.

use super::{
    Contents, Target, check_has_type, layout_tensors, metadata_left_out, place_in_one_file, split, usage,
    writes_without_type,
};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::format::safetensors::layout_of;
use crate::format::{Checkpoint, Container};
use crate::plan::provenance::{self, RECIPE, ROTATION};
use crate::plan::{OutFile, Output, Warning};
use crate::quant::has_decoder;
use crate::recipe::Recipe;
use crate::tensor::MetaValue;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

pub(super) struct Safetensors;

impl Target for Safetensors {
    fn container(&self) -> Container {
        Container::Safetensors
    }

    fn check(&self, recipe: &Recipe) -> Result<()> {
        if !writes_without_type(recipe) {
            check_has_type(recipe)?;
        }
        check_types(recipe)
    }

    fn holds(&self, dtype: DType) -> bool {
        dtype.safetensors_name().is_some()
    }

    fn config_sets_dtype(&self) -> bool {
        true
    }

    fn lay_out(
        &self,
        contents: &Contents<'_>,
        outputs: &mut [Output],
        warnings: &mut Vec<Warning>,
    ) -> Result<Vec<OutFile>> {
        let mut metadata = metadata(contents.checkpoint, contents.recipe);
        metadata.extend(rotation_entry(contents));
        warnings.extend(metadata_left_out(contents.checkpoint));
        let files = split::files_of(contents, outputs)?;
        files.iter().for_each(|range| widest_first(outputs.get_mut(range.clone()).unwrap_or_default()));
        if files.len() > 1 {
            return lay_out_shards(&metadata, outputs, &files);
        }
        warnings.extend(split::not_split(&contents.recipe.split));
        let layout = layout_of(&metadata, layout_tensors(outputs))?;
        Ok(place_in_one_file(outputs, layout))
    }
}

/// The record of the rotation, if there is one.
pub(super) fn rotation_entry(contents: &Contents<'_>) -> Option<(String, String)> {
    contents.rotation.map(|r| (ROTATION.into(), provenance::rotation(r)))
}

/// Sorts the tensors of a file by the width of their elements, widest first, so that each is aligned to its element.
fn widest_first(outputs: &mut [Output]) {
    outputs.sort_by_key(|o| core::cmp::Reverse(o.dtype.block_bytes()));
}

/// Lays out the index of the shards, then the shards. Their names lack what stands before `-00001-of-00002`.
fn lay_out_shards(
    metadata: &[(String, String)],
    outputs: &mut [Output],
    files: &[Range<usize>],
) -> Result<Vec<OutFile>> {
    let mut made = vec![OutFile::literal(INDEX_SUFFIX, Vec::new())];
    for (index, range) in files.iter().enumerate() {
        let outputs = outputs.get_mut(range.clone()).unwrap_or_default();
        let layout = layout_of(metadata, layout_tensors(outputs))?;
        split::place(outputs, index + 1, &layout.offsets, &layout.sizes);
        let name = split::name(index, files.len(), EXTENSION);
        made.push(OutFile { len: layout.file_len, ..OutFile::literal(&name, layout.header) });
    }
    name_shards(&mut made, outputs, "")?;
    Ok(made)
}

/// Puts `stem` before the names of the index and its shards, and writes the index with these names.
pub(super) fn name_shards(files: &mut [OutFile], outputs: &[Output], stem: &str) -> Result<()> {
    files.iter_mut().for_each(|file| file.name.insert_str(0, stem));
    let index = index_json(files, outputs, None)?;
    if let Some(first) = files.first_mut() {
        *first = OutFile::literal(&first.name, index);
    }
    Ok(())
}

/// Ending of the name of a file, and of each shard.
const EXTENSION: &str = "safetensors";

/// Ending of the name of an index.
const INDEX_SUFFIX: &str = ".safetensors.index.json";

/// The index of shards in transformers' form: total bytes, the number of parameters if it is given, then the file of each
/// tensor, sorted by name.
pub(super) fn index_json(files: &[OutFile], outputs: &[Output], parameters: Option<u64>) -> Result<Vec<u8>> {
    let unwritable = |e| Error::new(Code::BadJson, format!("a name cannot be written: {e}"));
    let quote = |text: &str| serde_json::to_string(text).map_err(unwritable);
    let stored = outputs.iter().flat_map(Output::stored);
    let mut placed: Vec<_> = stored.filter_map(|s| Some((s.name.as_str(), s.place?))).collect();
    placed.sort_by_key(|(name, _)| *name);
    let total = placed.iter().fold(0_u64, |sum, (_, place)| sum.saturating_add(place.bytes));
    let parameters = parameters.map(|n| format!(",\n    \"total_parameters\": {n}")).unwrap_or_default();
    let mut text = format!(
        "{{\n  \"metadata\": {{\n    \"total_size\": {total}{parameters}\n  }},\n  \"weight_map\": {{"
    );
    for (i, (name, place)) in placed.iter().enumerate() {
        let file = files.get(place.file as usize).map_or("", |f| &f.name);
        let comma = if i == 0 { "" } else { "," };
        text.push_str(&format!("{comma}\n    {}: {}", quote(name)?, quote(file)?));
    }
    text.push_str("\n  }\n}\n");
    Ok(text.into_bytes())
}

/// Refuses types that safetensors files do not hold. A type that can only be kept may be named for a tensor that has it.
pub(super) fn check_types(recipe: &Recipe) -> Result<()> {
    let kept = |dtype: DType| {
        let named = recipe.overrides.iter().any(|o| o.dtype == dtype);
        named && recipe.dtype != Some(dtype) && dtype.safetensors_name().is_some() && !has_decoder(dtype)
    };
    recipe.types().try_for_each(|dtype| match dtype {
        DType::F32 | DType::F16 | DType::BF16 => Ok(()),
        t if kept(t) => Ok(()),
        t => Err(usage(format!("safetensors output takes f32, f16 or bf16, not {t}"))),
    })
}

/// The `__metadata__` of the file: that of a safetensors source, and the recipe.
pub(super) fn metadata(checkpoint: &Checkpoint, recipe: &Recipe) -> Vec<(String, String)> {
    let mut metadata: Vec<(String, String)> = Vec::new();
    if checkpoint.container == Container::Safetensors {
        for (key, value) in &checkpoint.metadata.0 {
            if let MetaValue::String(text) = value {
                metadata.push((key.clone(), text.clone()));
            }
        }
    }
    if !metadata.iter().any(|(k, _)| k == "format") {
        // Without it transformers refuses the file.
        metadata.push(("format".into(), "pt".into()));
    }
    if recipe.gguf.verbatim && metadata.iter().any(|(k, _)| k == RECIPE) {
        return metadata;
    }
    metadata.retain(|(k, _)| k != RECIPE && k != ROTATION);
    metadata.push((RECIPE.into(), provenance::recipe(recipe)));
    metadata
}
