"""Model configs refuse what cannot work, in words that say what to change, and survive a trip through plain values."""

import pytest
import yaml
from toy_batches import VOCABULARY, K, toy_config

from unitok.model.config import LMConfig, RopeScaling, TransformerConfig
from unitok.model.lm import UnitokLM


def stack(**changes) -> TransformerConfig:
    return TransformerConfig(**({"n_layers": 1, "d_model": 12, "n_heads": 2, "d_ff": 20} | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 5}, "d_model=12 is not divisible by n_heads=5: change one of them or set head_dim"),
        ({"n_heads": 4}, "a head is 3 wide, rotary positions need an even width"),
        ({"n_heads": 6, "n_kv_heads": 4}, "n_heads=6 is not divisible by n_kv_heads=4"),
        ({"n_layers": 0, "dropout": 1.0}, "n_layers=0 must be 1 or more; dropout=1.0 must be at least 0 and below 1"),
        ({"n_kv_heads": 0}, "n_kv_heads=0 must be 1 or more"),
    ],
)
def test_transformer_sizes_must_fit_each_other(changes, message):
    with pytest.raises(ValueError, match=message):
        stack(**changes)


def test_sizes_left_out_follow_from_the_others():
    config = TransformerConfig(n_layers=1, d_model=96, n_heads=4)
    assert (config.kv_heads, config.head_width, config.ff_width) == (4, 24, 256)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ar_codebooks": 0}, "ar_codebooks=0 must be 1 or more"),
        ({"ar_codebooks": 2}, "ar_codebooks=2 needs a local Transformer: set local, or ar_codebooks=1"),
        ({"local": stack()}, "ar_codebooks=1 has no use for a local Transformer: set local=null"),
        ({"condition_weight": 1.0, "prefix_lm": True}, "a prefix LM sees the conditions"),
        ({"refinement": "mask"}, "refinement='mask', allowed: levels, masked"),
        ({"refinement": "masked"}, "refinement='masked' has no refiner to apply to"),
        ({"embedding_dim": 4}, "embedding_dim=4 is of slot_embeddings 'concat'"),
        ({"slot_embeddings": "concat", "tie_embeddings": True}, "set slot_embeddings='sum'"),
        ({"local_fraction": 0.0}, "local_fraction=0.0 must be above 0 and at most 1"),
        ({"history_sampling": -0.1}, "history_sampling=-0.1 must be at least 0 and at most 1"),
        ({"history_dropout": 1.5}, "history_dropout=1.5 must be at least 0 and at most 1"),
        ({"codebook_weights": (1, -2)}, r"codebook_weights=\[1.0, -2.0\] must not be negative"),
    ],
)
def test_stages_must_fit_the_dial(changes, message):
    with pytest.raises(ValueError, match=message):
        LMConfig(stack(), **changes)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LMConfig(stack(), stack(), ar_codebooks=5), "ar_codebooks=5 is above the vocabulary's K=4 codebooks"),
        (LMConfig(stack(), stack(), ar_codebooks=3), "needs a refiner for the others: set refiner, or ar_codebooks=4"),
        (LMConfig(stack(), stack(), stack(), ar_codebooks=4), "set refiner=null, or lower ar_codebooks"),
        (LMConfig(stack(), refiner=stack(), codebook_weights=(1, 2)), "has 2 numbers, the vocabulary has K=4"),
    ],
)
def test_stages_must_fit_the_vocabulary(config, message):
    with pytest.raises(ValueError, match=message):
        UnitokLM(config, VOCABULARY)


@pytest.mark.parametrize("ar_codebooks", [1, 2, K])
def test_config_survives_yaml(ar_codebooks):
    config = toy_config(ar_codebooks, codebook_weights=(1, 2, 3, 4), tie_embeddings=True)
    config.transformer.rope_scaling = RopeScaling(factor=4.0)
    assert LMConfig.from_dict(yaml.safe_load(yaml.safe_dump(config.to_dict()))) == config


def test_unknown_and_missing_keys_are_named():
    with pytest.raises(ValueError, match="unknown key 'ar_codebook'. Did you mean 'ar_codebooks'"):
        LMConfig.from_dict({"transformer": stack().__dict__, "ar_codebook": 2})
    with pytest.raises(ValueError, match="TransformerConfig: unknown key 'layers'.*key 'n_layers' is missing"):
        LMConfig.from_dict({"transformer": {"layers": 2, "d_model": 8, "n_heads": 2}})
    with pytest.raises(ValueError, match="key 'transformer' is missing"):
        LMConfig.from_dict({})


def test_rope_scaling_needs_two_bounds_in_order():
    with pytest.raises(ValueError, match="high_freq_factor=1.0 must be above low_freq_factor=2.0"):
        RopeScaling(low_freq_factor=2.0, high_freq_factor=1.0)
