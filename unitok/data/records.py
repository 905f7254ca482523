"""Record shards: Parquet files that hold what is known of an utterance, with its audio as codes.

A record has fields, not a task's sequence, so that each task takes the fields it needs. One row of a shard:

    id  text  speaker  …          strings, numbers and truth values as in the manifest (anything else as JSON text)
    text.t5.states                float16, states [T, E] of the encoder `t5` of the field `text`, or samples for it
    audio.path                    the path as the manifest gave it
    audio.codes                   int16, the codes [K, T] of the field `audio`, row after row
    audio.frames audio.codebooks  T and K
    audio.semantic.ids            int16, the runs of semantic ids of the field `audio`, where a tokenizer made any
    audio.semantic.durations      int32, the frames of each run: together the id of every frame
    audio.semantic.runs … frames  how many of them

The schema's metadata holds a `RecordMeta`: which codec made the codes, and its rates. Shards of two codecs never mix.

K codebooks, T frames, of the codec or of the semantic tokenizer; R runs of equal semantic ids.
"""

from __future__ import annotations

import glob
import json
import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from unitok.errors import DataError, suggest
from unitok.tokenizers.runs import Runs

__all__ = ["FeatureColumn", "RecordMeta", "RecordReader", "RecordWriter", "SemanticColumns", "find_shards"]

META_KEY = b"unitok.records"
EXTRA_KEY = b"unitok.shard"
FORMAT_VERSION = 1
ROW_GROUP = 64
"""Rows read from disk at once; small enough for random access, large enough for Parquet's overhead."""


class FeatureColumn(NamedTuple):
    """What is stored of one field for one encoder (`unitok.features`)."""

    field: str
    """The field."""
    encoder: str
    """Name of the encoder, as the model's feature inputs and the cards of tasks call it."""
    dim: int
    """Width of its states; 0 where what it takes is stored: samples of audio."""
    fingerprint: str
    """Of the encoder; empty where its states are not stored."""

    @property
    def column(self) -> str:
        """Name of the column."""
        return f"{self.field}.{self.encoder}.{'states' if self.dim else 'samples'}"


class SemanticColumns(NamedTuple):
    """What made the semantic ids of all audio fields."""

    tokenizer: str
    """Name of the semantic tokenizer."""
    fingerprint: str
    """Its class, encoder, layer and centroids."""
    frame_rate_hz: float
    """Its frames in one second."""
    size: int
    """Its ids."""


@dataclass(frozen=True)
class RecordMeta:
    """What is true of every record in a folder of shards."""

    fingerprint: str
    """Of the codec: class, settings, hash of weights."""
    tokenizer: str
    """The codec's name."""
    frame_rate_hz: float
    """Codec frames in one second."""
    n_codebooks: int
    """Codebooks K stored."""
    codebook_size: int
    """Codes in one codebook."""
    sample_rate_hz: int
    """Rate of the codec's audio."""
    audio_fields: tuple[str, ...]
    """Fields stored as codes."""
    plain_fields: tuple[tuple[str, str], ...]
    """The other fields and their types: `string`, `int64`, `double`, `bool` or `json`."""
    unitok_version: str
    """Version that wrote the shards."""
    format_version: int = FORMAT_VERSION
    """Layout of the shards."""
    features: tuple[FeatureColumn, ...] = ()
    """What is stored for encoders."""
    semantic: SemanticColumns | None = None
    """Where semantic ids come from; None: there are none."""

    def schema(self) -> pa.Schema:
        """Return the Arrow schema of a shard, this object in its metadata."""
        types = {
            "string": pa.string(),
            "json": pa.string(),
            "int64": pa.int64(),
            "double": pa.float64(),
            "bool": pa.bool_(),
        }
        columns = [pa.field("id", pa.string(), nullable=False)]
        columns += [pa.field(name, types[kind]) for name, kind in self.plain_fields]
        for name in self.audio_fields:
            columns += [
                pa.field(f"{name}.path", pa.string()),
                pa.field(f"{name}.codes", pa.list_(pa.int16())),
                pa.field(f"{name}.frames", pa.int32()),
                pa.field(f"{name}.codebooks", pa.int16()),
            ]
            if self.semantic is not None:
                columns += [
                    pa.field(f"{name}.semantic.ids", pa.list_(pa.int16())),
                    pa.field(f"{name}.semantic.durations", pa.list_(pa.int32())),
                    pa.field(f"{name}.semantic.runs", pa.int32()),
                    pa.field(f"{name}.semantic.frames", pa.int32()),
                ]
        columns += [pa.field(one.column, pa.list_(pa.float16() if one.dim else pa.int16())) for one in self.features]
        columns += [pa.field(f"{one.column}.length", pa.int32()) for one in self.features]
        return pa.schema(columns, metadata={META_KEY: json.dumps(asdict(self)).encode()})

    @classmethod
    def of(cls, schema: pa.Schema, path: Path) -> RecordMeta:
        """Read the metadata back from the schema of the shard at `path`.

        Raises:
            DataError: If the file is no record shard, or of a newer layout.
        """
        stored = (schema.metadata or {}).get(META_KEY)
        if stored is None:
            raise DataError(
                f"{path} is a Parquet file but no record shard of unitok. Make shards with 'unitok prepare'."
            )
        values = json.loads(stored)
        if values.get("format_version", 0) > FORMAT_VERSION:
            raise DataError(
                f"{path} has layout {values['format_version']}, this unitok reads up to {FORMAT_VERSION}. "
                "Update unitok."
            )
        values = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        values["features"] = tuple(FeatureColumn(*one) for one in values.get("features", ()))
        values["semantic"] = SemanticColumns(*values["semantic"]) if values.get("semantic") else None
        values["audio_fields"] = tuple(values["audio_fields"])
        values["plain_fields"] = tuple((name, kind) for name, kind in values["plain_fields"])
        return cls(**values)


