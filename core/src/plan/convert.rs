//! Plans a conversion: every output tensor, its exact place, the header bytes, every warning.

use super::importance::ImportancePlanner;
use super::metadata::ROTATION;
use super::rotate::{AppliedRotation, RotationPlanner};
use super::{
    Conversion, FileRange, Grid, MetricSet, NonFinite, Operand, OutFile, Output, OutputOp, Plan, RowMap,
    Segment, Side, ThinVec, Totals, metadata,
};
use crate::dtype::{DType, DTypeKind};
use crate::error::{Code, Error, Result};
use crate::format::imatrix::Imatrix;
use crate::format::limits::MAX_Q4_INDEX;
use crate::format::{Checkpoint, Container, LayoutTensor, Warning, gguf, q4, safetensors};
use crate::model::tensor_role::{TensorRole, role};
use crate::quant::{Encoding, ImportanceUse};
use crate::recipe::presets::Preset;
use crate::recipe::select::{TypeChoices, type_choices};
use crate::recipe::{Action, Decision, Reason, Recipe, SharedText};
use crate::tensor::{MetaValue, Shape, TensorInfo};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use sha2::{Digest, Sha256};

/// Plans what `recipe` makes of `checkpoint`. With `measure`, the error of every encoded tensor is asked for.
pub fn plan(checkpoint: &Checkpoint, recipe: &Recipe, measure: bool) -> Result<Plan> {
    weighted(checkpoint, recipe, None, measure)
}

/// The same with an importance matrix, which steers whatever is searched for.
pub fn weighted(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    imatrix: Option<&Imatrix>,
    measure: bool,
) -> Result<Plan> {
    recipe.check()?;
    if checkpoint.tensors.is_empty() {
        return Err(Error::new(Code::Empty, "the input holds no tensors"));
    }
    let (original, untied) = (checkpoint, untied(checkpoint, recipe, imatrix)?);
    let checkpoint = untied.as_ref().unwrap_or(original);
    let known = names(checkpoint);
    let wanted = type_choices(recipe, checkpoint, imatrix.is_some());
    let mut warnings = checkpoint.warnings.clone();
    warnings.extend(aim_warnings(recipe, &wanted, imatrix.is_some()));
    let mut weighing = ImportancePlanner::new(imatrix, checkpoint);
    let (mut outputs, mut last) = (Vec::with_capacity(checkpoint.tensors.len()), SharedText::default());
    for ((index, tensor), aim) in checkpoint.tensors.iter().enumerate().zip(wanted.choices) {
        refuse_scaled(&known, tensor)?;
        let mut decision = recipe.decide(tensor, aim)?;
        decision.reason.text = decision.reason.text.shared(&mut last);
        let mut output = output(index, tensor, decision, measure);
        weighing.encode(tensor, &mut output)?;
        outputs.push(output);
    }
    drop(known);
    warnings.extend(weighing.warnings());
    let rotation = match recipe.rotate {
        Some(wish) => Some(RotationPlanner::new(checkpoint, original, wish, recipe.dtype)?.apply(
            original,
            &mut outputs,
            &mut warnings,
        )?),
        None => None,
    };
    look_for_nonfinite(recipe, &mut outputs);
    let (files, directory) = match recipe.to {
        Container::Gguf => {
            (gguf_file(checkpoint, recipe, imatrix, rotation.as_ref(), &mut outputs, &mut warnings)?, false)
        }
        Container::Safetensors => {
            (safetensors_file(checkpoint, recipe, rotation.as_ref(), &mut outputs)?, false)
        }
        Container::LatticeQ4 => (q4_files(checkpoint, recipe, &mut outputs, &mut warnings)?, true),
    };
    warnings.extend(metadata::lost(checkpoint, recipe.to));
    let totals = totals(checkpoint, &outputs, &files)?;
    if totals.planned_quantized == 0 && recipe.quantizes() {
        warnings.push(warning("nothing_quantized", "no tensor is quantized by this plan"));
    }
    let importance = weighing.importance();
    let conversion =
        Conversion { recipe: recipe.clone(), container: recipe.to, directory, importance, rotation, totals };
    Ok(Plan { outputs, files, conversion: Some(conversion), warnings })
}

