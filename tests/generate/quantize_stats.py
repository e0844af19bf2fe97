"""Writes ../fixtures/quantize-stats.json: the figures that llama.cpp's test-quantize-stats prints (with -r) for tensors
of a made-up F16 model, from the same functions of ggml.

    python quantize_stats.py LIBGGML_BASE_SO PACKAGE_VERSION

The tool quantizes chunks of 32 * 512 values of the flattened tensor, subtracts in binary32, and sums squares in
binary64. Types that require an importance matrix have no reference function and are left out. For IQ4_NL the tool calls
a function that searches less than the one that files are made with; the figures here are those of files.
"""

import datetime
import json
import pathlib
import sys

import numpy as np

from ggml import NEED_WEIGHTS, WRITTEN, Ggml
from generators import generate

OUT = pathlib.Path(__file__).parent.parent / "fixtures" / "quantize-stats.json"
CHUNK = 32 * 512
TENSORS = [
    ("blk.0.attn_q.weight", "normal", 71, [16, 256]),
    ("blk.0.ffn_down.weight", "heavy", 72, [8, 512]),
    ("blk.0.ffn_up.weight", "shifted", 73, [4, 768]),
    ("blk.1.ffn_up.weight", "normal", 74, [70, 256]),
]


def figures(lib, name, x):
    total, largest = 0.0, 0.0
    for at in range(0, x.size, CHUNK):
        part = x[at : at + CHUNK]
        back = lib.decode(name, lib.encode(name, part), part.size).view(np.float32)
        difference = (part - back).astype(np.float64)
        total += float(np.sum(difference * difference))
        largest = max(largest, float(np.max(np.abs(difference))))
    return {"rmse": float(np.sqrt(total / x.size)), "maxerr": largest}


def main():
    lib = Ggml(sys.argv[1])
    tensors = []
    for name, family, seed, shape in TENSORS:
        x = generate(family, seed, shape[0] * shape[1]).astype(np.float16).astype(np.float32)
        types = {t: figures(lib, t, x) for t in WRITTEN if t not in NEED_WEIGHTS}
        tensors.append({"name": name, "family": family, "seed": seed, "shape": shape, "types": types})
    provenance = {
        "package": f"@node-llama-cpp/linux-x64@{sys.argv[2]}",
        "library_sha256": lib.sha256,
        "ggml_version": lib.version,
        "ggml_commit": lib.commit,
        "date": datetime.date.today().isoformat(),
    }
    OUT.write_text(json.dumps({"provenance": provenance, "tensors": tensors}, indent=1) + "\n")


main()
