"""`LMModule`: its parts, what it logs and exports, fine-tuning, and the callbacks beside it."""

import copy
from dataclasses import replace
from datetime import timedelta

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Timer
from records_for_tests import write_records
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_tokenizers_text import sentences
from training_runs import fit, module, stack

from unitok.checkpoint import load_checkpoint
from unitok.data.datamodule import RecordDataModule
from unitok.data.mixing import BatchConfig, Example
from unitok.errors import CardError, UnitokError
from unitok.generation.engine import Engine
from unitok.model.adapter import Adapter
from unitok.model.config import LMConfig
from unitok.model.losses import LMOutput
from unitok.tasks import Task
from unitok.tokenizers import save_tokenizer
from unitok.tokenizers.lexicon import Lexicon
from unitok.tokenizers.sentencepiece import SentencePieceTokenizer
from unitok.training.callbacks import CheckpointFolder
from unitok.training.lm_module import LMModule, Objective
from unitok.training.meter import LossMeter
from unitok.training.optimizers import OptimizerConfig
from unitok.training.samples import ValidationSamples, attention_maps, prompt_of
from unitok.training.schedules import ScheduleConfig


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return str(write_records(tmp_path_factory.mktemp("records")))


def batches(lm, shards):
    data = RecordDataModule(shards, batching=BatchConfig(200))
    data.attach(lm.builder, lm.tasks)
    data.setup("fit")
    return data.train_dataloader()


def test_what_is_exported_is_what_was_trained_average_and_all(shards, tmp_path):
    lm, _ = fit(tmp_path, shards, 3)
    raw = copy.deepcopy(lm.lm.state_dict())
    lm.export(tmp_path / "model")
    loaded = load_checkpoint(tmp_path / "model")
    assert loaded.vocabulary == lm.vocabulary
    assert loaded.tasks == {name: replace(task, instructions=()) for name, task in lm.tasks.items()}
    assert loaded.audio_tokenizer.fingerprint == lm.codec_fingerprint
    exported = dict(loaded.lm.named_parameters())
    for name, average in lm._average.average.items():
        torch.testing.assert_close(exported[name].detach(), average)
        assert torch.equal(dict(lm.lm.named_parameters())[name], raw[name])
    assert any(not torch.equal(exported[name], raw[name]) for name in exported)


def test_a_model_keeps_the_instructions_that_it_learned(shards, tmp_path):
    lm = module()
    data = RecordDataModule(shards, batching=BatchConfig(200), tasks=["tts", {"task": "asr", "instructed": 0.5}, "asr"])
    settings = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    L.Trainer(max_steps=2, default_root_dir=tmp_path, **settings).fit(lm, datamodule=data)
    lm.export(tmp_path / "model")
    loaded = load_checkpoint(tmp_path / "model").tasks
    assert loaded["asr"].instructions == Task.load("asr").instructions != ()
    assert loaded["tts"].instructions == ()
    again = LMModule(init_from=str(tmp_path / "model"), tasks=["se"])
    assert again.as_checkpoint(again.lm).tasks["asr"].instructions
    assert not again.as_checkpoint(again.lm).tasks["se"].instructions


def test_a_new_model_begins_with_the_codes_of_its_codec():
    lm = module()
    ids = torch.cat([lm.vocabulary.ids_of(f"audio.{k}") for k in range(2)])
    vectors = torch.cat([v - v.mean(dim=0) for v in lm.audio_tokenizer.codebook_vectors()[:2]])
    ours = torch.pdist(lm.lm.embedding.weight.detach()[ids])
    theirs = torch.pdist(vectors)
    torch.testing.assert_close(ours / ours.max(), theirs / theirs.max(), rtol=1e-3, atol=1e-5)


def test_fine_tuning_keeps_ids_and_weights_and_adds_tasks_and_languages(shards, tmp_path):
    lm = module()
    lm.export(tmp_path / "model")
    grown = LMModule(init_from=str(tmp_path / "model"), tasks=["speech_continuation"], langs=["de"])
    assert sorted(grown.tasks) == ["asr", "speech_continuation", "tts"]
    assert grown.vocabulary.lang_names == ("en", "de")
    assert grown.vocabulary.task_id("tts") == lm.vocabulary.task_id("tts")
    lm.lm.eval(), grown.lm.eval()
    for batch in list(batches(lm, shards))[:2]:
        assert torch.equal(lm.lm.loss(batch, seed=1).loss, grown.lm.loss(batch, seed=1).loss)
    tuned, recorder = fit(tmp_path, shards, 2, lm=grown)
    assert len(recorder.losses) == 2
    assert not torch.equal(tuned.lm.head.weight, lm.lm.head.weight)


