"""Pipelines: cards that chain tasks, what is wrong with one, and that they make what call after call would make."""

import json
import re

import pytest
import torch
from command_line import run
from semantic_corpus import train, write_corpus
from tiny_models import tiny_config
from toy_checkpoint import tone, toy_model

import unitok
from unitok.api import Model
from unitok.audio import Audio
from unitok.checkpoint import Checkpoint
from unitok.errors import CardError, DataError, GenerationError
from unitok.evaluation import evaluate
from unitok.evaluation.metric import NotMeasurableError
from unitok.model.lm import UnitokLM
from unitok.tasks import Pipeline, Task, find_pipeline, list_pipelines, list_tasks
from unitok.testing import ToyAudioTokenizer, ToyTextTokenizer
from unitok.tokenizers import load_semantic_tokenizer
from unitok.vocabulary import Vocabulary

CASCADE = ("tts", "asr", "mt")
SHORT = {"max_seconds": 0.4, "max_text_tokens": 8, "temperature": 1.2}
GOOD = {
    "name": "echo",
    "description": "Hear, then say.",
    "conditions": [{"name": "audio", "kind": "audio"}, {"name": "voice", "kind": "label", "optional": True}],
    "stages": [
        {"name": "hear", "task": "asr", "conditions": {"audio": "audio"}},
        {"name": "say", "task": "tts", "conditions": {"text": "hear.text", "voice": "voice"}},
    ],
    "targets": {"speech": "say.speech"},
}


def changed(**stages):
    """Return the card with some keys of its stages changed."""
    return {**GOOD, "stages": [{**stage, **stages.get(stage["name"], {})} for stage in GOOD["stages"]]}


@pytest.fixture(scope="module")
def model() -> Model:
    return toy_model(tasks=CASCADE, langs=("en", "de"))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return model.save(tmp_path_factory.mktemp("model") / "toy")


@pytest.mark.parametrize("name", list_pipelines())
def test_shipped_pipelines_fit_their_tasks_and_survive_the_round_trip(name):
    pipeline = Pipeline.load(name)
    assert Pipeline.from_card(pipeline.to_card()) == pipeline
    assert [target.name for target in pipeline.outline().targets] == list(pipeline.targets)
    assert find_pipeline(name) == pipeline
    assert name not in list_tasks()


