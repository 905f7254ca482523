"""`unitok export`: the text part of a model as a text model of transformers."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "unitok export --model out/run --out text_model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--model", required=True, metavar="MODEL", help="checkpoint: a name or a folder")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="type of the stored weights (default: float32)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the folder."""
    import torch

    from unitok.checkpoint import load_checkpoint
    from unitok.convert.text_models import export_text_model

    checkpoint = load_checkpoint(args.model)
    folder = export_text_model(checkpoint, args.out, getattr(torch, args.dtype))
    print(f"{folder}: transformers.AutoModelForCausalLM.from_pretrained('{folder}') loads it.")
    return 0
