"""Writes a sparse APR file with the shapes of a 32B model (hidden size 5120, feed-forward 27648), native q4 and a q8
head: all values are zeros, and the file takes a few kilobytes on disk.

    python3 benches/apr_sparse.py OUT.apr [LAYERS]
"""

import os
import struct
import sys
import zlib


def tensors(layers):
    yield "lm_head.weight", 129, (152064, 5120)
    yield "model.embed_tokens.weight", 128, (152064, 5120)
    for layer in range(layers):
        for name, shape in {
            "mlp.down_proj": (5120, 27648),
            "mlp.gate_proj": (27648, 5120),
            "mlp.up_proj": (27648, 5120),
            "self_attn.k_proj": (1024, 5120),
            "self_attn.o_proj": (5120, 5120),
            "self_attn.q_proj": (5120, 5120),
            "self_attn.v_proj": (1024, 5120),
        }.items():
            yield f"model.layers.{layer}.{name}.weight", 128, shape


def pad(data):
    return data + bytes(-len(data) % 64)


def main():
    out, layers = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 64
    index, offset = b"", 0
    for name, byte, shape in sorted(tensors(layers)):
        n = shape[0] * shape[1]
        size = 4 + n if byte == 129 else -(-n // 32) * 18
        index += struct.pack("<H", len(name)) + name.encode() + bytes([byte, len(shape)])
        index += struct.pack(f"<{len(shape)}QQQ", *shape, offset, size)
        offset += -(-size // 64) * 64
    metadata = b'{"architecture":"qwen2","num_layers":%d,"hidden_size":5120,"num_heads":40,"num_kv_heads":8}' % layers
    body = pad(metadata)
    index_at = 64 + len(body)
    data_at = index_at + len(pad(index))
    count = sum(1 for _ in tensors(layers))
    head = b"APR\0" + bytes([2, 0]) + struct.pack("<HIQIQQ", 1 << 10, count, 64, len(metadata), index_at, data_at)
    head += struct.pack("<I", zlib.crc32(head + bytes(20))) + bytes(20)
    with open(out, "wb") as file:
        file.write(head + body + pad(index))
        file.truncate(data_at + offset + 4)
    print(out, data_at + offset + 4, "bytes,", os.stat(out).st_blocks * 512, "on disk")


main()
