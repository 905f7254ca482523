"""Speak text with flite or espeak-ng, the two synthesisers that Debian packages and that need no download of models."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unitok.audio import Audio
from unitok.errors import DataError, MissingDependencyError, suggest

__all__ = ["FLITE_VOICES", "TIMED_VOICES", "VoiceStyle", "list_voices", "speak", "speak_with_phones"]

FLITE_VOICES = ("slt", "rms", "awb", "kal16")
"""The English flite voices at 16 kHz; any other voice name is taken for one of espeak-ng's (`es`, `en-gb+f3`, …)."""

TIMED_VOICES = ("slt", "rms", "awb")
"""The flite voices that print the very durations they speak with, to 5 ms; `kal16` prints others."""


@dataclass(frozen=True)
class VoiceStyle:
    """How a voice speaks."""

    rate: float = 1.0
    """Speed, relative to the voice's own."""
    pitch: float = 1.0
    """Mean pitch, relative to the voice's own; the flite voice `rms` has one only and ignores it."""


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
    return _spoken(text, voice, style or VoiceStyle())[0].resample(sample_rate_hz)


def speak_with_phones(text: str, voice: str, style: VoiceStyle | None = None) -> tuple[Audio, list[tuple[str, float]]]:
    """Speak `text` with a flite voice, and say when each of its phones ends.

    Args:
        text: A sentence or more.
        voice: One of `TIMED_VOICES`.
        style: As `speak` takes it.

    Returns:
        Mono audio at 16 kHz, and each phone with the time at which it ends, in s; `pau` is a pause.

    Raises:
        DataError: If the times of the voice are not those of its audio.
    """
    if voice not in TIMED_VOICES:
        raise DataError(f"voice '{voice}' does not tell when its phones end. Allowed: {', '.join(TIMED_VOICES)}.")
    audio, said = _spoken(text, voice, style or VoiceStyle(), ["-psdur"])
    pairs = (item.rpartition(":") for item in said.split())
    return audio, [(phone, float(end)) for phone, _, end in pairs]


def _spoken(text: str, voice: str, style: VoiceStyle, options: Sequence[str] = ()) -> tuple[Audio, str]:
    """Return speech at the voice's own rate, and what the synthesiser printed."""
    program = "flite" if voice in FLITE_VOICES else "espeak-ng"
    if shutil.which(program) is None:
        raise MissingDependencyError(
            f"Voice '{voice}' needs {program}, which is not installed. Run 'apt-get install {program}'."
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = _flite(text, voice, style, path) if program == "flite" else _espeak(text, voice, style, path)
        done = subprocess.run([command[0], *options, *command[1:]], capture_output=True, text=True)
        if done.returncode or not path.exists() or path.stat().st_size <= 44:
            reason = done.stderr.strip().rstrip(".") or "no sound came out"
            raise DataError(
                f"{program} could not speak with voice '{voice}': {reason}.{suggest(voice, list_voices())} "
                f"flite has {', '.join(FLITE_VOICES)}; 'espeak-ng --voices' lists the others."
            )
        return Audio.read(path).mono(), done.stdout


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
