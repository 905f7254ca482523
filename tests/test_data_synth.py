"""The procedural corpus: sentences, splits and voices."""

import json
import shutil
from itertools import islice

import pytest

from unitok.cli.main import main
from unitok.data.synth.corpus import write_corpus
from unitok.data.synth.grammar import Grammar, is_held_out, number_words, plural, with_article
from unitok.data.synth.speech import SpeechCorpus
from unitok.data.synth.voices import VoiceStyle, speak
from unitok.errors import DataError, MissingDependencyError

needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    return Grammar.load()


def test_a_sentence_depends_on_seed_and_index_alone(grammar: Grammar) -> None:
    assert grammar.sentence(3, 17) == Grammar.load().sentence(3, 17)
    assert len({grammar.sentence(3, i) for i in range(50)}) > 45
    assert grammar.sentence(3, 17) != grammar.sentence(4, 17)


def test_train_and_held_out_sentences_never_meet(grammar: Grammar) -> None:
    train = set(islice(grammar.sentences(0), 2000))
    held_out = set(islice(grammar.sentences(0, "held_out"), 200))
    assert not train & held_out
    assert not any(is_held_out(s) for s in train)
    assert all(is_held_out(s) for s in held_out)


def test_held_out_ignores_case_and_punctuation(grammar: Grammar) -> None:
    text = grammar.sentence(0, 0, "held_out")
    assert is_held_out(text.upper().rstrip(".?") + "!")


def test_every_frame_expands_to_plain_words(grammar: Grammar) -> None:
    import random

    for frame in grammar.frames:
        text = grammar._expand(frame, random.Random(0))
        assert "{" not in text
        assert "-" not in text
        assert text[-1] in ".?"


def test_the_word_list_is_wide(grammar: Grammar) -> None:
    assert len(grammar.vocabulary) > 800


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (72, "seventy two"),
        (305, "three hundred five"),
        (9999, "nine thousand nine hundred ninety nine"),
    ],
)
def test_numbers_are_spelled(n: int, words: str) -> None:
    assert number_words(n) == words


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="n=10000 is not between 0 and 9999"):
        number_words(10000)


@pytest.mark.parametrize(
    ("noun", "expected"),
    [("bus", "buses"), ("box", "boxes"), ("city", "cities"), ("boy", "boys"), ("mouse", "mice"), ("cat", "cats")],
)
def test_plurals(noun: str, expected: str) -> None:
    assert plural(noun) == expected


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [("apple", "an apple"), ("umbrella", "an umbrella"), ("uncle", "an uncle"), ("dog", "a dog")],
)
def test_articles(phrase: str, expected: str) -> None:
    assert with_article(phrase) == expected


@needs_flite
def test_speaking_gives_mono_speech_at_the_rate_asked_for() -> None:
    audio = speak("Hello world.", "slt", sample_rate_hz=8000)
    assert audio.samples.shape[0] == 1
    assert audio.sample_rate_hz == 8000
    assert 0.5 < audio.duration_s < 3
    assert audio.samples.abs().max() > 0.05


@needs_flite
def test_a_faster_style_is_shorter() -> None:
    plain, fast = (speak("The train leaves at noon.", "slt", VoiceStyle(rate=r)).duration_s for r in (1.0, 1.5))
    assert fast < 0.8 * plain


@needs_flite
def test_speaking_nothing_is_an_error() -> None:
    with pytest.raises(DataError, match="nothing to speak in ' ... '"):
        speak(" ... ", "slt")


def test_an_unknown_voice_is_named() -> None:
    if shutil.which("espeak-ng"):
        with pytest.raises(DataError, match="voice 'slt2'.*Did you mean 'slt'"):
            speak("Hello.", "slt2")
    else:
        with pytest.raises(MissingDependencyError, match="apt-get install espeak-ng"):
            speak("Hello.", "slt2")


@needs_flite
def test_an_interrupted_corpus_goes_on_and_equals_an_uninterrupted_one(tmp_path) -> None:
    corpus = SpeechCorpus(seed=5, voices=("kal16",))
    write_corpus(tmp_path / "whole", corpus, utterances=5)
    write_corpus(tmp_path / "parts", corpus, utterances=2)
    count, seconds = write_corpus(tmp_path / "parts", corpus, utterances=5)
    whole, parts = ((tmp_path / name / "manifest.jsonl").read_text() for name in ("whole", "parts"))
    assert whole == parts
    rows = [json.loads(line) for line in whole.splitlines()]
    assert count == len(rows) == 5
    assert seconds == pytest.approx(sum(row["seconds"] for row in rows))
    for row in rows:
        assert (tmp_path / "whole" / row["audio"]).read_bytes() == (tmp_path / "parts" / row["audio"]).read_bytes()


@needs_flite
def test_a_folder_with_other_settings_is_refused(tmp_path) -> None:
    write_corpus(tmp_path, SpeechCorpus(seed=1, voices=("kal16",)), utterances=1)
    with pytest.raises(DataError, match="seed: 1 there, 2 asked for"):
        write_corpus(tmp_path, SpeechCorpus(seed=2, voices=("kal16",)), utterances=1)


@needs_flite
def test_a_corpus_of_which_nothing_was_made_leaves_its_folder_free(tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as without_flite:
        without_flite.setenv("PATH", "")
        with pytest.raises(MissingDependencyError):
            write_corpus(tmp_path, SpeechCorpus(seed=1, voices=("kal16",)), utterances=1)
    assert write_corpus(tmp_path, SpeechCorpus(seed=2, voices=("kal16",)), utterances=1)[0] == 1


def test_a_corpus_needs_a_length(tmp_path) -> None:
    with pytest.raises(DataError, match="either hours or utterances"):
        write_corpus(tmp_path, SpeechCorpus())


def test_no_utterances_are_refused(tmp_path, capsys) -> None:
    assert main(["synth", "--out", str(tmp_path / "corpus"), "--utterances", "0"]) == 2
    assert "--utterances: is '0', allowed: a whole number above 0" in capsys.readouterr().err
    assert not (tmp_path / "corpus").exists()
