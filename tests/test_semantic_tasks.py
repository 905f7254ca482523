"""Tasks of semantic tokens: records that keep durations, training, checkpoints, generation, what is refused."""

import json
from dataclasses import replace

import lightning as L
import numpy as np
import pytest
import torch
from semantic_corpus import RATE, TEXTS, spoken, train, write_corpus
from training_runs import stack

from unitok.api import load
from unitok.audio import Audio
from unitok.cli.main import main
from unitok.data.datamodule import RecordDataModule
from unitok.data.examples import TaskExamples
from unitok.data.mixing import BatchConfig
from unitok.data.records import RecordReader
from unitok.errors import CheckpointError, DataError, GenerationError, UnitokError, VocabularyMismatchError
from unitok.evaluation.outcomes import Outcome, measure
from unitok.model.config import LMConfig
from unitok.tasks import SequenceBuilder, Task
from unitok.tokenizers import load_audio_tokenizer, load_semantic_tokenizer
from unitok.tokenizers.bytes import ByteTokenizer
from unitok.tokenizers.runs import collapse, read_ids
from unitok.training.lm_module import LMModule
from unitok.training.optimizers import OptimizerConfig
from unitok.training.schedules import ScheduleConfig
from unitok.vocabulary import Vocabulary

TASKS = ["text_to_semantic", "semantic_to_acoustic", "tts_semantic"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("semantic") / "corpus")


@pytest.fixture(scope="module")
def km(corpus):
    return train(corpus, corpus.parent.parent / "km", "--deduplicate", "--quiet")


@pytest.fixture(scope="module")
def shards(corpus, km):
    out = corpus.parent.parent / "shards"
    arguments = ["prepare", "--manifest", str(corpus), "--tokenizer", "toy_audio", "--semantic-tokenizer", str(km)]
    assert main([*arguments, "--out", str(out), "--quiet"]) == 0
    return out


def settings(km, **changes):
    parts = {"text_tokenizer": "bytes", "audio_tokenizer": "toy_audio", "semantic_tokenizer": str(km), "tasks": TASKS}
    optimizer, schedule = OptimizerConfig("adamw", lr=0.01), ScheduleConfig(warmup_steps=5, total_steps=220)
    return parts | {"optimizer": optimizer, "schedule": schedule} | changes


def trained(module, shards, steps):
    # One long epoch: Lightning takes longer to begin one than these models to learn in it.
    batching = {"batching": BatchConfig(400), "epoch_size": 5000}
    data = RecordDataModule(str(shards), optional_dropout=1.0, guided_dropout=0.0, **batching)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(max_steps=steps, accelerator="cpu", enable_checkpointing=False, **quiet)
    trainer.fit(module, datamodule=data)
    return module


@pytest.fixture(scope="module")
def folder(km, shards):
    """A model that has learnt the corpus by heart."""
    L.seed_everything(0)
    still = replace(stack(48), dropout=0.0)
    module = LMModule(LMConfig(still, local=replace(stack(24), dropout=0.0), ar_codebooks=4), **settings(km))
    trained(module, shards, 220).export(shards.parent / "model")
    return shards.parent / "model"


@pytest.fixture(scope="module")
def model(folder):
    return load(folder, device="cpu")


def ids_of(km, audio):
    return load_semantic_tokenizer(km).encode(audio.samples[None], audio.sample_rate_hz).codes[0]


def test_records_give_every_frame_back(shards, km, corpus, capsys):
    reader = RecordReader(shards)
    for i in range(len(TEXTS)):
        runs = reader.semantic("audio", i)
        ids = ids_of(km, Audio.read(corpus.parent / f"{i}.wav"))[0]
        assert torch.equal(runs.frames(), ids)
        assert len(runs.ids) < len(ids)
        assert reader.semantic_lengths("audio", "runs")[i] == len(runs.ids)
        assert reader.semantic_lengths("audio", "frames")[i] == len(ids)
    assert reader.meta.semantic.fingerprint == load_semantic_tokenizer(km).fingerprint
    assert main(["inspect", "--records", str(shards)]) == 0
    assert f"runs of {reader.semantic_lengths('audio', 'frames')[0]} semantic frames" in capsys.readouterr().out


