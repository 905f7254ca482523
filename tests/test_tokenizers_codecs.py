"""EnCodec and DAC: the packages' own codes and audio, batches, pieces, weights. Small networks with random weights."""

import urllib.error
from pathlib import Path

import pytest
import torch

from unitok.errors import AudioFormatError, CardError, MissingWeightsError, TokenizerError
from unitok.tokenizers import EncodedAudio, load_audio_tokenizer, save_tokenizer
from unitok.tokenizers.base import AudioTokenizer, read_tokenizer_card
from unitok.tokenizers.dac import DacTokenizer
from unitok.tokenizers.encodec import EncodecTokenizer, level_codes, level_of

RATE = 8000

DAC = {
    "name": "tiny_dac",
    "kind": "dac",
    "sample_rate_hz": RATE,
    "weights": "random",
    "codebooks": 4,
    "model": {
        "encoder_dim": 4,
        "encoder_rates": [2, 4, 5],
        "decoder_dim": 32,
        "decoder_rates": [5, 4, 2],
        "n_codebooks": 5,
        "codebook_size": 64,
        "codebook_dim": 4,
    },
}
ENCODEC = {
    "name": "tiny_encodec",
    "kind": "encodec",
    "sample_rate_hz": RATE,
    "weights": "random",
    "codebooks": 3,
    "model": {"dimension": 8, "n_filters": 4, "ratios": [4, 2, 2], "n_codebooks": 4, "codebook_size": 64},
}
SEGMENTED = {
    **ENCODEC,
    "name": "tiny_stereo",
    "channels": 2,
    "model": {
        **ENCODEC["model"],
        "codebook_size": 1024,
        "causal": False,
        "norm": "time_group_norm",
        "normalize": True,
        "segment_seconds": 0.5,
    },
}


