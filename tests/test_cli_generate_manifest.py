"""`unitok generate --manifest`: every row is written or reported, and gives what it would give alone."""

import json

import pytest
import torch
from toy_checkpoint import tone, toy_model, toy_parts

from unitok.audio import Audio
from unitok.checkpoint import save_checkpoint
from unitok.cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(save_checkpoint(tmp_path_factory.mktemp("model") / "toy", toy_parts()))


@pytest.fixture
def work(tmp_path):
    """A folder with `in/x.wav`, where manifests go too."""
    (tmp_path / "in").mkdir()
    Audio.of(tone()).write(tmp_path / "in" / "x.wav")
    return tmp_path


def run(capsys, work, folder, lines, *argv) -> tuple[int, list[dict], str, str]:
    """Write a manifest of `lines` (dicts, or text as it is), run it, return status, results, stdout and stderr."""
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    (work / "in" / "rows.jsonl").write_text(text)
    out = work / "out"
    limits = ("--max-seconds", "0.4", "--max-text-tokens", "6")
    words = ["generate", "--manifest", work / "in" / "rows.jsonl", "--out", out, "--model", folder, *limits, *argv]
    status = main([str(word) for word in words])
    captured = capsys.readouterr()
    results = out / "results.jsonl"
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.is_file() else []
    return status, rows, captured.out, captured.err


MIXED = [
    {"id": "a", "task": "tts", "text": "hello"},
    {"id": "b", "task": "asr", "audio": "x.wav"},
    {"id": "c-1.2", "task": "tts", "text": "good day to you", "voice": "eva", "prompt": "x.wav", "seed": 7},
    {"id": 4, "task": "s2st_chain", "audio": "x.wav", "temperature": 0.5},
    {"id": "ünï", "task": "vc", "audio": "x.wav", "prompt": "x.wav", "max_seconds": 0.2},
]


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_every_row_gives_what_it_gives_alone(capsys, work, folder, batch_size):
    status, rows, out, err = run(capsys, work, folder, MIXED, "--batch-size", batch_size)
    assert (status, out) == (0, "")
    assert "5 written, 0 failed" in err
    assert [row["id"] for row in rows] == ["a", "b", "c-1.2", "4", "ünï"]
    assert [row["task"] for row in rows] == [row["task"] for row in MIXED]
    model = toy_model()
    for given, row in zip(MIXED, rows, strict=True):
        content = {key: value for key, value in given.items() if key != "id"}
        paths = {key: work / "in" / "x.wav" for key in ("audio", "prompt") if key in content}
        alone = model.generate(**{"max_seconds": 0.4, "max_text_tokens": 6, **content, **paths})
        if isinstance(alone, str):
            assert row["text"] == alone
            assert "audio" not in row
            assert row["seconds"] == pytest.approx(0.52)
            continue
        if isinstance(alone, dict):
            assert row["targets"] == {**alone, "speech": "4.wav"}
            assert row["text"] == alone["translation"]
            alone = alone["speech"]
        assert row["audio"] == f"{row['id']}.wav"
        made = Audio.read(work / "out" / row["audio"])
        assert row["seconds"] == pytest.approx(made.duration_s)
        torch.testing.assert_close(made.samples, alone.samples, atol=1e-4, rtol=0)


def test_failing_rows_are_reported_and_the_rest_is_written(capsys, work, folder):
    lines = [
        {"id": "good", "task": "tts", "text": "hello"},
        {"id": "no-file", "task": "asr", "audio": "nowhere.wav"},
        "{not json",
        "[1, 2]",
        {"task": "tts", "text": "no id"},
        {"id": "no-task", "text": "a"},
        {"id": "bad-task", "task": "tss", "text": "a"},
        {"id": "bad-field", "task": "tts", "txet": "a"},
        {"id": "bad-setting", "task": "tts", "text": "a", "temperature": "hot"},
        {"id": "bad-type", "task": "tts", "text": ["a"]},
        {"id": "bad-audio", "task": "asr", "audio": {"path": "x.wav"}},
        {"id": "good", "task": "tts", "text": "again"},
        {"id": "GOOD", "task": "tts", "text": "again"},
        {"id": "also-good", "task": "asr", "audio": "x.wav"},
    ]
    status, rows, _, err = run(capsys, work, folder, lines, "--batch-size", 4)
    assert status == 1
    assert "2 written, 12 failed" in err
    errors = {row.get("id") or row["line"]: row["error"] for row in rows if "error" in row}
    assert [row["id"] for row in rows if "error" not in row] == ["good", "also-good"]
    assert sorted(path.name for path in (work / "out").iterdir()) == ["good.wav", "results.jsonl"]
    assert "nowhere.wav' does not exist" in errors["no-file"]
    assert "rows.jsonl, line 3: not JSON" in errors[3]
    assert "rows.jsonl, line 4: a row is an object" in errors[4]
    assert "rows.jsonl, line 5: id is missing" in errors[5]
    assert "rows.jsonl, line 6: no task" in errors["no-task"]
    assert "Did you mean 'tts'?" in errors["bad-task"]
    assert "Did you mean 'text'?" in errors["bad-field"]
    assert "temperature is 'hot'; it must be a number" in errors["bad-setting"]
    assert "got list, kind text takes text" in errors["bad-type"]
    assert "got dict, allowed: Audio, a path" in errors["bad-audio"]
    assert [row["error"].split(": ", 1)[1] for row in rows[11:13]] == [
        "id 'good' is taken by an earlier row.",
        "id 'GOOD' is taken by an earlier row.",
    ]