def test_fine_tuning_may_ask_for_something_else(shards, tmp_path):
    lm = module()
    lm.export(tmp_path / "model")
    K = lm.vocabulary.n_codebooks
    weights = tuple(1.0 + k for k in range(K))
    tuned = LMModule(init_from=str(tmp_path / "model"), objective=Objective(codebook_weights=weights))
    batch = next(iter(batches(lm, shards)))
    lm.lm.eval(), tuned.lm.eval()
    before, after = lm.lm.loss(batch, seed=1), tuned.lm.loss(batch, seed=1)
    assert all(torch.equal(before.parts[name], after.parts[name]) for name in before.parts)
    assert before.loss != after.loss
    tuned.export(tmp_path / "tuned")
    assert load_checkpoint(tmp_path / "tuned").lm.config.codebook_weights == weights
    for wrong in (Objective(codebook_weights=(1.0,)), Objective(local_fraction=2.0)):
        with pytest.raises(UnitokError, match="model.init_args.objective: "):
            LMModule(init_from=str(tmp_path / "model"), objective=wrong)


def test_a_vocabulary_that_outgrows_its_spare_ids_gets_new_rows_and_keeps_the_old(tmp_path):
    lm = module()
    lm.export(tmp_path / "model")
    langs = [f"l{i}" for i in range(80)]
    grown = LMModule(init_from=str(tmp_path / "model"), langs=langs)
    V = lm.vocabulary.size
    assert grown.vocabulary.size > V
    assert torch.equal(grown.lm.embedding.weight[:V], lm.lm.embedding.weight)
    assert grown.lm.head is not None
    assert lm.lm.head is not None
    assert len(grown.lm.head.weight) > len(lm.lm.head.weight)
    assert torch.equal(grown.lm.head.weight[: len(lm.lm.head.weight)], lm.lm.head.weight)


def test_text_may_go_on_in_more_pieces_that_begin_as_what_they_are_made_of(tmp_path):
    texts = sentences()
    old = SentencePieceTokenizer.train(texts, 285, name="old")
    new = old.grown(texts, 288)
    save_tokenizer(old, tmp_path / "old"), save_tokenizer(new, tmp_path / "new")
    lm = module(text_tokenizer=str(tmp_path / "old"))
    lm.export(tmp_path / "model")
    grown = LMModule(init_from=str(tmp_path / "model"), text_tokenizer=str(tmp_path / "new"))
    assert grown.text_tokenizer.fingerprint == new.fingerprint
    assert grown.vocabulary.text_size == 288
    ids = grown.vocabulary.text_to_tokens(range(288))
    for i in range(285, 288):
        made_of = [ids[j] for j in old.spelled(new.piece(i))]
        for weight, rows in (
            (grown.lm.embedding.weight, torch.tensor([ids[i], *made_of])),
            (grown.lm.head.weight, torch.searchsorted(grown.lm.slot0_ids, torch.tensor([ids[i], *made_of]))),
        ):
            torch.testing.assert_close(weight[rows[0]], weight[rows[1:]].mean(dim=0))
    V = lm.vocabulary.size
    assert torch.equal(grown.lm.embedding.weight[:V], lm.lm.embedding.weight)
    grown.export(tmp_path / "grown")
    assert load_checkpoint(tmp_path / "grown").text_tokenizer.encode(texts[0]) == new.encode(texts[0])
    for wrong, said in (
        ({"text_tokenizer": "bytes"}, "text_tokenizer 'bytes' was not grown from that of 'model'"),
        ({"text_tokenizer": str(tmp_path / "new"), "adapter": Adapter(rank=2)}, "is not set with adapter"),
    ):
        with pytest.raises(UnitokError, match=said):
            LMModule(init_from=str(tmp_path / "model"), **wrong)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "not set: lm, text_tokenizer, audio_tokenizer, tasks"),
        ({"objective": Objective(local_fraction=0.5)}, "objective is for init_from"),
        ({"init_from": "x", "audio_tokenizer": "toy_audio"}, "audio_tokenizer cannot be set with init_from"),
    ],
)
def test_settings_that_are_missing_or_contradict_are_named(settings, message):
    with pytest.raises(UnitokError, match=message):
        LMModule(**settings)


