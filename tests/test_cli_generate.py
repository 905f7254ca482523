"""`unitok generate` on one input, and `unitok score`: what is printed, what is written, what is refused."""

import json
import re
import subprocess
import sys

import pytest
import torch
from command_line import run
from toy_checkpoint import tone, toy_model, toy_parts

from unitok.audio import Audio
from unitok.checkpoint import save_checkpoint, write_tasks
from unitok.cli.generate import remarks
from unitok.tasks import Task


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(save_checkpoint(tmp_path_factory.mktemp("model") / "toy", toy_parts()))


@pytest.fixture(scope="module")
def wav(tmp_path_factory) -> str:
    return str(Audio.of(tone()).write(tmp_path_factory.mktemp("audio") / "x.wav"))


def test_help_of_a_task_shows_its_options(capsys, folder):
    status, out, _ = run(capsys, "generate", "--task", "tts", "--model", folder, "--help")
    assert status == 0
    assert "task tts:" in out
    assert re.search(r"--text TEXT +text \(needed\)", out)
    assert re.search(r"--voice NAME +a name \(optional\)", out)
    assert re.search(r"--prompt FILE +audio file, its first 3 s are used\s+\(optional\)", out)
    assert "--audio" not in out
    _, out, _ = run(capsys, "generate", "--model", folder, "--task=asr", "--help")
    assert "--audio FILE" in out
    assert "--voice" not in out


