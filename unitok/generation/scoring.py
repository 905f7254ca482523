"""How likely the model finds given targets: teacher-forced log-probabilities, the sum that generation reports too.

Letters: B sequences of a batch, S positions, n frames or labels, V ids.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unitok.errors import DataError
from unitok.model.lm import UnitokLM
from unitok.sequence import TokenSequence, collate

__all__ = ["score_sequences"]


@torch.inference_mode()
def score_sequences(lm: UnitokLM, sequences: Sequence[TokenSequence], batch_size: int = 16) -> tuple[Tensor, Tensor]:
    """Return the log-probability of each sequence's targets given its conditions.

    Args:
        lm: The model.
        sequences: Whole sequences, targets included.
        batch_size: How many go through the model at once.

    Returns:
        Sums `[len(sequences)]`, float32, natural logarithm: slot 0 of contents and end markers, and codebooks
        1 … Kc-1 of audio frames. And how many ids each sum is over, `[len(sequences)]`, int64.

    Raises:
        DataError: If there are no sequences, or audio has fewer codebooks than the model generates autoregressively.
    """
    lm.eval()
    device = next(lm.parameters()).device
    parts = [
        _score_batch(lm, sequences[start : start + batch_size], device)
        for start in range(0, max(1, len(sequences)), batch_size)
    ]
    sums, counts = zip(*parts, strict=True)
    return torch.cat(sums).cpu(), torch.cat(counts).cpu()


def _score_batch(lm: UnitokLM, sequences: Sequence[TokenSequence], device: torch.device) -> tuple[Tensor, Tensor]:
    for sequence in sequences:
        _check_filled(sequence, lm.n_coarse)
    batch = collate(sequences).to(device)
    tokens = lm.coarse(batch.tokens, batch.frame_mask)
    states = lm.hidden(tokens, batch.prefix_mask, features=batch.features)[:, :-1]  # before each label
    tokens = batch.tokens[:, 1:]
    sums = torch.zeros(len(sequences), device=device)
    counts = torch.zeros(len(sequences), dtype=torch.long, device=device)

    def add(rows: Tensor, logits: Tensor, labels: Tensor) -> None:
        log_probabilities = logits.float().log_softmax(dim=-1).gather(1, labels[:, None])[:, 0]
        sums.index_add_(0, rows, log_probabilities)
        counts.index_add_(0, rows, torch.ones_like(rows))

    rows, places = batch.loss_mask[:, 1:].nonzero(as_tuple=True)
    add(rows, lm.slot0_logits(states[rows, places]), tokens[rows, places, 0])
    if lm.slot_heads is not None:
        filled = batch.frame_mask[:, 1:, None] & (tokens != lm.empty_id)
        for k in range(1, lm.n_codebooks):
            rows, places = filled[..., k].nonzero(as_tuple=True)
            add(rows, lm.slot_logits(states[rows, places], k), lm.code_of_token[tokens[rows, places, k]])
    elif lm.n_coarse > 1:
        rows, places = batch.frame_mask[:, 1:].nonzero(as_tuple=True)
        frames = tokens[rows, places]
        for k, logits in enumerate(lm.local_logits(states[rows, places], frames), start=1):
            add(rows, logits, lm.code_of_token[frames[:, k]])
    return sums, counts


def _check_filled(sequence: TokenSequence, n_coarse: int) -> None:
    """Make sure that the audio of targets has every codebook that the model predicts one by one."""
    for segment in sequence.segments:
        if segment.role == "target" and segment.kind == "audio":
            n_filled = len(sequence.codes(segment.name))
            if n_filled < n_coarse:
                raise DataError(
                    f"a target's audio has {n_filled} codebooks, scoring it needs the {n_coarse} that the model "
                    f"predicts one by one. Encode it with {n_coarse} or more."
                )
