"""From a manifest to record shards: read audio, encode it in batches, write complete shards.

Shard i holds rows `[i * shard_size, (i + 1) * shard_size)` of the manifest, less those whose audio cannot be read, so a
rerun goes on after the shards that are there and ends with the same files as a run that was never stopped. What was
skipped is in the shards' own metadata, and `errors.jsonl` is made from it at the end.

B batch, C channels, N samples, K codebooks, T frames.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

import unitok
from unitok.audio import Audio
from unitok.data.manifest import check_fields, read_manifest, resolve_path
from unitok.data.records import FeatureColumn, RecordMeta, RecordReader, RecordWriter, SemanticColumns, read_extra
from unitok.errors import DataError, UnitokError, suggest
from unitok.features import FeatureEncoder
from unitok.files import write_text
from unitok.tasks.field import numbered
from unitok.tokenizers import AudioTokenizer, SemanticTokenizer
from unitok.tokenizers.runs import Runs, collapse

__all__ = ["FeaturePlan", "PrepareReport", "prepare"]


@dataclass(frozen=True)
class PrepareReport:
    """What a folder of shards holds."""

    shards: int
    """Files."""
    resumed: int
    """Of these, the ones that were there before."""
    records: int
    """Rows in them."""
    hours: float
    """Audio in them, over all audio fields, in hours."""
    errors: tuple[dict[str, str], ...]
    """Rows left out: `id`, `field`, `path`, `error`."""


@dataclass(frozen=True)
class FeaturePlan:
    """What to store of one field for one encoder."""

    field: str
    """A field with text, or with audio paths."""
    name: str
    """What the model and the cards of tasks call the encoder."""
    encoder: FeatureEncoder
    """The encoder."""
    encoded: bool = True
    """Its states; otherwise samples of audio, for an encoder that is trained (a text is there anyway)."""

    @property
    def column(self) -> FeatureColumn:
        """Where it is stored."""
        if self.encoded:
            return FeatureColumn(self.field, self.name, self.encoder.dim, self.encoder.fingerprint)
        return FeatureColumn(self.field, self.name, 0, "")


@dataclass(frozen=True)
class _Clip:
    """Audio of one field of one row, at the codec's rate and channels."""

    row: int
    field: str
    wav: Tensor
    """`[C, N]`."""
    semantic: Runs | None = None
    """Its semantic ids, where any are made."""


def prepare(
    manifest: str | Path,
    tokenizer: AudioTokenizer,
    out: str | Path,
    *,
    audio_fields: Sequence[str] = ("audio",),
    semantic_tokenizer: SemanticTokenizer | None = None,
    features: Sequence[FeaturePlan] = (),
    shard_size: int = 1024,
    on_error: Literal["skip", "fail"] = "skip",
    batch_seconds: float = 60.0,
    on_progress: Callable[[int, int], None] | None = None,
) -> PrepareReport:
    """Encode the audio of a manifest and write record shards.

    Args:
        manifest: JSON Lines; see `unitok.data.manifest`.
        tokenizer: The codec.
        out: Folder for `part-*.parquet` and `errors.jsonl`. Shards already there are kept if they come from the same
            rows and settings, and nothing that was left out of them can be read by now.
        audio_fields: Fields that hold audio paths, or lists of them, for conditions that a card marks `repeated`; a row
            may leave one out.
        semantic_tokenizer: Makes semantic ids of all audio fields beside the codes; None: there are none.
        features: What to store for encoders beside the codes.
        shard_size: Rows of the manifest in one shard.
        on_error: `skip` leaves out a row whose audio cannot be read, `fail` stops at the first.
        batch_seconds: Audio encoded at once, padding included, in seconds.
        on_progress: Called with the rows done and all rows.

    Returns:
        What the folder now holds.

    Raises:
        DataError: If the manifest has mistakes, the folder holds shards of other settings, or audio cannot be read and
            `on_error` is `fail`.
    """
    if shard_size < 1 or not batch_seconds > 0:
        raise DataError(f"shard size is {shard_size} and batch seconds {batch_seconds}; both must be greater than 0.")
    rows = read_manifest(manifest)
    check_fields(rows, audio_fields, manifest)
    _check_dots(rows, manifest)
    rows, audio_fields = _spread(rows, audio_fields)
    _check_features(rows, features, audio_fields, manifest)
    writer = RecordWriter(out, _meta(rows, tokenizer, audio_fields, features, manifest, semantic_tokenizer))
    chunks = [rows[start : start + shard_size] for start in range(0, len(rows), shard_size)]
    _check_folder(writer, len(chunks))
    job = _Job(
        Path(manifest), tokenizer, tuple(audio_fields), tuple(features), on_error, batch_seconds, semantic_tokenizer
    )
    errors: list[dict[str, str]] = []
    done = resumed = 0
    for index, chunk in enumerate(chunks):
        digest = _digest(chunk)
        kept = _errors_of_finished(writer, index, digest)
        if kept and job.tries_again(chunk, kept):
            kept = None
        if kept is None:
            records, kept = job.encode(
                chunk, lambda n, done=done: on_progress(done + n, len(rows)) if on_progress else None
            )
            writer.write(index, records, {"rows": digest, "errors": kept})
        else:
            resumed += 1
        errors += kept
        done += len(chunk)
        if on_progress:
            on_progress(done, len(rows))
    _write_errors(Path(out) / "errors.jsonl", errors)
    reader = RecordReader(out)
    frames = sum(int(reader.frames(name).sum()) for name in audio_fields)
    return PrepareReport(len(chunks), resumed, len(reader), frames / tokenizer.frame_rate_hz / 3600, tuple(errors))


