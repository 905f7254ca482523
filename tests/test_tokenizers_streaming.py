"""Decoding as codes come: pieces together are what one pass gives, and no more has to be waited for than said."""

import pytest
import torch
from test_tokenizers_codecs import DAC, ENCODEC, SEGMENTED, make
from test_tokenizers_unitok_codec import TINY

from unitok.errors import TokenizerError
from unitok.model.codec import CodecConfig, NeuralCodec
from unitok.testing import ToyAudioTokenizer
from unitok.tokenizers.codec import CodecTokenizer
from unitok.tokenizers.settings import StereoSettings
from unitok.tokenizers.stereo import StereoTokenizer
from unitok.tokenizers.unitok_codec import UnitokCodecTokenizer


def unitok_codec(**changes) -> UnitokCodecTokenizer:
    torch.manual_seed(0)
    codec = NeuralCodec(CodecConfig(**{**TINY.to_dict(), **changes}))
    codec(torch.randn(4, 8000) * 0.1)
    return UnitokCodecTokenizer(codec, "tiny")


def transformers_codec(name, folder) -> CodecTokenizer:
    pytest.importorskip("transformers")
    from test_tokenizers_transformers import write

    from unitok.tokenizers import load_audio_tokenizer

    write(name, folder)
    tokenizer = load_audio_tokenizer(folder)
    assert isinstance(tokenizer, CodecTokenizer)
    return tokenizer


def snac() -> CodecTokenizer:
    pytest.importorskip("snac")
    from test_tokenizers_snac import make as make_snac

    return make_snac()


EXACT = {
    "toy": lambda _: ToyAudioTokenizer(),
    "unitok, phases predicted": lambda _: unitok_codec(phases="predicted"),
    "unitok, phases integrated": lambda _: unitok_codec(phases="integrated"),
    "unitok, stride 1": lambda _: unitok_codec(phases="predicted", frame_stride=1, window=82),
    "dac": lambda _: make(DAC),
    "encodec": lambda _: make(ENCODEC),
    "encodec, not causal": lambda _: make(ENCODEC, model={**ENCODEC["model"], "causal": False}),
    "encodec, segments": lambda _: make(SEGMENTED),
    "stereo": lambda _: StereoTokenizer(make(ENCODEC), StereoSettings(name="two", codec="encodec")),
    "mimi": lambda folder: transformers_codec("mimi", folder),
    "encodec of transformers": lambda folder: transformers_codec("encodec_24khz", folder),
    "encodec of transformers at 32 kHz": lambda folder: transformers_codec("encodec_32khz", folder),
    "dac of transformers": lambda folder: transformers_codec("dac", folder),
    "xcodec": lambda folder: transformers_codec("xcodec", folder),
}
FADED = {"snac": lambda _: snac(), "xcodec2": lambda folder: transformers_codec("xcodec2", folder)}
TOLERANCE = {"unitok, phases integrated": 1e-2}
"""Of the size of the audio, 1e-5 where nothing else is said: sums over windows of other lengths are rounded
differently, and integrated phases carry each difference on (random codes are the worst case)."""


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    """Return a function that makes each codec once."""
    made = {}

    def get(name: str) -> CodecTokenizer:
        if name not in made:
            made[name] = {**EXACT, **FADED}[name](tmp_path_factory.mktemp("codec"))
        return made[name]

    return get


