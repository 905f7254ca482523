"""The prior of attention: on the diagonal of aligned conditions and targets, fading out, and no look ahead."""

import pytest
import torch
from toy_batches import BUILDER, codes, toy_batch, toy_lm

from unitok.model.alignment import AlignmentPrior, attention_bias
from unitok.sequence import collate
from unitok.tasks import Task
from unitok.vocabulary import kind_index


def spoken(n_frames: int = 6):
    values = {"text": "so it", "voice": "a", "speech": codes(n_frames)}
    return BUILDER.build(Task.load("tts"), values)


def test_place_counts_through_aligned_contents_only():
    sequence = spoken(n_frames=4)
    place, speech, text = sequence.place, sequence.segment("speech"), sequence.segment("text")
    assert place[speech.content].tolist() == [0.125, 0.375, 0.625, 0.875]
    inside = torch.zeros(len(sequence), dtype=torch.bool)
    inside[text.content] = inside[speech.content] = True
    assert (place >= 0).equal(inside)


def test_bias_is_highest_where_condition_and_target_are_equally_far():
    sequence = spoken()
    batch = collate([sequence, spoken(n_frames=2)])
    bias = attention_bias(batch, width=0.1)
    speech, text = sequence.segment("speech").content, sequence.segment("text").content
    pairs = bias[0, speech, text]
    nearest = (sequence.place[speech, None] - sequence.place[None, text]).abs().argmin(dim=1)
    assert pairs.argmax(dim=1).equal(nearest)
    assert float(pairs.min()) == pytest.approx(-6.0)
    first, last = float(sequence.place[speech][0]), float(sequence.place[text][0])
    assert float(pairs[0, 0]) == pytest.approx(max(-6.0, -(((first - last) / 0.1) ** 2) / 2))
    bias[0, speech, text] = 0.0
    assert not bias[0].any()  # neither the voice, nor markers, nor the target's own past
    assert not bias[1, int(batch.lengths[1]) :].any()


def test_strength_is_of_each_sequence():
    batch = collate([spoken(), spoken()])
    full = attention_bias(batch, width=0.1)
    drawn = attention_bias(batch, width=0.1, strength=torch.tensor([0.0, 0.5]))
    assert not drawn[0].any()
    assert drawn[1].equal(full[1] * 0.5)


def test_prior_holds_then_fades():
    prior = AlignmentPrior(hold_steps=10, end_steps=20)
    assert [prior.strength(step) for step in (0, 9, 10, 15, 20, 99)] == [1.0, 1.0, 1.0, 0.5, 0.0, 0.0]
    assert AlignmentPrior(hold_steps=5, end_steps=5).strength(5) == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hold_steps": 3, "end_steps": 2}, "hold_steps not above end_steps"),
        ({"hold_steps": -1, "end_steps": 2}, "allowed: 0 or more"),
        ({"hold_steps": 1, "end_steps": 2, "width": 0.0}, "width=0.0, allowed: above 0"),
    ],
)
def test_bad_settings_of_the_prior_are_told(settings, message):
    with pytest.raises(ValueError, match=message):
        AlignmentPrior(**settings)


@pytest.mark.parametrize("prefix_lm", [False, True])
@torch.no_grad()
def test_bias_of_zero_changes_nothing_and_another_one_does(prefix_lm):
    lm, batch = toy_lm(2, prefix_lm=prefix_lm), toy_batch()
    plain = float(lm.loss(batch, seed=0).loss)
    zero = torch.zeros(len(batch), batch.tokens.shape[1], batch.tokens.shape[1])
    assert float(lm.loss(batch, 0, zero).loss) == pytest.approx(plain, rel=1e-5)
    assert float(lm.loss(batch, 0, attention_bias(batch, width=0.1)).loss) != pytest.approx(plain, rel=1e-3)


