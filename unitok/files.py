"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unitok.errors import DataError, UnitokError

__all__ = [
    "check_replaceable",
    "packed",
    "partial_file",
    "read_lines",
    "unpacked",
    "write_text",
    "written_file",
    "written_whole",
]


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


def packed(content: bytes, suffix: str) -> bytes:
    """Return what a file with some suffix holds of a content: `.gz` and `.xz` compress it, the same bytes each time."""
    if suffix == ".xz":
        return lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
    return gzip.compress(content, mtime=0) if suffix == ".gz" else content


def unpacked(content: bytes) -> str:
    """Return the text in the content of a file, compressed or not.

    Raises:
        DataError: If it is damaged.
    """
    unpack = {b"\x1f\x8b": gzip.decompress, b"\xfd7": lzma.decompress}.get(content[:2], bytes)
    try:
        return unpack(content).decode()
    except (OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeDecodeError) as error:
        raise DataError(f"is damaged: {error}") from error


def partial_file(path: str | Path) -> Path:
    """Return an empty file beside `path`, of the same suffix, to be renamed when it is whole. Folders are made.

    Raises:
        UnitokError: If no file can be there: it is a folder, what should be a folder is a file, or the system refuses.
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        if path.is_dir():
            raise UnitokError(f"cannot write '{path}': it is a folder. Name a file in it.")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
    except (FileExistsError, NotADirectoryError) as error:
        raise UnitokError(f"cannot write '{path}': '{path.parent}' is no folder, a file is there.") from error
    except OSError as error:
        raise UnitokError(f"cannot write '{path}': {error.strerror}. Choose another place.") from error
    return partial


@contextmanager
def written_file(path: str | Path) -> Iterator[Path]:
    """Lend an empty file that takes the place of `path` at the end, and leaves no trace after an error.

    Raises:
        UnitokError: As `partial_file`.
    """
    partial = partial_file(path)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, and the folders that it lies in."""
    with written_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def check_replaceable(folder: str | Path, marker: str | None = None) -> None:
    """Refuse to write a folder over what somebody may miss. Ask before hours of work; `written_whole` asks again.

    Args:
        folder: What is to be written.
        marker: What every folder of its kind holds, by which an older one is known, which may be replaced.

    Raises:
        UnitokError: If there is a file, or a folder that is neither empty nor of its kind.
    """
    folder = Path(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir():
        raise UnitokError(f"'{folder}' exists and is a file; a folder is to be written. Choose another name.")
    if marker is None or not (folder / marker).exists():
        lacks = "is not empty" if marker is None else f"holds other things: it has no {marker}"
        raise UnitokError(f"'{folder}' exists and {lacks}. Choose another folder, or remove it first.")


@contextmanager
def written_whole(folder: str | Path, marker: str | None = None) -> Iterator[Path]:
    """Lend an empty folder that takes the place of `folder` at the end, and leaves no trace after an error.

    What was at `folder` before is moved aside first and removed last, so that one of the two is always there.

    Raises:
        UnitokError: As `check_replaceable`.
    """
    folder = Path(folder)
    check_replaceable(folder, marker)
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
