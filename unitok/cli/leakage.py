"""`unitok leakage`: fail if held-out rows say, caption or script what is trained on."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "unitok leakage --train out/corpus/train/manifest.jsonl --held-out out/corpus/heldout/manifest.jsonl"
SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--train", type=Path, nargs="+", required=True, metavar="FILE", help="manifests trained on")
    parser.add_argument(
        "--held-out", type=Path, nargs="+", required=True, metavar="FILE", help="manifests that are not trained on"
    )
    parser.add_argument(
        "--fields",
        default="text,caption,script",
        metavar="A,B",
        help="fields that must not be shared, of those a row has (default: text,caption,script)",
    )


def run(args: argparse.Namespace) -> int:
    """Print what is shared; the status is 1 if anything is."""
    from unitok.data.leakage import find_leaks

    leaks = find_leaks(args.train, args.held_out, args.fields.split(","))
    for leak in leaks[:SHOWN]:
        print(f"{leak.id}: its {leak.field} is trained on: {leak.content}")
    if len(leaks) > SHOWN:
        print(f"and {len(leaks) - SHOWN} more")
    rows = len({leak.id for leak in leaks})
    print(f"{rows} held-out rows leak" if leaks else "no held-out row is trained on")
    return 1 if leaks else 0
