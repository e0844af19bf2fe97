//! The GGUF tensor that a tensor of any naming becomes: what recipes and importance matrices speak of.
//!
//! The other direction, exact for the architectures it knows, is [`names`](super::hf_names); this one is generous, because
//! a name it does not know costs a tensor no more than its place in a mix. Names: `tensor_mapping.py` of llama.cpp.

use super::hf_names::{MODULES, is_gguf_name};
use alloc::format;
use alloc::string::{String, ToString};

/// A tensor by its GGUF name, and which of its experts where the GGUF tensor stacks them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GgufName {
    /// The GGUF name.
    pub name: String,
    /// The expert, where the tensor holds one of a stack.
    pub expert: Option<u64>,
}

/// What may stand before the layers and the tensors outside of them.
const PREFIXES: &[&str] = &[
    "model.language_model.",
    "language_model.model.",
    "language_model.",
    "model.",
    "transformer.",
    "gpt_neox.",
    "",
];

/// Tensors outside of layers: Hugging Face name behind the prefix, GGUF name.
const ROOTS: &[(&str, &str)] = &[
    ("embed_tokens.weight", "token_embd.weight"),
    ("embed_tokens_per_layer.weight", "per_layer_token_embd.weight"),
    ("wte.weight", "token_embd.weight"),
    ("word_embeddings.weight", "token_embd.weight"),
    ("embed_in.weight", "token_embd.weight"),
    ("norm.weight", "output_norm.weight"),
    ("ln_f.weight", "output_norm.weight"),
    ("final_layer_norm.weight", "output_norm.weight"),
    ("lm_head.weight", "output.weight"),
    ("embed_out.weight", "output.weight"),
];

/// Modules of a layer beyond those of [`MODULES`]: GGUF name, Hugging Face name.
const MORE: &[(&str, &str)] = &[
    ("attn_q_a", "self_attn.q_a_proj"),
    ("attn_q_b", "self_attn.q_b_proj"),
    ("attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"),
    ("attn_output", "self_attn.dense"),
    ("attn_qkv", "self_attention.query_key_value"),
    ("attn_output", "self_attention.dense"),
    ("attn_qkv", "attention.query_key_value"),
    ("attn_output", "attention.dense"),
    ("ffn_up", "mlp.dense_h_to_4h"),
    ("ffn_down", "mlp.dense_4h_to_h"),
    ("ffn_up", "mlp.gate_up_proj"),
    ("ffn_gate_inp", "mlp.gate"),
    ("ffn_gate_inp", "block_sparse_moe.gate"),
    ("ffn_gate_inp", "feed_forward.router"),
    ("ffn_gate_shexp", "mlp.shared_experts.gate_proj"),
    ("ffn_up_shexp", "mlp.shared_experts.up_proj"),
    ("ffn_down_shexp", "mlp.shared_experts.down_proj"),
    ("ffn_gate_shexp", "feed_forward.shared_expert.gate_proj"),
    ("ffn_up_shexp", "feed_forward.shared_expert.up_proj"),
    ("ffn_down_shexp", "feed_forward.shared_expert.down_proj"),
    ("ffn_gate", "feed_forward.gate_proj"),
    ("ffn_up", "feed_forward.up_proj"),
    ("ffn_down", "feed_forward.down_proj"),
];

/// What holds the experts of a layer.
const EXPERTS: &[&str] = &["mlp.experts.", "block_sparse_moe.experts.", "feed_forward.experts."];

/// The parts of an expert: GGUF name of the stack, names of the part. A fused gate and up counts as up.
const PARTS: &[(&str, &[&str])] = &[
    ("ffn_gate_exps", &["gate_proj", "w1"]),
    ("ffn_down_exps", &["down_proj", "w2"]),
    ("ffn_up_exps", &["up_proj", "w3", "gate_up_proj"]),
];

/// The GGUF tensor that `name` is or becomes, as far as its name is known.
pub fn gguf_name(name: &str) -> Option<GgufName> {
    if is_gguf_name(name) {
        return Some(GgufName { name: name.to_string(), expert: None });
    }
    let mut rests = PREFIXES.iter().filter_map(|p| name.strip_prefix(p));
    rests.find_map(|rest| {
        let root = ROOTS.iter().find(|(hf, _)| *hf == rest).map(|(_, gguf)| (*gguf).to_string());
        root.map(|name| GgufName { name, expert: None }).or_else(|| in_layer(rest))
    })
}

