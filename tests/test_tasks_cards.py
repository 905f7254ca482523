"""Task cards: the shipped ones, and what is said about broken ones."""

import json
import re
from pathlib import Path

import pytest
import yaml

from unitok.cards import list_cards
from unitok.cli.main import main
from unitok.cli.tasks import CHAINS
from unitok.errors import CardError, DataError
from unitok.tasks import Field, GenerateDefaults, Task, list_pipelines, list_tasks
from unitok.tasks.example import example_sequence
from unitok.tasks.task import FAMILIES

SHIPPED = Path(__file__).parent.parent / "tasks"
GOOD = {
    "name": "mine",
    "description": "Speak.",
    "conditions": [{"name": "text", "kind": "text"}],
    "targets": [{"name": "speech", "kind": "audio"}],
}


@pytest.mark.parametrize("name", list_tasks())
def test_every_shipped_card_loads_and_is_complete(name):
    task = Task.load(name)
    assert task.name == name
    assert task.source, "a shipped card cites its paper"
    assert task.description.endswith(".")
    assert task.metrics
    assert task.example or not task.conditions
    assert Task.from_card(task.to_card()) == task
    assert task.family in FAMILIES
    assert len(set(task.instructions)) >= 2


@pytest.mark.parametrize("name", list_tasks())
def test_the_example_of_every_card_makes_a_sequence_by_its_token_and_by_each_instruction(name):
    task = Task.load(name)
    sequence = example_sequence(task)
    kinds = [segment.kind for segment in sequence.segments if segment.role == "target"]
    assert kinds == [target.kind for target in task.targets]
    given = {s.name.split(".")[0] for s in sequence.segments if s.role == "condition"}
    assert given == task.example.keys() - {"lang"}
    assert int(sequence.loss_mask.sum()) > len(kinds)
    for text in task.instructions:
        asked = example_sequence(task, text)
        names = [segment.name for segment in asked.segments]
        assert "instruction" in names
        assert f"<task:{name}>" not in names
        assert asked.split()["instruction"] == text.format_map(_Given(task.example))


class _Given(dict):
    """The example's values, and dots for what it leaves out."""

    def __missing__(self, key):
        return "..."


def test_the_named_tasks_ship():
    assert {"tts", "asr", "s2st", "s2st_chain", "s2tt", "mt", "tta", "aac", "ac", "vc", "se", "lm"} <= set(list_tasks())
    assert sorted(list_tasks() + list_pipelines()) == sorted(list_cards("tasks"))


def test_labels_may_be_spelled_byte_by_byte():
    cards = [Task.load(name) for name in list_tasks()]
    limits = {task.name: task.generate.max_text_tokens for task in cards if task.targets[-1].kind == "label"}
    assert {"sv", "lid", "ac"} <= limits.keys()
    assert [name for name, limit in limits.items() if limit is not None and limit < len("different speakers")] == []


def test_the_tts_card_means_what_it_says():
    task = Task.load("tts")
    assert task.conditions == (
        Field("text", "text", guided=True, aligned=True, pronounced=True),
        Field("voice", "label", optional=True, field="speaker"),
        Field("prompt", "audio", optional=True, field="audio", max_seconds=3.0, source="same_speaker"),
    )
    assert task.targets == (Field("speech", "audio", field="audio"),)
    assert task.generate == GenerateDefaults(
        temperature=0.6, top_k=30, seconds_per_character=0.066, max_seconds_per_character=0.25
    )
    assert task.lang_field == "lang"
    assert Task.load("s2st").lang_field == "target_lang"


def test_a_task_may_read_other_fields_and_another_language():
    other = Task.load("asr").reading({"audio": "target_audio", "lang": "target_lang"})
    assert (other.conditions[0].field, other.targets[0].field, other.lang_field) == (
        "target_audio",
        "text",
        "target_lang",
    )
    with pytest.raises(DataError, match="task 'lid' has no 'lang'"):
        Task.load("lid").reading({"lang": "target_lang"})


def test_a_layout_draws_the_sequence():
    assert Task.load("tts").layout() == (
        "<bos> <task:tts> [<lang>] <text> … </text> [<label> … </label>] [<audio> … </audio>] "
        "→ <audio> … </audio> <eos>"
    )


def test_the_readme_shows_the_tts_card():
    text = (SHIPPED / "README.md").read_text()
    assert text.startswith("Cards live here, code lives in `unitok/tasks/`.")
    shown = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert shown == yaml.safe_load((SHIPPED / "tts.yaml").read_text())


def test_the_readme_shows_the_pipeline_of_audiolm():
    shown = yaml.safe_load((SHIPPED / "README.md").read_text().split("```yaml\n")[2].split("```")[0])
    assert shown == yaml.safe_load((SHIPPED / "audiolm.yaml").read_text())


def test_guidance_by_condition_survives_its_card():
    card = Task.load("tts").with_defaults(guidance={"text": 1.75})
    assert card.generate.guidance == {"text": 1.75}
    assert Task.from_card(card.to_card()) == card
    with pytest.raises(CardError, match=r"generate.guidance.voice: is no guided condition. Guided: text"):
        card.with_defaults(guidance={"voice": 2.0})


