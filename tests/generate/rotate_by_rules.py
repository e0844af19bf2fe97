"""Rotates the residual stream of a checkpoint in one file, knowing nothing but its rules.json: a reference to hold others against.

python rotate_by_rules.py SOURCE RULES ROTATED [--seed 7] [--type f32|f64]
"""

import argparse
import json
import pathlib

import numpy as np

import hf
import rotations


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("source")
    args.add_argument("rules")
    args.add_argument("rotated")
    args.add_argument("--seed", type=int, default=7)
    args.add_argument("--type", choices=["f32", "f64"], default="f32")
    args = args.parse_args()
    rules = json.loads(pathlib.Path(args.rules).read_text())
    if not rules["r1"]["exact"]:
        raise SystemExit(f"error: {rules['family']} cannot be rotated: {rules['r1']['because']}")
    q = rotations.signed_hadamard(rules["hidden_size"], args.seed, rules["r1"]["rotation"] == "fixes_ones")
    tensors, entries = hf.read(args.source), rules["tensors"] | rules.get("tensors_in_memory", {})
    if unknown := sorted(set(tensors) - set(entries)):
        raise SystemExit(f"error: the rules do not name {unknown}")
    parts = {n: e["r1"] for n, e in entries.items() if n in tensors or "made_from" in e["r1"]}
    out = rotations.rotate_stream(tensors, parts, q)
    config = hf.config_of(args.source) | {"dtype": {"f32": "float32", "f64": "float64"}[args.type]}
    for part in (config, config.get("text_config", {})):
        if "tie_word_embeddings" in part:
            part["tie_word_embeddings"] = False
    pathlib.Path(args.rotated).mkdir(parents=True)
    hf.write(args.rotated, config, out, np.float32 if args.type == "f32" else np.float64)


main()
