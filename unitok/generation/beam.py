"""Beam search: the text that the model finds likeliest as a whole, of those that stay among the best on the way.

One request at a time; its beams are the rows of a batch. Letters: n beams, V ids.
Source: length normalisation as in GNMT (arXiv:1609.08144), section 7, in the simpler form of fairseq and transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unitok.errors import GenerationError
from unitok.generation.constraints import Grammar
from unitok.generation.word_scores import Place, WordScores
from unitok.model.lm import UnitokLM
from unitok.sequence import FeatureBatch

__all__ = ["beam_search"]


@dataclass(frozen=True)
class _Beam:
    """A text on its way, or done."""

    ids: tuple[int, ...]
    total: float
    """Log-probability, and what its words add."""
    grammar: Grammar
    log_probability: float = 0.0
    place: Place = Place()

    def score(self, length_penalty: float) -> float:
        return self.total / len(self.ids) ** length_penalty


@torch.inference_mode()
def beam_search(
    lm: UnitokLM,
    prompt: Tensor,
    grammar: Grammar,
    legal: Callable[[Grammar], Tensor],
    n_beams: int,
    length_penalty: float,
    features: Mapping[str, FeatureBatch] | None = None,
    words: WordScores | None = None,
    word_weight: float = 0.0,
) -> tuple[list[int], float]:
    """Return the ids of one text target, its end marker included, and their log-probability.

    Args:
        lm: The model.
        prompt: Tokens `[S, K]`, the target's start marker included.
        grammar: Where the request stands behind that marker.
        legal: Returns a mask `[V]` of what may follow.
        n_beams: How many texts are followed at once.
        length_penalty: Texts are compared by log-probability / length ** length_penalty: 0 prefers short ones, 1 takes
            the mean, more prefers long ones.
        features: What stands in segments of kind `features` of the prompt.
        words: How likely words are in the language of the text.
        word_weight: What that counts, where the model's own log-probability counts 1.

    Raises:
        GenerationError: If the model returns NaN.
    """
    device, S = prompt.device, len(prompt)
    end = grammar.end_id
    cache = lm.new_cache(1, S + grammar.plans[grammar.index].max_length + 1)
    before_marker = torch.arange(S, device=device)[None] < S - 1
    hidden = lm.step(prompt[None], torch.arange(S, device=device)[None], cache, before_marker, features)[:, -1]
    beams, finished = [_Beam((), 0.0, grammar)], list[_Beam]()
    while True:
        illegal = ~torch.stack([legal(beam.grammar) for beam in beams])
        gained = lm.slot0_logits(hidden).float().log_softmax(dim=-1)
        if bool(gained.isnan().any()):
            raise GenerationError("the model returned NaN: its weights are damaged or diverged. Load an earlier one.")
        scores = gained.masked_fill(illegal, -torch.inf)
        if words is not None and word_weight:
            added = torch.stack([words.gains(beam.place, end, scores.shape[1]) for beam in beams])
            scores = scores + word_weight * added.to(device)
        scores = scores + torch.tensor([[beam.total] for beam in beams], device=device)
        # No more than one of a beam's continuations is its end: 2 n hold n that go on.
        best, places = scores.flatten().topk(min(2 * n_beams, scores.numel()))
        going_on, parents = list[_Beam](), list[int]()
        for total, place in zip(best.tolist(), places.tolist(), strict=True):
            parent, id = divmod(place, scores.shape[1])
            if total == -torch.inf or len(going_on) == n_beams:
                break
            beam = _followed(beams[parent], id, total, float(gained[parent, id]), words)
            if id == end:
                finished.append(beam)
            else:
                going_on.append(beam)
                parents.append(parent)
        finished = sorted(finished, key=lambda beam: -beam.score(length_penalty))[:n_beams]
        hope = max((beam.score(length_penalty) for beam in going_on), default=-torch.inf)
        if not going_on or (len(finished) == n_beams and finished[-1].score(length_penalty) >= hope):
            return list(finished[0].ids), finished[0].log_probability
        beams = going_on
        cache.keep(torch.tensor(parents, device=device))
        tokens = torch.zeros(len(beams), 1, prompt.shape[1], dtype=torch.long, device=device)
        tokens[:, 0, 0] = torch.tensor([beam.ids[-1] for beam in beams], device=device)
        position = torch.full((len(beams), 1), S - 1 + len(beams[0].ids), device=device)
        hidden = lm.step(tokens, position, cache)[:, 0]


def _followed(beam: _Beam, id: int, total: float, gained: float, words: WordScores | None) -> _Beam:
    """Return a beam with one more id."""
    grammar = replace(beam.grammar, contents=list(beam.grammar.contents))
    grammar.advance(id)
    place = beam.place if words is None else words.following(beam.place, id)
    return _Beam((*beam.ids, id), total, grammar, beam.log_probability + gained, place)
