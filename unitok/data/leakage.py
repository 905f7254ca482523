"""Find what a held-out set shares with the data that is trained on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unitok.data.manifest import read_manifest
from unitok.errors import DataError

__all__ = ["CONTENT_FIELDS", "Leak", "find_leaks"]

CONTENT_FIELDS = ("text", "caption", "script")
"""What says what a recording is of."""


class Leak(NamedTuple):
    """A held-out row whose content is trained on."""

    id: str
    field: str
    content: str


def find_leaks(
    train: Sequence[str | Path], held_out: Sequence[str | Path], fields: Iterable[str] = CONTENT_FIELDS
) -> list[Leak]:
    """Return the held-out rows whose content occurs in training, whatever the case and the punctuation.

    Args:
        train: Manifests that are trained on.
        held_out: Manifests that are not.
        fields: Fields to compare, those that a row has: a text with texts, a script with scripts.

    Raises:
        DataError: If a manifest is missing or broken, or no held-out row has any of the fields.
    """
    fields = tuple(fields)
    known = {field: set() for field in fields}
    for manifest in train:
        for row in read_manifest(manifest):
            for field, content in _contents(row, fields):
                known[field].add(content)
    leaks, n_compared = [], 0
    for manifest in held_out:
        for row in read_manifest(manifest):
            for field, content in _contents(row, fields):
                n_compared += 1
                if content in known[field]:
                    leaks.append(Leak(row["id"], field, content))
    if not n_compared:
        raise DataError(f"no held-out row has any of the fields {', '.join(fields)}. Name others with --fields.")
    return leaks


def _contents(row: Mapping[str, Any], fields: Sequence[str]) -> Iterable[tuple[str, str]]:
    for field in fields:
        value = row.get(field)
        if isinstance(value, str) and value:
            yield field, " ".join(re.findall(r"\w+(?:'\w+)*", value.lower()))
        elif value:
            yield field, json.dumps(value, sort_keys=True, ensure_ascii=False)
