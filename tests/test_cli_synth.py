"""`unitok synth` writes corpora and refuses what does not fit together."""

import json
import shutil

import pytest
import torch

from unitok.audio import Audio
from unitok.cli.main import main
from unitok.data.manifest import read_manifest
from unitok.data.synth.translation_corpus import TranslationCorpus


def test_sounds_are_written_with_captions_and_scripts(tmp_path, capsys):
    assert (
        main(["synth", "--corpus", "sounds", "--out", str(tmp_path), "--utterances", "3", "--seed", "2", "--json"]) == 0
    )
    summary = json.loads(capsys.readouterr().out)
    rows = read_manifest(summary["manifest"])
    assert summary["utterances"] == len(rows) == 3
    for row in rows:
        assert (tmp_path / row["audio"]).is_file()
        assert row["caption"]
        assert row["script"]["events"]


def test_tones_are_heard_at_many_pitches(tmp_path):
    assert main(["synth", "--corpus", "tones", "--out", str(tmp_path), "--utterances", "40"]) == 0
    rows = read_manifest(tmp_path / "manifest.jsonl")
    loudest = []
    for row in rows:
        audio = Audio.read(tmp_path / row["audio"])
        assert audio.duration_s == row["seconds"] == 2.4
        assert audio.samples.abs().max() == pytest.approx(0.8, abs=1e-3)
        loudest.append(float(torch.fft.rfft(audio.samples[0]).abs().argmax()) / 2.4)
    assert min(loudest) < 300
    assert max(loudest) > 3000


def test_a_corpus_of_another_kind_is_not_continued(tmp_path, capsys):
    assert main(["synth", "--corpus", "sounds", "--out", str(tmp_path), "--utterances", "1"]) == 0
    assert main(["synth", "--out", str(tmp_path), "--utterances", "1"]) == 2
    assert "corpus: 'SoundCorpus' there, 'SpeechCorpus' asked for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("corpus", "option", "takers"),
    [
        ("sounds", "voices", "speech or mixtures or commands or dialogues"),
        ("sounds", "words", "speech or translation"),
        ("translation", "rate", "speech"),
    ],
)
def test_options_of_another_corpus_are_refused(corpus, option, takers, tmp_path, capsys):
    arguments = ["synth", "--corpus", corpus, "--out", str(tmp_path), "--utterances", "1"]
    assert main([*arguments, f"--{option}", "1,2"]) == 2
    assert f"--{option} is for --corpus {takers}, not for {corpus}. Leave it out." in capsys.readouterr().err


@pytest.mark.skipif(not (shutil.which("flite") and shutil.which("espeak-ng")), reason="needs flite and espeak-ng")
def test_translations_are_written_with_both_sides(tmp_path, capsys):
    assert main(["synth", "--corpus", "translation", "--out", str(tmp_path), "--utterances", "2"]) == 0
    for row in read_manifest(tmp_path / "manifest.jsonl"):
        assert (tmp_path / row["audio"]).is_file()
        assert (tmp_path / row["target_audio"]).is_file()
        assert {row["lang"], row["target_lang"]} == {"en", "es"}
        assert row["text"] != row["target_text"]


def test_translations_may_be_text_alone(tmp_path, capsys):
    arguments = ["synth", "--corpus", "translation", "--text-only", "--out", str(tmp_path / "pairs")]
    assert main([*arguments, "--utterances", "3"]) == 0
    spoken = TranslationCorpus()
    for index, row in enumerate(read_manifest(tmp_path / "pairs" / "manifest.jsonl")):
        assert (row["text"], row["target_text"]) == tuple(side["text"] for side in spoken.sides(index))
        assert {"audio", "target_audio"}.isdisjoint(row)
    assert main([*arguments, "--hours", "1"]) == 2
    assert "Say how many pairs with --utterances" in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("flite"), reason="needs flite")
def test_noisy_speech_comes_beside_the_clean(tmp_path, capsys):
    assert main(["synth", "--noisy", "--out", str(tmp_path), "--utterances", "3"]) == 0
    for row in read_manifest(tmp_path / "manifest.jsonl"):
        clean, noisy = (Audio.read(tmp_path / row[field]) for field in ("audio", "noisy_audio"))
        assert clean.n_samples == noisy.n_samples
        assert not torch.equal(clean.samples, noisy.samples)
    assert main(["synth", "--out", str(tmp_path), "--utterances", "3"]) == 2
    assert "noisy: True there, False asked for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"), [("--rate", "2,1"), ("--pitch", "high"), ("--hours", "0"), ("--hours", "long")]
)
def test_values_out_of_range_are_refused(option, value, tmp_path, capsys):
    assert main(["synth", "--out", str(tmp_path), option, value]) == 2
    assert option in capsys.readouterr().err
