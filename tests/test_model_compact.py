"""Weights of fewer bits: rounded right, stored and loaded as such, nearly as good, not to be trained."""

import pytest
import torch
from tiny_models import random_codes, tiny_lm, toy_builder
from torch import nn
from toy_checkpoint import toy_model, toy_parts

import unitok
from unitok.checkpoint import load_checkpoint, save_checkpoint
from unitok.cli.main import main
from unitok.convert.text_models import export_text_model
from unitok.errors import CheckpointError, UnitokError
from unitok.kernels import without
from unitok.model.compact import CompactLinear, compact, weight_type
from unitok.sequence import collate
from unitok.tasks import Task
from unitok.training.lm_module import LMModule


def test_whole_numbers_are_the_nearest_of_each_row():
    layer = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[127.0, -2.4, 0.6], [0.0, 0.5, -0.25]]))
    made = CompactLinear.of(layer, "int8")
    assert made.weight.tolist() == [[127, -2, 1], [0, 127, -64]]
    assert made.scale.tolist() == pytest.approx([1.0, 0.5 / 127])
    x = torch.randn(40, 3)
    with without():
        torch.testing.assert_close(made(x), x @ (made.weight * made.scale[:, None]).T)


def test_four_bits_are_the_nearest_of_each_group():
    torch.manual_seed(0)
    layer = nn.Linear(100, 5, bias=False)
    made = CompactLinear.of(layer, "int4")
    assert made.weight.shape == (5, 64), "two numbers in a byte, rows filled up"
    for start in (0, 64):
        weight = layer.weight.detach()[:, start : start + 64]
        scale = weight.abs().amax(dim=1, keepdim=True) / 7
        torch.testing.assert_close(made.float_weight()[:, start : start + 64], (weight / scale).round() * scale)
    x = torch.randn(40, 100)
    with without():
        torch.testing.assert_close(made(x), x @ made.float_weight().T)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_many_positions_and_few_give_the_same(kind):
    torch.manual_seed(0)
    made = CompactLinear.of(nn.Linear(24, 10), kind)
    x = torch.randn(40, 24)
    few = torch.cat([made(part) for part in x.split(4)])
    torch.testing.assert_close(few, made(x), rtol=0, atol=1e-4)


def test_without_native_code_few_positions_give_nearly_the_same():
    torch.manual_seed(0)
    for n_inputs, n_outputs, bound in ((128, 48, 0.006), (170, 48, 1e-5), (128, 41, 1e-5)):  # 16 bits, where it can
        made = CompactLinear.of(nn.Linear(n_inputs, n_outputs), "int8")
        x = torch.randn(2, 3, n_inputs)
        with without():
            few = made(x)
            whole = made(torch.cat([x, torch.randn(8, 3, n_inputs)]))[:2]
        assert few.shape == whole.shape
        assert float((few - whole).norm() / whole.norm()) < bound


@pytest.mark.parametrize(("kind", "bound"), [("bfloat16", 0.01), ("int8", 0.01), ("int4", 0.1)])
def test_the_loss_hardly_changes(kind, bound):
    builder = toy_builder()
    batch = collate(
        [builder.build(Task.load("asr"), {"audio": random_codes(9, i), "text": "abcdef"}) for i in range(4)]
    )
    lm = tiny_lm(builder, 3)
    with torch.inference_mode():
        before = lm.loss(batch, seed=0).loss
        compact(lm, kind)
        after = lm.loss(batch, seed=0).loss
    assert weight_type(lm) == kind
    assert 0 < abs(float(after / before) - 1) < bound


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_stored_model_is_small_and_the_same_when_loaded(kind, tmp_path):
    parts = toy_parts()
    folders = {dtype: save_checkpoint(tmp_path / dtype, parts, dtype=dtype) for dtype in ("float32", kind)}
    assert weight_type(parts.lm) == "float32", "saving changes nothing"
    loaded = load_checkpoint(folders[kind])
    assert weight_type(loaded.lm) == kind
    expected = unitok.load(folders["float32"], dtype=kind)
    made = unitok.load(folders[kind])
    request = {"text": "hello", "max_seconds": 0.6, "seed": 3}
    assert torch.equal(made.generate("tts", **request).samples, expected.generate("tts", **request).samples)
    made.save(tmp_path / "again")
    for name, weight in load_checkpoint(tmp_path / "again").lm.state_dict().items():
        assert torch.equal(weight, loaded.lm.state_dict()[name])


def test_what_cannot_be_is_said(tmp_path):
    model = toy_model()
    with pytest.raises(UnitokError, match=r"weights of type 'int3', allowed: float32, bfloat16, int8, int4. Did you"):
        model.quantize("int3")
    model.quantize("int8")
    model.quantize("int8")
    with pytest.raises(UnitokError, match="the weights are int8 already: load the model with float32 weights"):
        model.quantize("bfloat16")
    folder = save_checkpoint(tmp_path / "m", toy_parts(), dtype="int8")
    with pytest.raises(UnitokError, match="stored as int8, which is for generation"):
        LMModule(init_from=str(folder))
    with pytest.raises(CheckpointError, match="weights are int8 already and cannot be stored as float32. Leave dtype"):
        model.save(tmp_path / "wide", dtype="float32")
    assert not (tmp_path / "wide").exists()
    with pytest.raises(CheckpointError, match="the weights are int8, which is unitok's own. Export the model with"):
        export_text_model(load_checkpoint(folder), tmp_path / "text")


def test_the_command_line_takes_the_type(tmp_path, capsys):
    folder, small = str(save_checkpoint(tmp_path / "m", toy_parts())), str(tmp_path / "small")
    assert main(["export", "--model", folder, "--dtype", "int8", "--out", small]) == 0
    wavs = [str(tmp_path / name) for name in ("a.wav", "b.wav")]
    common = ["--task", "tts", "--text", "abc", "--max-seconds", "0.4", "--out"]
    assert main(["generate", "--verbose", "--model", folder, "--dtype", "int8", *common, wavs[0]]) == 0
    assert "weights int8, kernels " in capsys.readouterr().err
    assert main(["generate", "--model", small, *common, wavs[1]]) == 0
    with open(wavs[0], "rb") as one, open(wavs[1], "rb") as other:
        assert one.read() == other.read()
    assert main(["generate", "--model", small, "--dtype", "bfloat16", *common, wavs[1]]) == 2
    assert "the weights are int8 already" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["bfloat16", "int8", "int4"])
def test_products_as_gpus_do_them_differ_by_their_rounding_only(kind):
    torch.manual_seed(0)
    layer = CompactLinear.of(torch.nn.Linear(70, 33), kind)
    x = torch.randn(2, 3, 70)
    expected = torch.nn.functional.linear(x, layer.float_weight(), layer.bias)
    torch.testing.assert_close(layer._in_bfloat16(x), expected, rtol=0, atol=0.03)
