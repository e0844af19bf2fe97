"""Makes ../fixtures/eval/imatrix.json: sums of squared inputs of the matrices of small models, by transformers in binary64.

    python imatrix_expected.py

Every product that a model computes is watched, and assigned to the parameter whose storage it reads. Names are written by hand:
those of llama.cpp. Each matrix of an entry has the number of vectors, the total of its sums, and the total of sums times their
position (from 1).
"""

import json
import pathlib
import re

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

import hf

ROOT = pathlib.Path(__file__).parents[2]
OUT = ROOT / "tests" / "fixtures" / "eval" / "imatrix.json"
FAMILIES = ["llama", "phi3", "gpt2", "gemma2", "lfm2", "qwen2_moe", "qwen3_moe", "qwen3_5", "deepseek_v2", "deepseek_v3"]
CONTEXT, CHUNKS = 10, 3

# The end of a parameter's name behind `layers.N.`, and the GGUF tensors that read the same inputs.
NAMES = {
    "self_attn.q_proj": ["attn_q"],
    "self_attn.k_proj": ["attn_k"],
    "self_attn.v_proj": ["attn_v"],
    "self_attn.o_proj": ["attn_output"],
    "self_attn.out_proj": ["attn_output"],
    "self_attn.qkv_proj": ["attn_qkv"],
    "self_attn.q_a_proj": ["attn_q_a"],
    "self_attn.q_b_proj": ["attn_q_b"],
    "self_attn.kv_a_proj_with_mqa": ["attn_kv_a_mqa"],
    "attn.c_attn": ["attn_qkv"],
    "attn.c_proj": ["attn_output"],
    "mlp.c_fc": ["ffn_up"],
    "mlp.c_proj": ["ffn_down"],
    "mlp.gate_proj": ["ffn_gate"],
    "mlp.up_proj": ["ffn_up"],
    "mlp.down_proj": ["ffn_down"],
    "mlp.gate_up_proj": ["ffn_up"],
    "feed_forward.w1": ["ffn_gate"],
    "feed_forward.w3": ["ffn_up"],
    "feed_forward.w2": ["ffn_down"],
    "conv.in_proj": ["shortconv.in_proj"],
    "conv.out_proj": ["shortconv.out_proj"],
    "mlp.gate": ["ffn_gate_inp"],
    "mlp.experts.gate_up_proj": ["ffn_gate_exps", "ffn_up_exps"],
    "mlp.experts.down_proj": ["ffn_down_exps"],
    "mlp.shared_expert.gate_proj": ["ffn_gate_shexp"],
    "mlp.shared_expert.up_proj": ["ffn_up_shexp"],
    "mlp.shared_expert.down_proj": ["ffn_down_shexp"],
    "mlp.shared_expert_gate": ["ffn_gate_inp_shexp"],
    "mlp.shared_experts.gate_proj": ["ffn_gate_shexp"],
    "mlp.shared_experts.up_proj": ["ffn_up_shexp"],
    "mlp.shared_experts.down_proj": ["ffn_down_shexp"],
    "linear_attn.in_proj_qkv": ["attn_qkv"],
    "linear_attn.in_proj_z": ["attn_gate"],
    "linear_attn.in_proj_b": ["ssm_beta"],
    "linear_attn.in_proj_a": ["ssm_alpha"],
    "linear_attn.out_proj": ["ssm_out"],
}
# Inputs that engines do not have: latent attention is absorbed there.
ABSORBED = "self_attn.kv_b_proj"


class Inputs(TorchFunctionMode):
    """Inputs of products, by parameter and matrix."""

    def __init__(self, model):
        super().__init__()
        self.places = sorted((p.data_ptr(), n, p) for n, p in model.named_parameters())
        self.found = {}

    def of(self, weight):
        for start, name, p in reversed(self.places):
            if start <= weight.data_ptr() < start + p.numel() * p.element_size():
                each = p[0].numel() if p.ndim == 3 else p.numel()
                return name, (weight.data_ptr() - start) // p.element_size() // each
        return None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        weight = x = None
        if func is torch.nn.functional.linear:
            x, weight = args[:2]
        elif func is torch.addmm:
            x, weight = args[1:3]
        if weight is not None and (key := self.of(weight)):
            vectors = x.detach().reshape(-1, x.shape[-1]).numpy().astype(np.float64)
            self.found.setdefault(key, []).append(vectors)
        return func(*args, **(kwargs or {}))


