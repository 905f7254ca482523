"""A request, how far it has come, and its result: everything about one row that must not depend on its neighbours.

Not here: the model (`engine.py`), what is legal (`constraints.py`).

Letters: B rows, K slots, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from unitok.errors import GenerationError
from unitok.generation.constraints import Grammar, StopReason, TargetPlan, plan_targets
from unitok.generation.guidance import GuidanceStep
from unitok.generation.lengths import TargetLength
from unitok.generation.refinement import Stretch
from unitok.generation.text_rules import TextRule
from unitok.generation.word_scores import WordScores
from unitok.markers import Markers, Row
from unitok.pattern import Pattern
from unitok.sequence import Rates, Segment, TokenSequence
from unitok.tasks import Task
from unitok.tasks.builder import INSTRUCTION
from unitok.tasks.settings import Filters, Sampling

__all__ = ["Continuation", "GenerationRequest", "GenerationResult"]


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt to continue."""

    prompt: TokenSequence
    """Everything before the first target, as `SequenceBuilder.build(…, targets=False)` makes it."""
    task: Task
    """Says which targets follow, and the limits of each."""
    sampling: Sampling = Sampling()
    """How ids are drawn."""
    per_kind: Mapping[str, Sampling] = field(default_factory=dict)
    """Other settings for targets of a kind (`text`, `audio`, …)."""
    seed: int = 0
    """Starts the row's random generator; the same seed gives the same tokens in any batch."""
    guidance: Sequence[GuidanceStep] = ()
    """Prompts without some guided conditions, the emptiest first, and what to make of their logits; empty is off."""
    max_seconds: float | None = None
    """Replaces the card's limits on audio targets, in s."""
    max_text_tokens: int | None = None
    """Replaces the card's limit on text targets."""
    text_rule: TextRule | None = None
    """What text and label targets may say."""
    words: WordScores | None = None
    """How likely words are in the language of a text that is searched for."""
    text: str | None = None
    """What is to be said, where the prompt spells it within something else (an instruction, a form)."""

    def __post_init__(self) -> None:
        """Check the limits.

        Raises:
            GenerationError: If they leave no room, a target of the task cannot be generated, or guidance is negative.
        """
        for step in self.guidance:
            if not 0 <= step.scale < math.inf:
                raise GenerationError(f"guidance is {step.scale}; it must be 0 or more: 1 is off, 1.5 to 3 are usual.")
        plans = self.plans()
        searched = [plan for plan in plans if self.sampling_of(plan.kind).beams > 1]
        if searched and (len(plans) > 1 or plans[0].kind not in ("text", "label")):
            made = ", then ".join(plan.kind for plan in plans)
            raise GenerationError(f"task '{self.task.name}' makes {made}; beams are for one text. Leave them out.")
        if searched and self.guidance:
            raise GenerationError("beams and guidance do not go together. Leave one of them out.")

    def sampling_of(self, kind: str) -> Sampling:
        """Return the settings for targets of a kind."""
        return self.per_kind.get(kind, self.sampling)

    def text_ids(self) -> list[int] | None:
        """Return the text-tokenizer ids of what is to be said: `text`, else the prompt's last one; None: nothing."""
        prompt = self.prompt
        if self.text is not None and prompt.text_tokenizer is not None:
            return prompt.text_tokenizer.encode(self.text)
        names = [one.name for one in prompt.segments if one.kind == "text" and one.name != INSTRUCTION.name]
        return prompt.text_ids(names[-1]) if names else None

    def plans(self) -> list[TargetPlan]:
        """Return what to generate, in order."""
        prompt, rates = self.prompt, self.prompt.rates or Rates(1.0, 1.0)
        wanted = {target.same_length_as for target in self.task.targets}
        lengths_s = {
            one.name: prompt.codes(one.name).shape[1] / rates.of(one.kind)
            for one in prompt.segments
            if one.name in wanted
        }
        limits = {"max_seconds": self.max_seconds, "max_text_tokens": self.max_text_tokens}
        return plan_targets(self.task, rates, **limits, lengths_s=lengths_s)


@dataclass(frozen=True)
class GenerationResult:
    """One prompt, continued to its `<eos>`."""

    sequence: TokenSequence
    """Prompt and all targets."""
    log_probability: float
    """Sum over the targets of log p(id | all before), natural logarithm, at temperature 1 and without filters: slot 0
    of contents and end markers, and the AR codebooks of frames."""
    stop: StopReason
    """`end`: the model closed every target. `limit`: one was cut at its longest."""
    lengths: tuple[TargetLength, ...] = ()
    """How long each audio and semantic target got, beside what the card expects."""


