"""Many requests side by side, where one that fails does not take the others with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unitok.errors import UnitokError

if TYPE_CHECKING:
    from unitok.api import Model
    from unitok.generation.engine import GenerationRequest
    from unitok.generation.pipelines import PipelineRequest
    from unitok.generation.results import Generation

__all__ = ["run_each"]


def run_each(
    model: Model, requests: Sequence[GenerationRequest | PipelineRequest], **options: Any
) -> list[Generation | UnitokError]:
    """Carry out requests at once; if that fails, one by one, so that only the guilty one fails.

    Args:
        model: The model.
        requests: What `Model.request` returned.
        **options: Those of `Model.run`.

    Returns:
        For each request what was made, or why nothing was.
    """
    if not requests:
        return []
    try:
        return list(model.run(requests, **options))
    except UnitokError as error:
        if len(requests) == 1:
            return [error]
        return [result for request in requests for result in run_each(model, [request], **options)]
