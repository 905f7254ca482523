"""Sound classes made by formula: a bell, rain, a dog, an engine…, each with the words that name it.

Not recordings, and not meant to pass for them: each class keeps what tells its model apart (the inharmonic partials
of a bell, the formants of a moo, the blades of a helicopter), so that what a text asks for can be heard and measured.
Not here: the signals they are made of (`signals.py`), and the scenes and captions made of them (`scenes.py`).

Letters: N samples at `RATE_HZ`. A function of a sound takes a generator, the times `[N]` to fill, in s, and a frequency
in Hz, which sets the pitch (noises ignore it).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.random import Generator

from unitok.data.synth.grammar import with_article
from unitok.data.synth.signals import (
    RATE_HZ,
    TURN,
    Wave,
    bandpass,
    decay,
    drift,
    glide,
    harmonics,
    noise,
    partials,
    phase_of,
    scatter,
    sine,
    times,
    vibrato,
)
from unitok.errors import DataError

__all__ = ["PITCHES", "SOUNDS", "Pitch", "SoundClass"]

PITCHES = {"low": 0.5, "middle": 1.0, "high": 2.0}
"""Pitch class -> multiple of the class's own frequency. A draw is within a tenth of it: the bands never touch."""

Pitch = Literal["low", "middle", "high"]


@dataclass(frozen=True)
class SoundClass:
    """What sounds, how long, and how one says it."""

    name: str
    """Label, unique."""
    family: str
    """What it sounds like or comes from."""
    noun: str
    """What sounds: "dog", "rain"."""
    verbs: tuple[str, ...]
    """What it does, each without its ending: "bark", "fall"."""
    make: Callable[[Generator, Wave, float], Wave]
    """Fills times `[N]` with one event, at any level."""
    event: str = ""
    """What one event is called, as in "three barks of a dog"; empty where the noun says it: "three claps"."""
    article: bool = True
    """Whether the noun takes one: "a dog", but "rain"."""
    hz: float = 0.0
    """Frequency of middle pitch."""
    pitched: bool = False
    """Whether it can be asked to be low or high."""
    seconds: float | None = None
    """Length of one event before the next may begin; None for a sound that goes on for as long as it is asked to."""
    tail: float = 0.0
    """How long an event rings on, in s, under the next one."""

    @property
    def countable(self) -> bool:
        """Whether it comes as events that one counts."""
        return self.seconds is not None

    @property
    def named(self) -> str:
        """Its noun, with an article if it takes one."""
        return with_article(self.noun) if self.article else self.noun

    def frequency(self, rng: Generator, pitch: Pitch | None = None) -> float:
        """Draw a frequency in Hz.

        Args:
            rng: Where it is drawn from.
            pitch: Its band; None is anywhere between low and high for a pitched sound.

        Raises:
            DataError: If the sound has no pitch, or the pitch is unknown.
        """
        if pitch is None:
            return self.hz * (2 ** rng.uniform(-1, 1) if self.pitched else rng.uniform(0.9, 1.1))
        if not self.pitched or pitch not in PITCHES:
            allowed = ", ".join(PITCHES) if self.pitched else "None, as it has no pitch"
            raise DataError(f"pitch of '{self.name}' is {pitch!r}, allowed: {allowed}.")
        return self.hz * PITCHES[pitch] * rng.uniform(0.9, 1.1)

    def play(self, rng: Generator, hz: float, seconds: float | None = None) -> Wave:
        """Make one event `[N]`, with a peak of 1 and without a click at its ends.

        Args:
            rng: Where its variations are drawn from.
            hz: Frequency, as `frequency` draws it.
            seconds: Length in s; needed where the class has none of its own. Its tail comes on top.

        Raises:
            DataError: If there is no length.
        """
        seconds = seconds or self.seconds
        if not seconds:
            raise DataError(f"'{self.name}' goes on until it is stopped. Say for how many seconds.")
        t = times(seconds + self.tail)
        wave = self.make(rng, t, hz) * np.minimum(1, np.minimum(t / 0.001, (t[-1] - t) / 0.02))
        return wave / np.abs(wave).max()


SOUNDS: dict[str, SoundClass] = {}
"""Name -> class, in order of family."""


