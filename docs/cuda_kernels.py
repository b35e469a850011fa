"""Compiles the CUDA kernels of the trainer and of attention for real GPUs, without one, and prints what each needs.

    pip install nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cuda-cccl nvidia-cuda-nvcc
    python docs/cuda_kernels.py > docs/cuda_kernels.md

Runs the example `cuda_kernels` of harvest for each architecture (it writes the kernels' sources), compiles the sources
with NVRTC and the options that CubeCL gives it, and assembles the result with ptxas. Prints a table in Markdown.
"""

import ctypes
import pathlib
import re
import subprocess
import sys
import sysconfig
import tempfile

ARCHITECTURES = [80, 90, 100]
ROOT = pathlib.Path(__file__).resolve().parent.parent
EMIT = ["cargo", "run", "--quiet", "--release", "-p", "harvest", "--features", "vulkan,cuda-source",
        "--example", "cuda_kernels", "--"]


NOTES = """
What was changed because of this table: `residuals` went over all features of a token once for each prefix, and spilled 20
bytes on sm_100; its features are in order, so each prefix now continues where the one before it ended.

What was left as it is: CubeK's automatic choice for the product (`matmul_entry`) are WMMA instructions on small tiles, on
sm_90 and sm_100 too. Whether larger tiles or TMA are faster there can only be measured on a GPU.

What it shows of attention (`ranged_attention`): heads of 256 numbers, as in Gemma 3, need 128 registers, so that two cubes fit
on a multiprocessor; heads of 64 to 128 need 64 to 80. Nothing spills. Shared memory is the same for all.
"""


def find(pattern):
    """The first file of the installed NVIDIA packages that matches."""
    packages = pathlib.Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    found = sorted(packages.glob(pattern))
    if not found:
        sys.exit(f"no {pattern} under {packages}: install the packages that this script names in its first lines")
    return found[0]


class Nvrtc:
    """NVRTC through its C interface."""

    def __init__(self):
        self.library = ctypes.CDLL(str(find("**/libnvrtc.so*")))

    def call(self, name, *arguments):
        return getattr(self.library, name)(*arguments)

    def version(self):
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        return f"{major.value}.{minor.value}"

    def text(self, program, what):
        size = ctypes.c_size_t()
        self.call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self.call(f"nvrtcGet{what}", program, text)
        return text.value

    def compile(self, source, options):
        """PTX, or an exit that shows NVRTC's log."""
        program = ctypes.c_void_p()
        self.call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), None, 0, None, None)
        encoded = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
        if self.call("nvrtcCompileProgram", program, len(options), encoded) != 0:
            raise RuntimeError(self.text(program, "ProgramLog").decode())
        return self.text(program, "PTX")


def measure(nvrtc, source, architecture, folder):
    """Registers, shared memory, spilled bytes (stores, loads) and stack bytes of a kernel."""
    target = f"sm_{architecture}a" if architecture >= 90 else f"sm_{architecture}"
    headers = find("**/cuda_runtime.h").parent
    options = [f"--gpu-architecture={target}", f"--include-path={headers}", f"--include-path={headers}/cccl", "-lineinfo"]
    ptx = folder / "kernel.ptx"
    ptx.write_bytes(nvrtc.compile(source, options))
    ptxas = [str(find("**/bin/ptxas")), "-v", f"-arch={target}", str(ptx), "-o", str(folder / "kernel.cubin")]
    log = subprocess.run(ptxas, capture_output=True, text=True, check=True).stderr
    number = lambda pattern: int(found.group(1)) if (found := re.search(pattern, log)) else 0
    dynamic = int(re.search(r"// shared memory: (\d+)", source).group(1))
    return {
        "registers": number(r"Used (\d+) registers"),
        "shared": number(r"(\d+) bytes smem") + dynamic,
        "spills": number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads"),
        "stack": number(r"(\d+) bytes stack frame"),
    }


def kernel_name(path):
    """The name of a kernel without the hash of its configuration."""
    return re.sub(r"_[0-9a-f]{8}$", "", path.stem)


def main():
    nvrtc = Nvrtc()
    rows, failed = {}, []
    with tempfile.TemporaryDirectory() as scratch:
        for architecture in ARCHITECTURES:
            folder = pathlib.Path(scratch) / str(architecture)
            subprocess.run([*EMIT, str(architecture), str(folder)], cwd=ROOT, check=True)
            for path in sorted(folder.glob("*.cu")):
                source = path.read_text()
                units = int(re.search(r"// units: (\d+)", source).group(1))
                try:
                    needs = measure(nvrtc, source, architecture, folder)
                    rows.setdefault((kernel_name(path), units), {}).setdefault(architecture, []).append(needs)
                except (RuntimeError, subprocess.CalledProcessError) as error:
                    failed.append(f"{path.stem}, sm_{architecture}: {getattr(error, 'stderr', None) or error}")
    print("# CUDA kernels of the trainer, and of attention\n")
    print(f"Made by `docs/cuda_kernels.py` with NVRTC {nvrtc.version()}: compiled, never run. Registers of a unit (thread);")
    print("bytes of shared memory of a cube (block); bytes that a unit spills to memory, stores and loads together, and bytes")
    print("of its stack. Where configurations compile a kernel to different sources, the most that one of them needs.\n")
    heads = [f"sm_{architecture}: registers | shared | spills | stack" for architecture in ARCHITECTURES]
    print("| kernel | sources | units | " + " | ".join(heads) + " |")
    print("|---|---:|---:" + "|---:|---:|---:|---:" * len(ARCHITECTURES) + "|")
    for (name, units), found in sorted(rows.items()):
        cells = []
        for architecture in ARCHITECTURES:
            cell = found.get(architecture)
            most = [max(form[need] for form in cell) for need in cell[0]] if cell else ["–"] * 4
            cells += [str(value) for value in most]
        sources = max(len(cell) for cell in found.values())
        print(f"| `{name}` | {sources} | {units} | " + " | ".join(cells) + " |")
    print(NOTES)
    for failure in failed:
        print(failure, file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
