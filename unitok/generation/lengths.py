"""How long a target got, beside what its task's card says of the text before it.

What is expected is arithmetic and no prediction: characters of the nearest text before the target, a condition or an
earlier target, times the seconds per character that the card states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["SHORTEST_AUDIO_LIMIT_S", "TargetLength", "Verdict"]

# A text of one or two letters still needs the silence around a word.
SHORTEST_AUDIO_LIMIT_S = 1.0
# People read slower or faster than the average, but hardly twice so.
IMPLAUSIBLE = 2.0

Verdict = Literal["usual", "short", "long", "cut"]


@dataclass(frozen=True)
class TargetLength:
    """Length of one audio or semantic target."""

    target: str
    """Name of the target."""
    seconds: float
    """How long it got."""
    cut: bool
    """Was it ended at its longest, and not by the model?"""
    longest_seconds: float
    """How long it was allowed to get."""
    shortest_seconds: float | None = None
    """How long it had to get; None: the card does not say."""
    n_characters: int | None = None
    """Characters of the text before it; None: there is none."""
    expected_seconds: float | None = None
    """`n_characters` times the card's `seconds_per_character`; None: the card does not say, or there is no text."""

    @property
    def verdict(self) -> Verdict | None:
        """`cut`; `short` or `long`: half of what is expected or less, twice or more; None: nothing is expected."""
        if self.cut:
            return "cut"
        if self.expected_seconds is None:
            return None
        if self.seconds * IMPLAUSIBLE <= self.expected_seconds:
            return "short"
        too_long = max(self.expected_seconds * IMPLAUSIBLE, SHORTEST_AUDIO_LIMIT_S)
        return "long" if self.seconds >= too_long else "usual"
