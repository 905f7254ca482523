"""`RecordDataModule`: mixes, evaluation, workers, and what it refuses."""

import logging

import numpy as np
import pytest
import torch
from records_for_tests import write_records

from unitok.data.datamodule import RecordDataModule, TaskMix
from unitok.data.mixing import BatchConfig
from unitok.errors import DataError
from unitok.tasks import SequenceBuilder, Task
from unitok.testing import ToyAudioTokenizer
from unitok.tokenizers.bytes import ByteTokenizer
from unitok.vocabulary import Vocabulary

TASKS = {name: Task.load(name) for name in ("tts", "asr")}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_records(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="module")
def more(tmp_path_factory):
    return write_records(tmp_path_factory.mktemp("more"), n=10)


def data(train, attach=True, stage="fit", **settings):
    module = RecordDataModule(train, **{"batching": BatchConfig(batch_tokens=200), **settings})
    if attach:
        builder = SequenceBuilder(Vocabulary.create(list(TASKS), ["en"], 256, [8] * 4), ByteTokenizer(), 25.0)
        module.attach(builder, TASKS, ToyAudioTokenizer().fingerprint)
    module.setup(stage)
    return module


def contents(loader):
    return [batch.tokens.flatten().tolist() for batch in loader]


def task_counts(module, loader):
    ids = {name: module.builder.vocabulary.task_id(name) for name in TASKS}
    tokens = torch.cat([batch.tokens[:, 1, 0] for batch in loader])
    return {name: int((tokens == id).sum()) for name, id in ids.items()}


def test_a_record_serves_every_task_that_finds_its_fields(shards):
    module = data(str(shards))
    assert task_counts(module, module.train_dataloader()) == {"tts": 18, "asr": 18}


def test_a_task_may_be_given_by_its_name_alone(shards):
    named, spelled = (data(str(shards), tasks=tasks) for tasks in (["asr"], [TaskMix("asr")]))
    assert named.mix == spelled.mix
    assert task_counts(named, named.train_dataloader()) == {"tts": 0, "asr": 18}


def test_guided_conditions_are_left_out_in_training_only(shards):
    module = data(str(shards), val=str(shards), tasks=[TaskMix("tts")], guided_dropout=1.0)
    text = module.builder.vocabulary.start_id("text")
    assert not any((batch.tokens == text).any() for batch in module.train_dataloader())
    assert all((batch.tokens == text).any(1).any(1).all() for batch in module.val_dataloader())


def test_weights_decide_the_share_of_each_task(shards):
    module = data(
        str(shards), tasks=[TaskMix("tts", 3.0), TaskMix("asr", 1.0)], epoch_size=400, batching=BatchConfig(5000)
    )
    counts = task_counts(module, module.train_dataloader())
    assert counts == {"tts": 300, "asr": 100}


def test_entries_choose_among_named_data(shards, more):
    mix = [TaskMix("tts", data="a"), TaskMix("asr", data="b")]
    module = data({"a": str(shards), "b": [f"{more}/*.parquet"]}, tasks=mix, val=str(more))
    assert [len(part) for part in module.dataset("train").parts] == [18, 8]
    assert [len(part) for part in module.dataset("val").parts] == [8, 8]
    assert task_counts(module, module.val_dataloader()) == {"tts": 8, "asr": 8}


def test_two_entries_of_one_task_may_differ_in_what_they_go_without(shards):
    mix = [TaskMix("tts", 1.0, without=["prompt"]), TaskMix("tts", 1.0, without=["voice"])]
    module = data(str(shards), tasks=mix, val=str(shards), optional_dropout=0.0)
    for part, there, absent in zip(module.dataset("val").parts, ("voice", "prompt"), ("prompt", "voice"), strict=True):
        names = part.sequence(0, np.random.default_rng(0)).split().keys()
        assert there in names
        assert absent not in names