def run(folder):
    config = hf.config_of(folder)
    text = config.get("text_config") or config
    model = hf.load(folder)
    tokens = hf.tokens(config, CONTEXT * CHUNKS)
    inputs, mixed = Inputs(model), {}
    for start in range(0, len(tokens), CONTEXT):
        ids = torch.tensor([tokens[start : start + CONTEXT]])
        before = {key: len(found) for key, found in inputs.found.items()}
        with torch.no_grad(), hf.Wide(), inputs:
            out = model(input_ids=ids, output_attentions=True, use_cache=False)
        for layer, shares in enumerate(out.attentions or ()):
            for (name, _), found in inputs.found.items():
                if f"layers.{layer}.{ABSORBED}" in name:
                    latent = found[before.get((name, 0), 0)]
                    mixed.setdefault(layer, []).append(shares[0].numpy() @ latent)
    return text, tokens, inputs.found, mixed


def figures(matrices):
    """Count, total and weighted total of each matrix."""
    out = []
    for x in matrices:
        sums = (x * x).sum(0)
        out.append([len(x), float(f"{sums.sum():.12g}"), float(f"{(sums * np.arange(1, len(sums) + 1)).sum():.12g}")])
    return out


def swapped(x, text):
    """Value heads [key heads, each] as [each, key heads], as the converter has the columns of the output projection."""
    keys, all_, dim = text["linear_num_key_heads"], text["linear_num_value_heads"], text["linear_value_head_dim"]
    return x.reshape(len(x), keys, all_ // keys, dim).swapaxes(1, 2).reshape(len(x), -1)


def entries(folder):
    text, tokens, found, mixed = run(folder)
    experts = text.get("num_local_experts") or text.get("num_experts") or text.get("n_routed_experts") or 0
    heads = text.get("num_attention_heads") or text.get("n_head")
    out = {}
    for (name, _), parts in sorted(found.items()):
        match = re.search(r"\b(?:layers|h)\.(\d+)\.(.*?)(?:\.weight)?$", name)
        if not match or match[2] == ABSORBED:
            continue
        layer, module = int(match[1]), match[2]
        for gguf in NAMES[module]:
            key = f"blk.{layer}.{gguf}.weight"
            if module.startswith("mlp.experts."):
                width = parts[0].shape[1]
                of = lambda e: np.concatenate([np.zeros((0, width)), *found.get((name, e), [])])
                out[key] = figures([of(e) for e in range(experts)])
            else:
                x = np.concatenate(parts)
                out[key] = figures([swapped(x, text) if module == "linear_attn.out_proj" else x])
    for layer, latents in mixed.items():
        queries = next(
            np.concatenate(parts)
            for (name, _), parts in found.items()
            if re.search(rf"layers\.{layer}\.self_attn\.(q_b_proj|q_proj)\.weight$", name)
        )
        weight = next(
            p for n, p in hf.read(folder).items() if re.search(rf"layers\.{layer}\.self_attn\.(q_b_proj|q_proj)\.weight$", n)
        )
        nope = text["qk_nope_head_dim"]
        q = (queries @ weight.T).reshape(len(queries), heads, -1)[:, :, :nope]
        out[f"blk.{layer}.attn_k_b.weight"] = figures([q[:, h] for h in range(heads)])
        joined = np.concatenate(latents, 1)
        out[f"blk.{layer}.attn_v_b.weight"] = figures([joined[h] for h in range(heads)])
    return {"ids": tokens, "context": CONTEXT, "entries": out}


def main():
    all_ = {}
    for name in FAMILIES:
        all_[name] = entries(ROOT / "tests" / "fixtures" / "families" / name)
        print(name, len(all_[name]["entries"]))
    text = ",\n".join(f" {json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in all_.items())
    OUT.write_text("{\n" + text + "\n}\n")


if __name__ == "__main__":
    main()
