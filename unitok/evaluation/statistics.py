"""Figures with bootstrap confidence intervals."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from unitok.errors import DataError

__all__ = ["Estimate", "bootstrap", "mean", "rate", "ratio", "share"]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Estimate:
    """A figure over a set of items."""

    value: float
    """0.1 for 10 %."""
    low: float
    """Lower end of the 95 % bootstrap interval over items."""
    high: float
    """Upper end of the interval."""
    unit: str = " %"
    """What is printed after the figure."""
    scale: float = 100.0
    """The figure is printed times this."""
    digits: int = 1
    """So many digits are printed after the point."""

    def __str__(self) -> str:
        value, low, high = (f"{self.scale * x:.{self.digits}f}" for x in (self.value, self.low, self.high))
        return f"{value}{self.unit} [{low}, {high}]"


def bootstrap(
    of: Callable[[Sequence[Item]], float],
    items: Sequence[Item],
    seed: int = 0,
    draws: int = 1000,
    unit: str = " %",
    scale: float = 100.0,
    digits: int = 1,
) -> Estimate:
    """Return a figure of the items, and between which values it lies in 95 % of draws of as many with replacement.

    Draws for which the figure is not defined (NaN) are left out.

    Raises:
        DataError: If there are no items.
    """
    if not items:
        raise DataError("an estimate needs at least one item, got none.")
    rng = random.Random(seed)
    figures = (of(rng.choices(items, k=len(items))) for _ in range(draws))
    drawn = sorted(figure for figure in figures if not math.isnan(figure)) or [math.nan]
    cut = len(drawn) // 40
    return Estimate(of(items), drawn[cut], drawn[len(drawn) - cut - 1], unit, scale, digits)


def ratio(items: Sequence[tuple[float, float]]) -> float:
    """Return the sum of the first numbers over that of the second: errors over words, say."""
    return sum(part for part, _ in items) / max(1, sum(whole for _, whole in items))


def mean(items: Sequence[float]) -> float:
    """Return the arithmetic mean."""
    return sum(items) / len(items)


def rate(items: Sequence[tuple[float, float]], seed: int = 0) -> Estimate:
    """Estimate a `ratio`."""
    return bootstrap(ratio, items, seed)


def share(items: Sequence[bool], seed: int = 0) -> Estimate:
    """Return how many of the items are true."""
    return rate([(float(item), 1.0) for item in items], seed)
