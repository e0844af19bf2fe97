"""What a rotation does to quantized models, with and without outlier channels: perplexity and divergence. Needs numpy only.

    python rotation_perplexity.py MODEL... --ids IDS [--windows 24]

Each model (a folder with BF16 weights and its configuration) is given outliers of every kind of outliers.py, left alone,
folded or rotated by `quantize --rotate`, written as GGUF of one type throughout (`--pure`: embedding and head too), decoded
again, and run by our own forward pass over the first windows of the ids. Builds what it runs; prints tables of Markdown.
"""

import argparse
import hashlib
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import outliers

TYPES = ["q4_0", "q4_1", "q3_k"]
WAYS = {"plain": [], "fold": ["fold"], "rotate": ["quarot"], "rotate + R2": ["quarot,r2"]}
# Weights in F32 leave some 1e-15 nats.
PRESERVED = 1e-12
EMBEDDING, HEAD = outliers.EMBEDDING, outliers.HEAD


def run(*words):
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(map(str, words))}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def built():
    root = pathlib.Path(__file__).resolve().parents[2]
    packages = ["-p", "quantoscope", "-p", "quantoscope-tests", "--bin", "quantoscope", "--bin", "perplexity"]
    subprocess.run(["cargo", "build", "--release", "--quiet", *packages], cwd=root, check=True)
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target")) / "release"


def quantized(tool, source, kind, way, scratch):
    """A folder with what is left of `source` in that type, as F32."""
    rotate = [f"--rotate={w}" for w in WAYS[way]]
    folder = scratch / f"{source.name}-{way.replace(' ', '')}-{kind}"
    folder.mkdir()
    coded = folder / "coded.gguf"
    run(tool, "quantize", source, "-o", coded, "--type", kind, "--pure", "--no-measure", *rotate)
    decoded = folder / "model.safetensors"
    run(tool, "quantize", coded, "-o", decoded, "--type", "f32", "--pure", "--allow-requantize", "--no-measure")
    coded.unlink()
    with decoded.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    config = json.loads((source / "config.json").read_text()) | {"tie_word_embeddings": HEAD not in header}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def measured(program, model, ids, windows, candidates):
    """Perplexity of the model; perplexity, divergence and standard error of the loss of the candidates."""
    out = run(program, model, ids, windows, *candidates)
    base = float(re.search(r"^mean \S+ perplexity (\S+)$", out, re.M)[1])
    found = re.findall(r"\+- (\S+), perplexity (\S+), divergence (\S+), same best", out)
    if len(found) != len(candidates):
        raise SystemExit(f"error: {len(found)} lines for {len(candidates)} candidates")
    return base, [(float(p), float(d), float(e)) for e, p, d in found]


def table(model, args, scratch):
    errors, seen = [], {}
    for kind in ["none", *outliers.KINDS]:
        source = scratch / f"{model.name}-{kind}"
        if kind == "none":
            source.mkdir()
            for name in ["model.safetensors", "config.json"]:
                shutil.copyfile(model / name, source / name)
        else:
            outliers.inject(model, source, kind, args.times)
        cells = [(way, t) for way in WAYS for t in TYPES]
        folders = [source, *(quantized(args.bin / "quantoscope", source, t, way, scratch) for way, t in cells)]
        # Folding makes the same bytes of some of them: those are run once.
        marks = [hashlib.sha256((f / "model.safetensors").read_bytes()).digest() for f in folders]
        fresh = {m: f for m, f in zip(marks, folders) if m not in seen}
        base, found = measured(args.bin / "perplexity", model, args.ids, args.windows, fresh.values())
        seen.update(zip(fresh, found))
        perplexity, divergence, _ = seen[marks[0]]
        if divergence > PRESERVED:
            raise SystemExit(f"error: {kind} changed {model.name}: divergence {divergence}")
        if kind == "none":
            print(f"\n{model.name}: perplexity {base:.4f} over {args.windows} windows of 256 tokens.\n")
            print("| outliers | way |" + "".join(f" {t}: perplexity | divergence |" for t in TYPES))
            print("|---|---|" + "---|---|" * len(TYPES))
        else:
            print(f"| {kind} | not quantized | {perplexity:.4f} | {divergence:.1e} | | | | |")
        values = {cell: seen[mark] for cell, mark in zip(cells, marks[1:])}
        errors += [values[cell][2] for cell in cells]
        for way in WAYS:
            row = "".join(f" {p:.3f} | {d:.5f} |" for p, d, _ in (values[way, t] for t in TYPES))
            print(f"| {kind} | {way} |{row}", flush=True)
        for folder in folders:
            shutil.rmtree(folder)
    errors.sort()
    middle = errors[len(errors) // 2]
    print(f"\nStandard errors of the loss above that of the model: {errors[0]:.4f} to {errors[-1]:.4f}, median {middle:.4f}.")


def symmetry(model, tool, scratch):
    """mean(|row mean|) / absmax of embedding and head, and the same of Gaussian noise of their deviation and absmax."""
    for way in ["as it is", "fold", "quarot"]:
        folder = model
        if way != "as it is":
            folder = scratch / f"{model.name}-{way}"
            run(tool, "rotate", model, "-o", folder, "--rotate", way, "--type", "f32")
        shown = {t["name"]: t for t in json.loads(run(tool, "inspect", folder, "--stats", "--json"))["tensors"]}
        cells = " | ".join(symmetry_of(shown[n]) if n in shown else "tied | " for n in (EMBEDDING, HEAD))
        print(f"| {model.name} | {way} | {cells} |", flush=True)


def symmetry_of(tensor):
    stats = tensor["stats"]
    noise = math.sqrt(2 / math.pi / tensor["shape"][-1]) * stats["std"] / stats["absmax"]
    return f"{100 * stats['asymmetry']:.4f} % | {100 * noise:.4f} %"


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("models", nargs="+", type=pathlib.Path)
    args.add_argument("--ids", required=True)
    args.add_argument("--windows", type=int, default=24)
    args.add_argument("--times", type=float, default=16)
    args.add_argument("--bin", type=pathlib.Path, help="a folder with quantoscope and perplexity (default: they are built)")
    args = args.parse_args()
    args.bin = args.bin or built()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        print("| model | way | embedding | noise | head | noise |\n|---|---|---|---|---|---|")
        for model in args.models:
            symmetry(model, args.bin / "quantoscope", scratch)
        for model in args.models:
            table(model, args, scratch)


if __name__ == "__main__":
    main()
