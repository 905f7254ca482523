"""Manifests: JSON Lines, one utterance a row, with `id`, audio paths and any other fields.

    {"id": "utt-1", "audio": "wav/1.wav", "text": "Hello.", "speaker": "slt", "lang": "en"}

Relative paths start at the manifest's folder. A row whose `id` is missing or null gets its place in the file,
`row-000000`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unitok.errors import DataError, suggest
from unitok.files import read_lines, write_text

__all__ = ["check_fields", "manifest_lines", "read_manifest", "resolve_path", "texts_of", "write_manifest"]


def read_manifest(path: str | Path) -> list[dict[str, Any]]:
    """Read a manifest.

    Args:
        path: A JSON Lines file; empty lines are ignored.

    Returns:
        The rows in order, each with a unique `id` (a string). Paths stay as they are written: see `resolve_path`.

    Raises:
        DataError: If the file is missing, empty or not UTF-8, a line is not a JSON object or holds half a character, or
            an id occurs twice. All bad lines are listed.
    """
    path = Path(path)
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(manifest_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            problems.append(f"line {number}: not JSON ({error.msg}, column {error.colno})")
            continue
        if not isinstance(row, dict):
            problems.append(
                f'line {number}: a row is an object such as {{"id": "a", "audio": "a.wav"}}, got {line.strip()[:40]}'
            )
            continue
        if "\\u" in line and (half := _half_character(row)):
            problems.append(f"line {number}: holds {half}, half a character. Remove it")
        row["id"] = f"row-{len(rows):06d}" if row.get("id") is None else str(row["id"])
        first = line_of.setdefault(row["id"], number)
        if first != number:
            problems.append(f"line {number}: id '{row['id']}' is that of line {first}; ids are unique")
        rows.append(row)
    if problems:
        shown = "; ".join(problems[:10]) + (f"; and {len(problems) - 10} more" if len(problems) > 10 else "")
        raise DataError(f"{path}: {shown}.")
    if not rows:
        raise DataError(f"{path} has no rows. Write one JSON object a line.")
    return rows


def manifest_lines(path: str | Path) -> list[str]:
    """Return the lines of a manifest as they are.

    Raises:
        DataError: If the file is missing, or is no text.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"{path} {what}. A manifest is a JSON Lines file, one utterance a row.")
    return read_lines(path)


def write_manifest(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write `rows` as JSON Lines."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def resolve_path(value: str, manifest: str | Path) -> Path:
    """Return the file that `value` means in `manifest`: absolute, or relative to the manifest's folder.

    Raises:
        DataError: If it is no path.
    """
    if not isinstance(value, str):
        raise DataError(f"the path is {value!r}, expected a string.")
    try:
        return Path(manifest).parent / Path(value).expanduser()
    except RuntimeError as error:  # ~somebody
        raise DataError(f"the path is '{value}', whose home folder is not known. Write it out.") from error


def check_fields(rows: Sequence[Mapping[str, Any]], fields: Sequence[str], manifest: str | Path) -> None:
    """Check that each of `fields` is given in at least one row.

    Raises:
        DataError: If no row has it, with the nearest field that there is.
    """
    present = sorted({key for row in rows for key, value in row.items() if value is not None})
    for name in fields:
        if name not in present:
            raise DataError(
                f"{manifest}: no row has the field '{name}'.{suggest(name, present)} "
                f"Fields there: {', '.join(present)}."
            )


def texts_of(manifests: Iterable[str | Path], fields: Sequence[str]) -> list[str]:
    """Return what some fields of the rows of manifests say, where there is anything."""
    return [str(row[field]) for path in manifests for row in read_manifest(path) for field in fields if row.get(field)]


def _half_character(row: Mapping[str, Any]) -> str | None:
    r"""Return what no file can hold as UTF-8: `\ud83d`, of which JSON may write one without the other."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        return ascii(error.object[error.start])
    return None
