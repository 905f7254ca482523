"""Where cards are looked for, and which one wins."""

import subprocess
import sys
from pathlib import Path

import pytest

import unitok.cards
from unitok.cards import add_user_root, card_root, find_card, list_cards, user_roots
from unitok.errors import CardError

CHECKOUT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def no_user_cards(monkeypatch):
    monkeypatch.setenv("UNITOK_CARDS", "")


def card_in(folder: Path, name: str) -> Path:
    path = folder / "tasks" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"name: {name}\n")
    return path


def install_at(monkeypatch, package: Path) -> None:
    """Pretend that unitok is the folder `package`."""
    package.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(unitok.cards, "__file__", str(package / "cards.py"))


def test_in_a_checkout_the_root_is_the_checkout():
    assert card_root() == CHECKOUT


def test_in_a_wheel_the_root_is_the_packaged_copy(monkeypatch, tmp_path):
    install_at(monkeypatch, tmp_path / "unitok")
    (tmp_path / "unitok" / "_cards").mkdir()
    assert card_root() == tmp_path / "unitok" / "_cards"


@pytest.mark.parametrize("project", [None, '[project]\nname = "another"\n'])
def test_without_either_the_error_names_both_places(monkeypatch, tmp_path, project):
    install_at(monkeypatch, tmp_path / "unitok")
    if project:
        (tmp_path / "pyproject.toml").write_text(project)
    with pytest.raises(CardError, match="_cards.*pyproject.toml is not unitok's.*Reinstall"):
        card_root()


def test_a_card_is_found_by_name_and_by_path(tmp_path):
    assert find_card("tasks", "tts") == CHECKOUT / "tasks" / "tts.yaml"
    mine = card_in(tmp_path, "mine")
    assert find_card("tasks", mine) == mine


def test_a_users_card_hides_one_of_unitoks(monkeypatch, tmp_path):
    mine = card_in(tmp_path, "tts")
    add_user_root(tmp_path)
    assert find_card("tasks", "tts") == mine
    assert list_cards("tasks")["asr"] == CHECKOUT / "tasks" / "asr.yaml"


def test_two_user_cards_of_one_name_are_an_error_that_names_both(tmp_path):
    one, two = (card_in(tmp_path / part, "mine") for part in "ab")
    add_user_root(one.parents[1])
    add_user_root(two.parents[1])
    with pytest.raises(CardError, match="own the name 'mine'") as caught:
        list_cards("tasks")
    assert str(one) in str(caught.value)
    assert str(two) in str(caught.value)


def test_a_folder_named_twice_counts_once(tmp_path):
    card_in(tmp_path, "mine")
    add_user_root(tmp_path)
    add_user_root(f"{tmp_path}/tasks/..")
    assert len(user_roots()) == 1
    assert "mine" in list_cards("tasks")


def test_cards_in_subfolders_are_named_by_their_path(tmp_path):
    card_in(tmp_path, "mini/tiny")
    add_user_root(tmp_path)
    assert list_cards("tasks")["mini/tiny"] == tmp_path / "tasks" / "mini" / "tiny.yaml"


def test_a_user_folder_that_is_absent_is_an_error(tmp_path):
    with pytest.raises(CardError, match="nowhere' .*is not a folder"):
        add_user_root(tmp_path / "nowhere")


def test_a_misspelt_name_gets_a_hint_and_the_list():
    with pytest.raises(CardError, match=r"no card 'ttss'. Did you mean 'tts'\? There are: .*asr.*--cards DIR"):
        find_card("tasks", "ttss")


def test_a_folder_that_is_not_there_is_told_as_one():
    with pytest.raises(CardError, match=r"no folder 'out/mini/text', and no card .* tokenizers\. Check the path"):
        find_card("tokenizers", "out/mini/text")


def test_a_misspelt_kind_gets_a_hint():
    with pytest.raises(CardError, match=r"allowed: tasks, tokenizers, features, configs. Did you mean 'tasks'\?"):
        list_cards("task")


def test_a_path_to_nothing_is_an_error():
    with pytest.raises(CardError, match="'no/such.yaml' does not exist"):
        find_card("tasks", "no/such.yaml")


def test_importing_cards_and_tasks_loads_neither_torch_nor_omegaconf():
    code = "import sys, unitok.cards, unitok.tasks; print({'torch', 'omegaconf'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
