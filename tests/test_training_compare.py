"""`unitok compare`: settings trained alike, measured alike, in a table that can be gone on with."""

import json
from pathlib import Path

import pytest
import torch
from records_for_tests import write_records

from unitok.audio import Audio
from unitok.checkpoint import load_checkpoint
from unitok.cli.main import main
from unitok.errors import DataError
from unitok.evaluation.outcomes import Outcome, measure
from unitok.tasks import Task
from unitok.training.compare import Comparison

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "toy" / "lm.yaml"


def run(folder, configs, *more):
    torch.set_num_threads(1)
    shards = folder / "shards"
    if not shards.is_dir():
        shards.mkdir(parents=True)
        write_records(shards)
    argv = ["compare", "--base", str(CONFIG), "--configs", *configs, "--out", str(folder / "out"), "--items", "2"]
    flags = ["--trainer.max_steps=8", f"--data.init_args.train={shards}", "--data.init_args.epoch_size=null"]
    sizes = ["--model.init_args.lm.transformer.d_model=16", "--model.init_args.lm.transformer.d_ff=24"]
    return main([*argv, *flags, *sizes, *more])


def outcomes(folder):
    return {one["name"]: one for one in json.loads((folder / "out" / "compare.json").read_text())}


@pytest.mark.slow
def test_settings_are_trained_and_measured_alike_and_a_rerun_goes_on(tmp_path, capsys):
    bad = tmp_path / "bad.yaml"
    bad.write_text("model: {init_args: {lm: {ar_codebooks: 9}}}\n")
    assert run(tmp_path, ["patterns/delay", "patterns/flatten", str(bad)]) == 1
    table = capsys.readouterr().out
    found = outcomes(tmp_path)
    assert [*found] == ["delay", "flatten", "bad"]
    assert "ar_codebooks=9" in found["bad"]["error"]
    assert found["bad"]["error"] in table
    for name in ("delay", "flatten"):
        one = found[name]
        assert one["steps"] == 8
        assert one["frames"] > 0
        assert one["training_frames_per_s"] > 0
        assert one["generated_frames_per_s"] > 0
        assert {"text", "audio.0", "audio.1", "audio.2", "audio.3"} <= one["losses"].keys()
        assert {"asr wer", "asr cer"} <= one["quality"].keys()
        assert load_checkpoint(tmp_path / "out" / name / "model").lm.pattern.name == name
        frame = sum(loss for part, loss in one["losses"].items() if part.startswith("audio."))
        assert f"| {name} |" in table
        assert f"{frame:.3f}" in table
    assert (tmp_path / "out" / "compare.png").stat().st_size > 5000
    assert (tmp_path / "out" / "compare.md").read_text().count("\n") == 5

    bad.write_text("model: {init_args: {lm: {ar_codebooks: 1, local: null}}}\n")
    written = (tmp_path / "out" / "delay" / "outcome.json").stat().st_mtime_ns
    assert run(tmp_path, ["patterns/delay", "patterns/flatten", str(bad)]) == 0
    assert (tmp_path / "out" / "delay" / "outcome.json").stat().st_mtime_ns == written
    assert outcomes(tmp_path)["bad"]["error"] == ""


def test_a_mistake_that_all_settings_have_is_told_once_before_anything_is_trained(tmp_path, capsys):
    assert run(tmp_path, ["patterns/delay", "patterns/parallel"], "--trainer.max_stepz=8") == 2
    told = capsys.readouterr()
    assert told.err.startswith("unitok: unrecognized arguments: --trainer.max_stepz=8. Did you mean 'trainer.max_steps")
    assert (told.err.count("\n"), told.out) == (1, "")
    assert not (tmp_path / "out").exists()


def test_no_items_are_refused_before_anything_is_trained(tmp_path, capsys):
    assert run(tmp_path, ["patterns/delay"], "--items", "0") == 2
    assert "--items is 0; it must be 1 or more." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_frames_are_those_of_the_codec_whatever_the_pattern(tmp_path):
    """One epoch over the same records has the same frames, though flatten takes four positions for each."""
    flags = ["--data.init_args.batching.batch_tokens=4000", "--trainer.max_steps=-1", "--trainer.max_epochs=1"]
    assert run(tmp_path, ["patterns/parallel", "patterns/flatten"], *flags) == 0
    found = outcomes(tmp_path)
    assert found["parallel"]["frames"] == found["flatten"]["frames"] > 0


def test_a_missing_flag_is_told_on_one_line(capsys):
    assert main(["compare", "--base", "mini/lm"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("unitok: the following arguments are required: --configs. Run 'unitok compare --help'")
    assert error.count("\n") == 1


def test_a_frame_has_a_loss_only_where_all_its_codebooks_have_one():
    losses = {"text": 1.0, "audio.0": 2.0, "audio.1": 3.0}
    assert Comparison("two", (), n_codebooks=2, losses=losses).frame_loss == 5.0
    assert Comparison("three", (), n_codebooks=3, losses=losses).frame_loss is None
    assert Comparison("none", (), n_codebooks=2).frame_loss is None


def test_two_settings_of_one_name_are_refused(tmp_path, capsys):
    (tmp_path / "delay.yaml").write_text("{}")
    assert run(tmp_path, ["patterns/delay", str(tmp_path / "delay.yaml")]) == 2
    assert "two settings are called 'delay'" in capsys.readouterr().err


def test_tasks_are_measured_by_the_metrics_of_their_cards():
    asr = Task.load("asr")
    texts = [("the fox sat", "the fox sat"), ("a lazy dog", "a hazy dog")]
    found = measure(asr, [Outcome({"text": said}, {"text": made}) for said, made in texts])
    assert found["wer"].value == pytest.approx(1 / 6)
    assert 0 < found["cer"].value < 0.1
    labels = [("dog", "dog"), ("cat", "Cat."), ("owl", "dog")]
    ac = Task.load("ac")
    [label] = [target.name for target in ac.targets]
    accuracy = measure(ac, [Outcome({label: said}, {label: made}) for said, made in labels])["accuracy"]
    assert accuracy.value == pytest.approx(2 / 3)
    tone = Audio(torch.sin(torch.arange(16000) * 0.2)[None] * 0.3, 16000)
    half = Audio(tone.samples[:, :8000], 16000)
    tts = measure(Task.load("tts"), [Outcome({"text": "one", "speech": tone}, {"speech": half})])
    assert tts["duration_ratio"].value == pytest.approx(0.5)
    assert tts["wer"].value >= 1, "a tone says nothing that was to be said"
    with pytest.raises(DataError, match="nothing to measure"):
        measure(asr, [])
