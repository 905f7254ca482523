"""Recipes of papers: each has the published size, and trains and generates once it is made tiny."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import pytest
import torch
from training_runs import Recorder

import unitok
from unitok.audio import Audio
from unitok.cards import find_card, list_cards
from unitok.cli.fit import calm
from unitok.cli.main import main
from unitok.errors import CardError, UnitokError
from unitok.training.cli import UnitokCLI
from unitok.training.plan import audio_sizes, planned_lm, semantic_size, text_size
from unitok.vocabulary import Vocabulary

RECIPES = sorted(
    name.removeprefix("recipes/")
    for name in list_cards("configs")
    if name.startswith("recipes/") and not name.startswith("recipes/tiny/")
)
TINY = "out/recipes/tiny"
SLOW = {
    "audiogen",
    "audiolm/semantic",
    "audiolm/coarse",
    "audiolm/fine",
    "lauragpt",
    "musiclm/coarse",
    "musiclm/fine",
    "musiclm/semantic",
}
SLOW |= {"speechx", "vall_e_x", "csm", "moshi", "uniaudio", "viola"}
"""Tiny trainings that nearly repeat another one, or take longer: CI runs them too."""
MILLION = 10**6


def stack(n_layers, d, d_ff, matrices=2, kv_share=1.0):
    """Return the weights in the matrices of Transformer blocks: attention, and `matrices` between d and d_ff."""
    return n_layers * ((2 + 2 * kv_share) * d * d + matrices * d * d_ff)


@dataclass
class Size:
    """How large a recipe has to be."""

    by_hand: float
    """Weights that the published sizes give: blocks, a table of all ids, a head for each code; no norms, no biases."""
    published: float | None = None
    """What is published."""
    tolerance: float = 0.1
    """How far the recipe may be from that, as a share."""
    text_ids: int | None = None
    """Size of a text tokenizer that is still to be trained."""


VALLE_BLOCKS = 2 * stack(12, 1024, 4096)
MUSICGEN = stack(48, 1536, 6144) + 2 * 4 * 2048 * 1536
SIZES = {
    # "1 B" (abstract). Of 24 + 8 layers of 1536; a table of width 512, three codebooks.
    "uniaudio": Size(stack(32, 1536, 6144) + 3 * 1024 * (512 + 1536), 1000 * MILLION),
    # Not published for the paper; epoch.ai counts 353 M of its sizes, with attention to an encoder in one of the two.
    "vall_e": Size(VALLE_BLOCKS + 2 * 8 * 1024 * 1024, 353 * MILLION),
    "vall_e_x": Size(VALLE_BLOCKS + 2 * 8 * 1024 * 1024 + 2 * 2048 * 1024, text_ids=2048),
    "speechx": Size(VALLE_BLOCKS + 2 * 8 * 1024 * 1024),
    "viola": Size(VALLE_BLOCKS + 2 * 8 * 1024 * 1024 + 2 * 2048 * 1024, text_ids=2048),
    # Qwen-1.8B: 1.84 B (its model card), and a vocoder's six layers.
    "lauragpt": Size(
        stack(24, 2048, 5504, 3) + 2 * 151936 * 2048 + stack(6, 512, 2048, 3) + 8 * 1024 * 2048,
        1840 * MILLION,
        text_ids=151936,
    ),
    # "0.3 B a stage" (section 4): its published sizes, 12 layers of 1024 and 4096, do not give that many.
    "audiolm/semantic": Size(stack(12, 1024, 4096, 3) + 4 * 1024 * 1024, 300 * MILLION, tolerance=0.35),
    "audiolm/coarse": Size(stack(12, 1024, 4096, 3) + 2 * 5 * 1024 * 1024, 300 * MILLION, tolerance=0.3),
    "audiolm/fine": Size(stack(12, 1024, 4096, 3) + 2 * 12 * 1024 * 1024, 300 * MILLION, tolerance=0.3),
    # "430 M a stage" (section 4).
    "musiclm/semantic": Size(stack(24, 1024, 4096, 3) + 4 * 1024 * 1024, 430 * MILLION),
    "musiclm/coarse": Size(stack(24, 1024, 4096, 3) + 2 * 5 * 1024 * 1024, 430 * MILLION),
    "musiclm/fine": Size(stack(24, 1024, 4096, 3) + 2 * 12 * 1024 * 1024, 430 * MILLION),
    # "1.5 B" (section 3.1).
    "musicgen": Size(MUSICGEN, 1500 * MILLION),
    # "1.5 B" (audiocraft's model card of audiogen-medium).
    "audiogen": Size(MUSICGEN, 1500 * MILLION),
    # 7.69 B (kyutai/moshiko-pytorch-bf16), the user's stream included.
    "moshi": Size(
        stack(32, 4096, 11264, 3) + 8 * stack(6, 1024, 2816, 3) + 2 * 32000 * 4096 + 8 * 2048 * (4096 + 1024),
        7690 * MILLION,
        tolerance=0.02,
        text_ids=32000,
    ),
    # 6.21 GB in float32 (sesame/csm-1b, model.safetensors).
    "csm": Size(
        stack(16, 2048, 8192, 3, 8 / 32)
        + stack(4, 1024, 8192, 3, 2 / 8)
        + 128256 * 2048
        + 32 * 2051 * (2048 + 1024)
        + 2048 * 1024,
        6.21e9 / 4,
        tolerance=0.005,
        text_ids=128256,
    ),
}


def test_every_recipe_has_a_size_and_a_tiny_one():
    assert set(SIZES) == set(RECIPES)
    assert {f"recipes/tiny/{name}" for name in RECIPES} <= set(list_cards("configs"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_the_published_size(name):
    size = SIZES[name]
    lm = planned_lm(f"recipes/{name}", text_ids=size.text_ids)
    assert {weight.device.type for weight in lm.parameters()} == {"meta"}
    total = lm.count_parameters()["total"]
    assert total == pytest.approx(size.by_hand, rel=0.015)
    if size.published is not None:
        assert total == pytest.approx(size.published, rel=size.tolerance)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_it_is_and_where_each_value_is_from(name):
    text = find_card("configs", f"recipes/{name}").read_text(encoding="utf-8")
    head, body = text.split("seed_everything", 1)
    assert re.search(rf"unitok fit --config recipes/{name}( --|\n)", head)
    for said in (f"recipes/tiny/{name}", "Override a value:", "Sources:"):
        assert said in head, f"{name} does not say {said}"
    tags = set(re.findall(r"\[(\d)\]", body.replace("[0, 1, 2, 3]", "")))
    assert tags
    assert tags <= set(re.findall(r"\[(\d)\]", head)), "a value cites what the head does not name"


def test_nothing_branches_on_the_name_of_a_paper():
    names = "uniaudio|vall_?e|speechx|viola|lauragpt|audiolm|musiclm|musicgen|audiogen|moshi"
    source = Path(unitok.__file__).parent
    quoted = re.compile(rf"""["']({names})["']""", re.IGNORECASE)
    files = [path for path in source.rglob("*.py") if path.parent.name != "benchmark"]  # others are measured there
    found = [path for path in files if quoted.search(path.read_text(encoding="utf-8"))]
    assert not found


def test_sizes_come_from_cards_alone():
    assert audio_sizes("encodec_24khz") == (8, 1024)
    assert audio_sizes("mimi_24khz_32") == (32, 2048)
    assert audio_sizes("encodec_32khz_stereo") == (8, 2048)
    assert audio_sizes("toy_audio") == (4, 8)
    assert semantic_size("w2v_bert_2_km1024") == 1024
    assert text_size("bytes") == 256
    assert text_size("phonemes_en") > 100
    with pytest.raises(CardError, match="no card 'recipes/val_e'"):
        planned_lm("recipes/val_e")
    with pytest.raises(UnitokError, match=r"model.init_args has no lm, text_tokenizer, audio_tokenizer, tasks"):
        planned_lm("mini/codec")
    with pytest.raises(CardError, match=r"bytes.yaml: is of kind 'bytes', a tokenizer of kind 'semantic' is needed"):
        semantic_size("bytes")


def test_semantic_ids_are_part_of_a_plan(tmp_path):
    words = Vocabulary.create(["semantic_continuation"], [], 256, [1024], semantic_size=1024)
    assert planned_lm("recipes/audiolm/semantic").embedding.num_embeddings == words.size
    card = find_card("tokenizers", "hubert_base_km500").read_text(encoding="utf-8")
    (tmp_path / "km.yaml").write_text(card.replace("hubert_base_km500", "km").replace("codebook_size: 500\n", ""))
    with pytest.raises(CardError, match="km.yaml: says no codebook_size, which a plan needs"):
        semantic_size(tmp_path / "km.yaml")


@dataclass
class Corpus:
    """What `unitok synth` and `unitok prepare` make for tiny recipes."""

    options: list[str]
    """Of `unitok synth`."""
    audio_fields: str
    """Fields that hold audio."""
    shards: dict[str, list[str]]
    """Folder of records -> options of `unitok prepare`."""
    needs: str | None = None
    """A program that makes it."""
    semantic: bool = False
    """Are its records prepared with semantic tokens, of a tokenizer that is trained on it?"""


HEARD = ["--tokenizer", "toy_audio", "--feature-inputs"]
SOUND_SHARDS = {"sounds": [*HEARD, "ear:conformer_tiny=audio"], "sounds_fine": ["--tokenizer", "toy_audio_fine"]}
SPEECH_SHARDS = {"speech": [*HEARD, "ear:conformer_tiny=audio,ear:conformer_tiny=noisy_audio"]}
CORPORA = {
    "sounds": Corpus([], "audio", SOUND_SHARDS, semantic=True),
    "speech": Corpus(["--noisy"], "audio,noisy_audio", SPEECH_SHARDS, needs="flite", semantic=True),
    "translation": Corpus([], "audio,target_audio", {"translation": ["--tokenizer", "toy_audio"]}, needs="espeak-ng"),
}
SOUND, SPEECH, PAIR = (f"{TINY}/corpus/{name}/audio/train-0-0000000.wav" for name in CORPORA)
CAPTION = {"text": "A dog barks."}
REQUESTS = {
    "uniaudio": ("vc_semantic", {"audio": SPEECH, "prompt": SPEECH}),
    "speechx": ("se_text", {"audio": SPEECH}),
    "viola": ("s2tt", {"audio": PAIR, "lang": "en"}),
    "lauragpt": ("asr_features", {"audio": SPEECH}),
    "audiolm/semantic": ("semantic_continuation", {"prompt": SOUND}),
    "audiolm/coarse": ("audio_continuation_semantic", {"semantic": SOUND, "prompt": SOUND}),
    "audiolm/fine": ("audio_detail", {"audio": SOUND}),
    "musiclm/semantic": ("text_to_semantic", CAPTION),
    "musiclm/coarse": ("semantic_to_acoustic", {"semantic": [1, 2, 3]}),
    "musiclm/fine": ("audio_detail", {"audio": SOUND}),
    "musicgen": ("tta", CAPTION),
    "audiogen": ("tta", CAPTION),
}
"""What a tiny recipe is asked for, where that is not speech."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A function that makes a corpus once, in a folder that is the working folder from then on."""
    folder, before, made = tmp_path_factory.mktemp("recipes"), Path.cwd(), set()
    os.chdir(folder)
    torch.set_num_threads(1)

    def make(name):
        plan = CORPORA[name]
        if plan.needs and shutil.which(plan.needs) is None:
            pytest.skip(f"{plan.needs} is not installed")
        if name in made:
            return
        made.add(name)
        out = f"{TINY}/corpus/{name}"
        assert main(["synth", "--corpus", name, *plan.options, "--utterances", "12", "--out", out]) == 0
        semantic = [] if not plan.semantic else ["--semantic-tokenizer", f"{TINY}/{name}_km"]
        if plan.semantic:
            clusters = ["--features", "log_mel", "--clusters", "8", "--deduplicate", "--out", f"{TINY}/{name}_km"]
            assert main(["train-kmeans", "--manifest", f"{out}/manifest.jsonl", *clusters]) == 0
        for shards, options in plan.shards.items():
            prepare = ["prepare", "--manifest", f"{out}/manifest.jsonl", "--audio-fields", plan.audio_fields]
            assert main([*prepare, *options, *semantic, "--out", f"{TINY}/{shards}"]) == 0

    yield make
    os.chdir(before)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in RECIPES]
)
def test_a_recipe_made_tiny_learns_and_generates(name, corpus):
    tiny = find_card("configs", f"recipes/tiny/{name}")
    text = tiny.read_text(encoding="utf-8")
    for needed in sorted(set(re.findall(rf"{TINY}/(sounds|speech|translation)", text))):
        corpus(needed)
    steps, bound = re.search(r"In (\d+) steps: training loss below ([\d.]+)", text).groups()
    configs = [find_card("configs", f"recipes/{name}"), find_card("configs", "recipes/tiny/common"), tiny]
    recorder = fit(configs)
    assert len(recorder.losses) == int(steps)
    assert mean(recorder.losses[-10:]) < float(bound) < 0.75 * recorder.losses[0]
    generates(name)


