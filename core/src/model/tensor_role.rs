//! Purpose of a tensor, by its name and shape.
//!
//! Names of both namings are parsed ([`TensorId`]); names outside of every tensor map (vision towers, projectors) are
//! matched by their words. The keep-list follows llama-quantize; it errs on the side of keeping precision.

use super::arch::module::Module;
use super::tensor_id::{TensorId, TensorPart};
use crate::tensor::Shape;
use serde::Serialize;

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TensorRole {
    /// A matrix (or a stack of them) that multiplies activations.
    Weight,
    /// Token embeddings.
    Embedding,
    /// The output head.
    Output,
    /// A normalisation gain or bias.
    Norm,
    /// An additive bias.
    Bias,
    /// A mixture-of-experts router or gate.
    Router,
    /// A positional or token-type table.
    Positional,
    /// A convolution kernel.
    Conv,
    /// One axis or none: gains, scales, states.
    Vector,
    /// Two axes or more, but not named as a weight.
    Other,
}

impl TensorRole {
    /// The role in words, to begin a sentence with.
    pub const fn words(self) -> &'static str {
        match self {
            TensorRole::Weight => "weight",
            TensorRole::Embedding => "embedding",
            TensorRole::Output => "output head",
            TensorRole::Norm => "normalisation",
            TensorRole::Bias => "bias",
            TensorRole::Router => "router",
            TensorRole::Positional => "positional table",
            TensorRole::Conv => "convolution kernel",
            TensorRole::Vector => "vector",
            TensorRole::Other => "what is not named as a weight",
        }
    }
}

const ROUTERS: &[&str] = &[
    "mlp.gate.weight",
    "block_sparse_moe.gate.weight",
    "feed_forward.gate.weight",
    "moe.gate.weight",
    "shared_expert_gate.weight",
    "router.weight",
    "router.layer.weight",
    "router.classifier.weight",
    "router.proj.weight",
    "mlp.router.weight",
    "ffn.gate.weight",
    "mixer.gate.weight",
    "block_sparse_moe.router.weight",
    "moe_statics.e_score_correction_bias",
    "gate.wg.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_inp_shexp.weight",
    "ffn_gate_tid2eid.weight",
];
const POSITIONAL: &[&str] = &[
    "position_embd",
    "position_embedding",
    "pos_embed",
    "pos_emb.",
    "embed_positions",
    "wpe.weight",
    "rel_pos",
    "relative_attention_bias",
    "attn_rel_b",
    "token_types",
    "token_type_embedd",
    "positional_embedding",
    "position_embeddings",
    "pos_embs.",
];
const CONV: &[&str] = &[
    "conv1d",
    "conv2d",
    "conv3d",
    "shortconv.conv",
    "conv.conv.weight",
    "patch_embd",
    "patch_embed",
    "patch_merger",
];
const EMBEDDINGS: &[&str] = &[
    "embed_tokens.weight",
    "embed_tokens_per_layer.weight",
    "per_layer_token_embd.weight",
    // T5 and BART, Mamba, RWKV, Whisper by OpenAI, DeepSeek by its authors.
    "shared.weight",
    "backbone.embeddings.weight",
    "backbone.embedding.weight",
    "rwkv.embeddings.weight",
    "model.embeddings.weight",
    "emb.weight",
    "embed.weight",
    "token_embedding.weight",
    "token_embeddings.weight",
    "tok_embedding.weight",
    "embedding.weight",
    "token_embd.weight",
    "tok_embeddings.weight",
    "word_embeddings.weight",
    "wte.weight",
    "embed_in.weight",
];
const OUTPUTS: &[&str] = &[
    "lm_head.weight",
    "embed_out.weight",
    // ChatGLM, Whisper, BERT, multi-token predictors.
    "output_layer.weight",
    "proj_out.weight",
    "predictions.decoder.weight",
    "lm_head.decoder.weight",
    "shared_head.head.weight",
    "shared_head_head.weight",
];
/// The head of a model without any prefix; the same word inside of a layer is something else.
const BARE_OUTPUTS: &[&str] = &["head.weight", "output.weight", "model.head.weight"];

