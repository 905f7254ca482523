"""The engine: continues prompts until their targets are complete, many rows side by side, each as if it were alone.

    prompt … <audio>   prefill, rows padded on the right
    c c c … </audio>   one global step a position; per frame one local step for each further AR codebook, or a head for
                       each further slot in a pattern without local stage
    refinement         codebooks Kc … K-1 of all frames at once, when every row is done; masked refinement takes several
                       passes over a codebook, and keeps the surest codes of each

A guided row has shadows: the same target after prompts without some guided conditions. All go through the model, and
ids of all codebooks are drawn from logits that `guidance.py` makes of theirs. Shadows stand behind all rows of a batch.

A row has its own length, grammar, sampling settings and random generator, and leaves the batch when it is done. Not
here: what is legal (`constraints.py`), how ids are drawn (`sampling.py`), what a prompt is (`tasks/builder.py`).

Letters: B rows, S positions, K slots, Kc AR codebooks, T frames, D width, V ids.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unitok.errors import GenerationError
from unitok.generation.beam import beam_search
from unitok.generation.constraints import Grammar, LegalIds, StopReason, TargetPlan, plan_targets
from unitok.generation.guidance import GuidanceStep, guide
from unitok.generation.lengths import TargetLength
from unitok.generation.sampling import filter_logits, sample
from unitok.generation.text_rules import TextRule
from unitok.kernels import attach, native_frame
from unitok.kernels.frame import NativeFrame
from unitok.markers import Markers, Row
from unitok.model.lm import UnitokLM
from unitok.model.refiner import masked_counts
from unitok.pattern import Pattern
from unitok.sequence import FeatureBatch, Rates, Segment, TokenSequence, collate_features
from unitok.tasks import Task
from unitok.tasks.settings import Filters, Sampling
from unitok.vocabulary import Vocabulary

__all__ = ["Engine", "GenerationRequest", "GenerationResult", "OnStep", "Progress"]


class Progress(NamedTuple):
    """How far a call of `Engine.generate` is."""

    n_done: int
    """Requests that are complete."""
    n_requests: int
    """Requests in all."""
    n_positions: int
    """Positions that the present batch has been continued by."""


OnStep = Callable[[Progress], None]


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


class Engine:
    """Generates with one language model."""

    def __init__(self, lm: UnitokLM, vocabulary: Vocabulary, text_size: int | None = None) -> None:
        """Keep the parts.

        Args:
            lm: The model; it is put into evaluation mode.
            vocabulary: What its ids mean.
            text_size: Ids that the text tokenizer can spell; None means the vocabulary's whole text block.
        """
        self.lm = lm.eval()
        self.vocabulary = vocabulary
        self.markers = Markers(vocabulary, lm.config.spelling)
        self.legal = LegalIds(vocabulary, text_size, device=self.device, markers=self.markers)
        self._frame: NativeFrame | None = None
        self._tokens_of_code = [vocabulary.ids_of(f"audio.{k}").to(self.device) for k in range(vocabulary.n_codebooks)]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.lm.parameters()).device

    @torch.inference_mode()
    def generate(
        self, requests: Sequence[GenerationRequest], batch_size: int = 16, on_step: OnStep | None = None
    ) -> list[GenerationResult]:
        """Continue prompts. Tasks, lengths and settings may differ from row to row.

        Args:
            requests: The prompts.
            batch_size: How many are worked on at once; has no influence on what comes out.
            on_step: Called after every position.

        Returns:
            One result per request, in order.

        Raises:
            GenerationError: If the batch size is not positive, or the model returns NaN.
        """
        if batch_size < 1:
            raise GenerationError(f"batch_size is {batch_size}; it must be 1 or more.")
        attach(self.lm)
        self._frame = native_frame(self.lm, self._tokens_of_code)
        rows = [_Row(request, self.markers, self.lm.pattern) for request in requests]
        drawn = [row for row in rows if row.sampling.beams == 1]
        for n_found, row in enumerate((row for row in rows if row.sampling.beams > 1), start=1):
            self._search(row)
            if on_step is not None:
                on_step(Progress(n_found, len(rows), len(row.tokens)))
        n_found = len(rows) - len(drawn)
        for start in range(0, len(drawn), batch_size):
            batch = drawn[start : start + batch_size]
            for n_positions, n_active in enumerate(self._continue(batch), start=1):
                if on_step is not None:
                    on_step(Progress(n_found + start + len(batch) - n_active, len(rows), n_positions))
            self._refine(batch)
        return [row.result() for row in rows]

    def _features(self, prompts: Sequence[TokenSequence]) -> dict[str, FeatureBatch]:
        return {name: part.to(self.device) for name, part in collate_features(prompts).items()}

    def _search(self, row: _Row) -> None:
        """Fill the one text target of a row by beam search."""
        row.push_pending()
        settings, prompt = row.sampling, torch.stack(row.tokens).to(self.device)
        legal = functools.partial(self._legal, rule=row.request.text_rule)
        ids, row.log_probability = beam_search(
            self.lm,
            prompt,
            row.grammar,
            legal,
            settings.beams,
            settings.length_penalty,
            self._features([row.request.prompt]),
        )
        for id in ids:
            row.push_marker((id,))

    def _continue(self, rows: list[_Row]) -> Iterator[int]:
        """Run the autoregressive part of a batch; after each position yield how many rows are not done."""
        shadows = [shadow for row in rows for shadow in row.shadows]
        prompt_lengths = torch.tensor([[len(t)] for t in [*(row.tokens for row in rows), *shadows]], device=self.device)
        for row in rows:
            row.push_pending()  # the first start marker goes through the model with the prompt
        prompts = [torch.stack(tokens) for tokens in [*(row.tokens for row in rows), *shadows]]
        last = torch.tensor([[len(prompt) - 1] for prompt in prompts], device=self.device)
        cache = self.lm.new_cache(len(prompts), max(row.max_positions for row in rows))
        tokens = pad_sequence(prompts, batch_first=True).to(self.device)
        positions = torch.arange(tokens.shape[1], device=self.device).expand(len(prompts), -1)
        features = self._features(
            [row.request.prompt for row in rows] + [step.without for row in rows for step in row.request.guidance]
        )
        hidden = self.lm.step(tokens, positions, cache, positions < prompt_lengths, features)
        # The states [B, D] at the last positions, which predict the first content.
        hidden = hidden.gather(1, last[:, :, None].expand(-1, -1, hidden.shape[2]))[:, 0]
        while True:
            self._choose(rows, hidden)
            unfinished = [i for i, row in enumerate(rows) if not row.grammar.done]
            yield len(unfinished)
            if not unfinished:
                return
            if len(unfinished) < len(rows):
                cache.keep(torch.tensor(_with_shadows(rows, unfinished), device=self.device))
                rows = [rows[i] for i in unfinished]
            shadows = [shadow for row in rows for shadow in row.shadows]
            tokens = torch.stack([tokens[-1] for tokens in [*(row.tokens for row in rows), *shadows]]).to(self.device)
            lengths = [len(tokens) for tokens in [*(row.tokens for row in rows), *shadows]]
            positions = torch.tensor(lengths, device=self.device)[:, None] - 1
            hidden = self.lm.step(tokens[:, None], positions, cache)[:, 0]
            for row, state in zip(rows, hidden[: len(rows)], strict=True):
                row.remember(row.states, state)
            of_shadows = iter(hidden[len(rows) :])
            for row in rows:
                for states in row.shadow_states:
                    row.remember(states, next(of_shadows))

    def _choose(self, rows: list[_Row], hidden: Tensor) -> None:
        """Give every row its next position, from the states of its last one, `[B + shadows, D]`."""
        positions = torch.zeros(len(rows), self.vocabulary.n_codebooks, dtype=torch.long)
        forced = [row.grammar.forced_row for row in rows]
        free = [i for i, ids in enumerate(forced) if ids is None]
        if free:
            legal = torch.stack([self._legal(rows[i].grammar, rows[i].request.text_rule) for i in free])
            logits = self.lm.slot0_logits(hidden[_with_shadows(rows, free)])
            positions[free, 0] = self._draw([rows[i] for i in free], logits, legal).cpu()
        for i, ids in enumerate(forced):
            if ids is not None:
                positions[i, : len(ids)] = torch.tensor(ids)
        if self.lm.slot_heads is not None:
            self._fill_slots(rows, hidden, positions)
        elif self.lm.n_coarse > 1:
            frames = [i for i in free if rows[i].opens_frame(int(positions[i, 0]))]
            if frames:
                states = hidden[_with_shadows(rows, frames)]
                coarse = self._fill_frames([rows[i] for i in frames], states, positions[frames, 0].to(self.device))
                positions[frames, : coarse.shape[1]] = coarse.cpu()
        for row, position in zip(rows, positions, strict=True):
            row.push(position)

    def _legal(self, grammar: Grammar, rule: TextRule | None) -> Tensor:
        """Return a mask `[V]` of what a row may say next in slot 0."""
        state = grammar.state
        mask = self.legal.mask(state)
        if rule is None or state.kind not in ("text", "label") or not state.content:
            return mask
        allowed = rule.allowed(self.vocabulary.tokens_to_text(grammar.contents))
        tokens = self.vocabulary.text_to_tokens(list(allowed.ids))
        if not tokens and not allowed.end:  # what it needs here cannot be spelled
            grammar.hit_limit = True
        if allowed.end or not tokens:
            tokens.append(grammar.end_id)
        return mask & torch.zeros_like(mask).index_fill(0, torch.tensor(tokens, device=mask.device), True)

    def _fill_slots(self, rows: list[_Row], hidden: Tensor, positions: Tensor) -> None:
        """Draw the other slots of new positions `[B, K]` that the pattern fills, all from the same states."""
        slots = [row.grammar.slots(int(position[0])) for row, position in zip(rows, positions, strict=True)]
        for k in range(1, self.vocabulary.n_codebooks):
            filled = [i for i, of_row in enumerate(slots) if k in of_row]
            if filled:
                states = hidden[_with_shadows(rows, filled)]
                codes = self._draw([rows[i] for i in filled], self.lm.slot_logits(states, k), codebook=k)
                positions[filled, k] = self._tokens_of_code[k][codes].cpu()

    def _fill_frames(self, rows: list[_Row], hidden: Tensor, first: Tensor) -> Tensor:
        """Return tokens `[n, Kc]` of new frames, given their states `[n + shadows, D]` and slot-0 ids `[n]`."""
        if self._frame is not None and self._frame.takes(hidden):
            return self._fill_natively(rows, hidden, first)
        tokens = [first]
        stage = self.lm.local_stage(hidden)
        own = _owners(rows)
        for k in range(1, self.lm.n_coarse):
            codes = self._draw(rows, stage.logits(tokens[-1][own]), codebook=k)
            tokens.append(self._tokens_of_code[k][codes])
        return torch.stack(tokens, dim=1)

    def _fill_natively(self, rows: list[_Row], hidden: Tensor, first: Tensor) -> Tensor:
        assert self._frame is not None, "_fill_frames asks before"
        codebooks = range(1, self.lm.n_coarse)
        filters = torch.tensor([[row.filters(k) for row in rows] for k in codebooks])
        uniform = torch.stack([torch.rand(len(codebooks), generator=row.generator) for row in rows], dim=1)
        scales = [[step.scale for step in row.request.guidance] for row in rows]
        tokens, gained = self._frame.run(hidden, first, scales, filters, uniform.contiguous())
        for of_codebook in gained.tolist():
            _add_gained(rows, of_codebook)
        return tokens

    def _draw(
        self, rows: list[_Row], logits: Tensor, legal: Tensor | None = None, codebook: int | None = None
    ) -> Tensor:
        """Draw one id per row `[n]` from logits `[n + shadows, V]`, and add up the rows' log-probabilities.

        Without `codebook`, of slot 0: there, repetitions are drawn anew.
        """
        log_probabilities = logits[: len(rows)].float().log_softmax(dim=-1)
        logits = _guided(rows, logits)
        if legal is not None:
            logits = logits.masked_fill(~legal, -torch.inf)
        settings = torch.tensor([row.filters(codebook) for row in rows])
        temperature, top_k, top_p, min_p = settings.unbind(dim=1)
        filtered = filter_logits(logits, temperature, top_k.long(), top_p, min_p)
        ids = sample(filtered, [row.generator for row in rows])
        repeated = [i for i, row in enumerate(rows) if codebook is None and row.repeats(int(ids[i]))]
        if repeated:
            again = filter_logits(logits[repeated], temperature[repeated])
            ids[repeated] = sample(again, [rows[i].generator for i in repeated])
        gained = log_probabilities.gather(1, ids[:, None])[:, 0].tolist()
        _add_gained(rows, gained)
        return ids

    def _refine(self, rows: list[_Row]) -> None:
        """Fill codebooks Kc … K-1 of every audio target."""
        n_coarse, K = self.lm.n_coarse, self.vocabulary.n_codebooks
        targets = [(row, segment) for row in rows for segment in row.segments if segment.kind == "audio"]
        if n_coarse == K or not targets:
            return
        rows = [row for row, _ in targets]
        own = _owners(rows)
        states = [row.states[segment.name] for row, segment in targets]
        states += [of_shadow[segment.name] for row, segment in targets for of_shadow in row.shadow_states]
        hidden = pad_sequence([torch.stack(of_frames) for of_frames in states], batch_first=True)
        grids = [torch.stack(row.tokens[segment.content]) for row, segment in targets]
        tokens = pad_sequence(grids, batch_first=True).to(self.device)
        lengths = torch.tensor([len(grid) for grid in grids], device=self.device)
        valid_mask = torch.arange(tokens.shape[1], device=self.device) < lengths[:, None]
        for level in range(n_coarse, K):
            masked = self.lm.config.refinement == "masked"
            n_passes = [row.request.sampling_of(segment.kind).refine_passes for row, segment in targets]
            n_passes = n_passes if masked and level == n_coarse else [1] * len(targets)
            unknown = valid_mask
            for i in range(max(n_passes)):
                logits = self.lm.refine_logits(hidden, tokens[own], level, valid_mask[own])
                logits = _guided(rows, logits)
                codes, unknown = _surest(targets, logits, unknown, level if masked else None, i, n_passes)
                filled = valid_mask & ~unknown & (tokens[:, :, level] == self.vocabulary.empty_id)
                tokens[:, :, level] = torch.where(filled, self._tokens_of_code[level][codes], tokens[:, :, level])
        for (row, segment), grid, n_frames in zip(targets, tokens.cpu(), lengths.tolist(), strict=True):
            row.tokens[segment.content] = list(grid[:n_frames])


def _surest(
    targets: Sequence[tuple[_Row, Segment]],
    logits: Tensor,
    unknown: Tensor,
    level: int | None,
    index: int,
    n_passes: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Choose codes `[n, T]` from logits `[n, T, Vk]`, and say where `[n, T]` they are to be left for a later pass.

    Args:
        targets: Whose settings and random numbers are used.
        logits: Of one codebook.
        unknown: Frames that had no code before, `[n, T]`.
        level: The codebook, for its temperature; None takes the likeliest code everywhere.
        index: Number of this pass.
        n_passes: How many there are for each target.
    """
    if level is None:
        return logits.argmax(dim=-1), torch.zeros_like(unknown)
    codes, later = logits.argmax(dim=-1), torch.zeros_like(unknown)
    for i, (row, segment) in enumerate(targets):
        asked = unknown[i].nonzero()[:, 0]
        if not len(asked):
            continue
        temperature, top_k, top_p, min_p = row.request.sampling_of(segment.kind).filters(level)
        of_row = filter_logits(logits[i, asked], temperature, top_k, top_p, min_p)
        drawn = sample(of_row, [row.generator] * len(asked))
        codes[i, asked] = drawn
        n_left = masked_counts(segment.content.stop - segment.content.start, n_passes[i])[index]
        sureness = logits[i, asked].float().log_softmax(dim=-1).gather(1, drawn[:, None])[:, 0]
        if top_k != 1:  # noise that fades, so that not only the commonest codes come first
            uniform = torch.rand(len(asked), generator=row.generator).clamp(1e-6, 1 - 1e-6).to(sureness.device)
            sureness = sureness - temperature * (1 - (index + 1) / n_passes[i]) * (-uniform.log()).log()
        later[i, asked[sureness.argsort()[:n_left]]] = True
    return codes, later


