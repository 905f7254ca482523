"""The engine: continues prompts until their targets are complete, many rows side by side, each as if it were alone.

    prompt … <audio>   prefill, rows padded on the right
    c c c … </audio>   one global step a position; per frame one local step for each further AR codebook, or a head for
                       each further slot in a pattern without local stage
    refinement         codebooks Kc … K-1 of all frames at once, when every row is done (`refinement.py`); in a stream,
                       of some frames at a time

A guided row has shadows: the same target after prompts without some guided conditions. All go through the model, and
ids of all codebooks are drawn from logits that `guidance.py` makes of theirs. Shadows stand behind all rows of a batch.

A row has its own length, grammar, sampling settings and random generator (`continuation.py`). It leaves the batch when
it is done, and the next request takes its place. Not here: what is legal (`constraints.py`), how ids are drawn
(`sampling.py`), what a prompt is (`tasks/builder.py`).

Letters: B rows, S positions, K slots, Kc AR codebooks, T frames, D width, V ids.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unitok.errors import GenerationError
from unitok.generation.beam import beam_search
from unitok.generation.constraints import Grammar, LegalIds
from unitok.generation.continuation import Continuation, GenerationRequest, GenerationResult
from unitok.generation.drawing import choose
from unitok.generation.graphs import Graphs
from unitok.generation.refinement import RefineWindow, refine
from unitok.generation.text_rules import TextRule
from unitok.kernels import attach, native_frame, origin, why_not
from unitok.kernels.frame import NativeFrame
from unitok.markers import Markers
from unitok.model.cache import StaticCache
from unitok.model.lm import UnitokLM
from unitok.model.transformer import Transformer
from unitok.sequence import FeatureBatch, TokenSequence, collate_features
from unitok.tasks.settings import Filters, check_ranges
from unitok.vocabulary import Vocabulary

__all__ = ["Engine", "GenerationRequest", "GenerationResult", "OnStep", "Piece", "Progress"]


class Progress(NamedTuple):
    """How far a call of `Engine.generate` is."""

    n_done: int
    """Requests that are complete."""
    n_requests: int
    """Requests in all."""
    n_positions: int
    """Positions that the batch has been continued by."""


OnStep = Callable[[Progress], None]
DEFAULT_WINDOW = RefineWindow()


class Piece(NamedTuple):
    """Part of a target, as `Engine.stream` hands it out."""

    target: str
    """Name of the target."""
    kind: str
    """Its kind."""
    tokens: Tensor
    """Joint ids: complete frames `[n, K]` of audio; slot 0 of other kinds, `[n, 1]`."""
    is_last: bool
    """Has the target ended with it?"""


class Engine:
    """Generates with one language model."""

    def __init__(self, lm: UnitokLM, vocabulary: Vocabulary, text_size: int | None = None) -> None:
        """Keep the parts.

        Args:
            lm: The model; it is put into evaluation mode.
            vocabulary: What its ids mean.
            text_size: Ids that the text tokenizer can spell; None means the vocabulary's whole text block.
        """
        self.compiled = False
        """Let `torch.compile` fuse the operations of a step (`graphs.py`)."""
        self.lm = lm.eval()
        self.vocabulary = vocabulary
        self.markers = Markers(vocabulary, lm.config.spelling)
        self.legal = LegalIds(vocabulary, text_size, device=self.device, markers=self.markers)
        self._graphs: Graphs | None = None
        self._frame: NativeFrame | Graphs | None = None
        self._tokens_of_code = [ids.to(self.device) for ids in lm.tokens_of_code]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.lm.parameters()).device

    @property
    def kernels(self) -> str:
        """What does the work at one position, in words."""
        self._attach()
        if self._graphs is not None:
            how = "compiled, " if self.compiled else ""
            return how + ("CUDA graphs" if self.device.type == "cuda" else "PyTorch's")
        if any(isinstance(part, Transformer) and part.native is not None for part in self.lm.modules()):
            return f"native, {origin()}"
        return f"PyTorch's ({why_not() or 'the model is of another kind'})"

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
        check_ranges({"batch_size": batch_size})
        self._attach()
        rows = [Continuation(request, self.markers, self.lm.pattern) for request in requests]
        drawn = [row for row in rows if row.sampling.beams == 1]
        for n_found, row in enumerate((row for row in rows if row.sampling.beams > 1), start=1):
            self._search(row)
            if on_step is not None:
                on_step(Progress(n_found, len(rows), len(row.tokens)))
        n_found, to_refine = len(rows) - len(drawn), list[Continuation]()
        for n_positions, done in enumerate(self._continue(drawn, batch_size), start=1):
            n_found += len(done)
            to_refine += done
            if len(to_refine) >= batch_size or n_found == len(rows):
                self._refine(to_refine)
                to_refine = []
            if on_step is not None:
                on_step(Progress(n_found, len(rows), n_positions))
        return [row.result() for row in rows]

    @torch.inference_mode()
    def stream(
        self, request: GenerationRequest, window: RefineWindow = DEFAULT_WINDOW
    ) -> Generator[Piece, None, GenerationResult]:
        """Continue one prompt, and hand out what is known of its targets as soon as it is.

        The ids are those of `generate`, but where Kc < K: codebooks Kc … K-1 are filled a stretch at a time, and the
        refiner sees of the frames to come no more than `window` says. Those below Kc are the same.

        Yields:
            Pieces of the targets, in order; an audio frame when all its codebooks are known. The last one of each
            target says so, and may be empty.

        Returns:
            The whole, as `generate` does.

        Raises:
            GenerationError: If beams are asked for, the window is none, or the model returns NaN.
        """
        window.check()
        row = Continuation(request, self.markers, self.lm.pattern)
        if row.sampling.beams > 1:
            raise GenerationError("beams find the whole text before any of it is known. Stream with beams=1.")
        self._attach()
        index, start = 0, 0
        for _ in self._continue([row], 1):
            while index < len(row.grammar.plans):
                plan, ended = row.grammar.plans[index], index < len(row.segments)
                if not (ended or row.grammar.inside):  # its start or end marker is not through
                    break
                stop = None
                if plan.kind == "audio" and self._refines:
                    stop = self._refine_next(row, index, start, window)
                ids = row.known(index, start, stop)
                if len(ids) or ended:
                    yield Piece(plan.name, plan.kind, ids, ended)
                if not ended:
                    start += len(ids)
                    break
                index, start = index + 1, 0
        return row.result()

    def _attach(self) -> None:
        """Use native code, or recorded steps, where there are some, with the weights as they are now."""
        attach(self.lm)
        self._graphs = Graphs.of(self.lm, self._tokens_of_code, self.compiled, self._graphs)
        self._frame = self._graphs or native_frame(self.lm, self._tokens_of_code)

    def _features(self, prompts: Sequence[TokenSequence]) -> dict[str, FeatureBatch]:
        return {name: part.to(self.device) for name, part in collate_features(prompts).items()}

    def _search(self, row: Continuation) -> None:
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
            row.request.words,
            settings.word_weight,
        )
        for id in ids:
            row.push_marker((id,))

    def _continue(self, rows: Sequence[Continuation], batch_size: int) -> Iterator[list[Continuation]]:
        """Run the autoregressive part of rows, so many at a time; after each position yield those it completed.

        Where one leaves, the next one joins.
        """
        active, waiting = list(rows[:batch_size]), deque(rows[batch_size:])
        if not active:
            return
        cache, hidden = self._prefill(active)
        while True:
            if waiting and len(active) < batch_size:
                new = [waiting.popleft() for _ in range(min(batch_size - len(active), len(waiting)))]
                active, cache, hidden = self._join(active, cache, hidden, new)
            self._choose(active, hidden)
            yield [row for row in active if row.grammar.done]
            unfinished = [i for i, row in enumerate(active) if not row.grammar.done]
            if len(unfinished) < len(active):
                cache.keep(torch.tensor(_with_shadows(active, unfinished), dtype=torch.int64, device=self.device))
                active = [active[i] for i in unfinished]
            if active:
                hidden = self._step(active, cache)
            elif not waiting:
                return

    def _join(
        self, active: list[Continuation], cache: StaticCache, hidden: Tensor, new: list[Continuation]
    ) -> tuple[list[Continuation], StaticCache, Tensor]:
        """Return rows, cache and the states of the last positions, with new rows that begin."""
        new_cache, new_hidden = self._prefill(new)
        if not active:
            return new, new_cache, new_hidden
        cache.join(new_cache)
        # Rows stand before all shadows.
        n_old, n_all = len(hidden), len(hidden) + len(new_hidden)
        places = [
            *range(len(active)), *range(n_old, n_old + len(new)), *range(len(active), n_old),
            *range(n_old + len(new), n_all),
        ]  # fmt: skip
        order = torch.tensor(places, device=self.device)
        cache.keep(order)
        return [*active, *new], cache, torch.cat([hidden, new_hidden])[order]

    def _prefill(self, rows: list[Continuation]) -> tuple[StaticCache, Tensor]:
        """Take the prompts of rows and their shadows in; return the states `[B + shadows, D]` at their ends.

        Rows that share a prompt, as candidates of one request do, take it in once.
        """
        sequences = [row.request.prompt for row in rows]
        sequences += [step.without for row in rows for step in row.request.guidance]
        for row in rows:
            row.push_pending()  # the first start marker goes through the model with the prompt
        continued = [*(row.tokens for row in rows), *(shadow for row in rows for shadow in row.shadows)]
        prompts = [torch.stack(tokens) for tokens in continued]
        keys = [(id(sequence), prompt.numpy().tobytes()) for sequence, prompt in zip(sequences, prompts, strict=True)]
        place_of: dict[tuple[int, bytes], int] = {}
        places = [place_of.setdefault(key, len(place_of)) for key in keys]
        chosen = [places.index(place) for place in range(len(place_of))]
        sequences, prompts = [sequences[i] for i in chosen], [prompts[i] for i in chosen]

        lengths = torch.tensor([[len(sequence)] for sequence in sequences], device=self.device)
        last = torch.tensor([[len(prompt) - 1] for prompt in prompts], device=self.device)
        cache = self.lm.new_cache(len(prompts), max(row.max_positions for row in rows))
        tokens = pad_sequence(prompts, batch_first=True).to(self.device)
        positions = torch.arange(tokens.shape[1], device=self.device).expand(len(prompts), -1)
        hidden = self.lm.step(tokens, positions, cache, positions < lengths, self._features(sequences))
        hidden = hidden.gather(1, last[:, :, None].expand(-1, -1, hidden.shape[2]))[:, 0]
        if len(chosen) < len(keys):
            of_rows = torch.tensor(places, device=self.device)
            cache.keep(of_rows)
            hidden = hidden[of_rows]
        return cache, hidden

    def _step(self, rows: list[Continuation], cache: StaticCache) -> Tensor:
        """Take the newest position of each row in; return the states `[B + shadows, D]` that predict the next."""
        continued = [*(row.tokens for row in rows), *(shadow for row in rows for shadow in row.shadows)]
        newest = torch.stack([tokens[-1] for tokens in continued])
        positions = [len(tokens) - 1 for tokens in continued]
        if self._graphs is not None:
            hidden = self._graphs.step(newest, positions, cache)
        else:
            places = torch.tensor(positions, device=self.device)[:, None]
            hidden = self.lm.step(newest[:, None].to(self.device), places, cache)[:, 0]
        for row, state in zip(rows, hidden[: len(rows)], strict=True):
            row.remember(row.states, state)
        of_shadows = iter(hidden[len(rows) :])
        for row in rows:
            for states in row.shadow_states:
                row.remember(states, next(of_shadows))
        return hidden

    def _choose(self, rows: list[Continuation], hidden: Tensor) -> None:
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

    def _fill_slots(self, rows: list[Continuation], hidden: Tensor, positions: Tensor) -> None:
        """Draw the other slots of new positions `[B, K]` that the pattern fills, all from the same states."""
        slots = [row.grammar.slots(int(position[0])) for row, position in zip(rows, positions, strict=True)]
        for k in range(1, self.vocabulary.n_codebooks):
            filled = [i for i, of_row in enumerate(slots) if k in of_row]
            if filled:
                states = hidden[_with_shadows(rows, filled)]
                codes = self._draw([rows[i] for i in filled], self.lm.slot_logits(states, k), codebook=k)
                positions[filled, k] = self._tokens_of_code[k][codes].cpu()

    def _fill_frames(self, rows: list[Continuation], hidden: Tensor, first: Tensor) -> Tensor:
        """Return tokens `[n, Kc]` of new frames, given their states `[n + shadows, D]` and slot-0 ids `[n]`."""
        if self._frame is not None and self._frame.takes(hidden):
            return self._fill_at_once(rows, hidden, first)
        tokens = [first]
        stage = self.lm.local_stage(hidden)
        own = _owners(rows)
        for k in range(1, self.lm.n_coarse):
            codes = self._draw(rows, stage.logits(tokens[-1][own]), codebook=k)
            tokens.append(self._tokens_of_code[k][codes])
        return torch.stack(tokens, dim=1)

    def _fill_at_once(self, rows: list[Continuation], hidden: Tensor, first: Tensor) -> Tensor:
        assert self._frame is not None, "_fill_frames asks before"
        codebooks = range(1, self.lm.n_coarse)
        filters = torch.tensor([[row.filters(k) for row in rows] for k in codebooks])
        uniform = torch.stack([torch.rand(len(codebooks), generator=row.generator) for row in rows], dim=1)
        scales = [row.guidance_scales for row in rows]
        tokens, gained = self._frame.run(hidden, first, scales, filters, uniform.contiguous())
        for of_codebook in gained.tolist():
            _add_gained(rows, of_codebook)
        return tokens

    def _draw(
        self, rows: list[Continuation], logits: Tensor, legal: Tensor | None = None, codebook: int | None = None
    ) -> Tensor:
        """Draw one id per row `[n]` from logits `[n + shadows, V]`, and add up the rows' log-probabilities.

        Without `codebook`, of slot 0: there, repetitions are drawn anew.
        """
        filters = [row.filters(codebook) for row in rows]
        ids, gained = _choose_ids(rows, logits, legal, filters)
        drawn = ids.tolist() if codebook is None else []
        repeated = [i for i, id in enumerate(drawn) if rows[i].repeats(id)]
        if repeated:
            anew, states = [rows[i] for i in repeated], logits[_with_shadows(rows, repeated)]
            legal = None if legal is None else legal[repeated]
            filters = [filters[i]._replace(top_k=0, top_p=1.0, min_p=0.0) for i in repeated]
            ids[repeated], gained[repeated] = _choose_ids(anew, states, legal, filters)
        _add_gained(rows, gained.tolist())
        return ids

    def _refine(self, rows: list[Continuation]) -> None:
        """Fill codebooks Kc … K-1 of every audio target."""
        targets = [
            (row, one) for row in rows for one in row.segments if one.kind == "audio" and row.tokens[one.content]
        ]
        if not self._refines or not targets:
            return
        stretches = [row.stretch(segment.name, segment.content, 0) for row, segment in targets]
        grids = refine(self.lm, self._tokens_of_code, stretches)
        for (row, segment), grid in zip(targets, grids, strict=True):
            row.tokens[segment.content] = list(grid)

    @property
    def _refines(self) -> bool:
        return self.lm.n_coarse < self.vocabulary.n_codebooks

    def _refine_next(self, row: Continuation, index: int, start: int, window: RefineWindow) -> int:
        """Fill frames of an audio target from `start` on, as far as the window allows; return where it stopped."""
        name, ended = row.grammar.plans[index].name, index < len(row.segments)
        n_states = len(row.states.get(name, []))
        stop = n_states if ended else n_states - window.ahead
        if stop <= start or not (ended or stop - start >= window.chunk):
            return start
        first, last = max(start - window.past, 0), min(stop + window.ahead, n_states)
        begin = row.content_start(index)
        stretch = row.stretch(name, slice(begin + first, begin + last), first, row.refining)
        [grid] = refine(self.lm, self._tokens_of_code, [stretch])
        row.tokens[begin + start : begin + stop] = list(grid[start - first : stop - first])
        return stop


def _add_gained(rows: list[Continuation], log_probabilities: list[float]) -> None:
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


def _with_shadows(rows: list[Continuation], chosen: list[int]) -> list[int]:
    """Return where the chosen rows and then their shadows stand in a batch of all `rows` and then their shadows."""
    places = list(itertools.accumulate((len(row.shadows) for row in rows), initial=len(rows)))
    return chosen + [place for i in chosen for place in range(places[i], places[i + 1])]


def _owners(rows: list[Continuation]) -> list[int]:
    """Return which of `rows` each row and then each shadow of a batch belongs to."""
    return list(range(len(rows))) + [i for i, row in enumerate(rows) for _ in row.shadows]


def _choose_ids(
    rows: list[Continuation], logits: Tensor, legal: Tensor | None, filters: list[Filters]
) -> tuple[Tensor, Tensor]:
    """Return an id for each row and its log-probability, from logits `[n + shadows, V]`."""
    scales, generators = [row.guidance_scales for row in rows], [row.generator for row in rows]
    return choose(logits, scales, legal, filters, generators)
