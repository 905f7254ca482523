"""Rows of a manifest as conditions and references, and the pairs that metrics look at."""

import json

import pytest
import torch

from unitok.audio import Audio
from unitok.errors import DataError
from unitok.evaluation.baselines import baseline, baselines_of, check_baselines
from unitok.evaluation.items import read_items
from unitok.evaluation.metric import NotMeasurableError
from unitok.evaluation.outcomes import Measured, Outcome, check_metric, measure, observe
from unitok.evaluation.tools import Tools
from unitok.tasks import Task

RATE = 16000


def tone(seconds=0.2, hz=300.0):
    return Audio((0.3 * torch.sin(torch.arange(round(seconds * RATE)) * hz * 2 * torch.pi / RATE))[None], RATE)


@pytest.fixture
def items(tmp_path):
    """Write audio files and a manifest, read it as items of a task."""
    for name in ("a", "b", "c"):
        tone().write(tmp_path / f"{name}.wav")

    def read(task, rows, **options):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_items(task if isinstance(task, Task) else Task.load(task), path, **options)

    return read


def names(values):
    return {key: value.name if hasattr(value, "name") else value for key, value in values.items()}


def test_rows_have_record_fields_or_the_names_of_the_task(items):
    record = {"id": "1", "audio": "a.wav", "text": "hi", "speaker": "eva", "lang": "en"}
    named = {"id": "1", "speech": "a.wav", "text": "hi", "voice": "eva", "lang": "en"}
    for row in (record, named):
        [item] = items("tts", [row])
        assert (item.id, item.lang) == ("1", "en")
        assert item.conditions == {"text": "hi", "voice": "eva"}
        assert names(item.reference) == {"speech": "a.wav"}


@pytest.mark.parametrize(
    ("row", "given", "right"),
    [
        ({"audio": "a.wav", "noisy_audio": "b.wav"}, "b.wav", "a.wav"),
        ({"audio": "b.wav", "speech": "a.wav"}, "b.wav", "a.wav"),
        ({"audio": "b.wav"}, "b.wav", None),
    ],
)
def test_a_name_that_is_anothers_record_field_goes_to_the_right_one(items, row, given, right):
    [item] = items("se", [row])
    assert item.conditions["audio"].name == given
    assert names(item.reference) == ({} if right is None else {"speech": right})


def test_a_prompt_that_is_needed_is_another_recording_of_the_speaker(items):
    rows = [
        {"audio": "a.wav", "source_audio": "c.wav", "speaker": "eva"},
        {"audio": "c.wav", "source_audio": "c.wav", "speaker": "bob"},
        {"audio": "b.wav", "source_audio": "c.wav", "speaker": "eva"},
    ]
    with pytest.raises(DataError, match="'row-000001': 'prompt' or 'audio' is missing, task 'vc' needs it"):
        items("vc", rows)
    rows[1]["speaker"] = "eva"
    assert [one.conditions["prompt"].name for one in items("vc", rows)] == ["c.wav", "b.wav", "a.wav"]
    assert [one.conditions["prompt"].name for one in items("vc", rows, limit=1)] == ["c.wav"]


def test_a_start_is_cut_off_the_reference(items):
    [item] = items("speech_continuation", [{"audio": "a.wav", "text": "hi"}])
    assert item.conditions["prompt"].n_samples == item.reference["speech"].n_samples == 1600


def test_all_rows_that_are_wrong_are_told_at_once(items):
    rows = [{"id": "x", "text": "hi", "audio": "d.wav"}, {"id": "y", "audio": "a.wav"}, {"id": "z", "text": 3}]
    with pytest.raises(DataError) as error:
        items("tts", rows)
    message = str(error.value)
    assert "'x': audio: audio file" in message
    assert "d.wav' does not exist; 'y': 'text' is missing" in message
    assert "'z': text: is int, text is needed" in message


