"""`unitok prepare`: turn a manifest into record shards."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from unitok.errors import DataError

if TYPE_CHECKING:
    import torch

    from unitok.data.prepare import FeaturePlan

__all__ = ["add_arguments", "progress", "run"]

logger = logging.getLogger("unitok")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `unitok prepare`."""
    parser.add_argument(
        "--manifest", required=True, metavar="FILE", help="JSON Lines: id, audio (a path), text, speaker, lang, …"
    )
    parser.add_argument(
        "--tokenizer",
        required=True,
        metavar="NAME",
        help="audio tokenizer: a card's name, a card, or a tokenizer folder",
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder for the shards; a rerun goes on where the last stopped"
    )
    parser.add_argument(
        "--audio-fields", default="audio", metavar="A,B", help="fields that hold audio paths (default: audio)"
    )
    parser.add_argument(
        "--semantic-tokenizer",
        metavar="NAME",
        help="store semantic ids of the audio too, with durations: a card's name, a card, or a tokenizer folder",
    )
    parser.add_argument(
        "--features",
        default="",
        metavar="NAME=FIELD,…",
        help="store the states of an encoder: NAME is a card of features/ or NAME:FOLDER, FIELD text or audio",
    )
    parser.add_argument(
        "--feature-inputs",
        default="",
        metavar="NAME=FIELD,…",
        help="store samples of audio for an encoder that is to be trained",
    )
    parser.add_argument(
        "--shard-size", type=int, default=1024, metavar="N", help="manifest rows in one shard (default: 1024)"
    )
    parser.add_argument(
        "--on-error",
        choices=("skip", "fail"),
        default="skip",
        help="audio that cannot be read: leave the row out, or stop (default: skip)",
    )
    parser.add_argument(
        "--batch-seconds", type=float, default=60.0, metavar="S", help="seconds of audio encoded at once (default: 60)"
    )
    parser.add_argument(
        "--device", metavar="DEVICE", help="where the codec runs (default: cuda where there is one, else cpu)"
    )


def run(args: argparse.Namespace) -> int:
    """Prepare; 0, or 1 if rows were left out."""
    from unitok.data.prepare import prepare
    from unitok.devices import find_device
    from unitok.tokenizers import load_audio_tokenizer, load_semantic_tokenizer

    device = find_device(args.device)
    tokenizer = load_audio_tokenizer(args.tokenizer, device)
    semantic = load_semantic_tokenizer(args.semantic_tokenizer, device) if args.semantic_tokenizer else None
    fields = [name.strip() for name in args.audio_fields.split(",") if name.strip()]
    features = [*_plans(args.features, device, True), *_plans(args.feature_inputs, device, False)]
    with progress(not args.quiet, "preparing", "rows") as on_progress:
        report = prepare(
            args.manifest,
            tokenizer,
            args.out,
            audio_fields=fields,
            semantic_tokenizer=semantic,
            features=features,
            shard_size=args.shard_size,
            on_error=args.on_error,
            batch_seconds=args.batch_seconds,
            on_progress=on_progress,
        )
    resumed = f" ({report.resumed} were there)" if report.resumed else ""
    print(
        f"{args.out}: {report.records} records, {report.hours:.2f} h, {report.shards} shards{resumed}, "
        f"{len(report.errors)} rows left out"
    )
    for error in report.errors[:10]:
        logger.warning("left out: row '%s', field '%s': %s", error["id"], error["field"], error["error"])
    if report.errors:
        logger.warning("%d rows left out; all are in %s/errors.jsonl", len(report.errors), args.out)
    return 1 if report.errors else 0


def _plans(text: str, device: torch.device, encoded: bool) -> list[FeaturePlan]:
    """Read `NAME=FIELD,…`, where NAME may be `NAME:FOLDER`."""
    from unitok.data.prepare import FeaturePlan
    from unitok.features import load_feature_encoder

    plans = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        named, equals, field = part.partition("=")
        if not (named and equals and field):
            raise DataError(f"'{part}' is not NAME=FIELD, such as t5_base=caption.")
        name, _, where = named.partition(":")
        plans.append(FeaturePlan(field, name, load_feature_encoder(where or name).to(device), encoded))
    return plans


@contextmanager
def progress(wanted: bool, label: str, unit: str) -> Iterator[Callable[[int, int], None] | None]:
    """Draw a progress bar on stderr if that is a terminal; lend what takes the number done and the total."""
    if not (wanted and sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        yield lambda done, total: bar.update(task, completed=done, total=total)
