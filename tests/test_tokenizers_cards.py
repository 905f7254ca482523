"""Cards of tokenizers: the shipped ones, the registry, folders; and the doubles of unitok.testing."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unitok.audio import Audio
from unitok.cards import list_cards
from unitok.cli.tokenizers import describe
from unitok.errors import CardError, TokenizerError
from unitok.testing import ToyAudioTokenizer, ToyTextTokenizer
from unitok.tokenizers import base, load_audio_tokenizer, load_text_tokenizer, register_tokenizer, save_tokenizer
from unitok.tokenizers.base import AudioTokenizer, TextTokenizer, read_tokenizer_card, tokenizer_kinds
from unitok.tokenizers.settings import SETTINGS, EncodecSettings

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = sorted(path.stem for path in (ROOT / "tokenizers").glob("*.yaml"))


def write(folder, text, name="my.yaml"):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_card_is_right(name):
    facts = describe(read_tokenizer_card(name))
    assert facts["name"] == name
    assert facts["description"]
    assert facts["source"]


def test_the_readme_names_every_card_and_file():
    text = (ROOT / "tokenizers" / "README.md").read_text()
    assert text.startswith("Cards live here, code lives in `unitok/tokenizers/`.\n")
    assert [name for name in SHIPPED if f"`{name}`" not in text] == []


@pytest.mark.parametrize(
    ("name", "kbps", "codebooks"),
    [("encodec_24khz", kbps, round(kbps / 0.75)) for kbps in (1.5, 3, 6, 12, 24)]
    + [("encodec_48khz", kbps, round(kbps / 1.5)) for kbps in (3, 6, 12, 24)],
)
def test_encodec_bandwidths_are_codebooks(name, kbps, codebooks):
    card = {**read_tokenizer_card(name), "bandwidth_kbps": kbps}
    assert EncodecSettings.from_card(card).codebooks == codebooks


@pytest.mark.parametrize("kbps", [0, 0.1, 7, 48])
def test_other_bandwidths_are_refused(kbps):
    with pytest.raises(
        CardError, match=r"bandwidth_kbps: is .*allowed: multiples of 0.75 up to 24, such as 0.75, 1.5, 3"
    ):
        EncodecSettings.from_card({**read_tokenizer_card("encodec_24khz"), "bandwidth_kbps": kbps})


def test_bandwidth_and_codebooks_must_agree():
    with pytest.raises(CardError, match="codebooks: disagrees with 'bandwidth_kbps: 6'. Keep one"):
        EncodecSettings.from_card({**read_tokenizer_card("encodec_24khz"), "codebooks": 4})


def test_frame_rates_follow_from_the_sizes():
    rates = {name: describe(read_tokenizer_card(name)).get("frame_rate_hz") for name in SHIPPED}
    assert rates["encodec_24khz"] == rates["dac_24khz"] == 75
    assert rates["encodec_48khz"] == pytest.approx(151 / 0.99, abs=1e-4)
    assert rates["dac_16khz"] == 50
    assert rates["dac_44khz"] == pytest.approx(44100 / 512, abs=1e-4)


@pytest.mark.parametrize("name", [name for name in SHIPPED if read_tokenizer_card(name)["kind"] in SETTINGS])
def test_settings_survive_their_card(name):
    card = read_tokenizer_card(name)
    cls = SETTINGS[card["kind"]]
    settings = cls.from_card(card)
    assert cls.from_card({"kind": card["kind"], **settings.to_card()}) == settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": {"norm": "time_group_norm", "causal": False}},
            "model.segment_seconds: missing: normalising over time",
        ),
        (
            {"model": {"norm": "time_group_norm", "segment_seconds": 1.0}},
            "model.causal: is true, but 'norm: time_group_norm'",
        ),
        ({"model": {"norm": "batch"}}, "model.norm: is 'batch', allowed: none, weight_norm, time_group_norm"),
        ({"model": {"ratios": [8, "5"]}}, r"model.ratios: is \[8, '5'\], allowed: a list of whole numbers"),
        ({"channels": 3}, "channels: is 3, allowed: 1 or 2"),
        ({"release": "32khz"}, "release: is '32khz', allowed: 24khz, 48khz"),
        ({"release": None}, "release: missing: 'weights: official' needs it"),
        ({"weights": None}, "weights: missing"),
    ],
)
def test_wrong_keys_are_named(changes, message):
    with pytest.raises(CardError, match=message):
        EncodecSettings.from_card({**read_tokenizer_card("encodec_24khz"), **changes})


def test_a_message_names_the_file(tmp_path):
    path = write(
        tmp_path, "name: my\nkind: dac\nsample_rate_hz: 8000\nweights: random\nmodel: {encoder_rates: [2, 4]}\n"
    )
    with pytest.raises(CardError, match=rf"{path}: model.decoder_rates: multiply to 512, encoder_rates to 8"):
        load_audio_tokenizer(path)


def test_unknown_names_and_kinds_are_answered_with_the_nearest(tmp_path):
    with pytest.raises(CardError, match="no card 'encodc_24khz'. Did you mean 'encodec_24khz'"):
        load_audio_tokenizer("encodc_24khz")
    path = write(tmp_path, "name: my\nkind: encodek\n")
    with pytest.raises(CardError, match=r"kind: is 'encodek', allowed: .*Did you mean 'encodec'"):
        load_audio_tokenizer(path)
    with pytest.raises(CardError, match="kind: is missing, allowed"):
        load_audio_tokenizer(write(tmp_path, "name: my\n"))
    with pytest.raises(CardError, match="'bytes' is a text tokenizer, an audio one is needed"):
        load_audio_tokenizer("bytes")
    with pytest.raises(CardError, match="holds no card.yaml, so it is no tokenizer"):
        load_audio_tokenizer(tmp_path)


def test_cards_of_the_user_are_found(tmp_path, monkeypatch):
    (tmp_path / "tokenizers").mkdir()
    write(tmp_path / "tokenizers", "name: mine\nkind: toy_audio\ncodebooks: 2\n", "mine.yaml")
    monkeypatch.setenv("UNITOK_CARDS", str(tmp_path))
    assert "mine" in list_cards("tokenizers")
    assert load_audio_tokenizer("mine").n_codebooks == 2


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(base, "_KINDS", dict(base._KINDS))
    monkeypatch.setattr(base, "_REGISTERED", dict(base._REGISTERED))


def test_a_class_of_the_user_is_loaded_by_its_kind(registry, tmp_path):
    @register_tokenizer("upper")
    class Upper(ToyTextTokenizer):
        @classmethod
        def from_card(cls, card, folder=None):
            return cls(card["letters"], name=f"{card['name']} in {folder.name}")

    path = write(tmp_path, "name: my\nkind: upper\nletters: XYZ\n")
    tokenizer = load_text_tokenizer(path)
    assert isinstance(tokenizer, Upper)
    assert (tokenizer.name, tokenizer.encode("ZX")) == (f"my in {tmp_path.name}", [3, 1])
    assert tokenizer_kinds()["upper"].modality == "text"
    assert describe(read_tokenizer_card(path))["modality"] == "text"


def test_a_kind_has_one_owner(registry):
    with pytest.raises(
        TokenizerError, match="kind 'dac' belongs to unitok.tokenizers.dac:DacTokenizer; give .*Other another"
    ):

        @register_tokenizer("dac")
        class Other(ToyAudioTokenizer):
            pass

    with pytest.raises(TokenizerError, match="Bare has no class method from_card"):

        @register_tokenizer("bare")
        class Bare:
            pass


def test_looking_at_cards_imports_no_torch():
    code = (
        "import sys; from unitok.cli.main import main; import unitok.tokenizers; status = main(['tokenizers']); "
        "heavy = {'torch', 'numpy', 'encodec', 'dac', 'sentencepiece'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "encodec_24khz" in done.stdout


def test_saving_replaces_a_folder_whole_or_not_at_all(tmp_path):
    folder = save_tokenizer(ToyTextTokenizer("abc"), tmp_path / "deep" / "text")
    (folder / "stale").write_text("of the last one")
    save_tokenizer(ToyTextTokenizer("xyz"), folder)
    assert [path.name for path in folder.iterdir()] == ["card.yaml"]
    assert load_text_tokenizer(folder).alphabet == "xyz"

    class Failing(ToyTextTokenizer):
        def save(self, folder):
            super().save(folder)
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_tokenizer(Failing(), folder)
    assert load_text_tokenizer(folder).alphabet == "xyz"
    assert [path.name for path in folder.parent.iterdir()] == ["text"]


# --- unitok.testing --------------------------------------------------------------------------------------------------


def test_toys_satisfy_the_protocols():
    assert isinstance(ToyAudioTokenizer(), AudioTokenizer)
    assert isinstance(ToyTextTokenizer(), TextTokenizer)


def test_toy_codes_survive_audio_and_a_16_bit_file(tmp_path):
    tokenizer = ToyAudioTokenizer()
    codes = torch.randint(0, 8, (2, 4, 7), generator=torch.Generator().manual_seed(0))
    codes[1, :, :2] = torch.tensor([[0, 7], [0, 7], [0, 7], [0, 7]])  # the quietest and the loudest frame
    wav = tokenizer.decode(codes)
    assert wav.shape == (2, 1, 7 * 640)
    assert torch.equal(tokenizer.encode(wav, 16000).codes, codes)
    audio = Audio.read(Audio(wav[1], 16000).write(tmp_path / "x.wav"))
    assert torch.equal(tokenizer.encode(audio.samples[None], 16000).codes, codes[1:])


def test_toy_codes_are_loudness_coarse_to_fine():
    tokenizer = ToyAudioTokenizer()
    wav = torch.full((1, 1, 640), 0.3)
    digits = tokenizer.encode(wav, 16000).codes[0, :, 0].tolist()
    assert sum(digit / 8 ** (k + 1) for k, digit in enumerate(digits)) == pytest.approx(0.3, abs=1 / 4096)
    for k in (1, 2, 3):
        tokenizer.set_codebooks(k)
        loudness = tokenizer.decode(tokenizer.encode(wav, 16000).codes).abs().max()
        assert loudness == pytest.approx(0.3, abs=0.5 / 8**k)


def test_toys_are_saved_and_loaded(tmp_path):
    audio = ToyAudioTokenizer(n_codebooks=3, codebook_size=16, frame_rate_hz=50.0)
    audio.set_codebooks(2)
    loaded = load_audio_tokenizer(save_tokenizer(audio, tmp_path / "audio"))
    assert (loaded.n_codebooks, loaded.frame_rate_hz, loaded.fingerprint) == (2, 50.0, audio.fingerprint)
    text = ToyTextTokenizer("abc")
    assert load_text_tokenizer(save_tokenizer(text, tmp_path / "text")).encode("cab") == text.encode("cab") == [3, 1, 2]


def test_toy_text_reads_capitals_and_marks_the_rest():
    tokenizer = ToyTextTokenizer()
    assert tokenizer.decode(tokenizer.encode("The Fox, 7!")) == "the fox, \ufffd!"
    assert [tokenizer.piece(id) for id in tokenizer.encode("a 7")] == ["a", "▁", "<unk>"]
    assert tokenizer.size == 34
    with pytest.raises(TokenizerError, match=r"id 34 is not in \[0, 34\)"):
        tokenizer.decode([34])