/// Sets what is done about NaN and infinities in plain floats, copied or converted.
pub(super) fn look_for_nonfinite(recipe: &Recipe, outputs: &mut [Output]) {
    let policy = if recipe.allow_nonfinite { NonFinite::Counted } else { NonFinite::Refused };
    outputs.iter_mut().for_each(|o| o.metrics.nonfinite = policy);
}

/// The checkpoint with a head of its own, where a rotation needs one.
fn untied(checkpoint: &Checkpoint, recipe: &Recipe, imatrix: Option<&Imatrix>) -> Result<Option<Checkpoint>> {
    let Some(wish) = &recipe.rotate else { return Ok(None) };
    if imatrix.is_some() {
        let message = "an importance matrix weighs the channels as they are, not as a rotation mixes them";
        return Err(Error::new(Code::Usage, message));
    }
    super::rotate::untied(checkpoint, wish).map(Some)
}

pub(super) fn warning(code: &'static str, message: impl Into<String>) -> Warning {
    Warning { code, message: message.into() }
}

/// What is odd about what a recipe finds in a model.
fn aim_warnings(recipe: &Recipe, choices: &TypeChoices, weighted: bool) -> Vec<Warning> {
    let unused = recipe.overrides.iter().zip(&choices.found).filter(|(_, n)| **n == 0);
    let mut warnings: Vec<Warning> = unused
        .map(|(o, _)| warning("unused_override", format!("--tensor-type {} finds no tensor", o.pattern)))
        .collect();
    if recipe.preset == Some(Preset::Q2_K_S) && !weighted {
        let message =
            "q2_k_s serves badly without an importance matrix (--imatrix); llama-quantize refuses it";
        warnings.push(warning("importance_wanted", message));
    }
    if choices.fallbacks > 0 {
        let message = format!(
            "{} of {} tensors have rows that do not divide by the block of their type, and get another one",
            choices.fallbacks,
            choices.choices.len()
        );
        warnings.push(warning("fallback", message));
    }
    warnings
}

/// An 8-bit float with a scale tensor beside it is not the weight: decoding it alone would be silently wrong.
fn refuse_scaled(names: &BTreeSet<&str>, tensor: &TensorInfo) -> Result<()> {
    match unscaled(names, tensor) {
        Some(message) => Err(Error::new(Code::UnsupportedDtype, message).of_tensor(&tensor.name)),
        None => Ok(()),
    }
}

/// The names of a checkpoint's tensors, for [`unscaled`].
pub(super) fn names(checkpoint: &Checkpoint) -> BTreeSet<&str> {
    checkpoint.tensors.iter().map(|t| t.name.as_str()).collect()
}

/// Says so where `tensor` is an 8-bit float whose scale is another tensor.
pub(super) fn unscaled(names: &BTreeSet<&str>, tensor: &TensorInfo) -> Option<String> {
    if !matches!(tensor.dtype, DType::F8_E4M3 | DType::F8_E5M2) {
        return None;
    }
    // Names that begin alike stand together in the set, so the first one from here on tells.
    let prefix = format!("{}_scale", tensor.name);
    let scale = names.range(prefix.as_str()..).next().filter(|n| n.starts_with(&prefix))?;
    Some(format!("{} needs its scale {scale:?}, which is not applied yet", tensor.dtype))
}

/// The operand that is all of `tensor`.
pub(super) fn operand(side: Side, index: usize, tensor: &TensorInfo) -> Operand {
    Operand {
        side,
        tensor: index as u32,
        file: tensor.file,
        at: tensor.bytes.start,
        dtype: tensor.dtype,
        row: 0,
        columns: None,
        map: RowMap::Identity,
        ops: ThinVec::new(),
    }
}

