"""What may come next: a small state machine per row, and the sets of legal ids of slot 0 that it names.

    <kind> content content … </kind>   <kind> … </kind>   <eos>
    ^^^^^^ forced                      ^^^^^^ forced      ^^^^^ forced
           ^^^^^^^ ids of the kind, and </kind> once there is enough; only </kind> at the limit

In audio, a pattern may leave slot 0 empty between two frames, and holds it at </audio> until the other slots are
through: forced, too. Slot k holds ids of `audio.k` only, which the model's heads guarantee. A model that spells its
markers (`unitok.markers`) has other rows there, none or several; an end may be a frame, known when it is complete.

Letters: V size of the joint vocabulary, T frames, K codebooks (slots).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from unitok.errors import GenerationError
from unitok.generation.lengths import SHORTEST_AUDIO_LIMIT_S, TargetLength
from unitok.markers import Markers, Row
from unitok.pattern import Pattern
from unitok.sequence import Rates
from unitok.tasks import Task
from unitok.tasks.settings import check_ranges
from unitok.vocabulary import Vocabulary

__all__ = ["Grammar", "LegalIds", "State", "StopReason", "TargetPlan", "plan_targets"]

StopReason = Literal["end", "limit"]

DEFAULT_MAX_SECONDS = 30.0
# Where only the length of a text limits the audio: no more than this, whatever the text.
LONGEST_MAX_SECONDS = 300.0
DEFAULT_MAX_TEXT_TOKENS = 256
CONTENT_BLOCK = {"audio": "audio.0", "text": "text", "label": "text", "semantic": "semantic"}


class State(NamedTuple):
    """Where a row stands inside a target."""

    kind: str
    """Kind of the target being filled."""
    content: bool
    """May more content follow? False at the limit."""
    end: bool
    """May the end marker follow? False while the target is shorter than its minimum."""


@dataclass(frozen=True)
class TargetPlan:
    """One target to generate: what it is and how long it may get."""

    name: str
    """Name of the target, from the task's card."""
    kind: str
    """`audio`, `text`, `label` or `semantic`."""
    max_length: int
    """Most positions (codec frames, text tokens) between the markers."""
    min_length: int = 0
    """Fewest positions between the markers."""
    per_character: float | None = None
    """Positions allowed per character of the nearest text before the target (a condition or an earlier target)."""
    shortest_limit: int = 1
    """`per_character` never lowers the limit below this many positions."""
    least_per_character: float = 0.0
    """Fewest positions per character of that text, as far as the limit allows."""
    expected_per_character: float | None = None
    """Positions that a character of that text takes on average; only reported."""
    fixed: bool = False
    """Is it to be exactly `max_length` long, so that nothing is cut there?"""
    rate_hz: float | None = None
    """Positions in one second; None where their number tells no time."""

    def limit(self, n_characters: int | None) -> int:
        """Return the most positions after a text of `n_characters` (None: there is no text)."""
        if self.per_character is None or n_characters is None:
            return self.max_length
        return min(self.max_length, max(self.shortest_limit, math.ceil(self.per_character * n_characters)))

    def least(self, n_characters: int | None) -> int:
        """Return the fewest positions after a text of `n_characters` (None: there is no text)."""
        least = max(self.min_length, math.ceil(self.least_per_character * (n_characters or 0)))
        return min(least, self.limit(n_characters))

    def measured(self, length: int, n_characters: int | None, cut: bool) -> TargetLength:
        """Return how long a target with a `rate_hz` got, beside what was expected.

        Args:
            length: Positions between the markers.
            n_characters: Of the text before it.
            cut: Was it ended at its limit?
        """
        rate_hz, expected = self.rate_hz or 1.0, self.expected_per_character
        if n_characters is not None and expected is not None:
            expected = round(n_characters * expected / rate_hz, 3)
        return TargetLength(
            self.name,
            length / rate_hz,
            cut,
            self.limit(n_characters) / rate_hz,
            self.least(n_characters) / rate_hz if self.least_per_character else None,
            n_characters,
            None if n_characters is None else expected,
        )


