//! How GGUF names and layouts map back onto Hugging Face ones, architecture by architecture.
//!
//! llama.cpp's converter renames every tensor, and for some architectures permutes, shifts or stacks values.
//! A comparison has to undo that. An architecture that is not in the table is refused rather than guessed.
//! The rules: `convert_hf_to_gguf.py` and `gguf-py/gguf/tensor_mapping.py` of llama.cpp.

use crate::tensor::Metadata;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What the converter did to an architecture's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GgufNameMap {
    arch: &'static str,
    /// Query and key rows are interleaved for rotary embedding.
    interleaved_qk: bool,
    /// One was added to every norm gain.
    shifted_norms: bool,
    /// Norms stand before *and* after each branch, so that `ffn_norm` is another tensor.
    sandwich_norms: bool,
    /// How the experts of a layer are named.
    experts: StackedExperts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StackedExperts {
    None,
    /// `mlp.experts.N.gate_proj`
    Mlp,
    /// `block_sparse_moe.experts.N.w1`
    BlockSparse,
}

const fn family(arch: &'static str) -> GgufNameMap {
    GgufNameMap {
        arch,
        interleaved_qk: false,
        shifted_norms: false,
        sandwich_norms: false,
        experts: StackedExperts::None,
    }
}

const FAMILIES: &[GgufNameMap] = &[
    GgufNameMap { interleaved_qk: true, experts: StackedExperts::BlockSparse, ..family("llama") },
    family("qwen2"),
    family("qwen3"),
    GgufNameMap { experts: StackedExperts::Mlp, ..family("qwen2moe") },
    GgufNameMap { experts: StackedExperts::Mlp, ..family("qwen3moe") },
    GgufNameMap { shifted_norms: true, ..family("gemma") },
    GgufNameMap { shifted_norms: true, sandwich_norms: true, ..family("gemma2") },
    GgufNameMap { shifted_norms: true, sandwich_norms: true, ..family("gemma3") },
    family("phi3"),
];

/// Where the rows of a GGUF tensor come from on the Hugging Face side.
#[derive(Clone, Debug, PartialEq)]
pub struct HfSource {
    /// The tensors whose rows are stacked, in order; one for all but expert stacks.
    pub names: Vec<String>,
    /// Rows of one rotary head, where the converter interleaved the halves.
    pub rotary_heads: Option<u64>,
    /// What has to be added to the GGUF values to get the original ones.
    pub add: f32,
}

/// Why a GGUF tensor cannot be mapped back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmapped {
    /// The architecture is not in the table.
    Architecture,
    /// The architecture is, this tensor is not.
    Tensor,
}

/// Whether `name` follows GGUF's naming.
pub fn is_gguf_name(name: &str) -> bool {
    const ROOT: &[&str] = &["token_embd.", "output_norm.", "output.", "rope_freqs."];
    name.strip_prefix("blk.").is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()))
        || ROOT.iter().any(|r| name.starts_with(r))
}

/// Layer-level modules: GGUF name, Hugging Face name.
pub(super) const MODULES: &[(&str, &str)] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_qkv", "self_attn.qkv_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("ffn_gate_shexp", "mlp.shared_expert.gate_proj"),
    ("ffn_up_shexp", "mlp.shared_expert.up_proj"),
    ("ffn_down_shexp", "mlp.shared_expert.down_proj"),
    ("ffn_gate_inp_shexp", "mlp.shared_expert_gate"),
];

/// Maps the GGUF tensor `name` with `rows` rows, of a file with `metadata`, back to its origin.
///
/// `experts` is the length of the outermost axis of a stacked tensor.
pub fn hf_source(name: &str, rows: u64, experts: u64, metadata: &Metadata) -> Result<HfSource, Unmapped> {
    let arch = metadata.text("general.architecture").unwrap_or("");
    let family = FAMILIES.iter().find(|f| f.arch == arch).ok_or(Unmapped::Architecture)?;
    let names = hf_names(name, family, experts).ok_or(Unmapped::Tensor)?;
    let is_norm = names.iter().any(|n| n.ends_with("norm.weight"));
    Ok(HfSource {
        rotary_heads: rotary_heads(name, rows, family, metadata)?,
        add: if family.shifted_norms && is_norm { -1.0 } else { 0.0 },
        names,
    })
}

/// Rows of one head of a query or key projection that the converter interleaved.
fn rotary_heads(
    name: &str,
    rows: u64,
    family: &GgufNameMap,
    metadata: &Metadata,
) -> Result<Option<u64>, Unmapped> {
    let module = name.rsplit('.').nth(1).unwrap_or("");
    if !family.interleaved_qk || !matches!(module, "attn_q" | "attn_k") {
        return Ok(None);
    }
    let count = |key: &str| metadata.uint(&format!("{}.attention.{key}", family.arch));
    let heads = match module {
        "attn_k" => count("head_count_kv").or_else(|| count("head_count")),
        _ => count("head_count"),
    };
    // Without a head count the permutation is unknown, and guessing would compare the wrong rows.
    match heads {
        Some(h) if h != 0 && rows.is_multiple_of(h) && (rows / h).is_multiple_of(2) => Ok(Some(rows / h)),
        _ => Err(Unmapped::Tensor),
    }
}

