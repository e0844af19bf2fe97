"""The goals, as numbers; `peers.py` measures them."""

from typing import NamedTuple

MI = 1 << 20

# Types whose encoder is a stream: from F32 and from BF16, in parts of this machine's read bandwidth.
STREAMED = ["Q4_0", "Q8_0"]
STREAM_COUNT = 64 * MI
FROM_F32 = 0.70
FROM_BF16 = (0.60, 3.5e9)  # part of read bandwidth, or weights a second: whichever is less

# Times ggml's own function on one thread, by engine; the engines not named have no goal.
ENCODE = {
    "Q2_K": {"avx2": 8, "avx512": 11},
    "Q4_K": {"avx2": 8, "avx512": 11},
    "Q5_K": {"avx2": 8, "avx512": 11},
    "Q3_K": {"avx2": 6, "avx512": 6},
    "Q6_K": {"avx2": 6, "avx512": 6},
    "IQ4_NL": {"avx2": 6, "avx512": 6},
    "IQ4_XS": {"avx2": 6, "avx512": 6},
}
# With weights; the stretch is 4.
WEIGHTED = {name: 2 for name in ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"]}
# Every type; the stretch is 2.
DECODE = 1
DECODE_COUNT = 16 * MI

# WebAssembly: a part of our own AVX2, and for Q4_K times ggml compiled to it (weights a second, recorded on such a
# machine; that build is not made here).
WASM_PART, WASM_TYPES = 0.35, ["Q4_0", "Q8_0", "Q4_K"]
WASM_GGML = {"Q4_K": (3, 13.5e6)}

# Whole commands.
MEMORY = 250e6
COPIES = 1.5


class Command(NamedTuple):
    """A quantization of the whole model, theirs and ours."""

    name: str
    ftype: int
    ours: str
    # Times less wall than llama.cpp on two threads, where that is the goal; else the goal is a copy's time.
    times: float


COMMANDS = [
    Command("Q4_K_M", 15, "--recipe q4_k_m", 8),
    Command("Q8_0", 7, "--type q8_0 --pure", 0),
    Command("Q4_0", 2, "--type q4_0 --pure", 0),
]


def count(name):
    """Values that one measurement streams: some hundredths to tenths of a second of ggml's time."""
    if name in ENCODE:
        return MI if name.startswith("Q") else MI // 4
    return MI // 4 if name in WEIGHTED else 16 * MI


def weighted_count(name):
    return MI // 4 if name in WEIGHTED or name.startswith("IQ") else MI
