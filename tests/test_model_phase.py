"""Phases from magnitudes: what comes out sounds like what went in, though no phase was told."""

import math

import pytest
import torch
from torch import Tensor

from unitok.model.codec import CodecConfig, SpectralDecoder
from unitok.model.phase import integrate_phases

CONFIG = CodecConfig(decoder_dim=8, decoder_layers=2)
WINDOW = torch.hann_window(CONFIG.window)
SECONDS = torch.arange(16000) / CONFIG.sample_rate_hz


def heard_again(wav: Tensor) -> Tensor:
    """Return `wav [B, N]` made from the magnitudes of its STFT alone."""
    magnitudes = CONFIG.magnitudes(wav, WINDOW)
    return SpectralDecoder(CONFIG).synthesize(magnitudes.clamp_min(1e-6).log())


def level_db(wav: Tensor) -> float:
    return 10 * math.log10(float(wav.square().mean()))


def error_db(wav: Tensor, again: Tensor) -> float:
    """Return how far the magnitudes are from those wanted, relative to them."""
    wanted, got = (CONFIG.magnitudes(x, WINDOW) for x in (wav, again))
    return 20 * math.log10(float((got - wanted).norm() / wanted.norm()))


@pytest.mark.parametrize("hz", [100.0, 440.0, 587.3, 3000.5])
def test_a_tone_keeps_its_pitch_and_level(hz):
    tone = 0.5 * torch.sin(2 * math.pi * hz * SECONDS)[None]
    again = heard_again(tone)[:, 2000:-2000]
    spectrum = torch.fft.rfft(again * torch.hann_window(again.shape[-1]), n=160000).abs()
    assert spectrum.argmax() / 10 == pytest.approx(hz, rel=0.004)
    assert level_db(again) == pytest.approx(level_db(tone), abs=0.5)


def test_partials_a_glide_and_noise_keep_their_spectra():
    partials = sum(0.1 * torch.sin(2 * math.pi * 220.7 * k * SECONDS) for k in range(1, 12))
    glide = 0.3 * torch.sin(2 * math.pi * (300 + 700 * SECONDS) * SECONDS)
    noise = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(0))
    for wav, most in ((partials, -20), (glide, -18), (noise, -10)):
        assert error_db(wav[None], heard_again(wav[None])) < most


def test_a_click_stays_where_it_is():
    click = torch.zeros(1, 16000)
    click[0, 5077] = 1.0
    again = heard_again(click)[0].abs()
    assert abs(int(again.argmax()) - 5077) <= 8
    assert again.max() > 0.4


def test_the_past_does_not_depend_on_the_future():
    log_magnitude = torch.randn(1, 30, 41, generator=torch.Generator().manual_seed(0))
    whole, begun = (integrate_phases(log_magnitude[:, :n], hop=20) for n in (30, 20))
    torch.testing.assert_close(begun[:, :19], whole[:, :19])  # the slope over time looks one frame ahead


def test_silence_stays_silent():
    assert heard_again(torch.zeros(1, 3200)).abs().max() < 1e-4
