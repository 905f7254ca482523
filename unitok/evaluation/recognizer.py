"""pocketsphinx as an independent ear: a recogniser unitok did not train, whose English model comes inside its wheel."""

from __future__ import annotations

from unitok.audio import Audio
from unitok.errors import MissingDependencyError

__all__ = ["PocketsphinxRecognizer"]


class PocketsphinxRecognizer:
    """Large-vocabulary English recognition of whole utterances; no state is carried from one to the next."""

    SAMPLE_RATE_HZ = 16000

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError:
            raise MissingDependencyError(
                'The independent recogniser needs pocketsphinx. Run: pip install "unitok[eval]"'
            ) from None
        self._decoder = Decoder(samprate=self.SAMPLE_RATE_HZ, cmn="batch", loglevel="FATAL")

    def transcribe(self, audio: Audio) -> str:
        """Return the words heard in `audio` (any rate and number of channels), lower case, `""` for none."""
        samples = audio.mono().resample(self.SAMPLE_RATE_HZ).samples[0]
        pcm = (samples.clamp(-1, 1) * 32767).short().numpy().tobytes()
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""
