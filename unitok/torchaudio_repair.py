"""Mends a torchaudio whose native libraries do not fit the installed torch.

PyPI's torchaudio carries libraries linked against CUDA. Beside a torch without CUDA, `import torchaudio` loads them and
dies with an OSError. torchaudio works in pure Python when it finds no such file, and unitok uses nothing but its pure
Python functions; so the repair renames the files (`X.so` -> `X.so.aside`), and takes that back if it did not help.

This module imports neither torch nor torchaudio: it looks at them from outside, in a process of its own.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Diagnosis", "diagnose", "repair"]

ASIDE = ".aside"


@dataclass(frozen=True)
class Diagnosis:
    """What an attempt to import torchaudio showed."""

    error: str
    """Last line of what the import printed; empty when it succeeded."""
    libraries: tuple[Path, ...]
    """The native libraries that torchaudio would load."""

    @property
    def healthy(self) -> bool:
        """True when torchaudio can be imported."""
        return not self.error

    @property
    def repairable(self) -> bool:
        """True when the import died while native libraries are there: without them it may succeed."""
        return bool(self.error and self.libraries)


def diagnose() -> Diagnosis:
    """Try `import torchaudio` in a fresh Python process (two or three seconds: it imports torch)."""
    attempt = subprocess.run([sys.executable, "-c", "import torchaudio"], capture_output=True, text=True, check=False)
    lines = attempt.stderr.strip().splitlines() or [f"exit status {attempt.returncode}"]
    return Diagnosis(error=lines[-1] if attempt.returncode else "", libraries=tuple(_libraries()))


def repair(found: Diagnosis) -> Diagnosis:
    """Move the native libraries aside.

    Args:
        found: What `diagnose()` returned.

    Returns:
        The diagnosis afterwards. If torchaudio is still not healthy then every file is back in its place.
    """
    if not found.repairable:
        return found
    moved = [(path, path.rename(path.with_name(path.name + ASIDE))) for path in found.libraries]
    after = diagnose()
    if after.healthy:
        return after
    for original, aside in moved:
        aside.rename(original)
    return Diagnosis(after.error, found.libraries)


def _libraries() -> list[Path]:
    """Return the files that `torchaudio._extension` looks for: `lib/*.so`, or `*.pyd` on Windows."""
    spec = importlib.util.find_spec("torchaudio")  # finds the package without importing it
    folders = spec.submodule_search_locations if spec else None
    return [path for folder in folders or () for path in sorted(Path(folder, "lib").glob("*")) if _is_native(path)]


def _is_native(path: Path) -> bool:
    return path.suffix in (".so", ".pyd")
