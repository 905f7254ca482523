"""`unitok synth`: make the procedural speech corpus."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

__all__ = ["add_arguments", "run"]

EXAMPLE = "unitok synth --out out/corpus --hours 1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for audio/, manifest.jsonl and corpus.json; an interrupted run goes on",
    )
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--hours", type=_positive, help="hours of audio to reach")
    length.add_argument("--utterances", type=int, help="number of utterances to reach")
    parser.add_argument("--seed", type=int, default=0, help="seed of sentences, voices and styles (default: 0)")
    parser.add_argument(
        "--split",
        choices=("train", "held_out"),
        default="train",
        help="the two never share a sentence (default: train)",
    )
    parser.add_argument(
        "--voices",
        default="slt,rms,awb,kal16",
        help="flite or espeak-ng voices, separated by commas (default: %(default)s)",
    )
    parser.add_argument(
        "--rate",
        type=_bounds,
        default=(1.0, 1.0),
        metavar="LOW,HIGH",
        help="speed relative to the voice's own (default: 1,1)",
    )
    parser.add_argument(
        "--pitch",
        type=_bounds,
        default=(1.0, 1.0),
        metavar="LOW,HIGH",
        help="pitch relative to the voice's own (default: 1,1)",
    )
    parser.add_argument("--words", help="word file of the grammar (default: the English one that ships with unitok)")
    parser.add_argument("--workers", type=int, default=2, help="synthesisers that run at once (default: 2)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> int:
    """Write the corpus and print what it holds."""
    from unitok.data.synth.corpus import write_corpus
    from unitok.data.synth.speech import SpeechCorpus

    corpus = SpeechCorpus(args.seed, args.split, tuple(args.voices.split(",")), args.rate, args.pitch, args.words)

    def show(count: int, seconds: float) -> None:
        if sys.stderr.isatty():
            print(f"\r{count} utterances, {seconds / 3600:.2f} h", end="", file=sys.stderr, flush=True)

    count, seconds = write_corpus(
        args.out, corpus, hours=args.hours, utterances=args.utterances, workers=args.workers, on_progress=show
    )
    if sys.stderr.isatty():
        print(file=sys.stderr)
    manifest = args.out / "manifest.jsonl"
    if args.json:
        print(json.dumps({"manifest": str(manifest), "utterances": count, "hours": round(seconds / 3600, 4)}))
    else:
        print(f"{manifest}: {count} utterances, {seconds / 3600:.2f} h")
    return 0


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return value


def _bounds(text: str) -> tuple[float, float]:
    low, _, high = text.partition(",")
    try:
        bounds = float(low), float(high or low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not LOW,HIGH, two numbers such as 0.9,1.1") from None
    if not 0 < bounds[0] <= bounds[1]:
        raise argparse.ArgumentTypeError(f"'{text}' is not LOW,HIGH with 0 < LOW <= HIGH")
    return bounds
