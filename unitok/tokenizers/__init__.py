"""Audio to codec codes, text to ids, and both back. The cards are in `tokenizers/` at the top of the checkout."""

from unitok.tokenizers.base import (
    AudioTokenizer,
    EncodedAudio,
    TextTokenizer,
    load_audio_tokenizer,
    load_text_tokenizer,
    register_tokenizer,
    save_tokenizer,
)

__all__ = [
    "AudioTokenizer",
    "EncodedAudio",
    "TextTokenizer",
    "load_audio_tokenizer",
    "load_text_tokenizer",
    "register_tokenizer",
    "save_tokenizer",
]
