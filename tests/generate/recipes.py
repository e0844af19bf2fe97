"""Writes ../vectors/recipes/*.json: the type that llama.cpp's quantizer chooses for every tensor of made-up models.

    python recipes.py LIBGGML_BASE_SO PACKAGE_VERSION

The models have headers only: a dry run reads no more.
"""

import datetime
import itertools
import json
import os
import pathlib
import sys
import tempfile

import gguf
import numpy as np

from ggml import Ggml
from llama import FTYPES, Llama

OUT = pathlib.Path(__file__).parent.parent / "vectors" / "recipes"
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def dense(embd, ff, kv, **more):
    return {
        "attn_norm.weight": [embd], "attn_q.weight": [embd, embd], "attn_k.weight": [kv, embd],
        "attn_v.weight": [kv, embd], "attn_output.weight": [embd, embd], "ffn_norm.weight": [embd],
        "ffn_gate.weight": [ff, embd], "ffn_up.weight": [ff, embd], "ffn_down.weight": [embd, ff], **more,
    }  # fmt: skip


def sparse(embd, ff, kv, experts, **more):
    layer = {k: v for k, v in dense(embd, ff, kv).items() if not k.startswith("ffn_") or k == "ffn_norm.weight"}
    return layer | {
        "ffn_gate_inp.weight": [experts, embd], "ffn_gate_exps.weight": [experts, ff, embd],
        "ffn_up_exps.weight": [experts, ff, embd], "ffn_down_exps.weight": [experts, embd, ff], **more,
    }  # fmt: skip


def fused(embd, ff, **more):
    return {
        "attn_norm.weight": [embd], "attn_qkv.weight": [embd * 2, embd], "attn_output.weight": [embd, embd],
        "ffn_norm.weight": [embd], "ffn_up.weight": [ff, embd], "ffn_down.weight": [embd, ff], **more,
    }  # fmt: skip


def model(arch, layers, heads, kv_heads, layer, tied=False, experts=0, vocab=512):
    embd = layer["attn_norm.weight"][0]
    root = {"token_embd.weight": [vocab, embd], "output_norm.weight": [embd]}
    if not tied:
        root["output.weight"] = [vocab, embd]
    return {"arch": arch, "layers": layers, "heads": heads, "kv_heads": kv_heads, "experts": experts, "root": root, "layer": layer}


SHARED = {"ffn_gate_shexp.weight": [256, 256], "ffn_up_shexp.weight": [256, 256], "ffn_down_shexp.weight": [256, 256]}
MODELS = {
    "llama": model("llama", 32, 8, 8, dense(256, 512, 256)),
    "llama_gqa_tied": model("llama", 22, 8, 2, dense(256, 512, 64), tied=True),
    "llama_70b": model("llama", 80, 8, 1, dense(256, 512, 32)),
    "llama_65b": model("llama", 80, 8, 8, dense(256, 512, 256)),
    "llama_small": model("llama", 5, 8, 4, dense(256, 512, 128)),
    "llama_rows_of_288": model("llama", 9, 9, 3, dense(288, 480, 96)),
    "llama_rows_of_264": model("llama", 9, 8, 4, dense(256, 264, 96)),
    "llama_tied_rows_of_96": model("llama", 9, 3, 3, dense(96, 256, 96), tied=True),
    "mixtral": model("llama", 32, 8, 2, sparse(256, 512, 64, 8), experts=8),
    "qwen2": model("qwen2", 80, 8, 1, dense(256, 512, 32)),
    "qwen2moe": model("qwen2moe", 24, 8, 8, sparse(256, 256, 256, 4, **SHARED), experts=4),
    "qwen3moe": model("qwen3moe", 16, 8, 1, sparse(256, 256, 32, 16), experts=16),
    "gemma2": model("gemma2", 26, 8, 4, dense(256, 512, 128), tied=True),
    "phi3": model("phi3", 32, 8, 8, fused(256, 512)),
    "falcon": model("falcon", 32, 8, 1, fused(256, 512)),
}
# The options of the command line, each on one model; numbers are ggml's types.
OPTIONS = {
    "pure": {"pure": True},
    "leave_output": {"quantize_output": False},
    "output_q8_0": {"output_type": 8},
    "embedding_q5_k": {"embedding_type": 13},
    "embedding_and_output": {"embedding_type": 12, "output_type": 14},
    "attn_v_q8_0": {"tensor_types": [(r"attn_v", 8)]},
    "first_match": {"tensor_types": [(r"blk\.1\.ffn_down", 13), (r"ffn_down", 14), (r"blk\.1\.", 8)]},
}