class RecordWriter:
    """Write shards `part-00000.parquet`, … into a folder, each complete or absent."""

    def __init__(self, folder: str | Path, meta: RecordMeta):
        self.folder = Path(folder)
        self.meta = meta
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, index: int) -> Path:
        """Return the file of shard `index`."""
        return self.folder / f"part-{index:05d}.parquet"

    def write(self, index: int, records: Sequence[Mapping[str, Any]], extra: Mapping[str, Any] | None = None) -> Path:
        """Write one shard under a temporary name and rename it.

        Args:
            index: Number of the shard.
            records: Rows: `id`, plain fields, `<field>.path` and, for each audio field, codes `[K, T]` and, where the
                shard has any, `<field>.semantic`: `Runs` (None where there is no audio).
            extra: Facts about this shard alone; `read_extra` returns them.

        Raises:
            DataError: If codes do not fit int16 or are not `[K, T]`.
        """
        kinds = dict(self.meta.plain_fields)
        rows = [self._row(record, kinds) for record in records]
        schema = self.meta.schema()
        schema = schema.with_metadata({**schema.metadata, EXTRA_KEY: json.dumps(dict(extra or {})).encode()})
        target = self.path(index)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            pq.write_table(
                pa.Table.from_pylist(rows, schema=schema),
                temporary,
                row_group_size=ROW_GROUP,
                compression="zstd",
                use_dictionary=False,
            )
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        return target

    def _row(self, record: Mapping[str, Any], kinds: Mapping[str, str]) -> dict[str, Any]:
        row: dict[str, Any] = {"id": record["id"]}
        for name, kind in kinds.items():
            value = record.get(name)
            row[name] = json.dumps(value, ensure_ascii=False) if kind == "json" and value is not None else value
        for name in self.meta.audio_fields:
            codes = record.get(name)
            row[f"{name}.path"] = record.get(f"{name}.path")
            if codes is None:
                continue
            if codes.ndim != 2 or codes.numel() and int(codes.max()) > np.iinfo(np.int16).max:
                raise DataError(
                    f"record '{record['id']}': codes of '{name}' must be [K, T] and below 32768, "
                    f"got {tuple(codes.shape)}."
                )
            row[f"{name}.codes"] = codes.to(torch.int16).flatten().numpy()
            row[f"{name}.codebooks"], row[f"{name}.frames"] = codes.shape
            runs: Runs | None = record.get(f"{name}.semantic")
            if runs is not None:
                row[f"{name}.semantic.ids"] = runs.ids.to(torch.int16).numpy()
                row[f"{name}.semantic.durations"] = runs.durations.to(torch.int32).numpy()
                row[f"{name}.semantic.runs"] = len(runs.ids)
                row[f"{name}.semantic.frames"] = int(runs.durations.sum())
        for one in self.meta.features:
            value = record.get(one.column)
            if value is not None:
                stored = value.half() if one.dim else (value.clamp(-1, 1) * np.iinfo(np.int16).max).round().short()
                row[one.column], row[f"{one.column}.length"] = stored.flatten().numpy(), len(value)
        return row


def read_extra(path: Path) -> tuple[RecordMeta, dict[str, Any]]:
    """Return the common and the own metadata of one shard, without reading its rows."""
    schema = _open(path).schema_arrow
    return RecordMeta.of(schema, path), json.loads((schema.metadata or {}).get(EXTRA_KEY, b"{}"))


