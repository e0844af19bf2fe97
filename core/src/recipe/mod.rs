//! Intent: what the user wants a checkpoint to become. Small, serialisable, without reference to any file.
//!
//! [`presets`] names the mixes, [`preset_rules`] holds what they give to whom, [`select`] applies a recipe to a model; [`rotation`] is
//! the wish for a rotation.

pub mod pattern;
pub mod preset_rules;
pub mod presets;
pub mod rotation;
pub mod select;
mod shared_text;

use crate::dtype::{DType, DTypeKind};
use crate::error::{Code, Error, Result};
use crate::format::Container;
use crate::model::tensor_role::{TensorRole, lattice_quantizes, role};
use crate::quant::{Encoding, encoder};
use crate::tensor::TensorInfo;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use presets::Preset;
use rotation::RotationOptions;
use select::TypeChoice;
use serde::{Deserialize, Serialize};

pub use shared_text::SharedText;

/// Whether lattice blocks store a minimum, or a bias of `-8 * scale`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Q4Scheme {
    /// Scale and minimum, 16 levels.
    #[default]
    Asym,
    /// Scale from the largest magnitude, 15 levels; what lattice writes for rotated tensors.
    Sym,
}

/// What to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The container to write.
    pub to: Container,
    /// The type of every eligible tensor; absent for `q4` and for a mix.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub dtype: Option<DType>,
    /// The named mix of types, in place of one type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "mix")]
    pub preset: Option<Preset>,
    /// Types for tensors by name; the first that finds a tensor decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// The type of the output head (and of embeddings that are both), whatever the mix says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_type: Option<DType>,
    /// The type of token embeddings, whatever the mix says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_type: Option<DType>,
    /// Leave the output head as it is.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub leave_output: bool,
    /// The lattice block form, for `q4`.
    #[serde(default)]
    pub q4_scheme: Q4Scheme,
    /// Take embeddings and the output head to the type as well.
    #[serde(default)]
    pub pure: bool,
    /// Decode sources that are quantized already, and quantize them again.
    #[serde(default)]
    pub allow_requantize: bool,
    /// Let NaN and infinities pass in tensors that are written as plain floats, and name them in a warning.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub allow_nonfinite: bool,
    /// Rotate before anything is encoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate: Option<RotationOptions>,
}

/// A type for the tensors that a pattern finds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// The pattern: see [`pattern`].
    pub pattern: String,
    /// The type.
    #[serde(rename = "type")]
    pub dtype: DType,
}

/// Why a tensor becomes what it becomes: a stable word and a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The stable word.
    pub code: &'static str,
    /// The sentence for people.
    pub text: SharedText,
}

/// What happens to one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Bytes are carried over as they are.
    Copy,
    /// Blocks are rearranged without loss.
    Transcode(DType),
    /// Values are decoded and encoded.
    Encode(Encoding),
}

/// A fate and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happens.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

fn decide(fate: Action, code: &'static str, text: impl Into<SharedText>) -> Decision {
    Decision { action: fate, reason: Reason { code, text: text.into() } }
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(Code::Usage, message)
}

impl Recipe {
    /// A recipe for `container` with everything else at its default.
    pub fn new(to: Container, dtype: Option<DType>) -> Recipe {
        Recipe {
            to,
            dtype,
            preset: None,
            overrides: Vec::new(),
            output_type: None,
            embedding_type: None,
            leave_output: false,
            q4_scheme: Q4Scheme::Asym,
            pure: false,
            allow_requantize: false,
            allow_nonfinite: false,
            rotate: None,
        }
    }

    /// A recipe for a GGUF file of the mix.
    pub fn of_preset(preset: Preset) -> Recipe {
        Recipe { preset: Some(preset), ..Recipe::new(Container::Gguf, None) }
    }