def test_fewer_codebooks_of_the_codec_can_be_modelled(shards):
    config = LMConfig(stack(16), refiner=stack(8), ar_codebooks=1)
    lm = LMModule(config, text_tokenizer="bytes", audio_tokenizer="toy_audio", tasks=["tts"], n_codebooks=3)
    assert lm.vocabulary.n_codebooks == lm.audio_tokenizer.n_codebooks == 3
    assert next(iter(batches(lm, shards))).tokens.shape[2] == 3


def test_training_without_an_end_is_refused_with_the_remedy(shards, tmp_path):
    config = LMConfig(stack(16), refiner=stack(8), ar_codebooks=1)
    lm = LMModule(config, text_tokenizer="bytes", audio_tokenizer="toy_audio", tasks=["tts"])
    with pytest.raises(
        UnitokError, match=r"set trainer.max_steps, trainer.max_time, or model.init_args.schedule.total_steps"
    ):
        fit(tmp_path, shards, -1, lm=lm, max_epochs=-1)


def test_without_a_last_step_the_schedule_follows_the_clock(tmp_path, shards):
    schedule = ScheduleConfig("linear", warmup_steps=0, final_fraction=0.0)
    rates = []

    class Rates(L.Callback):
        def on_train_batch_end(self, trainer, *args):
            rates.append((trainer.optimizers[0].param_groups[0]["lr"], timer.time_elapsed()))

    timer = Timer(duration=timedelta(seconds=2))
    lm = module(schedule=schedule, optimizer=OptimizerConfig("adamw", lr=0.01))
    fit(tmp_path, shards, -1, lm=lm, callbacks=[timer, Rates()], max_epochs=-1)
    assert len(rates) > 5
    for rate, elapsed in rates[1:]:
        assert rate / 0.01 == pytest.approx(1 - min(1.0, elapsed / 2), abs=0.2)
    assert rates[-1][0] < 0.002


def test_every_part_is_logged_and_samples_and_pictures_are_shown(shards, tmp_path):
    settings = {"val": True, "log_every_n_steps": 2, "val_check_interval": 4, "check_val_every_n_epoch": None}
    board = L.pytorch.loggers.TensorBoardLogger(tmp_path, name="", version="")
    fit(tmp_path, shards, 8, logger=board, callbacks=[ValidationSamples(per_task=1)], **settings)
    events = EventAccumulator(str(tmp_path), size_guidance={"audio": 0, "images": 0, "tensors": 0}).Reload()
    scalars = set(events.Tags()["scalars"])
    for stage in ("train", "val"):
        assert {f"{stage}/loss", f"{stage}/loss/text", f"{stage}/accuracy/text", f"{stage}/loss/audio.0"} <= scalars
    assert {f"train/loss/audio.{k}" for k in range(4)} <= scalars
    assert {"lr", "tokens_per_s"} <= scalars
    assert len(events.Scalars("val/loss")) == 2
    audio = set(events.Tags()["audio"])
    assert "samples/tts/0/reference/speech" in audio
    assert {"sequence/tts", "sequence/asr", "attention/tts", "attention/asr"} <= set(events.Tags()["images"])
    assert "samples/asr/1/text/text_summary" in events.Tags()["tensors"]


def test_neither_losses_nor_samples_of_validation_are_guided(shards, tmp_path, monkeypatch):
    requests, generate, losses = [], Engine.generate, []
    monkeypatch.setattr(Engine, "generate", lambda self, some: (requests.extend(some), generate(self, some))[1])
    settings = {"val": True, "val_check_interval": 2, "check_val_every_n_epoch": None}
    for guidance in (1.0, 3.0):
        board = L.pytorch.loggers.TensorBoardLogger(tmp_path, name="", version="")
        lm = module(generate={"tts": {"guidance": guidance}})
        shown = ValidationSamples(per_task=1, pictures=False)
        fit(tmp_path, shards, 2, lm=lm, logger=board, callbacks=[shown], **settings)
        losses.append(float(lm.trainer.callback_metrics["val/loss"]))
    assert losses[0] == losses[1]
    assert requests
    assert not any(request.guidance for request in requests)


def test_the_logged_validation_loss_is_the_mean_over_all_labels(shards, tmp_path):
    lm, _ = fit(
        tmp_path, shards, 2, val=True, lm=module(ema_decay=0.0), val_check_interval=2, check_val_every_n_epoch=None
    )
    logged = float(lm.trainer.callback_metrics["val/loss/text"])
    data = RecordDataModule(None, shards, batching=BatchConfig(200))
    data.attach(lm.builder, lm.tasks)
    data.setup("validate")
    total = count = 0.0
    with torch.no_grad():
        for batch in data.val_dataloader():
            output = lm.lm.eval().loss(batch, seed=0)
            total += float(output.parts.get("text", 0.0)) * output.counts.get("text", 0)
            count += output.counts.get("text", 0)
    assert logged == pytest.approx(total / count, rel=1e-5)


