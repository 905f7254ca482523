"""The engine: rows do not depend on neighbours, equal a slow uncached reference, and obey the grammar."""

import dataclasses
import itertools
import math

import pytest
import torch
from tiny_models import TASKS, random_codes, tiny_lm
from toy_sequences import FRAME_RATE_HZ, N_CODEBOOKS, semantic_task, toy_builder

from unitok.errors import GenerationError
from unitok.generation.engine import Engine, GenerationRequest
from unitok.generation.guidance import GuidanceStep
from unitok.generation.lengths import TargetLength
from unitok.generation.sampling import filter_logits, sample
from unitok.generation.scoring import score_sequences
from unitok.model.lm import UnitokLM
from unitok.sequence import TokenSequence, collate
from unitok.tasks import Sampling

BUILDER = toy_builder()
VOCABULARY = BUILDER.vocabulary


def request(task: str, seed: int = 0, lang: str | None = None, limits=(0.6, 6), **settings) -> GenerationRequest:
    """Return a request for a task with made-up conditions; `limits` are seconds of audio and text tokens."""
    card = semantic_task() if task == "sem" else TASKS[task]
    made_up = {"text": "ab" * (1 + seed % 3), "audio": random_codes(3 + seed % 4, seed)}
    values = {field.name: made_up[field.kind] for field in card.conditions if not field.optional}
    prompt = BUILDER.build(card, values, lang=lang, targets=False)
    sampling = Sampling(**{"temperature": 1.0, "top_k": 0, **settings})
    return GenerationRequest(prompt, card, sampling, seed=seed, max_seconds=limits[0], max_text_tokens=limits[1])


def mixed(seed: int) -> list[GenerationRequest]:
    """Return requests that differ in task, prompt length, kinds of targets, limits, settings and seed."""
    return [
        request("tts", seed),
        request("asr", seed + 1, lang="de"),
        request("s2st_chain", seed + 2, lang="en", temperature=0.7, top_k=5),
        request("tts", seed + 3, limits=(0.1, 1), greedy=True),
        request("lm", seed + 4, top_p=0.8),
        request("sem", seed + 5),
        dataclasses.replace(request("s2st_chain", seed + 6), per_kind={"text": Sampling(greedy=True)}),
    ]


def tokens_of(results) -> list[list[list[int]]]:
    return [result.sequence.tokens.tolist() for result in results]


class Biased(UnitokLM):
    """A model that likes or dislikes ending a target, and knows how much work its local stage was given."""

    bias = 0.0
    n_local_rows = 0

    def slot0_logits(self, hidden):
        logits = super().slot0_logits(hidden).clone()
        for kind in ("audio", "text", "semantic"):
            logits[..., VOCABULARY.end_id(kind)] += self.bias
        return logits

    def local_stage(self, hidden):
        self.n_local_rows += len(hidden)
        return super().local_stage(hidden)


@pytest.mark.parametrize("prefix_lm", [False, True], ids=["causal", "prefix"])
@pytest.mark.parametrize("ar_codebooks", [1, 2, N_CODEBOOKS])
@pytest.mark.parametrize("seed", [0, 10, 20])
def test_a_batch_of_different_requests_equals_each_alone(ar_codebooks, prefix_lm, seed):
    engine = Engine(tiny_lm(BUILDER, ar_codebooks, seed=seed, prefix_lm=prefix_lm), VOCABULARY)
    requests = mixed(seed)
    together = engine.generate(requests)
    alone = [engine.generate([one])[0] for one in requests]
    assert tokens_of(together) == tokens_of(alone)
    assert [result.stop for result in together] == [result.stop for result in alone]
    torch.testing.assert_close(
        torch.tensor([result.log_probability for result in together]),
        torch.tensor([result.log_probability for result in alone]),
    )
    assert len({len(result.sequence) for result in together}) > 2


def test_the_batch_size_changes_nothing():
    engine = Engine(tiny_lm(BUILDER), VOCABULARY)
    requests = mixed(3)
    assert tokens_of(engine.generate(requests, batch_size=2)) == tokens_of(engine.generate(requests))


