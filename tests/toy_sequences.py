"""The toy vocabulary, builder and task of the sequence tests."""

from unitok.tasks import SequenceBuilder, Task
from unitok.tokenizers.bytes import ByteTokenizer
from unitok.vocabulary import Vocabulary

N_CODEBOOKS, CODEBOOK_SIZE, FRAME_RATE_HZ = 4, 6, 25.0


def toy_builder(**changes) -> SequenceBuilder:
    settings = {
        "tasks": ["tts", "asr", "s2st_chain", "lm", "sem"],
        "langs": ["en", "de"],
        "text_size": 256,
        "semantic_size": 5,
    }
    settings["codebook_sizes"] = [CODEBOOK_SIZE] * N_CODEBOOKS
    return SequenceBuilder(Vocabulary.create(**(settings | changes)), ByteTokenizer(), FRAME_RATE_HZ)


def semantic_task() -> Task:
    """Text to semantic tokens to audio, with weights."""
    return Task.from_card(
        {
            "name": "sem",
            "description": "Speak by way of semantic tokens.",
            "conditions": [{"name": "text", "kind": "text"}],
            "targets": [
                {"name": "meaning", "kind": "semantic", "loss_weight": 0.5},
                {"name": "speech", "kind": "audio", "loss_weight": 2, "optional": True},
            ],
            "codebook_weights": [1, 0.5],
        }
    )
