"""The lattice block, written from its description and from nothing else: an encoder and a decoder in numpy.

Shares no code with the implementation under test, and works block by block where that one works in bulk."""

import struct

import numpy as np

F32 = np.float32


class Overflow(Exception):
    """A header field would be infinite."""


def half_away(x):
    """Nearest integer, halves away from zero, of a binary32, exactly (in f64, where x + 0.5 is exact)."""
    x = float(x)
    return int(np.floor(abs(x) + 0.5)) * (-1 if x < 0 else 1)


def f16_bits(x):
    with np.errstate(over="ignore"):
        return int(np.array([x], F32).astype("<f2").view("<u2")[0])


def store(x):
    bits = f16_bits(x)
    if bits & 0x7C00 == 0x7C00:
        raise Overflow
    return bits


def usable(scale):
    return F32(1) if scale < 1 and f16_bits(scale) == 0 else scale


def encode_block(real, symmetric):
    """One block of 1 to 32 real values."""
    real = [F32(x) for x in real]
    slots = real + [F32(0)] * (32 - len(real))
    with np.errstate(all="ignore"):
        if symmetric:
            top = F32(0)
            for x in real:
                top = abs(x) if abs(x) > top else top
            scale = usable(top / F32(7))
            bias = F32(-8) * scale
            header = struct.pack("<HH", store(scale), store(bias))
            inverse = F32(1) / scale
            codes = [half_away(x * inverse) + 8 for x in slots]
        else:
            low = high = real[0]
            for x in real[1:]:
                low = x if x < low else low
                high = x if x > high else high
            scale = usable((high - low) / F32(15))
            header = struct.pack("<HH", store(scale), store(low))
            inverse = F32(1) / scale
            # What is too large for any code need not be rounded; it may be infinite.
            codes = [half_away(min((x - low) * inverse, F32(1000))) for x in slots]
    codes = [min(max(c, 0), 15) for c in codes]
    return header + bytes(codes[2 * b] | codes[2 * b + 1] << 4 for b in range(16))


def encode(x, symmetric):
    return b"".join(encode_block(x[at : at + 32], symmetric) for at in range(0, len(x), 32))


def decode(raw, n):
    out = []
    for at in range(0, len(raw), 20):
        scale, bias = (F32(h) for h in np.frombuffer(raw[at : at + 4], "<f2"))
        for byte in raw[at + 4 : at + 20]:
            out += [F32(byte & 15) * scale + bias, F32(byte >> 4) * scale + bias]
    return np.array(out[:n], F32)


def file(shape, blocks):
    n = int(np.prod(shape, dtype=np.uint64))
    head = b"KHQ4" + struct.pack("<II", 2, len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<Q", n)
    return head + blocks


def fixture(seed, n):
    """The source values of the original's byte-identity fixture; all are BF16 numbers."""
    return np.array([((i * 37 + 13 * seed) % 200 - 100) / 4 for i in range(n)], F32)