def slow_generate(lm: UnitokLM, one: GenerationRequest) -> torch.Tensor:
    """Return what the engine should: the whole sequence goes through the model anew for every id, no cache."""
    generator = torch.Generator().manual_seed(one.seed)
    rows = [row.tolist() for row in one.prompt.tokens]
    n_prompt = len(rows)
    K, Kc = N_CODEBOOKS, lm.config.ar_codebooks

    def states(prompt: TokenSequence) -> torch.Tensor:
        tokens = torch.tensor([prompt.tokens.tolist() + rows[n_prompt:]])
        mask, frame_mask = torch.zeros(2, 1, tokens.shape[1], dtype=torch.bool)
        mask[:, : len(prompt)] = True
        frame_mask[:, [i + len(prompt) - n_prompt for i in sum(frames_of, [])]] = True
        return lm.hidden(lm.coarse(tokens, frame_mask), mask)[0]

    def guided(logits_after) -> torch.Tensor:
        prompts = [*(step.without for step in one.guidance), one.prompt]
        stages = [logits_after(prompt).log_softmax(-1) for prompt in prompts]
        moved = stages[0]
        for step, before, after in zip(one.guidance, stages[:-1], stages[1:], strict=True):
            moved = moved + step.scale * (after - before)
        return torch.where(stages[-1].isfinite(), moved, stages[-1])

    def draw(logits: torch.Tensor) -> int:
        return int(sample(filter_logits(logits[None], *one.sampling.filters()), [generator]))

    frames_of: list[list[int]] = []
    for target in one.task.targets:
        rows.append([VOCABULARY.start_id(target.kind)] + [0] * (K - 1))
        is_audio = target.kind == "audio"
        limit = int(one.max_seconds * FRAME_RATE_HZ) if target.kind != "text" else one.max_text_tokens
        content = VOCABULARY.ids_of({"audio": "audio.0"}.get(target.kind, target.kind)).tolist()
        frames: list[int] = []
        for n in range(limit + 1):
            legal = (content if n < limit else []) + (
                [VOCABULARY.end_id(target.kind)] if n >= (target.kind != "text") else []
            )
            logits = torch.full((VOCABULARY.size,), -torch.inf)
            logits[legal] = guided(lambda prompt: lm.slot0_logits(states(prompt)[-1]))[legal]
            row = [draw(logits)] + [0] * (K - 1)
            if row[0] == VOCABULARY.end_id(target.kind):
                rows.append(row)
                break
            for k in range(1, Kc if is_audio else 1):
                known = torch.tensor([row[: Kc - 1]])
                logits = guided(lambda prompt: lm.local_logits(states(prompt)[-1:], known)[k - 1][0])  # noqa: B023
                row[k] = int(VOCABULARY.ids_of(f"audio.{k}")[draw(logits)])
            frames.append(len(rows))
            rows.append(row)
        if is_audio:
            frames_of.append(frames)
    rows.append([VOCABULARY.eos_id] + [0] * (K - 1))
    tokens = torch.tensor(rows)
    for frames in frames_of:
        for level in range(Kc, K):
            valid = torch.ones(1, len(frames), dtype=torch.bool)

            def refined(prompt: TokenSequence) -> torch.Tensor:
                hidden = states(prompt)[None, torch.tensor(frames) + len(prompt) - n_prompt]  # noqa: B023
                return lm.refine_logits(hidden, tokens[None, frames], level, valid)[0]  # noqa: B023

            tokens[frames, level] = VOCABULARY.ids_of(f"audio.{level}")[guided(refined).argmax(-1)]
    return tokens


@pytest.mark.parametrize("prefix_lm", [False, True], ids=["causal", "prefix"])
@pytest.mark.parametrize("ar_codebooks", [1, 2, N_CODEBOOKS])
@torch.inference_mode()
def test_cached_generation_equals_a_slow_uncached_reference(ar_codebooks, prefix_lm):
    lm = tiny_lm(BUILDER, ar_codebooks, seed=7, prefix_lm=prefix_lm)
    requests = [one for one in mixed(40) if not one.per_kind]
    for result, one in zip(Engine(lm, VOCABULARY).generate(requests), requests, strict=True):
        assert result.sequence.tokens.tolist() == slow_generate(lm, one).tolist()


