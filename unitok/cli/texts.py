"""Texts for commands that learn from them: plain files, and fields of manifests."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_text_options", "given_texts"]


def add_text_options(parser: argparse.ArgumentParser, option: str, help: str) -> None:
    """Declare `--option FILE…` for plain text, and `--manifest` and `--text-fields` beside it."""
    parser.add_argument(option, type=Path, nargs="+", default=[], metavar="FILE", help=help)
    parser.add_argument(
        "--manifest", type=Path, nargs="+", default=[], metavar="FILE", help="JSON Lines files with texts"
    )
    parser.add_argument(
        "--text-fields", default="text", metavar="A,B", help="fields of the manifests that hold text (default: text)"
    )


def given_texts(args: argparse.Namespace, option: str) -> list[str]:
    """Return the lines of the files and the texts of the manifests that are given.

    Raises:
        DataError: If neither are, or a file cannot be read.
    """
    from unitok.data.manifest import texts_of
    from unitok.errors import DataError
    from unitok.files import read_lines

    what = option.removeprefix("--")
    files = getattr(args, what)
    if not files and not args.manifest:
        raise DataError(f"there are no {what}. Name files with {option}, or manifests with --manifest.")
    lines = [line for path in files for line in read_lines(path)]
    return lines + texts_of(args.manifest, args.text_fields.split(","))
