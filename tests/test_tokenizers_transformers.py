"""Codecs of transformers: the models' own codes and audio. Small random networks, in the files transformers writes."""

import pytest
import torch
import yaml

from unitok.cli.main import main
from unitok.errors import CardError, MissingWeightsError, TokenizerError
from unitok.tokenizers import AudioTokenizer, load_audio_tokenizer, save_tokenizer

transformers = pytest.importorskip("transformers")

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def mimi():
    config = transformers.MimiConfig(
        num_filters=4, num_key_value_heads=2, head_dim=8, codebook_size=32, codebook_dim=8, num_quantizers=4,
        vector_quantization_hidden_dimension=8, num_semantic_quantizers=1, upsample_groups=16, **SMALL,
    )  # fmt: skip
    return transformers.MimiModel(config)


def encodec(rate=24000, ratios=(8, 5, 4, 2), causal=True):
    config = transformers.EncodecConfig(
        sampling_rate=rate, hidden_size=8, num_filters=4, upsampling_ratios=list(ratios), codebook_size=64,
        codebook_dim=8, num_lstm_layers=1, target_bandwidths=[0.45, 1.8], use_causal_conv=causal,
    )  # fmt: skip
    return transformers.EncodecModel(config)


def dac():
    config = transformers.DacConfig(
        encoder_hidden_size=4, downsampling_ratios=[2, 4, 5], decoder_hidden_size=32, upsampling_ratios=[5, 4, 2],
        n_codebooks=5, codebook_size=64, codebook_dim=4, sampling_rate=8000,
    )  # fmt: skip
    return transformers.DacModel(config)


def xcodec():
    acoustic = {
        "encoder_hidden_size": 4, "downsampling_ratios": [8, 5, 4, 2], "decoder_hidden_size": 32, "hidden_size": 16,
        "upsampling_ratios": [8, 5, 4, 2], "n_codebooks": 4, "codebook_size": 64, "codebook_dim": 4,
    }  # fmt: skip
    config = transformers.XcodecConfig(
        codebook_size=64, target_bandwidths=[0.3, 1.2], semantic_model_config={"model_type": "hubert", **SMALL},
        acoustic_model_config={"model_type": "dac", **acoustic},
    )  # fmt: skip
    return transformers.XcodecModel(config)


def xcodec2():
    sizes = SMALL | {"hidden_size": 32}
    semantic = {"model_type": "wav2vec2-bert", "output_hidden_size": 32, "feature_projection_input_dim": 160, **sizes}
    config = transformers.Xcodec2Config(
        encoder_hidden_size=4, quantization_dim=64, quantization_levels=[4, 4, 4], semantic_model_config=semantic,
        num_key_value_heads=2, head_dim=16, **sizes,
    )  # fmt: skip
    model = transformers.Xcodec2Model(config)
    model.feature_extractor = extractor()
    return model


def extractor():
    from transformers.models.xcodec2.feature_extraction_xcodec2 import Xcodec2FeatureExtractor

    return Xcodec2FeatureExtractor()


CODECS = {
    "mimi": (mimi, 24000, 1920, 4),
    "encodec_24khz": (encodec, 24000, 320, 4),
    "encodec_32khz": (lambda: encodec(32000, (8, 5, 4, 4), causal=False), 32000, 640, 6),
    "dac": (dac, 8000, 40, 5),
    "xcodec": (xcodec, 16000, 320, 4),
    "xcodec2": (xcodec2, 16000, 320, 1),
}


def write(name, folder):
    torch.manual_seed(0)
    model = CODECS[name][0]().eval()
    with torch.no_grad():
        for parameter in (*model.parameters(), *model.buffers()):
            if parameter.is_floating_point() and parameter.ndim == 2 and not parameter.any():
                parameter.normal_()  # codebooks that are made as zeros
        if name == "xcodec2":  # or all frames would have one code
            model.fc_encoder.weight.mul_(30.0)
            model.quantizer.project_in.weight.mul_(1000.0)
    model.save_pretrained(folder)
    if hasattr(model, "feature_extractor"):
        model.feature_extractor.save_pretrained(folder)
    card = {"name": name, "kind": "transformers_codec", "model": "."}
    (folder / "card.yaml").write_text(yaml.safe_dump(card))
    return model


def noise(n, seed=0):
    x = torch.randn(1, 1, n, generator=torch.Generator().manual_seed(seed))
    return 0.2 * x * (1.1 + torch.sin(torch.arange(n) / 700))


@pytest.fixture(params=list(CODECS))
def codec(request, tmp_path):
    model = write(request.param, tmp_path)
    return CODECS[request.param], model, load_audio_tokenizer(tmp_path)


