"""Whether a rotated checkpoint still is the model that it was: both are run in transformers and their logits compared.

    python check_rotated.py SOURCE ROTATED [--tolerance 6e-6]

The arithmetic is binary64, so that what differs comes from the stored weights: rotated ones in F32 are off by some 1e-6,
in BF16 by some 1e-2. Ends with 1 where the difference is above the tolerance or a tensor is missing or unknown.
"""

import argparse
import sys

import numpy as np

import hf


def inputs(config):
    yield hf.text(config)
    if "vision_start_token_id" in config and "spatial_merge_size" in config.get("vision_config", {}):
        yield hf.picture(config)


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("source")
    args.add_argument("rotated")
    args.add_argument("--tolerance", type=float, default=6e-6, help="relative to the largest logit (default: 6e-6)")
    args = args.parse_args()
    what = list(inputs(hf.config_of(args.source)))
    try:
        before, after = (np.concatenate([hf.logits(hf.load(f), i) for i in what]) for f in (args.source, args.rotated))
    except ValueError as problem:
        sys.exit(f"error: {problem}")
    off = hf.difference(before, after)
    same = int((before.argmax(1) == after.argmax(1)).sum())
    print(f"relative logit difference {off:.3g}, the same best token at {same} of {len(before)} positions")
    # A difference that is no number is above every tolerance.
    sys.exit(0 if off <= args.tolerance else 1)


main()
