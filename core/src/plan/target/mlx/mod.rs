//! A folder that mlx-lm loads: quantized weights as codes, scales and biases, `config.json` with the quantization, and the
//! tokenizer and similar files of the source.
//!
//! Names and stacks of experts are those of mlx-lm 0.32. Only architectures whose names are known are written.

mod config_keys;
mod names;
mod settings;

use super::{Contents, Target, config_json, safetensors, split, usage};
use crate::dtype::{DType, DTypeKind, MlxFloat};
use crate::error::{Code, Error, Result};
use crate::format::safetensors::layout_of;
use crate::format::{Checkpoint, Container, LayoutTensor};
use crate::model::config::CONFIG;
use crate::model::json_file::JsonFile;
use crate::model::tensor_role::is_buffer;
use crate::plan::{FileRange, LeftOut, OutFile, Output, Warning};
use crate::quant::Encoding;
use crate::recipe::{Action, Decision, Reason, Recipe, SplitOptions, mixed_names, unsupported};
use crate::tensor::{Shape, TensorInfo};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Reverse;

/// Bytes of a shard, where the recipe gives no limit: that of mlx-lm.
const SHARD: u64 = 5 << 30;

pub(super) struct Mlx;

impl Target for Mlx {
    fn container(&self) -> Container {
        Container::Safetensors
    }

    fn is_directory(&self) -> bool {
        true
    }

    fn check(&self, recipe: &Recipe) -> Result<()> {
        if recipe.preset.is_some() {
            let message =
                format!("a preset of llama-quantize is for GGUF; recipes for MLX are {}", mixed_names());
            return Err(usage(message));
        }
        if recipe.dtype.is_some() && recipe.mixed.is_some() {
            return Err(usage("a recipe has one type or one preset, not both"));
        }
        if recipe.dtype.is_none() && recipe.mixed.is_none() {
            return Err(usage(format!(
                "a type is needed, for example mlx_q4, or a recipe: {}",
                mixed_names()
            )));
        }
        if recipe.split.keep {
            return Err(usage(
                "--keep-split is not for MLX, which stores other tensors; give --split-max-size",
            ));
        }
        recipe.types().try_for_each(|dtype| match dtype {
            DType::MLX(of) if of.float() != MlxFloat::Bf16 => Err(usage(format!(
                "scales have the float type of the weight: give {} instead of {}",
                DType::MLX(of.with_float(MlxFloat::Bf16)).name().to_lowercase(),
                DType::MLX(of).name().to_lowercase()
            ))),
            DType::F32 | DType::F16 | DType::BF16 | DType::MLX(_) => Ok(()),
            t => Err(usage(format!("MLX output takes f32, f16, bf16 or a type such as mlx_q4_g64, not {t}"))),
        })
    }

    fn check_source(&self, checkpoint: &Checkpoint) -> Result<()> {
        names::of(checkpoint).map(|_| ())
    }

    /// Types that MLX reads from safetensors as they are.
    fn holds(&self, dtype: DType) -> bool {
        let float = matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
        float || (dtype.kind() == DTypeKind::Integer && dtype != DType::C64)
    }

    fn leaves_out(&self, tensor: &TensorInfo) -> Option<Reason> {
        let text = "buffer that the model computes: mlx-lm has no place for it".into();
        is_buffer(&tensor.name, &tensor.shape).then_some(Reason { code: "buffer", text })
    }

    fn keep(&self, recipe: &Recipe, tensor: &TensorInfo, reason: Reason) -> Result<Decision> {
        if self.holds(tensor.dtype) {
            return Ok(Decision { action: Action::Copy, reason: reason.into() });
        }
        let wider = match tensor.dtype {
            DType::F8_E4M3 | DType::F8_E5M2 => DType::BF16,
            DType::F64 => DType::F32,
            d => return Err(unsupported(tensor, format!("MLX cannot hold {d}"))),
        };
        let text = format!("{}; stored as {wider}", reason.text);
        let reason = Reason { text: text.into(), ..reason };
        let taken = recipe.take(tensor, Encoding::Type(wider))?;
        Ok(Decision { reason: reason.into(), ..taken })
    }

    fn config_sets_dtype(&self) -> bool {
        true
    }

    fn assemble(
        &self,
        contents: &Contents<'_>,
        outputs: Vec<Output>,
        left_out: &mut Vec<LeftOut>,
    ) -> Result<Vec<Output>> {
        let mut outputs = names::of(contents.checkpoint)?.rename(outputs, left_out)?;
        for output in &mut outputs {
            let DType::MLX(of) = output.dtype else { continue };
            let module = output.name.strip_suffix(".weight").map(String::from);
            let stored = module.and_then(|module| output.store_as_mlx(of, &module));
            let misfit = || {
                let message =
                    "mlx-lm does not quantize it; keep it in its float type with --tensor-type NAME=bf16";
                Error::new(Code::UnsupportedContainer, message).of_tensor(&output.name)
            };
            stored.ok_or_else(misfit)?;
        }
        Ok(outputs)
    }

