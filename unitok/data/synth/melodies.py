"""Tonal melodies: drawn as notes, played by an instrument, hummed, and named by a caption that is true of them.

    notes          <A4><0.50><B4><0.25>…     pitch and length of each, `<rest>` for silence
    audio          an instrument plays them, alone, over chords, or with a drum
    melody_audio   they are hummed, alone: what `ttm_melody` is given

Simple music by rule: major or minor, four beats in a bar, notes of the scale by steps and small leaps, an end on the
tonic. N samples; pitches are MIDI numbers, 69 is 440 Hz.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.random import Generator

from unitok.audio import Audio
from unitok.data.synth.corpus import Item
from unitok.data.synth.grammar import Split, is_held_out
from unitok.data.synth.scenes import pick
from unitok.data.synth.signals import RATE_HZ, TURN, Wave, bandpass, harmonics, limited, times, vibrato
from unitok.data.synth.sounds import SOUNDS
from unitok.tokenizers.symbols import REST, note_symbol, time_symbol

__all__ = ["INSTRUMENTS", "Melody", "MelodyCorpus", "Note", "draw_melody", "hertz", "notes_text"]

Mode = Literal["major", "minor"]
Backing = Literal["alone", "chords", "drum"]

SCALES: dict[Mode, tuple[int, ...]] = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
TONICS = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
BEAT_S = {"slow": 0.8, "moderate": 0.48, "fast": 0.32}
"""Tempo -> length of a beat in s: 75, 125 and 188 beats a minute; half a beat is a multiple of
0.02 s, the step of time stamps."""
INSTRUMENTS = {"piano": 60, "organ": 60, "flute": 72, "trumpet": 60, "xylophone": 72, "guitar": 48}
"""Instrument, a name of `SOUNDS` -> the C from which its octave and a half begins."""
DEGREES = 11
"""Notes of the scale that a melody may use."""
RHYTHMS = ((1.0, 1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (1.0, 1.0, 2.0), (1.0, 0.5, 0.5, 2.0), (0.5, 0.5, 1.0, 1.0, 1.0))
"""Lengths of the notes of a bar, in beats."""
REST_SHARE = 0.08
_BACKED = {"alone": "", "chords": " over chords", "drum": " with a drum"}


@dataclass(frozen=True)
class Note:
    """A pitch that is held, or a rest."""

    pitch: int | None
    """MIDI number; None is a rest."""
    seconds: float
    """How long, in s; a multiple of 0.01."""


@dataclass(frozen=True)
class Melody:
    """A melody and how it is played."""

    notes: tuple[Note, ...]
    """In order, without gaps."""
    tonic: int
    """0 is C, 11 is B."""
    mode: Mode
    """Which scale."""
    tempo: str
    """A name of `BEAT_S`."""
    instrument: str
    """A name of `INSTRUMENTS`."""
    backing: Backing
    """What sounds beside it."""

    @property
    def n_samples(self) -> int:
        """Length, N."""
        return round(sum(note.seconds for note in self.notes) * RATE_HZ)

    @property
    def held_out(self) -> bool:
        """Whether it belongs to the held-out twentieth: by its notes, in whatever key, at whatever tempo."""
        return is_held_out(" ".join(_letters(note, self.tonic, BEAT_S[self.tempo]) for note in self.notes))

    def caption(self, rng: Generator) -> str:
        """Describe it: instrument, tempo, key, and what is beside it."""
        key = f"{TONICS[self.tonic]} {self.mode}"
        tempo = "" if self.tempo == "moderate" else f"{self.tempo} "
        said = pick(
            rng,
            (
                f"A {tempo}{self.instrument} melody in {key}{_BACKED[self.backing]}.",
                f"A {tempo}melody in {key}, played on the {self.instrument}{_BACKED[self.backing]}.",
                f"{self.instrument.capitalize()} music in {key}{_BACKED[self.backing]}"
                + (f", {tempo.strip()}." if tempo else "."),
            ),
        )
        return said

    def play(self, rng: Generator) -> Wave:
        """Play it with its backing, `[N]`."""
        wave = _in_order(self.notes, lambda note: _tone(rng, self.instrument, note))
        return wave + self._backing(rng)

    def hum(self) -> Wave:
        """Hum it, `[N]`: the bare pitch, as a closed mouth sounds."""
        return _in_order(self.notes, _hummed)

    def _backing(self, rng: Generator) -> Wave:
        wave, bar_s = np.zeros(self.n_samples), 4 * BEAT_S[self.tempo]
        if self.backing == "alone":
            return wave
        step = bar_s if self.backing == "chords" else bar_s / 4
        for start in np.arange(0, self.n_samples / RATE_HZ - 1e-6, step):
            if self.backing == "drum":
                part = 0.4 * SOUNDS["drum"].play(rng, 110)
            else:
                chord = [Note(36 + self.tonic + SCALES[self.mode][degree], step) for degree in (0, 2, 4)]
                part = 0.12 * np.sum([_tone(rng, "organ", note) for note in chord], axis=0)
            first = round(start * RATE_HZ)
            part = part[: self.n_samples - first]
            wave[first : first + len(part)] += part
        return wave

    def to_dict(self) -> dict[str, Any]:
        """Return all but the notes as plain values."""
        keys = ("tonic", "mode", "tempo", "instrument", "backing")
        return {key: getattr(self, key) for key in keys}


def draw_melody(rng: Generator, split: Split = "train", bars: int = 2, lowest: int | None = None) -> Melody:
    """Draw a melody; draws again until it falls into the wanted split.

    Args:
        rng: Where it is drawn from.
        split: `train` or `held_out`.
        bars: Bars of four beats.
        lowest: The C below which no note lies; None: as the instrument has it.
    """
    while True:
        instrument, tonic = pick(rng, list(INSTRUMENTS)), int(rng.integers(12))
        mode: Mode = pick(rng, list(SCALES))
        tempo, backing = pick(rng, list(BEAT_S)), pick(rng, ("alone", "chords", "drum"))
        base = (INSTRUMENTS[instrument] if lowest is None else lowest) + tonic
        notes = _draw_notes(rng, base, mode, BEAT_S[tempo], bars)
        melody = Melody(notes, tonic, mode, tempo, instrument, backing)
        if melody.held_out == (split == "held_out"):
            return melody


def notes_text(notes: tuple[Note, ...]) -> str:
    """Spell notes as symbols: `<A4><0.50><rest><0.25>`."""
    return "".join((REST if n.pitch is None else note_symbol(n.pitch)) + time_symbol(n.seconds) for n in notes)


def hertz(pitch: int) -> float:
    """Return the frequency of a MIDI pitch, equally tempered."""
    return 440.0 * 2 ** ((pitch - 69) / 12)


@dataclass(frozen=True)
class MelodyCorpus:
    """What a corpus of melodies is made of; item i is a function of these settings and i alone."""

    seed: int = 0
    """Seed of melodies and wordings."""
    split: Split = "train"
    """`train` or `held_out`: the two never share a melody, in whatever key and on whatever instrument."""

    def item(self, index: int) -> Item:
        """Make melody `index`: fields `audio`, `melody_audio`, `caption`, `notes`, `script`, `lang`."""
        rng = np.random.default_rng(list(f"melodies/{self.seed}/{index}/{self.split}".encode()))
        melody = draw_melody(rng, self.split)
        waves = limited({"audio": 0.5 * melody.play(rng), "melody_audio": 0.5 * melody.hum()})
        fields = {
            "caption": melody.caption(rng),
            "notes": notes_text(melody.notes),
            "lang": "en",
            "script": melody.to_dict() | {"notes": notes_text(melody.notes)},
        }
        return Item({name: Audio.of((wave, RATE_HZ)) for name, wave in waves.items()}, fields)


def _draw_notes(rng: Generator, base: int, mode: Mode, beat_s: float, bars: int) -> tuple[Note, ...]:
    lengths = [beats for _ in range(bars) for beats in pick(rng, RHYTHMS)]
    degree, notes = pick(rng, (0, 2, 4)), []
    for i, beats in enumerate(lengths):
        last = i == len(lengths) - 1
        if last:
            degree = 0 if degree < 4 else 7
        octave, step = divmod(degree, 7)
        pitch = base + 12 * octave + SCALES[mode][step]
        rest = i > 0 and not last and rng.random() < REST_SHARE
        notes.append(Note(None if rest else pitch, round(beats * beat_s, 2)))
        degree = int(np.clip(degree + pick(rng, (-2, -1, -1, 1, 1, 2, 3, -3)), 0, DEGREES - 1))
    return tuple(notes)


def _letters(note: Note, tonic: int, beat_s: float) -> str:
    """Name a note and its beats by letters alone, relative to the tonic: what `is_held_out` reads."""
    figures = "rest" if note.pitch is None else str((note.pitch - tonic) % 12)
    return f"{figures}x{round(4 * note.seconds / beat_s)}".translate({48 + i: 97 + i for i in range(10)})


def _in_order(notes: tuple[Note, ...], make: Any) -> Wave:
    """Play notes one after the other; each may ring on for as long as its own wave lasts."""
    N = round(sum(note.seconds for note in notes) * RATE_HZ)
    wave, at = np.zeros(N), 0.0
    for note in notes:
        if note.pitch is not None:
            first = round(at * RATE_HZ)
            tone = make(note)[: N - first]
            wave[first : first + len(tone)] += tone
        at += note.seconds
    return wave


def _tone(rng: Generator, instrument: str, note: Note) -> Wave:
    """Play one note, `[N]`, released within its length."""
    assert note.pitch is not None
    sound = SOUNDS[instrument]
    t = times(note.seconds)
    wave = sound.make(rng, t, hertz(note.pitch)) * np.clip((t[-1] - t) / 0.03, 0, 1) * np.minimum(1, t / 0.003)
    return wave / max(float(np.abs(wave).max()), 1e-9)


def _hummed(note: Note) -> Wave:
    assert note.pitch is not None
    t, hz = times(note.seconds), hertz(note.pitch)
    voice = bandpass(harmonics(vibrato(t, hz, 5.0, 0.004), hz * 1.01, 1.5), (hz, 200.0), (1000.0, 150.0))
    swell = np.clip(t / 0.04, 0, 1) * np.clip((t[-1] - t) / 0.04, 0, 1)
    return voice / np.abs(voice).max() * swell * (0.9 + 0.1 * np.sin(TURN * 5 * t))
