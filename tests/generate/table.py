"""The README of the tiny checkpoints, with what was measured."""

import json
import re

import safetensors
import torch
import transformers

import families
from family_table import CENTRED, FAMILIES, LLAMAS, MIXTURES, REFUSED

INTRO = """# Tiny checkpoints of the model families

Random weights in the shapes and names of real models, as transformers' own classes save them, and what a rotation of
the residual stream (R1) and of the values of attention (R2) does to each tensor. `tests/generate/families.py` makes the
folders; `tests/generate/prove.py` measured what stands below and wrote this file (do not edit it here).

Each folder has `config.json` as it was saved and `rules.json`. Where the weights are kept, there are also
`model.safetensors` (BF16; gains, biases and tables are random too, so that nothing forgotten stays hidden) and
`expected.json`: token ids, and the logits that transformers computes from the stored weights with all arithmetic in
binary64 (all those of the last position, the sums over all positions, the best token at each).
`variants.json` has such logits for the same weights under other configurations (`tests/generate/variants.py`).

## rules.json

`r1` and `r2` say whether the rotation leaves the model as it was (`exact`) and else why not, and name the tensors that
forbid it (`blockers`). `tensors` has every tensor of the checkpoint, and the head that a tied model must be given
(`made_from` names its source); `tensors_in_memory` has those that another layout of the same family has instead.

Part of a tensor in R1 (`Q` turns the stream, `x' = Q x`):

| side | what becomes of it |
|---|---|
| `embedding`, `writer` | every vector along `axis` is multiplied by `Q` |
| `reader`, `head` | the gain of the norm `fold` is multiplied in along `axis`, then every vector along it is multiplied by `Q` |
| `norm` | its gain (`form`: `w` or `1+w`) goes into all that name it as `fold`; then it is `neutral` everywhere |
| `norm_bias` | divided by the gain of the norm `of`, then multiplied by `Q` |
| `untouched` | stays, bit for bit |

`rotation` is `any`, or `fixes_ones` where the norms subtract the mean: then `Q` must leave the vector of ones where it is.

In R2 each layer has `rotations` matrices of order `length`. A tensor with a part has `spans`: at each `[offset, i]` along
`axis`, `length` entries are multiplied by the layer's matrix `i`. Offsets say where the heads lie in fused tensors;
a bias of the values has spans as well. A tensor without a part in R2 stays as it is.
"""

NOTES = """
`memory` is R1 done on the names and layouts that transformers holds in memory (see below), loaded from such a file.
`f32` is R1 with the rotated weights rounded to binary32 and the arithmetic as shipped, against the same of the source.
`least` is the smallest difference that one single tensor makes when its part is left out (R1 and R2): every part
counts, and would be seen. `any Q` is a rotation that does not fix ones, on a model whose norms subtract the mean.
Differences are relative to the largest logit, in binary64 unless said; {tokens} tokens, all positions; models with a
vision tower also with an image among the tokens. The checks fail where what the rules call exact is off by more than 1e-12.
"""

NAMES = """
## Two layouts of the same weights

transformers from 5 on holds some tensors under other names than it reads and writes. It splits or renames them when it
saves, so the files keep the older layout; files in the layout of the memory are loaded as well, and both were measured.
Experts one by one are `gate_proj`, `up_proj` (`w1`, `w3`) of `[I, H]` and `down_proj` (`w2`) of `[H, I]`; stacked they are
`gate_up_proj` of `[E, 2I, H]`, gate first, and `down_proj` of `[E, H, I]`. GPT-OSS and Llama 4 have stacks on disk too, but
the other way round: `gate_up_proj [E, H, 2I]`, `down_proj [E, I, H]` (the hidden size is axis 1 and 2).

| family | in the file | in memory |
|---|---|---|
"""

LIMITS = """
## Not covered

The predictor of further tokens (MTP) of DeepSeek, GLM and Qwen3.5 is not built by these classes. GPT-OSS as published
stores its experts as MXFP4 (`*_blocks`, `*_scales`); the fixture has them plain. Gemma 3n and 4, DeepSeek V3.2 and V4, Mamba hybrids and
encoder-decoders were not measured. A tied head is untied with the flag `tie_word_embeddings` set to false, in a nested `text_config` too.
Published files can have other prefixes than these classes write (`language_model.` before it all, none for GPT-2) and carry masks.
"""


