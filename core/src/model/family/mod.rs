//! Role of each tensor of a checkpoint in a rotation, by the tensor map of its architecture.
//!
//! Two rotations are known. R1 rotates the residual stream, `x' = Q x`: writers are rotated along their outputs, readers
//! take the gain of the norm before them and are rotated along their inputs. R2 rotates the values of each head and
//! rotates them back in the output projection. Roles follow from names ([`super::arch`]), never from sizes; a
//! tensor without a row is refused where it could lie on the stream. Knows names, shapes and the configuration, no values
//! and no matrix.

mod names;
mod resolve;
mod values;

pub use super::arch::NormForm;
pub use values::{HeadSpan, HeadsVerdict, ValueHeads};

use super::arch::{self, Arch, RotationFacts};

use super::config::{CONFIG, ConfigReader};
use super::json_file::JsonFile;
use crate::error::{Code, Error, Result};
use crate::tensor::TensorInfo;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::Value;

/// What rotations would do to a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct RotationRules {
    /// The family that the configuration is of.
    pub family: &'static str,
    /// Length of the residual stream.
    pub hidden: u64,
    /// Layers of the decoder.
    pub layers: u32,
    /// Whether the configuration ties the head to the embedding; a model whose stream was rotated must not. A head that the
    /// file stores all the same ([`RotationRules::untied_head`] is none) is the model's: transformers does not tie two tensors
    /// whose values differ.
    pub tied: bool,
    /// Whether R1 is exact, and with which rotations.
    pub stream: StreamVerdict,
    /// Whether R2 is exact, and where the heads lie.
    pub heads: HeadsVerdict,
    /// A part for each tensor, in their order.
    pub parts: Vec<RotationRoles>,
    /// The head that a tied model must be given for R1.
    pub untied_head: Option<UntiedHead>,
}

/// Whether a rotation of the stream leaves the model what it was.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamVerdict {
    /// Any rotation does.
    Any,
    /// One that leaves the vector of ones where it is: norms subtract the mean.
    FixesOnes,
    /// None does, and no tensor has a part.
    Refused {
        /// Why not.
        because: &'static str,
        /// The tensors that forbid it, sorted.
        blockers: Vec<String>,
    },
}

/// What becomes of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationRoles {
    /// In R1.
    pub stream: StreamRole,
    /// In R2.
    pub heads: Option<HeadRole>,
}

/// A tensor's part in R1. Tensors are named by their index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamRole {
    /// Stays, bit for bit.
    Untouched,
    /// Every vector along the axis is multiplied by `Q`.
    Embedding {
        /// The axis of the stream.
        axis: usize,
    },
    /// Every vector along the axis is multiplied by `Q`.
    Writer {
        /// The axis of the stream.
        axis: usize,
    },
    /// The gain of a norm is multiplied in along the axis, then every vector along it is multiplied by `Q`.
    Reader {
        /// The axis of the stream.
        axis: usize,
        /// The norm.
        fold: usize,
    },
    /// As a reader; its outputs are the logits.
    Head {
        /// The axis of the stream.
        axis: usize,
        /// The norm.
        fold: usize,
    },
    /// Folded into all that name it, then neutral everywhere.
    Norm {
        /// How its gain is stored.
        form: NormForm,
    },
    /// Divided by the gain of its norm, then multiplied by `Q`.
    NormBias {
        /// The norm's gain.
        of: usize,
    },
    /// Of a predictor of further tokens. It reads the stream through norms whose gains it shares with nobody, and shares
    /// embedding and head with the model: beside a rotated stream it predicts nothing, so it is left out.
    Mtp,
}

/// A tensor's part in R2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadRole {
    /// The axis along which the heads lie.
    pub axis: usize,
    /// Its layer: each has matrices of its own.
    pub layer: u32,
    /// On which side of the attention it stands.
    pub side: HeadSide,
}

/// A side of the attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadSide {
    /// Makes the values: [`ValueHeads::v_spans`] says where the heads lie.
    VProj,
    /// Reads them: [`ValueHeads::o_spans`] does.
    OProj,
}

/// A head that must be made of the embedding before the stream is rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UntiedHead {
    /// Its name.
    pub name: String,
    /// The embedding.
    pub source: usize,
    /// The norm before it.
    pub fold: usize,
}

/// What rotations would do to `tensors`, of a model with this `config.json`.
///
/// A rotation that is known but not exact is a verdict, not an error.
///
/// # Errors
///
/// `unsupported_rotation` if it is not known what they would do: no configuration, an unknown family or variant, a tensor that
/// no rule names and that could lie on the stream or on the values, a named one of another shape, a quantized one with a part,
/// a norm without readers, a layer or a counterpart that is missing.
pub fn rules(config: Option<&[u8]>, tensors: &[TensorInfo]) -> Result<RotationRules> {
    let config = config.ok_or_else(|| {
        refuse("there is no config.json, so it is not known which family the model is of".into())
    })?;
    let file = JsonFile::parse(CONFIG, config)?;
    let read = ConfigReader::of(&file);
    let (family, facts) = family(&read)?;
    has_a_head(&file)?;
    for needed in facts.required {
        let said = read.flag(needed.key).unwrap_or(needed.default);
        if said != needed.value {
            let (name, key) = (family.name, needed.key);
            let message = format!("the rules of {name} do not cover {key} = {said} (config.json)");
            return Err(refuse_by(&read, &[key], message));
        }
    }
    resolve::resolve(family, facts, &read, tensors)
}

/// The names of the architectures whose rotation rules are known, each once.
pub fn known() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    arch::all().filter(|a| a.rotation.is_some()).map(|a| a.name).filter(move |name| {
        let fresh = *name != last;
        last = name;
        fresh
    })
}

/// The architecture of the configuration, and its rotation facts.
fn family(read: &ConfigReader<'_>) -> Result<(&'static Arch, &'static RotationFacts)> {
    let model_type = read.text("model_type").unwrap_or("");
    let found = arch::find(model_type).and_then(|a| Some((a, a.rotation.as_ref()?)));
    found.ok_or_else(|| {
        let known = known().collect::<Vec<_>>().join(", ");
        let message = format!(
            "no rules are known for the family {model_type:?} (model_type of config.json); known: {known}"
        );
        refuse_by(read, &["model_type"], message)
    })
}

/// A model without a head hands out the stream itself, or what is made of it by something that we do not know.
fn has_a_head(config: &JsonFile<'_>) -> Result<()> {
    const HEADED: &[&str] = &["ForCausalLM", "LMHeadModel", "ForConditionalGeneration"];
    let Some(classes) = config.value.get("architectures").and_then(Value::as_array) else { return Ok(()) };
    let named = |class: &Value| class.as_str().is_some_and(|c| HEADED.iter().any(|h| c.ends_with(h)));
    if classes.is_empty() || classes.iter().any(named) {
        return Ok(());
    }
    let message = "no class under architectures in config.json has an output head";
    Err(config.error(Code::UnsupportedRotation, &["architectures"], message))
}

/// A refusal because of what `config.json` says under one of these keys, or does not say.
fn refuse_by(read: &ConfigReader<'_>, keys: &[&str], message: String) -> Error {
    read.error(Code::UnsupportedRotation, keys, message)
}

fn refuse(message: String) -> Error {
    Error::new(Code::UnsupportedRotation, message)
}
