"""A model of a config without its weights: how many there would be, before any codec, corpus or memory is at hand.

Sizes of tokenizers come from their cards, those of encoders from `lm.features.NAME.dim`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from unitok.cards import find_card, read_card
from unitok.errors import CardError, UnitokError
from unitok.model.config import LMConfig
from unitok.model.lm import UnitokLM
from unitok.tasks import Task
from unitok.tokenizers import load_text_tokenizer
from unitok.tokenizers.base import read_tokenizer_card
from unitok.tokenizers.settings import SETTINGS, PhonemeSettings, SemanticSettings, StereoSettings
from unitok.vocabulary import Vocabulary

__all__ = ["audio_sizes", "planned_lm", "semantic_size", "text_size"]


def planned_lm(*configs: str | Path, text_ids: int | None = None) -> UnitokLM:
    """Return the model of a config on the device `meta`: shapes, no numbers.

    Args:
        configs: Names or files of configs of `unitok fit`, later ones laid over earlier ones.
        text_ids: Size of the text tokenizer, where that is still to be trained; None: as its card says.

    Raises:
        CardError: If there is no such config or card.
        UnitokError: If the config begins no new model.
        ValueError: If its settings do not fit together.
    """
    settings = _model_settings(configs)
    codebooks, codes = audio_sizes(settings["audio_tokenizer"])
    codebooks = settings.get("n_codebooks") or codebooks
    semantic = settings.get("semantic_tokenizer")
    vocabulary = Vocabulary.create(
        [Task.load(name).name for name in settings["tasks"]],
        settings.get("langs") or [],
        text_size(settings["text_tokenizer"]) if text_ids is None else text_ids,
        [codes] * codebooks,
        semantic_size(semantic) if semantic else 0,
    )
    with torch.device("meta"):
        return UnitokLM(LMConfig.from_dict(settings["lm"]), vocabulary)


def audio_sizes(name_or_path: str | Path) -> tuple[int, int]:
    """Return codebooks and codes in each, as a tokenizer's card says, without loading the codec.

    Raises:
        CardError: If it does not say.
    """
    card = read_tokenizer_card(name_or_path)
    if card.get("kind") == "toy_audio":
        return int(card["codebooks"]), int(card["codebook_size"])
    settings = SETTINGS[card["kind"]].from_card(card)
    if isinstance(settings, StereoSettings):
        codebooks, codes = audio_sizes(settings.codec_card(card.file.parent))
        return settings.codebooks or 2 * codebooks, codes
    codebooks, codes = getattr(settings, "codebooks", None), getattr(settings, "codebook_size", None)
    if codebooks is None or codes is None:
        raise CardError(f"{card.file}: says no codebooks and codebook_size, which a plan needs. Write them there.")
    return codebooks, codes


def semantic_size(name_or_path: str | Path) -> int:
    """Return how many ids a semantic tokenizer has, as its card says, without centroids or encoder.

    Raises:
        CardError: If there is no such tokenizer, or its card does not say.
    """
    card = read_tokenizer_card(name_or_path)
    if (kind := card.get("kind")) != "semantic":
        raise CardError(f"{card.file}: is of kind '{kind}', a tokenizer of kind 'semantic' is needed. Name one.")
    size = SemanticSettings.from_card(card).codebook_size
    if size is None:
        raise CardError(f"{card.file}: says no codebook_size, which a plan needs. Write it there.")
    return size


def text_size(name_or_path: str | Path) -> int:
    """Return how many ids a text tokenizer has; espeak-ng is not needed for one of phonemes.

    Raises:
        CardError: If there is no such tokenizer.
    """
    card = read_tokenizer_card(name_or_path)
    if card.get("kind") == "phonemes":
        return 1 + len(PhonemeSettings.from_card(card).symbols)
    return load_text_tokenizer(name_or_path).size


def _model_settings(configs: Sequence[str | Path]) -> Mapping[str, Any]:
    from omegaconf import OmegaConf

    if not configs:
        raise UnitokError("planned_lm got no config. Name one, such as 'recipes/vall_e'.")
    read = [read_card(find_card("configs", config)) for config in configs]
    merged: Any = OmegaConf.to_container(OmegaConf.merge(*map(OmegaConf.create, read)))
    settings = merged.get("model", {}).get("init_args", {})
    missing = [key for key in ("lm", "text_tokenizer", "audio_tokenizer", "tasks") if not settings.get(key)]
    if missing:
        raise UnitokError(f"{', '.join(map(str, configs))}: model.init_args has no {', '.join(missing)}.")
    return settings
