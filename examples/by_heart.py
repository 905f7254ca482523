"""What the examples share: commands that are shown and run, and a tiny model that learns a few recordings by heart.

Learning by heart takes seconds on one CPU core and shows that a task's data, layout and generation fit together. The
codec of these examples keeps loudness only, so what they make is right to the code, and no pleasure to hear.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import unitok
from unitok.cli.main import main
from unitok.data.manifest import write_manifest

HERE = Path(__file__).resolve().parent
CODEC = HERE / "toy_codec.yaml"


def command(*words: Any) -> None:
    """Show a command of unitok as a shell would take it, and run it."""
    argv = [str(word) for word in words]
    print(f"$ unitok {shlex.join(argv)}")
    if main([*argv, "--quiet"]) != 0:
        raise SystemExit(f"unitok {argv[0]} failed")


def learn(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    tasks: Sequence[str],
    *,
    audio_fields: Sequence[str] = ("audio",),
    semantic: Path | None = None,
    steps: int = 120,
) -> unitok.Model:
    """Train a tiny model until it knows some rows by heart.

    Args:
        folder: Where manifest, records and model go.
        rows: Rows of a manifest: paths of audio, texts.
        tasks: What to learn of them, names of cards.
        audio_fields: Which fields hold audio.
        semantic: A semantic tokenizer, where a task needs one.
        steps: Steps of training.

    Returns:
        The model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder / "manifest.jsonl", rows)
    prepare = ["--manifest", folder / "manifest.jsonl", "--tokenizer", CODEC, "--audio-fields", ",".join(audio_fields)]
    heard = ["--semantic-tokenizer", semantic] if semantic else []
    command("prepare", *prepare, *heard, "--out", folder / "shards")
    model = {
        "--model.init_args.audio_tokenizer": CODEC,
        "--model.init_args.tasks": f"[{', '.join(tasks)}]",
        **({"--model.init_args.semantic_tokenizer": semantic} if semantic else {}),
        "--data.init_args.train": folder / "shards",
        "--trainer.default_root_dir": folder,
        "--trainer.max_steps": steps,
    }
    command("fit", "--config", HERE / "by_heart.yaml", *(word for pair in model.items() for word in pair))
    return unitok.load(folder / "model", device="cpu")


def same_codes(model: unitok.Model, made: unitok.Audio, wanted: unitok.Audio | str | Path) -> bool:
    """Does the model's codec hear the same in two recordings?"""
    codes = [
        model.tokenizers.audio.encode(audio.samples[None], audio.sample_rate_hz).codes
        for audio in (made, unitok.Audio.of(wanted))
    ]
    return codes[0].shape == codes[1].shape and bool(torch.equal(*codes))
