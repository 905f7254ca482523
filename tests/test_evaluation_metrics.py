"""Each metric beside a case counted by hand, a closed form, or the library that it is defined by."""

import math
import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch

from unitok.audio import Audio
from unitok.errors import DataError, MissingDependencyError
from unitok.evaluation import find_metric, list_metrics, metric, register_metric
from unitok.evaluation.events import Event, match_events, read_events
from unitok.evaluation.labels import read_labels
from unitok.evaluation.likelihood import Part
from unitok.evaluation.signals import align, cepstral_distance, mel_cepstra
from unitok.evaluation.similarity import cosine, frechet_distance
from unitok.evaluation.statistics import bootstrap, mean
from unitok.evaluation.text import normalize
from unitok.tasks import Task, list_tasks

RATE = 16000


def value(name, references, made, **tools):
    return find_metric(name).estimate(references, made, **tools).value


def harmonics(f0, seconds=1.0, decay=0.8):
    t = torch.arange(round(seconds * RATE)) / RATE
    return Audio((0.1 * sum(decay**k * torch.sin(2 * math.pi * k * f0 * t) for k in range(1, 12)))[None], RATE)


def noise(seconds=1.0, seed=0, level=0.1):
    generator = torch.Generator().manual_seed(seed)
    return Audio(level * torch.randn(1, round(seconds * RATE), generator=generator), RATE)


# The table


def test_every_metric_of_a_card_is_there_and_fits_its_task():
    from unitok.evaluation.outcomes import check_metric

    for name in list_tasks():
        task = Task.load(name)
        for one in task.metrics:
            check_metric(one, task)


def test_an_unknown_metric_names_the_nearest():
    with pytest.raises(DataError, match=r"no metric 'wor'. Did you mean 'wer'\? There are: accuracy, asr_bleu"):
        find_metric("wor")


@pytest.fixture
def table(monkeypatch):
    """Lend the table of metrics; what a test registers is forgotten."""
    list_metrics()  # unitok's own are registered as their modules are imported, which happens once
    monkeypatch.setattr(metric, "_METRICS", dict(metric._METRICS))


def test_a_metric_of_ones_own_is_a_function_under_a_name(table):
    @register_metric("first_letter", takes="texts", better="higher", value=mean)
    def first_letter(reference, made, tools):
        """Share of texts that begin alike."""
        return float(reference[:1] == made[:1])

    assert value("first_letter", ["ab", "cd"], ["ax", "xx"]) == 0.5
    assert list_metrics()["first_letter"].description == "Share of texts that begin alike."
    with pytest.raises(DataError, match=r"metric 'wer' belongs to unitok.evaluation.text._wer"):
        register_metric("wer", takes="texts", better="lower", value=mean)(first_letter)
    with pytest.raises(DataError, match="takes is 'sounds', allowed: texts"):
        register_metric("other", takes="sounds", better="lower", value=mean)  # type: ignore[arg-type]


def test_packages_bring_metrics_by_an_entry_point(table, monkeypatch, tmp_path):
    (tmp_path / "brings_metrics.py").write_text(
        "from unitok.evaluation import register_metric\n\n\n"
        "@register_metric('brought', takes='texts', better='lower', value=sum)\n"
        "def brought(reference, made, tools):\n    'Brought.'\n    return 1.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    entries = [EntryPoint("mine", "brings_metrics", "unitok.metrics")]
    monkeypatch.setattr(metric, "entry_points", lambda group: entries if group == "unitok.metrics" else [])
    metric.load_entry_points.cache_clear()
    assert value("brought", ["a", "b"], ["a", "b"]) == 2
    entries.append(EntryPoint("broken", "is_not_there", "unitok.metrics"))
    metric.load_entry_points.cache_clear()
    with pytest.raises(DataError, match=r"entry point 'broken' of unitok.metrics \(is_not_there\) fails: No module"):
        list_metrics()
    entries.clear()
    metric.load_entry_points.cache_clear()


def test_pairs_must_pair_up():
    with pytest.raises(DataError, match="Got 2 references and 1 hypotheses"):
        find_metric("accuracy").estimate(["a", "b"], ["a"])


# Texts


def test_chrf_is_that_of_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    references, made = ["The cat sat.", "Go home now!"], ["the cat sits", "go home"]
    theirs = sacrebleu.corpus_chrf([normalize(m) for m in made], [[normalize(r) for r in references]]).score
    assert value("chrf", references, made) == pytest.approx(theirs / 100)
    assert value("chrf", references, references) == 1


def test_rouge_l_is_the_f_score_of_the_longest_common_subsequence():
    # 2 of 3 words made, 2 of 4 asked for; then 3 of 3
    assert value("rouge_l", ["a dog barks loudly", "Ça va bien."], ["a cat barks", "ça va bien"]) == pytest.approx(
        (2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2) + 1) / 2
    )


