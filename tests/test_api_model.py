"""The Python API: values in, values out; every mistake of a caller answered in words."""

import dataclasses

import pytest
import torch
from toy_checkpoint import tone, toy_model

import unitok
from unitok.api import Model, load
from unitok.audio import Audio
from unitok.errors import AudioFormatError, DataError, GenerationError, VocabularyMismatchError
from unitok.tasks import Sampling, Task


@pytest.fixture(scope="module")
def model() -> Model:
    return toy_model()


def test_text_becomes_audio(model):
    audio = model.generate("tts", text="hello", seed=3, max_seconds=0.8)
    assert isinstance(audio, Audio)
    assert audio.sample_rate_hz == 16000
    assert 0 < audio.duration_s <= 0.8
    assert audio.n_samples % 640 == 0


def test_audio_becomes_text(model, tmp_path):
    wav = Audio.of(tone()).write(tmp_path / "x.wav")
    text = model.generate("asr", audio=wav, max_text_tokens=9)
    assert isinstance(text, str)
    assert text == model.generate("asr", audio=str(wav), max_text_tokens=9)
    samples, rate = Audio.read(wav).samples, 16000
    assert text == model.generate("asr", audio=(samples, rate), max_text_tokens=9)
    assert text == model.generate(
        "asr", audio=model.tokenizers.audio.encode(samples[None], rate).codes[0], max_text_tokens=9
    )


def test_several_targets_become_a_dict_in_order(model):
    made = model.generate("s2st_chain", audio=tone(), max_seconds=0.4, max_text_tokens=5)
    assert list(made) == ["transcript", "translation", "speech"]
    assert isinstance(made["transcript"], str)
    assert isinstance(made["speech"], Audio)


def test_a_batch_gives_what_each_gives_alone(model):
    requests = [
        {"task": "tts", "text": "abc", "seed": 1, "max_seconds": 0.6},
        {"task": "asr", "audio": tone(0.3), "max_text_tokens": 8},
        {"task": "tts", "text": "a longer text", "prompt": tone(0.2), "voice": "eva", "seed": 2, "max_seconds": 0.5},
        {"task": "s2st_chain", "audio": tone(0.4), "max_seconds": 0.4, "max_text_tokens": 6},
    ]
    together = model.generate_batch(requests, batch_size=3)
    for value, request in zip(together, requests, strict=True):
        alone = model.generate(**request)
        if isinstance(alone, dict):
            value, alone = value["speech"], alone["speech"]
        assert value == alone if isinstance(alone, str) else torch.equal(value.samples, alone.samples)


def test_settings_of_a_batch_apply_where_a_request_says_nothing_else(model):
    requests = [{"text": "abc"}, {"text": "abc", "seed": 2}, {"task": "asr", "audio": tone()}]
    made = model.generate_batch(requests, task="tts", seed=1, max_seconds=0.4, max_text_tokens=4)
    for audio, seed in zip(made, (1, 2), strict=False):
        assert torch.equal(audio.samples, model.generate("tts", text="abc", seed=seed, max_seconds=0.4).samples)
    assert isinstance(made[2], str)


