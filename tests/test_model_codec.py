"""The neural codec and its quantiser."""

import pytest
import torch

from unitok.model.codec import CodecConfig, NeuralCodec
from unitok.model.quantizer import ResidualVectorQuantizer

TINY = CodecConfig(
    hop=20, frame_stride=2, window=80, encoder_dim=16, encoder_layers=3, decoder_dim=24, decoder_layers=4,
    n_codebooks=3, codebook_size=11, code_dim=5,
)  # fmt: skip


@pytest.fixture
def codec() -> NeuralCodec:
    torch.manual_seed(0)
    codec = NeuralCodec(TINY)
    codec(torch.randn(4, 4000) * 0.1)  # a training pass places the codebooks
    return codec.eval()


def test_shapes_follow_the_frame_length(codec: NeuralCodec) -> None:
    codes = codec.encode(torch.randn(2, 401))
    assert codes.shape == (2, 3, 11)  # ceil(401 / 40)
    assert codes.min() >= 0
    assert codes.max() < 11
    assert codec.decode(codes).shape == (2, 440)


def test_encode_then_decode_equals_the_forward_pass(codec: NeuralCodec) -> None:
    wav = torch.randn(2, 800) * 0.1
    with torch.no_grad():
        torch.testing.assert_close(codec(wav).decoded, codec.decode_spectrum(codec.encode(wav)), rtol=1e-4, atol=1e-5)


def test_the_first_codebooks_do_not_depend_on_the_later_ones(codec: NeuralCodec) -> None:
    wav = torch.randn(1, 600)
    assert torch.equal(codec.encode(wav, 2), codec.encode(wav)[:, :2])


def test_overlap_add_inverts_the_stft(codec: NeuralCodec) -> None:
    wav = torch.randn(1, 1600)
    config, window = TINY, codec.decoder.window
    pad = config.window - config.hop
    frames = torch.nn.functional.pad(wav, (pad // 2, pad - pad // 2)).unfold(-1, config.window, config.hop)
    back = codec.decoder.overlap_add(torch.fft.rfft(frames * window))
    torch.testing.assert_close(back[:, 80:-80], wav[:, 80:-80], rtol=1e-4, atol=1e-4)


def test_nothing_beyond_the_stated_context_influences_a_frame(codec: NeuralCodec) -> None:
    T, middle, reach = 90, 45, TINY.context_frames
    wav = torch.randn(1, T * TINY.frame_length, requires_grad=True)
    codec.encoder(wav)[0, middle].sum().backward()
    touched = wav.grad[0].reshape(T, -1).abs().sum(-1) > 0
    assert touched[middle - reach : middle + reach + 1].any()
    assert not touched[: middle - reach].any()
    assert not touched[middle + reach + 1 :].any()
    latents = torch.randn(1, T, TINY.code_dim, requires_grad=True)
    codec.decoder(latents)[0].reshape(T, -1)[middle].sum().backward()
    touched = latents.grad[0].abs().sum(-1) > 0
    assert not touched[: middle - reach].any()
    assert not touched[middle + reach + 1 :].any()


def test_a_codec_that_predicts_phases_still_decodes() -> None:
    codec = NeuralCodec(CodecConfig(**{**TINY.to_dict(), "phases": "predicted"})).eval()
    assert codec.decoder.head.out_features == 82
    codes = codec.encode(torch.randn(1, 400))
    assert codec.decode_spectrum(codes).is_complex()
    assert codec.decode(codes).shape == (1, 400)


def test_the_quantiser_gets_closer_with_every_codebook() -> None:
    torch.manual_seed(0)
    quantizer, x = ResidualVectorQuantizer(dim=6, n_codebooks=4, codebook_size=16), torch.randn(3, 200, 6)
    for _ in range(60):
        quantizer(x)
    quantizer.eval()
    errors = [float((quantizer.decode(quantizer.encode(x, k)) - x).square().mean()) for k in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.35 * errors[0]


def test_gradients_pass_straight_through_the_quantiser() -> None:
    quantizer = ResidualVectorQuantizer(dim=6, n_codebooks=2, codebook_size=5)
    x = torch.randn(1, 7, 6, requires_grad=True)
    quantizer(x).vectors.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_unused_codes_are_replaced() -> None:
    torch.manual_seed(0)
    quantizer, x = ResidualVectorQuantizer(dim=2, n_codebooks=1, codebook_size=8), torch.randn(1, 400, 2)
    quantizer(x)
    quantizer.codebooks[0].vectors[:4] = 1e3  # out of reach: nothing will ever be assigned to them
    quantizer.codebooks[0].sums[:4] = 1e3 * quantizer.codebooks[0].counts[:4, None]
    for _ in range(400):
        quantizer(x)
    assert quantizer.codebooks[0].vectors.abs().max() < 10
    assert quantizer(x).codes.unique().numel() == 8


def test_codebooks_stay_put_in_evaluation(codec: NeuralCodec) -> None:
    before = codec.quantizer.codebooks[0].vectors.clone()
    codec(torch.randn(2, 800))
    assert torch.equal(before, codec.quantizer.codebooks[0].vectors)


def test_too_many_codebooks_are_refused(codec: NeuralCodec) -> None:
    with pytest.raises(ValueError, match="n_codebooks=4 is not between 1 and 3"):
        codec.encode(torch.randn(1, 100), 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel_size": 4}, "kernel_size=4 is even"),
        ({"window": 10}, "window=10 is shorter than hop=20"),
        ({"frame_stride": 3}, "frame_stride=3 is not"),
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CodecConfig(**{**TINY.to_dict(), **change})
