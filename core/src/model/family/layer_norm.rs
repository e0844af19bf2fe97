//! Families whose norms subtract the mean: only a rotation that leaves the vector of ones where it is passes them.

use super::NormForm;
use super::table::{
    ATTENTION, DENSE, ENDS, FIRST, HEAD_NORMS, LLAMA, NORMS, NameRule, Prefix, RequiredFlag, RotationFamily,
    SECOND, ValueLayout, ValueProjections, embedding, norm, reads, untouched, writes,
};

const PHI_LAST: &str = "final_layernorm";
const PHI: &[NameRule] = &[
    embedding("embed_tokens"),
    norm(FIRST),
    norm(PHI_LAST),
    reads("layers.{layer}.self_attn.{q,k,v}_proj", FIRST),
    writes("layers.{layer}.self_attn.dense"),
    reads("layers.{layer}.mlp.fc1", FIRST),
    writes("layers.{layer}.mlp.fc2"),
    untouched("layers.{layer}.self_attn.{q,k}_layernorm"),
];

const STARCODER2: &[NameRule] =
    &[reads("layers.{layer}.mlp.c_fc", SECOND), writes("layers.{layer}.mlp.c_proj")];

const NEMOTRON: &[NameRule] =
    &[reads("layers.{layer}.mlp.up_proj", SECOND), writes("layers.{layer}.mlp.down_proj")];

/// Both branches read the same norm.
const COHERE: &[NameRule] =
    &[norm(FIRST), reads("layers.{layer}.mlp.{gate,up}_proj", FIRST), writes("layers.{layer}.mlp.down_proj")];

const NEOX_LAST: &str = "final_layer_norm";
const GPT_NEOX: &[NameRule] = &[
    embedding("embed_in"),
    norm(FIRST),
    norm(SECOND),
    norm(NEOX_LAST),
    reads("layers.{layer}.attention.query_key_value", FIRST),
    writes("layers.{layer}.attention.dense"),
    reads("layers.{layer}.mlp.dense_h_to_4h", SECOND),
    writes("layers.{layer}.mlp.dense_4h_to_h"),
    // Masks.
    untouched("layers.{layer}.attention.{bias,masked_bias}").bare(),
];

const LN_1: &str = "h.{layer}.ln_1";
const LN_2: &str = "h.{layer}.ln_2";
const LN_F: &str = "ln_f";
/// Matrices lie the other way round: inputs, outputs.
const GPT2: &[NameRule] = &[
    embedding("{wte,wpe}"),
    norm(LN_1),
    norm(LN_2),
    norm(LN_F),
    reads("h.{layer}.attn.c_attn", LN_1).along(0),
    writes("h.{layer}.attn.c_proj").along(1),
    reads("h.{layer}.mlp.c_fc", LN_2).along(0),
    writes("h.{layer}.mlp.c_proj").along(1),
    // Masks.
    untouched("h.{layer}.attn.{bias,masked_bias}").bare(),
];

const OPT_FIRST: &str = "layers.{layer}.self_attn_layer_norm";
const OPT_SECOND: &str = "layers.{layer}.final_layer_norm";
const OPT_LAST: &str = "final_layer_norm";
const OPT: &[NameRule] = &[
    embedding("{embed_tokens,embed_positions}"),
    norm(OPT_FIRST),
    norm(OPT_SECOND),
    norm(OPT_LAST),
    reads("layers.{layer}.self_attn.{q,k,v}_proj", OPT_FIRST),
    writes("layers.{layer}.self_attn.out_proj"),
    reads("layers.{layer}.fc1", OPT_SECOND),
    writes("layers.{layer}.fc2"),
];

const LN_ATTN: &str = "h.{layer}.ln_attn";
const LN_MLP: &str = "h.{layer}.ln_mlp";
const FALCON: &[NameRule] = &[
    embedding("word_embeddings"),
    norm(LN_ATTN),
    norm(LN_MLP),
    norm(LN_F),
    reads("h.{layer}.self_attention.query_key_value", LN_ATTN),
    writes("h.{layer}.self_attention.dense"),
    reads("h.{layer}.mlp.dense_h_to_4h", LN_MLP),
    writes("h.{layer}.mlp.dense_4h_to_h"),
];