/// The output for one tensor; its place is filled in by the container.
pub(super) fn output(index: usize, tensor: &TensorInfo, decision: Decision, measure: bool) -> Output {
    let mut from = operand(Side::Source, index, tensor);
    let mut grid = Grid::of(&tensor.shape);
    let (dtype, finish) = match decision.action {
        Action::Copy => {
            // Plain floats are looked through for NaN and infinities; what else is copied is bytes.
            let floats = tensor.dtype.kind() == DTypeKind::Float && tensor.dtype.block_len() == 1;
            from.dtype = if floats { tensor.dtype } else { DType::U8 };
            grid = Grid { rows: 1, cols: tensor.bytes.len() / from.dtype.block_bytes() };
            (tensor.dtype, OutputOp::Copy)
        }
        Action::Transcode(to) => (to, OutputOp::Transcode(to)),
        Action::Encode(encoding) => (encoding.dtype(), OutputOp::Encode(encoding)),
    };
    let error = measure && matches!(finish, OutputOp::Encode(_));
    let piece = Segment { rows: 0..grid.rows, from, against: None, importance: None, gain: None, op: finish };
    Output {
        name: tensor.name.clone(),
        dtype,
        shape: tensor.shape.clone(),
        grid,
        place: None,
        segments: piece.into(),
        metrics: MetricSet { error, ..MetricSet::default() },
        reason: decision.reason,
    }
}

fn layout_tensors(outputs: &[Output]) -> impl ExactSizeIterator<Item = LayoutTensor<'_>> + Clone {
    outputs.iter().map(|o| LayoutTensor { name: &o.name, dtype: o.dtype, shape: &o.shape })
}

fn place_in_one_file(outputs: &mut [Output], layout: crate::format::FileLayout) -> Vec<OutFile> {
    for ((output, &at), &bytes) in outputs.iter_mut().zip(&layout.offsets).zip(&layout.sizes) {
        output.place = Some(FileRange { file: 0, at, bytes });
    }
    vec![OutFile { name: String::new(), len: layout.file_len, header: layout.header }]
}

fn gguf_file(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    imatrix: Option<&Imatrix>,
    rotation: Option<&AppliedRotation>,
    outputs: &mut [Output],
    warnings: &mut Vec<Warning>,
) -> Result<Vec<OutFile>> {
    let mut metadata = metadata::of_gguf(checkpoint, recipe, imatrix, warnings);
    metadata.0.extend(rotation.map(|r| (ROTATION.into(), MetaValue::String(metadata::rotation(r)))));
    let alignment = match checkpoint.container {
        Container::Gguf => checkpoint.alignment,
        _ => gguf::DEFAULT_ALIGNMENT,
    };
    let layout = gguf::layout_of(&metadata, alignment, layout_tensors(outputs))?;
    Ok(place_in_one_file(outputs, layout))
}

/// The order of a safetensors file: widest elements first, so that every tensor is aligned to its element.
pub(super) fn safetensors_file(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    rotation: Option<&AppliedRotation>,
    outputs: &mut [Output],
) -> Result<Vec<OutFile>> {
    outputs.sort_by_key(|o| core::cmp::Reverse(o.dtype.block_bytes()));
    let mut metadata = metadata::of_safetensors(checkpoint, recipe);
    metadata.extend(rotation.map(|r| (ROTATION.into(), metadata::rotation(r))));
    let layout = safetensors::layout_of(&metadata, layout_tensors(outputs))?;
    Ok(place_in_one_file(outputs, layout))
}

