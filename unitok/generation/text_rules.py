"""Rules of generated text: one of a list of answers, or whatever a regular expression matches.

A rule says which ids of the text tokenizer may follow those so far, and whether the text may end. It holds for all text
and label targets of a request; what the model finds likely is drawn from what is left.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Protocol

from unitok.errors import GenerationError
from unitok.tasks import Task
from unitok.tokenizers import TextTokenizer

__all__ = ["Allowed", "Matching", "OneOf", "TextRule", "text_rule"]


class Allowed(NamedTuple):
    """What may come next."""

    ids: Collection[int]
    """Ids of the text tokenizer."""
    end: bool
    """Whether the text may end here."""


class TextRule(Protocol):
    """Says what may follow."""

    def allowed(self, ids: Sequence[int]) -> Allowed:
        """Return what may follow the text-tokenizer ids so far."""
        ...


class OneOf:
    """The text is one of some answers, each spelled as the tokenizer spells it."""

    def __init__(self, answers: Sequence[str], tokenizer: TextTokenizer) -> None:
        """Spell the answers.

        Raises:
            GenerationError: If there are none, or the tokenizer cannot spell one.
        """
        if isinstance(answers, str) or not answers or not all(isinstance(answer, str) for answer in answers):
            raise GenerationError(f"answers is {answers!r}; it must be a list of texts: ['yes', 'no'].")
        self._tree: dict[int | None, Any] = {}
        for answer in answers:
            ids = tokenizer.encode(answer)
            if tokenizer.decode(ids) != answer:
                raise GenerationError(
                    f"answers: the text tokenizer '{tokenizer.name}' cannot spell {answer!r}, the nearest is "
                    f"{tokenizer.decode(ids)!r}."
                )
            node = self._tree
            for id in ids:
                node = node.setdefault(id, {})
            node[None] = {}

    def allowed(self, ids: Sequence[int]) -> Allowed:
        """Return the ids by which some answer goes on."""
        node = self._tree
        for id in ids:
            node = node[id]
        return Allowed([id for id in node if id is not None], None in node)


class Matching:
    """The text matches a regular expression, from its start to its end.

    Every piece of the tokenizer is tried at every step, so large vocabularies are slow. Pieces that are less than a
    character (bytes of one) are left out: such a character has to be a piece of its own.
    """

    def __init__(self, pattern: str, tokenizer: TextTokenizer) -> None:
        """Compile the expression (syntax of the package `regex`, a superset of Python's).

        Raises:
            GenerationError: If it is none, or the tokenizer can spell no beginning of a match.
        """
        import regex

        try:
            self._pattern = regex.compile(pattern)
        except (regex.error, TypeError) as error:
            raise GenerationError(f"regex {pattern!r} is no regular expression: {error}.") from error
        self._tokenizer = tokenizer
        self._known: dict[tuple[int, ...], Allowed] = {}
        if not self.allowed([]).ids and not self.allowed([]).end:
            raise GenerationError(
                f"regex {pattern!r}: no piece of the text tokenizer '{tokenizer.name}' begins what it matches."
            )

    def allowed(self, ids: Sequence[int]) -> Allowed:
        """Return the ids after which the text so far can still become a match."""
        key = tuple(ids)
        if key not in self._known:
            text = self._tokenizer.decode(key)
            # A piece that adds nothing (a second space before a word) could be added for ever.
            longer = {id: self._tokenizer.decode([*key, id]) for id in range(self._tokenizer.size)}
            fitting = [
                id
                for id, spelled in longer.items()
                if spelled != text and "\ufffd" not in spelled and self._pattern.fullmatch(spelled, partial=True)
            ]
            self._known[key] = Allowed(fitting, self._pattern.fullmatch(text) is not None)
        return self._known[key]


def text_rule(
    task: Task, answers: Sequence[str] | None, regex: str | None, tokenizer: TextTokenizer
) -> TextRule | None:
    """Return the rule that a request asks for; None: none.

    Raises:
        GenerationError: If it asks for two, the task makes no text, or a rule cannot be met.
    """
    if answers is None and regex is None:
        return None
    if answers is not None and regex is not None:
        raise GenerationError("answers and regex are two ways to say what a text may be. Give one of them.")
    if not any(target.kind in ("text", "label") for target in task.targets):
        what = "answers" if regex is None else "regex"
        raise GenerationError(f"task '{task.name}' makes no text that {what} could apply to. Leave it out.")
    return OneOf(answers, tokenizer) if answers is not None else Matching(str(regex), tokenizer)
