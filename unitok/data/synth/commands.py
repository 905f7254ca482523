"""Spoken commands with what they mean, an intent and its slots: for slu.

    wake me up at seven thirty    ->    set_alarm; time: seven thirty

Sentences and meanings come from one frame of `commands.yaml`, so that each meaning is exact.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from unitok.data.synth.corpus import Item
from unitok.data.synth.grammar import Grammar, Split, is_held_out, number_words
from unitok.data.synth.voices import FLITE_VOICES, speak

__all__ = ["CommandCorpus", "CommandGrammar"]


class CommandGrammar:
    """Draws commands with their meanings; command i of a seed is always the same."""

    def __init__(self, intents: dict[str, list[str]], slots: dict[str, list[str]]):
        self.intents, self.slots = intents, slots

    @classmethod
    def load(cls) -> CommandGrammar:
        """Read the frames that come with unitok."""
        from omegaconf import OmegaConf

        content = OmegaConf.load(Path(__file__).with_name("commands.yaml"))
        words = Grammar.load().words
        slots = {str(k): [w.replace("-", " ") for w in str(v).split()] for k, v in content.slots.items()}
        slots |= {"NAME": words["name"], "DAY": words["day"], "PLACE": words["country"]}
        return cls({str(name): [str(frame) for frame in frames] for name, frames in content.intents.items()}, slots)

    def command(self, seed: int, index: int, split: Split = "train") -> tuple[str, str]:
        """Return a command and its meaning; draws again until the command falls into the wanted split."""
        rng = random.Random(f"commands/{seed}/{index}/{split}")
        while True:
            intent = rng.choice(list(self.intents))
            text, meaning = self._filled(rng.choice(self.intents[intent]), intent, rng)
            if is_held_out(text) == (split == "held_out"):
                return text[0].upper() + text[1:] + ".", meaning

    def _filled(self, frame: str, intent: str, rng: random.Random) -> tuple[str, str]:
        found: dict[str, str] = {}

        def fill(match: re.Match[str]) -> str:
            name, _, kind = match[1].partition(":")
            taken = set(found.values())
            while (value := self._draw(kind or name, rng)) in taken:
                pass
            found[name] = value
            return value

        text = re.sub(r"\{([\w:]+)\}", fill, frame)
        return text, "; ".join([intent, *(f"{name}: {value.lower()}" for name, value in found.items())])

    def _draw(self, kind: str, rng: random.Random) -> str:
        rules: dict[str, Callable[[], str]] = {
            "TIME": lambda: f"{number_words(rng.randint(1, 12))} {rng.choice(['thirty', 'fifteen', 'forty five'])}",
            "NUMBER": lambda: number_words(rng.randint(2, 60)),
        }
        return rules[kind]() if kind in rules else rng.choice(self.slots[kind])


@dataclass(frozen=True)
class CommandCorpus:
    """What a corpus of commands is made of; item i is a function of these settings and i alone."""

    seed: int = 0
    """Seed of commands and voices."""
    split: Split = "train"
    """`train` or `held_out`: the two never share a command."""
    voices: Sequence[str] = field(default=FLITE_VOICES)
    """Voices, drawn with equal weight."""

    @cached_property
    def grammar(self) -> CommandGrammar:
        """Where the commands come from."""
        return CommandGrammar.load()

    def item(self, index: int) -> Item:
        """Speak command `index`: fields `audio`, `text`, `meaning`, `speaker`, `lang`."""
        text, meaning = self.grammar.command(self.seed, index, self.split)
        voice = random.Random(f"commands/{self.seed}/{index}/{self.split}/voice").choice(list(self.voices))
        fields = {"text": text, "meaning": meaning, "speaker": voice, "lang": "en"}
        return Item({"audio": speak(text, voice)}, fields)
