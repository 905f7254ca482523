"""Generating step by step from caches gives what one teacher-forced pass gives."""

import pytest
import torch
from toy_batches import VOCABULARY, K, codes, toy_batch, toy_lm

from unitok.model.cache import StaticCache

KC = (1, 2, K)


def cache_of(**changes) -> StaticCache:
    return StaticCache(n_layers=2, batch_size=3, n_heads=2, max_positions=9, head_dim=4, **changes)


def test_update_returns_the_used_prefix_with_every_row_at_its_own_position():
    cache = cache_of()
    first, later = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 1, 4)
    start, then = torch.arange(4).expand(3, -1), torch.tensor([[4], [2], [5]])
    cache.advance(start)
    cache.update(1, first, -first, start)
    cache.advance(then)
    keys, values = cache.update(1, later, -later, then)

    expected = torch.zeros(3, 2, 6, 4)
    expected[:, :, :4] = first
    for row, position in enumerate(then[:, 0]):
        expected[row, :, position] = later[row, :, 0]
    assert torch.equal(keys, expected)
    assert torch.equal(values, -expected)


def test_a_query_sees_its_rows_positions_up_to_itself():
    cache = cache_of()
    attn_mask = cache.advance(torch.tensor([[0, 1], [1, 2], [3, 4]]))
    visible = attn_mask.sum(dim=-1)[:, 0]
    assert attn_mask.shape == (3, 1, 2, 5)
    assert visible.tolist() == [[1, 2], [2, 3], [4, 5]]
    assert attn_mask[1, 0, 1].tolist() == [True, True, True, False, False]


def test_keep_leaves_the_named_rows_in_order():
    cache, positions = cache_of(), torch.zeros(3, 1, dtype=torch.int64)
    cache.advance(positions)
    new = torch.randn(3, 2, 1, 4)
    cache.update(0, new, new, positions)
    cache.keep(torch.tensor([2, 0]))
    assert torch.equal(cache.keys[0][:, :, :1], new[[2, 0]])
    assert torch.equal(cache.values[0][:, :, :1], new[[2, 0]])


def test_a_position_without_room_is_refused():
    with pytest.raises(ValueError, match="position 9 was asked for, the cache has room for 9 positions"):
        cache_of().advance(torch.tensor([[9]] * 3))


@pytest.mark.parametrize("ar_codebooks", KC)
@torch.no_grad()
def test_ragged_prompts_and_single_steps_equal_one_pass(ar_codebooks):
    lm, batch = toy_lm(ar_codebooks), toy_batch()
    tokens = lm.coarse(batch.tokens, batch.frame_mask)
    expected = lm.slot0_logits(lm.hidden(tokens))
    prompts = batch.prefix_mask.sum(dim=1)  # of different lengths
    assert len(set(prompts.tolist())) == 3

    def check(logits, positions):
        wanted = expected.gather(1, positions[..., None].expand_as(logits))
        torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)

    cache = lm.new_cache(3, 64)
    positions = torch.arange(int(prompts.max())).expand(3, -1)
    # What lies to the right of a prompt is padding: anything may be there.
    padded = tokens[:, : positions.shape[1]].masked_fill((positions >= prompts[:, None])[..., None], 40)
    hidden = lm.step(padded, positions, cache, positions < prompts[:, None])
    last = (prompts - 1)[:, None]
    check(lm.slot0_logits(hidden.gather(1, last[..., None].expand(-1, -1, hidden.shape[2]))), last)

    at = prompts.clone()
    for _ in range(int((batch.lengths - prompts).min())):
        hidden = lm.step(tokens[torch.arange(3), at][:, None], at[:, None], cache)
        check(lm.slot0_logits(hidden), at[:, None])
        at += 1


@torch.no_grad()
def test_prompt_of_a_prefix_lm_sees_itself_and_nothing_else():
    lm, batch = toy_lm(2, prefix_lm=True), toy_batch()
    tokens = lm.coarse(batch.tokens, batch.frame_mask)
    expected = lm.hidden(tokens, batch.prefix_mask)
    prompts = batch.prefix_mask.sum(dim=1, keepdim=True)
    # As the engine does it: the first target's start marker comes along with the prompt.
    positions = torch.arange(int(prompts.max()) + 1).expand(3, -1)
    cache = lm.new_cache(3, 64)
    hidden = lm.step(tokens[:, : positions.shape[1]], positions, cache, valid_mask=positions < prompts)
    seen = positions <= prompts
    torch.testing.assert_close(hidden[seen], expected[:, : positions.shape[1]][seen], rtol=1e-4, atol=1e-4)
    hidden = lm.step(tokens.gather(1, (prompts + 1)[..., None].expand(-1, -1, K)), prompts + 1, cache)
    wanted = expected.gather(1, (prompts + 1)[..., None].expand(-1, -1, 16))
    torch.testing.assert_close(hidden, wanted, rtol=1e-4, atol=1e-4)


def test_a_prefix_lm_asks_for_the_prefix():
    lm, tokens = toy_lm(2, prefix_lm=True), toy_batch().tokens
    with pytest.raises(ValueError, match="prefix_lm=True: pass prefix_mask"):
        lm.hidden(tokens)
    with pytest.raises(ValueError, match="prefix_lm=True: pass valid_mask"):
        lm.step(tokens, torch.arange(tokens.shape[1]).expand(3, -1), lm.new_cache(3, 64))


@pytest.mark.parametrize("ar_codebooks", [2, 3, K])
@torch.no_grad()
def test_local_stage_equals_teacher_forced_local_logits(ar_codebooks):
    lm, hidden = toy_lm(ar_codebooks), torch.randn(7, 16)
    tokens = lm_tokens(7)
    expected = lm.local_logits(hidden, tokens)
    stage = lm.local_stage(hidden)
    for k in range(1, ar_codebooks):
        torch.testing.assert_close(stage.logits(tokens[:, k - 1]), expected[k - 1], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=f"no codebook after {ar_codebooks - 1}"):
        stage.logits(tokens[:, ar_codebooks - 1])


def test_without_a_local_stage_asking_for_one_is_refused():
    lm = toy_lm(1)
    with pytest.raises(ValueError, match="ar_codebooks=1: this model has no local Transformer"):
        lm.local_stage(torch.zeros(2, 16))
    with pytest.raises(ValueError, match="ar_codebooks=1: this model has no local Transformer"):
        lm.local_logits(torch.zeros(2, 16), lm_tokens(2))


def lm_tokens(n: int) -> torch.Tensor:
    """Tokens `[n, K]` of random frames."""
    return VOCABULARY.codes_to_tokens(codes(n, seed=9))
