"""The training loss: equal to a slow, obvious sum, blind to padding, reaching every weight."""

from dataclasses import replace

import pytest
import torch
from toy_batches import BUILDER, VOCABULARY, K, codes, toy_batch, toy_lm, toy_sequences

from unitok.model.losses import frame_rows
from unitok.sequence import TokenSequence, collate
from unitok.tasks import Task

KC = (1, 2, K)


def slow_loss(lm, sequences: list[TokenSequence], level: int | None) -> tuple[float, dict[str, list[float]]]:
    """Return the loss and all cross-entropies of each part, label by label and sequence by sequence.

    For the refiner, only `level` is run and stands for all its levels.
    """
    total, weight_of_all = 0.0, 0.0
    parts: dict[str, list[float]] = {}
    own = lm.config.codebook_weights or [1.0] * K

    def add(part: str, logits: torch.Tensor, label: int, weight: float) -> None:
        nonlocal total
        nats = -float(logits.double().log_softmax(dim=-1)[label])
        parts.setdefault(part, []).append(nats)
        total += weight * nats

    for sequence in sequences:
        card = sequence.codebook_weights or [1.0] * K
        inputs = sequence.tokens.clone()
        for s in sequence.frame_mask.nonzero()[:, 0].tolist():
            inputs[s, lm.config.ar_codebooks :] = 0
        hidden = lm.hidden(inputs[None], sequence.prefix_mask[None])[0]
        for segment in sequence.segments:
            if segment.role == "condition" and lm.config.condition_weight:
                for s in range(segment.start + 1, segment.stop):
                    states = [lm.slot0_logits(hidden[s - 1])]
                    labels = [int(sequence.tokens[s, 0])]
                    if segment.kind == "audio" and s < segment.stop - 1 and lm.local is not None:
                        states += [
                            logits[0] for logits in lm.local_logits(hidden[s - 1][None], sequence.tokens[s][None])
                        ]
                        labels += lm.code_of_token[sequence.tokens[s, 1:]].tolist()
                    for logits, label in zip(states, labels, strict=False):
                        weight_of_all += lm.config.condition_weight
                        add("conditions", logits, label, lm.config.condition_weight)
            if segment.role != "target":
                continue
            is_audio = segment.kind == "audio"
            part = "audio.0" if is_audio else segment.kind
            for s in range(segment.start + 1, segment.stop):
                base = float(sequence.loss_weight[s])
                weight = base * own[0] * card[0] if is_audio else base
                weight_of_all += weight
                add(part, lm.slot0_logits(hidden[s - 1]), int(sequence.tokens[s, 0]), weight)
            if not is_audio:
                continue
            frames = list(range(segment.content.start, segment.content.stop))
            filled = int((sequence.tokens[frames[0]] != 0).sum())
            for k in range(1, filled):
                weight = float(sequence.loss_weight[frames[0]]) * own[k] * card[k]
                weight_of_all += weight * len(frames)
                labels = [sequence.codes(segment.name)[k, t] for t in range(len(frames))]
                if k < lm.config.ar_codebooks:
                    for s, label in zip(frames, labels, strict=True):
                        logits = lm.local_logits(hidden[s - 1][None], sequence.tokens[s][None])[k - 1][0]
                        add(f"audio.{k}", logits, label, weight)
                elif k == level:
                    logits = lm.refine_logits(hidden[frames][None], sequence.tokens[frames][None], k)[0]
                    for t, label in enumerate(labels):
                        add(f"audio.{k}", logits[t], label, weight * (K - lm.config.ar_codebooks))
    return total / weight_of_all, parts


def level_of(output, ar_codebooks: int) -> int | None:
    levels = [k for k in range(ar_codebooks, K) if f"audio.{k}" in output.parts and k > 0]
    assert len(levels) == (ar_codebooks < K)
    return levels[0] if levels else None


@pytest.mark.parametrize("ar_codebooks", KC)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"codebook_weights": (1.0, 0.3, 0.0, 2.0)},
        {"prefix_lm": True},
        {"condition_weight": 0.5},
        {"slot_embeddings": "concat"},
    ],
)
@torch.no_grad()
def test_loss_equals_a_slow_sum_over_labels(ar_codebooks, changes):
    lm, sequences = toy_lm(ar_codebooks, **changes), toy_sequences()
    output = lm.loss(collate(sequences), seed=3)
    expected, parts = slow_loss(lm, sequences, level_of(output, ar_codebooks))
    assert float(output.loss) == pytest.approx(expected, rel=1e-4)
    assert output.counts == {name: len(nats) for name, nats in parts.items()}
    for name, nats in parts.items():
        assert float(output.parts[name]) == pytest.approx(sum(nats) / len(nats), rel=1e-4), name


@torch.no_grad()
def test_parts_count_labels_by_kind_and_codebook():
    output = toy_lm(K).loss(toy_batch())
    # Text: "and" and "is" with their end markers; frames 7 + 3 + 5, with three end markers in codebook 0.
    assert output.counts == {"text": 7, "audio.0": 18, "audio.1": 15, "audio.2": 15, "audio.3": 15}
    assert set(output.accuracy) == set(output.parts) == set(output.counts)