def plan_targets(
    task: Task,
    rates: Rates,
    *,
    max_seconds: float | None = None,
    max_text_tokens: int | None = None,
    lengths_s: Mapping[str, float] | None = None,
) -> list[TargetPlan]:
    """Return how to generate each target of a task, with the limits of its card.

    Args:
        task: The task; `task.generate` holds the card's limits.
        rates: Frames per second.
        max_seconds: Replaces the card's limit on each audio target, in seconds, per character or not.
        max_text_tokens: Replaces the card's limit on each text target.
        lengths_s: Of conditions, for targets that last as long as one of them.

    Raises:
        GenerationError: If a limit leaves no room, or a target's kind cannot be generated.
    """
    check_ranges({"max_seconds": max_seconds, "max_text_tokens": max_text_tokens})
    defaults = task.generate
    plans = []
    for target in task.targets:
        if target.kind not in CONTENT_BLOCK:
            allowed = ", ".join(CONTENT_BLOCK)
            raise GenerationError(
                f"Task '{task.name}': target '{target.name}' is of kind '{target.kind}', which cannot be generated. "
                f"Kinds that can: {allowed}."
            )
        if target.kind in ("audio", "semantic"):
            per_character = defaults.max_seconds_per_character if max_seconds is None else None
            unstated = LONGEST_MAX_SECONDS if per_character else DEFAULT_MAX_SECONDS
            seconds = max_seconds or defaults.max_seconds or unstated
            usual = defaults.seconds_per_character
            rate, timed = rates.of(target.kind), not (target.kind == "semantic" and rates.deduplicated)
            plan = TargetPlan(
                target.name,
                target.kind,
                max_length=max(1, math.floor(seconds * rate)),
                min_length=1,
                per_character=per_character and per_character * rate,
                shortest_limit=math.ceil(SHORTEST_AUDIO_LIMIT_S * rate),
                least_per_character=(defaults.min_seconds_per_character or 0.0) * rate if timed else 0.0,
                expected_per_character=usual and usual * rate,
                rate_hz=rate if timed else None,
            )
            if (wanted := (lengths_s or {}).get(target.same_length_as)) is not None:
                n = round(wanted * rate)
                fixed = max_seconds is None or n <= plan.max_length
                n = n if fixed else plan.max_length
                plan = TargetPlan(
                    target.name, target.kind, max_length=n, min_length=n, rate_hz=plan.rate_hz, fixed=fixed
                )
        else:
            limit = max_text_tokens or defaults.max_text_tokens or DEFAULT_MAX_TEXT_TOKENS
            plan = TargetPlan(target.name, target.kind, max_length=limit)
        plans.append(plan)
    return plans


