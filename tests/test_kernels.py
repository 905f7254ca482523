"""Native kernels: what PyTorch gives, from the weights as they are, in every batch, and only where they fit."""

import copy
import multiprocessing
import os
import pickle
import platform
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import SAMPLINGS, random_codes, tiny_lm, toy_builder
from torch import nn

from unitok.errors import GenerationError
from unitok.generation.drawing import choose
from unitok.generation.engine import Engine, GenerationRequest
from unitok.generation.guidance import GuidanceStep
from unitok.kernels import attach, build, linear, native_frame, pages, stack, why_not, without
from unitok.model.cache import StaticCache
from unitok.model.compact import WEIGHT_TYPES, CompactLinear, compact
from unitok.model.config import RopeScaling, TransformerConfig
from unitok.model.lm import UnitokLM
from unitok.model.transformer import Transformer
from unitok.tasks import Task
from unitok.tasks.settings import Filters

ROUNDED = ("int8", "int4")
"""Types of weights whose inputs are rounded to 16 bits."""

needs_kernels = pytest.mark.skipif(bool(why_not()), reason=f"no native kernels: {why_not()}")

# Widths that fill no register and no share of a thread.
CONFIGS = {
    "plain": TransformerConfig(n_layers=2, d_model=50, n_heads=5, d_ff=99),
    "grouped": TransformerConfig(n_layers=2, d_model=48, n_heads=4, n_kv_heads=2, head_dim=14, d_ff=70),
    "qwen": TransformerConfig(n_layers=2, d_model=40, n_heads=2, d_ff=64, qk_norm=True, qkv_bias=True),
    "llama3": TransformerConfig(n_layers=1, d_model=32, n_heads=2, rope_scaling=RopeScaling(original_max_positions=16)),
}


def transformer(name: str, kind: str = "float32") -> Transformer:
    torch.manual_seed(0)
    made = Transformer(CONFIGS[name]).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.copy_(torch.randn_like(weight) * (0.3 if weight.ndim == 2 else 1.0))
    compact(made, kind)
    return made


