"""Repeated conditions: several values of one field, in cards, sequences, records, training, Python and commands."""

import itertools
import json

import lightning as L
import numpy as np
import pytest
import torch
from records_for_tests import write_records
from test_semantic_tasks import stack, trained
from tiny_models import random_codes
from toy_checkpoint import tone, toy_model
from toy_sequences import toy_builder

from unitok.api import load
from unitok.audio import Audio
from unitok.cli.main import main
from unitok.data.examples import TaskExamples
from unitok.data.records import RecordReader
from unitok.errors import CardError, DataError, GenerationError
from unitok.evaluation.items import items_of
from unitok.model.config import LMConfig
from unitok.pattern import PATTERNS, Pattern
from unitok.tasks import SequenceBuilder, Task
from unitok.tokenizers.bytes import ByteTokenizer
from unitok.training.lm_module import LMModule
from unitok.training.optimizers import OptimizerConfig
from unitok.training.schedules import ScheduleConfig
from unitok.vocabulary import Vocabulary

LOUD = {"soft": 0.15, "mid": 0.45, "loud": 0.85}
PROMPTS = {"name": "prompt", "kind": "audio", "repeated": True, "max": 3}
TURNS = {"name": "turns", "kind": "text", "repeated": True, "optional": True, "max": 2}
TEXT = {"name": "text", "kind": "text"}


def card(*conditions, name="tts", **changes):
    target = {"name": "speech", "kind": "audio", "field": "audio"}
    return {"name": name, "description": "A test.", "conditions": list(conditions), "targets": [target], **changes}


def task(*conditions, **changes):
    return Task.from_card(card(*conditions, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max": None, "from": "same_speaker"}, "max: missing. With 'from: same_speaker' training needs to know"),
        ({"repeated": False}, "max: is how many values a repeated condition may have. Add 'repeated: true'"),
        ({"max": 0}, "max: is 0, allowed: 1 or more"),
        ({"kind": "features", "takes": "audio"}, "repeated: is of text, labels, audio and semantic"),
        ({"from": "before", "field": "audio"}, "repeated: does not go with 'from: before', which is one piece"),
        ({"kind": "text", "default": "x"}, "repeated: does not go with 'form' or 'default', which are of one value"),
    ],
)  # fmt: skip
def test_a_card_says_what_does_not_go_with_several_values(changes, message):
    with pytest.raises(CardError, match=message.replace("'", ".")):
        task(PROMPTS | changes)


def test_a_repeated_condition_stands_in_no_text_and_gives_no_length():
    with pytest.raises(CardError, match="'Say .turns..' names 'turns', which is no text or label"):
        task(TURNS, instructions=["Say {turns}."])
    target = {"name": "speech", "kind": "audio", "length": {"same_as": "prompt"}}
    with pytest.raises(CardError, match="is to last as long as 'prompt', which is no audio among the conditions"):
        task(PROMPTS, targets=[target])


def test_the_card_survives_the_round_trip_and_shows_itself(capsys):
    shipped = Task.load("tts_prompts")
    assert Task.from_card(shipped.to_card()) == shipped
    assert (shipped.conditions[1].repeated, shipped.conditions[1].most) == (True, 3)
    assert "<text> … </text> <audio> … </audio> × up to 3 →" in shipped.layout()
    assert main(["tasks", "tts_prompts"]) == 0
    out = capsys.readouterr().out
    assert "--task tts_prompts --text TEXT --prompt FILE … [--lang LANG]" in out
    assert '--text "The quick brown fox." --prompt one.wav --prompt two.wav' in out


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_several_values_stand_one_after_another_and_come_back(n, pattern):
    plain = toy_builder()
    builder = SequenceBuilder(plain.vocabulary, plain.text_tokenizer, 25.0, Pattern.of(pattern, 4))
    one = task(TEXT, PROMPTS | {"optional": True}, TURNS)
    codes = [random_codes(3 + i, seed=i) for i in range(n)]
    values = {"text": "hi", "prompt": codes, "turns": ["a", "bc"], "speech": random_codes(5)}
    sequence = builder.build(one, values)
    names = [s.name for s in sequence.segments if s.role == "condition"]
    assert names == ["text", *["prompt", "prompt.2", "prompt.3"][:n], "turns", "turns.2"]
    back = sequence.split()
    assert [back[name].tolist() for name in names if name.startswith("prompt")] == [one.tolist() for one in codes]
    assert (back["turns"], back["turns.2"]) == ("a", "bc")
    assert torch.equal(builder.build(one, back).tokens, sequence.tokens)
    prompt = builder.build(one, values, targets=False).tokens
    assert torch.equal(prompt, sequence.tokens[: int(sequence.prefix_mask.sum())])
    assert "prompt" not in str(builder.build(one, values, without=["prompt"]).split().keys())


