"""Which rotations leave the logits of which family as they were: measured in transformers on the tiny checkpoints.

python prove.py [FAMILY...]        without names also writes ../fixtures/families/README.md
"""

import datetime
import json
import pathlib
import sys
import tempfile

import numpy as np

import families
import hf
import rotations
from family_rules import Parts, find
from family_table import FAMILIES

# Of logits in binary64: what is exact is off by some 1e-15, and forgetting any one tensor by more than SEEN.
EXACT, SEEN = 1e-12, 1e-3


class Subject:
    """One family's checkpoint and its logits."""

    def __init__(self, family, folder):
        self.family = family
        self.memory = families.save(family, folder)
        self.config, self.tensors = hf.config_of(folder), hf.read(folder)
        kept = families.OUT / family.name / "model.safetensors"
        if family.kept and kept.read_bytes() != (folder / "model.safetensors").read_bytes():
            raise ValueError(f"{family.name}: the kept weights are not those that are made now")
        shapes = {n: list(t.shape) for n, t in self.tensors.items()}
        if (families.OUT / family.name / "rules.json").read_text() != families.rules(family, self.config, shapes, self.memory):
            raise ValueError(f"{family.name}: rules.json is not what the table says")
        self.parts = Parts(family, self.config, shapes)
        self.inputs = [hf.text(self.config)] + ([hf.picture(self.config)] if family.vision else [])
        self.model = hf.load(folder)
        self.wide = self.run(self.model)
        self.narrow = self.run(hf.load(folder, False), False)

    def run(self, model, wide=True):
        return np.concatenate([hf.logits(model, inputs, wide) for inputs in self.inputs])

    def untied(self):
        config = json.loads(json.dumps(self.config))
        for part in (config, config.get("text_config", {})):
            if "tie_word_embeddings" in part:
                part["tie_word_embeddings"] = False
        return config

    def off(self, tensors, wide=True):
        """How far the logits of these tensors are from the checkpoint's, both read back from a folder."""
        with tempfile.TemporaryDirectory() as folder:
            config = self.untied() if self.parts.heads[0] in tensors else self.config
            hf.write(folder, config, tensors, np.float64 if wide else np.float32)
            return hf.difference(self.wide if wide else self.narrow, self.run(hf.load(folder, wide), wide))

    def off_in_memory(self, q):
        """The same for the names and layouts that transformers holds in memory, which other checkpoints have on disk."""
        state = {n: t.double().numpy().copy() for n, t in self.model.state_dict().items()}
        parts = Parts(self.family, self.config, {n: t.shape for n, t in state.items()})
        return self.off(rotations.rotate_stream(state, parts.r1, q))

    def matrix(self, kind, seed=7):
        return kind(self.parts.hidden, seed, self.family.centred)

    def matrices(self, kind):
        layers = range(len({n for n in self.parts.r1 if n.endswith("norm.weight")}) + 2)
        return {
            (layer, group): kind(self.parts.length, 100 * layer + group) for layer in layers for group in range(self.parts.count)
        }


def stream(subject):
    """R1: the differences of random and Hadamard rotations, and the least that any part forgotten would make."""
    parts, tensors = subject.parts.r1, subject.tensors
    q = subject.matrix(rotations.random)
    turned = rotations.rotate_stream(tensors, parts, q)
    out = {
        "random": subject.off(turned),
        "hadamard": subject.off(rotations.rotate_stream(tensors, parts, subject.matrix(rotations.signed_hadamard))),
        "binary32": subject.off(turned, wide=False),
    }
    if set(subject.memory) - set(subject.parts.shapes):
        out["memory"] = subject.off_in_memory(q)
    if subject.family.centred:
        out["any"] = subject.off(rotations.rotate_stream(tensors, parts, rotations.random(subject.parts.hidden, 7)))
    if out["random"] < EXACT:
        # A norm left as it was is folded twice; everything else that moves is left in the old basis.
        seen = {}
        for name, part in parts.items():
            if part["side"] == "untouched":
                continue
            wrong = (
                turned | {name: tensors[name]} if part["side"] == "norm" else rotations.rotate_stream(tensors, parts, q, {name})
            )
            seen[name] = subject.off(wrong)
        out["least"] = min(seen.items(), key=lambda kv: kv[1])
    return out


def values(subject):
    """R2, the same way."""
    parts, qs = subject.parts.r2, subject.matrices(rotations.random)
    out = {
        "random": subject.off(rotations.rotate_values(subject.tensors, parts, qs)),
        "hadamard": subject.off(rotations.rotate_values(subject.tensors, parts, subject.matrices(rotations.signed_hadamard))),
        "binary32": subject.off(rotations.rotate_values(subject.tensors, parts, qs), wide=False),
    }
    if out["random"] < EXACT:
        seen = {n: subject.off(rotations.rotate_values(subject.tensors, parts, qs, {n})) for n, part in parts.items() if part}
        out["least"] = min(seen.items(), key=lambda kv: kv[1])
    return out


