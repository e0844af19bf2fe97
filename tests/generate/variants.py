"""Logits of the tiny checkpoints under other configurations: ../fixtures/families/variants.json.

Random weights do for any of them: only what `config.json` says is changed, and transformers asked again. Where a change
needs other tensors, a checkpoint of its own is made: ../fixtures/forward.
"""

import copy
import json
import pathlib
import tempfile

import families
import hf
from family_kinds import SQUARE

# Family, class where it is another, changes; a dotted key lies inside.
VARIANTS = [
    ("llama", "MistralForCausalLM", {"model_type": "mistral", "sliding_window": 3}),
    ("llama", None, {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}}),
    ("llama", None, {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "rope_theta": 10000.0,
                                         "high_freq_factor": 4.0, "original_max_position_embeddings": 20}}),
    ("llama", None, {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64,
                                         "rope_theta": 10000.0}}),
    ("llama", "GraniteForCausalLM", {"model_type": "granite", "embedding_multiplier": 3.0, "residual_multiplier": 0.6,
                                     "attention_multiplier": 0.2, "logits_scaling": 7.0}),
    ("llama", "SmolLM3ForCausalLM", {"model_type": "smollm3", "no_rope_layers": [0, 1]}),
    ("llama", "SeedOssForCausalLM", {"model_type": "seed_oss", "attention_out_bias": False, "rms_norm_eps": 0.01}),
    ("llama_tied", "Ernie4_5ForCausalLM", {"model_type": "ernie4_5", "use_bias": False}),
    ("qwen2", None, {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1,
                     "layer_types": ["full_attention", "sliding_attention"]}),
    ("qwen3_tied", None, {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64,
                                              "rope_theta": 10000.0, "beta_fast": 8.0, "beta_slow": 0.5, "truncate": False}}),
    ("qwen3_moe", None, {"norm_topk_prob": False, "num_experts_per_tok": 3}),
    ("phi3", None, {"sliding_window": 5}),
    ("cohere", None, {"logit_scale": 0.3}),
    ("gpt_neox", None, {"use_parallel_residual": False}),
    ("gpt_neox", None, {"rope_parameters": {"partial_rotary_factor": 1.0, "rope_theta": 500.0, "rope_type": "default"}}),
    ("starcoder2", None, {"sliding_window": 2, "hidden_act": "gelu"}),
    ("qwen3_next", None, {"norm_topk_prob": False, "rope_parameters.partial_rotary_factor": 1.0}),
    ("qwen3_next", None, {"linear_num_key_heads": 4, "linear_key_head_dim": 3}),
    ("qwen3_5", None, {"text_config.rope_parameters.partial_rotary_factor": 1.0, "text_config.linear_num_key_heads": 1,
                       "text_config.linear_key_head_dim": 12}),
    ("gpt_oss", None, {"sliding_window": 3, "swiglu_limit": 0.25, "swiglu_alpha": 1.1, "num_experts_per_tok": 3}),
    ("gpt_oss", None, {"rope_parameters.original_max_position_embeddings": 8, "rope_parameters.rope_theta": 20.0,
                       "rope_parameters.truncate": True, "layer_types": ["full_attention", "sliding_attention"],
                       "sliding_window": 4}),
    ("deepseek_v3", None, {"topk_group": 2, "norm_topk_prob": False, "rope_interleave": False}),
    ("deepseek_v3", None, {"n_group": 1, "num_experts_per_tok": 1, "routed_scaling_factor": 1.0}),
    ("deepseek_v3", None, {"rope_parameters": {"rope_type": "yarn", "factor": 40.0, "rope_theta": 10000.0, "mscale": 1.0,
                                               "mscale_all_dim": 0.7, "original_max_position_embeddings": 64,
                                               "beta_fast": 32.0, "beta_slow": 1.0}}),
    ("hunyuan", None, {"rope_parameters": {"rope_type": "dynamic", "alpha": 1000.0, "rope_theta": 10000.0, "factor": 1.0}}),
    ("minimax_m2", None, {"num_experts_per_tok": 3, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
                                                                      "partial_rotary_factor": 0.5}}),
    ("llama4", None, {"attention_chunk_size": 5, "floor_scale": 4, "attn_scale": 0.3}),
    ("llama4", None, {"use_qk_norm": False, "attn_temperature_tuning": False, "num_experts_per_tok": 2}),
    ("falcon", None, {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
]


GRANITE = {"embedding_multiplier": 3.0, "residual_multiplier": 0.6, "attention_multiplier": 0.4, "logits_scaling": 7.0}

# Name, family, changes of what its configuration is made from, and the class if it is another.
OTHERS = [
    ("cohere_normed", "cohere", {"use_qk_norm": True}),
    ("deepseek_v3_direct", "deepseek_v3", {"q_lora_rank": None}),
    ("glm4_moe_plain", "glm4_moe", {"use_qk_norm": False}),
    ("lfm2_biased", "lfm2", {"conv_bias": True}),
    ("cohere2", "cohere", {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}, "Cohere2ForCausalLM"),
    ("olmoe", "qwen2_moe", {"intermediate_size": 12}, "OlmoeForCausalLM"),
    ("olmoe_clipped", "qwen2_moe", {"intermediate_size": 12, "clip_qkv": 0.8, "norm_topk_prob": True}, "OlmoeForCausalLM"),
    ("ernie4_5_moe", "qwen2_moe", {"moe_num_experts": 4, "moe_k": 2, "moe_num_shared_experts": 1, "moe_layer_start_index": 1,
                                   "moe_layer_interval": 1}, "Ernie4_5_MoeForCausalLM"),
    ("ernie4_5_moe_unshared", "qwen2_moe", {"moe_num_experts": 4, "moe_k": 3, "moe_num_shared_experts": 0,
                                            "moe_layer_start_index": 0, "moe_layer_interval": 1}, "Ernie4_5_MoeForCausalLM"),
    ("granite_moe", "mixtral", {**SQUARE, **GRANITE}, "GraniteMoeForCausalLM"),
    ("granite_moe_shared", "mixtral", {**SQUARE, **GRANITE, "shared_intermediate_size": 10}, "GraniteMoeSharedForCausalLM"),
    ("olmo", "llama", {"hidden_size": 16}, "OlmoForCausalLM"),
    ("olmo_clipped", "llama", {"hidden_size": 16, "clip_qkv": 0.7}, "OlmoForCausalLM"),
    ("arcee", "llama", {}, "ArceeForCausalLM"),
    ("lfm2_moe", "lfm2", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "num_dense_layers": 1},
     "Lfm2MoeForCausalLM"),
    ("glm4_moe_lite", "deepseek_v3", {}, "Glm4MoeLiteForCausalLM"),
    ("falcon_7b", "falcon", {"new_decoder_architecture": False, "multi_query": True}),
    ("falcon_own_keys", "falcon", {"new_decoder_architecture": False, "multi_query": False, "num_kv_heads": 4}),
]