def find_shards(where: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the shards that `where` means, sorted, each once.

    Args:
        where: A folder of shards, one shard, a glob such as `data/*/part-*.parquet`, or a list of these.

    Raises:
        DataError: If a part of `where` holds no shard.
    """
    found: dict[Path, None] = {}
    for item in [where] if isinstance(where, (str, Path)) else where:
        path = Path(item).expanduser()
        if path.is_dir():
            matches = sorted(path.glob("*.parquet"))
        elif path.is_file():
            matches = [path]
        else:
            matches = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
            matches = [
                shard for match in matches for shard in (sorted(match.glob("*.parquet")) if match.is_dir() else [match])
            ]
        if not matches:
            raise DataError(
                f"{item} holds no record shard (*.parquet). Make some: "
                f"unitok prepare --manifest data.jsonl --tokenizer NAME --out {item}"
            )
        found.update(dict.fromkeys(matches))
    if not found:
        raise DataError("no shards are named. Give a folder that 'unitok prepare' wrote.")
    return list(found)


class RecordReader:
    """Random access to the records of some shards.

    Small columns are read at once; codes are read by row groups through a memory map, and those used last are kept, up
    to `cache_mb`. A reader may be pickled or forked into the workers of a DataLoader.
    """

    def __init__(self, where: str | Path | Sequence[str | Path], cache_mb: int = 512):
        """Open shards.

        Args:
            where: See `find_shards`.
            cache_mb: Bound of the codes kept in memory, in MB.

        Raises:
            DataError: If a shard is damaged, or shards differ in codec, rate, codebooks or fields.
        """
        self.paths = find_shards(where)
        schemas = [_open(path).schema_arrow for path in self.paths]
        metas = [RecordMeta.of(schema, path) for schema, path in zip(schemas, self.paths, strict=True)]
        for path, meta in zip(self.paths, metas, strict=True):
            _check_alike(metas[0], meta, self.paths[0], path)
        self.meta = metas[0]
        light = [name for name in self.meta.schema().names if name not in self._heavy()]
        self._table = pa.concat_tables(
            [
                _open(path).read(columns=light, use_threads=False).select(light).replace_schema_metadata()
                for path in self.paths
            ]
        ).combine_chunks()
        self._starts, self._groups = _row_groups(self.paths)
        self._cache: OrderedDict[int, pa.Table] = OrderedDict()
        self._cache_bytes, self._cache_limit = 0, cache_mb * 2**20

    def __len__(self) -> int:
        return self._table.num_rows

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of all fields, audio fields last."""
        return ("id", *(name for name, _ in self.meta.plain_fields), *self.meta.audio_fields)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return record `index`: plain fields as stored, codes `[K, T]` int64, semantic `Runs`; what has a value."""
        index = range(len(self))[index]
        record = {
            name: value
            for name in self.fields
            if name not in self.meta.audio_fields
            if (value := self.value(name, index)) is not None
        }
        for name in self.meta.audio_fields:
            if (codes := self.codes(name, index)) is not None:
                record[name] = codes
            if (runs := self.semantic(name, index)) is not None:
                record[f"{name}.semantic"] = runs
        return record

    def value(self, name: str, index: int) -> Any:
        """Return the value of a plain field, None where there is none."""
        return self._plain(name, self._column(name)[index].as_py())

    def values(self, name: str) -> list[Any]:
        """Return a whole plain field, in the order of records."""
        return [self._plain(name, value) for value in self._column(name).to_pylist()]

    def frames(self, name: str) -> np.ndarray:
        """Return the length of each record's audio in the field `name`, in frames; 0 where there is none."""
        return self._column(f"{name}.frames", asked=name).fill_null(0).to_numpy(zero_copy_only=False)

    def codes(self, name: str, index: int) -> Tensor | None:
        """Return the codes `[K, T]`, int64, of one record's audio field; None where there is none."""
        n_codebooks = self._column(f"{name}.codebooks", asked=name)[index].as_py()
        if n_codebooks is None:
            return None
        return self._ints(f"{name}.codes", index).reshape(n_codebooks, -1)

    def semantic(self, name: str, index: int) -> Runs | None:
        """Return the semantic runs of one record's audio field; None where there are none."""
        if self.meta.semantic is None or not self._column(f"{name}.semantic.runs", asked=name)[index].is_valid:
            return None
        return Runs(*(self._ints(f"{name}.semantic.{part}", index) for part in ("ids", "durations")))

    def semantic_lengths(self, name: str, unit: Literal["runs", "frames"]) -> np.ndarray:
        """Return how many runs, or frames, of semantic ids each record has in the field `name`."""
        return self._column(f"{name}.semantic.{unit}", asked=name).fill_null(0).to_numpy(zero_copy_only=False)

    def feature_column(self, field: str, encoder: str) -> FeatureColumn | None:
        """Return what is stored of a field for an encoder."""
        return next((one for one in self.meta.features if (one.field, one.encoder) == (field, encoder)), None)

    def feature_lengths(self, column: FeatureColumn) -> np.ndarray:
        """Return how many states, or samples, there are of each record; 0 where there are none."""
        return self._column(f"{column.column}.length").fill_null(0).to_numpy(zero_copy_only=False)

    def features(self, column: FeatureColumn, index: int) -> Tensor | None:
        """Return states `[T, E]`, float32, or samples `[N]`, of one record; None where there are none."""
        group = bisect_right(self._starts, index) - 1
        cell = self._group(group)[column.column].chunk(0)[index - self._starts[group]]
        if not cell.is_valid:
            return None
        flat = torch.from_numpy(cell.values.to_numpy(zero_copy_only=False).astype(np.float32))
        return flat.reshape(-1, column.dim) if column.dim else flat / np.iinfo(np.int16).max

    def _plain(self, name: str, stored: Any) -> Any:
        return json.loads(stored) if stored is not None and (name, "json") in self.meta.plain_fields else stored

    def _column(self, column: str, asked: str | None = None) -> pa.Array:
        if column not in self._table.column_names:
            name = asked or column
            raise DataError(
                f"the records in {self.paths[0].parent} have no field '{name}'.{suggest(name, self.fields)} "
                f"They have: {', '.join(self.fields)}."
            )
        return self._table.column(column).chunk(0) if len(self) else pa.array([], self._table.schema.field(column).type)

    def _group(self, group: int) -> pa.Table:
        if group in self._cache:
            self._cache.move_to_end(group)
            return self._cache[group]
        path, row_group = self._groups[group]
        table = _open(path).read_row_group(row_group, columns=self._heavy(), use_threads=False).combine_chunks()
        self._cache[group] = table
        self._cache_bytes += table.nbytes
        while self._cache_bytes > self._cache_limit and len(self._cache) > 1:
            self._cache_bytes -= self._cache.popitem(last=False)[1].nbytes
        return table

    def _ints(self, column: str, index: int) -> Tensor:
        """Return one cell of a column of lists, int64."""
        group = bisect_right(self._starts, index) - 1
        cell = self._group(group)[column].chunk(0)[index - self._starts[group]]
        return torch.from_numpy(cell.values.to_numpy().astype(np.int64))

    def _heavy(self) -> list[str]:
        parts = ("codes", "semantic.ids", "semantic.durations") if self.meta.semantic else ("codes",)
        lists = [f"{name}.{part}" for name in self.meta.audio_fields for part in parts]
        return [*lists, *(one.column for one in self.meta.features)]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cache": OrderedDict(), "_cache_bytes": 0}


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path} cannot be read as Parquet: {error}. Give a folder that 'unitok prepare' wrote; if this is of one, "
            "remove that folder and prepare it again."
        ) from error


