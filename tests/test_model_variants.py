"""Blocks with other norms, feed-forwards and biases, and places with weights of their own: each against a reference."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from unitok.errors import CardError
from unitok.model.cache import GrowingCache
from unitok.model.config import LMConfig, TransformerConfig
from unitok.model.lm import UnitokLM
from unitok.model.transformer import Block, FeedForward, Transformer
from unitok.tasks import Task
from unitok.tasks.builder import SequenceBuilder
from unitok.testing import ToyTextTokenizer
from unitok.training.schedules import ScheduleConfig, schedule_factor
from unitok.vocabulary import Vocabulary

TINY = TransformerConfig(n_layers=2, d_model=16, n_heads=2, d_ff=24)
VOCABULARY = Vocabulary.create(["tts"], ["en"], 34, [7] * 4)


@pytest.mark.parametrize(("kind", "activate"), [("gelu", F.gelu), ("relu", F.relu)])
def test_two_matrices_with_an_activation_between_them(kind, activate):
    torch.manual_seed(0)
    part = FeedForward(replace(TINY, feed_forward=kind, bias=True))
    x = torch.randn(3, 5, 16)
    up = activate(x @ part.up_proj.weight.T + part.up_proj.bias)
    torch.testing.assert_close(part(x), up @ part.down_proj.weight.T + part.down_proj.bias)
    assert sum(p.numel() for p in part.parameters()) == 2 * 16 * 24 + 24 + 16


def test_a_gate_by_gelu():
    torch.manual_seed(0)
    part = FeedForward(replace(TINY, feed_forward="geglu"))
    x = torch.randn(3, 5, 16)
    gated = F.gelu(x @ part.gate_proj.weight.T) * (x @ part.up_proj.weight.T)
    torch.testing.assert_close(part(x), gated @ part.down_proj.weight.T)


def test_the_default_width_depends_on_the_gate():
    assert replace(TINY, d_ff=None).ff_width == 64
    assert replace(TINY, d_model=96, d_ff=None).ff_width == 256
    assert replace(TINY, d_model=96, d_ff=None, feed_forward="gelu").ff_width == 384


@pytest.mark.parametrize("bias", [False, True])
def test_layer_norm_centres(bias):
    model = Transformer(replace(TINY, norm="layer", bias=bias))
    states = model(torch.randn(2, 3, 16) + 5, is_causal=True)
    torch.testing.assert_close(states.mean(dim=-1), torch.zeros(2, 3), atol=1e-5, rtol=0)
    names = {name.rsplit(".", 1)[-1] for name, _ in Block(replace(TINY, norm="layer", bias=bias), 0).named_parameters()}
    assert names == ({"weight", "bias"} if bias else {"weight"})


def test_layer_norm_gives_back_the_type_it_gets():
    model = Transformer(replace(TINY, norm="layer", bias=True))
    assert model.norm(torch.randn(1, 2, 16, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert model.bfloat16()(torch.randn(1, 2, 16, dtype=torch.bfloat16), is_causal=True).dtype == torch.bfloat16


def test_what_is_unknown_is_named():
    with pytest.raises(ValueError, match=r"feed_forward='glu', allowed: swiglu, geglu, gelu, relu; norm='batch'"):
        replace(TINY, feed_forward="glu", norm="batch")
    with pytest.raises(ValueError, match="local_weights='per_codebook' has no local Transformer"):
        LMConfig(TINY, local_weights="per_codebook")
    with pytest.raises(ValueError, match="local_weights='own', allowed: shared, per_codebook"):
        LMConfig(TINY, local=TINY, ar_codebooks=4, local_weights="own")


def per_codebook(**settings):
    torch.manual_seed(1)
    config = LMConfig(TINY, local=replace(TINY, **settings), ar_codebooks=4, local_weights="per_codebook")
    return UnitokLM(config, VOCABULARY).eval()


def frames(n):
    codes = torch.randint(7, (n, 4))
    return torch.stack([VOCABULARY.ids_of(f"audio.{k}")[codes[:, k]] for k in range(4)], dim=1)


def test_places_with_equal_weights_are_one_transformer():
    model = per_codebook()
    shared = UnitokLM(replace(model.config, local_weights="shared"), VOCABULARY)
    for place in model.local.transformer.places:
        place.load_state_dict(shared.local.transformer.state_dict())
    inputs = torch.randn(5, 4, 16)
    torch.testing.assert_close(model.local.transformer(inputs), shared.local.transformer(inputs, is_causal=True))


def test_a_place_of_its_own_generates_as_it_was_trained():
    model = per_codebook(norm="layer", feed_forward="gelu", bias=True)
    hidden, tokens = torch.randn(5, 16), frames(5)
    taught, stage = model.local_logits(hidden, tokens), model.local_stage(hidden)
    for k, logits in enumerate(taught):
        torch.testing.assert_close(stage.logits(tokens[:, k]), logits, atol=1e-5, rtol=1e-4)


def test_a_place_learns_through_its_own_weights_and_those_before():
    model = per_codebook()
    model.local_logits(torch.randn(5, 16), frames(5))[1].sum().backward()  # codebook 2, at place 2
    places = model.local.transformer.places
    reached = [bool(place.norm.weight.grad.any()) for place in places]
    keys = [bool(place.blocks[0].attention.k_proj.weight.grad.any()) for place in places]
    assert reached == [False, False, True, False]
    assert keys == [True, True, True, False]


def test_a_growing_cache_keeps_gradients():
    cache, key = GrowingCache(1), torch.randn(1, 2, 1, 8, requires_grad=True)
    for used in (1, 2):
        assert cache.advance(torch.zeros(1, 1)).shape == (1, 1, 1, used)
        keys, _ = cache.update(0, key, key, torch.zeros(1, 1))
        assert keys.shape[2] == used
    keys.sum().backward()
    assert torch.equal(key.grad, torch.full_like(key, 2.0))


def test_a_model_on_meta_knows_its_ids():
    with torch.device("meta"):
        model = UnitokLM(LMConfig(TINY, local=TINY, ar_codebooks=4), VOCABULARY)
    real = UnitokLM(LMConfig(TINY, local=TINY, ar_codebooks=4), VOCABULARY)
    assert model.count_parameters() == real.count_parameters()
    assert torch.equal(model.slot0_ids, real.slot0_ids)


def test_the_inverse_square_root_falls_from_its_peak():
    config = ScheduleConfig("inverse_sqrt", warmup_steps=100)
    assert [schedule_factor(step, config, 10**9) for step in (0, 99, 399, 9999)] == pytest.approx([0.01, 1, 0.5, 0.1])
    with pytest.raises(ValueError, match="set warmup_steps to 1 or more"):
        ScheduleConfig("inverse_sqrt", warmup_steps=0)


def test_a_condition_of_few_codebooks_leaves_the_finer_ones_out():
    card = {"name": "tts", "description": "Fine.", "conditions": [{"name": "audio", "kind": "audio", "codebooks": 2}]}
    card["targets"] = [{"name": "sound", "kind": "audio"}]
    task = Task.from_card(card)
    assert Task.from_card(task.to_card()) == task
    codes = torch.arange(12).reshape(4, 3) % 7
    sequence = SequenceBuilder(VOCABULARY, ToyTextTokenizer(), 25.0).build(task, {"audio": codes, "sound": codes})
    condition, target = sequence.tokens[3:6], sequence.tokens[8:11]
    assert torch.equal(condition[:, :2], target[:, :2])
    assert not condition[:, 2:].any()
    assert target.all()
    with pytest.raises(CardError, match="codebooks: applies to kind audio, this field is text"):
        Task.from_card(card | {"conditions": [{"name": "audio", "kind": "text", "codebooks": 2}]})
