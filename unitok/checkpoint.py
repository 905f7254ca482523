"""Checkpoints: a model and everything it needs, in one folder that can be copied, read and versioned. Never pickles.

    mini/
      config.yaml          format, name, sizes of the model, hash of the vocabulary, fingerprints of the tokenizers
      vocabulary.json      what every id means
      model.safetensors    the weights; float32, or bfloat16, float16 or int8 to save space
      tokenizers/text/     the text tokenizer
      tokenizers/audio/    the codec
      tokenizers/semantic/ the semantic tokenizer, where the model has one
      lexicons/LANG.tsv.xz how words are said, where cards mark conditions as pronounced
      words/LANG.tsv.xz    how likely words are, for texts that are searched for
      features/NAME/       encoders of features, where the model has any
      tasks/*.yaml         the cards the model was trained with
      README.md            the model card

Importing this module imports no torch, so that the command line can look into a checkpoint's tasks at once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unitok.cards import read_card
from unitok.errors import CardError, CheckpointError, UnitokError, VocabularyMismatchError, suggest
from unitok.files import written_whole
from unitok.tasks import Task

if TYPE_CHECKING:
    import torch

    from unitok.features import FeatureEncoder
    from unitok.model.lm import UnitokLM
    from unitok.tokenizers.base import AudioTokenizer, SemanticTokenizer, TextTokenizer
    from unitok.tokenizers.lexicon import Lexicon
    from unitok.tokenizers.word_model import WordModel
    from unitok.vocabulary import Vocabulary

__all__ = [
    "Checkpoint",
    "find_checkpoint",
    "is_checkpoint",
    "load_checkpoint",
    "read_tasks",
    "save_checkpoint",
    "shipped_checkpoints",
    "write_tasks",
]

T = TypeVar("T")

FORMAT = 1
CONFIG, VOCABULARY, WEIGHTS, README = "config.yaml", "vocabulary.json", "model.safetensors", "README.md"
ADAPTER = "adapter.yaml"
TEXT, AUDIO, SEMANTIC = "tokenizers/text", "tokenizers/audio", "tokenizers/semantic"
TASKS, FEATURES, LEXICONS, WORDS = "tasks", "features", "lexicons", "words"
IN_RUN = "model"
"""Where `unitok fit` leaves the model, in the folder of its run, which has a `config.yaml` of its own."""
REQUIRED = (CONFIG, VOCABULARY, WEIGHTS, TEXT, AUDIO, TASKS)
REMEDY = "copy or export the checkpoint again"
WEIGHT_TYPES = ("float32", "bfloat16", "float16", "int8", "int4")
WHOLE_NUMBERS = ("int8", "int4")
"""Types in which weights stay when they are loaded (`unitok.model.compact`)."""
SHIPPED = Path(__file__).resolve().parent / "checkpoints"


@dataclass(frozen=True)
class Checkpoint:
    """The parts of a model, as they are in memory."""

    lm: UnitokLM
    """The language model."""
    vocabulary: Vocabulary
    """What its ids mean."""
    text_tokenizer: TextTokenizer
    """Text to ids and back."""
    audio_tokenizer: AudioTokenizer
    """Audio to codes and back."""
    tasks: Mapping[str, Task]
    """The tasks it was trained with, by name."""
    name: str = "model"
    """Shown to people."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Anything else worth keeping: steps, data, figures. Plain values."""
    semantic_tokenizer: SemanticTokenizer | None = None
    """Audio to semantic tokens, where the model has any."""
    lexicons: Mapping[str, Lexicon] = field(default_factory=dict)
    """How words are said, by language."""
    words: Mapping[str, WordModel] = field(default_factory=dict)
    """How likely words are, by language."""

    @property
    def tokenizers(self) -> dict[str, AudioTokenizer | SemanticTokenizer | TextTokenizer]:
        """All tokenizers by the names of their folders."""
        semantic = {} if self.semantic_tokenizer is None else {"semantic": self.semantic_tokenizer}
        return {"text": self.text_tokenizer, "audio": self.audio_tokenizer, **semantic}

    @property
    def encoders(self) -> dict[str, FeatureEncoder]:
        """Encoders of features that are attached to the model, by the names that cards use."""
        inputs: Any = self.lm.feature_inputs
        return {name: part.attached for name, part in inputs.items() if part.attached is not None}


