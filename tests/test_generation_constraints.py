"""The grammar of targets: what is forced, what is legal, how long a target may get."""

import dataclasses

import pytest
import torch
from tiny_models import TASKS
from toy_sequences import FRAME_RATE_HZ, semantic_task, toy_builder

from unitok.errors import GenerationError
from unitok.generation.constraints import Grammar, LegalIds, State, TargetPlan, plan_targets
from unitok.pattern import Pattern
from unitok.sequence import Rates

RATES = Rates(FRAME_RATE_HZ, FRAME_RATE_HZ)
VOCABULARY = toy_builder().vocabulary
PATTERN = Pattern.multiscale(VOCABULARY.n_codebooks)


def names(mask: torch.Tensor) -> list[str]:
    return [VOCABULARY.name(int(id)) for id in mask.nonzero()[:, 0]]


def with_limits(task: str, **limits):
    card = TASKS[task]
    return dataclasses.replace(card, generate=dataclasses.replace(card.generate, **limits))


@pytest.mark.parametrize(
    ("kind", "block", "size"),
    [("audio", "audio.0", 6), ("text", "text", 256), ("label", "text", 256), ("semantic", "semantic", 5)],
)
def test_content_is_the_block_of_the_kind_and_its_end_marker(kind, block, size):
    legal = LegalIds(VOCABULARY)
    assert names(legal.mask(State(kind, content=True, end=True))) == [
        f"</{kind}>",
        *(f"{block}:{i}" for i in range(size)),
    ]
    assert names(legal.mask(State(kind, content=True, end=False))) == [f"{block}:{i}" for i in range(size)]
    assert names(legal.mask(State(kind, content=False, end=True))) == [f"</{kind}>"]


def test_text_ids_beyond_the_text_tokenizer_are_illegal():
    mask = LegalIds(VOCABULARY, text_size=3).mask(State("text", content=True, end=False))
    assert names(mask) == ["text:0", "text:1", "text:2"]


def test_a_grown_block_is_legal_in_all_its_ranges():
    grown = VOCABULARY.grow(codebook_sizes=[8] * 4)
    mask = LegalIds(grown).mask(State("audio", content=True, end=False))
    assert mask.nonzero()[:, 0].tolist() == grown.ids_of("audio.0").tolist()
    assert int(mask.sum()) == 8


def test_several_targets_follow_each_other_with_forced_markers():
    plans = [TargetPlan("a", "text", max_length=2), TargetPlan("b", "audio", max_length=5, min_length=1)]
    grammar = Grammar(plans, VOCABULARY, PATTERN, count_characters=len)
    text, frame = int(VOCABULARY.ids_of("text")[3]), int(VOCABULARY.ids_of("audio.0")[1])
    seen = []
    for token in (
        VOCABULARY.start_id("text"), text, text, VOCABULARY.end_id("text"),
        VOCABULARY.start_id("audio"), frame, VOCABULARY.end_id("audio"), VOCABULARY.eos_id,
    ):  # fmt: skip
        seen.append(VOCABULARY.name(grammar.forced_id) if grammar.forced_id is not None else tuple(grammar.state))
        assert not grammar.done
        grammar.advance(token)
    assert seen == [
        "<text>",
        ("text", True, True),
        ("text", True, True),
        ("text", False, True),
        "<audio>",
        ("audio", True, False),
        ("audio", True, True),
        "<eos>",
    ]
    assert grammar.done
    assert grammar.stop_reason == "limit"


def test_a_target_closed_before_its_limit_ends_by_itself():
    grammar = Grammar([TargetPlan("a", "text", max_length=2)], VOCABULARY, PATTERN, count_characters=len)
    for token in (VOCABULARY.start_id("text"), VOCABULARY.end_id("text"), VOCABULARY.eos_id):
        grammar.advance(token)
    assert grammar.stop_reason == "end"


def test_audio_is_limited_by_the_characters_of_the_nearest_text():
    plans = [
        TargetPlan("a", "text", max_length=9),
        TargetPlan("b", "audio", max_length=50, min_length=1, per_character=2.5, shortest_limit=4),
    ]
    grammar = Grammar(plans, VOCABULARY, PATTERN, count_characters=len, n_characters=10)
    assert plans[1].limit(10) == 25
    assert plans[1].limit(1) == 4
    assert plans[1].limit(1000) == 50
    assert plans[1].limit(None) == 50
    text = int(VOCABULARY.ids_of("text")[0])
    for token in (
        VOCABULARY.start_id("text"),
        text,
        text,
        text,
        VOCABULARY.end_id("text"),
        VOCABULARY.start_id("audio"),
    ):
        grammar.advance(token)
    frame = int(VOCABULARY.ids_of("audio.0")[0])
    for _ in range(8):  # ceil(2.5 * 3 characters)
        assert grammar.state.content
        grammar.advance(frame)
    assert grammar.state == State("audio", content=False, end=True)


def test_limits_come_from_the_card():
    [speech] = plan_targets(with_limits("tts", max_seconds_per_character=0.25, max_seconds=4.0), RATES)
    assert (speech.max_length, speech.min_length, speech.per_character) == (100, 1, 6.25)
    assert speech.limit(2) == 25  # never under one second
    [text] = plan_targets(with_limits("asr", max_text_tokens=7), RATES)
    assert (text.kind, text.max_length, text.min_length) == ("text", 7, 0)
    meaning, speech = plan_targets(semantic_task(), RATES)
    assert (meaning.min_length, meaning.max_length, speech.max_length) == (1, 750, 750)


def test_limits_of_the_caller_replace_those_of_the_card():
    [speech] = plan_targets(TASKS["tts"], RATES, max_seconds=0.1)
    assert (speech.max_length, speech.limit(1000)) == (2, 2)
    [speech] = plan_targets(TASKS["tts"], RATES, max_seconds=0.001)
    assert speech.max_length == 1
    [text] = plan_targets(TASKS["asr"], RATES, max_text_tokens=3)
    assert text.max_length == 3


@pytest.mark.parametrize(("name", "value"), [("max_seconds", 0), ("max_text_tokens", -1), ("max_seconds", "long")])
def test_a_limit_without_room_is_refused(name, value):
    with pytest.raises(GenerationError, match=rf"{name} is {value!r}; it must be a "):
        plan_targets(TASKS["tts"], RATES, **{name: value})


def test_room_for_positions_covers_every_target_at_its_longest():
    plans = [TargetPlan("a", "text", max_length=3), TargetPlan("b", "audio", max_length=50, per_character=2.0)]
    # <text> 3 </text>, <audio> 50 </audio> because the text is not known yet, <eos>
    assert Grammar(plans, VOCABULARY, PATTERN, len, n_characters=1).max_positions == 5 + 52 + 1
    assert Grammar(plans[1:], VOCABULARY, PATTERN, len, n_characters=10).max_positions == 22 + 1
