"""What a model in training makes of fixed validation prompts, in TensorBoard: audio, texts, sequences, attention.

B batch, S positions, H heads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.overrides import TorchFunctionMode

from unitok.data.mixing import Example
from unitok.errors import UnitokError
from unitok.generation.engine import Engine, GenerationRequest
from unitok.generation.requests import sampling
from unitok.model.lm import UnitokLM
from unitok.sequence import TokenSequence
from unitok.tasks import Task
from unitok.training.lm_module import LMModule

__all__ = ["ValidationSamples", "attention_maps", "prompt_of"]


class ValidationSamples(L.Callback):
    """After each validation, continue the first validation examples of every task, and show the outcome in TensorBoard.

    One result each and without guidance, whatever the cards say: what is shown is what the model learned.

    Tags: `samples/<task>/<i>/<target>` (audio or text) beside `…/reference`, `sequence/<task>`, `attention/<task>`.
    """

    def __init__(self, per_task: int = 2, seed: int = 0, pictures: bool = True):
        """Say how much to show.

        Args:
            per_task: Prompts of each task.
            seed: Of the sampling, the same every time.
            pictures: Draw the sequence and the attention of each task's first example too.
        """
        self.per_task, self.seed, self.pictures = per_task, seed, pictures
        self._examples: list[tuple[Task, TokenSequence]] | None = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Generate and show."""
        board = next((one for one in trainer.loggers if isinstance(one, TensorBoardLogger)), None)
        if board is None or trainer.sanity_checking or not trainer.is_global_zero:
            return
        if not isinstance(pl_module, LMModule):
            raise UnitokError(
                f"ValidationSamples shows samples of LMModule, the model is {type(pl_module).__name__}. "
                "Leave the callback out."
            )
        first_time = self._examples is None
        self._examples = self._examples or self._choose(trainer, pl_module)
        with pl_module.averaged_weights() as lm:
            engine = Engine(lm, pl_module.vocabulary, pl_module.text_tokenizer.size)
            results = engine.generate(
                [GenerationRequest(prompt_of(s), t, sampling(t, {}), seed=self.seed) for t, s in self._examples]
            )
            for index, ((task, reference), result) in enumerate(zip(self._examples, results, strict=True)):
                tag, place = f"samples/{task.name}/{index}", trainer.global_step
                if first_time:
                    self._show(board.experiment, pl_module, task, reference, f"{tag}/reference", place)
                self._show(board.experiment, pl_module, task, result.sequence, tag, place)
            if self.pictures:
                self._draw(board.experiment, pl_module, trainer.global_step)

    def _choose(self, trainer: L.Trainer, module: LMModule) -> list[tuple[Task, TokenSequence]]:
        dataset = trainer.datamodule.dataset("val")  # type: ignore[attr-defined]
        return [
            (part.task, dataset[Example(0, item, source, item)])
            for source, part in enumerate(dataset.parts)
            for item in range(min(self.per_task, len(part)))
        ]

    def _show(self, writer: Any, module: LMModule, task: Task, sequence: TokenSequence, tag: str, step: int) -> None:
        values = sequence.split()
        for target in task.targets:
            value = values.get(target.name)
            if isinstance(value, str):
                writer.add_text(f"{tag}/{target.name}", value, step)
            elif isinstance(value, Tensor) and target.kind == "audio" and value.shape[1]:
                with torch.inference_mode():
                    wav = module.audio_tokenizer.decode(value[None])[0].mean(0)
                writer.add_audio(
                    f"{tag}/{target.name}", wav.clamp(-1, 1)[None].cpu(), step, module.audio_tokenizer.sample_rate_hz
                )
        spoken = "  \n".join(
            f"**{c.name}**: {values[c.name]}" for c in task.conditions if isinstance(values.get(c.name), str)
        )
        if spoken:
            writer.add_text(f"{tag}/conditions", spoken, step)

    def _draw(self, writer: Any, module: LMModule, step: int) -> None:
        import matplotlib.pyplot as plt

        drawn: set[str] = set()
        for task, sequence in self._examples or []:
            if task.name not in drawn:
                drawn.add(task.name)
                writer.add_figure(f"sequence/{task.name}", sequence.plot(), step)
                writer.add_figure(f"attention/{task.name}", _plot_attention(attention_maps(module.lm, sequence)), step)
        plt.close("all")


def prompt_of(sequence: TokenSequence) -> TokenSequence:
    """Return what comes before the first target of a finished sequence."""
    kept = tuple(segment for segment in sequence.segments if segment.stop <= int(sequence.prefix_mask.sum()))
    return replace(sequence, tokens=sequence.tokens[: kept[-1].stop], segments=kept, loss_weights=None)


@torch.no_grad()
def attention_maps(lm: UnitokLM, sequence: TokenSequence) -> list[Tensor]:
    """Return where each head of each global layer looks, `[H, S, S]` per layer (row: query), float32."""
    device = lm.embedding.weight.device
    tokens = lm.coarse(sequence.tokens[None].to(device), sequence.frame_mask[None].to(device))
    with _AttentionRecorder() as recorder:
        lm.hidden(tokens, sequence.prefix_mask[None].to(device))
    return recorder.maps


class _AttentionRecorder(TorchFunctionMode):
    """Computes the weights beside every call of the fused attention, which keeps none."""

    def __init__(self) -> None:
        super().__init__()
        self.maps: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            self._record(*args[:2], **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _record(
        self, query: Tensor, key: Tensor, *, attn_mask: Tensor | None = None, is_causal: bool = False, **_: Any
    ) -> None:
        key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)  # grouped queries
        scores = (query @ key.transpose(2, 3)).float() / query.shape[-1] ** 0.5  # [1, H, S, S]
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device)
        seen = attn_mask if attn_mask is not None else seen.tril() if is_causal else seen
        self.maps.append(scores.masked_fill(~seen, -torch.inf).softmax(-1)[0].cpu())


def _plot_attention(maps: list[Tensor]) -> Any:
    """Draw the mean over heads of each layer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * len(maps), 3.2), layout="constrained")
    for layer, (axes, weights) in enumerate(zip(figure.subplots(1, len(maps), squeeze=False)[0], maps, strict=True)):
        axes.imshow(weights.mean(0).sqrt().numpy(), aspect="auto", cmap="magma", interpolation="nearest")
        axes.set(title=f"layer {layer}", xlabel="looked at", ylabel="position" if layer == 0 else None)
    return figure
