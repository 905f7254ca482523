"""Every procedural corpus: what it promises is measured, answers are worked out again, splits share nothing."""

import re
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from unitok.cli.synth import CORPORA
from unitok.data.synth.commands import CommandGrammar
from unitok.data.synth.dialogues import DAYS, MONTHS, OPPOSITES, turn
from unitok.data.synth.grammar import number_words
from unitok.data.synth.languages import LanguageCorpus
from unitok.data.synth.melodies import INSTRUMENTS, MelodyCorpus, Note, draw_melody, hertz, notes_text
from unitok.data.synth.mixtures import MixtureCorpus
from unitok.data.synth.questions import QuestionCorpus
from unitok.data.synth.scene_edits import FACTOR
from unitok.data.synth.scenes import Scene, SceneEvent
from unitok.data.synth.signals import RATE_HZ
from unitok.data.synth.songs import SINGERS, sing
from unitok.data.synth.sounds import SOUNDS
from unitok.data.synth.styles import EMOTIONS, StyleCorpus
from unitok.data.synth.voices import VoiceStyle, speak
from unitok.data.synth.word_times import speak_timed, timed_text
from unitok.tokenizers.symbols import NOTES

pytestmark = pytest.mark.slow
needs_voices = pytest.mark.skipif(
    not (shutil.which("flite") and shutil.which("espeak-ng")), reason="needs flite and espeak-ng"
)
SPEAKING = {"speech", "translation", "mixtures", "styles", "languages", "commands", "dialogues"}
ROUNDING = 2 / 32768


def corpus(name, seed=0, split="train"):
    module, _, maker = CORPORA[name].maker.partition(".")
    return getattr(import_module(f"unitok.data.synth.{module}"), maker)(seed, split)


def wave(item, field="audio"):
    return item.audio[field].samples[0].numpy().astype(np.float64)


def words_of(listed):
    """Split a row of the table of corpora into what all rows have and what some have."""
    some = re.findall(r"\((\w+)\)", listed)
    return {word for word in re.findall(r"\w+", listed)} - set(some), set(some)