/// The lattice directory: a file a tensor, the index, and the configuration.
fn q4_files(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    outputs: &mut [Output],
    warnings: &mut Vec<Warning>,
) -> Result<Vec<OutFile>> {
    // The index is sorted by name, and so are we: one order for everything.
    outputs.sort_by(|a, b| a.name.cmp(&b.name));
    let mut taken: BTreeSet<String> = ["quantize_index.json", "config.json"].map(String::from).into();
    let mut files = Vec::with_capacity(outputs.len() + 2);
    let (mut entries, mut index_bytes) = (Vec::with_capacity(outputs.len()), 0_u64);
    for output in outputs.iter_mut() {
        index_bytes += (output.name.len() + LEAST_INDEX_ENTRY) as u64;
        check_index(index_bytes)?;
        let quantized = output.dtype == DType::LATTICE_Q4;
        let header = if quantized { q4::q4_header(&output.shape)? } else { q4::f16_header(&output.shape)? };
        let numel = output.shape.numel();
        let overflow =
            || Error::new(Code::Overflow, "the file would not fit 64 bits").of_tensor(&output.name);
        let bytes = output.dtype.bytes_for(numel).ok_or_else(overflow)?;
        let at = header.len() as u64;
        let len = at.checked_add(bytes).ok_or_else(overflow)?;
        let name = unique_file(&output.name, if quantized { "q4" } else { "f16" }, &mut taken);
        output.place = Some(FileRange { file: files.len() as u32, at, bytes });
        entries.push(q4::Q4IndexEntry {
            name: (&output.name).into(),
            file: name.clone(),
            quantized,
            shape: output.shape.clone(),
            numel,
        });
        files.push(OutFile { name, len, header });
    }
    let turned = recipe.rotate.filter(|r| r.stream && !r.fold).map(|r| r.seed);
    let made_by = recipe.rotate.map(|_| metadata::recipe_json(recipe));
    let index = q4::index_json_by(&entries, turned.or(checkpoint.q4_seed), made_by.as_deref());
    check_index(index.len() as u64)?;
    literal(&mut files, "quantize_index.json", index);
    match &metadata::config(checkpoint, recipe)? {
        Some(config) => literal(&mut files, "config.json", config.clone()),
        None => warnings.push(warning("no_config", "no config.json beside the input, so none is written")),
    }
    Ok(files)
}

/// Bytes that an entry of the index has at least, beside the tensor's name.
const LEAST_INDEX_ENTRY: usize = 64;

/// Refuses an index that its readers would refuse.
fn check_index(bytes: u64) -> Result<()> {
    if bytes > MAX_Q4_INDEX {
        let message =
            format!("the index would have more than {MAX_Q4_INDEX} bytes, more than its readers accept");
        return Err(Error::new(Code::HeaderTooLarge, message).in_file("quantize_index.json"));
    }
    Ok(())
}

pub(super) fn literal(files: &mut Vec<OutFile>, name: &str, bytes: Vec<u8>) {
    files.push(OutFile { name: name.into(), len: bytes.len() as u64, header: bytes });
}

/// lattice's file name for a tensor, made unique: names may collide after sanitising, also where a file system
/// ignores case, and may be longer than a file system takes.
fn unique_file(tensor: &str, extension: &str, taken: &mut BTreeSet<String>) -> String {
    let stem = q4::file_stem(tensor);
    let plain = format!("{stem}.{extension}");
    if plain.len() <= 200 && taken.insert(plain.to_lowercase()) {
        return plain;
    }
    let short: String = stem.chars().take(40).collect();
    // A hostile input can have a tensor whose own file name is the one made here: then the next one is tried.
    let mut salted = String::from(tensor);
    loop {
        let digest = Sha256::digest(salted.as_bytes());
        let tag: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
        let name = format!("{short}__{tag}.{extension}");
        if taken.insert(name.to_lowercase()) {
            return name;
        }
        salted.push('\0');
    }
}

/// `config.json` as it must be beside what `plan` makes.
pub fn config(checkpoint: &Checkpoint, plan: &Plan) -> Result<Option<Vec<u8>>> {
    match &plan.conversion {
        Some(conversion) => metadata::config(checkpoint, &conversion.recipe),
        None => Ok(checkpoint.config.clone()),
    }
}

/// The operand that is all of a source's tensor.
pub fn whole(index: usize, tensor: &TensorInfo) -> Operand {
    operand(Side::Source, index, tensor)
}

