"""`unitok lexicon`: write down how words are said, as flite says them, for models that speak from that."""

from __future__ import annotations

import argparse
from pathlib import Path

from unitok.cli.texts import add_text_options, given_texts

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "unitok lexicon --words /usr/share/dict/words --out out/lexicon.tsv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_text_options(parser, "--words", "plain text whose words are wanted: a list, or sentences")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="runs of flite at once (default: 2)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="lexicon: a word and its IPA on each line"
    )


def run(args: argparse.Namespace) -> int:
    """Gather the words, ask flite, write."""
    from unitok.data.synth.pronunciations import pronounce_words
    from unitok.errors import DataError
    from unitok.tokenizers.lexicon import words_of

    if args.workers < 1:
        raise DataError(f"--workers is {args.workers}, allowed: 1 or more.")
    texts = given_texts(args, "--words")
    lexicon = pronounce_words((word for text in texts for word in words_of(text)), args.workers)
    lexicon.save(args.out)
    print(f"{args.out}: {len(lexicon)} words, {lexicon.fingerprint}")
    return 0
