"""Training the neural codec: what is learned, what stays put, what is exported."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import lightning as L
import pytest
import soundfile
import torch

from unitok.cli.main import main
from unitok.data.segments import SegmentDataset, collate_segments
from unitok.errors import DataError, UnitokError
from unitok.model.codec import CodecConfig, NeuralCodec
from unitok.tokenizers import load_audio_tokenizer, save_tokenizer
from unitok.tokenizers.unitok_codec import UnitokCodecTokenizer
from unitok.training.adversary import AdversaryConfig
from unitok.training.codec_data import CodecDataModule
from unitok.training.codec_losses import LossWeights, SpectralLoss, TextReader, WaveformWeights
from unitok.training.codec_module import DEFAULT_OPTIMIZER, DEFAULT_SCHEDULE, CodecModule

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
    module = CodecModule(TINY, schedule=replace(DEFAULT_SCHEDULE, warmup_steps=2), **settings)
    data = CodecDataModule(manifest, manifest, batch_size=2, seconds=0.5, sample_rate_hz=8000, steps_per_epoch=steps)
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=1, num_sanity_val_steps=0,
        default_root_dir=manifest.parent,
    )  # fmt: skip
    trainer.fit(module, data)
    return module


def test_training_lowers_the_mel_loss_and_exports_a_tokenizer(manifest: Path, tmp_path: Path) -> None:
    untrained, trained = (fit(manifest, steps=n, optimizer=replace(DEFAULT_OPTIMIZER, lr=5e-3)) for n in (1, 60))
    data = SegmentDataset(manifest, size=4, seconds=0.5, sample_rate_hz=8000, seed=9)
    wav = collate_segments([data[i] for i in range(4)]).wav
    with torch.no_grad():
        before, after = (m.distances.spectral(m.codec.eval()(wav).decoded, wav).mel for m in (untrained, trained))
    assert after < 0.7 * before
    trained.export(tmp_path / "codec")
    tokenizer = load_audio_tokenizer(tmp_path / "codec")
    assert tokenizer.encode(wav[:, None], 8000).codes.shape == (4, 2, 50)


def test_freezing_codes_trains_the_decoder_alone(manifest: Path, tmp_path: Path) -> None:
    fit(manifest).export(tmp_path / "first")
    first = load_audio_tokenizer(tmp_path / "first")
    second = fit(manifest, init_from=str(tmp_path / "first"), freeze_codes=True)
    second.export(tmp_path / "second")
    assert load_audio_tokenizer(tmp_path / "second").fingerprint == first.fingerprint
    assert not torch.equal(second.codec.decoder.head.weight, first.model.decoder.head.weight)


def test_going_on_from_a_folder_moves_the_codebooks_too(manifest: Path, tmp_path: Path) -> None:
    first = fit(manifest)
    first.export(tmp_path / "first")
    second = fit(manifest, init_from=str(tmp_path / "first"))
    before, after = (module.codec.quantizer.codebooks[0].vectors for module in (first, second))
    assert not torch.allclose(before, after, atol=1e-3)


def test_an_export_on_the_way_changes_nothing(manifest: Path, tmp_path: Path) -> None:
    module = fit(manifest)
    modes = [part.training for part in module.codec.train().modules()]
    module.export(tmp_path / "codec")
    assert [part.training for part in module.codec.modules()] == modes


def test_the_adversary_learns_beside_the_codec(manifest: Path) -> None:
    module = fit(manifest, adversary=AdversaryConfig(["stft"]))
    moments = module.trainer.optimizers[1].state
    assert len(moments) == len(list(module.adversary.parameters()))
    # Biases of the last layer have none: the hinge pulls them up for real audio as hard as down for the codec's.
    assert all(float(state["exp_avg"].abs().sum()) > 0 for weight, state in moments.items() if weight.ndim > 1)


def test_the_spectral_loss_is_zero_for_equals_and_grows_with_the_difference() -> None:
    loss, wav = SpectralLoss(TINY), torch.randn(2, 4000) * 0.1
    exact = TINY.magnitudes(wav, torch.hann_window(TINY.window)).log()
    assert max(loss(exact, wav)) == pytest.approx(0.0, abs=1e-5)
    near, far = (loss(exact + scale * torch.randn_like(exact), wav) for scale in (0.1, 0.5))
    assert all(0 < n < f for n, f in zip(near, far, strict=True))


def test_a_blunt_peak_counts_for_more_in_peaks_than_in_log() -> None:
    tone = 0.5 * torch.sin(2 * torch.pi * 1000 * torch.arange(4000) / 8000)[None]
    exact = TINY.magnitudes(tone, torch.hann_window(TINY.window)).clamp_min(1e-6).log()
    blunt, noisy = (SpectralLoss(TINY)(x, tone) for x in (exact.clamp(max=1.0), exact.clamp(min=-3.0)))
    assert noisy.peaks / blunt.peaks < 0.2 * noisy.log / blunt.log


def test_a_codec_that_predicts_phases_learns_them_from_the_waveform(manifest: Path, tmp_path: Path) -> None:
    codec = UnitokCodecTokenizer(NeuralCodec(replace(TINY, phases="predicted")), name="old")
    save_tokenizer(codec, tmp_path / "old")
    before = codec.model.decoder.head.weight.clone()
    after = fit(manifest, init_from=str(tmp_path / "old")).codec.decoder.head.weight
    phases = slice(TINY.window // 2 + 1, None)
    assert (after - before)[phases].abs().max() > 1e-5
    silent = LossWeights(waveform=WaveformWeights(0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match=r"Set losses\.waveform\.mel"):
        CodecModule(init_from=str(tmp_path / "old"), losses=silent)


def test_segments_are_a_function_of_seed_and_index(manifest: Path) -> None:
    a, b = (SegmentDataset(manifest, size=5, seconds=0.5, sample_rate_hz=8000, seed=3) for _ in range(2))
    other = SegmentDataset(manifest, size=5, seconds=0.5, sample_rate_hz=8000, seed=4)
    for i in range(5):
        assert a[i][0].shape == (4000,)
        assert torch.equal(a[i][0], b[i][0])
        assert float(a[i][0].abs().max()) <= 0.95
    assert not all(torch.equal(a[i][0], other[i][0]) for i in range(5))


def test_several_manifests_are_drawn_from_by_their_length(manifest: Path) -> None:
    (manifest.parent / "other").mkdir()
    soundfile.write(manifest.parent / "other" / "step.wav", [0.5] * 16000, 8000)
    other = manifest.parent / "other" / "manifest.jsonl"
    other.write_text(json.dumps({"id": "step", "audio": "step.wav"}))
    data = SegmentDataset([manifest, other], size=60, seconds=0.5, sample_rate_hz=8000)
    flat = sum(float(data[i][0].std()) < 1e-6 for i in range(60))
    assert flat / 60 == pytest.approx(2.0 / (1.5 + 0.2 + 2.0 + 2.0), abs=0.15)


def test_another_speed_changes_the_pitch_as_a_tape_does(tmp_path: Path) -> None:
    tone = 0.5 * torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 8000)
    soundfile.write(tmp_path / "tone.wav", tone.numpy(), 8000)
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"id": "0", "audio": "tone.wav"}))
    data = SegmentDataset(
        tmp_path / "manifest.jsonl", size=20, seconds=0.5, sample_rate_hz=8000, speeds=(0.8, 1.0, 1.25)
    )
    pitches = {int(torch.fft.rfft(data[i][0]).abs().argmax()) * 2 for i in range(20)}  # a bin is 2 Hz
    assert pitches == {800, 1000, 1250}


def test_text_comes_with_whole_files_only(manifest: Path) -> None:
    rows = [json.loads(line) | {"text": f"File\n No. {i}"} for i, line in enumerate(manifest.read_text().splitlines())]
    manifest.write_text("\n".join(map(json.dumps, rows)))
    data = SegmentDataset(manifest, size=40, seconds=0.5, sample_rate_hz=8000)
    batch = collate_segments([data[i] for i in range(40)])
    whole = (batch.wav[:, 1600:] == 0).all(dim=1)  # the file of 0.2 s
    assert 0 < whole.sum() < 40
    assert torch.equal(batch.text_lengths > 0, whole)
    assert {bytes(row[:n].tolist()) for row, n in zip(batch.text, batch.text_lengths, strict=True) if n} == {
        b"file no. 1"
    }


def test_a_text_that_is_null_is_none(manifest: Path) -> None:
    rows = [json.loads(line) | {"text": None} for line in manifest.read_text().splitlines()[1:2]]
    manifest.write_text("\n".join(map(json.dumps, rows)))
    assert SegmentDataset(manifest, size=1, seconds=0.5, sample_rate_hz=8000)[0].text == b""


def test_one_speed_is_a_speed_too(manifest: Path) -> None:
    slow, fast = (SegmentDataset(manifest, size=1, seconds=0.5, sample_rate_hz=8000, speeds=[s]) for s in (0.5, 2.0))
    assert not torch.equal(slow[0].wav, fast[0].wav)


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([{"audio": "none.wav"}], "audio file '.*none.wav' does not exist"),
        ([{"audio": "none.wav", "seconds": 1}], "audio file '.*none.wav' does not exist"),
        ([{"audio": "manifest.jsonl"}], "audio file '.*manifest.jsonl' cannot be read: Format not recognised"),
        ([{"audio": "empty.wav"}], "manifest.jsonl: the audio files hold no samples"),
        ([{"audio": 3}], "the path is 3, expected a string"),
    ],
)
def test_what_no_stretch_can_be_taken_from_is_named(rows: list, match: str, manifest: Path) -> None:
    soundfile.write(manifest.parent / "empty.wav", torch.zeros(0).numpy(), 8000)
    manifest.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UnitokError, match=match):
        SegmentDataset(manifest, size=1, seconds=0.5, sample_rate_hz=8000)[0]


def test_rows_without_audio_are_passed_over_and_odd_lengths_looked_up(manifest: Path) -> None:
    rows = [{"text": "a"}, {"audio": None}, {"audio": "1.wav", "seconds": "long"}, {"audio": "1.wav", "seconds": -1}]
    manifest.write_text("\n".join(map(json.dumps, rows)))
    data = SegmentDataset(manifest, size=1, seconds=0.5, sample_rate_hz=8000)
    assert data.weights == pytest.approx([0.2, 0.2])


def test_the_reader_learns_to_read_and_ignores_rows_without_text() -> None:
    torch.manual_seed(0)
    reader, vectors = TextReader(8, width=16), torch.randn(3, 12, 8)
    text, lengths = torch.tensor([[99, 97, 116], [100, 111, 0], [0, 0, 0]]), torch.tensor([3, 2, 0])
    optimizer, losses = torch.optim.Adam(reader.parameters(), lr=1e-2), []
    for _ in range(120):
        losses.append(reader.loss(vectors, text, lengths))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.2 < losses[0]
    with torch.no_grad():
        assert reader.loss(vectors[:2], text[:2], lengths[:2]) == reader.loss(vectors, text, lengths)
        assert reader.loss(vectors, text, torch.zeros(3, dtype=torch.int64)) == 0
        spoken = reader(vectors)[0].argmax(dim=-1)
    assert spoken.shape == (24,)
    assert bytes(torch.unique_consecutive(spoken)[torch.unique_consecutive(spoken) != 256].tolist()) == b"cat"


def test_reading_moves_the_encoder_through_codebook_0(manifest: Path) -> None:
    rows = [json.loads(line) | {"text": "a"} for line in manifest.read_text().splitlines()[1:2]]
    manifest.write_text("\n".join(map(json.dumps, rows)))
    plain, read = (fit(manifest, losses=LossWeights(text=weight)) for weight in (0.0, 1.0))
    assert plain.reader is None
    assert read.reader is not None
    assert not torch.equal(plain.codec.encoder.project.weight, read.codec.encoder.project.weight)


def test_a_missing_or_empty_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl"):
        SegmentDataset(tmp_path / "none.jsonl", size=1, seconds=1.0, sample_rate_hz=8000)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no rows"):
        SegmentDataset(tmp_path / "empty.jsonl", size=1, seconds=1.0, sample_rate_hz=8000)


def test_the_command_line_trains_on_several_manifests(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "codec.yaml").write_text(
        f"""
model:
  class_path: unitok.training.codec_module.CodecModule
  init_args: {{codec: {json.dumps(asdict(TINY))}}}
data:
  class_path: unitok.training.codec_data.CodecDataModule
  init_args:
    train_manifest: ["{manifest}", "{manifest}"]
    val_manifest: "{manifest}"
    batch_size: 2
    seconds: 0.5
    sample_rate_hz: 8000
    steps_per_epoch: 2
trainer:
  max_steps: 1
  accelerator: cpu
  limit_val_batches: 1
  default_root_dir: "{tmp_path}/run"
  callbacks:
    - class_path: unitok.training.callbacks.CheckpointFolder
      init_args: {{dirpath: "{tmp_path}/codec"}}
"""
    )
    assert main(["fit", "--config", str(tmp_path / "codec.yaml")]) == 0
    assert load_audio_tokenizer(tmp_path / "codec").n_codebooks == 2
