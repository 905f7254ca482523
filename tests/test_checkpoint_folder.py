"""Checkpoint folders: what is written is what is loaded; damage is one clear error that names the file."""

import dataclasses
import json
import re
import shutil

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from toy_checkpoint import toy_parts

from unitok.checkpoint import find_checkpoint, load_checkpoint, read_tasks, save_checkpoint
from unitok.errors import CheckpointError, UnitokError, VocabularyMismatchError
from unitok.tasks import Task
from unitok.testing import ToyAudioTokenizer, ToyTextTokenizer
from unitok.vocabulary import Vocabulary


@pytest.fixture
def folder(tmp_path):
    return save_checkpoint(tmp_path / "toy", toy_parts())


@pytest.mark.parametrize("tie_embeddings", [False, True])
@pytest.mark.parametrize("ar_codebooks", [1, 2, 4])
def test_what_was_saved_is_loaded(tmp_path, ar_codebooks, tie_embeddings):
    saved = toy_parts(ar_codebooks, tie_embeddings=tie_embeddings)
    loaded = load_checkpoint(save_checkpoint(tmp_path / "toy", saved))
    assert loaded.lm.config == saved.lm.config
    assert not loaded.lm.training
    state = saved.lm.state_dict()
    for name, tensor in loaded.lm.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert loaded.vocabulary.hash == saved.vocabulary.hash
    assert loaded.tasks == saved.tasks
    assert (loaded.name, loaded.notes) == ("toy", {"steps": 0})
    assert loaded.text_tokenizer.fingerprint == saved.text_tokenizer.fingerprint
    assert loaded.audio_tokenizer.fingerprint == saved.audio_tokenizer.fingerprint
    if tie_embeddings:
        assert loaded.lm.head is None


def test_the_folder_holds_what_the_design_says(folder):
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files >= {
        "config.yaml", "vocabulary.json", "model.safetensors", "README.md", "tokenizers/text/card.yaml",
        "tokenizers/audio/card.yaml", "tasks/tts.yaml", "tasks/asr.yaml",
    }  # fmt: skip
    card = (folder / "README.md").read_text()
    assert card.startswith("# toy\n")
    assert "`tts`, `asr`" in card
    assert "25 frames/s" in card
    assert Task.load(folder / "tasks" / "tts.yaml") == Task.load("tts")


def weight_bytes(folder) -> int:
    return sum(tensor.nbytes for tensor in load_file(folder / "model.safetensors").values())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path, folder, dtype):
    small = save_checkpoint(tmp_path / "small", toy_parts(), dtype=dtype)
    loaded = load_checkpoint(small).lm.state_dict()
    for name, tensor in load_checkpoint(folder).lm.state_dict().items():
        assert loaded[name].dtype == tensor.dtype
        if tensor.is_floating_point():
            assert torch.equal(loaded[name], tensor.to(getattr(torch, dtype)).float())
    sizes = [
        sum(t.numel() * t.element_size() for t in load_file(f / "model.safetensors").values()) for f in (small, folder)
    ]
    assert sizes[0] * 2 == sizes[1]


def test_saving_again_replaces_the_older_checkpoint_and_leaves_nothing_behind(folder):
    save_checkpoint(folder, toy_parts(seed=5), readme="# Mine\n")
    assert (folder / "README.md").read_text() == "# Mine\n"
    expected = toy_parts(seed=5).lm.state_dict()
    assert torch.equal(load_checkpoint(folder).lm.embedding.weight, expected["embedding.weight"])
    assert [path.name for path in folder.parent.iterdir()] == ["toy"]


def test_a_failure_while_saving_leaves_the_older_checkpoint(folder):
    class Broken(ToyTextTokenizer):
        def save(self, folder):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(folder, dataclasses.replace(toy_parts(seed=5), text_tokenizer=Broken()))
    assert torch.equal(load_checkpoint(folder).lm.embedding.weight, toy_parts().lm.embedding.weight)
    assert [path.name for path in folder.parent.iterdir()] == ["toy"]


def test_a_folder_of_something_else_is_not_overwritten(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("cat")
    with pytest.raises(UnitokError, match=r"photos' exists and holds other things: it has no config.yaml\. Choose"):
        save_checkpoint(tmp_path / "photos", toy_parts())
    assert (tmp_path / "photos" / "cat.jpg").read_text() == "cat"


def test_an_unknown_dtype_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"dtype is 'bfloat61', allowed: float32.*Did you mean 'bfloat16'\?"):
        save_checkpoint(tmp_path / "toy", toy_parts(), dtype="bfloat61")


def test_parts_that_do_not_belong_together_are_not_saved(tmp_path):
    parts = toy_parts()
    mixed = dataclasses.replace(parts, vocabulary=parts.vocabulary.grow(text_size=100))
    with pytest.raises(VocabularyMismatchError, match=r"the model embeds \d+ ids, its vocabulary has \d+"):
        save_checkpoint(tmp_path / "x", mixed)


