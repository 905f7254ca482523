"""`unitok bench codec`: how fast audio becomes codes, and codes become audio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from unitok.audio import Audio
from unitok.benchmark.machine import interleaved, settings
from unitok.benchmark.report import Report

__all__ = ["measure_codecs"]

NOISE_LEVEL = 0.1


def measure_codecs(names: Sequence[str], *, audio: Audio | None, seconds: float, repeats: int) -> Report:
    """Encode and decode one recording by several codecs.

    Args:
        names: Cards or folders of tokenizers.
        audio: The recording; None: noise.
        seconds: Of the noise.
        repeats: Of each, in turn.
    """
    from unitok.tokenizers import load_audio_tokenizer

    runs: dict[str, Callable[[], Any]] = {}
    codecs = {name: load_audio_tokenizer(name) for name in names}
    with torch.inference_mode():
        for name, codec in codecs.items():
            rate = codec.sample_rate_hz
            wav = (_noise(seconds, rate) if audio is None else audio.mono().resample(rate)).samples[None]
            codes = codec.encode(wav, rate).codes
            runs[f"{name} encode"] = partial(codec.encode, wav, rate)
            runs[f"{name} decode"] = partial(codec.decode, codes)
        timings = interleaved(runs, repeats)
    duration_s = seconds if audio is None else audio.duration_s
    rows = [
        {
            "codec": name,
            "frames_per_s": codec.frame_rate_hz,
            "codebooks": codec.n_codebooks,
            "encode": round(duration_s / timings[f"{name} encode"].seconds, 1),
            "decode": round(duration_s / timings[f"{name} decode"].seconds, 1),
            "clean": timings[f"{name} decode"].clean,
        }
        for name, codec in codecs.items()
    ]
    heads = {
        "codec": "CODEC", "frames_per_s": "FRAMES/S", "codebooks": "CODEBOOKS", "encode": "ENCODE x REAL TIME",
        "decode": "DECODE x REAL TIME", "clean": "CLEAN",
    }  # fmt: skip
    about = {**settings(), "seconds": round(duration_s, 2)}
    note = f"{duration_s:.1f} s of {'noise' if audio is None else 'the recording'}, {about['threads']} threads."
    return Report(heads, rows, about, note, shown="decode")


def _noise(seconds: float, rate: int) -> Audio:
    generator = torch.Generator().manual_seed(0)
    return Audio(NOISE_LEVEL * torch.randn(1, round(seconds * rate), generator=generator), rate)
