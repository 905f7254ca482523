"""Streams: tokens and samples of `generate`, sooner; ended early, refused, timed."""

import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from toy_checkpoint import lasting, tone, toy_model, toy_parts

from unitok.api import Model
from unitok.audio import Audio
from unitok.errors import GenerationError
from unitok.generation.refinement import RefineWindow
from unitok.model.cache import StaticCache
from unitok.tasks import SequenceBuilder

LONG = {"text": "a long enough text", "max_seconds": 2.4}
PATTERNS = {
    "multiscale": {"ar_codebooks": 4},
    "delay": {"pattern": "delay"},
    "parallel": {"pattern": "parallel"},
    "flatten": {"pattern": "flatten"},
    "flatten, grouped": {"pattern": "flatten", "groups": (0, 1, 1, 2)},
    "coarse_first": {"pattern": "coarse_first"},
}


def model_of(**changes) -> Model:
    """Return a model that goes on to the limit: all its audio lasts as long as it may."""
    return Model(lasting(toy_parts(**changes), seconds_per_character=1.0))


def joined(pieces) -> torch.Tensor:
    return torch.cat([piece.samples for piece in pieces], dim=1)


def whole(model: Model, task: str, **request) -> Any:
    return model.run([model.request(task, **request)], best_of=1)[0]


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("seed", [0, 1])
def test_tokens_and_samples_are_those_of_generate(name, seed):
    model = model_of(**PATTERNS[name])
    expected = whole(model, "tts", seed=seed, **LONG)
    stream = model.stream("tts", seed=seed, **LONG)
    pieces = list(stream)
    assert len(pieces) > 5 or name == "coarse_first"
    assert torch.equal(joined(pieces), expected.value.samples)
    assert stream.generation is not None
    assert torch.equal(stream.generation.sequence.tokens, expected.sequence.tokens)
    assert stream.generation.sequence.segments == expected.sequence.segments
    assert stream.generation.log_probability == expected.log_probability
    assert (stream.generation.stop, stream.generation.lengths) == (expected.stop, expected.lengths)
    assert stream.generation.values == {}


@pytest.mark.parametrize(
    ("name", "behind"), [("multiscale", 0), ("parallel", 0), ("delay", 3), ("flatten", 3), ("flatten, grouped", 2)]
)
def test_a_frame_goes_out_with_the_step_that_completes_it(name, behind):
    model = model_of(**PATTERNS[name])
    stride = model.lm.pattern.stride
    steps = []
    step = model.lm.step
    model.lm.step = lambda *args, **kwargs: (steps.append(1), step(*args, **kwargs))[1]
    arrivals = [(len(steps), len(piece.tokens)) for piece in model.engine.stream(model.request("tts", **LONG))]
    frames = [n_steps for n_steps, n in arrivals for _ in range(n)]
    assert len(frames) == 60
    # The prompt is the first step; it chooses row 0.
    expected = [1 + stride * t + behind for t in range(60)]
    assert frames == expected
    assert len(steps) >= expected[-1]


def test_the_first_piece_comes_long_before_the_last_step():
    model = model_of(ar_codebooks=4)
    stream = model.stream("tts", chunk_seconds=0.2, **LONG)
    steps = []
    step = model.lm.step
    model.lm.step = lambda *args, **kwargs: (steps.append(1), step(*args, **kwargs))[1]
    first = next(stream)
    assert isinstance(first, Audio)
    assert first.duration_s == pytest.approx(0.2)
    assert len(steps) == 5  # 0.2 s are 5 frames, and the codec needs none after them
    rest = list(stream)
    assert len(steps) == 61
    assert len(rest) == 11


