//! In what the families that the probe can run differ. Data; knows no arithmetic.

use crate::model::config::Config;

/// What a family does its own way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dialect {
    /// Added to every norm gain.
    pub gain_plus: f64,
    /// Queries and keys are normalised head by head.
    pub head_norms: bool,
    /// Queries, keys and values are one matrix, gate and up another.
    pub fused: bool,
    /// The embedding is multiplied by the root of the stream's length.
    pub scaled_embedding: bool,
    /// How experts are named.
    pub experts: Experts,
    /// Every fourth layer has no rotary embedding.
    pub fourth_without_rotary: bool,
}

/// How a family names its experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Experts {
    /// It has none.
    None,
    /// `block_sparse_moe.experts.N.w1`.
    BlockSparse,
    /// `mlp.experts.N.gate_proj`.
    Mlp,
    /// The same, and one that every token uses, behind a gate.
    MlpAndShared,
}

const PLAIN: Dialect = Dialect {
    gain_plus: 0.0,
    head_norms: false,
    fused: false,
    scaled_embedding: false,
    experts: Experts::None,
    fourth_without_rotary: false,
};

impl Dialect {
    /// The dialect of a configuration's family, where the probe can run it.
    pub fn of(config: &Config) -> Option<Dialect> {
        Some(match config.model_type.as_str() {
            "llama" | "mistral" | "qwen2" | "granite" => PLAIN,
            "smollm3" => Dialect { fourth_without_rotary: true, ..PLAIN },
            "qwen3" => Dialect { head_norms: true, ..PLAIN },
            "gemma" => Dialect { gain_plus: 1.0, scaled_embedding: true, ..PLAIN },
            "phi3" => Dialect { fused: true, ..PLAIN },
            "mixtral" => Dialect { experts: Experts::BlockSparse, ..PLAIN },
            "qwen2_moe" => Dialect { experts: Experts::MlpAndShared, ..PLAIN },
            "qwen3_moe" => Dialect { experts: Experts::Mlp, head_norms: true, ..PLAIN },
            _ => return None,
        })
    }
}
