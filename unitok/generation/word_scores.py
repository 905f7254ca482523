"""What a word model adds to a beam search: how likely the words of a text are, as they are spelled piece by piece.

A word counts when it ends; letters that begin no word count as an unknown word at once, so that a beam is not led on.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from unitok.errors import GenerationError
from unitok.tokenizers import TextTokenizer
from unitok.tokenizers.lexicon import Lexicon
from unitok.tokenizers.word_model import BOUNDARY, PHRASE_ENDS, Spelling, WordModel
from unitok.vocabulary import Vocabulary

__all__ = ["Place", "ScoresByLanguage", "WordScores"]

USUAL = 5.0
"""How unlikely a word is on the whole, in nats: a word adds what it is likelier, so that long texts are not worse."""


class Place(NamedTuple):
    """Where a text stands."""

    after: str = BOUNDARY
    """The last whole word, or the boundary of a phrase."""
    letters: str | None = ""
    """Of the word that is begun; None: it is unknown already."""


class WordScores:
    """Scores texts in the ids of a vocabulary, one id at a time."""

    def __init__(self, model: WordModel, spelling: Spelling, tokenizer: TextTokenizer, vocabulary: Vocabulary) -> None:
        """Take the parts.

        Args:
            model: How likely words are.
            spelling: Which words there are.
            tokenizer: Spells them.
            vocabulary: Has the ids of the tokenizer.
        """
        self._model, self._spelling = model, spelling
        anchor = tokenizer.encode("a")  # a tokenizer may leave out a space at the beginning
        n = len(tokenizer.decode(anchor))
        pieces = [_read_as(tokenizer.decode([*anchor, id])[n:]) for id in range(tokenizer.size)]
        ids = vocabulary.text_to_tokens(range(tokenizer.size))
        self._pieces = dict(zip(ids, pieces, strict=True))
        place_of = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
        self._ids, self._different = torch.tensor(ids), list(place_of)
        self._which = torch.tensor([place_of[piece] for piece in pieces])
        self.gains = lru_cache(maxsize=4096)(self._gains)
        self._gain = lru_cache(maxsize=65536)(self._gain_of_word)
        self._begins = lru_cache(maxsize=65536)(spelling.begins)

    def following(self, place: Place, id: int) -> Place:
        """Return where a text stands with one more id."""
        return self._read(place, self._pieces.get(id, ""))[1]

    def _gains(self, place: Place, end: int, size: int) -> Tensor:
        """Return what each id adds to the score of a text that stands somewhere, `[size]`; `end` ends the text."""
        gains = torch.zeros(size)
        gains[self._ids] = torch.tensor([self._read(place, piece)[0] for piece in self._different])[self._which]
        gains[end] = self._read(place, BOUNDARY)[0]
        return gains

    def _read(self, place: Place, piece: str) -> tuple[float, Place]:
        """Return what a piece of text adds, and where the text then stands."""
        gain, (after, letters) = 0.0, place
        for character in piece:
            if character not in (" ", BOUNDARY) and (character != "'" or letters != ""):
                if letters is not None and not self._begins(letters := letters + character):
                    gain, letters = gain + self._gain(letters, after), None
                continue
            if letters:
                word = letters.rstrip("'")
                gain, after = gain + self._gain(word, after), word
            elif letters is None:
                after = ""
            letters = ""
            if character == BOUNDARY and after != BOUNDARY:
                gain, after = gain + self._gain(BOUNDARY, after), BOUNDARY
        return gain, Place(after, letters)

    def _gain_of_word(self, word: str, after: str) -> float:
        is_known = word == BOUNDARY or self._spelling.has(word)
        return self._model.log_probability(word, after, is_known) + USUAL


def _read_as(piece: str) -> str:
    """Return what words see of a piece: lower-case letters, apostrophes, ends of phrases, and spaces for all else.

    What is less than a character (bytes of one) is a letter that no word has.
    """

    def read(character: str) -> str:
        if character.isalpha() or character in "'’\ufffd":
            return character.replace("’", "'")
        return BOUNDARY if character in PHRASE_ENDS else " "

    return "".join(map(read, piece.lower()))


class ScoresByLanguage:
    """What scores texts in each language that a model has words of; made when it is first asked for."""

    def __init__(
        self,
        models: Mapping[str, WordModel],
        lexicons: Mapping[str, Lexicon],
        tokenizer: TextTokenizer,
        vocabulary: Vocabulary,
    ) -> None:
        self.models, self._lexicons = models, lexicons
        self._tokenizer, self._vocabulary = tokenizer, vocabulary
        self._made: dict[str, WordScores] = {}

    def of(self, lang: str | None, weight: float | None) -> WordScores | None:
        """Return what scores texts in a language, or without one in the only one; None: nothing does.

        Raises:
            GenerationError: If nothing does, and a caller gave its words a weight.
        """
        lang = next(iter(self.models)) if lang is None and len(self.models) == 1 else lang
        if lang is None or lang not in self.models:
            if weight:
                has = ", ".join(self.models) or "none"
                what = "" if lang is None else f" of '{lang}'"
                raise GenerationError(
                    f"word_weight is {weight}, but the model has no words{what}. Leave it out. Its languages with "
                    f"words: {has}."
                )
            return None
        if lang not in self._made:
            model = self.models[lang]
            spelling = Spelling(model.words, self._lexicons.get(lang, {}))
            self._made[lang] = WordScores(model, spelling, self._tokenizer, self._vocabulary)
        return self._made[lang]
