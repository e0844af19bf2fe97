//! One row of an architecture's tensor map: the Hugging Face name, the module, and the role in a rotation.
//!
//! Names stand without the decoder's prefix (`model.`) and without `.weight` and `.bias`. Knows no architecture.

use super::module::Module;
use crate::model::tensor_id::TensorPart;

/// Role of a module in the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamSide {
    /// A table of vectors that are added to the stream, one a row.
    Embedding,
    /// Reads the stream through this norm.
    Reads(Module),
    /// Its outputs are added to the stream.
    Writes,
    /// Normalises the stream.
    Norm,
    /// Has a gain on what a branch adds to the stream: no rotation is exact.
    PreventsRotation,
    /// Has no axis on the stream.
    Untouched,
    /// Not covered by the rotation rules of the architecture.
    Unknown,
}

/// How a row's name continues in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameForm {
    /// A module: `.weight` or `.bias` follows.
    Module,
    /// The name of a tensor, which is this part; the bias of a weight has `_bias` appended.
    Tensor(TensorPart),
}

/// One row of a tensor map.
#[derive(Clone, Copy, Debug)]
pub struct TensorMapRow {
    /// The module.
    pub module: Module,
    /// The path before the layer number (`layers`); empty outside of layers.
    pub folder: &'static str,
    /// The path behind the layer number; `{expert}` stands for the index in a stack.
    pub tail: &'static str,
    /// How the name continues.
    pub form: NameForm,
    /// GGUF names where the architecture has others than [`Module::gguf`].
    pub gguf: Option<&'static [&'static str]>,
    /// Role in a rotation of the residual stream.
    pub side: StreamSide,
    /// The axis of the stream, where it is not the usual one: the last of readers, the first of writers.
    pub axis: Option<usize>,
}

/// Stands for all of [`LAYER_FOLDERS`].
pub const ANY_FOLDER: &str = "*";
/// The paths before layer numbers of decoders.
pub const LAYER_FOLDERS: [&str; 3] = ["layers", "h", "blocks"];

/// A module of the layers `layers.N`.
pub const fn layer(module: Module, tail: &'static str) -> TensorMapRow {
    TensorMapRow { folder: "layers", ..root(module, tail) }
}

/// A module outside of layers.
pub const fn root(module: Module, tail: &'static str) -> TensorMapRow {
    TensorMapRow {
        module,
        folder: "",
        tail,
        form: NameForm::Module,
        gguf: None,
        side: usual_side(module),
        axis: None,
    }
}

/// A module of the layers under another path than `layers`.
pub const fn within(folder: &'static str, module: Module, tail: &'static str) -> TensorMapRow {
    TensorMapRow { folder, ..root(module, tail) }
}

impl TensorMapRow {
    /// The same for the name of a tensor instead of a module. Tensors on the stream are stacks, one matrix per expert.
    pub const fn tensor(self, part: TensorPart) -> TensorMapRow {
        TensorMapRow { form: NameForm::Tensor(part), ..self }
    }

    /// The same with other GGUF names.
    pub const fn gguf(self, names: &'static [&'static str]) -> TensorMapRow {
        TensorMapRow { gguf: Some(names), ..self }
    }

    /// The same with another role in a rotation.
    pub const fn side(self, side: StreamSide) -> TensorMapRow {
        TensorMapRow { side, ..self }
    }

    /// The same for the tensor map only: the rotation rules do not cover it.
    pub const fn named_only(self) -> TensorMapRow {
        self.side(StreamSide::Unknown)
    }

    /// The same, reading the stream through `norm`.
    pub const fn reads(self, norm: Module) -> TensorMapRow {
        self.side(StreamSide::Reads(norm))
    }

    /// The same with the stream along `axis`.
    pub const fn along(self, axis: usize) -> TensorMapRow {
        TensorMapRow { axis: Some(axis), ..self }
    }

    /// The GGUF names of the tensor without layer number and part.
    pub fn gguf_names(&self) -> &'static [&'static str] {
        self.gguf.unwrap_or(self.module.gguf())
    }
}