@pytest.mark.parametrize("deduplicate", [True, False])
def test_one_store_serves_sequences_with_and_without_repetitions(deduplicate, shards, km):
    tokenizer, codec, text = load_semantic_tokenizer(km), load_audio_tokenizer("toy_audio"), ByteTokenizer()
    tokenizer.deduplicate = deduplicate
    vocabulary = Vocabulary.create(TASKS, [], text.size, [8] * 4, semantic_size=tokenizer.size)
    builder = SequenceBuilder(vocabulary, text, codec.frame_rate_hz, semantic_tokenizer=tokenizer)
    reader = RecordReader(shards)
    examples = TaskExamples(reader, Task.load("semantic_to_acoustic"), builder)
    for i in range(len(examples)):
        sequence = examples.sequence(i, np.random.default_rng(0))
        runs = reader.semantic("audio", i)
        expected = runs.ids if deduplicate else runs.frames()
        assert sequence.codes("semantic").tolist() == [expected.tolist()]
        assert len(sequence) <= examples.lengths[i]
        seconds = "" if deduplicate else f", {len(expected) / 20:.1f} s"
        assert f"[{len(expected)} tokens{seconds}]" in str(sequence)


@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.15, 0.2, 0.25])
@pytest.mark.parametrize("deduplicate", [True, False])
def test_a_continuation_may_begin_within_a_run(deduplicate, seconds, shards, km):
    tokenizer, text = load_semantic_tokenizer(km), ByteTokenizer()
    tokenizer.deduplicate = deduplicate
    vocabulary = Vocabulary.create(["semantic_continuation"], [], text.size, [8] * 4, semantic_size=tokenizer.size)
    builder = SequenceBuilder(vocabulary, text, 25.0, semantic_tokenizer=tokenizer)
    card = Task.load("semantic_continuation")
    task = replace(card, conditions=(replace(card.conditions[0], max_seconds=seconds),))
    reader = RecordReader(shards)
    examples = TaskExamples(reader, task, builder)
    assert len(examples) == len(TEXTS)
    for i in range(len(examples)):
        ids = reader.semantic("audio", i).frames()
        sequence = examples.sequence(i, np.random.default_rng(0))
        first = min(round(20 * seconds), len(ids) // 2)
        pieces = ids[:first], ids[first:]
        expected = [collapse(piece).ids.tolist() if deduplicate else piece.tolist() for piece in pieces]
        assert [sequence.codes(name).tolist()[0] for name in ("prompt", "semantic")] == expected
        assert len(sequence) < examples.lengths[i], "there is room for a language, which these records do not have"
    alone = TaskExamples(reader, task, builder, optional_dropout=1.0).sequence(0, np.random.default_rng(0))
    assert "prompt" not in alone.split()


def test_time_is_cut_before_repetitions_go(km):
    tokenizer, text = load_semantic_tokenizer(km), ByteTokenizer()
    vocabulary = Vocabulary.create(["part"], [], text.size, [8] * 4, semantic_size=6)
    builder = SequenceBuilder(vocabulary, text, 25.0, semantic_tokenizer=tokenizer)
    fields = {"conditions": [{"name": "start", "kind": "semantic", "max_seconds": 0.2}]}
    task = Task.from_card({"name": "part", "description": "x", "targets": [{"name": "text", "kind": "text"}], **fields})
    ids = torch.tensor([1, 1, 1, 2, 3, 3])  # 0.2 s are 4 frames of 20 Hz
    assert builder.build(task, {"start": ids}, targets=False).codes("start").tolist() == [[1, 2]]


def test_a_text_becomes_the_semantic_tokens_of_its_recording(model, km):
    for text in TEXTS:
        expected = collapse(ids_of(km, spoken(text))[0]).ids
        assert model.generate("text_to_semantic", text=text, greedy=True).tolist() == [expected.tolist()], text


def test_semantic_tokens_become_the_codes_of_their_recording(model):
    codec = load_audio_tokenizer("toy_audio")
    for text in TEXTS:
        audio = spoken(text)
        made = model.generate("semantic_to_acoustic", semantic=audio, greedy=True, max_seconds=2.0)
        codes, back = (codec.encode(one.samples[None], RATE).codes for one in (audio, made))
        assert torch.equal(back, codes), text


def test_text_becomes_audio_by_way_of_semantic_tokens(model, km):
    made = model.generate("tts_semantic", text="mid low", greedy=True, max_seconds=2.0)
    codec, audio = load_audio_tokenizer("toy_audio"), spoken("mid low")
    assert made["semantic"].tolist() == [collapse(ids_of(km, audio)[0]).ids.tolist()]
    codes, back = (codec.encode(one.samples[None], RATE).codes for one in (audio, made["speech"]))
    assert torch.equal(back, codes)


def test_a_pipeline_speaks_a_text_it_has_learned_by_way_of_semantic_tokens(model):
    codec, settings = load_audio_tokenizer("toy_audio"), {"greedy": True, "max_seconds": 2.0}
    requests = [{"task": "spear_tts", "text": text} for text in TEXTS]
    for text, made in zip(TEXTS, model.generate_batch(requests, **settings), strict=True):
        ids = model.generate("text_to_semantic", text=text, **settings)
        alone = model.generate("semantic_to_acoustic", semantic=ids, **settings)
        assert torch.equal(made.samples, alone.samples)
        codes, back = (codec.encode(one.samples[None], RATE).codes for one in (spoken(text), made))
        assert torch.equal(back, codes), text


def test_the_command_line_passes_ids_on_by_file(folder, km, tmp_path, capsys):
    common = ["generate", "--model", str(folder), "--greedy", "--quiet", "--device", "cpu"]
    expected = collapse(ids_of(km, spoken("high mid"))[0]).ids.tolist()
    assert main([*common, "--task", "text_to_semantic", "--text", "high mid"]) == 0
    assert capsys.readouterr().out.split() == [str(id) for id in expected]
    for suffix in (".npy", ".json", ".txt"):
        path = tmp_path / f"ids{suffix}"
        assert main([*common, "--task", "text_to_semantic", "--text", "high mid", "--out", str(path), "--json"]) == 0
        row = json.loads(capsys.readouterr().out)
        assert row["semantic"] == str(path)
        assert read_ids(path).tolist() == expected
    spoken("high mid").write(tmp_path / "in.wav")
    for given in ("ids.npy", "ids.txt", "in.wav"):
        options = ["--task", "semantic_to_acoustic", "--semantic", str(tmp_path / given)]
        assert main([*common, *options, "--out", str(tmp_path / f"{given}.out.wav")]) == 0
    made = [Audio.read(tmp_path / f"{given}.out.wav").samples for given in ("ids.npy", "ids.txt", "in.wav")]
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])
    assert main([*common, "--task", "tts_semantic", "--text", "low", "--out", str(tmp_path / "both.wav")]) == 0
    assert read_ids(tmp_path / "both.npy").tolist() == collapse(ids_of(km, spoken("low"))[0]).ids.tolist()


