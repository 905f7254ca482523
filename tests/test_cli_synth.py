"""`unitok synth` writes corpora and refuses what does not fit together."""

import json

import pytest

from unitok.cli.main import main
from unitok.data.manifest import read_manifest


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


def test_a_corpus_of_another_kind_is_not_continued(tmp_path, capsys):
    assert main(["synth", "--corpus", "sounds", "--out", str(tmp_path), "--utterances", "1"]) == 0
    assert main(["synth", "--out", str(tmp_path), "--utterances", "1"]) == 2
    assert "corpus: 'SoundCorpus' there, 'SpeechCorpus' asked for" in capsys.readouterr().err


def test_options_of_speech_are_refused_for_sounds(tmp_path, capsys):
    arguments = ["synth", "--corpus", "sounds", "--out", str(tmp_path), "--utterances", "1"]
    assert main([*arguments, "--voices", "slt"]) == 2
    assert "--voices is for --corpus speech; leave it out for sounds." in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("--rate", "2,1"), ("--pitch", "high"), ("--hours", "0")])
def test_values_out_of_range_are_refused(option, value, tmp_path, capsys):
    assert main(["synth", "--out", str(tmp_path), option, value]) == 2
    assert option in capsys.readouterr().err