def test_accuracy_looks_past_case_and_punctuation():
    assert value("accuracy", ["dog", "cat", "owl"], ["dog", "Cat.", "dog"]) == pytest.approx(2 / 3)


# Labels and events


def test_f1_of_labels_is_counted_over_all_items_or_label_by_label():
    asked = [read_labels("dog, rain"), read_labels(["Cat"]), read_labels("dog")]
    made = [read_labels("dog"), read_labels("cat; rain"), read_labels("cat")]
    # hits: dog, cat; extra: rain, cat; missed: rain, dog
    assert value("f1", asked, made) == pytest.approx(2 * 2 / (2 * 2 + 2 + 2))
    # dog: 1 hit, 1 missed; rain: 1 extra, 1 missed; cat: 1 hit, 1 extra
    assert value("f1_macro", asked, made) == pytest.approx((2 / 3 + 0 + 2 / 3) / 3)
    observations = [find_metric("f1_macro").observe(*pair, None) for pair in zip(asked, made, strict=True)]  # type: ignore[arg-type]
    assert find_metric("f1_macro").parts(observations) == pytest.approx({"cat": 2 / 3, "dog": 2 / 3, "rain": 0})  # type: ignore[misc]


def test_mean_average_precision_ranks_items_for_each_label():
    pytest.importorskip("sklearn")
    asked = [read_labels("a"), read_labels("b"), read_labels("a")]
    scores = [{"a": -0.1, "b": -3.0}, {"a": -0.2, "b": -math.inf}, {"a": -0.3, "b": -1.0}]
    # a: right at places 1 and 3: (1 + 2/3) / 2; b: right at place 3: 1/3
    assert value("map", asked, scores) == pytest.approx((5 / 6 + 1 / 3) / 2)


def test_events_are_read_from_text_and_from_rows():
    written = [Event("dog", 0.0, 1.2), Event("heavy rain", 2.0, 3.5)]
    assert read_events("0.0-1.2 Dog; 2 to 3.5 heavy  rain; nonsense") == written
    assert read_events([{"label": "dog", "start_s": 0, "stop_s": 1.2}, ["heavy rain", 2, 3.5]]) == written
    with pytest.raises(DataError, match="stops at 1.0 s, before it starts at 2.0 s"):
        read_events([["dog", 2, 1]])
    with pytest.raises(DataError, match='an event is {"label": "dog"'):
        read_events([{"label": "dog"}])


def test_event_f1_allows_onsets_200_ms_and_offsets_a_fifth_of_the_length():
    asked = [Event("dog", 1.0, 2.0), Event("rain", 0.0, 5.0), Event("cat", 3.0, 3.5)]
    made = [
        Event("dog", 1.2, 2.2),  # both at their limits
        Event("rain", 0.1, 6.0),  # a fifth of 5 s
        Event("cat", 3.3, 3.5),  # too late
        Event("dog", 1.0, 2.0),  # one too many
    ]
    assert match_events(asked, made) == 2
    assert value("event_f1", [asked], [made]) == pytest.approx(2 * 2 / (2 * 2 + 2 + 1))
    assert value("event_f1", [[]], [[]]) == 1


def test_events_are_paired_so_that_most_fit():
    # The first fits both, the second only the first that was made: a greedy pairing would find one.
    asked = [Event("dog", 1.0, 2.0), Event("dog", 0.8, 2.0)]
    made = [Event("dog", 0.9, 2.0), Event("dog", 1.15, 2.0)]
    assert match_events(asked, made) == 2


