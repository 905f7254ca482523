"""Sound scenes with what one may ask of them: for aqa, tag, retrieve, lass, audio_edit and tta_stereo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unitok.audio import Audio
from unitok.data.synth.corpus import Item
from unitok.data.synth.grammar import Split
from unitok.data.synth.scene_edits import edit, spread
from unitok.data.synth.scene_questions import ask, query, statement
from unitok.data.synth.scenes import draw_scene
from unitok.data.synth.signals import RATE_HZ, Wave, limited

__all__ = ["QuestionCorpus"]


@dataclass(frozen=True)
class QuestionCorpus:
    """What a corpus of questions is made of; item i is a function of these settings and i alone."""

    seed: int = 0
    """Seed of scripts, wordings, questions and sounds."""
    split: Split = "train"
    """`train` or `held_out`: the two never share a script."""

    def item(self, index: int) -> Item:
        """Make scene `index` with all that is asked of it.

        Fields: `audio`, `caption`, `label` of a single sound, `script`; `question`, `answer`; `query`, `spans`;
        `statement`, `fits`; `mixture_audio` = `audio` + `other_audio`; `edit`, `edit_script`, `edited_audio`;
        `stereo_caption`, `places`, `stereo_audio`; `lang`.
        """
        rng = np.random.default_rng(list(f"questions/{self.seed}/{index}/{self.split}".encode()))
        scene = draw_scene(rng, self.split)
        tracks = scene.tracks(rng)
        other = draw_scene(rng, self.split)
        while {event.sound for event in other.heard} & {event.sound for event in scene.heard}:
            other = draw_scene(rng, self.split)
        whole = np.sum([track.wave for track in tracks], axis=0)
        beside = _as_long(np.sum([track.wave for track in other.tracks(rng)], axis=0), len(whole))
        changed = edit(scene, tracks, rng)
        stereo_caption, stereo, places = spread(scene, tracks, rng)
        waves = {
            "audio": whole,
            "other_audio": beside,
            "mixture_audio": whole + beside,
            "edited_audio": changed.wave,
            "stereo_audio": stereo,
        }
        asked, (sought, spans), (stated, fits) = ask(scene, rng), query(scene, tracks, rng), statement(scene, rng)
        fields = {
            "caption": scene.caption(rng),
            **({"label": scene.label} if scene.label else {}),
            "lang": "en",
            **asked._asdict(),
            "query": sought,
            "spans": spans,
            "statement": stated,
            "fits": fits,
            "edit": changed.instruction,
            "edit_script": changed.script,
            "stereo_caption": stereo_caption,
            "places": places,
            "script": scene.to_dict(),
        }
        return Item({name: Audio.of((wave, RATE_HZ)) for name, wave in limited(waves).items()}, fields)


def _as_long(wave: Wave, n: int) -> Wave:
    """Return `n` samples of a sound, faded out over the last 20 ms where it is cut."""
    if len(wave) <= n:
        return np.pad(wave, (0, n - len(wave)))
    fade = np.clip((n - 1 - np.arange(n)) / (0.02 * RATE_HZ), 0, 1)
    return wave[:n] * fade
