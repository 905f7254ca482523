"""Codecs in transformers' format: Mimi, EnCodec, DAC, X-codec and X-codec2, from a folder or from the hub.

Codes are those of the model's own `encode`, of audio padded with zeros to whole frames. A recording goes through in one
piece. Needs `pip install "unitok[hf]"`; pickled weights are not read. EnCodec at 48 kHz, which scales each second
of audio, is the card `encodec_48khz`.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unitok.errors import MissingDependencyError, MissingWeightsError, TokenizerError
from unitok.tokenizers.base import write_card
from unitok.tokenizers.chunking import Chain, Reach, causal_layers, conv_layers, reach
from unitok.tokenizers.codec import CodecTokenizer
from unitok.tokenizers.settings import TransformersCodecSettings, weights_file
from unitok.tokenizers.weights import downloads_allowed, fingerprint

__all__ = ["ARCHITECTURES", "TransformersCodec"]

KIND = "transformers_codec"


class _Architecture(NamedTuple):
    """How a family of codecs is called; `config` is its config, `n` how many codebooks are asked for."""

    sizes: Callable[[Any], tuple[int, int, int, int]]
    """(model) -> sampling rate in Hz, samples in a frame, codes in a codebook, codebooks."""
    encode: Callable[[Any, Tensor, int], Tensor]
    """(model, wav `[1, 1, N]`, n) -> codes `[1, K, T]`, K at least n."""
    decode: Callable[[Any, Tensor], Tensor]
    """(model, codes `[1, K, T]`) -> wav `[1, 1, N]`."""
    latent: Callable[[Any, Tensor], Tensor]
    """(model, codes `[1, K, T]`) -> the sum of their vectors, `[1, width, T]`."""
    chain: Callable[[Any, Callable[[Tensor], Tensor], int], Chain | None] = lambda model, latent, hop: None
    """(model, latent of codes `[K, T]`, samples in a frame) -> its decoder; None where it sees everything."""


def _rvq_size(model: Any) -> int:
    return int(model.quantizer.get_num_quantizers_for_bandwidth(max(model.config.target_bandwidths)))


def _encodec_encode(model: Any, wav: Tensor, n: int) -> Tensor:
    return model.encode(wav, bandwidth=max(model.config.target_bandwidths)).audio_codes[0]


def _xcodec2_encode(model: Any, wav: Tensor, n: int) -> Tensor:
    features = model.feature_extractor(
        [wav[0, 0].cpu().numpy()], sampling_rate=model.config.sampling_rate, return_tensors="pt"
    )
    return model.encode(**features.to(wav.device)).audio_codes


def _mimi_chain(model: Any, latent: Callable[[Tensor], Tensor], hop: int) -> Chain | None:
    """Upsampling, a causal Transformer with its cache, a causal SEANet."""
    parts: Any = getattr(model, "decoder", None)
    if not hasattr(parts, "decoder_seanet") or not model.config.use_causal_conv:
        return None  # transformers before 5.24 keeps the parts elsewhere
    upsample, transformer, seanet = parts.upsample, parts.decoder_transformer, parts.decoder_seanet
    ratio = 1 if upsample is None else int(upsample.conv.stride[0])

    def before(codes: Tensor) -> Tensor:
        x = latent(codes)
        return (x if upsample is None else upsample(x))[0]

    def recurrent(x: Tensor, cache: object) -> tuple[Tensor, object]:
        out = transformer(x.T[None], cache=cache, use_cache=True)
        return out.last_hidden_state[0].T, out.cache

    layers = causal_layers(seanet)
    after = reach(layers, reflect=model.config.pad_mode == "reflect")
    contexts = (Reach(1, 0), Reach(-(-after.left // ratio), -(-after.right // ratio)))
    return Chain(before, recurrent, lambda x: seanet(x[None])[0], steps=(1, ratio, hop), contexts=contexts)


def _encodec_chain(model: Any, latent: Callable[[Tensor], Tensor], hop: int) -> Chain | None:
    """Convolutions, an LSTM with its state, convolutions."""
    if model.config.norm_type != "weight_norm" or model.config.chunk_length_s is not None:
        return None
    layers = list(model.decoder.layers)
    at = next(i for i, layer in enumerate(layers) if hasattr(layer, "lstm"))
    before, lstm, after = torch.nn.Sequential(*layers[:at]), layers[at].lstm, torch.nn.Sequential(*layers[at + 1 :])

    def recurrent(x: Tensor, state: object) -> tuple[Tensor, object]:
        y, state = lstm(x.T[:, None], state)
        return y[:, 0].T + x, state

    reflect = model.config.pad_mode == "reflect"
    return Chain(
        lambda codes: before(latent(codes))[0],
        recurrent,
        lambda x: after(x[None])[0],
        steps=(1, 1, hop),
        contexts=(reach(causal_layers(before), reflect=reflect), reach(causal_layers(after), reflect=reflect)),
    )


def _dac_chain(decoder: Callable[[Any], Any], into: Callable[[Any, Tensor], Tensor]) -> Callable[..., Chain]:
    """Return what makes a chain of a decoder of plain convolutions, and what goes before it."""

    def chain(model: Any, latent: Callable[[Tensor], Tensor], hop: int) -> Chain:
        network = decoder(model)
        context = reach(conv_layers(network))
        return Chain(
            lambda codes: network(into(model, latent(codes))).reshape(1, -1),
            steps=(1, hop, hop),
            contexts=(context, Reach(0, 0)),
        )

    return chain


ARCHITECTURES: dict[str, _Architecture] = {
    "mimi": _Architecture(
        lambda model: (
            model.config.sampling_rate,
            round(model.config.sampling_rate / model.config.frame_rate),
            model.config.codebook_size,
            model.config.num_quantizers,
        ),
        lambda model, wav, n: model.encode(wav, num_quantizers=n).audio_codes,
        lambda model, codes: model.decode(codes).audio_values,
        lambda model, codes: model.quantizer.decode(codes),
        _mimi_chain,
    ),
    "encodec": _Architecture(
        lambda model: (
            model.config.sampling_rate,
            model.config.hop_length,
            model.config.codebook_size,
            _rvq_size(model),
        ),
        _encodec_encode,
        lambda model, codes: model.decode(codes[None], [None]).audio_values,
        lambda model, codes: model.quantizer.decode(codes.transpose(0, 1)),
        _encodec_chain,
    ),
    "dac": _Architecture(
        lambda model: (
            model.config.sampling_rate,
            model.config.hop_length,
            model.config.codebook_size,
            model.config.n_codebooks,
        ),
        lambda model, wav, n: model.encode(wav, n_quantizers=n).audio_codes,
        lambda model, codes: model.decode(audio_codes=codes).audio_values.reshape(1, 1, -1),
        lambda model, codes: model.quantizer.from_codes(codes)[0],
        _dac_chain(lambda model: model.decoder, lambda model, x: x),
    ),
    "xcodec": _Architecture(
        lambda model: (model.config.sample_rate, model.config.hop_length, model.config.codebook_size, _rvq_size(model)),
        lambda model, wav, n: model.encode(wav, bandwidth=max(model.config.target_bandwidths)).audio_codes,
        lambda model, codes: model.decode(codes).audio_values,
        lambda model, codes: model.quantizer.decode(codes.transpose(0, 1)),
        _dac_chain(lambda model: model.acoustic_decoder, lambda model, x: model.fc2(x.transpose(1, 2)).transpose(1, 2)),
    ),
    "xcodec2": _Architecture(
        lambda model: (
            model.config.sampling_rate,
            model.config.hop_length,
            math.prod(model.config.quantization_levels),
            1,
        ),
        _xcodec2_encode,
        lambda model, codes: model.decode(codes).audio_values.reshape(1, 1, -1),
        lambda model, codes: model.quantizer.from_codes(codes.transpose(1, 2)).transpose(1, 2),
    ),
}
"""`model_type` in `config.json` -> how it is called."""


class TransformersCodec(CodecTokenizer):
    """A codec whose network is a model of transformers; see the module's docstring."""

    channels = 1

    def __init__(self, settings: TransformersCodecSettings, model: Any):
        """Wrap a model.

        Raises:
            TokenizerError: If it is none of `ARCHITECTURES`, one of stereo or scaled audio, or not as its card says.
        """
        model_type = str(model.config.model_type)
        if model_type not in ARCHITECTURES:
            raise TokenizerError(
                f"tokenizer '{settings.name}': its model is '{model_type}', allowed: {', '.join(ARCHITECTURES)}."
            )
        if getattr(model.config, "normalize", False) or getattr(model.config, "audio_channels", 1) != 1:
            raise TokenizerError(
                f"tokenizer '{settings.name}': this EnCodec is stereo or scales its audio. Use a card of kind encodec, "
                "such as encodec_48khz."
            )
        self._how = ARCHITECTURES[model_type]
        self.settings, self.model, self.name = settings, model.eval(), settings.name
        self.sample_rate_hz, self.hop, self.codebook_size, self.max_codebooks = map(int, self._how.sizes(model))
        self.frame_rate_hz = self.sample_rate_hz / self.hop
        for name in ("sample_rate_hz", "frame_rate_hz", "codebook_size"):
            said, has = getattr(settings, name), getattr(self, name)
            if said is not None and not math.isclose(said, has):
                raise TokenizerError(
                    f"tokenizer '{self.name}': its card says {name}: {said:g}, its model has {has:g}. Correct the card."
                )
        self.set_codebooks(settings.codebooks or self.max_codebooks)

    @classmethod
    def from_card(cls, card: Mapping[str, Any], folder: Path | None = None) -> TransformersCodec:
        """Load the model that the card names.

        Raises:
            CardError: If the card has mistakes.
            MissingWeightsError: If the model is not here and cannot be fetched.
            MissingDependencyError: If transformers is not installed.
        """
        settings = TransformersCodecSettings.from_card(card)
        return cls(settings, _load(settings, folder))

    def decoder_chain(self) -> Chain | None:
        """Return the decoder as a chain; None where it sees everything (X-codec2)."""

        def latent(codes: Tensor) -> Tensor:
            return self._how.latent(self.model, codes[None].to(self.device))

        return self._how.chain(self.model, latent, self.hop)

    def _encode_row(self, wav: Tensor) -> Tensor:
        wav = F.pad(wav, (0, -wav.shape[-1] % self.hop))
        with quiet():
            codes = self._how.encode(self.model, wav[None].to(self.device), self.n_codebooks)
        return codes[0, : self.n_codebooks, : wav.shape[-1] // self.hop].long()

    def _decode_row(self, codes: Tensor) -> Tensor:
        wav = self._how.decode(self.model, codes[None].to(self.device))[0]
        return wav[:, : self.n_samples(codes.shape[-1])]

    def _vectors(self, k: int) -> Tensor:
        codes = torch.zeros(1, k + 1, self.codebook_size, dtype=torch.long, device=self.device)
        zero = self._how.latent(self.model, codes)
        codes[0, k] = torch.arange(self.codebook_size, device=self.device)
        return (self._how.latent(self.model, codes) - zero)[0].T

    def save(self, folder: Path) -> None:
        """Write the card, and the model unless it is fetched from the hub."""
        settings = replace(self.settings, codebooks=self.n_codebooks, fingerprint=self.fingerprint)
        if not self.settings.on_hub:
            assert self.model is not None
            with quiet():
                self.model.save_pretrained(folder)  # type: ignore[operator]
                if hasattr(self.model, "feature_extractor"):
                    self.model.feature_extractor.save_pretrained(folder)  # type: ignore[operator]
            settings = replace(settings, model=".")
        write_card(folder, {"kind": KIND, **settings.to_card()})

    def _fingerprint(self) -> str:
        assert self.model is not None
        return fingerprint(KIND, {"version": self.settings.version}, self.model.state_dict())


def _load(settings: TransformersCodecSettings, folder: Path | None) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError(
            f"tokenizer '{settings.name}' needs transformers ({error}). Run pip install 'unitok[hf]'."
        ) from error
    where: str | Path = settings.model
    if not settings.on_hub:
        where = weights_file(settings.model, folder)
        if not (where / "config.json").is_file():
            raise MissingWeightsError(
                f"card '{settings.name}': model '{where}' holds no config.json. Put a model in transformers' format "
                "there, or name one on the hub (owner/name)."
            )
        model_type = json.loads((where / "config.json").read_text(encoding="utf-8")).get("model_type")
        if model_type not in ARCHITECTURES:
            raise TokenizerError(
                f"card '{settings.name}': model '{where}' is '{model_type}', allowed: {', '.join(ARCHITECTURES)}."
            )
    try:
        with quiet():
            offline = {"local_files_only": not settings.on_hub or not downloads_allowed()}
            model = transformers.AutoModel.from_pretrained(where, use_safetensors=True, **offline)
            if model.config.model_type == "xcodec2":
                model.feature_extractor = transformers.AutoFeatureExtractor.from_pretrained(where, **offline)
            return model
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise MissingWeightsError(
            f"tokenizer '{settings.name}' needs the model '{settings.model}', which cannot be loaded ({reason}). "
            "Download it where there is a network, and set 'model:' in a card of your own to its folder."
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' hints and bars away."""
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity(logging.ERROR)
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()
