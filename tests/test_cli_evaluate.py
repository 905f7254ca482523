"""`unitok evaluate`: from a manifest to figures and a page that needs nothing beside it."""

import json
import shutil
from html.parser import HTMLParser

import pytest
from toy_checkpoint import tone, toy_model, toy_parts

from unitok.audio import Audio
from unitok.checkpoint import save_checkpoint
from unitok.cli.main import main
from unitok.evaluation import evaluate
from unitok.evaluation.metric import NotMeasurableError
from unitok.evaluation.report import page

LIMITS = ("--max-seconds", "0.4", "--max-text-tokens", "6")
VOID = {"meta", "audio", "img", "br"}


class Page(HTMLParser):
    """Sees that what opens is closed, and notes sources, items, marked words."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.titles, self.marks, self.text = [], [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.sources += [(tag, value) for name, value in attrs if name in ("src", "href")]
        if tag not in VOID - {"audio"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] == "h3":
            self.titles.append(data)
        if self.open and self.open[-1] == "mark":
            self.marks.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_checkpoint(tmp_path_factory.mktemp("model") / "toy", toy_parts()))


@pytest.fixture
def work(tmp_path):
    for i in range(3):
        Audio.of(tone(0.3 + 0.1 * i)).write(tmp_path / f"{i}.wav")
    return tmp_path


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*argv):
    return main([str(one) for one in argv])


def speech(work):
    rows = [{"id": f"u/{i}", "audio": f"{i}.wav", "text": "hello", "speaker": "eva"} for i in range(3)]
    return write(work / "items.jsonl", rows)


TTS = ("--task", "tts", "--metrics", "duration_ratio,mel_distance,token_accuracy,perplexity", *LIMITS)


def test_speech_is_made_measured_and_shown(work, folder, capsys):
    status = run("evaluate", *TTS, "--model", folder, "--manifest", speech(work), "--out", work / "report")
    out = capsys.readouterr().out
    assert status == 0
    results = json.loads((work / "report" / "results.json").read_text())
    assert set(results["metrics"]) == {"duration_ratio", "mel_distance", "token_accuracy", "perplexity"}
    ratio = results["metrics"]["duration_ratio"]
    assert ratio["shown"] in out
    rows = [json.loads(line) for line in (work / "report" / "items.jsonl").read_text().splitlines()]
    made = [Audio.read(work / "report" / row["made"]["speech"]) for row in rows]
    asked = [Audio.read(work / f"{i}.wav") for i in range(3)]
    assert ratio["value"] == pytest.approx(sum(a.duration_s for a in made) / sum(a.duration_s for a in asked), abs=1e-4)
    assert ratio["baselines"]["reference"]["value"] == 1
    assert {"audio.0", "audio.1"} <= set(results["metrics"]["token_accuracy"]["parts"])
    assert results["settings"]["weights"].startswith("lm-")
    assert "torch" in results["versions"]

    html = (work / "report" / "index.html").read_text()
    shown = Page(html)
    sounds = [value for tag, value in shown.sources if tag == "audio"]
    pictures = [value for tag, value in shown.sources if tag == "img"]
    assert len(sounds) == len(pictures) == 6, "references and what was made"
    assert all(value.startswith("data:audio/flac;base64,") for value in sounds)
    assert all(value.startswith("data:image/png;base64,") for value in pictures)
    distance = {row["id"]: abs(1 - row["values"]["duration_ratio"]) for row in rows}
    assert len(shown.titles) == 3
    worst = max(distance.values())
    assert distance[shown.titles[0]] == worst


def test_one_that_was_stopped_goes_on_and_comes_to_the_same(work, folder, capsys):
    manifest, report = speech(work), work / "report"
    argv = ("evaluate", *TTS, "--model", folder, "--manifest", manifest, "--out", report)
    assert run(*argv, "--batch-size", 1) == 0
    before = json.loads((report / "results.json").read_text())
    lines = (report / "generated.jsonl").read_text().splitlines(keepends=True)
    (report / "generated.jsonl").write_text(lines[0] + lines[1][:20])
    (report / "results.json").unlink()
    first = next((report / "audio").glob("00000*"))
    written = first.stat().st_mtime_ns
    assert run(*argv) == 0
    assert "1 of 3 items are there already" in capsys.readouterr().err
    assert json.loads((report / "results.json").read_text()) == before
    assert first.stat().st_mtime_ns == written
    assert run(*argv, "--temperature", 0.1) == 2
    assert "an evaluation with another generation" in capsys.readouterr().err


def test_an_item_that_fails_is_reported_and_the_rest_is_measured(work, folder, capsys):
    (work / "1.wav").write_text("no audio")
    rows = [{"id": str(i), "audio": f"{i}.wav", "text": "hello"} for i in range(3)]
    manifest = write(work / "items.jsonl", rows)
    argv = ("evaluate", "--task", "asr", "--metrics", "wer", "--model", folder, "--manifest", manifest, *LIMITS)
    assert run(*argv, "--out", work / "report", "--json") == 1
    captured = capsys.readouterr()
    results = json.loads(captured.out)
    assert (results["items"], results["failed"], results["metrics"]["wer"]["items"]) == (3, 1, 2)
    assert "failed: 1: audio file" in captured.err
    shown = Page((work / "report" / "index.html").read_text())
    assert shown.titles[0] == "1", "what failed comes first"


def test_results_made_elsewhere_are_measured_without_a_model(work, capsys):
    asked = [("a", "the fox sat"), ("b", "a lazy dog"), ("c", "go <b>home</b>")]
    for i, _ in enumerate(asked):
        shutil.copy(work / "0.wav", work / f"x{i}.wav")
    rows = [{"id": id, "audio": f"x{i}.wav", "text": text} for i, (id, text) in enumerate(asked)]
    manifest = write(work / "items.jsonl", rows)
    made = [{"id": "a", "text": "the fox sat"}, {"id": "b", "text": "a hazy day"}, {"id": "c", "error": "too long"}]
    generated = write(work / "results.jsonl", made)
    argv = ("evaluate", "--task", "asr", "--manifest", manifest, "--generated", generated, "--out", work / "report")
    assert run(*argv) == 1
    assert "wer  33.3 %" in capsys.readouterr().out
    html = (work / "report" / "index.html").read_text()
    shown = Page(html)
    assert shown.titles == ["c", "b", "a"]
    assert shown.marks == ["hazy day"]
    assert "<b>home" not in html


def test_what_does_not_fit_in_the_page_stays_beside_it(work):
    found = evaluate(
        toy_model(), "tts", speech(work), out=work / "report", metrics=["duration_ratio"], settings={"max_seconds": 0.2}
    )
    shown = Page(page(found, work / "report", max_mb=0))
    made = [value for _, value in shown.sources if value.startswith("audio/")]
    assert len(made) == 3
    assert all((work / "report" / value).is_file() for value in made)


def test_the_python_function_gives_figures_and_items_without_a_folder(work):
    model = toy_model()
    rows = [{"id": "1", "audio": str(work / "0.wav"), "text": "hello"}]
    found = evaluate(model, "asr", rows, metrics=["cer", "perplexity"], settings={"max_text_tokens": 6})
    text = model.generate("asr", audio=work / "0.wav", max_text_tokens=6)
    assert found.items[0].made == {"text": text}
    assert found.figures["cer"].estimate.value == found.items[0].values["cer"]
    mean = float(model.score("asr", audio=work / "0.wav", text=["hello"], mean=True)[0])
    assert found.figures["perplexity"].estimate.value == pytest.approx(2.718281828**-mean, rel=1e-4)
    assert found.n_failed == 0


def test_metrics_that_cannot_be_measured_are_told_and_named_ones_refused(work, folder, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    rows = [{"id": "1", "audio": "0.wav", "text": "hello", "target_text": "hallo", "lang": "en"}]
    manifest = write(work / "items.jsonl", rows)
    argv = ("evaluate", "--task", "s2st_chain", "--model", folder, "--manifest", manifest, *LIMITS)
    assert run(*argv, "--out", work / "report") == 0
    err = capsys.readouterr().err
    reason = 'The independent recogniser needs pocketsphinx. Run: pip install "unitok[eval]"'
    assert f"not measured: asr_bleu: {reason}" in err
    results = json.loads((work / "report" / "results.json").read_text())
    assert results["not_measured"] == {"asr_bleu": reason}
    assert set(results["metrics"]) == {"bleu", "wer:transcript"}
    assert reason in Page((work / "report" / "index.html").read_text()).text
    assert run(*argv, "--out", work / "other", "--metrics", "asr_bleu") == 2
    assert reason in capsys.readouterr().err
    assert not (work / "other").exists(), "nothing half-written"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--metrics", "werr"], "there is no metric 'werr'. Did you mean 'wer'?"),
        (["--metrics", "map"], "'map' looks at targets of kind text or label, task tts is audio"),
        (["--baseline", "best"], "there is no baseline 'best'"),
        (["--items", "0"], "items is 0, allowed: 1 or more"),
        (["--embedder", "xvector"], "--embedder: is 'xvector', allowed: ROLE=NAME"),
        (["--embedder", "speaker=xvectr"], "there is no embedder 'xvectr'. Did you mean 'xvector'?"),
        (["--recognizer", "whisper", "--metrics", "wer"], "there is no recogniser 'whisper'"),
        (["--recognizer", "whisper", "--metrics", "token_accuracy"], "there is no recogniser 'whisper'"),
        (["--batch-size", "0"], "batch_size and best_of must be 1 or more"),
        (["--task", "ttt"], "no card 'ttt'. Did you mean 'tts'?"),
        (["--generated", "nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (["--manifest", "nowhere.jsonl"], "nowhere.jsonl does not exist"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(work, folder, capsys, argv, message):
    given = {"--task": "tts", "--manifest": speech(work), "--model": folder, "--out": work / "report"}
    words = [word for pair in given.items() if pair[0] not in argv for word in pair]
    assert run("evaluate", *words, *argv) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (work / "report").exists()


def test_what_is_needed_is_asked_for(capsys):
    assert run("evaluate", "--task", "tts") == 2
    assert "--manifest is missing" in capsys.readouterr().err
    assert run("evaluate", "--list-metrics") == 0
    assert "wer                 texts       lower   Word error rate" in capsys.readouterr().out


def test_a_card_with_an_unknown_metric_is_told_so(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ndescription: Mine.\ntargets:\n  - {name: text, kind: text}\nmetrics: [blue, stoi]\n")
    assert run("tasks", "--check", path) == 2
    err = capsys.readouterr().err
    assert "metrics: task 'mine': there is no metric 'blue'. Did you mean 'bleu'?" in err
    assert "'stoi' looks at targets of kind audio" in err


@pytest.mark.slow
def test_the_embedded_model_is_heard_by_pocketsphinx(work, capsys):
    pytest.importorskip("pocketsphinx")
    if shutil.which("flite") is None:
        pytest.skip("flite is not installed")
    from unitok.data.synth.voices import speak

    rows = []
    for i, text in enumerate(["The doctor is in the garden.", "The old man closed the door."]):
        speak(text, "slt").write(work / f"s{i}.wav")
        rows.append({"id": str(i), "audio": f"s{i}.wav", "text": text, "speaker": "slt", "lang": "en"})
    manifest = write(work / "items.jsonl", rows)
    assert run("evaluate", "--task", "tts", "--manifest", manifest, "--out", work / "tts", "--best-of", "1") == 0
    metrics = json.loads((work / "tts" / "results.json").read_text())["metrics"]
    assert set(metrics) == {"wer", "cer", "speaker_similarity", "duration_ratio"}
    assert metrics["wer"]["by"] == "pocketsphinx"
    assert 0.5 < metrics["duration_ratio"]["value"] < 2
    assert metrics["speaker_similarity"]["value"] > 0.5
    assert run("evaluate", "--task", "asr", "--manifest", manifest, "--out", work / "asr") == 0
    assert json.loads((work / "asr" / "results.json").read_text())["metrics"]["wer"]["value"] < 0.5


def test_labels_are_ranked_by_what_the_model_finds_likely(work):
    model = toy_model(tasks=("ac",))
    rows = [{"id": str(i), "audio": str(work / f"{i}.wav"), "label": label} for i, label in enumerate(["a", "b", "a"])]
    found = evaluate(model, "ac", rows, metrics=["map", "accuracy"], settings={"max_text_tokens": 3})
    scores = [model.score("ac", audio=row["audio"], label=["a", "b"]).tolist() for row in rows]

    def precision(column, truth):
        ranked = [right for _, right in sorted(zip([s[column] for s in scores], truth, strict=True), reverse=True)]
        hits = [sum(ranked[: i + 1]) / (i + 1) for i, right in enumerate(ranked) if right]
        return sum(hits) / len(hits)

    expected = (precision(0, [True, False, True]) + precision(1, [False, True, False])) / 2
    assert found.figures["map"].estimate.value == pytest.approx(expected)
    assert found.figures["accuracy"].baselines["majority"].value == pytest.approx(2 / 3)


def test_a_distance_of_sets_has_no_shuffled_baseline(work):
    """Of what is shuffled it is 0."""
    pytest.importorskip("librosa")
    rows = [{"id": str(i), "audio": str(work / f"{i}.wav"), "text": "abc"} for i in range(3)]
    how = {"metrics": ["fad", "mel_distance"], "baselines": ["shuffled", "reference"], "settings": {"max_seconds": 0.4}}
    found = evaluate(toy_model(tasks=("tts",)), "tts", rows, **how).figures
    assert set(found["mel_distance"].baselines) == {"shuffled", "reference"}
    assert set(found["fad"].baselines) == {"reference"}


def test_a_text_is_ranked_among_those_of_all_items(work):
    """As a slow reference ranks it; items whose text does not fit are no queries, their texts are candidates."""
    model = toy_model(tasks=("retrieve",), langs=())
    texts, right = ["a dog", "a bell", "rain", "a dog"], ["yes", "yes", "no", "yes"]
    rows = [
        {"id": str(i), "audio": str(work / f"{i % 3}.wav"), "statement": text, "fits": fits}
        for i, (text, fits) in enumerate(zip(texts, right, strict=True))
    ]
    found = evaluate(model, "retrieve", rows, metrics=["recall_at_1", "recall_at_5"], settings={"max_text_tokens": 3})
    hits = {}
    for row in rows:
        scores = {
            text: float(model.score("retrieve", audio=row["audio"], text=text, fits="yes")[0]) for text in set(texts)
        }
        hits[row["id"]] = float(max(scores, key=scores.__getitem__) == row["statement"])
    del hits["2"]
    assert {item.item.id: item.values["recall_at_1"] for item in found.items if item.values} == hits
    assert found.figures["recall_at_1"].estimate.value == pytest.approx(sum(hits.values()) / 3)
    assert found.figures["recall_at_5"].estimate.value == 1
    assert found.figures["recall_at_1"].left_out == {
        "2": "a rank, which a model gives to texts whose right answer is 'yes', is missing."
    }
    with pytest.raises(NotMeasurableError, match="task 'asr' has 0 and 0"):
        evaluate(toy_model(), "asr", rows, metrics=["recall_at_1"])
