"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unitok.errors import DataError

__all__ = ["read_lines", "write_text", "written_whole"]


def read_lines(path: str | Path) -> list[str]:
    """Return the lines of a text in UTF-8, with a byte order mark or without, ended as on any system.

    `str.splitlines` would also cut at what may stand within a text, such as U+2028 and U+0085.

    Raises:
        DataError: If it is not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is not UTF-8 text ({error.reason} at byte {error.start}). Save it in that encoding."
        ) from error


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, and the folders that it lies in."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def written_whole(folder: str | Path) -> Iterator[Path]:
    """Lend an empty folder that takes the place of `folder` at the end, and leaves no trace after an error.

    What was at `folder` before is moved aside first and removed last, so that one of the two is always there.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        partial = scratch / "new"
        partial.mkdir()  # not the folder that mkdtemp makes: that one is private
        yield partial
        if folder.exists():
            folder.rename(scratch / "old")
        partial.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
