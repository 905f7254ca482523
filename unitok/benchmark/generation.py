"""`unitok bench generate` and `prefill`: frames made and prompts taken in, beside what memory and arithmetic allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from unitok.benchmark.machine import Timing, bandwidth_gb_per_s, described, flops_per_s, interleaved, settings
from unitok.benchmark.models import Contender, Sizes, Unitok, contender
from unitok.benchmark.report import Report

__all__ = ["measure_generation", "measure_prefill"]


def measure_generation(
    sizes: Sizes,
    dtypes: Sequence[str],
    *,
    device: torch.device,
    pytorch: bool,
    compiled: bool,
    peers: Sequence[str],
    frames: int,
    prompt: int,
    batch: int,
    repeats: int,
) -> Report:
    """Generate frames from models with random weights.

    Args:
        sizes: Of all models.
        dtypes: Weights of unitok's.
        device: Where they run.
        pytorch: Measure each by plain PyTorch too, without native kernels or CUDA graphs.
        compiled: Measure each with operations that `torch.compile` has fused too.
        peers: Names of `PEERS`.
        frames: To generate for each request.
        prompt: Positions before them.
        batch: Different requests at once.
        repeats: Of each model, in turn.
    """
    models: dict[str, Contender] = {}
    for dtype in dtypes:
        models[f"unitok {dtype}"] = contender("unitok", sizes, device, dtype)
        if compiled:
            models[f"unitok {dtype}, compiled"] = contender("unitok-compiled", sizes, device, dtype)
        if pytorch:
            models[f"unitok {dtype}, PyTorch alone"] = contender("unitok-pytorch", sizes, device, dtype)
    models |= {name: contender(name, sizes, device) for name in peers}
    [own, *_] = (model for model in models.values() if isinstance(model, Unitok))

    def generating(model: Contender) -> Callable[[], None]:
        return lambda: model.generate(frames, prompt, batch)

    with torch.inference_mode():
        before = bandwidth_gb_per_s(device)
        timings = interleaved({name: generating(model) for name, model in models.items()}, repeats)
        bandwidth = max(before, bandwidth_gb_per_s(device))

    def row(name: str, model: Contender, timing: Timing) -> dict[str, object]:
        ms = timing.seconds / frames * 1e3
        floor = model.bytes_per_frame / bandwidth / 1e6
        return {
            "model": name,
            "parameters_m": round(model.n_parameters / 1e6, 1),
            "frames_per_s": round(batch * frames / timing.seconds, 2),
            "ms_per_step": round(ms, 2),
            "floor_ms": round(floor, 2),
            "times_floor": round(ms / floor, 2),
            "clean": timing.clean,
        }

    heads = {
        "model": "MODEL", "parameters_m": "M WEIGHTS", "frames_per_s": "FRAMES/S", "ms_per_step": "MS/STEP",
        "floor_ms": "FLOOR MS", "times_floor": "x FLOOR", "clean": "CLEAN",
    }  # fmt: skip
    about = {
        **settings(device), "bandwidth_gb_per_s": round(bandwidth, 1), "kernels": own.kernels,
        "frames": frames, "prompt": prompt, "batch": batch,
    }  # fmt: skip
    note = (
        f"{batch} x {frames} frames after {prompt} positions, {described(about)}, memory {bandwidth:.1f} GB/s, "
        f"kernels {about['kernels']}. floor: the weights of a frame read at that speed."
    )
    rows = [row(name, model, timings[name]) for name, model in models.items()]
    return Report(heads, rows, about, note, shown="frames_per_s")


def measure_prefill(
    sizes: Sizes, dtypes: Sequence[str], *, device: torch.device, prompts: Sequence[int], batch: int, repeats: int
) -> Report:
    """Take prompts in, as before the first frame.

    Args:
        sizes: Of the model.
        dtypes: Of its weights.
        device: Where it runs.
        prompts: Positions of a prompt.
        batch: Prompts at once.
        repeats: Of each, in turn.
    """
    models = {dtype: Unitok(sizes, device, dtype) for dtype in dtypes}
    runs = {f"{dtype}, {n} positions": (model, n) for dtype, model in models.items() for n in prompts}

    def taking(model: Unitok, n: int) -> Callable[[], None]:
        return lambda: model.prefill(n, batch)

    with torch.inference_mode():
        speed = flops_per_s(device)
        timings = interleaved({name: taking(*run) for name, run in runs.items()}, repeats)
        speed = max(speed, flops_per_s(device))
    rows = []
    for name, (model, n) in runs.items():
        ms = timings[name].seconds * 1e3
        floor = 1e3 * batch * n * model.operations_per_position / speed
        rows.append(
            {
                "prompt": name,
                "ms": round(ms, 2),
                "positions_per_s": round(batch * n / ms * 1e3),
                "floor_ms": round(floor, 2),
                "times_floor": round(ms / floor, 2),
                "clean": timings[name].clean,
            }
        )
    heads = {
        "prompt": "PROMPT", "ms": "MS", "positions_per_s": "POSITIONS/S", "floor_ms": "FLOOR MS",
        "times_floor": "x FLOOR", "clean": "CLEAN",
    }  # fmt: skip
    about = {**settings(device), "gflops_per_s": round(speed / 1e9), "batch": batch}
    note = (
        f"{batch} prompts at once, {described(about)}, {speed / 1e9:.0f} GFLOP/s in float32. "
        "floor: the products of the global Transformer at that speed."
    )
    return Report(heads, rows, about, note, shown="positions_per_s")
