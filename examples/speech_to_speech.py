"""Speech to speech: noise suppression and voice conversion, learned by heart from what `mini` says.

    python examples/speech_to_speech.py [FOLDER]

Writes recordings, model and results to FOLDER (default: out/examples/speech_to_speech).
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from by_heart import learn, same_codes

import unitok

OUT = Path("out/examples/speech_to_speech")
SENTENCES = ("The doctor came.", "The window is closed.", "It is late.")


def run(out: Path) -> None:
    """Speak, add noise, learn to take it away and to change the voice."""
    out.mkdir(parents=True, exist_ok=True)
    mini, rows = unitok.load("mini", device="cpu"), []
    for i, text in enumerate(SENTENCES):
        # Each sentence in two voices, and once more with noise: the record fields of the tasks `se` and `vc`.
        one, other = mini.generate_batch([{"task": "tts", "text": text, "voice": v} for v in ("slt", "rms")], best_of=1)
        noise = 0.02 * torch.randn(one.samples.shape, generator=torch.Generator().manual_seed(i))
        recordings = {
            "audio": one,
            "source_audio": other,
            "noisy_audio": unitok.Audio(one.samples + noise, one.sample_rate_hz),
        }
        files = {name: str(audio.write(out / f"{i}_{name}.wav").resolve()) for name, audio in recordings.items()}
        rows.append({"id": str(i), "text": text, "speaker": "slt", **files})

    model = learn(out, rows, ["se", "vc"], audio_fields=("audio", "source_audio", "noisy_audio"))

    for i, row in enumerate(rows):
        clean = model.generate("se", audio=row["noisy_audio"], greedy=True)  # as long as its input: the card says so
        voice = rows[i - 1]["audio"]  # another recording of the speaker whose voice it gets
        converted = model.generate("vc", audio=row["source_audio"], prompt=voice, greedy=True)
        clean.write(out / f"{row['id']}_clean.wav")
        converted.write(out / f"{row['id']}_converted.wav")
        as_learned = [same_codes(model, made, row["audio"]) for made in (clean, converted)]
        print(f"{row['text']:24} se {clean}, as learned: {as_learned[0]}; vc {converted}, as learned: {as_learned[1]}")


if __name__ == "__main__":
    run(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