def test_one_value_needs_no_list_and_too_many_are_refused():
    builder = toy_builder()
    one = task(TEXT, TURNS)
    given = {"text": "hi", "speech": random_codes(5)}
    alone = builder.build(one, {**given, "turns": "a"})
    assert torch.equal(alone.tokens, builder.build(one, {**given, "turns": ["a"]}).tokens)
    none = [builder.build(one, {**given, "turns": value}).tokens for value in ([], None, [None])]
    assert all(torch.equal(tokens, builder.build(one, given).tokens) for tokens in none)
    with pytest.raises(DataError, match="task 'tts': 'turns' has 3 values, it may have 2. Leave some out"):
        builder.build(one, {**given, "turns": ["a", "b", "c"]})
    with pytest.raises(DataError, match="'turns' is numbered from 2, got text, speech, turns, turns.3"):
        builder.build(one, {**given, "turns": "a", "turns.3": "c"})
    with pytest.raises(DataError, match="'text': got list, kind text takes text"):
        builder.build(one, {**given, "text": ["a"]})
    with pytest.raises(DataError, match=r"needs condition 'prompt' \(kind audio\), which is missing"):
        builder.build(task(PROMPTS), {"prompt": [], "speech": random_codes(5)})


# Training


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return RecordReader(write_records(tmp_path_factory.mktemp("records")))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_prompts_are_a_random_number_of_other_recordings_of_the_speaker(reader, pattern):
    vocabulary = Vocabulary.create(["tts"], ["en"], 256, [8] * 4)
    builder = SequenceBuilder(vocabulary, ByteTokenizer(), 25.0, Pattern.of(pattern, 4))
    prompts = PROMPTS | {"field": "audio", "from": "same_speaker", "max_seconds": 0.2}
    examples = TaskExamples(reader, task(TEXT, prompts), builder)
    assert 4 not in examples.records, "nobody else speaks like this one"
    counts = []
    for item, record in enumerate(examples.records.tolist()):
        for seed in range(6):
            sequence = examples.sequence(item, np.random.default_rng([item, seed]))
            given = [value for name, value in sequence.split().items() if name.startswith("prompt")]
            counts.append(len(given))
            assert len(sequence) <= examples.lengths[item]
            sources = [whose(reader, value) for value in given]
            assert len(set(sources)) == len(sources)
            assert record not in sources
            assert {reader.value("speaker", source) for source in sources} == {reader.value("speaker", record)}
            assert all(value.shape[1] <= 5 for value in given)
    assert set(counts) == {1, 2, 3}
    again = [examples.sequence(0, np.random.default_rng(3)).tokens for _ in range(2)]
    assert torch.equal(*again)


def whose(reader, codes):
    """Return the record that a piece of codes is from."""
    n = codes.shape[1]
    for i in range(len(reader)):
        whole = reader.codes("audio", i)
        for first in range(0 if whole is None else whole.shape[1] - n + 1):
            if torch.equal(whole[:, first : first + n], codes):
                return i
    raise AssertionError("no record has these codes")


def write_corpus(folder):
    """Write three recordings, and rows that have lists of them, of their names, or neither."""
    for name, level in LOUD.items():
        t = torch.arange(3200) / 16000
        Audio((level * torch.sin(2 * torch.pi * 440 * t))[None], 16000).write(folder / f"{name}.wav")
    rows = []
    for n in (1, 2):
        for names in itertools.permutations(LOUD, n):
            rows.append({"clips": [f"{name}.wav" for name in names], "words": list(names), "text": " ".join(names)})
    rows[0]["clips"], rows[0]["words"] = "soft.wav", "soft"
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "manifest.jsonl"


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repeated")
    manifest = write_corpus(folder)
    arguments = ["prepare", "--manifest", str(manifest), "--tokenizer", "toy_audio", "--audio-fields", "clips"]
    assert main([*arguments, "--out", str(folder / "shards"), "--quiet"]) == 0
    return folder / "shards"


HEAR = {
    "name": "hear",
    "description": "Say how loud each recording is.",
    "lang_field": "",
    "conditions": [{"name": "clips", "kind": "audio", "repeated": True, "max": 2}],
    "targets": [{"name": "text", "kind": "text"}],
    "generate": {"greedy": True, "max_text_tokens": 16},
}


def test_lists_of_a_manifest_are_kept_by_records(shards):
    reader = RecordReader(shards)
    assert reader.meta.audio_fields == ("clips", "clips.2")
    builder = SequenceBuilder(Vocabulary.create(["hear"], [], 256, [8] * 4), ByteTokenizer(), 25.0)
    by_ear = TaskExamples(reader, Task.from_card(HEAR), builder)
    words = {"name": "words", "kind": "text", "repeated": True, "max": 2}
    read = TaskExamples(reader, Task.from_card({**HEAR, "conditions": [words]}), builder)
    last = TaskExamples(reader, Task.from_card({**HEAR, "conditions": [words | {"max": 1}]}), builder)
    assert len(by_ear) == len(read) == len(reader) == 9
    for i in range(9):
        names = reader.value("text", i).split()
        heard, spelled, end = (part.sequence(i, np.random.default_rng(0)).split() for part in (by_ear, read, last))
        assert [spelled[name] for name in ("words", "words.2")[: len(names)]] == names
        assert len(heard) == len(spelled) == len(names) + 1
        assert (end["words"], len(end)) == (names[-1], 2)
        for part in (by_ear, read, last):
            assert len(part.sequence(i, np.random.default_rng(0))) == part.lengths[i] - 1, "room for a language"
    longest = int(np.median(by_ear.lengths))
    short = TaskExamples(reader, Task.from_card(HEAR), builder, longest=longest)
    assert 0 < len(short) == int((by_ear.lengths <= longest).sum()) < 9


