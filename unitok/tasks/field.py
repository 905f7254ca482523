"""A field of a task's card: one condition or one target, what it holds and where training takes it from.

This module imports no torch, so that `unitok tasks` answers at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from unitok.cards import CardReader

__all__ = [
    "CUT_SOURCES", "FIELD_KINDS", "NAME_IN_FORM", "SOURCES", "SPELLED_KINDS", "TIMED_KINDS", "Field", "FieldKind",
    "Source", "names_in", "numbered", "read_condition", "read_name", "read_target",
]  # fmt: skip

FieldKind = Literal["text", "label", "audio", "semantic", "features"]
"""What a field holds: text; a label (a voice, a class; spelled with text tokens); codec frames; semantic tokens; what
an encoder makes of text or audio (conditions only)."""

Source = Literal["same_record", "same_speaker", "start", "before", "after"]
"""Where a condition's value comes from in training: the record itself; another record of its speaker; a piece of the
recording that a target reads too, which then holds the rest: its first `max_seconds`, or what comes before or after a
span that is drawn for the target."""

FIELD_KINDS: tuple[FieldKind, ...] = get_args(FieldKind)
SOURCES: tuple[Source, ...] = get_args(Source)
CUT_SOURCES: tuple[Source, ...] = ("start", "before", "after")
TIMED_KINDS = ("audio", "semantic")
GENERATED_KINDS: tuple[FieldKind, ...] = ("text", "label", "audio", "semantic")
SPELLED_KINDS = ("text", "label")
NAME_IN_FORM = r"\{(\w+)\}"


def numbered(name: str, i: int) -> str:
    """Return the name of value `i`, from 0, of a repeated condition: `prompt`, `prompt.2` and so on."""
    return name if i == 0 else f"{name}.{i + 1}"


def names_in(form: str) -> frozenset[str]:
    """Return the names in braces of a form or an instruction."""
    return frozenset(re.findall(NAME_IN_FORM, form))


@dataclass(frozen=True)
class Field:
    """One condition or target of a task."""

    name: str
    """Name in Python (`model.generate("tts", text=…)`), on the command line (`--text`) and in a sequence."""
    kind: FieldKind
    """What it holds; decides its markers, `<audio> … </audio>`."""
    optional: bool = False
    """May be left out, in training as in generation."""
    guided: bool = False
    """Left out of some training examples, so that generation can be guided by it (`GenerateDefaults.guidance`)."""
    aligned: bool = False
    """Runs alongside the targets, as a text does with its speech; training may show where (`alignment_prior`)."""
    field: str = ""
    """The record field it is read from; the name where the card gives none."""
    max_seconds: float | None = None
    """Longest piece of audio used; a condition is cut to its first `max_seconds`."""
    codebooks: int | None = None
    """Of an audio condition: how many of its codebooks are used, the coarse ones; None means all."""
    source: Source | None = None
    """Where training takes the value from (card key `from`); None means the record itself."""
    loss_weight: float = 1.0
    """Weight of a target's loss."""
    same_length_as: str = ""
    """Of a target: the condition whose length it is given (card key `length: {same_as: …}`); empty means free."""
    encoder: str = ""
    """Of kind `features`: which of the model's feature inputs it goes through; the name where the card gives none."""
    takes: Literal["text", "audio"] = "text"
    """Of kind `features`: what the encoder takes."""
    repeated: bool = False
    """Of a condition: may have several values, which stand one after another."""
    most: int | None = None
    """Of a repeated condition: how many values it may have (card key `max`); None means any number."""
    default: str | None = None
    """Of kinds text and label: the value where none is given."""
    form: str = ""
    """Of kinds text and label: what is spelled, such as `[{voice}]{text}`; the conditions that it names have no place
    of their own in the sequence. Where one of them has no value, the field's own is spelled alone."""
    pronounced: bool = False
    """Of a condition of kind text: words stand as they are said, where the model has a lexicon of the language."""

    def __post_init__(self) -> None:
        """Fill in the record field and the encoder."""
        if not self.field:
            object.__setattr__(self, "field", self.name)
        if self.kind == "features" and not self.encoder:
            object.__setattr__(self, "encoder", self.name)

    @property
    def names_within(self) -> frozenset[str]:
        """Names of the other fields in `form`."""
        return names_in(self.form) - {self.name}

    @property
    def needed(self) -> bool:
        """Of a condition: must a request give it?"""
        return not self.optional and self.default is None

    @property
    def is_timed(self) -> bool:
        """True for audio and semantic tokens, which last a time."""
        return self.kind in TIMED_KINDS

    def copies(self, n: int) -> list[Field]:
        """Return a field for each of `n` values of a repeated condition: names and record fields are numbered."""
        return [
            replace(self, name=numbered(self.name, i), field=numbered(self.field, i), repeated=False, most=None)
            for i in range(n)
        ]

    def shortened(self, values: Any, n: int) -> Any:
        """Return at most `n` steps of `[…, T]`: the first, or the last of what comes before a target."""
        return values[..., -n:] if self.source == "before" else values[..., :n]

    def to_card(self) -> dict[str, Any]:
        """Return the entry of this field in a card, without the keys that say nothing new."""
        entry: dict[str, Any] = {"name": self.name, "kind": self.kind}
        if self.optional:
            entry["optional"] = True
        if self.guided:
            entry["guided"] = True
        if self.aligned:
            entry["aligned"] = True
        if self.pronounced:
            entry["pronounced"] = True
        if self.repeated:
            entry["repeated"] = True
        if self.most is not None:
            entry["max"] = self.most
        if self.field != self.name:
            entry["field"] = self.field
        if self.max_seconds is not None:
            entry["max_seconds"] = self.max_seconds
        if self.codebooks is not None:
            entry["codebooks"] = self.codebooks
        if self.source is not None:
            entry["from"] = self.source
        if self.kind == "features":
            entry |= {"encoder": self.encoder, "takes": self.takes}
        if self.default is not None:
            entry["default"] = self.default
        if self.form:
            entry["form"] = self.form
        if self.loss_weight != 1.0:
            entry["loss_weight"] = self.loss_weight
        if self.same_length_as:
            entry["length"] = {"same_as": self.same_length_as}
        return entry


