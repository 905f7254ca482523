"""unitok tokenizers, tokenize, detokenize: through the real command line."""

import json
import re

import numpy as np
import pytest
import torch

from unitok.audio import Audio
from unitok.checkpoint import find_checkpoint
from unitok.cli.main import main
from unitok.evaluation.codecs import mel_distance, stoi
from unitok.testing import ToyAudioTokenizer
from unitok.tokenizers import save_tokenizer


def tone(seconds, hz=440, rate=16000, channels=1):
    t = torch.arange(int(seconds * rate)) / rate
    wav = (0.1 + 0.3 * t / seconds) * torch.sin(2 * torch.pi * hz * t)
    return Audio(wav.expand(channels, -1), rate)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "in").mkdir()
    tone(0.5).write(tmp_path / "in" / "a.wav")
    tone(0.81, rate=22050, channels=2).write(tmp_path / "in" / "b.wav")
    return [str(tmp_path / "in" / name) for name in ("a.wav", "b.wav")]


@pytest.fixture
def toy(tmp_path):
    return str(save_tokenizer(ToyAudioTokenizer(), tmp_path / "toy"))


def test_the_list_and_one_in_detail(capsys):
    assert main(["tokenizers"]) == 0
    out = capsys.readouterr().out
    assert re.search("encodec_24khz +24 kHz mono, 75 frames/s, 8 × 1024 codes", out)
    assert main(["tokenizers", "encodec_48khz"]) == 0
    out = capsys.readouterr().out
    assert "4 in use, 16 in the network" in out
    assert "official 48khz" in out
    assert main(["tokenizers", "--json"]) == 0
    listed = {card["name"]: card for card in json.loads(capsys.readouterr().out)}
    assert listed["dac_44khz"]["codebooks"] == 9
    assert listed["bytes"]["modality"] == "text"


def test_random_weights_are_shown_as_such(tmp_path, capsys):
    (tmp_path / "tokenizers").mkdir()
    (tmp_path / "tokenizers" / "mine.yaml").write_text(
        "name: mine\nkind: dac\nsample_rate_hz: 8000\nweights: random\nseed: 3\n"
    )
    (tmp_path / "tokenizers" / "broken.yaml").write_text("name: broken\nkind: dac\n")
    assert main(["--cards", str(tmp_path), "tokenizers"]) == 0
    captured = capsys.readouterr()
    assert "RANDOM (seed 3), only for tests" in captured.out
    assert "broken.yaml: weights: missing" in captured.err


def test_check_names_all_mistakes_of_a_card(tmp_path, capsys):
    path = tmp_path / "my.yaml"
    path.write_text("name: my\nkind: dac\nsample_rate_hz: 8000\nweights: official\nrelease: 8khz\ncodeboks: 3\n")
    assert main(["tokenizers", "--check", str(path)]) == 2
    err = capsys.readouterr().err
    assert "release: is '8khz', allowed: 16khz, 24khz, 44khz" in err
    assert "codeboks: unknown key. Did you mean 'codebooks'?" in err
    path.write_text("name: my\nkind: dac\nsample_rate_hz: 8000\nweights: random\ncodebooks: 3\n")
    assert main(["tokenizers", "--check", str(path)]) == 0
    assert capsys.readouterr().out.strip() == f"{path}: fine. 8 kHz mono, 15.62 frames/s, 3 × 1024 codes"


def test_codes_hold_all_that_decoding_needs_and_no_pickle(files, toy, tmp_path, capsys):
    out = tmp_path / "codes.npz"
    assert main(["tokenize", *files, "--tokenizer", toy, "--out", str(out)]) == 0
    assert capsys.readouterr().out == ""
    with np.load(out, allow_pickle=False) as stored:
        assert stored["codes"].shape == (2, 4, 21)
        assert stored["codes"].dtype == np.int16
        assert stored["lengths"].tolist() == [13, 21]
        assert stored["samples"].tolist() == [8000, 12960]
        assert stored["names"].tolist() == files
        assert str(stored["tokenizer"]) == toy
        assert str(stored["fingerprint"]) == ToyAudioTokenizer().fingerprint
        assert (int(stored["sample_rate_hz"]), float(stored["frame_rate_hz"])) == (16000, 25.0)
        audio = Audio.read(files[1])
        expected = ToyAudioTokenizer().encode(audio.samples[None], audio.sample_rate_hz).codes[0]
        assert stored["codes"][1].tolist() == expected.tolist()
        assert not stored["codes"][0, :, 13:].any()


def test_detokenize_is_the_way_back(files, toy, tmp_path):
    out = tmp_path / "codes.npz"
    assert main(["tokenize", *files, "--tokenizer", toy, "--out", str(out)]) == 0
    assert main(["detokenize", str(out), "--out", str(tmp_path / "wavs")]) == 0
    for name, n_samples in (("a", 8000), ("b", 12960)):
        audio = Audio.read(tmp_path / "wavs" / f"{name}.wav")
        assert (audio.samples.shape, audio.sample_rate_hz) == ((1, n_samples), 16000)
    again = tmp_path / "again.npz"
    wavs = [str(tmp_path / "wavs" / f"{name}.wav") for name in "ab"]
    assert main(["tokenize", *wavs, "--tokenizer", toy, "--out", str(again)]) == 0
    with np.load(out) as first, np.load(again) as second:
        whole = first["lengths"] - 1  # the last frame is cut to the audio's length, which changes its loudness
        for i, n in enumerate(whole):
            assert first["codes"][i, :, :n].tolist() == second["codes"][i, :, :n].tolist()