def pitch_hz(piece, low=60.0, high=1600.0):
    """The first strong peak of the autocorrelation, in Hz; made finer by a parabola through its neighbours."""
    piece = piece - piece.mean()
    spectrum = np.abs(np.fft.rfft(piece, 4 * len(piece))) ** 2
    r = np.fft.irfft(spectrum)[: len(piece) // 2]
    r /= np.linspace(1, 0.5, len(r))
    lags = np.arange(int(RATE_HZ / high), min(int(RATE_HZ / low), len(r) - 1))
    peaks = [k for k in lags if r[k] >= r[k - 1] and r[k] >= r[k + 1]]
    best = max(r[k] for k in peaks)
    k = next(k for k in peaks if r[k] > 0.85 * best)
    a, b, c = r[k - 1 : k + 2]
    return RATE_HZ / (k + 0.5 * (a - c) / (a - 2 * b + c))


def notes_of(text):
    """Read `<A4><0.50>…` back: MIDI pitch or None, begin and end in s."""
    found, at = [], 0.0
    for name, seconds in re.findall(r"<([A-G]#?-?\d+|rest)><([\d.]+)>", text):
        letter, octave = re.fullmatch(r"([A-G]#?)(-?\d+)", name).groups() if name != "rest" else (None, 0)
        pitch = None if letter is None else NOTES.index(letter) + 12 * (int(octave) + 1)
        found.append((pitch, at, at + float(seconds)))
        at += float(seconds)
    return found


@needs_voices
@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_makes_the_fields_that_the_help_and_the_readme_list_and_the_same_again(name):
    items = [corpus(name).item(i) for i in range(2)]
    always, sometimes = words_of(CORPORA[name].audio)
    for item in items:
        assert always <= set(item.audio) <= always | sometimes
        plain, some = words_of(CORPORA[name].fields)
        assert plain <= set(item.fields) <= plain | some
        for audio in item.audio.values():
            assert audio.sample_rate_hz == RATE_HZ
            assert 0.01 < float(audio.samples.abs().max()) <= 1.0
    again = corpus(name).item(1)
    assert again.fields == items[1].fields
    assert all((again.audio[f].samples == items[1].audio[f].samples).all() for f in again.audio)
    readme = (Path(__file__).parent.parent / "tasks" / "README.md").read_text()
    missing = [f for f in [*items[0].audio, *items[0].fields] if f"`{f}`" not in readme]
    assert missing == [], "describe the field in the table of tasks/README.md"


@pytest.mark.parametrize("name", ["questions", "melodies", "songs"])
def test_two_splits_of_a_corpus_of_sounds_share_no_script(name):
    train, held_out = (
        {
            str(fields.get("script") or fields["notes"])
            for fields in (corpus(name, 0, s).item(i).fields for i in range(6))
        }
        for s in ("train", "held_out")
    )
    assert not train & held_out


def test_two_splits_of_a_corpus_of_speech_share_no_sentence():
    grammar = CommandGrammar.load()
    for said in (
        lambda split, i: grammar.command(0, i, split)[0],
        lambda split, i: turn(0, i, split)[0],
        lambda split, i: LanguageCorpus(0, split).sentence(i)[1],
    ):
        train, held_out = ({said(split, i) for i in range(60)} for split in ("train", "held_out"))
        assert not train & held_out
        assert len(train) > 40


@needs_voices
def test_a_mixture_is_the_sum_of_its_parts_and_the_first_speaker_begins_first():
    begun = []
    for i in range(4):
        item = MixtureCorpus(1).item(i)
        audio, other, noise = wave(item), wave(item, "other_audio"), wave(item, "noise_audio")
        np.testing.assert_allclose(wave(item, "mixture_audio"), audio + other, atol=ROUNDING)
        np.testing.assert_allclose(wave(item, "noisy_audio"), audio + noise, atol=ROUNDING)
        first, second = wave(item, "first_audio"), wave(item, "second_audio")
        onsets = [int(np.flatnonzero(np.abs(w) > 1e-4)[0]) / RATE_HZ for w in (first, second)]
        assert 0.25 < onsets[1] - onsets[0] <= 1.0
        begun.append(bool((first == audio).all()))
        assert item.fields["speaker"] != item.fields["other_speaker"]
        # An echo comes after the sound: before the speech begins there is none, after it ends there is some.
        wet = wave(item, "reverberant_audio")
        start = int(np.flatnonzero(np.abs(audio) > 1e-4)[0])
        assert np.abs(wet[: max(start - 1, 0)]).max(initial=0) < 1e-6
        assert np.abs(wet - audio).max() > 0.01
    assert len(set(begun)) == 2, "the one asked for is not always the first"


def envelope(signal, seconds=0.005):
    """Peaks of stretches of so many seconds."""
    n = round(seconds * RATE_HZ)
    return np.abs(signal[: len(signal) // n * n]).reshape(-1, n).max(1)


def test_the_spans_of_a_scene_are_where_its_sound_is_heard():
    scene = Scene((SceneEvent("dog", count=3), SceneEvent("beep", "high", 2, "slow")))
    tracks = scene.tracks(np.random.default_rng(5))
    for event, track in zip(scene.events, tracks, strict=True):
        loud = envelope(track.wave) > 0.03 * np.abs(track.wave).max()
        onsets = (np.flatnonzero(loud[1:] & ~loud[:-1]) + 1) * 0.005
        merged = [onsets[0], *(b for a, b in zip(onsets, onsets[1:], strict=False) if b - a > 0.1)]
        assert len(track.spans) == len(merged) == event.count
        np.testing.assert_allclose([begin for begin, _ in track.spans], merged, atol=0.02)
        for begin, end in track.spans:
            assert 0.05 < end - begin < event.of.seconds + event.of.tail + 0.01
    mixed = scene.render(np.random.default_rng(5)).samples[0].numpy()
    np.testing.assert_allclose(mixed, np.sum([t.wave for t in tracks], axis=0), atol=1e-6)


def heard_in(script):
    events = script["events"] + ([script["background"]] if script["background"] else [])
    return [(SOUNDS[e["sound"]], e["count"], e["pitch"]) for e in events]


def answered(question, script):
    """Work the answer to a question out again, from the script alone."""
    heard = heard_in(script)
    named = {sound.noun: (sound, count, pitch) for sound, count, pitch in heard}
    article = lambda s: (("an " if s.noun[0] in "aeiou" else "a ") if s.article else "") + s.noun  # noqa: E731
    order = [sound for sound, _, _ in heard[: len(script["events"])]]
    if match := re.fullmatch(r"Is there (?:an? )?(.+)\?", question):
        return "yes" if match[1] in named else "no"
    if question == "How many different sounds are heard?":
        return ["zero", "one", "two", "three"][len(heard)]
    if match := re.fullmatch(r"Is the (.+) low or high\?", question):
        return named[match[1]][2]
    if question.startswith("How often does the "):
        (noun,) = [noun for noun in named if question.startswith(f"How often does the {noun} ")]
        return [None, "once", "twice", "three times", "four times", "five times"][named[noun][1]]
    if question == "What is heard first?":
        return article(order[0])
    if question == "What is heard last?":
        return article(order[-1])
    if question == "What is heard in the background?":
        return article(heard[-1][0])
    if match := re.fullmatch(r"What comes after the (.+)\?", question):
        return article(order[[s.noun for s in order].index(match[1]) + 1])
    one, other = re.fullmatch(r"Which comes first, the (.+) or the (.+)\?", question).groups()
    places = [s.noun for s in order]
    return f"the {min(one, other, key=places.index)}"


def test_questions_edits_places_and_mixtures_of_scenes_are_what_they_say():
    kinds, fits, sides = set(), set(), 0
    for i in range(25):
        item = QuestionCorpus(7).item(i)
        fields, script, audio = item.fields, item.fields["script"], wave(item)
        assert answered(fields["question"], script) == fields["answer"], fields["question"]
        kinds.add(fields["question"][:10])
        np.testing.assert_allclose(wave(item, "mixture_audio"), audio + wave(item, "other_audio"), atol=ROUNDING)
        nouns = {sound.noun: count for sound, count, _ in heard_in(script)}
        if fields["spans"] == "none":
            assert fields["query"] not in nouns
        else:
            stamps = [float(t) for t in re.findall(r"<([\d.]+)>", fields["spans"])]
            assert len(stamps) == 2 * (nouns[fields["query"]] or 1)
            assert stamps == sorted(stamps)
            assert stamps[-1] <= len(audio) / RATE_HZ + 0.02
        fits.add(fields["fits"])
        edited, change = wave(item, "edited_audio"), fields["edit_script"]
        if change["kind"] == "repeat":
            np.testing.assert_allclose(edited, np.concatenate([audio, audio]), atol=ROUNDING)
        elif change["kind"] == "add":
            np.testing.assert_allclose(edited[: len(audio)], audio, atol=ROUNDING)
            assert len(edited) > len(audio) + 0.3 * RATE_HZ
        elif change["kind"] in ("louder", "quieter") and len(nouns) == 1:
            factor = FACTOR if change["kind"] == "louder" else 1 / FACTOR
            np.testing.assert_allclose(edited, factor * audio, atol=1e-6)
        elif change["kind"] == "remove":
            assert SOUNDS[change["sound"]].noun in nouns
            assert np.square(edited).sum() < np.square(audio).sum()
        for name in ("louder", "quieter", "remove"):
            if change["kind"] == name:
                assert SOUNDS[change["sound"]].noun in fields["edit"]
        left, right = item.audio["stereo_audio"].samples.numpy()
        if len(set(fields["places"])) == 1 and fields["places"][0] in ("on the left", "on the right"):
            sides += 1
            assert (np.square(left).sum() > 5 * np.square(right).sum()) == (fields["places"][0] == "on the left")
        assert all(place in fields["stereo_caption"].lower() for place in fields["places"])
    assert len(kinds) >= 5
    assert fits == {"yes", "no"}
    assert sides >= 2


def test_a_statement_that_does_not_fit_is_of_another_scene():
    numbers = {"one": 1, "single": 1, "once": 1, "two": 2, "twice": 2, "three": 3, "four": 4, "five": 5}
    for i in range(16):
        fields = QuestionCorpus(9).item(i).fields
        heard = heard_in(fields["script"])
        said = fields["statement"].lower()
        counts = sorted(numbers[w] for w in re.findall(r"\w+", said) if w in numbers)
        named = [s.noun for s in SOUNDS.values() if re.search(rf"\b{s.noun}", said)]
        same_nouns = {sound.noun for sound, _, _ in heard} <= set(named)
        same_counts = counts == sorted(count for _, count, _ in heard if count)
        if fields["fits"] == "yes":
            assert same_nouns
            assert same_counts
        elif same_nouns and same_counts:
            assert len(heard) > 1, "only the order can be another"


def test_a_melody_is_played_and_hummed_at_its_pitches_and_its_caption_is_true():
    seen = set()
    for i in range(12):
        item = MelodyCorpus(2).item(i)
        script, caption = item.fields["script"], item.fields["caption"].lower()
        seen.add(script["instrument"])
        assert script["instrument"] in caption
        assert ("drum" in caption, "chords" in caption) == (script["backing"] == "drum", script["backing"] == "chords")
        assert (script["tempo"] in caption) == (script["tempo"] != "moderate")
        notes = notes_of(item.fields["notes"])
        steps = (0, 2, 4, 5, 7, 9, 11) if script["mode"] == "major" else (0, 2, 3, 5, 7, 8, 10)
        assert {(pitch - script["tonic"]) % 12 for pitch, _, _ in notes if pitch is not None} <= set(steps)
        assert notes[-1][0] % 12 == script["tonic"]
        assert notes[-1][2] == pytest.approx(item.audio["audio"].duration_s, abs=1e-3)
        played = [wave(item, "melody_audio")] + [wave(item)] * (script["backing"] == "alone")
        for signal in played:
            for pitch, begin, end in notes:
                piece = signal[round((begin + 0.02) * RATE_HZ) : round((end - 0.04) * RATE_HZ)]
                if pitch is None:
                    assert np.abs(piece).max() < 1e-3
                else:
                    off = 12 * np.log2(pitch_hz(piece) / hertz(pitch))
                    assert abs(off) < 0.5, (script["instrument"], pitch, off)
    assert len(seen) >= 4


def test_a_song_is_sung_at_its_pitches_with_vowels_that_differ():
    rng = np.random.default_rng(0)
    notes = (Note(57, 0.5), Note(None, 0.24), Note(60, 0.4), Note(64, 0.8))
    assert notes_text(notes) == "<A3><0.50><rest><0.24><C4><0.40><E4><0.80>"
    sung = sing(notes, ["la", "si", "mo"], SINGERS["tenor"], rng)
    assert len(sung) == round(1.94 * RATE_HZ)
    for pitch, begin, end in notes_of(notes_text(notes)):
        piece = sung[round((begin + 0.15) * RATE_HZ) : round((end - 0.05) * RATE_HZ)]
        if pitch is None:
            assert np.abs(sung[round(begin * RATE_HZ) + 1 : round(end * RATE_HZ) - 1]).max() == 0
        else:
            assert abs(12 * np.log2(pitch_hz(piece, 100, 500) / hertz(pitch))) < 0.5
    power = []
    for vowel in "aiu":
        spectrum = np.abs(np.fft.rfft(sing((Note(48, 0.6),), [vowel], SINGERS["bass"], rng))) ** 2
        f = np.fft.rfftfreq(round(0.6 * RATE_HZ), 1 / RATE_HZ)
        bands = [(200, 400), (600, 850), (900, 1200), (2050, 2300)]
        power.append([spectrum[(low < f) & (f < high)].sum() / spectrum.sum() for low, high in bands])
    a, i, u = power
    assert a[1] > max(i[1], u[1])
    assert i[3] / i[2] > max(a[3] / a[2], u[3] / u[2])
    assert min(i[0], u[0]) > a[0]


def test_half_of_the_drawn_melodies_are_minor_and_none_leaves_its_instrument():
    melodies = [draw_melody(np.random.default_rng(i)) for i in range(100)]
    assert 30 < sum(m.mode == "minor" for m in melodies) < 70
    for melody in melodies:
        low = INSTRUMENTS[melody.instrument]
        pitches = [note.pitch for note in melody.notes if note.pitch is not None]
        assert low <= min(pitches)
        assert max(pitches) <= low + 11 + 17
        assert sum(note.seconds for note in melody.notes) <= 8 * 0.8 + 1e-9


@needs_voices
def test_word_times_are_where_a_pause_was_put():
    """Known pauses: after each comma flite is silent, and the next word begins where the silence ends."""
    audio, words = speak_timed("Stop, go, take, bed.", "slt")
    assert [word for word, _ in words] == ["stop", "go", "take", "bed"]
    signal = audio.samples[0].numpy()
    level = envelope(signal, 0.01)
    quiet = level < 0.02 * level.max()
    for word, begin in words[1:]:
        at = round(begin / 0.01)
        assert quiet[at - 8 : at - 1].mean() > 0.6, word
        assert not quiet[at + 4 : at + 14].all(), word
    assert re.fullmatch(r"(<\d\.\d[02468]>[a-z]+){4}", timed_text(words))
    slow, slow_words = speak_timed("Stop, go, take, bed.", "slt", VoiceStyle(rate=0.7))
    assert slow_words[-1][1] / words[-1][1] == pytest.approx(slow.duration_s / audio.duration_s, rel=0.05)


@needs_voices
def test_styles_are_heard_in_speed_pitch_and_level():
    for i in range(4):
        item = StyleCorpus(4).item(i)
        text, voice, style = item.fields["text"], item.fields["speaker"], item.fields["style"]
        plain = speak(text, voice)
        rate = plain.duration_s / item.audio["audio"].duration_s
        peak = np.abs(wave(item)).max()
        if emotion := item.fields.get("emotion"):
            assert emotion in style
            assert rate == pytest.approx(EMOTIONS[emotion].rate, rel=0.06)
            assert peak == pytest.approx(EMOTIONS[emotion].peak, rel=0.04)
        else:
            assert ("slowly" in style, "quickly" in style) == (rate < 0.85, rate > 1.15)
            assert ("quietly" in style, "loudly" in style) == (peak < 0.3, peak > 0.8)
        expected = EMOTIONS[emotion].pitch if emotion else {"low": 0.8, "high": 1.3}.get(style.split()[-2], 1.0)
        ratio = _median_pitch(wave(item)) / _median_pitch(plain.samples[0].numpy())
        assert ratio == pytest.approx(expected, rel=0.15), style
        assert ("woman" in style) == (voice == "slt")
        left, right = item.audio["stereo_audio"].samples.numpy()
        if item.fields["direction"] in ("on the left", "on the right"):
            assert (np.square(left).sum() > np.square(right).sum()) == (item.fields["direction"] == "on the left")


def _median_pitch(signal):
    pieces = [signal[k : k + 960].astype(np.float64) for k in range(0, len(signal) - 960, 480)]
    loud = [piece for piece in pieces if np.square(piece).mean() > 0.3 * np.square(signal).mean()]
    return float(np.median([pitch_hz(piece, 60, 400) for piece in loud]))


NUMBERS = {number_words(n): n for n in range(200)}


def replied(question):
    """Answer a question of the dialogues again, in another way."""
    if match := re.fullmatch(r"What is (.+) (plus|minus|times) (.+)\?", question):
        a, b = NUMBERS[match[1]], NUMBERS[match[3]]
        return number_words({"plus": a + b, "minus": a - b, "times": a * b}[match[2]])
    if match := re.fullmatch(r"Which is larger, (.+) or (.+)\?", question):
        return max(match.groups(), key=NUMBERS.__getitem__)
    if match := re.fullmatch(r"It is (.+) o clock\. What time will it be in (.+) hours\?", question):
        hour = NUMBERS[match[1]]
        for _ in range(NUMBERS[match[2]]):
            hour = 1 if hour == 12 else hour + 1
        return number_words(hour)
    if match := re.fullmatch(r"What (day|month) comes (after|before) (\w+)\?", question):
        names = DAYS if match[1] == "day" else MONTHS
        ring = names * 3 if match[2] == "after" else names[::-1] * 3
        return ring[ring.index(match[3]) + 1]
    word = re.fullmatch(r"What is the opposite of (\w+)\?", question)[1]
    (pair,) = [pair for pair in OPPOSITES if word in pair]
    return pair[1 - pair.index(word)]


def test_answers_of_dialogues_are_right():
    for i in range(200):
        question, answer = turn(1, i)
        expected = replied(question)
        said = answer.lower().rstrip(".")
        assert re.search(rf"(^|is |be ){expected.lower()}( |$)", said), (question, answer)


def test_meanings_of_commands_hold_every_slot_and_one_intent():
    grammar, intents = CommandGrammar.load(), set()
    for i in range(150):
        text, meaning = grammar.command(2, i)
        intent, *slots = meaning.split("; ")
        intents.add(intent)
        assert intent in grammar.intents
        values = dict(slot.split(": ") for slot in slots)
        for value in values.values():
            assert value in text.lower()
        frames = [re.sub(r"\{(\w+)(:\w+)?\}", r"{\1}", frame) for frame in grammar.intents[intent]]
        rebuilt = [frame.format(**values) for frame in frames if set(re.findall(r"\{(\w+)\}", frame)) == set(values)]
        assert text.lower().rstrip(".") in [line.lower() for line in rebuilt]
    assert intents == set(grammar.intents)


@needs_voices
def test_one_voice_speaks_all_languages():
    corpus = LanguageCorpus(0)
    assert set(corpus.languages) == {"en", "es", "de", "fr", "it"}
    shapes = {tuple(map(len, words.values())) for words in corpus.languages.values()}
    assert shapes == {(10, 10, 10, 8)}
    pitches = {
        (lang, variant): _median_pitch(
            speak(" ".join(w[1] for w in words.values()), f"{lang}+{variant}").samples[0].numpy()
        )
        for lang, words in corpus.languages.items()
        for variant in ("f2", "m1")
    }
    for lang in corpus.languages:
        assert pitches[lang, "f2"] > 1.3 * pitches[lang, "m1"]
