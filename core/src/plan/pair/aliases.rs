//! Other names and forms of the same tensor in Hugging Face checkpoints: prefixes that versions of transformers moved, and
//! experts stored one by one or as one stack.

use alloc::format;
use alloc::string::{String, ToString};

/// Parts of a multimodal model that older versions of transformers store without `model.` before them.
const PARTS: &[&str] = &[
    "language_model.",
    "vision_tower.",
    "vision_model.",
    "visual.",
    "audio_tower.",
    "multi_modal_projector.",
    "multimodal_projector.",
    "connector.",
    "embed_vision.",
    "embed_audio.",
    "image_newline",
];

/// Names of whole models, which some programs put before all names and others leave out.
const MODELS: &[&str] = &[
    "model.",
    "transformer.",
    "backbone.",
    "bert.",
    "roberta.",
    "distilbert.",
    "gpt_neox.",
    "encoder_model.",
];

/// The name of a tensor without the prefixes that depend on the program that saved it.
///
/// Before transformers 4.52: `language_model.model.layers.0`, since then `model.language_model.layers.0`; the decoder alone:
/// `model.layers.0`.
pub(super) fn canonical(name: &str) -> &str {
    let inner = name.strip_prefix("model.").filter(|rest| PARTS.iter().any(|p| rest.starts_with(p)));
    let name = inner.unwrap_or(name);
    let Some(decoder) = name.strip_prefix("language_model.") else {
        return MODELS.iter().find_map(|m| name.strip_prefix(m)).unwrap_or(name);
    };
    MODELS.iter().find_map(|m| decoder.strip_prefix(m)).unwrap_or(decoder)
}

/// The place of one expert's matrix in a stack of all experts.
pub(super) struct StackedExpert {
    /// The name of the stack, `[experts, rows, cols]`.
    pub(super) stack: String,
    /// The number of the expert.
    pub(super) expert: u64,
    /// The half of the stack's rows that is this matrix: gate before up; `None` for all of them.
    pub(super) half: Option<u64>,
}

/// The place of the matrix `name` in a stack, if it is one expert's.
pub(super) fn stacked_expert(name: &str) -> Option<StackedExpert> {
    let (path, rest) = name.rsplit_once(".experts.")?;
    let (number, matrix) = rest.strip_suffix(".weight")?.split_once('.')?;
    let (stack, half) = match matrix {
        "gate_proj" | "w1" => ("gate_up_proj", Some(0)),
        "up_proj" | "w3" => ("gate_up_proj", Some(1)),
        "down_proj" | "w2" => ("down_proj", None),
        _ => return None,
    };
    // Mixtral's module was renamed when its experts became a stack.
    let path = match path.strip_suffix("block_sparse_moe") {
        Some(layer) if matrix.starts_with('w') => format!("{layer}mlp"),
        _ => path.to_string(),
    };
    Some(StackedExpert { stack: format!("{path}.experts.{stack}"), expert: number.parse().ok()?, half })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_all_versions_are_equal() {
        for name in [
            "model.language_model.layers.0.a",
            "language_model.model.layers.0.a",
            "model.layers.0.a",
            "layers.0.a",
        ] {
            assert_eq!(canonical(name), "layers.0.a");
        }
        assert_eq!(canonical("model.vision_tower.a"), canonical("vision_tower.a"));
        assert_eq!(canonical("language_model.lm_head.weight"), "lm_head.weight");
        assert_ne!(canonical("model.vision_tower.layers.0.a"), canonical("model.layers.0.a"));
    }

    #[test]
    fn experts_have_a_place_in_the_stack() {
        let of = |name| stacked_expert(name).map(|p| (p.stack, p.expert, p.half));
        let stack = |name: &str| String::from(name);
        assert_eq!(
            of("l.0.mlp.experts.3.up_proj.weight"),
            Some((stack("l.0.mlp.experts.gate_up_proj"), 3, Some(1)))
        );
        assert_eq!(
            of("l.0.block_sparse_moe.experts.2.w2.weight"),
            Some((stack("l.0.mlp.experts.down_proj"), 2, None))
        );
        assert_eq!(of("l.0.mlp.experts.gate_up_proj"), None);
        assert_eq!(of("l.0.mlp.gate_proj.weight"), None);
    }
}
