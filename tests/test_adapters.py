"""Adapters: low-rank layers, chosen weights and rows; trained, saved as a small folder, loaded, merged."""

import copy
from pathlib import Path

import lightning as L
import pytest
import torch
import yaml
from records_for_tests import write_records
from tiny_models import TASKS, random_codes, tiny_lm, toy_builder
from toy_checkpoint import toy_parts
from training_runs import fit

import unitok
from unitok.adapters import Base, load_adapter
from unitok.checkpoint import load_checkpoint, save_checkpoint
from unitok.cli.main import main
from unitok.errors import CheckpointError, UnitokError, VocabularyMismatchError
from unitok.model.adapter import Adapter, LoRALinear, adapt, merge
from unitok.sequence import SequenceBatch, collate
from unitok.tasks import SequenceBuilder
from unitok.testing import ToyTextTokenizer
from unitok.training.lm_module import LMModule
from unitok.training.optimizers import OptimizerConfig

ALL = Adapter(("*_proj", "local.heads.*"), rank=2, parameters=("*norm.weight",), ids=("audio.*", "task"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return str(write_records(tmp_path_factory.mktemp("records")))


@pytest.fixture
def base(tmp_path):
    return save_checkpoint(tmp_path / "base", toy_parts(tasks=("tts", "asr")))


def a_batch(builder: SequenceBuilder | None = None) -> SequenceBatch:
    builder = builder or toy_builder()
    codes = random_codes(9)
    return collate(
        [
            builder.build(TASKS["tts"], {"text": "one", "speech": codes}, lang="en"),
            builder.build(TASKS["asr"], {"text": "one two", "audio": codes[:, :5]}, lang="en"),
        ]
    )


def batch_for(checkpoint) -> SequenceBatch:
    return a_batch(SequenceBuilder(checkpoint.vocabulary, ToyTextTokenizer(), 25.0))


def adapted(adapter=ALL, seed=1, **changes):
    builder = toy_builder()
    lm = tiny_lm(builder, **changes)
    torch.manual_seed(seed)
    return adapt(lm, adapter, builder.vocabulary)


def fine_tuned(base, shards, folder, steps=4, adapter=ALL, **settings):
    L.seed_everything(5)
    optimizer = OptimizerConfig(lr=0.02, weight_decay=0.5)
    lm = LMModule(init_from=str(base), adapter=adapter, optimizer=optimizer, **settings)
    fit(folder, shards, steps, lm=lm)
    lm.export(folder / "adapter")
    return lm


def test_training_begins_where_the_model_stands_and_merging_changes_nothing():
    plain, lm = tiny_lm(toy_builder()), adapted()
    batch = a_batch()
    assert sum(isinstance(part, LoRALinear) for part in lm.modules()) > 20
    torch.testing.assert_close(lm.loss(batch, seed=0).loss, plain.loss(batch, seed=0).loss)
    with torch.no_grad():
        for name, parameter in lm.named_parameters():
            if name.endswith("lora_b"):
                parameter.normal_()
        hidden = lm.hidden(batch.tokens)
        assert (hidden - plain.hidden(batch.tokens)).abs().max() > 0.1
        logits = lm.slot0_logits(hidden), *lm.local_logits(hidden[0], batch.tokens[0])
        one = merge(copy.deepcopy(lm))
        assert {name for name, _ in one.named_parameters()} == {name for name, _ in plain.named_parameters()}
        hidden = one.hidden(batch.tokens)
        for mine, theirs in zip(
            (one.slot0_logits(hidden), *one.local_logits(hidden[0], batch.tokens[0])), logits, strict=True
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    "changes", [{}, {"tie_embeddings": True}, {"pattern": "delay"}], ids=["multiscale", "tied", "delay"]
)
def test_all_that_is_trained_gets_a_gradient_and_nothing_else(changes, recompute):
    lm = adapted(Adapter(("*_proj",), rank=2, parameters=("*norm.weight",), ids=("audio.*",)), **changes).train()
    lm.recompute_activations(recompute)
    with torch.no_grad():
        for name, parameter in lm.named_parameters():
            if name.endswith("lora_b"):  # where B is 0, A gets no gradient
                parameter.normal_()
    for seed in range(6):  # the refiner draws its level
        lm.loss(a_batch(), seed=seed).loss.backward()
    for name, parameter in lm.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name
        else:
            assert parameter.grad is None, name
    codes = torch.cat([toy_builder().vocabulary.ids_of(f"audio.{k}") for k in range(lm.n_codebooks)])
    others = torch.ones(len(lm.embedding.weight), dtype=torch.bool).index_fill(0, codes, False)
    assert not lm.embedding.weight.grad[others].any()


def test_recomputed_activations_give_the_same_gradients():
    gradients = []
    for recompute in (False, True):
        lm = tiny_lm(toy_builder()).train()
        lm.recompute_activations(recompute)
        lm.loss(a_batch(), seed=0).loss.backward()
        gradients.append([parameter.grad for parameter in lm.parameters()])
    torch.testing.assert_close(*gradients)


def test_an_adapter_is_small_and_loads_like_a_model(base, shards, tmp_path):
    lm = fine_tuned(base, shards, tmp_path)
    files = {path.name: path.stat().st_size for path in (tmp_path / "adapter").iterdir()}
    assert files["adapter.safetensors"] < (base / "model.safetensors").stat().st_size
    loaded, original = load_checkpoint(tmp_path / "adapter"), load_checkpoint(base)
    assert not any(isinstance(part, LoRALinear) for part in loaded.lm.modules())
    assert all(parameter.requires_grad for parameter in loaded.lm.parameters())
    apart = load_adapter(tmp_path / "adapter", merged=False).lm
    for name, parameter in apart.named_parameters():
        torch.testing.assert_close(parameter, lm.lm.get_parameter(name))
    batch = batch_for(loaded)
    assert float(loaded.lm.loss(batch, seed=0).loss) != float(original.lm.loss(batch, seed=0).loss)
    torch.testing.assert_close(loaded.lm.loss(batch, seed=0).loss, apart.loss(batch, seed=0).loss)
    # What is not trained stays to the bit, for all the weight decay.
    text = loaded.vocabulary.ids_of("text")
    assert torch.equal(loaded.lm.embedding.weight[text], original.lm.embedding.weight[text])
    assert not torch.equal(loaded.lm.embedding.weight, original.lm.embedding.weight)


def test_rows_of_the_head_that_are_not_trained_do_not_decay(base, shards, tmp_path):
    fine_tuned(base, shards, tmp_path, adapter=Adapter(modules=(), ids=("audio.0",)))
    loaded, original = load_checkpoint(tmp_path / "adapter").lm, load_checkpoint(base).lm
    trained = torch.isin(loaded.slot0_ids, toy_parts().vocabulary.ids_of("audio.0"))
    assert torch.equal(loaded.head.weight[~trained], original.head.weight[~trained])
    assert not torch.equal(loaded.head.weight[trained], original.head.weight[trained])


def test_tasks_and_languages_are_added_with_their_rows(base, shards, tmp_path):
    fine_tuned(base, shards, tmp_path, adapter=Adapter(rank=1), tasks=["audio_continuation"], langs=["de"])
    model = unitok.load(tmp_path / "adapter", device="cpu")
    assert set(model.tasks) == {"tts", "asr", "audio_continuation"}
    assert model.vocabulary.lang_names == ("en", "de")
    before, after = load_checkpoint(base).lm.embedding.weight, model.lm.embedding.weight
    changed = (before != after).any(dim=1).nonzero()[:, 0].tolist()
    assert changed == [model.vocabulary.task_id("audio_continuation")], "of its new ids the run met this one"


def test_a_run_goes_on_from_its_adapter_and_resumes(base, shards, tmp_path):
    fine_tuned(base, shards, tmp_path / "one")
    merged = tmp_path / "merged"
    assert main(["export", "--model", str(tmp_path / "one" / "adapter"), "--out", str(merged)]) == 0
    parts = [load_checkpoint(path) for path in (merged, tmp_path / "one" / "adapter")]
    torch.testing.assert_close(*(part.lm.loss(batch_for(part), seed=0).loss for part in parts))
    fine_tuned(merged, shards, tmp_path / "two")
    assert (tmp_path / "two" / "adapter" / "adapter.yaml").is_file()


def test_it_generates_from_the_command_line(base, shards, tmp_path, capsys):
    fine_tuned(base, shards, tmp_path)
    argv = ["generate", "--model", str(tmp_path / "adapter"), "--task", "tts", "--text", "a", "--max-seconds", "0.2"]
    assert main([*argv, "--out", str(tmp_path / "a.wav"), "--quiet"]) == 0
    assert (tmp_path / "a.wav").is_file()


def test_another_model_is_refused(base, shards, tmp_path):
    fine_tuned(base, shards, tmp_path)
    card = tmp_path / "adapter" / "adapter.yaml"

    def move_to(folder):
        content = yaml.safe_load(card.read_text())
        content["base"]["model"] = str(folder)
        card.write_text(yaml.safe_dump(content))

    move_to(save_checkpoint(tmp_path / "trained_on", toy_parts(tasks=("tts", "asr"), seed=9)))
    with pytest.raises(VocabularyMismatchError, match="was trained with other weights than"):
        load_checkpoint(tmp_path / "adapter")
    move_to(save_checkpoint(tmp_path / "other", toy_parts(tasks=("asr", "tts"))))
    with pytest.raises(VocabularyMismatchError, match="was trained with vocabulary sha256"):
        load_checkpoint(tmp_path / "adapter")
    move_to(tmp_path / "gone")
    with pytest.raises(
        CheckpointError, match=r"is an adapter for the model '.*gone', which cannot be .*Set base\.model"
    ):
        load_checkpoint(tmp_path / "adapter")
    move_to(base)
    load_checkpoint(tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(tmp_path / "adapter")


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"modules": ("transformer.*.q_prj",)}, "modules: 'transformer.*.q_prj' fits none of"),
        ({"parameters": ("nothing",)}, "parameters: 'nothing' fits none of"),
        ({"ids": ("audio",)}, "ids: 'audio' fits none of control, task, lang, text, …"),
    ],
)
def test_names_that_fit_nothing_are_said(adapter, message):
    with pytest.raises(UnitokError, match=message.replace("*", r"\*")):
        adapted(Adapter(**adapter))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"rank": 0}, "rank=0"), ({"dropout": 1.0}, "dropout=1.0"), ({"modules": ()}, "nothing would be trained")],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Adapter(**settings)


def test_an_adapter_needs_a_model():
    with pytest.raises(UnitokError, match="adapter needs init_from"):
        LMModule(adapter=Adapter())


def test_where_a_model_is_is_kept_by_name_or_by_whole_path(tmp_path, monkeypatch):
    parts = toy_parts()
    monkeypatch.chdir(tmp_path)
    assert Base.of("mini", parts).model == "mini"
    assert Path(Base.of("run", parts).model) == tmp_path / "run"
