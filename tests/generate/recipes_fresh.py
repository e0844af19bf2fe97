"""Quantizes made-up models with llama.cpp's quantizer and with ours, without and with importance weights, and compares every tensor and every metadata value.

    python recipes_fresh.py LIBGGML_BASE_SO QUANTOSCOPE [SEED]
"""

import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np

from llama import FTYPES, Llama
from recipes import MODELS as GIVEN
from recipes import described, model, names, sparse

SMALL = {"experts": model("llama", 3, 8, 2, sparse(256, 256, 64, 3), experts=3)}
MODELS = {k: GIVEN[k] for k in ("llama_small", "llama_rows_of_288", "llama_tied_rows_of_96")} | SMALL


def write(path, m, seed):
    random = np.random.default_rng(seed)
    writer = described(path, m)
    for name, shape in names(m):
        x = (random.standard_normal(shape) * 0.03).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, x)
        elif "attn" in name:
            writer.add_tensor(name, x.astype(np.float16))
        else:
            writer.add_tensor(name, gguf.quantize(x, gguf.GGMLQuantizationType.BF16), raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def weights(folder, m, seed):
    """An importance matrix of the model, as the file of today, as the older one, and as the numbers in it."""
    random = np.random.default_rng(seed + 1)
    experts = max(1, m["experts"])
    sums, counts = {}, {}
    for name, shape in names(m):
        if len(shape) > 1 and name.startswith("blk."):
            n = shape[0] if len(shape) == 3 else 1
            sums[name] = np.exp(random.standard_normal((n, shape[-1])) * 2).astype(np.float32)
            counts[name] = random.integers(0, 50, (n, 1)).astype(np.float32)
    writer = gguf.GGUFWriter(folder / "imatrix.gguf", "none")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["calibration.txt"])
    writer.add_uint32("imatrix.chunk_count", 7)
    writer.add_uint32("imatrix.chunk_size", 512)
    with open(folder / "imatrix.dat", "wb") as old:
        old.write(np.int32(len(sums)).tobytes())
        for name, x in sums.items():
            writer.add_tensor(f"{name}.in_sum2", x)
            writer.add_tensor(f"{name}.counts", counts[name])
            old.write(np.int32(len(name)).tobytes() + name.encode() + np.array([3, x.size], np.int32).tobytes() + x.tobytes())
        old.write(np.array([9, 5], np.int32).tobytes() + b"a.txt")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    mean = lambda name: np.where(counts[name] > 0, sums[name] / np.maximum(counts[name], 1), np.float32(1)).astype(np.float32)
    assert experts == max(x.shape[0] for x in sums.values())
    return {"imatrix.gguf": {n: mean(n) for n in sums}, "imatrix.dat": {n: x / np.float32(3) for n, x in sums.items()}}


def read(path):
    reader = gguf.GGUFReader(path)
    tensors = {t.name: (t.tensor_type.name, t.data.tobytes()) for t in reader.tensors}
    ours = ("GGUF.", "quantoscope.", "quantize.imatrix.")
    keys = {k: f.contents() for k, f in reader.fields.items() if not k.startswith(ours)}
    return tensors, keys


def compare(ours, theirs):
    """How many tensors were compared."""
    (a, a_keys), (b, b_keys) = read(ours), read(theirs)
    assert a.keys() == b.keys()
    different = [n for n in a if a[n] != b[n]]
    assert not different, [(n, a[n][0], b[n][0]) for n in different]
    assert a_keys == b_keys, (a_keys, b_keys)
    return len(a)


def one(llama, program, folder, ftype, imatrix):
    """Quantizes with both; how many tensors are the same, or None where one of them refuses."""
    source, ours, theirs = folder / "source.gguf", folder / "ours.gguf", folder / "theirs.gguf"
    run = [program, "quantize", source, "-o", ours, "--force", "--no-measure", "--recipe", ftype]
    file, values = imatrix or (None, None)
    done = subprocess.run(run + (["--imatrix", folder / file] if file else []), capture_output=True, text=True)
    good, said = llama.quantize(source, theirs, ftype, imatrix=values)
    if done.returncode == 0 and good:
        return compare(ours, theirs)
    why = done.stderr.strip().splitlines()[-1] if done.returncode else said.strip().splitlines()[-1]
    print(f"  {ftype}, {file}: ours {done.returncode}, llama.cpp {'good' if good else 'refuses'}: {why}")
    return None


def main():
    llama, program, seed = Llama(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 1
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name in MODELS:
            write(folder / "source.gguf", MODELS[name], seed)
            matrices = [None, *weights(folder, MODELS[name], seed).items()]
            # The package `gguf` does not know Q2_0.
            runs = [one(llama, program, folder, f, i) for f in FTYPES if f != "Q2_0" for i in matrices]
            same = [n for n in runs if n]
            print(f"{name}: {len(same)} of {len(runs)} files, {sum(same)} tensors, every byte and every metadata value the same")


if __name__ == "__main__":
    main()
