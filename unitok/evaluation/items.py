"""What a model is measured on: rows of a manifest as conditions and references of one task.

A row has record fields, as those that are prepared for training (`audio`, `speaker`, `target_text`), or the task's own
names, as those of `unitok generate --manifest` (`speech`, `voice`), or both; the task's name wins, unless another field
of the task is read from a record field of that name. A prompt `from: same_speaker` that is needed and not given is the
recording of another row with the same `speaker`; `from: start` is cut off the reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unitok.audio import Audio
from unitok.data.manifest import read_manifest, resolve_path
from unitok.errors import DataError
from unitok.tasks import Field, Task

__all__ = ["Item", "items_of", "read_items"]


@dataclass(frozen=True)
class Item:
    """One row, as its task sees it."""

    id: str
    """Unique."""
    conditions: Mapping[str, Any]
    """By the task's names: text, paths of audio, or `Audio`."""
    reference: Mapping[str, Any] = field(default_factory=dict)
    """Targets, as far as they are known; alike."""
    lang: str | None = None
    """Language of the targets; None where the task is told none."""
    row: Mapping[str, Any] = field(default_factory=dict)
    """The row as it was, its audio of the task resolved."""


def read_items(task: Task, manifest: str | Path, limit: int | None = None, lang: str | None = None) -> list[Item]:
    """Return the first `limit` rows of a manifest as items.

    Args:
        task: The task.
        manifest: JSON Lines.
        limit: How many; None: all.
        lang: Language of the targets where a row names none.

    Raises:
        DataError: If a row lacks a condition, or names a file that does not exist: all of them in one line.
    """
    rows = read_manifest(manifest)
    return items_of(task, rows, manifest, limit, lang)


def items_of(
    task: Task,
    rows: Sequence[Mapping[str, Any]],
    manifest: str | Path = "items",
    limit: int | None = None,
    lang: str | None = None,
) -> list[Item]:
    """Return the first `limit` rows as items, see `read_items`; relative paths start at the manifest's folder."""
    ids = [str(row.get("id", f"row-{i:06d}")) for i, row in enumerate(rows)]
    if limit is not None and limit < 1:
        raise DataError(f"items is {limit}, allowed: 1 or more.")
    problems: list[str] = []
    found: list[Item] = []
    for i, row in enumerate(rows[:limit]):
        try:
            item = _item(task, ids[i], row, Path(manifest), lang)
            found.append(_with_prompt(task, item, i, rows, Path(manifest)))
        except DataError as error:
            problems.append(f"'{ids[i]}': {error}")
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise DataError(f"{manifest}: {'; '.join(one.rstrip('.') for one in problems[:5])}{more}.")
    if not found:
        raise DataError(f"{manifest}: there are no items.")
    return found


def _item(task: Task, id: str, row: Mapping[str, Any], manifest: Path, lang: str | None) -> Item:
    used: dict[str, str] = {}
    values: dict[str, Any] = {}
    for part in task.fields:
        if part.source == "start" and part.name not in row:
            continue
        key = _key(part, task, row, used)
        if key is not None:
            used[key] = part.field
            values[part.name] = _value(part, key, row[key], manifest)
    conditions = {one.name: values[one.name] for one in task.conditions if one.name in values}
    item = Item(
        id=id,
        conditions=conditions,
        reference={one.name: values[one.name] for one in task.targets if one.name in values},
        lang=row.get(task.lang_field) or row.get("lang") or lang if task.lang_field else None,
        row=dict(row),
    )
    return _with_start(task, item)


def _key(part: Field, task: Task, row: Mapping[str, Any], used: Mapping[str, str]) -> str | None:
    """Return the key of a row that a field is read from, None where there is none."""
    others = {one.field for one in task.fields if one.name != part.name}
    given = {key for key, value in row.items() if value is not None}
    if part.name in given and part.name not in others:
        return part.name
    if part.source != "same_speaker" and part.field in given and used.get(part.field, part.field) == part.field:
        return part.field
    return part.name if part.name in given and part.name not in used else None


def _value(part: Field, key: str, value: Any, manifest: Path) -> Any:
    if part.repeated and isinstance(value, list):
        one = replace(part, repeated=False)
        return [_value(one, key, each, manifest) for each in value]
    takes_audio = part.kind == "audio" or (part.kind == "features" and part.takes == "audio")
    if takes_audio:
        if not isinstance(value, str | Path):
            return value
        path = resolve_path(str(value), manifest)
        if not path.is_file():
            raise DataError(f"{key}: audio file '{path}' does not exist.")
        return path
    if part.kind in ("text", "label", "features") and not isinstance(value, str):
        raise DataError(f"{key}: is {type(value).__name__}, text is needed.")
    return value


def _with_prompt(task: Task, item: Item, index: int, rows: Sequence[Mapping[str, Any]], manifest: Path) -> Item:
    """Fill in a prompt of the same speaker, and see that no condition is missing."""
    conditions = dict(item.conditions)
    for part in task.conditions:
        if part.name in conditions or not part.needed:
            continue
        if part.source == "same_speaker" and (other := _same_speaker(part, index, rows)) is not None:
            conditions[part.name] = _value(part, part.field, rows[other][part.field], manifest)
            continue
        names = part.name if part.field == part.name else f"{part.name}' or '{part.field}"
        raise DataError(f"'{names}' is missing, task '{task.name}' needs it.")
    return replace(item, conditions=conditions)


def _same_speaker(part: Field, index: int, rows: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the next row of the same speaker that has the field."""
    speaker = rows[index].get("speaker")
    after = [(index + step) % len(rows) for step in range(1, len(rows))]
    same = (i for i in after if speaker is not None and rows[i].get("speaker") == speaker and rows[i].get(part.field))
    return next(same, None)


def _with_start(task: Task, item: Item) -> Item:
    """Cut the start off the reference for each condition `from: start` that no key gave (as `cut_starts` does)."""
    conditions, reference = dict(item.conditions), dict(item.reference)
    for part in task.conditions:
        if part.source != "start" or part.name in conditions or part.max_seconds is None:
            continue
        target = next((t for t in task.targets if (t.field, t.kind) == (part.field, part.kind)), None)
        if target is None or target.kind != "audio" or target.name not in reference:
            continue
        whole = Audio.of(reference[target.name])
        n = min(max(1, round(part.max_seconds * whole.sample_rate_hz)), whole.n_samples // 2)
        conditions[part.name] = Audio(whole.samples[:, :n], whole.sample_rate_hz)
        reference[target.name] = Audio(whole.samples[:, n:], whole.sample_rate_hz)
    return replace(item, conditions=conditions, reference=reference)
