"""What an evaluation asks for and what comes out of it, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unitok.evaluation.embedders import Embedder
from unitok.evaluation.items import Item
from unitok.evaluation.metric import Metric
from unitok.evaluation.recognizer import Recognizer
from unitok.evaluation.statistics import Estimate
from unitok.tasks import Task

__all__ = ["Evaluation", "Figure", "MeasuredItem", "Request"]


@dataclass(frozen=True)
class Figure:
    """One metric over all items."""

    metric: Metric
    """What was measured."""
    estimate: Estimate
    """Figure and interval."""
    n_items: int
    """Items that it was measured on."""
    baselines: Mapping[str, Estimate] = field(default_factory=dict)
    """The same of each baseline that has it."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Of each codebook or class, where the metric has parts."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Item -> why it was not measured."""
    by: str = ""
    """Which recogniser or embedder."""


@dataclass(frozen=True)
class MeasuredItem:
    """One item, what was made of it and its figures."""

    item: Item
    """What was asked for."""
    made: Mapping[str, Any]
    """Targets: text, `Audio` or the path of a file."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Metric -> figure of this item alone."""
    heard: Mapping[str, str] = field(default_factory=dict)
    """Target -> what the recogniser heard in it."""
    error: str = ""
    """Why nothing was made."""


@dataclass(frozen=True)
class Evaluation:
    """What came out."""

    task: Task
    """The task."""
    figures: Mapping[str, Figure]
    """By the metric's name as the card has it."""
    items: Sequence[MeasuredItem]
    """In the order of the manifest."""
    skipped: Mapping[str, str]
    """Metric -> why it was not measured."""
    settings: Mapping[str, Any]
    """What was asked for: model, seed, settings of generation, recogniser, embedders."""

    @property
    def n_failed(self) -> int:
        """Items of which nothing was made."""
        return sum(bool(one.error) for one in self.items)


@dataclass(frozen=True, kw_only=True)
class Request:
    """How to generate and measure."""

    metrics: Sequence[str] | None = None
    """Names; None: those of the task's card, as far as they can be measured. One that is named has to be measurable."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of `Model.request`, such as `temperature`."""
    seed: int = 0
    """Of generation and of the intervals."""
    batch_size: int = 16
    """Items generated side by side; changes nothing in them."""
    best_of: int | None = None
    """Candidates of each item; None: as the card says."""
    baselines: Sequence[str] | None = None
    """Names (`unitok.evaluation.baselines`); None: those that say something and cost little."""
    recognizer: str | Recognizer = "pocketsphinx"
    """What hears speech (`unitok.evaluation.recognizer`)."""
    embedders: Mapping[str, str | Embedder] = field(default_factory=dict)
    """`speaker`, `sound`, `caption` -> embedder (`unitok.evaluation.embedders`)."""
