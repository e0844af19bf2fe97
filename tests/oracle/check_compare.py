"""The numbers of `compare` and `sweep` equal numpy's to 1e-12 relative."""

import numpy as np
from common import SAMPLE, SCRATCH, close, exported, ok, quantoscope, read_safetensors, report

TOLERANCE = 1e-12


def figures(reference, candidate):
    r, q = (np.asarray(x, np.float64).reshape(-1) for x in (reference, candidate))
    e = r - q
    return {
        "rmse": np.sqrt(np.mean(e * e)),
        "mse": np.mean(e * e),
        "max_abs": np.abs(e).max(),
        "cosine": np.dot(r, q) / (np.sqrt(np.dot(r, r)) * np.sqrt(np.dot(q, q))),
        "relative_error": np.linalg.norm(e) / np.linalg.norm(r),
        "sqnr_db": 10 * np.log10(np.dot(r, r) / np.dot(e, e)) if e.any() else None,
    }


def hold(row, want, what):
    for key, exact in want.items():
        if exact is None:
            assert key not in row, f"{what}: {key} of no noise is absent"
        elif key == "max_abs":
            assert row[key] == exact, f"{what}: {row[key]!r} is not {exact!r}"
        else:
            close(row[key], float(exact), TOLERANCE, f"{what} {key}")


def check_compare(original, name, *options):
    out = SCRATCH / name
    # The figures are of tensors in the source's order of rows.
    options += ("--names", "source") if name.endswith(".gguf") else ()
    quantoscope("quantize", SAMPLE, "-o", out, *options, "--force")
    values = exported(out, "candidate")
    rows = report("compare", SAMPLE, out, "--no-threshold")["tensors"]
    assert {r["tensor"] for r in rows} == set(original)
    for row in rows:
        hold(row, figures(original[row["tensor"]], values[row["tensor"]]), f"{name} {row['tensor']}")
    # What quantize itself reports of the tensors that it encoded are the same numbers.
    told = {r["tensor"]: r for r in rows}
    made = report("quantize", SAMPLE, "-o", out, *options, "--force")["result"]["tensors"] if out.is_file() else []
    for tensor in (t for t in made if "error" in t):
        assert all(tensor["error"][k] == told[tensor["name"]][k] for k in tensor["error"]), tensor
    ok(f"compare of {name} agrees with numpy to {TOLERANCE}: {len(rows)} tensors")


original = read_safetensors(SAMPLE / "model.safetensors")
for dtype in ["q4_0", "q8_0", "q5_1"]:
    check_compare(original, f"c-{dtype}.gguf", "--type", dtype, "--pure")
check_compare(original, "c-asym", "--to", "q4")
check_compare(original, "c-f16.safetensors", "--type", "f16", "--pure")

q4_0 = exported(SCRATCH / "c-q4_0.gguf", "candidate")
swept = 0
for tensor in report("sweep", SAMPLE, "--types", "q4_0")["tensors"]:
    hold(tensor["encodings"][0], figures(original[tensor["name"]], q4_0[tensor["name"]]), f"sweep {tensor['name']}")
    swept += 1
ok(f"sweep agrees with numpy to {TOLERANCE}: {swept} tensors")
