"""Where the native code comes from: the wheel, which has it for common processors, or a compiler, once, on first use.

The environment: `UNITOK_KERNELS=0` goes without, `CXX` names the compiler, `UNITOK_CACHE` the folder of caches.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

__all__ = ["compile_for_wheel", "library", "origin", "why_not"]

SOURCE = Path(__file__).with_name("native") / "decoder.cpp"
OF_WHEEL = Path(__file__).with_name("compiled")
FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fPIC")
THREADS = ("-fopenmp", "-fopenmp-simd")
"""Several threads, or where the compiler comes without OpenMP one."""
_AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")
PROCESSORS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {"AVX2": ("-mavx2", "-mfma"), "AVX512": ("-mavx2", "-mfma", *_AVX512)},
    "aarch64": {"DEFAULT": ()},
}
"""What wheels are compiled for: by machine and by what PyTorch calls a processor's abilities, the compiler's flags."""

logger = logging.getLogger("unitok")
_reason = ""
_origin = ""


@cache
def library() -> ctypes.CDLL | None:
    """Return the native code; None where there is none, and `why_not` says why."""
    global _reason, _origin
    if os.environ.get("UNITOK_KERNELS") == "0":
        _reason = "UNITOK_KERNELS=0"
        return None
    for place, find in (("of the wheel", _path_in_wheel), ("compiled for this processor", _compiled)):
        try:
            found = ctypes.CDLL(str(find()))
        except (OSError, subprocess.SubprocessError) as error:
            _reason = str(error)
            logger.debug("no native code %s: %s", place, _reason)
        else:
            _origin = place
            return found
    return None


def why_not() -> str:
    """Return why there is no native code; empty where there is."""
    return "" if library() is not None else _reason


def origin() -> str:
    """Return where the native code comes from, in words; empty where there is none."""
    return _origin if library() is not None else ""


def compile_for_wheel(folder: Path) -> list[Path]:
    """Compile for each of this machine's `PROCESSORS`; none without a compiler, or with `UNITOK_KERNELS=0`.

    OpenMP is not linked: its functions are those that PyTorch has loaded when unitok loads this.

    Returns:
        The files written into `folder`.

    Raises:
        OSError: If the compiler fails; the message has what it said.
        subprocess.TimeoutExpired: If it takes more than five minutes.
    """
    compiler = _compiler()
    if compiler is None or os.environ.get("UNITOK_KERNELS") == "0":
        return []
    made = []
    for processor, flags in PROCESSORS.get(platform.machine(), {}).items():
        path = folder / _name_in_wheel(processor)
        compiled = path.with_suffix(".o")
        _run([compiler, *FLAGS, *flags, "-fopenmp", "-c", str(SOURCE), "-o", str(compiled)])
        _run([compiler, "-shared", "-s", "-static-libstdc++", "-static-libgcc", str(compiled), "-o", str(path)])
        made.append(path)
    return made


def _path_in_wheel() -> Path:
    from torch.backends.cpu import get_cpu_capability

    path = OF_WHEEL / _name_in_wheel(get_cpu_capability() if platform.machine() == "x86_64" else "DEFAULT")
    if not path.is_file():
        raise OSError(f"no {path.name} came with this installation")
    return path


def _name_in_wheel(processor: str) -> str:
    return f"decoder-{platform.machine()}-{processor.lower()}.so"


def _compiled() -> Path:
    compiler = _compiler()
    if compiler is None:
        raise OSError("there is no C++ compiler (g++ or clang++)")
    sources = [path.read_text() for path in sorted(SOURCE.parent.iterdir())]
    # The cache may be shared by machines: what they can do is part of the name.
    key = hashlib.sha256("\n".join([*sources, compiler, *FLAGS, *THREADS, _processor()]).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("UNITOK_CACHE") or Path.home() / ".cache" / "unitok")
    path = folder / f"decoder-{key}.so"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / path.name
            command = [compiler, *FLAGS, "-march=native", "-shared", str(SOURCE), "-o", str(made)]
            try:
                _run([*command, THREADS[0]])
            except OSError:
                _run([*command, THREADS[1]])
            os.replace(made, path)
    return path


def _compiler() -> str | None:
    return os.environ.get("CXX") or next(filter(shutil.which, ("g++", "clang++", "c++")), None)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise OSError(f"{command[0]} failed: {done.stderr.strip()[:500]}")


def _processor() -> str:
    """Return what tells machines apart whose instructions differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return "".join(line for line in lines if line.startswith(("flags", "Features", "model name")))[:8000]
