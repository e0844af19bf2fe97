"""gguf-py reads every GGUF that we write, and decodes the values that we decode."""

from common import SAMPLE, SCRATCH, exported, odd_model, ok, quantoscope, same

import gguf
import numpy as np

TYPES = ["q4_0", "q8_0", "q4_1", "q5_0", "q5_1", "f16", "bf16", "f32"]
# Most have blocks of 256, too long for the rows of the odd model.
LONG = ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "iq3_s", "iq3_xxs", "iq2_s", "tq1_0", "tq2_0", "mxfp4"]
NAMES = {"q3_k": "Q3_K_S", "q4_k": "Q4_K_S", "q5_k": "Q5_K_S", "mxfp4": "MXFP4_MOE"}


def decoded(path):
    """All tensors as gguf-py sees them, and how many of each type."""
    tensors, kinds = {}, {}
    for t in gguf.GGUFReader(path).tensors:
        # GGUF lists the innermost axis first.
        shape = [int(n) for n in t.shape][::-1]
        # gguf-py cannot decode blocks of which there are none.
        values = gguf.quants.dequantize(t.data, t.tensor_type) if t.n_elements else np.zeros(0)
        tensors[t.name] = values.reshape(shape).astype(np.float32)
        kinds[t.tensor_type.name] = kinds.get(t.tensor_type.name, 0) + 1
    return tensors, kinds


def check(source, dtype, least):
    out = SCRATCH / f"{dtype}.gguf"
    quantoscope("quantize", source, "-o", out, "--type", dtype, "--pure", "--force")
    theirs, kinds = decoded(out)
    assert kinds.get(dtype.upper(), 0) >= least, kinds
    ours = exported(out, "from-gguf")
    assert set(ours) == set(theirs), set(ours) ^ set(theirs)
    for name, values in ours.items():
        same(values, theirs[name], f"{out.name} {name}")
    fields = gguf.GGUFReader(out).fields
    assert int(fields["general.file_type"].contents()) == gguf.LlamaFileType[file_type(dtype)], dtype
    ok(f"gguf-py decodes {source.name} as {dtype}: {len(ours)} tensors, {kinds}")


def file_type(dtype):
    return "ALL_F32" if dtype == "f32" else f"MOSTLY_{NAMES.get(dtype, dtype.upper())}"


for dtype in TYPES:
    check(SAMPLE, dtype, 44)
    check(odd_model(), dtype, 2)
for dtype in LONG:
    check(SAMPLE, dtype, 44)


def check_blocks():
    """Random blocks of every type that gguf-py decodes and we write only with an importance matrix, or not at all."""
    path, rng = SCRATCH / "blocks.gguf", np.random.default_rng(30)
    writer = gguf.GGUFWriter(path, "llama")
    # The byte that holds the exponent of the scale; cleared of its top bit the scale is finite.
    for dtype, upper in [("IQ3_S", 1), ("IQ3_XXS", 1), ("IQ2_S", 1), ("IQ2_XS", 1), ("IQ2_XXS", 1), ("IQ1_M", 55), ("IQ1_S", 1)]:
        kind = gguf.GGMLQuantizationType[dtype]
        raw = rng.integers(0, 256, (64, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8)
        raw[:, upper] &= 0xBF
        writer.add_tensor(f"{dtype}.weight", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    theirs, kinds = decoded(path)
    ours = exported(path, "from-blocks")
    assert set(ours) == set(theirs), set(ours) ^ set(theirs)
    for name, values in ours.items():
        same(values, theirs[name], name)
    ok(f"gguf-py decodes random blocks: {kinds}")


check_blocks()