    fn lay_out(
        &self,
        contents: &Contents<'_>,
        outputs: &mut [Output],
        warnings: &mut Vec<Warning>,
    ) -> Result<Vec<OutFile>> {
        let metadata = metadata(contents);
        let split = contents.recipe.split;
        let limits = SplitOptions { max_bytes: split.max_bytes.or(Some(SHARD)), ..split };
        check_names(outputs)?;
        let ranges = split::within(&limits, outputs)?;
        if ranges.len() == 1 {
            warnings.extend(split::not_split(&contents.recipe.split));
        }
        let mut files = Vec::with_capacity(ranges.len() + 2);
        for (file, range) in ranges.iter().enumerate() {
            let outputs = outputs.get_mut(range.clone()).unwrap_or_default();
            let (header, len) = lay_out_file(&metadata, file, outputs)?;
            let name = match ranges.len() {
                1 => "model.safetensors".to_string(),
                n => format!("model{}", split::name(file, n, "safetensors")),
            };
            files.push(OutFile { len, ..OutFile::literal(&name, header) });
        }
        let weights = outputs.iter().try_fold(0_u64, |sum, o| sum.checked_add(o.shape.numel()));
        let parameters =
            weights.ok_or_else(|| Error::new(Code::Overflow, "the weights do not fit 64 bits"))?;
        let index = safetensors::index_json(&files, outputs, Some(parameters))?;
        files.push(OutFile::literal("model.safetensors.index.json", index));
        files.push(OutFile::literal(CONFIG, config(contents, outputs)?));
        files.extend(contents.checkpoint.companions.iter().map(OutFile::copy_of));
        Ok(files)
    }
}

/// Refuses a name that two stored tensors have, in one file or in several.
fn check_names(outputs: &[Output]) -> Result<()> {
    let mut names = BTreeSet::new();
    match outputs.iter().flat_map(Output::stored).find(|s| !names.insert(s.name.as_str())) {
        Some(s) => Err(Error::new(Code::DuplicateName, "duplicate tensor name").of_tensor(s.name)),
        None => Ok(()),
    }
}

/// The `__metadata__` of each file: that of a safetensors source under the name of MLX, and the recipe.
fn metadata(contents: &Contents<'_>) -> Vec<(String, String)> {
    let mut metadata = safetensors::metadata(contents.checkpoint, contents.recipe);
    metadata.retain(|(key, _)| key != "format");
    metadata.insert(0, ("format".into(), "mlx".into()));
    metadata.extend(safetensors::rotation_entry(contents));
    metadata
}

/// Lays out file number `file` with all stored tensors of `outputs`, those of the widest elements first. Returns its header and
/// its length.
fn lay_out_file(
    metadata: &[(String, String)],
    file: usize,
    outputs: &mut [Output],
) -> Result<(Vec<u8>, u64)> {
    let stored: Vec<(String, DType, Shape)> = outputs
        .iter()
        .flat_map(Output::stored)
        .map(|s| (s.name.as_str().to_string(), s.dtype, s.shape.clone()))
        .collect();
    let mut order: Vec<usize> = (0..stored.len()).collect();
    order.sort_by_key(|at| Reverse(stored.get(*at).map_or(0, |(_, dtype, _)| dtype.block_bytes())));
    let sorted: Vec<&(String, DType, Shape)> = order.iter().filter_map(|at| stored.get(*at)).collect();
    let tensors = sorted.iter().map(|(name, dtype, shape)| LayoutTensor { name, dtype: *dtype, shape });
    let layout = layout_of(metadata, tensors)?;
    let mut places: Vec<Option<FileRange>> = alloc::vec![None; stored.len()];
    for ((at, &offset), &bytes) in order.iter().zip(&layout.offsets).zip(&layout.sizes) {
        let place = FileRange { file: file as u32, at: offset, bytes };
        places.iter_mut().skip(*at).take(1).for_each(|p| *p = Some(place));
    }
    let slots = outputs.iter_mut().flat_map(Output::places_mut);
    slots.zip(places).for_each(|(slot, place)| *slot = place);
    Ok((layout.header, layout.file_len))
}

/// `config.json` with the quantization under both of its keys.
fn config(contents: &Contents<'_>, outputs: &[Output]) -> Result<Vec<u8>> {
    let Contents { checkpoint, recipe, .. } = *contents;
    // `check_source` has found that there is one.
    let missing = || Error::new(Code::UnsupportedContainer, "there is no config.json").in_file(CONFIG);
    let bytes = config_json::config(checkpoint, recipe)?.ok_or_else(missing)?;
    let mut value = JsonFile::parse(CONFIG, &bytes)?.value;
    let map = value.as_object_mut().ok_or_else(missing)?;
    for key in ["quantization", "quantization_config"] {
        map.remove(key);
    }
    if let Some(settings) = settings::of(recipe, outputs) {
        map.insert("quantization".into(), settings.clone());
        map.insert("quantization_config".into(), settings);
    }
    config_keys::add_older(map);
    if !map.contains_key("tie_word_embeddings") {
        // mlx-lm has defaults of its own.
        let head = outputs.iter().any(|o| o.name.starts_with("lm_head."));
        map.insert("tie_word_embeddings".into(), (!head).into());
    }
    config_json::text(&value)
}
