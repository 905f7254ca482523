"""Markers that a model spells: rows of any ids, none or several, in prompts, generation and scores."""

import pytest
import torch
from tiny_models import TASKS, random_codes, tiny_lm
from toy_sequences import N_CODEBOOKS, toy_builder

from unitok.generation.engine import Engine, GenerationRequest
from unitok.generation.scoring import score_sequences
from unitok.markers import Markers
from unitok.model.config import LMConfig, TransformerConfig
from unitok.tasks import Sampling, SequenceBuilder

VOCABULARY = toy_builder().vocabulary
TEXT = [int(id) for id in VOCABULARY.ids_of("text")[[7, 8, 9, 10]]]
SPELLING = {
    "<bos>": [[TEXT[0]], [TEXT[1]], [TEXT[2]]],
    "<lang:en>": [],
    "<text>": [],
    "condition </text>": [],
    "</text>": [[TEXT[3]], [TEXT[0]]],
    "<audio>": [[TEXT[1]], [TEXT[2]]],
    "<eos>": [],
}


def spelled(pattern="multiscale", spelling=SPELLING, **changes):
    """Return a tiny model that spells its markers, and its builder."""
    plain = toy_builder()
    lm = tiny_lm(plain, pattern=pattern, spelling=spelling, **changes)
    parts = plain.vocabulary, plain.text_tokenizer, plain.frame_rate_hz, lm.pattern
    return lm, SequenceBuilder(*parts, spelling=lm.config.spelling)


def test_rows_stand_where_markers_stood():
    _, builder = spelled()
    sequence = builder.build(TASKS["tts"], {"text": "ab", "speech": random_codes(3)}, lang="en")
    slot0 = sequence.tokens[:, 0].tolist()
    a, b = builder.vocabulary.text_to_tokens([97, 98])
    assert slot0[:8] == [*TEXT[:3], VOCABULARY.task_id("tts"), a, b, TEXT[1], TEXT[2]]
    assert slot0[-1] == VOCABULARY.end_id("audio")
    assert len(sequence) == 8 + 3 + 1
    assert [segment.name for segment in sequence.segments] == ["<bos>", "<task:tts>", "text", "speech"]
    assert sequence.loss_mask.nonzero()[:, 0].tolist() == [8, 9, 10, 11]
    assert torch.equal(sequence.codes("speech"), random_codes(3))
    assert sequence.split()["text"] == "ab"


@pytest.mark.parametrize("pattern", ["multiscale", "delay", "flatten"])
@pytest.mark.parametrize("task", ["tts", "asr", "s2st_chain"])
def test_what_is_generated_is_laid_out_as_the_builder_does(pattern, task):
    lm, builder = spelled(pattern)
    engine = Engine(lm, builder.vocabulary)
    requests = []
    for seed in range(3):
        values = {
            f.name: "abc" if f.kind == "text" else random_codes(4) for f in TASKS[task].conditions if not f.optional
        }
        prompt = builder.build(TASKS[task], values, lang="en", targets=False)
        sampling = Sampling(temperature=1.0, top_k=0)
        requests.append(GenerationRequest(prompt, TASKS[task], sampling, seed=seed, max_seconds=0.3, max_text_tokens=5))
    for request, result in zip(requests, engine.generate(requests), strict=True):
        sequence = result.sequence
        codes = {s.name: sequence.codes(s.name) for s in sequence.segments if s.kind == "audio"}
        values = {**{k: v for k, v in sequence.split().items() if isinstance(v, str)}, **codes}
        ids = {s.name: sequence.text_ids(s.name) for s in sequence.segments if s.kind == "text"}
        if all(builder.text_tokenizer.encode(values[name]) == found for name, found in ids.items()):
            again = builder.build(TASKS[task], values, lang="en")
            assert torch.equal(again.tokens, sequence.tokens)
            assert [(s.start, s.stop, s.content) for s in again.segments] == [
                (s.start, s.stop, s.content) for s in sequence.segments
            ]
        if result.stop == "end":
            score, _ = score_sequences(lm, [sequence])
            assert float(score) == pytest.approx(result.log_probability, abs=1e-3)
        assert torch.equal(engine.generate([request])[0].sequence.tokens, sequence.tokens)


def test_a_frame_can_end_audio_and_is_learnt_whole():
    end = [int(VOCABULARY.ids_of(f"audio.{k}")[2]) for k in range(N_CODEBOOKS)]
    lm, builder = spelled(spelling={"</audio>": [end]}, ar_codebooks=N_CODEBOOKS)
    sequence = builder.build(TASKS["tts"], {"text": "ab", "speech": random_codes(3)})
    assert sequence.tokens[-2].tolist() == end
    assert int(sequence.frame_mask.sum()) == int(sequence.loss_mask.sum()) == 4
    assert torch.equal(sequence.codes("speech"), random_codes(3))
    prompt = builder.build(TASKS["tts"], {"text": "ab"}, targets=False)
    request = GenerationRequest(prompt, TASKS["tts"], Sampling(greedy=True), max_seconds=0.2)
    [result] = Engine(lm, builder.vocabulary).generate([request])
    assert result.stop == "limit"
    assert result.sequence.codes("speech").shape == (N_CODEBOOKS, 5)
    assert result.sequence.tokens[-2].tolist() == end, "at the limit the frame is put there"


def test_a_form_holds_other_conditions():
    from unitok.tasks import Task

    card = TASKS["tts"].to_card()
    card["conditions"] = [
        {"name": "voice", "kind": "label", "optional": True, "default": "a"},
        {"name": "text", "kind": "text", "form": "[{voice}]{text}"},
    ]
    card |= {"example": {}}
    task = Task.from_card(card)
    assert Task.from_card(task.to_card()) == task
    builder = toy_builder()
    for values, said in (({}, "[a]x{y}"), ({"voice": "bo"}, "[bo]x{y}")):
        sequence = builder.build(task, {"text": "x{y}", **values}, targets=False)
        assert sequence.split() == {"text": said}
    card["conditions"][0].pop("default")
    assert builder.build(Task.from_card(card), {"text": "x"}, targets=False).split() == {"text": "x"}


def test_mistakes_in_a_spelling_are_named():
    with pytest.raises(ValueError, match=r"'<text>' has a row of 2 ids, allowed: 1, or K=4"):
        Markers(VOCABULARY, {"<text>": [[1, 2]]})
    with pytest.raises(ValueError, match=r"'<text>' has the ids \[99999\], allowed: 1 to"):
        Markers(VOCABULARY, {"<text>": [[99999]]})
    with pytest.raises(ValueError, match="'</audio>' has no rows, so that no target could end"):
        Markers(VOCABULARY, {"</audio>": []})
    small = TransformerConfig(n_layers=1, d_model=8, n_heads=2)
    with pytest.raises(ValueError, match="'</audio>' is a frame, which needs pattern 'multiscale' without refiner"):
        LMConfig(small, pattern="delay", spelling={"</audio>": [[1, 2, 3, 4]]})
    with pytest.raises(ValueError, match="condition_weight needs text among slot0_blocks"):
        LMConfig(small, condition_weight=0.5, slot0_blocks=("audio.0",))
