"""EnCodec at 24 kHz (mono) and 48 kHz (stereo), through the package `encodec`.

**24 kHz.** Codes are those of `EncodecModel.encode`, bit for bit, where the audio fits one piece. Between the
convolutions lies an LSTM, which sees the whole past: no overlap would do. So in longer audio its state goes from
piece to piece, which is one pass but for the rounding of sums: with random weights, 12 s in pieces of 1 s gave latents
of size 9e-2 that differed by 3e-8 (by 1e-16 in float64), and none of 28 832 codes differed.

**48 kHz.** The package codes independent segments of 1 s that overlap by 1 %, each divided by its RMS level, which it
keeps beside the codes. The network normalises each segment again, so the level is nowhere in its codes: without it,
every second of the audio would come out equally loud. Here it is in the codes, as one level frame before those of
each segment:

```
frame      0        1 … 150        151      152 … 301      302
codebook 0 coarse   x …            coarse   x …            coarse
codebook 1 fine     x …            fine     x …            fine
codebook 2 0        x …            0        x …            0
           level    segment 0      level    segment 1      level
```

The level is in dB, from -160 to +12, in `codebook_size` coarse steps of `codebook_size` fine ones: exact to 1 part in
100 000 (with one codebook only, to 1 %). 151 frames stand for 0.99 s; cut codes at multiples of 151 frames only. All
else is the package's, bit for bit, but for one thing: where the audio ends within the 1 % that a segment shares with
the next, the package codes those samples twice, in that segment (then not quite whole, so that codes alone would not
say where it ends) and in one more of their own (which it cannot always decode). Here they are in the first only.

Source: Défossez et al. 2022 (arXiv:2210.13438), https://github.com/facebookresearch/encodec 0.1.1.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unitok.tokenizers.chunking import Chain, Network, PieceStream, Reach, causal_layers, identity, reach
from unitok.tokenizers.codec import PublishedCodec, load_network
from unitok.tokenizers.settings import EncodecSettings
from unitok.tokenizers.weights import check_download_allowed, missing_official, missing_package, quiet_build

__all__ = ["EncodecTokenizer"]

LEVEL_DB = (-160.0, 12.0)
"""Range of the levels that can be stored; the package's floor of 1e-8 is -160 dB."""


