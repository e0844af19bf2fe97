"""Quantizes made-up models with llama.cpp's quantizer and with ours, and compares every tensor and every metadata value.

    python recipes_fresh.py LIBGGML_BASE_SO QUANTOSCOPE [SEED]
"""

import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np

from llama import FTYPES, Llama
from recipes import MODELS, described, names

CHOSEN = ["llama_small", "llama_rows_of_288", "llama_tied_rows_of_96"]


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


def read(path):
    reader = gguf.GGUFReader(path)
    tensors = {t.name: (t.tensor_type.name, t.data.tobytes()) for t in reader.tensors}
    keys = {k: f.contents() for k, f in reader.fields.items() if not k.startswith(("GGUF.", "quantoscope."))}
    return tensors, keys


def compare(ours, theirs):
    """How many tensors were compared."""
    (a, a_keys), (b, b_keys) = read(ours), read(theirs)
    assert a.keys() == b.keys()
    different = [n for n in a if a[n] != b[n]]
    assert not different, [(n, a[n][0], b[n][0]) for n in different]
    assert a_keys == b_keys, (a_keys, b_keys)
    return len(a)


def main():
    llama, program, seed = Llama(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 1
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        source, ours, theirs = folder / "source.gguf", folder / "ours.gguf", folder / "theirs.gguf"
        for name in CHOSEN:
            write(source, MODELS[name], seed)
            compared, files = 0, 0
            # The package `gguf` does not know Q2_0.
            for ftype in (f for f in FTYPES if f != "Q2_0"):
                run = [program, "quantize", source, "-o", ours, "--force", "--no-measure", "--recipe", ftype]
                done = subprocess.run(run, capture_output=True, text=True)
                good, said = llama.quantize(source, theirs, ftype)
                if done.returncode == 0 and good:
                    compared += compare(ours, theirs)
                    files += 1
                else:
                    why = done.stderr.strip().splitlines()[-1] if done.returncode else said.strip().splitlines()[-1]
                    print(f"{name} {ftype}: ours {done.returncode}, llama.cpp {'good' if good else 'refuses'}: {why}")
            print(f"{name}: {files} files, {compared} tensors, every byte and every metadata value the same")


if __name__ == "__main__":
    main()
