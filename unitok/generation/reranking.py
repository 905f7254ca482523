"""Best of several candidates: each is heard by the same model, and the one whose text is likeliest there is kept.

What hears is the task that the card names as `checked_by`, from audio to text. A candidate's score is the
log-probability of the text that was asked for, given the candidate's audio.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from unitok.errors import GenerationError
from unitok.generation.engine import Engine, GenerationRequest, GenerationResult, OnStep
from unitok.generation.requests import sampling
from unitok.generation.scoring import score_sequences
from unitok.sequence import TokenSequence
from unitok.tasks import SequenceBuilder, Task
from unitok.tasks.settings import check_ranges

__all__ = ["Candidate", "Choice", "Reranker"]

# Candidates of one request get seeds far apart, so that requests with neighbouring seeds share none.
CANDIDATE_STRIDE = 1_000_003


@dataclass(frozen=True)
class Candidate:
    """One of several results of a request."""

    seed: int
    """With this seed, the request gives this candidate alone."""
    score: float
    """Log-probability of the request's text given this audio, natural logarithm."""
    seconds: float
    """How long its audio is."""
    heard: str | None = None
    """What the check writes down of it, where that was asked for."""


class Choice(NamedTuple):
    """What was kept of a request, and of what."""

    result: GenerationResult
    """The result kept."""
    candidates: tuple[Candidate, ...] = ()
    """All that there were to choose from; empty where only one was made."""
    chosen: int | None = None
    """Which of them was kept."""


class _Check(NamedTuple):
    """How the audio of a request is heard."""

    task: Task
    """From audio to text."""
    condition: str
    """Where the task takes the audio."""
    target: str
    """Where the task puts the text."""
    audio: str
    """The request's target that is heard."""
    text: str
    """What should be heard."""
    lang: str | None
    """Of the text."""


class Reranker:
    """Makes candidates with an engine and compares them."""

    def __init__(self, name: str, engine: Engine, builder: SequenceBuilder, tasks: Mapping[str, Task]) -> None:
        """Keep the parts; `name` is the model's, for messages."""
        self.name, self.engine, self.builder, self.tasks = name, engine, builder, tasks

    def run(
        self,
        requests: Sequence[GenerationRequest],
        best_of: int | None,
        batch_size: int,
        on_step: OnStep | None,
        hear: bool,
    ) -> list[Choice]:
        """Carry out requests and keep the best candidate of each.

        Args:
            requests: The requests.
            best_of: Candidates of each; None: as the cards say, and one where they could not be compared.
            batch_size: How many are worked on at once.
            on_step: Called after every position; counts requests, not candidates.
            hear: Let the check also write down what it hears in each candidate.

        Raises:
            GenerationError: If the number is not positive, or candidates of a request cannot be compared.
        """
        check_ranges({} if best_of is None else {"best_of": best_of})
        checks = [self._check(request) for request in requests]
        counts = [
            best_of or (request.task.generate.best_of if check is not None else 1)
            for request, check in zip(requests, checks, strict=True)
        ]
        for check, request, n in zip(checks, requests, counts, strict=True):
            if check is None and n > 1:
                raise GenerationError(
                    f"best_of compares what the model's own '{request.task.checked_by}' hears with the text: it needs "
                    f"a task from text to audio and a model trained for '{request.task.checked_by}'; "
                    f"task '{request.task.name}' of model '{self.name}' is not. Use best_of=1."
                )
        expanded = [
            replace(request, seed=request.seed + CANDIDATE_STRIDE * i)
            for request, n in zip(requests, counts, strict=True)
            for i in range(n)
        ]
        results = iter(self.engine.generate(expanded, batch_size, on_step and _per_request(on_step, counts)))
        choices = []
        for check, request, n in zip(checks, requests, counts, strict=True):
            group = list(itertools.islice(results, n))
            choices.append(self._choice(check, request, group, hear) if check and n > 1 else Choice(group[0]))
        return choices

    def _choice(self, check: _Check, request: GenerationRequest, results: list[GenerationResult], hear: bool) -> Choice:
        sequences = [self._heard(check, result, targets=True) for result in results]
        scores, _ = score_sequences(self.engine.lm, sequences)
        transcripts = self._transcripts(check, results) if hear else [None] * len(results)
        candidates = tuple(
            Candidate(request.seed + CANDIDATE_STRIDE * i, float(score), _seconds(result, check.audio), heard)
            for i, (score, result, heard) in enumerate(zip(scores, results, transcripts, strict=True))
        )
        chosen = int(scores.argmax())
        return Choice(results[chosen], candidates, chosen)

    def _transcripts(self, check: _Check, results: list[GenerationResult]) -> list[str | None]:
        settings = sampling(check.task, {})
        heard = self.engine.generate(
            [GenerationRequest(self._heard(check, one, targets=False), check.task, settings) for one in results]
        )
        return [self.builder.text_tokenizer.decode(result.sequence.text_ids(check.target)) for result in heard]

    def _heard(self, check: _Check, result: GenerationResult, targets: bool) -> TokenSequence:
        """Return the sequence of the check for the audio of a result, with the text that should be heard or without."""
        values = {check.condition: result.sequence.codes(check.audio), check.target: check.text}
        return self.builder.build(check.task, values, lang=check.lang, targets=targets)

    def _check(self, request: GenerationRequest) -> _Check | None:
        """Return how the request's audio is heard; None if it cannot be."""
        task, ids = self.tasks.get(request.task.checked_by), request.text_ids()
        audio = next((target.name for target in request.task.targets if target.kind == "audio"), None)
        if task is None or ids is None or audio is None:
            return None
        condition = next((field.name for field in task.conditions if field.kind == "audio"), None)
        target = next((field.name for field in task.targets if field.kind == "text"), None)
        if condition is None or target is None:
            return None
        lang = _lang(request.prompt) if task.lang_field else None
        return _Check(task, condition, target, audio, self.builder.text_tokenizer.decode(ids), lang)


def _lang(prompt: TokenSequence) -> str | None:
    """Return the language of `<lang:…>`."""
    names = (segment.name for segment in prompt.segments if segment.name.startswith("<lang:"))
    return next((name.removeprefix("<lang:").removesuffix(">") for name in names), None)


def _seconds(result: GenerationResult, target: str) -> float:
    return next(length.seconds for length in result.lengths if length.target == target)


def _per_request(on_step: OnStep, counts: Sequence[int]) -> OnStep:
    """Return a callback that counts requests where the engine counts candidates."""
    share = len(counts) / max(1, sum(counts))
    return lambda now: on_step(now._replace(n_done=int(now.n_done * share), n_requests=len(counts)))
