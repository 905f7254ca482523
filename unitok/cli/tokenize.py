"""`unitok tokenize`: audio files to codes, in one `.npz` without pickles. `unitok detokenize` is the way back.

Semantic ids go the same way, K being 1, but have no way back. A tokenizer that de-duplicates gives runs: their ids as
codes, their frames as `durations`.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitok.errors import AudioFormatError, UnitokError
from unitok.files import written_file
from unitok.tokenizers import SemanticTokenizer

if TYPE_CHECKING:
    import numpy as np

    from unitok.tokenizers import AudioTokenizer

__all__ = ["add_arguments", "run"]

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `unitok tokenize`."""
    parser.add_argument("inputs", nargs="+", metavar="IN", help="audio files")
    parser.add_argument(
        "--tokenizer",
        required=True,
        metavar="NAME",
        help="an audio or a semantic tokenizer: a card's name, a card, or a tokenizer folder",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="codes.npz: codes [B, K, T], lengths [B], names, tokenizer, rates; durations [B, T] of runs",
    )
    parser.add_argument(
        "--codebooks", type=int, metavar="N", help="use the first N codebooks (default: as the card says)"
    )
    parser.add_argument("--device", default="cpu", help="where to compute: cpu, cuda, mps")


def run(args: argparse.Namespace) -> int:
    """Write the codes; 1 if some files could not be read, the others are written."""
    out = Path(args.out)
    if out.suffix != ".npz":
        raise UnitokError(f"--out is '{out}', allowed: a file that ends in .npz.")
    tokenizer = _load(args)
    rows, problems = _encode(args.inputs, tokenizer)
    if not rows:
        raise AudioFormatError(problems[0] if len(problems) == 1 else "no file could be read:\n" + "\n".join(problems))
    for problem in problems:
        logger.error("%s", problem)
    _write(out, rows, tokenizer, args.tokenizer)
    frames = sum(row["codes"].shape[1] for row in rows)
    K, unit = rows[0]["codes"].shape[0], "runs" if "durations" in rows[0] else "frames"
    logger.info("%s: %d of %d files, %d %s of %d codebooks", out, len(rows), len(args.inputs), frames, unit, K)
    return 1 if problems else 0


def _load(args: argparse.Namespace) -> AudioTokenizer | SemanticTokenizer:
    from unitok.tokenizers import load_audio_tokenizer, load_semantic_tokenizer
    from unitok.tokenizers.base import find_kind, read_tokenizer_card

    card = read_tokenizer_card(args.tokenizer)
    if find_kind(card, card.file).modality == "semantic":
        if args.codebooks not in (None, 1):
            raise UnitokError(f"--codebooks is {args.codebooks}, semantic ids are one codebook. Leave it out.")
        return load_semantic_tokenizer(args.tokenizer, args.device)
    tokenizer = load_audio_tokenizer(args.tokenizer, args.device)
    if args.codebooks is not None:
        tokenizer.set_codebooks(args.codebooks)
    return tokenizer


def _encode(inputs: list[str], tokenizer: AudioTokenizer | SemanticTokenizer) -> tuple[list[dict[str, Any]], list[str]]:
    from unitok.audio import Audio
    from unitok.tokenizers.runs import collapse

    rows, problems = [], []
    for path in inputs:
        try:
            audio = Audio.read(path)
            codes = tokenizer.encode(audio.samples[None], audio.sample_rate_hz).codes[0]
        except AudioFormatError as error:
            problems.append(str(error) if str(path) in str(error) else f"{path}: {error}")
            continue
        n_samples = -(-audio.n_samples * tokenizer.sample_rate_hz // audio.sample_rate_hz)
        row: dict[str, Any] = {"name": str(path), "codes": codes.numpy(), "samples": n_samples}
        if getattr(tokenizer, "deduplicate", False):
            runs = collapse(codes[0])
            row |= {"codes": runs.ids[None].numpy(), "durations": runs.durations.numpy()}
        rows.append(row)
    return rows, problems


def _write(
    out: Path, rows: list[dict[str, Any]], tokenizer: AudioTokenizer | SemanticTokenizer, loaded_from: str
) -> None:
    import numpy as np

    lengths = np.array([row["codes"].shape[1] for row in rows], dtype=np.int64)
    size = tokenizer.size if isinstance(tokenizer, SemanticTokenizer) else tokenizer.codebook_size
    codes = np.zeros((len(rows), rows[0]["codes"].shape[0], lengths.max()), dtype=_smallest_type(size))
    durations: np.ndarray = np.zeros((len(rows), lengths.max()), dtype=np.int32)
    for i, row in enumerate(rows):
        codes[i, :, : lengths[i]] = row["codes"]
        durations[i, : lengths[i]] = row.get("durations", 1)
    extra: dict[str, Any] = {"durations": durations} if "durations" in rows[0] else {}
    with written_file(out) as partial:
        np.savez_compressed(
            partial,
            codes=codes,
            lengths=lengths,
            samples=np.array([row["samples"] for row in rows], dtype=np.int64),
            names=np.array([row["name"] for row in rows], dtype=np.str_),
            tokenizer=np.array(str(loaded_from), dtype=np.str_),
            fingerprint=np.array(tokenizer.fingerprint, dtype=np.str_),
            sample_rate_hz=np.array(tokenizer.sample_rate_hz),
            frame_rate_hz=np.array(float(tokenizer.frame_rate_hz)),
            **extra,
        )


def _smallest_type(codebook_size: int) -> type[np.signedinteger[Any]]:
    import numpy as np

    return np.int16 if codebook_size <= 1 << 15 else np.int32
