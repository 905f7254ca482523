"""Patterns: every one lays out as drawn, gives the codes back, looks at no later row, generates what it was taught."""

import inspect
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import TASKS, pattern_lm, random_codes
from toy_sequences import N_CODEBOOKS

from unitok.generation.engine import Engine, GenerationRequest
from unitok.generation.guidance import GuidanceStep
from unitok.generation.scoring import score_sequences
from unitok.model.config import LMConfig, TransformerConfig
from unitok.model.lm import UnitokLM
from unitok.pattern import PATTERNS, Pattern
from unitok.sequence import collate
from unitok.tasks import Sampling, SequenceBuilder

STEREO = (0, 0, 1, 1)
SETTINGS = [
    *(dict(pattern=name) for name in PATTERNS),
    dict(pattern="delay", delays=(0, 0, 2, 5)),
    dict(pattern="delay", delays=STEREO),
    dict(pattern="flatten", groups=(0, 1, 1, 2)),
    dict(pattern="coarse_first", groups=(0, 0, 1, 2)),
    dict(pattern="multiscale", slot_embeddings="concat", condition_weight=1.0),
    dict(pattern="multiscale", refinement="masked"),
    dict(pattern="delay", slot_embeddings="concat", condition_weight=1.0),
]
every_pattern = pytest.mark.parametrize("changes", SETTINGS, ids=lambda c: "-".join(map(str, c.values())))
some_slow = pytest.mark.parametrize(
    "changes",
    [pytest.param(one, marks=[pytest.mark.slow] if len(one) > 1 else []) for one in SETTINGS],
    ids=lambda c: "-".join(map(str, c.values())),
)


def drawn(name: str, word: str, n_codebooks: int) -> list[list[int]]:
    """Return the rows of ids, one for each codebook, that the docstring of a pattern draws in lines with a word."""
    ids = {"·": 0, "</>": 99, **{f"{k}{t}": 1 + t + 10 * k for k in range(n_codebooks) for t in range(3)}}
    lines = inspect.getdoc(getattr(Pattern, name)).splitlines()
    return [[ids[cell] for cell in line.split()[2:]] for line in lines if re.search(rf"({word}) \d   ", line)]


def numbered(n_codebooks: int) -> torch.Tensor:
    return torch.tensor([[1 + t + 10 * k for k in range(n_codebooks)] for t in range(3)])


@pytest.mark.parametrize("name", PATTERNS)
def test_the_drawing_is_what_it_lays_out(name):
    rows = Pattern.of(name, 3).place(numbered(3), end=99)
    assert drawn(name, "slot", 3) == [[*slot, 99 * (k == 0)] for k, slot in enumerate(rows.T.tolist())]


def test_the_drawing_of_stereo_is_what_it_lays_out():
    rows = Pattern.delay(4, STEREO).place(numbered(4), end=99)
    assert drawn("delay", "left|right", 4) == rows.T.tolist()


def test_stereo_is_laid_out_as_musicgen_is_in_transformers():
    transformers = pytest.importorskip("transformers")
    sizes = dict(vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, ffn_dim=8)
    ids = dict(pad_token_id=0, bos_token_id=0)
    config = transformers.MusicgenDecoderConfig(**sizes, **ids, num_codebooks=4, audio_channels=2)
    musicgen = transformers.MusicgenForCausalLM(config)
    frames = 1 + torch.arange(20).reshape(5, 4)
    # It begins with a frame that pads.
    padded = torch.cat([torch.zeros(1, 4, dtype=torch.long), frames]).T
    ours = Pattern.delay(4, STEREO).place(frames, end=0)
    _, laid_out = musicgen.build_delay_pattern_mask(padded, pad_token_id=0, max_length=1 + len(ours))
    assert torch.equal(laid_out[:, 1:], ours.T)


@st.composite
def layouts(draw):
    n_codebooks, name = draw(st.integers(1, 6)), draw(st.sampled_from(PATTERNS))
    others = n_codebooks - 1
    given_to = {
        "delay": ("delays", [0, *draw(st.lists(st.integers(0, 5), min_size=others, max_size=others))]),
        "flatten": (
            "groups",
            torch.tensor([0, *draw(st.lists(st.integers(0, 1), min_size=others, max_size=others))]).cumsum(0).tolist(),
        ),
    }
    given_to["coarse_first"] = given_to["flatten"]
    pattern = Pattern.of(name, n_codebooks, **dict([given_to[name]] if name in given_to else []))
    return pattern, draw(st.integers(0, 7)), draw(st.integers(1, n_codebooks))


