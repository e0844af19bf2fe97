"""Draws new seeds and compares an engine, scalar where none is named, with the reference: a million weights and more per type.

    cargo build --release -p quantoscope-tests --bin recode
    python fresh.py LIBGGML_BASE_SO ../../target/release/recode [ENGINE [SEED]]
"""

import pathlib
import secrets
import subprocess
import sys
import tempfile

import numpy as np

import lattice
from ggml import BLOCKS, HALVES, NEED_WEIGHTS, WEIGHTED, WRITTEN, Ggml
from generators import blocks, importance, generate, words

FAMILIES = "normal heavy shifted constant zero negative_zero sparse ties magnitudes scaled bf16 f16 tiny".split()
# Columns of weighted rows: one super-block, a number that is no power of two, many.
WIDTHS = (256, 2816, 1 << 15)


# What the binary exits with where it refuses an element.
REFUSED = 3


class Refused(Exception):
    """An element that ours does not write; its number."""


def recode(binary, name, x, weights=None):
    with tempfile.TemporaryDirectory() as d:
        paths = [str(pathlib.Path(d) / f) for f in ("in", "bytes", "values")]
        x.tofile(paths[0])
        if weights is not None:
            paths.append(str(pathlib.Path(d) / "importance"))
            weights.astype("<f4").tofile(paths[-1])
        run = subprocess.run([*binary, name, *paths], stdout=subprocess.PIPE)
        if run.returncode == REFUSED:
            raise Refused(int(run.stdout))
        run.check_returncode()
        return np.fromfile(paths[1], np.uint8), np.fromfile(paths[2], "<u4")


def weightings(seed, columns):
    """Importance as generated, and where next to nothing counts, so that rounding decides."""
    generated = importance(seed, columns)
    few = words(seed, np.arange(columns)) % np.uint64(12) == 0
    return ("all", generated), ("few", np.where(few, generated, np.float32(0))), ("none", np.zeros_like(generated))


def recode_weighted(lib, binary, name, rows, weights):
    """Ours for rows of which it refuses none, and these rows.

    With weights a fit may have a scale that a binary16 cannot hold, which ggml writes as infinity and we refuse. A row where
    we do so must not be finite by ggml's account either; it is compared as zeros.
    """
    rows = rows.reshape(-1, weights.size).copy()
    while True:
        try:
            return rows.ravel(), *recode(binary, name, rows, weights)
        except Refused as refused:
            row = rows[refused.args[0] // weights.size]
            decoded = lib.decode(name, lib.encode(name, row.copy(), weights), row.size).view(np.float32)
            assert not np.isfinite(decoded).all(), f"{name}: refused without a reason at {refused}"
            row[:] = 0


def main():
    engine = sys.argv[3] if len(sys.argv) > 3 else "scalar"
    lib, binary = Ggml(sys.argv[1]), (sys.argv[2], engine)
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else secrets.randbits(48)
    print("engine", engine, "seed", seed)
    failed = 0

    def report(name, n, bytes_differing, values_differing):
        nonlocal failed
        failed += bytes_differing + values_differing
        print(f"{name:18} {n:>9} weights: {bytes_differing} bytes, {values_differing} decoded values differ")

    n = 1 << 17
    parts = [generate(f, seed + k, n) for k, f in enumerate(FAMILIES)]
    x = np.concatenate(parts)
    for name, (_, length, size, tops) in BLOCKS.items():
        some = blocks(seed, (1 << 20) // length, size, tops)
        _, values = recode(binary, f"read_{name.lower()}", some)
        report(f"read {name}", 1 << 20, 0, int((values != lib.decode(name, some, 1 << 20)).sum()))
    for name in (n for n in WRITTEN if n not in NEED_WEIGHTS):
        raw, values = recode(binary, name, x)
        ours = lib.encode(name, x)
        report(name, x.size, int((raw != ours).sum()), int((values != lib.decode(name, ours, x.size)).sum()))
    # So that next to none is refused: see recode_weighted.
    quiet = np.where(np.abs(x) > 1e5, x / np.float32(16), x).astype(np.float32)
    for columns in WIDTHS:
        for kind, weights in weightings(seed + columns, columns):
            for name in WEIGHTED:
                rows = quiet[: x.size // columns * columns]
                rows, raw, values = recode_weighted(lib, binary, name, rows, weights)
                ours = lib.encode(name, rows, weights)
                differing = int((values != lib.decode(name, ours, rows.size)).sum())
                report(f"{name} {columns} {kind}", rows.size, int((raw != ours).sum()), differing)
    any_bits = np.concatenate([generate("patterns", seed, 1 << 20), x])
    for name in HALVES:
        raw, values = recode(binary, f"narrow_{name.lower()}", any_bits)
        ours = lib.encode(name, any_bits)
        report(name, any_bits.size, int((raw != ours).sum()), int((values != lib.decode(name, ours, any_bits.size)).sum()))
    # The independent lattice codec is plain Python: fewer weights, with a partial block at the end.
    x = np.concatenate([p[: 1 << 13] for p in parts])[:-5]
    for name, symmetric in (("q4_asym", False), ("q4_sym", True)):
        raw, values = recode(binary, name, x)
        ours = np.frombuffer(lattice.encode(x, symmetric), np.uint8)
        report(name, x.size, int((raw != ours).sum()), int((values != lattice.decode(ours.tobytes(), x.size).view(np.uint32)).sum()))
    sys.exit(failed != 0)


main()
