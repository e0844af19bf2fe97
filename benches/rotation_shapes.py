"""Writes a Hugging Face folder with layers of a 1B, 8B or 70B Llama, for memory figures of `rotate`.

    python3 benches/rotation_shapes.py OUT 1b|8b|70b [LAYERS] [VOCABULARY] [BF16|F16|F32]

Weights are one block of seeded random numbers, repeated.
"""

import json
import os
import random
import struct
import sys

SHAPES = {"1b": (2048, 8192, 32, 8), "8b": (4096, 14336, 32, 8), "70b": (8192, 28672, 64, 8)}
BLOCK = 1 << 20


def tensors(hidden, wide, heads, kv_heads, layers, vocabulary):
    keys = hidden // heads * kv_heads
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    yield "lm_head.weight", (vocabulary, hidden)
    yield "model.norm.weight", (hidden,)
    for layer in range(layers):
        for name, shape in {
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
            yield f"model.layers.{layer}.{name}.weight", shape


def block(dtype):
    rng = random.Random(7)
    values = struct.pack(f"<{BLOCK}f", *(rng.gauss(0, 0.02) for _ in range(BLOCK)))
    if dtype == "F32":
        return values
    if dtype == "F16":
        return struct.pack(f"<{BLOCK}e", *struct.unpack(f"<{BLOCK}f", values))
    return b"".join(values[i + 2 : i + 4] for i in range(0, len(values), 4))


def main():
    out, size = sys.argv[1], sys.argv[2]
    layers, vocabulary = (int(sys.argv[i]) if len(sys.argv) > i else n for i, n in ((3, 1), (4, 8192)))
    dtype = sys.argv[5] if len(sys.argv) > 5 else "BF16"
    hidden, wide, heads, kv_heads = SHAPES[size]
    os.makedirs(out, exist_ok=True)
    header, at, width = {}, 0, 4 if dtype == "F32" else 2
    for name, shape in tensors(hidden, wide, heads, kv_heads, layers, vocabulary):
        count = width
        for axis in shape:
            count *= axis
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + count]}
        at += count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = block(dtype)
    with open(os.path.join(out, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for part in range(0, at, len(data)):
            file.write(data[: at - part])
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": wide,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
    }
    with open(os.path.join(out, "config.json"), "w") as file:
        json.dump(config, file)
    print(out, at, "bytes of weights")


main()
