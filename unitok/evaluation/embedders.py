"""What turns recordings (and captions) into vectors that can be compared: a protocol, and embedders by name.

    voice_statistics            pitch and spectral envelope of a voice; nothing to download
    log_mel_statistics          means and spreads of mel bands, a vector each second; nothing to download
    xvector[:MODEL]             speaker verification in transformers, a hub name or a folder (WavLM unless told)
    encoder:CARD                an encoder of `features/` that takes audio: hubert_base, whisper_small, clap_audio, …
    clap[:FOLDER]               CLAP for sounds and captions, by the cards clap_audio and clap_text, or from a folder

n vectors, E their width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from unitok.errors import DataError, MissingDependencyError, MissingWeightsError, suggest
from unitok.evaluation.metric import load_entry_points

if TYPE_CHECKING:
    from unitok.audio import Audio

__all__ = ["CaptionEmbedder", "Embedder", "list_embedders", "load_embedder", "register_embedder"]

GROUP = "unitok.embedders"
RATE_HZ = 16000
N_MELS = 64
STRETCH_S = 0.96
XVECTOR = "microsoft/wavlm-base-plus-sv"
CLAP = "laion/clap-htsat-unfused"


@runtime_checkable
class Embedder(Protocol):
    """Recordings to vectors."""

    name: str
    """Shown in reports: what it is, and which weights."""

    def embed(self, audio: Audio) -> np.ndarray:
        """Return the vectors of a recording, `[n, E]`."""
        ...


@runtime_checkable
class CaptionEmbedder(Embedder, Protocol):
    """Recordings and texts to vectors of one space."""

    def embed_text(self, text: str) -> np.ndarray:
        """Return the vector of a text, `[1, E]`."""
        ...


Make = Callable[[str], Embedder]
M = TypeVar("M", bound=Make)
_MAKERS: dict[str, Make] = {}


def register_embedder(name: str) -> Callable[[M], M]:
    """Make a function the one that loads an embedder: it gets what stands behind the name, `NAME:THIS`, or `""`.

    Raises:
        DataError: If another function owns the name.
    """

    def register(make: M) -> M:
        owner = _MAKERS.get(name)
        if owner is not None and owner.__qualname__ != make.__qualname__:
            raise DataError(f"embedder '{name}' belongs to {owner.__module__}.{owner.__qualname__}; take another name.")
        _MAKERS[name] = make
        return make

    return register


def list_embedders() -> list[str]:
    """Return the names of all embedders: unitok's, those of installed packages, those registered by hand."""
    load_entry_points(GROUP)
    return sorted(_MAKERS)


def load_embedder(name: str) -> Embedder:
    """Load an embedder by its name, with what it takes behind a colon.

    Raises:
        DataError: If there is none of the name.
        MissingWeightsError: If its weights are not here and cannot be fetched.
        MissingDependencyError: If a package is missing.
    """
    kind, _, rest = name.partition(":")
    known = list_embedders()
    if kind not in known:
        raise DataError(f"there is no embedder '{kind}'.{suggest(kind, known)} There are: {', '.join(known)}.")
    return _MAKERS[kind](rest)


@register_embedder("voice_statistics")
class VoiceStatistics:
    """`voice_features`, less their means and over their spreads among synthetic voices; tells known voices apart."""

    name = "voice_statistics"

    def __init__(self, _: str = ""):
        pass

    def embed(self, audio: Audio) -> np.ndarray:
        """Return one vector, `[1, 42]`."""
        from unitok.evaluation.voices import voice_features

        return ((voice_features(audio) - VOICE_MEANS) / VOICE_SPREADS)[None]


@register_embedder("log_mel_statistics")
class LogMelStatistics:
    """Mean and spread of the levels of 64 mel bands in each 0.96 s, in bel."""

    name = "log_mel_statistics"

    def __init__(self, _: str = ""):
        pass

    def embed(self, audio: Audio) -> np.ndarray:
        """Return a vector for each stretch, `[n, 128]`; the last one may be shorter."""
        try:
            import librosa
        except ImportError as error:
            raise MissingDependencyError('log_mel_statistics needs librosa: pip install "unitok[eval]".') from error
        wav = audio.mono().resample(RATE_HZ).samples[0].cpu().numpy().astype(np.float64)
        mels = librosa.feature.melspectrogram(y=wav, sr=RATE_HZ, n_fft=512, hop_length=160, n_mels=N_MELS)
        levels = np.log10(np.maximum(mels, 1e-8)).T  # [T, mels]
        n = max(1, round(len(levels) / (STRETCH_S * 100)))
        return np.stack([np.concatenate([part.mean(0), part.std(0)]) for part in np.array_split(levels, n)])


