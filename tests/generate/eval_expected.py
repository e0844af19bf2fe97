"""Makes ../fixtures/eval: figures of an evaluation of the sample Llama, by a forward pass of its own. Needs numpy only.

    python eval_expected.py IDS

IDS holds little-endian token ids of two bytes. The reference is the sample as it is. The model is the sample with the lowest
four bits of every BF16 value cleared. All arithmetic is binary64.
"""

import json
import pathlib
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "www" / "sample"
OUT = ROOT / "tests" / "fixtures" / "eval"
CONTEXT, TOKENS = 96, 320


def weights(mask):
    data = (SAMPLE / "model.safetensors").read_bytes()
    n = int.from_bytes(data[:8], "little")
    out = {}
    for name, info in json.loads(data[8 : 8 + n]).items():
        if name == "__metadata__":
            continue
        start, end = (8 + n + x for x in info["data_offsets"])
        bits = (np.frombuffer(data[start:end], "<u2") & mask).astype(np.uint32) << 16
        out[name] = bits.view(np.float32).astype(np.float64).reshape(info["shape"])
    return out


def rms(x, gain, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * gain


def rotate(x, theta):
    """Value i of a head with value i + half."""
    count, _, dim = x.shape
    angle = np.arange(count)[:, None] * theta ** (-np.arange(0, dim, 2) / dim)[None]
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b = x[..., : dim // 2], x[..., dim // 2 :]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def logits(w, config, ids):
    heads, kv, dim = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    eps, theta, count = config["rms_norm_eps"], config["rope_theta"], len(ids)
    x = w["model.embed_tokens.weight"][ids]
    hidden = np.triu(np.full((count, count), -np.inf), 1)
    for layer in range(config["num_hidden_layers"]):
        at = lambda name: w[f"model.layers.{layer}.{name}.weight"]
        h = rms(x, at("input_layernorm"), eps)
        q, k, v = (
            (h @ at(f"self_attn.{p}_proj").T).reshape(count, n, dim) for p, n in (("q", heads), ("k", kv), ("v", kv))
        )
        q, k = rotate(q, theta), rotate(k, theta)
        k, v = (np.repeat(t, heads // kv, 1) for t in (k, v))
        scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(dim) + hidden
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        mixed = np.einsum("hts,shd->thd", scores, v).reshape(count, heads * dim)
        x = x + mixed @ at("self_attn.o_proj").T
        h = rms(x, at("post_attention_layernorm"), eps)
        gate = h @ at("mlp.gate_proj").T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ at("mlp.up_proj").T)) @ at("mlp.down_proj").T
    return rms(x, w["model.norm.weight"], eps) @ w["lm_head.weight"].T


def log_shares(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def windows(ids, llama):
    if llama:
        for start in range(0, len(ids) - CONTEXT + 1, CONTEXT):
            yield ids[start : start + CONTEXT], CONTEXT // 2
    else:
        for start in range(0, len(ids) - 1, CONTEXT):
            yield ids[start : start + CONTEXT + 1], 0


def figures(ids, llama):
    config = json.loads((SAMPLE / "config.json").read_text())
    reference, model = weights(0xFFFF), weights(0xFFF0)
    nll, other, kl, same, difference, of_window = [], [], [], [], [], []
    for part, first in windows(ids, llama):
        p, q = (log_shares(logits(w, config, part[:-1]))[first:] for w in (reference, model))
        targets = part[1 + first :]
        places = np.arange(len(targets))
        nll += (mine := -q[places, targets]).tolist()
        other += (-p[places, targets]).tolist()
        of_window.append(mine.mean())
        kl += (np.exp(p) * (p - q)).sum(-1).tolist()
        same += (p.argmax(-1) == q.argmax(-1)).tolist()
        difference += (np.exp(q[places, targets]) - np.exp(p[places, targets])).tolist()
    nll, kl = np.array(nll), np.array(kl)
    return {
        "tokens": len(nll),
        "nll": nll.mean(),
        "perplexity": np.exp(nll.mean()),
        "perplexity_error": np.exp(nll.mean()) * np.sqrt(nll.var() / (len(nll) - 1)),
        "window_nll": of_window,
        "reference_nll": np.mean(other),
        "kl_mean": kl.mean(),
        "kl_median": np.percentile(kl, 50),
        "kl_p90": np.percentile(kl, 90),
        "kl_p99": np.percentile(kl, 99),
        "kl_max": kl.max(),
        "top1": np.mean(same),
        "rms_probability_difference": np.sqrt(np.mean(np.square(difference))),
    }


def main():
    ids = np.fromfile(sys.argv[1], "<u2")[: TOKENS + 1].astype(int)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "ids.txt").write_text(" ".join(map(str, ids)) + "\n")
    out = {"context": CONTEXT, "whole": figures(ids, False), "half": figures(ids, True)}
    (OUT / "expected.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