def test_one_row_goes_to_the_file_named(files, toy, tmp_path):
    out, wav = tmp_path / "codes.npz", tmp_path / "x.flac"
    assert main(["tokenize", files[0], "--tokenizer", toy, "--out", str(out), "--codebooks", "2"]) == 0
    with np.load(out) as stored:
        assert stored["codes"].shape[1] == 2
    assert main(["detokenize", str(out), "--out", str(wav), "--codebooks", "1"]) == 0
    expected = ToyAudioTokenizer().encode(Audio.read(files[0]).samples[None], 16000).codes[:, :1]
    decoded = ToyAudioTokenizer().decode(expected)[0, :, :8000]
    assert torch.allclose(Audio.read(wav).samples, decoded, atol=1e-4)


def test_rows_of_one_name_are_numbered(files, toy, tmp_path):
    out = tmp_path / "codes.npz"
    assert main(["tokenize", files[0], files[0], "--tokenizer", toy, "--out", str(out)]) == 0
    assert main(["detokenize", str(out), "--out", str(tmp_path / "wavs")]) == 0
    assert sorted(path.name for path in (tmp_path / "wavs").iterdir()) == ["a.0.wav", "a.1.wav"]


def test_a_bad_file_is_reported_and_the_rest_written(files, toy, tmp_path, capsys):
    bad, out = tmp_path / "bad.wav", tmp_path / "codes.npz"
    bad.write_bytes(b"RIFF no audio")
    assert main(["tokenize", files[0], str(bad), "--tokenizer", toy, "--out", str(out)]) == 1
    assert "bad.wav' cannot be read" in capsys.readouterr().err
    with np.load(out) as stored:
        assert stored["names"].tolist() == [files[0]]
    assert main(["tokenize", str(bad), "--tokenizer", toy, "--out", str(tmp_path / "none.npz")]) == 2
    assert not (tmp_path / "none.npz").exists()


def test_mistakes_are_one_line_and_status_2(files, toy, tmp_path, capsys):
    out = tmp_path / "codes.npz"
    assert main(["tokenize", *files, "--tokenizer", toy, "--out", str(out)]) == 0
    other = str(save_tokenizer(ToyAudioTokenizer(codebook_size=4), tmp_path / "other"))
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(out.read_bytes()[:200])
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, codes=np.array([{}], dtype=object))
    capsys.readouterr()
    for argv, message in [
        (
            ["tokenize", *files, "--tokenizer", toy, "--out", "codes.txt"],
            "--out is 'codes.txt', allowed: a file that ends in .npz",
        ),
        (
            ["tokenize", *files, "--tokenizer", "bytes", "--out", str(out)],
            "is a text tokenizer, an audio one is needed",
        ),
        (
            ["tokenize", *files, "--tokenizer", toy, "--out", str(out), "--codebooks", "9"],
            "codebooks are 9, allowed: 1 to 4",
        ),
        (["detokenize", str(out), "--out", str(tmp_path / "x.wav")], "but there are 2 rows. Name a folder"),
        (["detokenize", str(out), "--out", str(tmp_path), "--codebooks", "5"], "--codebooks is 5, allowed: 1 to 4"),
        (
            ["detokenize", str(out), "--out", str(tmp_path), "--tokenizer", other],
            "was made with fingerprint toy-4x8-25hz",
        ),
        (
            ["detokenize", "none.npz", "--out", "x.wav"],
            "codes file 'none.npz' does not exist. Make one: unitok tokenize",
        ),
        (["detokenize", str(tmp_path), "--out", "x.wav"], "is a folder. Name the codes file in it"),
        (["detokenize", str(damaged), "--out", "x.wav"], "is no .npz, or is damaged"),
        (["detokenize", str(pickled), "--out", "x.wav"], "is no .npz, or is damaged: Object arrays cannot be loaded"),
    ]:
        assert main(argv) == 2, argv
        captured = capsys.readouterr()
        assert captured.out == ""
        assert len(captured.err.strip().splitlines()) == 1, captured.err
        assert message in captured.err


def test_codecs_are_measured_on_a_recording(files, toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("UNITOK_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    mini = str(find_checkpoint("mini") / "tokenizers" / "audio")
    assert main(["tokenizers", toy, mini, "encodec_24khz", "--bench", files[1]]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].split() == ["CODEC", "kbit/s", "frames/s", "codebooks", "encode", "decode", "STOI", "mel", "dB"]
    assert lines[2].split()[:4] == ["mini_16khz", "1.8", "25", "8"]
    assert "left out: encodec_24khz: " in out
    assert main(["tokenizers", mini, "--bench", files[1], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["codecs"][0]
    assert found["encode_speed"] > 0
    assert 0 <= found["mel_distance_db"] < 40


def test_silence_is_no_benchmark(tmp_path, toy, capsys):
    Audio(torch.zeros(1, 16000), 16000).write(tmp_path / "nothing.wav")
    assert main(["tokenizers", toy, "--bench", str(tmp_path / "nothing.wav")]) == 2
    assert "the recording is silent" in capsys.readouterr().err


def test_the_distance_of_half_as_loud_is_six_decibels():
    audio = Audio(torch.randn(1, 16000, generator=torch.Generator().manual_seed(0)) * 0.3, 16000)
    quieter = Audio(audio.samples / 2, 16000)
    assert mel_distance(audio, audio) == 0
    assert mel_distance(audio, quieter) == pytest.approx(6.02, abs=0.05)
    assert stoi(audio, audio) == pytest.approx(1.0, abs=1e-6)
