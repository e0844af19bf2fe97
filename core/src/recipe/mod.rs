//! Intent: what a checkpoint is to become. Small, serialisable, without reference to any file.
//!
//! [`presets`] names the presets of llama-quantize, [`preset_rules`] holds the type that each of them gives to a tensor,
//! [`select`] applies a recipe to a model, [`rotation`] holds the rotation options. Knows targets by name only.

mod gguf_options;
pub mod key_value;
mod mlx;
pub mod pattern;
pub mod preset_rules;
pub mod presets;
pub mod rotation;
pub mod select;
mod shared_text;
mod split_options;
mod target_name;
pub mod tensor_filter;

use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::format::Container;
use crate::quant::{Encoding, has_decoder, has_encoder};
use crate::tensor::TensorInfo;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use presets::Preset;
use rotation::RotationOptions;
use serde::{Deserialize, Serialize};

pub use gguf_options::GgufOptions;
pub use mlx::{MlxMixed, mixed_names};
pub use shared_text::SharedText;
pub use split_options::SplitOptions;
pub use target_name::TargetName;
use tensor_filter::TensorFilter;

/// The form of lattice blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Q4Scheme {
    /// Scale and minimum, 16 levels.
    #[default]
    Asym,
    /// Scale from the largest magnitude and a minimum of `-8 * scale`, 15 levels; lattice's form for rotated tensors.
    Sym,
}

/// The options of a conversion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The target.
    pub to: TargetName,
    /// The type of every eligible tensor; absent for lattice and for a preset.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub dtype: Option<DType>,
    /// The preset, in place of one type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "mix")]
    pub preset: Option<Preset>,
    /// The mixed recipe of mlx-lm, in place of one type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixed: Option<MlxMixed>,
    /// Types of tensors by name; the first pattern that matches decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// Patterns of the tensors that are written; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Patterns of the tensors that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Whether an override that finds no tensor, or does not fit one, is a warning instead of an error.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub lenient: bool,
    /// The type of the output head (and of embeddings that are both), whatever the preset gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_type: Option<DType>,
    /// The type of token embeddings, whatever the preset gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_type: Option<DType>,
    /// Keep the precision of the output head.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub leave_output: bool,
    /// The form of lattice blocks.
    #[serde(default)]
    pub q4_scheme: Q4Scheme,
    /// Encode embeddings and the output head as the type too.
    #[serde(default)]
    pub pure: bool,
    /// Decode sources that are quantized already, and quantize them again.
    #[serde(default)]
    pub allow_requantize: bool,
    /// Write NaN and infinities in plain floats, and count them in a warning.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub allow_nonfinite: bool,
    /// The rotation before anything is encoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate: Option<RotationOptions>,
    /// Tensor names and values of a GGUF that is made of a Hugging Face checkpoint.
    #[serde(default, skip_serializing_if = "TensorNaming::is_auto")]
    pub names: TensorNaming,
    /// Leave out the keys that only Quantoscope writes: the file is llama.cpp's, byte for byte.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub compat: bool,
    /// The name of the pre-tokenizer, whatever the tokenizer's files say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_tokenizer: Option<String>,
    /// Options of a GGUF.
    #[serde(default, skip_serializing_if = "GgufOptions::is_default")]
    pub gguf: GgufOptions,
    /// The files of the output.
    #[serde(default, skip_serializing_if = "SplitOptions::is_none")]
    pub split: SplitOptions,
}

/// The tensor names of a GGUF that is made of a Hugging Face checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TensorNaming {
    /// GGUF names if the source has a tokenizer, so that engines can load the file; else those of the source.
    #[default]
    Auto,
    /// GGUF names, with the values as engines expect them.
    Gguf,
    /// The names and values of the source: no engine loads the file.
    Source,
}

impl TensorNaming {
    /// Whether the source decides.
    pub fn is_auto(&self) -> bool {
        *self == TensorNaming::Auto
    }
}

/// A type for the tensors that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// The pattern: see [`pattern`].
    pub pattern: String,
    /// The type.
    #[serde(rename = "type")]
    pub dtype: DType,
}

/// The reason for the type of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The stable code.
    pub code: &'static str,
    /// The sentence for people.
    pub text: SharedText,
}

/// What happens to one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Its bytes are copied.
    Copy,
    /// Its blocks are rearranged without loss.
    Transcode(DType),
    /// Its values are decoded and encoded.
    Encode(Encoding),
}

/// An action and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The action.
    pub action: Action,
    /// The reason, which neighbouring tensors share.
    pub reason: Arc<Reason>,
}

impl Recipe {
    /// Whether the conversion reads the files beside the weights: see
    /// [`Opening::with_companions`](crate::format::Opening::with_companions).
    pub fn reads_companions(&self) -> bool {
        self.to == TargetName::Gguf && self.names != TensorNaming::Source
    }