@torch.no_grad()
def test_codes_and_audio_are_the_models_own(codec):
    (_, rate, hop, K), model, tokenizer = codec
    assert isinstance(tokenizer, AudioTokenizer)
    assert (tokenizer.sample_rate_hz, tokenizer.n_codebooks) == (rate, K)
    assert tokenizer.frame_rate_hz == pytest.approx(rate / hop)
    wav = noise(25 * hop)
    encoded = tokenizer.encode(wav, rate)
    assert encoded.codes.shape == (1, K, 25)
    assert len(encoded.codes.unique()) > 5, "the random codec uses its codes"
    if hasattr(model, "feature_extractor"):
        theirs = model.encode(
            **model.feature_extractor([wav[0, 0].numpy()], sampling_rate=rate, return_tensors="pt")
        ).audio_codes
    else:
        most = {"bandwidth": max(model.config.target_bandwidths)} if hasattr(model.config, "target_bandwidths") else {}
        theirs = model.encode(wav, **most).audio_codes
    assert torch.equal(encoded.codes[0], theirs.reshape(K, -1)[:, :25])
    audio = tokenizer.decode(encoded.codes)
    assert audio.shape == (1, 1, 25 * hop)
    scales = ([None],) if model.config.model_type == "encodec" else ()
    codes = encoded.codes[None] if scales else encoded.codes
    values = (
        model.decode(audio_codes=codes) if model.config.model_type == "dac" else model.decode(codes, *scales)
    ).audio_values
    n = values.numel()
    torch.testing.assert_close(audio.flatten()[:n], values.flatten()[: 25 * hop])


@torch.no_grad()
def test_rows_of_a_batch_fewer_codebooks_and_parts_of_frames(codec):
    (_, rate, hop, K), _, tokenizer = codec
    wav = noise(20 * hop)
    lengths = torch.tensor([20 * hop, 11 * hop + 1])
    batch = tokenizer.encode(wav.expand(2, 1, -1), rate, lengths)
    assert batch.lengths.tolist() == [20, 12]
    alone = tokenizer.encode(wav[:, :, : 11 * hop + 1], rate)
    assert torch.equal(batch.codes[1, :, :12], alone.codes[0])
    if K > 1:
        tokenizer.set_codebooks(2)
        assert torch.equal(tokenizer.encode(wav, rate).codes, batch.codes[:1, :2])
        assert tokenizer.decode(batch.codes[:1, :2]).shape == (1, 1, 20 * hop)


@torch.no_grad()
def test_vectors_add_up_to_the_latent(codec):
    (_, _, _, K), _, tokenizer = codec
    vectors = tokenizer.codebook_vectors()
    assert len(vectors) == K
    codes = torch.randint(tokenizer.codebook_size, (1, K, 6))
    latent, zero = (tokenizer._how.latent(tokenizer.model, c)[0].T for c in (codes, torch.zeros_like(codes)))
    total = sum(vectors[k][codes[0, k]] for k in range(K))
    torch.testing.assert_close(total, latent - zero, rtol=1e-4, atol=1e-4)
    assert vectors[0].std() > 0


def test_a_saved_folder_is_complete_and_keeps_its_fingerprint(codec, tmp_path):
    (_, rate, hop, _), _, tokenizer = codec
    save_tokenizer(tokenizer, tmp_path / "saved")
    loaded = load_audio_tokenizer(tmp_path / "saved")
    assert loaded.fingerprint == tokenizer.fingerprint
    wav = noise(16 * hop)
    assert torch.equal(loaded.encode(wav, rate).codes, tokenizer.encode(wav, rate).codes)


def test_what_a_card_says_is_shown_and_has_to_be_true(tmp_path, capsys):
    write("mimi", tmp_path)
    card = {"name": "x", "kind": "transformers_codec", "model": ".", "sample_rate_hz": 24000, "codebooks": 3}
    card |= {"frame_rate_hz": 12.5, "codebook_size": 32}
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(card))
    assert load_audio_tokenizer(tmp_path).n_codebooks == 3
    assert main(["tokenizers", str(tmp_path)]) == 0
    assert "24 kHz mono, 12.5 frames/s, 3 × 32 codes" in capsys.readouterr().out
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(card | {"frame_rate_hz": 50.0}))
    with pytest.raises(TokenizerError, match=r"its card says frame_rate_hz: 50, its model has 12\.5"):
        load_audio_tokenizer(tmp_path)


def test_mistakes_are_said(tmp_path, monkeypatch):
    def card(**changes):
        (tmp_path / "card.yaml").write_text(yaml.safe_dump({"name": "x", "kind": "transformers_codec", **changes}))
        return load_audio_tokenizer(tmp_path)

    with pytest.raises(CardError, match="model: missing"):
        card()
    with pytest.raises(MissingWeightsError, match=r"holds no config\.json"):
        card(model="./nowhere")
    monkeypatch.setenv("UNITOK_OFFLINE", "1")
    with pytest.raises(MissingWeightsError, match="'x' needs the model 'owner/name', which cannot be loaded"):
        card(model="owner/name")
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(TokenizerError, match="is 'bert', allowed: mimi, encodec, dac, xcodec, xcodec2"):
        card(model=".")
    config = transformers.EncodecConfig(
        audio_channels=2, normalize=True, chunk_length_s=1.0, overlap=0.01, hidden_size=8, num_filters=4,
        codebook_dim=8, codebook_size=32,
    )  # fmt: skip
    transformers.EncodecModel(config).save_pretrained(tmp_path)
    with pytest.raises(TokenizerError, match="is stereo or scales its audio. Use a card of kind encodec"):
        card(model=".")