def read_condition(part: CardReader) -> Field:
    """Read an entry of `conditions`, noting its mistakes in `part`."""
    condition = Field(
        encoder=part.take("encoder", str, ""),
        takes=part.take("takes", str, "text", choices=("text", "audio")),
        **_field(part, FIELD_KINDS),
        guided=part.take("guided", bool, False),
        aligned=part.take("aligned", bool, False),
        pronounced=part.take("pronounced", bool, False),
        max_seconds=part.take("max_seconds", float, minimum=0.0),
        codebooks=part.take("codebooks", int, minimum=1),
        source=part.take("from", str, choices=SOURCES),
        default=part.take("default", str),
        form=part.take("form", str, ""),
        repeated=part.take("repeated", bool, False),
        most=part.take("max", int, minimum=1),
    )
    _check_repeated(condition, part)
    for key, value in (("default", condition.default), ("form", condition.form)):
        if value and condition.kind not in SPELLED_KINDS:
            kinds = " or ".join(SPELLED_KINDS)
            part.problem(key, f"applies to kind {kinds}, this field is {condition.kind}. Remove it.")
    if condition.pronounced and condition.kind != "text":
        part.problem("pronounced", f"applies to kind text, this field is {condition.kind}. Remove it.")
    if condition.max_seconds == 0:
        part.problem("max_seconds", "is 0, allowed: more than 0.")
    if condition.max_seconds is not None and not condition.is_timed:
        part.problem(
            "max_seconds", f"applies to kind {' or '.join(TIMED_KINDS)}, this field is {condition.kind}. Remove it."
        )
    if condition.codebooks is not None and condition.kind != "audio":
        part.problem("codebooks", f"applies to kind audio, this field is {condition.kind}. Remove it.")
    if condition.kind != "features" and condition.encoder:
        part.problem("encoder", f"is of kind features, this field is {condition.kind}. Remove it.")
    if condition.source is not None and condition.kind == "features":
        part.problem("from", "is of kind audio and semantic, this field is features. Remove it.")
    if condition.source == "start" and condition.max_seconds is None:
        part.problem("max_seconds", "missing. 'from: start' needs to know how much of the target's start to take.")
    return condition


def _check_repeated(condition: Field, part: CardReader) -> None:
    """Note what does not go together with several values, and values without number."""
    if condition.most is not None and not condition.repeated:
        part.problem("max", "is how many values a repeated condition may have. Add 'repeated: true', or remove it.")
    if not condition.repeated:
        return
    if condition.kind == "features":
        part.problem("repeated", "is of text, labels, audio and semantic tokens, this field is features. Remove it.")
    if condition.source in CUT_SOURCES:
        part.problem("repeated", f"does not go with 'from: {condition.source}', which is one piece of a recording.")
    if condition.source == "same_speaker" and condition.most is None:
        part.problem("max", "missing. With 'from: same_speaker' training needs to know how many to take at most.")
    if condition.form or condition.default is not None:
        part.problem("repeated", "does not go with 'form' or 'default', which are of one value.")
    if condition.pronounced:
        part.problem("repeated", "does not go with 'pronounced', which is of one text.")


def read_target(part: CardReader) -> Field:
    """Read an entry of `targets`, noting its mistakes in `part`."""
    length = part.part("length")
    target = Field(
        **_field(part, GENERATED_KINDS),
        loss_weight=part.take("loss_weight", float, 1.0, minimum=0.0),
        same_length_as=length.take("same_as", str, "", required="length" in part.card),
    )
    if target.same_length_as and not target.is_timed:
        part.problem("length", f"applies to kind {' or '.join(TIMED_KINDS)}, this field is {target.kind}. Remove it.")
    return target


def read_name(part: CardReader, default: str = "") -> str:
    """Read the name of an entry, needed where there is no default, noting one that cannot be an argument in Python."""
    name = part.take("name", str, default, required=not default)
    if name and not name.isidentifier():
        part.problem(
            "name", f"is '{name}', allowed: letters, digits and '_' (it becomes an option and a Python argument)."
        )
    return name


def _field(part: CardReader, kinds: tuple[FieldKind, ...]) -> dict[str, Any]:
    return {
        "name": read_name(part),
        "kind": part.take("kind", str, "text", required=True, choices=kinds),
        "optional": part.take("optional", bool, False),
        "field": part.take("field", str, ""),
    }