    /// Refuses a recipe that makes no sense, before any file is looked at.
    pub fn check(&self) -> Result<()> {
        self.overrides.iter().try_for_each(|o| pattern::Pattern::new(&o.pattern).map(|_| ()))?;
        let one_by_one =
            self.overrides.iter().map(|o| o.dtype).chain(self.output_type).chain(self.embedding_type);
        match (self.to, self.dtype, self.preset) {
            (_, Some(_), Some(_)) => return Err(usage("a recipe has one type or one mix, not both")),
            (Container::LatticeQ4, Some(t), _) => {
                return Err(usage(format!("the q4 container has one block form; leave out the type {t}")));
            }
            (Container::LatticeQ4, _, Some(mix)) => {
                return Err(usage(format!(
                    "the q4 container has one block form; leave out the recipe {mix}"
                )));
            }
            (Container::LatticeQ4, None, None) if one_by_one.clone().count() > 0 || self.leave_output => {
                return Err(usage(
                    "the q4 container has one block form; leave out the types of single tensors",
                ));
            }
            (Container::LatticeQ4, None, None) => return Ok(()),
            (Container::Safetensors, None, None) if self.rotate.is_some() => {}
            (_, None, None) => {
                return Err(usage("a type is needed, for example q4_0, or a recipe, for example q4_k_m"));
            }
            _ => {}
        }
        self.dtype
            .iter()
            .copied()
            .chain(self.preset.map(Preset::base))
            .chain(one_by_one)
            .try_for_each(|t| self.check_type(t))
    }

    fn check_type(&self, dtype: DType) -> Result<()> {
        match (self.to, dtype) {
            (Container::Safetensors, DType::F32 | DType::F16 | DType::BF16) => Ok(()),
            (Container::Safetensors, t) => {
                Err(usage(format!("safetensors output takes f32, f16 or bf16, not {t}")))
            }
            (_, t) if t.ggml_id().is_none() => Err(usage(format!("GGUF has no tensor type {t}"))),
            (_, t) if !can_target(t) => {
                Err(Error::new(Code::UnsupportedDtype, format!("encoding to {t} is not supported yet")))
            }
            _ => Ok(()),
        }
    }

    /// Whether anything but plain floats is asked for.
    pub fn quantizes(&self) -> bool {
        let wanted = self.dtype.or(self.preset.map(Preset::base));
        wanted.map_or(self.to == Container::LatticeQ4, DType::is_quantized)
    }

    /// What becomes of `tensor`, of which `aim` is wanted, or why it is refused.
    pub fn decide(&self, tensor: &TensorInfo, aim: TypeChoice) -> Result<Decision> {
        if self.to == Container::LatticeQ4 {
            return self.decide_q4(tensor, role(&tensor.name, &tensor.shape));
        }
        match aim {
            TypeChoice::Keep(reason) => self.keep(tensor, reason),
            TypeChoice::To(dtype, why) => {
                let decision = self.take(tensor, Encoding::Type(dtype))?;
                Ok(Decision { reason: both(why, decision.reason), ..decision })
            }
        }
    }

    /// Carries `tensor` over, widened where the container has no such dtype.
    fn keep(&self, tensor: &TensorInfo, reason: Reason) -> Result<Decision> {
        let held = match self.to {
            Container::Gguf => tensor.dtype.ggml_id().is_some(),
            _ => tensor.dtype.safetensors_name().is_some(),
        };
        if held {
            return Ok(Decision { action: Action::Copy, reason });
        }
        match tensor.dtype {
            // Both 8-bit floats fit bfloat16 exactly, subnormals included.
            DType::F8_E4M3 | DType::F8_E5M2 => {
                let text = format!("{}; stored as BF16, exactly", reason.text);
                Ok(decide(Action::Encode(Encoding::Type(DType::BF16)), reason.code, text))
            }
            d if d.is_quantized() => self.take(tensor, Encoding::Type(self.dtype.unwrap_or(DType::F32))),
            d => Err(unsupported(tensor, format!("{} cannot hold {d}", self.to.name()))),
        }
    }

