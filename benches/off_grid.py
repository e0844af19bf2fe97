#!/usr/bin/env python3
"""Moves a model off the grid of the quantized file that it was made of, without changing what it computes.

    benches/off_grid.py FOLDER OUT [--seed 1] [--scale 0.2]

FOLDER holds a Llama or Gemma 3 model as F32 (`quantize MODEL.gguf --to hf --type f32 -o FOLDER`). Weights that come from a 4-bit file lie on
its grid, so types with that grid cost nothing and measurements mean nothing. OUT holds the same function in another form:

- the channels of the residual stream are permuted;
- gains of norms are scaled by exp(scale * N(0, 1)) for each channel, and the matrices that read them by the inverse;
- rows of `up_proj` are scaled against columns of `down_proj`, rows of `v_proj` against columns of `o_proj`;
- without norms of query and key, rotary pairs of `q_proj` are scaled against those of `k_proj`.

A gain that is shared with the embedding (final norm, tied head) and gains of norms before a residual sum are only permuted.
Needs numpy and safetensors.
"""

import argparse
import json
import os
import shutil

import numpy as np
from safetensors.numpy import load_file, save_file


class Model:
    """Tensors as float64, by their name without `model.`."""

    def __init__(self, folder):
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            self.config = json.load(file)
        self.tensors = {name: value.astype(np.float64) for name, value in load_file(os.path.join(folder, "model.safetensors")).items()}
        self.gemma = self.config["model_type"].startswith("gemma3")
        self.head_dim = self.config.get("head_dim") or self.config["hidden_size"] // self.config["num_attention_heads"]
        self.kv_heads = self.config["num_key_value_heads"]
        self.group = self.config["num_attention_heads"] // self.kv_heads

    def layer(self, at, name):
        return f"model.layers.{at}.{name}.weight"

    def scale_rows(self, name, scale):
        self.tensors[name] *= scale[:, None]

    def scale_columns(self, name, scale):
        self.tensors[name] *= scale[None, :]

    def scale_gain(self, name, scale):
        """Gemma stores the gain minus one."""
        offset = 1.0 if self.gemma else 0.0
        self.tensors[name] = (self.tensors[name] + offset) * scale - offset


READERS = {
    "input_layernorm": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "mlp_norm": ["mlp.gate_proj", "mlp.up_proj"],
}
WRITERS = ["self_attn.o_proj", "mlp.down_proj"]


def norms_of(model):
    """Norms that stand before matrices, with those matrices; and norms before a residual sum."""
    if model.gemma:
        readers = {"input_layernorm": READERS["input_layernorm"], "pre_feedforward_layernorm": READERS["mlp_norm"]}
        return readers, ["post_attention_layernorm", "post_feedforward_layernorm"]
    return {"input_layernorm": READERS["input_layernorm"], "post_attention_layernorm": READERS["mlp_norm"]}, []


def permute_stream(model, order):
    readers, residual = norms_of(model)
    tensors = model.tensors
    for name in ["model.embed_tokens.weight", "lm_head.weight"]:
        if name in tensors:
            tensors[name] = tensors[name][:, order]
    tensors["model.norm.weight"] = tensors["model.norm.weight"][order]
    for at in range(model.config["num_hidden_layers"]):
        for norm in [*readers, *residual]:
            name = model.layer(at, norm)
            tensors[name] = tensors[name][order]
        for matrix in sum(readers.values(), []):
            name = model.layer(at, matrix)
            tensors[name] = tensors[name][:, order]
        for matrix in WRITERS:
            name = model.layer(at, matrix)
            tensors[name] = tensors[name][order]


def rescale(model, random, scale):
    readers, _ = norms_of(model)
    draw = lambda count: np.exp(scale * random.standard_normal(count))
    hidden, dim, kv = model.config["hidden_size"], model.head_dim, model.kv_heads
    if "lm_head.weight" in model.tensors:
        factors = draw(hidden)
        model.scale_gain("model.norm.weight", factors)
        model.scale_columns("lm_head.weight", 1 / factors)
    for at in range(model.config["num_hidden_layers"]):
        for norm, matrices in readers.items():
            factors = draw(hidden)
            model.scale_gain(model.layer(at, norm), factors)
            for matrix in matrices:
                model.scale_columns(model.layer(at, matrix), 1 / factors)
        factors = draw(model.config["intermediate_size"])
        model.scale_rows(model.layer(at, "mlp.up_proj"), factors)
        model.scale_columns(model.layer(at, "mlp.down_proj"), 1 / factors)
        factors = draw(kv * dim)
        model.scale_rows(model.layer(at, "self_attn.v_proj"), factors)
        per_query = np.repeat(factors.reshape(kv, 1, dim), model.group, axis=1).reshape(-1)
        model.scale_columns(model.layer(at, "self_attn.o_proj"), 1 / per_query)
        if model.layer(at, "self_attn.q_norm") not in model.tensors:
            half = np.tile(draw(kv * (dim // 2)).reshape(kv, 1, dim // 2), (1, 1, 2))
            model.scale_rows(model.layer(at, "self_attn.k_proj"), half.reshape(-1))
            per_query = np.repeat(half, model.group, axis=1).reshape(-1)
            model.scale_rows(model.layer(at, "self_attn.q_proj"), 1 / per_query)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("out")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, default=0.2)
    args = parser.parse_args()

    model = Model(args.folder)
    if not (model.gemma or model.config["model_type"] == "llama"):
        raise SystemExit(f"{model.config['model_type']}: only llama and gemma3 are known")
    if any(name.endswith(".bias") for name in model.tensors):
        raise SystemExit("biases are not scaled with their rows")
    random = np.random.default_rng(args.seed)
    permute_stream(model, random.permutation(model.config["hidden_size"]))
    rescale(model, random, args.scale)

    os.makedirs(args.out)
    for name in os.listdir(args.folder):
        if not name.endswith((".safetensors", ".md")):
            shutil.copy(os.path.join(args.folder, name), args.out)
    tensors = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in model.tensors.items()}
    save_file(tensors, os.path.join(args.out, "model.safetensors"), metadata={"format": "pt"})


if __name__ == "__main__":
    main()
