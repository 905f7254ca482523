"""Word models: what they count, what they add to a beam search, and the models that keep them."""

import math

import pytest
import torch
from test_generation_beam import ANSWERS, BUILDER, request
from tiny_models import TASKS, tiny_lm
from toy_checkpoint import toy_parts

from unitok.api import Model
from unitok.checkpoint import load_checkpoint, save_checkpoint
from unitok.cli.main import main
from unitok.errors import CheckpointError, GenerationError, UnitokError
from unitok.generation.engine import Engine
from unitok.generation.scoring import score_sequences
from unitok.generation.word_scores import USUAL, Place, ScoresByLanguage, WordScores
from unitok.tokenizers.bytes import ByteTokenizer
from unitok.tokenizers.lexicon import Lexicon
from unitok.tokenizers.word_model import BOUNDARY, Spelling, WordModel

TEXTS = ["The cat sat. The dog's bone!", "the cat sat; the dog", "THE CAT SAT. The dog's bone!"]
MODEL = WordModel.count(TEXTS, least=1)


def scores(model: WordModel = MODEL, *more: str) -> WordScores:
    return WordScores(model, Spelling(model.words, more), ByteTokenizer(), BUILDER.vocabulary)


def added(text: str, to: WordScores | None = None) -> float:
    """Return what the ids of a text and its end add."""
    to = to or scores()
    size, end = BUILDER.vocabulary.size, BUILDER.vocabulary.end_id("text")
    place, total = Place(), 0.0
    for id in BUILDER.vocabulary.text_to_tokens(ByteTokenizer().encode(text)):
        total += float(to.gains(place, end, size)[id])
        place = to.following(place, id)
    return total + float(to.gains(place, end, size)[end])


def of_words(*words: str, known=True, model: WordModel = MODEL) -> float:
    pairs = zip((BOUNDARY, *words), (*words, BOUNDARY), strict=True)
    return sum(model.log_probability(word, after, known) + USUAL for after, word in pairs)


def test_pairs_are_discounted_and_what_is_left_goes_to_words_by_what_they_came_after():
    # Pairs: ". the" 6, "the cat" 3, "cat sat" 3, "sat ." 3, "the dog's" 2, "dog's bone" 2, "bone ." 2, "the dog" 1,
    # "dog ." 1. Nine different ones; three of them end in ".".
    assert MODEL.words == {"the", "cat", "sat", "dog's", "dog", "bone"}
    left = 3 * 0.75 / 6
    assert MODEL.log_probability("cat", "the") == pytest.approx(math.log((3 - 0.75) / 6 + left * 1 / 9))
    assert MODEL.log_probability(".", "the") == pytest.approx(math.log(left * 3 / 9))
    assert MODEL.log_probability("cat", "zebra") == pytest.approx(math.log(1 / 9))
    assert MODEL.log_probability("zebra", "zebra") == pytest.approx(math.log(0.25 / 9))
    assert MODEL.log_probability("zebr", "zebra", is_known=False) == pytest.approx(math.log(0.25 / 9) - 6)
    fewer = WordModel.count(TEXTS, least=2)
    assert fewer.log_probability("cat", "the") == pytest.approx(math.log(2.25 / 6 + (6 - 2.25 - 1.25) / 6 * 1 / 8))
    assert fewer.words == {"the", "cat", "sat", "dog's", "bone"}


def test_the_same_text_counts_once():
    once, twice, other = (WordModel.count(["a cat", *more], least=1) for more in ([], ["a cat"], ["A cat"]))
    assert once.fingerprint == twice.fingerprint != other.fingerprint


@pytest.mark.parametrize("name", ["en.tsv", "en.tsv.gz", "en.tsv.xz"])
def test_a_file_comes_back_as_it_was(name, tmp_path):
    MODEL.save(tmp_path / name)
    again = WordModel.load(tmp_path / name)
    assert again.fingerprint == MODEL.fingerprint
    assert again.log_probability("cat", "the") == MODEL.log_probability("cat", "the")


def test_a_damaged_file_and_texts_without_words_are_refused(tmp_path):
    with pytest.raises(UnitokError, match=r"word model '.*none.tsv' cannot be read"):
        WordModel.load(tmp_path / "none.tsv")
    (tmp_path / "half.tsv.gz").write_bytes(b"\x1f\x8b\x08half")
    with pytest.raises(UnitokError, match=r"word model '.*half.tsv.gz' cannot be read: is damaged"):
        WordModel.load(tmp_path / "half.tsv.gz")
    (tmp_path / "odd.tsv").write_text("the\t1\t2\ncat sat\n")
    with pytest.raises(UnitokError, match="line 2 is 'cat sat'; it must be a word and its counts"):
        WordModel.load(tmp_path / "odd.tsv").log_probability("a", "b")
    with pytest.raises(UnitokError, match="there are no words in the texts that come 2 times or more"):
        WordModel.count(["12 345", "…"])


def test_possessives_are_words_and_begin_as_words():
    spelling = Spelling(["cat", "cot"], {"dog": "dɔɡ"})
    assert all(map(spelling.has, ("cat", "cat's", "dog's")))
    assert not any(map(spelling.has, ("ca", "cats", "can's", "")))
    assert all(map(spelling.begins, ("c", "cat", "cat'", "cat's", "do")))
    assert not any(map(spelling.begins, ("cu", "cats", "ca'", "x")))


