"""SentencePiece: subword ids learned from text, with single bytes for what the vocabulary lacks.

Ids are the model's own. There are no begin, end or padding ids: the joint vocabulary has its own. Id 0 is `<unk>`; with
byte fallback it never occurs.

Source: Kudo & Richardson 2018 (arXiv:1808.06226), https://github.com/google/sentencepiece.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from unitok.errors import MissingWeightsError, TokenizerError, suggest
from unitok.tokenizers.base import check_ids, check_text, read_tokenizer_card, write_card
from unitok.tokenizers.lexicon import Pronounced
from unitok.tokenizers.settings import SentencePieceSettings, weights_file

__all__ = ["MODEL_FILE", "SentencePieceTokenizer"]

MODEL_FILE = "text.model"
MODEL_TYPES = ("unigram", "bpe", "char", "word")
NORMALIZATIONS = ("nmt_nfkc", "nmt_nfkc_cf", "nfkc", "nfkc_cf", "identity")
MAX_LINE_BYTES = 1 << 20
"""SentencePiece leaves out longer lines of training text without a word; its own default is 4192."""


class SentencePieceTokenizer:
    """A trained SentencePiece model."""

    def __init__(self, model: bytes, settings: SentencePieceSettings | None = None):
        """Take a model as the bytes of its file.

        Raises:
            TokenizerError: If they are none.
        """
        self.settings = settings or SentencePieceSettings(name="sentencepiece")
        self.name = self.settings.name
        self.model = model
        try:
            self._processor = _processor(model)
            n = self.settings.pronounced_by
            self._pronouncer = self._processor if n is None else _processor(_first_pieces(model, n))
        except (RuntimeError, ValueError) as error:
            raise TokenizerError(
                f"tokenizer '{self.name}': its model is no SentencePiece model, or is damaged."
            ) from error

    @classmethod
    def from_card(cls, card: Mapping[str, Any], folder: Path | None = None) -> SentencePieceTokenizer:
        """Load the model that the card names.

        Raises:
            CardError: If the card has mistakes.
            MissingWeightsError: If it names no model, or the file is not there.
        """
        settings = SentencePieceSettings.from_card(card)
        remedy = "Train one with SentencePieceTokenizer.train(texts, size) and save_tokenizer(tokenizer, folder)"
        if settings.model is None:
            raise MissingWeightsError(
                f"card '{settings.name}' names no model, it is there to be copied. {remedy}, then name that folder; or "
                "set 'model: FILE.model' in a card of your own."
            )
        file = weights_file(settings.model, folder)
        if not file.is_file():
            raise MissingWeightsError(
                f"card '{settings.name}': model '{file}' does not exist. Put it there, or set 'model:' to where it is. "
                f"{remedy}."
            )
        return cls(file.read_bytes(), settings)

    @classmethod
    def train(
        cls,
        texts: Iterable[str] | str | Path,
        size: int,
        *,
        name: str = "sentencepiece",
        model_type: Literal["unigram", "bpe", "char", "word"] = "unigram",
        byte_fallback: bool = True,
        character_coverage: float = 1.0,
        normalization: str = "nmt_nfkc",
        symbols: Sequence[str] = (),
    ) -> SentencePieceTokenizer:
        """Learn a vocabulary; the same texts and settings give the same model.

        Args:
            texts: Texts, one sentence each, or a file (str or Path) with one on each line.
            size: Number of ids, with `<unk>` and, for `byte_fallback`, the 256 bytes.
            name: Name of the tokenizer.
            model_type: `unigram`, `bpe`, `char` or `word` (words are split at spaces).
            byte_fallback: Characters outside the vocabulary become their UTF-8 bytes instead of `<unk>`.
            character_coverage: Share of the texts' characters that get an id; 0.9995 suits scripts with thousands.
            normalization: `nmt_nfkc` (also joins spaces), `nmt_nfkc_cf` (and lower case), `nfkc`, `nfkc_cf`, or
                `identity`, with which text comes back as it was, spaces included.
            symbols: Pieces of text that become one id each wherever they stand, such as time stamps and notes
                (`unitok.tokenizers.symbols`); they count in `size`.

        Raises:
            TokenizerError: If a setting is not allowed, or the texts do not make a vocabulary of this size.
        """
        import sentencepiece

        for what, value, allowed in (
            ("model_type", model_type, MODEL_TYPES),
            ("normalization", normalization, NORMALIZATIONS),
        ):
            if value not in allowed:
                raise TokenizerError(f"{what} is '{value}', allowed: {', '.join(allowed)}.{suggest(value, allowed)}")
        output = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.Train(
                **_source(texts),
                model_writer=output,
                vocab_size=size,
                model_type=model_type,
                byte_fallback=byte_fallback,
                character_coverage=character_coverage,
                normalization_rule_name=normalization,
                remove_extra_whitespaces=normalization != "identity",
                max_sentence_length=MAX_LINE_BYTES,
                input_sentence_size=0,
                shuffle_input_sentence=False,
                num_threads=1,  # sums of several threads depend on who comes first
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                unk_id=0,
                user_defined_symbols=list(symbols),
                minloglevel=2,
            )
        except (RuntimeError, OSError, ValueError) as error:
            raise TokenizerError(_training_problem(size, byte_fallback, str(error))) from error
        return cls(output.getvalue(), SentencePieceSettings(name=name, description=f"{model_type}, {size} ids"))

    def grown(self, texts: Iterable[str], size: int, name: str | None = None) -> SentencePieceTokenizer:
        """Return this tokenizer with more pieces, so that texts take fewer ids; old ids mean what they meant.

        Words as they are said (`Pronounced`) are spelled as before: a model that reads them reads what it knows.

        Args:
            texts: Where the new pieces are learned from.
            size: Number of ids, with those that are there.
            name: Name of the new tokenizer; default: that of this one.

        Raises:
            TokenizerError: If the texts do not give so many pieces, or this model does not take the likeliest ones
                (it is none of type `unigram`).
        """
        if size <= self.size:
            raise TokenizerError(f"size is {size}, tokenizer '{self.name}' has {self.size} ids. Say more.")
        known = {self.piece(id) for id in range(self.size) if not self._processor.IsByte(id)}
        n_pieces = size - self.size + len(known)  # of which no more than those known can be no new ones
        plain = [self.decode(self.encode(text)) for text in texts]
        try:
            learned = self.train(plain, n_pieces, byte_fallback=False, normalization="identity")
        except TokenizerError as error:
            raise TokenizerError(
                f"tokenizer '{self.name}' cannot grow to {size} ids: the texts give too few pieces. Say less, or use "
                "more text."
            ) from error
        scored = [(learned._processor.GetScore(id), learned.piece(id)) for id in range(learned.size)]
        new = sorted((one for one in scored if one[1] not in known), reverse=True)[: size - self.size]
        model = self.model + b"".join(_piece_field(piece, score) for score, piece in new)
        description = f"{self.settings.description}, grown to {size} ids".lstrip(", ")
        settings = replace(
            self.settings,
            name=name or self.name,
            description=description,
            fingerprint=None,
            pronounced_by=self.settings.pronounced_by or self.size,
        )
        grown = SentencePieceTokenizer(model, settings)
        if grown.size != size or not set(range(self.size, size)) & set(grown.encode(new[0][1].replace("▁", " "))):
            raise TokenizerError(f"tokenizer '{self.name}' cannot grow: it is of another model type than unigram.")
        return grown

    def begins_as(self, other: SentencePieceTokenizer) -> bool:
        """Do all ids of another mean here what they mean there?"""
        return other.size <= self.size and all(self.piece(id) == other.piece(id) for id in range(other.size))

    def spelled(self, piece: str) -> list[int]:
        """Return the ids that a piece is made of, `▁` for a space, without the space that begins every text."""
        anchor = "\ue000"  # of private use: no piece has it
        before = self.encode(anchor)
        return self.encode(anchor + piece.replace("▁", " "))[len(before) :]

    @property
    def size(self) -> int:
        """Number of ids."""
        return int(self._processor.GetPieceSize())

    @property
    def fingerprint(self) -> str:
        """Hash of the model."""
        from unitok.tokenizers.weights import fingerprint

        said = {} if self.settings.pronounced_by is None else {"pronounced_by": self.settings.pronounced_by}
        return fingerprint("sentencepiece", {"version": self.settings.version, **said}, self.model)

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`; the text comes back as the model's normalisation leaves it.

        Raises:
            TokenizerError: If `text` is no text.
        """
        processor = self._pronouncer if isinstance(text, Pronounced) else self._processor
        return list(processor.EncodeAsIds(check_text(text)))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`.

        Raises:
            TokenizerError: If an id is not in [0, size).
        """
        return str(self._processor.DecodeIds(check_ids(ids, self.size, self.name)))

    def piece(self, id: int) -> str:
        """Return the piece, `▁` for a space.

        Raises:
            TokenizerError: If the id is not in [0, size).
        """
        return str(self._processor.IdToPiece(check_ids([id], self.size, self.name)[0]))

    def save(self, folder: Path) -> None:
        """Write the card and the model."""
        card = replace(self.settings, model=MODEL_FILE, fingerprint=self.fingerprint).to_card()
        write_card(folder, {"kind": "sentencepiece", **card})
        (folder / MODEL_FILE).write_bytes(self.model)

    @classmethod
    def load(cls, folder: Path) -> SentencePieceTokenizer:
        """Load a folder that `save` wrote."""
        return cls.from_card(read_tokenizer_card(folder), folder)


def _source(texts: Iterable[str] | str | Path) -> dict[str, Any]:
    if isinstance(texts, str | Path):
        if not Path(texts).is_file():
            raise TokenizerError(
                f"text file '{texts}' does not exist. Give a file with one text on each line, or a list of texts."
            )
        return {"input": str(texts)}
    return {"sentence_iterator": iter(texts)}


def _training_problem(size: int, byte_fallback: bool, message: str) -> str:
    """Say in plain words what SentencePiece complains about."""
    if found := re.search(r"set it to a value <= (\d+)", message):
        return f"size is {size}, these texts give at most {found[1]} ids. Use size={found[1]} or less, or more text."
    if found := re.search(r"required_chars\.? (\d+) vs (\d+)", message):
        least = found[2] if int(found[1]) <= int(found[2]) else found[1]
        bytes_note = " (256 of them bytes; byte_fallback=False saves them)" if byte_fallback else ""
        return f"size is {size}, at least {least} ids are needed{bytes_note}. Use size={least} or more."
    return f"SentencePiece could not train with size={size}: {message.strip() or 'no text was given'}"


def _processor(model: bytes) -> Any:
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model)
    return processor


# A model is a message of Protocol Buffers. Its field 1 is a piece, repeated: 1 the text, 2 the score, a float.
PIECE, LENGTH_PREFIXED = 1, 2


def _piece_field(piece: str, score: float) -> bytes:
    """Return what to append to a model so that it has one piece more."""
    text = piece.encode()
    message = bytes([PIECE << 3 | LENGTH_PREFIXED]) + _varint(len(text)) + text + bytes([2 << 3 | 5])
    message += struct.pack("<f", score)
    return bytes([PIECE << 3 | LENGTH_PREFIXED]) + _varint(len(message)) + message


def _first_pieces(model: bytes, n: int) -> bytes:
    """Return a model with its first pieces only.

    Raises:
        ValueError: If it is none.
    """
    kept, place = bytearray(), 0
    while place < len(model):
        start = place
        if model[place] & 7 != LENGTH_PREFIXED:  # all fields of a model are messages
            raise ValueError("no SentencePiece model")
        is_piece = model[place] >> 3 == PIECE
        length, place = _read_varint(model, place + 1)
        place += length
        n -= is_piece
        if not is_piece or n >= 0:
            kept += model[start:place]
    return bytes(kept)


def _varint(value: int) -> bytes:
    """Return a number as Protocol Buffers write it: seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _read_varint(content: bytes, place: int) -> tuple[int, int]:
    """Return the number at a place, and the place behind it."""
    value = shift = 0
    while True:
        byte = content[place]
        value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            return value, place