def test_time_stamps_are_events_without_labels():
    assert read_events("<0.10><0.32><0.72><0.94><2.00>") == [Event("", 0.1, 0.32), Event("", 0.72, 0.94)]
    assert value("event_f1", [read_events("<1.00><2.00>")], [read_events("<1.10><2.10><4.00><5.00>")]) == pytest.approx(
        2 / 3
    )


def scored(*margins):
    """Scores of the labels `different` and `same` that are so far apart."""
    return [{"same": margin / 2, "different": -margin / 2} for margin in margins]


def test_the_equal_error_rate_is_where_both_kinds_of_mistakes_are_as_frequent():
    same, different = read_labels("same"), read_labels("different")
    truth = [same, same, same, same, different, different, different, different]
    # Told apart at 0.5, one of four is taken for the other on each side.
    assert value("eer", truth, scored(4, 3, 2, 0, 1, -1, -2, -3)) == pytest.approx(0.25)
    assert value("eer", truth, scored(4, 3, 2, 1, 0, -1, -2, -3)) == 0
    assert value("eer", truth, scored(-1, -2, -3, -4, 1, 2, 3, 4)) == 1
    assert math.isnan(value("eer", [same], scored(1)))
    with pytest.raises(DataError, match="is of two labels, there are 3: a, b, c"):
        find_metric("eer").estimate([same], [{"a": 1, "b": 1, "c": 1}])


def test_recall_counts_ranks():
    ranks = [1, 2, 5, 6, 11]
    recalls = [value(f"recall_at_{k}", [None] * 5, ranks) for k in (1, 5, 10)]
    assert recalls == pytest.approx([1 / 5, 3 / 5, 4 / 5])


# Texts that hold more than words


def test_slots_are_right_by_name_and_value_in_any_order():
    asked = ["set_alarm; time: seven thirty; day: Monday", "lights_off"]
    made = ["set_alarm; day: monday; time: seven", "Lights_off"]
    assert value("slot_f1", asked, made) == pytest.approx(1 / 2)
    assert value("intent_accuracy", asked, made) == 1
    assert value("intent_accuracy", asked, ["lights_off", "lights_off"]) == 0.5
    assert value("slot_f1", ["play; name: a; day: b"], ["play; b; name: a; ;"]) == pytest.approx(1 / 2)


def test_times_are_those_of_words_that_are_right():
    asked, made = "<0.40>the<0.52>doctor<0.98>came", "<0.30>the<0.60>actor<1.08>came<2.00>in"
    assert value("time_error", [asked], [made]) == pytest.approx((0.1 + 0.1) / 2)
    assert value("wer", [asked], [made]) == pytest.approx(2 / 3), "stamps are no words"
    assert value("cer", ["<0.40>the"], ["the"]) == 0
    with pytest.raises(DataError, match="'the doctor' has no time stamps"):
        find_metric("time_error").estimate(["the doctor"], [made])
    with pytest.raises(DataError, match="no word is right"):
        find_metric("time_error").estimate([asked], ["<0.10>fish"])


# Signals


def test_stoi_is_that_of_pystoi_and_1_of_the_same():
    pystoi = pytest.importorskip("pystoi")
    clean = harmonics(150)
    noisy = Audio(clean.samples + noise().samples, RATE)
    theirs = pystoi.stoi(clean.samples[0].numpy(), noisy.samples[0].numpy(), RATE)
    assert value("stoi", [clean], [noisy]) == pytest.approx(theirs, abs=1e-6)
    assert value("stoi", [clean], [clean]) == pytest.approx(1, abs=1e-6)


def test_pesq_is_that_of_pesq():
    pesq = pytest.importorskip("pesq")
    clean, other = noise(2.0), Audio(noise(2.0).samples + noise(2.0, 1).samples, RATE)
    theirs = pesq.pesq(RATE, clean.samples[0].numpy(), other.samples[0].numpy(), "wb")
    assert value("pesq", [clean], [other]) == pytest.approx(theirs, abs=1e-4)


