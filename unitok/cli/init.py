"""`unitok init`: a checkpoint begun from a text model, to train; or a released speech model, to use as it is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from unitok.errors import UnitokError
from unitok.pattern import PATTERNS

if TYPE_CHECKING:
    from torch.nn import Module

    from unitok.checkpoint import Checkpoint

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = (
    "unitok init --from HuggingFaceTB/SmolLM2-135M --tokenizer encodec_24khz --tasks tts asr --langs en --out begun\n"
    "unitok init --from sesame/csm-1b --out csm"
)
OF_TEXT_MODELS = ("codebooks", "tasks", "langs", "pattern", "settings")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="MODEL",
        help="folder in transformers' format, or its name on the hub: a text model (Llama, SmolLM, Mistral, Qwen2, "
        "Qwen2.5, Qwen3), or one that speaks already (CSM, Llasa, Orpheus)",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="NAME",
        help="audio tokenizer: a card's name, a card, or its folder (default: a speech model's own)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="type of the stored weights (default: float32)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="checkpoint folder to write")
    text = parser.add_argument_group("of text models")
    text.add_argument("--codebooks", type=int, metavar="K", help="codebooks to model (default: as the card says)")
    text.add_argument("--tasks", nargs="+", metavar="TASK", help="names or files of task cards")
    text.add_argument("--langs", nargs="+", metavar="LANG", help="languages, such as en")
    text.add_argument("--pattern", choices=PATTERNS, help="order of the codes (default: multiscale)")
    text.add_argument(
        "--settings", type=Path, metavar="FILE", help="YAML with other settings of the model: local, ar_codebooks, …"
    )
    text.add_argument("--seed", type=int, default=0, metavar="N", help="of new weights (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Make the checkpoint and print what it is."""
    from unitok.checkpoint import save_checkpoint
    from unitok.convert.files import find_folder
    from unitok.convert.speech_models import is_speech_model

    speaks = is_speech_model(find_folder(args.source))
    try:
        checkpoint = _speech_model(args) if speaks else _text_model(args)
    except ValueError as error:
        raise error if isinstance(error, UnitokError) else UnitokError(str(error)) from error
    save_checkpoint(args.out, checkpoint, dtype=args.dtype)
    lm = checkpoint.lm
    print(f"{args.out}: {_counted(lm)} parameters, {lm.pattern.name},")
    if not speaks:
        print(
            f"  {_counted(lm.transformer)} of them and {checkpoint.vocabulary.text_size} text ids from {args.source};"
        )
    print(f"  its licence: {checkpoint.notes['its licence']}. Read it before you pass on what you make of it.")
    if not speaks:
        print(f"train it: unitok fit --config FILE.yaml --model.init_args.init_from {args.out}")
        return 0
    source = getattr(getattr(checkpoint.audio_tokenizer, "settings", None), "source", "")
    print(f"  its codec: {checkpoint.audio_tokenizer.name} ({source or 'its card states no source'})")
    for task in checkpoint.tasks.values():
        conditions = " ".join(f'--{name} "{value}"' for name, value in task.example.items())
        print(f"use it: unitok generate --model {args.out} --task {task.name} {conditions} --out speech.wav")
    return 0


def _speech_model(args: argparse.Namespace) -> Checkpoint:
    from unitok.convert.speech_models import init_from_speech_model
    from unitok.tokenizers import load_audio_tokenizer

    if given := [f"--{name}" for name in OF_TEXT_MODELS if getattr(args, name) is not None]:
        raise UnitokError(f"'{args.source}' speaks already, in a way of its own: leave out {', '.join(given)}.")
    return init_from_speech_model(args.source, load_audio_tokenizer(args.tokenizer) if args.tokenizer else None)


def _text_model(args: argparse.Namespace) -> Checkpoint:
    from unitok.cards import read_card
    from unitok.convert.text_models import init_from_text_model
    from unitok.tasks import Task
    from unitok.tokenizers import load_audio_tokenizer

    if missing := [f"--{name}" for name in ("tokenizer", "tasks") if not getattr(args, name)]:
        raise UnitokError(f"'{args.source}' is a text model: say what it shall learn, with {' and '.join(missing)}.")
    tokenizer = load_audio_tokenizer(args.tokenizer)
    if args.codebooks is not None:
        tokenizer.set_codebooks(args.codebooks)
    settings = {"pattern": args.pattern or "multiscale", **(read_card(args.settings) if args.settings else {})}
    tasks = [Task.load(name) for name in args.tasks]
    return init_from_text_model(args.source, tokenizer, tasks, args.langs or [], settings, args.seed)


def _counted(part: Module) -> str:
    """Write how many weights a part has: `11.7 M`, or all digits of a few."""
    n = sum(weight.numel() for weight in part.parameters())
    return f"{n / 1e6:.1f} M" if n >= 1e6 else f"{n:,}"
