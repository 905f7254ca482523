"""`unitok init`: a checkpoint to train from, begun from a text model."""

from __future__ import annotations

import argparse
from pathlib import Path

from unitok.pattern import PATTERNS

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "unitok init --from SmolLM2-135M --tokenizer encodec_24khz --tasks tts asr --langs en --out begun"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="MODEL",
        help="folder in transformers' format (Llama, SmolLM, Mistral, Qwen2, Qwen2.5, Qwen3), or its name on the hub",
    )
    parser.add_argument(
        "--tokenizer", required=True, metavar="NAME", help="audio tokenizer: a card's name, a card, or its folder"
    )
    parser.add_argument("--codebooks", type=int, metavar="K", help="codebooks to model (default: as the card says)")
    parser.add_argument("--tasks", nargs="+", required=True, metavar="TASK", help="names or files of task cards")
    parser.add_argument("--langs", nargs="+", default=[], metavar="LANG", help="languages, such as en")
    parser.add_argument(
        "--pattern", choices=PATTERNS, default="multiscale", help="order of the codes (default: multiscale)"
    )
    parser.add_argument(
        "--settings", type=Path, metavar="FILE", help="YAML with other settings of the model: local, ar_codebooks, …"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of new weights (default: 0)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="type of the stored weights (default: float32)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="checkpoint folder to write")


def run(args: argparse.Namespace) -> int:
    """Make the checkpoint and print what it is."""
    from unitok.cards import read_card
    from unitok.checkpoint import save_checkpoint
    from unitok.convert.text_models import init_from_text_model
    from unitok.errors import UnitokError
    from unitok.tasks import Task
    from unitok.tokenizers import load_audio_tokenizer

    tokenizer = load_audio_tokenizer(args.tokenizer)
    if args.codebooks is not None:
        tokenizer.set_codebooks(args.codebooks)
    settings = {"pattern": args.pattern, **(read_card(args.settings) if args.settings else {})}
    tasks = [Task.load(name) for name in args.tasks]
    try:
        checkpoint = init_from_text_model(args.source, tokenizer, tasks, args.langs, settings, args.seed)
    except ValueError as error:
        raise error if isinstance(error, UnitokError) else UnitokError(str(error)) from error
    save_checkpoint(args.out, checkpoint, dtype=args.dtype)
    lm = checkpoint.lm
    n_begun = sum(parameter.numel() for parameter in lm.transformer.parameters())
    n_text = checkpoint.vocabulary.text_size
    print(f"{args.out}: {sum(p.numel() for p in lm.parameters()) / 1e6:.1f} M parameters, {lm.pattern.name},")
    print(f"  {n_begun / 1e6:.1f} M of them and {n_text} text ids from {args.source};")
    print(f"  its licence: {checkpoint.notes['its licence']}. Read it before you pass on what you make of it.")
    print(f"train it: unitok fit --config FILE.yaml --model.init_args.init_from {args.out}")
    return 0