def test_pesq_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pesq", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "unitok\[pesq\]"'):
        find_metric("pesq").estimate([noise()], [noise()])


def test_si_sdr_is_its_formula_whatever_the_level():
    clean, other = noise(0.1), noise(0.1, 1, level=0.05)
    s, x = clean.samples[0].double(), (0.3 * (clean.samples + other.samples))[0].double()
    s, x = s - s.mean(), x - x.mean()
    target = (x @ s) / (s @ s) * s
    by_hand = 10 * torch.log10((target @ target) / ((x - target) @ (x - target)))
    mixed = Audio(0.3 * (clean.samples + other.samples), RATE)
    assert value("si_sdr", [clean], [mixed]) == pytest.approx(float(by_hand), abs=1e-3)


def test_recordings_are_compared_at_the_references_rate_over_the_shorter():
    clean = harmonics(150)
    longer = Audio(torch.cat([clean.samples, clean.samples[:, :4000]], dim=1), RATE).resample(24000)
    assert value("si_sdr", [clean], [longer]) > 20
    with pytest.raises(DataError, match="a recording is silent"):
        find_metric("si_sdr").estimate([clean], [Audio(torch.zeros(1, RATE), RATE)])


def test_mel_distance_of_a_copy_at_half_the_level_is_6_db():
    loud = noise(0.5, level=0.2)
    assert value("mel_distance", [loud], [Audio(loud.samples / 2, RATE)]) == pytest.approx(6.02, abs=0.05)


def test_a_duration_ratio_is_of_all_seconds():
    assert value("duration_ratio", [noise(1.0), noise(2.0)], [noise(2.0), noise(1.0)]) == pytest.approx(1.0)
    assert value("duration_ratio", [noise(0.2)], [noise(0.1)]) == pytest.approx(0.5)


def test_the_alignment_is_the_cheapest_path():
    costs = np.random.default_rng(0).random((5, 7))

    def cheapest(i, j):
        if i < 0 or j < 0:
            return math.inf
        before = 0 if i == j == 0 else min(cheapest(i - 1, j), cheapest(i, j - 1), cheapest(i - 1, j - 1))
        return costs[i, j] + before

    path = align(costs)
    assert costs[path[:, 0], path[:, 1]].sum() == pytest.approx(cheapest(4, 6))
    assert path[0].tolist() == [0, 0]
    assert path[-1].tolist() == [4, 6]
    assert set(map(tuple, np.diff(path, axis=0).tolist())) <= {(0, 1), (1, 0), (1, 1)}


def test_a_stretched_sequence_is_0_away():
    frames = np.random.default_rng(1).standard_normal((6, 13))
    stretched = frames.repeat([1, 3, 1, 2, 5, 1], axis=0)
    costs = cepstral_distance(frames, stretched)
    path = align(costs)
    assert costs[path[:, 0], path[:, 1]].max() < 1e-5
    assert sorted(set(path[:, 1].tolist())) == list(range(13))


def test_the_cepstral_distance_is_its_formula():
    first, second = np.array([[0.1, -0.2]]), np.array([[0.3, 0.1]])
    by_hand = 10 / math.log(10) * math.sqrt(2 * (0.2**2 + 0.3**2))
    assert cepstral_distance(first, second)[0, 0] == pytest.approx(by_hand)


def test_the_cepstral_distance_is_the_difference_of_the_levels_of_spectra():
    bands = (np.arange(80) + 0.5) / 80
    difference = 0.3 * np.cos(np.pi * 2 * bands) - 0.1 * np.cos(np.pi * 5 * bands)  # of ln A
    cepstra = np.zeros((2, 13))
    cepstra[1, [1, 4]] = 0.3, -0.1
    rms_db = math.sqrt(((20 * difference / math.log(10)) ** 2).mean())
    assert cepstral_distance(cepstra[:1], cepstra[1:])[0, 0] == pytest.approx(rms_db)