def test_a_card_that_chains_tasks_is_no_task():
    assert {"spear_tts", "audiolm", "musiclm", "s2st_cascade"} <= set(list_pipelines())
    assert find_pipeline("tts") is None
    assert find_pipeline("nothing") is None
    with pytest.raises(CardError, match=r"audiolm.yaml: is a pipeline: .* and a single task is needed here"):
        Task.load("audiolm")


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (changed(say={"conditions": {"text": "heer.text"}}),
         "stages[1]: takes 'heer.text', but no stage is called 'heer'. Did you mean 'hear'? There are: hear, say."),
        (changed(hear={"conditions": {"audio": "adio"}}),
         "stages[0]: takes 'adio', which is no condition. Did you mean 'audio'? There are: audio, voice."),
        (changed(hear={"conditions": {"audio": "say.speech"}}),
         "stages[0]: takes 'say.speech', and stages go in a circle: hear → say → hear."),
        (changed(say={"conditions": {"text": "hear.text", "prompt": "say.speech"}}),
         "stages[1]: takes 'say.speech', which it makes itself."),
        ({**GOOD, "stages": GOOD["stages"][::-1]},
         "stages[0]: takes 'hear.text' of a later stage. Stages run in the order of the card: move 'hear' up."),
        (changed(say={"conditions": {"text": "hear.text"}}),
         "conditions: no stage takes 'voice'. Remove it, or give it to a stage."),
        ({**GOOD, "targets": {"speech": "hear.text"}},
         "stages[1]: nothing uses what 'say' makes. Remove it, or name it in 'targets'."),
        ({**GOOD, "targets": {"speech": "audio"}},
         "targets: 'audio' is made by no stage. Write STAGE.TARGET, with one of the stages: hear, say."),
        (changed(say={"conditions": {"text": 5}}),
         "stages[1].conditions.text: is 5, allowed: a condition's name, or STAGE.TARGET, or a list of them."),
        (changed(say={"pieces": {"prompt": 0}}), "stages[1].pieces.prompt: is 0, allowed: seconds, more than 0."),
        (changed(say={"name": "hear"}), "stages: two stages are called 'hear'. Rename one of them."),
        ({**GOOD, "targets": {"a b": "say.speech"}}, "targets.a b: is no name: letters, digits and '_' are allowed."),
        (changed(say={"tsak": "tts"}), "stages[1].tsak: unknown key. Did you mean 'task'?"),
        ({**GOOD, "fields": {"speach": "target_audio"}},
         "fields: there is no target 'speach'. Did you mean 'speech'? Targets: speech."),
        ({**GOOD, "fields": {"speech": 3}}, "fields.speech: is 3, allowed: the name of a record field."),
        ({**GOOD, "metrics": [3]}, "metrics: has 3, allowed: names of metrics."),
        ({**GOOD, "example": {"adio": "a.wav"}}, "example.adio: is no condition of this task. Did you mean 'audio'?"),
    ],
)  # fmt: skip
def test_a_mistake_of_a_card_says_where_and_what(card, message):
    with pytest.raises(CardError) as caught:
        Pipeline.from_card(card, "echo.yaml")
    assert f"echo.yaml: {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (changed(say={"task": "ttx"}), "tasks has no card 'ttx'. Did you mean 'tts'?"),
        (changed(say={"conditions": {"txt": "hear.text", "voice": "voice"}}),
         "task 'tts' has no condition 'txt'. Did you mean 'text'? It takes: text, voice, prompt."),
        (changed(say={"conditions": {"text": "hear.txt", "voice": "voice"}}),
         "stage 'hear' (task 'asr') makes no 'txt'. Did you mean 'text'? It makes: text."),
        (changed(say={"conditions": {"voice": "voice", "text": "audio"}, "lang": "hear.text"}),
         "'text' takes text or label, 'audio' is audio."),
        (changed(say={"conditions": {"voice": "hear.text"}}),
         "task 'tts' needs 'text' (text), which the card does not give it. It takes: text, voice, prompt."),
        (changed(say={"conditions": {"text": "voice"}, "lang": "hear.text"}),
         "task 'tts' needs 'text', but 'voice' may be left out. Let it be needed too."),
        (changed(say={"conditions": {"text": ["hear.text", "voice"]}}),
         "'text' is to join hear.text, voice; only audio and semantic tokens are joined, it is text."),
        (changed(say={"pieces": {"text": 3.0}}), "pieces of 'text': no audio is given to a condition of that name."),
        (changed(hear={"pieces": {"audio": 3.0}}),
         "pieces of 'audio': task 'asr' makes more than audio, which cannot be joined. Remove them."),
        (changed(say={"lang": "audio"}), "its lang is 'audio', which is audio; a language is text or a label."),
        ({**GOOD, "targets": {"speech": "say.speach"}}, "stage 'say' (task 'tts') makes no 'speach'. Did you mean"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_tasks_is_said_by_check(card, message, tmp_path, capsys):
    unused = {origin for stage in card["stages"] for origin in str(stage["conditions"].values()).split("'")}
    card = {**card, "conditions": [one for one in card["conditions"] if one["name"] in unused]}
    (tmp_path / "echo.yaml").write_text(json.dumps(card))
    status, out, err = run(capsys, "tasks", "--check", tmp_path / "echo.yaml")
    assert (status, out) == (2, "")
    assert f"pipeline 'echo', {'target' if 'speach' in message else 'stage'} '" in err
    assert message in err


def test_check_and_detail_draw_the_chain(tmp_path, capsys):
    (tmp_path / "echo.yaml").write_text(json.dumps(GOOD))
    status, out, _ = run(capsys, "tasks", "--check", tmp_path / "echo.yaml")
    assert status == 0
    assert out.startswith(f"{tmp_path / 'echo.yaml'}: fine.\n")
    assert "  audio              ─→ hear: asr ─→ hear.text\n  hear.text, [voice] ─→ say: tts  ─→ speech\n" in out
    status, out, _ = run(capsys, "tasks", "audiolm")
    assert status == 0
    assert "prompt + semantic.semantic, prompt ─→ coarse: audio_continuation_semantic ─→ coarse.sound" in out
    assert "coarse.sound                       ─→ fine: audio_detail, 3 s at a time   ─→ sound" in out
    assert "--stage-model DIR takes them from DIR/semantic, DIR/coarse, DIR/fine." in out
    assert json.loads(run(capsys, "tasks", "audiolm", "--json")[1]) == Pipeline.load("audiolm").to_card()


def test_a_cascade_makes_what_call_after_call_makes(model):
    made = model.generate("s2st_cascade", audio=tone(), lang="de", source_lang="en", voice="eva", seed=1, **SHORT)
    heard = model.generate("asr", audio=tone(), lang="en", seed=1, **SHORT)
    said = model.generate("mt", text=heard, lang="de", seed=1, **SHORT)
    speech = model.generate("tts", text=said, voice="eva", lang="de", seed=1, **SHORT)
    assert (made["transcript"], made["translation"]) == (heard, said)
    assert torch.equal(made["speech"].samples, speech.samples)
    other = model.generate("s2st_cascade", audio=tone(), lang="de", source_lang="de", voice="eva", seed=1, **SHORT)
    assert other["transcript"] != heard


def test_stages_may_be_of_several_models_and_have_settings_of_their_own(model):
    other = toy_model(tasks=("mt",), seed=7, langs=("en", "de"))
    request = {"audio": tone(), "seed": 5, **SHORT}
    own = {"per_stage": {"translate": {"greedy": True, "answers": ["ja", "nein"]}}}
    made = model.generate("s2st_cascade", stage_models={"translate": other}, **own, **request)
    heard = model.generate("asr", audio=tone(), seed=5, **SHORT)
    assert made["translation"] == other.generate("mt", text=heard, greedy=True, answers=["ja", "nein"], seed=5)


def test_a_batch_of_tasks_and_pipelines_gives_what_each_gives_alone(model):
    requests = [
        {"task": "s2st_cascade", "audio": tone(), "seed": 1},
        {"task": "tts", "text": "abc", "seed": 2},
        {"task": "s2st_cascade", "audio": tone(0.3), "seed": 4, "prompt": tone(0.2)},
    ]
    seen = []
    together = model.generate_batch([{**request, **SHORT} for request in requests], batch_size=2)
    for value, request in zip(together, requests, strict=True):
        alone = model.generate(**request, **SHORT, on_step=seen.append)
        if isinstance(alone, dict):
            assert value["translation"] == alone["translation"]
            value, alone = value["speech"], alone["speech"]
        assert torch.equal(value.samples, alone.samples)
    assert max(now.n_done for now in seen) == 1


def test_what_each_stage_made_is_kept(model):
    [made] = model.run([model.request("s2st_cascade", audio=tone(), seed=1, **SHORT)])
    assert list(made.stages) == ["hear", "translate", "speak"]
    assert made.log_probability == pytest.approx(sum(one.log_probability for one in made.stages.values()))
    assert made.stages["hear"].value == made.values["transcript"]
    assert [length.target for length in made.lengths] == ["speak.speech"]
    assert torch.equal(made.codes["speech"], made.stages["speak"].sequence.codes("speech"))


def test_the_last_stage_is_the_one_that_best_of_chooses(model):
    [made] = model.run([model.request("s2st_cascade", audio=tone(), seed=1, **SHORT)], best_of=3)
    speech = model.request("tts", text=made.values["translation"], seed=1, **SHORT)
    [best] = model.run([speech], best_of=3)
    assert len(made.candidates) == 3
    assert torch.equal(made.values["speech"].samples, best.values["speech"].samples)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage_models": {"hera": None}}, r"stage_models: there is no stage 'hera'\. Did you mean 'hear'\?"),
        ({"per_stage": {"speak": {"top_k": -1}}}, r"stage 'speak': top_k is -1; it must be"),
        ({"per_stage": {"speak": {"top": 1}}}, r"stage 'speak': unknown setting 'top'"),
        ({"per_stage": {"speak": 5}}, r"per_stage is \{'speak': 5\}; it must be by stage: \{'"),
        ({"per_stage": {"spek": {}}}, r"per_stage: there is no stage 'spek'\. Did you mean 'speak'\?"),
        ({"adio": 1}, r"'adio' is no condition of it\. Did you mean 'audio'\?"),
        ({"audio": None}, r"task 's2st_cascade' needs 'audio' \(audio\)"),
        ({"beams": 2}, r"'beams' is for one task\. Say of which stage: per_stage=\{'speak': \{'beams': …\}\}"),
        ({"guidance": {"txt": 2}}, r"cannot be guided by 'txt'\. Did you mean 'text'\? Guided: text"),
        ({"temperature": -1}, r"stage 'hear': temperature is -1"),
        ({"seed": "x"}, r"seed is 'x'; it must be a whole number"),
    ],
)
def test_mistakes_of_a_caller_are_said_in_words(model, changes, message):
    with pytest.raises(GenerationError, match=message):
        model.generate("s2st_cascade", **{"audio": tone(), **changes})