def shipped_checkpoints() -> dict[str, Path]:
    """Return the checkpoints that come with unitok, name -> folder."""
    return {path.parent.name: path.parent for path in sorted(SHIPPED.glob(f"*/{CONFIG}"))}


def find_checkpoint(name_or_path: str | Path) -> Path:
    """Return the folder of a checkpoint given by its path, or by its name if it comes with unitok.

    Raises:
        CheckpointError: If there is no such folder, or it is no checkpoint.
    """
    shipped = shipped_checkpoints()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    folder = Path(name_or_path).expanduser()
    if not folder.is_dir():
        raise CheckpointError(
            f"there is no checkpoint '{name_or_path}'.{suggest(str(name_or_path), shipped)} Give a checkpoint folder, "
            f"or one of those that come with unitok: {', '.join(shipped) or 'none in this installation'}."
        )
    if is_checkpoint(folder / IN_RUN) and not (folder / VOCABULARY).is_file():
        raise CheckpointError(f"'{folder}' is the folder of a run. Its model is in it: '{folder / IN_RUN}'.")
    if not is_checkpoint(folder):
        raise CheckpointError(
            f"'{folder}' is no model: it has neither the {CONFIG} of a checkpoint nor the {ADAPTER} of an adapter."
        )
    return folder


def is_checkpoint(folder: Path) -> bool:
    """Is there a checkpoint, or an adapter?"""
    return (folder / CONFIG).is_file() or (folder / ADAPTER).is_file()


def read_tasks(folder: str | Path) -> dict[str, Task]:
    """Return the tasks that a checkpoint was trained with, by name, without loading the model.

    Raises:
        CheckpointError: If the folder holds no task, or a card is damaged.
    """
    cards = sorted(Path(folder, TASKS).glob("*.yaml"))
    if not cards:
        raise CheckpointError(
            f"{Path(folder, TASKS)} holds no task cards. The checkpoint is incomplete: copy it again."
        )
    try:
        tasks = [Task.from_card(read_card(card), card) for card in cards]
    except CardError as error:
        raise CheckpointError(str(error)) from error
    return {task.name: task for task in tasks}


def write_tasks(folder: Path, tasks: Mapping[str, Task]) -> None:
    """Write the cards that `read_tasks` reads."""
    import yaml

    folder.mkdir()
    for task in tasks.values():
        card = yaml.safe_dump(task.to_card(), sort_keys=False, allow_unicode=True)
        (folder / f"{task.name}.yaml").write_text(card, encoding="utf-8")


def save_checkpoint(
    folder: str | Path, checkpoint: Checkpoint, *, dtype: str | None = None, readme: str | None = None
) -> Path:
    """Write a checkpoint folder. It appears whole or not at all; an older checkpoint of that name is replaced.

    Args:
        folder: Where to.
        checkpoint: The parts.
        dtype: How weights are stored: `float32`, `bfloat16` or `float16`, which are float32 again when loaded; or
            `int8` and `int4`, of linear layers, which they stay (`unitok.model.compact`). Default: `int8` or `int4`
            where the model has them so already, else `float32`.
        readme: The model card (Markdown); default: one that states what is known from the parts.

    Returns:
        The folder.

    Raises:
        CheckpointError: If `dtype` is unknown, or the weights have fewer bits.
        UnitokError: If the folder exists and is no checkpoint.
        VocabularyMismatchError: If the model was made for another vocabulary.
    """
    folder = Path(folder)
    dtype = _stored_as(checkpoint.lm, dtype)
    rows, size = checkpoint.lm.embedding.num_embeddings, checkpoint.vocabulary.size
    if rows != size:
        raise VocabularyMismatchError(
            f"the model embeds {rows} ids, its vocabulary has {size}: they do not belong together."
        )
    with written_whole(folder, CONFIG) as partial:
        _write(partial, checkpoint, dtype, readme)
    return folder


