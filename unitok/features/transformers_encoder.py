"""Encoders in transformers' format: T5, HuBERT, WavLM, wav2vec2, w2v-BERT 2.0, Whisper, CLAP; from a folder or the hub.

States are those of transformers: a layer's hidden states (default: the last), of CLAP the one normalised vector that
text and audio share, of audio's first 10 s. Needs `pip install "unitok[hf]"`; pickled weights are not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from unitok.cards import CardReader
from unitok.errors import DataError, MissingDependencyError, MissingWeightsError, TokenizerError, UnitokError
from unitok.features.base import EncoderSettings, FeatureEncoder, Takes, write_encoder_card
from unitok.tokenizers.transformers_codec import quiet
from unitok.tokenizers.weights import downloads_allowed

__all__ = ["ENCODERS", "TransformersEncoder"]


@dataclass(frozen=True, kw_only=True)
class TransformersSettings(EncoderSettings):
    """A card with `kind: transformers`."""

    model: str
    """A name on the hub (`owner/name`), or a folder: `./name`, `.`, or an absolute path."""
    takes: Takes | None = None
    """`text` or `audio`, of a model that takes both (CLAP)."""
    layer: int | None = None
    """Which hidden states: 0 before the first layer, n after layer n; None: what the model returns."""

    @classmethod
    def of(cls, card: Mapping[str, Any], file: str | Path) -> TransformersSettings:
        """Check a card.

        Raises:
            CardError: With every mistake of it.
        """
        reader = CardReader(card, file)
        values = {
            **cls.read(reader),
            "model": reader.take("model", str, "", required=True),
            "takes": reader.take("takes", str, choices=("text", "audio")),
            "layer": reader.take("layer", int, minimum=0),
        }
        reader.finish()
        return cls(**values)

    @property
    def on_hub(self) -> bool:
        """Is the model named as the hub names it?"""
        return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", self.model) is not None


class _Architecture(NamedTuple):
    """How a family is called."""

    takes: tuple[Takes, ...]
    """What it takes."""
    cls: str
    """Class in transformers."""
    dim: Callable[[Any], int]
    """(config) -> width of a state."""
    encode: Callable[[TransformersEncoder, Tensor], Tensor]
    """(encoder, inputs `[N]`) -> states `[T, E]`."""
    n_states: Callable[[TransformersEncoder, int], int]
    """(encoder, N) -> T."""


def _layered(encoder: TransformersEncoder, **inputs: Any) -> Tensor:
    layer = encoder.settings.layer
    output = encoder.model(**inputs, output_hidden_states=layer is not None)
    return (output.last_hidden_state if layer is None else output.hidden_states[layer])[0]


def _t5(encoder: TransformersEncoder, ids: Tensor) -> Tensor:
    return _layered(encoder, input_ids=ids[None])


def _speech(encoder: TransformersEncoder, wav: Tensor) -> Tensor:
    if getattr(encoder.processor, "do_normalize", False):
        wav = (wav - wav.mean()) / (wav.var(correction=0) + 1e-7).sqrt()
    return _layered(encoder, input_values=wav[None])


def _whisper(encoder: TransformersEncoder, wav: Tensor) -> Tensor:
    n = encoder.n_states(len(wav))
    longest = encoder.processor.n_samples
    if len(wav) > longest:
        raise DataError(
            f"encoder '{encoder.name}' takes up to {longest / encoder.processor.sampling_rate:g} s of audio, got "
            f"{len(wav) / encoder.processor.sampling_rate:.1f} s. Cut it."
        )
    return _layered(encoder, input_features=_extracted(encoder, wav)["input_features"])[:n]


def _w2v_bert(encoder: TransformersEncoder, wav: Tensor) -> Tensor:
    return _layered(encoder, **_extracted(encoder, wav))[: encoder.n_states(len(wav))]


def _clap(encoder: TransformersEncoder, value: Tensor) -> Tensor:
    if encoder.takes == "text":
        return encoder.model.get_text_features(input_ids=value[None]).pooler_output
    features = _extracted(encoder, value[: encoder.processor.nb_max_samples])  # it would cut longer audio at random
    return encoder.model.get_audio_features(**features).pooler_output


def _extracted(encoder: TransformersEncoder, wav: Tensor) -> Mapping[str, Tensor]:
    rate = encoder.processor.sampling_rate
    found = encoder.processor(wav.detach().cpu().numpy(), sampling_rate=rate, return_tensors="pt")
    return {name: value.to(wav.device) for name, value in found.items()}


def _conv_states(encoder: TransformersEncoder, n: int) -> int:
    return int(encoder.model._get_feat_extract_output_lengths(n))


def _w2v_bert_states(encoder: TransformersEncoder, n: int) -> int:
    """Return the states of n samples: frames of 25 ms every 10 ms, in groups of `stride`, the last of them whole."""
    return max(0, (n - 400) // 160 + 1) // encoder.processor.stride


def _whisper_states(encoder: TransformersEncoder, n: int) -> int:
    return -(-n // (encoder.processor.hop_length * 2))


ENCODERS: dict[str, _Architecture] = {
    "t5": _Architecture(("text",), "T5EncoderModel", lambda config: config.d_model, _t5, lambda encoder, n: n),
    "hubert": _Architecture(("audio",), "HubertModel", lambda config: config.hidden_size, _speech, _conv_states),
    "wavlm": _Architecture(("audio",), "WavLMModel", lambda config: config.hidden_size, _speech, _conv_states),
    "wav2vec2": _Architecture(("audio",), "Wav2Vec2Model", lambda config: config.hidden_size, _speech, _conv_states),
    "wav2vec2-bert": _Architecture(
        ("audio",), "Wav2Vec2BertModel", lambda config: config.hidden_size, _w2v_bert, _w2v_bert_states
    ),
    "whisper": _Architecture(("audio",), "WhisperModel", lambda config: config.d_model, _whisper, _whisper_states),
    "clap": _Architecture(
        ("text", "audio"), "ClapModel", lambda config: config.projection_dim, _clap, lambda encoder, n: 1
    ),
}
"""`model_type` in `config.json` -> how it is called."""


class TransformersEncoder(FeatureEncoder):
    """An encoder whose network is a model of transformers; see the module's docstring."""

    kind = "transformers"
    identity = ("takes", "layer")
    settings: TransformersSettings

    def __init__(self, settings: TransformersSettings, model: Any, processor: Any):
        """Wrap a model and its tokenizer or feature extractor.

        Raises:
            TokenizerError: If it does not take what its card says, or has no such layer.
        """
        super().__init__()
        self.settings, self.processor = settings, processor
        model_type = str(model.config.model_type)
        self._how = ENCODERS[model_type]
        if settings.takes is None and len(self._how.takes) > 1 or settings.takes not in (None, *self._how.takes):
            got = "missing" if settings.takes is None else f"'{settings.takes}'"
            raise TokenizerError(
                f"encoder '{settings.name}': takes: is {got}, '{model_type}' takes {' or '.join(self._how.takes)}."
            )
        self.takes = settings.takes or next(iter(self._how.takes))
        self.dim = int(self._how.dim(model.config))
        if self.takes == "audio":
            self.sample_rate_hz = int(processor.sampling_rate)
        # Of Whisper only the encoder is run, and kept.
        self.model = model.get_encoder() if model_type == "whisper" else model
        n_layers = getattr(model.config, "num_hidden_layers", None)
        if settings.layer is not None and (model_type == "clap" or n_layers is None or settings.layer > n_layers):
            allowed = "none: a text or recording is one vector" if model_type == "clap" else f"0 to {n_layers}"
            raise TokenizerError(f"encoder '{settings.name}': layer is {settings.layer}, allowed: {allowed}.")

    @classmethod
    def from_card(cls, card: Mapping[str, Any], folder: Path) -> TransformersEncoder:
        """Load the model that the card names.

        Raises:
            CardError: If the card has mistakes.
            MissingWeightsError: If the model is not here and cannot be fetched.
            MissingDependencyError: If transformers is not installed.
        """
        settings = TransformersSettings.of(card, folder / str(card.get("name", "card")))
        return cls(settings, *_load(settings, folder))

    def inputs(self, value: str | Tensor) -> Tensor:
        """Spell a text, or return samples as they are."""
        if isinstance(value, Tensor):
            return value
        import torch

        return torch.tensor(self.processor(value)["input_ids"], dtype=torch.int64)

    def n_states(self, n_inputs: int) -> int:
        """Return how many states so many inputs give."""
        return self._how.n_states(self, n_inputs)

    def encode_one(self, inputs: Tensor) -> Tensor:
        """Turn inputs `[N]` into states `[T, E]`."""
        return self._how.encode(self, inputs)

    def save(self, folder: Path) -> None:
        """Write the card, the network and its tokenizer or feature extractor."""
        with quiet():
            whole = _whole(self.model)
            whole.save_pretrained(folder)
            self.processor.save_pretrained(folder)
        write_encoder_card(self, folder, model=".")


