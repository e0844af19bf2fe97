"""MLX folders: parts equal `mx.quantize` bit for bit, whole folders equal mlx-lm's own conversion, and mlx-lm loads them."""

import json
import shutil
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
from common import ROOT, SAMPLE, SCRATCH, ok, quantoscope
from mlx_lm import convert
from mlx_lm.utils import load_model

mx.set_default_device(mx.cpu)

BITS, GROUPS = (2, 3, 4, 5, 6, 8), (32, 64, 128)
DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
COLUMNS = 384


def fail(words):
    sys.exit(f"error: {words}")


def weights(folder):
    """All tensors of a folder, as they are stored."""
    tensors = {}
    for path in sorted(Path(folder).glob("model*.safetensors")):
        tensors.update(mx.load(str(path)))
    return tensors


def equal(a, b):
    """Whether two arrays are the same bytes of the same type and shape."""
    return a.dtype == b.dtype and a.shape == b.shape and mx.array_equal(a.view(mx.uint8), b.view(mx.uint8)).item()


def hostile_rows(rng):
    """Rows of groups that quantizers stumble over, as float32 of moderate range."""
    normal = rng.standard_normal((64, COLUMNS), dtype=np.float32)
    rows = [*normal]
    rows += [np.full(COLUMNS, v, np.float32) for v in (0.0, -0.0, 1.0, -1.0, 0.25, 3e-8, -3e-8, 6e4, -6e4, 1e-5)]
    rows += [normal[0] * np.float32(s) for s in (1e-7, 1e-6, 1e-4, 1e3, 1e4)]
    rows += [np.abs(normal[1]), -np.abs(normal[2]), normal[3] + 500, normal[4] - 500, normal[5] ** 3]
    # Values halfway between codes, and groups whose ends have equal magnitudes.
    steps = np.arange(COLUMNS, dtype=np.float32)
    rows += [(steps % 31) / 2, -((steps % 31) / 2), (steps % 15) - 7, (steps % 16) - 8, steps % 255 - 127.5]
    sparse = np.where(rng.random(COLUMNS) < 0.05, normal[6], 0).astype(np.float32)
    one = np.zeros(COLUMNS, np.float32)
    one[::32] = 1
    rows += [sparse, -sparse, one, -one, np.where(steps % 2 == 0, 1, -1).astype(np.float32)]
    return np.stack(rows)


def source(name, rows, dtype):
    """A folder with one weight and its configuration."""
    folder = SCRATCH / name
    folder.mkdir()
    config = {"model_type": "llama", "num_hidden_layers": 1, "torch_dtype": name}
    (folder / "config.json").write_text(json.dumps(config))
    weight = mx.array(rows).astype(dtype)
    mx.save_safetensors(str(folder / "model.safetensors"), {"model.layers.0.mlp.down_proj.weight": weight}, {"format": "mlx"})
    return folder, weight


def check_parts():
    rows = hostile_rows(np.random.default_rng(16))
    module, compared = "model.layers.0.mlp.down_proj", 0
    for name, dtype in DTYPES.items():
        folder, weight = source(name, rows, dtype)
        for bits in BITS:
            for group in GROUPS:
                out = SCRATCH / "mlx"
                quantoscope("quantize", folder, "-o", out, "--to", "mlx", "--type", f"mlx_q{bits}_g{group}")
                made = weights(out)
                theirs = mx.quantize(weight, group_size=group, bits=bits)
                for part, wanted in zip(("weight", "scales", "biases"), theirs, strict=True):
                    if not equal(made[f"{module}.{part}"], wanted):
                        fail(f"{part} of {bits} bits in groups of {group}, {name}, differ from mx.quantize")
                compared += 1
                shutil.rmtree(out)
    ok(f"{compared} types and sources: codes, scales and biases of {rows.size} weights are those of mx.quantize")