def load_checkpoint(name_or_path: str | Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint folder, or an adapter folder and its model; weights that are no whole numbers become float32.

    Args:
        name_or_path: A folder, or the name of a checkpoint that comes with unitok.
        device: Where the language model and the codec go.

    Raises:
        CheckpointError: If a file is missing, damaged, or does not fit the others; the message names it.
        VocabularyMismatchError: If the weights were trained with another vocabulary; the message names the block.
    """
    from unitok.tokenizers import load_audio_tokenizer, load_semantic_tokenizer, load_text_tokenizer
    from unitok.tokenizers.lexicon import Lexicon
    from unitok.tokenizers.word_model import WordModel
    from unitok.vocabulary import Vocabulary

    folder = find_checkpoint(name_or_path)
    if (folder / ADAPTER).is_file():
        from unitok.adapters import load_adapter

        return load_adapter(folder, device)
    for name in REQUIRED:
        if not (folder / name).exists():
            raise CheckpointError(f"{folder / name} is missing. The checkpoint is incomplete: {REMEDY}.")
    config = _read_config(folder / CONFIG)
    vocabulary = Vocabulary.load(folder / VOCABULARY)
    lm = _load_lm(folder, config, vocabulary)
    _attach_encoders(lm, folder, config)
    tokenizers: dict[str, Any] = {}
    for part, load in (
        (TEXT, load_text_tokenizer),
        (AUDIO, lambda path: load_audio_tokenizer(path, device)),
        (SEMANTIC, lambda path: load_semantic_tokenizer(path, device)),
    ):
        if part == SEMANTIC and "semantic" not in config["tokenizers"]:
            continue
        try:
            tokenizers[part] = load(folder / part)
        except (UnitokError, OSError, ValueError) as error:
            raise CheckpointError(f"{folder / part}: cannot be loaded: {error}") from error
        _check_fingerprint(folder / part, tokenizers[part], config["tokenizers"][Path(part).name])
    if tokenizers[AUDIO].n_codebooks != vocabulary.n_codebooks:
        tokenizers[AUDIO].set_codebooks(vocabulary.n_codebooks)
    return Checkpoint(
        lm=lm.to(device).eval(),
        vocabulary=vocabulary,
        text_tokenizer=tokenizers[TEXT],
        audio_tokenizer=tokenizers[AUDIO],
        semantic_tokenizer=tokenizers.get(SEMANTIC),
        lexicons=_load_by_language(folder / LEXICONS, config.get("lexicons") or {}, Lexicon.load),
        words=_load_by_language(folder / WORDS, config.get("words") or {}, WordModel.load),
        tasks=read_tasks(folder),
        name=str(config.get("name", folder.name)),
        notes=config.get("notes") or {},
    )


def _stored_as(lm: UnitokLM, dtype: str | None) -> str:
    """Return the type that weights are stored as, asked for or not."""
    from unitok.model.compact import weight_type

    now = weight_type(lm)
    if dtype is None:
        return now if now in WHOLE_NUMBERS else "float32"
    if dtype not in WEIGHT_TYPES:
        raise CheckpointError(f"dtype is '{dtype}', allowed: {', '.join(WEIGHT_TYPES)}.{suggest(dtype, WEIGHT_TYPES)}")
    if now in WHOLE_NUMBERS and dtype != now:
        raise CheckpointError(
            f"the weights are {now} already and cannot be stored as {dtype}. Leave dtype out to store them as they "
            "are, or load the model with float32 weights."
        )
    return dtype


def _write(folder: Path, checkpoint: Checkpoint, dtype: str, readme: str | None) -> None:
    import yaml

    from unitok import __version__
    from unitok.features import save_feature_encoder
    from unitok.tokenizers import save_tokenizer

    vocabulary, encoders, tokenizers = checkpoint.vocabulary, checkpoint.encoders, checkpoint.tokenizers
    by_language = {LEXICONS: checkpoint.lexicons, WORDS: checkpoint.words}
    config = {
        "format": FORMAT,
        "unitok_version": __version__,
        "name": checkpoint.name,
        "model": checkpoint.lm.config.to_dict(),
        **({"weights": dtype} if dtype in WHOLE_NUMBERS else {}),
        "vocabulary": vocabulary.hash,
        "tokenizers": {
            part: {"name": tokenizer.name, "fingerprint": tokenizer.fingerprint}
            for part, tokenizer in tokenizers.items()
        },
        **{key: {lang: one.fingerprint for lang, one in part.items()} for key, part in by_language.items() if part},
        **({"features": {name: encoder.fingerprint for name, encoder in encoders.items()}} if encoders else {}),
        "notes": dict(checkpoint.notes),
    }
    (folder / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    vocabulary.save(folder / VOCABULARY)
    _save_weights(folder, checkpoint.lm, dtype)
    for part, tokenizer in tokenizers.items():
        save_tokenizer(tokenizer, folder / "tokenizers" / part)
    for name, part in by_language.items():
        for lang, one in part.items():
            one.save(folder / name / f"{lang}.tsv.xz")
    for name, encoder in encoders.items():
        save_feature_encoder(encoder, folder / FEATURES / name)
    write_tasks(folder / TASKS, checkpoint.tasks)
    (folder / README).write_text(readme or _model_card(checkpoint), encoding="utf-8")


def _save_weights(folder: Path, lm: UnitokLM, dtype: str) -> None:
    import copy

    import torch
    from safetensors.torch import save_file

    from unitok.model.compact import compact

    if dtype in WHOLE_NUMBERS:
        lm = copy.deepcopy(lm)
        compact(lm, dtype)
        dtype = "float32"
    kept: dict[int, str] = {}
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in lm.state_dict().items():
        if ".encoder." in name:  # in its own folder
            continue
        # A tied weight appears under two names; safetensors stores it once.
        if kept.setdefault(tensor.data_ptr(), name) == name:
            stored = tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor
            weights[name] = stored.detach().cpu().contiguous()
    # The weights carry their vocabulary, so that a swapped vocabulary.json cannot go unnoticed.
    metadata = {"format": "pt", "vocabulary": (folder / VOCABULARY).read_text(encoding="utf-8")}
    save_file(weights, folder / WEIGHTS, metadata=metadata)


def _load_lm(folder: Path, config: Mapping[str, Any], vocabulary: Vocabulary) -> UnitokLM:
    from safetensors import SafetensorError, safe_open

    from unitok.model.compact import compact
    from unitok.model.config import LMConfig
    from unitok.model.lm import UnitokLM

    path = folder / WEIGHTS
    try:
        with safe_open(path, framework="pt") as file:
            _check_vocabulary(folder, vocabulary, (file.metadata() or {}).get("vocabulary"))
            weights = {name: file.get_tensor(name) for name in list(file.keys())}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}. {REMEDY.capitalize()}.") from error
    try:
        lm = UnitokLM(LMConfig.from_dict(config["model"]), vocabulary)
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder / CONFIG}: 'model' does not describe a model: {error}") from error
    compact(lm, config.get("weights", "float32"))
    _load_weights(lm, weights, path)
    return lm


def _attach_encoders(lm: UnitokLM, folder: Path, config: Mapping[str, Any]) -> None:
    """Load the encoders that the checkpoint was written with."""
    from unitok.features import load_feature_encoder

    for name, stored in (config.get("features") or {}).items():
        path = folder / FEATURES / name
        try:
            encoder = load_feature_encoder(path)
        except (UnitokError, OSError, ValueError) as error:
            raise CheckpointError(f"{path}: cannot be loaded: {error}") from error
        _check_fingerprint(path, encoder, {"fingerprint": stored})
        lm.feature_inputs[name].attach(encoder)  # type: ignore[operator,union-attr]


def _load_by_language(folder: Path, fingerprints: Mapping[str, str], load: Callable[[Path], T]) -> dict[str, T]:
    """Load the lexicons, or the word models, that the checkpoint was written with."""
    loaded: dict[str, T] = {}
    for lang, stored in fingerprints.items():
        path = next(folder.glob(f"{lang}.tsv*"), folder / f"{lang}.tsv.xz")
        try:
            loaded[lang] = load(path)
        except UnitokError as error:
            raise CheckpointError(f"{path}: cannot be loaded: {error}") from error
        _check_fingerprint(path, loaded[lang], {"fingerprint": stored})
    return loaded


def _load_weights(lm: UnitokLM, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    own = lm.state_dict()
    stored_at = {own[name].data_ptr() for name in weights if name in own}
    missing = [name for name, tensor in own.items() if tensor.data_ptr() not in stored_at]
    problem = None
    for name, tensor in weights.items():
        if name not in own:
            problem = f"holds '{name}', which the model of {CONFIG} does not have"
        elif own[name].shape != tensor.shape:
            problem = f"'{name}' has shape {list(tensor.shape)}, {CONFIG} makes it {list(own[name].shape)}"
    if missing:
        problem = f"'{missing[0]}' is missing"
    if problem:
        raise CheckpointError(f"{path}: {problem}. The files of the folder do not belong together: {REMEDY}.")
    lm.load_state_dict(weights, strict=False)


def _check_vocabulary(folder: Path, vocabulary: Vocabulary, trained_with: str | None) -> None:
    """Make sure that `vocabulary.json` is the one in the weights' metadata."""
    from unitok.vocabulary import Vocabulary

    if trained_with is None:
        raise CheckpointError(f"{folder / WEIGHTS} carries no vocabulary; it was not written by unitok.")
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, VOCABULARY).write_text(trained_with, encoding="utf-8")
        original = Vocabulary.load(Path(scratch, VOCABULARY))
    try:
        vocabulary.check_same(original, what="weights")
    except VocabularyMismatchError as error:
        raise VocabularyMismatchError(f"{folder / VOCABULARY}: {error}") from error


