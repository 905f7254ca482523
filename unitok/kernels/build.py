"""Compile `native/decoder.cpp` for this machine, once, into the user's cache; without a compiler there is none.

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

__all__ = ["library", "why_not"]

SOURCE = Path(__file__).with_name("native") / "decoder.cpp"
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
THREADS = ("-fopenmp", "-fopenmp-simd")
"""Several threads, or where the compiler comes without OpenMP one."""

logger = logging.getLogger("unitok")
_reason = ""


@cache
def library() -> ctypes.CDLL | None:
    """Return the compiled kernels; None where there are none, and `why_not` says why."""
    global _reason
    try:
        return ctypes.CDLL(str(_compiled()))
    except (OSError, subprocess.SubprocessError) as error:
        _reason = str(error)
        logger.debug("no native kernels: %s", _reason)
        return None


def why_not() -> str:
    """Return why there are no kernels; empty where there are."""
    return "" if library() is not None else _reason


def _compiled() -> Path:
    if os.environ.get("UNITOK_KERNELS") == "0":
        raise OSError("UNITOK_KERNELS=0")
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("g++", "clang++", "c++")), None)
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
            for threads in THREADS:
                command = [compiler, *FLAGS, threads, str(SOURCE), "-o", str(made)]
                done = subprocess.run(command, capture_output=True, text=True, timeout=300)
                if not done.returncode:
                    break
            else:
                raise OSError(f"{compiler} failed: {done.stderr.strip()[:500]}")
            os.replace(made, path)
    return path


def _processor() -> str:
    """Return what tells machines apart whose instructions differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return "".join(line for line in lines if line.startswith(("flags", "Features", "model name")))[:8000]
