"""Speech models whose codes are ids of a text model's vocabulary, one position each: Llasa and Orpheus.

The ids from the first code on leave the text block and become the blocks of codes; their embeddings and rows of the
head go with them, so that each id of the model is in one place. K = 1 for Llasa (X-codec2). Orpheus has a range of ids
for each of the K = 7 codes of a frame of SNAC: the pattern `flatten`, with a head for each slot.

Sources: the pages of https://huggingface.co/HKUSTAudio/Llasa-1B and `engine_class.py` and `decoder.py` of
https://github.com/canopyai/Orpheus-TTS, for prompts, order of codes and settings.
Letters: D width, K codebooks, V codes of a codebook.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unitok.checkpoint import Checkpoint
from unitok.convert.files import Source, Weights, open_weights, read_config, weights_name
from unitok.convert.text_models import ARCHITECTURES, refuse_left, take_blocks, transformer_config
from unitok.convert.tokenizer_files import (
    added_around,
    chat_prompt,
    ids_of_tokens,
    read_tokenizer,
    text_tokenizer,
)
from unitok.errors import CheckpointError, TokenizerError
from unitok.model.config import LMConfig
from unitok.model.lm import UnitokLM
from unitok.tasks import Task
from unitok.tokenizers import AudioTokenizer, load_audio_tokenizer
from unitok.tokenizers.huggingface import TOKENIZER_FILE
from unitok.vocabulary import Vocabulary

__all__ = ["Format", "find_format", "read"]


@dataclass(frozen=True)
class Format:
    """How one family of models spells codes and prompts."""

    name: str
    """Of the family."""
    marks: tuple[str, ...]
    """Tokens that a tokenizer of the family has, and no other."""
    code: str
    """Name of the token of code c of codebook k: `{}` is `first_code` + k · V + c."""
    first_code: int
    """Number in the name of the first code."""
    codec: str
    """Card of the codec that it was trained with."""
    prompt: Callable[[Path], tuple[list[int], list[int]]]
    """(folder) -> ids before the text, ids between the text and the codes."""
    end: str
    """Token that ends the codes."""
    card: Mapping[str, Any]
    """Card of its task."""

    def tokens(self, k: int, size: int) -> list[str]:
        """Return the names of the codes of codebook k."""
        return [self.code.format(self.first_code + k * size + code) for code in range(size)]


# The day that the chat template of Llama 3 names unless told another; the templates of later releases would say today.
LLAMA_DATE = "26 Jul 2024"
SPEECH = {"name": "speech", "kind": "audio", "field": "audio"}


def _llasa_prompt(folder: Path) -> tuple[list[int], list[int]]:
    slot = "{text}"
    user = f"Convert the text to speech:<|TEXT_UNDERSTANDING_START|>{slot}<|TEXT_UNDERSTANDING_END|>"
    return chat_prompt(folder, user, "<|SPEECH_GENERATION_START|>", slot, date_string=LLAMA_DATE)


def _orpheus_prompt(folder: Path) -> tuple[list[int], list[int]]:
    before, after = added_around(folder)
    # Start of the human's turn; end of its text, end of the turn, start of the model's turn, start of speech.
    human, *answer = ids_of_tokens(
        folder, "<custom_token_3>", "<|eot_id|>", "<custom_token_4>", "<custom_token_5>", "<custom_token_1>"
    )
    return [human, *before], [*after, *answer]


FORMATS = (
    Format(
        name="Llasa",
        marks=("<|s_0|>", "<|SPEECH_GENERATION_START|>"),
        code="<|s_{}|>",
        first_code=0,
        codec="xcodec2_16khz",
        prompt=_llasa_prompt,
        end="<|SPEECH_GENERATION_END|>",
        card={
            "name": "tts",
            "description": "Speak a text, optionally in the voice of a prompt whose text is given.",
            "source": "arXiv:2502.04128",
            "conditions": [
                {"name": "prompt_text", "kind": "text", "optional": True},
                {"name": "text", "kind": "text", "form": "{prompt_text}{text}"},
                {"name": "prompt", "kind": "audio", "optional": True},
            ],
            "targets": [SPEECH],
            "generate": {"temperature": 0.8, "top_k": 50, "max_seconds": 30.0},
            "example": {"text": "Dealing with family secrets is never easy."},
        },
    ),
    Format(
        name="Orpheus",
        marks=("<custom_token_0>", "<custom_token_10>"),
        code="<custom_token_{}>",
        first_code=10,
        codec="snac_24khz",
        prompt=_orpheus_prompt,
        end="<custom_token_2>",
        card={
            "name": "tts",
            "description": "Speak a text in a named voice, such as tara, leah, jess, leo, dan, mia, zac or zoe.",
            "source": "https://github.com/canopyai/Orpheus-TTS",
            "conditions": [
                {"name": "voice", "kind": "label", "optional": True, "default": "tara", "field": "speaker"},
                {"name": "text", "kind": "text", "form": "{voice}: {text}"},
            ],
            "targets": [SPEECH],
            "generate": {"temperature": 0.6, "top_k": 0, "top_p": 0.8, "max_seconds": 60.0},
            "example": {"text": "Hey there, my name is Tara."},
        },
    ),
)


def find_format(folder: Path) -> Format | None:
    """Return the family that a folder's model is of, by its tokenizer; None where it is a text model."""
    architectures = read_config(folder).get("architectures") or []
    if not set(architectures) & ARCHITECTURES.keys() or not (folder / TOKENIZER_FILE).is_file():
        return None
    content = read_tokenizer(folder)
    return next((one for one in FORMATS if all(f'"{mark}"' in content for mark in one.marks)), None)