/// Makes a plan of one safetensors file a folder that loaders of Hugging Face's layout read: with the configuration as it
/// is after the plan, and `others` as they are.
pub fn in_folder(checkpoint: &Checkpoint, plan: &mut Plan, others: Vec<OutFile>) -> Result<()> {
    let Some(conversion) = plan.conversion.as_mut() else { return Ok(()) };
    let Some(weights) = plan.files.first_mut() else { return Ok(()) };
    weights.name = "model.safetensors".into();
    if let Some(config) = metadata::config(checkpoint, &conversion.recipe)? {
        literal(&mut plan.files, "config.json", config);
    }
    plan.files.extend(others);
    conversion.directory = true;
    conversion.totals.total_bytes_out = sum(plan.files.iter().map(|f| f.len))?;
    Ok(())
}

/// A sum that a hostile file cannot make wrap.
pub(super) fn sum(mut sizes: impl Iterator<Item = u64>) -> Result<u64> {
    let overflow = || Error::new(Code::Overflow, "the sizes of this plan do not fit 64 bits");
    sizes.try_fold(0_u64, u64::checked_add).ok_or_else(overflow)
}

pub(super) fn totals(checkpoint: &Checkpoint, outputs: &[Output], files: &[OutFile]) -> Result<Totals> {
    let mut read: BTreeSet<u32> = BTreeSet::new();
    for piece in outputs.iter().flat_map(|o| &o.segments) {
        read.insert(piece.from.tensor);
    }
    let span = |&i: &u32| checkpoint.tensors.get(i as usize).map_or(0, |t| t.bytes.len());
    let total_bytes_in = sum(read.iter().map(span))?;
    let total_bytes_out = sum(files.iter().map(|f| f.len))?;
    let quantized = outputs.iter().filter(|o| o.dtype.is_quantized()).count() as u64;
    let stored = sum(outputs.iter().filter_map(|o| o.place).map(|p| p.bytes))?;
    let weights = sum(outputs.iter().map(|o| o.shape.numel()))?;
    let over = |a: u64, b: u64| (a != 0 && b != 0).then(|| a as f64 / b as f64);
    Ok(Totals {
        total_bytes_in,
        source_file_bytes: sum(checkpoint.files.iter().map(|f| f.len))?,
        total_bytes_out,
        tensor_bytes_out: stored,
        planned_quantized: quantized,
        kept: outputs.len() as u64 - quantized,
        ratio: over(total_bytes_in, total_bytes_out),
        bits_per_weight: over(stored, weights).map(|r| r * 8.0),
    })
}

/// Whether a tensor holds weights that an encoding could be measured on.
pub(super) fn measurable(tensor: &TensorInfo) -> bool {
    tensor.dtype.kind() != DTypeKind::Integer && crate::quant::decoder(tensor.dtype).is_some()
}

/// Why a tensor is only measured.
pub(super) fn measured_reason(name: &str, shape: &Shape) -> Reason {
    let role = role(name, shape);
    let code = match role {
        TensorRole::Weight => "weight",
        TensorRole::Embedding => "embedding",
        TensorRole::Output => "output",
        TensorRole::Norm => "norm",
        TensorRole::Bias => "bias",
        TensorRole::Router => "router",
        TensorRole::Positional => "positional",
        TensorRole::Conv => "conv",
        TensorRole::Vector => "vector",
        TensorRole::Other => "not_a_weight",
    };
    Reason { code, text: "".into() }
}

/// The encodings of a sweep when none are named: every block type that can be written without an importance row.
pub fn sweep_encodings() -> Vec<Encoding> {
    every_encoding().into_iter().filter(|e| e.importance() != ImportanceUse::Required).collect()
}

/// The same where there is an importance matrix: every block type that can be written.
pub fn every_encoding() -> Vec<Encoding> {
    let mut all: Vec<Encoding> = DType::ALL
        .iter()
        .filter(|d| d.is_quantized() && crate::recipe::can_target(**d))
        .map(|&d| Encoding::Type(d))
        .collect();
    all.extend([Encoding::LatticeAsym, Encoding::LatticeSym]);
    all
}
