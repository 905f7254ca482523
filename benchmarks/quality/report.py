"""What every section needs: the model, the tools, where to write, and the rows of the table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from unitok import Model
from unitok.audio import Audio
from unitok.data.synth.grammar import Grammar
from unitok.evaluation.recognizer import PocketsphinxRecognizer

EVALUATION_SEED = 20261123
"""No recipe trains on it."""
EVERYDAY = Path(__file__).resolve().parents[1] / "everyday.txt"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    value: str
    beside: str
    """A baseline, a ceiling, or under which conditions."""
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """The model under test and how it is run."""

    model: Model
    out: Path
    n_items: int
    batch_size: int
    best_of: int | None

    @cached_property
    def recognizer(self) -> PocketsphinxRecognizer:
        """The recogniser that unitok did not train."""
        return PocketsphinxRecognizer()

    def transcribe(self, audios: Sequence[Audio]) -> list[str]:
        """Return what pocketsphinx hears (English)."""
        return [self.recognizer.transcribe(audio) for audio in audios]

    def generate(self, task: str, requests: Sequence[dict[str, Any]]) -> list[Any]:
        """Carry out requests of one task, with seed 0; a candidate is picked as the card says."""
        requests = [{"task": task, **request} for request in requests]
        best_of = self.best_of if task == "tts" else None
        return self.model.generate_batch(requests, batch_size=self.batch_size, best_of=best_of, seed=0)

    def keep(self, name: str, audios: Sequence[Audio]) -> None:
        """Write audio beside the table."""
        for i, audio in enumerate(audios):
            audio.write(self.out / "audio" / f"{name}-{i:03d}.wav")

    def note(self, name: str, *columns: Sequence[object]) -> None:
        """Write what was compared, a line for each item."""
        lines = ["\t".join(map(str, line)) for line in zip(*columns, strict=True)]
        (self.out / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    @property
    def threads(self) -> str:
        """How many threads torch runs on."""
        return f"{torch.get_num_threads()} threads"


def sentences(source: str, n: int, seed: int = EVALUATION_SEED) -> list[str]:
    """Return `everyday` sentences, which people wrote, or held-out ones of the `grammar`, or the lines of a file."""
    if source == "grammar":
        grammar = Grammar.load()
        return [grammar.sentence(seed, i, "held_out") for i in range(n)]
    text = (EVERYDAY if source == "everyday" else Path(source)).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip()][:n]


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table in Markdown."""
    lines = [f"| {row.what} | {row.value} | {row.beside} |" for row in rows]
    return "\n".join(["| what | value | beside it |", "| --- | --- | --- |", *lines])


def write(rows: Sequence[Row], out: Path) -> None:
    """Write `quality.md` and `quality.json`."""
    (out / "quality.md").write_text(table(rows) + "\n", encoding="utf-8")
    (out / "quality.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
