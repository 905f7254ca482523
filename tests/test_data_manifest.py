"""Manifests: rows, ids, paths, and mistakes reported together."""

import json

import pytest

from unitok.data.manifest import check_fields, read_manifest, resolve_path, write_manifest
from unitok.errors import DataError


def test_rows_come_back_as_written_and_a_missing_id_is_the_place_in_the_file(tmp_path):
    rows = [{"id": "a", "audio": "x.wav", "text": "Grüße", "n": 3}, {"audio": "y.wav"}]
    write_manifest(tmp_path / "m.jsonl", rows)
    assert read_manifest(tmp_path / "m.jsonl") == [rows[0], {"id": "row-000001", "audio": "y.wav"}]


def test_all_mistakes_of_a_manifest_are_listed_with_their_lines(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"id": "a"}\n\n{"id": "a"}\nnot json\n[1]\n')
    with pytest.raises(
        DataError, match=r"line 3: id 'a' is that of line 1.*line 4: not JSON.*line 5: a row is an object"
    ):
        read_manifest(path)


def test_a_missing_and_an_empty_manifest_are_errors(tmp_path):
    with pytest.raises(DataError, match=r"is a folder\. A manifest is a JSON Lines file"):
        read_manifest(tmp_path)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"picture\.png: is not UTF-8 text"):
        read_manifest(tmp_path / "picture.png")
    with pytest.raises(DataError, match="does not exist"):
        read_manifest(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="has no rows"):
        read_manifest(tmp_path / "empty.jsonl")


@pytest.mark.parametrize("text", ["one\u2028two", "one\x85two", "one\x0ctwo", "a\r\nb"])
def test_a_text_may_hold_what_other_programs_take_for_an_end_of_line(text, tmp_path):
    write_manifest(tmp_path / "m.jsonl", [{"id": "a", "text": text}])
    assert read_manifest(tmp_path / "m.jsonl") == [{"id": "a", "text": text}]


def test_a_file_from_windows_is_read(tmp_path):
    (tmp_path / "m.jsonl").write_bytes(b'\xef\xbb\xbf{"id": "a"}\r\n{"id": null}\r\n{"id": null}\r\n')
    assert [row["id"] for row in read_manifest(tmp_path / "m.jsonl")] == ["a", "row-000001", "row-000002"]


def test_what_is_no_text_is_said_with_its_place(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes('{"text": "Grüße"}'.encode("latin-1"))
    with pytest.raises(DataError, match=r"m\.jsonl: is not UTF-8 text .* at byte 12\)"):
        read_manifest(path)
    path.write_text('{"text": "\\ud83d\\ude00"}\n{"text": "\\ud83d"}\n')
    with pytest.raises(DataError, match=r"m\.jsonl: line 2: holds '\\ud83d', half a character. Remove it"):
        read_manifest(path)


def test_relative_paths_start_at_the_manifest_and_absolute_ones_stay(tmp_path):
    assert resolve_path("wav/a.wav", tmp_path / "m.jsonl") == tmp_path / "wav" / "a.wav"
    assert str(resolve_path("/data/a.wav", tmp_path / "m.jsonl")) == "/data/a.wav"


def test_a_field_no_row_has_is_an_error_with_the_nearest_one(tmp_path):
    rows = [json.loads('{"id": "a", "audio": "x.wav", "source_audio": null}')]
    check_fields(rows, ["audio"], "m.jsonl")
    with pytest.raises(DataError, match=r"no row has the field 'audoi'. Did you mean 'audio'\?"):
        check_fields(rows, ["audoi"], "m.jsonl")
    with pytest.raises(DataError, match="source_audio"):
        check_fields(rows, ["source_audio"], "m.jsonl")