def test_mel_cepstra_are_the_cosine_transform_of_log_mels():
    librosa, fft = pytest.importorskip("librosa"), pytest.importorskip("scipy.fft")
    audio = noise(0.2)
    mels = librosa.feature.melspectrogram(
        y=audio.samples[0].double().numpy(), sr=RATE, n_fft=1024, hop_length=160, n_mels=80, power=1.0
    )
    expected = fft.dct(np.log(np.maximum(mels / mels.max(), 1e-3)), axis=0)[1:14].T / 80
    assert mel_cepstra(audio) == pytest.approx(expected, abs=1e-6)


def test_mcd_is_0_of_the_same_at_any_level_and_grows_with_the_difference():
    pytest.importorskip("librosa")
    voice = harmonics(150, 0.3)
    assert value("mcd", [voice], [Audio(voice.samples * 0.1, RATE)]) == pytest.approx(0, abs=1e-3)
    near, far = harmonics(150, 0.3, decay=0.75), noise(0.3)
    assert 0 < value("mcd", [voice], [near]) < value("mcd", [voice], [far])


@pytest.mark.slow
def test_pitch_errors_are_in_semitones_and_voicing_errors_a_share():
    """Slow where numba has not compiled pYIN yet."""
    pytest.importorskip("librosa")
    low, higher = harmonics(150), harmonics(150 * 2 ** (2 / 12))
    assert value("f0_error", [low], [low]) == pytest.approx(0, abs=1e-6)
    assert value("f0_error", [low], [higher]) == pytest.approx(2, abs=0.1)
    half = Audio(torch.cat([low.samples[:, :8000], noise(0.5).samples], dim=1), RATE)
    assert value("voicing_error", [half], [half]) == 0
    with pytest.raises(DataError, match="no stretch in which both recordings have a pitch"):
        find_metric("f0_error").estimate([low], [noise(1.0)])


def tune(*semitones, decay=0.5):
    return Audio(torch.cat([harmonics(220 * 2 ** (n / 12), 0.5, decay).samples for n in semitones], dim=1), RATE)


def test_the_same_tune_has_the_same_chroma_on_another_instrument_and_in_another_octave():
    pytest.importorskip("librosa")
    melody = tune(0, 4, 7, 5)
    assert value("chroma_similarity", [melody], [melody]) == pytest.approx(1, abs=1e-6)
    other = value("chroma_similarity", [melody], [tune(6, 11, 1, 10)])
    for same in (tune(0, 4, 7, 5, decay=0.3), tune(12, 16, 19, 17)):
        assert value("chroma_similarity", [melody], [same]) > 0.85 > other + 0.3
    with pytest.raises(DataError, match="silent"):
        find_metric("chroma_similarity").estimate([melody], [Audio(torch.zeros(1, RATE), RATE)])


def test_directions_differ_by_the_levels_of_two_channels():
    voice = noise(0.2).samples
    left, middle = Audio(torch.cat([voice, voice / 10]), RATE), Audio(torch.cat([voice, voice]), RATE)
    assert value("level_difference_error", [left], [middle]) == pytest.approx(20, abs=1e-3)
    assert value("level_difference_error", [left], [Audio(left.samples / 2, RATE)]) == pytest.approx(0, abs=1e-3)
    with pytest.raises(DataError, match="1 channels; direction is heard in two"):
        find_metric("level_difference_error").estimate([left], [noise()])


# Embeddings


