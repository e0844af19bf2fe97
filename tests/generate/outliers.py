"""Gives a trained Llama-like model outlier channels without changing the function that it computes. Needs numpy only.

    python outliers.py SOURCE OUT --kind gains|stream|heads|both|inner [--times 16]

Every kind follows a symmetry of the model:

- `gains`   at one channel in 32, columns of the readers of every norm grow by `times`, the norm's gain shrinks by it.
- `stream`  gains are folded, then the residual stream is turned by an orthogonal matrix that gathers energy: its axes are
            the principal ones of embedding, readers and head (each scaled to the same norm), dealt to blocks of 32 channels
            in turn, so that every block begins with one of the strongest. `times` plays no part.
- `heads`   at one value channel in 32, columns of o_proj grow, rows of v_proj shrink.
- `both`    stream and heads: all that R1 and R2 can mix.
- `inner`   at one MLP channel in 32, columns of down_proj grow, rows of up_proj shrink.

Powers of two change no significand, so all but `stream` are exact. OUT gets F32 weights and the configuration.
"""

import argparse
import json
import pathlib
import struct

import numpy as np

BLOCK = 32
EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
READERS = {
    "input_layernorm": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "post_attention_layernorm": ["mlp.gate_proj", "mlp.up_proj"],
}
WRITERS = ["self_attn.o_proj", "mlp.down_proj"]


def read(path):
    """The tensors of a safetensors file of BF16 and F32, in binary64."""
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        raw = data[slice(*(8 + length + at for at in entry["data_offsets"]))]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        elif entry["dtype"] == "F32":
            values = np.frombuffer(raw, "<f4")
        else:
            raise SystemExit(f"error: {name} is {entry['dtype']}")
        tensors[name] = values.reshape(entry["shape"]).astype(np.float64)
    return tensors


def write(path, tensors):
    header, at = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [at, at + 4 * values.size]}
        at += 4 * values.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    body = b"".join(v.astype("<f4").tobytes() for v in tensors.values())
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + body)


def layer(index, part):
    return f"model.layers.{index}.{part}.weight"


def norms(config, tied):
    """Each norm of the stream and what reads it. A tied head is the embedding too, so its norm stays out."""
    for index in range(config["num_hidden_layers"]):
        for norm, readers in READERS.items():
            yield layer(index, norm), [layer(index, r) for r in readers]
    if not tied:
        yield NORM, [HEAD]


def gains(tensors, config, times):
    for norm, readers in norms(config, HEAD not in tensors):
        tensors[norm][::BLOCK] /= times
        for reader in readers:
            tensors[reader][:, ::BLOCK] *= times


def stream(tensors, config, _times):
    tensors.setdefault(HEAD, tensors[EMBEDDING].copy())
    for norm, readers in norms(config, False):
        for reader in readers:
            tensors[reader] *= tensors[norm]
        tensors[norm][:] = 1
    along = [EMBEDDING, *(r for _, readers in norms(config, False) for r in readers)]
    gram = sum(tensors[n].T @ tensors[n] / np.sum(tensors[n] ** 2) for n in along)
    axes = np.linalg.eigh(gram)[1][:, ::-1]
    turn = axes[:, np.arange(len(axes)).reshape(BLOCK, -1).T.ravel()]
    for name in along:
        tensors[name] = tensors[name] @ turn
    for index in range(config["num_hidden_layers"]):
        for writer in WRITERS:
            tensors[layer(index, writer)] = turn.T @ tensors[layer(index, writer)]


def heads(tensors, config, times):
    length, shared = config["head_dim"], config["num_key_value_heads"]
    for index in range(config["num_hidden_layers"]):
        value, output = (tensors[layer(index, f"self_attn.{p}_proj")] for p in "vo")
        value.reshape(shared, length, -1)[:, ::BLOCK] /= times
        output.reshape(len(output), -1, length)[:, :, ::BLOCK] *= times


def both(tensors, config, times):
    stream(tensors, config, times)
    heads(tensors, config, times)


def inner(tensors, config, times):
    for index in range(config["num_hidden_layers"]):
        tensors[layer(index, "mlp.up_proj")][::BLOCK] /= times
        tensors[layer(index, "mlp.down_proj")][:, ::BLOCK] *= times


KINDS = {"gains": gains, "stream": stream, "heads": heads, "both": both, "inner": inner}


def inject(source, out, kind, times):
    source, out = pathlib.Path(source), pathlib.Path(out)
    config, tensors = json.loads((source / "config.json").read_text()), read(source / "model.safetensors")
    KINDS[kind](tensors, config, times)
    out.mkdir(parents=True)
    write(out / "model.safetensors", tensors)
    config |= {"tie_word_embeddings": HEAD not in tensors, "torch_dtype": "float32"}
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("source")
    args.add_argument("out")
    args.add_argument("--kind", choices=KINDS, required=True)
    args.add_argument("--times", type=float, default=16)
    args = args.parse_args()
    inject(args.source, args.out, args.kind, args.times)


if __name__ == "__main__":
    main()