def _add_gained(rows: list[_Row], log_probabilities: list[float]) -> None:
    """Add to each row the log-probability of an id that was drawn.

    Raises:
        GenerationError: If one is NaN.
    """
    for row, log_probability in zip(rows, log_probabilities, strict=True):
        if math.isnan(log_probability):
            raise GenerationError(
                f"the model returned NaN in task '{row.request.task.name}': its weights are damaged or diverged in "
                "training. Load an earlier checkpoint."
            )
        row.log_probability += log_probability


def _with_shadows(rows: list[_Row], chosen: list[int]) -> list[int]:
    """Return where the chosen rows and then their shadows stand in a batch of all `rows` and then their shadows."""
    places = list(itertools.accumulate((len(row.shadows) for row in rows), initial=len(rows)))
    return chosen + [place for i in chosen for place in range(places[i], places[i + 1])]


def _owners(rows: list[_Row]) -> list[int]:
    """Return which of `rows` each row and then each shadow of a batch belongs to."""
    return list(range(len(rows))) + [i for i, row in enumerate(rows) for _ in row.shadows]


def _guided(rows: list[_Row], logits: Tensor) -> Tensor:
    """Return the logits `[n, …, V]` that ids of rows are drawn from, of their own and their shadows'."""
    scales = [[step.scale for step in row.request.guidance] for row in rows]
    return guide(logits[: len(rows)], logits[len(rows) :], scales)