def test_the_frechet_distance_of_gaussians_is_its_closed_form():
    # mean and variance (of samples) by hand: 0 and 2, 3 and 8
    first, second = np.array([[-1.0], [1.0]]), np.array([[1.0], [5.0]])
    assert frechet_distance(first, second) == pytest.approx(3**2 + (math.sqrt(2) - math.sqrt(8)) ** 2)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_the_frechet_distance_is_that_of_the_matrix_root():
    linalg = pytest.importorskip("scipy.linalg")
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((40, 4)), rng.standard_normal((30, 4)) @ rng.standard_normal((4, 4)) + 1
    one, other = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    expected = ((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(
        one + other - 2 * np.real(linalg.sqrtm(one @ other))
    )
    assert frechet_distance(first, second) == pytest.approx(expected)
    with pytest.raises(DataError, match="4 and 3 wide"):
        frechet_distance(first, second[:, :3])


def test_fad_is_0_of_the_same_sounds_and_grows_with_the_difference():
    pytest.importorskip("librosa")
    tones = [harmonics(f, 2.0) for f in (110, 150, 190)]
    assert value("fad", tones, tones) == pytest.approx(0, abs=1e-6)
    near = [Audio(tone.samples + noise(2.0, i, 0.001).samples, RATE) for i, tone in enumerate(tones)]
    far = [noise(2.0, i) for i in range(3)]
    assert 0 < value("fad", tones, near) < value("fad", tones, far)


def test_speakers_are_as_similar_as_the_cosine_of_their_embeddings():
    assert cosine(np.array([1.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(math.sqrt(0.5))
    with pytest.raises(DataError, match="all zeros"):
        cosine(np.zeros(2), np.ones(2))
    pytest.importorskip("librosa")
    voice, alike, other = harmonics(110), harmonics(112), harmonics(230, decay=0.5)
    assert value("speaker_similarity", [voice], [voice]) == pytest.approx(1)
    assert value("speaker_similarity", [voice], [alike]) > value("speaker_similarity", [voice], [other])


def test_a_clap_score_is_the_cosine_of_text_and_sound_by_any_embedder():
    from unitok.evaluation.tools import Tools

    class Loudness:
        """Loud and quiet are two directions."""

        name = "loudness"

        def embed(self, audio):
            loud = float(audio.samples.abs().max() > 0.5)
            return np.array([[loud, 1 - loud]])

        def embed_text(self, text):
            return np.array([[3.0, 4.0]]) if "loud" in text else np.array([[0.0, 1.0]])

    tools = Tools(embedders={"caption": Loudness()})
    sounds = [noise(0.1, level=1.0), noise(0.1, level=0.01)]
    assert value("clap_score", ["a loud hiss", "a hiss"], sounds, tools=tools) == pytest.approx((0.6 + 1) / 2)
    tools = Tools(embedders={"caption": "voice_statistics"})
    with pytest.raises(DataError, match="'voice_statistics' takes no texts. Give --embedder caption=clap"):
        find_metric("clap_score").estimate(["a"], [noise()], tools)


def test_embedders_and_roles_that_do_not_exist_are_named():
    from unitok.evaluation.embedders import load_embedder
    from unitok.evaluation.tools import Tools

    with pytest.raises(DataError, match="no embedder 'xvectors'. Did you mean 'xvector'"):
        load_embedder("xvectors")
    with pytest.raises(DataError, match="no embedder's role 'speakers'. Did you mean 'speaker'"):
        Tools(embedders={"speakers": "xvector"})


# Likelihoods and intervals


def test_perplexity_and_token_accuracy_are_over_all_tokens_and_by_part():
    items = [
        {"text": Part(2.0, 1, 2), "audio.0": Part(6.0, 1, 4)},
        {"audio.0": Part(2.0, 3, 4), "audio.1": Part(4.0, 0, 4)},
    ]
    assert value("token_accuracy", [None, None], items) == pytest.approx(5 / 14)
    assert value("perplexity", [None, None], items) == pytest.approx(math.exp(14 / 14))
    accuracy, perplexity = find_metric("token_accuracy"), find_metric("perplexity")
    assert accuracy.parts(items) == pytest.approx({"audio.0": 0.5, "audio.1": 0, "text": 0.5})  # type: ignore[misc]
    assert perplexity.parts(items)["text"] == pytest.approx(math.e)  # type: ignore[misc]


def test_draws_without_a_figure_are_left_out_of_the_interval():
    estimate = bootstrap(lambda those: sum(those) / those.count(1) if 1 in those else math.nan, [1, 0])
    assert (estimate.value, estimate.low, estimate.high) == (1, 1, 1)


def test_figures_are_printed_in_their_unit():
    assert find_metric("si_sdr").shown(3.14159) == "3.14 dB"
    assert str(find_metric("wer").estimate(["a b c"], ["a b x"])) == "33.3 % [33.3, 33.3]"