@dataclass(frozen=True)
class _Job:
    """Encode one shard's rows."""

    manifest: Path
    tokenizer: AudioTokenizer
    audio_fields: tuple[str, ...]
    features: tuple[FeaturePlan, ...]
    on_error: str
    batch_seconds: float
    semantic_tokenizer: SemanticTokenizer | None

    def encode(
        self, rows: Sequence[Mapping[str, Any]], on_rows: Callable[[int], None]
    ) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        """Return the records of `rows` and what had to be left out, both in the order of rows."""
        errors: dict[int, dict[str, str]] = {}
        codes: dict[tuple[int, str], Tensor] = {}
        semantic: dict[tuple[int, str], Runs | None] = {}
        seen = 0
        for batch in self._batches(self._clips(rows, errors)):
            for clip, encoded in zip(batch, self._encode_batch(batch), strict=True):
                codes[clip.row, clip.field], semantic[clip.row, clip.field] = encoded, clip.semantic
                seen = max(seen, clip.row)
            on_rows(seen)
        records = []
        for index, row in enumerate(rows):
            features = None if index in errors else self._features(index, row, errors)
            if features is not None:
                audio = {name: codes.get((index, name)) for name in self.audio_fields}
                paths = {f"{name}.path": row.get(name) for name in self.audio_fields}
                meaning = {f"{name}.semantic": semantic.get((index, name)) for name in self.audio_fields}
                records.append({**row, **audio, **paths, **meaning, **features})
        return records, [errors[index] for index in sorted(errors)]

    def tries_again(self, rows: Sequence[Mapping[str, Any]], errors: Sequence[Mapping[str, str]]) -> bool:
        """Is a finished shard made again, as what was left out can be read by now, or is to stop this run?"""
        row_of, lenient = {row["id"]: row for row in rows}, replace(self, on_error="skip")
        for error in errors:
            row, field = row_of[error["id"]], error["field"]
            try:
                if field in self.audio_fields:
                    self._clip(0, field, row[field])
            except (UnitokError, OSError):
                continue
            if lenient._features(0, row, {}) is not None:
                return True
        return self.on_error == "fail"

    def _features(
        self, index: int, row: Mapping[str, Any], errors: dict[int, dict[str, str]]
    ) -> dict[str, Tensor] | None:
        """Return what the encoders make of a row; None: one of them cannot take it, which is noted in `errors`."""
        found = {}
        for plan in self.features:
            value = row.get(plan.field)
            if value is None:
                continue
            try:
                if plan.encoder.takes == "audio":
                    value = plan.encoder.waveform(Audio.read(resolve_path(value, self.manifest)))
                found[plan.column.column] = plan.encoder.encode(value) if plan.encoded else value
            except (UnitokError, OSError) as error:
                errors[index] = self._reason(row, plan.field, error)
                return None
        return found

    def _reason(self, row: Mapping[str, Any], field: str, error: Exception) -> dict[str, str]:
        """Return what is written down of a row that is left out.

        Raises:
            DataError: If none may be.
        """
        if self.on_error == "fail":
            raise DataError(
                f"{self.manifest}: row '{row['id']}', field '{field}': {error} "
                "Mend or remove the row, or leave such rows out with --on-error skip."
            ) from error
        return {"id": row["id"], "field": field, "path": str(row[field]), "error": str(error)}

    def _clips(self, rows: Sequence[Mapping[str, Any]], errors: dict[int, dict[str, str]]) -> Iterator[_Clip]:
        for index, row in enumerate(rows):
            clips = []
            for name in self.audio_fields:
                if row.get(name) is None:
                    continue
                try:
                    clips.append(self._clip(index, name, row[name]))
                except (UnitokError, OSError) as error:
                    errors[index] = self._reason(row, name, error)
            if index not in errors:
                yield from clips

    def _clip(self, row: int, field: str, value: Any) -> _Clip:
        path = resolve_path(value, self.manifest)
        audio = Audio.read(path)
        semantic = None
        if self.semantic_tokenizer is not None:
            # From the file as it is, as in generation, and not from what the codec takes.
            semantic = collapse(self.semantic_tokenizer.encode(audio.samples[None], audio.sample_rate_hz).codes[0, 0])
        return _Clip(row, field, self._for_codec(audio, path), semantic)

    def _for_codec(self, audio: Audio, path: Path) -> Tensor:
        if self.tokenizer.channels == 1 or audio.samples.shape[0] not in (1, self.tokenizer.channels):
            audio = audio.mono()
        samples = audio.resample(self.tokenizer.sample_rate_hz).samples
        if samples.shape[1] < self.tokenizer.sample_rate_hz / self.tokenizer.frame_rate_hz:
            raise DataError(
                f"{path} has {samples.shape[1]} samples at {self.tokenizer.sample_rate_hz} Hz, "
                "less than one codec frame."
            )
        return samples.expand(self.tokenizer.channels, -1)

    def _batches(self, clips: Iterator[_Clip]) -> Iterator[list[_Clip]]:
        """Collect some batches' worth of clips, sort them by length, cut them where they last `batch_seconds`."""
        budget = self.batch_seconds * self.tokenizer.sample_rate_hz
        pool: list[_Clip] = []
        n_samples = 0
        for clip in clips:
            pool.append(clip)
            n_samples += clip.wav.shape[1]
            if n_samples >= 8 * budget:
                yield from _cut(pool, budget)
                pool, n_samples = [], 0
        yield from _cut(pool, budget)

    def _encode_batch(self, batch: Sequence[_Clip]) -> list[Tensor]:
        lengths = torch.tensor([clip.wav.shape[1] for clip in batch])
        wav = batch[0].wav.new_zeros(len(batch), self.tokenizer.channels, int(lengths.max()))  # [B, C, N]
        for row, clip in zip(wav, batch, strict=True):
            row[:, : clip.wav.shape[1]] = clip.wav
        with torch.inference_mode():
            encoded = self.tokenizer.encode(wav, self.tokenizer.sample_rate_hz, lengths=lengths)
        return [codes[:, :frames].cpu() for codes, frames in zip(encoded.codes, encoded.lengths.tolist(), strict=True)]


