"""One id for each row: guided by its shadows, legal, filtered, drawn; natively where that can be (`unitok.kernels`).

Letters: n rows, R rows and their shadows, V ids.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unitok import kernels
from unitok.generation.guidance import guide
from unitok.generation.sampling import filter_logits, sample_by, uniform_numbers
from unitok.tasks.settings import Filters

__all__ = ["choose"]


def choose(
    logits: Tensor,
    scales: Sequence[Sequence[float]],
    legal: Tensor | None,
    filters: Sequence[Filters],
    generators: Sequence[torch.Generator],
) -> tuple[Tensor, Tensor]:
    """Draw one id for each row.

    Args:
        logits: Of the rows, then of the first one's shadows, the second's …, `[R, V]`.
        scales: Of guidance, for each row one for each of its shadows.
        legal: What may be drawn, bool `[n, V]`; None means all.
        filters: How, for each row.
        generators: Of random numbers, one for each row.

    Returns:
        Ids `[n]`, int64, and their log-probabilities `[n]`, float32: by the rows' own logits, of all ids, at
        temperature 1 and without filters; NaN where the model said NaN.
    """
    settings, uniform = torch.tensor(filters, dtype=torch.float32), uniform_numbers(generators)
    drawn = kernels.draw(logits, scales, legal, settings, uniform)
    if drawn is not None:
        return drawn
    n = len(scales)
    guided = guide(logits[:n], logits[n:], scales)
    if legal is not None:
        guided = guided.masked_fill(~legal, -torch.inf)
    temperature, top_k, top_p, min_p = settings.unbind(dim=1)
    ids = sample_by(filter_logits(guided, temperature, top_k.long(), top_p, min_p), uniform.to(logits.device))
    return ids, logits[:n].float().log_softmax(dim=-1).gather(1, ids[:, None])[:, 0]