def decode(model: Transformer, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return the states of rows that go on from different positions, `[B, S, D]`, one position at a time."""
    cache = model.new_cache(len(x), 30)
    states = []
    for s in range(x.shape[1]):
        at = positions[:, s : s + 1]
        mask = cache.advance(at)
        states.append(model(x[:, s : s + 1], attn_mask=mask, cache=cache, positions=at))
    return torch.cat(states, dim=1)


@needs_kernels
@torch.inference_mode()
@pytest.mark.parametrize("kind", WEIGHT_TYPES)
@pytest.mark.parametrize("name", CONFIGS)
def test_a_stack_gives_what_pytorch_gives(name, kind):
    model = transformer(name, kind)
    x = torch.randn(3, 6, model.config.d_model)
    positions = torch.arange(6) + torch.tensor([[0], [5], [11]])
    expected = decode(model, x, positions)
    assert attach(model)
    atol = 2e-3 if kind in ROUNDED else 1e-5
    torch.testing.assert_close(decode(model, x, positions), expected, rtol=0, atol=atol)
    one = decode(model, x[1:2], positions[1:2])
    assert torch.equal(one[0], decode(model, x, positions)[1]), "a row depends on its neighbours"


@needs_kernels
@torch.inference_mode()
def test_two_positions_at_once_are_causal():
    model = transformer("grouped")
    x, positions = torch.randn(2, 2, 48), torch.arange(2).expand(2, -1)
    cache = model.new_cache(2, 4)
    cache.advance(positions)
    expected = model(x, is_causal=True, cache=cache, positions=positions)
    attach(model)
    again = model.new_cache(2, 4)
    again.advance(positions)
    torch.testing.assert_close(model(x, is_causal=True, cache=again, positions=positions), expected, rtol=0, atol=1e-5)


@needs_kernels
@torch.inference_mode()
@pytest.mark.parametrize("kind", WEIGHT_TYPES)
def test_prompts_whose_positions_see_each_other_are_what_pytorch_makes_them(kind):
    model = transformer("grouped", kind)
    S = 40 if kind in ROUNDED else 7
    x, positions = torch.randn(2, S, 48), torch.arange(S).expand(2, -1)
    lengths = torch.tensor([S - 1, 4])  # of the prompts: what is behind them is causal, or padding
    prompt = positions < lengths[:, None]

    def states(rows):
        cache = model.new_cache(len(x[rows]), S + 2)
        mask = cache.advance(positions[rows]) | prompt[rows, None, :, None] & prompt[rows, None, None, :]
        return model(x[rows], attn_mask=mask, cache=cache, positions=positions[rows]), cache

    expected, kept = states(slice(None))
    attach(model)
    made, cache = states(slice(None))
    atol = 2e-3 if kind in ROUNDED else 1e-5
    torch.testing.assert_close(made, expected, rtol=0, atol=atol)
    torch.testing.assert_close(cache.values[1], kept.values[1], rtol=0, atol=atol)
    assert torch.equal(states(slice(1, 2))[0][0], made[1]), "a row depends on its neighbours"


@needs_kernels
@torch.inference_mode()
def test_masks_with_gaps_are_left_to_pytorch():
    model = transformer("plain")
    x, positions = torch.randn(1, 3, 50), torch.arange(3)[None]

    def states():
        cache = model.new_cache(1, 3)
        mask = cache.advance(positions) & (torch.arange(3) != 1)
        return model(x, attn_mask=mask, cache=cache, positions=positions)

    expected = states()
    attach(model)
    assert torch.equal(states(), expected)


@needs_kernels
@pytest.mark.parametrize("kind", WEIGHT_TYPES)
def test_a_matrix_gives_what_pytorch_gives(kind):
    torch.manual_seed(1)
    for n_inputs in (37, 128, 200):
        layer = nn.Linear(n_inputs, 11)
        made = layer if kind == "float32" else CompactLinear.of(layer, kind)
        x = torch.randn(2, 3, n_inputs)
        weight = made.weight if kind == "float32" else made.float_weight()
        y = linear(made.weight.detach(), getattr(made, "scale", None), made.bias.detach(), x)
        torch.testing.assert_close(y, nn.functional.linear(x, weight, made.bias).detach(), rtol=0, atol=1e-4)


@needs_kernels
@pytest.mark.parametrize("kind", WEIGHT_TYPES)
def test_vectors_that_do_not_fit_a_matrix_are_left_to_pytorch(kind):
    made = nn.Linear(100, 8) if kind == "float32" else CompactLinear.of(nn.Linear(100, 8), kind)
    for n_inputs in (40, 200):
        assert linear(made.weight.detach(), getattr(made, "scale", None), made.bias, torch.randn(2, n_inputs)) is None


@needs_kernels
@pytest.mark.parametrize("kind", WEIGHT_TYPES)
@pytest.mark.parametrize(("n_inputs", "n_outputs"), [(83, 13), (1100, 500)], ids=["small", "large"])
def test_a_vector_gets_the_same_alone_as_among_many(n_inputs, n_outputs, kind):
    torch.manual_seed(2)
    made = nn.Linear(n_inputs, n_outputs)
    made = made if kind == "float32" else CompactLinear.of(made, kind)
    parts = made.weight.detach(), getattr(made, "scale", None), made.bias.detach()
    x = torch.randn(71, n_inputs)  # more than are worked on at once, and no multiple of what the registers take
    alone = torch.cat([linear(*parts, one[None]) for one in x])
    assert torch.equal(linear(*parts, x), alone)
    assert torch.equal(linear(*parts, x[:3]), alone[:3])


@needs_kernels
def test_gradients_go_through_pytorch():
    x = torch.randn(2, 64, requires_grad=True)
    layer = CompactLinear.of(nn.Linear(64, 16), "int8")
    layer(x).sum().backward()
    expected = (layer.weight.float() * layer.scale[:, None]).sum(dim=0).expand(2, -1)
    torch.testing.assert_close(x.grad, expected)


@needs_kernels
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_waits_for_no_thread_of_its_parent():
    weight, x = torch.randn(64, 64), torch.randn(1, 64)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = linear(weight, None, None, x)
        child = multiprocessing.get_context("fork").Process(target=_check_linear, args=(weight, x, expected))
        child.start()
        child.join(60)
        child.kill()
        assert child.exitcode == 0
    finally:
        torch.set_num_threads(n_threads)


def _check_linear(weight, x, expected):
    assert torch.equal(linear(weight, None, None, x), expected)


@needs_kernels
@pytest.mark.parametrize("n_inputs", [768, 5000, 20000])
def test_the_largest_sums_of_whole_numbers_do_not_overflow(n_inputs):
    weight, scale = torch.full((3, n_inputs), 127, dtype=torch.int8), torch.ones(3)
    y = linear(weight, scale, None, torch.full((1, n_inputs), -0.5))
    torch.testing.assert_close(y, torch.full((1, 3), -0.5 * 127 * n_inputs), rtol=1e-3, atol=0)
    layer = nn.Linear(n_inputs, 3, bias=False)
    nn.init.constant_(layer.weight, 7.0)
    made = CompactLinear.of(layer, "int4")
    y = linear(made.weight, made.scale, None, torch.full((1, n_inputs), -0.5))
    torch.testing.assert_close(y, torch.full((1, 3), -0.5 * 7 * n_inputs), rtol=1e-3, atol=0)


@needs_kernels
@torch.inference_mode()
def test_weights_that_changed_are_used_as_they_are_now():
    model = transformer("plain")
    x, positions = torch.randn(1, 2, 50), torch.arange(2)[None]
    attach(model)
    before = decode(model, x, positions)
    model.blocks[0].feed_forward.up_proj.weight.mul_(2.0)  # in place, as an optimizer does
    model.blocks[1].attention.q_proj.weight = nn.Parameter(model.blocks[1].attention.q_proj.weight * 2)  # elsewhere
    attach(model)
    after = decode(model, x, positions)
    model.native = None
    assert not torch.allclose(before, after, atol=1e-2)
    torch.testing.assert_close(after, decode(model, x, positions), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", WEIGHT_TYPES)
def test_weights_in_large_pages_are_the_same_and_saved_alone(kind, monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "LEAST", 1)
    model = nn.Sequential(transformer("plain", kind), nn.Linear(3, 5), nn.BatchNorm1d(5))
    model[1].weight = nn.Parameter(model[1].weight.detach().t().contiguous().t())  # not contiguous
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    addresses = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    if not pages.lay_out(model):
        pytest.skip("this system has no large pages")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert tensor.data_ptr() != addresses[name]
        assert tensor.data_ptr() % 64 == 0
    torch.save(model[1].state_dict(), tmp_path / "one.pt")
    assert (tmp_path / "one.pt").stat().st_size < 5000
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, tmp_path / "all.safetensors")
    model[1](torch.ones(2, 3)).sum().backward()
    torch.optim.SGD(model[1].parameters(), lr=1.0).step()
    assert not torch.equal(model[1].weight, before["1.weight"])


def test_few_weights_stay_where_they_are():
    layer = nn.Linear(3, 5)
    address = layer.weight.data_ptr()
    assert not pages.lay_out(layer)
    assert layer.weight.data_ptr() == address


@needs_kernels
@torch.inference_mode()
def test_threads_of_python_do_not_disturb_each_other():
    models = [transformer("plain"), transformer("grouped")]
    xs = [torch.randn(2, 5, model.config.d_model) for model in models]
    positions = torch.arange(5).expand(2, -1)
    expected = []
    for model, x in zip(models, xs, strict=True):
        attach(model)
        expected.append(decode(model, x, positions))

    def again(i: int) -> bool:
        with torch.inference_mode():
            return all(torch.equal(decode(models[i % 2], xs[i % 2], positions), expected[i % 2]) for _ in range(5))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(again, range(8)))


@needs_kernels
def test_copies_begin_without_and_other_layers_stay_with_pytorch():
    model = transformer("plain")
    assert attach(model)
    assert copy.deepcopy(model).native is None
    assert pickle.loads(pickle.dumps(model)).native is None
    model.blocks[0].attention.q_proj = nn.Sequential(nn.Linear(50, 50, bias=False))
    assert not attach(model)
    assert not attach(transformer("plain").double())
    assert not attach(transformer("plain").bfloat16()), "only matrices may be of 16 bits"


@needs_kernels
@torch.inference_mode()
def test_states_and_caches_of_other_types_stay_with_pytorch():
    model, positions = transformer("plain"), torch.zeros(1, 1, dtype=torch.long)
    attach(model)
    for x, dtype in ((torch.randn(1, 1, 50).bfloat16(), torch.float32), (torch.randn(1, 1, 50), torch.bfloat16)):
        cache = StaticCache(2, 1, 5, 4, 10, dtype=dtype)
        assert not model.native.takes(x, cache)
    cache = model.new_cache(1, 4)
    with torch.autocast("cpu", torch.bfloat16):
        mask = cache.advance(positions)
        y = model(torch.randn(1, 1, 50).bfloat16(), attn_mask=mask, cache=cache, positions=positions)
    assert y.isfinite().all()


@needs_kernels
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("guided", [False, True], ids=["plain", "guided"])
def test_generation_gives_the_same_tokens(sampling, guided):
    """The local stage and its draws are one native call a frame; one row is guided by two conditions, one by none."""
    from unitok.tasks import Sampling

    builder = toy_builder()
    lm = tiny_lm(builder, 3)
    tts = Task.load("tts")
    prompts = [
        builder.build(tts, {"text": text, "prompt": random_codes(4, seed)}, lang="en", targets=False)
        for seed, text in enumerate(["abc", "a longer text", "x"])
    ]
    without_text = [builder.build(tts, {"text": text}, lang="en", targets=False) for text in ("b", "c")]
    steps = [[GuidanceStep(3.0, one) for one in without_text], [GuidanceStep(2.0, without_text[0])], []]
    requests = [
        GenerationRequest(p, tts, Sampling(**sampling), seed=i, max_seconds=1.2, guidance=steps[i] if guided else [])
        for i, p in enumerate(prompts)
    ]
    engine = Engine(lm, builder.vocabulary)
    native = engine.generate(requests)
    assert engine._frame is not None
    with without():
        other = engine.generate(requests)
        assert engine._frame is None
    assert lm.transformer.native is lm.local.transformer.native is None
    assert max(result.sequence.codes("speech").shape[1] for result in other) > 1
    for one, two in zip(native, other, strict=True):
        assert torch.equal(one.sequence.tokens, two.sequence.tokens)
        assert one.log_probability == pytest.approx(two.log_probability, rel=1e-5)


@needs_kernels
@pytest.mark.parametrize(
    "filters", [(0.7, 0, 1.0, 0.0), (1.0, 5, 1.0, 0.0), (1.3, 0, 0.6, 0.0), (1.0, 20, 0.9, 0.05), (1.0, 1, 1.0, 0.0)]
)
def test_ids_drawn_natively_are_those_that_pytorch_draws(filters):
    torch.manual_seed(3)
    logits, legal = 3 * torch.randn(30, 77), torch.rand(10, 77) < 0.3
    logits[4, :9] = -torch.inf
    scales = [[2.0, 1.5], [], [3.0]] * 3 + [[0.0, 0.5, 4.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]
    settings = [Filters(*filters)] * 10

    def chosen(legal):
        return choose(logits, scales, legal, settings, [torch.Generator().manual_seed(i) for i in range(10)])

    for mask in (legal, None):
        ids, gained = chosen(mask)
        with without():
            other_ids, other_gained = chosen(mask)
        assert torch.equal(ids, other_ids)
        assert len(ids.unique()) > 3
        assert mask is None or mask.gather(1, ids[:, None]).all()
        torch.testing.assert_close(gained, other_gained)


@needs_kernels
def test_one_logit_that_is_no_number_is_said():
    logits = torch.zeros(2, 9)
    logits[1, 5] = torch.nan
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    _, gained = choose(logits, [[], []], None, [Filters(1.0, 3, 1.0, 0.0)] * 2, generators)
    assert gained.isnan().tolist() == [False, True]


@needs_kernels
def test_a_native_frame_says_nan_and_leaves_other_models_alone():
    builder = toy_builder()
    prompt = builder.build(Task.load("tts"), {"text": "abc"}, lang="en", targets=False)
    lm = tiny_lm(builder, 3)
    engine = Engine(lm, builder.vocabulary)
    with torch.no_grad():
        lm.local.heads[1].weight.fill_(torch.nan)
    with pytest.raises(GenerationError, match="returned NaN"):
        engine.generate([GenerationRequest(prompt, Task.load("tts"), seed=3, max_seconds=1.0)])

    class Other(UnitokLM):
        def embed_slot(self, tokens, slot):
            return 2 * super().embed_slot(tokens, slot)

    attach(lm)
    assert native_frame(lm, engine._tokens_of_code) is not None
    for other in (tiny_lm(builder, 3, cls=Other), tiny_lm(builder, 3, slot_embeddings="concat"), tiny_lm(builder, 1)):
        attach(other)
        assert native_frame(other, engine._tokens_of_code) is None


def test_without_a_compiler_there_are_none_and_it_says_why(monkeypatch):
    monkeypatch.setattr(build, "library", build.library.__wrapped__)
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    assert build.library() is None
    assert build.why_not() == "there is no C++ compiler (g++ or clang++)"
    assert build.origin() == ""
    monkeypatch.setenv("UNITOK_KERNELS", "0")
    assert build.why_not() == "UNITOK_KERNELS=0"


@needs_kernels
@pytest.mark.skipif(platform.machine() not in build.PROCESSORS, reason="wheels have nothing for this machine")
def test_a_wheel_brings_native_code_where_there_is_no_compiler(monkeypatch, tmp_path):
    kinds = build.PROCESSORS[platform.machine()]
    kind = torch.backends.cpu.get_cpu_capability() if len(kinds) > 1 else "DEFAULT"
    monkeypatch.setattr(build, "PROCESSORS", {platform.machine(): {kind: kinds[kind]}})
    monkeypatch.setenv("UNITOK_KERNELS", "0")
    assert build.compile_for_wheel(tmp_path) == []
    monkeypatch.delenv("UNITOK_KERNELS")
    [path] = build.compile_for_wheel(tmp_path)

    monkeypatch.setattr(build, "OF_WHEEL", tmp_path)
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(build, "library", build.library.__wrapped__)
    found = build.library()
    assert found is not None
    assert found._name == str(path)
    assert build.origin() == "of the wheel"
    monkeypatch.setattr(stack, "library", lambda: found)
    weight, x = torch.randn(70, 50), torch.randn(3, 50)
    assert torch.allclose(linear(weight, None, None, x), x @ weight.T, atol=1e-5)


@needs_kernels
@pytest.mark.skipif(build.origin() == "of the wheel", reason="nothing is compiled here")
def test_a_file_in_the_wheel_that_does_not_load_is_passed_over(monkeypatch, tmp_path):
    for kind in ("avx2", "avx512", "default"):
        (tmp_path / f"decoder-{platform.machine()}-{kind}.so").write_text("no library")
    monkeypatch.setattr(build, "OF_WHEEL", tmp_path)
    monkeypatch.setattr(build, "library", build.library.__wrapped__)
    assert build.origin() == "compiled for this processor"


def test_a_compiler_that_fails_leaves_nothing_behind(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setenv("UNITOK_CACHE", str(tmp_path))
    monkeypatch.delenv("UNITOK_KERNELS", raising=False)
    with pytest.raises(OSError, match="false failed"):
        build._compiled()
    assert list(tmp_path.iterdir()) == []
