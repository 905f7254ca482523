"""Constrained text: only the answers listed, only what an expression matches, and as likely as the model finds it."""

import dataclasses
import re

import pytest
import torch
from tiny_models import TASKS, random_codes, tiny_lm
from toy_sequences import toy_builder

from unitok.errors import GenerationError
from unitok.generation.engine import Engine, GenerationRequest
from unitok.generation.scoring import score_sequences
from unitok.generation.text_rules import Matching, OneOf
from unitok.tasks import Sampling
from unitok.testing import ToyTextTokenizer
from unitok.tokenizers.bytes import ByteTokenizer

BUILDER, TEXT = toy_builder(), ByteTokenizer()
ANSWERS = ["dog", "dogs", "cat", "a bird", "größe"]


def requests(rule, n: int = 12, **settings) -> list[GenerationRequest]:
    card = TASKS["asr"]
    prompts = [BUILDER.build(card, {"audio": random_codes(3, seed)}, targets=False) for seed in range(n)]
    sampling = Sampling(**{"temperature": 3.0, "top_k": 0, **settings})
    return [
        GenerationRequest(prompt, card, sampling, seed=seed, text_rule=rule, max_text_tokens=20)
        for seed, prompt in enumerate(prompts)
    ]


def texts(rule, **settings) -> list[str]:
    results = Engine(tiny_lm(BUILDER), BUILDER.vocabulary).generate(requests(rule, **settings))
    assert all(result.stop == "end" for result in results)
    return [result.sequence.split()["text"] for result in results]


def test_only_the_answers_are_said():
    said = texts(OneOf(ANSWERS, TEXT))
    assert set(said) <= set(ANSWERS)
    assert len(set(said)) > 2


def test_every_answer_can_be_said_and_a_longer_one_after_a_shorter():
    rule = OneOf(ANSWERS, TEXT)
    for answer in ANSWERS:
        ids = TEXT.encode(answer)
        assert all(ids[i] in rule.allowed(ids[:i]).ids for i in range(len(ids)))
        assert rule.allowed(ids).end
    assert rule.allowed(TEXT.encode("dog")).ids == TEXT.encode("s")
    assert not rule.allowed(TEXT.encode("do")).end
    assert rule.allowed(TEXT.encode("dogs")) == ([], True)


def test_one_answer_is_said_whatever_the_model_thinks():
    assert texts(OneOf(["größe"], TEXT)) == ["größe"] * 12


def test_a_row_without_a_rule_is_not_touched_by_its_neighbours():
    engine, rule = Engine(tiny_lm(BUILDER), BUILDER.vocabulary), OneOf(ANSWERS, TEXT)
    free = requests(None)
    mixed = [dataclasses.replace(one, text_rule=rule) if i % 2 else one for i, one in enumerate(free)]
    for one, result in zip(mixed, engine.generate(mixed), strict=True):
        assert torch.equal(engine.generate([one])[0].sequence.tokens, result.sequence.tokens)


def test_of_two_letters_greedy_takes_the_one_that_scores_higher():
    lm = tiny_lm(BUILDER)
    for one in requests(OneOf(["a", "b"], TEXT), greedy=True):
        [result] = Engine(lm, BUILDER.vocabulary).generate([one])
        audio = one.prompt.codes("audio")
        both = [BUILDER.build(TASKS["asr"], {"audio": audio, "text": letter}) for letter in "ab"]
        label = [sequence.loss_mask.nonzero()[0, 0] for sequence in both][0]
        hidden = lm.hidden(both[0].tokens[None])[0, label - 1]
        logits = lm.slot0_logits(hidden)[[int(sequence.tokens[label, 0]) for sequence in both]]
        assert result.sequence.split()["text"] == "ab"[int(logits.argmax())]
        assert score_sequences(lm, [result.sequence])[0].item() == pytest.approx(result.log_probability, rel=1e-4)


@pytest.mark.parametrize("pattern", [r"[0-9]{1,2}:[0-9]{2}", r"(yes|no)( indeed)?", r"[a-c]{3,5}"])
def test_only_what_the_expression_matches_is_said(pattern):
    said = texts(Matching(pattern, TEXT))
    assert all(re.fullmatch(pattern, text) for text in said)
    assert len(set(said)) > 1


def test_a_rule_ends_where_nothing_else_fits_and_a_limit_still_cuts():
    [result] = Engine(tiny_lm(BUILDER), BUILDER.vocabulary).generate(requests(Matching("a{30}", TEXT), n=1))
    assert result.sequence.split()["text"] == "a" * 20
    assert result.stop == "limit"
    assert Matching("ab", TEXT).allowed(TEXT.encode("ab")) == ([], True)


def test_a_text_that_cannot_be_spelled_to_its_end_counts_as_cut():
    [result] = Engine(tiny_lm(BUILDER), BUILDER.vocabulary).generate(requests(Matching("ab?[0-9]\u00df", TEXT), n=1))
    assert result.stop == "limit"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneOf([], TEXT), r"answers is \[\]; it must be a list of texts"),
        (lambda: OneOf("yes", TEXT), "answers is 'yes'; it must be a list of texts"),
        (lambda: OneOf(["A", "ß"], ToyTextTokenizer()), "'toy_text' cannot spell 'A', the nearest is 'a'"),
        (
            lambda: Matching("[0-9]+", ToyTextTokenizer()),
            r"regex '\[0-9\]\+': no piece of the text tokenizer 'toy_text'",
        ),
        (lambda: Matching("(", TEXT), r"regex '\(' is no regular expression"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(make, message):
    with pytest.raises(GenerationError, match=message):
        make()