/// The role that a module has in nearly every architecture.
const fn usual_side(module: Module) -> StreamSide {
    use Module as M;
    match module {
        M::TokenEmbd | M::PosEmbd => StreamSide::Embedding,
        M::AttnNorm | M::FfnNorm | M::OutputNorm => StreamSide::Norm,
        M::Output => StreamSide::Reads(M::OutputNorm),
        M::AttnQ | M::AttnK | M::AttnV | M::AttnQkv | M::AttnQA | M::AttnKvA => {
            StreamSide::Reads(M::AttnNorm)
        }
        M::AttnGate | M::SsmQkvz | M::SsmBa | M::SsmBeta | M::SsmAlpha | M::ShortConvIn => {
            StreamSide::Reads(M::AttnNorm)
        }
        M::FfnGate | M::FfnUp | M::FfnGateInp | M::FfnGateExps | M::FfnUpExps | M::FfnGateUpExps => {
            StreamSide::Reads(M::FfnNorm)
        }
        M::FfnGateInpShexp | M::FfnGateShexp | M::FfnUpShexp => StreamSide::Reads(M::FfnNorm),
        M::AttnOutput | M::FfnDown | M::FfnDownExps | M::FfnDownShexp | M::SsmOut | M::ShortConvOut => {
            StreamSide::Writes
        }
        M::AttnPostNorm | M::FfnPostNorm => StreamSide::PreventsRotation,
        M::AttnQNorm | M::AttnKNorm | M::AttnQANorm | M::AttnKvANorm | M::AttnQB | M::AttnKvB => {
            StreamSide::Untouched
        }
        M::AttnSinks | M::AttnMask | M::ExpProbsB | M::ShortConv | M::Vision => StreamSide::Untouched,
        M::SsmConv1d | M::SsmA | M::SsmDt | M::SsmNorm => StreamSide::Untouched,
        _ => StreamSide::Unknown,
    }
}

/// A Hugging Face name behind the prefix: the path before the first number, that number, and the path behind it.
#[derive(Clone, Copy, Debug)]
pub struct LocalName<'a> {
    whole: &'a str,
    layered: Option<(&'a str, u32, &'a str)>,
}

impl<'a> LocalName<'a> {
    /// Splits a name at its first number.
    pub fn of(name: &'a str) -> LocalName<'a> {
        LocalName { whole: name, layered: split(name) }
    }

    /// The layer number and the index in a stack, if the row has this name.
    pub fn fits(&self, row: &TensorMapRow) -> Option<(Option<u32>, Option<u32>)> {
        if row.folder.is_empty() {
            return (self.whole == row.tail).then_some((None, None));
        }
        let (folder, layer, rest) = self.layered?;
        if folder != row.folder && !(row.folder == ANY_FOLDER && LAYER_FOLDERS.contains(&folder)) {
            return None;
        }
        if rest == row.tail {
            return Some((Some(layer), None));
        }
        let (before, after) = row.tail.split_once("{expert}")?;
        let (expert, end) = number(rest.strip_prefix(before)?)?;
        (end == after).then_some((Some(layer), Some(expert)))
    }
}

/// Splits a name into the path before its first number, the number, and the path behind it.
pub fn split(name: &str) -> Option<(&str, u32, &str)> {
    let mut at = 0;
    loop {
        let rest = name.get(at..)?;
        if let Some((n, tail)) = number(rest).filter(|(_, tail)| tail.starts_with('.')) {
            return Some((name.get(..at.checked_sub(1)?)?, n, tail.get(1..)?));
        }
        at += rest.find('.')? + 1;
    }
}

/// The number that `text` begins with, written as numbers are in names (no leading zero), and what follows it.
pub fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    if digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_rows_with_numbers_in_their_places() {
        let q = layer(Module::AttnQ, "self_attn.q_proj");
        let up = layer(Module::FfnUpExps, "mlp.experts.{expert}.up_proj");
        for (row, name, found) in [
            (&q, "layers.0.self_attn.q_proj", Some((Some(0), None))),
            (&q, "layers.12.self_attn.q_proj", Some((Some(12), None))),
            (&q, "layers.012.self_attn.q_proj", None),
            (&q, "layers..self_attn.q_proj", None),
            (&q, "layers.99999999999.self_attn.q_proj", None),
            (&q, "layers.1.self_attn.q_proj.x", None),
            (&q, "layers.1.self_attn.v_proj", None),
            (&q, "h.1.self_attn.q_proj", None),
            (&up, "layers.3.mlp.experts.7.up_proj", Some((Some(3), Some(7)))),
            (&up, "layers.3.mlp.experts.x.up_proj", None),
            (&up, "layers.3.mlp.experts.7.down_proj", None),
            (&root(Module::OutputNorm, "norm"), "norm", Some((None, None))),
            (&root(Module::OutputNorm, "norm"), "norm2", None),
            (&root(Module::OutputNorm, "norm"), "", None),
        ] {
            assert_eq!(LocalName::of(name).fits(row), found, "{name}");
        }
    }
}
