"""Codes as a model says them, and a decoder that is trained on them."""

import json

import lightning as L
import numpy as np
import pytest
import soundfile
import torch
from command_line import run
from toy_checkpoint import tone, toy_model, toy_parts

from unitok.checkpoint import save_checkpoint
from unitok.data.manifest import read_manifest, resolve_path
from unitok.data.predicted import predict_codes
from unitok.data.segments import SegmentDataset, collate_segments
from unitok.errors import DataError
from unitok.model.codec import CodecConfig, NeuralCodec
from unitok.training.codec_data import CodecDataModule
from unitok.training.codec_module import CodecModule

TINY = CodecConfig(
    sample_rate_hz=8000, hop=40, frame_stride=2, window=160, encoder_dim=16, encoder_layers=2, decoder_dim=16,
    decoder_layers=2, n_codebooks=2, codebook_size=16, code_dim=8,
)  # fmt: skip


@pytest.fixture
def manifest(tmp_path):
    """Three recordings with texts."""
    rows = []
    for i, seconds in enumerate((0.5, 0.9, 0.3)):
        samples, rate = tone(seconds)
        soundfile.write(tmp_path / f"{i}.wav", samples.numpy(), rate)
        rows.append({"id": f"u{i}", "audio": f"{i}.wav", "text": "abc"[: i + 1], "lang": "en", "seconds": seconds})
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "manifest.jsonl"


def codes_of(folder) -> list[np.ndarray]:
    path = folder / "manifest.jsonl"
    return [np.load(resolve_path(row["codes"], path)) for row in read_manifest(path)]


def test_given_codebooks_are_true_and_the_others_said(manifest, tmp_path):
    model = toy_model(ar_codebooks=3)
    true = [model.tokenizers.audio.encode(*_read(manifest, i)).codes[0].numpy() for i in range(3)]
    for n_given in range(4):
        assert predict_codes(model, "tts", manifest, tmp_path / f"out{n_given}", n_given=n_given) == 3
        said = codes_of(tmp_path / f"out{n_given}")
        assert [codes.shape for codes in said] == [codes.shape for codes in true]
        for ours, theirs in zip(said, true, strict=True):
            assert np.array_equal(ours[:n_given], theirs[:n_given])
        if n_given < 3:
            assert any(not np.array_equal(ours[n_given], t[n_given]) for ours, t in zip(said, true, strict=True))
    predict_codes(model, "tts", manifest, tmp_path / "again", n_given=1)
    assert all(map(np.array_equal, codes_of(tmp_path / "again"), codes_of(tmp_path / "out1")))
    for row, source in zip(read_manifest(tmp_path / "out1" / "manifest.jsonl"), read_manifest(manifest), strict=True):
        audio = resolve_path(row["audio"], tmp_path / "out1" / "manifest.jsonl")
        assert audio.samefile(resolve_path(source["audio"], manifest))
        assert (row["id"], row["text"], row["seconds"]) == (source["id"], source["text"], source["seconds"])


def _read(manifest, i):
    samples, rate = soundfile.read(manifest.parent / f"{i}.wav", dtype="float32")
    return torch.from_numpy(samples)[None, None], rate


