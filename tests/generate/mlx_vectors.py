"""Writes `../vectors/mlx.json`: hashes (first 64 bits of SHA-256) of what `mx.quantize` makes of generated inputs on a CPU."""

import datetime
import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx
import numpy as np
from generators import generate

mx.set_default_device(mx.cpu)

BITS, GROUPS = (2, 3, 4, 5, 6, 8), (32, 64, 128)
DTYPES = {"BF16": mx.bfloat16, "F16": mx.float16, "F32": mx.float32}
# Inputs that every float type holds, and those that binary16 does not.
FAMILIES = ["normal", "heavy", "shifted", "constant", "zero", "negative_zero", "zeros", "sparse", "ties"]
WIDE = ["magnitudes", "scaled", "tiny"]
COUNT = 1024


def sha256(raw):
    return hashlib.sha256(raw).hexdigest()


def raw(array):
    return np.array(array.view(mx.uint8)).reshape(array.shape[0], -1)


def blocks(weight, bits, group):
    """The blocks of one row: codes, scale and bias of each group."""
    codes, scales, biases = mx.quantize(weight.reshape(1, -1), group_size=group, bits=bits)
    groups = weight.size // group
    parts = [raw(part).reshape(groups, -1) for part in (codes, scales, biases)]
    return np.concatenate(parts, axis=1).tobytes()


def name(bits, group, dtype):
    return f"mlx_q{bits}_g{group}" + ("" if dtype == "BF16" else f"_{dtype.lower()}")


def inputs(family, seed, dtype):
    """The hash of an input, rounded to `dtype`, and those of its blocks in each type."""
    x = np.array(generate(family, seed, COUNT), np.float32)
    weight = mx.array(x).astype(DTYPES[dtype])
    rounded = np.array(weight.astype(mx.float32))
    if not np.isfinite(rounded).all():
        raise SystemExit(f"{family} does not fit {dtype}")
    made = {
        name(bits, group, dtype): sha256(blocks(weight, bits, group))[:16] for bits in BITS for group in GROUPS
    }
    return {"dtype": dtype, "family": family, "seed": seed, "input_sha256": sha256(rounded.tobytes()), "made": made}


cases = [
    inputs(family, 1000 + number, dtype)
    for dtype in DTYPES
    for number, family in enumerate(FAMILIES + (WIDE if dtype != "F16" else []))
]
provenance = {
    "library": "mlx[cpu]",
    "version": version("mlx"),
    "function": "mlx.core.quantize, mode affine, device cpu",
    "date": str(datetime.date.today()),
}
lines = ",\n".join(json.dumps(c) for c in cases)
text = f'{{"provenance": {json.dumps(provenance)}, "count": {COUNT}, "cases": [\n{lines}\n]}}\n'
(Path(__file__).parent / ".." / "vectors" / "mlx.json").write_text(text)
