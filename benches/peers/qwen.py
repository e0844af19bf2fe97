"""Writes a checkpoint with the names and shapes of Qwen 3.5 0.8B's language model, 752 million BF16 weights: the same bytes every time.

Usage: qwen.py FOLDER
"""

import json
import pathlib
import sys

import numpy as np

WIDTH, FEED_FORWARD, LAYERS, VOCABULARY = 1024, 3584, 24, 248320
HEADS, KV_HEADS, HEAD = 8, 2, 256
LINEAR_HEADS, LINEAR_HEAD, KERNEL = 16, 128, 4
PREFIX = "model.language_model."

CONFIG = {
    "architectures": ["Qwen3_5ForConditionalGeneration"],
    "model_type": "qwen3_5",
    "tie_word_embeddings": True,
    "text_config": {
        "model_type": "qwen3_5_text",
        "attention_bias": False,
        "head_dim": HEAD,
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "intermediate_size": FEED_FORWARD,
        "layer_types": ["linear_attention" if i % 4 != 3 else "full_attention" for i in range(LAYERS)],
        "linear_conv_kernel_dim": KERNEL,
        "linear_key_head_dim": LINEAR_HEAD,
        "linear_num_key_heads": LINEAR_HEADS,
        "linear_num_value_heads": LINEAR_HEADS,
        "linear_value_head_dim": LINEAR_HEAD,
        "max_position_embeddings": 262144,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "mrope_interleaved": True,
            "mrope_section": [11, 11, 10],
            "partial_rotary_factor": 0.25,
            "rope_theta": 10000000,
            "rope_type": "default",
        },
        "tie_word_embeddings": True,
        "vocab_size": VOCABULARY,
    },
}


def attention(i):
    if CONFIG["text_config"]["layer_types"][i] == "full_attention":
        at = "self_attn."
        yield at + "k_norm.weight", (HEAD,)
        yield at + "k_proj.weight", (KV_HEADS * HEAD, WIDTH)
        yield at + "o_proj.weight", (WIDTH, HEADS * HEAD)
        yield at + "q_norm.weight", (HEAD,)
        # Queries and their gates.
        yield at + "q_proj.weight", (2 * HEADS * HEAD, WIDTH)
        yield at + "v_proj.weight", (KV_HEADS * HEAD, WIDTH)
        return
    at, inner = "linear_attn.", LINEAR_HEADS * LINEAR_HEAD
    yield at + "A_log", (LINEAR_HEADS,)
    yield at + "conv1d.weight", (3 * inner, 1, KERNEL)
    yield at + "dt_bias", (LINEAR_HEADS,)
    yield at + "in_proj_a.weight", (LINEAR_HEADS, WIDTH)
    yield at + "in_proj_b.weight", (LINEAR_HEADS, WIDTH)
    yield at + "in_proj_qkv.weight", (3 * inner, WIDTH)
    yield at + "in_proj_z.weight", (inner, WIDTH)
    yield at + "norm.weight", (LINEAR_HEAD,)
    yield at + "out_proj.weight", (WIDTH, inner)


def tensors():
    yield PREFIX + "embed_tokens.weight", (VOCABULARY, WIDTH)
    for i in range(LAYERS):
        at = f"{PREFIX}layers.{i}."
        yield at + "input_layernorm.weight", (WIDTH,)
        yield from ((at + name, shape) for name, shape in attention(i))
        yield at + "mlp.down_proj.weight", (WIDTH, FEED_FORWARD)
        yield at + "mlp.gate_proj.weight", (FEED_FORWARD, WIDTH)
        yield at + "mlp.up_proj.weight", (FEED_FORWARD, WIDTH)
        yield at + "post_attention_layernorm.weight", (WIDTH,)
    yield PREFIX + "norm.weight", (WIDTH,)


def values(rng, shape):
    """Near N(0, 0.02); gains, which are stored less 1, are so too. A few million normals, from another place each time."""
    count = int(np.prod(shape))
    parts = []
    while count:
        start = int(rng.integers(0, len(POOL) // 2))
        parts.append(POOL[start : start + min(count, len(POOL) // 2)])
        count -= len(parts[-1])
    return np.concatenate(parts)


POOL = (0.02 * np.random.default_rng(35).standard_normal(1 << 24, np.float32)).view(np.uint32)
POOL = (POOL >> 16).astype(np.uint16)


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    header, at = {}, 0
    for name, shape in tensors():
        end = at + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(8)
    with open(folder / "model.safetensors", "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for _, shape in tensors():
            out.write(values(rng, shape).tobytes())


main(sys.argv[1])