def changed(config, changes):
    for key, value in changes.items():
        *path, last = key.split(".")
        inner = config
        for part in path:
            inner = inner[part]
        inner[last] = value
    return config


def variant(family, cls, changes):
    source = families.OUT / family
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        config = changed(hf.config_of(source), changes)
        if cls:
            config["architectures"] = [cls]
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "model.safetensors").symlink_to(source / "model.safetensors")
        wide = hf.logits(hf.load(folder), hf.text(config))
    plain = json.loads((source / "expected.json").read_text())
    last = [families.rounded(v) for v in wide[-1]]
    if last == plain["logits_of_last"]:
        raise ValueError(f"{family}: {changes} change nothing")
    numbers = {
        "logits_of_last": last,
        "sum_of_squares": families.rounded((wide**2).sum()),
        "largest": families.rounded(abs(wide).max()),
    }
    return {"family": family, "changes": changes, **numbers}


def other(name, family, changes, model=None):
    family = copy.copy(next(f for f in families.FAMILIES if f.name == family))
    family.model = model or family.model
    family.config = {**family.config, **changes}
    folder = families.OUT.parent / "forward" / name
    folder.mkdir(parents=True, exist_ok=True)
    families.save(family, folder)
    (folder / "expected.json").write_text(families.expected(family, folder))


def main():
    for each in OTHERS:
        other(*each)
    out = [json.dumps(variant(*v)) for v in VARIANTS]
    (families.OUT / "variants.json").write_text("[\n" + ",\n".join(out) + "\n]\n")


if __name__ == "__main__":
    main()
