//! Names of model classes in transformers, by `model_type`.

use crate::model::arch::{self, Arch};

/// The `model_type`s of an architecture; those of rows that classes decide stand here.
pub(super) fn model_types(arch: &Arch) -> &'static [&'static str] {
    match arch.name {
        "gemma_embedding" => &["gemma3_text"],
        "t5_encoder" => &["t5"],
        // The same tensors as Ministral 3, or Llama, under other names: transformers does not load them.
        arch::MISTRAL_FORMAT => &[],
        _ => arch.model_types,
    }
}

/// The class of a model; `None` for types of which only whole models with towers exist.
pub(super) fn class(arch: &Arch, model_type: &str) -> Option<&'static str> {
    if let Some(own) = arch.gguf_rules.classes.first() {
        return Some(own);
    }
    CLASSES.iter().find(|(name, _)| *name == model_type).map(|(_, class)| *class)
}

/// Names that a configuration has where no table of defaults lists them.
pub(super) fn further_names(model_type: &str) -> &'static [&'static str] {
    match model_type {
        "nomic_bert" => NOMIC,
        "qwen3_5_moe_text" | "lfm2_moe" => &["num_experts"],
        "mixtral" | "minimax_m2" | "gpt_oss" => &["num_local_experts"],
        _ => &[],
    }
}

const NOMIC: &[&str] =
    &["n_embd", "n_layer", "n_head", "n_inner", "n_positions", "layer_norm_epsilon", "rotary_emb_base"];

#[rustfmt::skip]
const CLASSES: &[(&str, &str)] = &[
    ("llama", "LlamaForCausalLM"), ("mistral", "MistralForCausalLM"), ("mixtral", "MixtralForCausalLM"),
    ("granite", "GraniteForCausalLM"), ("granitemoe", "GraniteMoeForCausalLM"),
    ("granitemoeshared", "GraniteMoeSharedForCausalLM"),
    ("granitemoehybrid", "GraniteMoeHybridForCausalLM"), ("smollm3", "SmolLM3ForCausalLM"),
    ("seed_oss", "SeedOssForCausalLM"), ("ernie4_5", "Ernie4_5ForCausalLM"),
    ("ernie4_5_moe", "Ernie4_5_MoeForCausalLM"), ("hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM"),
    ("qwen2", "Qwen2ForCausalLM"), ("qwen3", "Qwen3ForCausalLM"), ("qwen2_moe", "Qwen2MoeForCausalLM"),
    ("qwen3_moe", "Qwen3MoeForCausalLM"), ("qwen3_next", "Qwen3NextForCausalLM"),
    ("qwen3_5_text", "Qwen3_5ForCausalLM"), ("qwen3_5_moe_text", "Qwen3_5MoeForCausalLM"),
    ("qwen3_vl_text", "Qwen3VLForConditionalGeneration"), ("gemma", "GemmaForCausalLM"),
    ("gemma2", "Gemma2ForCausalLM"), ("gemma3_text", "Gemma3ForCausalLM"),
    ("gemma4_text", "Gemma4ForCausalLM"), ("phi", "PhiForCausalLM"), ("phi3", "Phi3ForCausalLM"),
    ("phimoe", "PhimoeForCausalLM"), ("lfm2", "Lfm2ForCausalLM"), ("lfm2_moe", "Lfm2MoeForCausalLM"),
    ("minimax_m2", "MiniMaxM2ForCausalLM"), ("gpt_oss", "GptOssForCausalLM"),
    ("deepseek_v2", "DeepseekV2ForCausalLM"), ("deepseek_v3", "DeepseekV3ForCausalLM"),
    ("glm4", "Glm4ForCausalLM"), ("glm4_moe", "Glm4MoeForCausalLM"),
    ("glm4_moe_lite", "Glm4MoeLiteForCausalLM"), ("llama4_text", "Llama4ForCausalLM"),
    ("starcoder2", "Starcoder2ForCausalLM"), ("cohere", "CohereForCausalLM"),
    ("cohere2", "Cohere2ForCausalLM"), ("stablelm", "StableLmForCausalLM"),
    ("nemotron", "NemotronForCausalLM"), ("gpt_neox", "GPTNeoXForCausalLM"), ("gpt2", "GPT2LMHeadModel"),
    ("falcon", "FalconForCausalLM"), ("mamba2", "Mamba2ForCausalLM"), ("olmo", "OlmoForCausalLM"),
    ("olmo2", "Olmo2ForCausalLM"), ("olmo3", "Olmo3ForCausalLM"), ("olmoe", "OlmoeForCausalLM"),
    ("exaone4", "Exaone4ForCausalLM"), ("ministral3", "Ministral3ForCausalLM"), ("bert", "BertModel"),
    ("roberta", "RobertaModel"), ("xlm-roberta", "XLMRobertaModel"), ("distilbert", "DistilBertModel"),
    ("nomic_bert", "NomicBertModel"), ("arcee", "ArceeForCausalLM"), ("exaone", "ExaoneForCausalLM"),
    ("maincoder", "MaincoderForCausalLM"), ("minicpm", "MiniCPMForCausalLM"),
    ("PanguEmbedded", "PanguEmbeddedForCausalLM"), ("t5", "T5ForConditionalGeneration"),
];