    /// A recipe for this target with everything else at its default.
    pub fn new(to: impl Into<TargetName>, dtype: Option<DType>) -> Recipe {
        Recipe {
            to: to.into(),
            dtype,
            preset: None,
            mixed: None,
            overrides: Vec::new(),
            include: Vec::new(),
            exclude: Vec::new(),
            lenient: false,
            output_type: None,
            embedding_type: None,
            leave_output: false,
            q4_scheme: Q4Scheme::Asym,
            pure: false,
            allow_requantize: false,
            allow_nonfinite: false,
            rotate: None,
            names: TensorNaming::Auto,
            compat: false,
            pre_tokenizer: None,
            gguf: GgufOptions::default(),
            split: SplitOptions::default(),
        }
    }

    /// A recipe for a GGUF file with a preset.
    pub fn of_preset(preset: Preset) -> Recipe {
        Recipe { preset: Some(preset), ..Recipe::new(Container::Gguf, None) }
    }

    /// Every type that the recipe names, that of the preset included.
    pub fn types(&self) -> impl Iterator<Item = DType> {
        let mixed = self.mixed.into_iter().flat_map(|mixed| [mixed.low(), mixed.high()]);
        let base = self.dtype.into_iter().chain(self.preset.map(Preset::base)).chain(mixed);
        let single = self.overrides.iter().map(|o| o.dtype);
        base.chain(single).chain(self.output_type).chain(self.embedding_type)
    }

    /// The tensors that are written.
    ///
    /// # Errors
    ///
    /// `usage` if a pattern is malformed.
    pub fn filter(&self) -> Result<TensorFilter> {
        TensorFilter::new(&self.include, &self.exclude)
    }

    /// Whether any tensor may be quantized.
    pub fn quantizes(&self) -> bool {
        let named = self.dtype.or(self.preset.map(Preset::base)).or(self.mixed.map(MlxMixed::low));
        let base = named.or(self.to.only_block_type());
        base.is_some_and(DType::is_quantized)
    }

    /// The action that stores `tensor` as `target`: a copy or a transcode if nothing is lost, else decoding and encoding.
    ///
    /// # Errors
    ///
    /// `unsupported_dtype` if a type cannot be decoded or encoded, `requantize` if the source is quantized and the recipe
    /// does not allow to quantize it again.
    pub fn take(&self, tensor: &TensorInfo, target: Encoding) -> Result<Decision> {
        let decide = |action, code, text: String| {
            Ok(Decision { action, reason: Reason { code, text: text.into() }.into() })
        };
        let (from, to) = (tensor.dtype, target.dtype());
        let whole = !from.is_flat() && (tensor.packed.is_none() || from.is_quantized());
        if from == to && (whole || !has_decoder(from)) {
            return decide(Action::Copy, "same_type", format!("is {to} already"));
        }
        if self.transcodes(tensor, target) {
            let text = format!("{from} blocks rearranged without loss");
            return decide(Action::Transcode(to), "transcode", text);
        }
        if !has_decoder(from) {
            return Err(unsupported(tensor, format!("{from} can only be kept: it cannot be decoded yet")));
        }
        if !has_encoder(target) {
            return Err(unsupported(tensor, format!("encoding to {target} is not supported yet")));
        }
        let stored = tensor.packed.as_ref().map_or(from.name().into(), |packed| packed.label());
        if tensor.is_quantized() && !self.allow_requantize {
            let message =
                format!("quantized already ({stored}); --allow-requantize decodes and encodes it again");
            return Err(Error::new(Code::Requantize, message).of_tensor(&tensor.name));
        }
        if tensor.is_quantized() {
            let text = format!("{stored} decoded, then encoded again");
            return decide(Action::Encode(target), "requantized", text);
        }
        if tensor.packed.is_some() {
            return decide(Action::Encode(target), "decoded", format!("{stored} decoded"));
        }
        decide(Action::Encode(target), "weight", format!("weight matrix, {} per row", tensor.shape.cols()))
    }

    /// Whether the blocks of `tensor` are rearranged into `target` without loss.
    fn transcodes(&self, tensor: &TensorInfo, target: Encoding) -> bool {
        let (from, to) = (tensor.dtype, target.dtype());
        // Lattice blocks with a minimum of their own are no Q4_0 blocks: allowing requantization avoids the refusal.
        target != Encoding::LatticeSym
            && crate::quant::transcoder(from, to).is_some()
            && !(self.allow_requantize && from == DType::LATTICE_Q4 && to == DType::Q4_0)
            && tensor.shape.cols().is_multiple_of(from.block_len())
    }
}

/// The error that names a tensor whose type cannot be handled.
pub(crate) fn unsupported(tensor: &TensorInfo, message: String) -> Error {
    Error::new(Code::UnsupportedDtype, message).of_tensor(&tensor.name)
}

/// Whether weights may be encoded as `dtype`: a plain float that can be written, or a block type with an encoder.
pub fn can_target(dtype: DType) -> bool {
    let sensible = dtype.is_quantized() || matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    sensible && dtype != DType::LATTICE_Q4 && has_encoder(Encoding::Type(dtype))
}
