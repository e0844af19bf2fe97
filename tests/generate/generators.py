"""Inputs of the vectors, generated from a seed. tests/src/generators.rs generates the same bits; only sums, products
and bit patterns are used, so that no library function can make a difference."""

import numpy as np

GAMMA = np.uint64(0x9E3779B97F4A7C15)
F32 = np.float32


def words(seed, at):
    """SplitMix64 as a counter: word number `at` of the stream `seed`."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (np.asarray(at, np.uint64) + np.uint64(1)) * GAMMA
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def normal(seed, i):
    """Nearly N(0, 1): twelve uniforms of 16 bits, summed."""
    total = np.zeros(i.shape, np.int64)
    for k in range(3):
        w = words(seed, i * 4 + k)
        for part in range(4):
            total += ((w >> np.uint64(16 * part)) & np.uint64(0xFFFF)).astype(np.int64)
    return (total - 393210).astype(F32) * F32(1 / 65536)


def pattern(bits):
    return bits.astype(np.uint32).view(F32)


def ties(block, place, aux):
    """Halves on the grid of every type in turn, with both ends of the range in each block."""
    kind = block % 5
    top = np.choose(kind, [4, 15, 31, 127, 7]).astype(np.int64)
    low = np.choose(kind, [-4, 0, 0, -127, -7]).astype(np.int64)
    half = np.where(kind == 0, 4, 2).astype(np.int64)
    count = (top - low) * half + 1
    x = (low * half + (aux % count.astype(np.uint64)).astype(np.int64)).astype(F32) / half.astype(F32)
    swap = (block // 5) % 2 == 1
    first, second = np.where(swap, low, top), np.where(swap, top, low)
    x = np.where(place == 3, first.astype(F32), x)
    return np.where(place == 9, second.astype(F32), x).astype(F32)


def generate(family, seed, n):
    i = np.arange(n, dtype=np.uint64)
    block, place = (i // np.uint64(32)).astype(np.int64), (i % np.uint64(32)).astype(np.int64)
    aux = words(seed, i * 4 + 3)
    mantissa = (aux >> np.uint64(40)) & np.uint64(0x7FFFFF)
    sign = (aux >> np.uint64(63)) << np.uint64(31)
    z = normal(seed, i)
    small = z * F32(0.02)
    if family == "normal":
        return small
    if family == "heavy":
        return z * z * z * F32(0.02)
    if family == "shifted":
        return small + F32(0.35)
    if family == "constant":
        return normal(seed, block.astype(np.uint64) * 32) * F32(0.02)
    if family == "zero":
        return np.zeros(n, F32)
    if family == "negative_zero":
        return np.full(n, -0.0, F32)
    if family == "zeros":
        return pattern(sign)
    if family == "sparse":
        return np.where(aux % 50 == 0, small, pattern(sign)).astype(F32)
    if family == "ties":
        return ties(block, place, aux >> np.uint64(8))
    if family == "magnitudes":
        return pattern(sign | ((np.uint64(67) + aux % 75) << np.uint64(23)) | mantissa)
    if family == "scaled":
        e = words(seed ^ 0x5CA1ED, block.astype(np.uint64)) % 64
        return z * pattern((e + np.uint64(127 - 54)) << np.uint64(23))
    if family == "bf16":
        return pattern(small.view(np.uint32) & np.uint32(0xFFFF0000))
    if family == "f16":
        return np.where(np.abs(small) < F32(2**-14), F32(0), pattern(small.view(np.uint32) & np.uint32(0xFFFFE000)))
    if family == "tiny":
        limit = (1 + block % 40).astype(np.uint64)
        return pattern(sign | ((aux % limit) << np.uint64(23)) | mantissa)
    if family == "huge":
        limit = (1 + block % 118).astype(np.uint64)
        return pattern(sign | ((np.uint64(137) + aux % limit) << np.uint64(23)) | mantissa)
    if family == "patterns":
        return pattern(aux >> np.uint64(32))
    raise ValueError(family)


def importance(seed, n):
    """One weight a column, as an importance matrix has them: from 2^-20 to 2^12, most near 1, a 64th of them 0, and
    some stretches of 32 all 0."""
    i = np.arange(n, dtype=np.uint64)
    w = words(seed ^ 0x1A47, i)
    stretch = words(seed ^ 0x57E7C, i // np.uint64(32))
    # Near 1 but for every eighth, which may be anywhere.
    near, far = w % np.uint64(4) + np.uint64(125), w % np.uint64(32) + np.uint64(107)
    exponent = np.where((w >> np.uint64(8)) % np.uint64(8) == 0, far, near)
    x = pattern((exponent << np.uint64(23)) | (w >> np.uint64(41)))
    return np.where(((w >> np.uint64(16)) % np.uint64(64) == 0) | (stretch % np.uint64(64) == 0), F32(0), x)


def blocks(seed, count, size, tops):
    """`count` random blocks of `size` bytes whose floating-point fields, with upper bytes at `tops`, are finite."""
    n = count * size
    w = words(seed, np.arange((n + 7) // 8, dtype=np.uint64))
    raw = w.astype("<u8").view(np.uint8)[:n].reshape(count, size).copy()
    raw[:, list(tops)] &= 0xBF
    return raw.reshape(-1)