def noise(*shape, seed=0):
    """Noise whose loudness rises and falls, so that neither codes nor levels are constant."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return 0.2 * x * (1.1 + torch.sin(torch.arange(shape[-1]) / 700))


def make(card, **changes):
    cls = DacTokenizer if card["kind"] == "dac" else EncodecTokenizer
    return cls.from_card({**card, **changes})


@pytest.fixture(params=[DAC, ENCODEC, SEGMENTED], ids=lambda card: card["name"])
def tokenizer(request):
    return make(request.param)


# --- the packages' own codes and audio -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 39, 40, 8013])
@torch.no_grad()
def test_dac_is_the_package_bit_for_bit(n):
    tokenizer, wav = make(DAC), noise(1, 1, n)
    dac = tokenizer.model
    codes = dac.encode(dac.preprocess(wav, RATE), 4)[1]
    encoded = tokenizer.encode(wav, RATE)
    assert torch.equal(encoded.codes, codes)
    assert encoded.lengths.tolist() == [-(-n // 40)]
    expected = dac.decode(dac.quantizer.from_codes(codes)[0])
    decoded = tokenizer.decode(codes)
    assert decoded.shape == (1, 1, codes.shape[-1] * 40)
    assert torch.equal(decoded[..., : expected.shape[-1]], expected)
    assert not decoded[..., expected.shape[-1] :].any()
    if n > 8000:
        assert all(len(codes[0, k].unique()) > 10 for k in range(4)), "codes that hardly vary prove nothing"


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("n", [1, 15, 16, 8013])
@torch.no_grad()
def test_encodec_is_the_package_bit_for_bit(n, causal):
    tokenizer, wav = make(ENCODEC, model={**ENCODEC["model"], "causal": causal}), noise(1, 1, n)
    package = tokenizer.model
    package.bandwidth = 3 * 6 * RATE / 16 / 1000  # 3 codebooks of 6 bits
    ((codes, scale),) = package.encode(wav)
    encoded = tokenizer.encode(wav, RATE)
    assert torch.equal(encoded.codes, codes)
    assert encoded.lengths.tolist() == [-(-n // 16)]
    assert torch.equal(tokenizer.decode(codes), package.decode([(codes, scale)]))
    if n > 8000:
        assert all(len(codes[0, k].unique()) > 10 for k in range(3)), "codes that hardly vary prove nothing"


# 0.5 s segments of 4000 samples, 3960 apart: short, whole, with and without a rest within the overlap of 40 samples.
@pytest.mark.parametrize("n", [1, 100, 3960, 3961, 4000, 4001, 4017, 7961, 9000, 11900, 11921])
@torch.no_grad()
def test_segmented_encodec_is_the_package_with_levels_in_the_codes(n):
    tokenizer, wav = make(SEGMENTED), noise(1, 2, n)
    package = tokenizer.model
    package.bandwidth = 3 * 10 * RATE / 16 / 1000
    segments = package.encode(wav)
    segments = segments[:1] + segments[1:][: (n - 41) // 3960]  # without a last one inside the overlap of 40 samples
    codes = tokenizer.encode(wav, RATE).codes
    assert codes.shape[-1] == tokenizer.n_frames(n)
    pieces = codes.split(251, dim=-1)
    assert len(pieces) == len(segments)
    stored = []
    for piece, (expected, scale) in zip(pieces, segments, strict=True):
        assert torch.equal(piece[..., 1:], expected)
        level = level_of(int(piece[0, 0, 0]), int(piece[0, 1, 0]), 1024)
        assert level == pytest.approx(float(scale), rel=1e-5)
        stored.append((expected, torch.tensor([[level]])))
    decoded = tokenizer.decode(codes)
    assert decoded.shape[-1] == tokenizer.n_samples(codes.shape[-1]) >= n
    assert torch.equal(decoded, package.decode(stored))


def test_segmented_encodec_survives_an_end_that_the_package_does_not():
    tokenizer, wav = make(SEGMENTED), noise(1, 2, 3990)  # the package codes the last 30 samples twice
    with pytest.raises(RuntimeError, match="size of tensor"), torch.no_grad():
        tokenizer.model.decode(tokenizer.model.encode(wav))
    encoded = tokenizer.encode(wav, RATE)
    assert encoded.codes.shape[-1] == tokenizer.n_frames(3990) == 251
    assert tokenizer.decode(encoded.codes).shape == (1, 2, 4000)


def test_segmented_encodec_keeps_loudness():
    tokenizer, wav = make(SEGMENTED), noise(1, 2, 8000)
    loud, quiet = (tokenizer.decode(tokenizer.encode(wav * gain, RATE).codes) for gain in (1.0, 0.01))
    assert torch.allclose(quiet, loud * 0.01, atol=1e-6)
    assert loud.abs().max() > 0.05


@pytest.mark.parametrize("frames", [1, 2, 251, 252, 253, 502])
def test_segmented_encodec_decodes_any_number_of_frames(frames):
    tokenizer = make(SEGMENTED)
    codes = torch.randint(0, 1024, (1, 3, frames), generator=torch.Generator().manual_seed(1))
    codes[:, 0] = 700  # a level of about -43 dB wherever a level frame is
    wav = tokenizer.decode(codes)
    assert wav.shape == (1, 2, tokenizer.n_samples(frames))
    assert torch.isfinite(wav).all()


def test_levels_survive_their_codes():
    for decibel in (-160, -90.3, -23.45, 0, 11.9):
        scale = 10 ** (decibel / 20)
        coarse, fine = level_codes(scale, 1024)
        assert 0 <= min(coarse, fine) <= max(coarse, fine) < 1024
        assert level_of(coarse, fine, 1024) == pytest.approx(scale, rel=1e-5)
        assert level_of(coarse, None, 1024) == pytest.approx(scale, rel=1e-2)
    assert level_codes(1e9, 1024) == (1023, 1023)
    assert level_codes(0.0, 1024) == (0, 0)


# --- batches, pieces, formats ----------------------------------------------------------------------------------------


def test_a_padded_batch_gives_each_row_the_codes_it_gets_alone(tokenizer):
    lengths = [4501, 7333, 100]
    rows = [noise(1, tokenizer.channels, n, seed=n) for n in lengths]
    wav = torch.full((3, tokenizer.channels, 7333), 0.7)  # what lies after a row's end is not looked at
    for target, row in zip(wav, rows, strict=True):
        target[:, : row.shape[-1]] = row[0]
    batch = tokenizer.encode(wav, RATE, lengths=torch.tensor(lengths))
    alone = [tokenizer.encode(row, RATE) for row in rows]
    assert isinstance(batch, EncodedAudio)
    assert batch.lengths.tolist() == [int(one.lengths) for one in alone]
    decoded = tokenizer.decode(batch.codes, batch.lengths)
    for i, one in enumerate(alone):
        n = int(one.lengths)
        assert torch.equal(batch.codes[i, :, :n], one.codes[0])
        assert not batch.codes[i, :, n:].any()
        audio = tokenizer.decode(one.codes)[0]
        assert torch.equal(decoded[i, :, : audio.shape[-1]], audio)
        assert not decoded[i, :, audio.shape[-1] :].any()


def test_dac_in_pieces_equals_one_pass():
    whole, pieces = make(DAC), make(DAC, chunk_seconds=0.2)
    wav = noise(1, 1, 3 * RATE + 13)
    codes = whole.encode(wav, RATE).codes
    assert torch.equal(pieces.encode(wav, RATE).codes, codes)
    assert torch.allclose(pieces.decode(codes), whole.decode(codes), atol=1e-6)


def test_dac_context_is_no_larger_than_it_must_be():
    pieces = make(DAC, chunk_seconds=0.2)
    wav = noise(1, 1, 3 * RATE)
    codes = pieces.encode(wav, RATE).codes
    pieces.encoder_reach = type(pieces.encoder_reach)(5, 5)
    assert not torch.equal(pieces.encode(wav, RATE).codes, codes)


@pytest.mark.parametrize("causal", [True, False])
def test_encodec_in_pieces_equals_one_pass(causal):
    """In float64, where the rounding of sums cannot flip a code: the LSTM's state loses nothing at a border."""
    model = {**ENCODEC["model"], "causal": causal}
    whole, pieces = make(ENCODEC, model=model), make(ENCODEC, model=model, chunk_seconds=0.1)
    wav = noise(1, 3 * RATE + 13).double()
    with torch.no_grad():
        latents = [
            tokenizer._encoder.chain((16, 1, 1), lambda piece: piece).run(wav, tokenizer._chunk_frames)
            for tokenizer in (whole, pieces)
            if tokenizer.model.double()
        ]
    assert torch.allclose(*latents, atol=1e-14, rtol=0)
    assert latents[0].std() > 1e-3
    whole, pieces = make(ENCODEC, model=model), make(ENCODEC, model=model, chunk_seconds=0.1)
    codes = whole.encode(wav[None].float(), RATE).codes
    assert (pieces.encode(wav[None].float(), RATE).codes != codes).float().mean() < 0.005
    assert torch.allclose(pieces.decode(codes), whole.decode(codes), atol=1e-6)