def test_a_model_without_the_task_of_a_stage_is_named(capsys, tmp_path):
    deaf = toy_model(tasks=("tts", "asr"))
    message = r"stage 'translate': model 'toy' was not trained for task 'mt'\..* --stage-model translate=FOLDER"
    with pytest.raises(GenerationError, match=message):
        deaf.generate("s2st_cascade", audio=tone())
    deaf.save(tmp_path / "toy")
    argv = ("generate", "--task", "s2st_cascade", "--audio", "x.wav", "--out", tmp_path / "y.wav")
    status, _, err = run(capsys, *argv, "--model", tmp_path / "toy")
    assert status == 2
    assert re.search(r"stage 'translate': model '.*toy' was not trained for task 'mt'\. It can do: asr, tts\.", err)
    with pytest.raises(GenerationError, match="task 'tts' has no stages"):
        deaf.generate("tts", text="a", per_stage={"tts": {}})
    assert run(capsys, "score", "--task", "s2st_cascade", "--model", tmp_path / "toy")[2].count("is a pipeline") == 1


def test_a_stage_that_makes_nothing_is_named(model):
    silent = {"hear": {"answers": [" "]}}
    with pytest.raises(GenerationError, match="stage 'translate': takes 'hear.text', but stage 'hear' made nothing"):
        model.generate("s2st_cascade", audio=tone(), per_stage=silent, **SHORT)