def guided(one: GenerationRequest, guidance: float) -> GenerationRequest:
    """Return the request guided by all its conditions."""
    values = {segment.name: None for segment in one.prompt.segments if segment.role == "condition"}
    card = dataclasses.replace(
        one.task, conditions=tuple(dataclasses.replace(c, optional=True) for c in one.task.conditions)
    )
    return dataclasses.replace(one, guidance=[GuidanceStep(guidance, BUILDER.build(card, values, targets=False))])


def guided_twice(seed: int, guidance: tuple[float, float], **settings) -> GenerationRequest:
    """Return a request guided by its text, and by its prompt beside the text."""
    one, values = request("tts", seed, **settings), {"text": "ab", "prompt": random_codes(5, seed)}
    whole, text_only, bare = (
        BUILDER.build(TASKS["tts"], values, targets=False, without=names)
        for names in ((), ("prompt",), ("text", "prompt"))
    )
    steps = [GuidanceStep(scale, without) for scale, without in zip(guidance, (bare, text_only), strict=True)]
    return dataclasses.replace(one, prompt=whole, guidance=steps)


@pytest.mark.parametrize("ar_codebooks", [1, 2, N_CODEBOOKS])
@torch.inference_mode()
def test_guided_rows_among_others_equal_the_slow_reference(ar_codebooks):
    lm = tiny_lm(BUILDER, ar_codebooks, seed=7)
    plain = [one for one in mixed(40) if not one.per_kind]
    requests = [guided(one, 0.5 + i) if i % 2 else one for i, one in enumerate(plain)]
    requests[2:2] = [guided_twice(1, (2.0, 0.5)), guided_twice(2, (0.0, 3.0))]
    results = Engine(lm, VOCABULARY).generate(requests)
    for result, one in zip(results, requests, strict=True):
        assert result.sequence.tokens.tolist() == slow_generate(lm, one).tolist()
    assert tokens_of(results) != tokens_of(Engine(lm, VOCABULARY).generate(plain))


def test_guidance_by_several_conditions_with_one_scale_is_guidance_by_all():
    engine = Engine(tiny_lm(BUILDER, 2, seed=3), VOCABULARY)
    chained, plain = guided_twice(1, (1.7, 1.7)), guided_twice(1, (1.0, 1.0))
    at_once = dataclasses.replace(chained, guidance=chained.guidance[:1])
    off = dataclasses.replace(plain, guidance=())
    same, expected, unmoved, unguided = engine.generate([chained, at_once, plain, off])
    assert tokens_of([same, unmoved]) == tokens_of([expected, unguided])
    assert tokens_of([same]) != tokens_of([unguided])


@torch.inference_mode()
def test_masked_refinement_is_guided_in_every_pass():
    lm = tiny_lm(BUILDER, 2, seed=5, refinement="masked")
    engine = Engine(lm, VOCABULARY)
    requests = [guided(request("tts", seed, greedy=True, refine_passes=1), 4.0) for seed in range(4)]
    for result, one in zip(engine.generate(requests), requests, strict=True):
        assert result.sequence.tokens.tolist() == slow_generate(lm, one).tolist()
    many = request("tts", 2, refine_passes=4)
    results = engine.generate([many, guided(many, 1.0), guided(many, 4.0)])
    plain, off, strong = (result.sequence.codes("speech") for result in results)
    assert torch.equal(plain, off)
    assert plain.shape != strong.shape or not torch.equal(plain[2:], strong[2:])


def test_no_guidance_is_guidance_by_1_and_full_neglect_is_0():
    engine, one = Engine(tiny_lm(BUILDER, 2, seed=3), VOCABULARY), request("tts", 1)
    plain, off, ignored = engine.generate([one, guided(one, 1.0), guided(one, 0.0)])
    assert tokens_of([off]) == tokens_of([plain])
    unguided = dataclasses.replace(one, prompt=guided(one, 1.0).guidance[0].without)
    [without] = engine.generate([unguided])
    ours, theirs, others = (result.sequence.codes("speech") for result in (ignored, without, plain))
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, others)


@pytest.mark.parametrize("guidance", [-1.0, float("inf"), float("nan")])
def test_guidance_out_of_range_is_refused(guidance):
    with pytest.raises(GenerationError, match=r"guidance is .*; it must be 0 or more: 1 is off"):
        guided(request("tts"), guidance)


