#!/usr/bin/env python3
"""Ours beside ggml's and llama.cpp's on this machine: the goals, what was measured, and whether they are met.

Both sides are asked in turn, round after round, so that both meet the same weather; a ratio is the median of the rounds'
ratios. Speeds are compared only where the bytes are equal.

Usage: peers.py [--rounds N] [--only PATTERN] [--record]
"""

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import time
from pathlib import Path
from statistics import median

import goals

ROOT = Path(__file__).parents[2]
WORK = ROOT / "target/peers"
LIBRARIES = WORK / "package/bins/linux-x64"
PYTHON = ROOT / "target/venv/bin/python"
HERE = Path(__file__).parent
MODEL = WORK / "model.gguf"
HEAD = "| what | ours | theirs | ratio | goal | met |\n|---|---|---|---|---|---|"


class Server:
    """A process that answers a line with a line."""

    def __init__(self, *command):
        pipe = subprocess.PIPE
        words = [str(word) for word in command]
        self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)

    def ask(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(f"{' '.join(map(str, words))}: {answer['error']}")
        return answer


class Table:
    def __init__(self, only):
        self.only, self.lines = re.compile(only or ""), []
        self.say(HEAD)

    def wants(self, what):
        return bool(self.only.search(what))

    def say(self, line):
        print(line, flush=True)
        self.lines.append(line)

    def row(self, what, ours, theirs, ratio="", goal="", met=None):
        verdict = "" if met is None else "yes" if met else "**no**"
        self.say(f"| {what} | {ours} | {theirs} | {ratio} | {goal} | {verdict} |")


def speed(weights_per_second):
    mega = weights_per_second / 1e6
    return f"{mega:.0f} Mw/s" if mega >= 100 else f"{mega:.3g} Mw/s"


class Kernels:
    """One thread: encoders and decoders."""

    def __init__(self, table, rounds):
        self.table, self.rounds = table, rounds
        self.theirs = Server(PYTHON, HERE / "ggml.py", LIBRARIES / "libggml-base.so", WORK)
        self.peer_types = self.theirs.ask("about")["types"]
        self.ours = Server(ROOT / "target/release/quantoscope-peers", WORK)
        about = self.ours.ask("about")
        self.types, self.engines = about["types"], about["engines"][1:] or about["engines"]

    def compare(self, *request):
        """Weights a second of both, and the median of the ratios; nothing where the bytes differ."""
        count, pairs = int(request[4] if request[0] == "encode" else request[3]), []
        for _ in range(self.rounds):
            ours, theirs = self.ours.ask(*request), self.theirs.ask(*request)
            if ours["sha256"] != theirs["sha256"]:
                return None
            pairs.append((count / ours["seconds"], count / theirs["seconds"]))
        return median(o for o, _ in pairs), median(t for _, t in pairs), median(o / t for o, t in pairs)

    def against_ggml(self, what, goal, *request):
        if not self.table.wants(what):
            return
        found = self.compare(*request)
        if not found:
            self.table.row(what, "other bytes", "", "", f">= {goal}x" if goal else "", False)
            return
        ours, theirs, ratio = found
        met = ratio >= goal if goal else None
        self.table.row(what, speed(ours), speed(theirs), f"{ratio:.2f}x", f">= {goal}x" if goal else "", met)

    def streams(self):
        for name in goals.STREAMED:
            for source, size in [("f32", 4), ("bf16", 2)]:
                for engine in self.engines:
                    self.stream(name, source, size, engine)

    def stream(self, name, source, size, engine):
        what = f"encode {name} from {source.upper()}, streamed, {engine}"
        if not self.table.wants(what):
            return
        rates, reads, count = [], [], goals.STREAM_COUNT
        for _ in range(self.rounds):
            rates.append(count / self.ours.ask("encode", engine, name, source, count, "plain")["seconds"])
            reads.append(4 * count / self.ours.ask("read", 4 * count)["seconds"])
        ratio = median(rate * size / read for rate, read in zip(rates, reads))
        part, limit = (goals.FROM_F32, float("inf")) if source == "f32" else goals.FROM_BF16
        goal = f">= {part:.0%} of reading" + (f" or {speed(limit)}" if limit < float("inf") else "")
        met = ratio >= part or median(rates) >= limit
        ours, theirs = (f"{median(x) / 1e9:.2f} GB/s" for x in ([r * size for r in rates], reads))
        self.table.row(what, f"{ours}, {speed(median(rates))}", f"read {theirs}", f"{ratio:.0%}", goal, met)

    def encoders(self):
        for name in self.peer_types:
            about = self.types.get(name, {})
            if not about.get("writes"):
                continue
            several = name in goals.ENCODE or name in goals.WEIGHTED
            for engine in self.engines if several else self.engines[-1:]:
                self.encoder(name, engine, about)

    def encoder(self, name, engine, about):
        words = ["encode", engine, name, "f32"]
        if not about["needs_weights"]:
            goal = goals.ENCODE.get(name, {}).get(engine)
            self.against_ggml(f"encode {name}, {engine}", goal, *words, goals.count(name), "plain")
        if about["weights"]:
            goal, count = goals.WEIGHTED.get(name), goals.weighted_count(name)
            self.against_ggml(f"encode {name} with weights, {engine}", goal, *words, count, "weighted")

    def decoders(self):
        for name in self.peer_types:
            if name in self.types:
                engine = self.engines[-1]
                words = ["decode", engine, name, goals.DECODE_COUNT]
                self.against_ggml(f"decode {name}, {engine}", goals.DECODE, *words)

    def wasm(self):
        program = ROOT / "target/wasm32-wasip1/release/quantoscope-peers.wasm"
        # Optimised from the start, as in a page that has run for a second: code that is timed while it is compiled says nothing.
        server = Server("node", "--no-warnings", "--no-liftoff", HERE / "wasi.mjs", program, WORK)
        engine = server.ask("about")["engines"][-1]
        native = "avx2" if "avx2" in self.engines else self.engines[-1]
        for name in goals.WASM_TYPES:
            what = f"encode {name} in WebAssembly, {engine}, node"
            if not self.table.wants(what):
                continue
            words = [name, "f32", goals.count(name), "plain"]
            rates, ratios = [], []
            server.ask("encode", engine, *words)  # compiles it
            for _ in range(self.rounds):
                seconds = server.ask("encode", engine, *words)["seconds"]
                rates.append(goals.count(name) / seconds)
                ratios.append(self.ours.ask("encode", native, *words)["seconds"] / seconds)
            rate, part = median(rates), median(ratios)
            theirs, goal = f"our {native} {speed(rate / part)}", f">= {goals.WASM_PART:.0%}"
            self.table.row(what, speed(rate), theirs, f"{part:.0%}", goal, part >= goals.WASM_PART)
            if name in goals.WASM_GGML:
                times, recorded = goals.WASM_GGML[name]
                theirs, ratio = f"ggml in wasm {speed(recorded)} (recorded)", rate / recorded
                self.table.row(what, speed(rate), theirs, f"{ratio:.2f}x", f">= {times}x", ratio >= times)


class Commands:
    """Whole commands on a whole file."""

    def __init__(self, table, rounds):
        self.table, self.rounds = table, rounds
        self.ours = ROOT / "target/release/quantoscope"

    def run(self, *command):
        """Seconds on the wall, on the processors, peak memory in bytes, and what it printed."""
        report = WORK / "time"
        begun = time.perf_counter()
        timed = ["/usr/bin/time", "-o", report, "-f", "%U %S %M", *map(str, command)]
        done = subprocess.run(timed, capture_output=True, text=True)
        seconds = time.perf_counter() - begun
        if done.returncode != 0:
            raise RuntimeError(f"{command} failed: {done.stderr}")
        user, system, memory = report.read_text().split()[-3:]
        return seconds, float(user) + float(system), int(memory) * 1024, done.stdout

    def ours_on(self, out, options, threads):
        out.unlink(missing_ok=True)
        command = ["quantize", MODEL, "-o", out, *options.split(), "--threads", threads, "--json"]
        wall, processor, memory, _ = self.run(self.ours, *command)
        return wall, processor, memory

    def theirs_on(self, out, ftype, threads, mix):
        """The seconds are those of the call alone, without the start of the process around it."""
        out.unlink(missing_ok=True)
        library = next(LIBRARIES.glob("libllama.v*.so"))
        command = [HERE / "llama.py", library, MODEL, out, ftype, threads, mix]
        _, processor, memory, printed = self.run(PYTHON, *command)
        return json.loads(printed)["seconds"], processor, memory

    def all(self):
        for command in goals.COMMANDS:
            for threads in [2, 1]:
                if self.table.wants(f"quantize {command.ours}, {threads} threads"):
                    self.command(command, threads)
        for name in ["ours.gguf", "theirs.gguf"]:
            (WORK / name).unlink(missing_ok=True)

    def command(self, command, threads):
        mix = "pure" if "--pure" in command.ours else "mixed"
        ours, theirs, copies = {command.ours: [], f"{command.ours} --no-measure": []}, [], []
        for _ in range(self.rounds):
            for options, runs in ours.items():
                runs.append(self.ours_on(WORK / "ours.gguf", options, threads))
            theirs.append(self.theirs_on(WORK / "theirs.gguf", command.ftype, threads, mix))
            copies.append(copy_times(MODEL, (WORK / "ours.gguf").stat().st_size))
        check_equal(WORK / "ours.gguf", WORK / "theirs.gguf")
        for options, runs in ours.items():
            self.rows(f"quantize {options}, {threads} threads", command, threads, runs, theirs, copies)

    def rows(self, what, command, threads, ours, theirs, copies):
        wall = lambda runs: f"{median(run[0] for run in runs):.2f} s"
        processor = lambda runs: f"{median(run[1] for run in runs):.2f} s"
        times = lambda n: median(t[n] / o[n] for t, o in zip(theirs, ours))
        is_goal = command.times and threads == 2
        goal, met = (f">= {command.times}x", times(0) >= command.times) if is_goal else ("", None)
        self.table.row(what, wall(ours), f"llama.cpp {wall(theirs)}", f"{times(0):.1f}x", goal, met)
        self.table.row("- on the processors", processor(ours), processor(theirs), f"{times(1):.1f}x")
        peak, their_peak = (max(run[2] for run in runs) / 1e6 for runs in (ours, theirs))
        goal, met = f"< {goals.MEMORY / 1e6:.0f} MB", peak < goals.MEMORY / 1e6
        self.table.row("- peak memory", f"{peak:.0f} MB", f"{their_peak:.0f} MB", f"{their_peak / peak:.0f}x", goal, met)
        for n, copying in enumerate(["read and write", "read, write and sync"]):
            part = median(o[0] / c[n] for o, c in zip(ours, copies))
            is_goal = n == 0 and not command.times and threads == 2
            goal, met = (f"<= {goals.COPIES}x", part <= goals.COPIES) if is_goal else ("", None)
            theirs = f"{copying} {median(c[n] for c in copies):.2f} s"
            self.table.row("- beside copies", wall(ours), theirs, f"{part:.2f}x", goal, met)


def copy_times(source, size, chunk=1 << 20):
    """Seconds to read all of `source` and write `size` bytes on one thread; and with bringing them to the disk."""
    buffer, out = bytearray(chunk), WORK / "copy"
    out.unlink(missing_ok=True)
    begun = time.perf_counter()
    with open(source, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    with open(out, "wb", buffering=0) as file:
        for _ in range(-(-size // chunk)):
            file.write(buffer)
        written = time.perf_counter()
        os.fsync(file.fileno())
    ended = time.perf_counter()
    out.unlink()
    return written - begun, ended - begun


def check_equal(ours, theirs):
    """Both files hold the same tensors with the same bytes."""
    subprocess.run([PYTHON, HERE / "equal.py", ours, theirs], check=True)


def record(table):
    names = re.findall("model name\\s*: (.*)", Path("/proc/cpuinfo").read_text()) or [platform.machine()]
    date = datetime.date.today().isoformat()
    path = ROOT / f"benches/record/{date}-goals.md"
    lines = [
        f"# {date}, {names[0]}, {os.cpu_count()} processors, {platform.system()}",
        "",
        "`make bench`; *theirs* is ggml's function, or llama.cpp's quantization of a file, measured in turn with ours. A ratio is the",
        "median over the rounds. Kernels run on one thread, and their seconds are the processor's; speeds count weights. Commands work on",
        f"984 MB of BF16, page cache warm; other work on the machine: load {os.getloadavg()[1]:.1f}.",
        "",
        *table.lines,
        "",
    ]
    path.write_text("\n".join(lines))
    print(f"\nrecorded in {path.relative_to(ROOT)}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="a regular expression for the first column")
    parser.add_argument("--record", action="store_true")
    args = parser.parse_args()
    if not MODEL.exists():
        subprocess.run([PYTHON, HERE / "model.py", WORK / "model.part"], check=True)
        (WORK / "model.part").rename(MODEL)
    table = Table(args.only)
    kernels = Kernels(table, args.rounds)
    kernels.streams()
    kernels.encoders()
    kernels.decoders()
    kernels.wasm()
    Commands(table, (args.rounds + 1) // 2).all()
    if args.record:
        record(table)


main()
