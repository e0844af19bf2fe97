"""ggml's functions, timed on request: the peer of `src/main.rs`, which describes the requests. Runs until its input ends.

Usage: ggml.py LIBRARY FOLDER; first of all makes the data in FOLDER that both sides work on.
"""

import ctypes
import hashlib
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests/generate"))
import ggml  # noqa: E402
from generators import importance, generate  # noqa: E402

ACTIVATIONS = ["Q8_1", "Q8_K"]
VALUES, COLUMNS, TILE, HASHED = 1 << 20, 4096, 1 << 16, 1 << 18


def pointer(array):
    return array.ctypes.data


class Peer:
    def __init__(self, library, folder):
        self.ggml, self.folder = ggml.Ggml(library), folder
        self.values, self.weights = generate("normal", 1, VALUES), importance(1, COLUMNS)
        self.values.tofile(folder / "values.f32")
        self.weights.tofile(folder / "weights.f32")
        self.types = dict(ggml.BLOCKS)
        for name in self.types:
            # Those that are only read have bytes to decode as well.
            self.blocks(name).tofile(folder / f"{name}.blocks")
        for name in ggml.HALVES:
            self.ggml.encode(name, self.values[:TILE]).tofile(folder / f"{name}.blocks")
        self.source = np.empty(0, np.float32)

    def blocks(self, name):
        if name in ACTIVATIONS:
            number, length, size, _ = ggml.BLOCKS[name]
            row = getattr(self.ggml.lib, f"quantize_row_{ggml.lower(name)}_ref")
            row.restype, row.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
            out = np.zeros(TILE // length * size, np.uint8)
            row(pointer(self.values), pointer(out), TILE)
            return out
        return self.chunk(name, self.values[:TILE], True)

    def chunk(self, name, x, weighted):
        number, length, size, _ = ggml.BLOCKS[name]
        out = np.ones(x.size // length * size, np.uint8)
        weights = pointer(self.weights) if weighted else None
        self.seconds = time.thread_time()
        self.ggml.lib.ggml_quantize_chunk(number, pointer(x), pointer(out), 0, x.size // COLUMNS, COLUMNS, weights)
        self.seconds = time.thread_time() - self.seconds
        return out

    def encode(self, _engine, name, _source, count, weighted):
        if self.source.size != int(count):
            self.source = np.resize(self.values, int(count))
        if name in ggml.HALVES:
            out = np.ones(2 * int(count), np.uint8)
            f = self.narrow(name)
            self.seconds = time.thread_time()
            f(pointer(self.source), pointer(out), int(count))
            self.seconds = time.thread_time() - self.seconds
        else:
            out = self.chunk(name, self.source, weighted == "weighted")
        return self.seconds, out

    def function(self, name):
        f = getattr(self.ggml.lib, name)
        f.restype, f.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        return f

    def narrow(self, name):
        return self.function("ggml_fp32_to_bf16_row_ref" if name == "BF16" else "ggml_fp32_to_fp16_row")

    def decode(self, _engine, name, count):
        half, block = f"ggml_{ggml.HALVES.get(name)}_to_fp32_row", f"dequantize_row_{ggml.lower(name)}"
        f = self.function(half if name in ggml.HALVES else block)
        raw, out = np.fromfile(self.folder / f"{name}.blocks", np.uint8), np.empty(TILE, np.float32)
        src, dst = pointer(raw), pointer(out)
        begun = time.thread_time()
        for _ in range(int(count) // TILE):
            f(src, dst, TILE)
        return time.thread_time() - begun, out.view(np.uint8)

    def about(self):
        return {"version": self.ggml.version, "types": [t for t in [*ggml.HALVES, *ggml.BLOCKS] if t != "Q8_1"]}

    def answer(self, verb, *rest):
        if verb == "about":
            return self.about()
        seconds, made = getattr(self, verb)(*rest)
        return {"seconds": seconds, "sha256": hashlib.sha256(made[:HASHED]).hexdigest()}


def main():
    peer = Peer(sys.argv[1], Path(sys.argv[2]))
    for line in sys.stdin:
        print(json.dumps(peer.answer(*line.split())), flush=True)


main()
