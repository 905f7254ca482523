"""Copies weights of transformers' models into unitok's, for the parity tests."""

import torch
from torch import nn

from unitok.model.config import RopeScaling, TransformerConfig
from unitok.model.lm import UnitokLM
from unitok.model.transformer import Transformer
from unitok.vocabulary import Vocabulary


def config_of(theirs) -> TransformerConfig:
    """Return our config of a Llama-like config of transformers."""
    rope = theirs.rope_parameters
    scaling = (
        RopeScaling(
            rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
        )
        if rope["rope_type"] == "llama3"
        else None
    )
    return TransformerConfig(
        n_layers=theirs.num_hidden_layers,
        d_model=theirs.hidden_size,
        n_heads=theirs.num_attention_heads,
        n_kv_heads=theirs.num_key_value_heads,
        d_ff=theirs.intermediate_size,
        head_dim=getattr(theirs, "head_dim", None),
        rope_theta=rope["rope_theta"],
        rope_scaling=scaling,
        qk_norm=theirs.model_type == "qwen3",
        qkv_bias=theirs.model_type == "qwen2",
        norm_eps=theirs.rms_norm_eps,
    )


@torch.no_grad()
def copy_transformer(theirs: nn.Module, ours: Transformer) -> None:
    """Copy layers and last norm; every one of our weights is written."""
    renamed = {"self_attn": "attention", "mlp": "feed_forward", "input_layernorm": "attention_norm"}
    renamed["post_attention_layernorm"] = "feed_forward_norm"
    weights = {}
    for name, weight in theirs.state_dict().items():
        first, *rest = name.split(".")
        if first == "layers":
            weights[".".join(["blocks", *(renamed.get(part, part) for part in rest)])] = weight
        elif first == "norm":
            weights[name] = weight
    ours.load_state_dict(weights, strict=True)


@torch.no_grad()
def copy_csm(theirs: nn.Module, ours: UnitokLM, vocabulary: Vocabulary) -> None:
    """Copy CSM: backbone -> global stage, depth decoder -> local stage, its head -> head of codebook 0."""
    assert ours.local is not None
    copy_transformer(theirs.backbone_model, ours.transformer)
    copy_transformer(theirs.depth_decoder.model, ours.local.transformer)
    ours.local.projection.weight.copy_(theirs.depth_decoder.model.inputs_embeds_projector.weight)
    for head, weight in zip(ours.local.heads, theirs.depth_decoder.codebooks_head.weight, strict=True):
        head.weight.copy_(weight.T)
    ours.embedding.weight[vocabulary.ids_of("text")] = theirs.embed_text_tokens.weight
    table = theirs.backbone_model.embed_tokens.embed_audio_tokens.weight
    for k, rows in enumerate(table.chunk(vocabulary.n_codebooks)):
        ours.embedding.weight[vocabulary.ids_of(f"audio.{k}")] = rows
    ours.head.weight[torch.searchsorted(ours.slot0_ids, vocabulary.ids_of("audio.0"))] = theirs.lm_head.weight
