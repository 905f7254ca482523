"""Short scenes of sounds, with the script that made them: what, in what order, how often, high, fast, loud.

A scene is one to three events one after the other, or one event over a background that goes on. Its script is drawn
first; caption and audio are then made from it, so that every word of the caption is true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.random import Generator

from unitok.audio import Audio
from unitok.data.synth.corpus import Item
from unitok.data.synth.grammar import Split, is_held_out, number_words, plural, with_article
from unitok.data.synth.signals import RATE_HZ, Wave, sounding
from unitok.data.synth.sounds import PITCHES, SOUNDS, Pitch, SoundClass
from unitok.errors import DataError, suggest

__all__ = ["Scene", "SceneEvent", "SoundCorpus", "Span", "Track", "draw_event", "draw_scene", "pick"]

Speed = Literal["slow", "fast"]
Loudness = Literal["quiet", "loud"]
Choice = TypeVar("Choice")
Span = tuple[float, float]
"""Begin and end of something heard, in s."""

MAX_COUNT = 5
MAX_SECONDS = 8.0
"""No scene that is drawn lasts longer."""
_MIN_SECONDS = 1.0
_REST_S = {"slow": 0.9, None: 0.4, "fast": 0.12}
_PEAK = {"quiet": 0.08, None: 0.3, "loud": 0.8}
_BACKGROUND = 0.35
_ALONE_S, _IN_ORDER_S = (2.0, 5.0), (1.2, 2.2)
_LONGEST_PAUSE_S = 0.5

_ADJECTIVES = {
    "low": ("low", "low-pitched", "deep"),
    "middle": ("medium-pitched", "mid-range"),
    "high": ("high", "high-pitched"),
    "slow": ("slow",),
    "fast": ("fast", "quick", "rapid"),
    "quiet": ("quiet", "soft", "faint"),
    "loud": ("loud",),
}
_ADVERBS = {
    "slow": ("slowly",),
    "fast": ("quickly", "rapidly"),
    "quiet": ("quietly", "softly"),
    "loud": ("loudly",),
}
_ONE = ("{clause[0]}", "{clause[0]}", "{phrase[0]}")
_TWO = (
    "{clause[0]}, then {clause[1]}",
    "{clause[0]} and then {clause[1]}",
    "{clause[0]}, followed by {phrase[1]}",
    "{phrase[0]} followed by {phrase[1]}",
    "{clause[0]} before {clause[1]}",
    "{clause[1]} after {clause[0]}",
    "after {phrase[0]}, {clause[1]}",
)
_THREE = (
    "{clause[0]}, then {clause[1]}, then {clause[2]}",
    "first {clause[0]}, then {clause[1]}, and finally {clause[2]}",
    "{clause[0]}, followed by {phrase[1]} and then {phrase[2]}",
    "{clause[0]} before {clause[1]}, then {clause[2]}",
    "after {phrase[0]}, {clause[1]}, and then {clause[2]}",
    "{phrase[0]}, then {phrase[1]}, and then {phrase[2]}",
)
_OVER_BACKGROUND = (
    "{clause[0]} while {clause[1]}",
    "while {clause[1]}, {clause[0]}",
    "{phrase[0]} over {phrase[1]}",
    "{clause[0]} with {phrase[1]} in the background",
)


class Track(NamedTuple):
    """One sound of a scene on its own."""

    wave: Wave
    """`[N]`, as long as the scene."""
    spans: list[Span]
    """When it is heard, once for each time: from its first to its last sample within 40 dB of its peak, at the longest
    until the next time begins."""


@dataclass(frozen=True)
class SceneEvent:
    """A sound that is heard once, a few times, or for a while."""

    sound: str
    """A name of `SOUNDS`."""
    pitch: Pitch | None = None
    """Band of its pitch; None leaves it open."""
    count: int | None = None
    """How often, 1 to 5; None for a sound that goes on."""
    speed: Speed | None = None
    """How fast it is repeated; None is neither."""
    loudness: Loudness | None = None
    """How loud; None is neither."""

    def __post_init__(self) -> None:
        """Check that the sound can do all this.

        Raises:
            DataError: If it cannot.
        """
        if self.sound not in SOUNDS:
            raise DataError(
                f"sound '{self.sound}' is unknown.{suggest(self.sound, SOUNDS)} Allowed: {', '.join(SOUNDS)}."
            )
        self._check("pitch", self.pitch, [None, *PITCHES] if self.of.pitched else [None])
        self._check("count", self.count, range(1, MAX_COUNT + 1) if self.of.countable else [None])
        self._check("speed", self.speed, list(_REST_S) if (self.count or 1) > 1 else [None])
        self._check("loudness", self.loudness, list(_PEAK))

    def _check(self, field: str, value: object, allowed: Sequence[object]) -> None:
        if value not in allowed:
            raise DataError(f"{field} of '{self.sound}' is {value!r}, allowed: {', '.join(map(str, allowed))}.")

    @property
    def of(self) -> SoundClass:
        """Class of the sound."""
        return SOUNDS[self.sound]

    @property
    def key(self) -> str:
        """Name, pitch and count, as words."""
        words = [self.sound, self.pitch, number_words(self.count) if self.count else None]
        return " ".join(word for word in words if word)

    def longest_s(self, lasting_s: float) -> float:
        """Return a length in s that it never exceeds, where a sound that goes on does so for `lasting_s`."""
        if not self.count or not self.of.seconds:
            return lasting_s
        return self.count * self.of.seconds + (self.count - 1) * 1.1 * _REST_S[self.speed] + self.of.tail

    def perform(self, rng: Generator, lasting_s: float) -> Track:
        """Make it, `[N]` at `RATE_HZ`, its peak by its loudness; one that goes on lasts `lasting_s`."""
        hz = self.of.frequency(rng, self.pitch)
        heard: list[tuple[int, int]] = []
        if not self.count or not self.of.seconds:
            wave = self.of.play(rng, hz, lasting_s)
            heard.append(sounding(wave))
        else:
            wave = np.zeros(round(self.longest_s(0) * RATE_HZ) + self.count)
            start, end = 0, 0
            for _ in range(self.count):
                event = self.of.play(rng, hz) * rng.uniform(0.85, 1)
                end = start + len(event)
                wave[start:end] += event
                first, last = sounding(event)
                heard.append((start + first, start + last))
                start += round((self.of.seconds + rng.uniform(0.9, 1.1) * _REST_S[self.speed]) * RATE_HZ)
            wave = wave[:end]
        ends = [*(start for start, _ in heard[1:]), len(wave)]
        spans = [(start / RATE_HZ, min(stop, end) / RATE_HZ) for (start, stop), end in zip(heard, ends, strict=True)]
        return Track(wave / np.abs(wave).max() * _PEAK[self.loudness], spans)

    def clause(self, rng: Generator) -> str:
        """Say it with a verb: "a low bell rings twice quickly"."""
        as_adverb = self.speed is None and rng.random() < 0.5
        adverbs = _words(rng, _ADVERBS, self.speed, self.loudness if as_adverb else None)
        if self.count:
            times = {1: "once", 2: "twice"}.get(self.count, f"{number_words(self.count)} times")
            adverbs.insert(int(rng.integers(len(adverbs) + 1)), times)
        adjectives = _words(rng, _ADJECTIVES, None if as_adverb else self.loudness, self.pitch)
        return " ".join([self._subject(adjectives), plural(pick(rng, self.of.verbs)), *adverbs])

    def phrase(self, rng: Generator) -> str:
        """Say it without a verb: "two quick rings of a low bell"."""
        manner = _words(rng, _ADJECTIVES, self.speed, self.loudness)
        pitch = _words(rng, _ADJECTIVES, self.pitch)
        if not self.count:
            return " ".join(["the", *manner, "sound of", self._subject(pitch)])
        number = pick(rng, ("one", "a single")) if self.count == 1 else number_words(self.count)
        inflect = str if self.count == 1 else plural
        if not self.of.event:
            return " ".join([number, *manner, *pitch, inflect(self.of.noun)])
        return " ".join([number, *manner, inflect(self.of.event), "of", self._subject(pitch)])

    def _subject(self, adjectives: list[str]) -> str:
        words = " ".join([*adjectives, self.of.noun])
        return with_article(words) if self.of.article else words


@dataclass(frozen=True)
class Scene:
    """Events one after the other, or one over a background."""

    events: tuple[SceneEvent, ...]
    """One to three, in order."""
    background: SceneEvent | None = None
    """A sound that goes on under the only event."""

    def __post_init__(self) -> None:
        """Check the number of events.

        Raises:
            DataError: If there are none or more than three, or a background is counted or under more than one.
        """
        if not 1 <= len(self.events) <= 3:
            raise DataError(f"a scene has {len(self.events)} events, allowed: 1 to 3.")
        if self.background and (self.background.count or len(self.events) > 1):
            raise DataError(
                f"background '{self.background.sound}' is under {len(self.events)} event(s) and has count "
                f"{self.background.count}, allowed: under 1 event, a sound that goes on (count None)."
            )

    @property
    def heard(self) -> tuple[SceneEvent, ...]:
        """The events, then the background: the order of `tracks`."""
        return (*self.events, *([self.background] if self.background else []))

    @property
    def held_out(self) -> bool:
        """Whether it belongs to the held-out twentieth: by its classes, order, counts and pitches, whatever the seed.

        A sound alone with neither count nor pitch never does, as it would then be missing from training.
        """
        if self.label and self.label == self.events[0].key:
            return False
        over = f" while {self.background.key}" if self.background else ""
        return is_held_out(" then ".join(event.key for event in self.events) + over)

    @property
    def label(self) -> str | None:
        """Name of the sound, where it is heard alone."""
        return self.events[0].sound if len(self.events) == 1 and not self.background else None

    @property
    def longest_s(self) -> float:
        """A length in s that `render` never exceeds."""
        lasting_s = self._lasting_s[1]
        events_s = sum(event.longest_s(lasting_s) for event in self.events)
        return max(_MIN_SECONDS, 2 * self._margin_s + events_s + (len(self.events) - 1) * _LONGEST_PAUSE_S)

    def caption(self, rng: Generator) -> str:
        """Describe it in one sentence; each of its wordings names every sound, every count and the order."""
        template = pick(rng, _OVER_BACKGROUND if self.background else (_ONE, _TWO, _THREE)[len(self.events) - 1])
        text = template.format(clause=[e.clause(rng) for e in self.heard], phrase=[e.phrase(rng) for e in self.heard])
        return text[0].upper() + text[1:] + "."

    def render(self, rng: Generator) -> Audio:
        """Make it heard: mono, 16 kHz, from 1 s to `longest_s`, peaks by loudness, never clipped."""
        wave = np.sum([track.wave for track in self.tracks(rng)], axis=0)
        return Audio.of((wave / max(1, np.abs(wave).max() / 0.98), RATE_HZ))

    def tracks(self, rng: Generator) -> list[Track]:
        """Make each sound on its own: the events in order, then the background. Their sum may exceed 1."""
        silence = partial(_silence, rng)
        start = len(silence(self._margin_s))
        placed: list[tuple[int, Track]] = []
        end = start
        for event in self.events:
            placed.append((start, event.perform(rng, rng.uniform(*self._lasting_s))))
            end = start + len(placed[-1][1].wave)
            start = end + len(silence(0.2, _LONGEST_PAUSE_S))
        N = max(end + len(silence(self._margin_s)), round(_MIN_SECONDS * RATE_HZ))
        tracks = [_placed(track, start, N) for start, track in placed]
        if self.background:
            track = self.background.perform(rng, N / RATE_HZ)
            tracks.append(Track(_BACKGROUND * track.wave, track.spans))
        return tracks

    def to_dict(self) -> dict[str, Any]:
        """Return the script as plain values: `events`, a list, and `background`, each event a dict of its fields."""
        return {"events": [asdict(e) for e in self.events], "background": self.background and asdict(self.background)}

    @property
    def _margin_s(self) -> float:
        return 0.5 if self.background else 0.1

    @property
    def _lasting_s(self) -> tuple[float, float]:
        return _ALONE_S if len(self.events) == 1 else _IN_ORDER_S


def _placed(track: Track, start: int, n: int) -> Track:
    """Put a track into a silence of `n` samples."""
    wave = np.zeros(n)
    wave[start : start + len(track.wave)] = track.wave
    return Track(wave, [(begin + start / RATE_HZ, end + start / RATE_HZ) for begin, end in track.spans])


def draw_scene(rng: Generator, split: Split = "train") -> Scene:
    """Draw a script of at most `MAX_SECONDS` s; draws again until it falls into the wanted split."""
    while True:
        if rng.random() < 0.2:
            under = pick(rng, [name for name, sound in SOUNDS.items() if not sound.countable])
            over = pick(rng, [name for name in SOUNDS if name != under])
            background = SceneEvent(under, pitch=_draw_pitch(rng, SOUNDS[under]))
            scene = Scene((draw_event(rng, over, (None, None, "loud")),), background)
        else:
            names = rng.choice(list(SOUNDS), pick(rng, (1, 1, 1, 2, 2, 2, 3)), replace=False)
            scene = Scene(tuple(draw_event(rng, str(name), (None, None, "loud", "quiet")) for name in names))
        if scene.held_out == (split == "held_out") and scene.longest_s <= MAX_SECONDS:
            return scene


@dataclass(frozen=True)
class SoundCorpus:
    """What a corpus of sounds is made of; item i is a function of these settings and i alone."""

    seed: int = 0
    """Seed of scripts, wordings and sounds."""
    split: Split = "train"
    """`train` or `held_out`: the two never share a script."""

    def item(self, index: int) -> Item:
        """Make scene `index`: fields `audio`, `caption`, `lang`, `script`, and `label` where it is a single sound."""
        rng = np.random.default_rng(list(f"sounds/{self.seed}/{index}/{self.split}".encode()))
        scene = draw_scene(rng, self.split)
        label = {"label": scene.label} if scene.label else {}
        fields = {"caption": scene.caption(rng), **label, "lang": "en", "script": scene.to_dict()}
        return Item({"audio": scene.render(rng)}, fields)


def pick(rng: Generator, choices: Sequence[Choice]) -> Choice:
    """Draw one of several."""
    return choices[int(rng.integers(len(choices)))]


def _words(rng: Generator, lexicon: dict[str, tuple[str, ...]], *meanings: str | None) -> list[str]:
    return [pick(rng, lexicon[meaning]) for meaning in meanings if meaning]


def _silence(rng: Generator, shortest_s: float, longest_s: float | None = None) -> Wave:
    return np.zeros(int(rng.uniform(shortest_s, longest_s or shortest_s) * RATE_HZ))


def _draw_pitch(rng: Generator, sound: SoundClass) -> Pitch | None:
    pitches: list[Pitch | None] = [None, "low", "middle", "high"]
    return pick(rng, pitches) if sound.pitched else None


def draw_event(rng: Generator, name: str, loudness: Sequence[Loudness | None] = (None,)) -> SceneEvent:
    """Draw how a sound of `SOUNDS` is heard: pitch, count, speed, and one of the levels."""
    sound = SOUNDS[name]
    count = int(rng.integers(1, MAX_COUNT + 1)) if sound.countable else None
    speeds: list[Speed | None] = [None, "slow", "fast"]
    speed = pick(rng, speeds) if (count or 1) > 1 else None
    return SceneEvent(name, _draw_pitch(rng, sound), count, speed, pick(rng, loudness))
