"""The text tokenizer of a model in transformers' format, as far as speech models need more of it than text does."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from unitok.convert.files import Source
from unitok.errors import CheckpointError, MissingDependencyError, MissingWeightsError
from unitok.tokenizers.huggingface import TOKENIZER_FILE, HuggingFaceTokenizer
from unitok.tokenizers.settings import HuggingFaceSettings

__all__ = ["added_around", "chat_prompt", "ids_of_tokens", "read_tokenizer", "text_tokenizer"]


def read_tokenizer(folder: Path) -> str:
    """Return the content of `tokenizer.json`.

    Raises:
        MissingWeightsError: If it is not there.
    """
    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise MissingWeightsError(f"'{folder}' has no {TOKENIZER_FILE}. Copy the tokenizer of the model there.")
    return path.read_text(encoding="utf-8")


def text_tokenizer(source: Source, size: int) -> HuggingFaceTokenizer:
    """Return the tokenizer with its ids below `size`, the text's; added tokens above are left out, as codes are.

    Raises:
        CheckpointError: If others lie above, too.
        MissingWeightsError: If there is no tokenizer.
    """
    described = json.loads(read_tokenizer(source.folder))
    described["added_tokens"] = [token for token in described.get("added_tokens", []) if token["id"] < size]
    tokenizer = HuggingFaceTokenizer(json.dumps(described, ensure_ascii=False), HuggingFaceSettings(name=source.name))
    if tokenizer.size > size:
        raise CheckpointError(
            f"{source.folder}: {TOKENIZER_FILE} has {tokenizer.size} ids, the model has {size} for text."
        )
    return tokenizer


def added_around(folder: Path) -> tuple[list[int], list[int]]:
    """Return the ids that the tokenizer puts before and after a text, as its special tokens."""
    tokenizer = _tokenizer(folder)
    text = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a", add_special_tokens=True).ids
    start = next(i for i in range(len(whole)) if whole[i : i + len(text)] == text)
    return whole[:start], whole[start + len(text) :]


def ids_of_tokens(folder: Path, *tokens: str) -> list[int]:
    """Return the ids of tokens by their names.

    Raises:
        CheckpointError: If the tokenizer does not have one of them.
    """
    known = _tokenizer(folder).get_vocab(with_added_tokens=True)
    if missing := [token for token in tokens if token not in known]:
        raise CheckpointError(f"{folder}: its tokenizer has no token '{missing[0]}', which such a model has.")
    return [known[token] for token in tokens]


def chat_prompt(folder: Path, user: str, assistant: str, slot: str, **settings: str) -> tuple[list[int], list[int]]:
    """Return the ids before and after the place of a text in a chat, up to where the assistant goes on.

    Args:
        folder: Holds the tokenizer and its chat template.
        user: What the user says, with `slot` in it.
        assistant: What the assistant's answer begins with.
        slot: Stands where the text comes; it has tokens of their own on both sides.
        settings: Variables of the template.

    Raises:
        CheckpointError: If there is no chat template.
    """
    theirs = _package("transformers").AutoTokenizer.from_pretrained(folder)
    if not theirs.chat_template:
        raise CheckpointError(f"'{folder}' has no chat template. Copy tokenizer_config.json and chat_template.jinja.")
    chat = [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    shown = theirs.apply_chat_template(chat, tokenize=False, continue_final_message=True, **settings)
    before, _, after = shown.partition(slot)
    tokenizer = _tokenizer(folder)
    return (
        tokenizer.encode(before, add_special_tokens=False).ids,
        tokenizer.encode(after, add_special_tokens=False).ids,
    )


def _tokenizer(folder: Path) -> Any:
    content, package = read_tokenizer(folder), _package("tokenizers")
    try:
        return package.Tokenizer.from_str(content)
    except Exception as error:  # the package raises nothing narrower
        raise CheckpointError(f"{folder / TOKENIZER_FILE} is damaged: {error}.") from error


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"speech models need the package '{name}'. Run pip install 'unitok[hf]'."
        ) from error
