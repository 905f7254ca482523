"""Recorded steps: the tokens of ordinary ones, whatever mix of rows, settings and streams goes through them."""

import functools

import pytest
import torch
from tiny_models import SAMPLINGS, TASKS, random_codes, tiny_lm
from toy_sequences import toy_builder

from unitok.errors import GenerationError
from unitok.generation import graphs
from unitok.generation.engine import Engine, GenerationRequest
from unitok.generation.graphs import Graphs
from unitok.generation.guidance import GuidanceStep
from unitok.generation.sampling import draw, filter_logits, sample
from unitok.model.compact import compact
from unitok.model.lm import UnitokLM
from unitok.tasks import Sampling

BUILDER = toy_builder()


@pytest.fixture
def recorded(monkeypatch):
    """Return a function that makes engines use recorded steps on a CPU too, where nothing is replayed."""

    def of(lm, tokens_of_code, compiled, before):
        same = before is not None and before.key == graphs._key(lm, compiled)
        return before if same else Graphs(lm, tokens_of_code, compiled)

    return lambda: monkeypatch.setattr(Graphs, "of", staticmethod(of))


def guidance(n_steps: int) -> list[GuidanceStep]:
    without = [BUILDER.build(TASKS["tts"], {"text": text}, lang="en", targets=False) for text in ("b", "c")]
    return [GuidanceStep(3.0 - i, one) for i, one in enumerate(without[:n_steps])]


def requests() -> list[GenerationRequest]:
    """Return requests with prompts, lengths, settings, tasks and numbers of guidance steps of their own."""
    speech = [
        GenerationRequest(
            BUILDER.build(
                TASKS["tts"], {"text": "abc" * (1 + i), "prompt": random_codes(3 + i, i)}, lang="en", targets=False
            ),
            TASKS["tts"],
            Sampling(**settings),
            seed=i,
            max_seconds=0.4 + 0.2 * i,
            guidance=guidance(i % 3),
        )
        for i, settings in enumerate(SAMPLINGS)
    ]
    heard = BUILDER.build(TASKS["s2st_chain"], {"audio": random_codes(5)}, lang="en", targets=False)
    return [*speech, GenerationRequest(heard, TASKS["s2st_chain"], seed=9, max_seconds=0.5, max_text_tokens=5)]


def check_alike(results, expected) -> None:
    for one, two in zip(results, expected, strict=True):
        assert torch.equal(one.sequence.tokens, two.sequence.tokens)
        assert one.log_probability == pytest.approx(two.log_probability, rel=1e-4)


@pytest.mark.parametrize("settings", [(0.7, 0, 1.0, 0.0), (1.3, 1, 0.5, 0.0), (2.0, 4, 0.6, 0.3), (1.0, 99, 0.2, 0.0)])
def test_drawing_in_a_fixed_sequence_is_drawing(settings):
    logits = torch.randn(50, 12).round(decimals=1) * 3  # some tie
    generators = [torch.Generator().manual_seed(i) for i in range(50)]
    uniform = torch.stack([torch.rand((), generator=torch.Generator().manual_seed(i)) for i in range(50)])
    expected = sample(filter_logits(logits, *settings), generators)
    assert torch.equal(draw(logits, *torch.tensor([settings] * 50).unbind(dim=1), uniform), expected)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
@pytest.mark.parametrize("kind", ["float32", "int8"])
@pytest.mark.parametrize("local_weights", ["shared", "per_codebook"])
def test_tokens_are_those_of_ordinary_steps(recorded, batch_size, kind, local_weights):
    lm = tiny_lm(BUILDER, 3, local_weights=local_weights)
    compact(lm, kind)
    engine = Engine(lm, BUILDER.vocabulary)
    expected = engine.generate(requests(), batch_size=batch_size)
    assert engine._graphs is None
    recorded()
    check_alike(engine.generate(requests(), batch_size=batch_size), expected)
    assert engine._graphs is not None
    assert min(len(engine._graphs._positions), len(engine._graphs._frames)) > 0


