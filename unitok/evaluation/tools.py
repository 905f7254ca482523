"""What metrics borrow: a recogniser for speech, embedders for voices, sounds and captions, loaded when first needed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from unitok.errors import DataError, suggest
from unitok.evaluation.embedders import CaptionEmbedder, Embedder, load_embedder
from unitok.evaluation.recognizer import Recognizer, check_recognizer, load_recognizer

if TYPE_CHECKING:
    import numpy as np

    from unitok.audio import Audio

__all__ = ["ROLES", "Tools"]

ROLES = {"speaker": "voice_statistics", "sound": "log_mel_statistics", "caption": "clap"}
"""What an embedder is needed for -> the one taken unless told otherwise."""


class Tools:
    """A recogniser and embedders."""

    def __init__(
        self,
        recognizer: str | Recognizer = "pocketsphinx",
        embedders: Mapping[str, str | Embedder] | None = None,
        model: Any = None,
    ):
        """Say which ones.

        Args:
            recognizer: `pocketsphinx`, `own` (the model's own `asr`), `transformers:MODEL`, or an object.
            embedders: Role (`ROLES`) -> name or object.
            model: A `Model`, for `own`.

        Raises:
            DataError: If a role or a recogniser is unknown.
        """
        given = dict(embedders or {})
        for role in given.keys() - ROLES.keys():
            raise DataError(
                f"there is no embedder's role '{role}'.{suggest(role, ROLES)} There are: {', '.join(ROLES)}."
            )
        if isinstance(recognizer, str):
            check_recognizer(recognizer)
        self._named: dict[str, str | Embedder] = {**ROLES, **given}
        self._recognizer, self._model = recognizer, model
        self._loaded: dict[str, Embedder] = {}

    @cached_property
    def recognizer(self) -> Recognizer:
        """What hears speech.

        Raises:
            MissingDependencyError: If it is not installed.
        """
        return load_recognizer(self._recognizer, self._model) if isinstance(self._recognizer, str) else self._recognizer

    def embedder(self, role: str) -> Embedder:
        """Return the embedder of a role.

        Raises:
            MissingWeightsError: If its weights are not here.
        """
        if role not in self._loaded:
            named = self._named[role]
            self._loaded[role] = load_embedder(named) if isinstance(named, str) else named
        return self._loaded[role]

    def embedded(self, role: str, value: Audio | str) -> np.ndarray:
        """Return the vectors of a recording or a text, `[n, E]`.

        Raises:
            DataError: If the embedder takes no texts.
        """
        embedder = self.embedder(role)
        if not isinstance(value, str):
            return embedder.embed(value)
        if not isinstance(embedder, CaptionEmbedder):
            raise DataError(f"embedder '{embedder.name}' takes no texts. Give --embedder {role}=clap.")
        return embedder.embed_text(value)
