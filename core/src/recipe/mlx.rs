//! Recipes of MLX folders: the type of each tensor, as mlx-lm chooses it, and the mixed recipes of mlx-lm.
//!
//! Source: `quantize_model` and `mixed_quant_predicate_builder` of mlx-lm 0.32. Beside linear layers, embedding and head are
//! quantized; routers keep their precision here.

use super::select::{TensorEntry, TypeChoice, TypeChoices, asked, reason, uniform, unquantized, untouched};
use super::{Reason, Recipe, TargetName};
use crate::dtype::{DType, MlxFloat, MlxType};
use crate::error::{Code, Error, Result};
use crate::format::Checkpoint;
use crate::model::config::CONFIG;
use crate::model::json_file::JsonFile;
use crate::model::tensor_role::TensorRole;
use crate::tensor::TensorInfo;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A mixed recipe of mlx-lm: fewer bits for most weights, more for the head, and for values and down projections of some layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MlxMixed {
    low: u8,
    high: u8,
    group: u8,
}

impl MlxMixed {
    /// The recipes of mlx-lm, with its usual groups of 64 columns.
    pub const ALL: [MlxMixed; 4] = [
        MlxMixed { low: 4, high: 6, group: 64 },
        MlxMixed { low: 3, high: 6, group: 64 },
        MlxMixed { low: 3, high: 4, group: 64 },
        MlxMixed { low: 2, high: 6, group: 64 },
    ];

    /// The name, as it is typed: `mixed_4_6`, or `mixed_4_6_g32` with groups of 32 columns.
    pub fn name(self) -> String {
        let MlxMixed { low, high, group } = self;
        let group = if group == 64 { String::new() } else { format!("_g{group}") };
        format!("mixed_{low}_{high}{group}")
    }

    /// Parses a name, ignoring case; the inverse of [`MlxMixed::name`].
    ///
    /// # Errors
    ///
    /// [`Code::Usage`] for an unknown name.
    pub fn parse(text: &str) -> Result<MlxMixed> {
        let all = MlxMixed::ALL.into_iter().flat_map(|m| [32, 64, 128].map(|group| MlxMixed { group, ..m }));
        let lower = text.to_ascii_lowercase();
        let found = all.into_iter().find(|m| m.name() == lower);
        found.ok_or_else(|| Error::new(Code::Usage, format!("{text:?} is not a mixed recipe of mlx-lm")))
    }

    fn of(bits: u8, group: u8) -> DType {
        let of = MlxType::new(bits.into(), group.into(), MlxFloat::Bf16);
        // Every recipe above names a type that exists.
        of.map_or(DType::BF16, DType::MLX)
    }

    /// The type of most weights.
    pub fn low(self) -> DType {
        MlxMixed::of(self.low, self.group)
    }

    /// The type of the weights that get more bits.
    pub fn high(self) -> DType {
        MlxMixed::of(self.high, self.group)
    }
}

impl Serialize for MlxMixed {
    fn serialize<S: Serializer>(&self, s: S) -> core::result::Result<S::Ok, S::Error> {
        s.serialize_str(&self.name())
    }
}

impl<'de> Deserialize<'de> for MlxMixed {
    fn deserialize<D: Deserializer<'de>>(d: D) -> core::result::Result<MlxMixed, D::Error> {
        let text = <alloc::borrow::Cow<'de, str>>::deserialize(d)?;
        MlxMixed::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// The part of a configuration that the choice of types needs.
struct ModelFacts {
    /// Layers of the decoder.
    layers: Option<u64>,
    /// The float type that the model is stored in.
    float: MlxFloat,
}

impl ModelFacts {
    fn of(checkpoint: &Checkpoint) -> ModelFacts {
        let config =
            checkpoint.config.as_deref().and_then(|c| JsonFile::parse(CONFIG, c).ok()).map(|c| c.value);
        let get = |key: &str| config.as_ref()?.get(key);
        let named = ["dtype", "torch_dtype"].iter().find_map(|key| get(key)?.as_str());
        let float = match named {
            Some("float32") => MlxFloat::F32,
            Some("float16") => MlxFloat::F16,
            _ => MlxFloat::Bf16,
        };
        ModelFacts { layers: get("num_hidden_layers").and_then(Value::as_u64), float }
    }

