"""A few items of every procedural corpus, as manifests, and as records of a codec that a tiny model can learn."""

from pathlib import Path

from unitok.cli.main import main
from unitok.cli.synth import CORPORA
from unitok.data.manifest import read_manifest
from unitok.tasks import Task, list_tasks

CODEC = "name: tiny\nkind: toy_audio\nmax_codebooks: 2\ncodebooks: 2\ncodebook_size: 8\nframe_rate_hz: 2\n"
STEREO = "name: tiny_stereo\nkind: stereo\ncodec: tiny\n"
SEEDS = {"styles": 6, "languages": 8, "sounds": 34, "questions": 24, "mixtures": 6}
"""Seeds with which two items have one speaker, as a prompt needs, or a label; and scenes that are short."""
OPTIONS = {"speech": ["--voices", "slt"]}
CORPUS_OF = {task: corpus for corpus, kind in CORPORA.items() for task in kind.tasks.split()}
"""Task -> the corpus that has its fields."""
TEXT_FIELDS = ("text", "caption", "question", "answer", "meaning", "style", "edit", "stereo_caption")


def shipped_tasks(kinds=("features", "semantic")) -> list[Task]:
    """Every task of this repository, but for those that need an encoder or semantic tokens."""
    tasks = map(Task.load, list_tasks())
    return [task for task in tasks if not any(field.kind in kinds for field in task.fields)]


def is_stereo(task: Task) -> bool:
    return any(target.field == "stereo_audio" for target in task.targets)


def write_cards(folder: Path) -> Path:
    """Write the cards of the two codecs, for UNITOK_CARDS."""
    (folder / "tokenizers").mkdir(parents=True)
    (folder / "tokenizers" / "tiny.yaml").write_text(CODEC)
    (folder / "tokenizers" / "tiny_stereo.yaml").write_text(STEREO)
    return folder


def synthesise(folder: Path, corpus: str, n: int = 2, seed: int | None = None) -> Path:
    """Make items of a corpus, and return the manifest."""
    seed = SEEDS.get(corpus, 0) if seed is None else seed
    arguments = ["--utterances", str(n), "--seed", str(seed), *OPTIONS.get(corpus, [])]
    assert main(["synth", "--corpus", corpus, "--out", str(folder / corpus), *arguments]) == 0
    return folder / corpus / "manifest.jsonl"


def encode(manifest: Path, codec: str, out: Path) -> Path:
    """Prepare all audio that the rows of a manifest name."""
    present = {key for row in read_manifest(manifest) for key in row}
    fields = [name for name in sorted(present) if name == "audio" or name.endswith("_audio")]
    arguments = ["--tokenizer", codec, "--out", str(out), "--audio-fields", ",".join(fields)]
    assert main(["prepare", "--manifest", str(manifest), *arguments, "--quiet"]) == 0
    return out
