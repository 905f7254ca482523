"""Who sees whom in the three stages, and what the embedding adds up."""

import pytest
import torch
from toy_batches import CODEBOOK_SIZES, VOCABULARY, K, codes, toy_batch, toy_config, toy_lm

from unitok.model.lm import UnitokLM
from unitok.model.transformer import Transformer

S = 9


def gradient(output: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Return how strongly an output depends on each place of `inputs` `[1, places, D]`: `[places]`."""
    return torch.autograd.grad(output.square().sum(), inputs, retain_graph=True)[0].abs().sum(dim=(0, 2))


def embedded(lm: UnitokLM, tokens: torch.Tensor) -> tuple[UnitokLM, torch.Tensor]:
    """Return the embeddings that `lm` is about to use, as a leaf to differentiate by."""
    embeds = lm.embed(tokens).detach().requires_grad_()
    lm.embed = lambda _: embeds
    return lm, embeds


@pytest.mark.parametrize("ar_codebooks", [1, 2, K])
def test_global_stage_sees_no_later_position(ar_codebooks):
    tokens = toy_batch().tokens[:1, :S]
    lm, embeds = embedded(toy_lm(ar_codebooks), tokens)
    hidden = lm.hidden(tokens)
    for s in range(S):
        reached = gradient(hidden[:, s], embeds)
        assert bool((reached[: s + 1] > 0).all())
        assert bool((reached[s + 1 :] == 0).all())


def test_prefix_lm_lets_the_prefix_see_itself_and_the_rest_only_what_came_before():
    tokens, n_prefix = toy_batch().tokens[:1, :S], 4
    lm, embeds = embedded(toy_lm(2, prefix_lm=True), tokens)
    hidden = lm.hidden(tokens, torch.arange(S)[None] < n_prefix)
    for s in range(S):
        reach = max(s + 1, n_prefix)
        reached = gradient(hidden[:, s], embeds)
        assert bool((reached[:reach] > 0).all())
        assert bool((reached[reach:] == 0).all())


@pytest.mark.parametrize("ar_codebooks", [2, 3, K])
def test_local_stage_sees_the_state_and_earlier_codebooks_only(ar_codebooks):
    tokens = VOCABULARY.codes_to_tokens(codes(1))
    lm, embeds = embedded(toy_lm(ar_codebooks), tokens[:, : ar_codebooks - 1, None])
    lm.embed_slot = lambda _, slot: embeds[:, slot]
    hidden = torch.randn(1, 16, requires_grad=True)
    for k, logits in enumerate(lm.local_logits(hidden, tokens)):
        reached = gradient(logits, embeds)
        assert logits.shape == (1, CODEBOOK_SIZES[k + 1])
        assert bool((reached[: k + 1] > 0).all())
        assert bool((reached[k + 1 :] == 0).all())
        assert bool((torch.autograd.grad(logits.sum(), hidden, retain_graph=True)[0] != 0).all())


@pytest.mark.parametrize("level", [2, 3])
def test_refiner_sees_all_frames_and_states_and_no_padding(level):
    n_frames, T = 5, 7
    tokens = VOCABULARY.codes_to_tokens(codes(T))[None]
    lm, embeds = embedded(toy_lm(2), tokens[..., :level])
    hidden = torch.randn(1, T, 16, requires_grad=True)
    valid_mask = torch.arange(T)[None] < n_frames
    logits = lm.refine_logits(hidden, tokens, level, valid_mask)
    assert logits.shape == (1, T, CODEBOOK_SIZES[level])
    for t in range(n_frames):
        for inputs in (embeds, hidden):
            reached = gradient(logits[:, t], inputs)
            assert bool((reached[:n_frames] > 0).all())
            assert bool((reached[n_frames:] == 0).all())


def test_refiner_looks_at_known_codebooks_only():
    lm, hidden = toy_lm(1), torch.randn(1, 6, 16)
    tokens, others = (VOCABULARY.codes_to_tokens(codes(6, seed=seed))[None] for seed in (1, 2))
    for level in (1, 2, 3):
        logits = lm.refine_logits(hidden, tokens, level)
        mixed = torch.cat([tokens[..., :level], others[..., level:]], dim=-1)
        assert torch.equal(lm.refine_logits(hidden, mixed, level), logits)
        mixed = torch.cat([others[..., :level], tokens[..., level:]], dim=-1)
        assert not torch.allclose(lm.refine_logits(hidden, mixed, level), logits)


@pytest.mark.parametrize(("ar_codebooks", "level"), [(2, 1), (2, 4), (K, 3)])
def test_a_level_the_refiner_does_not_have_is_refused(ar_codebooks, level):
    tokens = VOCABULARY.codes_to_tokens(codes(3))[None]
    with pytest.raises(ValueError, match=f"level is {level}, this model refines levels {ar_codebooks} to 3"):
        toy_lm(ar_codebooks).refine_logits(torch.zeros(1, 3, 16), tokens, level)


def test_embedding_is_the_sum_over_slots_and_empty_adds_exactly_nothing():
    lm, tokens = toy_lm(2), toy_batch().tokens
    expected = torch.zeros(*tokens.shape[:2], 16)
    for k in range(K):
        expected += torch.where(tokens[..., k : k + 1] == 0, 0.0, lm.embedding.weight[tokens[..., k]])
    torch.testing.assert_close(lm.embed(tokens), expected)
    assert torch.equal(lm.embed(torch.zeros(2, 3, K, dtype=torch.int64)), torch.zeros(2, 3, 16))

    before = lm.embed(tokens)
    with torch.no_grad():
        lm.embedding.weight[0] = 5.0  # whatever weights are loaded
    assert torch.equal(lm.embed(tokens), before)


def test_concatenated_embeddings_are_each_slots_own_projection():
    lm, tokens = toy_lm(2, slot_embeddings="concat", embedding_dim=5), toy_batch().tokens
    side_by_side = torch.where(tokens[..., None] == 0, 0.0, lm.embedding.weight[tokens]).flatten(2)
    torch.testing.assert_close(lm.embed(tokens), lm.slot_projection(side_by_side))
    parts = [lm.embed_slot(tokens[..., k], k) for k in range(K)]
    torch.testing.assert_close(lm.embed(tokens[..., :3]), parts[0] + parts[1] + parts[2])
    assert lm.embedding.weight.shape[1] == 5
    assert toy_lm(2, slot_embeddings="concat").embedding.weight.shape[1] == 16 // K


def test_placed_codes_lie_as_the_vectors_of_the_codec_do():
    lm, before = toy_lm(2), toy_lm(2).embedding.weight.detach().clone()
    vectors = [torch.randn(size, 3) * 10.0**-k + 5.0 for k, size in enumerate(CODEBOOK_SIZES)]
    lm.place_codes(vectors, VOCABULARY)
    weight = lm.embedding.weight.detach()
    placed = [weight[VOCABULARY.ids_of(f"audio.{k}")] for k in range(K)]
    distances = [(torch.cdist(codes, codes), torch.cdist(v, v)) for codes, v in zip(placed, vectors, strict=True)]
    scale = distances[0][0].max() / distances[0][1].max()
    for ours, theirs in distances:
        torch.testing.assert_close(ours, theirs * scale, rtol=1e-3, atol=1e-5)
    frame = torch.stack([codes.square().mean() for codes in placed]).sum().sqrt()
    torch.testing.assert_close(frame, torch.tensor(0.02 * K**0.5))
    others = torch.ones(len(weight), dtype=torch.bool)
    others[torch.cat([VOCABULARY.ids_of(f"audio.{k}") for k in range(K)])] = False
    assert torch.equal(weight[others], before[others])
    with pytest.raises(ValueError, match=f"vectors are of 1 codebooks, the model has {K}"):
        lm.place_codes(vectors[:1], VOCABULARY)


@pytest.mark.parametrize("tie_embeddings", [False, True])
def test_training_never_moves_or_predicts_empty(tie_embeddings):
    lm = toy_lm(2, tie_embeddings=tie_embeddings)
    output = lm.loss(toy_batch(), seed=0)
    output.loss.backward()
    assert bool((lm.embedding.weight.grad[0] == 0).all())
    assert bool((lm.slot0_logits(torch.randn(5, 16))[:, 0] == -torch.inf).all())
    assert (lm.head is None) == tie_embeddings


@torch.no_grad()
def test_slot0_never_holds_a_code_of_another_codebook():
    logits = toy_lm(2).slot0_logits(torch.randn(3, 16))
    never = torch.cat([VOCABULARY.ids_of(f"audio.{k}") for k in range(1, K)])
    assert bool((logits[:, never] == -torch.inf).all())
    assert bool(logits[:, VOCABULARY.ids_of("audio.0")].isfinite().all())
    assert bool(logits[:, VOCABULARY.ids_of("text")].isfinite().all())


def test_coarse_empties_fine_codebooks_of_target_frames_only():
    lm, batch = toy_lm(3), toy_batch()
    coarse = lm.coarse(batch.tokens, batch.frame_mask)
    assert bool((coarse[batch.frame_mask][:, 3:] == 0).all())
    assert torch.equal(coarse[..., :3], batch.tokens[..., :3])
    assert torch.equal(coarse[~batch.frame_mask], batch.tokens[~batch.frame_mask])
    assert bool((batch.tokens[batch.frame_mask][:, 3:] != 0).all())


def test_parameters_are_counted_by_part():
    lm = toy_lm(2)
    counts = lm.count_parameters()
    assert list(counts) == ["embedding", "head", "transformer", "local", "refiner", "total"]
    assert counts["total"] == sum(parameter.numel() for parameter in lm.parameters())
    assert counts["embedding"] == VOCABULARY.size * 16
    in_other_slots = sum(VOCABULARY.codebook_sizes[1:])
    assert counts["head"] == (VOCABULARY.size - 1 - in_other_slots) * 16
    tied = toy_lm(K, tie_embeddings=True)
    assert tied.count_parameters()["total"] == sum(parameter.numel() for parameter in tied.parameters())
    assert list(tied.count_parameters()) == ["embedding", "transformer", "local", "total"]


@torch.no_grad()
def test_fresh_weights_are_small_and_residual_outputs_smaller():
    torch.manual_seed(0)
    lm = UnitokLM(toy_config(2), VOCABULARY)
    block = lm.transformer.blocks[0]
    assert lm.head.weight.std() == pytest.approx(0.02, rel=0.1)
    assert block.feed_forward.up_proj.weight.std() == pytest.approx(0.02, rel=0.15)
    for weight in (block.attention.o_proj.weight, block.feed_forward.down_proj.weight):
        assert weight.std() == pytest.approx(0.01, rel=0.15)  # 0.02 / sqrt(2 * 2 layers)


def test_dropout_acts_in_training_only():
    config = toy_config(2).transformer
    config.dropout = 0.5
    torch.manual_seed(0)
    stack, x = Transformer(config), torch.randn(2, 7, 16)
    assert not torch.equal(stack(x, is_causal=True), stack(x, is_causal=True))
    stack.eval()
    assert torch.equal(stack(x, is_causal=True), stack(x, is_causal=True))


@torch.no_grad()
def test_golden_states_of_a_16_dim_model():
    """Values of a model whose weights are written down: any change of the computation shows."""
    lm, batch = toy_lm(2), toy_batch()
    for i, parameter in enumerate(lm.parameters()):
        waves = torch.sin(torch.arange(parameter.numel(), dtype=torch.float64) * 0.7 + i)
        parameter.copy_((0.4 * waves + (parameter.ndim == 1)).reshape(parameter.shape))
    hidden = lm.hidden(lm.coarse(batch.tokens, batch.frame_mask))
    frame = int(batch.frame_mask[0].nonzero()[0])
    frames = slice(frame, frame + 7)
    values = {
        "hidden": hidden[0, frame - 1],
        "slot0": lm.slot0_logits(hidden[0, frame - 1])[VOCABULARY.ids_of("audio.0")],
        "local": lm.local_logits(hidden[:1, frame - 1], batch.tokens[:1, frame])[0][0],
        "refined": lm.refine_logits(hidden[:1, frames], batch.tokens[:1, frames], 3)[0, 2],
    }
    for name, expected in GOLDEN.items():
        torch.testing.assert_close(values[name][:4], torch.tensor(expected), rtol=1e-3, atol=1e-3, msg=name)


GOLDEN = {
    "hidden": [0.66153, 0.74083, -0.81988, -2.01621],
    "slot0": [-1.29241, 1.70937, 1.98643, -0.90286],
    "local": [-1.4878, 0.95083, 0.50029, -1.47042],
    "refined": [1.92509, 1.21621, -1.59249, -1.65172],
}
