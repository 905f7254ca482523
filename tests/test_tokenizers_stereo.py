"""Stereo by way of a mono codec: channels stay apart, codebooks take turns, folders and cards carry the mono codec."""

import pytest
import torch

from unitok.audio import Audio
from unitok.cli.tokenizers import describe
from unitok.errors import CardError, TokenizerError
from unitok.testing import ToyAudioTokenizer
from unitok.tokenizers import load_audio_tokenizer, save_tokenizer
from unitok.tokenizers.base import AudioTokenizer, read_tokenizer_card
from unitok.tokenizers.settings import StereoSettings
from unitok.tokenizers.stereo import StereoTokenizer


@pytest.fixture
def stereo() -> StereoTokenizer:
    return StereoTokenizer(ToyAudioTokenizer(n_codebooks=3), StereoSettings(name="two", codec="toy_audio"))


def codes(n_codebooks: int, n_frames: int = 7, seed: int = 0) -> torch.Tensor:
    return torch.randint(8, (2, n_codebooks, n_frames), generator=torch.Generator().manual_seed(seed))


def test_each_channel_is_coded_alone_and_the_codebooks_take_turns(stereo):
    wav = torch.rand(2, 2, 5000, generator=torch.Generator().manual_seed(1))
    encoded = stereo.encode(wav, 16000, torch.tensor([5000, 3300])).codes
    mono = ToyAudioTokenizer(n_codebooks=3)
    for channel in (0, 1):
        alone = mono.encode(wav[:, channel : channel + 1], 16000, torch.tensor([5000, 3300])).codes
        assert torch.equal(encoded[:, channel::2], alone)
    assert isinstance(stereo, AudioTokenizer)
    assert (stereo.channels, stereo.n_codebooks, stereo.max_codebooks) == (2, 6, 6)


def test_codes_come_back_through_a_stereo_file(stereo, tmp_path):
    row = codes(6)
    wav = stereo.decode(row)
    assert wav.shape == (2, 2, stereo.n_samples(7))
    assert torch.equal(wav[:, 0], ToyAudioTokenizer(n_codebooks=3).decode(row[:, ::2])[:, 0])
    audio = Audio.read(Audio(wav[0], 16000).write(tmp_path / "x.wav"))
    assert torch.equal(stereo.encode(audio.samples[None], 16000).codes[0], row[0])


def test_mono_audio_stands_in_both_channels(stereo):
    encoded = stereo.encode(torch.rand(1, 1, 3200), 16000).codes
    assert torch.equal(encoded[:, ::2], encoded[:, 1::2])


def test_fewer_codebooks_are_the_first_of_each_channel_and_odd_numbers_are_refused(stereo):
    wav = torch.rand(1, 2, 3200)
    whole = stereo.encode(wav, 16000).codes
    before = stereo.fingerprint
    stereo.set_codebooks(4)
    assert torch.equal(stereo.encode(wav, 16000).codes, whole[:, :4])
    assert stereo.fingerprint == before
    assert stereo.decode(whole[:, :4]).shape[1] == 2
    with pytest.raises(TokenizerError, match="codebooks are 3, tokenizer 'two' has as many .*: an even number up to 6"):
        stereo.set_codebooks(3)
    with pytest.raises(TokenizerError, match="codes have 5 codebooks, 'two' decodes pairs of left and right"):
        stereo.decode(codes(5))


def test_the_vectors_of_a_frame_tell_the_channels_apart(stereo):
    vectors = stereo.codebook_vectors()
    mono = stereo.mono.codebook_vectors()
    assert torch.equal(vectors[2], torch.cat([mono[1], torch.zeros_like(mono[1])], dim=1))
    assert torch.equal(vectors[3], torch.cat([torch.zeros_like(mono[1]), mono[1]], dim=1))


def test_a_folder_holds_the_mono_codec_and_loads_to_the_same(stereo, tmp_path):
    stereo.set_codebooks(4)
    again = load_audio_tokenizer(save_tokenizer(stereo, tmp_path / "saved"))
    assert (again.name, again.n_codebooks, again.fingerprint) == ("two", 4, stereo.fingerprint)
    wav = torch.rand(1, 2, 3200)
    assert torch.equal(again.encode(wav, 16000).codes, stereo.encode(wav, 16000).codes)
    assert describe(read_tokenizer_card(tmp_path / "saved"))["codebooks"] == 4
    other = StereoTokenizer(ToyAudioTokenizer(codebook_size=4), StereoSettings(name="two", codec="x"))
    assert other.fingerprint != stereo.fingerprint


def test_cards_say_what_follows_from_the_mono_card():
    facts = describe(read_tokenizer_card("encodec_32khz_stereo"))
    assert (facts["channels"], facts["codebooks"], facts["frame_rate_hz"]) == (2, 8, 50.0)
    toy = load_audio_tokenizer("toy_audio_stereo")
    assert (toy.channels, toy.n_codebooks) == (2, 8)


def test_mistakes_of_a_card_are_said(stereo, tmp_path):
    (tmp_path / "my.yaml").write_text("{name: my, kind: stereo, codebooks: 3}")
    with pytest.raises(CardError, match=r"(?s)codebooks: is 3, allowed: an even number.*codec: missing"):
        load_audio_tokenizer(tmp_path / "my.yaml")
    with pytest.raises(TokenizerError, match="'four' codes each channel with 'two', which is not mono"):
        StereoTokenizer(stereo, StereoSettings(name="four", codec="two"))