def _cut(pool: Sequence[_Clip], budget: float) -> Iterator[list[_Clip]]:
    batch: list[_Clip] = []
    for clip in sorted(pool, key=lambda clip: clip.wav.shape[1]):
        if batch and clip.wav.shape[1] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(clip)
    if batch:
        yield batch


def _meta(
    rows: Sequence[Mapping[str, Any]],
    tokenizer: AudioTokenizer,
    audio_fields: Sequence[str],
    features: Sequence[FeaturePlan],
    manifest: str | Path,
    semantic: SemanticTokenizer | None,
) -> RecordMeta:
    names = {name: None for row in rows for name in row if name != "id" and name not in audio_fields}
    for name, size in (
        (tokenizer.name, tokenizer.codebook_size),
        *([(semantic.name, semantic.size)] if semantic else []),
    ):
        if size > 2**15:
            raise DataError(f"tokenizer '{name}' has {size} codes a codebook; shards hold up to 32768 (int16).")
    return RecordMeta(
        fingerprint=tokenizer.fingerprint,
        tokenizer=tokenizer.name,
        frame_rate_hz=tokenizer.frame_rate_hz,
        n_codebooks=tokenizer.n_codebooks,
        codebook_size=tokenizer.codebook_size,
        sample_rate_hz=tokenizer.sample_rate_hz,
        audio_fields=tuple(audio_fields),
        plain_fields=tuple((name, _column_type([row.get(name) for row in rows])) for name in names),
        unitok_version=unitok.__version__,
        features=tuple(plan.column for plan in features),
        semantic=SemanticColumns(semantic.name, semantic.fingerprint, semantic.frame_rate_hz, semantic.size)
        if semantic
        else None,
    )


