"""Makes ../fixtures/families: a tiny checkpoint of every family with random weights, its rules and its logits.

python families.py [FAMILY...]
"""

import json
import pathlib
import shutil
import sys

import numpy as np
import torch
import transformers
from safetensors import safe_open

import hf
from family_rules import Parts
from family_table import FAMILIES

OUT = pathlib.Path(__file__).parent.parent / "fixtures" / "families"
SEED = 20261121


def values(name, tensor, rng, config):
    """Random values for a tensor as large as trained ones are, so that whatever is forgotten shows."""
    shape, noise = tuple(tensor.shape), rng.normal(size=tuple(tensor.shape))
    if name.endswith(("A_log", "sinks", "dt_bias")):
        return noise
    if "norm" in name or ".ln_" in name:
        shifted = bool((tensor == 0).all()) and name.endswith("weight")
        return noise * 0.3 if name.endswith("bias") else rng.uniform(-0.5, 0.5, shape) + (0 if shifted else 1)
    if "e_score" in name or "expert_bias" in name:
        # Small enough that every expert is chosen by some token.
        return noise * 0.05
    if tensor.ndim < 2:
        return noise * 0.3
    if any(part in name for part in ("embed", "wte", "wpe")):
        return noise * 0.6
    # Those that store their matrices as [in, out] have the inputs on the axis before the last.
    swapped = (
        ".c_attn" in name
        or ".c_proj" in name
        or ".c_fc" in name
        or (tensor.ndim == 3 and "experts" in name and name.split(".")[-1] in SWAPPED.get(config, ()))
    )
    return noise / np.sqrt(shape[-2] if swapped else int(np.prod(shape[1:])) if tensor.ndim != 3 else shape[-1])


SWAPPED = {"gpt_oss": ("gate_up_proj", "down_proj"), "llama4_text": ("gate_up_proj", "down_proj")}


def build(family):
    torch.manual_seed(SEED)
    rng = np.random.default_rng([SEED, *family.name.encode()])
    cls = getattr(transformers, family.model)
    config = cls.config_class(**family.config)
    model = cls(config).eval()
    with torch.no_grad():
        for name, tensor in sorted(model.state_dict(keep_vars=False).items()):
            if family.head in name and config.tie_word_embeddings:
                continue
            tensor.copy_(torch.from_numpy(values(name, tensor, rng, config.model_type)))
    return model.to(torch.bfloat16)


def shapes(path):
    with safe_open(path, "pt") as f:
        return {name: list(f.get_slice(name).get_shape()) for name in f.keys()}


def lines(of):
    """JSON with one line for each entry."""
    return "{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in of.items()) + "\n  }"


def rules(family, config, disk, memory):
    """What becomes of every tensor in both rotations, and of those that another layout would have instead."""
    parts = Parts(family, config, disk)
    blockers = parts.blockers()
    q = "fixes_ones" if family.centred else "any"
    why = "gains on the outputs of the branches"
    r1 = {"exact": False, "because": why, "blockers": blockers} if blockers else {"exact": True, "rotation": q}
    r2 = {"exact": True, "length": parts.length, "rotations": parts.count}
    if family.gated:
        r2 = {"exact": False, "because": family.gated}

    def entry(of, name):
        out = {"shape": of.shapes[name]}
        if r1["exact"]:
            out["r1"] = of.r1[name]
        if r2["exact"] and of.r2[name]:
            out["r2"] = of.r2[name]
        return out

    head = {
        "family": family.name,
        "class": family.model,
        "model_type": config["model_type"],
        "hidden_size": parts.hidden,
        "tied": parts.tied,
        "r1": r1,
        "r2": r2,
    }
    # A tied head is made only for a rotation of the stream.
    listed = [name for name in sorted(parts.shapes) if name in disk or r1["exact"]]
    body = {"tensors": {name: entry(parts, name) for name in listed}}
    if others := sorted(set(memory) - set(parts.shapes)):
        other = Parts(family, config, memory)
        body["tensors_in_memory"] = {name: entry(other, name) for name in others}
    text = json.dumps(head, indent=2)[:-2]
    return text + "".join(f',\n  "{k}": {lines(v)}' for k, v in body.items()) + "\n}\n"


def rounded(x):
    return float(f"{x:.13g}")


def expected(family, folder):
    config = hf.config_of(folder)
    wide = hf.logits(hf.load(folder), hf.text(config))
    narrow = hf.logits(hf.load(folder, False), hf.text(config), False)
    out = {
        "class": family.model,
        "transformers": transformers.__version__,
        "torch": torch.__version__.split("+")[0],
        "seed": SEED,
        "tokens": hf.tokens(config),
        "logits_of_last": [rounded(v) for v in wide[-1]],
        "sum": rounded(wide.sum()),
        "sum_of_squares": rounded((wide**2).sum()),
        "argmax": wide.argmax(1).tolist(),
        "largest": rounded(np.abs(wide).max()),
        "binary32_difference": float(f"{hf.difference(wide, narrow):.2g}"),
    }
    return "{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in out.items()) + "\n}\n"


def save(family, folder):
    """The checkpoint as `save_pretrained` writes it; returns the shapes that the parameters have in memory."""
    model = build(family)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    return {name: list(t.shape) for name, t in model.state_dict().items()}


def make(family):
    out = OUT / family.name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    memory = save(family, out)
    (out / "rules.json").write_text(rules(family, hf.config_of(out), shapes(out / "model.safetensors"), memory))
    if family.kept:
        (out / "expected.json").write_text(expected(family, out))
    else:
        (out / "model.safetensors").unlink()


def main():
    for family in FAMILIES:
        if not sys.argv[1:] or family.name in sys.argv[1:]:
            make(family)
            print(family.name, sum(p.stat().st_size for p in (OUT / family.name).iterdir()))


if __name__ == "__main__":
    main()