def problems(**changes) -> list[str]:
    with pytest.raises(CardError, match="mine.yaml") as caught:
        Task.from_card(GOOD | changes, "mine.yaml")
    return [line.removeprefix("mine.yaml: ") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": None}, "name: missing. Add 'name: …' (text)."),
        ({"name": "a b"}, "name: is 'a b', allowed: letters, digits, '_', '-' and '.'."),
        ({"name": "other"}, "name: is 'other', the file is called 'mine.yaml'. Rename one of them."),
        ({"description": None}, "description: missing. Add 'description: …' (text)."),
        ({"targets": None}, "targets: missing. Add 'targets: …' (a list)."),
        ({"targets": []}, "targets: is empty, a task has at least one target."),
        ({"version": 0}, "version: is 0, allowed: 1 or more."),
        (
            {"targets": [{"name": "speech", "kind": "audoi"}]},
            "targets[0].kind: is 'audoi', allowed: text, label, audio, semantic. Did you mean 'audio'?",
        ),
        (
            {"targets": [{"name": "text", "kind": "audio"}]},
            "conditions and targets: two fields are called 'text'. Rename one of them.",
        ),
        (
            {"targets": [{"name": "seed", "kind": "audio"}]},
            "conditions and targets: a field is called 'seed', which unitok uses itself. Rename it.",
        ),
        (
            {"targets": [{"name": "a-b", "kind": "audio"}]},
            "targets[0].name: is 'a-b', allowed: letters, digits and '_' (it becomes an option and a Python argument).",
        ),
        (
            {"conditions": [{"name": "p", "kind": "audio", "from": "same_speakr"}]},
            "conditions[0].from: is 'same_speakr', allowed: same_record, same_speaker, start, before, after. "
            "Did you mean 'same_speaker'?",
        ),
        (
            {"conditions": [{"name": "text", "kind": "text", "max_seconds": 3}]},
            "conditions[0].max_seconds: applies to kind audio or semantic, this field is text. Remove it.",
        ),
        (
            {"conditions": [{"name": "p", "kind": "audio", "max_seconds": 0}]},
            "conditions[0].max_seconds: is 0, allowed: more than 0.",
        ),
        (
            {"conditions": [{"name": "p", "kind": "audio", "from": "start", "field": "speech"}]},
            "conditions[0].max_seconds: missing. 'from: start' needs to know how much of the target's start to take.",
        ),
        (
            {"conditions": [{"name": "p", "kind": "audio", "from": "start", "max_seconds": 3}]},
            "conditions: 'p' is taken from the start of a target, but no target of kind audio reads the record field "
            "'p'. Give it the 'field' of a target.",
        ),
        (
            {"conditions": [{"name": "p", "kind": "audio", "from": "after"}]},
            "conditions: 'p' is taken from after a target, but no target of kind audio reads the record field "
            "'p'. Give it the 'field' of a target.",
        ),
        (
            {"targets": [{"name": "speech", "kind": "audio", "length": {"same_as": "noise"}}]},
            "targets: 'speech' is to last as long as 'noise', which is no audio among the conditions. Allowed: none.",
        ),
        (
            {"targets": [{"name": "said", "kind": "text", "length": {"same_as": "text"}}]},
            "targets[0].length: applies to kind audio or semantic, this field is text. Remove it.",
        ),
        (
            {"instructions": ["Say {txt}."]},
            "instructions: 'Say {txt}.' names 'txt', which is no text or label among the conditions. "
            "Did you mean 'text'? Allowed: text.",
        ),
        (
            {"targets": [{"name": "speech", "kind": "audio", "max_seconds": 3}]},
            "targets[0].max_seconds: unknown key. Allowed: field, kind, length, loss_weight, name, optional.",
        ),
        (
            {"generate": {"temprature": 1}},
            "generate.temprature: unknown key. Did you mean 'temperature'? Allowed: beams, best_of, "
            "codebook_temperatures, greedy, guidance, length_penalty, max_characters, max_seconds, "
            "max_seconds_per_character, "
            "max_text_tokens, min_p, min_seconds_per_character, refine_passes, repetition_threshold, "
            "repetition_window, seconds_per_character, temperature, top_k, top_p, window_seconds, word_weight.",
        ),
        (
            {"family": "speach"},
            "family: is 'speach', allowed: speech, sound, text, speech_to_speech, pretext. Did you mean 'speech'?",
        ),
        ({"generate": {"best_of": 0}}, "generate.best_of: is 0, allowed: a whole number, 1 or more."),
        (
            {"generate": {"guidance": {"text": -1}}},
            "generate.guidance: is {'text': -1}, allowed: a number from 0 to 1000: 1 is off, 1.5 to 3 are usual; or "
            "one for each guided condition, {text: 1.75, voice: 1.3}.",
        ),
        (
            {"generate": {"guidance": {"txt": 2}}, "conditions": [{"name": "text", "kind": "text", "guided": True}]},
            "generate.guidance.txt: is no guided condition. Did you mean 'text'? Guided: text.",
        ),
        ({"generate": {"min_p": 2}}, "generate.min_p: is 2.0, allowed: a number from 0 (all ids) to 1."),
        ({"generate": {"top_p": 1.5}}, "generate.top_p: is 1.5, allowed: a number, more than 0, at most 1 (all ids)."),
        ({"generate": {"top_k": -1}}, "generate.top_k: is -1, allowed: 0 or more."),
        ({"metrics": "wer"}, "metrics: is 'wer', allowed: a list."),
        ({"codebook_weights": [1, -1]}, "codebook_weights[1]: is -1, allowed: 0 or more."),
        (
            {"example": {"txt": "a", "text": "b"}},
            "example.txt: is no condition of this task. Did you mean 'text'? Allowed: text, lang.",
        ),
        ({"example": {"lang": "en"}}, "example: leaves out text, which the task needs."),
        ({"example": {"text": 5}}, "example.text: is not text. Put it in quotes."),
    ],
)
def test_a_mistake_says_where_what_and_what_is_allowed(changes, message):
    assert problems(**changes) == [message]