def test_a_meter_weighs_means_by_their_labels():
    meter = LossMeter(["text", "audio.0"])
    for loss, n_text, n_audio in ((1.0, 3, 1), (5.0, 1, 0)):
        parts = {"text": n_text, **({"audio.0": n_audio} if n_audio else {})}
        values = {name: torch.tensor(loss) for name in parts}
        meter.add(
            LMOutput(
                torch.tensor(loss, requires_grad=True), values, parts, {name: v / 10 for name, v in values.items()}
            )
        )
    means = meter.take()
    assert means["loss/text"] == pytest.approx((3 * 1 + 5) / 4)
    assert means["accuracy/text"] == pytest.approx((3 * 0.1 + 0.5) / 4)
    assert means["loss/audio.0"] == pytest.approx(1.0)
    assert means["loss"] == pytest.approx((4 * 1 + 5) / 5)
    assert meter.take() == {}


def test_a_prompt_is_the_sequence_before_its_first_target(shards):
    lm = module()
    data = RecordDataModule(shards, optional_dropout=0.0)
    data.attach(lm.builder, lm.tasks)
    data.setup("fit")
    sequence = data.dataset("train")[Example(0, 0, 0, 0)]
    values = {name: value for name, value in sequence.split().items() if name != "speech"}
    expected = lm.builder.build(lm.tasks["tts"], values, lang="en", targets=False)
    prompt = prompt_of(sequence)
    assert torch.equal(prompt.tokens, expected.tokens)
    assert prompt.segments == expected.segments


def test_attention_maps_are_causal_and_what_attention_does(shards):
    lm = module().eval()
    data = RecordDataModule(shards)
    data.attach(lm.builder, lm.tasks)
    data.setup("fit")
    maps = attention_maps(lm.lm, data.dataset("train")[Example(0, 0, 0, 3)])
    assert len(maps) == 1
    weights = maps[0]
    S = len(data.dataset("train")[Example(0, 0, 0, 3)])
    assert weights.shape == (2, S, S)
    assert torch.equal(weights, weights.tril())
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, S))


def test_the_folder_of_the_latest_and_of_the_best_are_kept_apart(shards, tmp_path):
    class Worsen(L.Callback):
        """After the first validation, spoil the weights, so that the first stays the best."""

        def on_validation_end(self, trainer, pl_module):
            with torch.no_grad():
                pl_module.lm.head.weight.normal_(std=3.0)

    export = CheckpointFolder(tmp_path / "model", every_n_steps=3, monitor="val/loss")
    settings = {"val": True, "val_check_interval": 2, "check_val_every_n_epoch": None, "lm": module(ema_decay=0.0)}
    lm, _ = fit(tmp_path, shards, 6, callbacks=[export, Worsen()], **settings)
    last, best = load_checkpoint(tmp_path / "model"), load_checkpoint(tmp_path / "model-best")
    assert (last.notes["steps"], best.notes["steps"]) == (6, 2)
    assert torch.equal(last.lm.head.weight, lm.lm.head.weight)
    assert export.best < float(lm.trainer.callback_metrics["val/loss"])


def test_a_loss_that_is_no_number_is_not_the_best(shards, tmp_path):
    class Spoil(L.Callback):
        """Make the first validation fail, and no other."""

        def on_validation_start(self, trainer, pl_module):
            self.weight = pl_module.lm.head.weight.data
            if trainer.global_step == 1:
                pl_module.lm.head.weight.data = self.weight * torch.nan

        def on_validation_end(self, trainer, pl_module):
            pl_module.lm.head.weight.data = self.weight

    export = CheckpointFolder(tmp_path / "model", monitor="val/loss")
    settings = {"val": True, "val_check_interval": 1, "check_val_every_n_epoch": None, "lm": module(ema_decay=0.0)}
    fit(tmp_path, shards, 2, callbacks=[Spoil(), export], **settings)
    assert load_checkpoint(tmp_path / "model-best").notes["steps"] == 2