@given(layouts())
def test_codes_come_back_and_slots_say_where_they_are(drawn):
    pattern, T, n_filled = drawn
    frames = torch.arange(1, 1 + T * pattern.n_codebooks).reshape(T, pattern.n_codebooks)
    rows = pattern.place(frames, end=1000)
    assert pattern.n_frames(len(rows)) == T
    assert torch.equal(pattern.restore(rows), frames)
    for row, tokens in enumerate(rows):
        ended = row >= pattern.stride * T
        assert pattern.slots(row, T if ended else None) == tokens[1:].nonzero()[:, 0].add(1).tolist()
    assert pattern.slots(len(rows), T) == []
    frames[:, n_filled:] = 0
    assert torch.equal(pattern.restore(pattern.place(frames, end=1000)), frames)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dely", 4), "pattern is 'dely', allowed: multiscale, delay, parallel, flatten, coarse_first"),
        (("parallel", 4, [0, 1, 2, 3]), "pattern 'parallel' takes no delays"),
        (("delay", 4, [], [0, 1, 2, 3]), "pattern 'delay' takes no groups"),
        (("delay", 4, [0, 1]), "delays has 2 numbers, there are K=4 codebooks"),
        (("delay", 2, [1, 0]), r"delays=\[1, 0\]: the first has to be 0"),
        (("flatten", 3, [], [0, 2, 2]), r"groups=\[0, 2, 2\]: each has to be the one before or one more"),
        (("coarse_first", 3, [], [0, 1, 0]), r"groups=\[0, 1, 0\]: each has to be the one before or one more"),
    ],
)
def test_settings_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Pattern.of(*arguments)


def test_a_config_takes_the_settings_of_its_pattern_only():
    stack = TransformerConfig(n_layers=1, d_model=8, n_heads=2)
    with pytest.raises(ValueError, match="pattern 'delay' takes no local.*takes no refiner.*takes no ar_codebooks"):
        LMConfig(stack, stack, stack, ar_codebooks=2, pattern="delay")
    with pytest.raises(ValueError, match="delays has 3 numbers, there are K=4 codebooks"):
        LMConfig(stack, pattern="delay", delays=(0, 1, 2)).check(4)
    config = LMConfig(stack, pattern="delay", delays=(0, 1, 2, 3))
    assert LMConfig.from_dict(config.to_dict()) == config


def speech(builder: SequenceBuilder, n_frames: int = 5, seed: int = 0):
    values = {"text": "ab", "prompt": random_codes(2, seed + 1), "speech": random_codes(n_frames, seed)}
    return builder.build(TASKS["tts"], values, lang="en")


@every_pattern
def test_a_sequence_gives_its_codes_back_and_says_how_long_it_is(changes):
    _, builder = pattern_lm(**changes)
    sequence = speech(builder)
    assert torch.equal(sequence.codes("speech"), random_codes(5, 0))
    assert torch.equal(sequence.split()["prompt"], random_codes(2, 1))
    assert "[4 × 5 frames, 0.2 s]" in str(sequence)
    labels = sequence.tokens[sequence.loss_mask, 0]
    assert torch.equal(labels[:-1], builder.vocabulary.ids_of("audio.0")[random_codes(5, 0)[0]])
    assert int(labels[-1]) == builder.vocabulary.end_id("audio")


def label_logits(lm: UnitokLM, tokens: torch.Tensor, frame_mask: torch.Tensor) -> list[torch.Tensor]:
    """Return what each position's slots are predicted with, in the order of positions."""
    hidden = lm.hidden(lm.coarse(tokens[None], frame_mask[None]))[0]
    slots = lm.slot_heads or []
    return [torch.cat([lm.slot0_logits(h[None])[0], *(head(h) for head in slots)]) for h in hidden[:-1]]


@every_pattern
@torch.no_grad()
def test_no_code_is_predicted_from_its_own_row_or_a_later_one(changes):
    lm, builder = pattern_lm(**changes)
    sequence = speech(builder)
    first = sequence.segment("speech").content
    before = label_logits(lm, sequence.tokens, sequence.frame_mask)
    for row in range(first.start, first.stop):
        for k in sequence.tokens[row].nonzero()[:, 0].tolist():
            if k >= lm.n_coarse or (k == 0 and not sequence.loss_mask[row]):
                continue
            tokens = sequence.tokens.clone()
            ids = builder.vocabulary.ids_of(f"audio.{k}")
            tokens[row, k] = ids[ids != tokens[row, k]][0]
            after = label_logits(lm, tokens, sequence.frame_mask)
            same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]  # place i predicts row i + 1
            assert all(same[:row])
            assert not same[row]


