"""Sound and music out: a tiny model learns two sounds and two melodies by heart, and makes them of their captions.

    python examples/sound_out.py [FOLDER]

Writes corpus, model and wav files to FOLDER (default: out/examples/sound_out).
"""

from __future__ import annotations

import sys
from pathlib import Path

from by_heart import command, learn, same_codes

import unitok
from unitok.data.manifest import read_manifest, resolve_path

OUT = Path("out/examples/sound_out")


def run(out: Path) -> None:
    """Synthesise, learn, generate."""
    rows = []
    for corpus, task in (("sounds", "tta"), ("melodies", "ttm")):
        command("synth", "--corpus", corpus, "--utterances", 2, "--out", out / corpus)
        manifest = out / corpus / "manifest.jsonl"
        for row in read_manifest(manifest):
            whole = unitok.Audio.read(resolve_path(row["audio"], manifest))
            start = unitok.Audio(whole.samples[:, : 4 * whole.sample_rate_hz], whole.sample_rate_hz)  # soon learned
            wav = start.write(out / "learned" / f"{corpus}-{row['id']}.wav").resolve()
            rows.append({"id": wav.stem, "audio": str(wav), "caption": row["caption"], "task": task})

    # Both tasks read the fields `caption` and `audio`: tokenized once, learned twice.
    model = learn(out, rows, ["tta", "ttm"], steps=300)

    for row in rows:
        sound = model.generate(row["task"], text=row["caption"], greedy=True)
        sound.write(out / f"{row['id']}.wav")
        print(f"{row['task']}: {row['caption']}\n     {sound}, as learned: {same_codes(model, sound, row['audio'])}")


if __name__ == "__main__":
    run(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
