"""`unitok lexicon`: write down how words are said, as flite says them, for models that speak from that."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "unitok lexicon --words /usr/share/dict/words --out out/lexicon.tsv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--words",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="plain text whose words are wanted: a list, or sentences",
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="JSON Lines files whose texts' words are wanted",
    )
    parser.add_argument(
        "--text-fields", default="text", metavar="A,B", help="fields of the manifests that hold text (default: text)"
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="runs of flite at once (default: 2)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="lexicon: a word and its IPA on each line"
    )


def run(args: argparse.Namespace) -> int:
    """Gather the words, ask flite, write."""
    from unitok.data.manifest import texts_of
    from unitok.data.synth.pronunciations import pronounce_words
    from unitok.errors import DataError
    from unitok.files import read_lines
    from unitok.tokenizers.lexicon import words_of

    if not args.words and not args.manifest:
        raise DataError("there are no words. Name files with --words, or manifests with --manifest.")
    if args.workers < 1:
        raise DataError(f"--workers is {args.workers}, allowed: 1 or more.")
    texts = [line for path in args.words for line in read_lines(path)]
    texts += texts_of(args.manifest, args.text_fields.split(","))
    lexicon = pronounce_words((word for text in texts for word in words_of(text)), args.workers)
    lexicon.save(args.out)
    print(f"{args.out}: {len(lexicon)} words, {lexicon.fingerprint}")
    return 0
