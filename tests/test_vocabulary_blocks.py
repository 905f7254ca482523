"""What the ids of a vocabulary mean, and that they never change."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unitok.errors import TokenizerError, VocabularyMismatchError
from unitok.vocabulary import KINDS, Block, Vocabulary, kind_index


def vocabulary(**changes) -> Vocabulary:
    settings = {"tasks": ["tts", "asr"], "langs": ["en", "de"], "text_size": 10, "codebook_sizes": [5, 6, 7]}
    return Vocabulary.create(**(settings | changes))


def test_blocks_follow_each_other_in_the_documented_order():
    voc = vocabulary(semantic_size=9)
    assert [(b.name, b.first, b.size) for b in voc.blocks] == [
        ("control", 0, 32),
        ("task", 32, 64),
        ("lang", 96, 64),
        ("text", 160, 10),
        ("semantic", 170, 9),
        ("audio.0", 179, 5),
        ("audio.1", 184, 6),
        ("audio.2", 190, 7),
    ]
    assert (voc.size, voc.n_codebooks, voc.codebook_sizes, voc.text_size, voc.semantic_size) == (
        197,
        3,
        (5, 6, 7),
        10,
        9,
    )


def test_ids_are_the_ones_that_checkpoints_were_trained_with():
    """Golden: a change here breaks every checkpoint in the world."""
    voc = vocabulary()
    names = ["<empty>", "<bos>", "<eos>", "<text>", "</text>", "<label>", "</label>", "<audio>", "</audio>"]
    names += ["<semantic>", "</semantic>", "<features>", "</features>"]
    assert [voc.id(name) for name in names] == list(range(13))
    assert (voc.empty_id, voc.bos_id, voc.eos_id) == (0, 1, 2)
    assert (voc.task_id("tts"), voc.task_id("asr"), voc.lang_id("en"), voc.lang_id("de")) == (32, 33, 96, 97)
    assert (voc.start_id("audio"), voc.end_id("audio")) == (7, 8)
    assert [kind_index(kind) for kind in ("control", *KINDS)] == [0, 1, 2, 3, 4, 5]
    assert voc.hash == "sha256:8350a70a2f0f0bf218281577eb9d2d14b721590c7c26bc3eabaf44d50527e7d2"


def test_task_order_is_kept_as_given():
    assert vocabulary(tasks=["b", "a"]).task_id("b") < vocabulary(tasks=["b", "a"]).task_id("a")


def test_names_undo_ids():
    voc = vocabulary(semantic_size=2)
    assert [voc.name(i) for i in (0, 7, 12, 13, 32, 34, 97, 98)] == [
        "<empty>",
        "<audio>",
        "</features>",
        "spare control:13",
        "<task:tts>",
        "spare task:2",
        "<lang:de>",
        "spare lang:2",
    ]
    assert [voc.name(i) for i in (160, 171, 172, 177)] == ["text:0", "semantic:1", "audio.0:0", "audio.1:0"]
    with pytest.raises(KeyError, match="id 500 is outside the vocabulary of 190"):
        voc.name(500)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda v: v.task_id("ttss"),
            r"no task 'ttss'. Did you mean 'tts'\? It has: tts, asr. Vocabulary.grow\(tasks=",
        ),
        (lambda v: v.lang_id("fr"), r"no lang 'fr'. It has: en, de. Vocabulary.grow\(langs=\['fr'\]\)"),
    ],
)
def test_an_unknown_task_or_language_says_what_there_is_and_how_to_add_it(call, message):
    with pytest.raises(VocabularyMismatchError, match=message):
        call(vocabulary())


def test_codes_fill_their_slots_and_leave_the_others_empty():
    voc = vocabulary()
    tokens = voc.codes_to_tokens(torch.tensor([[0, 4], [5, 1]]))
    first0, first1 = voc.block("audio.0").first, voc.block("audio.1").first
    assert tokens.tolist() == [[first0, first1 + 5, 0], [first0 + 4, first1 + 1, 0]]
    assert voc.tokens_to_codes(tokens).tolist() == [[0, 4], [5, 1]]


@given(st.data())
def test_tokens_to_codes_undoes_codes_to_tokens(data):
    voc = vocabulary().grow(codebook_sizes=[8, 6, 9, 4])
    K, T = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 7))
    rows = [data.draw(st.lists(st.integers(0, size - 1), min_size=T, max_size=T)) for size in voc.codebook_sizes[:K]]
    codes = torch.tensor(rows)
    assert torch.equal(voc.tokens_to_codes(voc.codes_to_tokens(codes)), codes)


def test_no_frames_stay_no_frames():
    voc = vocabulary()
    tokens = voc.codes_to_tokens(torch.zeros(2, 0, dtype=torch.int64))
    assert tokens.shape == (0, 3)
    assert voc.tokens_to_codes(tokens).shape == (3, 0)


def test_codes_of_int16_are_taken():
    assert vocabulary().codes_to_tokens(torch.zeros(3, 2, dtype=torch.int16)).dtype == torch.int64


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (
            torch.zeros(4, 2, dtype=torch.int64),
            r"K=4 codebooks, the vocabulary has K=3. Pass codes\[:3\] or call set_codebooks\(3\)",
        ),
        (torch.tensor([[0], [6]]), "codebook 1 holds codes from 6 to 6, allowed: 0 to 5"),
        (torch.tensor([[-1]]), "codebook 0 holds codes from -1 to -1"),
        (torch.zeros(3, 2), r"shape \[3, 2\] and type torch.float32, allowed: integers"),
        (torch.zeros(2, 3, 4, dtype=torch.int64), r"shape \[2, 3, 4\]"),
    ],
)
def test_wrong_codes_are_refused(codes, message):
    with pytest.raises(TokenizerError, match=message):
        vocabulary().codes_to_tokens(codes)


def test_frames_with_different_slots_or_foreign_ids_are_refused():
    voc = vocabulary()
    tokens = voc.codes_to_tokens(torch.zeros(3, 2, dtype=torch.int64))
    ragged = tokens.clone()
    ragged[1, 2] = 0
    with pytest.raises(TokenizerError, match="first fills 3, others"):
        voc.tokens_to_codes(ragged)
    hole = tokens.clone()
    hole[:, 0] = 0
    with pytest.raises(TokenizerError, match="leading slots"):
        voc.tokens_to_codes(hole)
    with pytest.raises(TokenizerError, match=r"\(audio.2:0\) is not in block 'audio.0'"):
        voc.tokens_to_codes(tokens.flip(1))
    with pytest.raises(TokenizerError, match=r"allowed: .*|audio frames have \[T, 3\]"):
        voc.tokens_to_codes(tokens[:, :2])


def test_text_ids_become_tokens_and_come_back():
    voc = vocabulary()
    assert voc.text_to_tokens([0, 9]) == [160, 169]
    assert voc.tokens_to_text(torch.tensor([160, 169])) == [0, 9]
    assert voc.text_to_tokens([]) == voc.tokens_to_text([]) == []
    with pytest.raises(TokenizerError, match="text ids go from 10 to 10, this vocabulary has 0 to 9"):
        voc.text_to_tokens([10])
    with pytest.raises(TokenizerError, match=r"token 7 \(<audio>\) is not in block 'text'"):
        voc.tokens_to_text([7])


def test_create_refuses_names_that_come_twice_and_empty_blocks():
    with pytest.raises(ValueError, match="task names come twice: tts"):
        vocabulary(tasks=["tts", "tts"])
    with pytest.raises(ValueError, match="block 'audio.1' would have 0 ids"):
        vocabulary(codebook_sizes=[5, 0])


def test_spare_is_a_number_or_one_per_block():
    assert [b.size for b in vocabulary(spare=3).blocks[:3]] == [16, 5, 5]
    assert [b.size for b in vocabulary(spare={"task": 1}).blocks[:3]] == [13, 3, 2]


def test_blocks_with_a_gap_or_too_many_names_are_refused():
    with pytest.raises(ValueError, match=r"'b' has ids \[4, 6\), it has to begin at 3"):
        Vocabulary((Block("a", 0, 3), Block("b", 4, 2)), (), (), ())
    with pytest.raises(ValueError, match="block 'task' has 1 ids for 2 names"):
        Vocabulary((Block("task", 0, 1),), (), ("a", "b"), ())