@torch.no_grad()
def test_accuracy_is_the_share_of_labels_with_the_highest_logit():
    lm, batch = toy_lm(2), toy_batch()
    for parameter in (lm.head.weight, lm.local.heads[0].weight):
        parameter.zero_()
    output = lm.loss(batch)
    labels = batch.tokens[batch.frame_mask][:, 1]
    # All logits are equal, so the first id wins: `<bos>` after <empty>, never a label; code 0 in the local stage.
    assert float(output.accuracy["text"]) == 0.0
    share = (labels == VOCABULARY.ids_of("audio.1")[0]).float().mean()
    assert 0 < share < 1
    assert float(output.accuracy["audio.1"]) == pytest.approx(float(share))


@pytest.mark.parametrize("ar_codebooks", KC)
def test_padding_changes_neither_loss_nor_gradient(ar_codebooks):
    lm, batch = toy_lm(ar_codebooks), toy_batch()
    n_more = 11
    padded = replace(
        batch,
        **{
            name: torch.nn.functional.pad(getattr(batch, name), (0, 0) * (name == "tokens") + (0, n_more))
            for name in ("tokens", "loss_mask", "frame_mask", "prefix_mask", "kind", "loss_weight")
        },
    )
    assert padded.tokens.shape[1] == batch.tokens.shape[1] + n_more
    gradients = []
    for one in (batch, padded):
        lm.zero_grad()
        output = lm.loss(one, seed=1)
        output.loss.backward()
        gradients.append([output.loss.detach(), *(p.grad.clone() for p in lm.parameters() if p.grad is not None)])
    for plain, with_padding in zip(*gradients, strict=True):
        torch.testing.assert_close(with_padding, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ar_codebooks", KC)
@pytest.mark.parametrize("prefix_lm", [False, True])
def test_every_weight_gets_a_gradient(ar_codebooks, prefix_lm):
    lm, batch = toy_lm(ar_codebooks, prefix_lm=prefix_lm), toy_batch()
    for seed in range(12):  # enough for every level
        lm.loss(batch, seed=seed).loss.backward()
    without = [name for name, p in lm.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert without == []


@torch.no_grad()
def test_drawn_frames_and_levels_stand_for_all():
    lm, batch = toy_lm(2), toy_batch()
    by_level = {level_of(output, 2): float(output.loss) for output in (lm.loss(batch, seed=s) for s in range(9))}
    assert sorted(by_level) == [2, 3]
    sampled = toy_lm(2, local_fraction=0.4)
    outputs = [sampled.loss(batch, seed=seed) for seed in range(400)]
    assert {output.counts["audio.1"] for output in outputs} == {6}  # of 15 frames
    mean = sum(float(output.loss) for output in outputs) / len(outputs)
    assert mean == pytest.approx(sum(by_level.values()) / 2, rel=0.02)
    assert max(map(float, (o.loss for o in outputs))) > mean * 1.02


@torch.no_grad()
def test_seed_decides_what_is_drawn():
    lm, batch = toy_lm(1, local_fraction=0.5), toy_batch()
    losses = [float(lm.loss(batch, seed=seed).loss) for seed in (1, 1, 2, 3, 4, 5)]
    assert losses[0] == losses[1]
    assert len(set(losses)) > 2


@pytest.mark.parametrize("ar_codebooks", [3, K])
@torch.no_grad()
def test_frames_with_fewer_codebooks_are_trained_on_those_they_have(ar_codebooks):
    lm = toy_lm(ar_codebooks)
    sequences = [
        BUILDER.build(Task.load("tts"), {"text": "a", "speech": codes(6, n_codebooks=2)}),
        *toy_sequences()[:2],
    ]
    output = lm.loss(collate(sequences), seed=0)
    expected, parts = slow_loss(lm, sequences, level_of(output, ar_codebooks))
    assert output.counts == {name: len(nats) for name, nats in parts.items()}
    assert (output.counts["audio.1"], output.counts["audio.2"]) == (13, 7)
    assert float(output.loss) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("ar_codebooks", KC)
def test_batches_without_frames_or_labels_have_a_loss_too(ar_codebooks):
    lm = toy_lm(ar_codebooks)
    recognise = lm.loss(collate(toy_sequences()[1:2]))
    assert list(recognise.counts) == ["text"]
    prompt = BUILDER.build(Task.load("tts"), {"text": "a"}, targets=False)
    nothing = lm.loss(collate([prompt]))
    nothing.loss.backward()
    assert float(nothing.loss.detach()) == 0.0
    assert nothing.counts == nothing.parts == {}


@torch.no_grad()
def test_loss_under_bfloat16_autocast_is_close_and_in_float32():
    lm, batch = toy_lm(2), toy_batch()
    for parameter in lm.parameters():
        parameter.mul_(0.3 if parameter.ndim == 2 else 1.0)
    expected = lm.loss(batch, seed=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = lm.loss(batch, seed=0)
    assert output.loss.dtype == torch.float32
    assert float(output.loss) == pytest.approx(float(expected.loss), rel=0.02)
    assert output.counts == expected.counts


def test_each_run_of_frames_is_a_row_of_its_own():
    frame_mask = torch.tensor([[0, 1, 1, 0, 1], [0, 0, 0, 0, 0], [0, 0, 1, 1, 1]]).bool()
    rows, positions, valid_mask = frame_rows(frame_mask)
    assert rows.tolist() == [[0], [0], [2]]
    assert valid_mask.tolist() == [[True, True, False], [True, False, False], [True, True, True]]
    assert positions.tolist() == [[1, 2, 1], [4, 4, 4], [2, 3, 4]]
