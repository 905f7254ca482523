"""Examples of tasks: which records fit, what prompts are taken, what is left out, and all of it the same every time."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from records_for_tests import write_records

from unitok.data.examples import TaskExamples
from unitok.data.records import RecordReader, RecordWriter
from unitok.errors import DataError
from unitok.pattern import PATTERNS, Pattern
from unitok.tasks import SequenceBuilder, Task
from unitok.tasks.builder import cut_pieces
from unitok.testing import ToyAudioTokenizer
from unitok.tokenizers.bytes import ByteTokenizer
from unitok.vocabulary import Vocabulary

TASKS = ["tts", "asr", "vc", "speech_continuation", "s2st", "cut"]


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return RecordReader(write_records(tmp_path_factory.mktemp("records")))


@pytest.fixture(scope="module")
def builder():
    return SequenceBuilder(Vocabulary.create(TASKS, ["en"], 256, [8] * 4), ByteTokenizer(), 25.0)


def rng(seed):
    return np.random.default_rng(seed)


def task_with(condition):
    target = {"name": "speech", "kind": "audio", "field": "audio"}
    card = {"name": "cut", "description": "A test.", "conditions": [condition], "targets": [target]}
    return Task.from_card(card)


def prompt_task(**changes):
    prompt = {"name": "prompt", "kind": "audio", "field": "audio", "from": "same_speaker", "max_seconds": 0.2}
    return task_with(prompt | changes)


def test_records_without_a_needed_field_are_passed_over(reader, builder):
    for name in ("tts", "asr"):
        examples = TaskExamples(reader, Task.load(name), builder)
        assert sorted(set(range(20)) - set(examples.records.tolist())) == [5, 6]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_lengths_are_upper_bounds_and_exact_where_nothing_is_optional(reader, pattern):
    builder = SequenceBuilder(
        Vocabulary.create(TASKS, ["en"], 256, [8] * 4), ByteTokenizer(), 25.0, Pattern.of(pattern, 4)
    )
    for name in ("tts", "asr"):
        examples = TaskExamples(reader, Task.load(name), builder)
        lengths = [len(examples.sequence(i, rng(i))) for i in range(len(examples))]
        assert all(length <= bound for length, bound in zip(lengths, examples.lengths, strict=True))
        if name == "asr":
            assert lengths == examples.lengths.tolist()


def test_values_of_several_types_are_taken_as_texts_and_an_empty_one_as_none(builder, tmp_path):
    texts, speakers = [5, "", "five", ["f"]], ["", "", "a", ["a"]]
    codec = ToyAudioTokenizer()
    meta = RecordReader(write_records(tmp_path / "some")).meta
    meta = replace(meta, plain_fields=(("text", "json"), ("speaker", "json")))
    codes = torch.zeros(codec.n_codebooks, 3, dtype=torch.int64)
    rows = [{"id": str(i), "text": texts[i], "speaker": speakers[i], "audio": codes} for i in range(4)]
    RecordWriter(tmp_path / "odd", meta).write(0, rows)
    reader = RecordReader(tmp_path / "odd")
    examples = TaskExamples(reader, Task.load("asr"), builder)
    assert [examples.sequence(i, rng(0)).split()["text"] for i in range(len(examples))] == ["5", "five", "['f']"]
    assert not len(TaskExamples(reader, prompt_task(), builder)), "records that name no speaker are not of one"


def test_the_sequence_holds_the_record(reader, builder):
    examples = TaskExamples(reader, Task.load("asr"), builder)
    sequence = examples.sequence(3, rng(0))
    record = reader[int(examples.records[3])]
    values = sequence.split()
    assert values["text"] == record["text"]
    assert torch.equal(values["audio"], record["audio"])
    assert sequence.segments[2].name == "<lang:en>"


def test_a_prompt_is_a_random_piece_of_another_record_of_the_speaker(reader, builder):
    examples = TaskExamples(reader, prompt_task(), builder)
    speakers = reader.values("speaker")
    item = 2
    record = int(examples.records[item])
    peers = [i for i in range(20) if speakers[i] == speakers[record] and i not in (record, 6)]
    pieces = Counter()
    for seed in range(300):
        piece = examples.sequence(item, rng(seed)).split()["prompt"]
        assert piece.shape[1] <= 5
        found = [
            (peer, first)
            for peer in peers
            for first in range(reader[peer]["audio"].shape[1] - piece.shape[1] + 1)
            if torch.equal(reader[peer]["audio"][:, first : first + piece.shape[1]], piece)
        ]
        assert found
        pieces[found[0]] += 1
    assert {peer for peer, _ in pieces} == set(peers)
    assert len(pieces) > 2 * len(peers)
    per_peer = Counter(peer for peer, _ in pieces.elements())
    assert max(per_peer.values()) < 3 * min(per_peer.values())


def test_a_speaker_with_one_record_has_no_prompt(reader, builder):
    required = TaskExamples(reader, prompt_task(), builder)
    assert 4 not in required.records
    optional = TaskExamples(reader, prompt_task(optional=True), builder)
    item = optional.records.tolist().index(4)
    assert "prompt" not in optional.sequence(item, rng(0)).split()
    assert "prompt" in optional.sequence(item + 1, rng(0)).split()


def test_a_continuation_gets_the_start_and_the_target_the_rest(reader, builder):
    start = {"name": "prompt", "kind": "audio", "field": "audio", "from": "start", "max_seconds": 0.12}
    examples = TaskExamples(reader, task_with(start), builder)
    sequence = examples.sequence(1, rng(0))
    whole = reader[int(examples.records[1])]["audio"]
    values = sequence.split()
    assert values["prompt"].shape[1] == 3
    assert torch.equal(torch.cat([values["prompt"], values["speech"]], dim=1), whole)
    assert len(sequence) <= examples.lengths[1]
    dropped = TaskExamples(reader, task_with(start | {"optional": True}), builder, optional_dropout=1.0)
    assert torch.equal(dropped.sequence(1, rng(0)).split()["speech"], whole)


def test_the_loss_of_an_entry_can_weigh_more(reader, builder):
    plain = TaskExamples(reader, Task.load("asr"), builder).sequence(3, rng(0))
    heavy = TaskExamples(reader, Task.load("asr"), builder, loss_weight=3.0).sequence(3, rng(0))
    assert torch.equal(heavy.loss_weights, 3 * plain.loss_weights)
    assert float(plain.loss_weights.sum()) > 0


def test_guided_conditions_are_left_out_and_are_needed_otherwise(reader, builder):
    card = Task.load("tts")
    examples = TaskExamples(reader, card, builder, guided_dropout=0.3)
    names = [{s.name for s in examples.sequence(i % len(examples), rng(i)).segments} for i in range(400)]
    assert 0.2 < sum("text" not in each for each in names) / 400 < 0.4
    with pytest.raises(DataError, match="needs condition 'text'"):
        builder.build(card, {}, targets=False)
    assert len(builder.build(card, {}, targets=False, without=["text"])) == 2


def test_of_several_guided_conditions_each_set_is_left_out_as_often(reader, builder):
    voice = {"name": "voice", "kind": "label", "field": "speaker", "guided": True}
    text = {"name": "text", "kind": "text", "guided": True}
    card = Task.from_card({**task_with(voice).to_card(), "conditions": [text, voice]})
    examples = TaskExamples(reader, card, builder, guided_dropout=0.6)
    had = [tuple(examples.sequence(i % len(examples), rng(i)).split()) for i in range(600)]
    shares = {names: had.count(names) / 600 for names in set(had)}
    assert shares.pop(("text", "voice", "speech")) == pytest.approx(0.4, abs=0.06)
    assert shares.keys() == {("text", "speech"), ("voice", "speech"), ("speech",)}
    assert all(share == pytest.approx(0.2, abs=0.06) for share in shares.values())


def test_optional_conditions_are_left_out_as_often_as_asked_and_the_same_each_time(reader, builder):
    examples = TaskExamples(reader, Task.load("tts"), builder, optional_dropout=0.3)
    had = [examples.sequence(0, rng(seed)).split().keys() for seed in range(400)]
    assert had == [examples.sequence(0, rng(seed)).split().keys() for seed in range(400)]
    for name in ("voice", "prompt"):
        assert 0.6 < np.mean([name in names for names in had]) < 0.8
    assert all("text" in names and "speech" in names for names in had)


def test_sequences_that_are_too_long_are_counted_and_left_out(reader, builder):
    examples = TaskExamples(reader, Task.load("asr"), builder)
    limit = int(np.median(examples.lengths))
    shorter = TaskExamples(reader, Task.load("asr"), builder, longest=limit)
    assert shorter.n_too_long == (examples.lengths > limit).sum() > 0
    assert len(shorter) + shorter.n_too_long == len(examples)


def test_a_model_of_fewer_codebooks_takes_the_first_and_of_more_is_refused(reader):
    small = SequenceBuilder(Vocabulary.create(TASKS, [], 256, [8] * 2), ByteTokenizer(), 25.0)
    examples = TaskExamples(reader, Task.load("asr"), small)
    assert torch.equal(examples.sequence(0, rng(0)).split()["audio"], reader[0]["audio"][:2])
    large = SequenceBuilder(Vocabulary.create(TASKS, [], 256, [8] * 6), ByteTokenizer(), 25.0)
    with pytest.raises(DataError, match="holds 4 codebooks, the model has 6"):
        TaskExamples(reader, Task.load("asr"), large)


def test_a_field_that_the_records_lack_is_an_error(reader, builder):
    with pytest.raises(DataError, match=r"have no field 'source_audio'"):
        TaskExamples(reader, task_with({"name": "source", "kind": "audio", "field": "source_audio"}), builder)


def test_audio_that_was_stored_as_a_path_is_an_error_with_the_remedy(reader, builder):
    with pytest.raises(
        DataError, match=r"'speaker', which is stored as string. Prepare again with --audio-fields audio,speaker"
    ):
        TaskExamples(reader, task_with({"name": "source", "kind": "audio", "field": "speaker"}), builder)


def test_a_condition_an_entry_goes_without_is_never_there_and_takes_no_room(reader, builder):
    whole = TaskExamples(reader, Task.load("tts"), builder)
    bare = TaskExamples(reader, Task.load("tts"), builder, without=["prompt"])
    assert all("prompt" not in bare.sequence(item, rng(item)).split() for item in range(len(bare)))
    assert (bare.lengths < whole.lengths)[:4].all()
    with pytest.raises(DataError, match=r"task 'tts' cannot go without 'text'"):
        TaskExamples(reader, Task.load("tts"), builder, without=["text"])


AROUND = [
    {"name": "before", "kind": "audio", "field": "audio", "from": "before"},
    {"name": "after", "kind": "audio", "field": "audio", "from": "after"},
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_span_is_cut_out_of_the_recording_and_lengths_stay_upper_bounds(reader, pattern):
    vocabulary = Vocabulary.create(TASKS, ["en"], 256, [8] * 4)
    builder = SequenceBuilder(vocabulary, ByteTokenizer(), 25.0, Pattern.of(pattern, 4))
    card = Task.from_card({**task_with(AROUND[0]).to_card(), "conditions": AROUND})
    examples = TaskExamples(reader, card, builder)
    for item in range(len(examples)):
        sequence = examples.sequence(item, rng(item))
        values = sequence.split()
        whole = torch.cat([values["before"], values["speech"], values["after"]], dim=1)
        assert torch.equal(whole, reader[int(examples.records[item])]["audio"])
        assert len(sequence) <= examples.lengths[item]


@pytest.mark.parametrize(("sources", "T"), [(["start"], 1), (["before"], 1), (["before", "after"], 2)])
def test_a_recording_too_short_to_be_cut_stays_whole(sources, T, builder):
    piece = {"kind": "audio", "field": "audio", "max_seconds": 1.0, "optional": True}
    parts = [task_with({"name": source, "from": source} | piece).conditions[0] for source in sources]
    task = replace(task_with({"name": "start", "from": "start"} | piece), conditions=tuple(parts))
    whole = torch.arange(T)[None]
    assert cut_pieces(task, {"speech": whole}, builder.rates, rng(0)) == {"speech": whole}
    longer = torch.arange(T + 1)[None]
    cut = cut_pieces(task, {"speech": longer}, builder.rates, rng(0))
    assert all(one.shape[1] == 1 for one in cut.values())
    assert len(cut) == T + 1


def test_instructions_stand_in_place_of_the_task_as_often_as_asked_and_hold_what_they_name(reader, builder):
    card = Task.from_card({**Task.load("tts").to_card(), "instructions": ["Say this as {voice}.", "Say {text}"]})
    examples = TaskExamples(reader, card, builder, instructed=0.5, optional_dropout=0.5)
    plain = TaskExamples(reader, card, builder)
    seen = Counter()
    for seed in range(300):
        item = seed % len(examples)
        record = int(examples.records[item])
        sequence = examples.sequence(item, rng(seed))
        assert len(sequence) <= examples.lengths[item]
        names = {segment.name for segment in sequence.segments}
        assert ("<task:tts>" in names) != ("instruction" in names)
        spoken = sequence.split().get("instruction")
        if spoken is None:
            seen["task"] += 1
            continue
        as_voice, as_text = f"Say this as {reader.value('speaker', record)}.", f"Say {reader.value('text', record)}"
        assert spoken in (as_voice, as_text)
        assert ("text" in names) == (spoken == as_voice)
        seen[spoken.split()[1] == "this"] += 1
    assert 120 < seen["task"] < 180
    assert seen[True] > 20
    assert seen[False] > 20
    assert (plain.lengths < examples.lengths).all()
    with pytest.raises(DataError, match=r"task 'asr' has no instructions in its card"):
        TaskExamples(reader, Task.from_card({**Task.load("asr").to_card(), "instructions": []}), builder, instructed=1)
