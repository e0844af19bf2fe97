"""Fails unless two GGUF files hold the same tensors with the same bytes. Usage: equal.py ONE OTHER"""

import sys

import numpy as np
from gguf import GGUFReader

one, other = ({t.name: t for t in GGUFReader(path).tensors} for path in sys.argv[1:])
if one.keys() != other.keys():
    sys.exit(f"other tensors: {sorted(one.keys() ^ other.keys())}")
for name, a in one.items():
    b = other[name]
    if a.tensor_type != b.tensor_type or not np.array_equal(a.data.view(np.uint8), b.data.view(np.uint8)):
        sys.exit(f"{name} differs: {a.tensor_type.name} here, {b.tensor_type.name} there")
