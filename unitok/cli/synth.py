"""`unitok synth`: make a procedural corpus: speech, spoken translations, sounds, or tones."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitok.errors import DataError

if TYPE_CHECKING:
    from unitok.data.synth.corpus import Corpus

__all__ = ["add_arguments", "run"]

EXAMPLE = "unitok synth --out out/corpus --hours 1"
OPTIONS: dict[str, tuple[str, ...]] = {
    "speech": ("voices", "rate", "pitch", "words", "sentences", "noisy"),
    "translation": ("words",),
    "sounds": (),
    "tones": (),
}
"""What each corpus takes besides the options of all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--corpus",
        choices=tuple(OPTIONS),
        default="speech",
        help="speech: English sentences, for tts and asr; translation: English-Spanish, for s2st, s2tt and mt; "
        "sounds: scenes with captions, for tta, aac and ac; tones: tones of all pitches, for codecs (default: speech)",
    )
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
        help="the two never share a sentence, a combination of words, or a scene (default: train)",
    )
    parser.add_argument(
        "--voices",
        help="speech: flite or espeak-ng voices, separated by commas (default: slt,rms,awb,kal16)",
    )
    parser.add_argument(
        "--rate",
        type=_bounds,
        metavar="LOW,HIGH",
        help="speech: speed relative to the voice's own (default: 1,1)",
    )
    parser.add_argument(
        "--pitch",
        type=_bounds,
        metavar="LOW,HIGH",
        help="speech: pitch relative to the voice's own (default: 1,1)",
    )
    parser.add_argument(
        "--sentences",
        metavar="SOURCE,…",
        help="speech: where sentences come from, grammar or wordnet (everyday English, 30 000 words; Debian: "
        "wordnet-base), or both in equal parts (default: grammar)",
    )
    parser.add_argument(
        "--noisy",
        action="store_true",
        default=None,
        help="speech: make each a second time, in a room and with noise (field noisy_audio), for se and a sturdy asr",
    )
    parser.add_argument("--words", help="speech, translation: word file of the grammar (default: unitok's own)")
    parser.add_argument("--workers", type=int, default=2, help="synthesisers that run at once (default: 2)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> int:
    """Write the corpus and print what it holds."""
    from unitok.data.synth.corpus import write_corpus

    corpus = _corpus(args)

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


def _corpus(args: argparse.Namespace) -> Corpus:
    """Return what to make.

    Raises:
        DataError: If an option is given that the corpus does not take.
    """
    names = sorted({name for allowed in OPTIONS.values() for name in allowed})
    given: dict[str, Any] = {name: value for name in names if (value := getattr(args, name)) is not None}
    for name in given:
        if name not in OPTIONS[args.corpus]:
            takers = " or ".join(corpus for corpus, allowed in OPTIONS.items() if name in allowed)
            raise DataError(f"--{name} is for --corpus {takers}, not for {args.corpus}. Leave it out.")
    if args.corpus == "sounds":
        from unitok.data.synth.scenes import SoundCorpus

        return SoundCorpus(args.seed, args.split)
    if args.corpus == "tones":
        from unitok.data.synth.tones import ToneCorpus

        return ToneCorpus(args.seed, args.split)
    if args.corpus == "translation":
        from unitok.data.synth.translation_corpus import TranslationCorpus

        return TranslationCorpus(args.seed, args.split, **given)
    from unitok.data.synth.speech import SpeechCorpus

    for name in ("voices", "sentences"):
        if name in given:
            given[name] = tuple(given[name].split(","))
    ranges = {"rate": "rate_range", "pitch": "pitch_range"}
    return SpeechCorpus(args.seed, args.split, **{ranges.get(name, name): value for name, value in given.items()})


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