    /// The type of the scales of a weight: its own float type; that of the model, where the weight has none.
    fn float_of(&self, tensor: &TensorInfo) -> MlxFloat {
        match tensor.dtype {
            DType::F64 => MlxFloat::F32,
            dtype if tensor.packed.is_none() => MlxFloat::of(dtype).unwrap_or(self.float),
            _ => self.float,
        }
    }
}

/// The choices for each of `entries`, in their order.
///
/// # Errors
///
/// `usage` if a mixed recipe needs what the model does not have.
pub(super) fn choices(
    recipe: &Recipe,
    checkpoint: &Checkpoint,
    entries: &[TensorEntry<'_>],
) -> Result<Vec<TypeChoice>> {
    let Some(mixed) = recipe.mixed else {
        return Ok(entries.iter().map(|entry| single(recipe, entry)).collect());
    };
    let layers = ModelFacts::of(checkpoint).layers;
    let down = entries.iter().any(|entry| entry.tensor.name.contains("down_proj") || is_expert_down(entry));
    let Some(layers) = layers.filter(|_| down) else {
        let what = if down { "num_hidden_layers in config.json" } else { "down_proj weights" };
        let message = format!("{} needs a model with {what}", mixed.name());
        return Err(Error::new(Code::Usage, message));
    };
    Ok(entries.iter().map(|entry| mixed_choice(recipe, mixed, layers, entry)).collect())
}

/// Whether an entry is the down projection of an expert that the checkpoint calls `w2`.
fn is_expert_down(entry: &TensorEntry<'_>) -> bool {
    entry.tensor.name.contains(".experts.") && entry.tensor.name.ends_with(".w2.weight")
}

/// Whether there is something to quantize: MLX has no groups of an empty weight.
fn is_empty(entry: &TensorEntry<'_>) -> Option<Reason> {
    (entry.tensor.shape.numel() == 0).then(|| reason("vector", "no weights: keeps its type"))
}

/// One type for all: as for other targets, but embedding and head are quantized too.
fn single(recipe: &Recipe, entry: &TensorEntry<'_>) -> TypeChoice {
    let ends = matches!(entry.role, TensorRole::Embedding | TensorRole::Output);
    let choice = match is_empty(entry) {
        Some(why) => TypeChoice::Keep(why),
        None => uniform(recipe, entry),
    };
    match (recipe.dtype, choice) {
        (Some(dtype), TypeChoice::Keep(why)) if ends && matches!(why.code, "embedding" | "output") => {
            match asked(recipe, entry) {
                Some(choice) => choice,
                None => {
                    TypeChoice::To(dtype, reason("weight", "embedding or head: quantized as the layers are"))
                }
            }
        }
        (_, choice) => choice,
    }
}

/// The type that a mixed recipe gives to a weight.
fn mixed_choice(recipe: &Recipe, mixed: MlxMixed, layers: u64, entry: &TensorEntry<'_>) -> TypeChoice {
    if let Some(why) = is_empty(entry).or_else(|| untouched(entry)).or_else(|| unquantized(entry)) {
        return TypeChoice::Keep(why);
    }
    if let Some(choice) = asked(recipe, entry) {
        return choice;
    }
    let name = entry.tensor.name.as_str();
    let layer = name.split('.').find_map(|part| part.parse::<u64>().ok()).unwrap_or(0);
    let eighth = layers / 8;
    let more = layer < eighth || layer >= layers.saturating_mul(7) / 8 || (layer - eighth) % 3 == 2;
    let values = ["v_proj", "v_a_proj", "v_b_proj"].iter().any(|part| name.contains(part));
    let down = name.contains("down_proj") || is_expert_down(entry);
    let head = entry.role == TensorRole::Output;
    if !recipe.pure && (head || (more && (values || down))) {
        let part = if head {
            "the head"
        } else if values {
            "values"
        } else {
            "down projections"
        };
        let here = if head { "" } else { " in this layer" };
        return TypeChoice::To(mixed.high(), reason("mix", format!("more bits for {part}{here}")));
    }
    TypeChoice::To(mixed.low(), reason("mix", format!("default of {}", mixed.name())))
}

/// Gives each MLX type the float type of its weight.
pub(super) fn set_floats(recipe: &Recipe, checkpoint: &Checkpoint, all: &mut TypeChoices) {
    if recipe.to != TargetName::Mlx {
        return;
    }
    let facts = ModelFacts::of(checkpoint);
    for (tensor, choice) in checkpoint.tensors.iter().zip(&mut all.choices) {
        if let TypeChoice::To(DType::MLX(of), _) = choice {
            *of = of.with_float(facts.float_of(tensor));
        }
    }
}

/// The names of all mixed recipes, for messages.
pub fn mixed_names() -> String {
    MlxMixed::ALL.map(|m| m.name().to_string()).join(", ")
}
