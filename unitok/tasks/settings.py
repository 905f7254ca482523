"""Settings of generation, as cards, callers and the engine know them: how ids are drawn, and a task's limits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

from unitok.errors import GenerationError

__all__ = ["Filters", "GenerateDefaults", "Sampling", "check_ranges", "out_of_range"]

LEAST_TEMPERATURE = 1e-6
"""Below, the likeliest id has all the probability that float32 can tell, and logits divided by it overflow."""


class Filters(NamedTuple):
    """What `generation.sampling.filter_logits` takes."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float


@dataclass(frozen=True)
class Sampling:
    """How the ids of one row are drawn."""

    temperature: float = 0.8
    """Divides the logits: below 1 is safer, above 1 is wilder; 0 is the same as `greedy`."""
    top_k: int = 50
    """Only the k most likely ids are drawn; 0 means all."""
    top_p: float = 1.0
    """Only the most likely ids that together hold this much probability are drawn; 1 means all."""
    greedy: bool = False
    """Always take the most likely id."""
    min_p: float = 0.0
    """Only ids at least this likely, relative to the likeliest, are drawn; 0 means all (arXiv:2407.01082)."""
    repetition_window: int = 0
    """Of audio and semantic tokens: look this many positions back for repetitions; 0 is off (`is_repeated`)."""
    repetition_threshold: float = 0.1
    """Share of the window that an id may fill before it counts as repeated."""
    codebook_temperatures: tuple[float, ...] = ()
    """Temperatures of codebooks 0, 1, … of audio in place of `temperature`; the last stands for all after it."""
    refine_passes: int = 16
    """Passes of a refiner with masked refinement over its first codebook; the others take one (arXiv:2305.09636)."""
    beams: int = 1
    """Of a task that makes one text: follow so many and take the likeliest (beam search); 1 draws."""
    length_penalty: float = 1.0
    """Texts of a beam search are compared by log-probability / length ** length_penalty."""
    word_weight: float = 0.0
    """What likely words count in a beam search, where the model has words of the language (`tokenizers.word_model`)."""

    def __post_init__(self) -> None:
        """Check types and ranges (settings come from manifests too).

        Raises:
            GenerationError: If a setting cannot be used.
        """
        check_ranges(vars(self))
        object.__setattr__(self, "codebook_temperatures", tuple(self.codebook_temperatures))

    def filters(self, codebook: int | None = None) -> Filters:
        """Return what `filter_logits` takes, with greedy written as top-1; of a codebook, with its own temperature."""
        temperature = self.temperature
        if codebook is not None and self.codebook_temperatures:
            temperature = self.codebook_temperatures[min(codebook, len(self.codebook_temperatures) - 1)]
        if self.greedy or temperature < LEAST_TEMPERATURE:
            return Filters(1.0, 1, 1.0, 0.0)
        return Filters(temperature, self.top_k, self.top_p, self.min_p)

    def is_repeated(self, drawn: int, past: Sequence[int], codebook: int | None = None) -> bool:
        """Is an id drawn too often of late, so that it has to be drawn anew, from all ids at this temperature?

        A loop is left that way, and what is likely in itself may still come again. Greedy rows take what they take.

        Args:
            drawn: The id.
            past: Those before it.
            codebook: Which codebook it is of; None: of semantic tokens.

        Source: repetition-aware sampling of VALL-E 2 (arXiv:2406.05370), section 3.2.
        """
        window = self.repetition_window
        if not window or len(past) < window or self.filters(codebook).top_k == 1:
            return False
        return list(past[-window:]).count(drawn) / window > self.repetition_threshold