def read(source: Source, form: Format, audio_tokenizer: AudioTokenizer | None = None) -> Checkpoint:
    """Return the model of a folder.

    Raises:
        CheckpointError: If unitok computes something else, or files do not belong together.
        MissingWeightsError: If the codec of its card is not here; give one.
        TokenizerError: If the codec is another one.
    """
    folder, config = source.folder, source.config
    codec = audio_tokenizer or load_audio_tokenizer(form.codec)
    K, V, card = codec.n_codebooks, codec.codebook_size, Task.from_card(form.card)
    codes = _codes(folder, form, K, V, codec.name)
    text_size = int(codes.min())
    vocabulary = Vocabulary.create([card.name], [], text_size, [V] * K, spare=0)
    with open_weights(folder, weights_name(config)) as weights:
        tied = bool(config.get("tie_word_embeddings", False)) or "lm_head.weight" not in weights
        settings = LMConfig(
            transformer=transformer_config(config),
            pattern="flatten",
            tie_embeddings=tied,
            slot0_blocks=("text", "audio.0"),
            spelling=_spelling(folder, form, vocabulary, card),
        )
        lm = UnitokLM(settings, vocabulary)
        _take(lm, vocabulary, weights, codes, int(config["vocab_size"]))
        refuse_left(folder, weights)
    return Checkpoint(
        lm=lm.eval(),
        vocabulary=vocabulary,
        text_tokenizer=text_tokenizer(source, text_size),
        audio_tokenizer=codec,
        tasks={card.name: card},
        name=source.name,
        notes=source.notes,
    )


def _codes(folder: Path, form: Format, K: int, V: int, codec: str) -> Tensor:
    """Return the model's ids of codes, `[K, V]`."""
    try:
        ids = torch.tensor([ids_of_tokens(folder, *form.tokens(k, V)) for k in range(K)])
    except CheckpointError as error:
        raise TokenizerError(f"{error} Its codec is not '{codec}' ({K} × {V} codes): give the one it has.") from error
    if f'"{form.tokens(K, V)[-1]}"' in read_tokenizer(folder):
        raise TokenizerError(f"{folder}: has more codes than the {K} × {V} of '{codec}'. Give the codec that it has.")
    return ids


def _spelling(folder: Path, form: Format, vocabulary: Vocabulary, card: Task) -> dict[str, list[list[int]]]:
    before, between = form.prompt(folder)
    rows = {"<text>": before, "condition </text>": between, "</audio>": ids_of_tokens(folder, form.end)}
    if max(id for ids in rows.values() for id in ids) >= vocabulary.text_size:
        raise CheckpointError(f"{folder}: tokens of its prompt come after its codes, where unitok looks for no text.")
    nothing = ("<bos>", f"<task:{card.name}>", "<eos>", "<audio>", "condition </audio>")
    spelled = {name: [[token] for token in vocabulary.text_to_tokens(ids)] for name, ids in rows.items()}
    return {**{name: [] for name in nothing}, **spelled}


@torch.no_grad()
def _take(lm: UnitokLM, vocabulary: Vocabulary, weights: Weights, codes: Tensor, n_ids: int) -> None:
    D, text = lm.config.transformer.d_model, vocabulary.ids_of("text")
    rows = weights.take("model.embed_tokens.weight", (n_ids, D)).float()
    head = weights.take("lm_head.weight", (n_ids, D)).float() if "lm_head.weight" in weights else rows
    table = lm.embedding.weight
    table.zero_()  # ids of markers stand nowhere
    table[text] = rows[: len(text)]
    for k, of_codebook in enumerate(codes):
        table[vocabulary.ids_of(f"audio.{k}")] = rows[of_codebook]
    if lm.head is not None:
        lm.head.weight.copy_(torch.cat([head[: len(text)], head[codes[0]]]))
    assert lm.slot_heads is not None
    for slot_head, of_codebook in zip(lm.slot_heads, codes[1:], strict=True):
        slot_head.weight.copy_(rows[of_codebook] if lm.head is None else head[of_codebook])  # type: ignore[union-attr]
    take_blocks(lm.transformer, weights)
