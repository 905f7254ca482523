"""`unitok tokenizers`: list the tokenizers, show one, find the mistakes of a card, or measure codecs.

Only measuring imports torch and loads weights.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unitok.cards import list_cards
from unitok.errors import CardError, MissingDependencyError, MissingWeightsError
from unitok.tokenizers.base import TokenizerCard, find_kind, read_tokenizer_card
from unitok.tokenizers.settings import (
    SETTINGS,
    DacSettings,
    EncodecSettings,
    SemanticSettings,
    SentencePieceSettings,
    SnacSettings,
    StereoSettings,
    SymbolSettings,
    TransformersCodecSettings,
    weights_file,
)

if TYPE_CHECKING:
    from unitok.evaluation.codecs import CodecFigures

__all__ = ["add_arguments", "run"]

OF_EACH_CHANNEL = ("sample_rate_hz", "frame_rate_hz", "codebook_size", "weights")
SAID = ("sample_rate_hz", "channels", "frame_rate_hz", "codebooks", "codebook_size", "size", "deduplicate")

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `unitok tokenizers`."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="show these in detail (a name, a .yaml file, or a tokenizer folder)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON: a list of cards, or the one card")
    parser.add_argument("--check", metavar="FILE", help="look for mistakes in a card of yours, all of them")
    parser.add_argument(
        "--bench",
        metavar="FILE",
        help="send a recording through codecs (those named; default: all whose weights are here) and compare bit rate, "
        "speed, intelligibility and mel distance",
    )


def run(args: argparse.Namespace) -> int:
    """Print what was asked for."""
    if args.bench:
        return _bench(args)
    if args.check or args.names:
        shown = [describe(read_tokenizer_card(name)) for name in ([args.check] if args.check else args.names)]
        if args.json:
            print(json.dumps(shown[0] if len(shown) == 1 else shown, indent=2, ensure_ascii=False))
        elif args.check:
            print(f"{args.check}: fine. {_summary(shown[0])}")
        else:
            print("\n\n".join(_detail(facts) for facts in shown))
        return 0
    found = []
    for path in list_cards("tokenizers").values():
        try:
            found.append(describe(read_tokenizer_card(path)))
        except CardError as error:
            logger.warning("%s", error)
    print(json.dumps(found, indent=2, ensure_ascii=False) if args.json else _table(found))
    return 0


def _bench(args: argparse.Namespace) -> int:
    """Measure codecs on one recording; those that cannot be loaded are named with the reason."""
    from dataclasses import asdict

    from unitok.audio import Audio
    from unitok.checkpoint import AUDIO, shipped_checkpoints
    from unitok.evaluation.codecs import measure_codec
    from unitok.tokenizers import load_audio_tokenizer
    from unitok.tokenizers.weights import OFFLINE_VARIABLE

    audio = Audio.read(args.bench)
    names = args.names
    if not names:
        os.environ[OFFLINE_VARIABLE] = "1"  # nobody asked for gigabytes of weights
        shipped = [str(folder / AUDIO) for folder in shipped_checkpoints().values()]
        names = [*shipped, *(name for name in list_cards("tokenizers") if _is_audio(name))]
    figures, left_out = [], {}
    for name in names:
        try:
            figures.append(measure_codec(load_audio_tokenizer(name), audio))
        except (MissingWeightsError, MissingDependencyError) as error:
            left_out[name] = str(error)
    figures.sort(key=lambda one: one.kbps)
    if args.json:
        print(json.dumps({"codecs": [asdict(one) for one in figures], "left_out": left_out}, indent=2))
    else:
        if figures:
            print(_bench_table(figures))
        if left_out and not args.names:
            print(
                f"\nWithout weights on this machine: {', '.join(left_out)}. Name one to fetch them, or to see why not."
            )
        for name, reason in left_out.items() if args.names else ():
            print(f"left out: {name}: {reason}")
    return 0 if figures else 1


def _is_audio(name: str) -> bool:
    card = read_tokenizer_card(name)
    return find_kind(card, card.file).modality == "audio"


def _bench_table(figures: Sequence[CodecFigures]) -> str:
    rows = [("CODEC", "kbit/s", "frames/s", "codebooks", "encode", "decode", "STOI", "mel dB")]
    for one in figures:
        speeds = (f"{one.encode_speed:.3g}x", f"{one.decode_speed:.3g}x")
        rate = (f"{one.kbps:.3g}", f"{one.frame_rate_hz:.4g}", str(one.codebooks))
        rows.append((one.name, *rate, *speeds, f"{one.stoi:.3f}", f"{one.mel_distance_db:.2f}"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))] for row in rows
    ]
    return "\n".join("  ".join(line) for line in lines)


def describe(card: TokenizerCard) -> dict[str, Any]:
    """Check a card and return what it says and what follows from it.

    Raises:
        CardError: With every mistake of the card.
    """
    kind = find_kind(card, card.file)
    facts: dict[str, Any] = {
        key: card.get(key) for key in ("name", "kind", "description", "version", "source") if card.get(key) is not None
    }
    facts |= {"modality": kind.modality, "file": str(card.file)}
    said = {key: card[key] for key in SAID if card.get(key) is not None}
    if card["kind"] not in SETTINGS:  # a class of someone else: what its card happens to say
        return facts | said
    settings = SETTINGS[card["kind"]].from_card(card)
    if isinstance(settings, DacSettings | EncodecSettings | SnacSettings):
        facts |= {
            "sample_rate_hz": settings.sample_rate_hz,
            "channels": settings.channels,
            "frame_rate_hz": round(settings.frame_rate_hz, 4),
            "codebooks": settings.codebooks,
            "max_codebooks": settings.model.n_codebooks,
            "codebook_size": settings.codebook_size,
            "weights": settings.weights_note,
            "model": settings.to_card()["model"],
        }
    elif isinstance(settings, SentencePieceSettings):
        facts["model"] = settings.model
    elif isinstance(settings, TransformersCodecSettings):
        facts |= said | {"model": settings.model}
    elif isinstance(settings, SemanticSettings):
        layer = "" if settings.layer is None else f", layer {settings.layer}"
        weights = str(weights_file(settings.centroids, card.file.parent))
        facts |= said | {"codebooks": 1, "model": f"{settings.encoder}{layer}", "weights": weights}
    elif isinstance(settings, StereoSettings):
        mono = describe(read_tokenizer_card(settings.codec_card(card.file.parent)))
        facts |= {key: mono[key] for key in OF_EACH_CHANNEL if key in mono} | {"channels": 2, "model": mono["name"]}
        twice = {key: 2 * mono[key] for key in ("codebooks", "max_codebooks") if key in mono}
        facts |= twice | ({"codebooks": settings.codebooks} if settings.codebooks else {})
    elif isinstance(settings, SymbolSettings):
        facts["size"] = 1 + len(settings.symbols)
    elif card["kind"] == "bytes":
        facts["size"] = 256
    return facts


def _summary(facts: Mapping[str, Any]) -> str:
    """Say on one line what the tokens are."""
    if facts["modality"] == "text":
        return f"text, {facts['size']} ids" if "size" in facts else "text, as many ids as its model has"
    if "sample_rate_hz" not in facts:
        return "semantic" if facts["modality"] == "semantic" else "audio"
    channels = {1: "mono", 2: "stereo"}.get(facts.get("channels", 1), f"{facts.get('channels')} channels")
    rate = f"{facts['sample_rate_hz'] / 1000:g} kHz {channels}"
    if "frame_rate_hz" not in facts:
        return rate
    books = (
        f"{facts['codebooks']} × {facts['codebook_size']}" if "codebooks" in facts and "codebook_size" in facts else "?"
    )
    runs = ", de-duplicated" if facts.get("deduplicate") else ""
    return f"{rate}, {facts['frame_rate_hz']:.4g} frames/s, {books} codes{runs}"


def _table(found: list[dict[str, Any]]) -> str:
    rows = [("TOKENIZER", "TOKENS", "WHAT IT IS")]
    for facts in found:
        note = f" Weights: {facts['weights']}." if facts.get("weights", "official").startswith("RANDOM") else ""
        rows.append((facts.get("name", ""), _summary(facts), facts.get("description", "") + note))
    widths = [max(len(row[i]) for row in rows) + 2 for i in (0, 1)]
    lines = [f"{name:<{widths[0]}}{tokens:<{widths[1]}}{description}".rstrip() for name, tokens, description in rows]
    return "\n".join([*lines, "", "One in detail: unitok tokenizers NAME"])


def _detail(facts: Mapping[str, Any]) -> str:
    shown = {
        "tokens": _summary(facts),
        "codebooks": f"{facts['codebooks']} in use, {facts['max_codebooks']} in the network"
        if "max_codebooks" in facts
        else None,
        "kbps": _bandwidth(facts),
        "weights": facts.get("weights"),
        "model": _model(facts.get("model")),
        "version": facts.get("version"),
        "source": facts.get("source"),
        "card": facts["file"],
    }
    if facts["modality"] != "text":
        shown["use"] = f"unitok tokenize speech.wav --tokenizer {facts.get('name')} --out codes.npz"
    lines = [f"{key:<11}{value}" for key, value in shown.items() if value is not None]
    return "\n".join([f"{facts.get('name')}: {facts.get('description', '')}", *lines])


def _bandwidth(facts: Mapping[str, Any]) -> str | None:
    if not {"frame_rate_hz", "codebooks", "codebook_size"} <= facts.keys():
        return None
    bits = (facts["codebook_size"] - 1).bit_length() * facts["codebooks"]
    return f"{bits * facts['frame_rate_hz'] / 1000:.3g}"


def _model(model: Any) -> str | None:
    return " ".join(f"{key}={value}" for key, value in model.items()) if isinstance(model, dict) else model
