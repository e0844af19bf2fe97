"""Writes a Llama-like model of 492 million BF16 weights (984 MB) as GGUF: the same bytes every time.

Usage: model.py OUT
"""

import sys

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

WIDTH, FEED_FORWARD, HEADS, KV_HEADS, LAYERS, VOCABULARY = 2048, 5632, 32, 8, 8, 32000
KV = WIDTH * KV_HEADS // HEADS


def tensors():
    yield "token_embd.weight", (VOCABULARY, WIDTH)
    for i in range(LAYERS):
        at = f"blk.{i}"
        yield f"{at}.attn_norm.weight", (WIDTH,)
        yield f"{at}.attn_q.weight", (WIDTH, WIDTH)
        yield f"{at}.attn_k.weight", (KV, WIDTH)
        yield f"{at}.attn_v.weight", (KV, WIDTH)
        yield f"{at}.attn_output.weight", (WIDTH, WIDTH)
        yield f"{at}.ffn_norm.weight", (WIDTH,)
        yield f"{at}.ffn_gate.weight", (FEED_FORWARD, WIDTH)
        yield f"{at}.ffn_up.weight", (FEED_FORWARD, WIDTH)
        yield f"{at}.ffn_down.weight", (WIDTH, FEED_FORWARD)
    yield "output_norm.weight", (WIDTH,)
    yield "output.weight", (VOCABULARY, WIDTH)


def values(rng, shape):
    """Norms are F32 near 1; matrices are near N(0, 0.02), their rows of different loudness, as BF16."""
    if len(shape) == 1:
        return (1 + 0.1 * rng.standard_normal(shape, np.float32)).astype(np.float32)
    x = rng.standard_normal(shape, np.float32)
    x *= 0.02 * np.exp2(rng.integers(-1, 2, (shape[0], 1)).astype(np.float32))
    return (x.view(np.uint32) >> 16).astype(np.uint16)


def main(path):
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(2048)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_file_type(32)  # BF16
    for name, shape in tensors():
        plain = len(shape) == 1
        kind = GGMLQuantizationType.F32 if plain else GGMLQuantizationType.BF16
        dtype, size = (np.float32, 4) if plain else (np.uint16, 2)
        writer.add_tensor_info(name, shape, np.dtype(dtype), int(np.prod(shape)) * size, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = np.random.default_rng(492)
    for _, shape in tensors():
        writer.write_tensor_data(values(rng, shape))
    writer.close()


main(sys.argv[1])
