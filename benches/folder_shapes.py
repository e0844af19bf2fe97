"""Writes a Hugging Face folder with the shapes of a Llama or of DeepSeek V3, for figures of time and memory.

    python3 benches/folder_shapes.py OUT 1b|8b|70b|deepseek_v3 [--layers N] [--vocabulary N] [--dtype BF16|F16|F32]
                                     [--shards N] [--sparse] [--tokenizer FOLDER]

Weights are one block of seeded random numbers, repeated; with --sparse, holes of zeros that take no disk space. The tokenizer's files are
copied, and the vocabulary is then the tokenizer's.
"""

import argparse
import json
import os
import random
import shutil
import struct

# Hidden size, feed-forward size, heads, key-value heads, layers.
SHAPES = {"1b": (2048, 8192, 32, 8, 16), "8b": (4096, 14336, 32, 8, 32), "70b": (8192, 28672, 64, 8, 80)}
DEEPSEEK_V3 = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "first_k_dense_replace": 3,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "moe_intermediate_size": 2048,
    "n_group": 8,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "num_nextn_predict_layers": 0,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "topk_group": 4,
    "v_head_dim": 128,
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json")
BLOCK = 1 << 20


def llama(shape, layers, vocabulary):
    hidden, wide, heads, kv_heads, all_layers = SHAPES[shape]
    layers = layers or all_layers
    keys = hidden // heads * kv_heads
    tensors = {"model.embed_tokens.weight": (vocabulary, hidden), "lm_head.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    for layer in range(layers):
        for name, axes in {
            "input_layernorm": (hidden,),
            "mlp.down_proj": (hidden, wide),
            "mlp.gate_proj": (wide, hidden),
            "mlp.up_proj": (wide, hidden),
            "post_attention_layernorm": (hidden,),
            "self_attn.k_proj": (keys, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.v_proj": (keys, hidden),
        }.items():
            tensors[f"model.layers.{layer}.{name}.weight"] = axes
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": wide,
        "max_position_embeddings": 8192,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
    }
    return tensors, config


def deepseek_v3(layers, vocabulary):
    c = dict(DEEPSEEK_V3, vocab_size=vocabulary)
    c["num_hidden_layers"] = layers or c["num_hidden_layers"]
    hidden, heads, rank = c["hidden_size"], c["num_attention_heads"], c["kv_lora_rank"]
    tensors = {"model.embed_tokens.weight": (vocabulary, hidden), "lm_head.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}

    def feed_forward(at, wide):
        tensors.update({f"{at}.{part}_proj.weight": (wide, hidden) for part in ("gate", "up")})
        tensors[f"{at}.down_proj.weight"] = (hidden, wide)

    for layer in range(c["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        for name, axes in {
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
            "self_attn.kv_a_layernorm": (rank,),
            "self_attn.kv_a_proj_with_mqa": (rank + c["qk_rope_head_dim"], hidden),
            "self_attn.kv_b_proj": (heads * (c["qk_nope_head_dim"] + c["v_head_dim"]), rank),
            "self_attn.o_proj": (hidden, heads * c["v_head_dim"]),
            "self_attn.q_a_layernorm": (c["q_lora_rank"],),
            "self_attn.q_a_proj": (c["q_lora_rank"], hidden),
            "self_attn.q_b_proj": (heads * (c["qk_nope_head_dim"] + c["qk_rope_head_dim"]), c["q_lora_rank"]),
        }.items():
            tensors[f"{at}.{name}.weight"] = axes
        if layer < c["first_k_dense_replace"]:
            feed_forward(f"{at}.mlp", c["intermediate_size"])
            continue
        tensors[f"{at}.mlp.gate.weight"] = (c["n_routed_experts"], hidden)
        tensors[f"{at}.mlp.gate.e_score_correction_bias"] = (c["n_routed_experts"],)
        feed_forward(f"{at}.mlp.shared_experts", c["moe_intermediate_size"])
        for expert in range(c["n_routed_experts"]):
            feed_forward(f"{at}.mlp.experts.{expert}", c["moe_intermediate_size"])
    return tensors, c


def block(dtype):
    rng = random.Random(7)
    values = struct.pack(f"<{BLOCK}f", *(rng.gauss(0, 0.02) for _ in range(BLOCK)))
    if dtype == "F32":
        return values
    if dtype == "F16":
        return struct.pack(f"<{BLOCK}e", *struct.unpack(f"<{BLOCK}f", values))
    return b"".join(values[i + 2 : i + 4] for i in range(0, len(values), 4))


def write_shard(path, tensors, dtype, data):
    header, at, width = {}, 0, 4 if dtype == "F32" else 2
    for name, axes in tensors:
        size = width
        for axis in axes:
            size *= axis
        header[name] = {"dtype": dtype, "shape": axes, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        if data is None:
            file.truncate(8 + len(text) + at)
        else:
            for part in range(0, at, len(data)):
                file.write(data[: at - part])
    return at


def copy_tokenizer(source, out):
    for name in TOKENIZER_FILES:
        if os.path.exists(os.path.join(source, name)):
            shutil.copy(os.path.join(source, name), out)
    with open(os.path.join(source, "tokenizer.json"), encoding="utf-8") as file:
        tokenizer = json.load(file)
    vocabulary = tokenizer["model"]["vocab"]
    ids = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
    return 1 + max([*ids, *(token["id"] for token in tokenizer.get("added_tokens", []))])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("shape", choices=[*SHAPES, "deepseek_v3"])
    parser.add_argument("--layers", type=int)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--dtype", choices=["BF16", "F16", "F32"], default="BF16")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--sparse", action="store_true")
    parser.add_argument("--tokenizer")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    vocabulary = copy_tokenizer(args.tokenizer, args.out) if args.tokenizer else args.vocabulary
    if args.shape == "deepseek_v3":
        tensors, config = deepseek_v3(args.layers, vocabulary)
    else:
        tensors, config = llama(args.shape, args.layers, vocabulary)
    data = None if args.sparse else block(args.dtype)
    listed, total, places = list(tensors.items()), 0, {}
    for shard in range(args.shards):
        part = listed[len(listed) * shard // args.shards : len(listed) * (shard + 1) // args.shards]
        name = f"model-{shard + 1:05}-of-{args.shards:05}.safetensors" if args.shards > 1 else "model.safetensors"
        total += write_shard(os.path.join(args.out, name), part, args.dtype, data)
        places.update({tensor: name for tensor, _ in part})
    if args.shards > 1:
        with open(os.path.join(args.out, "model.safetensors.index.json"), "w") as file:
            json.dump({"metadata": {"total_size": total}, "weight_map": places}, file)
    with open(os.path.join(args.out, "config.json"), "w") as file:
        json.dump(config | {"torch_dtype": "bfloat16"}, file)
    print(f"{args.out}: {len(listed)} tensors, {total} bytes of weights")


main()
