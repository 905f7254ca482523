"""The mean of several models' weights."""

from dataclasses import replace

import pytest
import torch
from toy_checkpoint import toy_parts

from unitok.checkpoint import load_checkpoint, save_checkpoint
from unitok.cli.main import main
from unitok.convert.mixing import mix_checkpoints
from unitok.errors import UnitokError, VocabularyMismatchError
from unitok.model.compact import compact
from unitok.testing import ToyAudioTokenizer


def test_weights_are_the_weighted_mean_and_all_else_is_of_the_first(tmp_path, capsys):
    parts = {name: toy_parts(seed=seed) for seed, name in enumerate(("a", "b", "c"))}
    folders = {name: str(save_checkpoint(tmp_path / name, one)) for name, one in parts.items()}
    flags = ["--mix", f"{folders['b']}=0.25", "--mix", f"{folders['c']}=0.5", "--out", str(tmp_path / "mixed")]
    assert main(["export", "--model", folders["a"], *flags]) == 0
    mixed = load_checkpoint(tmp_path / "mixed")
    a, b, c = (parts[name].lm.state_dict() for name in "abc")
    for name, tensor in mixed.lm.state_dict().items():
        torch.testing.assert_close(tensor, 0.25 * a[name] + 0.25 * b[name] + 0.5 * c[name])
    assert mixed.tasks == parts["a"].tasks


def test_a_model_mixed_with_itself_stays_what_it_is():
    mixed = mix_checkpoints(toy_parts(tie_embeddings=True), [(toy_parts(tie_embeddings=True), 0.5)])
    for name, tensor in toy_parts(tie_embeddings=True).lm.state_dict().items():
        assert torch.equal(mixed.lm.state_dict()[name], tensor), name


def test_a_model_before_it_was_taught_more_is_a_relative():
    before = toy_parts(tasks=("tts", "asr"))
    after = toy_parts(tasks=("tts", "asr", "vc"))
    mix_checkpoints(after, [(before, 0.5)])
    with pytest.raises(VocabularyMismatchError, match="ids of tasks mean something else"):
        mix_checkpoints(before, [(after, 0.5)])
    with pytest.raises(VocabularyMismatchError, match="ids of langs"):
        mix_checkpoints(toy_parts(langs=("en",)), [(toy_parts(langs=("de",)), 0.5)])


@pytest.mark.parametrize("shares", [(), (0.0,), (1.0,), (-0.1,), (0.6, 0.5), (float("nan"),)])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(UnitokError, match="shares of the other models are"):
        mix_checkpoints(toy_parts(), [(toy_parts(), share) for share in shares])


def test_strangers_are_refused(tmp_path, capsys):
    with pytest.raises(UnitokError, match="not of the same sizes"):
        mix_checkpoints(toy_parts(2), [(toy_parts(4), 0.5)])
    coarse = replace(toy_parts(), audio_tokenizer=ToyAudioTokenizer(frame_rate_hz=50.0))
    with pytest.raises(UnitokError, match="different audio tokenizers"):
        mix_checkpoints(toy_parts(), [(coarse, 0.5)])
    small = toy_parts()
    compact(small.lm, "int8")
    with pytest.raises(UnitokError, match="stored as int8 cannot be mixed"):
        mix_checkpoints(toy_parts(), [(small, 0.5)])
    folder = str(save_checkpoint(tmp_path / "a", toy_parts()))
    assert main(["export", "--model", folder, "--mix", folder, "--out", str(tmp_path / "b")]) == 2
    assert "it must be a model and its share" in capsys.readouterr().err
