"""One run of llama.cpp's own quantization of a whole file, in a process of its own; prints its seconds as JSON.

Usage: llama.py LIBRARY IN OUT FTYPE THREADS mixed|pure
"""

import ctypes
import json
import sys
import time


class Params(ctypes.Structure):
    """The start of llama_model_quantize_params; the rest keeps its defaults."""

    _fields_ = [
        ("threads", ctypes.c_int32),
        ("ftype", ctypes.c_int),
        ("output_type", ctypes.c_int),
        ("embedding_type", ctypes.c_int),
        ("allow_requantize", ctypes.c_bool),
        ("quantize_output", ctypes.c_bool),
        ("only_copy", ctypes.c_bool),
        ("pure", ctypes.c_bool),
        ("rest", ctypes.c_char * 240),
    ]


def main(library, source, out, ftype, threads, mix):
    llama = ctypes.CDLL(library)
    silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    llama.llama_log_set(silent, None)
    llama.llama_backend_init()
    llama.llama_model_quantize_default_params.restype = Params
    params = llama.llama_model_quantize_default_params()
    params.ftype, params.threads, params.pure = int(ftype), int(threads), mix == "pure"
    llama.llama_model_quantize.restype = ctypes.c_uint32
    llama.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
    begun = time.perf_counter()
    failed = llama.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(params))
    print(json.dumps({"seconds": time.perf_counter() - begun}))
    return int(failed != 0)


sys.exit(main(*sys.argv[1:]))
