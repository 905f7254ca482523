"""Which examples make which batch: a pure function of (seed, epoch, rank, world size).

    each source    an endless row of permutations of its examples; an epoch takes the next stretch, as its weight says
    an epoch       the stretches of all sources, shuffled
    pools          stretches of the epoch, each sorted by length and cut into batches of `batch_tokens` at most
    batches        shuffled again, and dealt out to the ranks

An epoch always has the same number of batches (that of epoch 0), so that a trainer can count on it: where pools happen
to give more, a few are left out, where they give fewer, the first are repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from unitok.errors import DataError

__all__ = ["BatchConfig", "BatchPlan", "Example", "Source", "cut_batches", "draw"]


class Example(NamedTuple):
    """What the dataset is asked for."""

    epoch: int
    """Epoch it is drawn in."""
    position: int
    """Place in the epoch's order; (seed, epoch, position) seeds whatever is random about the example."""
    source: int
    """Which task and data."""
    item: int
    """Which of the source's examples."""


@dataclass(frozen=True)
class BatchConfig:
    """How batches are filled."""

    batch_tokens: int = 4096
    """Positions of a batch on one device, padding included."""
    max_tokens: int | None = None
    """Longest sequence; records whose sequence is longer are left out. None: as long as a batch."""
    pool_size: int = 2048
    """Examples sorted by length at once: more means less padding, fewer means batches that mix lengths."""

    def __post_init__(self) -> None:
        """Check the sizes."""
        for name in ("batch_tokens", "max_tokens", "pool_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DataError(f"data batching: {name}={value}, allowed: 1 or more.")

    @property
    def longest(self) -> int:
        """Longest sequence that is used."""
        return min(self.batch_tokens, self.max_tokens or self.batch_tokens)


@dataclass(frozen=True)
class Source:
    """Examples of one task over one set of records."""

    weight: float
    """Share of the epoch, relative to the other sources."""
    lengths: np.ndarray
    """Positions of each example's sequence, at most, `[n]`."""


class BatchPlan:
    """The batches of every epoch."""

    def __init__(self, sources: Sequence[Source], config: BatchConfig, *, seed: int = 0, epoch_size: int | None = None):
        """Plan.

        Args:
            sources: What to mix.
            config: How to fill batches.
            seed: Of all orders.
            epoch_size: Examples in an epoch; default: as many as the sources have.

        Raises:
            DataError: If no source with a weight has an example.
        """
        self.sources, self.config, self.seed = tuple(sources), config, seed
        weights = np.array([source.weight if len(source.lengths) else 0.0 for source in sources])
        if weights.sum() <= 0:
            raise DataError("no task has both a weight above 0 and examples: there is nothing to train on.")
        self.epoch_size = epoch_size or sum(
            len(s.lengths) for s, weight in zip(sources, weights, strict=True) if weight
        )
        self.quotas = self.epoch_size * weights / weights.sum()

    @cached_property
    def n_batches(self) -> int:
        """Batches in an epoch over all ranks."""
        return len(self._all_batches(0))

    def length(self, world_size: int = 1) -> int:
        """Return the number of batches of each rank in an epoch.

        Raises:
            DataError: If there are fewer batches than ranks.
        """
        if self.n_batches < world_size:
            raise DataError(
                f"an epoch has {self.n_batches} batches for {world_size} processes. "
                f"Lower batch_tokens ({self.config.batch_tokens}) or raise epoch_size."
            )
        return self.n_batches // world_size

    def batches(self, epoch: int, rank: int = 0, world_size: int = 1) -> list[list[Example]]:
        """Return the batches of one rank in one epoch, in order."""
        drawn = self._all_batches(epoch)
        return [drawn[i % len(drawn)] for i in range(rank, self.length(world_size) * world_size, world_size)]

    def all_once(self, at_least: int = 1) -> list[list[Example]]:
        """Return every example once, sorted by length: the batches of an evaluation.

        Args:
            at_least: So many batches, smaller ones if need be: a process without any would leave the others waiting.

        Raises:
            DataError: If there are fewer examples.
        """
        source = np.concatenate([np.full(len(s.lengths), i) for i, s in enumerate(self.sources)])
        item = np.concatenate([np.arange(len(s.lengths)) for s in self.sources])
        lengths = np.concatenate([s.lengths for s in self.sources])
        if len(lengths) < at_least:
            raise DataError(f"{len(lengths)} examples cannot be shared out to {at_least} processes. Use fewer devices.")
        order, size = np.argsort(lengths, kind="stable"), self.config.batch_tokens
        while len(batches := cut_batches(order, lengths, size)) < at_least:
            size //= 2
        return [_examples(0, batch, source, item) for batch in batches]

    def _all_batches(self, epoch: int) -> list[list[Example]]:
        source, item = draw([len(s.lengths) for s in self.sources], self.quotas, self.seed, epoch)
        lengths = np.empty(len(source), np.int64)
        for index, one in enumerate(self.sources):
            lengths[source == index] = one.lengths[item[source == index]]
        batches: list[np.ndarray] = []
        # A pool larger than the data would sort copies of one example together, into batches of nothing else.
        pool_size = min(self.config.pool_size, sum(len(one.lengths) for one in self.sources))
        for first in range(0, len(source), pool_size):
            pool = np.arange(first, min(first + pool_size, len(source)))
            batches += cut_batches(pool[np.argsort(lengths[pool], kind="stable")], lengths, self.config.batch_tokens)
        order = np.random.default_rng([self.seed, 2, epoch]).permutation(len(batches))
        return [_examples(epoch, batches[i], source, item) for i in order]


def draw(
    sizes: Sequence[int], quotas: Sequence[float] | np.ndarray, seed: int, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the examples of an epoch.

    Args:
        sizes: Examples of each source.
        quotas: Examples each source gives to an epoch, on average; fractions add up over epochs.
        seed: Of all permutations.
        epoch: Which stretch of each source's row of permutations to take.

    Returns:
        Source and item of each example `[n]`, shuffled. Over many epochs the items of a source come equally often,
        within one.
    """
    sources, items = [], []
    for index, (size, quota) in enumerate(zip(sizes, quotas, strict=True)):
        first, stop = int(epoch * quota), int((epoch + 1) * quota)
        if stop <= first:
            continue
        rounds = range(first // size, (stop - 1) // size + 1)
        row = np.concatenate([np.random.default_rng([seed, 0, index, one]).permutation(size) for one in rounds])
        items.append(row[first - rounds[0] * size : stop - rounds[0] * size])
        sources.append(np.full(stop - first, index))
    if not sources:
        raise DataError(f"epoch_size={sum(quotas):g} leaves epoch {epoch} without examples. Raise epoch_size.")
    source, item = np.concatenate(sources), np.concatenate(items)
    order = np.random.default_rng([seed, 1, epoch]).permutation(len(source))
    return source[order], item[order]


def cut_batches(order: np.ndarray, lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Cut `order`, sorted by length, into batches whose padded size (longest x number) is at most `batch_tokens`.

    An example longer than `batch_tokens` is a batch of its own.
    """
    batches, first = [], 0
    sorted_lengths = lengths[order].tolist()
    for stop, length in enumerate(sorted_lengths):
        if stop > first and length * (stop - first + 1) > batch_tokens:
            batches.append(order[first:stop])
            first = stop
    if first < len(order):
        batches.append(order[first:])
    return batches


def _examples(epoch: int, positions: np.ndarray, source: np.ndarray, item: np.ndarray) -> list[Example]:
    rows = zip(positions.tolist(), source[positions].tolist(), item[positions].tolist(), strict=True)
    return [Example(epoch, *row) for row in rows]