def _check_fingerprint(path: Path, tokenizer: Any, stored: Mapping[str, str]) -> None:
    if tokenizer.fingerprint != stored["fingerprint"]:
        what = {FEATURES: "encoder", LEXICONS: "lexicon", WORDS: "word model"}.get(path.parent.name, "tokenizer")
        raise CheckpointError(
            f"{path}: is another {what} than the model was trained with (its fingerprint is "
            f"{tokenizer.fingerprint}, trained with {stored['fingerprint']}). {REMEDY.capitalize()}."
        )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = read_card(path)
    except CardError as error:
        raise CheckpointError(str(error)) from error
    if config.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: checkpoint format is {config.get('format')}, this unitok reads format {FORMAT}. "
            f"Update unitok, or {REMEDY}."
        )
    for key in ("model", "tokenizers"):
        if not isinstance(config.get(key), dict):
            raise CheckpointError(f"{path}: '{key}' is missing. The file is damaged: {REMEDY}.")
    for part in ("text", "audio"):
        if "fingerprint" not in (config["tokenizers"].get(part) or {}):
            raise CheckpointError(f"{path}: 'tokenizers.{part}.fingerprint' is missing. The file is damaged: {REMEDY}.")
    return config


def _model_card(checkpoint: Checkpoint) -> str:
    """Return a model card that states what the parts tell, and what nobody has stated yet."""
    lm, audio, semantic = checkpoint.lm, checkpoint.audio_tokenizer, checkpoint.semantic_tokenizer
    n_parameters = sum(parameter.numel() for parameter in lm.parameters())
    return "\n".join(
        [
            f"# {checkpoint.name}",
            "",
            f"A unitok language model of {n_parameters / 1e6:.1f} million parameters.",
            "",
            f"- Codec: `{audio.name}`, {audio.sample_rate_hz} Hz, {audio.frame_rate_hz:g} frames/s, "
            f"{audio.n_codebooks} codebooks, {_order(lm)}.",
            f"- Text: `{checkpoint.text_tokenizer.name}`, {checkpoint.text_tokenizer.size} ids.",
            *(
                []
                if semantic is None
                else [f"- Semantic tokens: `{semantic.name}`, {semantic.size} ids, {_rate(semantic)}."]
            ),
            f"- Languages: {_listed(checkpoint.vocabulary.lang_names)}.",
            f"- Tasks: {_listed(checkpoint.tasks)}.",
            *(f"- {key}: {value}" for key, value in checkpoint.notes.items()),
            "",
            "What it was trained on, how well it does and where it fails: not stated by whoever exported it.",
            "",
        ]
    )


def _rate(semantic: SemanticTokenizer) -> str:
    return f"{semantic.frame_rate_hz:g} frames/s" + (", de-duplicated" if semantic.deduplicate else "")


def _order(lm: UnitokLM) -> str:
    if lm.slot_heads is not None:
        return f"pattern `{lm.pattern.name}`"
    return f"of which {lm.n_coarse} are generated autoregressively"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"
