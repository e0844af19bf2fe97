//! The tensors of a GGUF as llama.cpp's converter makes them of a Hugging Face checkpoint: names, order, shapes, and the
//! parts of source tensors that each is made of.
//!
//! [`rules`](super::arch::gguf_rules) of an architecture are data; this module applies them to names and shapes. Every
//! finding of a checkpoint is reported at once. Reads no values.

mod builder;
mod config_view;
mod generated;
mod inverse;
mod kept;
mod maps;
mod source_names;

pub use config_view::ConfigView;
pub use generated::generated as computed;
pub use inverse::{HfTensor, hf_tensors, is_generated};
pub use kept::{follows_outtype, kept_f32};

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

/// The tensors of a GGUF, and what was left out.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufTensors {
    /// The tensors in the order of the file.
    pub tensors: Vec<GgufTensor>,
    /// Source tensors of other parts of the model: vision and audio towers.
    pub towers: Vec<String>,
    /// Source tensors that a GGUF of the architecture does not have.
    pub dropped: Vec<String>,
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
/// `unsupported_dtype` if the checkpoint is quantized; `unmapped_tensors` with all findings: tensors without a name, incomplete stacks, missing layers, shapes that the
/// configuration contradicts.
pub fn gguf_tensors(arch: &'static Arch, config: &Value, tensors: &[TensorInfo]) -> Result<GgufTensors> {
    let quantized = ConfigView::new(config).get(&["quantization_config"]).and_then(|q| q.get("quant_method"));
    if let Some(method) = quantized.and_then(Value::as_str) {
        let message = format!(
            "the checkpoint is quantized already ({method}), which cannot be converted to a GGUF yet; \
             start from the original weights"
        );
        return Err(Error::new(Code::UnsupportedDtype, message));
    }
    let mut builder = builder::Builder::new(arch, ConfigView::new(config), tensors);
    builder.run();
    builder.finish()
}