def check_folders():
    """The folder of mlx-lm's own conversion: every tensor, and the settings of the quantization."""
    recipes = {
        "mlx_q4": {"q_bits": 4, "q_group_size": 64},
        "mlx_q8_g32": {"q_bits": 8, "q_group_size": 32},
        **{
            name: {"quant_predicate": name, "q_group_size": 64, "q_bits": int(name[6])}
            for name in ("mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6")
        },
    }
    for name, options in recipes.items():
        theirs, ours = SCRATCH / f"theirs_{name}", SCRATCH / f"ours_{name}"
        convert(str(SAMPLE), mlx_path=str(theirs), quantize=True, **options)
        option = "--recipe" if name.startswith("mixed") else "--type"
        quantoscope("quantize", SAMPLE, "-o", ours, "--to", "mlx", option, name)
        made, wanted = weights(ours), weights(theirs)
        if made.keys() != wanted.keys():
            fail(f"{name}: tensors {sorted(made.keys() ^ wanted.keys())} are on one side only")
        differing = [tensor for tensor in wanted if not equal(made[tensor], wanted[tensor])]
        if differing:
            fail(f"{name}: {differing} differ from mlx-lm's")
        settings = [json.loads((p / "config.json").read_text()) for p in (ours, theirs)]
        for key in ("quantization", "quantization_config"):
            if settings[0][key] != settings[1][key]:
                fail(f"{name}: {key} differs: {settings[0][key]} and {settings[1][key]}")
        totals = [json.loads((p / "model.safetensors.index.json").read_text())["metadata"] for p in (ours, theirs)]
        if totals[0] != totals[1]:
            fail(f"{name}: totals of the index differ: {totals}")
    ok(f"{len(recipes)} recipes: every tensor and setting is that of mlx-lm's own conversion of the sample")


def logits(folder, tokens):
    model, _ = load_model(Path(folder))
    return np.array(model(mx.array([tokens])).astype(mx.float32), np.float64)


def check_logits():
    """mlx-lm computes the same logits from the quantized weights and from our own dequantization of them."""
    tokens = [int(t) for t in np.random.default_rng(3).integers(1, 4096, 32)]
    wide = SCRATCH / "wide"
    quantoscope("quantize", SAMPLE, "-o", wide, "--to", "hf", "--type", "f32", "--pure")
    for name in ("mlx_q4", "mlx_q3_g32", "mlx_q8_g128"):
        packed, plain = SCRATCH / f"packed_{name}", SCRATCH / f"plain_{name}"
        quantoscope("quantize", wide, "-o", packed, "--to", "mlx", "--type", name)
        quantoscope(
            "quantize", packed, "-o", plain, "--to", "hf", "--type", "f32", "--pure", "--allow-requantize"
        )
        ours, theirs = logits(plain, tokens), logits(packed, tokens)
        difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
        if not difference < 1e-5:
            fail(f"{name}: logits differ by {difference:.1e} of the largest")
        ok(f"{name}: logits of mlx-lm and of our dequantization differ by {difference:.1e} of the largest")


def check_families():
    """mlx-lm loads a folder of each tiny family, and computes the logits that transformers did."""
    loaded = []
    for folder in sorted((ROOT / "tests" / "fixtures" / "families").iterdir()):
        if folder.name not in FAMILIES:
            continue
        out = SCRATCH / f"family_{folder.name}"
        quantoscope("quantize", folder, "-o", out, "--to", "mlx", "--type", "f32")
        expected = json.loads((folder / "expected.json").read_text())
        wanted = np.array(expected["logits_of_last"])
        difference = np.abs(logits(out, expected["tokens"])[0, -1] - wanted).max() / np.abs(wanted).max()
        if not difference < 1e-5:
            fail(f"{folder.name}: logits differ by {difference:.1e} of the largest")
        loaded.append(folder.name)
    if loaded != sorted(FAMILIES):
        fail(f"families without a model: {sorted(set(FAMILIES) - set(loaded))}")
    ok(f"{len(loaded)} families load in mlx-lm with the logits of transformers: {', '.join(loaded)}")


# Families whose tiny models mlx-lm's own classes compute exactly. Its Gemma, Nemotron and Starcoder2 compute something else
# than transformers does, and its Mixtral and EXAONE 4 cannot have the sizes of the fixtures.
FAMILIES = [
    "cohere", "glm4", "llama", "llama_tied", "olmo2", "olmo3", "phi", "phi3", "qwen2", "qwen2_moe", "qwen3_moe",
    "qwen3_tied", "stablelm",
]

check_parts()
check_folders()
check_logits()
check_families()
