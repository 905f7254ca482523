"""`unitok export`: a model in one piece, mixed with others or not, or its text part as a text model of transformers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unitok.tokenizers.word_model import WordModel

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "unitok export --model out/adapter --to unitok --out merged"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--model", required=True, metavar="MODEL", help="checkpoint or adapter: a name or a folder")
    parser.add_argument(
        "--to",
        choices=("unitok", "transformers"),
        default="unitok",
        help="unitok: a checkpoint, an adapter merged into its model (default); transformers: the text part only",
    )
    parser.add_argument(
        "--mix",
        action="append",
        default=[],
        metavar="MODEL=SHARE",
        help="mean of the weights with those of a relative, such as the model it was fine-tuned from; repeatable",
    )
    parser.add_argument(
        "--words",
        action="append",
        default=[],
        metavar="LANG=FILE",
        help="word model of a language (unitok words), in place of the one there is; repeatable",
    )
    parser.add_argument(
        "--decoder-bits",
        type=int,
        choices=(8, 16),
        help="of a codec of unitok's own: in which the decoder's weights are stored (default: as they are)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16", "int8", "int4"),
        help="type of the stored weights (default: int8 or int4 where they are so already, else float32)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the folder."""
    from dataclasses import replace

    import torch

    from unitok.checkpoint import load_checkpoint, save_checkpoint
    from unitok.convert.mixing import mix_checkpoints
    from unitok.convert.text_models import export_text_model
    from unitok.errors import UnitokError
    from unitok.tokenizers.unitok_codec import UnitokCodecTokenizer

    checkpoint = load_checkpoint(args.model)
    if args.mix:
        others = [_share(one) for one in args.mix]
        checkpoint = mix_checkpoints(checkpoint, [(load_checkpoint(name), share) for name, share in others])
    words = dict(_words(one) for one in args.words)
    langs = checkpoint.vocabulary.lang_names
    for lang in words:
        if langs and lang not in langs:
            raise UnitokError(f"--words: the model has no language '{lang}'. Its languages: {', '.join(langs)}.")
    checkpoint = replace(checkpoint, words={**checkpoint.words, **words})
    if args.decoder_bits is not None:
        codec = checkpoint.audio_tokenizer
        if not isinstance(codec, UnitokCodecTokenizer):
            raise UnitokError(f"--decoder-bits is for a codec of unitok's own, '{codec.name}' is none. Leave it out.")
        codec.decoder_bits = args.decoder_bits
    if args.to == "unitok":
        print(f"{save_checkpoint(args.out, checkpoint, dtype=args.dtype)}: unitok.load('{args.out}') loads it.")
    else:
        if args.dtype in ("int8", "int4"):
            raise UnitokError(f"--dtype {args.dtype} is unitok's own; for transformers: float32, bfloat16 or float16.")
        folder = export_text_model(checkpoint, args.out, getattr(torch, args.dtype or "float32"))
        print(f"{folder}: transformers.AutoModelForCausalLM.from_pretrained('{folder}') loads it.")
    return 0


def _share(given: str) -> tuple[str, float]:
    from unitok.errors import UnitokError

    name, _, share = given.rpartition("=")
    try:
        return name, float(share)
    except ValueError:
        raise UnitokError(f"--mix is '{given}'; it must be a model and its share: --mix mini=0.3.") from None


def _words(given: str) -> tuple[str, WordModel]:
    from unitok.errors import UnitokError
    from unitok.tokenizers.word_model import WordModel

    lang, _, path = given.partition("=")
    if not path:
        raise UnitokError(f"--words is '{given}'; it must be a language and a file: --words en=out/words.tsv.xz.")
    return lang, WordModel.load(path)