/// Whether `name` is `tail`, or ends with it after a dot.
fn ends_at_dot(name: &str, tail: &str) -> bool {
    name.strip_suffix(tail).is_some_and(|head| head.is_empty() || head.ends_with('.'))
}

fn any_tail(name: &str, tails: &[&str]) -> bool {
    tails.iter().any(|t| ends_at_dot(name, t))
}

fn contains_any(name: &str, parts: &[&str]) -> bool {
    parts.iter().any(|p| name.contains(p))
}

/// A component such as `norm`, `ln_1`, `input_layernorm`, `attn_q_norm`, `norm1` names a normalisation.
fn is_norm(name: &str) -> bool {
    let mut parts = name.rsplit('.');
    let Some(last) = parts.next() else { return false };
    if last != "weight" && last != "bias" {
        return last.contains("norm");
    }
    parts.next().is_some_and(|module| {
        module.contains("norm")
            || module.starts_with("ln_")
            || matches!(module, "ln" | "ln1" | "ln2" | "ln_f")
    })
}

/// The purpose of the tensor `name` with `shape`.
pub fn role(name: &str, shape: &Shape) -> TensorRole {
    TensorId::parse(name).map_or_else(|| role_by_words(name, shape), |id| role_of(id, shape))
}

/// The purpose of a tensor with `shape`.
fn role_of(id: TensorId, shape: &Shape) -> TensorRole {
    use Module as M;
    if id.module.is_norm() {
        return TensorRole::Norm;
    }
    if id.part == TensorPart::Bias {
        return TensorRole::Bias;
    }
    if shape.axes().len() < 2 {
        return TensorRole::Vector;
    }
    match id.module {
        M::FfnGateInp | M::FfnGateInpShexp => TensorRole::Router,
        M::PosEmbd | M::TokenTypes | M::EncAttnRelB | M::DecAttnRelB => TensorRole::Positional,
        M::SsmConv1d | M::ShortConv => TensorRole::Conv,
        _ if is_kernel(shape) => TensorRole::Conv,
        _ if id.part == TensorPart::Bare => TensorRole::Other,
        M::TokenEmbd | M::NextnEmbedTokens => TensorRole::Embedding,
        M::Output => TensorRole::Output,
        _ => TensorRole::Weight,
    }
}

/// The same for a name outside of every tensor map.
fn role_by_words(name: &str, shape: &Shape) -> TensorRole {
    if is_norm(name) {
        return TensorRole::Norm;
    }
    if name.ends_with(".bias") || name.ends_with("_bias") {
        return TensorRole::Bias;
    }
    if shape.axes().len() < 2 {
        return TensorRole::Vector;
    }
    if any_tail(name, ROUTERS) {
        return TensorRole::Router;
    }
    if contains_any(name, POSITIONAL) {
        return TensorRole::Positional;
    }
    if contains_any(name, CONV) || is_kernel(shape) {
        return TensorRole::Conv;
    }
    if any_tail(name, EMBEDDINGS) {
        return TensorRole::Embedding;
    }
    if any_tail(name, OUTPUTS) || BARE_OUTPUTS.contains(&name) {
        return TensorRole::Output;
    }
    let expert_stack = name.ends_with(".experts.gate_up_proj") || name.ends_with(".experts.down_proj");
    if name.ends_with("weight") || expert_stack { TensorRole::Weight } else { TensorRole::Other }
}

/// Parts of the GGUF names of matrices that are small and matter much; llama-quantize leaves them alone.
const KEPT_IN_MIXES: &[&str] = &[
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "per_layer_model_projection",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    ".position_embd",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
];

