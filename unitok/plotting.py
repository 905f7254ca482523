"""Pictures of audio and of token sequences, drawn by matplotlib without a display.

Import this module only where something is drawn: matplotlib takes its time.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import torch

from unitok.audio import Audio
from unitok.errors import MissingDependencyError, UnitokError
from unitok.files import written_file
from unitok.sequence import TokenSequence
from unitok.vocabulary import NAMED_BLOCKS

try:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
except ImportError as error:
    raise MissingDependencyError(
        "drawing needs matplotlib, which is not installed. Run: pip install matplotlib"
    ) from error

__all__ = ["check_figure_path", "plot_audio", "plot_bars", "plot_sequence", "save_figure", "spectrogram_png"]

N_MELS = 80
WINDOW_S = 0.025
FLOOR_DB = 80.0
COLOURS = {
    "control": "#8c8c8c",
    "text": "#3b75af",
    "label": "#8d69b8",
    "audio": "#ef8636",
    "semantic": "#519e3e",
    "features": "#c53a32",
}


class _Picture(Figure):
    """A figure that shows itself in a notebook without pyplot."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        FigureCanvasAgg(self).print_png(file)
        return file.getvalue()


def plot_audio(audio: Audio, path: str | Path | None = None) -> Figure:
    """Draw the waveform of every channel above the log-mel spectrogram of their mean.

    Args:
        audio: The audio, at least one sample long.
        path: Where to write the picture; None does not write it.
    """
    figure = _Picture(figsize=(10, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    times = torch.arange(audio.n_samples) / audio.sample_rate_hz
    above.plot(times.numpy(), audio.samples.T.numpy(), linewidth=0.5)
    above.set(ylabel="amplitude", ylim=(-1, 1), title=repr(audio))
    mels_db, top_hz = _log_mel(audio)
    image = below.imshow(
        mels_db.numpy(), origin="lower", aspect="auto", extent=(0, audio.duration_s, 0, len(mels_db)), cmap="magma"
    )
    ticks = torch.linspace(0, N_MELS, 6)
    below.set_yticks(
        ticks, [f"{hz / 1000:.1f}" for hz in _mel_to_hz(ticks / N_MELS * _hz_to_mel(torch.tensor(top_hz)))]
    )
    below.set(xlabel="time (s)", ylabel="mel frequency (kHz)", xlim=(0, max(audio.duration_s, 1e-3)))
    figure.colorbar(image, ax=below, label="dB below the loudest", pad=0.01)
    return save_figure(figure, path)


def spectrogram_png(audio: Audio) -> bytes:
    """Return the log-mel spectrogram alone as a small PNG, a pixel for each band and window, low bands below."""
    from matplotlib.image import imsave

    mels_db, _ = _log_mel(audio)
    file = io.BytesIO()
    imsave(file, mels_db.numpy(), origin="lower", cmap="magma", format="png", vmin=-FLOOR_DB, vmax=0)
    return file.getvalue()


def plot_bars(names: Sequence[str], values: Sequence[float], what: str, path: str | Path | None = None) -> Figure:
    """Draw a bar with its figure for each name, the first one on top."""
    figure = _Picture(figsize=(8, 1 + 0.4 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.bar_label(axes.barh(range(len(names)), values, color=COLOURS["audio"]), padding=3)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel=what)
    axes.margins(x=0.12)
    return save_figure(figure, path)


def plot_sequence(sequence: TokenSequence, path: str | Path | None = None) -> Figure:
    """Draw the grid of a sequence: K slots over S positions.

    The colour tells the kind, its depth the id within its block; white is `<empty>`. A bar below marks the labels.

    Args:
        sequence: The sequence.
        path: Where to write the picture; None does not write it.
    """
    S, K = sequence.tokens.shape
    figure = _Picture(figsize=(min(4 + S / 12, 18), 1.6 + K / 3), layout="constrained")
    grid, bar = figure.subplots(2, 1, sharex=True, height_ratios=(K, 0.6))
    grid.imshow(_shades(sequence).numpy(), aspect="auto", interpolation="nearest")
    grid.set(ylabel="slot", yticks=range(K))
    for start, stop, label, bold in _labels(sequence):
        grid.axvline(start - 0.5, color="black", linewidth=0.4)
        grid.annotate(
            label,
            ((start + stop - 1) / 2, -0.6),
            annotation_clip=False,
            fontsize=8,
            rotation=30,
            rotation_mode="anchor",
            fontweight="bold" if bold else "normal",
        )
    bar.imshow(
        sequence.loss_mask[None].float().numpy(), aspect="auto", cmap="Greys", vmin=0, vmax=1, interpolation="nearest"
    )
    bar.set(yticks=[0], yticklabels=["loss"], xlabel="position")
    kinds = dict.fromkeys(segment.kind for segment in sequence.segments)
    figure.legend(
        handles=[Patch(color=COLOURS[kind], label=kind) for kind in kinds], loc="outside right upper", fontsize=8
    )
    return save_figure(figure, path)


def check_figure_path(path: str | Path) -> None:
    """Refuse a name whose suffix is that of no picture.

    Raises:
        UnitokError: If it is.
    """
    suffix, formats = Path(path).suffix, FigureCanvasAgg.get_supported_filetypes()
    if suffix[1:].lower() not in formats:
        raise UnitokError(f"cannot draw '{path}': its suffix is '{suffix}', allowed: {', '.join(sorted(formats))}.")


def save_figure(figure: Figure, path: str | Path | None) -> Figure:
    """Write a figure atomically, its format by the suffix of `path`; None writes nothing.

    Raises:
        UnitokError: If the format is unknown.
    """
    if path is None:
        return figure
    check_figure_path(path)
    with written_file(path) as partial:
        figure.savefig(partial, dpi=120)
    return figure


def _shades(sequence: TokenSequence) -> torch.Tensor:
    """Return the picture `[K, S, 3]`: the segment's colour, paler for lower ids of the block; white where empty."""
    colours = torch.ones(len(sequence), 1, 3)
    for segment in sequence.segments:
        colours[segment.start : segment.stop] = torch.tensor(to_rgb(COLOURS[segment.kind]))
    vocabulary = sequence.vocabulary
    depth = torch.ones(vocabulary.size)
    for name in {block.name for block in vocabulary.blocks} - set(NAMED_BLOCKS):
        depth[vocabulary.ids_of(name)] = torch.linspace(0.3, 1.0, vocabulary.size_of(name))
    depth[vocabulary.empty_id] = 0.0
    shades = 1 - depth[sequence.tokens][..., None] * (1 - colours)  # [S, K, 3]
    return shades.transpose(0, 1)  # [K, S, 3]


def _labels(sequence: TokenSequence) -> list[tuple[int, int, str, bool]]:
    """Return start, stop and name of each segment, neighbouring control tokens as one, and whether it is a target."""
    labels: list[tuple[int, int, str, bool]] = []
    for is_control, group in groupby(sequence.segments, key=lambda segment: segment.role == "control"):
        segments = list(group)
        if is_control:
            labels.append((segments[0].start, segments[-1].stop, " ".join(s.name for s in segments), False))
        else:
            labels += [(s.start, s.stop, s.name, s.role == "target") for s in segments]
    return labels


def _log_mel(audio: Audio) -> tuple[torch.Tensor, float]:
    """Return dB below the loudest `[N_MELS, frames]`, not under -FLOOR_DB, and the highest frequency in Hz."""
    from torchaudio.functional import melscale_fbanks

    n_fft = 2 ** max(6, int(WINDOW_S * audio.sample_rate_hz - 1).bit_length())
    samples = torch.nn.functional.pad(audio.mono().samples[0].cpu(), (n_fft // 2, n_fft // 2))
    spectrum = torch.stft(
        samples, n_fft, hop_length=n_fft // 4, window=torch.hann_window(n_fft), center=False, return_complex=True
    )
    top_hz = audio.sample_rate_hz / 2
    mels = melscale_fbanks(n_fft // 2 + 1, 0.0, top_hz, N_MELS, audio.sample_rate_hz).T @ spectrum.abs().square()
    db = 10 * torch.log10(mels.clamp(min=1e-10))
    return (db - db.max()).clamp(min=-FLOOR_DB), top_hz


def _hz_to_mel(hz: torch.Tensor) -> torch.Tensor:
    return 2595 * torch.log10(1 + hz / 700)


def _mel_to_hz(mel: torch.Tensor) -> torch.Tensor:
    return 700 * (10 ** (mel / 2595) - 1)
