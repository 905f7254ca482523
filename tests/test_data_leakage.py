"""What a held-out set shares with training is found, on the command line too."""

import json

import pytest

from unitok.cli.main import main
from unitok.data.leakage import Leak, find_leaks
from unitok.errors import DataError


def write(path, *rows):
    path.write_text("\n".join(json.dumps({"id": f"{path.stem}-{i}", **row}) for i, row in enumerate(rows)))
    return path


@pytest.fixture
def train(tmp_path):
    return write(tmp_path / "train.jsonl", {"text": "Go home."}, {"caption": "A dog barks.", "script": {"a": [1, 2]}})


def test_the_same_words_are_a_leak_whatever_the_case_and_punctuation(train, tmp_path):
    held_out = write(tmp_path / "held.jsonl", {"text": "go HOME!"}, {"text": "Go away."}, {"caption": "Go home."})
    assert find_leaks([train], [held_out]) == [Leak("held-0", "text", "go home")]


def test_scripts_are_compared_as_values(train, tmp_path):
    held_out = write(tmp_path / "held.jsonl", {"caption": "A bark.", "script": {"a": [1, 2]}}, {"script": {"a": [2]}})
    assert [(leak.id, leak.field) for leak in find_leaks([train], [held_out])] == [("held-0", "script")]


def test_nothing_to_compare_is_a_mistake(train, tmp_path):
    held_out = write(tmp_path / "held.jsonl", {"audio": "x.wav"})
    with pytest.raises(DataError, match="no held-out row has any of the fields text, caption, script"):
        find_leaks([train], [held_out])


def test_the_command_fails_on_a_leak(train, tmp_path, capsys):
    arguments = ["leakage", "--train", str(train), "--held-out"]
    assert main([*arguments, str(write(tmp_path / "clean.jsonl", {"text": "Stay."}))]) == 0
    assert capsys.readouterr().out == "no held-out row is trained on\n"
    dirty = write(tmp_path / "dirty.jsonl", *[{"text": "Go home"}] * 12)
    assert main([*arguments, str(dirty)]) == 1
    out = capsys.readouterr().out
    assert "dirty-0: its text is trained on: go home" in out
    assert "and 2 more\n12 held-out rows leak" in out