def requests(builder: SequenceBuilder, n: int = 6, **settings) -> list[GenerationRequest]:
    """Return requests of several tasks and lengths, some of them guided."""
    made = []
    for seed in range(n):
        card = TASKS[("tts", "s2st_chain", "lm")[seed % 3]]
        values = {"text": "ab" * seed, "audio": random_codes(2 + seed, seed)}
        values = {f.name: values[f.kind] for f in card.conditions if not f.optional}
        prompt = builder.build(card, values, targets=False)
        guided = seed in (0, 4)
        without = builder.build(TASKS["tts"], {"text": "c"}, targets=False)
        sampling = Sampling(temperature=1.0, top_k=0, **settings)
        limits = {"max_seconds": 0.1 + 0.1 * seed, "max_text_tokens": 4}
        made.append(
            GenerationRequest(
                prompt, card, sampling, seed=seed, guidance=[GuidanceStep(2.0, without)] if guided else [], **limits
            )
        )
    return made


@every_pattern
@pytest.mark.parametrize("prefix_lm", [False, True], ids=["causal", "prefix"])
def test_generation_is_the_same_alone_and_laid_out_as_training_is(changes, prefix_lm):
    lm, builder = pattern_lm(**{**changes, "condition_weight": 0.0}, prefix_lm=prefix_lm, seed=1)
    engine = Engine(lm, builder.vocabulary)
    many = requests(builder)
    together = engine.generate(many)
    for one, result in zip(many, together, strict=True):
        assert torch.equal(engine.generate([one])[0].sequence.tokens, result.sequence.tokens)
        if one.task.name == "tts":  # random bytes are no text
            again = builder.build(one.task, result.sequence.split())
            assert torch.equal(again.tokens, result.sequence.tokens)
            assert torch.equal(again.loss_mask, result.sequence.loss_mask)
    assert len({len(result.sequence) for result in together}) > 3


@every_pattern
@pytest.mark.parametrize("prefix_lm", [False, True], ids=["causal", "prefix"])
def test_cached_steps_equal_teacher_forcing(changes, prefix_lm):
    lm, builder = pattern_lm(**{**changes, "condition_weight": 0.0}, prefix_lm=prefix_lm, seed=2)
    results = Engine(lm, builder.vocabulary).generate(requests(builder))
    sums, counts = score_sequences(lm, [result.sequence for result in results])
    torch.testing.assert_close(torch.tensor([r.log_probability for r in results]), sums, rtol=1e-4, atol=1e-3)
    loss = lm.loss(collate([result.sequence for result in results]), seed=0)
    refined = [f"audio.{k}" for k in range(lm.n_coarse, N_CODEBOOKS)]
    coarse = [name for name in loss.counts if name not in ("conditions", *refined)]
    assert int(counts.sum()) == sum(loss.counts[name] for name in coarse)
    total = sum(float(loss.parts[name]) * loss.counts[name] for name in coarse)
    assert -float(sums.sum()) == pytest.approx(total, rel=1e-4)


@some_slow
def test_it_learns_by_heart_and_says_it_again(changes):
    torch.manual_seed(0)
    _, builder = pattern_lm(**changes)
    stack = TransformerConfig(n_layers=2, d_model=48, n_heads=4)
    stages = dict(local=stack, refiner=stack, ar_codebooks=2) if changes["pattern"] == "multiscale" else {}
    lm = UnitokLM(LMConfig(stack, **stages, **changes), builder.vocabulary)
    values = [
        {"text": text, "speech": random_codes(3 + i, i)} for i, text in enumerate(("one", "two", "three", "four"))
    ]
    batch = collate([builder.build(TASKS["tts"], of_one, lang="en") for of_one in values])
    optimizer = torch.optim.Adam(lm.parameters(), lr=3e-3)
    for step in range(250):
        loss = lm.loss(batch, seed=step).loss
        if step % 10 == 0 and loss < 0.01:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    prompts = [builder.build(TASKS["tts"], {"text": v["text"]}, lang="en", targets=False) for v in values]
    results = Engine(lm, builder.vocabulary).generate(
        [GenerationRequest(prompt, TASKS["tts"], Sampling(greedy=True)) for prompt in prompts]
    )
    for result, of_one in zip(results, values, strict=True):
        assert torch.equal(result.sequence.codes("speech"), of_one["speech"])
        assert len(of_one["speech"]) == N_CODEBOOKS
