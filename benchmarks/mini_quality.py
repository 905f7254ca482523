"""Measure what a checkpoint can do with tools that unitok did not train, each figure beside a baseline.

    python benchmarks/mini_quality.py --model mini --out out/quality

Codec by pocketsphinx, STOI and a check of sounds; speech by pocketsphinx beside flite itself, and by whose voice is
heard; ASR by word error rate; translation by sacrebleu; sounds by a check of which are heard, in what order, how often.
Needs flite, espeak-ng and `pip install "unitok[eval]"`. Nothing measured on was trained on.
Writes `quality.json`, `quality.md`, the texts and the audio; prints the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from quality import codec, sounds, speech, translation
from quality.report import Bench, Row, table, write

import unitok

SECTIONS = ("codec", "tts", "asr", *translation.TASKS, "tta", "aac", "ac")


def main() -> None:
    """Parse the options, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini", help="checkpoint: a name or a folder")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="default: the codec and every task of the model")
    parser.add_argument("--items", type=int, default=100, help="sentences, pairs, scenes of each section")
    parser.add_argument(
        "--texts",
        nargs="+",
        default=["everyday", "grammar"],
        metavar="TEXTS",
        help="what is spoken: everyday (benchmarks/everyday.txt), grammar (its held-out split), or a file",
    )
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--best-of", type=int, help="candidates of each speech (default: as the card of tts says)")
    parser.add_argument("--out", type=Path, default=Path("out/quality"))
    args = parser.parse_args()
    (args.out / "audio").mkdir(parents=True, exist_ok=True)
    bench = Bench(unitok.load(args.model), args.out, args.items, args.batch_size, args.best_of)
    wanted = args.only or [name for name in SECTIONS if name == "codec" or name in bench.model.tasks]
    rows: list[Row] = []
    for row in measure(bench, wanted, args.texts):
        print(f"{row.what}: {row.value} ({row.beside})", flush=True)
        rows.append(row)
        write(rows, args.out)
    print(f"\n{table(rows)}")


def measure(bench: Bench, wanted: list[str], texts: list[str]) -> Iterator[Row]:
    """Measure section by section."""
    if "codec" in wanted:
        yield from codec.measure(bench, texts[0])
    for source in texts:
        if "tts" in wanted:
            yield from speech.measure_tts(bench, source)
        if "asr" in wanted:
            yield from speech.measure_asr(bench, source)
    if spoken := [name for name in wanted if name in translation.TASKS]:
        yield from translation.measure(bench, spoken)
    for name, section in (("tta", sounds.measure_tta), ("aac", sounds.measure_aac), ("ac", sounds.measure_ac)):
        if name in wanted:
            yield from section(bench)


if __name__ == "__main__":
    main()