@pytest.mark.parametrize("card", [DAC, ENCODEC], ids=lambda card: card["name"])
def test_pieces_bound_what_the_network_sees(card):
    tokenizer = make(card, chunk_seconds=0.2)
    sizes = []
    first = next(m for m in tokenizer.model.encoder.modules() if isinstance(m, torch.nn.Conv1d))
    first.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].shape[-1]))
    for seconds in (2, 8):
        sizes.clear()
        tokenizer.encode(noise(1, 1, seconds * RATE), RATE)
        assert len(sizes) >= seconds * 4
        assert max(sizes) < 0.5 * RATE


def test_pieces_bound_what_the_quantiser_sees(monkeypatch):
    """Its distances to all codes would otherwise be the largest tensor of all."""
    tokenizer = make(ENCODEC, chunk_seconds=0.2)
    encode, frames = tokenizer.model.quantizer.vq.encode, []

    def counted(latents, n_q):
        frames.append(latents.shape[-1])
        return encode(latents, n_q=n_q)

    monkeypatch.setattr(tokenizer.model.quantizer.vq, "encode", counted)
    tokenizer.encode(noise(1, 1, 4 * RATE), RATE)
    assert sum(frames) >= 4 * RATE / 16
    assert max(frames) < 0.5 * RATE / 16


