"""The folder of an evaluation: what was generated so far, so that one that was stopped goes on; files appear whole.

settings.json     what was asked for: a rerun with other settings is refused
generated.jsonl   a row for each item as it is made; `--generated` reads it
audio/            what was made
results.json, items.jsonl, index.html     at the end
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitok.errors import DataError
from unitok.files import write_text

if TYPE_CHECKING:
    from unitok.generation.results import Generation

__all__ = ["Store", "read_generated"]

SETTINGS, GENERATED = "settings.json", "generated.jsonl"


class Store:
    """What was generated so far, in a folder."""

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]):
        """Begin, or go on.

        Raises:
            DataError: If the folder holds something else, or an evaluation with other settings.
        """
        self.folder = Path(folder)
        settings = json.loads(json.dumps(settings, default=str))
        if self.folder.exists() and not self.folder.is_dir():
            raise DataError(f"--out: '{folder}' is a file, a folder is needed.")
        if self.folder.is_dir() and any(self.folder.iterdir()):
            self._check(settings)
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / SETTINGS, json.dumps(settings, indent=1, ensure_ascii=False) + "\n")

    def _check(self, settings: Mapping[str, Any]) -> None:
        path = self.folder / SETTINGS
        if not path.is_file():
            raise DataError(f"--out: '{self.folder}' holds other files. Name a new folder.")
        before = json.loads(path.read_text(encoding="utf-8"))
        other = [key for key in {**before, **settings} if before.get(key) != settings.get(key)]
        if other:
            raise DataError(
                f"--out: '{self.folder}' is an evaluation with another {', '.join(other)}. Name a new folder, or "
                "remove that one."
            )

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the rows that are there, by id, without those that failed; a half-written last one is forgotten."""
        path = self.folder / GENERATED
        if not path.is_file():
            return {}
        rows: dict[str, dict[str, Any]] = {}
        for line in path.read_bytes().split(b"\n"):
            try:
                row = json.loads(line)
            except ValueError:  # no JSON, or no UTF-8
                continue
            if "error" not in row:
                rows[row["id"]] = row
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.values()))
        return rows

    def add(self, place: int, id: str, task: str, generation: Generation | Exception) -> dict[str, Any]:
        """Write what was made of an item, or why nothing was; return its row."""
        row: dict[str, Any] = {"id": id, "task": task}
        if isinstance(generation, Exception):
            row["error"] = str(generation)
        else:
            name = re.sub(r"[^\w.+@=-]", "_", id)[:80]
            files = generation.write(self.folder / "audio" / f"{place:05d}-{name}.wav")
            files = {target: Path(file).relative_to(self.folder).as_posix() for target, file in files.items()}
            texts = {target: value for target, value in generation.values.items() if isinstance(value, str)}
            row |= {"targets": {**texts, **files}, "stop": generation.stop}
        with (self.folder / GENERATED).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        return row


def read_generated(path: str | Path) -> dict[str, dict[str, Any]]:
    """Return rows of results by id: those of `unitok generate --manifest`, or of an evaluation.

    Raises:
        DataError: If the file is missing or is no manifest.
    """
    from unitok.data.manifest import read_manifest

    return {row["id"]: row for row in read_manifest(path)}


def made_of(row: Mapping[str, Any], targets: Sequence[Any], folder: Path) -> dict[str, Any]:
    """Return the targets in a row of results, by name; of audio the path.

    Args:
        row: Has `targets`, or `audio` and `text` of a task with one of each, or the targets under their own names.
        targets: Fields of the task.
        folder: Where relative paths start.

    Raises:
        DataError: If a file does not exist.
    """
    made: dict[str, Any] = {}
    for target in targets:
        kind = "audio" if target.kind == "audio" else "text"
        value = row.get("targets", {}).get(target.name, row.get(target.name))
        if value is None and sum((one.kind == "audio") == (kind == "audio") for one in targets) == 1:
            value = row.get(kind)
        if value is None:
            continue
        if kind == "audio":
            value = folder / Path(value)
            if not value.is_file():
                raise DataError(f"'{row.get('id')}': audio file '{value}' does not exist.")
        made[target.name] = value
    return made
