"""Files and folders appear whole or not at all, and never over what somebody may miss."""

import pytest

from unitok.cli.main import main
from unitok.errors import UnitokError
from unitok.files import written_file, written_whole


def test_a_folder_of_another_kind_is_not_replaced(tmp_path):
    (tmp_path / "cat.jpg").write_text("cat")
    with (
        pytest.raises(UnitokError, match=r"exists and holds other things: it has no card\.yaml\. Choose another"),
        written_whole(tmp_path, "card.yaml"),
    ):
        raise AssertionError("nothing is begun")
    (tmp_path / "card.yaml").touch()
    with written_whole(tmp_path, "card.yaml") as partial:
        (partial / "new").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("more", [["--size", "300"], ["--features", "log_mel", "--clusters", "2"]])
def test_a_trained_tokenizer_takes_no_files_place(tmp_path, capsys, more):
    manifest, kept = tmp_path / "manifest.jsonl", tmp_path / "voice.wav"
    manifest.write_text('{"audio": "voice.wav", "text": "hello"}')
    kept.write_text("a recording")
    command = "train-tokenizer" if "--size" in more else "train-kmeans"
    assert main([command, "--manifest", str(manifest), "--out", str(kept), *more]) == 2
    assert f"'{kept}' exists and is a file; a folder is to be written. Choose" in capsys.readouterr().err
    assert kept.read_text() == "a recording"


def test_what_cannot_be_written_is_told_by_its_own_name(tmp_path):
    (tmp_path / "a.wav").touch()
    for path, reason in (
        (tmp_path, "it is a folder. Name a file in it"),
        (tmp_path / "a.wav" / "b.wav", f"'{tmp_path / 'a.wav'}' is no folder, a file is there"),
        (tmp_path / f"{'b' * 300}.wav", "File name too long. Choose another place"),
    ):
        with pytest.raises(UnitokError, match=f"cannot write '{path}': {reason}"), written_file(path):
            raise AssertionError("nothing is begun")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_a_file_where_a_folder_should_be_is_told(tmp_path, capsys):
    (tmp_path / "a.wav").touch()
    assert main(["synth", "--corpus", "tones", "--utterances", "1", "--out", str(tmp_path / "a.wav")]) == 2
    assert "a file is where a folder should be. Choose another place." in capsys.readouterr().err
