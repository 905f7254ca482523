"""Released language models of speech as checkpoints that generate what they generate in transformers.

Which formats there are: `csm.py` (frames of codes, a depth decoder) and `flattened.py` (codes as ids of a text model).
Their text ids, codes and weights stay; how they spell markers and prompts goes into the model's settings
(`LMConfig.spelling`) and the task's card (`form`), so that nothing else of unitok knows them.
"""

from __future__ import annotations

from pathlib import Path

from unitok.checkpoint import Checkpoint
from unitok.convert import csm, flattened
from unitok.convert.files import Source, find_folder, license_of, read_config
from unitok.errors import CheckpointError
from unitok.tokenizers import AudioTokenizer

__all__ = ["init_from_speech_model", "is_speech_model"]

KNOWN_LICENSES = {
    "sesame/csm-1b": "apache-2.0",
    "canopylabs/orpheus-3b-0.1-ft": "apache-2.0; it was begun from Llama 3.2, whose community license applies",
    "canopylabs/orpheus-3b-0.1-pretrained": "apache-2.0; it was begun from Llama 3.2, whose community license applies",
    "hkustaudio/llasa-1b": "cc-by-nc-4.0",
    "hkustaudio/llasa-3b": "cc-by-nc-4.0",
    "hkustaudio/llasa-8b": "cc-by-nc-4.0",
}
"""What the pages of models said in 2025, for copies without their README.md."""


def is_speech_model(folder: Path) -> bool:
    """Say whether a folder in transformers' format holds a model that speaks already.

    Raises:
        CheckpointError: If it has no config.
    """
    return csm.recognizes(read_config(folder)) or flattened.find_format(folder) is not None


def init_from_speech_model(source: str | Path, audio_tokenizer: AudioTokenizer | None = None) -> Checkpoint:
    """Return a released speech model as a checkpoint.

    Args:
        source: Folder in transformers' format, or a name on the hub.
        audio_tokenizer: Its codec; None takes the one that comes with it, or the card of the one it was trained with.

    Raises:
        CheckpointError: If it is no such model, or one that unitok does not compute: what is different.
        MissingWeightsError: If it, or its codec, is not there.
        TokenizerError: If the codec is another one.
    """
    folder = find_folder(source)
    config = read_config(folder)
    name = str(source) if not Path(source).expanduser().is_dir() else str(config.get("_name_or_path") or folder.name)
    notes = {"begun from": name, "its licence": _license(folder, name)}
    parts = Source(folder, config, Path(source).name or folder.resolve().name, notes)
    if csm.recognizes(config):
        return csm.read(parts, audio_tokenizer)
    form = flattened.find_format(folder)
    if form is None:
        raise CheckpointError(f"'{folder}' holds no speech model that unitok knows: CSM, Llasa or Orpheus.")
    return flattened.read(parts, form, audio_tokenizer)


def _license(folder: Path, name: str) -> str:
    stated, known = license_of(folder), KNOWN_LICENSES.get(name.lower())
    return f"{stated}; as known: {known}" if known and stated.startswith("not stated") else stated
