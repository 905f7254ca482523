"""`unitok bench`: frames in a second, beside the bandwidth of the memory and beside others of equal size."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitok.errors import UnitokError

if TYPE_CHECKING:
    from unitok.benchmark.machine import Timing
    from unitok.benchmark.models import Contender

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "unitok bench generate --dtype int8 --peers csm,musicgen"
SIZES = ("layers", "width", "local_layers", "local_width", "codebooks")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("what", choices=("generate",), help="generate: frames from models with random weights")
    sizes = parser.add_argument_group("sizes (default: 12 x 768 and 6 x 768, 8 codebooks)")
    for name, default in zip(SIZES, (12, 768, 6, 768, 8), strict=True):
        sizes.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, metavar="N")
    parser.add_argument(
        "--dtype",
        action="append",
        choices=("float32", "bfloat16", "int8"),
        help="weights of unitok's model; may be repeated (default: float32)",
    )
    parser.add_argument("--pytorch", action="store_true", help="measure unitok without its native kernels too")
    parser.add_argument(
        "--peers", type=lambda text: text.split(","), default=[], metavar="A,B", help="csm, musicgen (unitok[hf])"
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="different requests at once (default: 1)")
    parser.add_argument("--frames", type=int, default=50, metavar="N", help="frames of each (default: 50)")
    parser.add_argument("--prompt", type=int, default=100, metavar="N", help="positions before them (default: 100)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="of each, in turn (default: 3)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: as PyTorch says)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.epilog = f"example: {EXAMPLE}"


def run(args: argparse.Namespace) -> int:
    """Measure, and print a table."""
    import torch

    from unitok.benchmark.machine import bandwidth_gb_per_s, interleaved
    from unitok.benchmark.models import Sizes, contender
    from unitok.kernels import why_not

    for name in (*SIZES, "batch", "frames", "repeats"):
        if getattr(args, name) < (0 if name == "local_layers" else 1):
            raise UnitokError(f"--{name.replace('_', '-')} is {getattr(args, name)}; it must be 1 or more.")
    if args.prompt < 6:
        raise UnitokError(f"--prompt is {args.prompt}; it must be 6 or more: a task, a text and their markers.")
    if args.threads:
        torch.set_num_threads(args.threads)
    sizes = Sizes(**{name: getattr(args, name) for name in SIZES})
    models: dict[str, Contender] = {}
    for dtype in args.dtype or ["float32"]:
        models[f"unitok {dtype}"] = contender("unitok", sizes, dtype)
        if args.pytorch:
            models[f"unitok {dtype}, PyTorch alone"] = contender("unitok-pytorch", sizes, dtype)
    models |= {name: contender(name, sizes) for name in args.peers}

    def generating(model: Contender) -> Callable[[], None]:
        return lambda: model.generate(args.frames, args.prompt, args.batch)

    with torch.inference_mode():
        before = bandwidth_gb_per_s()
        timings = interleaved({name: generating(model) for name, model in models.items()}, args.repeats)
        bandwidth = max(before, bandwidth_gb_per_s())
    rows = [_row(name, model, timings[name], args, bandwidth) for name, model in models.items()]
    about = {
        "torch": torch.__version__, "threads": torch.get_num_threads(), "bandwidth_gb_per_s": round(bandwidth, 1),
        "kernels": why_not() or "native", "frames": args.frames, "prompt": args.prompt, "batch": args.batch,
    }  # fmt: skip
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({**about, "models": rows}, indent=2) + "\n")
    print(_table(rows))
    print(
        f"\n{args.batch} x {args.frames} frames after {args.prompt} positions, {about['threads']} threads, memory "
        f"{bandwidth:.1f} GB/s, kernels {about['kernels']}. floor: the weights of a frame read at that speed."
    )
    return 0


def _row(name: str, model: Contender, timing: Timing, args: argparse.Namespace, bandwidth: float) -> dict[str, Any]:
    ms = timing.seconds / args.frames * 1e3
    floor = model.bytes_per_frame / bandwidth / 1e6
    return {
        "model": name,
        "parameters_m": round(model.n_parameters / 1e6, 1),
        "frames_per_s": round(args.batch * args.frames / timing.seconds, 2),
        "ms_per_step": round(ms, 2),
        "floor_ms": round(floor, 2),
        "times_floor": round(ms / floor, 2),
        "clean": f"{timing.n_clean}/{timing.n_all}",
    }


def _table(rows: list[dict[str, Any]]) -> str:
    heads = {
        "model": "MODEL", "parameters_m": "M WEIGHTS", "frames_per_s": "FRAMES/S", "ms_per_step": "MS/STEP",
        "floor_ms": "FLOOR MS", "times_floor": "x FLOOR", "clean": "CLEAN",
    }  # fmt: skip
    cells = [heads, *({key: str(value) for key, value in row.items()} for row in rows)]
    widths = {key: max(len(row[key]) for row in cells) for key in heads}
    lines = []
    for row in cells:
        first, *rest = heads
        lines.append("  ".join([row[first].ljust(widths[first]), *(row[key].rjust(widths[key]) for key in rest)]))
    return "\n".join(lines)
