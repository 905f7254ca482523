"""Beam search finds what an exhaustive search finds, alone and among other requests."""

import dataclasses

import pytest
import torch
from tiny_models import TASKS, random_codes, tiny_lm
from toy_sequences import toy_builder

from unitok.errors import GenerationError
from unitok.generation.engine import Engine, GenerationRequest
from unitok.generation.guidance import GuidanceStep
from unitok.generation.scoring import score_sequences
from unitok.generation.text_rules import OneOf
from unitok.tasks import Sampling
from unitok.tokenizers.bytes import ByteTokenizer

BUILDER = toy_builder()
ANSWERS = ["a", "ab", "abc", "b", "bcd", "c", "cab", "cabs"]


def request(seed: int, lm_task: str = "asr", answers=None, max_text_tokens: int = 6, **settings) -> GenerationRequest:
    card = TASKS[lm_task]
    values = {"audio": random_codes(3 + seed % 3, seed), "text": "ab"}
    values = {field.name: values[field.kind] for field in card.conditions if not field.optional}
    prompt = BUILDER.build(card, values, targets=False)
    rule = answers and OneOf(answers, ByteTokenizer())
    sampling = Sampling(**settings)
    return GenerationRequest(
        prompt, card, sampling, seed=seed, max_seconds=0.3, max_text_tokens=max_text_tokens, text_rule=rule
    )


@pytest.mark.parametrize("prefix_lm", [False, True], ids=["causal", "prefix"])
@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.0])
def test_enough_beams_find_the_best_of_all_answers(length_penalty, prefix_lm):
    lm, best = tiny_lm(BUILDER, prefix_lm=prefix_lm), set()
    for seed in range(6):
        one = request(seed, answers=ANSWERS, beams=len(ANSWERS), length_penalty=length_penalty)
        [result] = Engine(lm, BUILDER.vocabulary).generate([one])
        audio = one.prompt.codes("audio")
        sequences = [BUILDER.build(TASKS["asr"], {"audio": audio, "text": answer}) for answer in ANSWERS]
        sums, counts = score_sequences(lm, sequences)
        scores = sums / counts**length_penalty
        assert result.sequence.split()["text"] == ANSWERS[int(scores.argmax())]
        assert result.log_probability == pytest.approx(float(sums[scores.argmax()]), rel=1e-4, abs=1e-3)
        best.add(int(scores.argmax()))
    assert len(best) > 1


def test_beams_find_texts_that_are_likelier_than_the_greedy_ones():
    engine = Engine(tiny_lm(BUILDER), BUILDER.vocabulary)
    gains = []
    for seed in range(12):
        found = engine.generate(
            [
                request(seed, greedy=True, max_text_tokens=3),
                request(seed, beams=8, length_penalty=0.0, max_text_tokens=3),
            ]
        )
        gains.append(found[1].log_probability - found[0].log_probability)
    assert min(gains) >= -1e-4
    assert max(gains) > 0.01


def test_searched_and_drawn_requests_stand_side_by_side():
    engine = Engine(tiny_lm(BUILDER), BUILDER.vocabulary)
    many = [request(0, "tts"), request(1, beams=3), request(2), request(3, beams=2), request(4, "s2st_chain")]
    seen = []
    together = engine.generate(many, batch_size=2, on_step=seen.append)
    for one, result in zip(many, together, strict=True):
        assert torch.equal(engine.generate([one])[0].sequence.tokens, result.sequence.tokens)
    assert seen[-1].n_done == seen[-1].n_requests == 5
    assert [now.n_done for now in seen] == sorted(now.n_done for now in seen)


def test_a_text_is_cut_at_its_limit():
    [result] = Engine(tiny_lm(BUILDER), BUILDER.vocabulary).generate([request(1, answers=["a" * 9], beams=2)])
    assert result.sequence.split()["text"] == "a" * 6
    assert result.stop == "limit"


def test_beams_are_for_one_text_and_without_guidance():
    for task, made in (("tts", "audio"), ("s2st_chain", "text, then text, then audio")):
        with pytest.raises(GenerationError, match=f"task '{task}' makes {made}; beams are for one text"):
            request(0, task, beams=2)
    one = request(0)
    with pytest.raises(GenerationError, match="beams and guidance do not go together"):
        dataclasses.replace(one, sampling=Sampling(beams=2), guidance=[GuidanceStep(2.0, one.prompt)])
    with pytest.raises(GenerationError, match="beams is 0; it must be a whole number, 1"):
        Sampling(beams=0)
