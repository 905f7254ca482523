"""`unitok words`: count words and what follows them, for models that search for the text they hear."""

from __future__ import annotations

import argparse
from pathlib import Path

from unitok.cli.texts import add_text_options, given_texts

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "unitok words --texts sentences.txt --out out/words.tsv.xz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_text_options(parser, "--texts", "plain text, a sentence or more on each line")
    parser.add_argument(
        "--least",
        type=int,
        default=2,
        metavar="N",
        help="words, and pairs of them, that came less often are left out: a smaller file (default: 2)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="word model; compressed if the name ends in .gz or .xz"
    )


def run(args: argparse.Namespace) -> int:
    """Count, write."""
    from unitok.errors import DataError
    from unitok.tokenizers.word_model import WordModel

    if args.least < 1:
        raise DataError(f"--least is {args.least}, allowed: 1 or more.")
    model = WordModel.count(given_texts(args, "--texts"), args.least)
    model.save(args.out)
    print(f"{args.out}: {len(model.words)} words, {args.out.stat().st_size / 1000:.0f} kB, {model.fingerprint}")
    return 0
