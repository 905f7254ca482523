"""Classifier-free guidance: away from what a model would say without some conditions, by a scale for each of them.

Conditions are added one after the other, in the order of the task's card, and what each one changes is stretched by its
own scale. With l(…) for logarithms of probabilities given some of the conditions a, b, …, drawn are ids from

    l() + scale_a · (l(a) - l()) + scale_b · (l(a, b) - l(a)) + …

The first condition is weighed alone, each further one beside those before it. One condition gives the usual formula,
equal scales that of all conditions at once, and 1 everywhere l(a, b, …) itself: no guidance.

Source: InstructPix2Pix (arXiv:2211.09800), section 3.2.1, there for two conditions of a diffusion model; on logits of
audio language models AudioGen (arXiv:2209.15352), section 3.2.

Letters: n rows, V ids.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from unitok.sequence import TokenSequence

__all__ = ["GuidanceStep", "conditions_left_out", "guide", "guide_chain"]


class GuidanceStep(NamedTuple):
    """One term of the sum."""

    scale: float
    """How far to go from the logits after `without` to those after the next step's prompt, or the whole one."""
    without: TokenSequence
    """The prompt without this step's conditions and those of later steps."""


def conditions_left_out(scales: Mapping[str, float]) -> list[tuple[float, tuple[str, ...]]]:
    """Return the steps that are needed, each as its scale and the conditions that its prompt goes without.

    Args:
        scales: The scale of each condition, in order. Neighbours with the same scale are one step, and what is left
            with 1 at the start needs none.
    """
    names, steps = list(scales), list[tuple[float, tuple[str, ...]]]()
    for i, name in enumerate(names):
        before = steps[-1][0] if steps else 1
        if scales[name] != before:
            steps.append((scales[name], tuple(names[i:])))
    return steps


def guide(logits: Tensor, without: Tensor, scales: Sequence[Sequence[float]]) -> Tensor:
    """Return guided logits; rows that are not guided stay as they are.

    Args:
        logits: After whole prompts, `[n, …, V]`, -inf where an id is impossible.
        without: After the prompts of all steps, `[steps, …, V]`: the first row's, the second row's, …
        scales: Of the steps of each row, n lists.
    """
    guided = [i for i, of_row in enumerate(scales) if of_row]
    if not guided:
        return logits
    firsts = itertools.accumulate((len(of_row) for of_row in scales), initial=0)
    starts = dict(enumerate(firsts))
    stages = torch.cat([without, logits[guided]]).float().log_softmax(dim=-1)
    # Of each guided row the places in `stages`, from the emptiest prompt to the whole one.
    chains = [[*range(starts[i], starts[i + 1]), len(without) + j] for j, i in enumerate(guided)]
    moved = stages[[chain[0] for chain in chains]]
    for step in range(max(map(len, chains)) - 1):
        rows = [j for j, chain in enumerate(chains) if len(chain) > step + 1]
        before, after = (stages[[chains[j][place] for j in rows]] for place in (step, step + 1))
        scale = torch.tensor([scales[guided[j]][step] for j in rows], device=logits.device)
        moved[rows] += scale.reshape(-1, *[1] * (logits.ndim - 1)) * (after - before)
    out = logits.float().clone()
    out[guided] = moved.masked_fill(logits[guided] == -torch.inf, -torch.inf)  # not NaN where neither may be drawn
    return out


def guide_chain(logits: Tensor, scales: Tensor) -> Tensor:
    """Return guided logits of rows that have equally many steps, without looking at what the scales are.

    Args:
        logits: After the emptiest prompt, …, after the whole one, `[n, steps + 1, V]`, finite.
        scales: `[n, steps]`.

    Returns:
        `[n, V]`.
    """
    if not scales.shape[1]:
        return logits[:, 0]
    stages = logits.log_softmax(dim=-1)
    return stages[:, 0] + (scales[..., None] * stages.diff(dim=1)).sum(dim=1)
