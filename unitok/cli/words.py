"""`unitok words`: count words and what follows them, for models that search for the text they hear."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "unitok words --texts sentences.txt --out out/words.tsv.xz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--texts", type=Path, nargs="+", default=[], metavar="FILE", help="plain text, a sentence or more on each line"
    )
    parser.add_argument(
        "--manifest", type=Path, nargs="+", default=[], metavar="FILE", help="JSON Lines files with texts"
    )
    parser.add_argument(
        "--text-fields", default="text", metavar="A,B", help="fields of the manifests that hold text (default: text)"
    )
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
    from unitok.data.manifest import texts_of
    from unitok.errors import DataError
    from unitok.files import read_lines
    from unitok.tokenizers.word_model import WordModel

    if not args.texts and not args.manifest:
        raise DataError("there are no texts. Name files with --texts, or manifests with --manifest.")
    if args.least < 1:
        raise DataError(f"--least is {args.least}, allowed: 1 or more.")
    texts = [line for path in args.texts for line in read_lines(path)]
    model = WordModel.count(texts + texts_of(args.manifest, args.text_fields.split(",")), args.least)
    model.save(args.out)
    print(f"{args.out}: {len(model.words)} words, {args.out.stat().st_size / 1000:.0f} kB, {model.fingerprint}")
    return 0
