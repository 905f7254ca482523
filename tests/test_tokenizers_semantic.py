"""Semantic tokens: parity with transformers and scikit-learn, runs, training, folders, the command line, errors."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from semantic_corpus import RATE, TEXTS, WORDS, spoken, train, write_corpus

from unitok.audio import Audio
from unitok.cli.main import main
from unitok.errors import AudioFormatError, CardError, DataError, MissingWeightsError, TokenizerError
from unitok.features import load_feature_encoder
from unitok.tokenizers import (
    SemanticTokenizer,
    load_audio_tokenizer,
    load_semantic_tokenizer,
    register_tokenizer,
    save_tokenizer,
)
from unitok.tokenizers.base import tokenizer_kinds
from unitok.tokenizers.kmeans import train_kmeans
from unitok.tokenizers.runs import collapse, read_ids, write_ids


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("semantic") / "corpus")


@pytest.fixture(scope="module")
def folder(corpus):
    return train(corpus, corpus.parent.parent / "km", "--deduplicate")


def speech_model(kind, folder):
    """Write a tiny random speech encoder in transformers' format, and return it."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    if kind == "wav2vec2-bert":
        model = transformers.Wav2Vec2BertModel(transformers.Wav2Vec2BertConfig(**sizes))
        transformers.SeamlessM4TFeatureExtractor().save_pretrained(folder)
    else:
        name = {"hubert": "Hubert", "wavlm": "WavLM"}[kind]
        sizes |= {"conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (20, 16), "num_feat_extract_layers": 2}
        sizes |= {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
        model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**sizes))
        transformers.Wav2Vec2FeatureExtractor(do_normalize=kind != "hubert").save_pretrained(folder)
    model.eval().save_pretrained(folder)
    return model


def noise(seconds, seed=0):
    return 0.3 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


def semantic_card(folder, kind, **settings):
    (folder / "ear.yaml").write_text(json.dumps({"name": "ear", "kind": "transformers", "model": f"./{kind}"}))
    card = {"name": "km", "kind": "semantic", "encoder": "./ear.yaml", "centroids": "km.npy", **settings}
    (folder / "km.yaml").write_text(json.dumps(card))
    return folder / "km.yaml"


@pytest.mark.parametrize("kind", ["hubert", "wavlm", "wav2vec2-bert"])
def test_ids_are_those_of_transformers_and_scikit_learn(kind, tmp_path):
    cluster = pytest.importorskip("sklearn.cluster")
    model = speech_model(kind, tmp_path / kind)
    transformers = pytest.importorskip("transformers")
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / kind)

    def states(wav):
        inputs = extractor(wav.numpy(), sampling_rate=RATE, return_tensors="pt")
        with torch.inference_mode():
            return model(**inputs, output_hidden_states=True).hidden_states[1][0].numpy()

    means = cluster.MiniBatchKMeans(7, random_state=0, n_init=1).fit(states(noise(2.0)))
    np.save(tmp_path / "km.npy", means.cluster_centers_)
    tokenizer = load_semantic_tokenizer(semantic_card(tmp_path, kind, layer=1))
    short, long = noise(0.7, seed=1), noise(1.1, seed=2)
    wav = torch.zeros(2, 1, len(long))
    wav[0, 0, : len(short)], wav[1, 0] = short, long
    encoded = tokenizer.encode(wav, RATE, torch.tensor([len(short), len(long)]))
    for row, n, one in zip(encoded.codes, encoded.lengths, (short, long), strict=True):
        assert row[0, :n].tolist() == means.predict(states(one)).tolist()
    assert encoded.codes.unique().numel() > 3  # the ids differ, or the comparison would say nothing
    assert (tokenizer.frame_rate_hz, tokenizer.sample_rate_hz, tokenizer.size) == (50.0, RATE, 7)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_runs_and_durations_give_all_frames_back(ids):
    runs = collapse(torch.tensor(ids))
    assert runs.frames().tolist() == ids
    assert all(a != b for a, b in zip(runs.ids, runs.ids[1:], strict=False))
    assert torch.equal(collapse(runs.ids).ids, runs.ids)


def test_words_of_unlike_sound_get_unlike_ids(folder):
    tokenizer = load_semantic_tokenizer(folder)
    audio = spoken("low mid high")
    [ids] = tokenizer.encode(audio.samples[None], RATE).codes[0]
    middles = [int(ids[i]) for i in (3, 9, 15)]
    assert len(set(middles)) == len(WORDS)
    assert ids[2:5].tolist() == [middles[0]] * 3


