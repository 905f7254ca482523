"""`unitok prepare`: codes as the codec gives them, runs that resume, audio that cannot be read."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch

from unitok.audio import Audio
from unitok.cli.main import main
from unitok.data.manifest import write_manifest
from unitok.data.prepare import prepare
from unitok.data.records import RecordReader
from unitok.errors import DataError
from unitok.testing import ToyAudioTokenizer

N = 11


def write_wav(path, seconds, rate_hz=16000, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    n = int(seconds * rate_hz)
    envelope = np.interp(np.arange(n), np.linspace(0, n, 5), rng.uniform(0.05, 0.9, 5))
    soundfile.write(path, (rng.uniform(-1, 1, (n, channels)) * envelope[:, None]).astype(np.float32), rate_hz)


@pytest.fixture
def corpus(tmp_path):
    rows = []
    for i in range(N):
        write_wav(tmp_path / f"{i}.wav", 0.2 + 0.1 * ((i * 7) % N), seed=i)
        rows.append({"id": f"u{i}", "audio": f"{i}.wav", "text": f"text {i}", "seconds": i / 3, "tags": {"n": i}})
    write_manifest(tmp_path / "data.jsonl", rows)
    return tmp_path


def shards_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def test_records_hold_the_codes_of_each_file_alone_and_every_other_field(corpus):
    codec = ToyAudioTokenizer()
    report = prepare(corpus / "data.jsonl", codec, corpus / "out", shard_size=4, batch_seconds=1.5)
    assert (report.shards, report.records, report.resumed, report.errors) == (3, N, 0, ())
    reader = RecordReader(corpus / "out")
    frames = 0
    for i in range(N):
        audio = Audio.read(corpus / f"{i}.wav")
        codes = codec.encode(audio.samples[None], audio.sample_rate_hz).codes[0]
        record = reader[i]
        assert torch.equal(record["audio"], codes)
        assert (record["id"], record["text"], record["tags"]) == (f"u{i}", f"text {i}", {"n": i})
        assert record["seconds"] == i / 3
        frames += codes.shape[1]
    assert report.hours == pytest.approx(frames / 25 / 3600)
    assert reader.meta.fingerprint == codec.fingerprint


def test_a_run_that_was_stopped_goes_on_and_ends_with_the_same_files(corpus, monkeypatch):
    prepare(corpus / "data.jsonl", ToyAudioTokenizer(), corpus / "whole", shard_size=4)
    rows_done = []

    def stop_in_the_third_shard(done, total):
        rows_done.append(done)
        if done > 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(
            corpus / "data.jsonl",
            ToyAudioTokenizer(),
            corpus / "out",
            shard_size=4,
            on_progress=stop_in_the_third_shard,
        )
    assert sorted(shards_of(corpus / "out")) == ["part-00000.parquet", "part-00001.parquet"]
    written = (corpus / "out" / "part-00000.parquet").stat().st_mtime_ns
    report = prepare(corpus / "data.jsonl", ToyAudioTokenizer(), corpus / "out", shard_size=4)
    assert report.resumed == 2
    assert (corpus / "out" / "part-00000.parquet").stat().st_mtime_ns == written
    assert shards_of(corpus / "out") == shards_of(corpus / "whole")
    assert {path.suffix for path in (corpus / "out").iterdir()} == {".parquet"}


def test_rows_added_to_the_manifest_are_prepared_without_redoing_complete_shards(corpus):
    out = corpus / "out"
    prepare(corpus / "data.jsonl", ToyAudioTokenizer(), out, shard_size=4)
    with (corpus / "data.jsonl").open("a") as file:
        file.write(json.dumps({"id": "new", "audio": "0.wav", "text": "t", "seconds": 1.0, "tags": {}}) + "\n")
    report = prepare(corpus / "data.jsonl", ToyAudioTokenizer(), out, shard_size=4)
    assert (report.resumed, report.records) == (2, N + 1)


def break_audio(corpus):
    (corpus / "3.wav").write_bytes(b"RIFF nonsense")
    (corpus / "7.wav").unlink()


def test_audio_that_cannot_be_read_is_left_out_and_listed_also_after_a_resumed_run(corpus):
    break_audio(corpus)
    out = corpus / "out"
    report = prepare(corpus / "data.jsonl", ToyAudioTokenizer(), out, shard_size=4)
    assert [error["id"] for error in report.errors] == ["u3", "u7"]
    assert "does not exist" in report.errors[1]["error"]
    assert RecordReader(out).values("id") == [f"u{i}" for i in range(N) if i not in (3, 7)]
    listed = (out / "errors.jsonl").read_text()
    assert [json.loads(line)["path"] for line in listed.splitlines()] == ["3.wav", "7.wav"]
    (out / "part-00002.parquet").unlink()
    (out / "errors.jsonl").unlink()
    assert prepare(corpus / "data.jsonl", ToyAudioTokenizer(), out, shard_size=4).errors == report.errors
    assert (out / "errors.jsonl").read_text() == listed


def test_what_was_left_out_is_tried_again_by_a_later_run(corpus):
    broken = {name: (corpus / name).read_bytes() for name in ("3.wav", "7.wav")}
    break_audio(corpus)
    out = corpus / "out"
    prepare(corpus / "data.jsonl", ToyAudioTokenizer(), out, shard_size=4)
    (corpus / "3.wav").write_bytes(broken["3.wav"])
    report = prepare(corpus / "data.jsonl", ToyAudioTokenizer(), out, shard_size=4)
    assert [error["id"] for error in report.errors] == ["u7"]
    assert (report.resumed, report.records) == (2, N - 1)
    with pytest.raises(DataError, match="row 'u7', field 'audio'"):
        prepare(corpus / "data.jsonl", ToyAudioTokenizer(), out, shard_size=4, on_error="fail")


def test_fields_of_odd_values_come_back_and_odd_paths_are_left_out(corpus):
    values = [2**60 + 1, 0.5, 10**400, "", [1]]
    rows = [{"id": f"u{i}", "audio": "1.wav", "x": x, "y": x} for i, x in enumerate(values)]
    del rows[3]["y"], rows[4]["y"]
    rows += [{"id": "home", "audio": "~nobody-of-that-name/1.wav"}, {"id": "number", "audio": 3}]
    write_manifest(corpus / "odd.jsonl", rows)
    report = prepare(corpus / "odd.jsonl", ToyAudioTokenizer(), corpus / "out")
    assert [error["error"].split(",")[0] for error in report.errors] == [
        "the path is '~nobody-of-that-name/1.wav'",
        "the path is 3",
    ]
    reader = RecordReader(corpus / "out")
    assert reader.values("x") == [reader.value("x", i) for i in range(5)] == values
    assert reader.values("y") == [*values[:3], None, None]


def test_on_error_fail_stops_at_the_first_and_names_row_and_remedy(corpus):
    break_audio(corpus)
    with pytest.raises(DataError, match=r"row 'u3', field 'audio': .*3.wav.* --on-error skip"):
        prepare(corpus / "data.jsonl", ToyAudioTokenizer(), corpus / "out", on_error="fail")


def test_audio_of_other_rates_and_channels_and_several_fields(corpus):
    write_wav(corpus / "stereo.wav", 0.5, rate_hz=44100, channels=2)
    rows = [{"id": "a", "audio": "stereo.wav", "reply": "1.wav"}, {"id": "b", "audio": "2.wav"}]
    write_manifest(corpus / "two.jsonl", rows)
    prepare(corpus / "two.jsonl", ToyAudioTokenizer(), corpus / "out", audio_fields=("audio", "reply"))
    reader = RecordReader(corpus / "out")
    audio = Audio.read(corpus / "stereo.wav").mono().resample(16000)
    expected = ToyAudioTokenizer().encode(audio.samples[None], 16000).codes[0]
    assert torch.equal(reader[0]["audio"], expected)
    assert reader[0]["reply"].shape[0] == 4
    assert "reply" not in reader[1]


def test_a_folder_of_another_codec_or_manifest_is_refused(corpus):
    prepare(corpus / "data.jsonl", ToyAudioTokenizer(), corpus / "out", shard_size=4)
    with pytest.raises(DataError, match=r"was prepared with fingerprint=.* Choose another --out"):
        prepare(corpus / "data.jsonl", ToyAudioTokenizer(codebook_size=4), corpus / "out", shard_size=4)
    with pytest.raises(DataError, match="part-00001.parquet does not come from this manifest and shard size"):
        prepare(corpus / "data.jsonl", ToyAudioTokenizer(), corpus / "out", shard_size=100)


def test_an_audio_field_no_row_has_is_refused_with_the_nearest(corpus):
    with pytest.raises(DataError, match=r"no row has the field 'audi'. Did you mean 'audio'\?"):
        prepare(corpus / "data.jsonl", ToyAudioTokenizer(), corpus / "out", audio_fields=("audi",))


def test_the_command_prints_a_line_and_tells_by_its_status_whether_rows_were_left_out(corpus, capsys):
    arguments = ["prepare", "--manifest", f"{corpus}/data.jsonl", "--tokenizer", "toy_audio", "--out", f"{corpus}/out"]
    assert main(arguments) == 0
    assert "11 records" in capsys.readouterr().out
    shutil.rmtree(corpus / "out")
    break_audio(corpus)
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert "9 records" in printed.out
    assert "row 'u3'" in printed.err
    assert main([*arguments, "--on-error", "fail", "--shard-size", "20", "--out", f"{corpus}/other"]) == 2
    assert capsys.readouterr().err.startswith("unitok: ")
