"""The Python API: a loaded model, with audio and text going in and coming out.

```python
import unitok
model = unitok.load()                                    # "mini", which comes with unitok; or a checkpoint folder
audio = model.generate("tts", text="The quick brown fox.")
audio.write("fox.wav")
model.generate("asr", audio="fox.wav")                   # "the quick brown fox"
model.score("asr", audio="fox.wav", text=["the fox", "the box"])
print(model.sequence("tts", text="Hi.", speech="fox.wav"))
```

Letters: K codebooks, T codec frames, N samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unitok.audio import Audio
from unitok.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from unitok.devices import find_device
from unitok.errors import GenerationError, suggest
from unitok.generation.engine import Engine, GenerationRequest, OnStep
from unitok.generation.guidance import GuidanceStep, conditions_left_out
from unitok.generation.lengths import TargetLength
from unitok.generation.pipelines import PipelineRequest, pipeline_request, run_pipelines
from unitok.generation.requests import (
    asked_text,
    candidates,
    check_conditions,
    guidance_scales,
    sampling,
    sampling_per_kind,
    used_audio,
    with_task,
)  # fmt: skip
from unitok.generation.reranking import Candidate, Choice, Reranker
from unitok.generation.results import Generation, Value
from unitok.generation.scoring import score_sequences
from unitok.generation.text_rules import text_rule
from unitok.generation.word_scores import ScoresByLanguage
from unitok.kernels.pages import lay_out
from unitok.long_form import LongForm, LongFormSettings
from unitok.model.compact import compact
from unitok.model.lm import UnitokLM
from unitok.sequence import TokenSequence
from unitok.streaming import Stream, StreamSettings, codes_around, open_stream
from unitok.tasks import Field, SequenceBuilder, Task, find_pipeline
from unitok.tokenizers.base import AudioTokenizer, SemanticTokenizer, TextTokenizer
from unitok.tokenizers.runs import ID_SUFFIXES, read_ids
from unitok.vocabulary import Vocabulary

__all__ = ["Candidate", "Generation", "Model", "Stream", "TargetLength", "Tokenizers", "load"]

MAX_SEED = 2**62


class Tokenizers(NamedTuple):
    """What turns values into ids and back."""

    text: TextTokenizer
    """Text to ids."""
    audio: AudioTokenizer
    """Audio to codes."""
    semantic: SemanticTokenizer | None = None
    """Audio to semantic ids, where the model has any."""


def load(
    name_or_path: str | Path = "mini", device: str | torch.device | None = None, dtype: str | None = None
) -> Model:
    """Load a model.

    Args:
        name_or_path: `"mini"`, which comes with unitok, or a checkpoint folder.
        device: Where to run it, such as `"cuda"`; default: a GPU if there is one, else the CPU.
        dtype: Weights in memory: `"float32"`, `"bfloat16"`, `"int8"` or `"int4"`, see `Model.quantize`; default:
            `"int8"` or `"int4"` where they are stored so, else `"float32"`.

    Raises:
        CheckpointError: If there is no such checkpoint, or it is incomplete or damaged.
        UnitokError: If there is no such device, the dtype is unknown, or the weights are stored with less.
    """
    model = Model(load_checkpoint(name_or_path, find_device(device)))
    if dtype is None:
        lay_out(model.lm)
    else:
        model.quantize(dtype)
    return model


class Model:
    """A language model with its vocabulary, tokenizers and tasks."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.name = checkpoint.name
        self.notes = checkpoint.notes
        self.lm: UnitokLM = checkpoint.lm
        self.vocabulary: Vocabulary = checkpoint.vocabulary
        self.tokenizers = Tokenizers(
            checkpoint.text_tokenizer, checkpoint.audio_tokenizer, checkpoint.semantic_tokenizer
        )
        self.tasks: dict[str, Task] = dict(checkpoint.tasks)
        self.builder = SequenceBuilder(
            self.vocabulary,
            self.tokenizers.text,
            self.tokenizers.audio.frame_rate_hz,
            self.lm.pattern,
            self.lm.config.features,
            checkpoint.encoders,
            self.lm.config.spelling,
            self.tokenizers.semantic,
            checkpoint.lexicons,
        )
        self.words = ScoresByLanguage(checkpoint.words, checkpoint.lexicons, self.tokenizers.text, self.vocabulary)
        self.engine = Engine(self.lm, self.vocabulary, text_size=self.tokenizers.text.size)
        self.reranker = Reranker(self.name, self.engine, self.builder, self.tasks)

    def __repr__(self) -> str:
        n_parameters = sum(parameter.numel() for parameter in self.lm.parameters())
        return f"Model('{self.name}', {n_parameters / 1e6:.1f} M parameters, tasks: {', '.join(self.tasks)})"

    def quantize(self, dtype: str) -> None:
        """Keep the weights of linear layers in fewer bits: less memory, and at batch 1 as much less time.

        Args:
            dtype: `"int8"` (a scale for each row), `"int4"` (one for 64 weights), `"bfloat16"`, or `"float32"`, which
                leaves them as they are.

        Raises:
            UnitokError: If there is no such type, or the weights have fewer bits already.
        """
        compact(self.lm, dtype)
        lay_out(self.lm)

    def compile(self) -> None:
        """Let `torch.compile` fuse the operations of a step: minutes at the first requests, then faster on a GPU.

        On CPUs native code is faster. On CUDA steps are recorded and replayed (CUDA graphs) with this or without.
        """
        self.engine.compiled = True

    def generate(self, task: str, *, best_of: int | None = None, on_step: OnStep | None = None, **request: Any) -> Any:
        """Carry out one task.

        Args:
            task: Name of the task, such as `"tts"`; `model.tasks` has them all.
            best_of: Make so many and keep the one whose text the model finds likeliest when it hears it (tasks from
                text to audio), see `generate_batch`; default: as the task's card says.
            on_step: Called after every position with a `Progress`.
            **request: The task's conditions and settings, see `request`.

        Returns:
            `Audio` or str, as the task's target is; a dict of them by name where the task has several targets.

        Raises:
            GenerationError: If the task or a condition is unknown, missing, or not usable.
        """
        return self.run([self.request(task, **request)], best_of=best_of, on_step=on_step)[0].value

    def generate_batch(
        self,
        requests: Sequence[Mapping[str, Any]],
        *,
        batch_size: int = 16,
        best_of: int | None = None,
        on_step: OnStep | None = None,
        **settings: Any,
    ) -> list[Any]:
        """Carry out many requests side by side; each gives what it would give alone.

        Args:
            requests: The keyword arguments of `generate`, `task` included: `{"task": "tts", "text": "Hi."}`.
            batch_size: How many at once.
            best_of: Candidates of each request; the one is kept whose text the task that checks this one (its card's
                `checked_by`: `asr` for speech, `aac` for sounds) finds likeliest.
                Default: what the card of its task says.
            on_step: Called after every position with a `Progress`.
            **settings: Keyword arguments of every request that does not say otherwise, such as `seed=1`.

        Returns:
            One value per request, as `generate` returns them.
        """
        prepared = [self.request(**with_task({**settings, **request}, i)) for i, request in enumerate(requests)]
        generations = self.run(prepared, batch_size=batch_size, best_of=best_of, on_step=on_step)
        return [generation.value for generation in generations]

    def stream(
        self,
        task: str,
        *,
        chunk_seconds: float = 0.25,
        look_ahead_seconds: float | None = None,
        refine_seconds: float = 1.0,
        refine_ahead_seconds: float = 0.5,
        **request: Any,
    ) -> Stream:
        """Carry out one task, and hand out what it makes while it makes it.

        The tokens are those of `generate` with `best_of=1` and the same seed, but where the model refines (Kc < K):
        its refiner sees whole utterances there and stretches here (docs/streaming.md).

        Args:
            task: Name of the task.
            chunk_seconds: Audio decoded at once, in s; less comes sooner and takes more work.
            look_ahead_seconds: Wait for no more than this until audio is decoded, at the price of exactness, in s;
                default: as much as the codec needs.
            refine_seconds: Audio refined at once, in s.
            refine_ahead_seconds: Audio after it that the refiner sees, in s.
            **request: The task's conditions and settings, see `request`.

        Returns:
            An iterator over `Audio`, pieces of text or ids `[1, n]`, as the task's targets are; see `Stream`.

        Raises:
            GenerationError: If the task, a condition or a setting is unknown, missing, or not usable.
        """
        if request.pop("best_of", None) not in (None, 1):
            raise GenerationError("best_of chooses between whole results. Stream with best_of=1.")
        settings = StreamSettings(chunk_seconds, look_ahead_seconds, refine_seconds, refine_ahead_seconds)
        if task in self.tasks and request.get("beams") is None:
            request["beams"] = 1  # those of a card are for whole texts
        prepared = self.request(task, **request)
        if isinstance(prepared, PipelineRequest):
            raise GenerationError(f"'{task}' is a pipeline: each stage waits for the one before. Do not stream it.")
        return open_stream(
            self.engine,
            prepared,
            self.tokenizers.audio,
            self.tokenizers.text,
            settings,
            lambda result: self._decoded(prepared.task, Choice(result), with_audio=False),
        )

    def long_form(
        self,
        task: str,
        *,
        settings: LongFormSettings | None = None,
        best_of: int | None = None,
        streaming: Mapping[str, Any] | None = None,
        **request: Any,
    ) -> LongForm:
        """Carry out a task on a text or a recording of any length, part by part (docs/streaming.md).

        Args:
            task: From text to audio (`tts`), or from audio to text (`asr`).
            settings: How to cut and join.
            best_of: Candidates of each part, see `generate`.
            streaming: Keyword arguments of `stream` (`{}` for none): audio goes out while a sentence is made.
            **request: The task's conditions and settings, see `request`.

        Raises:
            GenerationError: If the task is of another kind, or a condition or setting is not usable.
        """
        return LongForm(self, task, settings or LongFormSettings(), request, best_of, streaming)

    def request(
        self,
        task: str,
        *,
        lang: str | None = None,
        seed: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        greedy: bool | None = None,
        min_p: float | None = None,
        repetition_window: int | None = None,
        repetition_threshold: float | None = None,
        codebook_temperatures: Sequence[float] | None = None,
        refine_passes: int | None = None,
        beams: int | None = None,
        length_penalty: float | None = None,
        word_weight: float | None = None,
        guidance: float | Mapping[str, float] | None = None,
        max_seconds: float | None = None,
        max_text_tokens: int | None = None,
        answers: Sequence[str] | None = None,
        regex: str | None = None,
        instruction: str | None = None,
        per_kind: Mapping[str, Mapping[str, Any]] | None = None,
        stage_models: Mapping[str, Model] | None = None,
        per_stage: Mapping[str, Mapping[str, Any]] | None = None,
        **conditions: Any,
    ) -> GenerationRequest | PipelineRequest:
        """Check one request and turn its conditions into a prompt, or those of a pipeline into a run of its stages.

        Args:
            task: Name of a task of the model, or of a pipeline (`unitok.tasks.list_pipelines`), a card that chains
                tasks.
            lang: Language of the target; default: the model's first language, if it has any.
            seed: Same seed, same result, in any batch.
            temperature: Divides the logits; this and the following default to the task's card.
            top_k: Draw from the k likeliest ids; 0 means all.
            top_p: Draw from the likeliest ids that hold this much probability.
            greedy: Take the likeliest id at every step.
            min_p: Draw from ids at least this likely, relative to the likeliest; 0 means all.
            repetition_window: Draw an id of audio anew if it fills more than `repetition_threshold` of so many
                positions before it (VALL-E 2); 0 is off.
            repetition_threshold: Share of the window that an id may fill.
            codebook_temperatures: Temperatures of codebooks 0, 1, … of audio in place of `temperature`; the last one
                stands for all after it.
            refine_passes: Passes over the first codebook of masked refinement, in a model that has it.
            beams: Of a task that makes one text: beam search over so many; 1 draws.
            length_penalty: Texts of a beam search are compared by log-probability / length ** length_penalty.
            word_weight: What likely words count in a beam search, in a language that the model has words of.
            guidance: Classifier-free guidance by the task's `guided` conditions; 1 is off, more follows them closer.
                One number for all, or one for each by name (`unitok.generation.guidance`).
            max_seconds: Longest audio, in s.
            max_text_tokens: Longest text, in tokens.
            answers: What a text or label may be; ids are drawn from those that lead to one of them.
            regex: Regular expression that a text or label has to match.
            instruction: What to do in words, in place of the task's token; for models trained with `instructed` tasks.
            per_kind: Settings for targets of one kind: `{"text": {"greedy": True}}`.
            stage_models: Of a pipeline: the models of some of its stages, by name; this model carries out the others.
            per_stage: Of a pipeline: settings of some of its stages, by name. All other settings are for all stages.
            **conditions: The task's conditions. Audio is an `Audio`, a path, `(samples, sample_rate_hz)`, or codes
                `[K, T]`; it is cut to the condition's `max_seconds`. Semantic tokens are audio likewise, a file of ids
                (`.npy`, `.json`, `.txt`), or ids. A condition that the card marks `repeated` takes one value or a list.

        Raises:
            GenerationError: If the task, a condition or a setting is unknown, missing or not usable.
            AudioFormatError: If audio cannot be read.
        """
        if not isinstance(seed, int) or not 0 <= seed < MAX_SEED:
            raise GenerationError(f"seed is {seed!r}; it must be a whole number, 0 or more.")
        given = {
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "greedy": greedy,
            "min_p": min_p,
            "repetition_window": repetition_window,
            "repetition_threshold": repetition_threshold,
            "codebook_temperatures": codebook_temperatures,
            "refine_passes": refine_passes,
            "beams": beams,
            "length_penalty": length_penalty,
            "word_weight": word_weight,
        }
        pipeline = None if task in self.tasks else find_pipeline(task)
        if pipeline is not None:
            shared = {
                "lang": lang, "seed": seed, **given, "guidance": guidance, "max_seconds": max_seconds,
                "max_text_tokens": max_text_tokens, "answers": answers, "regex": regex, "instruction": instruction,
                "per_kind": per_kind,
            }  # fmt: skip
            settings = {name: value for name, value in shared.items() if value is not None}
            return pipeline_request(pipeline, self, stage_models, per_stage, conditions, settings)
        card = self.task(task)
        if stage_models or per_stage:
            raise GenerationError(f"task '{task}' has no stages: leave stage_models and per_stage out.")
        conditions = card.gathered(conditions)
        check_conditions(card, conditions)
        encoded, spoken = self._encoded(card, conditions), self._lang(card, lang)
        if instruction is not None and not card.instructions:
            raise GenerationError(
                f"task '{task}' of model '{self.name}' has no instructions in its card: the model knows it by its "
                "name only. Leave 'instruction' out."
            )
        asked = {"lang": spoken, "targets": False, "instruction": instruction}
        prompt = self.builder.build(card, encoded, **asked)
        present = {field.name for field in card.conditions if field.default is not None} | encoded.keys()
        scales = {name: scale for name, scale in guidance_scales(card, guidance).items() if name in present}
        steps = [
            GuidanceStep(scale, self.builder.build(card, encoded, **asked, without=names))
            for scale, names in conditions_left_out(scales)
        ]
        return GenerationRequest(
            prompt=prompt,
            guidance=steps,
            task=card,
            sampling=sampling(card, given),
            per_kind=sampling_per_kind(card, given, per_kind or {}),
            seed=seed,
            max_seconds=max_seconds,
            max_text_tokens=max_text_tokens,
            words=self.words.of(spoken, word_weight),
            text_rule=text_rule(card, answers, regex, self.tokenizers.text),
            text=asked_text(card, encoded),
        )

    def run(
        self,
        requests: Sequence[GenerationRequest | PipelineRequest],
        *,
        batch_size: int = 16,
        best_of: int | None = None,
        hear: bool = False,
        on_step: OnStep | None = None,
    ) -> list[Generation]:
        """Carry out prepared requests, and keep the details that `generate` leaves out.

        Args:
            requests: What `request` returned.
            batch_size: How many at once.
            best_of: Candidates of each request, see `generate_batch`.
            hear: Let the task that checks candidates also write down what it hears in each (`Candidate.heard`).
            on_step: Called after every position with a `Progress`.

        Raises:
            GenerationError: If a request is none that `request` returned.
        """
        for request in requests:
            if not isinstance(request, GenerationRequest | PipelineRequest):
                got = type(request).__name__
                raise GenerationError(f"run takes what `request` returns, got {got}; generate_batch takes mappings.")
        chained = [request for request in requests if isinstance(request, PipelineRequest)]
        alone = [request for request in requests if isinstance(request, GenerationRequest)]
        choices = self.reranker.run(alone, best_of, batch_size, on_step, hear)
        made = iter([self._decoded(request.task, choice) for request, choice in zip(alone, choices, strict=True)])
        options = {"batch_size": batch_size, "best_of": best_of, "hear": hear, "on_step": on_step}
        of_stages = iter(run_pipelines(chained, **options))
        return [next(of_stages if isinstance(request, PipelineRequest) else made) for request in requests]

    def sequence(self, task: str, lang: str | None = None, **values: Any) -> TokenSequence:
        """Return the token sequence of a task: the prompt, or with its targets' values the whole.

        Args:
            task: Name of the task.
            lang: Language of the target; default: the model's first language, if it has any.
            **values: Conditions as in `generate`, and optionally all targets.

        Raises:
            GenerationError: If the task is unknown.
            DataError: If a value is unknown, missing or of the wrong type.
        """
        card = self.task(task)
        return self._build(card, values, lang, targets=any(target.name in values for target in card.targets))

    def score(self, task: str, *, lang: str | None = None, mean: bool = False, **values: Any) -> Tensor:
        """Return how likely the model finds each of several answers.

        Args:
            task: Name of the task.
            lang: Language of the target; default: the model's first language, if it has any.
            mean: Divide each sum by the number of ids in it, to compare answers of different lengths.
            **values: Conditions as in `generate`, and each target: a list of candidates, or one value for all.

        Returns:
            Log-probabilities `[n]`, float32, natural logarithm: the sum over all ids of the targets, end markers
            included; of audio frames the AR codebooks.

        Raises:
            GenerationError: If the task, a condition or a target is unknown or missing, or lists differ in length.
        """
        card = self.task(task)
        targets = {target.name: values.pop(target.name, None) for target in card.targets}
        values = card.gathered(values)
        check_conditions(card, values, targets)
        conditions = self._encoded(card, values)
        spoken = self._lang(card, lang)
        sequences = [
            self.builder.build(card, {**conditions, **self._encoded(card, answer)}, lang=spoken)
            for answer in candidates(card, targets)
        ]
        sums, counts = score_sequences(self.lm, sequences)
        return sums / counts if mean else sums

    def save(self, folder: str | Path, *, dtype: str | None = None, readme: str | None = None) -> Path:
        """Write a checkpoint folder, see `unitok.checkpoint.save_checkpoint`."""
        checkpoint = Checkpoint(
            lm=self.lm,
            vocabulary=self.vocabulary,
            text_tokenizer=self.tokenizers.text,
            audio_tokenizer=self.tokenizers.audio,
            semantic_tokenizer=self.tokenizers.semantic,
            lexicons=self.builder.lexicons,
            words=self.words.models,
            tasks=self.tasks,
            name=self.name,
            notes=self.notes,
        )
        return save_checkpoint(folder, checkpoint, dtype=dtype, readme=readme)

    def task(self, name: str) -> Task:
        """Return one of the model's tasks.

        Raises:
            GenerationError: If it was not trained for it.
        """
        if name not in self.tasks:
            raise GenerationError(
                f"model '{self.name}' was not trained for task '{name}'.{suggest(str(name), self.tasks)} "
                f"It can do: {', '.join(self.tasks)}."
            )
        return self.tasks[name]

    def _lang(self, task: Task, lang: str | None) -> str | None:
        if not task.lang_field:
            if lang is not None:
                raise GenerationError(f"task '{task.name}' is told no language, got '{lang}'. Leave 'lang' out.")
            return None
        names = self.vocabulary.lang_names
        return names[0] if lang is None and names else lang

    def _build(self, task: Task, values: Mapping[str, Any], lang: str | None, targets: bool) -> TokenSequence:
        return self.builder.build(task, self._encoded(task, values), lang=self._lang(task, lang), targets=targets)

    def _encoded(self, task: Task, values: Mapping[str, Any]) -> dict[str, str | Tensor]:
        """Turn audio into codes, ids, or what an encoder takes; names and other types are the builder's to check."""
        fields = {field.name: field for field in task.fields}
        given = {name: value for name, value in task.gathered(values).items() if value is not None}
        return {name: self._all_encoded(fields.get(name), value) for name, value in given.items()}

    def _all_encoded(self, field: Field | None, value: Any) -> Any:
        """Return a value encoded, of a repeated condition each of them; one of no field as it is."""
        if field is None:
            return value
        return [self.encode(field, one) for one in value] if field.repeated else self.encode(field, value)

    def encode(self, field: Field, value: Any) -> Any:
        """Return a value of a task's field as `SequenceBuilder.build` takes it.

        Args:
            field: The field, such as `model.tasks["tts"].conditions[2]`.
            value: As `request` takes it.

        Returns:
            Codes `[K, T]` of kind audio, ids `[1, T]` of kind semantic, both of the piece that the field uses; what an
            encoder takes of kind features; the value itself of all others.
        """
        if field.kind == "audio":
            return self._codes(field, value)
        if field.kind == "semantic":
            return self._semantic_ids(field, value)
        return self._samples(field, value) if field.kind == "features" and field.takes == "audio" else value

    def decode(self, codes: Tensor) -> Audio:
        """Return the audio of codes `[K, T]`."""
        with torch.inference_mode():
            wav = self.tokenizers.audio.decode(codes[None])
        return Audio(wav[0].float().cpu().clone(), self.tokenizers.audio.sample_rate_hz)

    def _samples(self, field: Field, value: Any) -> Tensor:
        """Return what an encoder takes of one recording, samples `[N]`; states `[T, E]` stay as they are."""
        encoder = self.builder.encoders.get(field.encoder)
        if isinstance(value, Tensor) or encoder is None:
            return value  # the builder checks it
        return encoder.waveform(Audio.of(value))

    def _codes(self, field: Field, value: Any) -> Tensor:
        """Return codes `[K, T]` of one audio value; the codec runs on each alone, so batches change nothing."""
        if isinstance(value, Tensor):
            return value  # codes already; the builder checks them
        return _encoded_by(self.tokenizers.audio, used_audio(field, value))[: self.vocabulary.n_codebooks]

    def _semantic_ids(self, field: Field, value: Any) -> Tensor:
        """Return semantic ids `[1, T]` of one value: audio, a file of ids, or ids."""
        if isinstance(value, str | Path) and Path(value).suffix in ID_SUFFIXES:
            return read_ids(value)[None]
        if isinstance(value, Tensor):
            return value
        if isinstance(value, list) and all(type(id) is int for id in value):
            return torch.tensor([value], dtype=torch.int64)
        if self.tokenizers.semantic is None:
            raise GenerationError(
                f"'{field.name}': model '{self.name}' has no semantic tokenizer to hear audio with. Give ids."
            )
        return _encoded_by(self.tokenizers.semantic, used_audio(field, value))

    def _decoded(self, task: Task, choice: Choice, with_audio: bool = True) -> Generation:
        values, codes = dict[str, Value](), dict[str, Tensor]()
        made = choice.result
        sequence = made.sequence
        for segment in sequence.segments:
            if segment.role != "target":
                continue
            if segment.kind == "audio":
                before, after = codes_around(task, sequence, segment.name)
                parts = [part for part in (before, sequence.codes(segment.name), after) if part is not None]
                codes[segment.name] = torch.cat(parts, dim=1)
                if with_audio:
                    values[segment.name] = self.decode(codes[segment.name])
            elif segment.kind == "semantic":
                values[segment.name] = codes[segment.name] = sequence.codes(segment.name)
            else:
                values[segment.name] = self.tokenizers.text.decode(sequence.text_ids(segment.name))
        return Generation(
            values, sequence, made.log_probability, made.stop, made.lengths, choice.candidates, choice.chosen, codes
        )


def _encoded_by(tokenizer: AudioTokenizer | SemanticTokenizer, audio: Audio) -> Tensor:
    """Return the codes `[K, T]` of one recording."""
    with torch.inference_mode():
        encoded = tokenizer.encode(audio.samples[None], audio.sample_rate_hz)
    return encoded.codes[0, :, : int(encoded.lengths[0])].cpu()
