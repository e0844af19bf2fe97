"""Writes ../vectors/*.json. See README.md for the commands.

    python generate.py LIBGGML_BASE_SO PACKAGE_VERSION
"""

import datetime
import hashlib
import json
import pathlib
import sys

import numpy as np

import lattice
from ggml import BLOCKS, HALVES, NEED_WEIGHTS, READ, STOPS, WEIGHTED, WRITTEN, Ggml
from generators import blocks, importance, generate

OUT = pathlib.Path(__file__).parent.parent / "vectors"
FAMILIES = """normal heavy shifted constant zero negative_zero zeros sparse ties magnitudes scaled bf16 f16
tiny""".split()
SEED = 20250611
LONG = 4096


def sha(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def case(family, seed, x, raw, decoded, whole):
    """One vector. Long ones keep a hash of the bytes, short ones and those to be judged by block all of them."""
    out = {"family": family, "seed": seed, "n": len(x), "input_sha256": sha(x), "bytes_sha256": sha(raw)}
    out["decoded_sha256"] = None if decoded is None else sha(decoded)
    if whole:
        out["bytes"] = bytes(raw).hex()
    return out


def write(name, provenance, cases):
    lines = ",\n".join("    " + json.dumps(c) for c in cases)
    head = json.dumps({"encoding": name, "provenance": provenance}, indent=2)[:-2]
    (OUT / f"{name.lower()}.json").write_text(f'{head},\n  "cases": [\n{lines}\n  ]\n}}\n')


def block_cases(lib, name):
    _, length, size, tops = BLOCKS[name]
    raw = blocks(SEED, 512, size, tops)
    yield {"family": "blocks", "seed": SEED, "n": 512 * length, "bytes_sha256": sha(raw), "decoded_sha256": sha(lib.decode(name, raw, 512 * length))}


def stops(name, family, n):
    """Whether the reference would stop the program."""
    return n == LONG and family == "huge" and name in STOPS


def ggml_cases(lib, name):
    families = FAMILIES + ["huge"] + (["patterns"] if name in HALVES else [])
    length = 32 if name in HALVES else BLOCKS[name][1]
    for k, family in enumerate(families):
        for n in (length, 2 * length, 3 * length, LONG):
            if name in NEED_WEIGHTS or stops(name, family, n):
                continue
            x = generate(family, SEED + k, n)
            raw = lib.encode(name, x)
            # A NaN's bits, after arithmetic, are nobody's promise.
            known = name in HALVES or family != "huge"
            yield case(family, SEED + k, x, raw, lib.decode(name, raw, n) if known else None, n <= max(96, length) or family == "huge")
    if name in HALVES:
        every = np.arange(65536, dtype="<u2").view(np.uint8)
        yield {"family": "every", "decoded_sha256": sha(lib.decode(name, every, 65536))}
        return
    yield from block_cases(lib, name)
    if name in WEIGHTED:
        yield from weighted_cases(lib, name)


def weighted_cases(lib, name):
    """Rows of as many columns as there are weights; those of `huge` are single blocks, to be judged one by one."""
    length = BLOCKS[name][1]
    for k, family in enumerate(FAMILIES + ["huge"]):
        alone = family == "huge"
        for n, columns in ((length, length), (LONG, length if alone else 4 * length), (LONG, LONG))[: 2 if alone else 3]:
            if stops(name, family, n):
                continue
            x, weights = generate(family, SEED + k, n), importance(SEED + 2 * k, columns)
            raw = lib.encode(name, x, weights)
            decoded = None if alone else lib.decode(name, raw, n)
            yield {
                **case(family, SEED + k, x, raw, decoded, n <= max(96, length) or alone),
                "importance": {"seed": SEED + 2 * k, "columns": columns, "sha256": sha(weights)},
            }


def lattice_cases(symmetric):
    for k, family in enumerate(FAMILIES):
        for n in (1, 2, 7, 31, 32, 33, 63, 65, 95, 1000):
            x = generate(family, SEED + k, n)
            raw = np.frombuffer(lattice.encode(x, symmetric), np.uint8)
            yield case(family, SEED + k, x, raw, lattice.decode(raw.tobytes(), n), n < 100)
    x = generate("huge", SEED, 2048)
    refused = []
    for at in range(0, 2048, 32):
        try:
            lattice.encode_block(x[at : at + 32], symmetric)
            refused.append(False)
        except lattice.Overflow:
            refused.append(True)
    yield {"family": "huge", "seed": SEED, "n": 2048, "input_sha256": sha(x), "refused": refused}
    if symmetric:
        return
    for seed, shape in ((1, [2, 33]), (2, [1, 32])):
        x = lattice.fixture(seed, shape[0] * shape[1])
        raw = lattice.encode(x, False)
        whole = lattice.file(shape, raw)
        print("fixture", shape, len(whole), hashlib.sha256(whole).hexdigest())
        yield {"family": "fixture", "seed": seed, "n": len(x), "shape": shape, "bytes": raw.hex(), "file_sha256": hashlib.sha256(whole).hexdigest()}


def main():
    lib = Ggml(sys.argv[1])
    ggml = {
        "package": f"@node-llama-cpp/linux-x64@{sys.argv[2]}",
        "library": "bins/linux-x64/libggml-base.so",
        "library_sha256": lib.sha256,
        "ggml_version": lib.version,
        "ggml_commit": lib.commit,
        "date": datetime.date.today().isoformat(),
    }
    for name in (*WRITTEN, *HALVES):
        write(name, ggml, list(ggml_cases(lib, name)))
    for name in READ:
        write(name, ggml, list(block_cases(lib, name)))
    own = {"written_by": "tests/generate/lattice.py", "numpy": np.__version__, "date": ggml["date"]}
    write("Q4_ASYM", own, list(lattice_cases(False)))
    write("Q4_SYM", own, list(lattice_cases(True)))


main()