def test_all_mistakes_of_a_card_come_together():
    found = problems(name=None, targets=[{"kind": "audio", "x": 1}], generate={"greedy": "no"}, conditons=[])
    assert [line.split(":")[0] for line in found] == [
        "name",
        "targets[0].name",
        "generate.greedy",
        "conditons",
        "targets[0].x",
    ]


def test_a_card_without_a_file_needs_no_matching_name():
    assert Task.from_card(GOOD).name == "mine"


def run(capsys, *argv: str) -> tuple[int, str, str]:
    status = main(["tasks", *argv])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_list_fits_a_hundred_columns_and_names_every_task(capsys):
    status, out, _ = run(capsys)
    assert status == 0
    assert max(map(len, out.splitlines())) <= 100
    named = [line.split()[0] for line in out.splitlines()[1:-1] if re.match("  [a-z]", line)]
    assert sorted(named) == sorted(list_tasks() + list_pipelines())
    assert "text, [voice], [prompt] → speech" in out


def test_the_list_goes_by_families_and_keeps_others_for_last(capsys, tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mine.yaml").write_text(yaml.safe_dump(GOOD))
    lines = run(capsys, "--cards", str(tmp_path))[1].splitlines()
    headings = [line for line in lines[1:-1] if line[:1].strip()]
    assert headings == [*FAMILIES.values(), CHAINS, "More"]
    for earlier, name, later in (("Speech out", "tts", "Sound and music out"), ("Text out", "tag", "Speech to speech")):
        (at,) = [i for i, line in enumerate(lines) if line.startswith(f"  {name} ")]
        assert lines.index(earlier) < at < lines.index(later)
    assert [line for line in lines if line.startswith("  mine ")] == lines[lines.index("More") + 1 :][:1]


def test_a_task_in_detail_shows_layout_options_and_example(capsys):
    status, out, _ = run(capsys, "tts")
    assert status == 0
    assert "<text> … </text> [<label> … </label>]" in out
    assert "--task tts --text TEXT [--voice NAME] [--prompt FILE] [--lang LANG] [--out FILE]" in out
    assert 'unitok generate --task tts --text "The quick brown fox." --out tts.wav' in out
    assert "VALL-E https://arxiv.org/abs/2301.02111" in out
    assert '"Say {text} in the voice of {voice}"' in out
    assert max(map(len, out.splitlines())) <= 100


def test_json_holds_the_cards(capsys):
    assert json.loads(run(capsys, "tts", "--json")[1]) == Task.load("tts").to_card()
    assert [card["name"] for card in json.loads(run(capsys, "--json")[1])] == sorted(list_cards("tasks"))


def test_check_lists_every_mistake_and_exits_2(capsys, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ntargets: [{name: x, kind: audoi}]\n")
    status, out, err = run(capsys, "--check", str(path))
    assert (status, out) == (2, "")
    assert "description: missing" in err
    assert "targets[0].kind: is 'audoi'" in err


def test_check_says_that_a_good_card_is_fine(capsys, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    status, out, _ = run(capsys, "--check", str(path))
    assert status == 0
    assert f"{path}: fine. <bos> <task:mine> [<lang>] <text> … </text> → <audio> … </audio> <eos>\n" in out
    shown = " ".join(out.split())  # lines are as wide as the terminal
    assert "<bos> <task:mine> <text> . . . </text> <audio> [2 × 12 frames, 0.5 s] </audio> <eos>" in shown
    assert "22 positions, 13 of them with a loss" in out


def test_a_broken_card_is_a_warning_in_the_list_and_an_error_when_named(capsys, tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "bad.yaml").write_text("name: bad\n")
    status, out, err = run(capsys, "--cards", str(tmp_path))
    assert status == 0
    assert "tts" in out
    assert "bad.yaml: targets: missing" in err
    assert run(capsys, "bad", "--cards", str(tmp_path))[0] == 2