def _sound(family: str, noun: str, *verbs: str, **fields: Any) -> Callable[[Callable[..., Wave]], Callable[..., Wave]]:
    def register(make: Callable[..., Wave]) -> Callable[..., Wave]:
        name = make.__name__
        SOUNDS[name] = SoundClass(name=name, family=family, noun=noun, verbs=verbs, make=make, **fields)
        return make

    return register


@_sound("tones", "beep", "sound", hz=900, pitched=True, seconds=0.18)
def beep(rng: Generator, t: Wave, hz: float) -> Wave:
    """A pure tone."""
    return np.sin(TURN * hz * t)


@_sound("tones", "rising tone", "sound", hz=300, seconds=0.6)
def rising_tone(rng: Generator, t: Wave, hz: float) -> Wave:
    """Three octaves up."""
    return sine(phase_of(hz * 2 ** glide(t, 0, 3)))


@_sound("tones", "falling tone", "sound", hz=300, seconds=0.6)
def falling_tone(rng: Generator, t: Wave, hz: float) -> Wave:
    """Three octaves down."""
    return sine(phase_of(hz * 2 ** glide(t, 3, 0)))


@_sound("tones", "buzzer", "sound", "drone", event="blast", hz=140, seconds=0.4)
def buzzer(rng: Generator, t: Wave, hz: float) -> Wave:
    """A square wave: odd harmonics."""
    return harmonics(hz * t, hz, 1.0, step=2)


@_sound("tones", "whistle", "blow", "sound", event="blast", hz=1600, pitched=True, seconds=0.4)
def whistle(rng: Generator, t: Wave, hz: float) -> Wave:
    """A pea whistle: a tone that flutters, and breath."""
    flutter = sine(30 * t)
    return sine(phase_of(hz * (1 + 0.02 * flutter))) * (1 + 0.5 * flutter) + 0.15 * noise(rng, t, (hz, 300))


@_sound("alarms", "siren", "wail", "howl", hz=800)
def siren(rng: Generator, t: Wave, hz: float) -> Wave:
    """Up and down by an octave, every second and a half."""
    return harmonics(phase_of(hz * 2 ** (-0.5 * np.cos(TURN * t / 1.5))), 1.5 * hz, 2.0)


@_sound("alarms", "telephone", "ring", event="ring", hz=1300, seconds=0.7, tail=0.2)
def telephone(rng: Generator, t: Wave, hz: float) -> Wave:
    """Two gongs that a hammer strikes in turn, 22 times a second."""
    gong = np.where(t * 22 % 2 < 1, hz, 1.25 * hz)
    struck = np.exp(-(t * 22 % 1)) * np.exp(-np.maximum(t - 0.7, 0) / 0.05)
    return (sine(gong * t) + sine(2.7 * gong * t)) * struck


@_sound("alarms", "alarm clock", "beep", hz=2100)
def alarm_clock(rng: Generator, t: Wave, hz: float) -> Wave:
    """Four short beeps and a rest, again and again."""
    on = ((t % 0.7) < 0.44) & ((t % 0.11) < 0.06)
    return harmonics(hz * t, hz, 1.0, step=2) * on


@_sound("alarms", "car horn", "honk", "blare", event="honk", hz=400, seconds=0.5)
def car_horn(rng: Generator, t: Wave, hz: float) -> Wave:
    """Two bright tones, a major third apart."""
    return harmonics(hz * t, hz, 0.5) + harmonics(1.26 * hz * t, 1.26 * hz, 0.5)


@_sound("alarms", "doorbell", "chime", "ring", event="chime", hz=660, seconds=0.8, tail=0.6)
def doorbell(rng: Generator, t: Wave, hz: float) -> Wave:
    """Ding, and dong a major third below."""
    dong = np.maximum(t - 0.4, 0)
    return partials(t, [hz, 3 * hz], [1, 0.3], [0.2, 0.1]) + partials(
        dong, [0.8 * hz, 2.4 * hz], [1, 0.3], [0.35, 0.15]
    )


@_sound("weather", "rain", "fall", "patter", article=False)
def rain(rng: Generator, t: Wave, hz: float) -> Wave:
    """A hiss, and drops that hit something."""
    drop = times(0.01)
    return noise(rng, t, (5000, 2500)) + 3 * scatter(rng, t, 90, partials(drop, 2500, 1, 0.0008))


