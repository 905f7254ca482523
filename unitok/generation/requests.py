"""What a caller asks for, checked before any work: names of conditions, settings, recordings, candidates to score.

Pure functions of a task's card; turning values into codes is `unitok.api`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from unitok.audio import Audio
from unitok.errors import GenerationError, suggest
from unitok.tasks import Field, Sampling, Task
from unitok.tasks.settings import check_ranges
from unitok.vocabulary import KINDS

__all__ = [
    "asked_text",
    "candidates",
    "check_conditions",
    "check_settings",
    "guidance_scales",
    "sampling",
    "sampling_per_kind",
    "used_audio",
    "with_task",
]

# Longer recordings than this in one sequence are a mistake or a job for cutting, not for one attention.
LONGEST_CONDITION_S = 300.0
SETTINGS = tuple(field.name for field in fields(Sampling))
OTHER_SETTINGS = (
    "lang", "seed", "guidance", "max_seconds", "max_text_tokens", "answers", "regex", "instruction", "per_kind",
)  # fmt: skip


def check_conditions(task: Task, conditions: Mapping[str, Any], targets: Mapping[str, Any] | None = None) -> None:
    """Refuse conditions that are unknown, missing or too long.

    Args:
        task: The task.
        conditions: What was given, by name; None means not given.
        targets: What was given for the targets, where they have to be given too (`Model.score`).

    Raises:
        GenerationError: At the first of them.
    """
    names = [field.name for field in task.conditions]
    kinds = {field.name: field.kind for field in task.fields}
    allowed = names + (list(targets) if targets is not None else [])
    for name, value in conditions.items():
        if name not in names:
            what = "is what it makes, not a condition" if name in kinds else "is no condition of it"
            raise GenerationError(
                f"task '{task.name}': '{name}' {what}.{suggest(name, allowed)} "
                f"It takes: {', '.join(allowed) or 'nothing'}."
            )
        if isinstance(value, str) and kinds[name] == "text" and not value.strip():
            raise GenerationError(f"task '{task.name}': '{name}' is empty. Give a text.")
        limit = task.generate.max_characters
        for one in value if isinstance(value, list) else [value]:
            if limit is not None and isinstance(one, str) and kinds[name] == "text" and len(one) > limit:
                raise GenerationError(
                    f"task '{task.name}': '{name}' has {len(one)} characters, it may have {limit}. Split it."
                )
    for field in task.conditions:
        if field.needed and conditions.get(field.name) is None:
            raise GenerationError(
                f"task '{task.name}' needs '{field.name}' ({field.kind}). It takes: {', '.join(allowed)}."
            )
    for name, value in (targets or {}).items():
        if value is None:
            raise GenerationError(f"task '{task.name}': score needs candidates for its target '{name}'.")


def asked_text(task: Task, values: Mapping[str, Any]) -> str | None:
    """Return the text that comes last among the conditions, whatever it is spelled within; None where there is none."""
    given = [values.get(one.name, one.default) for one in task.conditions if one.kind == "text"]
    texts = [one for value in given for one in (value if isinstance(value, list) else [value]) if one is not None]
    return texts[-1] if texts else None


def sampling(task: Task, *given: Mapping[str, Any]) -> Sampling:
    """Return the card's settings, with those that are given (and not None) in their place, the last ones first.

    Raises:
        GenerationError: If a setting is unknown or out of range.
    """
    settings = {name: getattr(task.generate, name) for name in SETTINGS}
    for part in given:
        for name in part:
            if name not in SETTINGS:
                allowed = ", ".join(SETTINGS)
                raise GenerationError(f"unknown setting '{name}'.{suggest(str(name), SETTINGS)} Allowed: {allowed}.")
        chosen = {name: value for name, value in part.items() if value is not None}
        # Asking for a temperature is asking to sample, all codebooks at it. One text is drawn so, not searched for.
        asked = {"greedy": False, "codebook_temperatures": ()} if "temperature" in chosen else {}
        one_beam = {"beams": 1} if {"temperature", "greedy"} & chosen.keys() else {}
        settings |= {**asked, **one_beam, **chosen}
    return Sampling(**settings)


def check_settings(task: Task, settings: Mapping[str, Any]) -> None:
    """Refuse settings, all but texts' and conditions, that a request for a task would refuse.

    Raises:
        GenerationError: If one is unknown or out of range.
    """
    known = (*SETTINGS, *OTHER_SETTINGS, *(one.name for one in task.conditions))
    for name in settings:
        if name not in known:
            raise GenerationError(f"unknown setting '{name}'.{suggest(name, known)} Allowed: {', '.join(known)}.")
    drawn = {name: value for name, value in settings.items() if name in SETTINGS}
    sampling(task, drawn)
    sampling_per_kind(task, drawn, settings.get("per_kind") or {})
    guidance_scales(task, settings.get("guidance"))
    check_ranges({name: settings.get(name) for name in ("max_seconds", "max_text_tokens")})


def sampling_per_kind(
    task: Task, given: Mapping[str, Any], per_kind: Mapping[str, Mapping[str, Any]]
) -> dict[str, Sampling]:
    """Return settings for targets of some kinds: the card's, then `given`, then the kind's own.

    Raises:
        GenerationError: If a kind or a setting is unknown, or there are none.
    """
    if not isinstance(per_kind, Mapping) or not all(isinstance(own, Mapping) for own in per_kind.values()):
        raise GenerationError(f"per_kind is {per_kind!r}; it must be settings by kind: {{'text': {{'greedy': True}}}}.")
    for kind in per_kind:
        if kind not in KINDS:
            raise GenerationError(f"per_kind: '{kind}' is no kind.{suggest(kind, KINDS)} Kinds: {', '.join(KINDS)}.")
    return {kind: sampling(task, given, own) for kind, own in per_kind.items()}


def guidance_scales(task: Task, given: float | Mapping[str, float] | None) -> dict[str, float]:
    """Return the guidance of each guided condition, in the order of the card.

    Args:
        task: The task.
        given: One number for all, or numbers by name, 1 for the others; None: as the card says.

    Raises:
        GenerationError: If it is no such number, or names a condition that the card does not mark `guided`.
    """
    guidance = task.generate.guidance if given is None else given
    check_ranges({"guidance": guidance})
    guided = [field.name for field in task.conditions if field.guided]
    if not isinstance(guidance, Mapping):
        if given not in (None, 1) and not guided:
            raise GenerationError(
                f"task '{task.name}' cannot be guided: none of its conditions is 'guided' in the model's card. "
                "Leave guidance out."
            )
        return dict.fromkeys(guided, float(guidance))
    for name in guidance:
        if name not in guided:
            raise GenerationError(
                f"task '{task.name}' cannot be guided by '{name}': the model's card does not mark it 'guided'."
                f"{suggest(str(name), guided)} Guided: {', '.join(guided) or 'none'}."
            )
    return {name: float(guidance.get(name, 1.0)) for name in guided}


def candidates(task: Task, targets: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one dict of target values per candidate; a value that is no list stands for all.

    Raises:
        GenerationError: If lists are empty or differ in length.
    """
    lengths = {name: len(value) for name, value in targets.items() if isinstance(value, list)}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise GenerationError(f"task '{task.name}': lists of candidates have different lengths: {shown}.")
    n = next(iter(lengths.values()), 1)
    if n == 0:
        raise GenerationError(f"task '{task.name}': the list of candidates for '{next(iter(lengths))}' is empty.")
    return [{name: value[i] if name in lengths else value for name, value in targets.items()} for i in range(n)]


def used_audio(field: Field, value: Any) -> Audio:
    """Return the audio that a condition uses of one recording.

    Raises:
        GenerationError: If it is longer than a sequence can be.
    """
    audio = Audio.of(value)
    if field.max_seconds is not None:
        n_samples = round(field.max_seconds * audio.sample_rate_hz)
        audio = Audio(field.shortened(audio.samples, n_samples), audio.sample_rate_hz)
    if audio.duration_s > LONGEST_CONDITION_S:
        raise GenerationError(
            f"'{field.name}' lasts {audio.duration_s:.0f} s, at most {LONGEST_CONDITION_S:.0f} s fit in one "
            "sequence. Cut it into pieces."
        )
    return audio


def with_task(request: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Return a request of a batch by keyword.

    Raises:
        GenerationError: If it names no task.
    """
    if "task" not in request:
        raise GenerationError(f"request {index} names no task. Add 'task': {{'task': 'tts', 'text': …}}.")
    return {str(key): value for key, value in request.items()}