fn hf_names(name: &str, family: &GgufNameMap, experts: u64) -> Option<Vec<String>> {
    let one = |s: String| Some(alloc::vec![s]);
    match name {
        "token_embd.weight" => return one("model.embed_tokens.weight".to_string()),
        "output_norm.weight" => return one("model.norm.weight".to_string()),
        "output.weight" => return one("lm_head.weight".to_string()),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let (module, kind) = rest.rsplit_once('.')?;
    let prefix = format!("model.layers.{layer}");
    if let Some(stack) = module.strip_suffix("_exps") {
        let part = expert_part(stack, family.experts)?;
        return Some(
            (0..experts).map(|e| format!("{prefix}.{}.{kind}", part.replace('#', &e.to_string()))).collect(),
        );
    }
    let hf = match (module, family.experts) {
        ("ffn_norm", _) if family.sandwich_norms => "pre_feedforward_layernorm",
        ("ffn_norm", _) => "post_attention_layernorm",
        ("post_attention_norm", _) if family.sandwich_norms => "post_attention_layernorm",
        ("post_ffw_norm", _) if family.sandwich_norms => "post_feedforward_layernorm",
        ("ffn_gate_inp", StackedExperts::Mlp) => "mlp.gate",
        ("ffn_gate_inp", StackedExperts::BlockSparse) => "block_sparse_moe.gate",
        ("ffn_up", _) if family.arch == "phi3" => "mlp.gate_up_proj",
        _ => MODULES.iter().find(|(g, _)| *g == module)?.1,
    };
    one(format!("{prefix}.{hf}.{kind}"))
}

/// The name of expert `#` of a stacked tensor.
fn expert_part(stack: &str, experts: StackedExperts) -> Option<&'static str> {
    Some(match (experts, stack) {
        (StackedExperts::Mlp, "ffn_gate") => "mlp.experts.#.gate_proj",
        (StackedExperts::Mlp, "ffn_up") => "mlp.experts.#.up_proj",
        (StackedExperts::Mlp, "ffn_down") => "mlp.experts.#.down_proj",
        (StackedExperts::BlockSparse, "ffn_gate") => "block_sparse_moe.experts.#.w1",
        (StackedExperts::BlockSparse, "ffn_down") => "block_sparse_moe.experts.#.w2",
        (StackedExperts::BlockSparse, "ffn_up") => "block_sparse_moe.experts.#.w3",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::MetaValue;

    fn arch(name: &str) -> Metadata {
        Metadata(alloc::vec![
            ("general.architecture".into(), MetaValue::String(name.into())),
            (format!("{name}.attention.head_count"), MetaValue::U32(8)),
            (format!("{name}.attention.head_count_kv"), MetaValue::U32(4)),
        ])
    }

    #[test]
    fn llama_queries_and_keys_are_unpermuted() {
        let o = hf_source("blk.3.attn_q.weight", 256, 1, &arch("llama")).unwrap();
        assert_eq!(o.names, ["model.layers.3.self_attn.q_proj.weight"]);
        assert_eq!(o.rotary_heads, Some(32));
        let o = hf_source("blk.3.attn_k.weight", 128, 1, &arch("llama")).unwrap();
        assert_eq!(o.rotary_heads, Some(32));
        assert_eq!(hf_source("blk.3.attn_v.weight", 128, 1, &arch("llama")).unwrap().rotary_heads, None);
        assert_eq!(hf_source("blk.3.attn_q.weight", 256, 1, &arch("qwen3")).unwrap().rotary_heads, None);
        let bare = Metadata(alloc::vec![("general.architecture".into(), MetaValue::String("llama".into()))]);
        assert_eq!(hf_source("blk.3.attn_q.weight", 256, 1, &bare), Err(Unmapped::Tensor));
    }

    #[test]
    fn gemma_norms_are_shifted_back() {
        let o = hf_source("blk.0.ffn_norm.weight", 1, 1, &arch("gemma2")).unwrap();
        assert_eq!((o.names[0].as_str(), o.add), ("model.layers.0.pre_feedforward_layernorm.weight", -1.0));
        assert_eq!(hf_source("blk.0.ffn_up.weight", 1, 1, &arch("gemma")).unwrap().add, 0.0);
    }

    #[test]
    fn experts_are_unstacked() {
        let o = hf_source("blk.1.ffn_down_exps.weight", 8, 2, &arch("llama")).unwrap();
        let want = [
            "model.layers.1.block_sparse_moe.experts.0.w2.weight",
            "model.layers.1.block_sparse_moe.experts.1.w2.weight",
        ];
        assert_eq!(o.names, want);
        let o = hf_source("blk.1.ffn_down_exps.weight", 8, 1, &arch("qwen3moe")).unwrap();
        assert_eq!(o.names, ["model.layers.1.mlp.experts.0.down_proj.weight"]);
    }

    #[test]
    fn the_unknown_is_not_guessed() {
        assert_eq!(hf_source("blk.0.attn_q.weight", 8, 1, &arch("mamba")), Err(Unmapped::Architecture));
        assert_eq!(hf_source("blk.0.ssm_a", 8, 1, &arch("llama")), Err(Unmapped::Tensor));
    }
}