@pytest.mark.parametrize("ar_codebooks", [1, 3, N_CODEBOOKS])
def test_results_are_what_the_builder_would_lay_out(ar_codebooks):
    requests = mixed(1)
    for one, result in zip(
        requests, Engine(tiny_lm(BUILDER, ar_codebooks), VOCABULARY).generate(requests), strict=True
    ):
        sequence = result.sequence
        names = [segment.name for segment in sequence.segments]
        assert names == [*(s.name for s in one.prompt.segments), *(f.name for f in one.task.targets), "<eos>"]
        assert torch.equal(sequence.tokens[: len(one.prompt)], one.prompt.tokens)
        for target in one.task.targets:
            if target.kind == "audio":  # all K codebooks, each from its own block: `codes` checks that
                assert sequence.codes(target.name).shape[0] == N_CODEBOOKS
                assert sequence.codes(target.name).shape[1] >= 1
            elif target.kind == "text":
                assert all(0 <= id < 256 for id in sequence.text_ids(target.name))
        rebuilt = TokenSequence(sequence.tokens, sequence.segments, VOCABULARY)
        assert torch.equal(rebuilt.loss_mask, sequence.loss_mask)


@pytest.mark.parametrize("prefix_lm", [False, True], ids=["causal", "prefix"])
@pytest.mark.parametrize("ar_codebooks", [1, 2, N_CODEBOOKS])
def test_the_log_probability_is_that_of_teacher_forcing(ar_codebooks, prefix_lm):
    lm = tiny_lm(BUILDER, ar_codebooks, seed=2, prefix_lm=prefix_lm)
    results = Engine(lm, VOCABULARY).generate(mixed(5))
    sums, counts = score_sequences(lm, [result.sequence for result in results], batch_size=3)
    torch.testing.assert_close(torch.tensor([r.log_probability for r in results]), sums, rtol=1e-4, atol=1e-3)
    expected = [
        int(r.sequence.loss_mask.sum()) + (ar_codebooks - 1) * int(r.sequence.frame_mask.sum()) for r in results
    ]
    assert counts.tolist() == expected


def test_the_score_is_the_training_loss():
    lm = tiny_lm(BUILDER, N_CODEBOOKS)
    [result] = Engine(lm, VOCABULARY).generate([request("tts")])
    loss = lm.loss(collate([result.sequence]))
    total = sum(float(loss.parts[name]) * n for name, n in loss.counts.items())
    sums, counts = score_sequences(lm, [result.sequence])
    assert -float(sums) == pytest.approx(total, rel=1e-5)
    assert int(counts) == sum(loss.counts.values())


def test_audio_is_never_empty_and_text_may_be():
    lm = tiny_lm(BUILDER, cls=Biased)
    lm.bias = 1e4
    speech, text = Engine(lm, VOCABULARY).generate([request("tts"), request("asr")])
    assert speech.sequence.codes("speech").shape[1] == 1
    assert text.sequence.text_ids("text") == []
    assert speech.stop == text.stop == "end"


def test_a_target_is_cut_at_its_limit():
    lm = tiny_lm(BUILDER, cls=Biased)
    lm.bias = -1e4
    speech, text = Engine(lm, VOCABULARY).generate([request("tts", limits=(0.4, 1)), request("asr", limits=(0.4, 5))])
    assert speech.sequence.codes("speech").shape[1] == 10
    assert len(text.sequence.text_ids("text")) == 5
    assert speech.stop == text.stop == "limit"


def test_the_text_limits_the_audio():
    lm = tiny_lm(BUILDER, cls=Biased)
    lm.bias = -1e4
    prompts = [BUILDER.build(TASKS["tts"], {"text": "a" * n}, targets=False) for n in (1, 20)]
    results = Engine(lm, VOCABULARY).generate([GenerationRequest(prompt, TASKS["tts"]) for prompt in prompts])
    assert [result.sequence.codes("speech").shape[1] for result in results] == [25, 125]  # 1 s, and 20 × 0.25 s