def test_an_unknown_metric_to_watch_is_an_error_that_lists_those_there_are(shards, tmp_path):
    export = CheckpointFolder(tmp_path / "model", monitor="val/los")
    with pytest.raises(UnitokError, match=r"there is no metric 'val/los'. There are: .*val/loss"):
        fit(tmp_path, shards, 2, val=True, callbacks=[export], val_check_interval=2, check_val_every_n_epoch=None)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_bf16_training_goes_down(name, shards, tmp_path):
    lm = module(ema_decay=0.0, optimizer=OptimizerConfig(name, lr=0.02))
    _, recorder = fit(tmp_path, shards, 30, lm=lm, precision="bf16-mixed", gradient_clip_val=1.0)
    assert sum(recorder.losses[-5:]) < 0.8 * sum(recorder.losses[:5])


def test_weights_are_stored_as_asked_for_beside_the_model_card(shards, tmp_path):
    card = tmp_path / "card.md"
    card.write_text("# Toy\n\nSays what it can do.\n")
    lm = module(store_as="float16", model_card=card)
    fit(tmp_path, shards, 1, lm=lm)
    lm.export(tmp_path / "toy")
    assert (tmp_path / "toy" / "README.md").read_text() == card.read_text()
    stored = load_file(tmp_path / "toy" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}


def test_a_model_card_that_is_not_there_is_missed_before_training():
    with pytest.raises(UnitokError, match=r"model_card: 'none\.md' does not exist"):
        module(model_card="none.md")


def test_the_prior_of_alignment_goes_into_training_alone_and_ends(shards, tmp_path):
    lm, biases = module(), []
    inner = lm.lm.loss
    lm.lm.loss = lambda batch, seed, bias=None: (biases.append((lm.training, bias)), inner(batch, seed, bias))[1]
    fit(tmp_path, shards, 10, lm=lm, val=True, val_check_interval=5, check_val_every_n_epoch=None)
    training = [bias for in_training, bias in biases if in_training]
    assert [bias is not None for bias in training] == [True] * 8 + [False] * 2
    lowest = [float(bias.min()) for bias in training[:8]]
    assert min(lowest[:4]) < -2
    assert min(lowest) >= -6
    assert lowest[7] > -6 / 5 - 1e-6  # a fifth of the strength is left
    validating = [bias for in_training, bias in biases if not in_training]
    assert validating
    assert all(bias is None for bias in validating)


def test_defaults_of_generation_that_suit_the_model_go_into_its_cards(tmp_path):
    module(generate={"tts": {"guidance": 1.5, "best_of": 3}}).export(tmp_path / "model")
    tasks = load_checkpoint(tmp_path / "model").tasks
    assert tasks["tts"].generate == replace(Task.load("tts").generate, guidance=1.5, best_of=3)
    assert tasks["asr"] == replace(Task.load("asr"), instructions=())
    tuned = LMModule(init_from=str(tmp_path / "model"), generate={"tts": {"best_of": 1}})
    assert tuned.tasks["tts"].generate == replace(Task.load("tts").generate, guidance=1.5)


def test_defaults_of_generation_for_no_task_or_no_setting_are_refused():
    with pytest.raises(UnitokError, match=r"generate: 'tss' is no task of this model\. Did you mean 'tts'\?"):
        module(generate={"tss": {}})
    with pytest.raises(CardError, match=r"task 'tts'.*generate\.best: unknown key\. Did you mean 'best_of'\?"):
        module(generate={"tts": {"best": 3}})


def test_lexicons_are_learned_with_exported_and_added_to(shards, tmp_path):
    words = {"en": {"seven": "sɛvən"}, "de": {"sieben": "zibən"}}
    for lang, entries in words.items():
        Lexicon(entries).save(tmp_path / f"{lang}.tsv")
    lm = module(lexicons={"en": tmp_path / "en.tsv"})
    lm.export(tmp_path / "model")
    assert dict(load_checkpoint(tmp_path / "model").lexicons["en"]) == words["en"]
    grown = LMModule(init_from=str(tmp_path / "model"), langs=["de"], lexicons={"de": tmp_path / "de.tsv"})
    assert {lang: dict(one) for lang, one in grown.builder.lexicons.items()} == words
    grown.export(tmp_path / "grown")
    assert load_checkpoint(tmp_path / "grown").lexicons.keys() == words.keys()
    with pytest.raises(UnitokError, match=r"lexicons: the model has no language 'eng'\. Did you mean 'en'\?"):
        LMModule(init_from=str(tmp_path / "model"), lexicons={"eng": tmp_path / "en.tsv"})
    with pytest.raises(UnitokError, match="not set with adapter"):
        LMModule(init_from=str(tmp_path / "model"), lexicons={"en": tmp_path / "en.tsv"}, adapter=Adapter(rank=2))
