"""`unitok predict-codes`: codes of recordings as a model says them, to train a codec's decoder on."""

from __future__ import annotations

import argparse
from pathlib import Path

from unitok.cli.prepare import progress
from unitok.errors import UnitokError

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "unitok predict-codes --task tts --manifest out/corpus/manifest.jsonl --out out/predicted"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--model", default="mini", metavar="NAME", help="'mini', or a checkpoint folder")
    parser.add_argument("--task", default="tts", metavar="NAME", help="a task that makes audio (default: tts)")
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="rows with what the task takes")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for manifest.jsonl and codes/")
    parser.add_argument(
        "--given", type=int, default=1, metavar="N", help="codebooks that stay the true ones (default: 1)"
    )
    parser.add_argument("--temperature", type=float, default=0.5, metavar="T", help="of the drawing (default: 0.5)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the drawing (default: 0)")
    parser.add_argument("--rows", type=int, metavar="N", help="take the first N (default: all)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, … (default: a GPU if there is one)")
    parser.epilog = f"example: {EXAMPLE}"


def run(args: argparse.Namespace) -> int:
    """Write the codes."""
    if args.given < 0:
        raise UnitokError(f"--given is {args.given}; it must be 0 or more.")
    if args.temperature <= 0:
        raise UnitokError(f"--temperature is {args.temperature:g}; it must be above 0.")
    if args.rows is not None and args.rows < 1:
        raise UnitokError(f"--rows is {args.rows}; it must be 1 or more.")
    from unitok.api import load
    from unitok.data.predicted import predict_codes

    model = load(args.model, device=args.device)
    with progress(not args.quiet, "predicting", "rows") as on_progress:
        n = predict_codes(
            model, args.task, args.manifest, args.out, n_given=args.given, temperature=args.temperature,
            seed=args.seed, limit=args.rows, on_progress=on_progress,
        )  # fmt: skip
    print(f"{args.out / 'manifest.jsonl'}: {n} rows")
    return 0