@torch.no_grad()
def test_no_bias_makes_a_position_see_later_ones():
    lm, batch = toy_lm(2), collate([spoken()])
    bias = attention_bias(batch, width=0.1)
    before = lm.hidden(lm.coarse(batch.tokens, batch.frame_mask), None, bias)
    changed = batch.tokens.clone()
    changed[:, -4:] = changed[:, -5:-4]
    after = lm.hidden(lm.coarse(changed, batch.frame_mask), None, bias)
    assert after[:, :-4].equal(before[:, :-4])
    assert not after[:, -4:].allclose(before[:, -4:])


def test_history_is_said_anew_in_training_only_and_of_target_frames_only(monkeypatch):
    batch, plain, saying = toy_batch(), toy_lm(2), toy_lm(2, history_sampling=1.0)
    with torch.no_grad():
        assert float(saying.loss(batch, seed=0).loss) == float(plain.loss(batch, seed=0).loss)
        losses = [float(saying.train().loss(batch, seed=seed).loss) for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    monkeypatch.setattr("unitok.model.lm.HISTORY_TEMPERATURE", 1e-4)
    tokens = saying.coarse(batch.tokens, batch.frame_mask)
    said = saying._sample_history(tokens, batch, None, torch.Generator().manual_seed(0))
    changed = (said != tokens).any(dim=2)
    assert bool(changed.any())
    assert not bool(changed[~batch.frame_mask].any())
    assert bool((said[..., saying.n_coarse :][batch.frame_mask] == saying.empty_id).all())
    rows, positions = changed.nonzero(as_tuple=True)
    with torch.no_grad():
        hidden = saying.hidden(tokens, batch.prefix_mask)[rows, positions - 1]
        stage, drawn = saying.local_stage(hidden), said[rows, positions]
        first = saying.slot0_logits(hidden)[:, saying.tokens_of_code[0]]
        assert torch.equal(saying.tokens_of_code[0][first.argmax(dim=1)], drawn[:, 0])
        assert torch.equal(saying.tokens_of_code[1][stage.logits(drawn[:, 0]).argmax(dim=1)], drawn[:, 1])


def test_frames_are_said_around_given_codebooks():
    batch, lm = toy_batch(), toy_lm(3)
    rows, positions = batch.frame_mask.nonzero(as_tuple=True)
    tokens = batch.tokens[rows, positions]
    with torch.no_grad():
        hidden = lm.hidden(lm.coarse(batch.tokens, batch.frame_mask), batch.prefix_mask)[rows, positions - 1]
    for n_given in range(4):
        said = lm.say_frames(hidden, tokens, n_given, generator=torch.Generator().manual_seed(1))
        assert torch.equal(said[:, :n_given], tokens[:, :n_given])
        assert torch.equal(said[:, lm.n_coarse :], tokens[:, lm.n_coarse :])
        assert bool((lm.code_of_token[said] >= 0).all())
        assert n_given == 3 or not torch.equal(said, tokens)


def test_history_is_hidden_in_training_only_and_of_target_frames_only():
    batch, plain, hiding = toy_batch(), toy_lm(2), toy_lm(2, history_dropout=1.0)
    with torch.no_grad():
        assert float(hiding.loss(batch, seed=0).loss) == float(plain.loss(batch, seed=0).loss)
        losses = [float(hiding.train().loss(batch, seed=seed).loss) for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    shares = []
    for seed in range(200):
        hidden = hiding._hide_history(batch.tokens, batch.frame_mask, torch.Generator().manual_seed(seed))
        kept = (hidden == batch.tokens).all(dim=2)
        assert bool(kept[~batch.frame_mask].all())
        assert bool((hidden[~kept] == hiding.empty_id).all())
        shares.append(1 - kept[batch.frame_mask].float().mean())
    assert float(torch.stack(shares).mean()) == pytest.approx(0.5, abs=0.05)
    assert bool((batch.kind[batch.frame_mask] == kind_index("audio")).all())