/// Whether presets keep the matrix with this GGUF name as it is, although it is named as a weight.
pub fn kept_in_mixes(gguf: &str) -> bool {
    contains_any(gguf, KEPT_IN_MIXES)
}

/// Whether a tensor is a buffer that a model computes by itself and older files save: causal masks, the constant of
/// masked scores, rotary frequencies and tables, positions.
pub fn is_buffer(name: &str, shape: &Shape) -> bool {
    const BUFFERS: &[&str] = &[
        "masked_bias",
        "rotary_emb.inv_freq",
        "rotary_emb.cos_cached",
        "rotary_emb.sin_cached",
        "position_ids",
        "num_batches_tracked",
        "causal_mask",
    ];
    // `attn.bias` is also the bias of a projection: a mask is square.
    let is_mask = |tail| {
        let [.., a, b] = shape.axes() else { return false };
        ends_at_dot(name, tail) && shape.axes().len() == 4 && a == b
    };
    any_tail(name, BUFFERS) || is_mask("attn.bias") || is_mask("attention.bias")
}

/// Three axes or more with a short innermost one: `[out, in, kernel]`, `[out, in, height, width]`.
fn is_kernel(shape: &Shape) -> bool {
    shape.axes().len() >= 3 && shape.cols() < 32
}

/// lattice's rule for `.q4` (by name), without its mistakes: vectors, norms, biases, routers, positional tables and
/// convolution kernels are never 4-bit. States such as `A_log` are no `.weight` and so are kept too.
pub fn lattice_quantizes(role: TensorRole) -> bool {
    matches!(role, TensorRole::Weight | TensorRole::Embedding | TensorRole::Output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, axes: &[u64]) -> TensorRole {
        role(name, &Shape::new(axes).unwrap())
    }

    #[test]
    fn names_of_both_conventions_are_known() {
        let m = &[64, 64][..];
        for (name, want) in [
            ("model.layers.0.self_attn.q_proj.weight", TensorRole::Weight),
            ("blk.0.attn_q.weight", TensorRole::Weight),
            ("model.embed_tokens.weight", TensorRole::Embedding),
            ("token_embd.weight", TensorRole::Embedding),
            ("lm_head.weight", TensorRole::Output),
            ("output.weight", TensorRole::Output),
            ("blk.3.attn_output.weight", TensorRole::Weight),
            ("model.layers.1.mlp.gate.weight", TensorRole::Router),
            ("model.layers.1.mlp.gate_proj.weight", TensorRole::Weight),
            ("blk.1.ffn_gate_inp.weight", TensorRole::Router),
            ("blk.1.ffn_gate.weight", TensorRole::Weight),
            ("model.layers.1.mlp.shared_expert_gate.weight", TensorRole::Router),
            ("transformer.wpe.weight", TensorRole::Positional),
            ("visual.pos_embed.weight", TensorRole::Positional),
            ("visual.patch_embed.proj.weight", TensorRole::Conv),
            ("model.layers.0.linear_attn.conv1d.weight", TensorRole::Conv),
            ("visual.blocks.0.norm1.weight", TensorRole::Norm),
            ("transformer.h.0.ln_1.weight", TensorRole::Norm),
            ("transformer.ln_f.weight", TensorRole::Norm),
            ("blk.0.attn_q_norm.weight", TensorRole::Norm),
            ("model.layers.0.mlp.experts.gate_up_proj", TensorRole::Weight),
            ("model.layers.0.linear_attn.A_log", TensorRole::Other),
            ("model.layers.0.self_attn.q_proj.bias", TensorRole::Bias),
        ] {
            assert_eq!(of(name, m), want, "{name}");
        }
        assert_eq!(of("fc.weight", &[64]), TensorRole::Vector);
        assert_eq!(of("conv.weight", &[64, 64, 3, 3]), TensorRole::Conv);
        assert_eq!(of("experts.weight", &[8, 64, 64]), TensorRole::Weight);
    }
}