def test_what_cannot_be_predicted_is_said_and_leaves_nothing(manifest, tmp_path):
    with pytest.raises(DataError, match="task 'asr' makes text; codes are predicted for tasks that make one audio"):
        predict_codes(toy_model(), "asr", manifest, tmp_path / "out")
    with pytest.raises(DataError, match="pattern 'parallel'"):
        predict_codes(toy_model(pattern="parallel"), "tts", manifest, tmp_path / "out")
    manifest.write_text(json.dumps({"id": "a", "text": "ab"}))
    with pytest.raises(DataError, match="row 'a' has no file of 'speech'"):
        predict_codes(toy_model(), "tts", manifest, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_writes_what_the_codec_is_trained_on(manifest, tmp_path, capsys):
    save_checkpoint(tmp_path / "toy", toy_parts())
    argv = ["predict-codes", "--model", tmp_path / "toy", "--manifest", manifest, "--out", tmp_path / "said"]
    code, out, _ = run(capsys, *argv, "--rows", 2)
    assert (code, out) == (0, f"{tmp_path / 'said' / 'manifest.jsonl'}: 2 rows\n")
    for flag, value in (("--given", -1), ("--temperature", 0), ("--rows", 0)):
        code, _, err = run(capsys, *argv, flag, value)
        assert code == 2
        assert err.startswith(f"unitok: {flag} is {value}; it must be")


def test_stretches_begin_with_a_frame_and_keep_their_codes(tmp_path):
    frame, T = 80, 30
    wav = np.repeat(np.arange(T) / 100, frame).astype(np.float32)  # the level says which frame it is
    soundfile.write(tmp_path / "a.wav", wav, 8000, subtype="FLOAT")
    np.save(tmp_path / "a.npy", np.stack([np.arange(T), 100 + np.arange(T)]).astype(np.int16))
    rows = [{"id": "a", "audio": "a.wav", "codes": "a.npy"}, {"id": "b", "audio": "a.wav"}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = {"size": 40, "sample_rate_hz": 8000, "frame_length": frame, "speeds": (0.9, 1.1)}
    stretches = [SegmentDataset(tmp_path / "m.jsonl", seconds=0.1, **options)[i] for i in range(40)]
    with_codes = [one for one in stretches if one.codes is not None]
    assert 5 < len(with_codes) < 35
    for one in with_codes:
        assert torch.equal(one.codes[1], one.codes[0] + 100)
        assert torch.equal((one.wav[::frame] * 100).round().long(), one.codes[0])
    assert len({int(one.codes[0, 0]) for one in with_codes}) > 5
    batch = collate_segments(stretches)
    assert batch.codes.shape == (40, 2, 10)
    assert {bool((codes < 0).all()) for codes in batch.codes} == {True, False}
    long = [one for one in map(SegmentDataset(tmp_path / "m.jsonl", seconds=0.4, **options).__getitem__, range(20))]
    assert all((one.codes[:, T:] == -1).all() for one in long if one.codes is not None)
    without = SegmentDataset(tmp_path / "m.jsonl", seconds=0.1, size=40, sample_rate_hz=8000)
    assert collate_segments([without[i] for i in range(40)]).codes is None


def test_a_decoder_is_given_the_codes_and_the_rest_of_the_audio():
    torch.manual_seed(0)
    codec = NeuralCodec(TINY).eval()
    wav = torch.randn(2, 800)
    with torch.no_grad():
        for codebook in codec.quantizer.codebooks:
            codebook.vectors.normal_()
        own = codec.encode(wav)
        other = (own + 1) % 16
        given = other.clone()
        given[1] = -1
        decoded = codec(wav, given=given).decoded
        torch.testing.assert_close(decoded[0], codec.decode_spectrum(other)[0])
        torch.testing.assert_close(decoded[1], codec.decode_spectrum(own)[1])


def test_a_frozen_codec_learns_from_given_codes(manifest, tmp_path):
    torch.manual_seed(0)
    row, frames = read_manifest(manifest)[1], 90
    np.save(tmp_path / "c.npy", np.zeros((2, frames), np.int16))
    (tmp_path / "said.jsonl").write_text(json.dumps(row | {"codes": "c.npy"}))
    seen = []

    def fit(**settings) -> CodecModule:
        L.seed_everything(0)
        module = CodecModule(**settings)
        module.codec.decoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
        data = CodecDataModule(
            str(tmp_path / "said.jsonl"), str(manifest), batch_size=2, seconds=0.4, steps_per_epoch=2
        )
        trainer = L.Trainer(
            max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, limit_val_batches=0, default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(module, data)
        return module

    first = fit(codec=TINY)
    assert first.frame_length is None
    assert bool((seen[-1] != seen[-1][:, :1]).any()), "a codec that learns its codes takes no others"
    first.export(tmp_path / "codec")
    second = fit(init_from=str(tmp_path / "codec"), freeze_codes=True)
    assert second.frame_length == 80
    zeros = second.codec.quantizer.decode(torch.zeros(2, 2, 40, dtype=torch.long))
    torch.testing.assert_close(seen[-1], zeros)
