"""Speak text with flite or espeak-ng, the two synthesisers that Debian packages and that need no download of models."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unitok.audio import Audio
from unitok.errors import DataError, MissingDependencyError, suggest

__all__ = ["FLITE_VOICES", "VoiceStyle", "list_voices", "speak"]

FLITE_VOICES = ("slt", "rms", "awb", "kal16")
"""The English flite voices at 16 kHz; any other voice name is taken for one of espeak-ng's (`es`, `en-gb+f3`, …)."""


@dataclass(frozen=True)
class VoiceStyle:
    """How a voice speaks."""

    rate: float = 1.0
    """Speed, relative to the voice's own."""
    pitch: float = 1.0
    """Mean pitch, relative to the voice's own."""


_MEAN_PITCH_HZ = {"slt": 170.0, "rms": 105.0, "awb": 120.0, "kal16": 105.0}


def list_voices() -> dict[str, Literal["flite", "espeak-ng"]]:
    """Return the voices this machine has, with their synthesiser."""
    voices: dict[str, Literal["flite", "espeak-ng"]] = {}
    if shutil.which("flite"):
        voices.update(dict.fromkeys(FLITE_VOICES, "flite"))
    if shutil.which("espeak-ng"):
        listing = subprocess.run(["espeak-ng", "--voices"], capture_output=True, text=True, check=True).stdout
        voices.update({line.split()[1]: "espeak-ng" for line in listing.splitlines()[1:] if len(line.split()) > 1})
    return voices


def speak(text: str, voice: str, style: VoiceStyle | None = None, sample_rate_hz: int = 16000) -> Audio:
    """Speak `text`.

    Args:
        text: A sentence or more; must hold a letter or a digit.
        voice: One of `FLITE_VOICES`, or an espeak-ng voice.
        style: Speed and pitch; default: the voice's own.
        sample_rate_hz: Rate of the result, in Hz.

    Returns:
        Mono audio.

    Raises:
        DataError: If there is nothing to say or the voice is unknown.
        MissingDependencyError: If the synthesiser is not installed.
    """
    if not re.search(r"\w", text):
        raise DataError(f"There is nothing to speak in {text!r}. Give a text with at least one letter or digit.")
    style = style or VoiceStyle()
    program = "flite" if voice in FLITE_VOICES else "espeak-ng"
    if shutil.which(program) is None:
        raise MissingDependencyError(
            f"Voice '{voice}' needs {program}, which is not installed. Run 'apt-get install {program}'."
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = _flite(text, voice, style, path) if program == "flite" else _espeak(text, voice, style, path)
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not path.exists() or path.stat().st_size <= 44:
            known = list_voices()
            raise DataError(
                f"{program} could not speak with voice '{voice}': {done.stderr.strip() or 'no sound came out'}."
                f"{suggest(voice, known)}"
            )
        return Audio.read(path).mono().resample(sample_rate_hz)


def _flite(text: str, voice: str, style: VoiceStyle, path: Path) -> list[str]:
    command = ["flite", "-voice", voice, "-t", text, "-o", str(path)]
    if style.rate != 1.0:
        command[3:3] = ["--setf", f"duration_stretch={1 / style.rate:.4f}"]
    if style.pitch != 1.0:
        command[3:3] = ["--setf", f"int_f0_target_mean={_MEAN_PITCH_HZ[voice] * style.pitch:.2f}"]
    return command


def _espeak(text: str, voice: str, style: VoiceStyle, path: Path) -> list[str]:
    return [
        "espeak-ng", "-v", voice, "-s", str(round(175 * style.rate)), "-p", str(min(99, round(50 * style.pitch))),
        "-w", str(path), "--", text,
    ]  # fmt: skip
