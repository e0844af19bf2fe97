"""Whether a counter-rotated adapter does beside the rotated model what it did beside its own, in PEFT.

    python check_adapter.py QUANTOSCOPE SOURCE [--rotate quarot,r2] [--tolerance 6e-6]

PEFT itself makes an adapter of random values for every linear module of SOURCE (and for the embedding, where it is not
tied), quantoscope rotates model and adapter in binary32, and both pairs are run in binary64. Needs peft beside the
packages of the fixtures. Ends with 1 where the logits differ by more than the tolerance, or where the adapter had no say.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import peft
import torch

import hf


def adapted(folder, adapter):
    return peft.PeftModel.from_pretrained(hf.load(folder), adapter).to(torch.float64).eval()


def make(source, folder):
    """An adapter that PEFT would save after training; what it begins with has no effect."""
    model = hf.load(source)
    tied = model.config.get_text_config().tie_word_embeddings
    kinds = (torch.nn.Linear, *([] if tied else [torch.nn.Embedding]))
    linear = [n for n, m in model.named_modules() if isinstance(m, kinds) or type(m).__name__ == "Conv1D"]
    targets = [n for n in linear if not (tied and n.endswith("lm_head"))]
    model = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, target_modules=targets))
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "lora_" in name:
                values.copy_(torch.randn(values.shape, generator=generator, dtype=torch.float64) * 0.2)
    model.to(torch.float32).save_pretrained(folder)
    return len(targets)


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("quantoscope")
    args.add_argument("source")
    args.add_argument("--rotate", default="quarot,r2")
    args.add_argument("--tolerance", type=float, default=6e-6, help="relative to the largest logit (default: 6e-6)")
    args = args.parse_args()
    tokens = hf.text(hf.config_of(args.source))
    with tempfile.TemporaryDirectory() as place:
        own, rotated, turned = (str(pathlib.Path(place) / n) for n in ("own", "rotated", "turned"))
        count = make(args.source, own)
        rotate = [args.quantoscope, "rotate", args.source, "--type", "f32", "--json"]
        for more in (["-o", rotated, "--rotate", args.rotate], ["--adapter", own, "--rotated", rotated, "-o", turned]):
            subprocess.run(rotate + more, check=True, stdout=subprocess.DEVNULL)
        plain = hf.logits(hf.load(args.source), tokens)
        before, after = (hf.logits(adapted(m, a), tokens) for m, a in ((args.source, own), (rotated, turned)))
    off, effect = hf.difference(before, after), hf.difference(plain, before)
    print(f"{count} modules: relative logit difference {off:.3g}; the adapter's own effect {effect:.3g}")
    sys.exit(0 if off <= args.tolerance and effect > 100 * args.tolerance else 1)


main()
