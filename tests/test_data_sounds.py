"""Procedural sounds: what the script of a scene says is measured in its audio and read in its caption."""

import json
import re
import time
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from unitok.data.synth.corpus import write_corpus
from unitok.data.synth.grammar import number_words, plural
from unitok.data.synth.scenes import Scene, SceneEvent, SoundCorpus, draw_scene
from unitok.data.synth.signals import RATE_HZ
from unitok.data.synth.sounds import PITCHES, SOUNDS, SoundClass
from unitok.errors import DataError

COUNTED = [name for name, sound in SOUNDS.items() if sound.countable]
PITCHED = [name for name, sound in SOUNDS.items() if sound.pitched]
LASTING = [name for name, sound in SOUNDS.items() if not sound.countable]
STEMS = {
    "pitch": {"low": "low|deep", "middle": "medium|mid", "high": "high"},
    "speed": {"slow": "slow", "fast": "fast|quick|rapid"},
    "loudness": {"quiet": "quiet|soft|faint", "loud": "loud"},
}
NOUNS = {form: name for name, sound in SOUNDS.items() for form in (sound.noun, plural(sound.noun))}


def play(sound: SoundClass, seed: int, pitch: str | None = None) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return sound.play(rng, sound.frequency(rng, pitch), None if sound.countable else 2.0)


def render(scene: Scene, seed: int = 0) -> np.ndarray:
    return scene.render(np.random.default_rng(seed)).samples[0].numpy()


def onsets_s(wave: np.ndarray, smooth_s: float = 0.12) -> list[float]:
    """Return when the smoothed level climbs over half its maximum, having been below a quarter of it."""
    window = np.hanning(round(smooth_s * RATE_HZ))
    level = np.sqrt(np.convolve(wave**2, window / window.sum(), "same")[::80])
    onsets, silent = [], True
    for i, value in enumerate(level / level.max()):
        if silent and value > 0.5:
            onsets.append(i * 80 / RATE_HZ)
        silent = value < 0.25 if value > 0.5 or value < 0.25 else silent
    return onsets


def dominant_hz(wave: np.ndarray) -> float:
    n = 1 << (len(wave) - 1).bit_length() + 1
    return float(np.abs(np.fft.rfft(wave, n)).argmax() * RATE_HZ / n)


