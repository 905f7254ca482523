"""Words as they are said: lexicons, the sequences they make, and the models that keep them."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from records_for_tests import write_records
from toy_checkpoint import toy_parts

from unitok.api import Model
from unitok.checkpoint import load_checkpoint, save_checkpoint
from unitok.cli.main import main
from unitok.data.examples import TaskExamples
from unitok.data.records import RecordReader
from unitok.errors import CardError, CheckpointError, TokenizerError
from unitok.tasks import SequenceBuilder, Task
from unitok.tokenizers import load_text_tokenizer
from unitok.tokenizers.bytes import ByteTokenizer
from unitok.tokenizers.lexicon import Lexicon, Pronounced, words_of
from unitok.vocabulary import Vocabulary

LEXICON = Lexicon({"the": "ðə", "doctor": "dɑktɚ", "cat": "kæt", "fox": "fɑks", "can't": "kænt", "text": "tɛkst"})


def builder_with(*langs: str, **lexicons: Lexicon) -> SequenceBuilder:
    vocabulary = Vocabulary.create(["tts", "asr"], list(langs), 256, [8] * 4)
    return SequenceBuilder(vocabulary, ByteTokenizer(), 25.0, lexicons=lexicons)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The doctor, the zebra?", "ðə dɑktɚ, ðə zebra?"),
        ("THE cat can't; can’t!", "ðə kæt kænt; kænt!"),
        ("the doctor's cat's fox's zoo's", "ðə dɑktɚz kæts fɑksəz zoo's"),
        ("cat2 4 cats 4the", "cat2 4 cats 4the"),
        ("cat-the, the_cat", "kæt-ðə, the_cat"),
        ("", ""),
    ],
)
def test_known_words_are_said_and_all_else_stays(text, said):
    assert LEXICON.pronounce(text) == said


def test_what_is_pronounced_already_is_left_alone():
    assert LEXICON.pronounce(Pronounced("the cat")) == "the cat"
    assert LEXICON.pronounce(LEXICON.pronounce("the cat")) == "ðə kæt"


def test_a_share_of_the_words_can_stay_as_they_are_written():
    text = "the cat " * 500
    said = LEXICON.pronounce(text, 0.25, np.random.default_rng(0))
    assert 0.2 < len([word for word in said.split() if word in ("the", "cat")]) / 1000 < 0.3
    assert said == LEXICON.pronounce(text, 0.25, np.random.default_rng(0))
    assert LEXICON.pronounce(text, 1.0, np.random.default_rng(0)) == text


def test_a_file_comes_back_as_it_was_and_may_hold_remarks(tmp_path):
    LEXICON.save(tmp_path / "a" / "en.tsv")
    assert Lexicon.load(tmp_path / "a" / "en.tsv").fingerprint == LEXICON.fingerprint
    LEXICON.save(tmp_path / "en.tsv.gz")
    assert (tmp_path / "en.tsv.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert Lexicon.load(tmp_path / "en.tsv.gz").fingerprint == LEXICON.fingerprint
    (tmp_path / "mine.tsv").write_text("# mine\n\nCat\tkæt\n", encoding="utf-8")
    mine = Lexicon.load(tmp_path / "mine.tsv")
    assert dict(mine) == {"cat": "kæt"}
    assert mine.fingerprint != LEXICON.fingerprint
    assert LEXICON.letters == sorted("ðəɑɚæɛ")


@pytest.mark.parametrize("line", ["cat kæt", "cat\t", "\tkæt"])
def test_a_line_that_is_no_entry_is_named(tmp_path, line):
    (tmp_path / "odd.tsv").write_text(f"the\tðə\n{line}\n", encoding="utf-8")
    with pytest.raises(TokenizerError, match="line 2 is .* a word, a tab, and how it is said"):
        Lexicon.load(tmp_path / "odd.tsv")
    with pytest.raises(TokenizerError, match="cannot be read"):
        Lexicon.load(tmp_path / "missing.tsv")


def test_a_sequence_has_words_as_the_lexicon_of_its_language_says_them():
    tts, asr = Task.load("tts"), Task.load("asr")
    two = builder_with("en", "de", en=LEXICON, de=Lexicon({"the": "te"}))
    for lang, said in (("en", "ðə cats"), ("de", "te cats"), (None, "the cats")):
        assert two.build(tts, {"text": "the cats"}, lang=lang, targets=False).split()["text"] == said
    one = builder_with("en", "de", en=LEXICON)
    assert one.build(tts, {"text": "the cat"}, lang="de", targets=False).split()["text"] == "the cat"
    alone = builder_with(en=LEXICON)
    assert alone.build(tts, {"text": "the cat"}, targets=False).split()["text"] == "ðə kæt"
    assert alone.build(tts, {"text": Pronounced("the cat")}, targets=False).split()["text"] == "the cat"
    voiced = alone.build(tts, {"text": "the cat", "voice": "the cat"}, targets=False).split()
    assert voiced == {"text": "ðə kæt", "voice": "the cat"}, "only what the card marks"
    said = alone.build(tts, {"text": "the cat"}, instruction="The cat: {text}", targets=False).split()
    assert said["instruction"] == "The cat: ðə kæt"
    assert not any(field.pronounced for field in asr.fields)


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ({"kind": "label"}, "applies to kind text, this field is label"),
        ({"kind": "text", "repeated": True}, "does not go with 'pronounced'"),
    ],
)
def test_only_one_text_is_pronounced(condition, problem):
    card = {
        "name": "say",
        "description": "A test.",
        "conditions": [{"name": "text", "pronounced": True, **condition}],
        "targets": [{"name": "speech", "kind": "audio"}],
    }
    with pytest.raises(CardError, match=problem):
        Task.from_card(card)


def test_examples_are_as_they_are_said_but_for_a_share_of_words_and_within_their_bounds(tmp_path):
    reader = RecordReader(write_records(tmp_path))
    plain = TaskExamples(reader, Task.load("tts"), builder_with("en"), without=["prompt"])
    words = sorted({word for i in range(len(plain)) for word in words_of(texts(plain, i)[0])})
    lexicon = Lexicon({word.lower(): "ʃ" * len(word) for word in words})
    said = TaskExamples(reader, Task.load("tts"), builder_with("en", en=lexicon), without=["prompt"])
    mixed = TaskExamples(reader, Task.load("tts"), said.builder, without=["prompt"], spelled=0.5)
    kept = 0
    for i in range(len(plain)):
        text, n = texts(said, i)
        assert text == lexicon.pronounce(texts(plain, i)[0]) != texts(plain, i)[0]
        assert n <= said.lengths[i]
        for seed in range(20):
            text, n = texts(mixed, i, seed)
            kept += any(word.isascii() for word in words_of(text))
            assert n <= mixed.lengths[i]
    assert 0 < kept < 20 * len(plain)


def texts(examples: TaskExamples, i: int, seed: int = 0) -> tuple[str, int]:
    sequence = examples.sequence(i, np.random.default_rng(seed))
    return str(sequence.split()["text"]), len(sequence)


def test_bounds_hold_where_parts_of_a_word_are_said_and_others_spelled(tmp_path):
    reader = RecordReader(write_records(tmp_path))
    builder = builder_with("en", en=Lexicon({"a": "ʃʃʃ", "abcdefgh": "ʃ"}))
    examples = TaskExamples(reader, Task.load("tts"), builder, spelled=0.5)
    present, bounds = examples._measure_pronounced(["a-abcdefgh a", None])
    assert present.tolist() == [True, False]
    said = {builder.lexicons["en"].pronounce("a-abcdefgh a", 0.5, np.random.default_rng(seed)) for seed in range(50)}
    assert "ʃʃʃ-abcdefgh ʃʃʃ" in said
    assert max(len(builder.text_tokenizer.encode(text)) for text in said) <= bounds[0]


def test_a_checkpoint_keeps_its_lexicons_and_notices_another(tmp_path):
    folder = save_checkpoint(tmp_path / "toy", replace(toy_parts(), lexicons={"en": LEXICON}))
    assert dict(load_checkpoint(folder).lexicons["en"]) == dict(LEXICON)
    Lexicon({"the": "zə"}).save(folder / "lexicons" / "en.tsv.xz")
    with pytest.raises(CheckpointError, match=r"en\.tsv\.xz: is another lexicon"):
        load_checkpoint(folder)
    (folder / "lexicons" / "en.tsv.xz").unlink()
    with pytest.raises(CheckpointError, match=r"en\.tsv\.xz: cannot be loaded"):
        load_checkpoint(folder)


def test_a_model_speaks_words_as_they_are_said_and_checks_them_as_they_are_written():
    lexicon = Lexicon({"the": "dha", "cat": "kat"})
    plain, model = Model(toy_parts()), Model(replace(toy_parts(), lexicons={"en": lexicon}))
    request = model.request("tts", text="the cat")
    assert request.prompt.split()["text"] == "dha kat"
    assert request.text == "the cat"
    assert plain.request("tts", text="the cat").prompt.split()["text"] == "the cat"
    said = plain.generate("tts", text=lexicon.pronounce("the cat"), seed=3, max_seconds=0.3)
    assert model.generate("tts", text="the cat", seed=3, max_seconds=0.3).samples.equal(said.samples)
    assert model.request("tts", text=Pronounced("the cat")).prompt.split()["text"] == "the cat"


@pytest.mark.skipif(shutil.which("flite") is None, reason="needs flite")
def test_flite_says_how_words_are_said(tmp_path, capsys):
    (tmp_path / "words.txt").write_text("Doctor's the a\nthe kettle's kettle, don't! 42 señor\n", encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text('{"id": "0", "text": "A whistle."}\n')
    out = tmp_path / "lexicon.tsv"
    flags = ["--manifest", str(tmp_path / "rows.jsonl"), "--out", str(out)]
    assert main(["lexicon", "--words", str(tmp_path / "words.txt"), *flags]) == 0
    assert "6 words" in capsys.readouterr().out
    assert dict(Lexicon.load(out)) == {
        "a": "ə",
        "doctor's": "dɑktɚz",  # "kettle's" needs no entry beside "kettle"
        "don't": "dont",
        "kettle": "kɛtəl",
        "the": "ðə",
        "whistle": "wɪsəl",
    }
    flags = ["--text-file", str(tmp_path / "words.txt"), "--size", "290", "--model-type", "char", "--lexicon", str(out)]
    assert main(["train-tokenizer", *flags, "--out", str(tmp_path / "text")]) == 0
    assert len(load_text_tokenizer(str(tmp_path / "text")).encode("ðə")) <= 3, "one id each, and the space before"


def test_a_lexicon_of_no_words_is_refused(tmp_path, capsys):
    (tmp_path / "words.txt").write_text("42\n")
    assert main(["lexicon", "--out", str(tmp_path / "lexicon.tsv")]) == 2
    assert "there are no words" in capsys.readouterr().err
    if shutil.which("flite"):
        assert main(["lexicon", "--words", str(tmp_path / "words.txt"), "--out", str(tmp_path / "lexicon.tsv")]) == 2
        assert "no word to pronounce" in capsys.readouterr().err
    assert not (tmp_path / "lexicon.tsv").exists()