def test_the_language_is_that_of_the_targets(items):
    rows = [{"audio": "a.wav", "lang": "es", "target_lang": "en"}, {"audio": "a.wav", "lang": "en"}, {"audio": "b.wav"}]
    assert [one.lang for one in items("s2st", rows, lang="fr")] == ["en", "en", "fr"]
    assert [one.lang for one in items("lid", rows[:2])] == [None, None]  # it is to find out


def test_each_metric_looks_at_the_last_target_it_takes_or_the_one_that_is_named():
    chain = Task.load("s2st_chain")
    found = {name: check_metric(name, chain) for name in ("asr_bleu", "bleu", "wer:transcript", "duration_ratio")}
    assert {name: target.name for name, target in found.items() if target} == {
        "asr_bleu": "speech",
        "bleu": "translation",
        "wer:transcript": "transcript",
        "duration_ratio": "speech",
    }
    with pytest.raises(DataError, match="no target 'transcrpt'. Did you mean 'transcript'"):
        check_metric("wer:transcrpt", chain)
    with pytest.raises(NotMeasurableError, match="'stoi' looks at targets of kind audio, task asr is text"):
        check_metric("stoi", Task.load("asr"))


class Parrot:
    """A recogniser that knows what it hears by its length."""

    name = "parrot"

    def hears(self, lang):
        return lang in (None, "en")

    def transcribe(self, audio, lang=None):
        return "the fox" if audio.n_samples < RATE else "the fox the fox"


def test_speech_is_compared_with_the_text_beside_it():
    tools = Tools(recognizer=Parrot())
    said = [
        Outcome({"text": "the fox"}, {"speech": tone()}, id="a"),
        Outcome({"text": "the box"}, {"speech": tone()}, id="b", lang="en"),
        Outcome({"text": "el zorro"}, {"speech": tone()}, id="c", lang="es"),
        Outcome({"text": "the fox"}, {}, id="d"),
    ]
    found = observe(["wer"], Task.load("tts"), said, tools)["wer"]
    assert isinstance(found, Measured)
    assert found.estimate.value == pytest.approx(1 / 4)
    assert found.values == {"a": 0, "b": 0.5}
    assert found.by == "parrot"
    assert found.left_out == {
        "c": "recogniser 'parrot' does not hear 'es'.",
        "d": "'speech' as it was made is missing.",
    }
    assert said[1].heard == {"speech": "the fox"}
    spoken = Outcome({"audio": tone()}, {"speech": tone()}, row={"text": "the fox jumps", "target_text": "the fox"})
    assert measure(Task.load("vc"), [spoken], ["wer"], tools)["wer"].value == pytest.approx(1 / 3)
    assert measure(Task.load("s2st"), [spoken], ["wer"], tools)["wer"].value == 0


def test_baselines_are_what_would_trivially_be_made():
    se, ac, mt = Task.load("se"), Task.load("ac"), Task.load("mt")
    assert baselines_of(se) == ("reference", "copy")
    assert baselines_of(ac) == ("majority",)
    assert baselines_of(mt) == ("copy",)
    assert baselines_of(Task.load("tts")) == ("reference",)
    clean, noisy = tone(), tone(hz=500.0)
    one = Outcome({"audio": noisy, "speech": clean}, {"speech": noisy})
    assert baseline("copy", se, [one])[0].generated["speech"] is noisy
    assert baseline("reference", se, [one])[0].generated["speech"] is clean
    labels = [Outcome({"label": label}, {"label": "x"}) for label in ("dog", "cat", "dog")]
    assert [o.generated["label"] for o in baseline("majority", ac, labels)] == ["dog"] * 3
    assert [o.generated["label"] for o in baseline("shuffled", ac, labels)] == ["cat", "dog", "dog"]
    assert measure(ac, baseline("majority", ac, labels), ["accuracy"])["accuracy"].value == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="no baseline 'majorty'. Did you mean 'majority'"):
        check_baselines(["majorty"])
    with pytest.raises(DataError, match="codec of a model: give --model"):
        check_baselines(["codec"])