def test_training_writes_a_folder_that_loads(folder, corpus, capsys):
    tokenizer = load_semantic_tokenizer(folder)
    assert isinstance(tokenizer, SemanticTokenizer)
    assert tokenizer_kinds()["semantic"].modality == "semantic"
    assert (tokenizer.size, tokenizer.frame_rate_hz, tokenizer.deduplicate) == (6, 20.0, True)
    copy = load_semantic_tokenizer(save_tokenizer(tokenizer, folder.parent / "copy"))
    audio = spoken("mid low")
    assert copy.fingerprint == tokenizer.fingerprint
    wav = audio.samples[None]
    assert torch.equal(copy.encode(wav, RATE).codes, tokenizer.encode(wav, RATE).codes)
    assert main(["tokenizers", str(folder)]) == 0
    assert "20 frames/s, 1 × 6 codes, de-duplicated" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_centroids(folder, corpus, tmp_path, capsys):
    again = train(corpus, tmp_path / "again", "--json")
    facts = json.loads(capsys.readouterr().out)
    assert facts["fingerprint"] == load_semantic_tokenizer(folder).fingerprint
    assert facts["files"] == len(TEXTS)
    assert facts["used"] == 6
    assert 1 < facts["perplexity"] <= 6
    assert 0 <= facts["inertia"] < 0.3 * facts["variance"]
    other = train(corpus, tmp_path / "other", "--seed", "1", "--max-frames", "30")
    assert load_semantic_tokenizer(other).fingerprint != load_semantic_tokenizer(again).fingerprint


def test_figures_are_those_of_a_slow_count(corpus):
    encoder = load_feature_encoder(corpus.parent / "mel.yaml")
    files = sorted(corpus.parent.glob("*.wav"))
    tokenizer, report = train_kmeans(files, encoder, 5, name="km")
    states = torch.cat([encoder.encode(Audio.read(path)) for path in files])
    squared = (
        torch.cdist(states.double(), tokenizer.centroids.double(), compute_mode="donot_use_mm_for_euclid_dist") ** 2
    )
    assert report.frames == len(states)
    assert report.inertia == pytest.approx(float(squared.min(1).values.mean()), rel=1e-4)
    used = squared.argmin(1).bincount(minlength=5) / len(states)
    assert report.perplexity == pytest.approx(float(torch.special.entr(used).sum().exp()), rel=1e-4)
    assert report.variance == pytest.approx(float((states - states.mean(0)).square().sum(1).mean()), rel=1e-4)


def test_part_of_the_audio_is_enough(corpus):
    encoder = load_feature_encoder(corpus.parent / "mel.yaml")
    _, report = train_kmeans(sorted(corpus.parent.glob("*.wav")), encoder, 3, name="km", max_hours=0.7 / 3600)
    assert report.files < len(TEXTS)
    assert report.seconds >= 0.7


def test_files_that_cannot_be_heard_are_named(corpus, tmp_path, capsys):
    (corpus.parent / "broken.wav").write_text("no audio")
    rows = corpus.read_text() + json.dumps({"id": "broken", "audio": "broken.wav"}) + "\n"
    manifest = corpus.with_name("broken.jsonl")
    manifest.write_text(rows)
    options = ["--features", str(corpus.parent / "mel.yaml"), "--clusters", "3", "--out", str(tmp_path / "km")]
    assert main(["train-kmeans", "--manifest", str(manifest), *options]) == 1
    assert "left out" in capsys.readouterr().err
    assert load_semantic_tokenizer(tmp_path / "km").size == 3


def test_tokenize_stores_runs_and_durations(folder, corpus, tmp_path, capsys):
    wavs = [str(corpus.parent / f"{i}.wav") for i in (0, 5)]
    out = tmp_path / "codes.npz"
    assert main(["tokenize", *wavs, "--tokenizer", str(folder), "--out", str(out)]) == 0
    stored = np.load(out)
    tokenizer = load_semantic_tokenizer(folder)
    for i, text in enumerate((TEXTS[0], TEXTS[5])):
        n = int(stored["lengths"][i])
        frames = np.repeat(stored["codes"][i, 0, :n], stored["durations"][i, :n])
        assert frames.tolist() == tokenizer.encode(Audio.read(wavs[i]).samples[None], RATE).codes[0, 0].tolist(), text
    assert main(["detokenize", str(out), "--out", str(tmp_path / "back")]) == 2
    assert "do not become audio by themselves" in capsys.readouterr().err
    assert main(["tokenize", *wavs, "--tokenizer", str(folder), "--codebooks", "2", "--out", str(out)]) == 2
    assert "semantic ids are one codebook" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".npy", ".json", ".txt"])
def test_files_of_ids_come_back(suffix, tmp_path):
    path = write_ids(tmp_path / f"ids{suffix}", torch.tensor([[3, 0, 12]]))
    assert read_ids(path).tolist() == [3, 0, 12]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "1 two 3", "holds no semantic ids"),
        ("b.json", "[1.5, 2]", r"holds float64 \[2\], allowed: whole numbers"),
        ("c.json", "[[1, 2], [3, 4]]", r"holds int64 \[2, 2\], allowed"),
        ("d.json", "[]", "allowed: whole numbers"),
        ("e.npy", "no array", "holds no semantic ids"),
        ("f.csv", "1,2", r"is no file of semantic ids, allowed: .npy, .json, .txt"),
    ],
)
def test_files_that_hold_no_ids_are_refused(name, content, said, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=said):
        read_ids(tmp_path / name)


