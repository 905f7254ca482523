"""The page on tasks: every card is on it, its rows have the fields that the cards read, its corpora have them too."""

import json
import re
from pathlib import Path

import pytest
import yaml

from unitok.cli.synth import CORPORA
from unitok.tasks import Task, list_tasks
from unitok.tasks.example import example_sequence

PAGE = (Path(__file__).parent.parent / "docs" / "tasks.md").read_text(encoding="utf-8")
ROWS = [
    (re.findall(r"`(\w+)`", tasks), re.findall(r"`(\w+)", corpus), json.loads(row))
    for tasks, corpus, row in re.findall(r"^\| ([^|]+) \| ([^|]+) \| `(\{.*\})` \|$", PAGE, flags=re.MULTILINE)
]


def needed(task: Task) -> set[str]:
    return {field.field for field in task.fields if not field.optional}


def test_the_page_names_every_card():
    named = set(re.findall(r"`(\w+)`", PAGE))
    without_corpus = {name for name in list_tasks() if any(f.kind == "semantic" for f in Task.load(name).fields)}
    assert set(list_tasks()) - without_corpus <= named


@pytest.mark.parametrize(("tasks", "corpora", "row"), ROWS, ids=lambda value: str(value)[:40])
def test_a_row_of_the_page_has_what_its_tasks_read_and_so_has_its_corpus(tasks, corpora, row):
    for name in tasks:
        task = Task.load(name)
        assert needed(task) <= row.keys(), name
        for corpus in corpora:
            made = set(re.findall(r"\w+", f"{CORPORA[corpus].audio} {CORPORA[corpus].fields}"))
            assert needed(task) <= made, (name, corpus)
            assert name in CORPORA[corpus].tasks.split() or corpus == "speech"


def test_every_task_with_a_corpus_has_a_row():
    shown = {name for tasks, _, _ in ROWS for name in tasks} | {"tts_cross_lingual"}
    assert {name for kind in CORPORA.values() for name in kind.tasks.split()} <= shown


def test_the_card_on_the_page_is_fine():
    (code,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    assert Task.from_card(yaml.safe_load(code)).name == "enclap"


def test_the_card_with_turns_on_the_page_is_fine():
    (code,) = re.findall(r"```\n(name: answer\n.*?)```", PAGE, flags=re.DOTALL)
    task = Task.from_card(yaml.safe_load(code))
    assert str(example_sequence(task)).count("<text>") == 4