def fingerprint(wave: np.ndarray) -> np.ndarray:
    """Return levels in dB in 24 bands x 6 parts of its time, and how fast its envelope moves."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(wave, 512), 512)[::128] * np.hanning(512)
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges = np.unique(np.geomspace(2, 257, 25).astype(int))
    parts = [part.mean(0) for part in np.array_split(np.add.reduceat(power, edges[:-1], axis=1), 6)]
    envelope = np.sqrt(power.sum(1))
    moves = np.abs(np.fft.rfft(envelope - envelope.mean(), 256))[1:65].reshape(8, 8).mean(1) / envelope.mean()
    levels = 10 * np.log10(np.array(parts) / power.mean(0).sum() + 1e-5)
    return np.concatenate([levels.ravel(), 20 * np.log10(moves + 1e-2)])


def read_event(text: str) -> SceneEvent:
    """Read one event out of a clause or phrase."""
    noun = re.search(rf"\b({'|'.join(sorted(NOUNS, key=len, reverse=True))})\b", text)
    assert noun, text
    count = re.search(r"\b(once|twice|(\w+) times)\b", text) or re.match(r"(one|a single|two|three|four|five)\b", text)
    counts = {"once": 1, "twice": 2, "a single": 1} | {number_words(n): n for n in range(1, 6)}
    said = {
        field: next((name for name, stems in words.items() if re.search(rf"\b({stems})", text)), None)
        for field, words in STEMS.items()
    }
    return SceneEvent(NOUNS[noun[1]], count=count and counts[count[0].removesuffix(" times")], **said)


def read_caption(caption: str) -> Scene:
    """Read the script out of a caption: every wording says all of it."""
    text = caption[0].lower() + caption[1:].rstrip(".").removesuffix(" in the background")
    body = re.sub(r"^(first|after|while) ", "", text)
    joints = r",? followed by |,? and then |, then |, and finally | before | after | while | over | with |, "
    events = [read_event(part) for part in re.split(joints, body)]
    if re.search(r"\b(while|over|with)\b", text):
        under, over = events if text.startswith("while") else events[::-1]
        return Scene((over,), background=under)
    return Scene(tuple(events[::-1] if re.search(r".after\b", text) else events))


def drawn(count: int, split: str = "train", seed: int = 0) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [draw_scene(rng, split) for _ in range(count)]


def script(scene: Scene) -> tuple:
    """Return what the split is made by: all but speed and loudness."""
    return tuple(event and (event.sound, event.pitch, event.count) for event in (*scene.events, scene.background))


def test_there_are_many_classes_in_many_families() -> None:
    assert len(SOUNDS) >= 28
    assert len({sound.family for sound in SOUNDS.values()}) >= 5
    assert len({sound.noun for sound in SOUNDS.values()}) == len(SOUNDS)


@pytest.mark.parametrize("name", SOUNDS)
def test_every_class_is_audible_and_starts_and_ends_without_a_click(name: str) -> None:
    wave = play(SOUNDS[name], 0)
    assert np.isfinite(wave).all()
    assert np.abs(wave).max() == pytest.approx(1)
    assert wave.std() > 0.02
    assert abs(wave.mean()) < 0.05
    assert wave[0] == wave[-1] == 0


def test_a_sound_depends_on_its_generator_alone() -> None:
    for sound in SOUNDS.values():
        np.testing.assert_array_equal(play(sound, 7), play(sound, 7))
        assert not np.array_equal(play(sound, 7)[:1000], play(sound, 8)[:1000])


def test_unheard_draws_are_told_apart_by_spectrum_and_envelope() -> None:
    def prints(seeds: range) -> list[tuple[str, np.ndarray]]:
        return [(name, fingerprint(play(sound, seed, "middle" if sound.pitched else None)))
                for name, sound in SOUNDS.items() for seed in seeds]  # fmt: skip

    known = prints(range(8))
    places = np.array([place for _, place in known])
    guesses = [
        (name, known[int(np.linalg.norm(places - new, axis=1).argmin())][0]) for name, new in prints(range(8, 11))
    ]
    assert not [pair for pair in guesses if len(set(pair)) > 1]


@pytest.mark.parametrize("name", PITCHED)
def test_low_middle_and_high_lie_in_separate_bands(name: str) -> None:
    bands = [[dominant_hz(play(SOUNDS[name], seed, pitch)) for seed in range(5)] for pitch in PITCHES]
    low, middle, high = bands
    assert 1.1 * max(low) < min(middle)
    assert 1.1 * max(middle) < min(high)


@pytest.mark.parametrize("name", [name for name in COUNTED if name != "doorbell"])
def test_as_many_onsets_are_heard_as_the_script_counts(name: str) -> None:
    for count in (1, 3, 5):
        assert (
            len(onsets_s(render(Scene((SceneEvent(name, count=count, speed="slow" if count > 1 else None),))))) == count
        )


@pytest.mark.parametrize("name", ["knock", "clap", "drum", "clock", "dog", "beep"])
def test_fast_is_faster_than_slow_at_the_same_count(name: str) -> None:
    def spacing(speed: str | None) -> float:
        return float(np.diff(onsets_s(render(Scene((SceneEvent(name, count=4, speed=speed),))), 0.05)).mean())

    assert 1.5 * spacing("fast") < spacing(None)
    assert 1.5 * spacing(None) < spacing("slow")


def test_events_sound_in_the_order_of_the_script() -> None:
    low, high = SceneEvent("beep", "low", 1), SceneEvent("bird", "high", 1)
    for events in ((low, high), (high, low)):
        wave = render(Scene(events))
        first, second = onsets_s(wave)
        middle = round((first + second) / 2 * RATE_HZ)
        heard = [dominant_hz(wave[:middle]) > 1500, dominant_hz(wave[middle:]) > 1500]
        assert heard == [event.pitch == "high" for event in events]


def test_a_background_sounds_before_under_and_after_the_event() -> None:
    over = SceneEvent("beep", "high", 3)
    alone, both = render(Scene((over,))), render(Scene((over,), SceneEvent("rain")))
    edges = both[: RATE_HZ // 3], both[-RATE_HZ // 3 :]
    assert all(0.005 < edge.std() < both.std() for edge in edges)
    assert len(onsets_s(both)) == len(onsets_s(alone)) == 3


@pytest.mark.parametrize("name", ["dog", "rain", "bell"])
def test_loudness_sets_the_peak(name: str) -> None:
    count = 2 if SOUNDS[name].countable else None
    peaks = [np.abs(render(Scene((SceneEvent(name, count=count, loudness=loudness),)))).max()
             for loudness in ("quiet", None, "loud")]  # fmt: skip
    assert peaks == pytest.approx([0.08, 0.3, 0.8])


def test_scenes_last_one_to_eight_seconds_and_are_never_clipped() -> None:
    for seed, scene in enumerate(drawn(60)):
        wave = render(scene, seed)
        assert RATE_HZ <= len(wave) <= scene.longest_s * RATE_HZ + 1
        assert scene.longest_s <= 8
        assert 0.02 < np.abs(wave).max() < 1


def test_a_loud_background_built_by_hand_does_not_clip() -> None:
    scene = Scene((SceneEvent("white_noise", loudness="loud"),), SceneEvent("organ", "low", loudness="loud"))
    assert np.abs(render(scene)).max() <= 0.981


def test_the_whole_script_can_be_read_back_from_its_caption() -> None:
    rng = np.random.default_rng(0)
    wordings = set()
    for scene in drawn(600):
        caption = scene.caption(rng)
        assert read_caption(caption) == scene, caption
        assert caption[0].isupper()
        assert caption.endswith(".")
        wordings.add(caption)
    assert len(wordings) > 550


@pytest.mark.parametrize(
    ("event", "captions"),
    [
        (SceneEvent("rain"), {"Rain falls.", "Rain patters.", "The sound of rain."}),
        (SceneEvent("dog", count=2), {"A dog barks twice.", "Two barks of a dog."}),
        (SceneEvent("clap", count=1), {"A clap sounds once.", "One clap.", "A single clap."}),
        (SceneEvent("owl", count=3, speed="slow"), {
            "An owl hoots three times slowly.", "An owl hoots slowly three times.", "Three slow hoots of an owl.",
        }),
    ],
)  # fmt: skip
def test_captions_are_english(event: SceneEvent, captions: set[str]) -> None:
    rng = np.random.default_rng(0)
    assert {Scene((event,)).caption(rng) for _ in range(60)} == captions


def test_train_and_held_out_scripts_never_meet_whatever_the_seed() -> None:
    train = {script(scene) for seed in range(3) for scene in drawn(400, seed=seed)}
    held_out = {script(scene) for seed in range(3) for scene in drawn(60, "held_out", seed)}
    assert len(held_out) > 100
    assert not train & held_out


def test_speed_and_loudness_do_not_decide_the_split() -> None:
    for scene in drawn(100):
        plain = [SceneEvent(*astuple(event)[:3]) for event in scene.events]
        background = scene.background and SceneEvent(*astuple(scene.background)[:3])
        assert not Scene(tuple(plain), background).held_out


def test_a_twentieth_is_held_out_but_no_sound_is_withheld_altogether() -> None:
    pairs = [Scene((SceneEvent(a, count=2), SceneEvent(b, count=3))) for a in COUNTED for b in COUNTED if a != b]
    assert 0.03 < np.mean([scene.held_out for scene in pairs]) < 0.07
    assert not any(Scene((SceneEvent(name),)).held_out for name in LASTING)
    for name in COUNTED:
        assert not all(Scene((SceneEvent(name, count=count),)).held_out for count in range(1, 6))


def test_an_item_depends_on_settings_and_index_alone() -> None:
    first, again = SoundCorpus(seed=3), SoundCorpus(seed=3)
    items = [first.item(i) for i in range(6)]
    for i in (5, 2):
        item = again.item(i)
        assert item.fields == items[i].fields
        assert item.audio["audio"].samples.equal(items[i].audio["audio"].samples)
    assert len({item.fields["caption"] for item in items}) == 6
    assert SoundCorpus(seed=4).item(5).fields != items[5].fields


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_an_item_has_caption_script_and_the_label_of_a_single_sound(split: str) -> None:
    labels = []
    for index in range(30):
        item = SoundCorpus(split=split).item(index)
        written = json.loads(json.dumps(item.fields))["script"]
        assert written == item.fields["script"]
        background = written["background"] and SceneEvent(**written["background"])
        scene = Scene(tuple(SceneEvent(**event) for event in written["events"]), background)
        assert scene.held_out == (split == "held_out")
        assert read_caption(item.fields["caption"]) == scene
        assert item.fields.get("label") == scene.label
        labels.append(scene.label)
    assert None in labels
    assert set(labels) - {None} <= set(SOUNDS)


def test_a_corpus_is_written_with_its_scripts(tmp_path: Path) -> None:
    assert write_corpus(tmp_path, SoundCorpus(), utterances=3, workers=1)[0] == 3
    rows = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert [row["caption"] for row in rows] == [SoundCorpus().item(i).fields["caption"] for i in range(3)]
    assert all((tmp_path / row["audio"]).is_file() for row in rows)


def test_a_corpus_whose_making_was_killed_within_a_line_goes_on(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    write_corpus(tmp_path, SoundCorpus(), utterances=3, workers=1)
    whole = manifest.read_text()
    manifest.write_text(whole[:-20])
    assert write_corpus(tmp_path, SoundCorpus(), utterances=3, workers=1)[0] == 3
    assert manifest.read_text() == whole


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"sound": "dogg"}, r"'dogg' is unknown\. Did you mean 'dog'"),
        ({"sound": "rain", "pitch": "low"}, r"pitch of 'rain' is 'low', allowed: None"),
        ({"sound": "bell", "pitch": "deep", "count": 1}, "pitch of 'bell' is 'deep', allowed: None, low, middle, high"),
        ({"sound": "rain", "count": 2}, r"count of 'rain' is 2, allowed: None"),
        ({"sound": "dog"}, r"count of 'dog' is None, allowed: 1, 2, 3, 4, 5"),
        ({"sound": "dog", "count": 1, "speed": "fast"}, r"speed of 'dog' is 'fast', allowed: None"),
        ({"sound": "dog", "count": 1, "loudness": "huge"}, r"loudness of 'dog' is 'huge', allowed: quiet, None, loud"),
    ],
)  # fmt: skip
def test_an_event_that_its_sound_cannot_do_is_refused(fields: dict, match: str) -> None:
    with pytest.raises(DataError, match=match):
        SceneEvent(**fields)


def test_a_scene_that_cannot_be_is_refused() -> None:
    dog, rain = SceneEvent("dog", count=2), SceneEvent("rain")
    with pytest.raises(DataError, match="4 events, allowed: 1 to 3"):
        Scene((dog,) * 4)
    with pytest.raises(DataError, match="background 'dog'.*count 2, allowed.*count None"):
        Scene((rain,), background=dog)
    with pytest.raises(DataError, match=r"background 'rain' is under 2 event\(s\).*allowed: under 1 event"):
        Scene((dog, dog), background=rain)


def test_a_sound_without_pitch_or_length_says_so() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="pitch of 'rain' is 'low', allowed: None, as it has no pitch"):
        SOUNDS["rain"].frequency(rng, "low")
    with pytest.raises(DataError, match="Say for how many seconds"):
        SOUNDS["rain"].play(rng, 0.0)


def test_scenes_are_made_a_hundred_times_faster_than_heard() -> None:
    corpus = SoundCorpus()
    corpus.item(0)
    start = time.process_time()
    seconds = sum(corpus.item(index).audio["audio"].duration_s for index in range(40))
    assert seconds / (time.process_time() - start) > 100