@_sound("weather", "wind", "blow", "howl", article=False)
def wind(rng: Generator, t: Wave, hz: float) -> Wave:
    """Gusts: bands of noise that come and go."""
    gusts = [drift(rng, t, 2.5) ** 3 * noise(rng, t, (centre, 40)) for centre in (300, 450, 650)]
    return np.sum(gusts, axis=0) + 0.1 * noise(rng, t, (200, 200))


@_sound("weather", "thunder", "rumble", "roll", article=False)
def thunder(rng: Generator, t: Wave, hz: float) -> Wave:
    """A crack and its deep echoes."""
    rumble = noise(rng, t, (60, 35)) * (0.15 + drift(rng, t, 4)) * glide(t, 1, 0.8, 0.3)
    return rumble + noise(rng, t, (500, 500)) * decay(t, 0.12)


@_sound("weather", "sea", "roar", "surge")
def sea(rng: Generator, t: Wave, hz: float) -> Wave:
    """A wave every other second: it swells, breaks, and runs out in foam."""
    cycle = (t / 2 + rng.random()) % 1
    swell = np.interp(cycle, [0, 0.3, 0.4, 1], [0.05, 0.4, 1, 0.05])
    return noise(rng, t, (300, 200)) * swell + noise(rng, t, (3500, 2000)) * swell**2


@_sound("weather", "fire", "crackle", "burn")
def fire(rng: Generator, t: Wave, hz: float) -> Wave:
    """Few sharp crackles over a faint roar."""
    snap = times(0.01)
    crackle = scatter(rng, t, 18, noise(rng, snap, (2500, 2500)) * decay(snap, 0.0015))
    return crackle + 0.06 * noise(rng, t, (150, 100))


@_sound("weather", "stream", "babble", "gurgle")
def stream(rng: Generator, t: Wave, hz: float) -> Wave:
    """Many bubbles of all sizes: each a tone that rises as it dies."""
    bubble = times(0.08)
    bubbles = [
        scatter(rng, t, 12, sine(phase_of(size * (1 + 6 * bubble))) * decay(bubble, 0.02))
        for size in rng.uniform(400, 1300, 7)
    ]
    return np.sum(bubbles, axis=0) + 0.05 * noise(rng, t, (1500, 1000))


@_sound("impacts", "water drop", "fall", "drip", hz=1000, pitched=True, seconds=0.15)
def water_drop(rng: Generator, t: Wave, hz: float) -> Wave:
    """The bubble it leaves: a tone that rises fast as it dies."""
    return sine(phase_of(hz * (1 + 4 * t))) * decay(t, 0.035)


@_sound("impacts", "knock", "sound", hz=230, seconds=0.15)
def knock(rng: Generator, t: Wave, hz: float) -> Wave:
    """Wood: a few low resonances that die at once."""
    return partials(t, [hz, 1.9 * hz, 3.1 * hz], [1, 0.6, 0.4], [0.03, 0.02, 0.01])


@_sound("impacts", "clap", "sound", hz=1400, seconds=0.12)
def clap(rng: Generator, t: Wave, hz: float) -> Wave:
    """Three bursts of noise within 20 ms."""
    bursts = sum(decay(t, 0.006, start) for start in (0.0, 0.01, 0.02)) + 0.4 * decay(t, 0.03, 0.02)
    return noise(rng, t, (hz, 500)) * bursts


@_sound("impacts", "footstep", "sound", hz=75, seconds=0.25)
def footstep(rng: Generator, t: Wave, hz: float) -> Wave:
    """The heel thumps, the sole scrapes."""
    scrape = noise(rng, t, (3500, 1500)) * np.exp(-(((t - 0.13) / 0.03) ** 2))
    return partials(t, hz, 1, 0.035) + 0.12 * scrape


@_sound("impacts", "window", "shatter", "break", event="crash", seconds=0.5, tail=0.3)
def window(rng: Generator, t: Wave, hz: float) -> Wave:
    """A crash, and splinters that ring high, fewer and fewer."""
    splinter = times(0.08)
    splinters = [scatter(rng, t, 25, partials(splinter, pitch, 1, 0.015)) for pitch in rng.uniform(3000, 7000, size=6)]
    return 2 * noise(rng, t, (5000, 3000)) * decay(t, 0.03) + np.sum(splinters, axis=0) * decay(t, 0.25)


@_sound("impacts", "clock", "tick", event="tick", hz=3600, seconds=0.08)
def clock(rng: Generator, t: Wave, hz: float) -> Wave:
    """A click of two thin resonances."""
    return partials(t, [hz, 1.6 * hz], [1, 0.7], [0.004, 0.003])


