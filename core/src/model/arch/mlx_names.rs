//! How mlx-lm names the tensors of an architecture, where that is known: as Hugging Face does, but for the head and experts.
//!
//! Source: the `sanitize` functions of mlx-lm 0.32.

/// The tensor names of an architecture in mlx-lm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MlxNames {
    /// The output head of mlx-lm's class.
    pub head: MlxHead,
    /// How the experts of a layer are stacked; none for an architecture without experts.
    pub experts: Option<MlxExperts>,
}

/// The output head of a class of mlx-lm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MlxHead {
    /// The embedding, whatever the configuration says.
    Embedding,
    /// The embedding if the configuration ties it, else a matrix of its own.
    Configured,
    /// A matrix of its own, whatever the configuration says.
    Own,
}

/// The experts of a layer, which mlx-lm stacks under `switch_mlp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MlxExperts {
    /// Module that holds `experts.0`, `experts.1` and so on.
    pub module: &'static str,
    /// Projections of one expert: in the checkpoint, and in mlx-lm.
    pub projections: &'static [(&'static str, &'static str)],
}

/// No experts, and a head that may be tied.
pub const PLAIN: MlxNames = MlxNames { head: MlxHead::Configured, experts: None };

/// No experts, and a head that is always tied.
pub const TIED: MlxNames = MlxNames { head: MlxHead::Embedding, ..PLAIN };

/// No experts, and a head that is never tied.
pub const UNTIED: MlxNames = MlxNames { head: MlxHead::Own, ..PLAIN };

/// Experts under `mlp`.
pub const MLP_EXPERTS: MlxNames = MlxNames {
    experts: Some(MlxExperts {
        module: "mlp",
        projections: &[("gate_proj", "gate_proj"), ("up_proj", "up_proj"), ("down_proj", "down_proj")],
    }),
    ..PLAIN
};

/// Experts with the names of Mixtral.
pub const MIXTRAL: MlxNames = MlxNames {
    experts: Some(MlxExperts {
        module: "block_sparse_moe",
        projections: &[("w1", "gate_proj"), ("w2", "down_proj"), ("w3", "up_proj")],
    }),
    ..PLAIN
};

/// The place of a tensor of the checkpoint in mlx-lm's model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MlxPlace<'a> {
    /// A tensor of the same name.
    Same,
    /// The output head, which the model may not have.
    Head,
    /// A part of a stack: what comes before the stack's module, its projection, the rest of the name, and the expert.
    Expert {
        /// Name up to the module that holds the experts, with a dot at its end.
        before: &'a str,
        /// Projection in mlx-lm.
        projection: &'static str,
        /// Part of the projection: `weight` or `bias`.
        part: &'a str,
        /// Number of the expert.
        expert: u64,
    },
}

impl MlxNames {
    /// The place of the tensor `name`; `None` if mlx-lm's model has none of this name.
    pub fn place<'a>(&self, name: &'a str) -> Option<MlxPlace<'a>> {
        if name == "lm_head.weight" || name == "lm_head.bias" {
            return Some(MlxPlace::Head);
        }
        let inner = name.strip_prefix("model.")?;
        let expert = inner.contains(".experts.") || inner.contains(".switch_mlp.");
        if !expert {
            return Some(MlxPlace::Same);
        }
        let experts = self.experts?;
        let (module, rest) = name.split_once(".experts.")?;
        let before = module.strip_suffix(experts.module).filter(|before| before.ends_with('.'))?;
        let (number, rest) = rest.split_once('.')?;
        let (projection, part) = rest.split_once('.')?;
        let (_, projection) = experts.projections.iter().find(|(from, _)| *from == projection)?;
        // A number with leading zeros would be another tensor of the same expert.
        let expert = number.parse::<u64>().ok().filter(|n| alloc::format!("{n}") == number)?;
        matches!(part, "weight" | "bias").then_some(MlxPlace::Expert { before, projection, part, expert })
    }
}
