"""Markers: the positions that stand for `<bos>`, `<task:tts>`, `<text>`, `</audio>` and their like in a sequence.

A marker is one position whose slot 0 holds the marker's own id, unless the model spells it: in none or several rows of
any ids. Released models do, each in its own way. For one whose audio ends with a frame of zeros:

    slot 0    Hi   !    a0   a1   a2   0           <text> Hi ! </text> <audio> [2 × 3 frames] </audio>,
    slot 1     ·   ·    b0   b1   b2   0           spelled: <text>, </text>, <audio> no rows, </audio> one full row

Letters: K slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unitok.vocabulary import Vocabulary

__all__ = ["Markers", "Row"]

Row = tuple[int, ...]
"""Joint ids of one position: of slot 0, or of all K slots."""


@dataclass(frozen=True)
class Markers:
    """How the markers of one vocabulary are spelled."""

    vocabulary: Vocabulary
    """Has an id for each marker."""
    spelled: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    """Rows of the markers that are not their own id, by name. `condition </audio>` is of conditions alone."""

    def __post_init__(self) -> None:
        """Check the rows.

        Raises:
            ValueError: If a row is neither of slot 0 nor of all slots, an id is outside the vocabulary, or the end of a
                target has no rows, so that none could be generated.
        """
        K, V = self.vocabulary.n_codebooks, self.vocabulary.size
        for name, rows in self.spelled.items():
            if name.startswith("</") and not rows:
                raise ValueError(f"spelling: '{name}' has no rows, so that no target could end. Give it at least one.")
            for row in rows:
                if len(row) not in (1, K):
                    raise ValueError(f"spelling: '{name}' has a row of {len(row)} ids, allowed: 1, or K={K}.")
                if not all(0 < id < V for id in row):
                    raise ValueError(f"spelling: '{name}' has the ids {list(row)}, allowed: 1 to {V - 1}.")

    def rows(self, name: str, role: str = "") -> tuple[Row, ...]:
        """Return the rows of a marker; with `role`, as it is spelled on that side of a task.

        Raises:
            KeyError: If the vocabulary has no such marker.
        """
        own = self.vocabulary.id(name)
        spelled = self.spelled.get(f"{role} {name}", self.spelled.get(name))
        return ((own,),) if spelled is None else tuple(tuple(row) for row in spelled)

    def start(self, kind: str, role: str = "target") -> tuple[Row, ...]:
        """Return the rows of `<kind>`."""
        return self.rows(f"<{kind}>", role)

    def end(self, kind: str, role: str = "target") -> tuple[Row, ...]:
        """Return the rows of `</kind>`."""
        return self.rows(f"</{kind}>", role)

    def end_id(self, kind: str) -> int:
        """Return the id of slot 0 with which `</kind>` of a target begins: sampled, it ends the target."""
        return self.end(kind)[0][0]

    def tensor(self, rows: Sequence[Row]) -> Tensor:
        """Return rows as tokens `[n, K]`, int64."""
        K = self.vocabulary.n_codebooks
        filled = [[*row, *[self.vocabulary.empty_id] * (K - len(row))] for row in rows]
        return torch.tensor(filled, dtype=torch.int64).reshape(len(rows), K)