class EncodecTokenizer(PublishedCodec):
    """EnCodec; see the module's docstring for what its codes are."""

    kind = "encodec"

    def __init__(self, settings: EncodecSettings, model: Any):
        """Wrap a network.

        Args:
            settings: The card.
            model: An `encodec.EncodecModel` of the sizes in `settings.model`.
        """
        super().__init__(settings, model)
        self.settings: EncodecSettings = settings
        self._encodec = model
        self._encoder = _Parts(model.encoder.model)
        self._decoder = _Parts(model.decoder.model)

    @classmethod
    def from_card(cls, card: Mapping[str, Any], folder: Path | None = None) -> EncodecTokenizer:
        """Build the network and load its weights.

        Raises:
            CardError: If the card has mistakes.
            MissingWeightsError: If the weights are not here and cannot be downloaded.
        """
        settings = EncodecSettings.from_card(card)
        return cls(settings, load_network(settings, folder, build, official_weights))

    def n_frames(self, n_samples: int) -> int:
        """Return the frames that `n_samples` samples at the codec's rate give."""
        settings = self.settings
        if not settings.segment_length:
            return -(-n_samples // settings.hop)
        return sum(
            int(settings.model.normalize) - (-(stop - start) // settings.hop)
            for start, stop in self._segments(n_samples)
        )

    def n_samples(self, n_frames: int) -> int:
        """Return the samples that `n_frames` frames decode to."""
        settings = self.settings
        if not settings.segment_length:
            return n_frames * settings.hop
        whole, rest = divmod(n_frames, settings.segment_frames)
        frames = settings.segment_frames - settings.model.normalize
        covered = (whole - 1) * settings.segment_stride + frames * settings.hop if whole else 0
        return max(covered, whole * settings.segment_stride + max(rest - settings.model.normalize, 0) * settings.hop)

    def _encode_row(self, wav: Tensor) -> Tensor:
        if not self.settings.segment_length:
            # Quantising piece by piece too: distances to every code take 4 kB a frame.
            steps = (self.settings.hop, 1, 1)
            chain = self._encoder.chain(steps, lambda piece: piece.to(self.device), self._quantize)
            return chain.run(wav, self._chunk_frames)
        pieces = [
            self._encode_segment(wav[:, start:stop]).to(wav.device) for start, stop in self._segments(wav.shape[-1])
        ]
        return torch.cat(pieces, dim=-1)

    def exact_stream(self) -> PieceStream | None:
        """Return a stream that gives what one pass gives: by its convolutions and LSTM, or segment by segment."""
        return _SegmentStream(self) if self.settings.segment_length else super().exact_stream()

    def decoder_chain(self) -> Chain | None:
        """Return the decoder as a chain, where it does not work segment by segment."""
        if self.settings.segment_length:
            return None
        return self._decoder.chain((1, 1, self.settings.hop), self._dequantize)

    def _decode_row(self, codes: Tensor) -> Tensor:
        chain = self.decoder_chain()
        if chain is not None:
            return chain.run(codes, self._chunk_frames)
        segments = (self.decode_segment(piece) for piece in codes.split(self.settings.segment_frames, dim=-1))
        total = self.n_samples(codes.shape[-1])
        return overlap_add(segments, total, self.settings.segment_stride)

    def _vectors(self, k: int) -> Tensor:
        return (
            self._encodec.quantizer.vq.layers[k].decode(torch.arange(self.codebook_size, device=self.device)[None])[0].T
        )

    def _segments(self, n_samples: int) -> Iterator[tuple[int, int]]:
        """Yield where the segments start and stop; all but the last are whole."""
        length, stride = self.settings.segment_length, self.settings.segment_stride
        for start in range(0, n_samples, stride):
            if start == 0 or n_samples - start > length - stride:
                yield start, min(start + length, n_samples)

    def _encode_segment(self, wav: Tensor) -> Tensor:
        x = wav[None].to(self.device)
        scale = None
        if self.settings.model.normalize:  # in the words of EncodecModel._encode_frame
            volume = x.mean(dim=1, keepdim=True).pow(2).mean(dim=2, keepdim=True).sqrt()
            scale = 1e-8 + volume
            x = x / scale
        codes = self._quantize(self._encodec.encoder(x)[0])
        if scale is None:
            return codes
        level = codes.new_zeros(self.n_codebooks, 1)
        level[:2, 0] = torch.tensor(level_codes(float(scale), self.codebook_size))[: self.n_codebooks]
        return torch.cat([level, codes], dim=-1)

    def decode_segment(self, codes: Tensor) -> Tensor:
        """Decode the frames of one segment, its level among them."""
        scale = 1.0
        if self.settings.model.normalize:
            coarse, fine = (int(codes[0, 0]), int(codes[1, 0]) if codes.shape[0] > 1 else None)
            scale, codes = level_of(coarse, fine, self.codebook_size), codes[:, 1:]
        if not codes.shape[-1]:
            return torch.zeros(self.channels, 0, device=codes.device)
        return (self._encodec.decoder(self._dequantize(codes)[None].to(self.device))[0] * scale).to(codes.device)

    def _quantize(self, latents: Tensor) -> Tensor:
        return self._encodec.quantizer.vq.encode(latents[None], n_q=self.n_codebooks)[:, 0]

    def _dequantize(self, codes: Tensor) -> Tensor:
        return self._encodec.quantizer.decode(codes[:, None].to(self.device))[0]


class _Parts:
    """An encoder or decoder cut at its LSTM: convolutions, LSTM, convolutions."""

    def __init__(self, network: nn.Sequential):
        from encodec.modules.lstm import SLSTM

        at = next((i for i, layer in enumerate(network) if isinstance(layer, SLSTM)), len(network))
        layers = list(network)
        self.before, self.after = nn.Sequential(*layers[:at]), nn.Sequential(*layers[at + 1 :])
        self.lstm: Any = network[at] if at < len(network) else None
        self.contexts: tuple[Reach, Reach] = (
            reach(causal_layers(self.before), reflect=True),
            reach(causal_layers(self.after), reflect=True),
        )

    def chain(self, steps: tuple[int, int, int], prepare: Network, finish: Network = identity) -> Chain:
        """Return `prepare`, the network and `finish` as one chain; `steps`: samples in a frame."""
        return Chain(
            before=lambda piece: self.before(prepare(piece)[None])[0],
            recurrent=self.recur,
            after=lambda piece: finish(self.after(piece[None])[0]),
            steps=steps,
            contexts=self.contexts,
        )

    def recur(self, x: Tensor, state: object) -> tuple[Tensor, object]:
        """Apply the LSTM to `[D, T]` from a state; `encodec.modules.SLSTM` with its state kept."""
        if self.lstm is None:
            return x, None
        x = x[None].permute(2, 0, 1)
        y, state = self.lstm.lstm(x, state)
        y = y + x if self.lstm.skip else y
        return y.permute(1, 2, 0)[0], state


class _SegmentStream:
    """Segments decoded as they are complete; the sums are those of `overlap_add` over all of them."""

    exact = True

    def __init__(self, tokenizer: EncodecTokenizer):
        self._tokenizer, self._settings = tokenizer, tokenizer.settings
        self.look_ahead = self._settings.segment_frames - 1
        self._codes: Tensor | None = None
        self._n_frames = self._n_given = 0
        self._segments: list[Tensor] = []  # those to come, after the one before if there is any

    @torch.no_grad()
    def push(self, codes: Tensor, last: bool = False) -> Tensor:
        """Take the next frames `[K, n]` and return the samples `[C, n]` that no later segment changes."""
        size, stride = self._settings.segment_frames, self._settings.segment_stride
        self._n_frames += codes.shape[-1]
        self._codes = codes if self._codes is None else torch.cat([self._codes, codes], dim=-1)
        while self._codes.shape[-1] >= size or (last and self._codes.shape[-1]):
            self._segments.append(self._tokenizer.decode_segment(self._codes[:, :size]))
            self._codes = self._codes[:, size:]
        until = self._tokenizer.n_samples(self._n_frames) if last else self._n_frames // size * stride
        if until == self._n_given:
            return torch.zeros(self._tokenizer.channels, 0)
        start = stride if self._n_given else 0
        total = max(i * stride + segment.shape[-1] for i, segment in enumerate(self._segments))
        wav = overlap_add(iter(self._segments), total, stride)[:, start : start + until - self._n_given]
        self._segments, self._n_given = self._segments[-1:], until
        return wav


def level_codes(scale: float, size: int) -> tuple[int, int]:
    """Return the (coarse, fine) codes of a level, each in [0, size)."""
    low, high = LEVEL_DB
    place = (20 * math.log10(max(scale, 1e-8)) - low) / (high - low)
    return divmod(min(max(round(place * size**2), 0), size**2 - 1), size)


def level_of(coarse: int, fine: int | None, size: int) -> float:
    """Return the level that codes stand for; without the fine code, the middle of the coarse step."""
    low, high = LEVEL_DB
    place = (coarse * size + (size / 2 if fine is None else fine)) / size**2
    return 10 ** ((low + place * (high - low)) / 20)


def overlap_add(segments: Iterator[Tensor], total: int, stride: int) -> Tensor:
    """Join segments `[C, n]` that start `stride` apart into `[C, total]`, weighted by a triangle as long as the first.

    The sums are those of `encodec.utils._linear_overlap_add`, which fails where the last segment ends within the one
    before.
    """
    first = next(segments)
    t = torch.linspace(0, 1, first.shape[-1] + 2, device=first.device, dtype=first.dtype)[1:-1]
    triangle = 0.5 - (t - 0.5).abs()
    out, weights = first.new_zeros(first.shape[0], total), first.new_zeros(total)
    for i, segment in enumerate(itertools.chain([first], segments)):
        place = slice(i * stride, i * stride + segment.shape[-1])
        out[:, place] += triangle[: segment.shape[-1]] * segment
        weights[place] += triangle[: segment.shape[-1]]
    return out / weights


def build(settings: EncodecSettings) -> Any:
    """Return the network with weights drawn from the card's seed.

    Raises:
        MissingDependencyError: If the package cannot be imported.
    """
    encodec = import_encodec()
    from encodec.modules.seanet import SEANetDecoder, SEANetEncoder
    from encodec.quantization.vq import ResidualVectorQuantizer

    sizes = settings.model
    shared: dict[str, Any] = {
        "channels": settings.channels,
        "dimension": sizes.dimension,
        "n_filters": sizes.n_filters,
        "n_residual_layers": sizes.n_residual_layers,
        "ratios": list(sizes.ratios),
        "lstm": sizes.lstm,
        "causal": sizes.causal,
        "norm": sizes.norm,
    }
    with quiet_build(settings.seed):
        encoder, decoder = SEANetEncoder(**shared), SEANetDecoder(**shared)
        quantizer = ResidualVectorQuantizer(dimension=sizes.dimension, n_q=sizes.n_codebooks, bins=sizes.codebook_size)
        model = encodec.EncodecModel(
            encoder,
            decoder,
            quantizer,
            target_bandwidths=[],
            sample_rate=settings.sample_rate_hz,
            channels=settings.channels,
            normalize=sizes.normalize,
            segment=sizes.segment_seconds,
        ).eval()
        if settings.weights == "random":
            draw_codebooks(model)
    return model


@torch.no_grad()
def draw_codebooks(model: Any) -> None:
    """Fill the codebooks, which the package leaves at zero until training, with vectors of the size they will code."""
    noise = 0.1 * torch.randn(1, model.channels, model.sample_rate // 4)
    residual = model.encoder(noise)
    for layer in model.quantizer.vq.layers:
        codebook = layer._codebook
        spread = residual.std(dim=(0, 2))
        codebook.embed.copy_(residual.mean(dim=(0, 2)) + spread * torch.randn_like(codebook.embed))
        codebook.embed_avg.copy_(codebook.embed)
        codebook.inited.fill_(1)
        residual = residual - layer.decode(layer.encode(residual))


def import_encodec() -> Any:
    """Import `encodec`, only where an EnCodec is really used."""
    try:
        import encodec
    except ImportError as error:
        raise missing_package("encodec", error) from error
    return encodec


def official_weights(settings: EncodecSettings) -> dict[str, Tensor]:
    """Return the published weights through the package's own loader, which downloads them if they are not there.

    Raises:
        MissingWeightsError: If they are absent and cannot be downloaded.
    """
    import_encodec()
    from encodec.model import ROOT_URL, EncodecModel

    name, load = {
        "24khz": ("encodec_24khz-d7cc33bc.th", EncodecModel.encodec_model_24khz),
        "48khz": ("encodec_48khz-7e698e3e.th", EncodecModel.encodec_model_48khz),
    }[str(settings.release)]
    file = Path(torch.hub.get_dir()) / "checkpoints" / name
    check_download_allowed(settings.name, file, ROOT_URL + name)
    try:
        with quiet_build(), contextlib.redirect_stdout(sys.stderr):  # torch.hub announces downloads on stdout
            return load(pretrained=True).state_dict()
    except OSError as error:
        raise missing_official(settings.name, file, ROOT_URL + name, error) from error
