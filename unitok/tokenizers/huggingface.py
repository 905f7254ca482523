"""The text tokenizer of a model in transformers' format: its `tokenizer.json`, run by the package `tokenizers`.

Ids are the model's own. Its special tokens have ids too, but text never becomes one of them: what looks like
`<|endoftext|>` is spelled with ordinary ids. Needs `pip install "unitok[hf]"`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unitok.errors import MissingDependencyError, MissingWeightsError, TokenizerError
from unitok.tokenizers.base import check_ids, check_text, read_tokenizer_card, write_card
from unitok.tokenizers.settings import HuggingFaceSettings, weights_file

__all__ = ["TOKENIZER_FILE", "HuggingFaceTokenizer"]

TOKENIZER_FILE = "tokenizer.json"


class HuggingFaceTokenizer:
    """A `tokenizer.json`."""

    def __init__(self, model: str, settings: HuggingFaceSettings | None = None):
        """Take the content of a `tokenizer.json`.

        Raises:
            TokenizerError: If it is none.
            MissingDependencyError: If the package `tokenizers` is not installed.
        """
        try:
            # By a name of its own: in a checkout without the package the folder of cards is found as `tokenizers`.
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingDependencyError(
                "tokenizers of transformers' models need the package 'tokenizers'. Run pip install 'unitok[hf]'."
            ) from error
        self.settings = settings or HuggingFaceSettings(name="huggingface")
        self.name = self.settings.name
        self.model = model
        try:
            self._tokenizer = Tokenizer.from_str(model)
        except Exception as error:  # the package raises nothing narrower
            raise TokenizerError(f"tokenizer '{self.name}': its {TOKENIZER_FILE} is damaged: {error}.") from error
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.size = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        """Number of ids; a model may have more, which mean nothing."""

    @classmethod
    def from_card(cls, card: Mapping[str, Any], folder: Path | None = None) -> HuggingFaceTokenizer:
        """Load the file that the card names.

        Raises:
            CardError: If the card has mistakes.
            MissingWeightsError: If it names no file, or the file is not there.
        """
        settings = HuggingFaceSettings.from_card(card)
        if settings.model is None:
            raise MissingWeightsError(
                f"card '{settings.name}' names no file, it is there to be copied: set 'model: {TOKENIZER_FILE}' in a "
                "card of your own, beside the file of a model in transformers' format."
            )
        file = weights_file(settings.model, folder)
        if not file.is_file():
            raise MissingWeightsError(
                f"card '{settings.name}': '{file}' does not exist. Put the model's {TOKENIZER_FILE} there, or set "
                "'model:' to where it is."
            )
        return cls(file.read_text(encoding="utf-8"), settings)

    @property
    def fingerprint(self) -> str:
        """Hash of the file."""
        from unitok.tokenizers.weights import fingerprint

        return fingerprint("huggingface", {"version": self.settings.version}, self.model.encode())

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without those that the model puts at its begin or end.

        Raises:
            TokenizerError: If `text` is no text.
        """
        return list(self._tokenizer.encode(check_text(text), add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, special tokens left out.

        Raises:
            TokenizerError: If an id is not in [0, size).
        """
        return str(self._tokenizer.decode(check_ids(ids, self.size, self.name), skip_special_tokens=True))

    def piece(self, id: int) -> str:
        """Return the token as the file has it; `<unused>` for an id between those that it has.

        Raises:
            TokenizerError: If the id is not in [0, size).
        """
        return self._tokenizer.id_to_token(check_ids([id], self.size, self.name)[0]) or "<unused>"

    def save(self, folder: Path) -> None:
        """Write the card and the file."""
        card = replace(self.settings, model=TOKENIZER_FILE, fingerprint=self.fingerprint).to_card()
        write_card(folder, {"kind": "huggingface", **card})
        (folder / TOKENIZER_FILE).write_text(self.model, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> HuggingFaceTokenizer:
        """Load a folder that `save` wrote."""
        return cls.from_card(read_tokenizer_card(folder), folder)
