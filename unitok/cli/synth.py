"""`unitok synth`: make a procedural corpus of speech, of sounds, or of music."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unitok.errors import DataError

if TYPE_CHECKING:
    from unitok.data.synth.corpus import Corpus

__all__ = ["add_arguments", "run"]

EXAMPLE = "unitok synth --out out/corpus --hours 1"


class Kind(NamedTuple):
    """One corpus that can be made."""

    maker: str
    """Its class, in a module of `unitok.data.synth`."""
    what: str
    """What it holds."""
    tasks: str
    """The tasks that find their fields in it, separated by spaces."""
    audio: str
    """Fields of its manifest that hold audio, separated by spaces: what `unitok prepare --audio-fields` takes."""
    fields: str
    """The other fields, beside `id` and `seconds`; in parentheses those that only some rows have."""
    options: tuple[str, ...] = ()
    """What it takes besides the options of all."""


CORPORA = {
    "speech": Kind(
        "speech.SpeechCorpus",
        "English sentences; with --noisy also in rooms and noise",
        "tts tts_prompts asr asr_features lm speech_continuation speech_edit",
        "audio (noisy_audio)",
        "text speaker lang",
        ("voices", "rate", "pitch", "words", "sentences", "noisy"),
    ),
    "translation": Kind(
        "translation_corpus.TranslationCorpus",
        "sentences in English and Spanish",
        "s2st s2st_chain s2tt s2tt_features mt",
        "audio target_audio",
        "text speaker lang target_text target_speaker target_lang",
        ("words", "text_only"),
    ),
    "mixtures": Kind(
        "mixtures.MixtureCorpus",
        "two speakers at once, noise, echo, and each part alone",
        "tse separate se se_text se_features speech_removal dereverb",
        "audio other_audio mixture_audio first_audio second_audio noise_audio noisy_audio reverberant_audio "
        "enrolment_audio",
        "text speaker other_text other_speaker lang",
        ("voices",),
    ),
    "styles": Kind(
        "styles.StyleCorpus",
        "speech of set speed, pitch and level, with the time of each word",
        "instruct_tts ser asr_timed sv vc tts_stereo",
        "audio source_audio other_audio stereo_audio",
        "text timed_text speaker lang style (emotion) direction speakers",
    ),
    "languages": Kind(
        "languages.LanguageCorpus",
        "five languages, the same voices in all",
        "lid tts_cross_lingual",
        "audio",
        "text lang speaker",
    ),
    "commands": Kind(
        "commands.CommandCorpus",
        "spoken commands with intent and slots",
        "slu",
        "audio",
        "text meaning speaker lang",
        ("voices",),
    ),
    "dialogues": Kind(
        "dialogues.DialogueCorpus",
        "spoken questions with computed answers",
        "chat",
        "audio answer_audio",
        "text answer speaker answer_speaker lang",
        ("voices",),
    ),
    "sounds": Kind(
        "scenes.SoundCorpus",
        "scenes of sounds with captions",
        "tta tta_features aac aac_features ac ac_features audio_continuation audio_detail audio_lm",
        "audio",
        "caption (label) lang script",
    ),
    "questions": Kind(
        "questions.QuestionCorpus",
        "scenes with questions, times, mixtures, edits and places",
        "aqa tag retrieve lass audio_edit tta_stereo",
        "audio other_audio mixture_audio edited_audio stereo_audio",
        "caption (label) lang question answer query spans statement fits edit edit_script stereo_caption places script",
    ),
    "melodies": Kind(
        "melodies.MelodyCorpus",
        "tunes played and hummed, with captions",
        "ttm ttm_melody",
        "audio melody_audio",
        "caption notes lang script",
    ),
    "songs": Kind("songs.SongCorpus", "sung syllables with notes", "svs", "audio", "text notes speaker lang"),
    "tones": Kind("tones.ToneCorpus", "tones of all pitches, for codecs", "", "audio", ""),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(["corpora:", *(_described(name, kind) for name, kind in CORPORA.items())])
    parser.add_argument(
        "--corpus",
        choices=tuple(CORPORA),
        default="speech",
        metavar="NAME",
        help="what to make, see below (default: speech)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for audio/, manifest.jsonl and corpus.json; an interrupted run goes on",
    )
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--hours", type=_positive, help="hours of audio to reach")
    length.add_argument("--utterances", type=_count, help="number of utterances to reach")
    parser.add_argument("--seed", type=int, default=0, help="seed of sentences, voices and styles (default: 0)")
    parser.add_argument(
        "--split",
        choices=("train", "held_out"),
        default="train",
        help="the two never share a sentence, a combination of words, or a scene (default: train)",
    )
    parser.add_argument(
        "--voices",
        help="speech, mixtures, commands, dialogues: flite or espeak-ng voices, separated by commas "
        "(default: slt,rms,awb,kal16)",
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
    parser.add_argument(
        "--text-only",
        action="store_true",
        default=None,
        help="translation: no audio, for mt: thousands of pairs in a second (prepare them with --audio-fields '')",
    )
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
    names = sorted({name for kind in CORPORA.values() for name in kind.options})
    given: dict[str, Any] = {name: value for name in names if (value := getattr(args, name)) is not None}
    for name in given:
        if name not in CORPORA[args.corpus].options:
            takers = " or ".join(corpus for corpus, kind in CORPORA.items() if name in kind.options)
            option = name.replace("_", "-")
            raise DataError(f"--{option} is for --corpus {takers}, not for {args.corpus}. Leave it out.")
    if args.text_only and args.hours:
        raise DataError("--hours is of audio, and --text-only makes none. Say how many pairs with --utterances.")
    for name in ("voices", "sentences"):
        if name in given:
            given[name] = tuple(given[name].split(","))
    ranges = {"rate": "rate_range", "pitch": "pitch_range"}
    module, _, name = CORPORA[args.corpus].maker.partition(".")
    maker = getattr(import_module(f"unitok.data.synth.{module}"), name)
    return maker(args.seed, args.split, **{ranges.get(name, name): value for name, value in given.items()})


def _described(name: str, kind: Kind) -> str:
    """Return the lines of a corpus in the help."""
    rows = {"": kind.what, "tasks": kind.tasks, "audio": kind.audio, "fields": kind.fields}
    lines = []
    for label, text in rows.items():
        first = f"  {'' if label else name:<13}{f'{label}: ' if label else ''}"
        lines += textwrap.wrap(text, 98, initial_indent=first, subsequent_indent=" " * 17) if text else []
    return "\n".join(lines)


def _positive(text: str) -> float:
    try:
        if (value := float(text)) > 0:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"is '{text}', allowed: a number above 0")


def _count(text: str) -> int:
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"is '{text}', allowed: a whole number above 0")


def _bounds(text: str) -> tuple[float, float]:
    low, _, high = text.partition(",")
    try:
        bounds = float(low), float(high or low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not LOW,HIGH, two numbers such as 0.9,1.1") from None
    if not 0 < bounds[0] <= bounds[1]:
        raise argparse.ArgumentTypeError(f"'{text}' is not LOW,HIGH with 0 < LOW <= HIGH")
    return bounds
