"""Growing, saving and comparing vocabularies."""

import json

import pytest
import torch

from unitok.errors import CheckpointError, VocabularyMismatchError
from unitok.vocabulary import Vocabulary


def vocabulary(**changes) -> Vocabulary:
    settings = {"tasks": ["tts", "asr"], "langs": ["en"], "text_size": 10, "codebook_sizes": [5, 6], "spare": 2}
    return Vocabulary.create(**(settings | changes))


def meanings(voc: Vocabulary) -> dict[int, str]:
    return {id: voc.name(id) for id in range(voc.size)}


def test_new_names_take_spare_ids_first():
    voc = vocabulary()
    grown = voc.grow(tasks=["vc"], langs=["de", "en"])
    assert grown.size == voc.size
    assert grown.blocks == voc.blocks
    assert grown.task_id("vc") == voc.task_id("asr") + 1
    assert grown.lang_names == ("en", "de")


def test_growth_beyond_every_block_keeps_every_old_id():
    voc = vocabulary()
    grown = voc.grow(tasks=["a", "b", "c"], langs=list("wxyz"), text_size=14, codebook_sizes=[9, 6, 3])
    old, new = meanings(voc), meanings(grown)
    assert {id: name for id, name in old.items() if not name.startswith("spare")}.items() <= new.items()
    assert len(set(new.values())) == grown.size
    assert (grown.text_size, grown.codebook_sizes, grown.n_codebooks) == (14, (9, 6, 3), 3)
    assert grown.task_id("c") >= voc.size
    assert grown.name(int(grown.ids_of("text")[12])) == "text:12"
    assert grown.ids_of("text")[:10].tolist() == voc.ids_of("text").tolist()


def test_grown_codes_and_text_keep_their_old_tokens():
    voc = vocabulary()
    grown = voc.grow(text_size=12, codebook_sizes=[8, 6])
    codes = torch.tensor([[0, 4], [5, 0]])
    assert torch.equal(grown.codes_to_tokens(codes), voc.codes_to_tokens(codes))
    assert grown.codes_to_tokens(torch.tensor([[7]]))[0, 0] == grown.ranges("audio.0")[1].stop - 1
    assert grown.tokens_to_text(grown.text_to_tokens([9, 10, 11])) == [9, 10, 11]
    assert grown.grow(text_size=15).tokens_to_text(grown.grow(text_size=15).text_to_tokens(range(15))) == list(
        range(15)
    )


def test_a_grown_block_has_no_single_range():
    with pytest.raises(ValueError, match=r"'text' was grown and lies in 2 ranges. Use ids_of\('text'\)"):
        vocabulary().grow(text_size=11).block("text")
    with pytest.raises(KeyError, match=r"no block 'audio.7'. Did you mean 'audio.\d'"):
        vocabulary().block("audio.7")


def test_growing_by_nothing_changes_nothing():
    voc = vocabulary()
    assert voc.grow(tasks=["tts"], text_size=10, codebook_sizes=[5, 6]).hash == voc.hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_size": 9}, "text_size is 9, the vocabulary has 10"),
        ({"codebook_sizes": [5]}, "codebook_sizes has 1 codebooks, the vocabulary has 2"),
        ({"codebook_sizes": [5, 4]}, r"codebook_sizes\[1\] is 4, the vocabulary has 6"),
    ],
)
def test_nothing_shrinks(change, message):
    with pytest.raises(ValueError, match=message):
        vocabulary().grow(**change)


def test_a_saved_vocabulary_comes_back(tmp_path):
    voc = vocabulary(langs=["en", "日本語"]).grow(tasks=list("abcdef"), text_size=20)
    voc.save(tmp_path / "vocabulary.json")
    loaded = Vocabulary.load(tmp_path / "vocabulary.json")
    assert loaded == voc
    assert loaded.hash == voc.hash
    assert [path.name for path in tmp_path.iterdir()] == ["vocabulary.json"]


def test_an_edited_file_is_refused(tmp_path):
    path = tmp_path / "vocabulary.json"
    vocabulary().save(path)
    content = json.loads(path.read_text())
    content["tasks"] = content["tasks"][::-1]
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="was changed after it was written .*Vocabulary.grow"):
        Vocabulary.load(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "blocks": 3}', "\x00"])
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path, text):
    path = tmp_path / "vocabulary.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match="vocabulary.json: is no vocabulary file"):
        Vocabulary.load(path)


def test_a_missing_or_newer_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        Vocabulary.load(tmp_path / "none.json")
    (tmp_path / "new.json").write_text('{"format": 2}')
    with pytest.raises(CheckpointError, match="vocabulary format 2, this unitok reads format 1. Update"):
        Vocabulary.load(tmp_path / "new.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_size": 11}, "block 'text' moved: ids 22 to 31 here, ids 22 to 32 in the shard"),
        ({"codebook_sizes": [5]}, "block 'audio.1' moved: ids 37 to 42 here, absent in the shard"),
        ({"tasks": ["asr", "tts"]}, "block 'task' moved: an id is 'tts' here, 'asr' in the shard"),
        (
            {"langs": [], "spare": {"control": 2, "task": 2, "lang": 3}},
            "block 'lang' moved: an id is 'en' here, 'unused'",
        ),
    ],
)
def test_a_mismatch_names_the_block_that_moved(change, message):
    with pytest.raises(VocabularyMismatchError, match=message):
        vocabulary().check_same(vocabulary(**change), "shard")


def test_the_same_vocabulary_passes():
    vocabulary().check_same(vocabulary())
