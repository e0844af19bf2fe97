//! Intent: what the user wants a checkpoint to become. Small, serialisable, without reference to any file.

use crate::dtype::{DType, Kind};
use crate::error::{Code, Error, Result};
use crate::format::Container;
use crate::model::role::{Role, lattice_quantizes, role};
use crate::quant::{Encoding, Importance, encoder};
use crate::tensor::TensorInfo;
use alloc::format;
use alloc::string::String;
use serde::{Deserialize, Serialize};

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
    /// The type of every eligible tensor; absent for `q4`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub dtype: Option<DType>,
    /// The lattice block form, for `q4`.
    #[serde(default)]
    pub q4_scheme: Q4Scheme,
    /// Take embeddings and the output head to the type as well.
    #[serde(default)]
    pub pure: bool,
    /// Decode sources that are quantized already, and quantize them again.
    #[serde(default)]
    pub allow_requantize: bool,
}

/// Why a tensor becomes what it becomes: a stable word and a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The stable word.
    pub code: &'static str,
    /// The sentence for people.
    pub text: String,
}

/// What happens to one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
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
    pub fate: Fate,
    /// Why.
    pub reason: Reason,
}

fn decide(fate: Fate, code: &'static str, text: impl Into<String>) -> Decision {
    Decision { fate, reason: Reason { code, text: text.into() } }
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(Code::Usage, message)
}

impl Recipe {
    /// A recipe for `container` with everything else at its default.
    pub fn new(to: Container, dtype: Option<DType>) -> Recipe {
        Recipe { to, dtype, q4_scheme: Q4Scheme::Asym, pure: false, allow_requantize: false }
    }

    /// Refuses a recipe that makes no sense, before any file is looked at.
    pub fn check(&self) -> Result<()> {
        match (self.to, self.dtype) {
            (Container::LatticeQ4, Some(t)) => {
                Err(usage(format!("the q4 container has one block form; leave out the type {t}")))
            }
            (Container::LatticeQ4, None) => Ok(()),
            (_, None) => Err(usage("a type is needed, for example q4_0")),
            (Container::Safetensors, Some(DType::F32 | DType::F16 | DType::BF16)) => Ok(()),
            (Container::Safetensors, Some(t)) => {
                Err(usage(format!("safetensors output takes f32, f16 or bf16, not {t}")))
            }
            (Container::Gguf, Some(t)) if t.ggml_id().is_none() => {
                Err(usage(format!("GGUF has no tensor type {t}")))
            }
            (Container::Gguf, Some(t)) if !can_target(t) => {
                Err(Error::new(Code::UnsupportedDtype, format!("encoding to {t} is not supported yet")))
            }
            (Container::Gguf, Some(t)) if Encoding::Type(t).importance() == Importance::Required => {
                let message =
                    format!("encoding to {t} needs an importance matrix, which cannot be given yet");
                Err(Error::new(Code::NeedsImportance, message))
            }
            (Container::Gguf, Some(_)) => Ok(()),
        }
    }

    /// What becomes of `tensor`, or why it is refused.
    pub fn decide(&self, tensor: &TensorInfo) -> Result<Decision> {
        let role = role(&tensor.name, &tensor.shape);
        let wanted = match self.to {
            Container::LatticeQ4 => return self.decide_q4(tensor, role),
            _ => self.dtype.unwrap_or(tensor.dtype),
        };
        match self.keep_reason(tensor, role, wanted) {
            Some(reason) => self.keep(tensor, reason),
            None => self.take(tensor, Encoding::Type(wanted)),
        }
    }

    /// Why `tensor` is not taken to `wanted`, if it is not.
    fn keep_reason(&self, tensor: &TensorInfo, role: Role, wanted: DType) -> Option<Reason> {
        let cols = tensor.shape.cols();
        let block = wanted.block_len();
        let (code, text): (&str, String) = match role {
            _ if tensor.dtype.kind() == Kind::Integer => ("integer", "holds no weights".into()),
            Role::Norm => ("norm", "normalisation keeps its precision".into()),
            Role::Bias => ("bias", "bias keeps its precision".into()),
            Role::Vector => ("vector", "one axis or none: keeps its precision".into()),
            Role::Router => ("router", "router keeps its precision".into()),
            Role::Positional => ("positional", "positional table keeps its precision".into()),
            Role::Conv => ("conv", "convolution kernel keeps its precision".into()),
            Role::Other => ("not_a_weight", "not named as a weight: keeps its precision".into()),
            Role::Embedding if wanted.is_quantized() && !self.pure => {
                ("embedding", "embedding keeps its precision (--pure takes it too)".into())
            }
            Role::Output if wanted.is_quantized() && !self.pure => {
                ("output", "output head keeps its precision (--pure takes it too)".into())
            }
            _ if !cols.is_multiple_of(block) => {
                ("row_not_divisible", format!("a row of {cols} does not divide by the block of {block}"))
            }
            _ => return None,
        };
        Some(Reason { code, text })
    }

