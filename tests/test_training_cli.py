"""`unitok fit | validate | test` as users call it: configs, overrides, references, resuming, mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from records_for_tests import write_records

import unitok
from unitok.cards import card_root, list_cards
from unitok.checkpoint import load_checkpoint
from unitok.cli.main import main
from unitok.tokenizers import load_audio_tokenizer

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "toy" / "lm.yaml"
SMALL = ["--model.init_args.lm.transformer.d_model=16", "--model.init_args.lm.transformer.d_ff=24"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    torch.set_num_threads(1)
    return str(write_records(tmp_path_factory.mktemp("records")))


@pytest.fixture(scope="module")
def stereo_shards(tmp_path_factory):
    return str(write_records(tmp_path_factory.mktemp("stereo"), codec=load_audio_tokenizer("toy_audio_stereo")))


def arguments(stage, shards, root, *more):
    where = [f"--data.init_args.train={shards}", f"--trainer.default_root_dir={root}"]
    quick = ["--trainer.max_steps=6", "--trainer.val_check_interval=3", "--data.init_args.epoch_size=null"]
    return [stage, "--config", str(CONFIG), *where, *quick, *SMALL, *more]


def printed_config(capsys, argv):
    assert main([*argv, "--print_config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_the_config_is_printed_with_overrides_and_references_resolved(shards, tmp_path, capsys):
    config = printed_config(capsys, arguments("fit", shards, tmp_path, "--model.init_args.optimizer.lr=0.125"))
    assert config["model"]["init_args"]["optimizer"]["lr"] == 0.125
    assert config["model"]["init_args"]["optimizer"]["betas"] == [0.9, 0.95]
    assert config["data"]["init_args"]["val"] == shards  # ${data.init_args.train}
    assert config["trainer"]["callbacks"][0]["init_args"]["dirpath"] == f"{tmp_path}/model"


def test_a_config_is_found_by_its_name_from_any_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for config in (["--config", "toy/lm.yaml"], ["--config", "toy/lm"], ["--config=toy/lm.yaml"]):
        assert main(["fit", *config, "--print_config"]) == 0
        assert yaml.safe_load(capsys.readouterr().out)["model"]["class_path"] == "unitok.training.lm_module.LMModule"


OVERLAYS = [
    name
    for name in list_cards("configs")
    if name.startswith(("patterns/", "compare/", "adapter", "recipes/tiny/", "mini/more_tasks/"))
    and name not in ("mini/more_tasks/lm", "mini/more_tasks/decoder")
]
OF_CODECS = [name for name in list_cards("configs") if name.startswith("codecs/")]  # for `unitok fit-codec`


@pytest.mark.parametrize("name", [name for name in list_cards("configs") if name not in OVERLAYS + OF_CODECS])
def test_every_shipped_config_is_understood(name, capsys):
    assert main(["fit", "--config", name, "--print_config"]) == 0
    assert "class_path" in yaml.safe_load(capsys.readouterr().out)["model"]


def test_the_recipe_of_every_task_lies_over_that_of_more_tasks(capsys):
    argv = ["fit", "--config", "mini/more_tasks/lm", "--config", "mini/more_tasks/every_task", "--print_config"]
    assert main(argv) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    entries = config["data"]["init_args"]["tasks"]
    assert {entry["data"] for entry in entries} == set(config["data"]["init_args"]["train"])
    assert {entry["task"] for entry in entries} == {*config["model"]["init_args"]["tasks"], *unitok.load().tasks}


@pytest.mark.parametrize("name", ["said_speech", "said"])
def test_the_recipes_of_words_as_they_are_said_lie_over_that_of_more_tasks(name, capsys):
    argv = ["fit", "--config", "mini/more_tasks/lm", "--config", f"mini/more_tasks/{name}", "--print_config"]
    assert main(argv) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    entries = config["data"]["init_args"]["tasks"]
    assert {entry["data"] for entry in entries} == set(config["data"]["init_args"]["train"])
    assert {entry["task"] for entry in entries} <= set(unitok.load().tasks)


ALIKE = ("patterns/parallel", "patterns/flatten", "patterns/coarse_first")  # as the others go through training


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in ALIKE else [])
        for name in OVERLAYS
        if name.startswith("patterns/")
    ],
)
def test_a_pattern_laid_over_a_config_trains_exports_and_generates(name, shards, stereo_shards, tmp_path):
    n_channels = 2 if "stereo" in name else 1
    records = stereo_shards if n_channels == 2 else shards
    assert main(arguments("fit", records, tmp_path, "--config", name, "--trainer.val_check_interval=6")) == 0
    model = load_checkpoint(tmp_path / "model")
    assert name.endswith(model.lm.pattern.name)
    readme = (tmp_path / "model" / "README.md").read_text()
    assert f"{4 * n_channels} codebooks, pattern `{model.lm.pattern.name}`" in readme
    out = ["--out", str(tmp_path / "x.wav")]
    assert main(["generate", "--model", str(tmp_path / "model"), "--task", "tts", "--text", "one", *out]) == 0
    made = soundfile.info(tmp_path / "x.wav")
    assert made.duration > 0
    assert made.channels == n_channels


@pytest.mark.slow
def test_an_adapter_laid_over_a_config_trains_and_exports(shards, tmp_path):
    assert main(arguments("fit", shards, tmp_path / "base")) == 0
    # No settings of the model itself here, which are the base's.
    where = [
        f"--data.init_args.train={shards}",
        f"--trainer.default_root_dir={tmp_path}",
        "--trainer.val_check_interval=3",
    ]
    begin = ["--config", "adapter", f"--model.init_args.init_from={tmp_path}/base/model"]
    fit = ["fit", "--config", str(CONFIG), *where, "--data.init_args.epoch_size=null", *begin]
    assert main([*fit, "--trainer.max_steps=4"]) == 0
    assert (tmp_path / "model" / "adapter.yaml").is_file()
    assert load_checkpoint(tmp_path / "model").notes["steps"] == 4


@pytest.mark.slow
def test_a_stopped_run_is_taken_up_by_ckpt_path_and_ends_as_one_that_was_not(shards, tmp_path):
    assert main(arguments("fit", shards, tmp_path / "whole")) == 0
    # The schedule is part of the run: its end is that of the whole.
    stop = ["--trainer.max_steps=4", "--model.init_args.schedule.total_steps=6"]
    assert main(arguments("fit", shards, tmp_path / "parts", *stop)) == 0
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    assert main(arguments("fit", shards, tmp_path / "parts", f"--ckpt_path={last}")) == 0
    whole, parts = (load_checkpoint(tmp_path / name / "model").lm.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())
    logged = yaml.safe_load((tmp_path / "parts" / "config.yaml").read_text())
    assert logged["ckpt_path"] == str(last)

    assert main(arguments("validate", shards, tmp_path / "val", f"--ckpt_path={last}")) == 0
    assert (
        main(arguments("test", shards, tmp_path / "test", f"--data.init_args.test={shards}", f"--ckpt_path={last}"))
        == 0
    )


def test_random_weights_are_not_measured(shards, tmp_path, capsys):
    assert main(arguments("validate", shards, tmp_path)) == 2
    assert "there are no weights to measure. Name a run's: --ckpt_path" in capsys.readouterr().err


def test_validation_may_be_rarer_than_epochs(shards, tmp_path, capsys):
    """Lightning alone refuses an interval of more batches than an epoch has."""
    rare = ["--trainer.check_val_every_n_epoch=1", "--trainer.val_check_interval=7", "--trainer.max_steps=8"]
    assert main(arguments("fit", shards, tmp_path, "--data.init_args.batching.batch_tokens=200", *rare)) == 0
    told = capsys.readouterr().err
    assert "step 7  val/loss" in told, told


def test_a_run_says_where_it_is_on_stderr_and_nothing_on_stdout(shards, tmp_path, capsys):
    assert main(arguments("fit", shards, tmp_path)) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "step 6/6" in printed.err
    assert "exported step 6" in printed.err
    assert "GPU available" not in printed.err
    assert "Tip" not in printed.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--trainer.max_stepz=3"], "--trainer.max_stepz=3. Did you mean 'trainer.max_steps'? Run 'unitok fit --help'"),
        (["--trainer.max_steps=many"], "trainer.max_steps: got 'many', expected int."),
        (["--model.init_args.optimizer.name=sgd"], "model.init_args.optimizer.name: got 'sgd', allowed: adamw, muon."),
        (
            ["--model.init_args.lm.patern=delay"],
            "model.init_args.lm.patern: there is no setting 'patern'. Did you mean 'pattern'?",
        ),
        (
            ["--data.init_args.tasks=[{tsk: tts}]"],
            "data.init_args.tasks: there is no setting 'tsk'. Did you mean 'task'?",
        ),
        (["--model.init_args.lm.transformer.n_heads=3"], "n_heads=3"),
        (["--model.init_args.tasks=[ttz]"], "Did you mean 'tts'?"),
        (["--data.init_args.train=nowhere"], "nowhere holds no record shard"),
        (["--model.class_path=unitok.training.lm_module.LMModul"], "LMModul"),
        (["--ckpt_path=nowhere.ckpt"], "nowhere.ckpt"),
    ],
)
def test_a_mistake_is_told_without_a_traceback_and_ends_with_status_2(change, message, shards, tmp_path, capsys):
    assert main(arguments("fit", shards, tmp_path, *change)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("unitok: ")
    assert error.count("\n") == 1


def test_a_misspelt_key_of_a_config_with_nothing_in_it_is_told(shards, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("modle: {init_args: {}}\n")
    assert main(arguments("fit", shards, tmp_path, "--config", str(tmp_path / "mine.yaml"))) == 2
    assert "mine.yaml: there is no setting 'modle'. Did you mean 'model'?" in capsys.readouterr().err


def test_a_run_without_a_config_is_told_to_name_one(capsys):
    assert main(["fit"]) == 2
    assert "nothing says what data, model shall be. Name a config: --config FILE.yaml" in capsys.readouterr().err


def test_help_lists_the_settings_with_their_docstrings(capsys):
    assert main(["fit", "--help"]) == 0
    assert "--trainer.max_steps" in capsys.readouterr().out
    assert main(["fit", "--model.help", "unitok.training.lm_module.LMModule"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Peak learning rate" in printed
    assert "Checkpoint folder to go on from" in printed


def test_any_module_and_data_module_can_be_trained_such_as_the_codec(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", rng.uniform(-0.5, 0.5, 16000).astype(np.float32), 16000)
    rows = [json.dumps({"id": str(i), "audio": f"{i}.wav", "seconds": 1.0}) + "\n" for i in range(3)]
    (tmp_path / "m.jsonl").write_text("".join(rows))
    sizes = ["encoder_dim", "decoder_dim", "code_dim"]
    small = [f"--model.init_args.codec.{name}=8" for name in sizes]
    small += [f"--model.init_args.codec.{name}=2" for name in ("encoder_layers", "n_codebooks")]
    data = [f"--data.init_args.{name}_manifest={tmp_path}/m.jsonl" for name in ("train", "val")]
    data += ["--data.init_args.batch_size=2", "--data.init_args.steps_per_epoch=2", "--data.init_args.seconds=0.5"]
    out = [f"--trainer.default_root_dir={tmp_path}/out"]
    config = tmp_path / "codec.yaml"
    shipped = (card_root() / "configs" / "mini" / "codec.yaml").read_text()
    config.write_text(shipped.replace("out/mini/codec/tokenizer", str(tmp_path / "codec")))
    assert main(["fit", "--config", str(config), *small, *data, *out, "--trainer.max_steps=2"]) == 0
    assert (tmp_path / "codec" / "card.yaml").is_file()


def test_an_encoder_that_stays_in_evaluation_mode_is_no_reason_to_warn(shards, tmp_path, recwarn):
    features = "--model.init_args.lm.features={ear: {encoder: conformer_tiny, trained: true}}"
    quick = ["--trainer.max_steps=1", "--trainer.val_check_interval=null", "--trainer.callbacks=null"]
    assert main(arguments("fit", shards, tmp_path, features, *quick)) == 0
    assert not [str(one.message) for one in recwarn if "eval mode" in str(one.message)]


@pytest.mark.parametrize(("content", "what"), [(b"\x89PNG", "is no text"), (b"", "is empty")])
def test_a_file_that_is_no_config_is_told(content, what, tmp_path, capsys):
    (tmp_path / "x.yaml").write_bytes(content)
    assert main(["fit", "--config", str(tmp_path / "x.yaml")]) == 2
    assert f"x.yaml' {what}. A config is YAML with the keys" in capsys.readouterr().err
