"""How well a model foresees the right tokens: perplexity and accuracy, given the right ones before each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from unitok.evaluation.metric import register_metric

if TYPE_CHECKING:
    from unitok.evaluation.tools import Tools

__all__ = ["Part", "foreseen"]


class Part(NamedTuple):
    """The tokens of one kind in one item."""

    nats: float
    """Sum of their cross-entropy."""
    hits: float
    """How many were the likeliest."""
    count: int
    """How many there are."""


Parts = Mapping[str, Part]


def foreseen(model: Any, task: str, values: Mapping[str, Any], lang: str | None = None) -> dict[str, Part]:
    """Return how well a model foresees the targets of one item, teacher-forced.

    Args:
        model: A `Model`.
        task: Name of the task.
        values: Conditions and all targets, as `Model.sequence` takes them.
        lang: Language of the targets.

    Returns:
        By name: `text`, `label`, … for slot 0, `audio.k` for codebook k (`LMOutput`).
    """
    import torch

    from unitok.sequence import collate

    model.lm.eval()
    batch = collate([model.sequence(task, lang=lang, **values)]).to(next(model.lm.parameters()).device)
    with torch.inference_mode():
        output = model.lm.loss(batch, seed=0)
    return {
        name: Part(float(output.parts[name]) * count, float(output.accuracy[name]) * count, count)
        for name, count in output.counts.items()
        if name != "conditions"
    }


def _summed(observations: Sequence[Parts]) -> dict[str, Part]:
    names = sorted({name for one in observations for name in one}, key=lambda name: (not name.startswith("a"), name))
    return {
        name: Part(*(sum(column) for column in zip(*(one[name] for one in observations if name in one), strict=True)))
        for name in names
    }


def _whole(observations: Sequence[Parts]) -> Part:
    return Part(*(sum(column) for column in zip(*_summed(observations).values(), strict=True)))


def _perplexity(observations: Sequence[Parts]) -> float:
    whole = _whole(observations)
    return math.exp(whole.nats / whole.count)


def _accuracy(observations: Sequence[Parts]) -> float:
    whole = _whole(observations)
    return whole.hits / whole.count


@register_metric(
    "perplexity", takes="likelihood", better="lower", value=_perplexity, draws=200,
    parts=lambda those: {name: math.exp(part.nats / part.count) for name, part in _summed(those).items()},
)  # fmt: skip
def _observe_perplexity(reference: None, made: Parts, tools: Tools) -> Parts:
    """Exponential of the mean cross-entropy of the right tokens; by kind and codebook too."""
    return made


@register_metric(
    "token_accuracy", takes="likelihood", better="higher", unit=" %", scale=100, digits=1, value=_accuracy, draws=200,
    parts=lambda those: {name: part.hits / part.count for name, part in _summed(those).items()},
)  # fmt: skip
def _observe_accuracy(reference: None, made: Parts, tools: Tools) -> Parts:
    """Share of tokens that are the likeliest given the right ones before; by kind and codebook too."""
    return made
