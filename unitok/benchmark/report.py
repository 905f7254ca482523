"""What a benchmark found: rows of figures, printed as a table, written as JSON, drawn as bars."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unitok.files import write_text

__all__ = ["Report"]


@dataclass(frozen=True)
class Report:
    """The figures of one benchmark."""

    heads: Mapping[str, str]
    """Key of a figure -> what stands above its column; the first is the name of what was measured."""
    rows: Sequence[Mapping[str, Any]]
    """Of each thing that was measured, the figures."""
    about: Mapping[str, Any]
    """The machine and the settings that all rows share."""
    note: str
    """A line under the table."""
    shown: str
    """The figure that bars are drawn of."""

    def table(self) -> str:
        """Return the rows in columns, and the note."""
        cells = [dict(self.heads), *({key: _text(row.get(key)) for key in self.heads} for row in self.rows)]
        widths = {key: max(len(row[key]) for row in cells) for key in self.heads}
        first, *rest = self.heads
        lines = [
            "  ".join([r[first].ljust(widths[first]), *(r[key].rjust(widths[key]) for key in rest)]) for r in cells
        ]
        return "\n".join([*lines, "", self.note])

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        write_text(path, json.dumps({**self.about, "rows": list(self.rows)}, indent=2) + "\n")

    def plot(self, path: Path) -> None:
        """Draw one bar for each row, of its most telling figure."""
        from unitok.plotting import plot_bars

        first, *_ = self.heads
        names, values = ([row[key] for row in self.rows] for key in (first, self.shown))
        plot_bars(names, values, self.heads[self.shown].lower(), path)


def _text(value: Any) -> str:
    return "-" if value is None else str(value)
