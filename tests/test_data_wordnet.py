"""Sentences from WordNet's examples: which are taken, which split they are in, how a corpus mixes them in."""

import pytest

from unitok.cli.main import main
from unitok.data.synth.grammar import is_held_out
from unitok.data.synth.speech import SpeechCorpus
from unitok.data.synth.wordnet import FILES, WordNetExamples
from unitok.errors import DataError

LICENCE = '  1 This software and database is being provided "as is, with its notice" | "and its licence"\n'
ENTRY = "00001740 03 n 01 entity 0 003 ~ 00001930 n 0000 | that which is; {}\n"
GOOD = [
    '"he saw the boat"',
    '"a well-kept garden"',
    "\"It's late, isn't it?\"",
    '"I do; you don\'t."',
    '"yonder valley"',
]
BAD = ['"word"', '"paid $5"', '"the FBI came"', '"room 12"', '"see Mr. X"', '"hm brr"', f'"{"very " * 20}long"']


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        (tmp_path / name).write_text(LICENCE)
    more = [f'"the {colour} {thing} fell"' for colour in ("red", "green", "old") for thing in "abcdefghijklmnopqrst"]
    more = [text.replace(" fell", "ane fell") for text in more]
    (tmp_path / "data.noun").write_text(LICENCE + "".join(ENTRY.format("; ".join([*GOOD, *BAD])) for _ in range(2)))
    (tmp_path / "data.verb").write_text(LICENCE + "".join(ENTRY.format(text) for text in more))
    return tmp_path


def test_speakable_examples_are_taken_once(folder):
    examples = WordNetExamples.load(folder)
    assert len(examples) == len(GOOD) + 60
    drawn = {examples.sentence(0, i, split) for i in range(2000) for split in ("train", "held_out")}
    assert {"He saw the boat", "A well-kept garden", "It's late, isn't it?", "I do; you don't."} < drawn
    assert len(drawn) == len(examples)
    assert not drawn & {"Word", "Paid $5", "The FBI came", "Room 12", "See Mr. X", "Hm brr"}


def test_splits_never_meet_and_sentences_repeat_by_seed_and_index(folder):
    examples = WordNetExamples.load(folder)
    assert not any(is_held_out(examples.sentence(0, i)) for i in range(200))
    assert all(is_held_out(examples.sentence(0, i, "held_out")) for i in range(50))
    assert examples.sentence(1, 2) == examples.sentence(1, 2)
    every = len({examples.sentence(1, i) for i in range(200)})
    assert len({examples.sentence(1, i) for i in range(every)}) == every, "one came again before all had come"
    assert [examples.sentence(1, i) for i in range(9)] != [examples.sentence(2, i) for i in range(9)]


def test_a_corpus_draws_from_its_sources_and_keeps_that_of_the_grammar(folder, monkeypatch):
    monkeypatch.setenv("WNSEARCHDIR", str(folder))
    plain, mixed = SpeechCorpus(seed=1), SpeechCorpus(seed=1, sentences=("grammar", "wordnet"))
    utterances = [(plain.utterance(i), mixed.utterance(i)) for i in range(60)]
    assert all(one[1:] == other[1:] for one, other in utterances)  # voices and styles
    same = sum(one[0] == other[0] for one, other in utterances)
    assert 15 <= same <= 45
    only = SpeechCorpus(sentences=("wordnet",))
    assert only.utterance(3)[0] == WordNetExamples.load(folder).sentence(0, 3)


@pytest.mark.parametrize(("sources", "told"), [(("wordnet", "books"), "books"), ((), "nowhere")])
def test_an_unknown_source_is_told(sources, told):
    with pytest.raises(DataError, match=f"sentences come from grammar, wordnet, not from {told}"):
        SpeechCorpus(sentences=sources)


def test_a_missing_wordnet_is_told_with_the_remedy(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path / "none"))
    command = ["synth", "--out", str(tmp_path / "out"), "--utterances", "1", "--sentences", "wordnet"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "no data.adj, data.adv, data.noun, data.verb" in error
    assert "apt-get install wordnet-base" in error
