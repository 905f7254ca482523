"""`unitok detokenize`: codec codes of `unitok tokenize` back to audio files."""

from __future__ import annotations

import argparse
import logging
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from unitok.errors import DataError, TokenizerError, UnitokError

__all__ = ["add_arguments", "run"]

logger = logging.getLogger(__name__)

KEYS = ("codes", "lengths", "samples", "names", "tokenizer", "fingerprint", "sample_rate_hz", "frame_rate_hz")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `unitok detokenize`."""
    parser.add_argument("codes", metavar="CODES", help="codes.npz, written by unitok tokenize")
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="audio file; for several rows a folder, which gets one wav each"
    )
    parser.add_argument(
        "--tokenizer", metavar="NAME", help="load the tokenizer from here (default: from where it was loaded then)"
    )
    parser.add_argument("--codebooks", type=int, metavar="N", help="decode the first N codebooks only")
    parser.add_argument("--device", default="cpu", help="where to compute: cpu, cuda, mps")


def run(args: argparse.Namespace) -> int:
    """Write one audio file for each row."""
    stored = _read(Path(args.codes))
    targets = _targets(Path(args.out), [str(name) for name in stored["names"]])
    codes = _codes(stored, args.codebooks, args.codes)

    import torch

    from unitok.audio import Audio
    from unitok.tokenizers import load_audio_tokenizer

    tokenizer = load_audio_tokenizer(args.tokenizer or str(stored["tokenizer"]), args.device)
    if tokenizer.fingerprint != str(stored["fingerprint"]):
        raise TokenizerError(
            f"{args.codes} was made with fingerprint {stored['fingerprint']}, tokenizer '{tokenizer.name}' has "
            f"{tokenizer.fingerprint}: other weights or settings. Name the one that made it with --tokenizer."
        )
    for row, n_frames, n_samples, target in zip(codes, stored["lengths"], stored["samples"], targets, strict=True):
        wav = tokenizer.decode(torch.from_numpy(row[None, :, :n_frames]).long())[0]
        Audio(wav[:, :n_samples], tokenizer.sample_rate_hz).write(target)
        logger.info("%s", target)
    return 0


def _read(path: Path) -> dict[str, Any]:
    import numpy as np

    if path.is_dir():
        raise DataError(f"'{path}' is a folder. Name the codes file in it, FILE.npz.")
    if not path.is_file():
        raise DataError(
            f"codes file '{path}' does not exist. Make one: unitok tokenize IN.wav --tokenizer NAME --out {path}"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {key: file[key] for key in KEYS if key in file}
    except (ValueError, OSError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"codes file '{path}' is no .npz, or is damaged: {error}") from error
    if missing := [key for key in KEYS if key not in stored]:
        raise DataError(f"codes file '{path}' lacks {', '.join(missing)}. Write it with unitok tokenize.")
    codes, rows = stored["codes"], {len(stored[key]) for key in ("lengths", "samples", "names")}
    if codes.ndim != 3 or codes.dtype.kind not in "iu" or rows != {len(codes)}:
        raise DataError(
            f"codes file '{path}': codes are {codes.dtype} {list(codes.shape)}, allowed: integers [B, K, T] with "
            "B rows in lengths, samples and names."
        )
    if ((stored["lengths"] < 0) | (stored["lengths"] > codes.shape[2])).any():
        raise DataError(
            f"codes file '{path}': lengths are {stored['lengths'].tolist()}, allowed: 0 to {codes.shape[2]} frames."
        )
    return stored


def _codes(stored: dict[str, Any], codebooks: int | None, path: str) -> Any:
    available = stored["codes"].shape[1]
    if codebooks is not None and not 1 <= codebooks <= available:
        raise UnitokError(f"--codebooks is {codebooks}, allowed: 1 to {available}, the codebooks in {path}.")
    return stored["codes"][:, :codebooks]


def _targets(out: Path, names: list[str]) -> list[Path]:
    """Return one file for each row: `out` itself for one row, else `out/<stem>.wav`, numbered where stems repeat."""
    is_folder = out.is_dir() or not out.suffix
    if len(names) == 1 and not is_folder:
        return [out]
    if not is_folder:
        raise UnitokError(f"--out is '{out}', but there are {len(names)} rows. Name a folder.")
    stems = [Path(name).stem for name in names]
    repeated = {stem for stem, n in Counter(stems).items() if n > 1}
    return [out / (f"{stem}.{i}.wav" if stem in repeated else f"{stem}.wav") for i, stem in enumerate(stems)]
