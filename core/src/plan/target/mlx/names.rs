//! Names of an MLX folder: the head of a tied model is left out, and the experts of a layer become one stack.

use crate::error::{Code, Error, Result};
use crate::format::{Checkpoint, Container};
use crate::model::arch::mlx_names::{MlxHead, MlxNames, MlxPlace};
use crate::model::arch::{self, Arch};
use crate::model::config::CONFIG;
use crate::model::json_file::JsonFile;
use crate::plan::{Grid, LeftOut, Output, Segment};
use crate::recipe::Reason;
use crate::tensor::Shape;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::Value;

/// The names of a checkpoint's tensors in mlx-lm.
pub(super) struct Names {
    model_type: String,
    arch: &'static Arch,
    names: MlxNames,
    /// Layers of the model; unknown where the configuration does not say.
    layers: Option<u64>,
    /// Whether the head is the embedding.
    tied: bool,
}

/// The names for `checkpoint`.
///
/// # Errors
///
/// `unsupported_container` if it is no Hugging Face folder, `unsupported_architecture` if mlx-lm's names are not known.
pub(super) fn of(checkpoint: &Checkpoint) -> Result<Names> {
    if checkpoint.container != Container::Safetensors {
        let message = "an MLX folder is made of a Hugging Face folder; `--to hf` makes one of a GGUF";
        return Err(Error::new(Code::UnsupportedContainer, message));
    }
    let Some(config) = &checkpoint.config else {
        let message = "an MLX folder needs config.json, and there is none beside the weights";
        return Err(Error::new(Code::UnsupportedContainer, message).in_file(CONFIG));
    };
    let file = JsonFile::parse(CONFIG, config)?;
    let model_type = file.value.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let arch = arch::find(model_type);
    let Some((arch, names)) = arch.and_then(|arch| Some((arch, arch.mlx?))) else {
        let message = format!(
            "mlx-lm's names for the architecture {model_type:?} are not known; known are {}",
            known()
        );
        return Err(file.error(Code::UnsupportedArchitecture, &["model_type"], message));
    };
    let tied = file.value.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(arch.config.tied);
    let layers = ["num_hidden_layers", "n_layer"].iter().find_map(|key| file.value.get(*key)?.as_u64());
    if tied && names.head == MlxHead::Own {
        let message = format!(
            "the head is tied to the embedding, and mlx-lm's {model_type} always has a head of its own"
        );
        return Err(file.error(Code::UnsupportedArchitecture, &["tie_word_embeddings"], message));
    }
    Ok(Names { model_type: model_type.into(), arch, names, layers, tied })
}

/// The `model_type`s whose names are known.
fn known() -> String {
    let types = arch::all().filter(|a| a.mlx.is_some()).flat_map(|a| a.model_types).copied();
    types.collect::<Vec<_>>().join(", ")
}

/// The experts of one projection of a layer, by number.
type ExpertStack = BTreeMap<u64, Output>;

impl Names {
    /// The outputs under their names, in the order in which they come; a stack stands where its first expert stood.
    pub(super) fn rename(&self, outputs: Vec<Output>, left_out: &mut Vec<LeftOut>) -> Result<Vec<Output>> {
        let mut renamed: Vec<Option<Output>> = Vec::with_capacity(outputs.len());
        let mut stacks: BTreeMap<String, (usize, ExpertStack)> = BTreeMap::new();
        for output in outputs {
            match self.names.place(&output.name) {
                None => return Err(self.unknown(&output)),
                Some(MlxPlace::Head) if self.is_head_left_out(&output)? => {
                    let text = "the model is tied: the head is the embedding".into();
                    left_out.push(LeftOut { name: output.name, reason: Reason { code: "tied_head", text } });
                }
                Some(MlxPlace::Same) if !self.is_known(&output.name) => return Err(self.unknown(&output)),
                Some(MlxPlace::Same | MlxPlace::Head) => renamed.push(Some(output)),
                Some(MlxPlace::Expert { before, projection, part, expert }) => {
                    let module = self.names.experts.map_or("", |experts| experts.module);
                    let name = format!("{before}{module}.switch_mlp.{projection}.{part}");
                    let (_, stack) = stacks.entry(name).or_insert_with(|| {
                        renamed.push(None);
                        (renamed.len() - 1, ExpertStack::new())
                    });
                    stack.insert(expert, output);
                }
            }
        }
        for (name, (at, stack)) in stacks {
            let stacked = stacked(&name, stack)?;
            if let Some(slot) = renamed.get_mut(at) {
                *slot = Some(stacked);
            }
        }
        Ok(renamed.into_iter().flatten().collect())
    }

