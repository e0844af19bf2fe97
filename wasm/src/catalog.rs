//! What a conversion can be asked for: targets, types and presets, with their properties, from the tables of the core.
//!
//! Lists nothing itself but the targets: what each of them accepts is what [`target::check`] accepts.

use crate::view::to_js;
use quantoscope_core::DType;
use quantoscope_core::dtype::{MlxFloat, MlxType};
use quantoscope_core::model::tokenizer::pre;
use quantoscope_core::plan::target;
use quantoscope_core::quant::{Encoding, ImportanceUse};
use quantoscope_core::recipe::presets::Preset;
use quantoscope_core::recipe::rotation::SEED;
use quantoscope_core::recipe::{Q4Scheme, Recipe, TargetName};
use serde::{Serialize, Serializer};
use std::collections::BTreeSet;
use wasm_bindgen::prelude::*;

/// The presets that most people use.
const USUAL: [Preset; 5] = [Preset::Q8_0, Preset::Q6_K, Preset::Q5_K_M, Preset::Q4_K_M, Preset::Q3_K_M];

/// Everything that a recipe can name.
#[derive(Serialize)]
struct Catalog {
    /// What can be written, the usual one first.
    targets: Vec<TargetInfo>,
    /// Types that some target accepts, from many bits to few.
    types: Vec<TypeInfo>,
    /// Presets, from many bits to few.
    presets: Vec<PresetInfo>,
    /// Names of pre-tokenizers, for folders whose own is not known.
    pre_tokenizers: Vec<&'static str>,
    /// The seed of rotations where none is given, as hexadecimal text.
    seed: String,
}

/// A target of a conversion.
#[derive(Serialize)]
struct TargetInfo {
    #[serde(serialize_with = "target_word")]
    target: TargetName,
    label: &'static str,
    /// What it is, in a few words.
    about: &'static str,
    /// Types of [`Catalog::types`] that it accepts.
    types: Vec<DType>,
    /// Presets of [`Catalog::presets`] that it accepts.
    presets: Vec<Preset>,
    /// Its block forms; empty where it has none.
    q4_schemes: Vec<Q4SchemeInfo>,
    /// True if a recipe without type and preset keeps the precision of the source.
    keeps_precision: bool,
    /// True if Hugging Face folders are converted to its tensor names, with their tokenizer.
    converts_names: bool,
    /// The recipe to start with.
    default: Recipe,
}

/// A type that tensors can be encoded as.
#[derive(Serialize)]
struct TypeInfo {
    dtype: DType,
    /// Stored bits of each weight, scales included.
    bits_per_weight: f64,
    /// Weights of a block; 1 for plain floats.
    block: u64,
    /// False for plain floats.
    quantized: bool,
    /// How its blocks hold values, in the words of llama.cpp's users; empty for plain floats.
    family: &'static str,
    importance: ImportanceLevel,
}

/// What an importance matrix does for a type.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum ImportanceLevel {
    Ignored,
    Optional,
    Wanted,
    Required,
}

/// A preset: what llama.cpp calls an ftype.
#[derive(Serialize)]
struct PresetInfo {
    preset: Preset,
    /// The type of every tensor that no rule of the preset names.
    base: DType,
    /// `general.file_type` of llama.cpp.
    file_type: u32,
    /// True for the few that most people use.
    usual: bool,
}

/// A block form of lattice `.q4`.
#[derive(Serialize)]
struct Q4SchemeInfo {
    scheme: Q4Scheme,
    label: &'static str,
    bits_per_weight: f64,
}

/// Everything that a recipe can name, for the page's forms.
///
/// # Errors
/// That of the conversion to a JavaScript value.
#[wasm_bindgen]
pub fn catalog() -> Result<JsValue, JsValue> {
    let targets = Vec::from(
        [
            TargetName::Gguf,
            TargetName::Lattice,
            TargetName::Safetensors,
            TargetName::HfFolder,
            TargetName::Mlx,
        ]
        .map(target_info),
    );
    to_js(&Catalog {
        types: types(&targets),
        targets,
        presets: Preset::ALL.iter().copied().map(preset).collect(),
        pre_tokenizers: pre_tokenizers(),
        seed: format!("0x{SEED:016x}"),
    })
}

/// The word of a target in a recipe. As a part of a recorded recipe a target has the word of its container instead.
#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn target_word<S: Serializer>(target: &TargetName, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(match target {
        TargetName::HfFolder => "hf_folder",
        TargetName::Mlx => "mlx",
        other => other.container().name(),
    })
}

