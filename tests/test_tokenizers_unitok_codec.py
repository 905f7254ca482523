"""unitok's own codec behind the tokenizer protocol."""

from pathlib import Path

import pytest
import torch

from unitok.errors import AudioFormatError, CardError, MissingWeightsError, TokenizerError
from unitok.model.codec import CodecConfig, NeuralCodec
from unitok.tokenizers import AudioTokenizer, load_audio_tokenizer, save_tokenizer
from unitok.tokenizers import unitok_codec as module
from unitok.tokenizers.unitok_codec import UnitokCodecTokenizer

TINY = CodecConfig(
    sample_rate_hz=8000, hop=20, frame_stride=2, window=80, encoder_dim=16, encoder_layers=3, decoder_dim=24,
    decoder_layers=4, n_codebooks=3, codebook_size=11, code_dim=5,
)  # fmt: skip


@pytest.fixture
def tokenizer(tmp_path: Path) -> UnitokCodecTokenizer:
    torch.manual_seed(0)
    codec = NeuralCodec(TINY)
    codec(torch.randn(4, 8000) * 0.1)
    save_tokenizer(UnitokCodecTokenizer(codec, "tiny"), tmp_path / "tiny")  # what is stored is rounded to float16
    return UnitokCodecTokenizer.load(tmp_path / "tiny")


def test_it_satisfies_the_protocol(tokenizer: UnitokCodecTokenizer) -> None:
    assert isinstance(tokenizer, AudioTokenizer)
    assert (tokenizer.sample_rate_hz, tokenizer.frame_rate_hz, tokenizer.n_codebooks) == (8000, 200.0, 3)


def test_codes_are_those_of_the_codec(tokenizer: UnitokCodecTokenizer) -> None:
    wav = torch.randn(1, 1, 405) * 0.1
    encoded = tokenizer.encode(wav, 8000)
    assert torch.equal(encoded.codes, tokenizer.model.encode(wav[:, 0]))
    assert encoded.lengths.tolist() == [11]
    expected = tokenizer.model.decode(encoded.codes).clamp(-1, 1)
    torch.testing.assert_close(tokenizer.decode(encoded.codes)[:, 0], expected)


