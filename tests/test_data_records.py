"""Record shards: what is written comes back, in any order, from many files, and codes of two codecs do not mix."""

import pickle
from dataclasses import replace

import pytest
import torch

from unitok.data.records import RecordMeta, RecordReader, RecordWriter, find_shards
from unitok.errors import DataError

K = 3
META = RecordMeta(
    fingerprint="toy:1",
    tokenizer="toy",
    frame_rate_hz=25.0,
    n_codebooks=K,
    codebook_size=50,
    sample_rate_hz=8000,
    audio_fields=("audio", "target"),
    plain_fields=(("text", "string"), ("seconds", "double"), ("tags", "json"), ("n", "int64")),
    unitok_version="0.1.0",
)


def records(n, first=0):
    generator = torch.Generator().manual_seed(first)
    return [
        {
            "id": f"r{first + i}",
            "text": f"text {i}",
            "seconds": i / 7,
            "tags": ["a", {"b": i}],
            "n": i if i % 2 else None,
            "audio": torch.randint(50, (K, 1 + i % 5), generator=generator),
            "audio.path": f"{i}.wav",
            "target": torch.randint(50, (K, 2), generator=generator) if i % 3 else None,
        }
        for i in range(n)
    ]


@pytest.fixture
def shards(tmp_path):
    writer, written = RecordWriter(tmp_path, META), []
    for index, n in enumerate((150, 1, 70)):  # more than one row group, and less
        part = records(n, first=1000 * index)
        writer.write(index, part)
        written += part
    return tmp_path, written


def check(record, expected):
    for name in ("id", "text", "seconds", "tags", "n"):
        assert record.get(name) == expected[name]
    for name in ("audio", "target"):
        if expected[name] is None:
            assert name not in record
        else:
            assert record[name].dtype == torch.int64
            assert torch.equal(record[name], expected[name])


def test_every_record_comes_back_in_any_order(shards):
    folder, written = shards
    reader = RecordReader(folder)
    assert len(reader) == len(written) == 221
    for index in torch.randperm(221, generator=torch.Generator().manual_seed(0)).tolist():
        check(reader[index], written[index])
    check(reader[-1], written[-1])
    with pytest.raises(IndexError):
        reader[221]


def test_columns_hold_lengths_and_values_without_reading_codes(shards):
    folder, written = shards
    reader = RecordReader(folder)
    assert reader.frames("audio").tolist() == [r["audio"].shape[1] for r in written]
    assert reader.frames("target").tolist() == [0 if r["target"] is None else 2 for r in written]
    assert reader.values("text") == [r["text"] for r in written]
    assert reader._cache_bytes == 0


def test_a_small_cache_forgets_and_reads_again(shards):
    folder, written = shards
    reader = RecordReader(folder, cache_mb=0)
    for index in (0, 200, 149, 150, 0, 64):
        check(reader[index], written[index])
        assert len(reader._cache) == 1


def test_a_reader_can_be_sent_to_a_worker(shards):
    folder, written = shards
    reader = RecordReader(folder)
    reader[3]
    check(pickle.loads(pickle.dumps(reader))[220], written[220])


def test_shards_of_another_codec_are_refused_with_both_fingerprints(shards):
    folder, _ = shards
    RecordWriter(folder / "other", replace(META, fingerprint="toy:2")).write(0, records(1))
    with pytest.raises(DataError, match=r"fingerprint toy:2.*fingerprint toy:1.*prepare both with one tokenizer"):
        RecordReader([folder, folder / "other"])


def test_shards_with_other_fields_are_refused(shards):
    folder, _ = shards
    RecordWriter(folder / "other", replace(META, plain_fields=(("text", "string"),))).write(0, records(1))
    with pytest.raises(DataError, match="has plain_fields="):
        RecordReader([folder, folder / "other"])


def test_the_order_of_fields_does_not_matter(shards):
    """Which comes first in a corpus depends on which its first row has."""
    folder, _ = shards
    turned = replace(META, plain_fields=META.plain_fields[::-1])
    other = records(3, first=7000)
    RecordWriter(folder / "other", turned).write(0, other)
    reader = RecordReader([folder, folder / "other"])
    assert len(reader) == 224
    for place, expected in enumerate(other, start=221):
        check(reader[place], expected)


def test_shards_are_found_by_folder_file_glob_and_list_each_once(shards):
    folder, _ = shards
    everything = [folder / f"part-0000{i}.parquet" for i in range(3)]
    assert find_shards(folder) == everything
    assert find_shards(str(folder / "part-0000[02].parquet")) == [everything[0], everything[2]]
    assert find_shards([folder, everything[1]]) == everything
    with pytest.raises(DataError, match="holds no record shard"):
        find_shards(folder / "nothing-*")


def test_a_damaged_and_a_foreign_file_are_errors(shards, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder, _ = shards
    (folder / "part-00001.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match="part-00001.parquet cannot be read as Parquet"):
        RecordReader(folder)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "foreign.parquet")
    with pytest.raises(DataError, match="no record shard of unitok"):
        RecordReader(tmp_path / "foreign.parquet")


def test_an_unknown_field_is_an_error_with_the_nearest_one(shards):
    with pytest.raises(DataError, match=r"no field 'txet'. Did you mean 'text'\?"):
        RecordReader(shards[0]).values("txet")


def test_codes_of_a_wrong_shape_are_refused_and_leave_no_file(tmp_path):
    bad = {**records(1)[0], "audio": torch.zeros(4, dtype=torch.int64)}
    with pytest.raises(DataError, match="record 'r0': codes of 'audio' must be"):
        RecordWriter(tmp_path, META).write(0, [bad])
    assert list(tmp_path.iterdir()) == []