@_sound("impacts", "door", "slam", event="slam", hz=110, seconds=0.35)
def door(rng: Generator, t: Wave, hz: float) -> Wave:
    """A heavy blow of noise, and the lock that rattles after it."""
    rattle = noise(rng, t, (2000, 800)) * decay(t, 0.015, 0.06)
    return noise(rng, t, (hz, 90)) * decay(t, 0.08) + 0.25 * rattle + 0.4 * noise(rng, t, (700, 500)) * decay(t, 0.02)


@_sound("impacts", "hammer", "strike", event="blow", hz=1700, seconds=0.3, tail=0.2)
def hammer(rng: Generator, t: Wave, hz: float) -> Wave:
    """Iron on iron: high partials without order."""
    ring = partials(t, hz * np.array([1, 1.47, 2.09, 2.56, 3.39]), [1, 0.8, 0.9, 0.6, 0.5], 0.08)
    return ring + 2 * noise(rng, t, (3000, 2000)) * decay(t, 0.004)


@_sound("animals", "dog", "bark", event="bark", hz=480, seconds=0.2)
def dog(rng: Generator, t: Wave, hz: float) -> Wave:
    """A rough voice that jumps up and falls."""
    voice = harmonics(phase_of(hz * glide(t, 0.7, 1.2, 1, 0.7)), hz, 0.5)
    rough = voice + 0.5 * noise(rng, t, (1200, 600))
    return bandpass(rough, (650, 200), (1500, 300)) * glide(t, 0.2, 1, 0.8, 0.3, 0)


@_sound("animals", "cat", "meow", event="meow", hz=550, seconds=0.7)
def cat(rng: Generator, t: Wave, hz: float) -> Wave:
    """A voice that opens from "ee" to "ow" on a high arch."""
    voice = harmonics(phase_of(hz * glide(t, 0.85, 1.2, 1.15, 0.8)), 1.2 * hz, 0.7)
    opened = glide(t, 0, 1, 1)
    vowels = bandpass(voice, (500, 100), (2800, 300)) * (1 - opened) + bandpass(voice, (1000, 250)) * opened
    return vowels * glide(t, 0.2, 0.8, 1, 0.6, 0)


@_sound("animals", "bird", "chirp", "tweet", event="chirp", hz=2500, pitched=True, seconds=0.16)
def bird(rng: Generator, t: Wave, hz: float) -> Wave:
    """A pure tone that dives and swings back."""
    return sine(phase_of(hz * glide(t, 1.25, 0.85, 1.1))) * glide(t, 0, 1, 1, 0)


@_sound("animals", "cricket", "chirp", "sing", hz=4600)
def cricket(rng: Generator, t: Wave, hz: float) -> Wave:
    """Three pulses of a high tone, three times a second."""
    pulses = np.sin(TURN / 2 * 28 * t) ** 2 * (t % (9 / 28) < 3 / 28)
    return sine(hz * t) * pulses


@_sound("animals", "frog", "croak", event="croak", hz=42, seconds=0.4)
def frog(rng: Generator, t: Wave, hz: float) -> Wave:
    """Slow pulses that ring in the throat."""
    pulses = harmonics(phase_of(hz * glide(t, 0.8, 1.2)), hz, 0.0)
    return bandpass(pulses, (600, 80), (1700, 150)) * glide(t, 0.4, 1, 1, 0)


@_sound("animals", "cow", "moo", event="moo", hz=130, seconds=0.9)
def cow(rng: Generator, t: Wave, hz: float) -> Wave:
    """A deep voice that opens slowly."""
    voice = harmonics(phase_of(hz * glide(t, 0.8, 1.1, 1.1, 0.8)), hz, 0.8)
    opened = glide(t, 0, 1, 1, 0.6)
    return (bandpass(voice, (250, 60)) + opened * bandpass(voice, (600, 100), (1000, 120))) * glide(
        t, 0, 0.8, 1, 0.8, 0
    )


@_sound("animals", "sheep", "bleat", event="bleat", hz=280, seconds=0.7)
def sheep(rng: Generator, t: Wave, hz: float) -> Wave:
    """A nasal voice that trembles."""
    tremble = sine(9 * t)
    voice = harmonics(phase_of(hz * (1 + 0.06 * tremble)), hz, 0.3)
    return bandpass(voice, (900, 150), (1900, 250)) * (1 + 0.7 * tremble) * glide(t, 0.3, 1, 1, 0.7, 0)


