"""SNAC: the package's own codes and audio, laid out in frames. A small network with random weights."""

import pytest
import torch

from unitok.errors import CardError, MissingWeightsError, TokenizerError
from unitok.tokenizers import load_audio_tokenizer, save_tokenizer
from unitok.tokenizers.base import AudioTokenizer, read_tokenizer_card
from unitok.tokenizers.settings import SnacSettings

pytest.importorskip("snac")
from unitok.tokenizers.snac import SnacTokenizer  # noqa: E402

RATE, FRAME = 8000, 2 * 4 * 4
MODEL = {"encoder_dim": 4, "encoder_rates": [2, 4], "decoder_dim": 16, "decoder_rates": [4, 2]}
MODEL |= {"codebook_size": 64, "codebook_dim": 4}
CARD = {"name": "tiny_snac", "kind": "snac", "sample_rate_hz": RATE, "weights": "random", "model": MODEL}


def make(**changes):
    return SnacTokenizer.from_card({**CARD, **changes})


def noise(n, seed=0):
    return 0.3 * torch.randn(1, 1, n, generator=torch.Generator().manual_seed(seed))


def test_a_frame_holds_the_codes_of_its_time_coarse_before_fine(monkeypatch):
    tokenizer = make()
    levels = [torch.arange(2)[None], 10 + torch.arange(4)[None], 20 + torch.arange(8)[None]]
    monkeypatch.setattr(tokenizer.model, "encode", lambda wav: levels)
    codes = tokenizer.encode(noise(2 * FRAME), RATE).codes[0]
    assert codes.T.tolist() == [[0, 10, 20, 21, 11, 22, 23], [1, 12, 24, 25, 13, 26, 27]]


def test_codes_are_the_package_s_own():
    tokenizer, wav = make(), noise(5 * FRAME)
    codes = tokenizer.encode(wav, RATE).codes[0]
    with torch.no_grad():
        coarse, middle, fine = (level[0] for level in tokenizer.model.encode(wav))
    assert codes.shape == (7, 5)
    for t in range(5):
        expected = [coarse[t], middle[2 * t], *fine[4 * t : 4 * t + 2], middle[2 * t + 1], *fine[4 * t + 2 : 4 * t + 4]]
        assert codes[:, t].tolist() == [int(code) for code in expected]


def test_audio_is_the_package_s_own_and_always_the_same():
    tokenizer = make()
    assert isinstance(tokenizer, AudioTokenizer)
    codes = torch.randint(64, (1, 7, 3), generator=torch.Generator().manual_seed(1))
    coarse, middle, fine = codes[0, [0]], codes[0, [1, 4]], codes[0, [2, 3, 5, 6]]
    torch.manual_seed(0)  # the decoder adds noise
    with torch.no_grad():
        expected = tokenizer.model.decode([level.T.reshape(1, -1) for level in (coarse, middle, fine)])
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    audio = tokenizer.decode(codes)
    assert audio.shape == (1, 1, 3 * FRAME)
    torch.testing.assert_close(audio, expected)
    assert torch.equal(audio, tokenizer.decode(codes))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_audio_is_padded_to_whole_frames():
    tokenizer = make()
    encoded = tokenizer.encode(noise(2 * FRAME + 1), RATE)
    assert encoded.lengths.tolist() == [3]
    assert tokenizer.frame_rate_hz == RATE / FRAME


def test_all_codes_of_a_frame_are_needed():
    tokenizer = make()
    with pytest.raises(TokenizerError, match="codebooks are 3, tokenizer 'tiny_snac' has 7 codes in a frame"):
        tokenizer.set_codebooks(3)
    with pytest.raises(TokenizerError, match="codes have 3 codebooks, 'tiny_snac' decodes whole frames: 7"):
        tokenizer.decode(torch.zeros(1, 3, 2, dtype=torch.long))


def test_a_saved_folder_is_the_same_tokenizer(tmp_path):
    tokenizer, codes = make(seed=3), torch.randint(64, (1, 7, 3))
    again = load_audio_tokenizer(save_tokenizer(tokenizer, tmp_path / "snac"))
    assert again.fingerprint == tokenizer.fingerprint != make().fingerprint
    assert torch.equal(again.decode(codes), tokenizer.decode(codes))


def test_the_shipped_card_is_the_published_network(monkeypatch):
    settings = SnacSettings.from_card(read_tokenizer_card("snac_24khz"))
    assert (settings.codebooks, settings.frame_rate_hz, settings.codebook_size) == (7, 24000 / 2048, 4096)
    monkeypatch.setenv("UNITOK_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", "/nowhere")
    with pytest.raises(MissingWeightsError, match="tokenizer 'snac_24khz' needs its published weights"):
        load_audio_tokenizer("snac_24khz")


def test_strides_have_to_fit_each_other():
    with pytest.raises(CardError, match=r"vq_strides: is \[4, 3, 1\]: each has to be a multiple of the next"):
        make(model={**MODEL, "vq_strides": [4, 3, 1]})
