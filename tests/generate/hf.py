"""Runs a checkpoint in transformers: the logits of a few tokens, in binary32 as shipped or all in binary64."""

import contextlib
import json
import pathlib

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.numpy import save_file
from torch.overrides import TorchFunctionMode

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)


class Wide(TorchFunctionMode):
    """Whatever a model asks to be binary32 (norms, softmax, routing) becomes binary64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def wider(v):
            return torch.float64 if v is torch.float32 else v

        if func is torch.Tensor.float:
            func = torch.Tensor.double
        return func(*map(wider, args), **{k: wider(v) for k, v in (kwargs or {}).items()})


def config_of(folder):
    return json.loads((pathlib.Path(folder) / "config.json").read_text())


def read(folder):
    """All tensors of a folder's safetensors files, in binary64."""
    out = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        with safe_open(path, "pt") as f:
            out.update({name: f.get_tensor(name).double().numpy() for name in f.keys()})
    return out


def write(folder, config, tensors, dtype=np.float64):
    folder = pathlib.Path(folder)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({n: np.ascontiguousarray(t, dtype) for n, t in tensors.items()}, folder / "model.safetensors", {"format": "pt"})


def load(folder, wide=True):
    """The model, which must take every tensor of the folder and miss none."""
    cls = getattr(transformers, config_of(folder)["architectures"][0])
    dtype = torch.float64 if wide else torch.float32
    # Rotary frequencies are computed once, while the model is made.
    with Wide() if wide else contextlib.nullcontext():
        model, info = cls.from_pretrained(folder, dtype=dtype, attn_implementation="eager", output_loading_info=True)
    wrong = {k: v for k, v in info.items() if v}
    if wrong:
        raise ValueError(f"{folder}: {wrong}")
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    return model.eval()


def tokens(config, count=12):
    """Token ids that meet no special token."""
    text = config.get("text_config") or config
    top = min(text["vocab_size"], 60)
    return [3 + (7 * i * i + 5 * i + 2) % (top - 3) for i in range(count)]


def picture(config):
    """For a model with a vision tower: four by four patches, merged to the four image tokens among the others."""
    v = config["vision_config"]
    size = v["in_channels"] * v["temporal_patch_size"] * v["patch_size"] ** 2
    pixels = torch.sin(torch.arange(16 * size, dtype=torch.float64) * 0.37).reshape(16, size)
    ids = [5, 9, config["vision_start_token_id"], *[config["image_token_id"]] * 4, config["vision_end_token_id"], 11, 17]
    kinds = torch.tensor([[int(i == config["image_token_id"]) for i in ids]])
    return {
        "input_ids": torch.tensor([ids]),
        "pixel_values": pixels,
        "image_grid_thw": torch.tensor([[1, 4, 4]]),
        "mm_token_type_ids": kinds,
    }


def logits(model, inputs, wide=True):
    """Of every position, as an array."""
    if not wide:
        inputs = {k: v.float() if v.is_floating_point() else v for k, v in inputs.items()}
    with torch.no_grad():
        if not wide:
            return model(**inputs, use_cache=False).logits[0].double().numpy()
        with Wide():
            return model(**inputs, use_cache=False).logits[0].double().numpy()


def text(config):
    return {"input_ids": torch.tensor([tokens(config)])}


def difference(a, b):
    """The largest difference of two sets of logits, relative to the largest logit of the first."""
    return float(np.abs(a - b).max() / np.abs(a).max())
