"""Ears: what hears the words in speech that a model made.

`pocketsphinx` is independent: unitok did not train it, and its English model comes inside its wheel. `own` is the
model's own `asr`, in the languages that it knows. `transformers:MODEL` is a recogniser of transformers, from the hub or
a folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from unitok.audio import Audio
from unitok.errors import DataError, MissingDependencyError, MissingWeightsError, suggest

__all__ = [
    "OwnRecognizer",
    "PocketsphinxRecognizer",
    "Recognizer",
    "TransformersRecognizer",
    "check_recognizer",
    "load_recognizer",
]

NAMES = ("pocketsphinx", "own", "transformers")


@runtime_checkable
class Recognizer(Protocol):
    """Speech to text."""

    name: str
    """Shown in reports."""

    def hears(self, lang: str | None) -> bool:
        """Does it know the language? None is whatever it knows."""
        ...

    def transcribe(self, audio: Audio, lang: str | None = None) -> str:
        """Return the words heard."""
        ...


class PocketsphinxRecognizer:
    """Large-vocabulary English recognition of whole utterances; no state is carried from one to the next."""

    SAMPLE_RATE_HZ = 16000
    name = "pocketsphinx"

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError:
            raise MissingDependencyError(
                'The independent recogniser needs pocketsphinx. Run: pip install "unitok[eval]"'
            ) from None
        self._decoder = Decoder(samprate=self.SAMPLE_RATE_HZ, cmn="batch", loglevel="FATAL")

    def hears(self, lang: str | None) -> bool:
        """Return true for English."""
        return lang is None or lang.split("-")[0] == "en"

    def transcribe(self, audio: Audio, lang: str | None = None) -> str:
        """Return the words heard in `audio` (any rate and number of channels), lower case, `""` for none."""
        samples = audio.mono().resample(self.SAMPLE_RATE_HZ).samples[0]
        pcm = (samples.clamp(-1, 1) * 32767).short().numpy().tobytes()
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""


class OwnRecognizer:
    """The model's own task from speech to text: not independent, but in its languages and with its words."""

    def __init__(self, model: Any, task: str = "asr"):
        if model is None or task not in model.tasks:
            has = "no model" if model is None else f"'{model.name}' has no task '{task}'"
            raise DataError(f"recogniser 'own' is the model's own {task}, but there is {has}. Take another recogniser.")
        self._model, self._task = model, task
        self.name = f"own {task} of {model.name}"

    def hears(self, lang: str | None) -> bool:
        """Return whether the model has the language."""
        return lang is None or lang in self._model.vocabulary.lang_names

    def transcribe(self, audio: Audio, lang: str | None = None) -> str:
        """Return the words heard."""
        [condition] = [one.name for one in self._model.tasks[self._task].conditions if not one.optional][:1]
        return str(self._model.generate(self._task, lang=lang, **{condition: audio}))


class TransformersRecognizer:
    """A recogniser of transformers (Whisper, wav2vec2 CTC, …), from the hub or a folder, in any language."""

    def __init__(self, model: str):
        try:
            import transformers
        except ImportError as error:
            raise MissingDependencyError("recogniser 'transformers' needs: pip install 'unitok[hf]'.") from error
        from unitok.tokenizers.transformers_codec import quiet
        from unitok.tokenizers.weights import downloads_allowed

        if not model:
            raise DataError("recogniser 'transformers' needs a model: transformers:openai/whisper-small, or a folder.")
        try:
            if not Path(model).is_dir() and not downloads_allowed():
                raise OSError("nothing may be downloaded, and it is no folder")
            with quiet():
                self._pipeline: Any = transformers.pipeline(
                    "automatic-speech-recognition", model=model, model_kwargs={"use_safetensors": True}
                )
        except (OSError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise MissingWeightsError(
                f"recogniser '{model}' cannot be loaded ({reason}). Download it where there is a network, and name "
                "its folder: transformers:FOLDER."
            ) from error
        self.name = f"transformers:{model}"

    def hears(self, lang: str | None) -> bool:
        """Return true: which languages it knows is not written in a model."""
        return True

    def transcribe(self, audio: Audio, lang: str | None = None) -> str:
        """Return the words heard."""
        rate = self._pipeline.feature_extractor.sampling_rate
        wav = audio.mono().resample(rate).samples[0].cpu().numpy()
        spoken = lang and getattr(self._pipeline.model.config, "model_type", "") == "whisper"
        options = {"generate_kwargs": {"language": lang}} if spoken else {}
        return str(self._pipeline({"raw": wav, "sampling_rate": rate}, **options)["text"]).strip()


def check_recognizer(name: str) -> str:
    """Return which recogniser is named.

    Raises:
        DataError: If there is none.
    """
    kind = name.partition(":")[0]
    if kind not in NAMES:
        raise DataError(f"there is no recogniser '{kind}'.{suggest(kind, NAMES)} There are: {', '.join(NAMES)}.")
    return kind


def load_recognizer(name: str, model: Any = None) -> Recognizer:
    """Load a recogniser by name.

    Args:
        name: `pocketsphinx`, `own`, or `transformers:MODEL`.
        model: The `Model` whose own is meant.

    Raises:
        DataError: If there is none of the name.
        MissingDependencyError: If it is not installed.
        MissingWeightsError: If its weights are not here.
    """
    kind, rest = check_recognizer(name), name.partition(":")[2]
    if kind == "pocketsphinx":
        return PocketsphinxRecognizer()
    return OwnRecognizer(model, rest or "asr") if kind == "own" else TransformersRecognizer(rest)
