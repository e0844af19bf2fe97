//! The tensors of a GGUF as llama.cpp's converter makes them of a Hugging Face checkpoint: names, order, shapes, and the
//! parts of source tensors that each is made of.
//!
//! [`rules`](super::arch::gguf_rules) of an architecture are data; this module applies them to names and shapes. Every
//! finding of a checkpoint is reported at once. Reads no values.

mod builder;
mod config_view;
mod fuse;
mod generated;
mod inverse;
mod kept;
mod layers;
mod lengths;
mod maps;
mod source_names;

pub use config_view::ConfigView;
pub use generated::generated as computed;
pub use inverse::{HfTensor, hf_tensors, is_generated};
pub use kept::{follows_outtype, kept_f32};

use super::arch::gguf_rules::BeyondRule;
use super::arch::{self, Arch};
use crate::error::{Code, Error, Result};
use crate::tensor::{Shape, TensorInfo};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::Value;

/// A tensor of a GGUF.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufTensor {
    /// The GGUF name.
    pub name: String,
    /// The shape, outermost axis first.
    pub shape: Shape,
    /// Columns of the grid that `parts` fill; its rows are those of the parts together.
    pub cols: u64,
    /// The sources of its rows, in order.
    pub parts: Vec<Part>,
    /// What happens to every value.
    pub step: ValueStep,
    /// The values of a tensor without a source; `parts` is empty then.
    pub generated: Vec<f32>,
}

/// Consecutive rows of a [`GgufTensor`] that come from one source tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Index of the source in the checkpoint's tensors.
    pub source: usize,
    /// Rows of the GGUF tensor that it fills.
    pub rows: u64,
    /// The place in the source.
    pub view: View,
}

/// A place in a source tensor, which is seen as a matrix of `cols` columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The first row of the matrix.
    pub row: u64,
    /// The first column.
    pub col: u64,
    /// Columns of the matrix.
    pub cols: u64,
    /// The order of the elements.
    pub order: Order,
}

/// The order of the elements of a [`View`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Rows stay rows.
    Rows,
    /// Rows, with the halves of each head of `head` rows interleaved.
    Permute {
        /// Rows of a head.
        head: u64,
    },
    /// Row `r` is column `col + r * step` of the source.
    Transpose {
        /// Columns from one row to the next.
        step: u64,
    },
    /// Rows, with columns `[outer, inner, width]` as `[inner, outer, width]`.
    SwapColumns {
        /// Length of the outer axis in the source.
        outer: u64,
        /// Length of the inner axis in the source.
        inner: u64,
        /// Columns that stay together.
        width: u64,
    },
}

/// What happens to every value of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueStep {
    /// Nothing.
    None,
    /// 1 is added.
    AddOne,
    /// `-exp(x)`.
    NegExp,
}

/// Options of the mapping, with the names of llama.cpp's converter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GgufTensorOptions {
    /// Whether the layers of a multi-token predictor are left out.
    pub no_mtp: bool,
    /// Whether query, key and value projections become one tensor, where the architecture has it.
    pub fuse_qkv: bool,
    /// Whether the gate and up projections of experts become one tensor.
    pub fuse_gate_up_exps: bool,
}

/// The tensors of a GGUF, and what was left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufTensors {
    /// The tensors in the order of the file.
    pub tensors: Vec<GgufTensor>,
    /// Source tensors of other parts of the model: vision and audio towers.
    pub towers: Vec<String>,
    /// Source tensors that a GGUF of the architecture does not have.
    pub dropped: Vec<String>,
    /// Options without an effect, in words.
    pub notes: Vec<String>,
    /// Blocks with tensors: those of the model and of its predictors.
    pub blocks: u64,
}

/// Whether `config` is the configuration of a model: it names an architecture, or is Mistral's `params.json`.
pub fn is_configuration(config: &Value) -> bool {
    let view = ConfigView::new(config);
    view.class().is_some() || view.model_type().is_some() || is_mistral_format(config)
}

/// Whether `config` is Mistral's `params.json`.
fn is_mistral_format(config: &Value) -> bool {
    let has = |key: &str| config.get(key).is_some_and(Value::is_u64);
    has("dim") && has("n_layers") && has("n_heads") && config.get("architectures").is_none()
}

