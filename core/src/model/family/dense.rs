//! Families with Llama's stream and a feed-forward part for every token.

use super::NormForm;
use super::table::{
    ATTENTION, DENSE, ENDS, FIRST, HEAD_NORMS, LLAMA, NORMS, NameRule, RotationFamily, SECOND, ValueLayout,
    ValueProjections, embedding, norm, reads, untouched, writes,
};

const PHI3: &[NameRule] = &[
    reads("layers.{layer}.self_attn.qkv_proj", FIRST),
    writes("layers.{layer}.self_attn.o_proj"),
    reads("layers.{layer}.mlp.gate_up_proj", SECOND),
    writes("layers.{layer}.mlp.down_proj"),
];

const OPERATOR: &str = "layers.{layer}.operator_norm";
const FEED: &str = "layers.{layer}.ffn_norm";
/// The last norm is called after the embedding, and stands before the head.
const LFM2_LAST: &str = "embedding_norm";
const LFM2: &[NameRule] = &[
    embedding("embed_tokens"),
    norm(LFM2_LAST),
    norm(OPERATOR),
    norm(FEED),
    reads("layers.{layer}.self_attn.{q,k,v}_proj", OPERATOR),
    reads("layers.{layer}.conv.in_proj", OPERATOR),
    reads("layers.{layer}.feed_forward.{w1,w3}", FEED),
    writes("layers.{layer}.{self_attn,conv}.out_proj"),
    writes("layers.{layer}.feed_forward.w2"),
    untouched("layers.{layer}.self_attn.{q,k}_layernorm"),
    untouched("layers.{layer}.conv.conv"),
];

const HUNYUAN: &[NameRule] = &[untouched("layers.{layer}.self_attn.{query,key}_layernorm")];

pub const FAMILIES: &[RotationFamily] = &[
    LLAMA,
    RotationFamily { name: "mistral", model_types: &["mistral"], ..LLAMA },
    RotationFamily { name: "granite", model_types: &["granite"], ..LLAMA },
    RotationFamily { name: "smollm3", model_types: &["smollm3"], ..LLAMA },
    RotationFamily { name: "seed_oss", model_types: &["seed_oss"], ..LLAMA },
    RotationFamily { name: "ernie4_5", model_types: &["ernie4_5"], ..LLAMA },
    RotationFamily {
        name: "hunyuan",
        model_types: &["hunyuan_v1_dense"],
        tables: &[ENDS, NORMS, ATTENTION, DENSE, HUNYUAN],
        ..LLAMA
    },
    RotationFamily { name: "qwen2", model_types: &["qwen2"], ..LLAMA },
    RotationFamily {
        name: "qwen3",
        model_types: &["qwen3"],
        tables: &[ENDS, NORMS, ATTENTION, DENSE, HEAD_NORMS],
        ..LLAMA
    },
    RotationFamily { name: "gemma", model_types: &["gemma"], form: NormForm::OnePlusGain, ..LLAMA },
    RotationFamily {
        name: "phi3",
        model_types: &["phi3"],
        tables: &[ENDS, NORMS, PHI3],
        values: ValueProjections {
            layout: ValueLayout::Stacked,
            v_proj: "layers.{layer}.self_attn.qkv_proj",
            ..LLAMA.values
        },
        ..LLAMA
    },
    RotationFamily {
        name: "lfm2",
        model_types: &["lfm2"],
        heads: &[reads("lm_head", LFM2_LAST)],
        tables: &[LFM2],
        values: ValueProjections { o_proj: "layers.{layer}.self_attn.out_proj", ..LLAMA.values },
        ..LLAMA
    },
];