def test_guidance_goes_to_the_stages_that_take_it(model):
    request = {"audio": tone(), "seed": 1, **SHORT}
    made = model.generate("s2st_cascade", guidance=3.0, **request)
    by_name = model.generate("s2st_cascade", guidance={"text": 3.0}, **request)
    speech = model.generate("tts", text=made["translation"], guidance=3.0, seed=1, **SHORT)
    assert torch.equal(made["speech"].samples, speech.samples)
    assert torch.equal(by_name["speech"].samples, speech.samples)


def test_the_command_line_says_and_writes_all_targets(model, folder, tmp_path, capsys):
    wav = Audio.of(tone()).write(tmp_path / "in.wav")
    argv = ("generate", "--model", folder, "--device", "cpu", "--task", "s2st_cascade", "--audio", wav, "--lang", "de")
    argv += ("--max-seconds", "0.4", "--max-text-tokens", "8", "--out", tmp_path / "out.wav", "--quiet")
    status, out, _ = run(capsys, *argv, "--seed", 2)
    expected = model.generate("s2st_cascade", audio=wav, lang="de", seed=2, max_seconds=0.4, max_text_tokens=8)
    assert status == 0
    assert out == f"transcript\t{expected['transcript']}\ntranslation\t{expected['translation']}\n"
    torch.testing.assert_close(Audio.read(tmp_path / "out.wav").samples, expected["speech"].samples, atol=1e-4, rtol=0)
    row = json.loads(run(capsys, *argv, "--seed", 2, "--json")[1])
    assert row["targets"]["transcript"] == row["stages"]["hear"]["text"] == expected["transcript"]
    assert row["audio"] == str(tmp_path / "out.wav")
    assert row["seconds"] == pytest.approx(expected["speech"].duration_s)
    assert run(capsys, *argv[:-3], "--help")[1].count("--source_lang NAME") == 2
    status, _, err = run(capsys, *argv[:-3])
    assert status == 2
    assert "task 's2st_cascade' makes audio: say where to" in err


