"""Tiny random language models over the vocabulary of `toy_sequences.py`, for the tests of generation."""

import torch
from toy_sequences import CODEBOOK_SIZE, N_CODEBOOKS, toy_builder

from unitok.model.config import LMConfig, TransformerConfig
from unitok.model.lm import UnitokLM
from unitok.tasks import SequenceBuilder, Task

torch.set_num_threads(1)  # tensors this small only wait for each other's threads

SAMPLINGS = [
    {"greedy": True},
    {"temperature": 1.2, "top_k": 0},
    {"temperature": 2.0, "top_k": 3},
    {"temperature": 2.0, "top_k": 0, "top_p": 0.7},
    {"temperature": 2.0, "top_k": 5, "min_p": 0.5},
    {"temperature": 1.0, "top_k": 0, "codebook_temperatures": (1.0, 3.0, 0.0)},
]
"""Settings of `Sampling`, each filter among them."""
TASKS = {name: Task.load(name) for name in ("tts", "asr", "s2st_chain", "lm")}


def tiny_config(ar_codebooks: int, **changes) -> LMConfig:
    small = TransformerConfig(n_layers=1, d_model=12, n_heads=2, d_ff=20)
    stages = {}
    if changes.get("pattern", "multiscale") == "multiscale":
        stages = {
            "local": small if ar_codebooks > 1 else None,
            "refiner": small if ar_codebooks < N_CODEBOOKS else None,
            "ar_codebooks": ar_codebooks,
        }
    return LMConfig(TransformerConfig(n_layers=2, d_model=16, n_heads=4, n_kv_heads=2, d_ff=24), **stages, **changes)


def pattern_lm(pattern: str, *, seed: int = 0, **changes) -> tuple[UnitokLM, SequenceBuilder]:
    """Return a model with a pattern, of `multiscale` the one with all stages, and a builder that lays out for it."""
    builder = toy_builder()
    lm = tiny_lm(builder, seed=seed, pattern=pattern, **changes)
    return lm, SequenceBuilder(builder.vocabulary, builder.text_tokenizer, builder.frame_rate_hz, lm.pattern)


def tiny_lm(builder: SequenceBuilder, ar_codebooks: int = 2, *, seed: int = 0, cls=UnitokLM, **changes) -> UnitokLM:
    """Return a model whose weights are large enough that what it says depends on everything it saw."""
    torch.manual_seed(seed)
    lm = cls(tiny_config(ar_codebooks, **changes), builder.vocabulary)
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.ndim == 2:
                parameter.mul_(12.0)
        for kind in ("audio", "text"):
            end = builder.vocabulary.end_id(kind)
            if lm.head is None:
                lm.embedding.weight[end] *= 1.5
            else:
                lm.head.weight[torch.searchsorted(lm.slot0_ids, end)] *= 1.5  # now and then the likeliest: lengths vary
    return lm.eval()


def random_codes(n_frames: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(CODEBOOK_SIZE, (N_CODEBOOKS, n_frames), generator=generator)


__all__ = ["SAMPLINGS", "TASKS", "toy_builder", "pattern_lm", "random_codes", "tiny_config", "tiny_lm"]
