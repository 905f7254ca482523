"""Kind `features`: encoders give what their library gives, and models are trained with them, and generate by them."""

import json
import re

import lightning as L
import pytest
import semantic_corpus
import torch
from records_for_tests import write_records
from training_runs import Recorder, stack

from unitok.api import load
from unitok.audio import Audio
from unitok.cards import list_cards
from unitok.cli.main import main
from unitok.data.datamodule import RecordDataModule, TaskMix
from unitok.data.mixing import BatchConfig
from unitok.errors import CardError, CheckpointError, DataError, MissingWeightsError, TokenizerError
from unitok.evaluation.metric import find_metric
from unitok.evaluation.tools import Tools
from unitok.features import load_feature_encoder, save_feature_encoder
from unitok.generation.scoring import score_sequences
from unitok.model.config import FeatureInputConfig, LMConfig
from unitok.model.features import FeatureInput
from unitok.sequence import FeatureBatch, collate
from unitok.training.lm_module import LMModule
from unitok.training.optimizers import OptimizerConfig
from unitok.training.schedules import ScheduleConfig

transformers = pytest.importorskip("transformers")
RATE = 16000


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A tokenizer of words in transformers' format."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {
        word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "a", "dog", "barks", "twice", "one", "two"])
    }
    raw = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def speech_sizes():
    return {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "conv_dim": (8, 8),
        "conv_kernel": (10, 8),
        "conv_stride": (20, 16),
        "num_feat_extract_layers": 2,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
        "layerdrop": 0.5,
    }


def save_model(kind, folder, words):
    """Write a tiny random model of a family into a folder, in the real file format, and return it."""
    torch.manual_seed(1)
    t = transformers
    if kind == "t5":
        sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "vocab_size": 16}
        model = t.T5EncoderModel(t.T5Config(**sizes))
        words.save_pretrained(folder)
    elif kind in ("hubert", "wavlm", "wav2vec2"):
        name = {"hubert": "Hubert", "wavlm": "WavLM", "wav2vec2": "Wav2Vec2"}[kind]
        model = getattr(t, f"{name}Model")(getattr(t, f"{name}Config")(**speech_sizes()))
        t.Wav2Vec2FeatureExtractor(do_normalize=kind != "hubert").save_pretrained(folder)
    elif kind == "whisper":
        sizes = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2}
        sizes |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "num_mel_bins": 8}
        tokens = {
            "vocab_size": 20,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
        }
        model = t.WhisperModel(t.WhisperConfig(**sizes, **tokens, max_source_positions=50, max_target_positions=8))
        t.WhisperFeatureExtractor(feature_size=8, chunk_length=1).save_pretrained(folder)
    else:
        text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
        text |= {"vocab_size": 16, "pad_token_id": 0, "max_position_embeddings": 32}
        audio = {
            "spec_size": 64,
            "patch_embeds_hidden_size": 8,
            "hidden_size": 16,
            "depths": [1, 1],
            "num_mel_bins": 16,
        }
        audio |= {"num_attention_heads": [2, 2], "window_size": 4, "patch_stride": [4, 4], "num_hidden_layers": 2}
        config = t.ClapConfig(text_config=text, audio_config=audio, projection_dim=12)
        model = t.ClapModel(config)
        words.save_pretrained(folder)
        t.ClapFeatureExtractor(
            feature_size=16, sampling_rate=RATE, max_length_s=1, hop_length=160, truncation="rand_trunc"
        ).save_pretrained(folder)
    model.eval().save_pretrained(folder)
    return model


def card(folder, kind, **settings):
    name = "encoder"
    lines = {"name": name, "kind": "transformers", "model": f"./{kind}", **settings}
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(lines))
    return path


def tone(seconds=0.5, rate=RATE):
    t = torch.arange(round(seconds * rate)) / rate
    return Audio((0.3 * torch.sin(2 * torch.pi * (200 + 400 * t) * t))[None], rate)