def test_streams_side_by_side_keep_their_own_past(recorded):
    recorded()
    lm = tiny_lm(BUILDER, 3)
    engine = Engine(lm, BUILDER.vocabulary)
    first, second = requests()[1], requests()[4]
    expected = engine.generate([first]), engine.generate([second])
    streams, results = [engine.stream(first), engine.stream(second)], {}
    while len(results) < 2:
        for i, stream in enumerate(streams):
            try:
                next(stream)
            except StopIteration as end:
                results.setdefault(i, end.value)
    for i, [one] in enumerate(expected):
        assert torch.equal(results[i].sequence.tokens, one.sequence.tokens)


def test_new_weights_are_recorded_anew_and_damaged_ones_reported(recorded):
    recorded()
    lm = tiny_lm(BUILDER, 3)
    engine = Engine(lm, BUILDER.vocabulary)
    engine.generate(requests()[:1])
    before = engine._graphs
    engine.generate(requests()[:1])
    assert engine._graphs is before
    with torch.no_grad():
        healthy = lm.local.heads[1].weight.clone()
        lm.local.heads[1].weight.fill_(torch.nan)
    with pytest.raises(GenerationError, match="returned NaN"):
        engine.generate(requests()[:1])
    with torch.no_grad():
        lm.local.heads[1].weight.copy_(healthy)
    [again] = engine.generate(requests()[:1])  # nothing of it stays in the memory of the steps
    compact(lm, "int8")
    engine.generate(requests()[:1])
    assert engine._graphs is not before
    other = Engine(tiny_lm(BUILDER, 3), BUILDER.vocabulary)
    check_alike([again], other.generate(requests()[:1]))


def test_a_position_beyond_the_cache_is_refused(recorded):
    lm = tiny_lm(BUILDER, 3)
    with pytest.raises(ValueError, match="position 5 was asked for, the cache has room for 5"):
        Graphs(lm, []).step(torch.zeros(1, 3, dtype=torch.int64), [5], lm.new_cache(1, 5))


def test_cpus_and_other_classes_of_models_go_without(monkeypatch):
    class Other(UnitokLM):
        pass

    lm = tiny_lm(BUILDER, 3)
    assert Graphs.of(lm, [], False, None) is None
    assert Graphs.of(lm, [], True, None) is not None
    assert Graphs.of(tiny_lm(BUILDER, 3, cls=Other), [], True, None) is None
    monkeypatch.setenv("UNITOK_KERNELS", "0")
    assert Graphs.of(lm, [], True, None) is None


@pytest.mark.parametrize("local_weights", ["shared", pytest.param("per_codebook", marks=pytest.mark.slow)])
def test_nothing_in_a_step_depends_on_what_was_computed(monkeypatch, local_weights):
    """Tracing into one graph refuses whatever would wait for a GPU, and so could not be recorded there."""
    traced = functools.partial(torch.compile, fullgraph=True, dynamic=False, backend="eager")
    monkeypatch.setattr(graphs, "_compile", traced)
    lm = tiny_lm(BUILDER, 3, local_weights=local_weights)
    engine = Engine(lm, BUILDER.vocabulary)
    few = requests()[2:3]
    expected = engine.generate(few)
    engine.compiled = True
    check_alike(engine.generate(few), expected)
    assert engine._graphs is not None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_compiled_steps_give_the_same_tokens(kind):
    lm = tiny_lm(BUILDER, 3)
    compact(lm, kind)
    engine = Engine(lm, BUILDER.vocabulary)
    expected = engine.generate(requests()[1:2])
    engine.compiled = True
    check_alike(engine.generate(requests()[1:2]), expected)
    assert engine._graphs is not None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("batch_size", [1, 3])
def test_replayed_steps_give_the_same_tokens(batch_size, monkeypatch):
    lm = tiny_lm(BUILDER, 3).cuda()
    engine = Engine(lm, BUILDER.vocabulary)
    results = engine.generate(requests(), batch_size=batch_size)
    assert all(position.recording._graph is not None for position in engine._graphs._positions.values())
    monkeypatch.setenv("UNITOK_KERNELS", "0")
    check_alike(results, engine.generate(requests(), batch_size=batch_size))