def test_an_entry_may_read_other_fields_than_the_card(shards):
    mix = [TaskMix("asr"), TaskMix("asr", fields={"text": "speaker"})]
    parts = data(str(shards), tasks=mix, val=str(shards)).dataset("val").parts
    text, speaker = (part.sequence(0, np.random.default_rng(0)).split()["text"] for part in parts)
    assert (text, speaker) == tuple(str(parts[0].reader.value(field, 0)).lower() for field in ("text", "speaker"))
    with pytest.raises(DataError, match=r"task 'asr' has no 'adio'\. Did you mean 'audio'\? It has: audio, text, lang"):
        data(str(shards), tasks=[TaskMix("asr", fields={"adio": "x"})]).dataset("train")


def test_an_epoch_is_the_same_in_a_second_process_and_differs_from_the_next(shards):
    one, two = data(str(shards)), data(str(shards))
    assert contents(one.train_dataloader()) == contents(two.train_dataloader())
    assert contents(one.train_dataloader()) != contents(data(str(shards), seed=1).train_dataloader())


def test_workers_give_the_same_batches_in_the_same_order(shards):
    assert contents(data(str(shards), num_workers=2).train_dataloader()) == contents(
        data(str(shards)).train_dataloader()
    )


def test_batches_are_within_the_budget(shards):
    for batch in data(str(shards)).train_dataloader():
        assert batch.tokens.shape[0] * batch.tokens.shape[1] <= 200


def test_a_loader_that_begins_within_an_epoch_gives_its_rest_and_then_the_next_epoch(shards):
    module = data(str(shards))
    plan = module.train_plan()
    loader = module.train_dataloader()
    loader._batches_done = lambda: 2 * len(loader) + 3
    expected = plan.batches(2)[3:] + plan.batches(3)[:3]
    got = [[int(n) for n in batch.lengths] for batch in loader]
    assert got == [[len(module.dataset("train")[example]) for example in batch] for batch in expected]


def test_a_changed_order_is_said_when_a_run_is_resumed(shards, caplog):
    state = data(str(shards)).train_dataloader().state_dict()
    logging.getLogger("unitok").propagate = True
    with caplog.at_level(logging.WARNING, "unitok"):
        data(str(shards)).train_dataloader().load_state_dict(state)
        assert not caplog.records
        data(str(shards), seed=5).train_dataloader().load_state_dict(state)
    assert "seed: 0 there, 5 here" in caplog.text


def test_a_seed_below_0_is_refused(shards):
    with pytest.raises(DataError, match=r"data\.seed is -1, allowed: 0 or more"):
        data(str(shards), seed=-1)


def test_an_unknown_task_and_unknown_data_are_errors_with_the_nearest(shards):
    with pytest.raises(DataError, match=r"the model has no task 'ttz'. Did you mean 'tts'\?"):
        data(str(shards), tasks=[TaskMix("ttz")])
    with pytest.raises(DataError, match=r"task 'tts' wants data 'speach', 'train' names speech"):
        data({"speech": str(shards)}, tasks=[TaskMix("tts", data="speach")])


def test_a_negative_weight_is_refused():
    for name in ("weight", "loss_weight"):
        with pytest.raises(DataError, match=f"{name} of 'tts' is -1.0, allowed: 0 or more"):
            TaskMix("tts", **{name: -1.0})


def test_a_language_that_the_model_lacks_is_an_error_before_training(shards):
    module = RecordDataModule(str(shards))
    builder = SequenceBuilder(Vocabulary.create(list(TASKS), ["de"], 256, [8] * 4), ByteTokenizer(), 25.0)
    module.attach(builder, TASKS)
    with pytest.raises(DataError, match=r"'lang' of records .* says en; the model's languages are de. Name all"):
        module.setup("fit")


def test_records_of_another_codec_are_refused(tmp_path):
    other = write_records(tmp_path, codec=ToyAudioTokenizer(codebook_size=16))
    with pytest.raises(DataError, match="Prepare the data with the model's audio_tokenizer"):
        data(str(other))


def test_a_missing_split_and_a_missing_model_are_errors(shards):
    with pytest.raises(DataError, match=r"data.init_args.test is not set: 'unitok test' needs record shards"):
        data(str(shards), stage="test")
    with pytest.raises(DataError, match=r"needs a model with a 'builder' and 'tasks'"):
        data(str(shards), attach=False)
