"""Encoders whose states are conditions: of text (T5, CLAP), of audio (HuBERT, Whisper, a Conformer and others)."""

from unitok.features.base import FeatureEncoder, load_feature_encoder, save_feature_encoder

__all__ = ["FeatureEncoder", "load_feature_encoder", "save_feature_encoder"]