def test_help_of_a_task_needs_no_model_and_no_torch():
    code = (
        "import sys; from unitok.cli.main import main\n"
        "try: main(['generate', '--task', 'tts', '--help'])\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "--text TEXT" in done.stdout
    assert done.stderr.strip().endswith("False")


def test_text_becomes_a_wav_and_a_picture_and_nothing_on_stdout(capsys, folder, tmp_path):
    out_file, plot = tmp_path / "new" / "x.wav", tmp_path / "x.png"
    argv = (
        "generate",
        "--task",
        "tts",
        "--text",
        "hello",
        "--model",
        folder,
        "--out",
        out_file,
        "--max-seconds",
        "0.8",
    )
    status, out, err = run(capsys, *argv, "--plot", plot, "--seed", 3)
    assert (status, out) == (0, "")
    assert f"{out_file}: Audio(" in err
    expected = toy_model().generate("tts", text="hello", seed=3, max_seconds=0.8)
    torch.testing.assert_close(Audio.read(out_file).samples, expected.samples, atol=1e-4, rtol=0)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_audio_becomes_text_alone_on_stdout(capsys, folder, wav):
    status, out, err = run(
        capsys, "generate", "--task", "asr", "--audio", wav, "--model", folder, "--max-text-tokens", 7
    )
    assert status == 0
    assert out == toy_model().generate("asr", audio=wav, max_text_tokens=7) + "\n"
    assert err == "" or "cut at its longest" in err


def test_recordings_far_beyond_a_window_are_remarked_on(wav):
    model = toy_model()
    [heard] = model.run([model.request("asr", audio=wav, max_text_tokens=1)])
    seconds = Audio.read(wav).duration_s
    assert "--long-form takes them in windows" in remarks(heard, seconds / 2.1)[0]
    assert not any("window" in remark for remark in [*remarks(heard, seconds), *remarks(heard)])


def test_json_says_what_was_made(capsys, folder, wav, tmp_path):
    out_file = tmp_path / "x.wav"
    argv = ("generate", "--task", "tts", "--text", "hello", "--prompt", wav, "--model", folder, "--out", out_file)
    status, out, _ = run(capsys, *argv, "--json", "--max-seconds", "0.4", "--best-of", "2")
    row = json.loads(out)
    assert status == 0
    assert (row["task"], row["audio"]) == ("tts", str(out_file))
    assert row["seconds"] == pytest.approx(Audio.read(out_file).duration_s)
    assert row["stop"] in ("end", "limit")
    assert row["log_probability"] < 0
    _, out, _ = run(capsys, "generate", "--task", "asr", "--audio", wav, "--model", folder, "--json")
    row = json.loads(out)
    assert set(row) == {"task", "text", "seconds", "log_probability", "stop"}
    assert row["seconds"] == pytest.approx(13 / 25)


def test_best_of_says_what_there_was_to_choose_from(capsys, folder, tmp_path):
    argv = ("generate", "--task", "tts", "--text", "hello", "--model", folder, "--out", tmp_path / "x.wav")
    argv += ("--max-seconds", "0.4", "--best-of", "3")
    _, out, _ = run(capsys, *argv, "--json")
    row = json.loads(out)
    scores = [candidate["score"] for candidate in row["candidates"]]
    assert len(scores) == 3
    assert row["chosen"] == scores.index(max(scores))
    assert all(candidate.keys() == {"seed", "score", "seconds", "heard"} for candidate in row["candidates"])
    kept = row["candidates"][row["chosen"]]
    _, out, err = run(capsys, *argv, "--verbose")
    assert out == ""
    [line] = [line for line in err.splitlines() if line.startswith("best of 3: ")]
    assert line.startswith(f"best of 3: number {row['chosen'] + 1} (--seed {kept['seed']}), scores ")
    assert line.endswith(f"asr hears {kept['heard']!r}")
    assert "best of" not in run(capsys, *argv)[2]
    first = Audio.read(tmp_path / "x.wav").samples
    run(capsys, *argv, "--best-of", "1", "--seed", kept["seed"])
    assert torch.equal(Audio.read(tmp_path / "x.wav").samples, first)


def test_a_length_that_is_no_good_sign_is_one_line(capsys, folder, tmp_path):
    argv = ("generate", "--task", "tts", "--text", "a" * 30, "--model", folder, "--out", tmp_path / "x.wav")
    _, out, err = run(capsys, *argv, "--max-seconds", "0.04", "--json", "--quiet")
    expected = "speech: 0.0 s for 30 characters, about 2.0 s would be usual; cut at its longest, the end may be missing"
    assert err.count("\n") == 1
    assert err.startswith(expected)
    assert json.loads(out)["lengths"]["speech"] == {
        "seconds": 0.04,
        "characters": 30,
        "expected_seconds": 1.98,
        "longest_seconds": 0.04,
        "verdict": "cut",
    }


def test_guidance_is_a_number_or_numbers_by_name(capsys, folder, tmp_path):
    argv = ("generate", "--task", "tts", "--text", "a", "--model", folder, "--out", tmp_path / "x.wav")
    argv += ("--max-seconds", "0.4", "--quiet")
    made = []
    for guidance in ("2.5", "text=2.5", "text=1"):
        assert run(capsys, *argv, "--guidance", guidance)[0] == 0
        made.append(Audio.read(tmp_path / "x.wav").samples)
    assert torch.equal(made[0], made[1])
    assert made[0].shape != made[2].shape or not torch.equal(made[0], made[2])
    for wrong, message in [
        (
            "voice=2",
            "task 'tts' cannot be guided by 'voice': the model's card does not mark it 'guided'. Guided: text.",
        ),
        ("text=", "argument --guidance: is 'text=', allowed: a number, or numbers by name: text=1.75,voice=1.3"),
    ]:
        status, _, err = run(capsys, *argv, "--guidance", wrong)
        assert status == 2
        assert err.startswith(f"unitok: {message}")


def test_several_targets_are_printed_by_name(capsys, folder, wav, tmp_path):
    argv = ("generate", "--task", "s2st_chain", "--audio", wav, "--model", folder, "--max-text-tokens", 3)
    status, out, _ = run(capsys, *argv, "--out", tmp_path / "x.wav", "--max-seconds", "0.2")
    assert status == 0
    assert [line.split("\t")[0] for line in out.splitlines()] == ["transcript", "translation"]
    assert (tmp_path / "x.wav").is_file()
    _, out, _ = run(capsys, *argv, "--out", tmp_path / "x.wav", "--max-seconds", "0.2", "--json")
    row = json.loads(out)
    assert list(row["targets"]) == ["transcript", "translation", "speech"]
    assert row["text"] == row["targets"]["translation"]


def test_a_text_task_plots_its_sequence(capsys, folder, wav, tmp_path):
    plot = tmp_path / "asr.png"
    assert run(capsys, "generate", "--task", "asr", "--audio", wav, "--model", folder, "--plot", plot)[0] == 0
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_settings_reach_the_model(capsys, folder, tmp_path):
    argv = ("generate", "--task", "tts", "--text", "hello", "--model", folder, "--max-seconds", "0.6")
    files = []
    for i, settings in enumerate(
        [("--temperature", "0"), ("--greedy", "--seed", "5"), ("--top-k", "1", "--seed", "9")]
    ):
        files.append(tmp_path / f"{i}.wav")
        assert run(capsys, *argv, *settings, "--out", files[-1])[0] == 0
    first, second, third = (Audio.read(file).samples for file in files)
    assert torch.equal(first, second)
    assert torch.equal(first, third)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ([], "say what to do: --task NAME, or --manifest FILE."),
        (["--task", "tts", "--text", "a"], "task 'tts' makes audio: say where to, with --out FILE.wav."),
        (["--task", "tss", "--text", "a"], "--task: model '{folder}' was not trained for task 'tss'. Did you"),
        (["--task", "tts", "--txet", "a", "--out", "x.wav"], "unrecognized arguments: --txet a. Did you mean '--text'"),
        (["--task", "tts", "--out", "x.wav"], "task 'tts' needs 'text' (text). It takes: text, voice, prompt."),
        (["--task", "asr", "--audio", "no.wav"], "audio file 'no.wav' does not exist."),
        (["--task", "tts", "--text", "a", "--out", "x.wav", "--lang", "xx"], "this vocabulary has no lang 'xx'."),
        (["--task", "tts", "--text", "a", "--out", "x.wav", "--top-p", "7"], "top_p is 7.0; it must be a number"),
        (["--task", "tts", "--text", "a", "--out", "x.wav", "--seed", "x"], "argument --seed: invalid int value: 'x'."),
        (["--task", "tts", "--text", "a", "--out", "x.wavv"], "cannot write 'x.wavv': its suffix is '.wavv'."),
        (["--task", "tts", "--text", "a", "--out", "x.wav", "--plot", "x.xyz"], "cannot draw 'x.xyz': its suffix is"),
        (["--task", "asr", "--audio", "no.wav", "--out", "x.txt"], "task 'asr' makes no audio for 'x.txt', text goes"),
        (["--task", "tts", "--text", "a", "--out", "x.wav", "--best-of", "0"], "best_of is 0; it must be a whole"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_status_2(capsys, folder, argv, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, "generate", "--model", folder, *argv)
    assert (status, out) == (2, "")
    assert err.startswith(f"unitok: {line.format(folder=folder)}")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_ids_are_not_written_under_another_name(capsys, tmp_path):
    model = tmp_path / "toy"
    model.mkdir()
    (model / "config.yaml").touch()  # no more is read before the mistake is told
    write_tasks(model / "tasks", {"text_to_semantic": Task.load("text_to_semantic")})
    argv = ("generate", "--model", model, "--task", "text_to_semantic", "--text", "a", "--out", tmp_path / "ids.wav")
    status, _, err = run(capsys, *argv)
    assert status == 2
    assert "ids.wav', allowed: a file that ends in .npy, .json, .txt." in err
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_an_unknown_model_is_a_mistake(capsys):
    status, _, err = run(capsys, "generate", "--task", "tts", "--text", "a", "--out", "x.wav", "--model", "nowhere")
    assert status == 2
    assert "there is no checkpoint 'nowhere'. Give a checkpoint folder" in err


def test_a_field_named_like_an_option_is_refused(capsys, tmp_path):
    parts = toy_parts()
    card = parts.tasks["tts"].to_card()
    card["conditions"][1]["name"] = "plot"
    card["instructions"] = []
    task = type(parts.tasks["tts"]).from_card(card)
    folder = save_checkpoint(tmp_path / "toy", type(parts)(**{**vars(parts), "tasks": {"tts": task}}))
    status, _, err = run(capsys, "generate", "--model", folder, "--task", "tts", "--text", "a")
    assert status == 2
    assert "task 'tts' has a field 'plot', which is an option of unitok generate already. Rename the field" in err


def test_in_a_pipe_there_is_no_progress_bar(folder, wav):
    argv = [sys.executable, "-m", "unitok", "generate", "--task", "asr", "--audio", wav, "--model", folder]
    done = subprocess.run([*argv, "--max-text-tokens", "5"], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr


def test_score_prints_a_line_for_each_candidate(capsys, folder, wav):
    argv = ("score", "--task", "asr", "--audio", wav, "--model", folder, "--text", "abc", "--text", "b")
    status, out, err = run(capsys, *argv)
    expected = toy_model().score("asr", audio=wav, text=["abc", "b"]).tolist()
    assert (status, err) == (0, "")
    assert out == f"{expected[0]:.4f}\tabc\n{expected[1]:.4f}\tb\n"
    _, out, _ = run(capsys, *argv, "--json", "--mean")
    row = json.loads(out)
    assert [score["text"] for score in row["scores"]] == ["abc", "b"]
    assert [score["log_probability"] for score in row["scores"]] == pytest.approx([expected[0] / 4, expected[1] / 2])
    assert row["best"] == (0 if expected[0] / 4 > expected[1] / 2 else 1)


def test_score_takes_audio_candidates(capsys, folder, wav):
    argv = ("score", "--task", "tts", "--text", "abc", "--model", folder, "--speech", wav, "--speech", wav)
    status, out, _ = run(capsys, *argv)
    assert status == 0
    one, other = out.splitlines()
    assert one == other
    assert one.endswith(f"\t{wav}")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ([], "say what to score: --task NAME."),
        (["--task", "asr", "--text", "a"], "task 'asr' needs 'audio' (audio)."),
        (["--task", "asr", "--audio", "x.wav"], "task 'asr': give its candidates with --text, once for each."),
    ],
)
def test_what_score_misses_is_one_line(capsys, folder, argv, line):
    status, out, err = run(capsys, "score", "--model", folder, *argv)
    assert (status, out) == (2, "")
    assert err.startswith(f"unitok: {line}")


def test_text_can_be_held_to_answers_or_to_an_expression(capsys, folder, wav):
    asr = ("generate", "--task", "asr", "--audio", wav, "--model", folder)
    assert run(capsys, *asr, "--answers", "yes", "no")[1].strip() in ("yes", "no")
    assert re.fullmatch(r"[a-f]{3}", run(capsys, *asr, "--regex", "[a-f]{3}")[1].strip())
    status, _, error = run(capsys, *asr, "--answers", "yes", "--regex", "yes")
    assert (status, error) == (2, error)
    assert "Give one of them" in error
    tts = ("generate", "--task", "tts", "--text", "a", "--model", folder, "--out", "x.wav")
    assert "task 'tts' makes no text that regex could apply to" in run(capsys, *tts, "--regex", "a")[2]


def test_every_setting_of_sampling_has_an_option():
    import argparse
    from dataclasses import fields

    from unitok.cli import generate
    from unitok.tasks import Sampling

    parser = argparse.ArgumentParser()
    generate.add_arguments(parser)
    assert {field.name for field in fields(Sampling)} <= set(vars(parser.parse_args([])))