def test_other_rates_and_channels_are_converted():
    from torchaudio.functional import resample

    stereo = noise(1, 2, 11025)
    mono = make(DAC)
    converted = resample(stereo.mean(1, keepdim=True), 11025, RATE)
    assert torch.equal(mono.encode(stereo, 11025).codes, mono.encode(converted, RATE).codes)
    two = make(SEGMENTED)
    single = noise(1, 1, 4000)
    assert torch.equal(two.encode(single, RATE).codes, two.encode(single.expand(1, 2, -1), RATE).codes)
    surround = noise(1, 3, 4000)
    assert torch.equal(two.encode(surround, RATE).codes, two.encode(surround.mean(1, keepdim=True), RATE).codes)


def test_rates_describe_the_codes(tokenizer):
    assert isinstance(tokenizer, AudioTokenizer)
    seconds = 3.96  # eight strides of the segmented codec
    wav = noise(1, tokenizer.channels, int(seconds * RATE))
    frames = int(tokenizer.encode(wav, RATE).lengths)
    assert frames == pytest.approx(seconds * tokenizer.frame_rate_hz, abs=3)
    assert tokenizer.n_frames(wav.shape[-1]) == frames


def test_fewer_codebooks_are_the_first_ones(tokenizer):
    wav = noise(1, tokenizer.channels, 4000)
    codes, fingerprint = tokenizer.encode(wav, RATE).codes, tokenizer.fingerprint
    tokenizer.set_codebooks(2)
    assert tokenizer.n_codebooks == 2
    assert torch.equal(tokenizer.encode(wav, RATE).codes, codes[:, :2])
    assert tokenizer.fingerprint == fingerprint
    assert tokenizer.decode(codes[:, :1]).shape == tokenizer.decode(codes).shape
    with pytest.raises(TokenizerError, match=r"codebooks are 9, allowed: 1 to [45] for tokenizer 'tiny_"):
        tokenizer.set_codebooks(9)


@torch.no_grad()
def test_a_latent_is_the_sum_of_the_vectors_of_its_codes(tokenizer):
    tokenizer.set_codebooks(3)
    codes = torch.randint(tokenizer.codebook_size, (3, 7))
    if isinstance(tokenizer, DacTokenizer):
        latents = tokenizer._dac.quantizer.from_codes(codes[None])[0][0]
    else:
        latents = tokenizer._dequantize(codes)
    vectors = tokenizer.codebook_vectors()
    assert [len(codebook) for codebook in vectors] == [tokenizer.codebook_size] * 3
    summed = sum(codebook[row] for codebook, row in zip(vectors, codes, strict=True))
    # A bias of each level of DAC is part of its vectors.
    torch.testing.assert_close(summed.T, latents)


def test_no_gradient_is_kept_and_codes_can_index(tokenizer):
    encoded = tokenizer.encode(noise(1, tokenizer.channels, 800), RATE)
    assert encoded.codes.dtype == torch.int64
    assert not tokenizer.decode(encoded.codes).requires_grad
    table = torch.nn.Embedding(tokenizer.codebook_size, 2)
    table(encoded.codes).sum().backward()  # tensors made in inference mode could not be saved for this
    assert table.weight.grad is not None