def test_errors_say_where_weights_go(monkeypatch):
    monkeypatch.setenv("HOME", "/nowhere")
    with pytest.raises(MissingWeightsError) as caught:
        load_semantic_tokenizer("hubert_base_km500")
    said = str(caught.value)
    assert "/nowhere/.cache/unitok/hubert_base_ls960_L9_km500.npy" in said
    assert "--features hubert_base --layer 9 --clusters 500 --out FOLDER" in said
    with pytest.raises(
        CardError, match=r"is a semantic tokenizer, an audio one is needed. Semantic tokens do not become"
    ):
        load_audio_tokenizer("hubert_base_km500")


@pytest.mark.parametrize(
    ("shape", "settings", "said"),
    [
        ((4, 9), {}, r"centroids are \[4, 9\], encoder 'ear' has states of width 16"),
        ((4, 16), {"codebook_size": 5}, "card says codebook_size: 5, it has 4"),
        ((4, 16), {"frame_rate_hz": 25}, "card says frame_rate_hz: 25, it has 50"),
        ((4, 16), {"layer": 3}, "layer is 3, allowed: 0 to 2"),
        ((4, 16), {"encoder": "t5_bas"}, "Did you mean 't5_base'"),
    ],
)
def test_parts_that_do_not_fit_are_refused(shape, settings, said, tmp_path):
    speech_model("hubert", tmp_path / "hubert")
    np.save(tmp_path / "km.npy", np.zeros(shape, np.float32))
    with pytest.raises((TokenizerError, CardError), match=said):
        load_semantic_tokenizer(semantic_card(tmp_path, "hubert", **settings))


def test_other_weights_than_saved_ones_are_noticed(tmp_path):
    model = speech_model("hubert", tmp_path / "hubert")
    np.save(tmp_path / "km.npy", np.random.default_rng(0).normal(size=(4, 16)))
    tokenizer = load_semantic_tokenizer(semantic_card(tmp_path, "hubert", layer=1))
    folder = save_tokenizer(tokenizer, tmp_path / "saved")
    again = load_semantic_tokenizer(folder)
    assert again.fingerprint == tokenizer.fingerprint
    assert torch.equal(
        again.encode(noise(0.5)[None, None], RATE).codes, tokenizer.encode(noise(0.5)[None, None], RATE).codes
    )
    other = load_semantic_tokenizer(semantic_card(tmp_path, "hubert", layer=2))
    assert other.fingerprint != tokenizer.fingerprint
    model.encoder.layers[0].attention.q_proj.weight.data += 1
    model.save_pretrained(folder / "encoder")
    with pytest.raises(TokenizerError, match="was saved with fingerprint"):
        load_semantic_tokenizer(folder)


def test_audio_too_short_for_a_frame_is_refused(tmp_path):
    speech_model("hubert", tmp_path / "hubert")
    np.save(tmp_path / "km.npy", np.zeros((4, 16)))
    tokenizer = load_semantic_tokenizer(semantic_card(tmp_path, "hubert"))
    with pytest.raises(AudioFormatError, match=r"audio of 0.006 s is too short for one frame of 'ear'"):
        tokenizer.encode(torch.zeros(1, 1, 100), RATE)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--clusters", "1"], "--clusters is 1, allowed: 2 to 32768"),
        (["--clusters", "5000"], "too few for 5000 clusters"),
        (["--max-hours", "0"], "--max-hours is 0, allowed: more than 0"),
        (["--layer", "3"], "layer: unknown key"),
        (["--audio-fields", "audoi"], "Did you mean 'audio'?"),
    ],
)
def test_train_kmeans_says_what_is_wrong(options, said, corpus, tmp_path, capsys):
    arguments = ["train-kmeans", "--manifest", str(corpus), "--features", str(corpus.parent / "mel.yaml")]
    assert main([*arguments, "--out", str(tmp_path / "km"), *options]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "km").exists()


def test_a_misspelt_key_of_a_card_is_named(tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text(
        "name: bad\nkind: semantic\nencoder: log_mel\ncentroids: c.npy\ndeduplicat: true\n"
    )
    assert main(["tokenizers", "--check", str(tmp_path / "bad.yaml")]) == 2
    assert "Did you mean 'deduplicate'?" in capsys.readouterr().err


def test_a_class_of_ones_own_is_known_as_semantic(monkeypatch):
    monkeypatch.setattr("unitok.tokenizers.base._KINDS", tokenizer_kinds())
    monkeypatch.setattr("unitok.tokenizers.base._REGISTERED", {})

    @register_tokenizer("units_of_mine")
    class Mine:
        deduplicate = False

        @classmethod
        def from_card(cls, card, folder=None):
            return cls()

    assert tokenizer_kinds()["units_of_mine"].modality == "semantic"