class _Row:
    """One request on its way: its tokens so far and everything that must not depend on its neighbours."""

    def __init__(self, request: GenerationRequest, markers: Markers, pattern: Pattern) -> None:
        prompt = request.prompt
        self.request = request
        self.tokens = list(prompt.tokens.cpu())
        self.segments: list[Segment] = []
        self.states: dict[str, list[Tensor]] = {}
        self.generator = torch.Generator().manual_seed(request.seed)
        self.log_probability = 0.0
        self.shadows = [list(step.without.tokens.cpu()) for step in request.guidance]
        self.shadow_states: list[dict[str, list[Tensor]]] = [{} for _ in self.shadows]
        self.grammar = Grammar(
            request.plans(),
            markers.vocabulary,
            pattern,
            self._count_characters,
            self._characters_of_prompt(),
            markers=markers,
        )
        self._markers = markers
        self._opened_at = len(self.tokens)
        self.max_positions = len(self.tokens) + self.grammar.max_positions

    @property
    def sampling(self) -> Sampling:
        """Settings for the target being generated."""
        return self.request.sampling_of(self.grammar.plans[self.grammar.index].kind)

    def filters(self, codebook: int | None) -> Filters:
        """Return the settings by which one slot is drawn; None is slot 0."""
        plan = self.grammar.plans[self.grammar.index]
        return self.sampling.filters((codebook or 0) if plan.kind == "audio" else None)

    def repeats(self, drawn: int) -> bool:
        """Was an id drawn for slot 0 that must be drawn anew?"""
        kind, grammar = self.grammar.plans[self.grammar.index].kind, self.grammar
        if kind not in ("audio", "semantic") or grammar.ends((drawn,)):
            return False
        return self.sampling.is_repeated(drawn, grammar.codes)

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

    def remember(self, states: dict[str, list[Tensor]], state: Tensor) -> None:
        """Keep the global state `[D]` of the last position if it is an audio frame, for the refiner."""
        if self.grammar.contents and self.grammar.plans[self.grammar.index].kind == "audio":
            states.setdefault(self.grammar.plans[self.grammar.index].name, []).append(state)

    def result(self) -> GenerationResult:
        """Return the finished sequence."""
        prompt = self.request.prompt
        sequence = TokenSequence(
            tokens=torch.stack(self.tokens),
            segments=(*prompt.segments, *self.segments, *self._eos()),
            vocabulary=prompt.vocabulary,
            text_tokenizer=prompt.text_tokenizer,
            rates=prompt.rates,
            pattern=prompt.pattern,
        )
        return GenerationResult(sequence, self.log_probability, self.grammar.stop_reason, tuple(self.grammar.lengths))

    def _segment(self, plan: TargetPlan) -> Segment:
        """Return the segment of a target that has just ended."""
        start, stop, self._opened_at = self._opened_at, len(self.tokens), len(self.tokens)
        n_before, n_after = len(self._markers.start(plan.kind)), len(self._markers.end(plan.kind))
        return Segment(plan.name, plan.kind, "target", start, stop, n_before=n_before, n_after=n_after)

    def _eos(self) -> list[Segment]:
        n_rows = len(self._markers.rows("<eos>"))
        return [Segment("<eos>", "control", "control", len(self.tokens) - n_rows, len(self.tokens))] if n_rows else []

    def _characters_of_prompt(self) -> int | None:
        texts = [segment for segment in self.request.prompt.segments if segment.kind == "text"]
        return self._count_characters([int(row[0]) for row in self.tokens[texts[-1].content]]) if texts else None

    def _count_characters(self, tokens: list[int]) -> int:
        """Return how many characters text tokens spell; without a text tokenizer, how many there are."""
        tokenizer = self.request.prompt.text_tokenizer
        ids = self.request.prompt.vocabulary.tokens_to_text(tokens)
        return len(tokenizer.decode(ids)) if tokenizer else len(ids)
