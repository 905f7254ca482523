"""Sounds from captions, captions and classes from sounds, by a check that does not know how they were made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np

from quality.report import EVALUATION_SEED, Bench, Row
from unitok.audio import Audio
from unitok.data.synth.scenes import Scene, SceneEvent, draw_scene
from unitok.data.synth.sounds import SOUNDS, Pitch
from unitok.evaluation.sounds import SoundCheck, SoundReference
from unitok.evaluation.statistics import Estimate, share
from unitok.evaluation.text import bleu, normalize

RECORDINGS = 24
"""Of each sound, that the check knows it by."""


class TestScene(NamedTuple):
    """A held-out scene without background, its caption and its audio."""

    scene: Scene
    caption: str
    audio: Audio


class Heard(NamedTuple):
    """What a check of sounds hears of what was asked for."""

    classes: Estimate
    """Events whose sound is heard."""
    others: Estimate
    """Scenes in which a sound is heard that was not asked for."""
    counts: Estimate
    """Countable events that are heard as often as asked for."""
    order: Estimate
    """Scenes of two or three events that are heard in their order, and nothing else."""
    pitches: Estimate
    """Events with a pitch that is heard."""


def scenes(n: int, seed: int = EVALUATION_SEED) -> list[TestScene]:
    """Draw held-out scenes."""
    drawn, index = [], 0
    while len(drawn) < n:
        rng = np.random.default_rng([seed, index])
        scene, index = draw_scene(rng, "held_out"), index + 1
        if scene.background is None:
            drawn.append(TestScene(scene, scene.caption(rng), scene.render(rng)))
    return drawn


@cache
def sound_check() -> SoundCheck:
    """Fit the check to each sound alone, at all its pitches and counts."""
    rng = np.random.default_rng(EVALUATION_SEED)
    references: dict[str, list[SoundReference]] = {}
    for name, sound in SOUNDS.items():
        pitches: list[Pitch | None] = ["low", "middle", "high"] if sound.pitched else [None]
        ways = list(product(pitches, range(1, 6) if sound.countable else [None]))
        events = [SceneEvent(name, *ways[i % len(ways)]) for i in range(RECORDINGS)]
        references[name] = [SoundReference(Scene((event,)).render(rng), event.count, event.pitch) for event in events]
    return SoundCheck(references)


def compare(check: SoundCheck, wanted: Sequence[TestScene], audios: Sequence[Audio]) -> Heard:
    """Listen to what was made of each scene."""
    classes, others, counts, order, pitches = [], [], [], [], []
    for (scene, _, _), audio in zip(wanted, audios, strict=True):
        heard = check.listen(audio)
        names, asked = [sound.name for sound in heard], [event.sound for event in scene.events]
        others.append(bool(set(names) - set(asked)))
        if len(asked) > 1:
            order.append(list(dict.fromkeys(names)) == asked)
        for event in scene.events:
            those = [sound for sound in heard if sound.name == event.sound]
            classes.append(bool(those))
            if event.count:
                counts.append(sum(sound.count for sound in those) == event.count)
            if event.pitch:
                pitches.append(bool(those) and those[0].pitch == event.pitch)
    return Heard(*(share(found or [False]) for found in (classes, others, counts, order, pitches)))


def measure_tta(bench: Bench) -> Iterator[Row]:
    """Measure whether the sounds that a caption asks for are heard."""
    wanted, check = scenes(bench.n_items), sound_check()
    made = bench.generate("tta", [{"text": scene.caption} for scene in wanted])
    bench.keep("tta", made)
    bench.note("tta", [scene.caption for scene in wanted], [_words(check, audio) for audio in made])
    ours, corpus = compare(check, wanted, made), compare(check, wanted, [scene.audio for scene in wanted])
    chance = compare(check, wanted, [*[s.audio for s in wanted[1:]], wanted[0].audio])
    for what, field in (
        ("right event class", "classes"),
        ("right count", "counts"),
        ("right order", "order"),
        ("right pitch", "pitches"),
        ("other sounds are heard", "others"),
    ):
        value = getattr(ours, field)
        beside = f"the corpus itself {getattr(corpus, field)}; another scene {getattr(chance, field)}"
        yield Row(f"tta: {what}", str(value), beside, {field: value.value})


def measure_aac(bench: Bench) -> Iterator[Row]:
    """Measure whether captions name the sounds of a scene."""
    wanted = scenes(bench.n_items)
    captions = bench.generate("aac", [{"audio": scene.audio} for scene in wanted])
    truth = [scene.caption for scene in wanted]
    bench.note("aac", truth, captions)
    named, other = (
        [_named(c, s.scene) for c, s in zip(texts, wanted, strict=True)] for texts in (captions, truth[1:] + truth[:1])
    )
    right, chance = share(sum(named, [])), share(sum(other, []))
    yield Row("aac: the sound is named", str(right), f"captions of other scenes {chance}", {"named": right.value})
    ours, theirs = bleu(truth, captions), bleu(truth, truth[1:] + truth[:1])
    yield Row("aac: BLEU", str(ours), f"captions of other scenes {theirs}", {"bleu": ours.value})


def measure_ac(bench: Bench) -> Iterator[Row]:
    """Measure whether a sound alone is called by its name."""
    rng = np.random.default_rng(EVALUATION_SEED + 1)
    names = [list(SOUNDS)[i % len(SOUNDS)] for i in range(max(len(SOUNDS), bench.n_items))]
    counts = [int(rng.integers(1, 6)) if SOUNDS[name].countable else None for name in names]
    audios = [Scene((SceneEvent(n, count=c),)).render(rng) for n, c in zip(names, counts, strict=True)]
    labels = bench.generate("ac", [{"audio": audio} for audio in audios])
    bench.note("ac", names, labels)
    right = share([label == name for label, name in zip(labels, names, strict=True)])
    yield Row("ac: right class", str(right), f"by chance {100 / len(SOUNDS):.0f} %", {"accuracy": right.value})


def _words(check: SoundCheck, audio: Audio) -> str:
    return ", then ".join(f"{sound.name} x{sound.count}" for sound in check.listen(audio))


def _named(caption: str, scene: Scene) -> list[bool]:
    words = f" {normalize(caption)} "
    return [any(f" {noun} " in words for noun in (event.of.noun, f"{event.of.noun}s")) for event in scene.events]
