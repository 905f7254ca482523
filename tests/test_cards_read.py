"""Reading a card, and saying everything that is wrong with it."""

import pytest

from unitok.cards import CardReader, read_card
from unitok.errors import CardError


def problems(reader: CardReader) -> list[str]:
    with pytest.raises(CardError, match="card.yaml") as caught:
        reader.finish()
    return [line.removeprefix("card.yaml: ") for line in str(caught.value).splitlines()]


def reader(**card) -> CardReader:
    return CardReader(card, "card.yaml")


def test_references_are_resolved(tmp_path):
    path = tmp_path / "card.yaml"
    path.write_text("a: {b: 3}\nc: ${a.b}\nd: [x, '${c}']\n")
    assert read_card(path) == {"a": {"b": 3}, "c": 3, "d": ["x", 3]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML: .*line 2"),
        ("a: 1\na: 2\n", "not valid YAML: .*duplicate key a"),
        ("a: ${b}\n", r"a \$\{\.\.\.\} reference does not resolve: .*'b' not found"),
        ("- a\n", "holds a list, a card holds 'key: value' pairs"),
    ],
)
def test_a_file_that_is_no_card_says_why(tmp_path, text, message):
    path = tmp_path / "card.yaml"
    path.write_text(text)
    with pytest.raises(CardError, match=f"card.yaml: {message}") as caught:
        read_card(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(CardError, match="none.yaml: cannot be read: No such file"):
        read_card(tmp_path / "none.yaml")


def test_a_file_below_the_current_folder_is_shown_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    with pytest.raises(CardError, match="^sub/x.yaml: "):
        read_card(tmp_path / "sub" / "x.yaml")


def test_right_values_are_returned_and_finish_is_silent():
    card = reader(name="x", share=2, on=True, parts=[{"k": 1}], names=["a", "b"], weights=[1, 0.5])
    assert card.take("name", str, required=True) == "x"
    assert card.take("share", float) == 2.0
    assert card.take("on", bool) is True
    assert [part.take("k", int) for part in card.parts("parts")] == [1]
    assert card.strings("names") == ("a", "b")
    assert card.numbers("weights") == (1.0, 0.5)
    assert card.take("absent", int, 7) == 7
    card.finish()


def test_all_problems_come_together():
    card = reader(size=-1, kind="audoi", parts=[{"k": "x", "z": 1}, 5], nam="x")
    card.take("name", str, required=True)
    card.take("size", int, minimum=0)
    card.take("kind", str, choices=("audio", "text"))
    for part in card.parts("parts"):
        part.take("k", int)
    assert problems(card) == [
        "name: missing. Add 'name: …' (text).",
        "size: is -1, allowed: 0 or more.",
        "kind: is 'audoi', allowed: audio, text. Did you mean 'audio'?",
        "parts[1]: is 5, allowed: 'key: value' pairs.",
        "parts[0].k: is 'x', allowed: a whole number.",
        "nam: unknown key. Did you mean 'name'? Allowed: kind, name, parts, size.",
        "parts[0].z: unknown key. Allowed: k.",
    ]


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (True, int, "is true, allowed: a whole number."),
        (False, float, "is false, allowed: a number."),
        (1.5, int, "is 1.5, allowed: a whole number."),
        (False, str, "is false, allowed: text. Put it in quotes."),
        (12, str, "is 12, allowed: text. Put it in quotes."),
        ("yes", bool, "is 'yes', allowed: true or false."),
        ({"a": 1}, list, "is 'key: value' pairs, allowed: a list."),
        ([1], dict, "is a list, allowed: 'key: value' pairs."),
    ],
)
def test_a_wrong_type_says_what_is_there_and_what_is_allowed(value, kind, message):
    card = reader(x=value)
    assert card.take("x", kind, "default") == "default"
    assert problems(card) == [f"x: {message}"]


def test_wrong_items_of_a_list_are_named_by_their_place():
    card = reader(names=["a", 3], weights=[1, -2, "x"])
    card.strings("names")
    card.numbers("weights")
    assert problems(card) == [
        "names[1]: is 3, allowed: text. Put it in quotes.",
        "weights[2]: is 'x', allowed: a number.",
        "weights[1]: is -2, allowed: 0 or more.",
    ]
