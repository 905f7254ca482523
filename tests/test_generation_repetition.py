"""Repetition-aware sampling on trained models: what is said three times stays, an endless loop is left."""

import dataclasses

import pytest
import torch
from tiny_models import TASKS
from toy_sequences import N_CODEBOOKS, toy_builder

from unitok.generation.engine import Engine, GenerationRequest, GenerationResult
from unitok.model.config import LMConfig, TransformerConfig
from unitok.model.lm import UnitokLM
from unitok.sequence import collate
from unitok.tasks import Sampling, SequenceBuilder

BUILDER = toy_builder()
VALL_E_2 = {"repetition_window": 10, "repetition_threshold": 0.1}


def speech(codes: list[int]) -> torch.Tensor:
    """Return codes `[K, T]` whose first codebook is `codes`, and the others follow from it."""
    return torch.stack([(torch.tensor(codes) + k) % 6 for k in range(N_CODEBOOKS)])


def trained(examples: list[tuple[str, list[int]]], n_steps: int) -> tuple[UnitokLM, SequenceBuilder]:
    torch.manual_seed(0)
    stack = TransformerConfig(n_layers=2, d_model=32, n_heads=2, d_ff=64)
    lm = UnitokLM(LMConfig(stack, pattern="parallel"), BUILDER.vocabulary)
    builder = SequenceBuilder(BUILDER.vocabulary, BUILDER.text_tokenizer, BUILDER.frame_rate_hz, lm.pattern)
    batch = collate([builder.build(TASKS["tts"], {"text": t, "speech": speech(codes)}) for t, codes in examples])
    optimizer = torch.optim.Adam(lm.parameters(), lr=3e-3)
    for _ in range(n_steps):
        loss = lm.loss(batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return lm, builder


def spoken(model, text: str, n_frames: int, n_seeds: int, **settings) -> list[GenerationResult]:
    lm, builder = model
    prompt = builder.build(TASKS["tts"], {"text": text}, targets=False)
    one = GenerationRequest(prompt, TASKS["tts"], Sampling(**settings), max_seconds=n_frames / BUILDER.frame_rate_hz)
    requests = [dataclasses.replace(one, seed=seed) for seed in range(n_seeds)]
    return Engine(lm, BUILDER.vocabulary).generate(requests)


@pytest.mark.parametrize("temperature", [0.8, 1.0])
def test_what_is_said_three_times_is_not_shortened(temperature):
    ok, no = [1, 1, 1, 4, 4, 0], [2, 2, 5, 5, 5, 0]
    examples = [("ok", ok), ("ok ok ok", ok * 3), ("ok no ok", ok + no + ok), ("no no no", no * 3)]
    model = trained(examples, 250)
    for text, codes in examples:
        for result in spoken(model, text, 60, 4, temperature=temperature, top_k=5, **VALL_E_2):
            assert result.sequence.codes("speech")[0].tolist() == codes
    redrawn = [Sampling(**VALL_E_2).is_repeated(code, (ok * 3)[:i]) for i, code in enumerate(ok * 3)]
    assert sum(redrawn) >= 6


def test_a_loop_that_never_ends_is_left():
    # Of a hum that may stop at any time, going on is the likeliest at all times.
    model = trained([("m", [3] * n) for n in range(2, 42)], 60)
    settings = {"temperature": 1.0, "top_p": 0.7, "top_k": 0}
    endless = spoken(model, "m", 30, 12, **settings)
    assert {result.stop for result in endless} == {"limit"}
    assert all(set(result.sequence.codes("speech")[0].tolist()) == {3} for result in endless)
    left = spoken(model, "m", 30, 12, **settings, **VALL_E_2)
    assert [result.stop for result in left].count("end") >= 4
