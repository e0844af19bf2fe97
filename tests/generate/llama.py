"""llama.cpp's own quantizer, in a prebuilt libllama.so, called through ctypes."""

import ctypes
import glob
import os
import re

# Names as llama-quantize knows them, and its file-type numbers.
FTYPES = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K_S": 11,
    "Q3_K_M": 12, "Q3_K_L": 13, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18, "IQ2_XXS": 19,
    "IQ2_XS": 20, "Q2_K_S": 21, "IQ3_XS": 22, "IQ3_XXS": 23, "IQ1_S": 24, "IQ4_NL": 25, "IQ3_S": 26, "IQ3_M": 27,
    "IQ2_S": 28, "IQ2_M": 29, "IQ4_XS": 30, "IQ1_M": 31, "BF16": 32, "TQ1_0": 36, "TQ2_0": 37, "MXFP4_MOE": 38,
    "Q1_0": 40, "Q2_0": 41,
}  # fmt: skip
NO_TYPE = 43


class Params(ctypes.Structure):
    _fields_ = [
        ("threads", ctypes.c_int32),
        ("ftype", ctypes.c_int32),
        ("output_type", ctypes.c_int32),
        ("embedding_type", ctypes.c_int32),
        ("allow_requantize", ctypes.c_bool),
        ("quantize_output", ctypes.c_bool),
        ("only_copy", ctypes.c_bool),
        ("pure", ctypes.c_bool),
        ("keep_split", ctypes.c_bool),
        ("dry_run", ctypes.c_bool),
        ("imatrix", ctypes.c_void_p),
        ("overrides", ctypes.c_void_p),
        ("tensor_types", ctypes.c_void_p),
        ("prune", ctypes.c_void_p),
        ("buffer", ctypes.c_uint64),
    ]


class Weights(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("data", ctypes.POINTER(ctypes.c_float)), ("size", ctypes.c_size_t)]


class TensorType(ctypes.Structure):
    _fields_ = [("pattern", ctypes.c_char_p), ("type", ctypes.c_int32)]


LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
LINE = re.compile(r"\[ *\d+/ *\d+\] (\S+) +- \[[^\]]*\], type = +(\S+), size = [^\n]*?(?:\((\S+)\))?\n")


class Llama:
    def __init__(self, base):
        """`base` is the libggml-base.so that lies beside libllama."""
        ctypes.CDLL(base, ctypes.RTLD_GLOBAL)
        path = glob.glob(os.path.join(os.path.dirname(os.path.abspath(base)), "libllama.*so*"))[0]
        self.lib = ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
        self.lib.llama_model_quantize_default_params.restype = Params
        self.lib.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(Params)]
        defaults = self.lib.llama_model_quantize_default_params()
        assert (defaults.ftype, defaults.output_type, defaults.quantize_output, defaults.buffer) == (7, NO_TYPE, True, 1 << 33)
        self.text = []
        self.log = LOG(lambda _level, text, _data: self.text.append(text.decode(errors="replace")))
        self.lib.llama_log_set(self.log, None)

    def quantize(self, source, out, ftype, imatrix=None, tensor_types=(), **params):
        """Runs it; returns whether it went well, and what it said."""
        p = self.lib.llama_model_quantize_default_params()
        p.threads, p.ftype = 2, FTYPES[ftype]
        for key, value in params.items():
            setattr(p, key, value)
        if imatrix is not None:
            rows = [(k.encode(), v.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), v.size) for k, v in imatrix.items()]
            held = (Weights * (len(rows) + 1))(*[Weights(*r) for r in rows], Weights(None, None, 0))
            p.imatrix = ctypes.addressof(held)
        if tensor_types:
            types = [TensorType(pattern.encode(), number) for pattern, number in tensor_types]
            listed = (TensorType * (len(types) + 1))(*types, TensorType(None, NO_TYPE))
            p.tensor_types = ctypes.addressof(listed)
        self.text.clear()
        code = self.lib.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(p))
        return code == 0, "".join(self.text)

    def types(self, source, ftype, **params):
        """What each tensor would become, in the order of the work; None where it refuses."""
        good, said = self.quantize(source, "/dev/null", ftype, dry_run=True, **params)
        if not good:
            return None
        return [(name, (to or held).upper()) for name, held, to in LINE.findall(said)]
