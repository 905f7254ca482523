"""What the machine can do, and whether it is ours alone while something is timed."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

__all__ = ["Timing", "bandwidth_gb_per_s", "described", "flops_per_s", "interleaved", "settings"]

FOREIGN_CORES = 0.08
"""A repeat is thrown away if other processes used more than so many cores meanwhile."""
IDLE_WAIT_S = 5.0
PROBE_BYTES = 1 << 28
GPU_FACTOR = 8
"""Probes of GPUs are so many times as large, so that starting them takes no time beside."""

logger = logging.getLogger("unitok")


class Timing(NamedTuple):
    """Repeats of one thing."""

    seconds: float
    """Median of the clean repeats; of all, where none was clean."""
    n_clean: int
    """Repeats during which the machine was ours alone."""
    n_all: int
    """Repeats."""

    @property
    def clean(self) -> str:
        """How many of the repeats were clean, `2/3`."""
        return f"{self.n_clean}/{self.n_all}"


def bandwidth_gb_per_s(device: torch.device) -> float:
    """Return how fast memory is read, in GB/s: the best of a few sums over more than any cache holds."""
    n_bytes = PROBE_BYTES * (GPU_FACTOR if device.type == "cuda" else 1)
    values = torch.ones(n_bytes // 4, device=device)
    best = min(_seconds(lambda: values.sum()) for _ in range(5))
    return n_bytes / best / 1e9


def flops_per_s(device: torch.device, size: int = 1024) -> float:
    """Return how fast matrices are multiplied in float32, in operations a second: the best of a few products."""
    size *= GPU_FACTOR if device.type == "cuda" else 1
    left, right = torch.rand(size, size, device=device), torch.rand(size, size, device=device)
    return 2 * size**3 / min(_seconds(lambda: left @ right) for _ in range(5))


def interleaved(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, Timing]:
    """Time several things in turn, so that what the machine does meanwhile befalls them alike.

    Args:
        runs: What to time, by name; each is run once before, untimed.
        repeats: How often.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            _wait_until_idle()
            before = _used()
            seconds = _seconds(run)
            all_cores, own = (after - start for after, start in zip(_used(), before, strict=True))
            taken[name].append((seconds, max(0.0, all_cores - own) / seconds))
    return {name: _timing(repeats) for name, repeats in taken.items()}


def settings(device: torch.device | None = None) -> dict[str, object]:
    """Return what speeds depend on beside the machine."""
    gpu = device is not None and device.type == "cuda"
    place = {"gpu": torch.cuda.get_device_name(device)} if gpu else {"threads": torch.get_num_threads()}
    return {"torch": torch.__version__, **place}


def described(about: dict[str, object]) -> str:
    """Return where a run of these `settings` was, in words."""
    return str(about["gpu"]) if "gpu" in about else f"{about['threads']} threads"


def _timing(repeats: list[tuple[float, float]]) -> Timing:
    clean = [seconds for seconds, foreign in repeats if foreign <= FOREIGN_CORES]
    return Timing(median(clean or [seconds for seconds, _ in repeats]), len(clean), len(repeats))


def _seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def _wait_until_idle() -> None:
    begun = time.perf_counter()
    while time.perf_counter() - begun < IDLE_WAIT_S:
        before, start = _used(), time.perf_counter()
        time.sleep(0.1)
        busy = (_used()[0] - before[0]) / (time.perf_counter() - start)
        if busy <= 2 * FOREIGN_CORES:
            return
    logger.debug("the machine was not idle for %.0f s", IDLE_WAIT_S)


def _used() -> tuple[float, float]:
    """Return CPU seconds used so far by all processes and by this one; without /proc both are this one's."""
    times = os.times()
    own = times.user + times.system
    stat = Path("/proc/stat")
    if not stat.exists():
        return own, own
    fields = [int(field) for field in stat.read_text().splitlines()[0].split()[1:]]
    user, nice, system, _, _, irq, softirq = fields[:7]
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK"), own