def names(m):
    for name, shape in m["root"].items():
        yield name, shape
    for i, (name, shape) in itertools.product(range(m["layers"]), m["layer"].items()):
        yield f"blk.{i}.{name}", shape


def described(path, m):
    """A writer of a GGUF, with the metadata that the quantizer looks at."""
    arch, embd = m["arch"], m["layer"]["attn_norm.weight"][0]
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(m["layers"])
    writer.add_context_length(2048)
    writer.add_embedding_length(embd)
    writer.add_feed_forward_length(512)
    writer.add_head_count(m["heads"])
    writer.add_head_count_kv(m["kv_heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_layer_norm_eps(1e-5)
    writer.add_rope_dimension_count(embd // m["heads"])
    writer.add_vocab_size(512)
    writer.add_sliding_window(1024)
    if m["experts"]:
        writer.add_expert_count(m["experts"])
        writer.add_expert_used_count(2)
        writer.add_expert_feed_forward_length(256)
        writer.add_expert_shared_feed_forward_length(256)
    return writer


def header(path, m):
    """A GGUF with nothing where the tensors should be."""
    writer = described(path, m)
    total = 0
    for name, shape in names(m):
        size = int(np.prod(shape)) * 4
        writer.add_tensor_info(name, shape, np.dtype(np.float32), size)
        total += -(-size // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    end = -(-os.path.getsize(path) // 32) * 32 + total
    os.truncate(path, end)


def packed(found, legend):
    """One letter for each tensor, a word for what is outside of layers and for each layer, equal words counted."""
    words = {}
    for name, kind in found:
        layer = int(name.split(".")[1]) if name.startswith("blk.") else -1
        legend.setdefault(kind, LETTERS[len(legend)])
        words.setdefault(layer, []).append(legend[kind])
    runs = [(word, len(list(run))) for word, run in itertools.groupby("".join(words[k]) for k in sorted(words))]
    return " ".join(word if n == 1 else f"{word}*{n}" for word, n in runs)


def cases(llama, path, options, legend):
    none = np.ones(1, np.float32)
    for ftype in FTYPES:
        plain = llama.types(path, ftype, **options)
        weighted = llama.types(path, ftype, imatrix={"none": none}, **options)
        case = {"plain": plain and packed(plain, legend), "imatrix": weighted and packed(weighted, legend)}
        if case["plain"] == case["imatrix"]:
            del case["imatrix"]
        yield ftype.lower(), case


def vector(llama, path, m, options):
    legend = {}
    header(path, m)
    order = [name for name, _ in llama.types(path, "F16")]
    assert sorted(order) == sorted(name for name, _ in names(m)), "the log was not understood"
    found = dict(cases(llama, path, options, legend))
    return {"legend": {v: k for k, v in legend.items()}, "types": found}


def write(name, provenance, m, found, options):
    head = {"provenance": provenance, "model": m, "options": options, "legend": found["legend"]}
    lines = ",\n".join(f'    "{k}": {json.dumps(v)}' for k, v in found["types"].items())
    (OUT / f"{name}.json").write_text(json.dumps(head, indent=1)[:-2] + f',\n "types": {{\n{lines}\n }}\n}}\n')


def main():
    ggml, llama = Ggml(sys.argv[1]), Llama(sys.argv[1])
    provenance = {
        "package": f"@node-llama-cpp/linux-x64@{sys.argv[2]}",
        "function": "llama_model_quantize, dry run",
        "ggml_version": ggml.version,
        "ggml_commit": ggml.commit,
        "date": datetime.date.today().isoformat(),
    }
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.gguf")
        for name, m in MODELS.items():
            write(name, provenance, m, vector(llama, path, m, {}), {})
        for name, options in OPTIONS.items():
            m = MODELS["llama_small"]
            write(f"option_{name}", provenance, m, vector(llama, path, m, options), options)


if __name__ == "__main__":
    main()