def _row_groups(paths: Sequence[Path]) -> tuple[list[int], list[tuple[Path, int]]]:
    """Return the first record of each row group, and where the group lies."""
    starts, groups, first = [], [], 0
    for path in paths:
        metadata = _open(path).metadata
        for row_group in range(metadata.num_row_groups):
            starts.append(first)
            groups.append((path, row_group))
            first += metadata.row_group(row_group).num_rows
    return starts, groups


def _check_alike(first: RecordMeta, other: RecordMeta, first_path: Path, path: Path) -> None:
    if other.fingerprint != first.fingerprint:
        raise DataError(
            f"{path} was made with codec '{other.tokenizer}' (fingerprint {other.fingerprint}), "
            f"{first_path} with '{first.tokenizer}' (fingerprint {first.fingerprint}). "
            "Codes of two codecs do not mix: prepare both with one tokenizer."
        )
    in_any_order = dict(first.plain_fields) == dict(other.plain_fields)
    for name in ("n_codebooks", "frame_rate_hz", "audio_fields", "plain_fields", "features", "semantic"):
        if getattr(other, name) != getattr(first, name) and not (name == "plain_fields" and in_any_order):
            raise DataError(
                f"{path} has {name}={getattr(other, name)}, {first_path} has {getattr(first, name)}. "
                "Read them apart, or prepare both in the same way."
            )
