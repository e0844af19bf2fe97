"""What the checks share: running the binary, reading and writing safetensors with nothing but numpy."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "www" / "sample"
BINARY, SCRATCH = Path(sys.argv[1]).resolve(), Path(sys.argv[2])


def quantoscope(*args):
    """Runs the binary, which must succeed; gives its standard output."""
    done = subprocess.run([BINARY, *map(str, args)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: quantoscope {' '.join(map(str, args))}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def report(*args):
    return json.loads(quantoscope(*args, "--json"))


def widen_bf16(raw):
    return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)


READ = {
    "F32": lambda raw: np.frombuffer(raw, "<f4"),
    "F16": lambda raw: np.frombuffer(raw, "<f2").astype(np.float32),
    "BF16": widen_bf16,
}


def read_safetensors(path):
    """The tensors of a file, as float32."""
    data = Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        start, end = (8 + length + n for n in entry["data_offsets"])
        tensors[name] = READ[entry["dtype"]](data[start:end]).reshape(entry["shape"])
    return tensors


def write_safetensors(path, tensors):
    """Writes float32 tensors."""
    header, at = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [at, at + values.nbytes]}
        at += values.nbytes
    text = json.dumps(header).encode()
    body = b"".join(v.astype("<f4").tobytes() for v in tensors.values())
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + body)


def exported(path, name):
    """The values that the binary itself decodes from `path`, through a safetensors file of F32."""
    out = SCRATCH / f"{name}.safetensors"
    quantoscope("quantize", path, "-o", out, "--type", "f32", "--pure", "--allow-requantize", "--force")
    kept = read_safetensors(out)
    out.unlink()
    return kept


def odd_model():
    """A model of values that encoders stumble over: zeros, constants, tiny and large ones, odd rows, stacks."""
    rng = np.random.default_rng(20)
    normal = lambda *shape: rng.standard_normal(shape, dtype=np.float32)
    mixed = normal(32, 64)
    mixed[0] = 0
    mixed[1] = 0.25
    mixed[2] *= np.float32(1e-6)
    mixed[3] += np.float32(500)
    mixed[4] *= np.float32(1000)
    mixed[5, :32] = -0.0
    tensors = {
        "mixed.weight": mixed,
        "odd.weight": normal(7, 33),
        "stack.weight": normal(3, 8, 64),
        "one.norm.weight": normal(5),
        "single.weight": normal(1, 1),
        "empty.weight": normal(0, 32),
    }
    path = SCRATCH / "odd.safetensors"
    write_safetensors(path, tensors)
    return path


def same(ours, theirs, what):
    """Fails unless two arrays are equal in shape and, bit for bit, in value (a zero's sign aside)."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.shape != theirs.shape or not np.array_equal(ours, theirs):
        differing = int((ours != theirs).sum()) if ours.shape == theirs.shape else "all"
        sys.exit(f"error: {what}: shapes {ours.shape} and {theirs.shape}, {differing} values differ")


def close(ours, exact, tolerance, what):
    """Fails unless two numbers agree to a relative tolerance."""
    if not abs(ours - exact) <= tolerance * abs(exact):
        sys.exit(f"error: {what}: {ours!r} is not {exact!r}")


def ok(words):
    print(f"ok  {words}", flush=True)
