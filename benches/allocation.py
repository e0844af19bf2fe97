#!/usr/bin/env python3
"""KL divergence of `--target-size` and of llama.cpp's presets at equal bytes, on text that was not used for calibration.

    benches/allocation.py QUANTOSCOPE MODEL --calibration TEXT_OR_IDS --test TEXT_OR_IDS [--tokens 64] [--test-tokens 2048]

Files that end in .ids are token ids, others are text. Prints a table in Markdown: for each preset its bytes and the divergences of the preset,
of the chosen types with measured sensitivities, and of those with weight errors alone. Models whose weights lie on the grid of a quantized
file must be moved off it first, or the type of that grid costs nothing.
"""

import argparse
import json
import os
import subprocess
import tempfile

PRESETS = ["q2_k", "q3_k_m", "iq4_xs", "q4_k_m"]


def run(*command):
    """Standard output of a command that must succeed."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def tokens_of(path):
    return ["--ids" if path.endswith(".ids") else "--text", path]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--test-tokens", type=int, default=2048)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--requantize", action="store_true")
    args = parser.parse_args()
    requantize = ["--allow-requantize"] if args.requantize else []

    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "sensitivity.json")
        text = run(args.program, "sensitivity", args.model, *tokens_of(args.calibration),
                   "--tokens", args.tokens, "--json", *requantize)
        with open(report, "w", encoding="utf-8") as file:
            file.write(text)

        def divergence(path):
            figures = json.loads(run(args.program, "eval", path, "--against", args.model, *tokens_of(args.test),
                                     "--context", args.context, "--tokens", args.test_tokens, "--json"))
            return figures["kl_mean"], figures["perplexity"]

        print("| size of | bytes | preset: KL (perplexity) | chosen | KL / preset | weight errors alone | predicted |")
        print("|---|---|---|---|---|---|---|")
        for preset in PRESETS:
            paths = {name: os.path.join(folder, name + ".gguf") for name in ["preset", "chosen", "guess"]}
            run(args.program, "quantize", args.model, "-o", paths["preset"], "--recipe", preset, "--force",
                "--no-measure", *requantize)
            size = os.path.getsize(paths["preset"])
            chosen = json.loads(run(args.program, "quantize", args.model, "-o", paths["chosen"], "--target-size", size,
                                    "--sensitivity", report, "--json", "--force", "--no-measure", *requantize))
            run(args.program, "quantize", args.model, "-o", paths["guess"], "--target-size", size,
                "--no-sensitivity", "--force", "--no-measure", *requantize)
            for name in ["chosen", "guess"]:
                assert size * 0.998 <= os.path.getsize(paths[name]) <= size, (preset, name)
            figures = {name: divergence(path) for name, path in paths.items()}
            mix, ours = figures["preset"], figures["chosen"]
            predicted = chosen["result"]["target"]["predicted_kl"]
            print(f"| {preset} | {size:,} | {mix[0]:.5f} ({mix[1]:.3f}) | {ours[0]:.5f} ({ours[1]:.3f}) "
                  f"| {ours[0] / mix[0]:.2f} | {figures['guess'][0]:.5f} | {predicted:.5f} |", flush=True)


if __name__ == "__main__":
    main()
