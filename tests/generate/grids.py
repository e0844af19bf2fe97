"""Writes core/src/quant/grids.rs: the grids of ggml's IQ1, IQ2 and IQ3 types, read out of its dequantizers.

    python grids.py LIBGGML_BASE_SO PACKAGE_VERSION > ../../core/src/quant/grids.rs

Every index of a grid is put into a block with scale 1 and no signs, and what comes out is the grid.
"""

import sys

import numpy as np

from ggml import Ggml

ONE = np.array([1.0], "<f2").view(np.uint8)
# name -> (entries, values of an entry, factor from decoded values to whole levels)
GRIDS = {
    "IQ2_XXS": (256, 8, 8),
    "IQ2_XS": (512, 8, 8),
    "IQ2_S": (1024, 8, 8),
    "IQ3_XXS": (256, 4, 4),
    "IQ3_S": (512, 4, 1),
    "IQ1_S": (2048, 8, 1),
}


def block(name, indices):
    """The bytes of a block whose grid indices are these, 32 of eight values or 64 of four."""
    i = np.asarray(indices, np.uint16)
    low = (i & 255).astype(np.uint8)
    if name == "IQ2_XXS":
        quads = low.reshape(8, 4)
        return [ONE, np.concatenate([quads, np.zeros((8, 4), np.uint8)], 1).reshape(-1)]
    if name == "IQ2_XS":
        return [ONE, i.astype("<u2").view(np.uint8), np.zeros(8, np.uint8)]
    if name == "IQ2_S":
        upper = sum((i.reshape(8, 4)[:, l] >> 8) << (2 * l) for l in range(4)).astype(np.uint8)
        return [ONE, low, np.zeros(32, np.uint8), upper, np.zeros(8, np.uint8)]
    if name == "IQ3_XXS":
        return [ONE, low, np.zeros(32, np.uint8)]
    if name == "IQ3_S":
        upper = sum((i.reshape(8, 8)[:, l] >> 8) << l for l in range(8)).astype(np.uint8)
        return [ONE, low, upper, np.zeros(32, np.uint8), np.zeros(4, np.uint8)]
    upper = sum((i.reshape(8, 4)[:, l] >> 8) << (3 * l) for l in range(4)).astype("<u2")
    return [ONE, low, upper.view(np.uint8)]


def grid(lib, name):
    entries, width, factor = GRIDS[name]
    each = 256 // width
    raw = np.concatenate([part for at in range(0, entries, each) for part in block(name, range(at, at + each))])
    values = lib.decode(name, raw, entries * width).view(np.float32) * factor
    # IQ1 adds an eighth to every value.
    whole = values - 0.125 if name == "IQ1_S" else values
    assert (whole == np.round(whole)).all()
    return whole.astype(int).reshape(entries, width)


def main():
    lib = Ggml(sys.argv[1])
    print(f"""//! The grids of the IQ1, IQ2 and IQ3 types: data, and nothing else. Written by `tests/generate/grids.py`.
//!
//! Provenance: what `dequantize_row_*` of ggml {lib.version} ({lib.commit}) in `@node-llama-cpp/linux-x64@{sys.argv[2]}`
//! (`libggml-base.so`, SHA-256 {lib.sha256[:32]}...) makes of every index.
//!
//! An entry holds the numbers of its levels, the first in the lowest bits: three bits each in the IQ3 grids, two in
//! the others.""")
    for name in GRIDS:
        rows = grid(lib, name)
        levels = np.unique(rows)
        bits = 3 if name.startswith("IQ3") else 2
        assert len(levels) <= 1 << bits
        numbers = np.searchsorted(levels, rows)
        words = (numbers << (bits * np.arange(rows.shape[1]))).sum(1)
        listed = ", ".join(f"{level}.0" for level in levels)
        print()
        if name == "IQ1_S":
            assert listed == "-1.0, 0.0, 1.0"
        elif bits == 3:
            print(f"/// The levels of [`{name}`].\npub const {name}_LEVELS: [f32; 8] = [{listed}];")
        elif name == "IQ2_XXS":
            print(f"/// The levels of the IQ2 grids; no entry has the fourth.\npub const IQ2_LEVELS: [f32; 4] = [{listed}, 0.0];")
            two_bits = listed
        else:
            assert listed == two_bits
        print(f"/// {len(words)} entries of {rows.shape[1]} values.\n#[rustfmt::skip]\npub static {name}: [u16; {len(words)}] = [")
        for at in range(0, len(words), 12):
            print("    " + " ".join(f"0x{w:04X}," for w in words[at : at + 12]))
        print("];")


main()
