"""The same weights give the same logits as in transformers' CSM (text models: test_convert_text_models.py)."""

import pytest
import torch
from parity import config_of, copy_csm

from unitok.model.config import LMConfig
from unitok.model.lm import UnitokLM
from unitok.vocabulary import Vocabulary

transformers = pytest.importorskip("transformers")

TEXT_SIZE, K, CODEBOOK_SIZE = 23, 5, 11
SIZES = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 6, "vocab_size": 23}
SIZES |= {"num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.4, "rms_norm_eps": 1e-6}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3["original_max_position_embeddings"] = 32


def vocabulary() -> Vocabulary:
    return Vocabulary.create(["tts"], ["en"], TEXT_SIZE, [CODEBOOK_SIZE] * K)


def randomized(model: torch.nn.Module) -> torch.nn.Module:
    """Draw biases and norm weights too, which begin at 0 and 1."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.copy_(torch.rand_like(parameter) + 0.5)
    return model.eval()


def csm() -> torch.nn.Module:
    codec = transformers.MimiConfig(
        hidden_size=16, num_filters=2, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=8,
        intermediate_size=16, codebook_size=8, codebook_dim=8, vector_quantization_hidden_dimension=8,
        num_quantizers=2, num_semantic_quantizers=1, upsample_groups=16,
    )  # fmt: skip
    depth = transformers.CsmDepthDecoderConfig(
        num_codebooks=K, vocab_size=CODEBOOK_SIZE, backbone_hidden_size=24, hidden_size=20, intermediate_size=28,
        num_hidden_layers=2, num_attention_heads=5, num_key_value_heads=1, initializer_range=0.4,
        rope_parameters=LLAMA3,
    )  # fmt: skip
    sizes = SIZES | {"vocab_size": CODEBOOK_SIZE, "text_vocab_size": TEXT_SIZE, "num_codebooks": K}
    config = transformers.CsmConfig(
        **sizes, depth_decoder_config=depth.to_dict(), codec_config=codec.to_dict(), rope_parameters=LLAMA3,
        codebook_pad_token_id=10, codebook_eos_token_id=0, audio_token_id=1, audio_eos_token_id=2, pad_token_id=1,
        bos_token_id=0,
    )  # fmt: skip
    return randomized(transformers.CsmForConditionalGeneration(config))


@torch.no_grad()
def test_global_and_local_stage_equal_csm():
    torch.manual_seed(2)
    theirs, words = csm(), vocabulary()
    config = LMConfig(config_of(theirs.config), config_of(theirs.config.depth_decoder_config), ar_codebooks=K)
    ours = UnitokLM(config, words).eval()
    copy_csm(theirs, ours, words)

    B, n_text, T = 2, 6, 7
    text, codes = torch.randint(TEXT_SIZE, (B, n_text)), torch.randint(CODEBOOK_SIZE, (B, T, K))
    embeds = torch.cat([theirs.embed_text_tokens(text), theirs.backbone_model.embed_tokens(codes)], dim=1)
    states = theirs.backbone_model(inputs_embeds=embeds).last_hidden_state
    frames = codes.flatten(0, 1)
    before = states[:, n_text - 1 : -1].flatten(0, 1)  # the state that chose each frame's codebook 0
    shifted = torch.cat([torch.zeros_like(frames[:, :1]), frames[:, :-1]], dim=1)
    depth_logits = theirs.depth_decoder(shifted, backbone_last_hidden_state=before).logits

    tokens = torch.zeros(B, n_text + T, K, dtype=torch.int64)
    tokens[:, :n_text, 0] = words.ids_of("text")[text]
    tokens[:, n_text:] = torch.stack([words.codes_to_tokens(row.T) for row in codes])
    hidden = ours.hidden(tokens)
    torch.testing.assert_close(hidden, states, rtol=1e-4, atol=1e-4)
    logits = ours.slot0_logits(hidden)[..., words.ids_of("audio.0")]
    torch.testing.assert_close(logits, theirs.lm_head(states), rtol=1e-4, atol=1e-4)
    local = ours.local_logits(hidden[:, n_text - 1 : -1].flatten(0, 1), tokens[:, n_text:].flatten(0, 1))
    assert depth_logits.std() > 0.5
    torch.testing.assert_close(torch.stack(local, dim=1), depth_logits, rtol=1e-4, atol=1e-4)
