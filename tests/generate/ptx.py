"""Compiles core/accel/src/cuda/kernels/*.cu to the PTX beside them, which is what the product carries.

    python ptx.py             # writes the texts anew
    python ptx.py --check     # ends with 1 where a committed text is not what its source makes
    python ptx.py --gate      # --check, and every text through ptxas for every architecture from sm_70 on

Needs the compilers in ptx-requirements.txt, and no GPU.
"""

import ctypes
import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

KERNELS = Path(__file__).resolve().parents[2] / "core/accel/src/cuda/kernels"
ARCHITECTURES = [70, 75, 80, 86, 89, 90, 100, 103, 120, 121]
# The oldest language that has the exchanges within a warp: drivers from CUDA 9.0 on read it.
VERSION = ".version 6.0"
OPTIONS = ["--gpu-architecture=compute_70", "--std=c++17", "--fmad=false"]
# What would round otherwise than the definition, or flush; and memory of a thread's own, which is far away.
FORBIDDEN = re.compile(r"\.local\b|\bfma\b|\.ftz|\.approx|\.sat\.|\.full|\.r[zmp]\.|\b(?:add|sub|mul|div)\.f32")


def package(name):
    """The folder of a wheel of NVIDIA's."""
    found = importlib.util.find_spec(f"nvidia.{name}")
    if found is None:
        sys.exit("error: install ptx-requirements.txt first")
    return Path(list(found.submodule_search_locations)[0])


class Nvrtc:
    """The run-time compiler, through its C interface."""

    def __init__(self):
        self.lib = ctypes.CDLL(str(package("cuda_nvrtc") / "lib/libnvrtc.so.12"))
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.call("Version", ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"

    def call(self, name, *arguments):
        code = getattr(self.lib, f"nvrtc{name}")(*arguments)
        if code != 0:
            raise RuntimeError(f"nvrtc{name}: {code}")

    def text(self, of, program):
        """The log or the PTX of a program."""
        size = ctypes.c_size_t()
        self.call(f"Get{of}Size", program, ctypes.byref(size))
        room = ctypes.create_string_buffer(size.value)
        self.call(f"Get{of}", program, room)
        return room.value.decode()

    def compile(self, source, headers):
        program = ctypes.c_void_p()
        strings = lambda items: (ctypes.c_char_p * len(items))(*[i.encode() for i in items])
        self.call(
            "CreateProgram", ctypes.byref(program), source.read_bytes(), source.name.encode(), len(headers),
            strings([h.read_text() for h in headers]), strings([h.name for h in headers]),
        )  # fmt: skip
        try:
            self.call("CompileProgram", program, len(OPTIONS), strings(OPTIONS))
            return self.text("PTX", program)
        except RuntimeError as error:
            sys.exit(f"error: {source.name}: {error}\n{self.text('ProgramLog', program)}")
        finally:
            self.call("DestroyProgram", ctypes.byref(program))


def tidy(name, ptx, compiler):
    """The text as it is kept: without the compiler's comments, and in an old version of the language."""
    lines = [line.rstrip() for line in ptx.splitlines() if not line.lstrip().startswith("//")]
    lines = [re.sub(r"\s*// .*$", "", line) for line in lines]
    body = re.sub(r"\n{2,}", "\n", "\n".join(lines)).strip()
    body, count = re.subn(r"^\.version \d+\.\d+$", VERSION, body, flags=re.M)
    assert count == 1, f"{name}: no version"
    code = re.sub(r"cvt\.rzi\.", "", body)
    if bad := FORBIDDEN.search(code):
        sys.exit(f"error: {name} has {bad.group()}, which is not exact or not fast")
    return f"// Made from {name} by tests/generate/ptx.py with NVRTC {compiler}; do not edit.\n{body}\n"


def assemble(ptx):
    """Lets ptxas translate a text for every architecture; returns what it says of the registers and spills."""
    found = []
    for architecture in ARCHITECTURES:
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [package("cuda_nvcc") / "bin/ptxas", "-v", f"-arch=sm_{architecture}", "-o", f"{folder}/out", ptx],
                capture_output=True, text=True,
            )  # fmt: skip
        said = done.stdout + done.stderr
        if done.returncode != 0:
            sys.exit(f"error: ptxas, sm_{architecture}, {ptx.name}:\n{said}")
        registers = [int(n) for n in re.findall(r"Used (\d+) registers", said)]
        spilled = [int(n) for n in re.findall(r"(\d+) bytes spill", said)]
        if any(spilled):
            sys.exit(f"error: {ptx.name} spills for sm_{architecture}")
        found.append(f"sm_{architecture} {min(registers)}-{max(registers)}")
    return f"{ptx.name}: registers {', '.join(found)}"


def main(arguments):
    check, gate = "--check" in arguments or "--gate" in arguments, "--gate" in arguments
    nvrtc, headers = Nvrtc(), sorted(KERNELS.glob("*.cuh"))
    sources = sorted(KERNELS.glob("*.cu"))
    assert sources, "no kernels"
    stale = []
    for source in sources:
        ptx, text = source.with_suffix(".ptx"), tidy(source.name, nvrtc.compile(source, headers), nvrtc.version)
        if not check:
            ptx.write_text(text)
        elif not ptx.exists() or ptx.read_text() != text:
            stale.append(ptx.name)
        if gate:
            print(assemble(ptx))
    orphans = {p.stem for p in KERNELS.glob("*.ptx")} - {s.stem for s in sources}
    if stale or orphans:
        sys.exit(f"error: not what the sources make: {', '.join(stale + sorted(orphans))}; run tests/generate/ptx.py")
    print(f"{len(sources)} texts {'are what their sources make' if check else 'written'} (NVRTC {nvrtc.version})")


main(sys.argv[1:])
