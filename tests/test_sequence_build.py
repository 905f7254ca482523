"""From values to a sequence and back: order, masks, weights, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_sequences import CODEBOOK_SIZE, FRAME_RATE_HZ, N_CODEBOOKS, semantic_task, toy_builder

from unitok.errors import DataError, TokenizerError, VocabularyMismatchError
from unitok.sequence import Rates, Segment, TokenSequence
from unitok.tasks import SequenceBuilder, Task
from unitok.tasks.builder import cut_pieces
from unitok.tokenizers.bytes import ByteTokenizer

TTS, ASR, CHAIN = (Task.load(name) for name in ("tts", "asr", "s2st_chain"))
RATES = Rates(FRAME_RATE_HZ, FRAME_RATE_HZ)
CODES = torch.arange(N_CODEBOOKS * 3).reshape(N_CODEBOOKS, 3) % CODEBOOK_SIZE


def names(builder: SequenceBuilder, sequence: TokenSequence) -> list[str]:
    return [builder.vocabulary.name(id) for id in sequence.tokens[:, 0].tolist()]


def test_the_order_is_bos_task_lang_conditions_targets_eos():
    builder = toy_builder()
    sequence = builder.build(TTS, {"speech": CODES, "text": "ab", "voice": "c", "prompt": CODES[:, :1]}, lang="de")
    assert names(builder, sequence) == [
        "<bos>", "<task:tts>", "<lang:de>", "<text>", "text:97", "text:98", "</text>", "<label>", "text:99", "</label>",
        "<audio>", "audio.0:0", "</audio>", "<audio>", "audio.0:0", "audio.0:1", "audio.0:2", "</audio>", "<eos>",
    ]  # fmt: skip
    assert [(s.name, s.role) for s in sequence.segments] == [
        ("<bos>", "control"), ("<task:tts>", "control"), ("<lang:de>", "control"), ("text", "condition"),
        ("voice", "condition"), ("prompt", "condition"), ("speech", "target"), ("<eos>", "control"),
    ]  # fmt: skip


def test_only_frames_fill_slots_above_the_first():
    sequence = toy_builder().build(TTS, {"text": "ab", "speech": CODES})
    filled = (sequence.tokens != 0).sum(1)
    assert filled.tolist() == [1, 1, 1, 1, 1, 1, 1, 4, 4, 4, 1, 1]


def test_several_targets_come_in_the_order_of_the_card():
    values = {"translation": "d", "speech": CODES, "transcript": "abc", "audio": CODES[:2]}
    sequence = toy_builder().build(CHAIN, values, lang="en")
    assert [s.name for s in sequence.segments if s.role == "target"] == ["transcript", "translation", "speech"]


def test_masks_mark_labels_frames_and_prefix():
    sequence = toy_builder().build(TTS, {"text": "ab", "speech": CODES})
    #        bos task <text> a b </text> <audio> f f f </audio> eos
    loss = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0]
    fram = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0]
    targ = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0]
    pref = [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    kind = [0, 0, 1, 1, 1, 1, 3, 3, 3, 3, 3, 0]
    assert sequence.loss_mask.int().tolist() == loss
    assert sequence.frame_mask.int().tolist() == fram
    assert sequence.target_mask.int().tolist() == targ
    assert sequence.prefix_mask.int().tolist() == pref
    assert sequence.kinds.tolist() == kind
    assert sequence.loss_weight.tolist() == [float(x) for x in loss]
    assert {m.dtype for m in (sequence.loss_mask, sequence.frame_mask, sequence.prefix_mask)} == {torch.bool}


def test_loss_weights_of_the_card_reach_the_labels():
    sequence = toy_builder().build(semantic_task(), {"text": "a", "meaning": torch.tensor([1, 4]), "speech": CODES})
    #                                     bos task <t> a </t> <sem> 1 4 </sem> <a> f f f </a> eos
    assert sequence.loss_weight.tolist() == [0, 0, 0, 0, 0, 0, 0.5, 0.5, 0.5, 0, 2, 2, 2, 2, 0]
    assert sequence.codebook_weights == (1.0, 0.5)


def test_a_prompt_is_the_start_of_the_whole_sequence():
    builder = toy_builder()
    whole = builder.build(TTS, {"text": "ab", "speech": CODES}, lang="en")
    prompt = builder.build(TTS, {"text": "ab"}, lang="en", targets=False)
    assert torch.equal(prompt.tokens, whole.tokens[: len(prompt)])
    assert bool(prompt.prefix_mask.all())
    assert not bool(prompt.loss_mask.any())
    assert prompt.split() == {"text": "ab"}


def test_a_condition_is_cut_to_its_max_seconds():
    codes = torch.arange(300).remainder(CODEBOOK_SIZE).expand(N_CODEBOOKS, -1)
    sequence = toy_builder().build(TTS, {"text": "a", "prompt": codes}, targets=False)
    assert torch.equal(sequence.codes("prompt"), codes[:, : int(3.0 * FRAME_RATE_HZ)])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_split_gives_back_what_was_built(data):
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
    values = {"text": data.draw(text)}
    if data.draw(st.booleans()):
        values["voice"] = data.draw(text)
    for name in ["speech"] + ["prompt"] * data.draw(st.booleans()):
        shape = (data.draw(st.integers(1, N_CODEBOOKS)), data.draw(st.integers(1, 8)))
        values[name] = torch.randint(
            CODEBOOK_SIZE, shape, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
        )
    lang = data.draw(st.sampled_from([None, "en", "de"]))
    sequence = toy_builder().build(TTS, values, lang=lang)
    back = sequence.split()
    assert back.keys() == values.keys()
    for name, value in values.items():
        assert torch.equal(back[name], value) if isinstance(value, torch.Tensor) else back[name] == value


@pytest.mark.parametrize(("n_frames", "n_start"), [(200, 75), (9, 4), (1, 0)])
def test_a_start_and_the_rest_make_up_the_recording(n_frames, n_start):
    codes = torch.arange(n_frames).expand(N_CODEBOOKS, -1)
    values = cut_pieces(Task.load("audio_continuation"), {"sound": codes}, RATES, np.random.default_rng(0))
    assert values["prompt"].shape == (N_CODEBOOKS, n_start)
    assert torch.equal(torch.cat([values["prompt"], values["sound"]], dim=1), codes)


def test_tasks_without_starts_are_left_alone():
    values = {"text": "a", "speech": CODES}
    assert cut_pieces(TTS, values, RATES, np.random.default_rng(0)) == values


def infill_task(*sources):
    conditions = [{"name": source, "kind": "audio", "field": "audio", "from": source} for source in sources]
    target = {"name": "span", "kind": "audio", "field": "audio"}
    return Task.from_card({"name": "infill", "description": "Fill in.", "conditions": conditions, "targets": [target]})


@pytest.mark.parametrize("sources", [("before", "after"), ("before",), ("after",)])
@pytest.mark.parametrize("n_frames", [3, 10, 200])
def test_a_span_and_what_is_around_it_make_up_the_recording(sources, n_frames):
    codes = torch.arange(n_frames).expand(N_CODEBOOKS, -1)
    for seed in range(20):
        values = cut_pieces(infill_task(*sources), {"span": codes}, RATES, np.random.default_rng(seed))
        pieces = [values[name] for name in ("before", "span", "after") if name in values]
        assert [*values.keys()] == ["span", *sources]
        assert all(piece.shape[1] > 0 for piece in pieces)
        assert torch.equal(torch.cat(pieces, dim=1), codes)
        assert values["span"].shape[1] <= max(1, round(0.6 * n_frames))


def test_a_grown_vocabulary_lays_old_values_out_as_before_and_takes_new_ones():
    builder = toy_builder(spare=0)
    grown = SequenceBuilder(
        builder.vocabulary.grow(tasks=["vc"], text_size=300, codebook_sizes=[9] * N_CODEBOOKS),
        ByteTokenizer(),
        FRAME_RATE_HZ,
    )
    old = {"text": "ab", "speech": CODES}
    assert torch.equal(grown.build(TTS, old).tokens, builder.build(TTS, old).tokens)
    new = {"audio": CODES + 3, "prompt": CODES, "speech": CODES + 3}
    assert all(torch.equal(value, new[name]) for name, value in grown.build(Task.load("vc"), new).split().items())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=6), st.booleans())
def test_semantic_tokens_come_back(ids, as_matrix):
    value = torch.tensor(ids, dtype=torch.int64)
    sequence = toy_builder().build(semantic_task(), {"text": "a", "meaning": value[None] if as_matrix else value})
    assert sequence.codes("meaning").tolist() == [ids]
    assert "speech" not in sequence.split()


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({}, DataError, r"task 'tts' needs condition 'text' \(kind text\), which is missing. Pass text="),
        ({"text": "a"}, DataError, "needs target 'speech'"),
        ({"text": "a", "speach": CODES}, DataError, r"no field 'speach'. Did you mean 'speech'\? It has: text, voice"),
        ({"text": CODES, "speech": CODES}, DataError, "'text': got tensor of torch.int64, kind text takes text"),
        ({"text": "a", "speech": "x.wav"}, DataError, "'speech': got str, kind audio takes a tensor of integer codes"),
        ({"text": "a", "speech": CODES.float()}, DataError, "got tensor of torch.float32"),
        (
            {"text": "a", "speech": CODES.repeat(2, 1)},
            TokenizerError,
            r"'speech': codes have K=8 .* has K=4. Pass codes\[:4\]",
        ),
        ({"text": "a", "speech": CODES + 9}, TokenizerError, "'speech': codebook 0 holds codes from 9"),
    ],
)
def test_wrong_values_are_refused_in_the_words_of_the_card(values, error, message):
    with pytest.raises(error, match=message):
        toy_builder().build(TTS, values)


def test_an_unknown_task_or_language_is_refused():
    with pytest.raises(VocabularyMismatchError, match="no task 'tts'. It has: asr"):
        toy_builder(tasks=["asr"]).build(TTS, {"text": "a"}, targets=False)
    with pytest.raises(VocabularyMismatchError, match="no lang 'fr'. It has: en, de"):
        toy_builder().build(TTS, {"text": "a"}, lang="fr", targets=False)


def test_a_text_tokenizer_larger_than_the_vocabulary_is_refused():
    with pytest.raises(VocabularyMismatchError, match="'bytes' has 256 ids, the vocabulary has 9"):
        toy_builder(text_size=9)


def test_a_sequence_checks_that_its_segments_cover_it():
    sequence = toy_builder().build(ASR, {"audio": CODES, "text": "a"})
    with pytest.raises(ValueError, match="have to follow each other and cover 11 positions"):
        TokenSequence(sequence.tokens, sequence.segments[1:], sequence.vocabulary)
    with pytest.raises(ValueError, match=r"shape \[11, 3\], allowed: \[S, 4\]"):
        TokenSequence(sequence.tokens[:, :3], sequence.segments, sequence.vocabulary)


def test_the_content_of_a_segment_lies_between_its_markers():
    assert Segment("text", "text", "target", 3, 8).content == slice(4, 7)
    assert Segment("<bos>", "control", "control", 0, 1).content == slice(0, 1)


def test_text_cannot_be_split_without_a_tokenizer():
    sequence = toy_builder().build(ASR, {"audio": CODES, "text": "ab"})
    bare = TokenSequence(sequence.tokens, sequence.segments, sequence.vocabulary)
    assert bare.text_ids("text") == ByteTokenizer().encode("ab")
    with pytest.raises(TokenizerError, match="'text' is text: give the sequence its text_tokenizer"):
        bare.split()
    with pytest.raises(TokenizerError, match=r"'text' is text, it has no codes. Use split\(\)\['text'\]"):
        bare.codes("text")
    with pytest.raises(KeyError, match=r"no segment 'audoi'. Did you mean 'audio'\? It has: audio, text"):
        bare.codes("audoi")