@register_embedder("encoder")
class EncoderStates:
    """States of an encoder of `features/`, one vector for each."""

    def __init__(self, card: str):
        from unitok.features import load_feature_encoder

        if not card:
            raise DataError("embedder 'encoder' needs the name of a card of features/: encoder:wavlm_base_plus.")
        self._encoder = load_feature_encoder(card)
        if self._encoder.takes != "audio":
            raise DataError(f"embedder 'encoder:{card}' takes text; an encoder of audio is needed.")
        self.name = f"encoder:{self._encoder.name}"

    def embed(self, audio: Audio) -> np.ndarray:
        """Return its states, `[n, E]`."""
        return self._encoder.encode(audio).numpy()


@register_embedder("clap")
class Clap:
    """Sounds and captions in one space (CLAP, through transformers)."""

    def __init__(self, folder: str = ""):
        from unitok.features.transformers_encoder import TransformersEncoder

        where = str(Path(folder).expanduser().resolve()) if folder else CLAP
        self.name = f"clap:{folder or CLAP}"
        card = {"kind": "transformers", "name": "clap", "model": where}
        self._audio, self._text = (
            TransformersEncoder.from_card({**card, "takes": takes}, Path()).eval() for takes in ("audio", "text")
        )

    def embed(self, audio: Audio) -> np.ndarray:
        """Return one vector, `[1, E]`."""
        return self._audio.encode(audio).numpy()

    def embed_text(self, text: str) -> np.ndarray:
        """Return one vector, `[1, E]`."""
        return self._text.encode(text).numpy()


@register_embedder("xvector")
class XVector:
    """Speaker embeddings of a verification model (`AutoModelForAudioXVector` of transformers)."""

    def __init__(self, model: str = ""):
        try:
            import transformers
        except ImportError as error:
            raise MissingDependencyError("xvector needs transformers: pip install 'unitok[hf]'.") from error
        from unitok.tokenizers.transformers_codec import quiet
        from unitok.tokenizers.weights import downloads_allowed

        where = model or XVECTOR
        load = partial(dict, local_files_only=Path(where).is_dir() or not downloads_allowed())
        try:
            with quiet():
                self._extract: Any = transformers.AutoFeatureExtractor.from_pretrained(where, **load())
                self._model: Any = transformers.AutoModelForAudioXVector.from_pretrained(
                    where, use_safetensors=True, **load()
                ).eval()
        except (OSError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise MissingWeightsError(
                f"embedder 'xvector' needs the model '{where}', which cannot be loaded ({reason}). Download it where "
                "there is a network, and name its folder: xvector:FOLDER."
            ) from error
        self.name = f"xvector:{where}"

    def embed(self, audio: Audio) -> np.ndarray:
        """Return one vector, `[1, E]`."""
        import torch

        rate = self._extract.sampling_rate
        wav = audio.mono().resample(rate).samples[0].cpu().numpy()
        with torch.inference_mode():
            inputs = self._extract(wav, sampling_rate=rate, return_tensors="pt")
            return self._model(**inputs).embeddings.float().numpy()


# Of 16 voices of flite and espeak-ng, 6 sentences each, by `voice_features`: log pitch in Hz, its spread, means and
# spreads of 20 MFCCs. Cosines between two sentences of one voice were 0.73 on average (5 % of them under 0.38), of two
# voices -0.04 (5 % over 0.66: espeak-ng's variants are alike).
VOICE_MEANS = np.array([
    4.78, 0.12, 127.58, -16.10, 42.58, -26.04, -11.44, -3.78, -41.45, 2.80, -5.92, -0.68, -7.09, -10.67, 1.77, -10.57,
    -8.00, -2.82, -7.36, -9.25, -1.21, -10.90, 35.80, 33.61, 48.91, 38.81, 29.34, 31.98, 26.03, 20.94, 20.28, 16.07,
    14.96, 14.60, 12.19, 12.26, 13.02, 11.24, 11.83, 9.84, 9.24, 7.92,
])  # fmt: skip
VOICE_SPREADS = np.array([
    0.26, 0.03, 22.47, 19.37, 17.64, 18.66, 14.84, 19.30, 19.17, 13.64, 9.36, 7.26, 10.09, 8.38,
    10.66, 6.74, 6.76, 9.87, 6.75, 6.21, 9.68, 5.50, 10.36, 6.72, 12.71, 9.05, 8.34, 12.11,
    7.44, 6.63, 6.03, 4.70, 4.56, 4.29, 3.40, 3.97, 4.38, 3.34, 4.23, 3.09, 2.68, 2.15,
])  # fmt: skip
