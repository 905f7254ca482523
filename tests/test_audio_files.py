"""Audio as a value: files, rates, channels, pictures, and what is refused."""

import base64
import io

import numpy as np
import pytest
import soundfile
import torch

from unitok.audio import Audio
from unitok.errors import AudioFormatError

RATE = 8000


def sine(hz: float = 440.0, rate: int = RATE, seconds: float = 0.5, channels: int = 1) -> Audio:
    times = torch.arange(int(rate * seconds)) / rate
    return Audio(torch.stack([0.5 * torch.sin(2 * torch.pi * hz * (c + 1) * times) for c in range(channels)]), rate)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_comes_back_within_16_bits(tmp_path, channels):
    audio = sine(channels=channels)
    back = Audio.read(audio.write(tmp_path / "x.wav"))
    assert back.sample_rate_hz == RATE
    assert soundfile.info(tmp_path / "x.wav").subtype == "PCM_16"
    torch.testing.assert_close(back.samples, audio.samples, atol=1 / 32767, rtol=0)


@pytest.mark.parametrize(("suffix", "tolerance"), [("flac", 1e-4), ("ogg", 0.05), ("mp3", 0.2)])
def test_other_formats_go_by_suffix(tmp_path, suffix, tolerance):
    audio = sine(rate=16000)
    back = Audio.read(audio.write(tmp_path / f"x.{suffix}"))
    assert back.sample_rate_hz == 16000
    n = min(back.n_samples, audio.n_samples)
    middle = slice(n // 4, n // 2)
    assert float((back.samples - 0)[:, middle].square().mean().sqrt()) == pytest.approx(0.5 / 2**0.5, abs=tolerance)


def test_writing_clips_makes_folders_and_leaves_no_partial_file(tmp_path):
    path = Audio(torch.tensor([[2.0, -2.0, 0.0]]), RATE).write(tmp_path / "a" / "b" / "x.wav")
    assert Audio.read(path).samples[0].tolist() == pytest.approx([1.0, -1.0, 0.0], abs=1e-4)
    assert [p.name for p in path.parent.iterdir()] == ["x.wav"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = sine().write(tmp_path / "x.flac")
    before = path.read_bytes()
    with pytest.raises(AudioFormatError, match=r"flac does not take 8000 Hz and 9 channels"):
        Audio(torch.zeros(9, 5), RATE).write(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.flac"]


@pytest.mark.parametrize("name", ["x", "x.wavv", "x.txt"])
def test_an_unknown_suffix_is_refused_before_writing(tmp_path, name):
    with pytest.raises(AudioFormatError, match=r"its suffix is '.*Allowed: .*wav"):
        sine().write(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_files_that_cannot_be_read_say_why(tmp_path):
    with pytest.raises(AudioFormatError, match=r"no.wav' does not exist"):
        Audio.read(tmp_path / "no.wav")
    with pytest.raises(AudioFormatError, match="is a folder"):
        Audio.read(tmp_path)
    (tmp_path / "text.wav").write_text("not audio")
    with pytest.raises(AudioFormatError, match=r"text.wav' cannot be read: .*Readable: .*flac.*ffmpeg"):
        Audio.read(tmp_path / "text.wav")
    (tmp_path / "zero.wav").touch()
    with pytest.raises(AudioFormatError, match="zero.wav' cannot be read"):
        Audio.read(tmp_path / "zero.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), RATE)
    with pytest.raises(AudioFormatError, match="empty.wav' holds no samples"):
        Audio.read(tmp_path / "empty.wav")
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan], np.float32), RATE, subtype="FLOAT")
    with pytest.raises(AudioFormatError, match="nan.wav': 1 of 2 samples are NaN"):
        Audio.read(tmp_path / "nan.wav")


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (torch.zeros(3), RATE, r"samples are \[3\], allowed: a tensor \[C, N\]"),
        (torch.zeros(0, 3), RATE, r"samples are \[0, 3\]"),
        (np.zeros((1, 3)), RATE, "samples are ndarray"),
        (
            torch.zeros(1, 3, dtype=torch.int16),
            RATE,
            "torch.int16, allowed: floating point.*Divide 16-bit samples by 32768",
        ),
        (torch.tensor([[0.0, float("nan"), float("inf")]]), RATE, "2 of 3 samples are NaN or infinite"),
        (torch.zeros(1, 3), 0, "sample rate is 0"),
        (torch.zeros(1, 3), 22050.5, "sample rate is 22050.5"),
    ],
)
def test_what_is_no_audio_is_refused(samples, rate, message):
    with pytest.raises(AudioFormatError, match=message):
        Audio(samples, rate)