@pytest.mark.parametrize(
    ("wav", "lengths", "message"),
    [
        (torch.zeros(1, 800), None, r"wav is \[1, 800\] torch.float32, allowed: a floating-point tensor \[B, C, N\]"),
        (torch.zeros(1, 1, 800, dtype=torch.int16), None, "torch.int16, allowed: a floating-point"),
        (torch.zeros(1, 1, 0), None, "a length from 1 to N"),
        (torch.zeros(2, 1, 80), [80, 0], r"with lengths \[80, 0\]"),
        (torch.zeros(2, 1, 80), [80], r"with lengths \[80\]"),
        (torch.full((1, 1, 80), torch.nan), None, "row 0 of wav holds samples that are NaN"),
    ],
)
def test_wrong_audio_is_refused(wav, lengths, message):
    with pytest.raises(AudioFormatError, match=message):
        make(DAC).encode(wav, RATE, lengths)


@pytest.mark.parametrize(
    ("codes", "lengths", "message"),
    [
        (torch.zeros(4, 7, dtype=torch.long), None, r"codes are \[4, 7\] torch.int64, allowed: an integer tensor"),
        (torch.zeros(1, 4, 7), None, "torch.float32, allowed: an integer tensor"),
        (torch.zeros(1, 6, 7, dtype=torch.long), None, r"codes have K=6 codebooks.*Pass codes\[:, :5\]"),
        (torch.full((1, 4, 7), 64), None, r"codes lie in \[64, 64\].*holds 0 to 63.*tokens_to_codes"),
        (torch.full((1, 4, 7), -1), None, r"codes lie in \[-1, -1\]"),
        (torch.zeros(1, 4, 7, dtype=torch.long), [8], r"lengths are \[8\], allowed: 1 numbers from 0 to 7"),
    ],
)
def test_wrong_codes_are_refused(codes, lengths, message):
    with pytest.raises(TokenizerError, match=message):
        make(DAC).decode(codes, lengths)


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("card", [DAC, ENCODEC], ids=lambda card: card["name"])
def test_the_fingerprint_follows_weights_and_sizes_only(card):
    before = torch.random.get_rng_state()
    same, again = make(card), make(card, chunk_seconds=1.0, codebooks=2, description="other words")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert same.fingerprint == again.fingerprint
    assert same.fingerprint.startswith(card["kind"] + "-")
    others = {make(card, seed=1).fingerprint, make(card, sample_rate_hz=16000).fingerprint}
    changed = make(card)
    with torch.no_grad():
        next(changed.model.parameters()).view(-1)[0] += 1e-6
    assert len({same.fingerprint, changed.fingerprint, *others}) == 4


def test_a_saved_tokenizer_comes_back(tokenizer, tmp_path):
    tokenizer.set_codebooks(2)
    folder = save_tokenizer(tokenizer, tmp_path / "audio")
    assert [path.name for path in folder.iterdir()] == ["card.yaml"], "random weights are their seed"
    loaded = load_audio_tokenizer(folder)
    assert (loaded.name, loaded.n_codebooks, loaded.fingerprint) == (tokenizer.name, 2, tokenizer.fingerprint)
    wav = noise(1, tokenizer.channels, 4000)
    assert torch.equal(loaded.encode(wav, RATE).codes, tokenizer.encode(wav, RATE).codes)


@pytest.mark.parametrize("card", [DAC, ENCODEC], ids=lambda card: card["name"])
@pytest.mark.parametrize("nested", [False, True])
def test_weights_from_a_file_travel_with_the_folder(card, nested, tmp_path):
    original = make(card, seed=3)
    state = original.model.state_dict()
    torch.save({"state_dict": state, "metadata": {"kwargs": {"n": [1]}}} if nested else state, tmp_path / "my.pth")
    cls = type(original)
    loaded = cls.from_card({**card, "weights": "my.pth"}, tmp_path)
    assert loaded.fingerprint == original.fingerprint
    folder = save_tokenizer(loaded, tmp_path / "saved")
    assert sorted(path.name for path in folder.iterdir()) == ["card.yaml", "model.safetensors"]
    (tmp_path / "my.pth").unlink()
    folder = folder.rename(tmp_path / "elsewhere")
    assert load_audio_tokenizer(folder).fingerprint == original.fingerprint


