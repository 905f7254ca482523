"""Toy models and batches for the tests of the language model: codebooks, targets and lengths all differ."""

import torch
from toy_sequences import toy_builder

from unitok.model.config import LMConfig, TransformerConfig
from unitok.model.lm import UnitokLM
from unitok.sequence import SequenceBatch, TokenSequence, collate
from unitok.tasks import Task

CODEBOOK_SIZES = (6, 7, 5, 9)
K = len(CODEBOOK_SIZES)
BUILDER = toy_builder(codebook_sizes=CODEBOOK_SIZES, tasks=["tts", "asr", "duet"])
VOCABULARY = BUILDER.vocabulary
DUET = Task.from_card(
    {
        "name": "duet",
        "description": "A text, and two voices that speak it.",
        "conditions": [{"name": "prompt", "kind": "audio"}],
        "targets": [
            {"name": "text", "kind": "text", "loss_weight": 0.25},
            {"name": "high", "kind": "audio"},
            {"name": "low", "kind": "audio", "loss_weight": 3.0},
        ],
        "codebook_weights": [2, 1, 0.5, 1.5],
    }
)


def toy_config(ar_codebooks: int, **changes) -> LMConfig:
    return LMConfig(
        transformer=TransformerConfig(n_layers=2, d_model=16, n_heads=4, n_kv_heads=2, d_ff=24, qk_norm=True),
        local=TransformerConfig(n_layers=2, d_model=12, n_heads=2, d_ff=20) if ar_codebooks > 1 else None,
        refiner=TransformerConfig(n_layers=2, d_model=20, n_heads=2, d_ff=28) if ar_codebooks < K else None,
        ar_codebooks=ar_codebooks,
        **changes,
    )


def toy_lm(ar_codebooks: int, seed: int = 0, **changes) -> UnitokLM:
    """Return a model with weights so large that everything it sees matters."""
    torch.manual_seed(seed)
    lm = UnitokLM(toy_config(ar_codebooks, **changes), VOCABULARY)
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.mul_(10.0 if parameter.ndim == 2 else 1.0)
    return lm.eval()


def codes(n_frames: int, n_codebooks: int = K, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    sizes = CODEBOOK_SIZES[:n_codebooks]
    return torch.stack([torch.randint(size, (n_frames,), generator=generator) for size in sizes])


def toy_sequences() -> list[TokenSequence]:
    """Return one sequence each of tts, asr and a task with two audio targets."""
    return [
        BUILDER.build(Task.load("tts"), {"text": "so it", "speech": codes(7, seed=1)}, lang="en"),
        BUILDER.build(Task.load("asr"), {"audio": codes(4, seed=2), "text": "and"}),
        BUILDER.build(
            DUET, {"prompt": codes(2, seed=3), "text": "is", "high": codes(3, seed=4), "low": codes(5, seed=5)}
        ),
    ]


def toy_batch() -> SequenceBatch:
    return collate(toy_sequences())