def test_a_manifest_may_hold_pipelines(model, folder, tmp_path, capsys):
    Audio.of(tone()).write(tmp_path / "in.wav")
    rows = [
        {"id": "a", "audio": "in.wav", "seed": 1},
        {"id": "b", "task": "tts", "text": "abc"},
        {"id": "c", "audio": "missing.wav"},
        {"id": "d", "audio": "in.wav", "per_stage": {"hear": {"answers": ["ja"]}}},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv = ("generate", "--model", folder, "--manifest", tmp_path / "in.jsonl", "--task", "s2st_cascade", "--quiet")
    argv += ("--device", "cpu", "--max-seconds", "0.4", "--max-text-tokens", "8", "--out", tmp_path / "out")
    assert run(capsys, *argv)[0] == 1
    results = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    expected = model.generate("s2st_cascade", audio=tone(), seed=1, max_seconds=0.4, max_text_tokens=8)
    assert results[0]["targets"]["transcript"] == expected["transcript"]
    assert [row.get("audio") for row in results] == ["a.wav", "b.wav", None, "d.wav"]
    assert "missing.wav' does not exist" in results[2]["error"]
    assert results[3]["stages"]["hear"]["text"] == "ja"


def test_a_setting_of_one_stage_can_be_said_on_the_command_line(model, folder, tmp_path, capsys):
    wav = Audio.of(tone()).write(tmp_path / "in.wav")
    argv = ("generate", "--model", folder, "--device", "cpu", "--task", "s2st_cascade", "--audio", wav, "--quiet")
    argv += ("--max-seconds", "0.4", "--max-text-tokens", "8", "--out", tmp_path / "out.wav")
    stages = ("--per-stage", "hear.answers=ja,nein", "--per-stage", "speak.max_seconds=0.2")
    status, out, _ = run(capsys, *argv, *stages, "--per-stage", "translate.greedy=true")
    per_stage = {"hear": {"answers": ["ja", "nein"]}, "speak": {"max_seconds": 0.2}, "translate": {"greedy": True}}
    expected = model.generate("s2st_cascade", audio=wav, per_stage=per_stage, max_seconds=0.4, max_text_tokens=8)
    assert status == 0
    assert out == f"transcript\t{expected['transcript']}\ntranslation\t{expected['translation']}\n"
    assert Audio.read(tmp_path / "out.wav").n_samples == expected["speech"].n_samples


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("speak=0.7", "--per-stage: is 'speak=0.7', allowed: STAGE.SETTING=X"),
        ("speak.temprature=0.7", "Did you mean 'temperature'?"),
        ("speak.lang=de", "allowed: STAGE.SETTING=X"),
        ("speak.temperature=warm", "--per-stage speak.temperature=warm: argument --temperature: invalid float value"),
        ("speak.greedy=no", "--per-stage speak.greedy=no: allowed is speak.greedy=true."),
        ("sing.top_k=3", "per_stage: there is no stage 'sing'"),
    ],
)
def test_a_wrong_setting_of_a_stage_is_one_line(given, message, folder, tmp_path, capsys):
    wav = Audio.of(tone()).write(tmp_path / "in.wav")
    argv = ("generate", "--model", folder, "--device", "cpu", "--task", "s2st_cascade", "--audio", wav)
    status, _, err = run(capsys, *argv, "--out", tmp_path / "out.wav", "--per-stage", given)
    assert status == 2
    assert message in err
    assert not (tmp_path / "out.wav").exists()


