"""What figures are read beside: what would be measured if something trivial, or nearly perfect, had been made.

reference   the reference itself: the best that can be measured, of audio (a recogniser mishears that too)
codec       the reference through the model's codec: the best that its tokens can say
copy        the condition of the target's kind, unchanged: noisy speech for clean, the source for its translation
majority    the commonest reference for every item
shuffled    the reference of the next item
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from unitok.audio import Audio
from unitok.errors import DataError, suggest
from unitok.evaluation.outcomes import Outcome
from unitok.tasks import Field, Task

__all__ = ["BASELINES", "baseline", "baselines_of", "check_baselines"]

BASELINES = ("reference", "codec", "copy", "majority", "shuffled")
WRITTEN = ("text", "label")


def check_baselines(names: Sequence[str], model: Any = None) -> tuple[str, ...]:
    """Return the names without repetition.

    Raises:
        DataError: If one is unknown, or needs a model and there is none.
    """
    if "codec" in names and model is None:
        raise DataError("baseline 'codec' sends the references through the codec of a model: give --model.")
    for name in names:
        if name not in BASELINES:
            raise DataError(
                f"there is no baseline '{name}'.{suggest(name, BASELINES)} There are: {', '.join(BASELINES)}."
            )
    return tuple(dict.fromkeys(names))


def baselines_of(task: Task) -> tuple[str, ...]:
    """Return the baselines that say something about a task and cost little."""
    kinds = {one.kind for one in task.targets}
    says = {
        "reference": "audio" in kinds,
        "copy": any(_copied(task, one) for one in task.targets),
        "majority": "label" in kinds,
    }
    return tuple(name for name, meaningful in says.items() if meaningful)


def baseline(name: str, task: Task, outcomes: Sequence[Outcome], model: Any = None) -> list[Outcome]:
    """Return the outcomes as they would be if the baseline had made them; targets without one are left out."""
    made: list[dict[str, Any]] = [{} for _ in outcomes]
    for target in task.targets:
        right = [outcome.reference.get(target.name) for outcome in outcomes]
        for values, value in zip(made, _made(name, task, target, outcomes, right, model), strict=True):
            if value is not None:
                values[target.name] = value
    return [
        dataclasses.replace(outcome, generated=values, scores=None, rank=None, likelihood=None, heard={})
        for outcome, values in zip(outcomes, made, strict=True)
    ]


def _made(
    name: str, task: Task, target: Field, outcomes: Sequence[Outcome], right: Sequence[Any], model: Any
) -> Sequence[Any]:
    if name == "copy":
        source = _copied(task, target)
        return [outcome.reference.get(source) if source else None for outcome in outcomes]
    if name == "majority":
        texts = Counter(value for value in right if isinstance(value, str) and target.kind in WRITTEN)
        return [texts.most_common(1)[0][0] if texts else None] * len(outcomes)
    if name == "shuffled":
        return [*right[1:], *right[:1]]
    if name == "codec" and target.kind == "audio":
        pairs = zip(outcomes, right, strict=True)
        return [None if value is None else _coded(outcome.audio(value), model) for outcome, value in pairs]
    return right if name == "reference" else [None] * len(right)


def _copied(task: Task, target: Field) -> str | None:
    """Return the condition that would be copied: of the target's kind, and no prompt."""
    if target.kind == "label":
        return None
    alike = (c for c in task.conditions if c.kind == target.kind and not c.repeated)
    return next((c.name for c in alike if c.source is None), None)


def _coded(audio: Audio, model: Any) -> Audio:
    import torch

    codec = model.tokenizers.audio
    with torch.inference_mode():
        codes = codec.encode(audio.samples[None], audio.sample_rate_hz).codes
        wav = codec.decode(codes[:, : model.vocabulary.n_codebooks])[0].float().cpu()
    n = round(audio.duration_s * codec.sample_rate_hz)
    return Audio(wav[:, :n].clone(), codec.sample_rate_hz)
