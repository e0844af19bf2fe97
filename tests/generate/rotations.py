"""Orthogonal matrices, and a checkpoint turned by them, all in binary64 and all dense: a second opinion on the product.

The Hadamard ones follow rules version 1 (`core/src/rotate`), written from their description.
"""

import numpy as np

GOLDEN, MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


def random(n, seed, fixes_ones=False):
    """Uniformly random; with `fixes_ones` among those that leave the vector of ones where it is."""
    rng = np.random.default_rng(seed)
    if not fixes_ones:
        return np.linalg.qr(rng.normal(size=(n, n)))[0]
    basis = np.linalg.qr(np.column_stack([np.ones(n), rng.normal(size=(n, n - 1))]))[0]
    inner = np.eye(n)
    inner[1:, 1:] = random(n - 1, seed + 1)
    return basis @ inner @ basis.T


def _prime(q):
    return q > 1 and all(q % d for d in range(2, int(q**0.5) + 1))


def _paley(n):
    """Paley's matrix of order n over a prime field, or None."""
    for q, kind in ((n - 1, 3), (n // 2 - 1, 1)):
        if n % 2 == 0 and _prime(q) and q % 4 == kind and (kind == 3 or n == 2 * (q + 1)):
            squares = {i * i % q for i in range(1, q)}
            chi = [0 if d == 0 else 1 if d in squares else -1 for d in range(q)]
            s = np.zeros((q + 1, q + 1))
            s[0, 1:], s[1:, 0] = 1, -1 if kind == 3 else 1
            s[1:, 1:] = [[chi[(i - j) % q] for j in range(q)] for i in range(q)]
            if kind == 3:
                return np.eye(n) + s
            return np.kron(s, [[1, 1], [1, -1]]) + np.kron(np.eye(q + 1), [[1, -1], [-1, -1]])
    return None


def hadamard(n):
    """Entries 1 and -1: the smallest Paley matrix that Sylvester's doubling takes to order n."""
    m = n // (n & -n)
    while m <= n:
        h = np.ones((1, 1)) if m == 1 else _paley(m)
        if h is not None:
            while len(h) < n:
                h = np.kron(h, [[1, 1], [1, -1]])
            return h
        m *= 2
    raise ValueError(f"no Hadamard matrix of order {n} here")


def signs(seed, n):
    out, state = np.empty(n), (seed + GOLDEN) & MASK
    for i in range(n):
        state = (state + GOLDEN) & MASK
        z = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        out[i] = -1 if (z ^ z >> 31) & 1 else 1
    return out


def signed_hadamard(n, seed, fixes_ones=False):
    h, d = hadamard(n), signs(seed, n)
    if not fixes_ones:
        return h * d / np.sqrt(n)
    h, d[0] = h * h[0], 1
    return h.T @ (d[:, None] * h) / n


def turned(x, axis, q, at=0):
    """x with the entries from `at` on along an axis replaced by their product with q."""
    x = np.moveaxis(x.copy(), axis, 0)
    x[at : at + len(q)] = np.tensordot(q, x[at : at + len(q)], 1)
    return np.moveaxis(x, 0, axis)


def fold(tensors, parts):
    """The gains of the norms multiplied into their readers."""

    def gain(name):
        return tensors[name] + (parts[name]["form"] == "1+w")

    out = dict(tensors)
    for name, part in parts.items():
        # A norm that is not among the parts is not folded.
        if part.get("fold") in parts:
            shape = [1] * tensors[name].ndim
            shape[part["axis"]] = -1
            out[name] = tensors[name] * gain(part["fold"]).reshape(shape)
        elif part["side"] == "norm":
            out[name] = np.full_like(tensors[name], part["neutral"])
        elif part["side"] == "norm_bias":
            out[name] = tensors[name] / gain(part["of"])
    return out


def rotate_stream(tensors, parts, q, skip=()):
    """R1. What is in `skip` keeps its place in the old basis, as if it had been forgotten."""
    tensors = dict(tensors)
    for name, part in parts.items():
        if "made_from" in part and name not in tensors:
            tensors[name] = tensors[part["made_from"]].copy()
    out = fold(tensors, parts)
    for name, part in parts.items():
        if name in skip:
            continue
        if "axis" in part:
            out[name] = turned(out[name], part["axis"], q)
        elif part["side"] == "norm_bias":
            out[name] = q @ out[name]
    return out


def rotate_values(tensors, parts, qs, skip=()):
    """R2: each group of heads of a layer has a rotation of its own, `qs[(layer, group)]`."""
    out = dict(tensors)
    for name, part in parts.items():
        if part is None or name in skip:
            continue
        layer = next(int(w) for w in name.split(".") if w.isdigit())
        for at, group in part["spans"]:
            out[name] = turned(out[name], part["axis"], qs[layer, group], at)
    return out
