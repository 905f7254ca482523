"""Sequences side by side."""

import pytest
import torch
from toy_sequences import N_CODEBOOKS, semantic_task, toy_builder

from unitok.errors import DataError, VocabularyMismatchError
from unitok.sequence import collate
from unitok.tasks import Task

TTS, ASR = Task.load("tts"), Task.load("asr")
CODES = torch.ones(N_CODEBOOKS, 7, dtype=torch.int64)


def test_each_row_is_its_sequence_and_padding_is_empty_everywhere():
    builder = toy_builder()
    sequences = [
        builder.build(TTS, {"text": "ab", "speech": CODES}),
        builder.build(ASR, {"audio": CODES[:, :2], "text": "c"}),
    ]
    batch = collate(sequences)
    assert batch.tokens.shape == (2, 16, N_CODEBOOKS)
    assert batch.lengths.tolist() == [16, 10]
    assert len(batch) == 2
    for b, one in enumerate(sequences):
        for name, row in {
            "tokens": one.tokens,
            "loss_mask": one.loss_mask,
            "frame_mask": one.frame_mask,
            "prefix_mask": one.prefix_mask,
            "kind": one.kinds,
            "loss_weight": one.loss_weight,
            "valid_mask": torch.ones(len(one), dtype=torch.bool),
        }.items():
            stored = getattr(batch, name)[b]
            assert stored.dtype == row.dtype, name
            assert torch.equal(stored[: len(one)], row), name
            assert not bool(stored[len(one) :].any()), name
    assert batch.codebook_weight is None


def test_codebook_weights_of_a_card_come_along():
    builder = toy_builder()
    weighted = builder.build(semantic_task(), {"text": "a", "meaning": torch.tensor([1]), "speech": CODES})
    batch = collate([weighted, builder.build(TTS, {"text": "a", "speech": CODES})])
    assert batch.codebook_weight is not None
    assert batch.codebook_weight.tolist() == [[1, 0.5, 1, 1], [1, 1, 1, 1]]


def test_a_batch_moves_to_a_device_as_a_whole():
    batch = collate([toy_builder().build(TTS, {"text": "a", "speech": CODES})]).to("meta")
    assert batch.tokens.device.type == batch.loss_weight.device.type == "meta"
    assert batch.codebook_weight is None


def test_an_empty_batch_and_mixed_vocabularies_are_refused():
    with pytest.raises(DataError, match="at least one sequence, got none"):
        collate([])
    values = {"text": "a", "speech": CODES}
    with pytest.raises(VocabularyMismatchError, match="block 'text' moved"):
        collate([toy_builder().build(TTS, values), toy_builder(text_size=300).build(TTS, values)])