def translation_rows(folder):
    Audio.of(tone()).write(folder / "in.wav")
    Audio.of(tone()).write(folder / "right.wav")
    texts = {"lang": "en", "text": "abc", "target_lang": "de", "target_text": "cba"}
    rows = [{"id": id, "audio": "in.wav", "target_audio": "right.wav", **texts} for id in "ab"]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "in.jsonl"


def test_a_pipeline_is_evaluated_against_the_record_fields_of_its_card(model, folder, tmp_path, capsys):
    manifest = translation_rows(tmp_path)
    argv = ("evaluate", "--model", folder, "--device", "cpu", "--task", "s2st_cascade", "--manifest", manifest)
    argv += ("--max-seconds", "0.4", "--max-text-tokens", "8", "--metrics", "bleu,wer:transcript,duration_ratio")
    argv += ("--per-stage", "hear.answers=abc", "--per-stage", "translate.answers=cba", "--baseline", "reference")
    status, out, _ = run(capsys, *argv, "--out", tmp_path / "report", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["metrics"]["wer:transcript"]["value"] == 0
    assert found["metrics"]["bleu"]["items"] == 2
    assert found["metrics"]["duration_ratio"]["baselines"]["reference"]["value"] == 1
    rows = [json.loads(line) for line in (tmp_path / "report" / "generated.jsonl").read_text().splitlines()]
    settings = {"max_seconds": 0.4, "max_text_tokens": 8}
    per_stage = {"hear": {"answers": ["abc"]}, "translate": {"answers": ["cba"]}}
    made = model.generate(
        "s2st_cascade", audio=tmp_path / "in.wav", lang="de", source_lang="en", per_stage=per_stage, **settings
    )
    assert rows[0]["targets"]["translation"] == made["translation"] == "cba"
    assert Audio.read(tmp_path / "report" / rows[0]["targets"]["speech"]).n_samples == made["speech"].n_samples

    again = ("evaluate", "--task", "s2st_cascade", "--manifest", manifest, "--metrics", "wer:transcript", "--json")
    again += ("--generated", tmp_path / "report" / "generated.jsonl", "--out", tmp_path / "again")
    assert json.loads(run(capsys, *again)[1])["metrics"]["wer:transcript"]["value"] == 0


def test_what_one_model_says_of_itself_is_not_measured_of_a_pipeline(model, tmp_path):
    manifest = translation_rows(tmp_path)
    with pytest.raises(
        NotMeasurableError, match="'perplexity' takes likelihoods of one model; 's2st_cascade' is a pipe"
    ):
        evaluate(model, "s2st_cascade", manifest, metrics=["perplexity"])
    with pytest.raises(GenerationError, match="stage_models: there is no stage 'here'"):
        evaluate(model, "s2st_cascade", manifest, metrics=["bleu"], stage_models={"here": model})
    with pytest.raises(GenerationError, match="'asr' is no pipeline"):
        evaluate(model, "asr", manifest, stage_models={"hear": model})


# Three models, one a stage: semantic tokens, the coarse codes of a codec, all its codes.


@pytest.fixture(scope="module")
def km(tmp_path_factory):
    corpus = write_corpus(tmp_path_factory.mktemp("pipelines") / "corpus")
    return train(corpus, corpus.parent.parent / "km", "--deduplicate", "--quiet")


def stage_model(km, tasks, codebooks, seed, size=8):
    """Return a model of random weights with so many of a codec's six codebooks, and semantic tokens."""
    text, semantic = ToyTextTokenizer(), load_semantic_tokenizer(km)
    codec = ToyAudioTokenizer(6, size)
    codec.set_codebooks(codebooks)
    sizes = [codec.codebook_size] * codebooks
    vocabulary = Vocabulary.create(list(tasks), [], text.size, sizes, semantic_size=semantic.size)
    torch.manual_seed(seed)
    lm = UnitokLM(tiny_config(codebooks, pattern="flatten"), vocabulary).eval()
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.mul_(12.0 if parameter.ndim == 2 else 1.0)
    cards = {name: Task.load(name) for name in tasks}
    return Model(Checkpoint(lm, vocabulary, text, codec, cards, f"toy{seed}", semantic_tokenizer=semantic))


COARSE = ("semantic_to_acoustic", "audio_continuation_semantic")


@pytest.fixture(scope="module")
def stages(km):
    return {
        "semantic": stage_model(km, ["semantic_continuation"], 1, 1),
        "coarse": stage_model(km, COARSE, 4, 2),
        "fine": stage_model(km, ["audio_detail"], 6, 3),
    }


def test_three_models_make_what_their_calls_one_after_another_make(stages):
    start = Audio.of(tone(4.0))
    one = stages["semantic"]
    settings = {"seed": 2, "max_seconds": 0.6}
    [made] = one.run([one.request("audiolm", prompt=start, stage_models=stages, **settings)])

    used = Audio(start.samples[:, : 3 * start.sample_rate_hz], start.sample_rate_hz)
    ids = one.generate("semantic_continuation", prompt=start, **settings)
    heard = one.tokenizers.semantic.encode(used.samples[None], used.sample_rate_hz).codes[0]
    whole = torch.cat([heard, ids], dim=1)
    coarse = stages["coarse"]
    [sound] = coarse.run([coarse.request("audio_continuation_semantic", semantic=whole, prompt=start, **settings)])
    fine = stages["fine"].generate("audio_detail", audio=sound.codes["sound"], **settings)
    assert torch.equal(made.stages["semantic"].value, ids)
    assert torch.equal(made.stages["coarse"].codes["sound"], sound.codes["sound"])
    assert made.codes["sound"].shape[0] == 6
    assert torch.equal(made.value.samples, fine.samples)
    again = one.generate("audiolm", prompt=start, stage_models=stages, **settings)
    assert torch.equal(again.samples, fine.samples)
    free = one.generate("audiolm_from_nothing", stage_models=stages, **settings)
    assert free.duration_s <= 0.6


def test_codes_go_on_as_they_are_only_where_the_codec_is_the_same(stages, km):
    other = stage_model(km, ["audio_detail"], 6, 3, size=4)
    request = {"prompt": tone(0.5), "seed": 2, "max_seconds": 0.6}
    model = stages["semantic"]
    [made] = model.run([model.request("audiolm", stage_models={**stages, "fine": other}, **request)])
    given = made.stages["fine"].sequence.codes("audio")
    coarse = made.stages["coarse"]
    heard = other.tokenizers.audio.encode(coarse.value.samples[None], 16000).codes[0]
    assert torch.equal(given, heard[:4])
    [same] = model.run([model.request("audiolm", stage_models=stages, **request)])
    assert torch.equal(same.stages["fine"].sequence.codes("audio"), same.stages["coarse"].codes["sound"])


def test_a_stage_in_pieces_makes_them_one_by_one_and_joins_them(stages, tmp_path, monkeypatch):
    card = Pipeline.load("audiolm").to_card()
    card["stages"][2]["pieces"] = {"audio": 0.2}
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "pieces.yaml").write_text(
        "stages: " + json.dumps(card["stages"]) + "\n"
        + "".join(f"{key}: {json.dumps(value)}\n" for key, value in card.items() if key not in ("stages", "name"))
        + "name: pieces\n"
    )  # fmt: skip
    monkeypatch.setenv("UNITOK_CARDS", str(tmp_path))
    request = {"prompt": tone(0.5), "seed": 12, "max_seconds": 0.6}
    model = stages["semantic"]
    [made] = model.run([model.request("pieces", stage_models=stages, **request)])
    coarse = made.stages["coarse"].codes["sound"]
    n = coarse.shape[1]
    assert n > 5, "one piece only: choose another seed"
    parts = [
        stages["fine"].run([stages["fine"].request("audio_detail", audio=coarse[:, i : i + 5], seed=seed)])[0]
        for i, seed in zip(range(0, n, 5), (12 + 1_000_033 * piece for piece in range(9)), strict=False)
    ]
    assert torch.equal(made.codes["sound"], torch.cat([part.codes["sound"] for part in parts], dim=1))
    assert made.codes["sound"].shape == (6, n)
    assert made.lengths[-1].target == "fine.sound"
    assert made.lengths[-1].seconds == pytest.approx(n / 25)
    assert made.value.n_samples == 640 * n


