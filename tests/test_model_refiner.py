"""Masked refinement: what is masked in training, what is kept at each pass of generation, who sees what."""

import dataclasses

import pytest
import torch
from tiny_models import TASKS, pattern_lm, random_codes
from toy_batches import VOCABULARY, K, codes, toy_batch, toy_lm

from unitok.errors import GenerationError
from unitok.generation.engine import Engine, GenerationRequest
from unitok.model.lm import _drawn_mask
from unitok.model.refiner import masked_counts
from unitok.tasks import Sampling


@pytest.mark.parametrize("n_frames", [1, 2, 7, 100])
@pytest.mark.parametrize("n_passes", [1, 2, 5, 16])
def test_fewer_and_fewer_frames_stay_masked_and_none_at_the_end(n_frames, n_passes):
    counts = masked_counts(n_frames, n_passes)
    assert len(counts) == n_passes
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 0
    assert counts[0] < n_frames


def test_passes_speed_up_as_a_cosine_does():
    assert masked_counts(100, 4) == [92, 70, 38, 0]


def test_training_masks_some_frames_of_each_target_and_no_padding():
    lengths = torch.tensor([1, 3, 40, 40])
    valid_mask = torch.arange(40) < lengths[:, None]
    drawn = [_drawn_mask(valid_mask, torch.Generator().manual_seed(seed)) for seed in range(200)]
    counts = torch.stack(drawn).sum(dim=2)  # [200, R]
    assert not bool((torch.stack(drawn) & ~valid_mask).any())
    assert int(counts.min()) >= 1
    assert len(counts[:, 2].unique()) > 20
    assert float(counts[:, 2].float().mean()) == pytest.approx(40 * 2 / torch.pi, rel=0.1)  # mean of cos
    assert bool((counts[:, 2] != counts[:, 3]).any())


@torch.no_grad()
def test_known_codes_of_the_level_are_seen_and_unknown_ones_cannot_be():
    lm, hidden = toy_lm(2, refinement="masked"), torch.randn(1, 6, 16)
    tokens = toy_batch().tokens.new_zeros(1, 6, K)
    tokens[0] = VOCABULARY.codes_to_tokens(codes(6))
    tokens[0, 3, 2] = 0  # asked for
    logits = lm.refine_logits(hidden, tokens, 2)
    changed = tokens.clone()
    changed[0, 1, 2] = VOCABULARY.ids_of("audio.2")[(int(lm.code_of_token[tokens[0, 1, 2]]) + 1) % 5]
    assert not torch.allclose(lm.refine_logits(hidden, changed, 2)[0, 3], logits[0, 3])
    finer = tokens.clone()
    finer[..., 3] = 0
    assert torch.equal(lm.refine_logits(hidden, finer, 2), logits)


def test_the_expected_loss_does_not_depend_on_what_is_masked():
    """At uniform logits every label costs the same: the loss must be that of all labels, whatever was drawn."""
    lm = toy_lm(1, refinement="masked")
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.zero_()
    losses = [float(lm.loss(toy_batch(), seed=seed).loss) for seed in range(40)]
    level_sizes = {round(loss, 4) for loss in losses}
    assert len(level_sizes) == K - 1  # one value for each level that may be drawn, none for each mask


def test_every_weight_of_the_refiner_gets_a_gradient():
    lm = toy_lm(2, refinement="masked")
    for seed in range(6):  # both levels come up
        lm.loss(toy_batch(), seed=seed).loss.backward()
    assert all(bool((weight.grad != 0).any()) for weight in lm.refiner.parameters())


def test_passes_differ_and_the_coarse_codes_do_not(monkeypatch):
    lm, builder = pattern_lm("multiscale", refinement="masked")
    end, logits_of = builder.vocabulary.end_id("audio"), lm.slot0_logits
    never_ends = torch.zeros(builder.vocabulary.size).index_fill(0, torch.tensor(end), -1e4)
    monkeypatch.setattr(lm, "slot0_logits", lambda hidden: logits_of(hidden) + never_ends)
    prompt = builder.build(TASKS["tts"], {"text": "ab", "prompt": random_codes(3)}, targets=False)
    settings = {"temperature": 1.0, "top_k": 0}
    requests = [
        GenerationRequest(prompt, TASKS["tts"], Sampling(**settings, refine_passes=n), seed=4, max_seconds=1.0)
        for n in (1, 1, 3, 8)
    ]
    results = [r.sequence.codes("speech") for r in Engine(lm, builder.vocabulary).generate(requests)]
    assert all(torch.equal(codes[:2], results[0][:2]) for codes in results)
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0][2], results[2][2])
    assert not torch.equal(results[2][2], results[3][2])
    alone = Engine(lm, builder.vocabulary).generate([dataclasses.replace(requests[3])])[0]
    assert torch.equal(alone.sequence.codes("speech"), results[3])


def test_no_pass_is_refused():
    with pytest.raises(GenerationError, match="refine_passes is 0; it must be a whole number, 1 or more"):
        Sampling(refine_passes=0)