@pytest.mark.parametrize("kind", ["hubert", "wavlm", "wav2vec2"])
@pytest.mark.parametrize("layer", [None, 1])
def test_states_of_speech_models_are_those_of_transformers(kind, layer, tmp_path, words):
    model = save_model(kind, tmp_path / kind, words)
    encoder = load_feature_encoder(card(tmp_path, kind, **({} if layer is None else {"layer": layer})))
    audio = tone()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / kind)
    theirs = extractor(audio.samples[0].numpy(), sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        output = model(theirs.input_values, output_hidden_states=True)
    expected = output.last_hidden_state[0] if layer is None else output.hidden_states[layer][0]
    states = encoder.encode(audio)
    assert torch.allclose(states, expected, atol=1e-5)
    assert len(states) == encoder.n_states(audio.n_samples)
    assert torch.equal(states, encoder.encode(Audio(audio.samples.expand(2, -1), RATE)))  # stereo becomes mono


def test_states_of_t5_are_those_of_transformers(tmp_path, words):
    model = save_model("t5", tmp_path / "t5", words)
    encoder = load_feature_encoder(card(tmp_path, "t5"))
    ids = words("a dog barks twice", return_tensors="pt").input_ids
    with torch.inference_mode():
        expected = model(ids).last_hidden_state[0]
    states = encoder.encode("a dog barks twice")
    assert states.shape == (5, 16)
    assert torch.allclose(states, expected, atol=1e-6)


def test_states_of_whisper_are_those_of_the_audio_not_of_the_silence_behind(tmp_path, words):
    model = save_model("whisper", tmp_path / "whisper", words)
    encoder = load_feature_encoder(card(tmp_path, "whisper"))
    audio = tone(0.5)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "whisper")
    features = extractor(audio.samples[0].numpy(), sampling_rate=RATE, return_tensors="pt").input_features
    with torch.inference_mode():
        expected = model.encoder(features).last_hidden_state[0]
    states = encoder.encode(audio)
    assert len(states) == 25
    assert torch.allclose(states, expected[:25], atol=1e-5)
    with pytest.raises(DataError, match=r"takes up to 1 s of audio, got 1.5 s"):
        encoder.encode(tone(1.5))


def test_clap_gives_one_vector_of_text_and_of_audio(tmp_path, words):
    model = save_model("clap", tmp_path / "clap", words)
    text = load_feature_encoder(card(tmp_path, "clap", takes="text")).encode("a dog barks")
    with torch.inference_mode():
        expected = model.get_text_features(words("a dog barks", return_tensors="pt").input_ids).pooler_output
    assert torch.allclose(text, expected, atol=1e-6)
    heard = load_feature_encoder(card(tmp_path, "clap", takes="audio")).encode(tone())
    assert heard.shape == text.shape == (1, 12)
    assert heard.norm() == pytest.approx(1.0, abs=1e-4)
    with pytest.raises(TokenizerError, match=r"takes: is missing, 'clap' takes text or audio"):
        load_feature_encoder(card(tmp_path, "clap"))


def test_log_mel_shows_a_tone_in_its_band():
    encoder = load_feature_encoder("log_mel")
    t = torch.arange(8000) / RATE
    states = encoder.encode(Audio(torch.sin(2 * torch.pi * 1000 * t)[None], RATE))
    assert states.shape == (51, 80) == (encoder.n_states(8000), encoder.dim)
    loudest = int(states[10:40].mean(0).argmax())
    centres = encoder.bands.argmax(0) * RATE / encoder.settings.window
    assert float(centres[loudest]) == pytest.approx(1000, abs=60)


@pytest.mark.parametrize("n", [1, 399, 1600, 8001])
def test_a_conformer_gives_as_many_states_as_it_says(n):
    encoder = load_feature_encoder("conformer")
    states = encoder.encode(torch.randn(n))
    assert states.shape == (encoder.n_states(n), 256)


@pytest.mark.parametrize("kind", ["t5", "hubert", "whisper"])
def test_an_encoder_folder_gives_the_same_states(kind, tmp_path, words):
    save_model(kind, tmp_path / kind, words)
    encoder = load_feature_encoder(card(tmp_path, kind))
    value = "a dog barks" if kind == "t5" else tone()
    again = load_feature_encoder(save_feature_encoder(encoder, tmp_path / "saved"))
    assert torch.equal(again.encode(value), encoder.encode(value))
    assert again.fingerprint == encoder.fingerprint
    trained = next(p for p in again.parameters() if p.ndim > 1)
    trained.data += 1
    assert again.fingerprint != encoder.fingerprint