/// Sorted, each once.
fn pre_tokenizers() -> Vec<&'static str> {
    pre::names().collect::<BTreeSet<_>>().into_iter().collect()
}

fn target_info(target: TargetName) -> TargetInfo {
    let (label, about) = match target {
        TargetName::Gguf => ("GGUF", "for llama.cpp, Ollama, LM Studio"),
        TargetName::Mlx => ("MLX folder", "for mlx-lm on Apple silicon"),
        TargetName::Lattice => ("Lattice .q4", "a folder, one file per tensor"),
        TargetName::Safetensors => ("safetensors", "F32, F16 or BF16, not quantized"),
        TargetName::HfFolder => ("Hugging Face folder", "for transformers, with configuration and tokenizer"),
    };
    let (dtype, preset) = match target {
        TargetName::Gguf => (None, Some(Preset::Q4_K_M)),
        TargetName::Mlx => (MlxType::new(4, 64, MlxFloat::Bf16).map(DType::MLX), None),
        TargetName::Lattice => (None, None),
        TargetName::Safetensors | TargetName::HfFolder => (Some(DType::F16), None),
    };
    let with = |dtype, preset| Recipe { preset, ..Recipe::new(target, dtype) };
    let accepts = |recipe: Recipe| target::check(&recipe).is_ok();
    let accepted = |d: &DType| accepts(with(Some(*d), None));
    TargetInfo {
        target,
        label,
        about,
        types: all_types().filter(accepted).collect(),
        presets: Preset::ALL.iter().copied().filter(|p| accepts(with(None, Some(*p)))).collect(),
        q4_schemes: if target == TargetName::Lattice { q4_schemes() } else { Vec::new() },
        keeps_precision: target == TargetName::Gguf,
        converts_names: with(None, None).reads_companions(),
        default: with(dtype, preset),
    }
}

/// Every type that a recipe can name.
fn all_types() -> impl Iterator<Item = DType> {
    DType::ALL.iter().copied().chain(MlxType::named().map(DType::MLX))
}

fn q4_schemes() -> Vec<Q4SchemeInfo> {
    let info = |scheme| {
        let (label, encoding) = match scheme {
            Q4Scheme::Asym => ("Asymmetric", Encoding::LatticeAsym),
            Q4Scheme::Sym => ("Symmetric", Encoding::LatticeSym),
        };
        Q4SchemeInfo { scheme, label, bits_per_weight: encoding.dtype().bits_per_weight() }
    };
    [Q4Scheme::Asym, Q4Scheme::Sym].map(info).into()
}

fn types(targets: &[TargetInfo]) -> Vec<TypeInfo> {
    let accepted = |d: &DType| targets.iter().any(|t| t.types.contains(d));
    let mut all: Vec<TypeInfo> = all_types().filter(accepted).map(type_info).collect();
    all.sort_by(|a, b| b.bits_per_weight.total_cmp(&a.bits_per_weight));
    all
}

fn type_info(dtype: DType) -> TypeInfo {
    let encoding = Encoding::Type(dtype);
    TypeInfo {
        dtype,
        bits_per_weight: dtype.bits_per_weight(),
        block: dtype.block_len(),
        quantized: dtype.is_quantized(),
        family: family(dtype),
        importance: match encoding.importance() {
            ImportanceUse::Ignored => ImportanceLevel::Ignored,
            ImportanceUse::Optional => ImportanceLevel::Optional,
            ImportanceUse::Wanted => ImportanceLevel::Wanted,
            ImportanceUse::Required => ImportanceLevel::Required,
        },
    }
}

/// The family of a block type, by the names that llama.cpp gives its types.
fn family(dtype: DType) -> &'static str {
    match dtype.name() {
        _ if !dtype.is_quantized() => "",
        name if name.starts_with("MLX") => "MLX",
        "IQ4_NL" | "IQ4_XS" => "IQ (non-linear)",
        name if name.starts_with("IQ") => "IQ (grid)",
        name if name.starts_with("TQ") => "ternary",
        name if name.ends_with("FP4") => "4-bit floats",
        name if name.ends_with("_K") => "K-quant",
        name if name.ends_with("_1") => "round-to-nearest, with offset",
        _ => "round-to-nearest",
    }
}

fn preset(preset: Preset) -> PresetInfo {
    PresetInfo { preset, base: preset.base(), file_type: preset.file_type(), usual: USUAL.contains(&preset) }
}
