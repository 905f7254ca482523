"""Audio to codec codes, text to ids, and both back; audio to semantic ids. The cards are in `tokenizers/`."""

from unitok.tokenizers.base import (
    AudioTokenizer,
    EncodedAudio,
    SemanticTokenizer,
    TextTokenizer,
    load_audio_tokenizer,
    load_semantic_tokenizer,
    load_text_tokenizer,
    register_tokenizer,
    save_tokenizer,
)

__all__ = [
    "AudioTokenizer",
    "EncodedAudio",
    "SemanticTokenizer",
    "TextTokenizer",
    "load_audio_tokenizer",
    "load_semantic_tokenizer",
    "load_text_tokenizer",
    "register_tokenizer",
    "save_tokenizer",
]
