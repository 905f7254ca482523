"""Runs of equal ids, which speech is full of: what is said lasts longer than a frame. And files of ids.

ids of frames   5 5 5 2 2 7
runs            5     2   7     their ids, "de-duplicated"
3     2   1     their durations, in frames
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from unitok.errors import DataError
from unitok.files import written_file

__all__ = ["ID_SUFFIXES", "Runs", "collapse", "ids_suffix", "read_ids", "write_ids"]


class Runs(NamedTuple):
    """Stretches of equal ids, R of them."""

    ids: Tensor
    """`[R]`, int64; no two neighbours are equal."""
    durations: Tensor
    """`[R]`, int64: frames of each, at least 1."""

    def frames(self) -> Tensor:
        """Return the id of each frame, `[T]`, int64."""
        return self.ids.repeat_interleave(self.durations)


def collapse(ids: Tensor) -> Runs:
    """Return the runs of ids `[T]`, integer. Ids without repetitions stay as they are, each with duration 1."""
    return Runs(*torch.unique_consecutive(ids.long(), return_counts=True))


def read_ids(path: str | Path) -> Tensor:
    """Read ids `[T]`, int64, from a file of `write_ids`, or any `.npy`, `.json` list or `.txt` of whole numbers.

    Raises:
        DataError: If it is missing, or holds something else.
    """
    path = Path(path)
    if path.suffix not in _FORMATS:
        raise DataError(f"'{path}' is no file of semantic ids, allowed: {', '.join(_FORMATS)}.")
    try:
        ids = np.asarray(_FORMATS[path.suffix].read(path))
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"'{path}' holds no semantic ids: {str(error).splitlines()[0]}.") from error
    if ids.size == 0 or ids.dtype.kind not in "iu" or max(ids.shape) != ids.size:
        raise DataError(f"'{path}' holds {ids.dtype} {list(ids.shape)}, allowed: whole numbers, one after another.")
    return torch.from_numpy(ids.reshape(-1).astype(np.int64))


def write_ids(path: str | Path, ids: Sequence[int] | Tensor) -> Path:
    """Write ids `[T]`, as the suffix says: `.npy`, `.json` (a list) or `.txt` (numbers with spaces between).

    Raises:
        DataError: If the suffix is another.
    """
    suffix = ids_suffix(path)
    with written_file(path) as partial:
        _FORMATS[suffix].write(partial, torch.as_tensor(ids).reshape(-1).tolist())
    return Path(path)


def ids_suffix(path: str | Path) -> str:
    """Return the suffix of a file of ids to be written.

    Raises:
        DataError: If it is that of no format.
    """
    suffix = Path(path).suffix
    if suffix not in _FORMATS:
        raise DataError(
            f"semantic ids cannot be written to '{path}', allowed: a file that ends in {', '.join(_FORMATS)}."
        )
    return suffix


class _Format(NamedTuple):
    read: Callable[[Path], Any]
    write: Callable[[Path, list[int]], Any]


_FORMATS: Mapping[str, _Format] = {
    ".npy": _Format(
        lambda path: np.load(path, allow_pickle=False),
        lambda path, ids: np.save(path, np.array(ids, np.int64)),
    ),
    ".json": _Format(
        lambda path: json.loads(path.read_text(encoding="utf-8")),
        lambda path, ids: path.write_text(json.dumps(ids), encoding="utf-8"),
    ),
    ".txt": _Format(
        lambda path: [int(word) for word in path.read_text(encoding="utf-8").split()],
        lambda path, ids: path.write_text(" ".join(map(str, ids)) + "\n", encoding="utf-8"),
    ),
}
ID_SUFFIXES = tuple(_FORMATS)
"""Suffixes of files of ids."""