def random_codes(tokenizer: CodecTokenizer, n_frames: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(tokenizer.codebook_size, (tokenizer.n_codebooks, n_frames), generator=generator)


def pushed(stream, codes: torch.Tensor, sizes) -> list[torch.Tensor]:
    """Return the pieces that come out when frames go in `sizes` at a time, in turn."""
    made, start, turn = [], 0, 0
    while start < codes.shape[1]:
        n = sizes[turn % len(sizes)]
        made.append(stream.push(codes[:, start : start + n], last=start + n >= codes.shape[1]))
        start, turn = start + n, turn + 1
    return [piece for piece in made if piece.shape[-1]]


@pytest.mark.parametrize("name", EXACT)
def test_pieces_are_what_one_pass_gives(name, codec):
    tokenizer = codec(name)
    stream = tokenizer.decoder_stream()
    codes = random_codes(tokenizer, 3 * stream.look_ahead + 40)
    whole = tokenizer.decode(codes[None])[0]
    assert stream.exact
    made = pushed(stream, codes, sizes=(3, 1, 7))
    assert len(made) > 2
    joined = torch.cat(made, dim=-1)
    assert joined.shape == whole.shape
    assert (joined - whole).abs().max() <= TOLERANCE.get(name, 1e-5) * whole.abs().max()
    assert whole.abs().max() > 0
    at_once = pushed(tokenizer.decoder_stream(), codes, sizes=(codes.shape[1],))
    assert len(at_once) == 1
    assert torch.equal(at_once[0], whole)


@pytest.mark.parametrize("name", EXACT)
def test_a_frame_comes_out_as_soon_as_its_look_ahead_is_known(name, codec):
    tokenizer = codec(name)
    stream = tokenizer.decoder_stream()
    codes = random_codes(tokenizer, stream.look_ahead + 1)
    assert not stream.push(codes[:, :-1]).shape[-1]
    first = stream.push(codes[:, -1:])
    assert first.shape[-1]
    assert first.shape[0] == tokenizer.channels


@pytest.mark.parametrize("short", [1, 2])
@pytest.mark.parametrize("name", EXACT)
def test_a_few_frames_are_what_one_pass_gives(name, short, codec):
    tokenizer = codec(name)
    codes = random_codes(tokenizer, short)
    stream = tokenizer.decoder_stream()
    made = [stream.push(codes), stream.push(codes[:, :0], last=True)]
    whole = tokenizer.decode(codes[None])[0]
    joined = torch.cat([whole[:, :0], *(piece for piece in made if piece.shape[-1])], dim=-1)
    torch.testing.assert_close(joined, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("phases", ["predicted", "integrated"])
def test_the_reach_of_unitok_s_decoder_is_what_a_changed_code_shows(phases):
    tokenizer = unitok_codec(phases=phases)
    spectrum, overlap = tokenizer.model.config.decoder_reaches
    codes = random_codes(tokenizer, 61)
    changed = codes.clone()
    changed[:, 30] = (changed[:, 30] + 1) % tokenizer.codebook_size
    differs = (tokenizer.decode(codes[None]) != tokenizer.decode(changed[None]))[0, 0].unflatten(0, (61, -1)).any(-1)
    first, last = differs.nonzero()[[0, -1], 0].tolist()
    assert 30 - spectrum - overlap <= first <= 30 - spectrum  # the ends of a window weigh next to nothing
    assert last <= 30 + spectrum + overlap or phases == "integrated"  # which carries on


@pytest.mark.parametrize("name", FADED)
def test_a_decoder_that_sees_everything_is_faded_and_says_so(name, codec):
    tokenizer = codec(name)
    stream = tokenizer.decoder_stream()
    assert not stream.exact
    codes = random_codes(tokenizer, 3 * stream.look_ahead)
    whole = tokenizer.decode(codes[None])[0]
    joined = torch.cat(pushed(stream, codes, sizes=(5,)), dim=-1)
    assert joined.shape == whole.shape
    error = float((joined - whole).norm() / whole.norm())
    assert 0 < error < 0.5


def test_less_look_ahead_comes_sooner_and_less_exactly():
    tokenizer = unitok_codec(phases="predicted")
    codes = random_codes(tokenizer, 80)
    whole, errors = tokenizer.decode(codes[None])[0], []
    needed = tokenizer.decoder_stream().look_ahead
    for look_ahead in (1, needed // 2, needed):
        stream = tokenizer.decoder_stream(look_ahead)
        assert (stream.look_ahead, stream.exact) == (look_ahead, look_ahead == needed)
        joined = torch.cat(pushed(stream, codes, sizes=(4,)), dim=-1)
        errors.append(float((joined - whole).norm() / whole.norm()))
    assert errors[0] > errors[1] > 1e-4 > errors[2]


def test_a_negative_look_ahead_is_refused():
    with pytest.raises(TokenizerError, match=r"look_ahead is -1 frames, allowed: 0 or more"):
        ToyAudioTokenizer().decoder_stream(-1)
    with pytest.raises(TokenizerError, match=r"look_ahead is 3 frames\. Leave it out"):
        make(SEGMENTED).decoder_stream(3)
