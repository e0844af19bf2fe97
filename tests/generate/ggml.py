"""The reference: ggml's own functions in a prebuilt libggml-base.so, called through ctypes."""

import ctypes
import hashlib

import numpy as np

# name -> (ggml type number, block bytes, binary16 fields in the header)
BLOCKS = {"Q8_0": (8, 34, 1), "Q4_0": (2, 18, 1), "Q4_1": (3, 20, 2), "Q5_0": (6, 22, 1), "Q5_1": (7, 24, 2)}
HALVES = {"F16": "fp16", "BF16": "bf16"}


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


class Ggml:
    def __init__(self, path):
        self.lib = ctypes.CDLL(path)
        with open(path, "rb") as f:
            self.sha256 = hashlib.sha256(f.read()).hexdigest()
        for name in ("ggml_version", "ggml_commit"):
            getattr(self.lib, name).restype = ctypes.c_char_p
        self.version = self.lib.ggml_version().decode()
        self.commit = self.lib.ggml_commit().decode()
        chunk = self.lib.ggml_quantize_chunk
        chunk.restype = ctypes.c_size_t
        chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]

    def _row(self, function, src, dst, n):
        f = getattr(self.lib, function)
        f.restype, f.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        f(pointer(src), pointer(dst), n)
        return dst

    def encode(self, name, x):
        """The bytes of one row."""
        x = np.ascontiguousarray(x, np.float32)
        if name in HALVES:
            function = "ggml_fp32_to_bf16_row_ref" if name == "BF16" else "ggml_fp32_to_fp16_row"
            return self._row(function, x, np.zeros(x.size * 2, np.uint8), x.size)
        number, size, _ = BLOCKS[name]
        out = np.zeros(x.size // 32 * size, np.uint8)
        row = self._row(f"quantize_row_{name.lower()}_ref", x, out.copy(), x.size)
        written = self.lib.ggml_quantize_chunk(number, pointer(x), pointer(out), 0, 1, x.size, None)
        assert written == out.size and (row == out).all(), "the two ways into the reference differ"
        return out

    def decode(self, name, raw, n):
        """The values of one row, as bits."""
        raw = np.ascontiguousarray(raw, np.uint8)
        function = f"ggml_{HALVES[name]}_to_fp32_row" if name in HALVES else f"dequantize_row_{name.lower()}"
        return self._row(function, raw, np.zeros(n, np.float32), n).view(np.uint32)