const CENTRED: RotationFamily = RotationFamily { layer_norm: true, ..LLAMA };
const BARE: Prefix = Prefix { decoder: "", head: "" };
const TRANSFORMER: &[Prefix] = &[Prefix { decoder: "transformer.", head: "" }, BARE];

const fn values(layout: ValueLayout, made_by: &'static str, read_by: &'static str) -> ValueProjections {
    ValueProjections { layout, v_proj: made_by, o_proj: read_by, refused: None }
}

const fn needed(key: &'static str, value: bool, default: bool) -> RequiredFlag {
    RequiredFlag { key, value, default }
}

pub const FAMILIES: &[RotationFamily] = &[
    RotationFamily {
        name: "phi",
        model_types: &["phi"],
        heads: &[reads("lm_head", PHI_LAST)],
        tables: &[PHI],
        values: values(
            ValueLayout::Plain,
            "layers.{layer}.self_attn.v_proj",
            "layers.{layer}.self_attn.dense",
        ),
        ..CENTRED
    },
    RotationFamily {
        name: "starcoder2",
        model_types: &["starcoder2"],
        tables: &[ENDS, NORMS, ATTENTION, STARCODER2],
        ..CENTRED
    },
    RotationFamily {
        name: "cohere",
        model_types: &["cohere", "cohere2"],
        tables: &[ENDS, ATTENTION, COHERE, HEAD_NORMS],
        ..CENTRED
    },
    RotationFamily {
        name: "stablelm",
        model_types: &["stablelm"],
        tables: &[ENDS, NORMS, ATTENTION, DENSE],
        // With it the second norm is none.
        needed: &[needed("use_parallel_residual", false, false)],
        ..CENTRED
    },
    RotationFamily {
        name: "nemotron",
        model_types: &["nemotron"],
        tables: &[ENDS, NORMS, ATTENTION, NEMOTRON],
        form: NormForm::OnePlusGain,
        ..CENTRED
    },
    RotationFamily {
        name: "gpt_neox",
        model_types: &["gpt_neox"],
        prefixes: &[Prefix { decoder: "gpt_neox.", head: "" }, BARE],
        embedding: "embed_in",
        heads: &[reads("embed_out", NEOX_LAST), reads("lm_head", NEOX_LAST)],
        tables: &[GPT_NEOX],
        values: values(
            ValueLayout::Interleaved,
            "layers.{layer}.attention.query_key_value",
            "layers.{layer}.attention.dense",
        ),
        ..CENTRED
    },
    RotationFamily {
        name: "gpt2",
        model_types: &["gpt2"],
        prefixes: TRANSFORMER,
        embedding: "wte",
        heads: &[reads("lm_head", LN_F)],
        tables: &[GPT2],
        values: values(ValueLayout::Transposed, "h.{layer}.attn.c_attn", "h.{layer}.attn.c_proj"),
        ..CENTRED
    },
    RotationFamily {
        name: "opt",
        model_types: &["opt"],
        prefixes: &[Prefix { decoder: "model.decoder.", head: "" }, Prefix { decoder: "decoder.", head: "" }],
        heads: &[reads("lm_head", OPT_LAST)],
        tables: &[OPT],
        values: values(
            ValueLayout::Plain,
            "layers.{layer}.self_attn.v_proj",
            "layers.{layer}.self_attn.out_proj",
        ),
        // Else the norms come after the branches, or the last one is left out.
        needed: &[
            needed("do_layer_norm_before", true, true),
            needed("_remove_final_layer_norm", false, false),
        ],
        ..CENTRED
    },
    RotationFamily {
        name: "falcon",
        model_types: &["falcon"],
        prefixes: TRANSFORMER,
        embedding: "word_embeddings",
        heads: &[reads("lm_head", LN_F)],
        tables: &[FALCON],
        values: values(
            ValueLayout::Grouped,
            "h.{layer}.self_attention.query_key_value",
            "h.{layer}.self_attention.dense",
        ),
        // The older one has other norms and another order of the heads.
        needed: &[needed("new_decoder_architecture", true, false)],
        ..CENTRED
    },
];