def test_the_text_keeps_the_audio_from_ending_early():
    lm = tiny_lm(BUILDER, cls=Biased)
    lm.bias = 1e4
    card = TASKS["tts"].with_defaults(min_seconds_per_character=0.08, seconds_per_character=0.2)
    prompts = [BUILDER.build(card, {"text": "a" * n}, targets=False) for n in (1, 20)]
    requests = [GenerationRequest(prompt, card) for prompt in prompts]
    requests.append(dataclasses.replace(requests[1], max_seconds=0.4))
    results = Engine(lm, VOCABULARY).generate(requests)
    assert [result.sequence.codes("speech").shape[1] for result in results] == [2, 40, 10]
    [[short], [guarded], [cut]] = (result.lengths for result in results)
    assert (short.seconds, short.expected_seconds, short.verdict) == (0.08, pytest.approx(0.2), "short")
    assert (guarded.seconds, guarded.shortest_seconds, guarded.verdict) == (1.6, 1.6, "short")
    assert (cut.shortest_seconds, cut.longest_seconds, cut.verdict) == (0.4, 0.4, "cut")
    lm.bias = -1e4
    [[long]] = (result.lengths for result in Engine(lm, VOCABULARY).generate(requests[1:2]))
    assert (long.seconds, long.cut) == (long.longest_seconds, True)


@pytest.mark.parametrize(
    ("seconds", "expected", "verdict"),
    [(1.0, 2.0, "short"), (1.01, 2.0, "usual"), (4.0, 2.0, "long"), (0.9, 0.1, "usual"), (9.0, None, None)],
)
def test_a_length_is_judged_by_half_and_twice_what_is_expected(seconds, expected, verdict):
    assert TargetLength("speech", seconds, False, 9.0, None, 5, expected).verdict == verdict


def test_finished_rows_cost_the_local_stage_nothing():
    lm = tiny_lm(BUILDER, cls=Biased)
    results = Engine(lm, VOCABULARY).generate([request("tts", seed) for seed in range(6)])
    lengths = [result.sequence.codes("speech").shape[1] for result in results]
    assert len(set(lengths)) > 1
    assert lm.n_local_rows == sum(lengths)


def test_the_seed_decides():
    engine = Engine(tiny_lm(BUILDER), VOCABULARY)
    one, same, other = engine.generate([dataclasses.replace(request("tts"), seed=seed) for seed in (1, 1, 2)])
    assert torch.equal(one.sequence.tokens, same.sequence.tokens)
    assert not torch.equal(one.sequence.tokens[:20], other.sequence.tokens[:20])


class Stuck(UnitokLM):
    """A model that says one code of codebook 0 with 19 in 20, and never ends."""

    certainty = 0.95

    def slot0_logits(self, hidden):
        logits = torch.full((len(hidden), VOCABULARY.size), -50.0)
        ids = VOCABULARY.ids_of("audio.0")
        logits[:, ids] = math.log((1 - self.certainty) / (len(ids) - 1))
        logits[:, ids[2]] = math.log(self.certainty)
        return logits


def test_a_loop_is_left_by_drawing_anew_and_what_is_certain_may_repeat():
    lm = tiny_lm(BUILDER, cls=Stuck)

    def longest_run(**settings) -> int:
        [result] = Engine(lm, VOCABULARY).generate([request("tts", limits=(8, 1), **settings)])
        codes = result.sequence.codes("speech")[0].tolist()
        assert len(codes) == 200
        return max(len(list(run)) for _, run in itertools.groupby(codes))

    assert longest_run(top_k=1) == longest_run(top_k=2, top_p=0.9) == 200
    assert 10 < longest_run(top_k=2, top_p=0.9, repetition_window=10) < 150
    lm.certainty = 1 - 1e-9
    assert longest_run(top_p=0.9, repetition_window=10) == 200  # "ok ok ok"


def test_temperatures_of_codebooks_are_used():
    engine = Engine(tiny_lm(BUILDER, N_CODEBOOKS), VOCABULARY)
    one, other = engine.generate([request("tts", 1, codebook_temperatures=[0.0, t]) for t in (0.0, 3.0)])
    ours, theirs = one.sequence.codes("speech"), other.sequence.codes("speech")
    assert torch.equal(ours[0, :1], theirs[0, :1])  # codebook 0 is greedy in both
    assert not torch.equal(ours[1:, :1], theirs[1:, :1])