/// The architecture whose rules convert a checkpoint with this `config.json`.
///
/// # Errors
///
/// `unsupported_architecture`, with the name, if there are no rules.
pub fn convertible(config: &Value) -> Result<&'static Arch> {
    let view = ConfigView::new(config);
    let class = view.class().unwrap_or("");
    let by_class = arch::all().find(|a| a.gguf_rules.classes.contains(&class));
    let model_type = view.model_type().unwrap_or("");
    let format = config.get("llama_4_scaling").map_or("llama", |_| "mistral3");
    let mistral = || arch::of_gguf(format).find(|a| a.name == arch::MISTRAL_FORMAT);
    if is_mistral_format(config)
        && let Some(arch) = mistral()
    {
        return Ok(arch);
    }
    let found = by_class.or_else(|| arch::find(model_type)).filter(|a| a.gguf_rules.known);
    found.filter(|a| a.gguf.is_some()).ok_or_else(|| {
        let name = if class.is_empty() { model_type } else { class };
        let message = format!(
            "the architecture {name:?} cannot be converted to a GGUF that engines load; --names source keeps the \
             tensors' own names, and --to safetensors or --to hf writes the model for transformers"
        );
        Error::new(Code::UnsupportedArchitecture, message)
    })
}

/// Maps the tensors of a checkpoint of `arch` with this `config.json` to those of a GGUF.
///
/// # Errors
///
/// `unsupported_dtype` if the checkpoint is quantized in a form that is not decoded; `unsupported_architecture` if it has no predictor to leave out, or
/// no tensor of the fused experts; `unmapped_tensors` with all findings: tensors without a name, incomplete stacks, missing layers, shapes that the
/// configuration contradicts.
pub fn gguf_tensors(
    arch: &'static Arch,
    config: &Value,
    tensors: &[TensorInfo],
    options: GgufTensorOptions,
) -> Result<GgufTensors> {
    check_options(arch, options)?;
    let quantized = ConfigView::new(config).get(&["quantization_config"]).and_then(|q| q.get("quant_method"));
    let packed = tensors.iter().any(|t| t.packed.is_some());
    if let Some(method) = quantized.and_then(Value::as_str).filter(|_| !packed) {
        let message = format!(
            "the checkpoint is quantized already ({method}), which cannot be converted to a GGUF yet; \
             start from the original weights"
        );
        return Err(Error::new(Code::UnsupportedDtype, message));
    }
    let mut builder = builder::Builder::new(arch, ConfigView::new(config), tensors, options);
    builder.run();
    fused(arch, builder.finish()?, options)
}

/// Refuses options that the architecture has nothing for.
fn check_options(arch: &Arch, options: GgufTensorOptions) -> Result<()> {
    let name = arch.gguf.unwrap_or(arch.name);
    let message = match () {
        () if options.no_mtp && arch.gguf_rules.beyond == BeyondRule::Refused => {
            format!("--no-mtp: the architecture {name:?} has no multi-token predictor")
        }
        () if options.fuse_gate_up_exps && !fuse::has_gate_up_exps(name) => {
            format!("--fuse-gate-up-exps: the architecture {name:?} has no tensor ffn_gate_up_exps in a GGUF")
        }
        () => return Ok(()),
    };
    Err(Error::new(Code::UnsupportedArchitecture, message))
}

/// The tensors with those fused that `options` names.
fn fused(arch: &Arch, made: GgufTensors, options: GgufTensorOptions) -> Result<GgufTensors> {
    let refuse = |why| Error::new(Code::UnmappedTensors, why);
    let name = arch.gguf.unwrap_or(arch.name);
    let GgufTensors { mut tensors, mut notes, .. } = made;
    match options.fuse_qkv {
        true if fuse::has_qkv(name) => tensors = fuse::qkv(tensors).map_err(refuse)?,
        true => notes.push(format!(
            "--fuse-qkv has no effect: the architecture {name:?} has no tensor attn_qkv in a GGUF"
        )),
        false => {}
    }
    if options.fuse_gate_up_exps {
        tensors = fuse::gate_up_exps(tensors).map_err(refuse)?;
    }
    Ok(GgufTensors { tensors, notes, ..made })
}