@pytest.mark.parametrize("refinement", ["levels", "masked"])
@pytest.mark.parametrize("ar_codebooks", [1, 2])
def test_refined_in_one_stretch_it_is_the_whole(ar_codebooks, refinement):
    model = model_of(ar_codebooks=ar_codebooks, refinement=refinement)
    expected = whole(model, "tts", **LONG).sequence.codes("speech")
    request = model.request("tts", **LONG)
    pieces = list(model.engine.stream(request, RefineWindow(chunk=1000)))
    codes = model.vocabulary.tokens_to_codes(torch.cat([piece.tokens for piece in pieces]))
    same = codes if refinement == "levels" else codes[:ar_codebooks]  # masked passes draw other random numbers
    assert torch.equal(same, expected[: len(same)])


@pytest.mark.parametrize("refinement", ["levels", "masked"])
def test_refined_in_stretches_the_autoregressive_codebooks_stay(refinement):
    model = model_of(ar_codebooks=2, refinement=refinement)
    expected = whole(model, "tts", **LONG).sequence.codes("speech")
    stream = model.stream("tts", refine_seconds=0.4, refine_ahead_seconds=0.2, **LONG)
    pieces = list(stream)
    assert len(pieces) > 3
    assert stream.generation is not None
    codes = stream.generation.sequence.codes("speech")
    assert torch.equal(codes[:2], expected[:2])
    assert codes.shape == expected.shape
    with torch.inference_mode():
        wav = model.tokenizers.audio.decode(codes[None])[0]
    assert torch.equal(joined(pieces), wav)


def test_a_stretch_is_refined_as_the_model_alone_would():
    """Slow reference: the refiner on states and codes of exactly the frames that the window shows."""
    model = model_of(ar_codebooks=2)
    request, window = model.request("tts", **LONG), RefineWindow(chunk=10, ahead=4, past=7)
    pieces = [piece.tokens for piece in model.engine.stream(request, window) if len(piece.tokens)]
    codes = torch.cat(pieces)
    assert [len(piece) for piece in pieces[:3]] == [10, 10, 10]
    prompt = torch.cat([request.prompt.tokens, torch.zeros(1, 4, dtype=torch.long)])
    prompt[-1, 0] = model.vocabulary.start_id("audio")
    coarse = codes.clone()
    coarse[:, 2:] = 0
    with torch.inference_mode():
        hidden = model.lm.hidden(torch.cat([prompt, coarse])[None])[0, len(prompt) :]
        shown = slice(20 - 7, 30 + 4)
        grid = coarse[shown].clone()
        grid[:7] = codes[13:20]
        for level in (2, 3):
            found = model.lm.refine_logits(hidden[None, shown], grid[None], level)[0].argmax(-1)
            grid[7:, level] = model.vocabulary.ids_of(f"audio.{level}")[found[7:]]
    assert torch.equal(grid[7:17], codes[20:30])


def test_a_guided_stream_has_the_tokens_of_a_guided_whole():
    model = model_of(ar_codebooks=4)
    card = model.tasks["tts"]
    guided = tuple(replace(c, guided=c.name == "text") for c in card.conditions)
    model.tasks["tts"] = replace(card, conditions=guided)
    expected = whole(model, "tts", guidance=2.0, **LONG)
    stream = model.stream("tts", guidance=2.0, **LONG)
    assert torch.equal(joined(stream), expected.value.samples)
    assert not torch.equal(expected.sequence.tokens, whole(model, "tts", **LONG).sequence.tokens)


def test_text_comes_in_pieces_that_make_the_text():
    model = toy_model(ar_codebooks=4)
    expected = model.generate("asr", audio=tone(), seed=3, max_text_tokens=20)
    stream = model.stream("asr", audio=tone(), seed=3, max_text_tokens=20)
    pieces = list(stream)
    assert "".join(pieces) == expected
    assert len(pieces) > len(expected) / 2 > 3
    assert stream.generation is not None
    assert stream.generation.value == expected
    assert stream.timing.real_time_factor is None