@dataclass
class Grammar:
    """Follows one row through its targets, from the first start marker to `<eos>`."""

    plans: Sequence[TargetPlan]
    """The targets, in order."""
    vocabulary: Vocabulary
    """What ids mean."""
    pattern: Pattern
    """Where the codes of audio stand."""
    count_characters: Callable[[list[int]], int]
    """Characters that the ids of a text target spell, for the limits of audio targets after it."""
    n_characters: int | None = None
    """Characters of the text that came last; None while there was none."""
    index: int = 0
    """The target being generated, or the one whose start marker comes next."""
    contents: list[int] = field(default_factory=list)
    """Slot-0 ids of the current target so far, without its markers."""
    n_frames: int | None = None
    """Frames T of the current target once slot 0 has ended it; the other slots may not be through."""
    inside: bool = False
    """Are we between the markers of a target?"""
    done: bool = False
    """Has `<eos>` come?"""
    hit_limit: bool = False
    """Did any target end because it reached its limit?"""
    lengths: list[TargetLength] = field(default_factory=list)
    """Of the targets that have ended and last a time."""
    markers: Markers | None = None
    """How markers are spelled; None means each as its own id."""
    closing: bool = False
    """Are the rows to come those of an end marker?"""
    pending: tuple[Row, ...] | None = None
    """Rows of a marker still to come; None before the first target."""

    def __post_init__(self) -> None:
        """Begin with the first target."""
        if self.pending is None:
            self._expect(self._markers.start(self.plans[0].kind))

    @property
    def is_over(self) -> bool:
        """Has the last target ended, so that nothing but markers is to come?"""
        return self.index + self.closing == len(self.plans)

    @property
    def forced_row(self) -> Row | None:
        """The only row that may come, or its slot 0 where the other slots are open; None where the model decides."""
        if self.pending:
            return self.pending[0]
        if self.n_frames is not None:
            return (self.end_id,)
        if len(self.contents) % self._stride:
            return (self.vocabulary.empty_id,)
        return self._end_row if len(self._end_row) > 1 and not self.state.content else None

    @property
    def forced_id(self) -> int | None:
        """Slot 0 of `forced_row`, or None where the model decides."""
        return None if self.forced_row is None else self.forced_row[0]

    @property
    def end_id(self) -> int:
        """The id of slot 0 with which the end marker of the current target begins."""
        return self._end_row[0]

    @property
    def codes(self) -> Sequence[int]:
        """Slot-0 ids of the current target so far, without rows that a pattern leaves empty."""
        return self.contents[:: self._stride]

    @property
    def state(self) -> State:
        """What may come next inside the current target."""
        plan = self.plans[self.index]
        length = len(self.contents) // self._stride
        at_limit = length >= plan.limit(self.n_characters)
        return State(plan.kind, content=not at_limit, end=length >= plan.least(self.n_characters))

    @property
    def max_positions(self) -> int:
        """Most positions still to come, markers included; called before the first target."""
        markers = self._markers
        n_characters, total = self.n_characters, len(markers.rows("<eos>"))
        for plan in self.plans:
            longest = plan.limit(n_characters)
            total += self.pattern.n_rows(longest) if plan.kind == "audio" else longest
            total += len(markers.start(plan.kind)) + len(markers.end(plan.kind))
            n_characters = None if plan.kind == "text" else n_characters
        return total

    @property
    def stop_reason(self) -> StopReason:
        """Why the row ended: the model closed every target (`end`), or one was cut (`limit`)."""
        return "limit" if self.hit_limit else "end"

    def slots(self, token: int) -> list[int]:
        """Return which of the slots 1 … K-1 hold codes beside `token`, the id of slot 0 of the position to come."""
        if not self.inside or self.plans[self.index].kind != "audio":
            return []
        return self.pattern.slots(len(self.contents), self._frames_at_end if self.ends((token,)) else None)

    def ends(self, row: Row) -> bool:
        """Is a row, or what there is of it, the end of the current target?

        A frame ends nothing where the target may not end yet.
        """
        return row == self._end_row and (len(row) == 1 or self.state.end)

    def advance(self, token: int, *others: int) -> None:
        """Take the row that was chosen or forced: the id of slot 0, and of the others where an end may be a frame."""
        if self.pending:
            assert token == self.forced_id, f"got id {token}, only {self.forced_id} may come here"
            self._expect(self.pending[1:])
            return
        plan = self.plans[self.index]
        if not self.ends((token, *others)[: len(self._end_row)]):
            self.contents.append(token)
            return
        if self.n_frames is None:
            cut = not (self.state.content or plan.fixed)
            self.hit_limit |= cut
            if plan.rate_hz is not None:
                length = len(self.contents) // self._stride
                self.lengths.append(plan.measured(length, self.n_characters, cut))
        if plan.kind == "audio":
            self.n_frames = self._frames_at_end
            if len(self.contents) < self.pattern.n_rows(self.n_frames):
                self.contents.append(token)
                return
        if plan.kind == "text":
            self.n_characters = self.count_characters(self.contents)
        self.inside, self.closing, self.contents, self.n_frames = False, True, [], None
        self._expect(self._markers.end(plan.kind)[1:])

    def _expect(self, rows: tuple[Row, ...]) -> None:
        """Wait for rows of a marker; after the last go on to what follows it."""
        self.pending = rows
        if rows:
            return
        if self.closing:
            self.index, self.closing = self.index + 1, False
            is_last = self.index == len(self.plans)
            self._expect(self._markers.rows("<eos>") if is_last else self._markers.start(self.plans[self.index].kind))
        elif self.index < len(self.plans):
            self.inside = True
        else:
            self.done = True

    @property
    def _markers(self) -> Markers:
        return self.markers or Markers(self.vocabulary)

    @property
    def _end_row(self) -> Row:
        return self._markers.end(self.plans[self.index].kind)[0]

    @property
    def _stride(self) -> int:
        """Positions from one decision of slot 0 to the next."""
        return self.pattern.stride if self.plans[self.index].kind == "audio" else 1

    @property
    def _frames_at_end(self) -> int:
        """Frames T, where slot 0 ends them with this position or has done so."""
        return len(self.contents) // self._stride if self.n_frames is None else self.n_frames


class LegalIds:
    """The legal ids of slot 0 as masks `[V]`, one per state, made once and kept."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        text_size: int | None = None,
        device: torch.device | str = "cpu",
        markers: Markers | None = None,
    ) -> None:
        """Keep the vocabulary.

        Args:
            vocabulary: Its blocks are what each kind may draw from.
            text_size: Ids that the text tokenizer can spell; None means all of the text block.
            device: Where the masks live.
            markers: How markers are spelled; None means each as its own id.
        """
        self.markers = markers or Markers(vocabulary)
        self.vocabulary = vocabulary
        self.text_size = text_size
        self.device = device
        self._masks: dict[State, Tensor] = {}

    def mask(self, state: State) -> Tensor:
        """Return a bool mask `[V]`, True where an id may be drawn in `state`."""
        if state not in self._masks:
            mask = torch.zeros(self.vocabulary.size, dtype=torch.bool)
            if state.content:
                block = CONTENT_BLOCK[state.kind]
                ids = self.vocabulary.ids_of(block)
                mask[ids[: self.text_size] if block == "text" else ids] = True
            if state.end:
                mask[self.markers.end_id(state.kind)] = True
            self._masks[state] = mask.to(self.device)
        return self._masks[state]
