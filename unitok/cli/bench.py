"""`unitok bench`: how fast this machine generates, trains, codes and reads, beside what it could do, and others."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from unitok.errors import UnitokError

if TYPE_CHECKING:
    import torch

    from unitok.benchmark.models import Sizes
    from unitok.benchmark.report import Report

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = {
    "generate": "unitok bench generate --dtype int8 --peers csm,musicgen",
    "prefill": "unitok bench prefill --prompt 100 --prompt 500",
    "train": "unitok bench train --local-fraction 1 --local-fraction 0.125 --batch 1 --sequences 1",
    "codec": "unitok bench codec --tokenizer encodec_24khz",
    "data": "unitok bench data --records out/shards --tasks tts,asr",
}
HELP = {
    "generate": "frames from models with random weights",
    "prefill": "prompts taken in before the first frame",
    "train": "training steps of models with random weights, on random data",
    "codec": "audio into codes and back",
    "data": "records into batches",
}
SIZES = ("layers", "width", "local_layers", "local_width", "codebooks")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = f"example: {EXAMPLES['generate']}"
    kinds = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, add in (
        ("generate", _add_generate), ("prefill", _add_prefill), ("train", _add_train), ("codec", _add_codec),
        ("data", _add_data),
    ):  # fmt: skip
        kind = kinds.add_parser(name, help=HELP[name], description=f"Measure {HELP[name]}.", allow_abbrev=False)
        kind.epilog = f"example: {EXAMPLES[name]}"
        add(kind)
        kind.add_argument("--repeats", type=int, default=3, metavar="N", help="of each, in turn (default: 3)")
        kind.add_argument("--threads", type=int, metavar="N", help="threads (default: as PyTorch says)")
        kind.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
        kind.add_argument("--plot", type=Path, metavar="FILE", help="draw them, as png, svg or pdf")


def run(args: argparse.Namespace) -> int:
    """Measure, and print a table."""
    import torch

    for name in (*SIZES, "batch", "frames", "repeats", "sequences", "batch_tokens"):
        least = 0 if name == "local_layers" else 1
        if getattr(args, name, least) < least:
            raise UnitokError(f"--{name.replace('_', '-')} is {getattr(args, name)}; it must be {least} or more.")
    if args.threads is not None:
        if args.threads < 1:
            raise UnitokError(f"--threads is {args.threads}; it must be 1 or more.")
        torch.set_num_threads(args.threads)
    measure = {"generate": _generate, "prefill": _prefill, "train": _train, "codec": _codec, "data": _data}
    report = measure[args.what](args)
    print(report.table())
    if args.json:
        report.write(args.json)
    if args.plot:
        report.plot(args.plot)
    return 0


def _add_sizes(parser: argparse.ArgumentParser) -> None:
    sizes = parser.add_argument_group("sizes (default: 12 x 768 and 6 x 768, 8 codebooks)")
    for name, default in zip(SIZES, (12, 768, 6, 768, 8), strict=True):
        sizes.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, metavar="N")


def _sizes(args: argparse.Namespace) -> Sizes:
    from unitok.benchmark.models import Sizes

    return Sizes(**{name: getattr(args, name) for name in SIZES})


def _add_dtype(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dtype",
        action="append",
        choices=("float32", "bfloat16", "int8", "int4"),
        help="weights of unitok's model; may be repeated (default: float32)",
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu or cuda (default: cpu)")


def _device(args: argparse.Namespace) -> torch.device:
    from unitok.devices import find_device

    return find_device(args.device)


def _add_generate(parser: argparse.ArgumentParser) -> None:
    _add_sizes(parser)
    _add_dtype(parser)
    _add_device(parser)
    parser.add_argument(
        "--pytorch", action="store_true", help="measure unitok by plain PyTorch too: no native kernels, no CUDA graphs"
    )
    parser.add_argument(
        "--compile", action="store_true", help="measure unitok compiled by torch.compile too (slow start)"
    )
    parser.add_argument("--peers", type=_names, default=[], metavar="A,B", help="csm, musicgen (unitok[hf]), moshi")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="different requests at once (default: 1)")
    parser.add_argument("--frames", type=int, default=50, metavar="N", help="frames of each (default: 50)")
    parser.add_argument("--prompt", type=int, default=100, metavar="N", help="positions before them (default: 100)")


def _generate(args: argparse.Namespace) -> Report:
    from unitok.benchmark.generation import measure_generation

    _check_prompt(args.prompt)
    return measure_generation(
        _sizes(args), args.dtype or ["float32"], device=_device(args), pytorch=args.pytorch, compiled=args.compile,
        peers=args.peers, frames=args.frames, prompt=args.prompt, batch=args.batch, repeats=args.repeats,
    )  # fmt: skip


def _add_prefill(parser: argparse.ArgumentParser) -> None:
    _add_sizes(parser)
    _add_dtype(parser)
    _add_device(parser)
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="prompts at once (default: 1)")
    parser.add_argument(
        "--prompt", type=int, action="append", metavar="N", help="positions; may be repeated (default: 100, 500)"
    )


def _prefill(args: argparse.Namespace) -> Report:
    from unitok.benchmark.generation import measure_prefill

    prompts = args.prompt or [100, 500]
    for n in prompts:
        _check_prompt(n)
    dtypes = args.dtype or ["float32"]
    return measure_prefill(
        _sizes(args), dtypes, device=_device(args), prompts=prompts, batch=args.batch, repeats=args.repeats
    )


def _check_prompt(n: int) -> None:
    if n < 6:
        raise UnitokError(f"--prompt is {n}; it must be 6 or more: a task, a text and their markers.")


def _add_train(parser: argparse.ArgumentParser) -> None:
    _add_sizes(parser)
    parser.add_argument(
        "--precision", action="append", choices=("float32", "bfloat16"), help="may be repeated (default: float32)"
    )
    parser.add_argument(
        "--local-fraction", type=float, action="append", metavar="F",
        help="share of frames whose later codebooks are trained; may be repeated (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--batching", action="append", choices=("as_they_come", "sorted"),
        help="how sequences come into batches; may be repeated (default: sorted)",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="sequences in a batch (default: 8)")
    parser.add_argument("--sequences", type=int, default=32, metavar="N", help="in all (default: 32)")
    parser.add_argument("--frames", type=int, default=500, metavar="N", help="of each sequence (default: 500)")
    parser.add_argument(
        "--lognormal", action="store_true", help="instead of --frames: from 1 to 15 s, log-normal around 4 s, at 50 Hz"
    )


def _train(args: argparse.Namespace) -> Report:
    from unitok.benchmark.training import TrainingSetting, lognormal_frames, measure_training

    fractions = args.local_fraction or [1.0]
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise UnitokError(f"--local-fraction is {fraction:g}; it must be above 0 and at most 1.")
    frames = lognormal_frames(args.sequences) if args.lognormal else [args.frames] * args.sequences
    runs = [
        TrainingSetting(precision, fraction, batching)
        for precision in args.precision or ["float32"]
        for fraction in fractions
        for batching in args.batching or ["sorted"]
    ]
    return measure_training(_sizes(args), runs, frames=frames, batch=args.batch, repeats=args.repeats)


def _add_codec(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tokenizer", action="append", required=True, metavar="NAME", help="card or folder; may be repeated"
    )
    parser.add_argument("--audio", type=Path, metavar="FILE", help="recording to code (default: noise)")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="of the noise (default: 10)")


def _codec(args: argparse.Namespace) -> Report:
    from unitok.audio import Audio
    from unitok.benchmark.coding import measure_codecs

    if args.seconds <= 0:
        raise UnitokError(f"--seconds is {args.seconds:g}; it must be above 0.")
    audio = None if args.audio is None else Audio.read(args.audio)
    return measure_codecs(args.tokenizer, audio=audio, seconds=args.seconds, repeats=args.repeats)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=Path, metavar="DIR", help="record shards (default: random ones)")
    parser.add_argument("--tasks", type=_names, default=["tts"], metavar="A,B", help="(default: tts)")
    parser.add_argument(
        "--workers", type=int, action="append", metavar="N", help="processes; may be repeated (default: 0)"
    )
    parser.add_argument("--batch-tokens", type=int, default=4096, metavar="N", help="of a batch (default: 4096)")


def _data(args: argparse.Namespace) -> Report:
    from unitok.benchmark.reading import measure_reading

    workers = [0] if args.workers is None else args.workers
    if min(workers) < 0:
        raise UnitokError(f"--workers is {min(workers)}; it must be 0 or more.")
    return measure_reading(
        args.records, tasks=args.tasks, workers=workers, batch_tokens=args.batch_tokens, repeats=args.repeats
    )


def _names(text: str) -> list[str]:
    return text.split(",")
