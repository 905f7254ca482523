"""Sesame's CSM in transformers' format (`CsmForConditionalGeneration`): the pattern `multiscale`, all codebooks AR.

    slot 0    <|begin_of_text|> [ 0 ]Hi ! <|end_of_text|>  a0  a1 … 0        text: its ids; a frame: K codes of Mimi,
    slot k    ·                 · ·  ·  · ·                b0  b1 … 0        the last one all `codebook_eos_token_id`

A voice is a number in brackets before each text. A turn that was spoken before (`prompt_text`, `prompt`) comes first.

Source: https://github.com/SesameAILabs/csm, `CsmForConditionalGeneration` and `CsmProcessor` of transformers 5.
Letters: D width, K codebooks, V codes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unitok.checkpoint import Checkpoint
from unitok.convert.files import Source, Weights, open_weights, weights_name
from unitok.convert.text_models import blocks_config, refuse_left, take_blocks
from unitok.convert.tokenizer_files import added_around, text_tokenizer
from unitok.errors import CheckpointError, TokenizerError
from unitok.model.config import LMConfig
from unitok.model.lm import UnitokLM
from unitok.model.transformer import Transformer
from unitok.tasks import Task
from unitok.tokenizers import AudioTokenizer, load_audio_tokenizer
from unitok.vocabulary import Vocabulary

__all__ = ["read", "recognizes"]

ARCHITECTURE = "CsmForConditionalGeneration"
CODEC_PREFIX, CODEC_CARD = "codec_model.", "mimi_24khz"
DEFAULT_ROPE_THETA = 500000.0
CARD = {
    "name": "tts",
    "description": "Speak a text in a voice, 0 to 9, or as in a turn that was spoken before.",
    "source": "https://github.com/SesameAILabs/csm",
    "conditions": [
        {"name": "prompt_text", "kind": "text", "optional": True, "form": "[{voice}]{prompt_text}"},
        {"name": "prompt", "kind": "audio", "optional": True},
        {"name": "voice", "kind": "label", "optional": True, "default": "0", "field": "speaker"},
        {"name": "text", "kind": "text", "form": "[{voice}]{text}"},
    ],
    "targets": [{"name": "speech", "kind": "audio", "field": "audio"}],
    "generate": {"temperature": 0.9, "top_k": 50, "max_seconds": 60.0},
    "example": {"text": "Hello from Sesame."},
}


def recognizes(config: Mapping[str, Any]) -> bool:
    """Say whether a `config.json` is of such a model."""
    return ARCHITECTURE in (config.get("architectures") or [])


def read(source: Source, audio_tokenizer: AudioTokenizer | None = None) -> Checkpoint:
    """Return the model of a folder; its codec is in it, unless another one is given.

    Raises:
        CheckpointError: If unitok computes something else, or files do not belong together.
        TokenizerError: If the codec is another one.
    """
    folder, config = source.folder, source.config
    depth = config.get("depth_decoder_config") or {}
    card = Task.from_card(CARD)
    with open_weights(folder, weights_name(config)) as weights:
        codec = _codec(source, weights, audio_tokenizer)
        try:
            K, n_codes, text_size = (config[key] for key in ("num_codebooks", "vocab_size", "text_vocab_size"))
            end = config["codebook_eos_token_id"]
        except KeyError as error:
            raise CheckpointError(f"{folder}: config.json has no {error}.") from error
        codec.set_codebooks(K)
        V = codec.codebook_size
        trained = (config.get("codec_config") or {}).get("codebook_size", V)
        if trained != V or n_codes < V or not 0 <= end < V:
            raise TokenizerError(
                f"'{codec.name}' has {V} codes in a codebook, the model was trained with {trained}, says {n_codes} and "
                f"ends with code {end}. Give the codec that it was trained with."
            )
        vocabulary = Vocabulary.create([card.name], [], text_size, [V] * K, spare=0)
        settings = LMConfig(
            transformer=blocks_config(config, default_rope_theta=DEFAULT_ROPE_THETA),
            local=blocks_config(depth, default_rope_theta=DEFAULT_ROPE_THETA),
            ar_codebooks=K,
            slot0_blocks=("audio.0",),
            spelling=_spelling(folder, vocabulary, card, end),
        )
        lm = UnitokLM(settings, vocabulary)
        _take(lm, vocabulary, weights, n_codes)
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


def _spelling(folder: Path, vocabulary: Vocabulary, card: Task, end: int) -> dict[str, list[list[int]]]:
    before, after = added_around(folder)
    return {
        **{name: [] for name in ("<bos>", f"<task:{card.name}>", "<eos>", "<audio>")},
        "<text>": [[token] for token in vocabulary.text_to_tokens(before)],
        "condition </text>": [[token] for token in vocabulary.text_to_tokens(after)],
        "</audio>": [[int(vocabulary.ids_of(f"audio.{k}")[end]) for k in range(vocabulary.n_codebooks)]],
    }


def _codec(source: Source, weights: Weights, given: AudioTokenizer | None) -> AudioTokenizer:
    state = weights.below(CODEC_PREFIX)
    if given is not None:
        return given
    if not state or not source.config.get("codec_config"):
        return load_audio_tokenizer(CODEC_CARD)
    from safetensors.torch import save_file

    from unitok.tokenizers.transformers_codec import TransformersCodec

    described = dict(source.config["codec_config"])
    card = {"kind": "transformers_codec", "name": f"{described.get('model_type')}_of_{source.name}", "model": "."}
    card["source"] = f"comes with {source.name}"
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "config.json").write_text(json.dumps(described), encoding="utf-8")
        save_file(state, Path(scratch) / "model.safetensors", metadata={"format": "pt"})
        return TransformersCodec.from_card(card, Path(scratch))


@torch.no_grad()
def _take(lm: UnitokLM, vocabulary: Vocabulary, weights: Weights, n_codes: int) -> None:
    assert lm.local is not None
    assert lm.head is not None
    assert isinstance(lm.local.transformer, Transformer)
    K, D, D_local = vocabulary.n_codebooks, lm.config.transformer.d_model, lm.local.transformer.config.d_model
    V = vocabulary.size_of("audio.0")
    table = lm.embedding.weight
    table.zero_()  # ids of markers stand nowhere
    table[vocabulary.ids_of("text")] = weights.take("embed_text_tokens.weight", (vocabulary.text_size, D)).float()
    for k, rows in enumerate(_frame_embeddings(weights, K * n_codes, D).chunk(K)):
        table[vocabulary.ids_of(f"audio.{k}")] = rows[:V].float()
    lm.head.weight.copy_(weights.take("lm_head.weight", (n_codes, D))[:V])
    take_blocks(lm.transformer, weights, "backbone_model.")
    take_blocks(lm.local.transformer, weights, "depth_decoder.model.")
    lm.local.projection.weight.copy_(weights.take("depth_decoder.model.inputs_embeds_projector.weight", (D_local, D)))
    heads: Tensor = weights.take("depth_decoder.codebooks_head.weight", (K - 1, D_local, n_codes))
    for head, weight in zip(lm.local.heads, heads, strict=True):
        head.weight.copy_(weight.T[:V])  # type: ignore[operator,union-attr]


def _frame_embeddings(weights: Weights, n: int, D: int) -> Tensor:
    """Return the embeddings of codes, which backbone and depth decoder share; a file holds them once or twice."""
    names = ("backbone_model.embed_tokens.embed_audio_tokens.weight", "depth_decoder.model.embed_tokens.weight")
    tables = [weights.take(name, (n, D)) for name in names if name in weights]
    if not tables:
        tables = [weights.take(names[0], (n, D))]
    if len(tables) == 2 and not torch.equal(*tables):
        raise CheckpointError("its backbone and its depth decoder embed codes differently; unitok shares them.")
    return tables[0]