def test_greedy_does_not_depend_on_the_seed():
    engine = Engine(tiny_lm(BUILDER), VOCABULARY)
    requests = [dataclasses.replace(request("tts", greedy=True), seed=seed) for seed in (1, 2)]
    one, other = engine.generate(requests)
    assert torch.equal(one.sequence.tokens, other.sequence.tokens)


def test_settings_of_a_kind_apply_to_that_kind_alone():
    engine = Engine(tiny_lm(BUILDER, cls=Biased), VOCABULARY)
    engine.lm.bias = -1e4
    requests = [
        dataclasses.replace(request("s2st_chain"), seed=seed, per_kind={"text": Sampling(greedy=True)})
        for seed in (1, 2)
    ]
    one, other = engine.generate(requests)
    for name in ("transcript", "translation"):
        assert one.sequence.text_ids(name) == other.sequence.text_ids(name)
    assert one.sequence.codes("speech").tolist() != other.sequence.codes("speech").tolist()


def test_progress_is_told_after_every_position():
    seen = []
    Engine(tiny_lm(BUILDER), VOCABULARY).generate(mixed(0), batch_size=4, on_step=seen.append)
    done = [step.n_done for step in seen]
    assert done == sorted(done)
    assert done[-1] == 7
    assert {step.n_requests for step in seen} == {7}
    assert seen[0].n_positions == 1


def test_where_a_row_leaves_the_next_one_joins(monkeypatch):
    lm = tiny_lm(BUILDER)
    requests = [request(("tts", "asr")[seed % 2], seed) for seed in range(9)]
    alone = [Engine(lm, VOCABULARY).generate([one])[0] for one in requests]
    sizes, steps = [], []
    step = lm.step
    monkeypatch.setattr(lm, "step", lambda tokens, *rest: sizes.append(tokens.shape[:2]) or step(tokens, *rest))
    together = Engine(lm, VOCABULARY).generate(requests, batch_size=3, on_step=steps.append)
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.sequence.tokens, other.sequence.tokens)
        assert other.log_probability == pytest.approx(one.log_probability, rel=1e-4)
    lengths = [len(one.sequence) - len(one_request.prompt) for one, one_request in zip(alone, requests, strict=True)]
    assert len(steps) < sum(max(lengths[first : first + 3]) for first in (0, 3, 6)), "no row waits for its neighbours"
    prompts = [n_rows for n_rows, n_positions in sizes if n_positions > 1]
    assert sum(prompts) == 9
    assert prompts[0] == 3
    assert len(prompts) > 3


def test_candidates_of_one_request_take_its_prompts_in_once(monkeypatch):
    lm = tiny_lm(BUILDER)
    one, other = guided(request("tts", 1), 2.0), request("tts", 2)
    requests = [dataclasses.replace(one, seed=seed) for seed in range(3)] + [other]
    alone = [Engine(lm, VOCABULARY).generate([each])[0] for each in requests]
    prompts = []
    step = lm.step
    monkeypatch.setattr(lm, "step", lambda tokens, *rest: prompts.append(len(tokens)) or step(tokens, *rest))
    together = Engine(lm, VOCABULARY).generate(requests)
    assert prompts[0] == 3, "the prompt, the prompt without its text, and the other request's"
    assert tokens_of(together) == tokens_of(alone)
    assert len({len(result.sequence) for result in together[:3]}) > 1, "seeds differ"


def test_a_model_that_returns_nan_is_an_error():
    lm = tiny_lm(BUILDER)
    with torch.no_grad():
        lm.head.weight.fill_(float("nan"))
    with pytest.raises(GenerationError, match="the model returned NaN in task 'tts': its weights are damaged"):
        Engine(lm, VOCABULARY).generate([request("tts")])


def test_no_requests_give_no_results():
    assert Engine(tiny_lm(BUILDER), VOCABULARY).generate([]) == []
    with pytest.raises(GenerationError, match="batch_size is 0; it must be a whole number, 1 or more"):
        Engine(tiny_lm(BUILDER), VOCABULARY).generate([request("tts")], batch_size=0)