def fit(configs):
    """Train with configs laid over each other; return the losses."""
    recorder = Recorder()
    flags = ["--trainer.logger=false", "--trainer.enable_progress_bar=false"]
    with calm():
        UnitokCLI("fit", [*(f"--config={path}" for path in configs), *flags], callbacks=[recorder])
    return recorder


@pytest.mark.slow
@pytest.mark.parametrize("paper", ["audiolm", "musiclm"])
def test_tiny_models_of_three_stages_are_one_pipeline(paper, corpus, tmp_path):
    """MusicLM's tiny stages read the caption as text, its pipeline by an encoder: they have a card of their own."""
    corpus("sounds")
    for stage in ("semantic", "coarse", "fine"):
        names = (f"recipes/{paper}/{stage}", "recipes/tiny/common", f"recipes/tiny/{paper}/{stage}")
        fit([find_card("configs", name) for name in names])
    (tmp_path / "tasks").mkdir()
    card = find_card("tasks", "musiclm").read_text(encoding="utf-8").replace("name: musiclm", "name: tiny_musiclm")
    card = card.replace("caption_to_semantic", "text_to_semantic").replace("caption_semantic_to", "semantic_to")
    card = card.replace("text: text, semantic:", "semantic:").replace("coarse.sound", "coarse.speech")
    (tmp_path / "tasks" / "tiny_musiclm.yaml").write_text(card)
    asked = {"audiolm": ("audiolm", "--prompt", SOUND), "musiclm": ("tiny_musiclm", "--text", "A dog barks.")}[paper]
    out, where = tmp_path / "x.wav", ["--stage-model", f"{TINY}/{paper}", "--cards", str(tmp_path)]
    argv = ["generate", "--task", *asked, *where, "--out", str(out), "--max-seconds", "1", "--device", "cpu"]
    assert main(argv) == 0
    assert 0 < Audio.read(out).duration_s <= 1.0


def generates(name):
    """Ask a tiny model for something."""
    task, conditions = REQUESTS.get(name, ("tts", {"text": "One fish."}))
    model = unitok.load(f"{TINY}/{name}/model")
    kind = model.tasks[task].targets[0].kind
    if kind == "audio":
        assert model.generate(task, **conditions, seed=0, max_seconds=1.0).duration_s > 0
    elif kind == "semantic":
        ids = model.generate(task, **conditions, seed=0, max_seconds=1.0)
        assert 0 < ids.shape[1] <= 100
        assert int(ids.max()) < 8
    else:
        assert isinstance(model.generate(task, **conditions, seed=0, max_text_tokens=16), str)