/// The layer of a GGUF tensor; -1 outside of layers, which is also where such tensors sort.
pub fn layer(gguf: &str) -> i64 {
    let digits = gguf.strip_prefix("blk.").and_then(|r| r.split('.').next());
    digits.and_then(|d| d.parse::<u32>().ok()).map_or(-1, i64::from)
}

fn in_layer(rest: &str) -> Option<GgufName> {
    let rest = ["layers.", "h.", "blocks."].iter().find_map(|p| rest.strip_prefix(p))?;
    let (digits, rest) = rest.split_once('.')?;
    let layer: u32 = digits.parse().ok()?;
    if let Some(rest) = EXPERTS.iter().find_map(|p| rest.strip_prefix(p)) {
        return of_expert(layer, rest);
    }
    let (module, kind) = rest.rsplit_once('.')?;
    let known = MODULES.iter().chain(MORE).find(|(_, hf)| *hf == module).map(|(gguf, _)| *gguf);
    // An unknown module keeps its name: it stands in its layer, and belongs to no part of a mix.
    Some(GgufName { name: format!("blk.{layer}.{}.{kind}", known.unwrap_or(module)), expert: None })
}

/// `7.gate_proj.weight` of one expert, or `gate_up_proj` of all of them stacked.
fn of_expert(layer: u32, rest: &str) -> Option<GgufName> {
    let (expert, part) = match rest.split_once('.') {
        Some((digits, part)) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            (Some(digits.parse().ok()?), part)
        }
        _ => (None, rest),
    };
    let (part, kind) = part.split_once('.').unwrap_or((part, "weight"));
    let (gguf, _) = PARTS.iter().find(|(_, parts)| parts.contains(&part))?;
    Some(GgufName { name: format!("blk.{layer}.{gguf}.{kind}"), expert })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(of: &str) -> String {
        gguf_name(of).map_or_else(|| "none".to_string(), |t| t.name)
    }

    #[test]
    fn both_namings_lead_to_one_name() {
        for (hf, gguf) in [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("lm_head.weight", "output.weight"),
            ("language_model.lm_head.weight", "output.weight"),
            ("model.layers.3.self_attn.v_proj.weight", "blk.3.attn_v.weight"),
            ("model.language_model.layers.3.mlp.down_proj.weight", "blk.3.ffn_down.weight"),
            ("transformer.h.0.self_attention.query_key_value.weight", "blk.0.attn_qkv.weight"),
            ("model.layers.3.mlp.gate_up_proj.weight", "blk.3.ffn_up.weight"),
            ("blk.3.ffn_up.weight", "blk.3.ffn_up.weight"),
            ("model.layers.3.mlp.experts.gate_up_proj", "blk.3.ffn_up_exps.weight"),
            ("model.layers.3.linear_attn.out_proj.weight", "blk.3.linear_attn.out_proj.weight"),
            ("visual.blocks.3.mlp.fc1.weight", "none"),
            ("model.layers.-1.mlp.down_proj.weight", "none"),
        ] {
            assert_eq!(name(hf), gguf, "{hf}");
        }
    }

    #[test]
    fn experts_keep_their_number() {
        for (hf, gguf) in [
            ("model.layers.1.mlp.experts.12.down_proj.weight", "blk.1.ffn_down_exps.weight"),
            ("model.layers.1.block_sparse_moe.experts.12.w3.weight", "blk.1.ffn_up_exps.weight"),
        ] {
            assert_eq!(gguf_name(hf), Some(GgufName { name: gguf.to_string(), expert: Some(12) }), "{hf}");
        }
        assert_eq!(name("model.layers.1.mlp.experts.12.other.weight"), "none");
    }

    #[test]
    fn layers_are_numbers() {
        assert_eq!(layer("blk.12.attn_q.weight"), 12);
        assert_eq!(layer("output.weight"), -1);
        assert_eq!(layer("blk.99999999999.x"), -1);
    }
}