def test_the_seed_decides(model):
    settings = {"text": "hello there", "max_seconds": 1.0, "temperature": 1.5}
    one, same, other = (model.generate("tts", **settings, seed=seed).samples for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not (one.shape == other.shape and torch.equal(one, other))


def test_settings_start_from_the_card(model):
    assert model.request("tts", text="a").sampling == Sampling(temperature=0.6, top_k=30)
    assert model.request("asr", audio=tone()).sampling.greedy
    assert model.request("asr", audio=tone(), temperature=0.7).sampling == Sampling(0.7, 50, 1.0, greedy=False)
    changed = model.request("tts", text="a", top_k=7, per_kind={"audio": {"top_p": 0.5}})
    assert changed.sampling == Sampling(0.6, 7, 1.0)
    assert changed.per_kind == {"audio": Sampling(0.6, 7, 0.5)}


def test_what_has_a_default_need_not_be_given():
    voice = {"name": "voice", "kind": "label", "default": "eva"}
    conditions = [{"name": "text", "kind": "text"}, voice]
    target = {"name": "speech", "kind": "audio"}
    model = model_of({"name": "tts", "description": "Speak.", "conditions": conditions, "targets": [target]})
    assert model.request("tts", text="a").prompt.split() == {"text": "a", "voice": "eva"}
    assert list(model.long_form("tts", text="a", max_seconds=0.2))


def test_a_temperature_asks_to_sample_wherever_it_is_given(model):
    request = model.request("tts", text="a", greedy=True, per_kind={"audio": {"temperature": 0.5}})
    assert (request.sampling.greedy, request.sampling_of("audio").greedy) == (True, False)
    request = model.request("tts", text="a", codebook_temperatures=[0.9], per_kind={"audio": {"temperature": 0.5}})
    assert request.sampling_of("audio").filters(0).temperature == 0.5


def test_beams_of_a_card_are_for_whole_texts_that_are_not_sampled():
    model = toy_model()
    asr = model.tasks["asr"]
    searched = dataclasses.replace(asr.generate, beams=3)
    model.tasks = {**model.tasks, "asr": dataclasses.replace(asr, generate=searched)}
    given = {"audio": tone(), "max_text_tokens": 4}
    assert model.request("asr", **given).sampling.beams == 3
    for drawn in ({"temperature": 0.7}, {"greedy": True}, {"per_kind": {"text": {"temperature": 0.7}}}):
        assert model.request("asr", **given, **drawn).sampling_of("text").beams == 1
    assert model.request("asr", **given, temperature=0.7, beams=2).sampling.beams == 2
    whole, alone = model.generate("asr", **given), model.generate("asr", **given, beams=1)
    assert "".join(model.stream("asr", **given)) == alone
    assert isinstance(whole, str)


def test_the_first_language_is_the_default():
    assert "<lang:en>" in str(toy_model().sequence("tts", text="a"))
    two = toy_model(langs=("en", "de"))
    assert "<lang:en>" in str(two.sequence("tts", text="a"))
    assert "<lang:" not in str(toy_model(langs=()).sequence("tts", text="a"))
    assert "<lang:de>" in str(two.sequence("tts", text="a", lang="de"))
    with pytest.raises(VocabularyMismatchError, match="no lang 'fr'"):
        two.generate("tts", text="a", lang="fr")


def test_a_prompt_is_cut_to_what_the_card_uses(model):
    samples, rate = tone(4.0)
    cut = model.sequence("tts", text="a", prompt=(samples, rate))
    assert cut.codes("prompt").shape == (4, 75)  # 3 s at 25 frames/s
    assert torch.equal(cut.tokens, model.sequence("tts", text="a", prompt=(samples[: 3 * rate], rate)).tokens)


def test_a_sequence_holds_what_went_in(model):
    samples, rate = tone()
    sequence = model.sequence("tts", text="hi", voice="eva", speech=(samples, rate))
    assert str(sequence) == (
        "<bos> <task:tts> <lang:en> <text> h i </text> <label> e v a </label> "
        "<audio> [4 × 13 frames, 0.5 s] </audio> <eos>"
    )
    codes = model.tokenizers.audio.encode(samples[None, None], rate).codes[0]
    assert torch.equal(sequence.codes("speech"), codes)
    assert str(model.sequence("tts", text="hi")).endswith("</text>")


def test_audio_of_any_rate_and_channels_is_taken(model):
    stereo = torch.stack([tone(0.5, 8000)[0]] * 2)
    assert model.sequence("asr", audio=(stereo, 8000)).codes("audio").shape == (4, 13)


def test_scores_are_log_probabilities_of_the_candidates(model):
    texts = ["abc", "b", ""]
    scores = model.score("asr", audio=tone(), text=texts)
    assert scores.shape == (3,)
    assert (scores < 0).all()
    for text, score in zip(texts, scores, strict=True):
        sequence = model.sequence("asr", audio=tone(), text=text)
        before = int(sequence.prefix_mask.sum())
        states = model.lm.hidden(sequence.tokens[None], sequence.prefix_mask[None])[0]
        log_probabilities = model.lm.slot0_logits(states).log_softmax(-1).detach()
        labels = range(before + 1, len(sequence) - 1)  # contents and the end marker
        expected = sum(float(log_probabilities[s - 1, sequence.tokens[s, 0]]) for s in labels)
        assert float(score) == pytest.approx(expected, rel=1e-4)
    mean = model.score("asr", audio=tone(), text=texts, mean=True)
    torch.testing.assert_close(mean, scores / torch.tensor([4.0, 2.0, 1.0]))


def test_what_was_generated_has_the_log_probability_it_was_given(model):
    [made] = model.run([model.request("tts", text="hey", max_seconds=0.5)])
    score = model.score("tts", text="hey", speech=made.sequence.codes("speech"))
    assert float(score) == pytest.approx(made.log_probability, rel=1e-4)
    assert made.stop in ("end", "limit")
    assert made.value is made.values["speech"]


def test_scores_of_several_targets_pair_the_candidates(model):
    codes = torch.zeros(4, 3, dtype=torch.int64)
    scores = model.score("s2st_chain", audio=tone(), transcript=["a", "b"], translation="c", speech=codes)
    assert scores.shape == (2,)
    with pytest.raises(GenerationError, match="lists of candidates have different lengths: transcript 2, tr"):
        model.score("s2st_chain", audio=tone(), transcript=["a", "b"], translation=["c"], speech=codes)


def test_best_of_keeps_the_candidate_that_asr_hears_best(model):
    [best] = model.run([model.request("tts", text="abc", max_seconds=0.6, temperature=2.0)], best_of=4)
    candidates = [
        model.run([model.request("tts", text="abc", max_seconds=0.6, temperature=2.0, seed=1_000_003 * i)])[0]
        for i in range(4)
    ]
    scores = [float(model.score("asr", audio=c.sequence.codes("speech"), text=["abc"])) for c in candidates]
    assert len(set(scores)) > 1
    chosen = candidates[scores.index(max(scores))]
    assert torch.equal(best.sequence.tokens, chosen.sequence.tokens)


def test_best_of_reports_all_candidates_and_what_was_heard(model):
    request = {"text": "abc", "seed": 5, "max_seconds": 0.6, "temperature": 2.0}
    [best] = model.run([model.request("tts", **request)], best_of=3, hear=True)
    assert best.chosen == max(range(3), key=lambda i: best.candidates[i].score)
    for candidate in best.candidates:
        [alone] = model.run([model.request("tts", **request | {"seed": candidate.seed})], best_of=1)
        codes = alone.sequence.codes("speech")
        assert candidate.score == pytest.approx(float(model.score("asr", audio=codes, text=["abc"])), rel=1e-5)
        assert candidate.heard == model.generate("asr", audio=codes)
        assert candidate.seconds == codes.shape[1] / 25
        assert (alone.candidates, alone.chosen) == ((), None)
    [unheard] = model.run([model.request("tts", **request)], best_of=3)
    assert [candidate.heard for candidate in unheard.candidates] == [None] * 3
    assert torch.equal(unheard.sequence.tokens, best.sequence.tokens)


def test_lengths_are_compared_with_what_the_card_expects():
    model = toy_model()
    model.tasks["tts"] = model.tasks["tts"].with_defaults(
        seconds_per_character=0.1, min_seconds_per_character=0.04, max_seconds_per_character=0.12
    )
    [made] = model.run([model.request("tts", text="a" * 20)])
    [length] = made.lengths
    assert length.seconds == made.value.duration_s == made.sequence.codes("speech").shape[1] / 25
    assert (length.n_characters, length.expected_seconds) == (20, pytest.approx(2.0))
    assert (length.shortest_seconds, length.longest_seconds) == (0.8, 2.4)
    assert 0.8 <= length.seconds <= 2.4
    [heard] = model.run([model.request("asr", audio=tone())])
    assert heard.lengths == ()
    [chain] = model.run([model.request("s2st_chain", audio=tone(), max_seconds=0.2, max_text_tokens=3)])
    [length] = chain.lengths
    assert (length.target, length.expected_seconds) == ("speech", None)
    assert length.n_characters == len(chain.values["translation"])


def guided_by_text_and_voice() -> Model:
    model = toy_model()
    card = model.tasks["tts"].to_card()
    card["conditions"][1]["guided"] = True
    card["generate"]["guidance"] = {"voice": 3.0, "text": 2.0}
    model.tasks["tts"] = Task.from_card(card)
    return model


def test_guidance_takes_a_number_for_each_condition_in_the_order_of_the_card():
    model = guided_by_text_and_voice()

    def steps(**given) -> list[tuple[float, str]]:
        request = model.request("tts", text="ab", **given)
        return [(step.scale, str(step.without).removeprefix("<bos> <task:tts> <lang:en>")) for step in request.guidance]

    text, voice = " <text> a b </text>", " <label> e v a </label>"
    assert steps(voice="eva") == [(2.0, ""), (3.0, text)]
    assert steps(voice="eva", guidance={"voice": 1.5}) == [(1.5, text)]
    assert steps(voice="eva", guidance={"text": 1.5}) == [(1.5, ""), (1.0, text)]
    assert steps(voice="eva", guidance=2) == steps(voice="eva", guidance={"text": 2, "voice": 2}) == [(2.0, "")]
    assert steps() == [(2.0, "")]  # no voice to be guided by
    assert steps(voice="eva", guidance=1) == []
    assert voice not in str(model.request("tts", text="ab", voice="eva").guidance[1].without)
    for wrong, message in [
        ({"lang": 2.0}, r"task 'tts' cannot be guided by 'lang': .* does not mark it 'guided'. Guided: text, voice"),
        (1e38, r"guidance is 1e\+38; it must be a number from 0 to 1000"),
        ({"text": -1}, r"guidance is {'text': -1}; it must be a number from 0 to 1000: 1 is off"),
        ("2", r"guidance is '2'; it must be a number from 0 to 1000"),
    ]:
        with pytest.raises(GenerationError, match=message):
            steps(guidance=wrong)


def test_scores_are_not_guided():
    plain, strong = toy_model(), guided_by_text_and_voice()
    values = {"text": "ab", "speech": torch.zeros(4, 3, dtype=torch.int64)}
    assert torch.equal(plain.score("tts", **values), strong.score("tts", **values))


def test_sounds_are_checked_by_their_captions_in_their_language():
    model = toy_model(tasks=("tta", "aac", "asr"), langs=("en", "de"))
    request = {"task": "tta", "text": "a bell", "lang": "de", "max_seconds": 0.6}
    [best] = model.run([model.request(**request)], best_of=4)
    candidates = [model.run([model.request(**request, seed=1_000_003 * i)], best_of=1)[0] for i in range(4)]
    codes = [c.sequence.codes("sound") for c in candidates]
    scores = [float(model.score("aac", audio=c, caption=["a bell"], lang="de")) for c in codes]
    assert torch.equal(best.sequence.codes("sound"), codes[scores.index(max(scores))])
    with pytest.raises(GenerationError, match="a model trained for 'aac'"):
        toy_model(tasks=("tta", "asr")).generate("tta", text="a bell", best_of=2)


def with_best_of(model: Model, n: int) -> Model:
    """Make every card of a model say `best_of: n`."""
    for name, task in model.tasks.items():
        model.tasks[name] = task.with_defaults(best_of=n)
    return model


def test_best_of_is_as_the_card_says_unless_the_caller_does():
    plain, carded = toy_model(), with_best_of(toy_model(), 4)
    request = {"task": "tts", "text": "abc", "seed": 5, "max_seconds": 0.6, "temperature": 2.0}
    first, best = plain.generate(**request), plain.generate(**request, best_of=4)
    assert first.samples.shape != best.samples.shape or not torch.equal(first.samples, best.samples)
    assert torch.equal(carded.generate(**request).samples, best.samples)
    assert torch.equal(carded.generate(**request, best_of=1).samples, first.samples)


def test_best_of_of_a_card_is_for_what_can_be_compared():
    carded, deaf = with_best_of(toy_model(), 3), with_best_of(toy_model(tasks=("tts",)), 3)
    requests = [
        {"task": "asr", "audio": tone(), "max_text_tokens": 5},
        {"task": "tts", "text": "abc", "max_seconds": 0.4},
        {"task": "asr", "audio": tone(0.3), "max_text_tokens": 5},
    ]
    seen = []
    heard, spoken, heard_too = carded.generate_batch(requests, on_step=seen.append)
    plain = toy_model()
    assert [heard, heard_too] == [plain.generate(**requests[0]), plain.generate(**requests[2])]
    assert torch.equal(spoken.samples, plain.generate(**requests[1], best_of=3).samples)
    assert seen[-1].n_done == seen[-1].n_requests == 3
    assert deaf.generate(**requests[1]).n_samples > 0


def test_best_of_counts_requests_not_candidates(model):
    seen = []
    model.generate("tts", text="abc", max_seconds=0.2, best_of=3, on_step=seen.append)
    assert {step.n_requests for step in seen} == {1}
    assert seen[-1].n_done == 1


def test_best_of_needs_text_audio_and_asr(model):
    with pytest.raises(GenerationError, match=r"task 'asr' of model 'toy' is not\. Use best_of=1"):
        model.generate("asr", audio=tone(), best_of=2)
    with pytest.raises(GenerationError, match="a model trained for 'asr'"):
        toy_model(tasks=("tts",)).generate("tts", text="a", best_of=2)
    with pytest.raises(GenerationError, match="best_of is 0; it must be a whole number, 1 or more"):
        model.generate("tts", text="a", best_of=0)


@pytest.mark.parametrize(
    ("task", "conditions", "error", "message"),
    [
        ("ttx", {"text": "a"}, GenerationError, r"not trained for task 'ttx'\. Did you mean 'tts'\? It can do: tts,"),
        ("tts", {"txt": "a"}, GenerationError, r"'txt' is no condition of it\. Did you mean 'text'\? It takes: text,"),
        ("tts", {}, GenerationError, r"task 'tts' needs 'text' \(text\)\. It takes: text, voice, prompt"),
        ("tts", {"text": None}, GenerationError, r"task 'tts' needs 'text'"),
        ("tts", {"text": "a", "speech": "x.wav"}, GenerationError, r"'speech' is what it makes, not a condition"),
        ("tts", {"text": 5}, DataError, r"task 'tts', 'text': got int, kind text takes text"),
        ("asr", {"audio": "nowhere.wav"}, AudioFormatError, r"audio file 'nowhere\.wav' does not exist"),
        ("asr", {"audio": 5}, AudioFormatError, r"got int, allowed: Audio, a path"),
        ("asr", {"audio": (torch.zeros(0), 16000)}, AudioFormatError, "0|no samples|empty"),
        ("asr", {"audio": (torch.zeros(301), 1)}, GenerationError, r"'audio' lasts 301 s, at most 300 s fit"),
        ("tts", {"text": "a", "temperature": -1}, GenerationError, r"temperature is -1; it must be a number, 0"),
        ("tts", {"text": "a", "seed": "x"}, GenerationError, r"seed is 'x'; it must be a whole number, 0 or more"),
        ("tts", {"text": "a", "seed": -1}, GenerationError, r"seed is -1; it must be a whole number, 0 or more"),
        ("tts", {"text": "a", "max_seconds": 1e12}, GenerationError, r"max_seconds is 1.*above 0, at most 86400"),
        ("tts", {"text": "a", "max_seconds": 0}, GenerationError, r"max_seconds is 0; it must be a number above 0"),
        ("tts", {"text": "a", "max_seconds": float("inf")}, GenerationError, r"max_seconds is inf; it must be"),
        ("asr", {"audio": tone(), "max_text_tokens": 0.5}, GenerationError, r"is 0.5; it must be a whole number, 1 or"),
        ("tts", {"text": "a", "best_of": 2.5}, GenerationError, r"best_of is 2.5; it must be a whole number"),
        ("tts", {"text": "a", "per_kind": {"audio": 5}}, GenerationError, r"per_kind is .* must be settings by kind"),
        ("asr", {"audio": ([[0.1, 0.2], [0.3]], 16000)}, AudioFormatError, r"samples cannot be read as numbers \[N\]"),
        ("asr", {"audio": (torch.zeros(9), None)}, AudioFormatError, r"sample rate is None, allowed: a whole number"),
        ("tts", {"text": "a", "per_kind": {"audio": {"heat": 1}}}, GenerationError, r"unknown setting 'heat'\."),
        ("tts", {"text": "a", "per_kind": {"adio": {}}}, GenerationError, r"'adio' is no kind.*Did you mean 'audio'"),
    ],
)  # fmt: skip
def test_mistakes_are_said_in_words(model, task, conditions, error, message):
    with pytest.raises(error, match=message):
        model.generate(task, **conditions)


def test_score_says_what_it_misses(model):
    with pytest.raises(GenerationError, match="score needs candidates for its target 'text'"):
        model.score("asr", audio=tone())
    with pytest.raises(GenerationError, match="the list of candidates for 'text' is empty"):
        model.score("asr", audio=tone(), text=[])
    with pytest.raises(
        GenerationError, match=r"'adio' is no condition of it\. Did you mean 'audio'\? It takes: audio,"
    ):
        model.score("asr", adio=tone(), text=["a"])
    with pytest.raises(DataError, match="a target's audio has 1 codebooks, scoring it needs the 2"):
        model.score("tts", text="a", speech=torch.zeros(1, 3, dtype=torch.int64))


def test_a_text_longer_than_the_card_accepts_is_refused():
    limited = toy_model()
    card = limited.tasks["tts"]
    limited.tasks["tts"] = dataclasses.replace(card, generate=dataclasses.replace(card.generate, max_characters=4))
    with pytest.raises(GenerationError, match="'text' has 5 characters, it may have 4"):
        limited.generate("tts", text="abcde")
    assert isinstance(limited.generate("tts", text="abcd", max_seconds=0.1), Audio)


def test_a_request_without_a_task_is_named(model):
    with pytest.raises(GenerationError, match="request 1 names no task"):
        model.generate_batch([{"task": "tts", "text": "a"}, {"text": "a"}])


def test_a_saved_model_loads_and_makes_the_same(model, tmp_path):
    again = load(model.save(tmp_path / "toy"), device="cpu")
    settings = {"text": "hello", "seed": 4, "max_seconds": 0.6}
    assert torch.equal(again.generate("tts", **settings).samples, model.generate("tts", **settings).samples)
    assert repr(again).startswith("Model('toy', 0.0 M parameters, tasks: asr, s2st_chain, tts, vc)")
    assert unitok.load is load


def model_of(*cards):
    """Return the toy model with more tasks, or other cards of its own."""
    model = toy_model()
    model.tasks |= {card["name"]: Task.from_card(card) for card in cards}
    return model


@pytest.mark.parametrize("seconds", [0.2, 0.52])
def test_a_target_lasts_as_long_as_the_condition_that_its_card_names(seconds):
    target = {"name": "speech", "kind": "audio", "length": {"same_as": "audio"}}
    card = {"name": "asr", "description": "Copy.", "conditions": [{"name": "audio", "kind": "audio"}]}
    model = model_of({**card, "targets": [target]})
    requests = [model.request("asr", audio=tone(seconds), seed=seed, temperature=1.5) for seed in range(4)]
    for made in model.run(requests):
        codes = made.sequence.codes("speech")
        assert codes.shape == made.sequence.codes("audio").shape
        assert made.stop == "end"
        assert not made.lengths[0].cut
    short = model.run([model.request("asr", audio=tone(seconds), max_seconds=0.08)])[0]
    assert short.sequence.codes("speech").shape[1] == 2
    assert short.lengths[0].cut
    assert model.generate("asr", audio=torch.zeros(4, 0, dtype=torch.long)).n_samples == 0  # Kc < K: none to refine


def test_what_is_made_for_a_place_in_a_recording_comes_with_what_is_around_it():
    around = [{"name": name, "kind": "audio", "field": "audio", "from": name} for name in ("before", "after")]
    text = {"name": "text", "kind": "text"}
    target = {"name": "speech", "kind": "audio", "field": "audio"}
    model = model_of({"name": "tts", "description": "Edit.", "conditions": [text, *around], "targets": [target]})
    request = model.request("tts", text="abc", before=tone(0.4), after=tone(0.2), max_seconds=0.4, seed=1)
    made = model.run([request])[0]
    n_frames = [made.sequence.codes(name).shape[1] for name in ("before", "speech", "after")]
    assert n_frames[1] > 0
    assert made.value.n_samples == 640 * sum(n_frames)
    kept = model.request("tts", text="abc", before=torch.zeros(4, 10, dtype=torch.long), after=tone(0.2))
    assert kept.prompt.codes("before").shape[1] == 10
    coarse = {"text": "abc", "before": torch.zeros(1, 10, dtype=torch.long), "after": tone(0.2), "max_seconds": 0.4}
    made = model.run([model.request("tts", **coarse)])[0]  # one codebook of what is before cannot be joined
    assert made.value.n_samples == 640 * sum(made.sequence.codes(name).shape[1] for name in ("speech", "after"))
    pieces = list(model.stream("tts", **coarse))
    assert sum(piece.n_samples for piece in pieces) == made.value.n_samples


def test_only_prepared_requests_are_run(model):
    with pytest.raises(GenerationError, match="run takes what `request` returns, got dict; generate_batch takes"):
        model.run([{"task": "tts", "text": "hi"}])


def test_an_instruction_stands_in_place_of_the_task():
    card = {**Task.load("tts").to_card(), "instructions": ["Say {text}"]}
    model = model_of(card)
    request = model.request("tts", text="abc", voice="eva", instruction="Say {text} as {voice}.")
    assert [s.name for s in request.prompt.segments] == ["<bos>", "<lang:en>", "instruction"]
    assert request.prompt.split() == {"instruction": "say abc as eva."}
    assert isinstance(model.generate("tts", text="abc", instruction="Speak.", max_seconds=0.2), Audio)
    assert model.request("tts", text="abc", instruction="Speak.").prompt.split() == {
        "instruction": "speak.",
        "text": "abc",
    }
    requests = [model.request("tts", text="abc", instruction=words) for words in ("Say {text} aloud", "Speak.")]
    assert [one.text_ids() for one in requests] == [model.tokenizers.text.encode("abc")] * 2
    [best] = model.run(requests[:1], best_of=3)  # what is heard is compared with the text, not with the instruction
    expected = model.score("asr", audio=best.codes["speech"], text="abc")
    assert max(one.score for one in best.candidates) == pytest.approx(float(expected), abs=1e-3)
    assert best.lengths[0].n_characters == 3
    with pytest.raises(DataError, match="names 'voice', which is missing"):
        model.request("tts", text="abc", instruction="As {voice}")
    with pytest.raises(DataError, match=r"names 'txt', which is no text or label .* Did you mean 'text'"):
        model.request("tts", text="abc", instruction="As {txt}")
    with pytest.raises(DataError, match="the instruction is 5; it must be text"):
        model.request("tts", text="abc", instruction=5)
    with pytest.raises(GenerationError, match="has no instructions in its card"):
        model_of({**card, "instructions": []}).request("tts", text="abc", instruction="Speak.")


def test_a_task_that_is_told_no_language_begins_without_one():
    card = {**Task.load("asr").to_card(), "lang_field": ""}
    model = model_of(card)
    assert [s.name for s in model.request("asr", audio=tone()).prompt.segments][:2] == ["<bos>", "<task:asr>"]
    assert "<lang:en>" not in str(model.sequence("asr", audio=tone(), text="a"))
    with pytest.raises(GenerationError, match="task 'asr' is told no language, got 'en'. Leave 'lang' out"):
        model.request("asr", audio=tone(), lang="en")