def test_of_takes_audio_paths_and_arrays(tmp_path):
    audio = sine()
    path = audio.write(tmp_path / "x.wav")
    assert Audio.of(audio) is audio
    assert Audio.of(str(path)).n_samples == Audio.of(path).n_samples == audio.n_samples
    assert Audio.of(([0.0, 0.5], RATE)).samples.tolist() == [[0.0, 0.5]]
    assert Audio.of((np.zeros((2, 5)), RATE)).samples.dtype == torch.float32
    with pytest.raises(AudioFormatError, match="got int, allowed: Audio, a path, or"):
        Audio.of(5)  # type: ignore[arg-type]


def test_resampling_keeps_the_sine():
    audio = sine(rate=16000, seconds=0.5)
    resampled = audio.resample(24000)
    expected = sine(rate=24000, seconds=0.5)
    assert resampled.sample_rate_hz == 24000
    assert resampled.n_samples == 12000
    middle = slice(1000, 11000)
    torch.testing.assert_close(resampled.samples[:, middle], expected.samples[:, middle], atol=2e-3, rtol=0)
    assert audio.resample(16000) is audio


def test_rates_with_no_common_divisor_are_resampled_as_quickly():
    audio = sine(rate=44101)
    made = audio.resample(16000)
    assert made.n_samples == -(-audio.n_samples * 16000 // 44101)
    expected = sine(rate=16000, seconds=0.6).samples[:, 200 : made.n_samples - 200]
    torch.testing.assert_close(made.samples[:, 200:-200], expected, atol=2e-3, rtol=0)


def test_resampling_down_removes_what_the_rate_cannot_hold():
    assert float(sine(hz=3000, rate=16000).resample(4000).samples[:, 200:-200].abs().max()) < 0.02


def test_mono_is_the_mean_of_the_channels():
    audio = Audio(torch.tensor([[1.0, 0.0], [0.0, 0.5]]), RATE)
    assert audio.mono().samples.tolist() == [[0.5, 0.25]]
    assert sine().mono().n_channels == 1
    assert repr(audio) == "Audio(0.00 s, 8000 Hz, stereo)"
    assert sine().duration_s == 0.5


def test_the_player_holds_the_samples():
    audio = sine(channels=2)
    html = audio._repr_html_()
    data = base64.b64decode(html.split("base64,")[1].split('"')[0])
    samples, rate = soundfile.read(io.BytesIO(data))
    assert rate == RATE
    assert samples.shape == (audio.n_samples, 2)


@pytest.mark.parametrize("audio", [sine(channels=2), Audio(torch.zeros(1, 3), RATE), sine(rate=44100)])
def test_a_picture_is_drawn_of_any_audio(tmp_path, audio):
    figure = audio.plot(tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 5000
    assert len(figure.axes) == 3


def test_the_spectrogram_is_bright_at_the_tone():
    from unitok.plotting import N_MELS, _hz_to_mel, _log_mel

    db, top_hz = _log_mel(sine(hz=1000, rate=16000))
    expected = float(_hz_to_mel(torch.tensor(1000.0)) / _hz_to_mel(torch.tensor(top_hz))) * N_MELS
    assert int(db[:, db.shape[1] // 2].argmax()) == pytest.approx(expected, abs=1.5)
    assert float(db.max()) == 0.0
    assert float(db.min()) >= -80.0
