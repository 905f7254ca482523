"""A checkpoint of real parts at toy sizes with random weights, for the tests of the API and the command line."""

from dataclasses import replace

import torch
from tiny_models import tiny_lm

from unitok.api import Model
from unitok.checkpoint import Checkpoint
from unitok.tasks import SequenceBuilder, Task
from unitok.testing import ToyAudioTokenizer, ToyTextTokenizer
from unitok.vocabulary import Vocabulary

TOY_TASKS = ("tts", "asr", "s2st_chain", "vc")


def toy_parts(ar_codebooks: int = 2, seed: int = 0, tasks=TOY_TASKS, langs=("en",), **changes) -> Checkpoint:
    text, audio = ToyTextTokenizer(), ToyAudioTokenizer()
    vocabulary = Vocabulary.create(list(tasks), list(langs), text.size, [audio.codebook_size] * audio.n_codebooks)
    builder = SequenceBuilder(vocabulary, text, audio.frame_rate_hz)
    lm = tiny_lm(builder, ar_codebooks, seed=seed, **changes)
    cards = {name: Task.load(name) for name in tasks}
    return Checkpoint(lm, vocabulary, text, audio, cards, name="toy", notes={"steps": 0})


def toy_model(**changes) -> Model:
    return Model(toy_parts(**changes))


def lasting(checkpoint: Checkpoint, seconds_per_character: float) -> Checkpoint:
    """Return the checkpoint with speech that lasts at least so long, as random weights end it anywhere."""
    tts = checkpoint.tasks["tts"]
    generate = replace(tts.generate, min_seconds_per_character=seconds_per_character)
    return replace(checkpoint, tasks={**checkpoint.tasks, "tts": replace(tts, generate=generate)})


def tone(seconds: float = 0.5, rate: int = 16000) -> tuple[torch.Tensor, int]:
    """Return a tone that gets louder, `(samples [N], rate)`."""
    n = round(seconds * rate)
    return torch.linspace(0.05, 0.9, n) * torch.sin(torch.arange(n) * 440 * 2 * torch.pi / rate), rate
