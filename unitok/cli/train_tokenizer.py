"""`unitok train-tokenizer`: learn a SentencePiece vocabulary from the texts of manifests or of a text file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unitok.tokenizers.sentencepiece import SentencePieceTokenizer

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "unitok train-tokenizer --manifest out/corpus/manifest.jsonl --size 320 --out out/text"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--manifest", type=Path, nargs="+", metavar="FILE", help="JSON Lines files whose texts are learned from"
    )
    source.add_argument("--text-file", type=Path, metavar="FILE", help="plain text to learn from, a sentence a line")
    parser.add_argument(
        "--text-fields", default="text", metavar="A,B", help="fields of the manifests that hold text (default: text)"
    )
    parser.add_argument(
        "--size", type=int, required=True, metavar="N", help="number of ids; 257 of them stand for single bytes"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the tokenizer")
    parser.add_argument("--model-type", choices=("unigram", "bpe", "char"), default="unigram", help="default: unigram")
    parser.add_argument(
        "--keep-case", action="store_true", help="tell upper from lower case (default: all becomes lower case)"
    )
    parser.add_argument(
        "--time-stamps", type=float, metavar="S", help="one id each for <0.00> up to S seconds, for texts with times"
    )
    parser.add_argument(
        "--time-step", type=float, default=0.02, metavar="S", help="from one time stamp to the next (default: 0.02)"
    )
    parser.add_argument(
        "--lexicon",
        type=Path,
        metavar="FILE",
        help="one id each for its letters of the IPA, for words as they are said",
    )
    parser.add_argument(
        "--grow",
        metavar="FOLDER",
        help="a text tokenizer of type unigram to give more pieces, so that a model that has it can go on with them",
    )
    parser.add_argument("--notes", action="store_true", help="one id each for the notes <C-1> … <G9> and <rest>")


def run(args: argparse.Namespace) -> int:
    """Train, save, and print what came out."""
    from unitok.files import check_replaceable
    from unitok.tokenizers import save_tokenizer
    from unitok.tokenizers.base import CARD_FILE
    from unitok.tokenizers.lexicon import Lexicon
    from unitok.tokenizers.sentencepiece import SentencePieceTokenizer
    from unitok.tokenizers.symbols import note_symbols, time_symbols

    check_replaceable(args.out, CARD_FILE)
    symbols = time_symbols(args.time_stamps, args.time_step) if args.time_stamps is not None else []
    symbols += note_symbols() if args.notes else []
    symbols += Lexicon.load(args.lexicon).letters if args.lexicon is not None else []
    texts = args.text_file if args.text_file is not None else _texts(args.manifest, args.text_fields.split(","))
    if args.grow is not None:
        tokenizer = _grown(args, symbols, texts)
    else:
        tokenizer = SentencePieceTokenizer.train(
            texts,
            args.size,
            name=args.out.name,
            model_type=args.model_type,
            normalization="nmt_nfkc" if args.keep_case else "nmt_nfkc_cf",
            symbols=symbols,
        )
    save_tokenizer(tokenizer, args.out)
    print(f"{args.out}: {tokenizer.size} ids, {tokenizer.fingerprint}")
    return 0


def _texts(manifests: list[Path], fields: list[str]) -> list[str]:
    from unitok.data.manifest import read_manifest
    from unitok.errors import DataError

    texts: list[str] = []
    for manifest in manifests:
        found = [str(row[field]) for row in read_manifest(manifest) for field in fields if row.get(field)]
        if not found:
            raise DataError(f"{manifest}: no row has text in {', '.join(fields)}. Name the fields with --text-fields.")
        texts += found
    return texts


def _grown(args: argparse.Namespace, symbols: list[str], texts: list[str] | Path) -> SentencePieceTokenizer:
    from unitok.errors import TokenizerError
    from unitok.files import read_lines
    from unitok.tokenizers import load_text_tokenizer
    from unitok.tokenizers.sentencepiece import SentencePieceTokenizer

    old = load_text_tokenizer(args.grow)
    if not isinstance(old, SentencePieceTokenizer):
        raise TokenizerError(f"--grow: '{args.grow}' is no SentencePiece tokenizer; only such can grow.")
    if symbols or args.keep_case or args.model_type != "unigram":
        raise TokenizerError("--grow adds pieces only. Leave out --model-type, --keep-case and what adds symbols.")
    return old.grown(read_lines(texts) if isinstance(texts, Path) else texts, args.size)