@_sound("animals", "owl", "hoot", event="hoot", hz=380, seconds=0.45)
def owl(rng: Generator, t: Wave, hz: float) -> Wave:
    """A hollow tone, soft at both ends, and air."""
    tone = sine(phase_of(hz * glide(t, 0.9, 1.03, 1, 0.92)))
    return (tone + 0.1 * noise(rng, t, (hz, 150))) * np.sin(np.pi * glide(t, 0, 1)) ** 2


@_sound("animals", "crow", "caw", event="caw", hz=520, seconds=0.4)
def crow(rng: Generator, t: Wave, hz: float) -> Wave:
    """A hoarse voice: more noise than tone."""
    voice = harmonics(phase_of(hz * glide(t, 0.9, 1.05, 0.85) * (1 + 0.2 * drift(rng, t, 90))), hz, 0.2)
    return bandpass(voice + 2 * rng.standard_normal(len(t)), (1500, 250), (2600, 300)) * glide(t, 0.2, 1, 0.9, 0)


@_sound("animals", "bee", "hum", "drone", hz=210)
def bee(rng: Generator, t: Wave, hz: float) -> Wave:
    """Wings: a bright tone that comes nearer and goes away."""
    buzz = harmonics(phase_of(hz * (1 + 0.15 * drift(rng, t, 4))), hz, 0.6)
    return bandpass(buzz, (250, 250), (2800, 900)) * (0.3 + drift(rng, t, 2))


@_sound("instruments", "bell", "ring", "toll", event="ring", hz=600, pitched=True, seconds=0.3, tail=0.9)
def bell(rng: Generator, t: Wave, hz: float) -> Wave:
    """Partials of a church bell: hum, prime, tierce, quint, nominal and above; the higher, the shorter."""
    ratios = np.array([0.5, 1, 1.19, 1.5, 2, 2.74, 3.76])
    return partials(t, hz * ratios, [0.3, 1, 0.5, 0.3, 0.6, 0.4, 0.3], 0.35 / ratios**0.7)


@_sound("instruments", "drum", "beat", "sound", event="beat", hz=110, pitched=True, seconds=0.15, tail=0.2)
def drum(rng: Generator, t: Wave, hz: float) -> Wave:
    """A skin whose tone sinks, and the stick on it."""
    skin = sine(phase_of(hz * (1 + 0.5 * decay(t, 0.03)))) * decay(t, 0.09)
    return skin + 0.1 * noise(rng, t, (1200, 800)) * decay(t, 0.01)


@_sound("instruments", "cymbal", "crash", "clash", event="crash", seconds=0.4, tail=1.0)
def cymbal(rng: Generator, t: Wave, hz: float) -> Wave:
    """A bright wash that fades slowly."""
    return noise(rng, t, (6500, 1500), (3800, 500)) * (decay(t, 0.35) + 1.5 * decay(t, 0.03))


@_sound("instruments", "xylophone note", "sound", hz=800, pitched=True, seconds=0.15, tail=0.15)
def xylophone(rng: Generator, t: Wave, hz: float) -> Wave:
    """A bar tuned to 1 : 3 : 6, short and dry."""
    return partials(t, [hz, 3 * hz, 6 * hz], [1, 0.5, 0.2], [0.07, 0.03, 0.015]) + 0.2 * noise(
        rng, t, (2000, 1000)
    ) * decay(t, 0.003)


@_sound("instruments", "piano note", "sound", hz=260, pitched=True, seconds=0.4, tail=0.6)
def piano(rng: Generator, t: Wave, hz: float) -> Wave:
    """Stiff strings: stretched harmonics, the higher the shorter."""
    k = np.arange(1, 9)
    return partials(t, hz * k * np.sqrt(1 + 8e-4 * k**2), k**-1.2, 0.5 / k**0.8)