@pytest.mark.parametrize(
    "missing", ["vocabulary.json", "model.safetensors", "tokenizers/text", "tokenizers/audio", "tasks"]
)
def test_a_missing_file_is_named(folder, missing):
    path = folder / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(
        CheckpointError, match=rf"{re.escape(str(path))} is missing\. The checkpoint is incomplete: copy"
    ):
        load_checkpoint(folder)


def test_the_folder_of_a_run_is_told_from_the_model_in_it(folder):
    run = folder.parent / "run"
    run.mkdir()
    (run / "config.yaml").write_text("model: {class_path: unitok.training.lm_module.LMModule}")
    folder.rename(run / "model")
    with pytest.raises(CheckpointError, match=r"is the folder of a run\. Its model is in it: '.*/run/model'\."):
        find_checkpoint(run)


def test_a_folder_without_config_is_no_checkpoint(folder, tmp_path):
    (folder / "config.yaml").unlink()
    with pytest.raises(
        CheckpointError, match=r"is no model: it has neither the config\.yaml of a checkpoint nor the ad"
    ):
        load_checkpoint(folder)
    with pytest.raises(CheckpointError, match=r"there is no checkpoint 'nowhere'\. Give a checkpoint folder"):
        find_checkpoint("nowhere")


def test_truncated_weights_are_named(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=rf"{re.escape(str(path))} is damaged: .*\. Copy or export"):
        load_checkpoint(folder)


def rewrite_weights(folder, change) -> None:
    path = folder / "model.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata=metadata)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("embedding.weight"), r"model\.safetensors: 'embedding\.weight' is missing"),
        (lambda w: w.update(extra=torch.ones(1)), r"model\.safetensors: holds 'extra', which the model"),
        (
            lambda w: w.update({"embedding.weight": torch.ones(3, 16)}),
            r"model\.safetensors: 'embedding\.weight' has shape \[3, 16\], config\.yaml makes it \[\d+, 16\]",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(folder, change, message):
    rewrite_weights(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def rewrite_config(folder, change) -> None:
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format=99), r"config\.yaml: checkpoint format is 99, this unitok reads format 1"),
        (lambda c: c.pop("model"), r"config\.yaml: 'model' is missing\. The file is damaged"),
        (lambda c: c["model"].update(ar_codebooks=9), r"config\.yaml: 'model' does not describe a model: .*9"),
        (lambda c: c["model"].update(wings=2), r"config\.yaml: 'model' does not describe a model: .*wings"),
        (lambda c: c["tokenizers"].pop("text"), r"config\.yaml: 'tokenizers\.text\.fingerprint' is missing"),
        (lambda c: c["tokenizers"]["audio"].update(fingerprint="x"), r"tokenizers/audio: is another tokenizer than"),
    ],
)
def test_a_wrong_config_is_named(folder, change, message):
    rewrite_config(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_a_config_that_is_not_yaml_is_named(folder):
    (folder / "config.yaml").write_text("a: [")
    with pytest.raises(CheckpointError, match=r"config\.yaml: not valid YAML"):
        load_checkpoint(folder)


def test_a_swapped_vocabulary_is_caught_by_the_block_that_moved(folder):
    own = Vocabulary.load(folder / "vocabulary.json")
    other = Vocabulary.create(own.task_names, own.lang_names, own.text_size + 8, own.codebook_sizes)
    other.save(folder / "vocabulary.json")
    with pytest.raises(VocabularyMismatchError, match=r"vocabulary\.json: .*block 'text' moved"):
        load_checkpoint(folder)


def test_an_edited_vocabulary_is_caught(folder):
    path = folder / "vocabulary.json"
    content = json.loads(path.read_text())
    content["tasks"].reverse()
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"vocabulary\.json: was changed after it was written"):
        load_checkpoint(folder)


def test_another_tokenizer_is_caught(folder, tmp_path):
    from unitok.tokenizers import save_tokenizer

    save_tokenizer(ToyTextTokenizer(alphabet="zyx"), folder / "tokenizers" / "text")
    with pytest.raises(CheckpointError, match=r"tokenizers/text: is another tokenizer than the model was trained with"):
        load_checkpoint(folder)


def test_a_damaged_tokenizer_is_named(folder):
    (folder / "tokenizers" / "audio" / "card.yaml").write_text("kind: toy_adio\n")
    with pytest.raises(CheckpointError, match=r"tokenizers/audio: cannot be loaded: .*toy_adio"):
        load_checkpoint(folder)


def test_the_codec_is_set_to_the_codebooks_of_the_model(tmp_path):
    parts = toy_parts()
    parts.audio_tokenizer.set_codebooks(2)
    assert load_checkpoint(save_checkpoint(tmp_path / "toy", parts)).audio_tokenizer.n_codebooks == 4
    assert isinstance(parts.audio_tokenizer, ToyAudioTokenizer)


def test_tasks_are_read_without_the_model(folder):
    (folder / "model.safetensors").unlink()
    assert list(read_tasks(folder)) == ["asr", "s2st_chain", "tts", "vc"]
    (folder / "tasks" / "tts.yaml").write_text("name: tts\ntragets: []\n")
    with pytest.raises(CheckpointError, match=r"tts\.yaml: .*tragets"):
        read_tasks(folder)