def test_several_targets_come_one_after_the_other():
    model = toy_model(ar_codebooks=4)
    request = {"audio": tone(), "lang": "en", "seed": 2, "max_seconds": 0.8, "max_text_tokens": 6}
    expected = whole(model, "s2st_chain", **request)
    stream = model.stream("s2st_chain", **request)
    made: dict[str, list] = {}
    for value in stream:
        made.setdefault(stream.target or "", []).append(value)
    kinds = {segment.name: segment.kind for segment in expected.sequence.segments if segment.role == "target"}
    assert [name for name in kinds if name in made] == list(made)
    for name, kind in kinds.items():
        if kind == "audio":
            assert torch.equal(joined(made[name]), expected.values[name].samples)
        else:
            assert "".join(made.get(name, [])) == expected.values[name]


def test_a_stream_that_is_closed_frees_what_it_held(monkeypatch):
    model = model_of(ar_codebooks=4)
    caches = []
    new_cache = model.lm.new_cache
    monkeypatch.setattr(model.lm, "new_cache", lambda *sizes: _noted(new_cache(*sizes), caches))
    with model.stream("tts", **LONG) as stream:
        next(stream)
        [cache] = caches
        assert isinstance(cache(), StaticCache)
    gc.collect()
    assert cache() is None
    assert list(stream) == []
    assert stream.generation is None
    assert len(list(model.stream("tts", **LONG))) == 10  # and the model works on


def _noted(cache, caches):
    caches.append(weakref.ref(cache))
    return cache


def test_time_in_which_nobody_asks_does_not_count(monkeypatch):
    import unitok.streaming

    now = [0.0]
    monkeypatch.setattr(unitok.streaming.time, "perf_counter", lambda: now[0])
    model = model_of(ar_codebooks=4)
    step = model.lm.step
    monkeypatch.setattr(model.lm, "step", lambda *a, **k: (now.__setitem__(0, now[0] + 0.01), step(*a, **k))[1])
    stream = model.stream("tts", chunk_seconds=0.2, **LONG)
    for _ in stream:
        now[0] += 100.0
    assert stream.timing.first_s == pytest.approx(0.05)
    assert stream.timing.working_s == pytest.approx(0.61)
    assert stream.timing.audio_s == pytest.approx(2.4)
    assert stream.timing.real_time_factor == pytest.approx(0.61 / 2.4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"best_of": 2}, r"best_of chooses between whole results\. Stream with best_of=1"),
        ({"chunk_seconds": 0.0}, r"chunk_seconds is 0\.0; it must be a number above 0"),
        ({"refine_seconds": -1.0}, r"refine_seconds is -1\.0; it must be a number above 0"),
        ({"look_ahead_seconds": -0.5}, r"look_ahead_seconds is -0\.5; it must be a number, 0 or more"),
        ({"refine_ahead_seconds": -0.5}, r"refine_ahead_seconds is -0\.5; it must be a number, 0 or more"),
        ({"chunk_seconds": float("nan")}, r"chunk_seconds is nan; it must be a number above 0"),
        ({"look_ahead_seconds": float("inf")}, r"look_ahead_seconds is inf; it must be a number, 0 or more"),
        ({"chunk_seconds": "1"}, r"chunk_seconds is '1'; it must be a number above 0"),
    ],
)
def test_what_cannot_be_streamed_is_refused_before_any_work(settings, message):
    with pytest.raises(GenerationError, match=message):
        toy_model().stream("tts", text="hi", **settings)


def test_beams_are_refused():
    with pytest.raises(GenerationError, match=r"beams find the whole text .* Stream with beams=1"):
        next(toy_model().stream("asr", audio=tone(), beams=3))


def test_audio_for_a_place_in_a_recording_comes_with_what_is_around_it():
    parts = toy_parts(ar_codebooks=4, tasks=("speech_edit",))
    model = Model(parts)
    assert isinstance(model.builder, SequenceBuilder)
    card = model.tasks["speech_edit"]
    given = {"text": "hello", "before": tone(0.4), "after": tone(0.2)}
    request = {field.name: given[field.name] for field in card.conditions if field.name in given}
    expected = whole(model, "speech_edit", max_seconds=0.8, **request).value
    pieces = list(model.stream("speech_edit", max_seconds=0.8, **request))
    assert torch.equal(joined(pieces), expected.samples)
    assert expected.duration_s > 0.6
