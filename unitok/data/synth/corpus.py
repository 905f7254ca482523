"""Write a procedural corpus: audio files, `manifest.jsonl`, and `corpus.json`, how to make it again."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from unitok.audio import Audio
from unitok.errors import DataError
from unitok.files import write_text

__all__ = ["Corpus", "Item", "write_corpus"]


class Item(NamedTuple):
    """One row of a manifest, before its audio is written."""

    audio: dict[str, Audio]
    """Manifest field -> audio; one of them is `audio`, the item's own, whose length counts. Empty: text alone."""
    fields: dict[str, Any]
    """The other fields."""


class Corpus(Protocol):
    """A frozen dataclass of settings, of which and of its number each item is a function."""

    @property
    def seed(self) -> int:
        """Seed of all that is drawn."""
        ...

    @property
    def split(self) -> str:
        """`train` or `held_out`."""
        ...

    def item(self, index: int) -> Item:
        """Make item `index`."""
        ...


def write_corpus(
    out: Path,
    corpus: Corpus,
    *,
    hours: float | None = None,
    utterances: int | None = None,
    workers: int = 2,
    on_progress: Callable[[int, float], None] | None = None,
) -> tuple[int, float]:
    """Make items until there are `hours` of audio or `utterances` of them.

    Goes on where an interrupted run stopped: the manifest is written as audio is finished, and its rows are kept.

    Args:
        out: Folder; gets `audio/*.wav` (16 bit), `manifest.jsonl` and `corpus.json`.
        corpus: What to make.
        hours: Length to reach, in hours.
        utterances: Number of items to reach; one of the two must be given.
        workers: Items made at once.
        on_progress: Called with the items and seconds so far.

    Returns:
        Items and seconds of audio in the folder.

    Raises:
        DataError: If no length is given, or the folder holds a corpus made with other settings.
    """
    if (hours is None) == (utterances is None):
        raise DataError("Say how much to synthesise: either hours or utterances (--hours H or --utterances N).")
    (out / "audio").mkdir(parents=True, exist_ok=True)
    made = out / "corpus.json"
    settings = _checked_settings(made, corpus)
    manifest = out / "manifest.jsonl"
    rows = _rows_there(manifest)
    count, seconds = len(rows), sum(row["seconds"] for row in rows)

    def make(index: int) -> dict[str, Any]:
        item, name = corpus.item(index), f"{corpus.split}-{corpus.seed}-{index:07d}"
        row: dict[str, Any] = {"id": name}
        for field, audio in item.audio.items():
            row[field] = f"audio/{name}.wav" if field == "audio" else f"audio/{name}.{field}.wav"
            audio.write(out / row[field])
        return row | item.fields | {"seconds": round(item.audio["audio"].duration_s if item.audio else 0.0, 4)}

    def enough() -> bool:
        return count >= utterances if utterances is not None else seconds >= (hours or 0) * 3600

    with ThreadPoolExecutor(workers) as pool, manifest.open("a", encoding="utf-8") as sink:
        while not enough():
            batch = 16 * workers if utterances is None else min(16 * workers, utterances - count)
            for row in pool.map(make, range(count, count + batch)):
                if enough():
                    break
                if not made.exists():  # a corpus of which nothing could be made leaves its folder free
                    write_text(made, settings)
                sink.write(json.dumps(row, ensure_ascii=False) + "\n")
                count, seconds = count + 1, seconds + row["seconds"]
            sink.flush()
            if on_progress:
                on_progress(count, seconds)
    return count, seconds


def _rows_there(manifest: Path) -> list[dict[str, Any]]:
    """Return the rows of a manifest, if there is one; a last line that was never finished is taken out of it."""
    whole, _, half = manifest.read_bytes().rpartition(b"\n") if manifest.exists() else (b"", b"", b"")
    lines = [line for line in whole.decode().split("\n") if line]
    if half:
        write_text(manifest, "".join(f"{line}\n" for line in lines))
    return [json.loads(line) for line in lines]


def _checked_settings(path: Path, corpus: Corpus) -> str:
    """Return the settings as they are stored, once they are seen to be those of what the folder holds."""
    settings = json.loads(json.dumps({"corpus": type(corpus).__name__, **asdict(corpus)}))  # type: ignore[call-overload]
    stored = json.loads(path.read_text()) if path.exists() else settings
    changed = [key for key in settings if stored.get(key) != settings[key]]
    if changed:
        shown = ", ".join(f"{key}: {stored.get(key)!r} there, {settings[key]!r} asked for" for key in changed)
        raise DataError(
            f"{path.parent} holds a corpus made with other settings ({shown}). Choose another --out, or delete it."
        )
    return json.dumps(settings, indent=2) + "\n"