def test_mistakes_are_one_line(tmp_path, words):
    with pytest.raises(CardError, match=r"Did you mean 't5_base'"):
        load_feature_encoder("t5_bas")
    with pytest.raises(MissingWeightsError, match=r"holds no config.json"):
        load_feature_encoder(card(tmp_path, "nothing"))
    save_model("hubert", tmp_path / "hubert", words)
    with pytest.raises(TokenizerError, match=r"layer is 7, allowed: 0 to 2"):
        load_feature_encoder(card(tmp_path, "hubert", layer=7))
    (tmp_path / "hubert" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(TokenizerError, match=r"is 'bert', allowed: t5, hubert"):
        load_feature_encoder(card(tmp_path, "hubert"))
    (tmp_path / "bad.yaml").write_text("name: bad\nkind: conformer\nkernel_size: 4\nhops: 3\n")
    with pytest.raises(CardError, match=r"kernel_size") as caught:
        load_feature_encoder(tmp_path / "bad.yaml")
    assert "hops" in str(caught.value)


def test_shipped_cards_say_what_they_are():
    for name, path in list_cards("features").items():
        text = path.read_text()
        assert f"name: {name}\n" in text
        assert "description: " in text
        assert "source: " in text
        assert f"`{name}`" in (path.parent / "README.md").read_text()


REDUCERS = [
    {"reduce": "none"},
    {"reduce": "stack", "factor": 3},
    {"reduce": "mean", "factor": 3, "projector": "mlp"},
    {"reduce": "resample", "factor": 4, "queries": 2, "n_heads": 2},
    {"reduce": "resample", "factor": 0, "queries": 3, "n_heads": 2},
]


def batch_of(rows):
    lengths = torch.tensor([len(row) for row in rows])
    values = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    zeros = torch.zeros(len(rows), dtype=torch.long)
    return FeatureBatch(values, lengths, zeros, zeros, zeros, encoded=True)


@pytest.mark.parametrize("settings", REDUCERS, ids=lambda s: f"{s['reduce']}{s.get('factor', '')}")
def test_a_value_gives_alone_what_it_gives_in_a_batch(settings):
    torch.manual_seed(0)
    config = FeatureInputConfig("x", dim=8, **settings)
    module = FeatureInput(config, 6)
    rows = [torch.randn(n, 8) for n in (1, 4, 7, 12)]
    together = module(batch_of(rows))
    for row, states in zip(rows, together, strict=True):
        alone = module(batch_of([row]))[0]
        n = config.n_positions(len(row))
        assert alone.shape[0] == n
        assert torch.allclose(states[:n], alone, atol=1e-5)
    together.sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_mean_is_over_the_states_that_there_are():
    module = FeatureInput(FeatureInputConfig("x", dim=2, reduce="mean", factor=4), 2)
    module.norm, module.project = torch.nn.Identity(), torch.nn.Identity()
    module.norm.weight = torch.ones(1)
    states = module(batch_of([torch.tensor([[2.0, 0.0], [4.0, 2.0]])]))
    assert states.tolist() == [[[3.0, 1.0]]]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"reduce": "pool"}, "allowed: none, stack, mean, resample"),
        ({"factor": 2}, "allowed: 1, as reduce is 'none'"),
        ({"reduce": "stack", "factor": 0}, "factor=0, allowed: 1 or more"),
        ({"reduce": "stack", "queries": 2}, "queries=2 is of reduce 'resample'"),
        ({"reduce": "resample", "dim": 9}, "4 heads do not divide"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        FeatureInputConfig("x", **settings)


TTS_BY_T5 = """
name: tts_by_t5
description: Speak a text, read by T5.
conditions:
  - {name: text, kind: features, encoder: reader, takes: text, guided: true}
targets:
  - {name: speech, kind: audio, field: audio}
generate: {max_seconds: 0.4, guidance: 1.5}
"""
ASR_BY_EAR = """
name: asr_by_ear
description: Write down what an encoder hears.
conditions:
  - {name: audio, kind: features, encoder: ear, takes: audio}
targets:
  - {name: text, kind: text}
generate: {max_text_tokens: 8, greedy: true}
"""


@pytest.fixture
def trained_with(tmp_path, words):
    """Return a function that makes a module with a T5 for text and a Conformer or HuBERT for audio."""
    for name, text in (("tts_by_t5", TTS_BY_T5), ("asr_by_ear", ASR_BY_EAR)):
        (tmp_path / f"{name}.yaml").write_text(text)
    save_model("t5", tmp_path / "t5", words)
    reader = card(tmp_path, "t5")
    (tmp_path / "ear.yaml").write_text(
        "name: ear\nkind: conformer\nn_mels: 8\ndim: 8\nn_layers: 1\nn_heads: 2\nff_dim: 8\n"
    )

    def make(trained=False, **changes):
        L.seed_everything(3)
        inputs = {
            "reader": FeatureInputConfig(str(reader), trained=trained),
            "ear": FeatureInputConfig(str(tmp_path / "ear.yaml"), trained=True, reduce="stack", factor=2),
        }
        config = LMConfig(stack(16), local=stack(8), ar_codebooks=4, features=inputs, **changes)
        return LMModule(
            config,
            text_tokenizer="bytes",
            audio_tokenizer="toy_audio",
            langs=["en"],
            tasks=[str(tmp_path / "tts_by_t5.yaml"), str(tmp_path / "asr_by_ear.yaml")],
            optimizer=OptimizerConfig("adamw", lr=0.01),
            schedule=ScheduleConfig(warmup_steps=1, total_steps=20),
        )

    return make


def write_corpus(folder):
    folder.mkdir()
    rows = []
    for i, text in enumerate(
        ["one", "two", "one two", "two one", "a dog barks", "a dog", "twice", "a dog barks twice"]
    ):
        tone(0.2 + 0.05 * i).write(folder / f"{i}.wav")
        rows.append({"id": f"u{i}", "audio": f"{i}.wav", "text": text, "lang": "en"})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "manifest.jsonl"


def prepare(tmp_path, *options, out="shards"):
    manifest = tmp_path / "corpus" / "manifest.jsonl"
    if not manifest.exists():
        write_corpus(tmp_path / "corpus")
    arguments = ["prepare", "--manifest", str(manifest), "--tokenizer", "toy_audio", "--out", str(tmp_path / out)]
    assert main([*arguments, *options, "--quiet"]) == 0
    return str(tmp_path / out)


def losses_of(module, shards, steps=6, **settings):
    recorder = Recorder()
    data = RecordDataModule(shards, batching=BatchConfig(120), **settings)
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    L.Trainer(max_steps=steps, callbacks=[recorder], enable_checkpointing=False, **quiet).fit(module, datamodule=data)
    return recorder.losses


def test_stored_states_train_as_states_computed_on_the_fly(trained_with, tmp_path):
    tts = [TaskMix("tts_by_t5")]
    raw = prepare(tmp_path, out="raw")
    stored = prepare(tmp_path, "--features", f"reader:{tmp_path / 'encoder.yaml'}=text", out="stored")
    on_the_fly = losses_of(trained_with(), raw, tasks=tts)
    cached = losses_of(trained_with(), stored, tasks=tts)
    assert cached == pytest.approx(on_the_fly, rel=1e-2)  # stored in 16 bits
    assert on_the_fly[-1] < on_the_fly[0]


@pytest.mark.parametrize("recompute", [False, True])
def test_a_trained_encoder_learns_and_a_frozen_one_does_not(trained_with, tmp_path, recompute):
    shards = prepare(tmp_path, "--feature-inputs", f"ear:{tmp_path / 'ear.yaml'}=audio")
    module = trained_with()
    module.lm.recompute_activations(recompute)
    before = {name: p.clone() for name, p in module.lm.named_parameters()}
    reader = module.lm.feature_inputs["reader"].attached
    frozen = [p.clone() for p in reader.parameters()]
    losses_of(module, shards)
    changed = {name for name, p in module.lm.named_parameters() if not torch.equal(p, before[name])}
    encoders = {name for name in before if ".encoder." in name}
    assert encoders
    assert encoders - changed == set()
    assert {name for name in before if "feature_inputs" in name} <= changed
    assert all(torch.equal(a, b) for a, b in zip(frozen, reader.parameters(), strict=True))
    assert all(p.grad is None for p in reader.parameters())


def test_a_checkpoint_keeps_its_encoders_and_generates(trained_with, tmp_path, capsys):
    shards = prepare(tmp_path, "--feature-inputs", f"ear:{tmp_path / 'ear.yaml'}=audio")
    module = trained_with()
    losses_of(module, shards)
    module.export(tmp_path / "model")
    model = load(tmp_path / "model", device="cpu")
    original = module.lm.feature_inputs["ear"].attached
    assert torch.equal(model.builder.encoders["ear"].encode(tone()), original.encode(tone()))
    alone = [model.generate("tts_by_t5", text=text, seed=i) for i, text in enumerate(["one", "a dog barks twice"])]
    requests = [{"task": "tts_by_t5", "text": text, "seed": i} for i, text in enumerate(["one", "a dog barks twice"])]
    together = model.generate_batch(requests)
    assert all(torch.equal(a.samples, b.samples) for a, b in zip(alone, together, strict=True))
    assert isinstance(model.generate("asr_by_ear", audio=tone()), str)
    assert isinstance(model.generate("asr_by_ear", audio=tone(), beams=2), str)
    wav, out = tmp_path / "in.wav", tmp_path / "out.wav"
    tone().write(wav)
    assert main(["generate", "--model", str(tmp_path / "model"), "--task", "asr_by_ear", "--audio", str(wav)]) == 0
    command = [
        "generate",
        "--model",
        str(tmp_path / "model"),
        "--task",
        "tts_by_t5",
        "--text",
        "one",
        "--out",
        str(out),
    ]
    assert main(command) == 0
    assert out.is_file()
    assert "<features> [" in str(model.sequence("tts_by_t5", text="one two"))
    [made] = model.run([model.request("tts_by_t5", text="one", max_seconds=0.2)])
    assert "<features> [" in str(made.sequence)
    model.sequence("asr_by_ear", audio=wav).plot(tmp_path / "sequence.png")
    model.save(tmp_path / "again")
    assert load(tmp_path / "again", device="cpu").generate("asr_by_ear", audio=tone()) == model.generate(
        "asr_by_ear", audio=tone()
    )
    (tmp_path / "again" / "features" / "ear" / "card.yaml").unlink()
    with pytest.raises(CheckpointError, match="features"):
        load(tmp_path / "again")


def test_musiclm_is_a_pipeline_of_which_two_stages_read_the_text(tmp_path, words):
    corpus = semantic_corpus.write_corpus(tmp_path / "corpus")
    km = semantic_corpus.train(corpus, tmp_path / "km", "--deduplicate", "--quiet")
    save_model("t5", tmp_path / "t5", words)
    L.seed_everything(3)
    inputs = {"reader": FeatureInputConfig(str(card(tmp_path, "t5")))}
    parts = {"text_tokenizer": "bytes", "audio_tokenizer": "toy_audio", "semantic_tokenizer": str(km), "langs": []}
    tasks = ["caption_to_semantic", "caption_semantic_to_acoustic", "audio_detail"]
    LMModule(LMConfig(stack(16), local=stack(8), ar_codebooks=4, features=inputs), tasks=tasks, **parts).export(
        tmp_path / "model"
    )
    model, asked = load(tmp_path / "model", device="cpu"), {"seed": 2, "max_seconds": 0.5}
    [made] = model.run([model.request("musiclm", text="a dog barks", **asked)])
    ids = model.generate("caption_to_semantic", text="a dog barks", **asked)
    coarse = model.request("caption_semantic_to_acoustic", text="a dog barks", semantic=ids, **asked)
    [sound] = model.run([coarse])
    fine = model.generate("audio_detail", audio=sound.codes["sound"], **asked)
    assert torch.equal(made.stages["semantic"].value, ids)
    assert torch.equal(made.value.samples, fine.samples)


def test_what_is_said_depends_on_the_features(trained_with):
    module = trained_with()
    with torch.no_grad():
        for weight in module.lm.parameters():
            weight.normal_(0, 0.2)
    task = module.tasks["tts_by_t5"]
    codes = torch.randint(0, 8, (4, 5))
    first, other = (module.builder.build(task, {"text": text, "speech": codes}) for text in ("one", "two"))
    states = module.builder.encoders["reader"].encode("one")
    as_states = module.builder.build(task, {"text": states, "speech": codes})
    sums, _ = score_sequences(module.lm, [first, other])
    encoded, _ = score_sequences(module.lm, [as_states])
    assert abs(float(sums[0] - sums[1])) > 1e-3
    assert float(encoded[0]) == pytest.approx(float(sums[0]), abs=1e-3)
    with pytest.raises(DataError, match="some are states"):
        collate([first, as_states])
    with pytest.raises(DataError, match=r"states are 5 wide, those of 'reader' are 16"):
        module.builder.build(task, {"text": torch.zeros(2, 5), "speech": codes})
    with pytest.raises(DataError, match=r"kind features takes text"):
        module.builder.build(task, {"text": torch.zeros(2, 5, dtype=torch.long), "speech": codes})


def test_records_without_what_an_encoder_needs_are_refused(trained_with, tmp_path):
    with pytest.raises(DataError, match=r"Prepare again with --feature-inputs ear=audio"):
        losses_of(trained_with(), prepare(tmp_path), tasks=[TaskMix("asr_by_ear")])
    stored = prepare(tmp_path, "--features", f"ear:{tmp_path / 'ear.yaml'}=audio", out="stored")
    with pytest.raises(DataError, match=r"holds states of 'ear', which is to be trained"):
        losses_of(trained_with(), stored, tasks=[TaskMix("asr_by_ear")])
    module, plain = trained_with(), str(write_records(tmp_path / "plain"))
    module.builder.feature_inputs.pop("reader")
    with pytest.raises(DataError, match=r"no feature input 'reader'"):
        losses_of(module, plain, tasks=[TaskMix("tts_by_t5")])


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("reader", "'reader' is not NAME=FIELD"),
        ("log_mel=text", "takes audio, field 'text' holds no audio"),
        ("log_mel=audoi", "Did you mean 'audio'?"),
    ],
)
def test_prepare_says_what_is_wrong_with_features(option, said, tmp_path, capsys):
    manifest = write_corpus(tmp_path / "corpus")
    arguments = ["prepare", "--manifest", str(manifest), "--tokenizer", "toy_audio", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--features", option]) == 2
    assert said in capsys.readouterr().err


def test_a_recording_too_short_for_an_encoder_is_left_out_and_told(tmp_path, capsys):
    manifest = write_corpus(tmp_path / "corpus")
    tone(0.05).write(manifest.parent / "3.wav")  # a codec frame, but no state
    config = transformers.HubertConfig(**speech_sizes() | {"conv_kernel": (10, 64)})
    transformers.HubertModel(config).save_pretrained(tmp_path / "hubert")
    transformers.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path / "hubert")
    card(tmp_path, "hubert")
    arguments = ["prepare", "--manifest", str(manifest), "--tokenizer", "toy_audio", "--out", str(tmp_path / "out")]
    arguments += ["--features", f"ear:{tmp_path / 'encoder.yaml'}=audio"]
    for _ in range(2):  # what could not be read is tried again, and left out again
        assert main(arguments) == 1
        told = capsys.readouterr()
        assert "7 records" in told.out
        assert re.search(r"row 'u3', field 'audio': encoder .* 800 samples at 16000 Hz: too short", told.err)
    tone(0.2).write(manifest.parent / "3.wav")
    assert main(arguments) == 0
    assert "8 records" in capsys.readouterr().out
    tone(0.05).write(manifest.parent / "3.wav")
    assert main([*arguments[:-3], str(tmp_path / "other"), *arguments[-2:], "--on-error", "fail"]) == 2
    assert "too short. Mend or remove the row" in capsys.readouterr().err
    assert not list((tmp_path / "other").glob("*.parquet"))


def test_features_are_no_targets(tmp_path):
    from unitok.tasks import Task

    (tmp_path / "wrong.yaml").write_text(
        "name: wrong\ndescription: x\nconditions: []\ntargets:\n  - {name: text, kind: features}\n"
    )
    with pytest.raises(CardError, match="allowed: text, label, audio, semantic"):
        Task.load(tmp_path / "wrong.yaml")


def test_a_clap_score_is_the_cosine_of_claps_vectors(tmp_path, words):
    save_model("clap", tmp_path / "clap", words)
    text = load_feature_encoder(card(tmp_path, "clap", takes="text")).encode("a dog barks")[0]
    sound = load_feature_encoder(card(tmp_path, "clap", takes="audio")).encode(tone())[0]
    tools = Tools(embedders={"caption": f"clap:{tmp_path / 'clap'}"})
    found = find_metric("clap_score").estimate(["a dog barks"], [tone()], tools).value
    assert found == pytest.approx(float(torch.cosine_similarity(text, sound, dim=0)), abs=1e-5)
