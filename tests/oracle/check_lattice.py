"""An independent decoder of lattice directories, written from the format's description, agrees with ours."""

import json
import struct

import numpy as np
from common import SAMPLE, SCRATCH, exported, odd_model, ok, quantoscope, read_safetensors, same


def header(data, magic, version):
    """Shape and payload of a file, every byte of which must be accounted for."""
    assert data[:4] == magic, data[:4]
    found, ndim = struct.unpack_from("<II", data, 4)
    assert found == version, found
    *shape, count = struct.unpack_from(f"<{ndim + 1}Q", data, 12)
    numel = 1
    for n in shape:
        numel *= n
    assert numel == count, (shape, count)
    return shape, numel, data[20 + 8 * ndim :]


def decode_q4(data):
    shape, numel, payload = header(data, b"KHQ4", 2)
    blocks = -(-numel // 32)
    assert len(payload) == 20 * blocks
    rows = np.frombuffer(payload, np.uint8).reshape(blocks, 20)
    fields = rows[:, :4].copy().view("<f2").astype(np.float32).reshape(blocks, 2)
    scale, bias = fields[:, :1], fields[:, 1:]
    assert np.isfinite(fields).all() and (scale > 0).all(), "loaders demand positive scales"
    codes = np.empty((blocks, 32), np.float32)
    codes[:, 0::2] = rows[:, 4:] & 15
    codes[:, 1::2] = rows[:, 4:] >> 4
    return (codes * scale + bias).reshape(-1)[:numel].reshape(shape)


def decode_f16(data):
    shape, numel, payload = header(data, b"KHF1", 1)
    assert len(payload) == 2 * numel
    values = np.frombuffer(payload, "<f2").astype(np.float32).reshape(shape)
    assert np.isfinite(values).all()
    return values


def decode_directory(folder):
    entries = json.loads((folder / "quantize_index.json").read_text())
    assert isinstance(entries, list), "a bare array"
    assert [e["name"] for e in entries] == sorted(e["name"] for e in entries)
    tensors = {}
    for e in entries:
        assert set(e) == {"name", "file", "quantized", "shape", "numel"}, e
        data = (folder / e["file"]).read_bytes()
        values = decode_q4(data) if e["quantized"] else decode_f16(data)
        assert list(values.shape) == e["shape"] and values.size == e["numel"], e
        assert e["file"].endswith(".q4" if e["quantized"] else ".f16"), e
        tensors[e["name"]] = values
    left = {p.name for p in folder.iterdir()} - {e["file"] for e in entries}
    assert left <= {"quantize_index.json", "config.json"}, left
    return tensors, sum(e["quantized"] for e in entries)


def check(source, scheme, originals):
    out = SCRATCH / f"{source.stem}-{scheme}"
    quantoscope("quantize", source, "-o", out, "--to", "q4", "--q4-scheme", scheme)
    theirs, quantized = decode_directory(out)
    ours = exported(out, "from-q4")
    assert set(ours) == set(theirs) == set(originals)
    for name, values in ours.items():
        same(values, theirs[name], f"{out.name} {name}")
        if originals[name].size:
            step = np.abs(originals[name]).max() / 7
            assert np.abs(values - originals[name]).max() <= step * 1.1 + 1e-3, name
    ok(f"an independent decoder agrees on {out.name}: {len(ours)} tensors, {quantized} of 4 bits")


odd = odd_model()
for scheme in ["asym", "sym"]:
    check(SAMPLE, scheme, read_safetensors(SAMPLE / "model.safetensors"))
    check(odd, scheme, read_safetensors(odd))
config = (SCRATCH / "sample-asym" / "config.json").read_bytes()
assert config == (SAMPLE / "config.json").read_bytes(), "the configuration is copied"
ok("config.json is copied byte for byte")