def number(value):
    return "" if value is None else f"{value:.1e}"


def row(family, r):
    def kind(which, no):
        if no:
            return f"**no** ({r[which]['random']:.2f})"
        return f"exact ({number(max(r[which]['random'], r[which]['hadamard']))})"

    leasts = [r[w]["least"][1] for w in ("r1", "r2") if "least" in r[w]]
    hidden = f"{r['hidden']}, {r['length']}"
    cells = [
        f"`{family.name}`" + ("" if family.kept else " (rules only)"),
        f"`{family.model}`",
        hidden,
        "yes" if r["tied"] else "no",
        ("1+w" if family.shifted else "w") + (", mean" if family.centred else ""),
        kind("r1", family.blocked),
        kind("r2", family.gated),
        number(r.get("both")),
        number(r["r1"].get("memory")),
        number(None if family.blocked else r["r1"]["binary32"]),
        f"{min(leasts):.2f}" if leasts else "",
        f"{r['r1']['any']:.2f}" if "any" in r["r1"] else "",
    ]
    return "| " + " | ".join(cells) + " |"


MISTAKES = {
    "centred_embedding": "the mean subtracted from every embedding, nothing rotated",
    "gains_not_folded": "rotated without folding the gains",
    "values_without_output": "R2 on the values only",
    "head_left_tied": "the head left tied to the rotated embedding",
    "writer_bias_missed": "the biases of writers not rotated",
    "value_bias_missed": "R2 without the bias of the values",
    "norm_bias_missed": "the biases of the norms left",
    "plain_gains": "gains of 1+w read as w",
    "last_norm_missed": "the norm before the head (`embedding_norm`) dropped, not folded",
    "router_missed": "the router left as it was",
    "shared_gate_missed": "the gate of the shared expert left as it was",
    "inner_norm_folded": "the norm inside linear attention folded like the others",
    "vision_missed": "the last layer of the vision merger not rotated",
}


def layouts(family):
    """The names that differ, one of a kind."""
    entries = json.loads((families.OUT / family.name / "rules.json").read_text())
    if "tensors_in_memory" not in entries:
        return None

    def generic(names):
        return sorted({".".join("N" if w.isdigit() else w for w in n.split(".")) for n in names})

    memory = generic(entries["tensors_in_memory"])
    disk = generic(n for n in entries["tensors"] if re.search(r"experts\.\d|block_sparse_moe|embed_out", n))
    return f"| `{family.name}` | {', '.join(f'`{n}`' for n in disk)} | {', '.join(f'`{n}`' for n in memory)} |"


def readme(results, date):
    head = "| family | class | hidden, head | tied | norm | R1 | R2 | both | memory | f32 | least | any Q |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n"
    versions = (
        f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}, safetensors {safetensors.__version__}"
    )
    out = (
        INTRO
        + f"\n## What was measured\n\n{date.isoformat()}, {versions}, on a CPU; numbers in brackets are the relative logit difference.\n"
    )
    for title, group in (
        ("Norms before the branches", LLAMAS),
        ("Mixtures of experts, hybrids", MIXTURES),
        ("Norms after the branches", REFUSED),
        ("Norms that subtract the mean", CENTRED),
    ):
        out += f"\n### {title}\n\n{head}" + "".join(row(f, results[f.name]) + "\n" for f in group)
    out += NOTES.format(tokens=12)
    out += "\n### Mistakes\n\n| family | mistake | relative logit difference |\n|---|---|---|\n"
    out += "".join(
        f"| `{f.name}` | {MISTAKES[m]} | {off:.2f} |\n" for f in FAMILIES for m, off in results[f.name]["mistakes"].items()
    )
    out += NAMES + "".join(line + "\n" for f in FAMILIES if (line := layouts(f)))
    return out + LIMITS
