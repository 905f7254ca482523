"""Long texts and recordings: where they are cut, that each part is what it is alone, that the voice is handed on."""

import json

import pytest
import soundfile
import torch
from toy_checkpoint import lasting, tone, toy_model, toy_parts

from unitok.api import Model
from unitok.audio import Audio
from unitok.checkpoint import Checkpoint, save_checkpoint
from unitok.cli.main import main
from unitok.errors import AudioFormatError, CardError, GenerationError
from unitok.long_form import LongFormSettings, later, split_text, windows
from unitok.tasks import Task

TEXT = "the first one, for a start. is it the second? yes!"


@pytest.fixture(scope="module")
def model():
    return Model(parts())


def parts() -> Checkpoint:
    return lasting(toy_parts(ar_codebooks=4), seconds_per_character=0.05)


def texts(text: str, longest: int = 200) -> list[str]:
    return [piece.text for piece in split_text(text, longest)]


def test_a_text_is_cut_at_sentences():
    text = 'Dr. Smith paid 3.50 to J. Doe, e.g. for tea. "Really?" she said… No! 他来了。好。\n\na new one\nwithout end'
    assert texts(text) == [
        "Dr. Smith paid 3.50 to J. Doe, e.g. for tea.",
        '"Really?"',
        "she said…",
        "No!",
        "他来了。",
        "好。",
        "a new one without end",
    ]
    assert texts("  \n ") == []


def test_a_long_sentence_is_cut_at_clauses_and_else_between_words():
    sentence = "one two three, four five six; seven eight nine ten eleven twelve."
    assert split_text(sentence, 30) == [
        ("one two three, four five six;", False),
        ("seven eight nine ten eleven", False),
        ("twelve.", True),
    ]


@pytest.mark.parametrize("longest", [1, 7, 20, 33, 1000])
def test_no_word_is_cut_or_lost_whatever_the_limit(longest):
    text = " ".join(f"w{i}{',' * (i % 5 == 0)}{'.' * (i % 11 == 0)}" for i in range(60)) + " incomprehensibilities"
    pieces = texts(text, longest)
    assert " ".join(pieces).split() == text.split()
    assert all(len(piece) <= longest or " " not in piece for piece in pieces)


@pytest.mark.parametrize("streaming", [None, {"chunk_seconds": 0.1}], ids=["whole", "stream"])
def test_each_sentence_is_what_it_is_alone_between_silences(model, streaming):
    request = {"voice": "ab", "seed": 4, "max_seconds": 1.0}
    long = model.long_form("tts", text=TEXT, best_of=1, streaming=streaming, **request)
    pieces = list(long)
    wav = torch.cat([piece.samples for piece in pieces], dim=1)
    alone = [model.generate("tts", text=text, best_of=1, **request).samples for text in texts(TEXT)]
    assert [part.text for part in long.parts] == texts(TEXT) != []
    assert wav.shape[1] == sum(one.shape[1] for one in alone) + 2 * 4000
    assert long.duration_s == pytest.approx(wav.shape[1] / 16000)
    for part, one in zip(long.parts, alone, strict=True):
        start = round(part.start_s * 16000)
        made, inner = wav[:, start : start + one.shape[1]], slice(80, -80)  # 5 ms at either end are ramps
        assert torch.equal(made[:, inner], one[:, inner])
        assert made[:, 0].abs() < 0.01 * one[:, 0].abs()
        assert made[:, -1].abs() < 0.01 * one[:, -1].abs()
    assert len(pieces) > (12 if streaming else 4)


def test_the_voice_of_the_first_sentence_prompts_the_others(model):
    first = model.run([model.request("tts", text=texts(TEXT)[0], seed=4, max_seconds=4.0)], best_of=1)[0]
    assert first.value.duration_s > 1.0
    prompt = first.sequence.codes("speech")[:, :75]  # the card uses 3 s
    expected = [first.value.duration_s]
    for text in texts(TEXT)[1:]:
        made = model.generate("tts", text=text, seed=4, max_seconds=4.0, prompt=prompt, best_of=1)
        expected.append(made.duration_s)
    long = model.long_form("tts", text=TEXT, best_of=1, seed=4, max_seconds=4.0)
    wav = torch.cat([piece.samples for piece in long], dim=1)
    assert [part.seconds for part in long.parts] == pytest.approx(expected)
    start = round(long.parts[2].start_s * 16000)
    assert torch.equal(wav[:, start + 80 : -80], made.samples[:, 80:-80])
    unprompted = model.generate("tts", text=texts(TEXT)[2], seed=4, max_seconds=4.0, best_of=1).samples
    assert unprompted.shape != made.samples.shape or not torch.equal(unprompted, made.samples)


def test_windows_end_where_it_is_quietest_and_lose_nothing(tmp_path):
    rate = 8000
    wav = 0.1 + 0.4 * torch.rand(1, 10 * rate)
    for at_s in (2.5, 4.8, 7.0):
        wav[:, round((at_s - 0.2) * rate) : round((at_s + 0.2) * rate)] *= 0.001
    file = Audio(wav, rate).write(tmp_path / "x.wav")
    read = Audio.read(file)
    for value in (read, str(file)):
        cut = list(windows(value, 3.0))
        assert torch.equal(torch.cat([window.samples for window in cut], dim=1), read.samples)
        ends = torch.tensor([window.duration_s for window in cut]).cumsum(0)
        assert ends[:3].tolist() == pytest.approx([2.5, 4.8, 7.0], abs=0.1)
        assert max(window.duration_s for window in cut) <= 3.0


