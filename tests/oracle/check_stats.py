"""The statistics of `inspect --stats` equal numpy's."""

import math

import numpy as np
from common import SAMPLE, close, odd_model, ok, read_safetensors, report


def hold(stats, values, name):
    x = np.asarray(values, np.float64).reshape(-1)
    if not x.size:
        assert not {"min", "max", "mean", "std", "kurtosis"} & set(stats), f"{name}: of nothing, nothing is known"
        return
    mean = math.fsum(x) / x.size
    d = x - mean
    m2, m4 = math.fsum(d * d) / x.size, math.fsum(d**4) / x.size
    # A mean is small where values cancel: what counts is its error against their spread.
    assert abs(stats["mean"] - mean) <= 1e-12 * max(abs(mean), math.sqrt(m2)), (name, stats["mean"], mean)
    close(stats["std"], math.sqrt(m2), 1e-12, f"{name} std")
    assert (stats["min"], stats["max"]) == (x.min(), x.max()), name
    assert stats["absmax"] == np.abs(x).max(), name
    assert (stats["zeros"], stats["nan"], stats["inf"]) == (int((x == 0).sum()), 0, 0), name
    if m2 > 0:
        close(stats["kurtosis"], m4 / m2**2, 1e-11, f"{name} kurtosis")
    else:
        assert "kurtosis" not in stats, name
    if stats["absmax"] > 0:
        rows = np.asarray(values, np.float64).reshape(-1, values.shape[-1] if values.ndim else 1)
        close(stats["asymmetry"], np.abs(rows.mean(axis=1)).mean() / np.abs(x).max(), 1e-9, f"{name} asymmetry")


def check(path, originals):
    tensors = report("inspect", path, "--stats")["tensors"]
    assert {t["name"] for t in tensors} == set(originals)
    for t in tensors:
        hold(t["stats"], originals[t["name"]], t["name"])
        if t.get("histogram"):
            assert sum(t["histogram"]["counts"]) == t["numel"], t["name"]
    ok(f"statistics of {path.name} agree with numpy: {len(tensors)} tensors")


check(SAMPLE, read_safetensors(SAMPLE / "model.safetensors"))
odd = odd_model()
check(odd, read_safetensors(odd))
