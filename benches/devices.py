#!/usr/bin/env python3
"""The devices of this machine: are they exact, how fast is each kernel beside what their copies allow, and what a whole
command gains, from file to file.

1. Every committed vector and fresh blocks (10^7 simple, 10^5 super-blocks for each type and kind of source, or what --blocks
   says) through every device. On a device in software that is the proof in five float modes.
2. `quantoscope engines`: weights per second of each kernel, by the processor, by the device, and by its copies alone.
3. A model of random weights, BF16, quantized by the processor and by each device, in turn, three times: medians, and the
   files must be equal.

Usage: devices.py [--blocks N] [--gigabytes G] [--skip-proof] [--record]
"""

import argparse
import datetime
import filecmp
import json
import os
import platform
import struct
import subprocess
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "target/release/quantoscope"
WORK = ROOT / "target/devices"
TYPES = ["q8_0", "q4_0", "q4_k", "q6_k"]


def run(*command, **environment):
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE, env={**os.environ, **environment}).stdout


def proof(blocks):
    """Says how many tests passed, or ends with what failed."""
    tests = ["cargo", "test", "--release", "-p", "quantoscope-tests", "--test", "conformance", "--", "--nocapture", "--include-ignored", "--skip", "by_hand_"]
    out = run(*tests, "gpu::", "gpu_turns::", "cuda::", QUANTOSCOPE_BLOCKS=str(blocks))
    wide = run(*tests, "gpu_wide::", QUANTOSCOPE_BLOCKS=str(max(blocks // 100, 1000)))
    absent = " No CUDA device was there." if "no CUDA device" in out else ""
    passed = sum(int(line.split()[3]) for line in (out + wide).splitlines() if line.startswith("test result: ok."))
    return f"{passed} tests passed, with {blocks:,} simple blocks and {max(blocks // 100, 1000):,} super-blocks.{absent}"


def model(gigabytes):
    """A safetensors file of BF16 weights, nearly normal, whose bits repeat every 64 MiB."""
    path = WORK / f"model-{gigabytes:g}.safetensors"
    columns, rows = 4096, max(int(gigabytes * 1e9 / 2 / 4096 / 4), 256)
    size = rows * columns * 2
    names = [f"model.layers.{n}.mlp.up_proj.weight" for n in range(4)]
    header = {n: {"dtype": "BF16", "shape": [rows, columns], "data_offsets": [i * size, (i + 1) * size]} for i, n in enumerate(names)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    if path.exists() and path.stat().st_size == 8 + len(text) + 4 * size:
        return path
    WORK.mkdir(parents=True, exist_ok=True)
    import random

    random.seed(1)
    pattern = b"".join(struct.pack("<f", random.gauss(0, 0.02))[2:] for _ in range(1 << 20)) * 32
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        left = 4 * size
        while left:
            left -= file.write(pattern[: min(left, len(pattern))])
    return path


def seconds(source, to, engine):
    """Of a whole command; what it wrote."""
    out = WORK / f"{to}-{engine}.gguf"
    start = time.monotonic()
    run(PROGRAM, "quantize", source, "-o", out, "--type", to, "--pure", "--force", "--engine", engine, "--json")
    return time.monotonic() - start, out


def end_to_end(source, devices, processor):
    yield "| type | " + " | ".join([processor, *devices]) + " |"
    yield "|---" * (2 + len(devices)) + "|"
    for to in TYPES:
        times = {engine: [] for engine in [processor, *devices]}
        for _ in range(3):
            files = {}
            for engine, taken in times.items():
                took, files[engine] = seconds(source, to, engine)
                taken.append(took)
            for engine in devices:
                if not filecmp.cmp(files[processor], files[engine], shallow=False):
                    raise SystemExit(f"{to}: {engine} wrote other bytes than {processor}")
        base = median(times[processor])
        cells = [f"{base:.2f} s"] + [f"{median(times[d]):.2f} s ({base / median(times[d]):.2f}x)" for d in devices]
        yield f"| {to.upper()} | " + " | ".join(cells) + " |"


def rate(value):
    return "–" if value is None else f"{value / 1e6:,.0f}"


def kernels(report, present):
    names = [name for d in present for name in (d["engine"], f"{d['engine']}, of its copies")]
    yield "| work, million weights/s | processor | " + " | ".join(names) + " | auto |"
    yield "|---" * (3 + len(names)) + "|"
    for row in report["work"]:
        cells = []
        for at, device in enumerate(report["devices"]):
            if device in present:
                speed, copies = row["devices"][at], row["copies"][at]
                share = f"{100 * speed / copies:.0f} %" if speed and copies else "–"
                cells += [rate(speed), share]
        yield f"| {row['work']} | {rate(row['processor'])} | " + " | ".join(cells) + f" | {row['auto']} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=10_000_000)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--skip-proof", action="store_true")
    parser.add_argument("--record", action="store_true")
    args = parser.parse_args()
    run("cargo", "build", "--release", "-p", "quantoscope")
    report = json.loads(run(PROGRAM, "engines", "--json"))
    present = [d for d in report["devices"] if "name" in d]
    lines = [f"# Devices, {datetime.date.today()}", ""]
    processor = report["processor"]
    lines.append(f"{platform.machine()}, {processor['engine']} on {processor['threads']} threads.")
    for device in report["devices"]:
        exact = sum(k["exact"] for k in device["kernels"])
        kind = ", a program on the processor" if device["software"] else ""
        said = f"{device['name']}{kind}: {exact} of {len(device['kernels'])} kernels exact" if device in present else device["missing"]
        lines.append(f"- `{device['engine']}`: {said}.")
    if not args.skip_proof:
        lines += ["", proof(args.blocks)]
    lines += ["", *kernels(report, present)]
    if present and args.gigabytes > 0:
        source = model(args.gigabytes)
        engines = [d["engine"] for d in present]
        lines += ["", f"From file to file, {source.stat().st_size / 1e9:.2f} GB of BF16, measured errors included, medians of three:", ""]
        lines += end_to_end(source, engines, processor["engine"])
    text = "\n".join(lines) + "\n"
    print(text)
    if args.record:
        (ROOT / f"benches/record/{datetime.date.today()}-devices.md").write_text(text)


if __name__ == "__main__":
    main()