def _whole(model: Any) -> Any:
    """Return a model that `from_pretrained` reads: Whisper's encoder in a WhisperModel without decoder layers."""
    if type(model).__name__ != "WhisperEncoder":
        return model
    import copy

    from transformers import WhisperModel

    config = copy.deepcopy(model.config)
    config.decoder_layers = 0
    whole = WhisperModel(config)
    whole.encoder = model
    return whole


def _load(settings: TransformersSettings, folder: Path) -> tuple[Any, Any]:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError(
            f"encoder '{settings.name}' needs transformers ({error}). Run pip install 'unitok[hf]'."
        ) from error
    where: str | Path = settings.model
    if not settings.on_hub:
        where = folder / settings.model
        if not (where / "config.json").is_file():
            raise MissingWeightsError(
                f"encoder '{settings.name}': model '{where}' holds no config.json. Put a model in transformers' format "
                "there, or name one on the hub (owner/name)."
            )
    offline = {"local_files_only": not settings.on_hub or not downloads_allowed()}
    try:
        with quiet():
            model_type = _model_type(where, settings.name, offline)
            how = ENCODERS[model_type]
            takes = settings.takes or how.takes[0]
            processor = (
                transformers.AutoTokenizer.from_pretrained(where, **offline)
                if takes == "text"
                else transformers.AutoFeatureExtractor.from_pretrained(where, **offline)
            )
            model = getattr(transformers, how.cls).from_pretrained(where, use_safetensors=True, **offline)
            return model, processor
    except UnitokError:
        raise
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise MissingWeightsError(
            f"encoder '{settings.name}' needs the model '{settings.model}', which cannot be loaded ({reason}). "
            "Download it where there is a network, and set 'model:' in a card of your own to its folder."
        ) from error


def _model_type(where: str | Path, name: str, offline: Mapping[str, Any]) -> str:
    import transformers

    if isinstance(where, Path):
        model_type = json.loads((where / "config.json").read_text(encoding="utf-8")).get("model_type")
    else:
        model_type = transformers.AutoConfig.from_pretrained(where, **offline).model_type
    if model_type not in ENCODERS:
        raise TokenizerError(f"encoder '{name}': model '{where}' is '{model_type}', allowed: {', '.join(ENCODERS)}.")
    return str(model_type)