    /// Carries `tensor` over, widened where the container has no such dtype.
    fn keep(&self, tensor: &TensorInfo, reason: Reason) -> Result<Decision> {
        let held = match self.to {
            Container::Gguf => tensor.dtype.ggml_id().is_some(),
            _ => tensor.dtype.safetensors_name().is_some(),
        };
        if held {
            return Ok(Decision { fate: Fate::Copy, reason });
        }
        match tensor.dtype {
            // Both 8-bit floats fit bfloat16 exactly, subnormals included.
            DType::F8_E4M3 | DType::F8_E5M2 => {
                let text = format!("{}; stored as BF16, exactly", reason.text);
                Ok(decide(Fate::Encode(Encoding::Type(DType::BF16)), reason.code, text))
            }
            d if d.is_quantized() => self.take(tensor, Encoding::Type(self.dtype.unwrap_or(DType::F32))),
            d => Err(unsupported(tensor, format!("{} cannot hold {d}", self.to.name()))),
        }
    }

    /// Takes `tensor` to `target`: by copy or transcode where nothing is lost, else by decoding and encoding.
    fn take(&self, tensor: &TensorInfo, target: Encoding) -> Result<Decision> {
        let (from, to) = (tensor.dtype, target.dtype());
        if from == to && !from.is_flat() {
            return Ok(decide(Fate::Copy, "same_type", format!("is {to} already")));
        }
        let lossless = target != Encoding::LatticeSym && crate::quant::transcoder(from, to).is_some();
        // Few blocks with a minimum of their own are Q4_0 blocks: who allows requantizing does not want to be refused.
        let lossless = lossless && !(self.allow_requantize && to == DType::Q4_0);
        if lossless && tensor.shape.cols().is_multiple_of(from.block_len()) {
            return Ok(decide(
                Fate::Transcode(to),
                "transcode",
                format!("{from} blocks rearranged without loss"),
            ));
        }
        if crate::quant::decoder(from).is_none() {
            return Err(unsupported(tensor, format!("{from} cannot be decoded yet")));
        }
        if from.is_quantized() && !self.allow_requantize {
            let message =
                format!("the source is {from} already; --allow-requantize decodes and encodes it again");
            return Err(Error::new(Code::Requantize, message).of_tensor(&tensor.name));
        }
        if from.is_quantized() {
            return Ok(decide(
                Fate::Encode(target),
                "requantized",
                format!("{from} decoded, then encoded again"),
            ));
        }
        Ok(decide(Fate::Encode(target), "weight", format!("weight with rows of {}", tensor.shape.cols())))
    }

    fn decide_q4(&self, tensor: &TensorInfo, role: Role) -> Result<Decision> {
        if tensor.dtype.kind() == Kind::Integer {
            return Err(unsupported(tensor, format!("q4 cannot hold {}", tensor.dtype)));
        }
        if !lattice_quantizes(role) {
            if tensor.dtype == DType::F16 {
                // Even a copy is checked: a reader of `.f16` refuses NaN and infinity.
                let text = format!("{} stays F16", role.words());
                return Ok(decide(Fate::Encode(Encoding::F16Finite), "kept", text));
            }
            return match self.take(tensor, Encoding::F16Finite)? {
                Decision { fate, reason } if reason.code == "requantized" => Ok(Decision { fate, reason }),
                Decision { fate, .. } => {
                    Ok(decide(fate, "kept", format!("{} is stored as F16", role.words())))
                }
            };
        }
        if tensor.dtype == DType::LATTICE_Q4 {
            return Ok(decide(Fate::Copy, "same_type", "is a lattice block already"));
        }
        match self.q4_scheme {
            Q4Scheme::Asym => self.take(tensor, Encoding::LatticeAsym),
            Q4Scheme::Sym => self.take(tensor, Encoding::LatticeSym),
        }
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