class Continuation:
    """One request on its way: its tokens so far and everything that must not depend on its neighbours."""

    def __init__(self, request: GenerationRequest, markers: Markers, pattern: Pattern) -> None:
        ids = request.text_ids()
        self.request = request
        self.tokens = list(request.prompt.tokens.cpu())
        self.segments: list[Segment] = []
        self.states: dict[str, list[Tensor]] = {}
        self.generator = torch.Generator().manual_seed(request.seed)
        # Codes that are refined early must not take random numbers from those that come after them.
        self.refining = torch.Generator().manual_seed(request.seed)
        self.log_probability = 0.0
        self.shadows = [list(step.without.tokens.cpu()) for step in request.guidance]
        self.shadow_states: list[dict[str, list[Tensor]]] = [{} for _ in self.shadows]
        self.grammar = Grammar(
            request.plans(),
            markers.vocabulary,
            pattern,
            lambda tokens: self._count_characters(markers.vocabulary.tokens_to_text(tokens)),
            None if ids is None else self._count_characters(ids),
            markers=markers,
        )
        self._markers = markers
        self._opened_at = len(self.tokens)
        self.max_positions = len(self.tokens) + self.grammar.max_positions

    @property
    def sampling(self) -> Sampling:
        """Settings for the target being generated."""
        return self.request.sampling_of(self.grammar.plans[self.grammar.index].kind)

    @property
    def guidance_scales(self) -> list[float]:
        """One for each shadow, the emptiest first."""
        return [step.scale for step in self.request.guidance]

    def filters(self, codebook: int | None) -> Filters:
        """Return the settings by which one slot is drawn; None is slot 0."""
        plan = self.grammar.plans[self.grammar.index]
        return self.sampling.filters((codebook or 0) if plan.kind == "audio" else None)

    def repeats(self, drawn: int) -> bool:
        """Was an id drawn for slot 0 that must be drawn anew?"""
        kind, grammar = self.grammar.plans[self.grammar.index].kind, self.grammar
        if kind not in ("audio", "semantic") or grammar.ends((drawn,)):
            return False
        return self.sampling.is_repeated(drawn, grammar.codes, 0 if kind == "audio" else None)

    def push_marker(self, ids: Row) -> None:
        """Append a position whose first slots hold `ids` and the rest nothing."""
        position = torch.zeros_like(self.tokens[0])
        position[: len(ids)] = torch.tensor(ids)
        self.push(position)

    def push_pending(self) -> None:
        """Append what is to come of a marker."""
        while self.grammar.pending:
            self.push_marker(self.grammar.pending[0])

    def opens_frame(self, token: int) -> bool:
        """Is `token`, drawn for slot 0, the first code of an audio frame?"""
        plan = self.grammar.plans[self.grammar.index]
        return plan.kind == "audio" and not self.grammar.ends((token,))

    def push(self, position: Tensor) -> None:
        """Append one position `[K]`, and note a target that ends with it."""
        index, plans = self.grammar.index, self.grammar.plans
        self.tokens.append(position)
        for shadow in self.shadows:
            shadow.append(position)
        self.grammar.advance(*position.tolist())
        if index < self.grammar.index:
            self.segments.append(self._segment(plans[index]))
        if self.grammar.is_over:
            self.push_pending()  # no target follows: the model need not see it

    def content_start(self, index: int) -> int:
        """Return where the content of a target begins: one that has ended, or the present one."""
        if index < len(self.segments):
            return self.segments[index].content.start
        return len(self.tokens) - len(self.grammar.contents)

    def known(self, index: int, start: int, stop: int | None = None) -> Tensor:
        """Return what is known of a target from frame or id `start` (to `stop`) on.

        Returns:
            Complete frames `[n, K]` of audio, slot 0 of other kinds, `[n, 1]`.
        """
        begin, ended, pattern = self.content_start(index), index < len(self.segments), self.grammar.pattern
        n_rows = self.segments[index].content.stop - begin if ended else len(self.grammar.contents)
        if self.grammar.plans[index].kind != "audio":
            ids = [int(row[0]) for row in self.tokens[begin + start : begin + n_rows]]
            return torch.tensor(ids, dtype=torch.long)[:, None]
        T = pattern.n_frames(n_rows) if ended else self.grammar.n_frames
        frames = range(start, pattern.n_known(n_rows, T) if stop is None else stop)
        K = range(pattern.n_codebooks)
        rows = [torch.stack([self.tokens[begin + pattern.row(k, t, T or 0)][k] for k in K]) for t in frames]
        return torch.stack(rows) if rows else torch.zeros(0, len(K), dtype=torch.long)

    def stretch(self, name: str, rows: slice, first: int, generator: torch.Generator | None = None) -> Stretch:
        """Return frames of an audio target to be refined.

        Args:
            name: Name of the target.
            rows: Where they are among the tokens.
            first: Number of the first of them within the target.
            generator: Of random numbers; default: the row's.
        """
        places = slice(first, first + rows.stop - rows.start)
        states = [torch.stack(of_row[name][places]) for of_row in (self.states, *self.shadow_states)]
        scales = [step.scale for step in self.request.guidance]
        grid = torch.stack(self.tokens[rows])
        return Stretch(grid, states, scales, self.request.sampling_of("audio"), generator or self.generator)

    def remember(self, states: dict[str, list[Tensor]], state: Tensor) -> None:
        """Keep the global state `[D]` of the last position if it is an audio frame, for the refiner."""
        if self.grammar.contents and self.grammar.plans[self.grammar.index].kind == "audio":
            states.setdefault(self.grammar.plans[self.grammar.index].name, []).append(state)

    def result(self) -> GenerationResult:
        """Return the finished sequence."""
        prompt = self.request.prompt
        segments = (*prompt.segments, *self.segments, *self._eos())
        sequence = replace(prompt, tokens=torch.stack(self.tokens), segments=segments, loss_weights=None)
        return GenerationResult(sequence, self.log_probability, self.grammar.stop_reason, tuple(self.grammar.lengths))

    def _segment(self, plan: TargetPlan) -> Segment:
        """Return the segment of a target that has just ended."""
        start, stop, self._opened_at = self._opened_at, len(self.tokens), len(self.tokens)
        n_before, n_after = len(self._markers.start(plan.kind)), len(self._markers.end(plan.kind))
        return Segment(plan.name, plan.kind, "target", start, stop, n_before=n_before, n_after=n_after)

    def _eos(self) -> list[Segment]:
        n_rows = len(self._markers.rows("<eos>"))
        return [Segment("<eos>", "control", "control", len(self.tokens) - n_rows, len(self.tokens))] if n_rows else []

    def _count_characters(self, ids: list[int]) -> int:
        """Return how many characters text-tokenizer ids spell; without a text tokenizer, how many there are."""
        tokenizer = self.request.prompt.text_tokenizer
        return len(tokenizer.decode(ids)) if tokenizer else len(ids)
