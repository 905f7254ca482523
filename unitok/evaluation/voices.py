"""Tell whose voice is heard: by pitch and spectral envelope, beside utterances of the voices in question.

Enough to tell a handful of well-known voices apart; no measure of how alike two strangers sound.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unitok.audio import Audio
from unitok.errors import DataError, MissingDependencyError

__all__ = ["VoiceCheck", "voice_features"]

RATE_HZ = 16000
F0_HZ = (60.0, 400.0)
N_MFCC = 20


def voice_features(audio: Audio) -> np.ndarray:
    """Describe a voice: median and spread of its pitch, mean and spread of 20 MFCCs, where it is loud, `[42]`.

    Raises:
        DataError: If the audio is silent or shorter than 0.2 s.
        MissingDependencyError: If librosa is not installed.
    """
    try:
        import librosa
    except ImportError as error:
        raise MissingDependencyError('VoiceCheck needs librosa: pip install "unitok[eval]".') from error
    wav = audio.mono().resample(RATE_HZ).samples[0].numpy().astype(np.float64)
    if len(wav) < 0.2 * RATE_HZ or np.abs(wav).max() < 1e-4:
        raise DataError("a voice needs at least 0.2 s of sound to be told; this audio is shorter or silent.")
    hop, window = 160, 1024
    level = librosa.feature.rms(y=wav, frame_length=window, hop_length=hop)[0]
    mfcc = librosa.feature.mfcc(y=wav, sr=RATE_HZ, n_mfcc=N_MFCC + 1, hop_length=hop, n_fft=window)[1:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f0 = librosa.yin(wav, fmin=F0_HZ[0], fmax=F0_HZ[1], sr=RATE_HZ, frame_length=window, hop_length=hop)
    n = min(len(level), mfcc.shape[1], len(f0))
    loud = level[:n] > 0.3 * level[:n].max()
    pitch = np.log(f0[:n][loud])
    low, middle, high = np.percentile(pitch, [25, 50, 75])
    envelope = mfcc[:, :n][:, loud]
    return np.concatenate([[middle, high - low], envelope.mean(axis=1), envelope.std(axis=1)])


class VoiceCheck:
    """Linear discriminant analysis of `voice_features` (scikit-learn), fitted to utterances of each voice."""

    def __init__(self, utterances: Mapping[str, Sequence[Audio]]):
        """Fit.

        Args:
            utterances: Some of each voice, at least 5 and of different sentences.

        Raises:
            DataError: If there are too few.
            MissingDependencyError: If scikit-learn or librosa is not installed.
        """
        try:
            from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
        except ImportError as error:
            raise MissingDependencyError('VoiceCheck needs scikit-learn: pip install "unitok[eval]".') from error
        few = [f"{voice}: {len(those)}" for voice, those in utterances.items() if len(those) < 5]
        if few or len(utterances) < 2:
            raise DataError(
                f"VoiceCheck needs two voices or more with at least 5 utterances each, got {', '.join(few) or 'one'}."
            )
        names = [voice for voice, those in utterances.items() for _ in those]
        features = [voice_features(audio) for those in utterances.values() for audio in those]
        self._model: Any = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(np.stack(features), names)

    def name(self, audio: Audio) -> str:
        """Return the voice that `audio` is likest to; silence is nobody's, `""`."""
        try:
            features = voice_features(audio)
        except DataError:
            return ""
        return str(self._model.predict(features[None])[0])

    def accuracy(self, audios: Sequence[Audio], voices: Sequence[str]) -> float:
        """Return the share of audios heard as the voice that they should have."""
        return float(np.mean([self.name(audio) == voice for audio, voice in zip(audios, voices, strict=True)]))
