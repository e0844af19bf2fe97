"""From the table of families to the part that each tensor of a checkpoint has in the rotations R1 and R2.

A part is a dictionary with a `side`: `embedding`, `reader`, `writer` and `head` are turned along `axis`; a `norm` is folded
into those that name it (`fold`) and made neutral, its bias (`norm_bias`) divided by the gain and turned. Knows shapes, no values.
"""

import itertools
import re


class Unknown(Exception):
    """A tensor that the table does not name, or an entry of the table that names no tensor."""


def spread(pattern):
    """A pattern's alternatives, each with its axis (None: the usual one)."""
    pattern, _, axis = pattern.partition("@")
    parts = [p.split(",") for p in re.split(r"[{}]", pattern)]
    # Every second part stood in braces.
    parts = [p if i % 2 else [",".join(p)] for i, p in enumerate(parts)]
    return [("".join(way), int(axis) if axis else None) for way in itertools.product(*parts)]


def find(pattern, names):
    """`(name, layer, kind, axis)` of every parameter that a pattern names; kind is `weight` or `bias`."""
    for stem, axis in spread(pattern):
        regex = re.compile(re.escape(stem).replace(r"\*", r"(\d+)") + r"(\.weight|[._]bias)?")
        for name in names:
            if hit := regex.fullmatch(name):
                numbers = [g for g in hit.groups()[:-1]]
                kind = "bias" if (hit.groups()[-1] or "").endswith("bias") else "weight"
                yield name, numbers[0] if numbers else None, kind, axis


def text_config(family, config):
    return config[family.text] if family.text else config


def hidden_size(config):
    return config.get("hidden_size") or config["n_embd"]


class Parts:
    """The parts of all tensors of one layout of a checkpoint."""

    def __init__(self, family, config, shapes):
        self.family, self.shapes = family, dict(shapes)
        self.config = text_config(family, config)
        self.hidden = hidden_size(self.config)
        self.heads = [name for name in (family.head + ".weight", "lm_head.weight") if name in shapes]
        self.tied = not self.heads
        if self.tied:
            self.heads = [family.head + ".weight"]
            self.shapes[self.heads[0]] = self.shapes[self.embedding]
        self.r1 = self._stream()
        self.r2 = {name: None for name in self.shapes}
        self.length, self.count = self._values() if family.values else (0, 0)

    @property
    def embedding(self):
        return self.family.embeddings[0] + ".weight"

    def blockers(self):
        return sorted(name for p in self.family.blocked for name, *_ in find(p, self.shapes))

    def _stream(self):
        parts, family = {}, self.family

        def say(name, part):
            if parts.setdefault(name, part) != part:
                raise Unknown(f"{family.name}: {name} is {parts[name]} and {part}")

        for pattern in family.embeddings:
            for name, *_ in find(pattern, self.shapes):
                say(name, {"side": "embedding", "axis": 1})
        for norm, readers in family.norms.items():
            self._norm(norm, readers, say)
        for pattern in family.writers:
            for name, _, kind, axis in find(pattern, self.shapes):
                say(name, {"side": "writer", "axis": len(self.shapes[name]) - 1 if kind == "bias" else axis or 0})
        for pattern in family.untouched + family.blocked:
            for name, *_ in find(pattern, self.shapes):
                say(name, {"side": "untouched"})
        self._check(parts)
        return parts

    def _norm(self, norm, readers, say):
        gains = list(find(norm, self.shapes)) if norm else []
        hits = [hit for pattern in readers for hit in find(pattern, self.shapes)]
        for name, layer, kind, axis in hits:
            part = {"side": "untouched"}
            if kind == "weight":
                axis = len(self.shapes[name]) - 1 if axis is None else axis
                head = name in self.heads
                part = {"side": "head" if head else "reader", "axis": axis}
                if gain := next((g for g, at, of, _ in gains if of == "weight" and at == layer), None):
                    part["fold"] = gain
                if head and self.tied:
                    part["made_from"] = self.embedding
            say(name, part)
        for name, _, kind, _ in gains:
            if kind == "bias":
                say(name, {"side": "norm_bias", "of": name.removesuffix("bias") + "weight"})
                continue
            shifted = self.family.shifted
            say(name, {"side": "norm", "form": "1+w" if shifted else "w", "neutral": 0 if shifted else 1})

    def _check(self, parts):
        missing = sorted(set(self.shapes) - set(parts))
        if missing:
            raise Unknown(f"{self.family.name}: the table does not name {missing}")
        for name, part in parts.items():
            if "axis" in part and self.shapes[name][part["axis"]] != self.hidden:
                raise Unknown(f"{self.family.name}: axis {part['axis']} of {name} {self.shapes[name]} is not {self.hidden}")

    def _values(self):
        values, c = self.family.values, self.config
        heads = c.get("num_attention_heads") or c["n_head"]
        groups = (
            heads
            if values.layout in ("mla", "interleaved", "gpt2")
            else c.get("num_kv_heads") or c.get("num_key_value_heads") or heads
        )
        d = c.get("v_head_dim") if values.layout == "mla" else c.get("head_dim")
        d = d or self.hidden // heads
        each = heads // groups
        start, step = {
            "plain": (0, d),
            "stacked": ((heads + groups) * d, d),
            "interleaved": (2 * d, 3 * d),
            "grouped": ((each + 1) * d, (each + 2) * d),
            "mla": (c.get("qk_nope_head_dim"), c.get("qk_nope_head_dim", 0) + d),
            "gpt2": (2 * self.hidden, d),
        }[values.layout]
        swapped = values.layout == "gpt2"
        for pattern, side, axis, spans in (
            (values.v, "writer", int(swapped), [[start + k * step, k] for k in range(groups)]),
            (values.o, "reader", int(not swapped), [[h * d, h // each] for h in range(heads)]),
        ):
            for name, _, kind, _ in find(pattern, self.shapes):
                if kind == "weight" or side == "writer":
                    at = 0 if kind == "bias" else axis
                    if spans[-1][0] + d > self.shapes[name][at]:
                        raise Unknown(f"{self.family.name}: {name} {self.shapes[name]} is too short for {spans}")
                    self.r2[name] = {"side": side, "axis": at, "spans": spans}
        return d, groups
