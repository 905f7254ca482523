"""A device by name: found, or refused in one line before anything is loaded."""

import pytest
import torch
from command_line import run

from unitok import load
from unitok.devices import find_device
from unitok.errors import UnitokError
from unitok.tokenizers import load_audio_tokenizer


def test_the_default_is_a_gpu_where_there_is_one():
    assert find_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert find_device("cpu") == find_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:9", "nowhere", "meta", "cpu:x"])
def test_others_are_refused(name):
    with pytest.raises(UnitokError, match=rf"device '{name}' is none that PyTorch .* Allowed: cpu"):
        find_device(name)


def test_commands_and_functions_say_so(capsys, tmp_path):
    with pytest.raises(UnitokError, match="device 'nowhere'"):
        load(device="nowhere")
    with pytest.raises(UnitokError, match="device 'nowhere'"):
        load_audio_tokenizer("encodec_24khz", "nowhere")
    out = tmp_path / "x.wav"
    code, _, err = run(capsys, "generate", "--task", "tts", "--text", "hi", "--out", out, "--device", "nowhere")
    assert code == 2
    assert err.count("\n") == 1
    assert err.startswith("unitok: device 'nowhere' is none that PyTorch")