@pytest.mark.parametrize(
    "id", ["../evil", "a/b", "a\\b", ".hidden", "", "/abs", "a\u0000b", "a\nb", "x" * 200, 1.5, None, True]
)
def test_an_id_that_is_no_safe_file_name_fails(capsys, work, folder, id):
    status, rows, _, _ = run(capsys, work, folder, [{"id": id, "task": "tts", "text": "a"}])
    assert status == 1
    assert rows[0]["id"] is None
    assert "It names a file: letters, digits" in rows[0]["error"]
    assert [path.name for path in (work / "out").iterdir()] == ["results.jsonl"]
    assert sorted(path.name for path in work.iterdir()) == ["in", "out"]


def test_the_task_may_be_given_once_for_all(capsys, work, folder):
    lines = [{"id": "a", "text": "hello"}, {"id": "b", "task": "asr", "audio": "x.wav"}]
    status, rows, out, _ = run(capsys, work, folder, lines, "--task", "tts", "--json")
    assert status == 0
    assert [row["task"] for row in rows] == ["tts", "asr"]
    assert [json.loads(line) for line in out.splitlines()] == rows


def test_best_of_applies_to_rows_that_can_be_compared(capsys, work, folder):
    lines = [
        {"id": "a", "task": "tts", "text": "hello"},
        {"id": "b", "task": "asr", "audio": "x.wav"},
        {"id": "c", "task": "tts", "text": "hi"},
    ]
    status, rows, _, _ = run(capsys, work, folder, lines, "--best-of", 3)
    assert status == 1
    assert [row["id"] for row in rows if "error" not in row] == ["a", "c"]
    assert "best_of compares what the model's own 'asr' hears" in rows[1]["error"]
    [best] = toy_model().run([toy_model().request("tts", text="hi", max_seconds=0.4)], best_of=3)
    made = Audio.read(work / "out" / "c.wav")
    torch.testing.assert_close(made.samples, best.value.samples, atol=1e-4, rtol=0)


def test_conditions_given_once_apply_to_every_row_of_that_task(capsys, work, folder):
    lines = [
        {"id": "a", "text": "hello"},
        {"id": "b", "text": "hello", "voice": "max"},
        {"id": "c", "task": "asr", "audio": "x.wav"},
    ]
    status, rows, _, _ = run(capsys, work, folder, lines, "--task", "tts", "--voice", "eva")
    assert status == 0
    for row, voice in zip(rows, ("eva", "max"), strict=False):
        alone = toy_model().generate("tts", text="hello", voice=voice, max_seconds=0.4)
        torch.testing.assert_close(Audio.read(work / "out" / row["audio"]).samples, alone.samples, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--manifest", "no.jsonl", "--out", "out"], "no.jsonl does not exist. A manifest is a JSON Lines file"),
        (["--manifest", "empty.jsonl", "--out", "out"], "empty.jsonl has no rows. Write one JSON object a line."),
        (["--manifest", "latin.jsonl", "--out", "out"], "latin.jsonl: is not UTF-8 text"),
        (["--manifest", "empty.jsonl"], "--manifest writes into a folder: name it with --out DIR."),
        (["--manifest", "empty.jsonl", "--out", "out", "--plot", "x.png"], "--plot is for one input"),
        (["--manifest", "one.jsonl", "--out", "one.jsonl"], "--out: 'one.jsonl' is a file, --manifest needs a"),
        (
            ["--manifest", "one.jsonl", "--out", "out", "--batch-size", "0"],
            "--batch-size and --best-of must",
        ),
    ],
)
def test_mistakes_are_one_line_and_status_2(capsys, folder, argv, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "latin.jsonl").write_bytes('{"id": "é"}'.encode("latin-1"))
    (tmp_path / "one.jsonl").write_text('{"id": "a", "task": "tts", "text": "a"}\n')
    status = main(["generate", "--model", folder, *argv])
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, "")
    assert captured.err.startswith(f"unitok: {line}")
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