@pytest.mark.parametrize("text", ["the cat sat", "The cat sat.", " the  cat, sat!", "'the' cat-sat"])
def test_a_text_adds_what_its_words_are_likelier_than_usual(text):
    assert added(text) == pytest.approx(of_words("the", "cat", "sat"), rel=1e-5)


def test_phrases_begin_anew_and_possessives_are_words():
    assert added("the cat. the dog's bone") == pytest.approx(of_words("the", "cat") + of_words("the", "dog's", "bone"))
    assert added("") == 0.0


def test_letters_that_begin_no_word_cost_at_once_and_only_once():
    to, vocabulary = scores(), BUILDER.vocabulary
    size, end = vocabulary.size, vocabulary.end_id("text")
    z, q, space = vocabulary.text_to_tokens(ByteTokenizer().encode("zq "))
    gains = to.gains(Place("the", ""), end, size)
    assert float(gains[z]) == pytest.approx(MODEL.log_probability("z", "the", is_known=False) + USUAL)
    place = to.following(Place("the", ""), z)
    assert to.gains(place, end, size)[[q, space]].tolist() == [0.0, 0.0]
    assert added("the zebra sat") < added("the zebra sat", scores(MODEL, "zebra")) < added("the cat sat")


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_enough_beams_find_the_best_of_all_answers_with_their_words(length_penalty):
    lm, model = tiny_lm(BUILDER), WordModel.count(["cab", "a b", "bcd a", "cabs cab"], least=1)
    to, changed = scores(model), 0
    for seed in range(8):
        settings = {"answers": ANSWERS, "beams": len(ANSWERS), "length_penalty": length_penalty}
        plain, one = request(seed, **settings), request(seed, **settings, word_weight=0.7)
        object.__setattr__(one, "words", to)
        before, found = Engine(lm, BUILDER.vocabulary).generate([plain, one])
        sequences = [BUILDER.build(TASKS["asr"], {"audio": one.prompt.codes("audio"), "text": t}) for t in ANSWERS]
        sums, counts = score_sequences(lm, sequences)
        totals = sums + 0.7 * torch.tensor([added(answer, to) for answer in ANSWERS])
        best = int((totals / counts**length_penalty).argmax())
        assert found.sequence.split()["text"] == ANSWERS[best]
        assert found.log_probability == pytest.approx(float(sums[best]), rel=1e-4, abs=1e-3)
        changed += before.sequence.split()["text"] != ANSWERS[best]
    assert changed


def test_words_are_of_the_language_that_is_asked_for():
    vocabulary = BUILDER.vocabulary
    both = ScoresByLanguage({"en": MODEL, "de": MODEL}, {"en": Lexicon({"zebra": "z"})}, ByteTokenizer(), vocabulary)
    assert both.of("en", None) is both.of("en", 0.3)
    assert both.of(None, None) is both.of("fr", 0.0) is None
    assert added("zebra", both.of("en", None)) > added("zebra", both.of("de", None))
    with pytest.raises(GenerationError, match=r"no words of 'fr'\. Leave it out\. Its languages with words: en, de\."):
        both.of("fr", 0.3)
    with pytest.raises(GenerationError, match=r"has no words\. Leave it out\. Its languages with words: none\."):
        ScoresByLanguage({}, {}, ByteTokenizer(), vocabulary).of(None, 1.0)


def test_a_model_keeps_its_words(tmp_path, capsys):
    parts = toy_parts()
    save_checkpoint(tmp_path / "plain", parts)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    words = tmp_path / "words.tsv"
    assert main(["words", "--texts", str(tmp_path / "texts.txt"), "--least", "1", "--out", str(words)]) == 0
    assert f"6 words, 0 kB, {MODEL.fingerprint}" in capsys.readouterr().out
    lang = parts.vocabulary.lang_names[0]
    export = ["export", "--model", str(tmp_path / "plain"), "--out", str(tmp_path / "with"), "--words"]
    assert main([*export, f"{lang}={words}"]) == 0
    model = Model(load_checkpoint(tmp_path / "with"))
    model.save(tmp_path / "again")
    assert load_checkpoint(tmp_path / "again").words[lang].fingerprint == MODEL.fingerprint
    MODEL.count(["another"], least=1).save(tmp_path / "with" / "words" / f"{lang}.tsv.xz")
    with pytest.raises(CheckpointError, match="is another word model than the model was trained with"):
        load_checkpoint(tmp_path / "with")
    for given, said in (("xx=a", "no language 'xx'"), ("en", "--words en=out/words.tsv.xz")):
        assert main([*export, given.replace("xx=a", f"xx={words}")]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"), [([], "there are no texts"), (["--texts", "x", "--least", "0"], "--least is 0, allowed: 1")]
)
def test_words_of_nothing_are_refused(options, said, tmp_path, capsys):
    assert main(["words", *options, "--out", str(tmp_path / "w.tsv")]) == 2
    assert said in capsys.readouterr().err
