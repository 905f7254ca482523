"""Drawing ids: filters against slow references, one draw per row from its own generator."""

import pytest
import torch

from unitok.errors import GenerationError
from unitok.generation.sampling import filter_logits, sample
from unitok.tasks import Sampling

B, V = 3, 11


def logits_of(seed: int = 0) -> torch.Tensor:
    return torch.randn(B, V, generator=torch.Generator().manual_seed(seed)) * 3


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def slow_filter(row: torch.Tensor, temperature: float, top_k: int, top_p: float, min_p: float = 0) -> torch.Tensor:
    row = row / temperature
    order = sorted(range(V), key=lambda i: -float(row[i]))
    kept = order[:top_k] if top_k else order
    probabilities = {i: float(row[kept].softmax(0)[kept.index(i)]) for i in kept}
    nucleus, total = [], 0.0
    for i in kept:
        if total >= top_p:
            break
        nucleus.append(i)
        total += probabilities[i]
    nucleus = [i for i in nucleus if float(row.softmax(0)[i]) >= min_p * float(row.softmax(0).max())]
    filtered = torch.full((V,), -torch.inf)
    filtered[nucleus] = row[nucleus]
    return filtered


@pytest.mark.parametrize(
    "settings",
    [
        (1.0, 0, 1.0),
        (0.7, 4, 1.0),
        (1.3, 0, 0.6),
        (0.9, 5, 0.8),
        (1.0, 1, 1.0),
        (1, 50, 1),
        (1.2, 0, 1, 0.1),
        (0.8, 6, 0.9, 0.05),
    ],
)
def test_filters_equal_the_slow_reference(settings):
    logits = logits_of()
    expected = torch.stack([slow_filter(row, *settings) for row in logits])
    torch.testing.assert_close(filter_logits(logits, *settings), expected)


def test_each_row_has_its_own_settings():
    logits = logits_of(1)
    settings = [(0.5, 3, 1.0), (1.0, 0, 0.5), (2.0, 1, 1.0)]
    temperature, top_k, top_p = zip(*settings, strict=True)
    together = filter_logits(logits, torch.tensor(temperature), torch.tensor(top_k), torch.tensor(top_p))
    expected = torch.stack([slow_filter(row, *own) for row, own in zip(logits, settings, strict=True)])
    torch.testing.assert_close(together, expected)


def test_illegal_ids_stay_illegal():
    logits = logits_of(2)
    logits[:, 3:] = -torch.inf
    filtered = filter_logits(logits, 1.0, top_k=8, top_p=0.999)
    assert torch.isinf(filtered[:, 3:]).all()
    assert torch.isfinite(filtered[:, :3]).any(dim=1).all()


def test_top_1_keeps_one_id_even_of_equals():
    assert torch.isfinite(filter_logits(torch.zeros(B, V), 1.0, top_k=1)).sum(dim=1).tolist() == [1] * B


def test_a_row_draws_the_same_whatever_its_neighbours():
    logits = logits_of(3)
    together, alone = generators(5, 6, 7), generators(5, 6, 7)
    for _ in range(20):
        batch = sample(logits, together)
        single = torch.cat([sample(logits[i : i + 1], [alone[i]]) for i in range(B)])
        assert torch.equal(batch, single)
    assert len({int(sample(logits[:1], together[:1])) for _ in range(50)}) > 1


def test_draws_follow_the_probabilities():
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.2])
    n = 4000
    [generator] = generators(0)
    drawn = sample(probabilities.log().expand(n, -1), [generator] * n)
    counts = torch.bincount(drawn, minlength=4) / n
    assert counts[1] == 0
    torch.testing.assert_close(counts, probabilities, atol=0.03, rtol=0)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_an_id_of_probability_zero_is_never_drawn_at_the_edges(uniform, monkeypatch):
    logits = torch.tensor([[-torch.inf, 0.3, 0.1, -torch.inf]])
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.tensor(uniform))
    assert int(sample(logits, generators(0))) == (1 if uniform == 0 else 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, r"temperature is -0\.1; it must be a number, 0 \(greedy\) or more"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": "hot"}, "temperature is 'hot'; it must be a number, 0"),
        ({"top_k": -1}, "top_k is -1; it must be a whole number, 0"),
        ({"top_k": 1.5}, r"top_k is 1\.5; it must be a whole number"),
        ({"top_p": 0.0}, r"top_p is 0\.0; it must be a number, more than 0, at most 1"),
        ({"top_p": 1.2}, r"top_p is 1\.2"),
        ({"min_p": 1.5}, r"min_p is 1\.5; it must be a number from 0 \(all ids\) to 1"),
        ({"repetition_window": -1}, "repetition_window is -1; it must be a whole number, 0"),
        ({"repetition_threshold": 2}, "repetition_threshold is 2; it must be a number from 0 to 1"),
        ({"codebook_temperatures": 0.5}, r"codebook_temperatures is 0\.5; it must be a list"),
        ({"codebook_temperatures": [0.5, -1]}, r"codebook_temperatures is \[0\.5, -1\]; it must be a list"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(GenerationError, match=message):
        Sampling(**settings)


def test_greedy_and_temperature_zero_are_top_1():
    assert Sampling(greedy=True).filters() == Sampling(temperature=0).filters() == (1.0, 1, 1.0, 0.0)
    assert Sampling(temperature=0.5, top_k=3, top_p=0.9, min_p=0.1).filters() == (0.5, 3, 0.9, 0.1)


def test_codebooks_may_have_temperatures_of_their_own():
    settings = Sampling(temperature=0.5, top_k=3, codebook_temperatures=[0.9, 0.0, 1.1])
    assert settings.filters() == (0.5, 3, 1.0, 0.0)
    assert settings.filters(0) == (0.9, 3, 1.0, 0.0)
    assert settings.filters(1) == (1.0, 1, 1.0, 0.0)
    assert settings.filters(2) == settings.filters(7) == (1.1, 3, 1.0, 0.0)


def test_an_id_is_repeated_once_it_fills_more_than_its_share_of_the_window():
    settings = Sampling(repetition_window=10, repetition_threshold=0.1)
    past = [1, 2, 3, 4, 5, 6, 7, 8, 9, 9]
    assert settings.is_repeated(9, past)
    assert not settings.is_repeated(8, past)
    assert not settings.is_repeated(9, [9] * 9)  # the window is not full yet
    assert not settings.is_repeated(9, [9, 9, *range(10, 20)])
    assert not Sampling().is_repeated(9, past)
    assert not Sampling(repetition_window=10, greedy=True).is_repeated(9, past)
    greedy_first = Sampling(repetition_window=10, codebook_temperatures=(0.0, 1.0))
    assert not greedy_first.is_repeated(9, past, codebook=0)
    assert greedy_first.is_repeated(9, past)  # of semantic tokens


def test_a_temperature_next_to_nothing_is_greedy():
    assert Sampling(temperature=1e-40).filters() == Sampling(greedy=True).filters()
