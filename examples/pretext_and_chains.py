"""Pretext tasks and chains: semantic tokens, and pipelines that pass what one task makes on to the next.

    python examples/pretext_and_chains.py [FOLDER]

Writes recordings, tokenizer, model and results to FOLDER (default: out/examples/pretext_and_chains).
"""

from __future__ import annotations

import sys
from pathlib import Path

from by_heart import HERE, command, learn, same_codes

import unitok
from unitok.cards import add_user_root
from unitok.data.manifest import write_manifest

OUT = Path("out/examples/pretext_and_chains")
SENTENCES = ("The doctor came.", "The window is closed.", "It is late.")


def run(out: Path) -> None:
    """Chain tasks of `mini`; then learn the two stages of SPEAR-TTS, and chain these."""
    out.mkdir(parents=True, exist_ok=True)
    mini = unitok.load("mini", device="cpu")

    # A pipeline is a card: examples/cards/tasks/echo.yaml hears with one task and says what it heard with another.
    add_user_root(HERE / "cards")
    command("tasks", "--check", HERE / "cards" / "tasks" / "echo.yaml")
    question = mini.generate("tts", text=SENTENCES[0], voice="slt")
    answer = mini.generate("echo", audio=question, voice="rms", seed=1)
    print(f"echo: heard {answer['text']!r}, says it in another voice: {answer['speech']}")
    answer["speech"].write(out / "echo.wav")

    # Semantic tokens without any download: k-means over levels of mel bands.
    rows = []
    for i, text in enumerate(SENTENCES):
        wav = mini.generate("tts", text=text, voice="slt", best_of=1).write(out / f"{i}.wav")
        rows.append({"id": str(i), "audio": str(wav.resolve()), "text": text})
    write_manifest(out / "speech.jsonl", rows)
    heard = ["--manifest", out / "speech.jsonl", "--features", "log_mel", "--clusters", 8, "--deduplicate"]
    command("train-kmeans", *heard, "--out", out / "km")

    # Two stages, learned by one model: text to semantic tokens, semantic tokens to codes.
    model = learn(out, rows, ["text_to_semantic", "semantic_to_acoustic"], semantic=out / "km", steps=200)
    for row in rows:
        [made] = model.run([model.request("spear_tts", text=row["text"], greedy=True)])
        ids = made.stages["read"].value[0].tolist()
        made.value.write(out / f"{row['id']}_spoken.wav")
        print(
            f"{row['text']:24} {len(ids)} ids, {made.value}, as learned: {same_codes(model, made.value, row['audio'])}"
        )


if __name__ == "__main__":
    run(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
