"""English and Spanish, speech and text, on combinations of words that were never trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from quality.report import EVALUATION_SEED, Bench, Row
from unitok.audio import Audio
from unitok.data.synth.corpus import Item
from unitok.data.synth.translation_corpus import TranslationCorpus
from unitok.evaluation.statistics import Estimate
from unitok.evaluation.text import bleu

SPOKEN = ("s2st", "s2st_chain")
WRITTEN = ("s2tt", "mt")
TASKS = (*SPOKEN, *WRITTEN)


def measure(bench: Bench, tasks: Sequence[str]) -> Iterator[Row]:
    """Measure BLEU in both directions; of speech, that of what recognisers hear."""
    for source, target in (("es", "en"), ("en", "es")):
        items = pairs(source, bench.n_items // 2)
        texts = [item.fields["target_text"] for item in items]
        copied = bleu(texts, [item.fields["text"] for item in items])
        spoken = [item.audio["target_audio"] for item in items]
        for task in tasks:
            what, made = f"{task}, {source} to {target}", _made(bench, task, items, target)
            if task in WRITTEN:
                bench.note(f"{task}-{source}-{target}", texts, made)
                found = bleu(texts, made)
                yield Row(f"{what}: BLEU", str(found), f"the source itself {copied}", {"bleu": found.value})
                continue
            speech = [value["speech"] if isinstance(value, dict) else value for value in made]
            bench.keep(f"{task}-{source}-{target}", speech)
            if isinstance(made[0], dict):
                found = bleu(texts, [value["translation"] for value in made])
                figures = {"bleu": found.value}
                yield Row(f"{what}: BLEU of its text", str(found), f"the source itself {copied}", figures)
            if "asr" in bench.model.tasks:
                row, heard = _asr_bleu(bench, what, "its own asr", speech, spoken, texts, target)
                bench.note(f"{task}-{source}-{target}", texts, heard)
                yield row
            if target == "en":
                yield _asr_bleu(bench, what, "pocketsphinx", speech, spoken, texts, target)[0]


def pairs(source: str, n: int) -> list[Item]:
    """Return held-out pairs whose source is in one language."""
    corpus, items, index = TranslationCorpus(seed=EVALUATION_SEED, split="held_out"), [], 0
    while len(items) < n:
        if corpus.sides(index)[0]["lang"] == source:
            items.append(corpus.item(index))
        index += 1
    return items


def _made(bench: Bench, task: str, items: Sequence[Item], target: str) -> list:
    given = ["text"] if task == "mt" else ["audio"]
    values = [item.fields["text"] if task == "mt" else item.audio["audio"] for item in items]
    return bench.generate(task, [{given[0]: value, "lang": target} for value in values])


def _asr_bleu(
    bench: Bench, what: str, by: str, speech: list[Audio], reference: list[Audio], texts: list[str], lang: str
) -> tuple[Row, list[str]]:
    def hear(audios: list[Audio]) -> list[str]:
        if by == "pocketsphinx":
            return bench.transcribe(audios)
        return bench.generate("asr", [{"audio": audio, "lang": lang} for audio in audios])

    heard = hear(speech)
    found, ceiling = bleu(texts, heard), bleu(texts, hear(reference))
    return Row(f"{what}: ASR-BLEU by {by}", str(found), f"the right speech {ceiling}", _figures(found, ceiling)), heard


def _figures(found: Estimate, ceiling: Estimate) -> dict[str, float]:
    return {"asr_bleu": found.value, "ceiling": ceiling.value}