    /// Whether a tensor is one of the architecture, in one of its layers.
    fn is_known(&self, name: &str) -> bool {
        let id = self.arch.parse_hf(name);
        id.is_some_and(|id| id.layer.zip(self.layers).is_none_or(|(layer, count)| u64::from(layer) < count))
    }

    fn unknown(&self, output: &Output) -> Error {
        if output.name.contains(".experts.") || output.name.contains(".switch_mlp.") {
            let message =
                "a stack of experts is not cut for MLX; separate experts (experts.0.up_proj) are stacked";
            return Error::new(Code::UnsupportedContainer, message).of_tensor(&output.name);
        }
        let message = format!(
            "mlx-lm's {} has no tensor of this name; leave it out with --exclude '{}'",
            self.model_type, output.name
        );
        Error::new(Code::UnsupportedContainer, message).of_tensor(&output.name)
    }

    /// Whether the head is left out. A head that a rotation has untied is needed.
    fn is_head_left_out(&self, output: &Output) -> Result<bool> {
        let has_none = self.names.head == MlxHead::Embedding;
        if has_none && !self.tied {
            let message =
                format!("the model has a head of its own, and mlx-lm's {} has none", self.model_type);
            return Err(Error::new(Code::UnsupportedArchitecture, message).of_tensor(&output.name));
        }
        if output.is_rotated() && has_none {
            let message = format!(
                "the rotation gives the model a head of its own, and mlx-lm's {} has none",
                self.model_type
            );
            return Err(Error::new(Code::UnsupportedRotation, message).of_tensor(&output.name));
        }
        Ok(self.tied && !output.is_rotated())
    }
}

/// One output for all experts of a projection.
fn stacked(name: &str, stack: ExpertStack) -> Result<Output> {
    let refuse = |output: &Output, message: String| {
        Err(Error::new(Code::UnsupportedContainer, message).of_tensor(&output.name))
    };
    let mut experts = stack.into_iter();
    let Some((0, mut all)) = experts.next() else {
        let message = format!("the experts of {name} are not numbered from 0 on");
        return Err(Error::new(Code::UnsupportedContainer, message));
    };
    let Grid { rows, cols } = all.grid;
    let mut segments: Vec<Segment> = all.segments.to_vec();
    let mut count = 1_u64;
    for (number, expert) in experts {
        if number != count {
            return refuse(&expert, format!("expert {count} of {name} is missing"));
        }
        if expert.dtype != all.dtype || expert.shape != all.shape || expert.grid != all.grid {
            return refuse(
                &expert,
                format!("the experts of {name} differ in type or shape; mlx-lm stacks them"),
            );
        }
        let first = rows.checked_mul(count);
        let fits = first.and_then(|first| first.checked_add(rows)).is_some();
        let Some(first) = first.filter(|_| fits) else {
            return refuse(&expert, format!("the rows of {name} do not fit 64 bits"));
        };
        let moved = |s: &Segment| Segment { rows: s.rows.start + first..s.rows.end + first, ..s.clone() };
        segments.extend(expert.segments.iter().map(moved));
        count += 1;
    }
    let axes = core::iter::once(count).chain(all.shape.axes().iter().copied());
    let Some(shape) = Shape::new(axes.collect::<Vec<_>>()) else {
        return refuse(&all, format!("the shape of {name} does not fit 64 bits"));
    };
    // No overflow: the rows of the last expert end here.
    all.grid = Grid { rows: rows.saturating_mul(count), cols };
    all.name = name.into();
    all.shape = shape;
    all.segments = segments.into();
    Ok(all)
}
