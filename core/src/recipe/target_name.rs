//! The names of the targets of a conversion. `plan::target` holds what each of them accepts and how it is laid out.

use crate::dtype::DType;
use crate::format::Container;
use serde::{Deserialize, Serialize, Serializer};

/// What a conversion writes.
///
/// The word in JSON is that of the container, so that a recorded recipe is the same for a file and for a folder of it; as
/// input, `hf_folder` is a word too. MLX has its own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetName {
    /// One safetensors file.
    Safetensors,
    /// A folder in the layout of Hugging Face: one safetensors file, the configuration, the tokenizer.
    HfFolder,
    /// One GGUF file.
    Gguf,
    /// A folder for MLX, in the layout of mlx-lm.
    Mlx,
    /// A lattice directory.
    #[serde(rename = "q4")]
    Lattice,
}

impl TargetName {
    /// The container of the weights.
    pub const fn container(self) -> Container {
        match self {
            TargetName::Safetensors | TargetName::HfFolder | TargetName::Mlx => Container::Safetensors,
            TargetName::Gguf => Container::Gguf,
            TargetName::Lattice => Container::LatticeQ4,
        }
    }

    /// The block type of a target that has only one, which a recipe does not name.
    pub const fn only_block_type(self) -> Option<DType> {
        match self {
            TargetName::Lattice => Some(DType::LATTICE_Q4),
            TargetName::Safetensors | TargetName::HfFolder | TargetName::Mlx | TargetName::Gguf => None,
        }
    }
}

impl From<Container> for TargetName {
    /// The target that writes this container and nothing else; GGUF for APR, which is not written.
    fn from(container: Container) -> TargetName {
        match container {
            Container::Safetensors => TargetName::Safetensors,
            Container::Gguf | Container::Apr => TargetName::Gguf,
            Container::LatticeQ4 => TargetName::Lattice,
        }
    }
}

impl Serialize for TargetName {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            TargetName::Mlx => s.serialize_str("mlx"),
            other => other.container().serialize(s),
        }
    }
}
