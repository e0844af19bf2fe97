"""How fast the reference encodes on one thread: million weights a second, with a painted importance row where a type takes
one. The same values and rows as `cargo bench -p quantoscope-benches --bench kernels`, to be run beside it.

    python speed.py LIBGGML_BASE_SO [TYPE ...]
"""

import statistics
import sys
import time

from ggml import TAKE_WEIGHTS, Ggml
from painters import importance, paint

N, COLUMNS, RUNS = 1 << 16, 4096, 15


def main():
    lib, x, weights = Ggml(sys.argv[1]), paint("normal", 1, N), importance(2, COLUMNS)
    for name in sys.argv[2:] or TAKE_WEIGHTS:
        row = weights if name in TAKE_WEIGHTS else None
        lib.encode(name, x, row)
        times = []
        for _ in range(RUNS):
            start = time.thread_time()
            lib.encode(name, x, row)
            times.append(time.thread_time() - start)
        print(f"{name:8} {N / statistics.median(times) / 1e6:7.2f} Mw/s")


main()
