"""Text out: speech recognition with `mini`, free, held to answers, and as scores.

    python examples/text_out.py [FOLDER]

Speaks a sentence to have something to listen to, into FOLDER (default: out/examples/text_out).
"""

from __future__ import annotations

import sys
from pathlib import Path

import unitok

OUT = Path("out/examples/text_out")


def run(out: Path) -> None:
    """Write down what is said."""
    out.mkdir(parents=True, exist_ok=True)
    model = unitok.load("mini", device="cpu")
    said = "The doctor is in the garden."
    speech = model.generate("tts", text=said, voice="slt", best_of=4)
    wav = speech.write(out / "doctor.wav")

    # A task whose target is text returns text; its card asks for the likeliest one (greedy).
    print("said: ", said)
    print("heard:", model.generate("asr", audio=wav))
    print("beams:", model.generate("asr", audio=wav, beams=3))

    # What the text may be can be held to a list, or to a regular expression.
    answers = ["the doctor is in the garden", "a nurse is in the kitchen"]
    print("one of two:", model.generate("asr", audio=wav, answers=answers))
    print("by a pattern:", model.generate("asr", audio=wav, regex="the (doctor|nurse) is in the [a-z]{4,8}"))

    # How likely each answer is, in natural logarithms, without generating anything.
    for answer, score in zip(answers, model.score("asr", audio=wav, text=answers).tolist(), strict=True):
        print(f"{score:10.2f}  {answer}")


if __name__ == "__main__":
    run(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
