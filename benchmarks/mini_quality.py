"""Measure what a checkpoint can do with tools unitok did not train.

Speech by pocketsphinx beside flite itself and by whose voice is heard, ASR by word error rate, the codec by STOI and
pocketsphinx.

    python benchmarks/mini_quality.py --model mini --out out/quality

Needs flite and `pip install "unitok[eval]"`. Sentences come from the held-out split of the grammar, with a seed that no
recipe trains on.
Writes `quality.json`, `quality.md` and the audio; prints the table.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import unitok
from unitok.audio import Audio
from unitok.data.synth.grammar import Grammar
from unitok.data.synth.voices import FLITE_VOICES, speak
from unitok.evaluation.recognizer import PocketsphinxRecognizer
from unitok.evaluation.text import ErrorRate, character_error_rate, normalize, word_error_rate
from unitok.evaluation.voices import VoiceCheck

EVALUATION_SEED = 20261123
VOICE_SENTENCES = 20
"""Held-out sentences that each voice is known by, and that prompts are taken from."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    value: str
    beside: str
    detail: dict[str, float]


def main() -> None:
    """Parse the options, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini", help="checkpoint: a name or a folder")
    parser.add_argument("--sentences", type=int, default=100, help="held-out sentences (default: 100)")
    parser.add_argument(
        "--text-file", type=Path, help="take the sentences from this file, one a line, instead of the grammar"
    )
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument(
        "--best-of",
        type=int,
        help="candidates per sentence, reranked by the model's own ASR (default: as the card says)",
    )
    parser.add_argument("--out", type=Path, default=Path("out/quality"))
    args = parser.parse_args()
    (args.out / "audio").mkdir(parents=True, exist_ok=True)
    texts = read_texts(args.text_file, args.sentences)
    voices = [FLITE_VOICES[i % len(FLITE_VOICES)] for i in range(len(texts))]
    model = unitok.load(args.model)
    recognizer = PocketsphinxRecognizer()
    flite = [speak(text, voice) for text, voice in zip(texts, voices, strict=True)]
    baseline = [recognizer.transcribe(audio) for audio in flite]
    rows = [
        *codec_rows(model, texts, flite, baseline, recognizer),
        *tts_rows(model, texts, voices, flite, baseline, recognizer, args),
        asr_row(model, texts, flite, args),
    ]
    table = "\n".join(
        [
            "| what | value | beside it |",
            "| --- | --- | --- |",
            *(f"| {r.what} | {r.value} | {r.beside} |" for r in rows),
        ]
    )
    (args.out / "quality.md").write_text(table + "\n")
    (args.out / "quality.json").write_text(json.dumps([asdict(r) for r in rows], indent=2) + "\n")
    print(table)


def read_texts(path: Path | None, n: int, seed: int = EVALUATION_SEED) -> list[str]:
    """Return the sentences to measure on."""
    if path is not None:
        return [line.strip() for line in path.read_text().splitlines() if line.strip()][:n]
    grammar = Grammar.load()
    return [grammar.sentence(seed, i, "held_out") for i in range(n)]


def codec_rows(
    model: unitok.Model, texts: list[str], flite: list[Audio], baseline: list[str], recognizer: PocketsphinxRecognizer
) -> list[Row]:
    """Measure the codec alone: flite through encode and decode."""
    from pystoi import stoi

    codec, start, copies = model.tokenizers.audio, time.perf_counter(), []
    for audio in flite:
        encoded = codec.encode(audio.samples[None], audio.sample_rate_hz)
        copies.append(Audio(codec.decode(encoded.codes)[0, :, : audio.n_samples], codec.sample_rate_hz))
    speed = sum(a.duration_s for a in flite) / (time.perf_counter() - start)
    scores = [
        float(stoi(audio.samples[0].numpy(), copy.samples[0].numpy(), codec.sample_rate_hz))
        for audio, copy in zip(flite, copies, strict=True)
    ]
    mean = sum(scores) / len(scores)
    resynthesised = word_error_rate(texts, [recognizer.transcribe(a) for a in copies])
    original = word_error_rate(texts, baseline)
    ratio = resynthesised.value / max(original.value, 1e-9)
    wers = {"wer": resynthesised.value, "flite_wer": original.value, "ratio": ratio}
    threads = f"{torch.get_num_threads()} threads, batch 1"
    return [
        Row("codec: pocketsphinx WER", str(resynthesised), f"flite itself {original}; ratio {ratio:.2f}", wers),
        Row("codec: STOI, coded against flite", f"{mean:.3f}", "1 is perfect", {"stoi": mean}),
        Row("codec: encode and decode", f"{speed:.0f}x real time", threads, {"realtime": speed}),
    ]


def tts_rows(
    model: unitok.Model,
    texts: list[str],
    voices: list[str],
    flite: list[Audio],
    baseline: list[str],
    recognizer: PocketsphinxRecognizer,
    args: argparse.Namespace,
) -> list[Row]:
    """Measure speech: what pocketsphinx hears, and how long it lasts, beside flite."""
    requests = [{"task": "tts", "text": text, "voice": voice} for text, voice in zip(texts, voices, strict=True)]
    start = time.perf_counter()
    spoken: list[Audio] = []
    for i in range(0, len(requests), args.batch_size):
        spoken += model.generate_batch(requests[i : i + args.batch_size], seed=0, best_of=args.best_of)
    elapsed = time.perf_counter() - start
    for i, audio in enumerate(spoken):
        audio.write(args.out / "audio" / f"tts-{i:03d}.wav")
    heard = [recognizer.transcribe(a) for a in spoken]
    (args.out / "tts.tsv").write_text(
        "\n".join(f"{v}\t{t}\t{h}" for v, t, h in zip(voices, texts, heard, strict=True)) + "\n"
    )
    seen = {voice: [speak(text, voice) for text in read_texts(None, VOICE_SENTENCES, seed=1)] for voice in FLITE_VOICES}
    check = VoiceCheck(seen)
    ours, theirs = word_error_rate(texts, heard), word_error_rate(texts, baseline)
    ratio = ours.value / max(theirs.value, 1e-9)
    durations = [a.duration_s / f.duration_s for a, f in zip(spoken, flite, strict=True)]
    duration, speed = sum(durations) / len(durations), sum(a.duration_s for a in spoken) / elapsed
    wers = {"wer": ours.value, "flite_wer": theirs.value, "ratio": ratio}
    threads, extremes = f"{torch.get_num_threads()} threads, batch {args.batch_size}", (min(durations), max(durations))
    rows = [
        Row("tts: pocketsphinx WER", str(ours), f"flite itself {theirs}; ratio {ratio:.2f}", wers),
        Row(
            "tts: duration / flite's", f"{duration:.2f}", "from {:.2f} to {:.2f}".format(*extremes), {"mean": duration}
        ),
        Row(
            "tts: the voice asked for by name is heard",
            f"{100 * check.accuracy(spoken, voices):.0f} %",
            f"flite itself {100 * check.accuracy(flite, voices):.0f} %; by chance {100 / len(FLITE_VOICES):.0f} %",
            {"accuracy": check.accuracy(spoken, voices)},
        ),
        prompted_row(model, texts, voices, seen, check, recognizer, args),
        Row("tts: speed", f"{speed:.2f}x real time", threads, {"realtime": speed}),
    ]
    for voice in FLITE_VOICES:
        chosen = [i for i, v in enumerate(voices) if v == voice]
        mine, reference = (
            word_error_rate([texts[i] for i in chosen], [h[i] for i in chosen]) for h in (heard, baseline)
        )
        rows.append(
            Row(
                f"tts: pocketsphinx WER, voice {voice}",
                str(mine),
                f"flite itself {reference}",
                {"wer": mine.value, "flite_wer": reference.value},
            )
        )
    return rows


def prompted_row(
    model: unitok.Model,
    texts: list[str],
    voices: list[str],
    seen: dict[str, list[Audio]],
    check: VoiceCheck,
    recognizer: PocketsphinxRecognizer,
    args: argparse.Namespace,
) -> Row:
    """Measure speech whose voice is given by an utterance that the model was not trained on."""
    prompts = [seen[voice][i % VOICE_SENTENCES] for i, voice in enumerate(voices)]
    requests = [{"task": "tts", "text": t, "prompt": p} for t, p in zip(texts, prompts, strict=True)]
    spoken: list[Audio] = []
    for i in range(0, len(requests), args.batch_size):
        spoken += model.generate_batch(requests[i : i + args.batch_size], seed=0, best_of=args.best_of)
    accuracy = check.accuracy(spoken, voices)
    rate = word_error_rate(texts, [recognizer.transcribe(a) for a in spoken])
    seconds = sum(p.duration_s for p in prompts) / len(prompts)
    return Row(
        "tts: the voice of an audio prompt is heard",
        f"{100 * accuracy:.0f} %",
        f"prompts of {seconds:.1f} s; pocketsphinx WER {rate}",
        {"accuracy": accuracy, "wer": rate.value},
    )


def asr_row(model: unitok.Model, texts: list[str], flite: list[Audio], args: argparse.Namespace) -> Row:
    """Measure recognition of flite by the model."""
    requests = [{"task": "asr", "audio": audio} for audio in flite]
    heard: list[str] = []
    for i in range(0, len(requests), args.batch_size):
        heard += model.generate_batch(requests[i : i + args.batch_size], seed=0)
    (args.out / "asr.tsv").write_text("\n".join(f"{t}\t{h}" for t, h in zip(texts, heard, strict=True)) + "\n")
    rate, characters = word_error_rate(texts, heard), character_error_rate(texts, heard)
    guess: ErrorRate = word_error_rate(texts, [normalize(texts[0])] * len(texts))
    return Row(
        "asr: WER on flite",
        str(rate),
        f"CER {characters}; always the same sentence {guess}",
        {"wer": rate.value, "cer": characters.value},
    )


if __name__ == "__main__":
    main()
