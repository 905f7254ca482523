"""`unitok generate --stream` and `--out -`: what goes out while it is made, and what is refused."""

import io
import json
import sys

import pytest
import soundfile
import torch
from toy_checkpoint import tone, toy_model, toy_parts

from unitok.audio import Audio, AudioWriter, PipeWriter
from unitok.checkpoint import save_checkpoint
from unitok.cli.main import main
from unitok.errors import AudioFormatError


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(save_checkpoint(tmp_path_factory.mktemp("model") / "toy", toy_parts(ar_codebooks=4)))


@pytest.fixture
def tts(folder) -> list[str]:
    return ["generate", "--task", "tts", "--text", "hello", "--model", folder, "--max-seconds", "0.8", "--seed", "3"]


@pytest.fixture(scope="module")
def expected() -> torch.Tensor:
    model = toy_model(ar_codebooks=4)
    return model.generate("tts", text="hello", seed=3, max_seconds=0.8, best_of=1).samples


class Pipe(io.BytesIO):
    """What stdout is where a player reads it."""

    @property
    def buffer(self) -> io.BytesIO:
        return self

    def isatty(self) -> bool:
        return False


def test_a_file_grows_under_another_name_and_is_what_was_made(tts, expected, tmp_path, monkeypatch, capsys):
    sizes = []
    write = AudioWriter.write

    def noted(self, audio):
        write(self, audio)
        [partial] = [path for path in tmp_path.iterdir() if path.suffix == ".wav"]
        sizes.append((partial.name.startswith(".x."), partial.stat().st_size))

    monkeypatch.setattr(AudioWriter, "write", noted)
    out = tmp_path / "x.wav"
    assert main([*tts, "--stream", "--chunk-seconds", "0.1", "--out", str(out), "--verbose"]) == 0
    assert len(sizes) >= 3
    assert all(hidden for hidden, _ in sizes)
    assert [size for _, size in sizes] == sorted({size for _, size in sizes})
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"]
    torch.testing.assert_close(Audio.read(out).samples, expected, atol=1e-4, rtol=0)
    assert "s for 1 s of audio" in capsys.readouterr().err


def test_json_has_the_latency_and_the_speed(tts, tmp_path, capsys):
    assert main([*tts, "--stream", "--out", str(tmp_path / "x.wav"), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["audio"] == str(tmp_path / "x.wav")
    assert row["seconds"] == Audio.read(row["audio"]).duration_s
    assert 0 < row["first_seconds"] < 60
    assert row["real_time_factor"] > 0


@pytest.mark.parametrize("how", [["--stream"], []], ids=["stream", "whole"])
def test_a_pipe_gets_a_wav_of_unknown_length(how, tts, expected, monkeypatch):
    pipe = Pipe()
    monkeypatch.setattr(sys, "stdout", pipe)
    assert main([*tts, *how, "--best-of", "1", "--out", "-"]) == 0
    data = pipe.getvalue()
    assert data[:4] == b"RIFF"
    assert data[4:8] == data[40:44] == b"\xff\xff\xff\xff"
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    assert rate == 16000
    torch.testing.assert_close(torch.from_numpy(samples.T), expected, atol=1e-4, rtol=0)


def test_raw_is_the_wav_without_its_header(tts, monkeypatch):
    made = []
    for raw in ([], ["--raw"]):
        pipe = Pipe()
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main([*tts, "--stream", "--out", "-", *raw]) == 0
        made.append(pipe.getvalue())
    assert made[0][44:] == made[1]


def test_text_is_printed_as_on_its_own(folder, tmp_path, capsys):
    wav = str(Audio.of(tone()).write(tmp_path / "x.wav"))
    argv = ["generate", "--task", "asr", "--audio", wav, "--model", folder, "--max-text-tokens", "9"]
    printed = []
    for how in ([], ["--stream"]):
        assert main([*argv, *how]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] != "\n"


def test_nothing_is_left_of_a_file_that_failed(tmp_path):
    def fail():
        with AudioWriter(tmp_path / "x.wav", 16000) as file:
            file.write(Audio.of(tone()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_pieces_of_another_rate_are_refused(tmp_path):
    message = r"a piece is Audio\(0\.50 s, 8000 Hz, mono\), the file has 16000 Hz and 1 channels"
    with AudioWriter(tmp_path / "x.wav", 16000) as file, pytest.raises(AudioFormatError, match=message):
        file.write(Audio.of(tone(rate=8000)))
    with pytest.raises(AudioFormatError, match=message):
        PipeWriter(io.BytesIO(), 16000).write(Audio.of(tone(rate=8000)))


def test_loud_samples_are_clipped_alike_in_files_and_pipes(tmp_path):
    audio, pipe = Audio(torch.linspace(-1.5, 1.5, 301)[None], 16000), io.BytesIO()
    PipeWriter(pipe, 16000, raw=True).write(audio)
    piped = torch.frombuffer(bytearray(pipe.getvalue()), dtype=torch.int16)
    written, _ = soundfile.read(audio.write(tmp_path / "x.wav"), dtype="int16")
    assert (piped.int() - torch.from_numpy(written).int()).abs().max() <= 1
    assert piped.max() == 32767


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--stream"], "makes audio: say where to"),
        (["--stream", "--out", "x.wav", "--plot", "x.png"], "--plot draws whole results"),
        (["--stream", "--out", "x.wav", "--best-of", "3"], "best_of chooses between whole results"),
        (["--stream", "--out", "-", "--json"], "--out - fills stdout: leave --json out"),
        (["--out", "-", "--plot", "x.png"], "--out - fills stdout: leave --plot out"),
        (["--stream", "--out", "x.wav", "--raw"], "--raw is for audio on stdout: add --out -"),
        (["--stream", "--manifest", "x.jsonl", "--out", "x"], "--stream is for one input"),
    ],
)
def test_what_does_not_go_together_is_refused(more, message, tts, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*tts, *more]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_out_on_stdout_is_refused_for_text(folder, capsys):
    argv = ["generate", "--task", "asr", "--audio", "x.wav", "--model", folder, "--out", "-"]
    assert main(argv) == 2
    assert "--out -: task 'asr' makes no audio" in capsys.readouterr().err