    /// Takes `tensor` to `target`: by copy or transcode where nothing is lost, else by decoding and encoding.
    fn take(&self, tensor: &TensorInfo, target: Encoding) -> Result<Decision> {
        let (from, to) = (tensor.dtype, target.dtype());
        if from == to && !from.is_flat() {
            return Ok(decide(Action::Copy, "same_type", format!("is {to} already")));
        }
        let lossless = target != Encoding::LatticeSym && crate::quant::transcoder(from, to).is_some();
        // Few blocks with a minimum of their own are Q4_0 blocks: who allows requantizing does not want to be refused.
        let lossless = lossless && !(self.allow_requantize && to == DType::Q4_0);
        if lossless && tensor.shape.cols().is_multiple_of(from.block_len()) {
            return Ok(decide(
                Action::Transcode(to),
                "transcode",
                format!("{from} blocks rearranged without loss"),
            ));
        }
        if crate::quant::decoder(from).is_none() {
            return Err(unsupported(tensor, format!("{from} cannot be decoded yet")));
        }
        if encoder(target).is_none() {
            return Err(unsupported(tensor, format!("encoding to {target} is not supported yet")));
        }
        if from.is_quantized() && !self.allow_requantize {
            let message =
                format!("the source is {from} already; --allow-requantize decodes and encodes it again");
            return Err(Error::new(Code::Requantize, message).of_tensor(&tensor.name));
        }
        if from.is_quantized() {
            return Ok(decide(
                Action::Encode(target),
                "requantized",
                format!("{from} decoded, then encoded again"),
            ));
        }
        Ok(decide(Action::Encode(target), "weight", format!("weight with rows of {}", tensor.shape.cols())))
    }

    fn decide_q4(&self, tensor: &TensorInfo, role: TensorRole) -> Result<Decision> {
        if tensor.dtype.kind() == DTypeKind::Integer {
            return Err(unsupported(tensor, format!("q4 cannot hold {}", tensor.dtype)));
        }
        if !lattice_quantizes(role) {
            if tensor.dtype == DType::F16 {
                // Even a copy is checked: a reader of `.f16` refuses NaN and infinity.
                let text = format!("{} stays F16", role.words());
                return Ok(decide(Action::Encode(Encoding::F16Finite), "kept", text));
            }
            return match self.take(tensor, Encoding::F16Finite)? {
                Decision { action: fate, reason } if reason.code == "requantized" => {
                    Ok(Decision { action: fate, reason })
                }
                Decision { action: fate, .. } => {
                    Ok(decide(fate, "kept", format!("{} is stored as F16", role.words())))
                }
            };
        }
        if tensor.dtype == DType::LATTICE_Q4 {
            return Ok(decide(Action::Copy, "same_type", "is a lattice block already"));
        }
        match self.q4_scheme {
            Q4Scheme::Asym => self.take(tensor, Encoding::LatticeAsym),
            Q4Scheme::Sym => self.take(tensor, Encoding::LatticeSym),
        }
    }
}

/// Who asked for a type, and what is done to get there, where either says more than that it is a weight.
fn both(why: Reason, how: Reason) -> Reason {
    match (why.code, how.code) {
        (_, "weight") => why,
        ("weight", _) => how,
        _ => Reason { code: how.code, text: format!("{}; {}", why.text, how.text).into() },
    }
}

fn unsupported(tensor: &TensorInfo, message: String) -> Error {
    Error::new(Code::UnsupportedDtype, message).of_tensor(&tensor.name)
}

/// Whether weights may be taken to `dtype`: a plain float we write, or a block type we encode.
pub fn can_target(dtype: DType) -> bool {
    let sensible = dtype.is_quantized() || matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    sensible && dtype != DType::LATTICE_Q4 && encoder(Encoding::Type(dtype)).is_some()
}
