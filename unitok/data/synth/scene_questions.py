"""Questions about a scene with answers computed from its script, sounds to find, and sentences that fit or do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from numpy.random import Generator

from unitok.data.synth.grammar import number_words
from unitok.data.synth.scenes import Scene, SceneEvent, Track, draw_scene, pick
from unitok.data.synth.sounds import SOUNDS, SoundClass
from unitok.tokenizers.symbols import time_symbol

__all__ = ["NOT_HEARD", "Question", "ask", "query", "spans_text", "statement"]

NOT_HEARD = "none"
"""The answer to a query for a sound that is not there."""
TIME_STEP_S = 0.02
ASKED_IN_VAIN = 0.15
"""How often the query is for a sound that is not heard."""


class Question(NamedTuple):
    """A question and its only right answer."""

    question: str
    answer: str


def ask(scene: Scene, rng: Generator) -> Question:
    """Draw one of the questions that the script of a scene answers."""
    kinds = [_is_there, _how_many_sounds]
    if any(event.count for event in scene.events):
        kinds += [_how_often] * 3
    if len(scene.events) > 1:
        kinds += [_first, _last, _which_first, _after]
    if scene.background:
        kinds += [_background] * 2
    if any(event.pitch in ("low", "high") for event in scene.events):
        kinds += [_how_high] * 2
    return pick(rng, kinds)(scene, rng)


def query(scene: Scene, tracks: Sequence[Track], rng: Generator) -> tuple[str, str]:
    """Draw a sound to look for, and when it is heard: `("dog", "<0.10><0.32><0.72><0.94>")`, or `none`."""
    heard = scene.heard
    if rng.random() < ASKED_IN_VAIN:
        return _absent(scene, rng).noun, NOT_HEARD
    chosen = int(rng.integers(len(heard)))
    return heard[chosen].of.noun, spans_text(tracks[chosen])


def spans_text(track: Track) -> str:
    """Spell when a sound is heard: stamps of begin and end in turn, to the nearest 0.02 s."""
    return "".join(time_symbol(round(t / TIME_STEP_S) * TIME_STEP_S) for span in track.spans for t in span)


def statement(scene: Scene, rng: Generator) -> tuple[str, str]:
    """Draw a sentence, and whether it describes the scene: `yes`, or `no` where it is of another scene.

    The other one differs in the sounds, their order or their counts, which every wording names.
    """
    if rng.random() < 0.5:
        return scene.caption(rng), "yes"
    split = "held_out" if scene.held_out else "train"
    while True:
        other = _altered(scene, rng) if rng.random() < 0.5 else draw_scene(rng, split)
        if _named(other) != _named(scene) and other.held_out == scene.held_out:
            return other.caption(rng), "no"


def _named(scene: Scene) -> list[tuple[str, int | None]]:
    return [(event.sound, event.count) for event in scene.heard]


def _altered(scene: Scene, rng: Generator) -> Scene:
    """Swap the order of the events, or count another way."""
    events = list(scene.events)
    if len(events) > 1 and rng.random() < 0.5:
        return Scene(tuple(reversed(events)), scene.background)
    i = int(rng.integers(len(events)))
    event = events[i]
    if event.count:
        count = int(pick(rng, [n for n in range(1, 6) if n != event.count]))
        events[i] = SceneEvent(event.sound, event.pitch, count, event.speed if count > 1 else None, event.loudness)
    return Scene(tuple(events), scene.background)


def _absent(scene: Scene, rng: Generator) -> SoundClass:
    heard = {event.sound for event in scene.heard}
    return SOUNDS[pick(rng, [name for name in SOUNDS if name not in heard])]


def _the(event: SceneEvent) -> str:
    return f"the {event.of.noun}"


def _is_there(scene: Scene, rng: Generator) -> Question:
    there = bool(rng.random() < 0.5)
    sound = pick(rng, scene.heard).of if there else _absent(scene, rng)
    return Question(f"Is there {sound.named}?", "yes" if there else "no")


def _how_many_sounds(scene: Scene, rng: Generator) -> Question:
    return Question("How many different sounds are heard?", number_words(len(scene.heard)))


def _how_often(scene: Scene, rng: Generator) -> Question:
    event = pick(rng, [event for event in scene.events if event.count])
    times = {1: "once", 2: "twice"}.get(event.count or 0) or f"{number_words(event.count or 0)} times"
    return Question(f"How often does {_the(event)} {event.of.verbs[0]}?", times)


def _first(scene: Scene, rng: Generator) -> Question:
    return Question("What is heard first?", scene.events[0].of.named)


def _last(scene: Scene, rng: Generator) -> Question:
    return Question("What is heard last?", scene.events[-1].of.named)


def _which_first(scene: Scene, rng: Generator) -> Question:
    i = int(rng.integers(len(scene.events) - 1))
    first, second = scene.events[i], scene.events[i + 1]
    named = [_the(first), _the(second)] if rng.random() < 0.5 else [_the(second), _the(first)]
    return Question(f"Which comes first, {named[0]} or {named[1]}?", _the(first))


def _after(scene: Scene, rng: Generator) -> Question:
    i = int(rng.integers(len(scene.events) - 1))
    return Question(f"What comes after {_the(scene.events[i])}?", scene.events[i + 1].of.named)


def _background(scene: Scene, rng: Generator) -> Question:
    assert scene.background
    return Question("What is heard in the background?", scene.background.of.named)


def _how_high(scene: Scene, rng: Generator) -> Question:
    event = pick(rng, [event for event in scene.events if event.pitch in ("low", "high")])
    return Question(f"Is {_the(event)} low or high?", str(event.pitch))
