"""Optimizers, schedules and averages: each against a slow, obvious reference."""

import copy
import math

import pytest
import torch
from torch import nn

from unitok.model.config import TransformerConfig
from unitok.model.transformer import Block, Transformer
from unitok.training.ema import WeightAverage
from unitok.training.muon import Muon, orthogonalize
from unitok.training.optimizers import ChainedOptimizer, OptimizerConfig, build_optimizer, parameter_groups
from unitok.training.schedules import ScheduleConfig, schedule_factor


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(11, 16)
        self.stack = Transformer(TransformerConfig(n_layers=2, d_model=16, n_heads=2, d_ff=24))
        self.head = nn.Linear(16, 11)

    def forward(self, x):
        return self.head(self.stack(self.embedding(x)))

    def blocks(self):
        return [part for part in self.modules() if isinstance(part, Block)]


def train(model, optimizer, steps, first=0):
    for step in range(first, first + steps):
        x = torch.randint(11, (2, 5), generator=torch.Generator().manual_seed(step))
        loss = nn.functional.cross_entropy(model(x).flatten(0, 1), x.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def names(model, parameters):
    wanted = {id(p) for p in parameters}
    return {name for name, p in model.named_parameters() if id(p) in wanted}


def test_every_parameter_is_in_one_group_and_only_block_matrices_are_hidden():
    model = Model()
    hidden, decaying, plain = (names(model, group) for group in parameter_groups(model, model.blocks()))
    assert {name for name, _ in model.named_parameters()} == hidden | decaying | plain
    assert not hidden & decaying
    assert not (hidden | decaying) & plain
    assert hidden == {n for n, p in model.named_parameters() if n.startswith("stack.blocks") and p.ndim == 2}
    assert decaying == {"head.weight"}
    assert {"embedding.weight", "head.bias", "stack.norm.weight"} <= plain


def test_a_frozen_parameter_is_in_no_group():
    model = Model()
    model.head.weight.requires_grad_(False)
    assert "head.weight" not in set().union(*(names(model, group) for group in parameter_groups(model)))


def test_weights_decay_but_embeddings_norms_and_biases_do_not():
    model = Model()
    before = copy.deepcopy(model.state_dict())
    optimizer = build_optimizer(model, OptimizerConfig(lr=0.1, weight_decay=0.5))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, value in model.state_dict().items():
        decays = value.ndim == 2 and not name.startswith("embedding")
        assert torch.allclose(value, before[name] * (0.95 if decays else 1.0)), name


def test_muon_and_adamw_chained_do_what_each_does_alone():
    one, two = Model(), Model()
    chained = build_optimizer(one, OptimizerConfig("muon", lr=0.01), one.blocks())
    assert isinstance(chained, ChainedOptimizer)
    hidden, decaying, plain = parameter_groups(two, two.blocks())
    muon = Muon(hidden, lr=0.01, weight_decay=0.1, momentum=0.95)
    adamw = torch.optim.AdamW(
        [{"params": decaying, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        lr=0.01,
        betas=(0.9, 0.95),
        fused=True,
    )
    for step in range(3):
        train(one, chained, 1, first=step)
        x = torch.randint(11, (2, 5), generator=torch.Generator().manual_seed(step))
        muon.zero_grad()
        adamw.zero_grad()
        nn.functional.cross_entropy(two(x).flatten(0, 1), x.flatten()).backward()
        muon.step()
        adamw.step()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_orthogonalize_brings_all_singular_values_near_one_and_keeps_directions():
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 8, 20), (3, 20, 8), (2, 8, 8)):
        matrices = torch.randn(shape, generator=generator)
        result = orthogonalize(matrices)
        u, s, vh = torch.linalg.svd(result.double())
        assert s.max() < 1.25
        assert s.median() > 0.65
        n = min(shape[1:])
        nearest = torch.linalg.svd(matrices.double(), full_matrices=False)
        aligned = torch.einsum("nri,nrc,nic->ni", nearest.U, result.double(), nearest.Vh)
        torch.testing.assert_close(aligned.sort().values, s[:, :n].sort().values, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")
def test_muon_does_what_torchs_own_does_up_to_its_rounding():
    torch.manual_seed(0)
    start = [torch.randn(12, 20), torch.randn(20, 12), torch.randn(12, 20)]
    mine, theirs = ([nn.Parameter(matrix.clone()) for matrix in start] for _ in range(2))
    one = Muon(mine, lr=0.01, weight_decay=0.1)
    two = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for a, b in zip(mine, theirs, strict=True):
            a.grad = torch.randn(a.shape)
            b.grad = a.grad.clone()
        one.step()
        two.step()
    for a, b, before in zip(mine, theirs, start, strict=True):
        assert (a - before).abs().mean() > 0.003
        assert (a - b).abs().max() < 0.03 * (a - before).abs().max()


def test_muon_refuses_what_is_not_a_matrix():
    with pytest.raises(ValueError, match=r"got a parameter of shape \[4\]. Give it to AdamW"):
        Muon([nn.Parameter(torch.zeros(4))], lr=0.1)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_training_goes_down_and_a_restored_optimizer_goes_on_exactly(name):
    config = OptimizerConfig(name, lr=0.02)
    model = Model()
    optimizer = build_optimizer(model, config, model.blocks())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    first = train(model, optimizer, 1)
    scheduler.step()
    state, weights, schedule = copy.deepcopy((optimizer.state_dict(), model.state_dict(), scheduler.state_dict()))
    assert train(model, optimizer, 30, first=1) < first

    again = Model()
    again.load_state_dict(weights)
    restored = build_optimizer(again, config, again.blocks())
    scheduler = torch.optim.lr_scheduler.LambdaLR(restored, lambda step: 1 / (1 + step))
    restored.load_state_dict(state)
    scheduler.load_state_dict(schedule)
    train(again, restored, 30, first=1)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_schedule_reaches_the_parts_of_a_chained_optimizer_after_it_was_restored():
    model = Model()
    optimizer = build_optimizer(model, OptimizerConfig("muon", lr=0.5), model.blocks())
    assert isinstance(optimizer, ChainedOptimizer)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for group in optimizer.param_groups:
        group["lr"] = 0.125
    assert {group["lr"] for part in optimizer.optimizers for group in part.param_groups} == {0.125}


def test_schedules_have_their_shapes():
    def rates(name, **kwargs):
        config = ScheduleConfig(name, warmup_steps=10, final_fraction=0.1, **kwargs)
        return [schedule_factor(step, config, 110) for step in range(130)]

    for name in ("cosine", "linear", "wsd", "constant"):
        assert rates(name)[:11] == pytest.approx([(i + 1) / 10 for i in range(10)] + [1.0])
    assert rates("cosine")[60] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert rates("linear")[60] == pytest.approx(0.55)
    assert rates("wsd", decay_fraction=0.2)[10:89] == [1.0] * 79
    assert rates("wsd", decay_fraction=0.2)[99] == pytest.approx(0.55)
    assert rates("constant")[129] == 1.0
    for name in ("cosine", "linear", "wsd"):
        assert rates(name)[110:] == pytest.approx([0.1] * 20)


def test_a_schedule_out_of_bounds_is_refused():
    with pytest.raises(ValueError, match=r"final_fraction=1.5, allowed: 0 to 1"):
        ScheduleConfig(final_fraction=1.5)


def test_the_average_follows_the_weights_as_written_out_and_swaps_back_exactly():
    model = Model()
    average = WeightAverage(model, 0.5)
    expected = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, OptimizerConfig(lr=0.05))
    for step in range(4):
        train(model, optimizer, 1, first=step)
        average.update()
        decay = min(0.5, (2 + step) / (11 + step))
        expected = {name: decay * expected[name] + (1 - decay) * p.detach() for name, p in model.named_parameters()}
    raw = copy.deepcopy(model.state_dict())
    average.swap()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), expected[name])
    average.swap()
    assert all(torch.equal(value, raw[name]) for name, value in model.state_dict().items())


def test_an_average_of_decay_one_is_refused():
    with pytest.raises(ValueError, match="ema_decay=1.0, allowed: between 0 and 1"):
        WeightAverage(Model(), 1.0)
