"""Speech out: text to speech with `mini`, which comes with unitok.

    python examples/speech_out.py [FOLDER]

Writes wav files and a picture to FOLDER (default: out/examples/speech_out).
"""

from __future__ import annotations

import sys
from pathlib import Path

import unitok

OUT = Path("out/examples/speech_out")
TEXT = "The doctor is in the garden."


def run(out: Path) -> None:
    """Speak a sentence in several ways."""
    out.mkdir(parents=True, exist_ok=True)
    model = unitok.load("mini", device="cpu")

    # A task's conditions are keywords: here text is needed, voice and prompt may be left out.
    speech = model.generate("tts", text=TEXT, voice="slt", seed=0)
    speech.write(out / "doctor.wav")
    speech.plot(out / "doctor.png")
    print(f"doctor.wav: {speech}")

    # The same seed gives the same speech, alone or in a batch of any size.
    sentences = ["The young nurse closed the window.", TEXT]
    both = model.generate_batch([{"task": "tts", "text": text, "voice": "slt"} for text in sentences], seed=0)
    print("the same in a batch:", bool((both[1].samples == speech.samples).all()))

    # A recording lends its voice; best_of makes several and keeps the one that the model's own asr hears best.
    request = model.request("tts", text=sentences[0], prompt=speech, seed=1)
    [made] = model.run([request], best_of=2)
    made.value.write(out / "nurse.wav")
    print("scores of the two:", [round(one.score, 1) for one in made.candidates], "kept:", made.chosen)

    # Everything is one token sequence, which shows itself.
    print(model.sequence("tts", text=TEXT, voice="slt", speech=speech))


if __name__ == "__main__":
    run(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
