"""`unitok train-kmeans`: learn the centroids of semantic tokens from the audio of manifests."""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from unitok.cli.prepare import progress
from unitok.errors import UnitokError
from unitok.files import check_replaceable

if TYPE_CHECKING:
    from unitok.tokenizers.kmeans import KMeansReport
    from unitok.tokenizers.semantic import KMeansTokenizer

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "unitok train-kmeans --manifest data.jsonl --features hubert_base --layer 9 --clusters 500 --out out/km500"
MOST_CLUSTERS = 2**15
"""Record shards hold ids as int16."""

logger = logging.getLogger("unitok")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--manifest", type=Path, nargs="+", required=True, metavar="FILE", help="JSON Lines files that name audio"
    )
    parser.add_argument(
        "--audio-fields", default="audio", metavar="A,B", help="fields that hold audio paths (default: audio)"
    )
    parser.add_argument(
        "--features",
        required=True,
        metavar="NAME",
        help="encoder whose states are clustered: a card of features/ (hubert_base, log_mel, …), a card, or a folder",
    )
    parser.add_argument(
        "--layer", type=int, metavar="N", help="states after layer N (default: as the encoder's card says)"
    )
    parser.add_argument("--clusters", type=int, default=500, metavar="V", help="number of ids (default: 500)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the tokenizer")
    parser.add_argument(
        "--deduplicate", action="store_true", help="let sequences hold consecutive equal ids once (durations are kept)"
    )
    parser.add_argument(
        "--max-hours", type=float, metavar="H", help="hear random files of H hours in all (default: all files)"
    )
    parser.add_argument(
        "--max-frames",
        type=int,
        default=1_000_000,
        metavar="N",
        help="frames clustered, random ones (default: 1000000)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same centroids (default: 0)")
    parser.add_argument("--device", metavar="NAME", help="where the encoder runs (default: a GPU if there is one)")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    parser.epilog = f"example: {EXAMPLE}"


def run(args: argparse.Namespace) -> int:
    """Train, save, and print the figures; 1 if some files could not be heard."""
    if not 2 <= args.clusters <= MOST_CLUSTERS:
        raise UnitokError(f"--clusters is {args.clusters}, allowed: 2 to {MOST_CLUSTERS}.")
    for name in ("max_hours", "max_frames"):
        value = getattr(args, name)
        if value is not None and value <= 0:
            raise UnitokError(f"--{name.replace('_', '-')} is {value:g}, allowed: more than 0.")
    from unitok.devices import find_device
    from unitok.features import load_feature_encoder
    from unitok.tokenizers import save_tokenizer
    from unitok.tokenizers.base import CARD_FILE
    from unitok.tokenizers.kmeans import train_kmeans

    check_replaceable(args.out, CARD_FILE)
    files = _files(args.manifest, [field.strip() for field in args.audio_fields.split(",") if field.strip()])
    encoder = load_feature_encoder(args.features, args.layer)
    if encoder.frame_rate_hz is None:
        raise UnitokError(f"--features: '{encoder.name}' gives no state for each frame of audio; hubert_base does.")
    encoder.to(find_device(args.device))
    with progress(not args.quiet, "hearing", "files") as on_progress:
        tokenizer, report = train_kmeans(
            files,
            encoder,
            args.clusters,
            name=args.out.resolve().name,
            seed=args.seed,
            deduplicate=args.deduplicate,
            max_hours=args.max_hours,
            max_frames=args.max_frames,
            on_progress=on_progress,
        )
    save_tokenizer(tokenizer, args.out)
    print(_figures_as_json(args.out, tokenizer, report) if args.json else _figures(args.out, tokenizer, report))
    for problem in report.problems:
        logger.warning("left out: %s", problem)
    return 1 if report.problems else 0


def _files(manifests: list[Path], fields: list[str]) -> list[Path]:
    from unitok.data.manifest import check_fields, read_manifest, resolve_path

    files: dict[Path, None] = {}
    for manifest in manifests:
        rows = read_manifest(manifest)
        check_fields(rows, fields, manifest)
        files |= {resolve_path(row[field], manifest): None for row in rows for field in fields if row.get(field)}
    return list(files)


def _figures_as_json(out: Path, tokenizer: KMeansTokenizer, report: KMeansReport) -> str:
    facts = {"out": str(out), "fingerprint": tokenizer.fingerprint, "frame_rate_hz": tokenizer.frame_rate_hz}
    return json.dumps(facts | asdict(report), ensure_ascii=False)


def _figures(out: Path, tokenizer: KMeansTokenizer, report: KMeansReport) -> str:
    explained = 1 - report.inertia / report.variance if report.variance else 1.0
    return (
        f"{out}: {report.clusters} ids at {tokenizer.frame_rate_hz:g} Hz, {tokenizer.fingerprint}\n"
        f"clustered {report.frames} frames of {report.files} files ({report.seconds / 60:.1f} min)\n"
        f"inertia {report.inertia:.4g} a frame, {100 * explained:.1f} % of the variance explained; "
        f"{report.used} ids used, perplexity {report.perplexity:.1f}"
    )