@dataclass(frozen=True)
class GenerateDefaults(Sampling):
    """How a task generates unless the caller says otherwise (card key `generate`)."""

    seconds_per_character: float | None = None
    """Audio that a character of the text takes on average, in s; what came out is compared with it."""
    min_seconds_per_character: float | None = None
    """Shortest audio for each character of the text, in s."""
    max_seconds_per_character: float | None = None
    """Longest audio for each character of the text, in s."""
    max_seconds: float | None = None
    """Longest audio, in s."""
    max_characters: int | None = None
    """Longest text accepted, in characters."""
    max_text_tokens: int | None = None
    """Longest text generated, in text tokens."""
    window_seconds: float | None = None
    """Longest audio of one request when a long recording is heard in windows, in s (`unitok.long_form`)."""
    guidance: float | Mapping[str, float] = 1.0
    """Classifier-free guidance by the `guided` conditions (`generation.guidance`): how far to move from the logits
    without them to those with them, and beyond above 1; 1 is off. One number for all, or one for each by name."""
    best_of: int = 1
    """Make so many and keep the one whose text the task `checked_by` finds likeliest; for tasks from text to audio."""

    def to_card(self) -> dict[str, Any]:
        """Return the settings as a card has them."""
        values = {key: value for key, value in dataclasses.asdict(self).items() if value is not None and value != ()}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def out_of_range(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name each setting whose value cannot be used, with what it must be."""
    for name, value in settings.items():
        if name in _RANGES and not _RANGES[name].allows(value):
            yield name, _RANGES[name].wanted


MOST_GUIDANCE, DAY_S = 1000, 86400


def check_ranges(settings: Mapping[str, Any]) -> None:
    """Refuse settings whose values cannot be used.

    Raises:
        GenerationError: At the first of them.
    """
    for name, wanted in out_of_range(settings):
        raise GenerationError(f"{name} is {settings[name]!r}; it must be {wanted}.")


class _Range(NamedTuple):
    allows: Callable[[Any], bool]
    wanted: str


def _is(kind: type, value: object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _at_least(least: int, wanted: str) -> _Range:
    return _Range(lambda value: _is(Integral, value) and value >= least, f"a whole number, {wanted}")


def _number(allows: Callable[[Any], bool], wanted: str) -> _Range:
    return _Range(lambda value: _is(Real, value) and math.isfinite(value) and allows(value), f"a number{wanted}")


def _optional(one: _Range) -> _Range:
    return _Range(lambda value: value is None or one.allows(value), one.wanted)


def _is_temperature(value: Any) -> bool:
    return _is(Real, value) and 0 <= value < math.inf


def _is_guidance(value: Any) -> bool:
    scales = value.values() if isinstance(value, Mapping) else [value]
    return all(_is_temperature(scale) and scale <= MOST_GUIDANCE for scale in scales)


_RANGES = {
    "temperature": _Range(_is_temperature, "a number, 0 (greedy) or more"),
    "top_k": _at_least(0, "0 (all ids) or more"),
    "top_p": _number(lambda value: 0 < value <= 1, ", more than 0, at most 1 (all ids)"),
    "greedy": _Range(lambda value: isinstance(value, bool), "true or false"),
    "min_p": _number(lambda value: 0 <= value <= 1, " from 0 (all ids) to 1"),
    "repetition_window": _at_least(0, "0 (off) or more"),
    "repetition_threshold": _number(lambda value: 0 <= value <= 1, " from 0 to 1"),
    "codebook_temperatures": _Range(
        lambda value: isinstance(value, Sequence) and not isinstance(value, str) and all(map(_is_temperature, value)),
        "a list of numbers, 0 (greedy) or more",
    ),
    "refine_passes": _at_least(1, "1 or more"),
    "beams": _at_least(1, "1 (no beam search) or more"),
    "length_penalty": _number(lambda _: True, ""),
    "word_weight": _number(lambda value: value >= 0, ", 0 (off) or more"),
    "best_of": _at_least(1, "1 or more"),
    "batch_size": _at_least(1, "1 or more"),
    "max_seconds": _optional(_number(lambda value: 0 < value <= DAY_S, f" above 0, at most {DAY_S} (a day)")),
    "max_text_tokens": _optional(_at_least(1, "1 or more")),
    "window_seconds": _optional(_number(lambda value: 0.5 <= value <= 300, " from 0.5 to 300")),
    "characters": _at_least(1, "1 or more"),
    "pause_seconds": _number(lambda value: 0 <= value <= 60, " from 0 to 60"),
    "chunk_seconds": _number(lambda value: value > 0, " above 0"),
    "look_ahead_seconds": _optional(_number(lambda value: value >= 0, ", 0 or more")),
    "refine_seconds": _number(lambda value: value > 0, " above 0"),
    "refine_ahead_seconds": _number(lambda value: value >= 0, ", 0 or more"),
    "guidance": _Range(
        _is_guidance,
        f"a number from 0 to {MOST_GUIDANCE}: 1 is off, 1.5 to 3 are usual; or one for each guided condition, "
        "{text: 1.75, voice: 1.3}",
    ),
}