@pytest.fixture(scope="module")
def folder(shards):
    """A model that says by heart how loud one recording is, or two in their order."""
    (shards.parent / "hear.yaml").write_text(json.dumps(HEAR))
    L.seed_everything(0)
    module = LMModule(
        LMConfig(stack(48), local=stack(24), ar_codebooks=4),
        text_tokenizer="bytes",
        audio_tokenizer="toy_audio",
        tasks=[str(shards.parent / "hear.yaml")],
        langs=[],
        optimizer=OptimizerConfig("adamw", lr=0.01),
        schedule=ScheduleConfig(warmup_steps=5, total_steps=90),
    )
    trained(module, shards, 90).export(shards.parent / "model")
    return shards.parent / "model"


def test_a_tiny_model_tells_several_recordings_and_their_order(folder):
    model = load(folder, device="cpu")
    lists = [names for n in (1, 2) for names in itertools.permutations(LOUD, n)]
    requests = [{"task": "hear", "clips": [str(folder.parent / f"{name}.wav") for name in names]} for names in lists]
    assert model.generate_batch(requests) == [" ".join(names) for names in lists]
    assert model.generate("hear", clips=folder.parent / "loud.wav") == "loud"
    scores = model.score("hear", clips=requests[4]["clips"], text=["soft loud", "loud soft"])
    assert scores[0] > scores[1] + 2


def test_an_option_given_several_times_is_a_list(folder, capsys, tmp_path):
    common = ["generate", "--model", str(folder), "--task", "hear", "--device", "cpu", "--quiet"]
    clips = {name: ["--clips", str(folder.parent / f"{name}.wav")] for name in LOUD}
    assert main([*common, *clips["mid"], *clips["soft"]]) == 0
    assert capsys.readouterr().out == "mid soft\n"
    assert main([*common, *clips["mid"], *clips["soft"], *clips["loud"]]) == 2
    assert "'clips' has 3 values, it may have 2. Leave some out." in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*common, "--help"])
    assert "audio file; repeat it for more, up to 2" in " ".join(capsys.readouterr().out.split())
    rows = [{"id": "a", "clips": ["loud.wav", "mid.wav"]}, {"id": "b", "clips": "mid.wav"}, {"id": "c", "clips": []}]
    (folder.parent / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main([*common, "--manifest", str(folder.parent / "in.jsonl"), "--out", str(tmp_path)]) == 1
    results = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [row.get("text") for row in results] == ["loud mid", "mid", None]
    assert "task 'hear' needs 'clips' (audio)" in results[2]["error"]


def test_items_to_measure_have_lists_too(folder):
    one = Task.from_card(HEAR)
    rows = [{"clips": ["loud.wav", "mid.wav"], "text": "loud mid"}, {"clips": "mid.wav", "text": "mid"}]
    items = items_of(one, rows, folder.parent / "manifest.jsonl")
    assert [item.conditions["clips"] for item in items] == [
        [folder.parent / "loud.wav", folder.parent / "mid.wav"],
        folder.parent / "mid.wav",
    ]
    with pytest.raises(DataError, match=r"clips: audio file '.*none.wav' does not exist"):
        items_of(one, [{"clips": ["loud.wav", "none.wav"], "text": "x"}], folder.parent / "manifest.jsonl")


def test_prompts_in_python_are_cut_and_guided_by_as_one_condition():
    model = toy_model(tasks=("tts", "tts_prompts"))
    request = model.request("tts_prompts", text="ab", prompt=[tone(4.0), tone(0.2)], guidance=2.0)
    assert [s.name for s in request.prompt.segments][-3:] == ["text", "prompt", "prompt.2"]
    assert [request.prompt.codes(name).shape[1] for name in ("prompt", "prompt.2")] == [75, 5]
    assert "text" not in [s.name for s in request.guidance[0].without.segments]
    made = [model.generate("tts_prompts", text="ab", prompt=[tone(s)] * 2, seed=1, max_seconds=0.4) for s in (0.2, 0.3)]
    assert made[0].duration_s > 0
    ids = model.sequence("tts_prompts", text="ab", prompt=tone(0.2)).codes("prompt")
    assert torch.equal(model.request("tts_prompts", text="ab", prompt=ids).prompt.codes("prompt"), ids)
    with pytest.raises(DataError, match="'prompt' has 4 values, it may have 3"):
        model.generate("tts_prompts", text="ab", prompt=[tone(0.2)] * 4)
    with pytest.raises(GenerationError, match=r"task 'tts_prompts' needs 'prompt' \(audio\)"):
        model.generate("tts_prompts", text="ab", prompt=[])
