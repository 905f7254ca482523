"""Training the neural codec: what is learned, what stays put, what is exported."""

import json
from pathlib import Path

import lightning as L
import pytest
import soundfile
import torch

from unitok.data.segments import SegmentDataset
from unitok.errors import DataError
from unitok.model.codec import CodecConfig
from unitok.tokenizers import load_audio_tokenizer
from unitok.training.codec_data import CodecDataModule
from unitok.training.codec_losses import SpectralLoss
from unitok.training.codec_module import CodecModule

TINY = CodecConfig(
    sample_rate_hz=8000, hop=40, frame_stride=2, window=160, encoder_dim=16, encoder_layers=2, decoder_dim=16,
    decoder_layers=2, n_codebooks=2, codebook_size=16, code_dim=8,
)  # fmt: skip


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Three files of chirps, one shorter than a stretch."""
    rows = []
    for i, seconds in enumerate((1.5, 0.2, 2.0)):
        t = torch.arange(round(seconds * 8000)) / 8000
        chirp = 0.5 * torch.sin(2 * torch.pi * (200 + 100 * i) * t * (1 + t))
        soundfile.write(tmp_path / f"{i}.wav", chirp.numpy(), 8000)
        rows.append({"id": str(i), "audio": f"{i}.wav"})
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "manifest.jsonl"


def fit(manifest: Path, steps: int = 3, **settings) -> CodecModule:
    L.seed_everything(0)
    module = CodecModule(TINY, warmup_steps=2, **settings)
    data = CodecDataModule(manifest, manifest, batch_size=2, seconds=0.5, sample_rate_hz=8000, steps_per_epoch=steps)
    optimizers = 2 if settings.get("adversarial_weight") else 1
    trainer = L.Trainer(
        max_steps=steps * optimizers, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=1, num_sanity_val_steps=0,
        default_root_dir=manifest.parent,
    )  # fmt: skip
    trainer.fit(module, data)
    return module


def test_training_lowers_the_mel_loss_and_exports_a_tokenizer(manifest: Path, tmp_path: Path) -> None:
    untrained, trained = (fit(manifest, steps=n, lr=5e-3) for n in (1, 60))
    data = SegmentDataset(manifest, size=4, seconds=0.5, sample_rate_hz=8000, seed=9)
    wav = torch.stack([data[i] for i in range(4)])
    with torch.no_grad():
        before, after = (m.spectral_loss(m.codec.eval()(wav).wav, wav)[0] for m in (untrained, trained))
    assert after < 0.7 * before
    trained.export(tmp_path / "codec")
    tokenizer = load_audio_tokenizer(tmp_path / "codec")
    assert tokenizer.encode(wav[:, None], 8000).codes.shape == (4, 2, 50)


def test_freezing_codes_trains_the_decoder_alone(manifest: Path, tmp_path: Path) -> None:
    fit(manifest).export(tmp_path / "first")
    first = load_audio_tokenizer(tmp_path / "first")
    second = fit(manifest, init_from=tmp_path / "first", freeze_codes=True)
    second.export(tmp_path / "second")
    assert load_audio_tokenizer(tmp_path / "second").fingerprint == first.fingerprint
    assert not torch.equal(second.codec.decoder.head.weight, first.model.decoder.head.weight)


def test_the_adversary_learns_beside_the_codec(manifest: Path) -> None:
    module = fit(manifest, adversarial_weight=1.0)
    moments = module.trainer.optimizers[1].state
    assert len(moments) == len(list(module.discriminators.parameters()))
    # Biases of the last layer have none: the hinge pulls them up for real audio as hard as down for the codec's.
    assert all(float(state["exp_avg"].abs().sum()) > 0 for weight, state in moments.items() if weight.ndim > 1)


def test_the_spectral_loss_is_zero_for_equals_and_grows_with_the_difference() -> None:
    loss, wav = SpectralLoss(8000, windows=(64, 256), mel_bins=(8, 20)), torch.randn(2, 4000) * 0.1
    assert sum(loss(wav, wav)) == pytest.approx(0.0, abs=1e-6)
    near, far = (sum(loss(wav + scale * torch.randn_like(wav), wav)) for scale in (0.01, 0.1))
    assert 0 < near < far


def test_windows_and_mel_sizes_must_pair_up() -> None:
    with pytest.raises(ValueError, match="windows has 4 entries and mel_bins 1"):
        SpectralLoss(8000, mel_bins=(20,))


def test_segments_are_a_function_of_seed_and_index(manifest: Path) -> None:
    a, b = (SegmentDataset(manifest, size=5, seconds=0.5, sample_rate_hz=8000, seed=3) for _ in range(2))
    other = SegmentDataset(manifest, size=5, seconds=0.5, sample_rate_hz=8000, seed=4)
    for i in range(5):
        assert a[i].shape == (4000,)
        assert torch.equal(a[i], b[i])
        assert float(a[i].abs().max()) <= 0.95
    assert not all(torch.equal(a[i], other[i]) for i in range(5))


def test_a_missing_or_empty_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl"):
        SegmentDataset(tmp_path / "none.jsonl", size=1, seconds=1.0, sample_rate_hz=8000)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no rows"):
        SegmentDataset(tmp_path / "empty.jsonl", size=1, seconds=1.0, sample_rate_hz=8000)
