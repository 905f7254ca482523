"""Changes of a scene, with the instruction that asks for each; and the scene spread out between left and right.

    remove   one sound becomes silence        louder, quieter   one sound times or by three
    add      a sound at the end               background        a sound that goes on under all
    repeat   all of it twice

C channels, N samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from unitok.data.synth.scenes import Scene, Track, draw_event, pick
from unitok.data.synth.signals import RATE_HZ, Wave
from unitok.data.synth.sounds import SOUNDS

__all__ = ["PLACES", "Edit", "edit", "pan", "spread"]

FACTOR = 3.0
PAUSE_S = 0.3
ADDED_S = 1.5
BACKGROUND_PEAK = 0.1
FAR = np.pi / 16
"""Angle of a sound at the side: a quarter turn is the other side, an eighth the middle."""
PLACES = {
    "on the left": (FAR, FAR),
    "in the middle": (np.pi / 4, np.pi / 4),
    "on the right": (np.pi / 2 - FAR, np.pi / 2 - FAR),
    "from left to right": (FAR, np.pi / 2 - FAR),
    "from right to left": (np.pi / 2 - FAR, FAR),
}
"""Words for a direction -> the angles at which a sound begins and ends."""


class Edit(NamedTuple):
    """A change that was made."""

    instruction: str
    """It in words."""
    wave: Wave
    """What comes of it, `[N]`; may exceed 1."""
    script: dict[str, Any]
    """`kind`, and `sound`: the name of the sound it is about, or none."""


def edit(scene: Scene, tracks: Sequence[Track], rng: Generator) -> Edit:
    """Change a scene in one of the ways above."""
    whole = np.sum([track.wave for track in tracks], axis=0)
    kinds = ["repeat", "add", "background", "louder", "quieter"] + ["remove"] * 2 * (len(tracks) > 1)
    kind = pick(rng, kinds)
    if kind == "repeat":
        return Edit("Repeat it.", np.concatenate([whole, whole]), {"kind": kind})
    if kind in ("add", "background"):
        return _with_another(scene, whole, kind, rng)
    i = int(rng.integers(len(tracks)))
    sound = scene.heard[i].of
    change = {"remove": -1.0, "louder": FACTOR - 1, "quieter": 1 / FACTOR - 1}[kind]
    words = {"remove": "Remove the {}.", "louder": "Make the {} louder.", "quieter": "Make the {} quieter."}[kind]
    return Edit(words.format(sound.noun), whole + change * tracks[i].wave, {"kind": kind, "sound": sound.name})


def _with_another(scene: Scene, whole: Wave, kind: str, rng: Generator) -> Edit:
    heard = {event.sound for event in scene.heard}
    fits = [s for s in SOUNDS.values() if s.name not in heard and (kind == "add" or not s.countable)]
    sound = pick(rng, fits)
    script = {"kind": kind, "sound": sound.name}
    if kind == "background":
        under = sound.play(rng, sound.frequency(rng), len(whole) / RATE_HZ)[: len(whole)]
        return Edit(f"Add {sound.named} in the background.", whole + BACKGROUND_PEAK * under, script)
    event = draw_event(rng, sound.name)
    added = event.perform(rng, ADDED_S).wave
    wave = np.concatenate([whole, np.zeros(round(PAUSE_S * RATE_HZ)), added])
    clause = event.clause(rng)
    return Edit(f"Add this at the end: {clause}.", wave, script)


def pan(wave: Wave, place: str) -> Wave:
    """Return a sound `[N]` at a place, `[2, N]`: left and right by the same power in all (cosine and sine)."""
    angle = np.linspace(*PLACES[place], len(wave))
    return np.stack([np.cos(angle), np.sin(angle)]) * wave


def spread(scene: Scene, tracks: Sequence[Track], rng: Generator) -> tuple[str, Wave, list[str]]:
    """Put each sound of a scene at a place.

    Returns:
        A caption that names the places, the two channels `[2, N]`, and the place of each track.
    """
    names = list(PLACES)
    places = [pick(rng, names[:3] if event.of.countable else names) for event in scene.heard]
    stereo = np.sum([pan(track.wave, place) for track, place in zip(tracks, places, strict=True)], axis=0)
    said = [f"{event.clause(rng)} {place}" for event, place in zip(scene.heard, places, strict=True)]
    text = f"{said[0]} while {said[1]}." if scene.background else ", then ".join(said) + "."
    return text[0].upper() + text[1:], stereo, places