def test_manifests_take_and_give_semantic_tokens(folder, km, tmp_path):
    spoken("low").write(tmp_path / "low.wav")
    ids = collapse(ids_of(km, spoken("low"))[0]).ids.tolist()
    rows = [
        {"id": "a", "task": "text_to_semantic", "text": "low"},
        {"id": "b", "task": "semantic_to_acoustic", "semantic": "low.wav"},
        {"id": "c", "task": "semantic_to_acoustic", "semantic": ids},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["generate", "--model", str(folder), "--manifest", str(tmp_path / "in.jsonl"), "--greedy", "--quiet"]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    results = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [row.get("semantic") or row.get("audio") for row in results] == ["a.npy", "b.wav", "c.wav"]
    assert read_ids(tmp_path / "out" / "a.npy").tolist() == ids
    b, c = (Audio.read(tmp_path / "out" / f"{name}.wav").samples for name in "bc")
    assert torch.equal(b, c)


def test_a_checkpoint_holds_its_semantic_tokenizer(folder, model, km, tmp_path):
    model.save(tmp_path / "copy")
    again = load(tmp_path / "copy", device="cpu")
    assert again.tokenizers.semantic.fingerprint == load_semantic_tokenizer(km).fingerprint
    assert again.tokenizers.semantic.deduplicate
    assert "6 ids, 20 frames/s, de-duplicated" in (tmp_path / "copy" / "README.md").read_text()
    made = [one.generate("text_to_semantic", text="mid low", seed=3).tolist() for one in (model, again)]
    assert made[0] == made[1]
    (tmp_path / "copy" / "tokenizers" / "semantic" / "card.yaml").unlink()
    with pytest.raises(CheckpointError, match="tokenizers/semantic: cannot be loaded"):
        load(tmp_path / "copy", device="cpu")


def test_semantic_tokens_are_added_to_a_model_that_has_none(km, shards, tmp_path):
    L.seed_everything(0)
    config = LMConfig(stack(16), local=stack(8), ar_codebooks=4)
    begun = LMModule(config, **settings(km, tasks=["tts"], semantic_tokenizer=None))
    begun.export(tmp_path / "base")
    grown = LMModule(init_from=str(tmp_path / "base"), tasks=["semantic_to_acoustic"], semantic_tokenizer=str(km))
    old = begun.vocabulary.size
    assert grown.vocabulary.semantic_size == 6
    assert torch.equal(grown.lm.embedding.weight[:old], begun.lm.embedding.weight)
    trained(grown, shards, 2).export(tmp_path / "grown")
    made = load(tmp_path / "grown", device="cpu").generate("semantic_to_acoustic", semantic=[1, 2, 3], max_seconds=0.2)
    assert made.duration_s <= 0.2
    with pytest.raises(UnitokError, match="semantic_tokenizer cannot be added to 'grown': it has 'km'"):
        LMModule(init_from=str(tmp_path / "grown"), semantic_tokenizer=str(km))


def test_records_and_models_that_do_not_fit_are_refused(km, corpus, shards, tmp_path):
    config = LMConfig(stack(16), local=stack(8), ar_codebooks=4)
    with pytest.raises(UnitokError, match="semantic_tokenizer is not set, text_to_semantic, semantic_to_acoustic"):
        LMModule(config, **settings(km, semantic_tokenizer=None))
    arguments = ["prepare", "--manifest", str(corpus), "--tokenizer", "toy_audio", "--quiet"]
    assert main([*arguments, "--out", str(tmp_path / "plain")]) == 0
    with pytest.raises(
        DataError, match="takes semantic tokens, which are not stored. Prepare again with --semantic-tok"
    ):
        trained(LMModule(config, **settings(km)), tmp_path / "plain", 1)
    other = train(corpus, tmp_path / "other", "--seed", "5", "--max-frames", "40", "--quiet")
    with pytest.raises(DataError, match=r"semantic tokens were made with 'km' .* model has 'other'"):
        trained(LMModule(config, **settings(other)), shards, 1)
    with pytest.raises(DataError, match="has semantic=None"):
        RecordReader([shards, tmp_path / "plain"])
    small = Vocabulary.create(TASKS, [], 256, [8] * 4, semantic_size=3)
    with pytest.raises(VocabularyMismatchError, match="'km' has 6 ids, the vocabulary has 3"):
        SequenceBuilder(small, ByteTokenizer(), 25.0, semantic_tokenizer=load_semantic_tokenizer(km))


def test_audio_needs_a_semantic_tokenizer_to_be_heard(model, tmp_path):
    with pytest.raises(DataError, match="is no file of semantic ids|cannot be read"):
        model.generate("semantic_to_acoustic", semantic=str(tmp_path / "nothing.npy"))
    with pytest.raises(DataError, match=r"semantic ids are \[2, 3\], allowed"):
        model.generate("semantic_to_acoustic", semantic=torch.zeros(2, 3, dtype=torch.long))
    tokenizers, model.tokenizers = model.tokenizers, model.tokenizers._replace(semantic=None)
    try:
        with pytest.raises(GenerationError, match="has no semantic tokenizer to hear audio with"):
            model.generate("semantic_to_acoustic", semantic=spoken("low"))
    finally:
        model.tokenizers = tokenizers


def test_units_are_compared_one_by_one():
    task = Task.load("text_to_semantic")
    pairs = [([1, 2, 3, 4], [1, 2, 4]), ([5, 6], [5, 7])]
    outcomes = [Outcome(*({"semantic": torch.tensor([ids])} for ids in pair)) for pair in pairs]
    assert measure(task, outcomes)["unit_error_rate"].value == pytest.approx(2 / 6)