def test_ids_of_another_semantic_tokenizer_are_refused(stages, km):
    few = ("--seed", "5", "--max-frames", "40", "--quiet")
    other = train(next(km.parent.rglob("manifest.jsonl")), km.parent / "other", *few)
    models = {**stages, "coarse": stage_model(other, COARSE, 4, 2)}
    with pytest.raises(GenerationError, match=r"'semantic.semantic', ids of the semantic tokenizer 'km' .*'other'"):
        stages["semantic"].generate("audiolm_from_nothing", stage_models=models, max_seconds=0.4)


def test_models_of_stages_are_found_in_folders_of_their_names(stages, tmp_path, capsys):
    wav = Audio.of(tone(0.5)).write(tmp_path / "start.wav")
    stages["semantic"].save(tmp_path / "system" / "semantic")
    stages["coarse"].save(tmp_path / "system" / "coarse" / "model")
    stages["fine"].save(tmp_path / "fine")
    where = [str(tmp_path / "system"), f"fine={tmp_path / 'fine'}"]
    loaded = unitok.load_stages("audiolm", *where, device="cpu")
    assert {stage: model.name for stage, model in loaded.items()} == {
        "semantic": "toy1",
        "coarse": "toy2",
        "fine": "toy3",
    }
    argv = ["generate", "--task", "audiolm", "--prompt", wav, "--device", "cpu", "--max-seconds", "0.4", "--quiet"]
    options = [word for one in where for word in ("--stage-model", one)]
    assert run(capsys, *argv, "--out", tmp_path / "out.wav", *options)[0] == 0
    expected = stages["fine"].generate("audiolm", prompt=wav, stage_models=stages, max_seconds=0.4)
    torch.testing.assert_close(Audio.read(tmp_path / "out.wav").samples, expected.samples, atol=1e-4, rtol=0)
    for wrong, message in (
        ("fin=x", "pipeline 'audiolm' has no stage 'fin'. Did you mean 'fine'? Stages: semantic, coarse, fine."),
        (str(tmp_path), None),
        (str(tmp_path / "fine"), "holds no checkpoint for a stage of pipeline 'audiolm', in a folder named like it"),
        ("fine=nowhere", "there is no checkpoint 'nowhere'"),
    ):
        status, _, err = run(capsys, *argv, "--out", tmp_path / "out.wav", *options[:2], "--stage-model", wrong)
        assert status == (0 if message is None else 2)
        assert (message or "") in err
    status, _, err = run(capsys, *argv, "--out", tmp_path / "out.wav", "--model", tmp_path / "fine")
    assert status == 2
    assert "stage 'semantic': model" in err
    status, _, err = run(capsys, "generate", "--task", "tts", "--text", "a", "--out", "x.wav", *options)
    assert status == 2
    assert "--stage-model is for pipelines" in err


def test_a_condition_of_a_wrong_type_is_said_with_its_stage(model):
    with pytest.raises((GenerationError, DataError), match="stage 'speak'.*got int"):
        model.generate("s2st_cascade", audio=tone(), voice=5, **SHORT)
