"""Error rates, checked against cases counted by hand."""

import pytest

from unitok.errors import DataError
from unitok.evaluation.text import bleu, character_error_rate, normalize, word_error_rate

pytest.importorskip("jiwer")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The Fox, jumps! ", "the fox jumps"),
        ("Don't stop.", "don't stop"),
        ("'quoted'", "quoted"),
        ("Ça va?", "ça va"),
        ("...", ""),
    ],
)
def test_normalisation_keeps_words_only(text: str, expected: str) -> None:
    assert normalize(text) == expected


def test_words_are_counted_over_the_whole_set() -> None:
    # one substitution in 3 words, one deletion and one insertion in 2 words: 3 errors in 5 words
    rate = word_error_rate(["the cat sat", "go home"], ["the bat sat", "now go"])
    assert rate.value == pytest.approx(3 / 5)
    assert rate.low <= rate.value <= rate.high


def test_characters_are_counted() -> None:
    assert character_error_rate(["abcd"], ["abxd"]).value == pytest.approx(1 / 4)


def test_case_and_punctuation_are_no_errors() -> None:
    assert word_error_rate(["The cat sat."], ["the cat sat"]).value == 0.0


def test_an_empty_hypothesis_is_all_deletions() -> None:
    assert word_error_rate(["the cat sat"], [""]).value == 1.0


def test_the_interval_narrows_with_more_texts() -> None:
    references, hypotheses = ["a b c d"] * 4, ["a b c d", "a b c x", "a b x y", "a b c d"]
    few, many = (word_error_rate(references * n, hypotheses * n) for n in (1, 25))
    assert few.value == many.value
    assert many.high - many.low < few.high - few.low


def test_the_interval_is_the_same_each_time() -> None:
    arguments = ["a b c", "d e f"], ["a b x", "d e f"]
    assert word_error_rate(*arguments) == word_error_rate(*arguments)


def test_bleu_is_one_for_the_same_words_and_by_hand_for_others() -> None:
    pytest.importorskip("sacrebleu")
    assert bleu(["The cat sat on the mat."], ["the cat sat on the mat"]).value == pytest.approx(1.0)
    # 5 of 6 words, 3 of 5 pairs, 2 of 4 triples and 1 of 3 quadruples are there
    score = bleu(["the cat sat on the mat"], ["the cat sat on a mat"])
    assert score.value == pytest.approx((5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)
    assert str(score) == "53.7 [53.7, 53.7]"


@pytest.mark.parametrize(("references", "hypotheses"), [(["a"], []), ([], [])])
def test_sets_must_pair_up(references: list[str], hypotheses: list[str]) -> None:
    with pytest.raises(DataError, match=f"Got {len(references)} references and 0 hypotheses"):
        word_error_rate(references, hypotheses)