def names(subject, *patterns):
    return {name for p in patterns for name, *_ in find(p, subject.parts.shapes)}


def mistake(subject, name):
    """The logits' difference when a known mistake is made."""
    tensors, parts, q = subject.tensors, subject.parts.r1, subject.matrix(rotations.random)
    right = rotations.rotate_stream(tensors, parts, q)
    gains = {n for n, p in parts.items() if p["side"] == "norm"}
    if name == "centred_embedding":
        e = tensors[subject.parts.embedding]
        return subject.off(tensors | {subject.parts.embedding: e - e.mean(1, keepdims=True)})
    if name == "gains_not_folded":
        bare = {n: p for n, p in parts.items() if n not in gains}
        return subject.off(rotations.rotate_stream(tensors, bare, q))
    if name == "plain_gains":
        wrong = {n: dict(p, form="w", neutral=1) if n in gains else p for n, p in parts.items()}
        return subject.off(rotations.rotate_stream(tensors, wrong, q))
    if name == "head_left_tied":
        return subject.off({n: t for n, t in right.items() if n != subject.parts.heads[0]})
    if name in ("values_without_output", "value_bias_missed"):
        missed = {
            n for n, p in subject.parts.r2.items() if p and (p["side"] == "reader" if "output" in name else n.endswith("bias"))
        }
        return subject.off(rotations.rotate_values(tensors, subject.parts.r2, subject.matrices(rotations.random), missed))
    missed = {
        "router_missed": names(subject, "model.layers.*.mlp.{gate,router}", "model.layers.*.block_sparse_moe.gate"),
        "shared_gate_missed": names(subject, "model.layers.*.mlp.shared_expert_gate"),
        "writer_bias_missed": {n for n, p in parts.items() if p["side"] == "writer" and n.endswith("bias")},
        "norm_bias_missed": {n for n, p in parts.items() if p["side"] == "norm_bias"},
        "vision_missed": names(subject, "model.visual.merger.linear_fc2"),
        "last_norm_missed": names(subject, "model.embedding_norm"),
        "inner_norm_folded": set(),
    }[name]
    wrong = right | {n: tensors[n] for n in missed}
    if name == "last_norm_missed":
        head = subject.parts.heads[0]
        wrong[head] = rotations.turned(tensors[subject.parts.embedding], 1, q)
        wrong["model.embedding_norm.weight"] = np.ones_like(tensors["model.embedding_norm.weight"])
    if name == "inner_norm_folded":
        for gain in sorted(n for n in tensors if n.endswith("linear_attn.norm.weight")):
            writer = gain.replace("norm", "out_proj")
            wrong[writer] = wrong[writer] * np.tile(1 + tensors[gain], wrong[writer].shape[1] // len(tensors[gain]))
            wrong[gain] = np.zeros_like(tensors[gain])
    return subject.off(wrong)


def measure(family):
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject(family, pathlib.Path(folder))
        out = {"r1": stream(subject), "r2": values(subject), "mistakes": {m: mistake(subject, m) for m in family.mistakes}}
        if out["r1"]["random"] < EXACT and out["r2"]["random"] < EXACT:
            both = rotations.rotate_stream(subject.tensors, subject.parts.r1, subject.matrix(rotations.random))
            out["both"] = subject.off(rotations.rotate_values(both, subject.parts.r2, subject.matrices(rotations.random)))
        out["hidden"], out["length"], out["tied"] = subject.parts.hidden, subject.parts.length, subject.parts.tied
    said = (not subject.parts.blockers(), not family.gated)
    idle = [out[r]["least"] for r in ("r1", "r2") if "least" in out[r] and out[r]["least"][1] < SEEN]
    if idle:
        raise ValueError(f"{family.name}: nothing shows whether these are rotated: {idle}")
    exact = [max(v for k, v in out[r].items() if k in ("random", "hadamard", "memory")) < EXACT for r in ("r1", "r2")]
    if tuple(exact) != said:
        raise ValueError(f"{family.name}: the rules say exact {said}, measured {exact}: {out}")
    return out


def main():
    wanted = [f for f in FAMILIES if not sys.argv[1:] or f.name in sys.argv[1:]]
    results = {}
    for family in wanted:
        results[family.name] = measure(family)
        print(family.name, json.dumps(results[family.name]), flush=True)
    if not sys.argv[1:]:
        import table

        (families.OUT / "README.md").write_text(table.readme(results, datetime.date.today()))


if __name__ == "__main__":
    main()