def test_a_padded_batch_gives_each_row_what_it_gives_alone(tokenizer: UnitokCodecTokenizer) -> None:
    wav, lengths = torch.randn(4, 1, 1200) * 0.1, torch.tensor([1200, 333, 801, 340])
    encoded = tokenizer.encode(wav, 8000, lengths)
    decoded = tokenizer.decode(encoded.codes, encoded.lengths)
    for i, n in enumerate(lengths.tolist()):
        alone = tokenizer.encode(wav[i : i + 1, :, :n], 8000)
        T = int(alone.lengths[0])
        assert int(encoded.lengths[i]) == T == -(-n // 40)
        assert torch.equal(encoded.codes[i, :, :T], alone.codes[0])
        assert not encoded.codes[i, :, T:].any()
        torch.testing.assert_close(decoded[i, :, : T * 40], tokenizer.decode(alone.codes)[0])
        assert not decoded[i, :, T * 40 :].any()


def test_chunks_give_what_one_pass_gives(tokenizer: UnitokCodecTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    wav = torch.randn(1, 1, 8000) * 0.1
    whole = tokenizer.encode(wav, 8000).codes
    audio = tokenizer.decode(whole)
    monkeypatch.setattr(module, "CHUNK_SECONDS", 0.2)
    assert torch.equal(tokenizer.encode(wav, 8000).codes, whole)
    torch.testing.assert_close(tokenizer.decode(whole), audio, rtol=1e-4, atol=1e-5)


def test_other_rates_and_channels_are_converted(tokenizer: UnitokCodecTokenizer) -> None:
    assert tokenizer.encode(torch.randn(2, 2, 1600) * 0.1, 16000).codes.shape == (2, 3, 20)


def test_fewer_codebooks_are_the_first_ones(tokenizer: UnitokCodecTokenizer) -> None:
    wav = torch.randn(1, 1, 400) * 0.1
    whole = tokenizer.encode(wav, 8000).codes
    tokenizer.set_codebooks(2)
    assert torch.equal(tokenizer.encode(wav, 8000).codes, whole[:, :2])
    assert tokenizer.decode(whole[:, :2]).shape == (1, 1, 400)


def test_a_latent_is_the_sum_of_the_vectors_of_its_codes(tokenizer: UnitokCodecTokenizer) -> None:
    codes = torch.randint(tokenizer.codebook_size, (tokenizer.n_codebooks, 7))
    summed = sum(codebook[row] for codebook, row in zip(tokenizer.codebook_vectors(), codes, strict=True))
    latents = tokenizer.model.quantizer.decode(codes[None])[0]
    torch.testing.assert_close(summed, latents if latents.shape == summed.shape else latents.T)


def test_a_better_decoder_keeps_the_fingerprint_and_another_encoder_does_not(tokenizer: UnitokCodecTokenizer) -> None:
    before = tokenizer.fingerprint
    torch.nn.init.normal_(tokenizer.model.decoder.head.weight)
    assert UnitokCodecTokenizer(tokenizer.model, "tiny").fingerprint == before
    torch.nn.init.normal_(tokenizer.model.encoder.head.weight)
    assert UnitokCodecTokenizer(tokenizer.model, "tiny").fingerprint != before


def test_changed_weights_are_refused_at_loading(tokenizer: UnitokCodecTokenizer, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path / "a")
    torch.nn.init.normal_(tokenizer.model.encoder.head.weight)
    save_tokenizer(UnitokCodecTokenizer(tokenizer.model, "tiny"), tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").replace(tmp_path / "a" / "model.safetensors")
    with pytest.raises(TokenizerError, match="fingerprint"):
        load_audio_tokenizer(tmp_path / "a")


def test_missing_weights_are_named(tokenizer: UnitokCodecTokenizer, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path / "a")
    (tmp_path / "a" / "model.safetensors").unlink()
    with pytest.raises(MissingWeightsError, match=r"model\.safetensors.*Put it there"):
        load_audio_tokenizer(tmp_path / "a")


def test_a_card_without_sizes_is_refused() -> None:
    with pytest.raises(CardError, match="is no card of a unitok codec"):
        UnitokCodecTokenizer.from_card({"name": "x", "kind": "unitok", "weights": "w"}, None)


@pytest.mark.parametrize(
    ("wav", "message"),
    [
        (torch.zeros(1, 400), r"\[1, 400\]"),
        (torch.zeros(1, 1, 0), "a length from 1 to N"),
        (torch.zeros(1, 1, 9, dtype=torch.int16), "int16"),
    ],
)
def test_audio_of_a_wrong_form_is_refused(tokenizer: UnitokCodecTokenizer, wav: torch.Tensor, message: str) -> None:
    with pytest.raises(AudioFormatError, match=message):
        tokenizer.encode(wav, 8000)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.full((1, 3, 2), 11), r"codes lie in \[11, 11\], a codebook of .tiny. holds 0 to 10"),
        (torch.zeros(1, 4, 2, dtype=torch.int64), "decodes 1 to 3"),
    ],
)
def test_codes_of_a_wrong_form_are_refused(tokenizer: UnitokCodecTokenizer, codes: torch.Tensor, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        tokenizer.decode(codes)


def test_a_loaded_codec_goes_on_learning_from_its_codes(tokenizer: UnitokCodecTokenizer) -> None:
    codebook = tokenizer.model.quantizer.codebooks[0]
    before = codebook.vectors.clone()
    tokenizer.model.train()(torch.randn(4, 8000) * 0.1)
    moved = (codebook.vectors - before).norm(dim=-1) / before.norm(dim=-1)
    assert float(moved.max()) > 0
    assert float(moved.median()) < 0.5


def test_a_decoder_in_8_bits_takes_half_the_space_and_codes_stay(tokenizer: UnitokCodecTokenizer, tmp_path) -> None:
    small = UnitokCodecTokenizer(tokenizer.model, "tiny", decoder_bits=8)
    folders = [save_tokenizer(one, tmp_path / name) for one, name in ((tokenizer, "a"), (small, "b"))]
    loaded = UnitokCodecTokenizer.load(folders[1])
    assert (loaded.decoder_bits, loaded.fingerprint) == (8, tokenizer.fingerprint)
    wav = torch.randn(1, 1, 4000) * 0.1
    codes = tokenizer.encode(wav, 8000).codes
    assert torch.equal(loaded.encode(wav, 8000).codes, codes)
    after = loaded.decode(codes)
    assert not torch.equal(tokenizer.decode(codes), after)
    stored = loaded.model.state_dict()
    for name, weight in tokenizer.model.state_dict().items():
        off = (weight - stored[name]).abs()
        if name.startswith("decoder.") and weight.ndim > 1:
            steps = weight.abs().flatten(1).amax(dim=1) / 127
            assert (off.flatten(1).amax(dim=1) <= 0.501 * steps + 1e-7).all()
        else:
            assert not off.any()
    again = UnitokCodecTokenizer.load(save_tokenizer(loaded, tmp_path / "c"))
    torch.testing.assert_close(again.decode(codes), after, rtol=1e-4, atol=1e-6)
    n_matrices = sum(w.numel() for w in tokenizer.model.decoder.state_dict().values() if w.ndim > 1)
    saved = [(folder / "model.safetensors").stat().st_size for folder in folders]
    assert saved[0] - saved[1] > n_matrices / 2
    with pytest.raises(TokenizerError, match="decoder_bits is 4, allowed: 8 or 16"):
        UnitokCodecTokenizer(tokenizer.model, "tiny", decoder_bits=4)