@_sound("instruments", "guitar note", "sound", hz=200, pitched=True, seconds=0.4, tail=0.6)
def guitar(rng: Generator, t: Wave, hz: float) -> Wave:
    """Karplus-Strong: a burst that goes round the string, smoothed at every turn, all turns at once by its spectrum."""
    period = round(RATE_HZ / hz)
    k = np.arange(period // 2 + 1)
    pluck = np.exp(TURN * 1j * rng.random(len(k))) / np.maximum(k, 1) ** 0.7 * (k > 0)
    loss = np.exp(-1 / (0.35 * hz)) * (1 + np.exp(-TURN * 1j * k / period)) / 2
    turns = np.arange(len(t) // period + 1)[:, None]
    return np.fft.irfft(pluck * loss**turns, period).ravel()[: len(t)]


@_sound("instruments", "organ", "play", "sound", hz=220, pitched=True)
def organ(rng: Generator, t: Wave, hz: float) -> Wave:
    """Pipes at 1, 2, 3, 4, 6 and 8 times the pitch, steady, on a tremulant."""
    k = np.array([1, 2, 3, 4, 6, 8])
    pipes = partials(t, hz * k, [1, 0.7, 0.5, 0.4, 0.2, 0.2], np.inf)
    return pipes * (1 + 0.15 * sine(6 * t)) * np.minimum(1, t / 0.05)


@_sound("instruments", "flute note", "sound", hz=520, pitched=True, seconds=0.5)
def flute(rng: Generator, t: Wave, hz: float) -> Wave:
    """Nearly a sine, with vibrato and breath."""
    phase = vibrato(t, hz, 5.5, 0.01)
    tone = sine(phase) + 0.25 * sine(2 * phase) + 0.08 * sine(3 * phase)
    return (tone + 0.12 * noise(rng, t, (2 * hz, 400))) * glide(t, 0, 0.8, 1, 1, 0.9, 0)


@_sound("instruments", "trumpet", "blow", "sound", event="blast", hz=350, pitched=True, seconds=0.5)
def trumpet(rng: Generator, t: Wave, hz: float) -> Wave:
    """Brass: the louder, the brighter."""
    phase = vibrato(t, hz, 5, 0.006)
    blown = glide(t, 0, 1, 0.9, 0.9, 0.9, 0)
    return harmonics(phase, hz, 1.6) * blown + harmonics(phase, hz, 0.5) * blown**3


@_sound("machines", "engine", "run", "idle", hz=28)
def engine(rng: Generator, t: Wave, hz: float) -> Wave:
    """Uneven explosions in an exhaust."""
    pulses = harmonics(phase_of(hz * (0.95 + 0.1 * drift(rng, t, 6))), hz, 0.2)
    return bandpass(pulses, (110, 50), (350, 90)) + 0.02 * noise(rng, t, (900, 600))


@_sound("machines", "helicopter", "fly", "hover", hz=11)
def helicopter(rng: Generator, t: Wave, hz: float) -> Wave:
    """Blades that chop the air, eleven a second."""
    chop = np.exp(-((hz * t) % 1) * 5)
    return noise(rng, t, (120, 80), (700, 300)) * chop + 0.1 * noise(rng, t, (2500, 1500)) * (0.3 + chop)


@_sound("machines", "vacuum cleaner", "run", "roar", hz=270)
def vacuum_cleaner(rng: Generator, t: Wave, hz: float) -> Wave:
    """A motor's whine that starts up, in a stream of air."""
    speed = hz * (1 - 0.4 * decay(t, 0.25))
    return 0.7 * harmonics(phase_of(speed), hz, 1.0) + 0.5 * noise(rng, t, (1200, 900))


@_sound("machines", "drill", "whir", "grind", hz=95)
def drill(rng: Generator, t: Wave, hz: float) -> Wave:
    """Hammering teeth: a harsh comb, bursting in turns."""
    comb = harmonics(phase_of(hz * (1 + 0.03 * drift(rng, t, 8))), hz, 0.0)
    return bandpass(comb, (1800, 500), (3800, 800)) * (0.15 + (t % 0.8 < 0.55))


@_sound("noises", "white noise", "hiss", article=False)
def white_noise(rng: Generator, t: Wave, hz: float) -> Wave:
    """All frequencies alike."""
    return rng.standard_normal(len(t))


@_sound("noises", "static", "crackle", article=False)
def static(rng: Generator, t: Wave, hz: float) -> Wave:
    """A dead radio: narrow noise that cuts in and out, and pops."""
    gate = drift(rng, t, 25) > 0.45
    return noise(rng, t, (1000, 200)) * gate + 0.1 * noise(rng, t, (2500, 1000))
