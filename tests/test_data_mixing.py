"""Plans of batches: a pure function of seed, epoch and rank, with the weights asked for and within the token budget."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unitok.data.mixing import BatchConfig, BatchPlan, Source, cut_batches, draw
from unitok.errors import DataError


def plan(sizes=(40, 25), weights=(1.0, 1.0), batch_tokens=200, seed=0, pool_size=16, **kwargs):
    rng = np.random.default_rng(9)
    sources = [Source(w, rng.integers(5, 60, n)) for n, w in zip(sizes, weights, strict=True)]
    return BatchPlan(sources, BatchConfig(batch_tokens=batch_tokens, pool_size=pool_size), seed=seed, **kwargs)


def test_the_same_seed_and_epoch_give_the_same_batches_and_others_give_others():
    assert plan().batches(3) == plan().batches(3)
    assert plan().batches(3) != plan().batches(4)
    assert plan(seed=1).batches(3) != plan().batches(3)


def test_batches_stay_within_the_token_budget():
    one = plan()
    for batch in one.batches(0) + one.all_once():
        longest = max(one.sources[example.source].lengths[example.item] for example in batch)
        assert longest * len(batch) <= 200


def test_an_example_longer_than_the_budget_is_a_batch_of_its_own():
    lengths = np.array([3, 4, 50])
    assert [batch.tolist() for batch in cut_batches(np.arange(3), lengths, 10)] == [[0, 1], [2]]


def test_equal_weights_over_equal_sources_show_each_example_once_an_epoch():
    one = plan(sizes=(8, 8), batch_tokens=10_000)
    seen = Counter((e.source, e.item) for batch in one.batches(5) for e in batch)
    assert seen == {(s, i): 1 for s in range(2) for i in range(8)}


def test_weights_are_shares_of_the_epoch_and_every_example_comes_equally_often_in_the_long_run():
    sizes, quotas = (10, 7), (7.5, 22.5)
    seen = Counter()
    for epoch in range(40):
        source, item = draw(sizes, quotas, 0, epoch)
        seen.update(zip(source.tolist(), item.tolist(), strict=True))
    per_source = [sum(count for (s, _), count in seen.items() if s == index) for index in range(2)]
    assert per_source == [300, 900]
    for index, size in enumerate(sizes):
        counts = [seen[index, i] for i in range(size)]
        assert max(counts) - min(counts) <= 1


def test_every_epoch_has_the_same_number_of_batches():
    one = plan()
    assert {len(one.batches(epoch)) for epoch in range(20)} == {one.length()}


@settings(max_examples=30, deadline=None)
@given(world_size=st.integers(1, 5), epoch=st.integers(0, 10))
def test_ranks_share_out_the_batches_without_overlap_and_in_equal_number(world_size, epoch):
    one = plan()
    whole = one.batches(epoch)
    shares = [one.batches(epoch, rank, world_size) for rank in range(world_size)]
    assert {len(share) for share in shares} == {one.length(world_size)}
    assert [batch for row in zip(*shares, strict=True) for batch in row] == whole[: one.length(world_size) * world_size]


def test_an_evaluation_has_every_example_once_sorted_by_length():
    one = plan()
    batches = one.all_once()
    keys = [(e.source, e.item) for batch in batches for e in batch]
    assert sorted(keys) == [(s, i) for s, n in enumerate((40, 25)) for i in range(n)]
    lengths = [one.sources[s].lengths[i] for s, i in keys]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize("world_size", [1, 4, 7, 65])
def test_every_process_of_an_evaluation_has_a_batch(world_size):
    batches = plan(batch_tokens=10_000).all_once(world_size)
    assert len(batches) >= world_size
    assert len({(e.source, e.item) for batch in batches for e in batch}) == sum(map(len, batches)) == 65


def test_more_processes_than_examples_are_refused():
    with pytest.raises(DataError, match="65 examples cannot be shared out to 66 processes. Use fewer devices"):
        plan().all_once(66)


def test_batches_of_a_pool_are_of_like_lengths():
    one = plan(sizes=(2000, 2000), batch_tokens=600, pool_size=500)
    padded = real = 0
    for batch in one.batches(0):
        lengths = [one.sources[e.source].lengths[e.item] for e in batch]
        padded, real = padded + max(lengths) * len(lengths), real + sum(lengths)
    assert padded < 1.3 * real


def test_an_epoch_size_repeats_small_sources():
    one = plan(sizes=(4, 4), epoch_size=100, batch_tokens=10_000)
    seen = Counter((e.source, e.item) for batch in one.batches(0) for e in batch)
    assert sum(seen.values()) == 100
    assert set(seen.values()) <= {12, 13}


def test_an_epoch_that_repeats_few_examples_does_not_put_copies_of_one_into_a_batch_by_themselves():
    one = BatchPlan([Source(1.0, np.arange(10, 18))], BatchConfig(batch_tokens=100), epoch_size=800)
    full = [batch for batch in one.batches(0) if len(batch) >= 5]
    assert len(full) > 50
    assert min(len({e.item for e in batch}) for batch in full) >= 2
    assert np.mean([len({e.item for e in batch}) / len(batch) for batch in full]) > 0.6


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(DataError, match="nothing to train on"):
        plan(sizes=(0, 3), weights=(1.0, 0.0))


def test_fewer_batches_than_processes_is_an_error_with_the_remedy():
    with pytest.raises(DataError, match="1 batches for 4 processes. Lower batch_tokens"):
        plan(sizes=(2, 2), batch_tokens=10_000).length(4)


def test_a_batch_size_of_nothing_is_refused():
    for name in ("batch_tokens", "max_tokens", "pool_size"):
        with pytest.raises(DataError, match=f"{name}=0, allowed: 1 or more"):
            BatchConfig(**{name: 0})
