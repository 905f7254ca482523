"""Figures with bootstrap confidence intervals."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from unitok.errors import DataError

__all__ = ["Estimate", "bootstrap", "rate", "share"]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Estimate:
    """A figure from 0 to 1, mostly, over a set of items."""

    value: float
    """0.1 for 10 %."""
    low: float
    """Lower end of the 95 % bootstrap interval over items."""
    high: float
    """Upper end of the interval."""
    unit: str = " %"
    """What is printed after the figure in hundredths."""

    def __str__(self) -> str:
        return f"{100 * self.value:.1f}{self.unit} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def bootstrap(
    of: Callable[[Sequence[Item]], float], items: Sequence[Item], seed: int = 0, draws: int = 1000, unit: str = " %"
) -> Estimate:
    """Return a figure of the items, and between which values it lies in 95 % of draws of as many with replacement.

    Raises:
        DataError: If there are no items.
    """
    if not items:
        raise DataError("an estimate needs at least one item, got none.")
    rng = random.Random(seed)
    drawn = sorted(of(rng.choices(items, k=len(items))) for _ in range(draws))
    return Estimate(of(items), drawn[draws // 40], drawn[draws - draws // 40 - 1], unit)


def rate(items: Sequence[tuple[float, float]], seed: int = 0) -> Estimate:
    """Return the sum of the first numbers over that of the second: errors over words, say."""
    return bootstrap(
        lambda sample: sum(part for part, _ in sample) / max(1, sum(whole for _, whole in sample)), items, seed
    )


def share(items: Sequence[bool], seed: int = 0) -> Estimate:
    """Return how many of the items are true."""
    return rate([(float(item), 1.0) for item in items], seed)