def test_a_file_is_read_a_window_at_a_time(tmp_path, monkeypatch):
    file = Audio.of(tone(20.0)).write(tmp_path / "x.wav")
    sizes = []
    read = soundfile.SoundFile.read
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda self, n, **how: (sizes.append(n), read(self, n, **how))[1])
    one = next(windows(str(file), 2.0))
    assert one.duration_s <= 2.0
    assert sum(sizes) <= 2 * 2.0 * 16000


def test_text_of_a_recording_is_that_of_its_windows(model, tmp_path):
    file = str(Audio.of(tone(5.0)).write(tmp_path / "x.wav"))
    settings = LongFormSettings(window_seconds=2.0)
    long = model.long_form("asr", audio=file, settings=settings, seed=1, max_text_tokens=5)
    text = "".join(long)
    alone = [model.generate("asr", audio=one, seed=1, max_text_tokens=5) for one in windows(file, 2.0)]
    assert len(alone) >= 3
    assert text == " ".join(alone)
    assert [part.text for part in long.parts] == alone
    assert long.duration_s == pytest.approx(5.0)


def test_windows_are_as_long_as_the_card_says_unless_told_otherwise(tmp_path):
    model = toy_model()
    model.tasks["asr"] = model.tasks["asr"].with_defaults(window_seconds=2.0)
    file = str(Audio.of(tone(5.0)).write(tmp_path / "x.wav"))
    for settings, longest in ((None, 2.0), (LongFormSettings(window_seconds=1.0), 1.0)):
        long = model.long_form("asr", audio=file, settings=settings, max_text_tokens=3)
        assert "".join(long)
        assert longest / 2 < max(part.seconds for part in long.parts) <= longest
    with pytest.raises(CardError, match=r"window_seconds: is 0.1, allowed: a number from 0.5 to 300"):
        Task.from_card({**Task.load("asr").to_card(), "generate": {"window_seconds": 0.1}})


def test_time_stamps_of_a_window_are_those_of_the_recording():
    assert later("<0.00>the<0.52>doctor<x>", 12.3) == "<12.30>the<12.82>doctor<x>"


@pytest.mark.parametrize(
    ("task", "request_", "message"),
    [
        ("s2st_chain", {"audio": tone()}, r"task 's2st_chain' makes text, text, audio of audio; .* \(tts\)"),
        ("tts", {}, r"task 'tts' needs 'text' \(text\)"),
        ("tts", {"text": "hi", "streaming": {}, "best_of": 2}, r"best_of chooses between whole results"),
    ],
)
def test_what_has_no_long_form_is_refused(model, task, request_, message):
    with pytest.raises(GenerationError, match=message):
        model.long_form(task, **request_)


def test_empty_text_and_missing_files_are_refused(model):
    with pytest.raises(GenerationError, match=r"the text is empty"):
        next(model.long_form("tts", text=" * * * "))
    with pytest.raises(AudioFormatError, match=r"'nowhere.wav' does not exist"):
        next(model.long_form("asr", audio="nowhere.wav"))
    with pytest.raises(AudioFormatError, match=r"the recording holds no samples"):
        next(model.long_form("asr", audio=(torch.zeros(0), 16000)))
    with pytest.raises(GenerationError, match=r"task 'tts', 'text': got int, long form takes text"):
        model.long_form("tts", text=5)


@pytest.mark.parametrize(("name", "value"), [("characters", 0), ("pause_seconds", -1.0), ("window_seconds", 0.1)])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(GenerationError, match=rf"{name} is {value}; it must be"):
        LongFormSettings(**{name: value})


@pytest.mark.parametrize("how", [[], ["--stream"]], ids=["whole", "stream"])
def test_the_command_writes_and_reads_what_python_does(how, tmp_path, capsys, model):
    folder = str(save_checkpoint(tmp_path / "toy", parts()))
    out = str(tmp_path / "x.wav")
    argv = ["generate", "--model", folder, "--long-form", "--best-of", "1", "--json"]
    tts = [
        *argv,
        *how,
        "--task",
        "tts",
        "--text",
        TEXT,
        "--voice",
        "ab",
        "--max-seconds",
        "1",
        "--pause-seconds",
        "0.1",
    ]
    assert main([*tts, "--out", out]) == 0
    row = json.loads(capsys.readouterr().out)
    assert [part["text"] for part in row["parts"]] == texts(TEXT)
    assert row["seconds"] == pytest.approx(Audio.read(out).duration_s)
    settings = LongFormSettings(pause_seconds=0.1)
    long = model.long_form("tts", text=TEXT, voice="ab", max_seconds=1.0, best_of=1, settings=settings)
    expected = torch.cat([piece.samples for piece in long], dim=1)
    torch.testing.assert_close(Audio.read(out).samples, expected, atol=1e-4, rtol=0)
    asr = [*argv[:-1], "--task", "asr", "--audio", out, "--window-seconds", "1", "--max-text-tokens", "5"]
    assert main(asr) == 0
    heard = model.long_form("asr", audio=out, max_text_tokens=5, settings=LongFormSettings(window_seconds=1.0))
    assert capsys.readouterr().out == "".join(heard) + "\n"


def test_texts_are_cut_to_what_the_card_takes_and_marks_alone_are_not_said():
    model = toy_model()
    model.tasks["tts"] = model.tasks["tts"].with_defaults(max_characters=12)
    long = model.long_form("tts", text="one, two, three four. * * * five", max_seconds=0.2)
    assert list(long)
    assert [part.text for part in long.parts] == ["one, two,", "three four.", "* * * five"]
    assert [one.text for one in split_text("One.\n\n* * *\n\nTwo.", 9)] == ["One.", "Two."]
