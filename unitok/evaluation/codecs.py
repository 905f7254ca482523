"""What coding costs: bit rate and speed of a codec, and how far what comes back is from what went in.

N samples, C channels.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from unitok.audio import Audio
from unitok.errors import DataError, MissingDependencyError
from unitok.tokenizers.base import AudioTokenizer

__all__ = ["CodecFigures", "mel_distance", "measure_codec", "stoi"]

DB_PER_NAT = 10 / math.log(10)
SHORTEST_S = 0.5


@dataclass(frozen=True)
class CodecFigures:
    """One codec on one recording."""

    name: str
    """The tokenizer."""
    kbps: float
    """Bits a second / 1000."""
    frame_rate_hz: float
    """Frames in a second."""
    codebooks: int
    """Codes in a frame."""
    encode_speed: float
    """Seconds of audio encoded in a second."""
    decode_speed: float
    """Seconds of audio decoded in a second."""
    stoi: float
    """Intelligibility of speech against the original, up to 1 (pystoi)."""
    mel_distance_db: float
    """Mean difference of the levels of 80 mel bands, in dB."""


def measure_codec(tokenizer: AudioTokenizer, audio: Audio) -> CodecFigures:
    """Send a recording through a codec once to warm up, and once more by the clock.

    Raises:
        DataError: If the recording is too short, or silent.
        MissingDependencyError: If pystoi is not installed.
    """
    if audio.duration_s < SHORTEST_S or not bool(audio.samples.any()):
        what = "silent" if audio.duration_s >= SHORTEST_S else f"{audio.duration_s:.2f} s long"
        raise DataError(
            f"the recording is {what}; {SHORTEST_S:g} s of sound or more are needed, some seconds are better."
        )
    original = _at(audio, tokenizer)
    wav = original.samples[None]
    with torch.inference_mode():
        tokenizer.decode(tokenizer.encode(wav, tokenizer.sample_rate_hz).codes)
        start = time.perf_counter()
        codes = tokenizer.encode(wav, tokenizer.sample_rate_hz).codes
        between = time.perf_counter()
        decoded = tokenizer.decode(codes)[0]
        end = time.perf_counter()
    coded = Audio(decoded[:, : original.n_samples].float(), tokenizer.sample_rate_hz)
    bits = tokenizer.n_codebooks * math.log2(tokenizer.codebook_size)
    return CodecFigures(
        tokenizer.name,
        kbps=bits * tokenizer.frame_rate_hz / 1000,
        frame_rate_hz=tokenizer.frame_rate_hz,
        codebooks=tokenizer.n_codebooks,
        encode_speed=audio.duration_s / (between - start),
        decode_speed=audio.duration_s / (end - between),
        stoi=stoi(original, coded),
        mel_distance_db=mel_distance(original, coded),
    )


def stoi(original: Audio, coded: Audio) -> float:
    """Return the short-time objective intelligibility (Taal et al., 2011) of two recordings of equal length.

    Raises:
        MissingDependencyError: If pystoi is not installed.
    """
    try:
        from pystoi import stoi as measured
    except ImportError as error:
        raise MissingDependencyError(f"STOI needs pystoi ({error}). Run pip install 'unitok[eval]'.") from error
    n = min(original.n_samples, coded.n_samples)
    first, second = (audio.mono().samples[0, :n].cpu().numpy() for audio in (original, coded))
    return float(measured(first, second, original.sample_rate_hz))


def mel_distance(original: Audio, coded: Audio) -> float:
    """Return the mean difference between the levels of mel bands, in dB, of two recordings at the same rate."""
    n = min(original.n_samples, coded.n_samples)
    levels = [_levels(audio.mono().samples[0, :n].cpu(), original.sample_rate_hz) for audio in (original, coded)]
    return float((levels[0] - levels[1]).abs().mean() * DB_PER_NAT)


def _levels(wav: Tensor, sample_rate_hz: int) -> Tensor:
    from unitok.features.conformer import LogMel, LogMelSettings

    hop, window = round(0.010 * sample_rate_hz), round(0.040 * sample_rate_hz)
    return LogMel(LogMelSettings(name="mel", sample_rate_hz=sample_rate_hz, hop=hop, window=window)).log_mel(wav)


def _at(audio: Audio, tokenizer: AudioTokenizer) -> Audio:
    """Return a recording at a codec's rate and channels."""
    audio = audio if audio.samples.shape[0] == tokenizer.channels else audio.mono()
    audio = audio.resample(tokenizer.sample_rate_hz)
    return Audio(audio.samples.expand(tokenizer.channels, -1), tokenizer.sample_rate_hz)