def _check_dots(rows: Sequence[Mapping[str, Any]], manifest: str | Path) -> None:
    clashes = [name for name in {name: None for row in rows for name in row} if "." in name]
    if clashes:
        raise DataError(f"{manifest}: field names with a dot are taken by unitok: {', '.join(clashes)}. Rename them.")


def _spread(
    rows: Sequence[dict[str, Any]], audio_fields: Sequence[str]
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Give each recording of a list a field of its own: `turns: [a.wav, b.wav]` becomes `turns` and `turns.2`.

    Returns:
        The rows, and the audio fields that they then have.
    """
    spread = [dict(row) for row in rows]
    fields: dict[str, None] = {}
    for name in audio_fields:
        fields[name] = None
        for row in spread:
            value = row.get(name)
            if isinstance(value, list):
                numbers = {numbered(name, i): one for i, one in enumerate(cast("list[Any]", value))}
                row |= {name: None, **numbers}
                fields |= dict.fromkeys(numbers)
    return spread, tuple(fields)


def _check_features(
    rows: Sequence[Mapping[str, Any]],
    features: Sequence[FeaturePlan],
    audio_fields: Sequence[str],
    manifest: str | Path,
) -> None:
    fields = {name: None for row in rows for name in row}
    for plan in features:
        if plan.field not in fields:
            raise DataError(
                f"{manifest}: encoder '{plan.name}' is to read '{plan.field}', which no row has."
                f"{suggest(plan.field, fields)} Fields: {', '.join(fields)}."
            )
        if (plan.field in audio_fields) != (plan.encoder.takes == "audio"):
            holds = "audio" if plan.field in audio_fields else "no audio (--audio-fields)"
            raise DataError(f"encoder '{plan.name}' takes {plan.encoder.takes}, field '{plan.field}' holds {holds}.")
        if not plan.encoded and plan.encoder.takes == "text":
            raise DataError(
                f"encoder '{plan.name}' takes text, which records hold anyway: leave '{plan.name}={plan.field}' out."
            )


def _column_type(values: Sequence[Any]) -> str:
    """Return the narrowest column type that keeps every value, over the whole manifest so that all shards agree."""
    types = {type(value) for value in values if value is not None}
    largest = max((abs(value) for value in values if type(value) is int), default=0)
    for kind, allowed, limit in (
        ("string", {str}, 0),
        ("bool", {bool}, 0),
        ("int64", {int}, 2**63 - 1),
        ("double", {int, float}, 2**53),
    ):
        if types <= allowed and largest <= limit:
            return kind
    return "json"


def _digest(rows: Sequence[Mapping[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]


def _check_folder(writer: RecordWriter, n_shards: int) -> None:
    """Refuse to go on in a folder whose shards are of another codec or layout, or of more rows than there are."""
    for path in sorted(writer.folder.glob("part-*.parquet")):
        there, _ = read_extra(path)
        for name in ("fingerprint", "n_codebooks", "audio_fields", "features", "semantic"):
            if getattr(there, name) != getattr(writer.meta, name):
                raise DataError(
                    f"{path} was prepared with {name}={getattr(there, name)}, "
                    f"this run has {getattr(writer.meta, name)}. Choose another --out, or delete the folder."
                )
    expected = {writer.path(index) for index in range(n_shards)}
    surplus = [path for path in sorted(writer.folder.glob("*.parquet")) if path not in expected]
    if surplus:
        raise DataError(
            f"{surplus[0]} does not come from this manifest and shard size. Choose another --out, or delete the folder."
        )


def _errors_of_finished(writer: RecordWriter, index: int, digest: str) -> list[dict[str, str]] | None:
    """Return what was left out of shard `index` if it is there and comes from the same rows, else None."""
    path = writer.path(index)
    if not path.exists():
        return None
    meta, extra = read_extra(path)
    same_layout = dict(meta.plain_fields) == dict(writer.meta.plain_fields)
    return extra["errors"] if same_layout and extra.get("rows") == digest else None


def _write_errors(path: Path, errors: Sequence[Mapping[str, str]]) -> None:
    if not errors:
        path.unlink(missing_ok=True)
        return
    write_text(path, "".join(json.dumps(error, ensure_ascii=False) + "\n" for error in errors))
