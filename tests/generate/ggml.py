"""The reference: ggml's own functions in a prebuilt libggml-base.so, called through ctypes."""

import ctypes
import hashlib

import numpy as np

# name -> (ggml type number, values in a block, bytes of a block, upper bytes of its floating-point fields)
BLOCKS = {
    "Q8_0": (8, 32, 34, (1,)),
    "Q4_0": (2, 32, 18, (1,)),
    "Q4_1": (3, 32, 20, (1, 3)),
    "Q5_0": (6, 32, 22, (1,)),
    "Q5_1": (7, 32, 24, (1, 3)),
    "Q8_1": (9, 32, 36, (1, 3)),
    "Q2_K": (10, 256, 84, (81, 83)),
    "Q3_K": (11, 256, 110, (109,)),
    "Q4_K": (12, 256, 144, (1, 3)),
    "Q5_K": (13, 256, 176, (1, 3)),
    "Q6_K": (14, 256, 210, (209,)),
    "Q8_K": (15, 256, 292, (3,)),
    "IQ2_XXS": (16, 256, 66, (1,)),
    "IQ2_XS": (17, 256, 74, (1,)),
    "IQ3_XXS": (18, 256, 98, (1,)),
    "IQ1_S": (19, 256, 50, (1,)),
    "IQ4_NL": (20, 32, 18, (1,)),
    "IQ3_S": (21, 256, 110, (1,)),
    "IQ2_S": (22, 256, 82, (1,)),
    "IQ4_XS": (23, 256, 136, (1,)),
    "IQ1_M": (29, 256, 56, (55,)),
    "TQ1_0": (34, 256, 54, (53,)),
    "TQ2_0": (35, 256, 66, (65,)),
    "MXFP4": (39, 32, 17, ()),
    "NVFP4": (40, 64, 36, ()),
    "Q1_0": (41, 128, 18, (1,)),
    "Q2_0": (42, 64, 18, (1,)),
}
# Those that are only read.
READ = ["Q8_1", "Q8_K"]
WRITTEN = [name for name in BLOCKS if name not in READ]
# Those whose encoders need importance, and those that use it.
NEED_WEIGHTS = "IQ2_XXS IQ2_XS IQ1_S IQ1_M".split()
WEIGHTED = "Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS IQ2_S IQ3_XXS IQ3_S".split() + NEED_WEIGHTS
# Those whose reference stops the program where distances are too large to be numbers.
STOPS = "IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S".split()
HALVES = {"F16": "fp16", "BF16": "bf16"}


def lower(name):
    """The name in the library's functions."""
    return name.lower().replace("_k", "_K")


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

    def encode(self, name, x, importance=None):
        """The bytes of one row, or, with importance, of rows of as many values as it has weights."""
        x = np.ascontiguousarray(x, np.float32)
        if name in HALVES:
            function = "ggml_fp32_to_bf16_row_ref" if name == "BF16" else "ggml_fp32_to_fp16_row"
            return self._row(function, x, np.zeros(x.size * 2, np.uint8), x.size)
        number, length, size, _ = BLOCKS[name]
        out = np.zeros(x.size // length * size, np.uint8)
        if importance is not None:
            w = np.ascontiguousarray(importance, np.float32)
            rows = x.size // w.size
            assert rows * w.size == x.size
            written = self.lib.ggml_quantize_chunk(number, pointer(x), pointer(out), 0, rows, w.size, pointer(w))
            assert written == out.size
            return out
        written = self.lib.ggml_quantize_chunk(number, pointer(x), pointer(out), 0, 1, x.size, None)
        assert written == out.size
        if name != "IQ4_NL":  # whose row function searches less than the one that files are made with
            row = self._row(f"quantize_row_{lower(name)}_ref", x, np.zeros_like(out), x.size)
            assert (row == out).all(), "the two ways into the reference differ"
        return out

    def decode(self, name, raw, n):
        """The values of one row, as bits."""
        raw = np.ascontiguousarray(raw, np.uint8)
        if name == "Q8_1":  # has no decoder of its own; without its sum it is Q8_0
            name, raw = "Q8_0", np.ascontiguousarray(np.delete(raw.reshape(-1, 36), (2, 3), 1))
        function = f"ggml_{HALVES[name]}_to_fp32_row" if name in HALVES else f"dequantize_row_{lower(name)}"
        return self._row(function, raw, np.zeros(n, np.float32), n).view(np.uint32)
