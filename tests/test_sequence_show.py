"""How a sequence prints and what its picture shows."""

import dataclasses

import pytest
import torch
from toy_sequences import N_CODEBOOKS, semantic_task, toy_builder

from unitok.errors import UnitokError
from unitok.plotting import _shades
from unitok.sequence import TokenSequence
from unitok.tasks import Task

TTS = Task.load("tts")
CODES = torch.ones(N_CODEBOOKS, 63, dtype=torch.int64)


def sequence() -> TokenSequence:
    return toy_builder().build(TTS, {"text": "a cab", "prompt": CODES[:2, :1], "speech": CODES}, lang="en")


def test_a_sequence_prints_as_a_line_that_a_person_understands():
    assert str(sequence()) == (
        "<bos> <task:tts> <lang:en> <text> a ▁ c a b </text> <audio> [2 × 1 frame, 0.0 s] </audio> "
        "<audio> [4 × 63 frames, 2.5 s] </audio> <eos>"
    )


def test_long_texts_are_cut_short_where_asked():
    text = "abcdefghijklmno" * 3
    long = toy_builder().build(TTS, {"text": text}, targets=False)
    assert "<text> a b c … </text>" in long.show(max_pieces=3)
    assert repr(long) == "TokenSequence(S=49, K=4: <bos> <task:tts> <text> a b c d e f g h … </text>)"
    assert "…" not in str(long)


def test_letters_that_are_spelled_in_bytes_print_as_letters():
    built = toy_builder().build(TTS, {"text": "ðə dɑktɚ\x07"}, targets=False)
    assert "<text> ð ə ▁ d ɑ k t ɚ <0x07> </text>" in str(built)
    assert "<text> ð ə … </text>" in built.show(max_pieces=2)
    first = built.segment("text").content.start
    half = dataclasses.replace(built, tokens=built.tokens.clone())
    half.tokens[first + 1] = half.tokens[first]
    assert "<text> <0xC3> <0xC3> <0xC9> <0x99> ▁ d" in str(half), "no text"


def test_without_tokenizer_and_rate_text_prints_as_a_count_and_audio_without_duration():
    full = sequence()
    bare = TokenSequence(full.tokens, full.segments, full.vocabulary)
    assert "<text> [5 tokens] </text> <audio> [2 × 1 frame] </audio> <audio> [4 × 63 frames] </audio>" in str(bare)


def test_semantic_and_empty_segments_print():
    built = toy_builder().build(semantic_task(), {"text": "", "meaning": torch.tensor([3])})
    assert str(built) == "<bos> <task:sem> <text> </text> <semantic> [1 token, 0.0 s] </semantic> <eos>"


def test_the_picture_is_written_whole_and_returned(tmp_path):
    figure = sequence().plot(tmp_path / "new" / "x.png")
    assert (tmp_path / "new" / "x.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.png"]
    assert figure._repr_png_().startswith(b"\x89PNG")  # a notebook shows it


def test_the_picture_is_white_exactly_where_slots_are_empty():
    built = sequence()
    white = (_shades(built) == 1.0).all(-1)
    assert torch.equal(white.T, built.tokens == 0)


def test_an_unknown_picture_format_is_refused(tmp_path):
    with pytest.raises(UnitokError, match=r"its suffix is '.xyz', allowed: .*png"):
        sequence().plot(tmp_path / "x.xyz")
    assert not list(tmp_path.iterdir())


def test_the_shortest_sequence_can_be_drawn(tmp_path):
    toy_builder().build(Task.load("lm"), {}, targets=False).plot(tmp_path / "x.svg")
    assert "<svg" in (tmp_path / "x.svg").read_text()