def test_a_saved_folder_refuses_other_weights(tmp_path):
    folder = save_tokenizer(make(DAC), tmp_path / "audio")
    card = folder / "card.yaml"
    card.write_text(card.read_text().replace("seed: 0", "seed: 1"))
    with pytest.raises(TokenizerError, match="was saved with fingerprint dac-.*Put the original weights back"):
        load_audio_tokenizer(folder)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    torch.save(make(DAC).model.state_dict(), tmp_path / "my.pth")
    with pytest.raises(TokenizerError, match=r"my.pth' do not fit the network .*Make 'model:' in the card"):
        make(DAC, weights=str(tmp_path / "my.pth"), model={**DAC["model"], "encoder_dim": 8})


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"\x80\x04\x95"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_damaged_weights_are_named(content, suffix, tmp_path):
    file = tmp_path / f"my.{suffix}"
    file.write_bytes(content)
    with pytest.raises(TokenizerError, match=rf"weights file '.*my.{suffix}' cannot be read: .*delete it"):
        make(DAC, weights=str(file))


def test_a_missing_weights_file_is_named(tmp_path):
    with pytest.raises(MissingWeightsError, match=r"no/such.pth' does not exist. Put it there, or set 'weights:'"):
        DacTokenizer.from_card({**DAC, "weights": "no/such.pth"}, tmp_path)


OFFICIAL = {
    "encodec_24khz": "hub/checkpoints/encodec_24khz-d7cc33bc.th",
    "encodec_48khz": "hub/checkpoints/encodec_48khz-7e698e3e.th",
    "dac_16khz": ".cache/descript/dac/weights_16khz_8kbps_0.0.5.pth",
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home without a network."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("UNITOK_OFFLINE", raising=False)

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setattr("requests.get", refuse)
    return tmp_path


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("name", ["encodec_24khz", "encodec_48khz", pytest.param("dac_16khz", marks=pytest.mark.slow)])
def test_missing_official_weights_say_which_file_goes_where(name, offline, home, monkeypatch, capsys):
    if offline:
        monkeypatch.setenv("UNITOK_OFFLINE", "1")
    with pytest.raises(MissingWeightsError) as caught:
        load_audio_tokenizer(name)
    assert capsys.readouterr().out == ""
    message = str(caught.value)
    assert str(home / OFFICIAL[name]) in message
    assert "https://" in message
    assert "set 'weights: FILE'" in message
    assert ("UNITOK_OFFLINE is set" if offline else "no network here") in message


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFICIAL)
def test_full_size_networks_load_from_where_the_packages_keep_them(name, home):
    card = read_tokenizer_card(name)
    original = make(dict(card), weights="random", seed=5)
    file = Path(home / OFFICIAL[name])
    file.parent.mkdir(parents=True)
    state = original.model.state_dict()
    torch.save({"state_dict": state, "metadata": {}} if name.startswith("dac") else state, file)
    loaded = load_audio_tokenizer(name)
    assert loaded.fingerprint == original.fingerprint
    wav = noise(1, loaded.channels, loaded.sample_rate_hz)
    encoded = loaded.encode(wav, loaded.sample_rate_hz)
    assert torch.equal(encoded.codes, original.encode(wav, loaded.sample_rate_hz).codes)
    assert loaded.decode(encoded.codes).shape[-1] >= wav.shape[-1]
    folder = save_tokenizer(loaded, home / "saved")
    assert [path.name for path in folder.iterdir()] == ["card.yaml"], "published weights are not copied"


@pytest.mark.parametrize("card", [DAC, ENCODEC], ids=lambda card: card["name"])
def test_mistakes_of_a_card_come_together(card):
    wrong = {**card, "chunk_seconds": -1, "codebooks": 9, "wieghts": "random"}
    with pytest.raises(CardError) as caught:
        make(wrong)
    message = str(caught.value)
    assert "chunk_seconds: is -1" in message
    assert f"codebooks: is 9, allowed: 1 to {card['model']['n_codebooks']}" in message
    assert "wieghts: unknown key. Did you mean 'weights'?" in message
