"""EnCodec, DAC and an ISTFT codec in training: what is learned, what stays, what is exported, who teaches."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import soundfile
import torch
from lightning.pytorch.callbacks import Timer

from unitok.cards import list_cards
from unitok.cli.main import main
from unitok.errors import TokenizerError, UnitokError
from unitok.model.codec import CodecConfig, CodecOutput, NeuralCodec
from unitok.model.quantizer import Codebook, ResidualVectorQuantizer
from unitok.tokenizers import load_audio_tokenizer
from unitok.tokenizers.trainable import DacSizes, EncodecSizes, begin_codec, continue_codec, to_tokenizer
from unitok.training.adversary import Adversary, AdversaryConfig
from unitok.training.balancer import Balancer
from unitok.training.codebook_usage import CodebookUsage
from unitok.training.codec_data import CodecDataModule
from unitok.training.codec_losses import LossWeights, SpectrumWeights, WaveformLoss, WaveformWeights
from unitok.training.codec_module import DEFAULT_OPTIMIZER, DEFAULT_SCHEDULE, CodecModule
from unitok.training.schedules import ScheduleConfig, schedule_factor

RATE = 8000
SIZES = {
    "encodec": EncodecSizes(
        sample_rate_hz=RATE, dimension=16, n_filters=4, ratios=(4, 4, 2), lstm=1, n_codebooks=3, codebook_size=32
    ),
    "dac": DacSizes(
        sample_rate_hz=RATE, encoder_dim=4, encoder_rates=(2, 4, 4), decoder_dim=32, decoder_rates=(4, 4, 2),
        n_codebooks=3, codebook_size=32, codebook_dim=4,
    ),
    "codec": CodecConfig(
        sample_rate_hz=RATE, hop=32, frame_stride=1, window=128, encoder_dim=16, encoder_layers=2, decoder_dim=24,
        decoder_layers=2, n_codebooks=3, codebook_size=32, code_dim=8, phases="predicted",
    ),
}  # fmt: skip
KINDS = list(SIZES)
BUT_DAC_SLOWLY = [*(kind for kind in KINDS if kind != "dac"), pytest.param("dac", marks=pytest.mark.slow)]
WAVEFORM = LossWeights(waveform=WaveformWeights(time=0.1, mel=1.0, stft=0.0))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Two files of chirps, 3 s."""
    torch.set_num_threads(1)
    folder, rows = tmp_path_factory.mktemp("audio"), []
    for i in range(2):
        t = torch.arange(round(1.5 * RATE)) / RATE
        soundfile.write(folder / f"{i}.wav", (0.5 * torch.sin(6.28 * (200 + 150 * i) * t * (1 + t))).numpy(), RATE)
        rows.append({"id": str(i), "audio": f"{i}.wav"})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "manifest.jsonl"


def module(kind: str, **settings) -> CodecModule:
    """A module with the sizes of `kind`, or, with `init_from`, without."""
    L.seed_everything(0)
    sizes = {} if "init_from" in settings else {kind: SIZES[kind]}
    defaults = {
        "losses": WAVEFORM,
        "optimizer": replace(DEFAULT_OPTIMIZER, lr=5e-3),
        "schedule": replace(DEFAULT_SCHEDULE, warmup_steps=2),
    }
    return CodecModule(**sizes, **{**defaults, **settings})


def fit(manifest: Path, codec: CodecModule, steps: int = 3, ckpt_path=None, **settings) -> CodecModule:
    data = CodecDataModule(str(manifest), str(manifest), batch_size=2, seconds=0.3, steps_per_epoch=4, val_batches=1)
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, reload_dataloaders_every_n_epochs=1, **settings,
    )  # fmt: skip
    trainer.fit(codec, data, ckpt_path=ckpt_path)
    return codec


def chirp(n: int = 4096) -> torch.Tensor:
    t = torch.arange(n) / RATE
    return torch.stack([0.5 * torch.sin(6.28 * f * t * (1 + t)) for f in (200, 350)])


# --- what is learned and exported ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_codec_overfits_and_its_tokenizer_is_the_trained_model(kind, tmp_path):
    torch.manual_seed(0)
    codec, wav, loss = begin_codec(SIZES[kind], "tiny"), chirp(2304)[:1], WaveformLoss(RATE)
    optimizer, mels = torch.optim.AdamW(codec.parameters(), lr=1e-2, betas=(0.8, 0.99)), []
    for _ in range(30):
        output = codec(wav)
        distances = loss(codec.waveform(output), codec.pad(wav))
        total = distances.mel + 0.25 * output.quantized.commitment + (output.quantized.codebook or 0.0)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        mels.append(float(distances.mel.detach()))
    assert mels[-1] < 0.6 * mels[0]
    tokenizer = to_tokenizer(codec, "tiny")
    with torch.no_grad():
        output = codec.eval()(wav)
        decoded = codec.waveform(output).clamp(-1, 1)
    encoded = tokenizer.encode(wav[:, None], RATE)
    assert torch.equal(encoded.codes, output.quantized.codes)
    torch.testing.assert_close(tokenizer.decode(encoded.codes)[:, 0].clamp(-1, 1), decoded, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", BUT_DAC_SLOWLY)
def test_the_decoder_alone_is_trained_for_the_same_codes(kind, manifest, tmp_path):
    fit(manifest, module(kind)).export(tmp_path / "first")
    first = load_audio_tokenizer(tmp_path / "first")
    second = fit(manifest, module(kind, init_from=str(tmp_path / "first"), freeze_codes=True))
    second.export(tmp_path / "second")
    second = load_audio_tokenizer(tmp_path / "second")
    codes = first.encode(chirp()[:, None], RATE).codes
    assert torch.equal(second.encode(chirp()[:, None], RATE).codes, codes)
    assert second.fingerprint == first.fingerprint
    assert not torch.allclose(second.decode(codes), first.decode(codes), atol=1e-3)
    third = fit(manifest, module(kind, init_from=str(tmp_path / "second")))
    third.export(tmp_path / "third")
    assert load_audio_tokenizer(tmp_path / "third").fingerprint != first.fingerprint


@pytest.mark.parametrize("kind", BUT_DAC_SLOWLY)
def test_fine_tuning_begins_with_the_codes_of_its_origin(kind, manifest, tmp_path):
    fit(manifest, module(kind)).export(tmp_path / "first")
    first, again = load_audio_tokenizer(tmp_path / "first"), continue_codec(tmp_path / "first")
    with torch.no_grad():
        codes = again.eval()(chirp()).quantized.codes
    assert torch.equal(codes, first.encode(chirp()[:, None], RATE).codes)


def test_signals_do_not_fade_in_a_new_encodec():
    torch.manual_seed(0)
    codec = begin_codec(SIZES["encodec"], "tiny")
    latents = codec.encoder(0.1 * torch.randn(1, 1, 4096))
    assert 0.5 < float(latents.std()) < 2.0
    one, other = (codec.decoder(torch.randn(1, 16, 128)) for _ in range(2))
    assert float((one - other).std()) > 0.5 * float(one.std())


@pytest.mark.parametrize("kind", KINDS)
def test_few_codebooks_can_be_trained(kind):
    codec = begin_codec(SIZES[kind], "tiny").train()
    assert codec(chirp(), 2).quantized.codes.shape[1] == 2
    assert codec(chirp()).quantized.codes.shape[1] == 3


def test_a_package_that_codes_segments_or_stereo_is_refused():
    sizes = replace(SIZES["encodec"], segment_seconds=1.0, normalize=True)
    with pytest.raises(TokenizerError, match=r"trained are mono codecs without segments.*kind: stereo"):
        begin_codec(sizes, "tiny")
    with pytest.raises(TokenizerError, match="ToyAudioTokenizer; trained are tokenizers of kind encodec, dac, unitok"):
        continue_codec("toy_audio")


def test_gradients_of_audio_go_to_magnitudes_and_stay_small():
    codec = NeuralCodec(replace(SIZES["codec"], phases="integrated"))
    wav = chirp(12000)[:1]
    log = codec.config.magnitudes(wav, torch.hann_window(128)).clamp_min(1e-3).log().requires_grad_()
    quantized = codec(wav).quantized
    got = codec.waveform(CodecOutput(log, quantized))
    torch.testing.assert_close(got, codec.decoder.synthesize(log))
    WaveformLoss(RATE)(got, codec.pad(wav)[:, : got.shape[-1]]).mel.backward()
    assert 0 < float(log.grad.norm()) < 10


# --- losses ----------------------------------------------------------------------------------------------------------


def test_the_mel_loss_is_that_of_dac():
    from audiotools import AudioSignal
    from dac.nn.loss import MelSpectrogramLoss

    scales = {"n_mels": [5, 10, 20, 40, 80, 160, 320], "window_lengths": [32, 64, 128, 256, 512, 1024, 2048]}
    edges = {"mel_fmin": [0.0] * 7, "mel_fmax": [None] * 7}
    theirs = MelSpectrogramLoss(**scales, **edges, pow=1.0, mag_weight=0.0)
    x, y = (0.3 * torch.randn(2, 8000, generator=torch.Generator().manual_seed(i)) for i in range(2))
    y = y * torch.linspace(0, 1, 8000)
    expected = theirs(AudioSignal(x[:, None], 16000), AudioSignal(y[:, None], 16000))
    assert float(WaveformLoss(16000)(x, y).mel) == pytest.approx(float(expected), rel=2e-3)


def test_distances_of_waveforms_are_zero_for_equals_and_grow():
    loss, wav = WaveformLoss(RATE), chirp()
    assert max(loss(wav, wav)) == 0.0
    noise = torch.randn(wav.shape, generator=torch.Generator().manual_seed(0))
    near, far = (loss(wav + scale * noise, wav) for scale in (0.01, 0.1))
    assert all(0 < n < f for n, f in zip(near, far, strict=True))
    assert loss(0.5 * wav, wav).time == pytest.approx(0.5 * float(wav.abs().mean()), rel=1e-4)
    with pytest.raises(UnitokError, match=r"1000 samples.*Set data\.seconds to 0\.26 or more"):
        loss(wav[:, :1000], wav[:, :1000])


def test_balanced_losses_share_the_gradient_by_their_weights():
    wav = torch.randn(2, 50, requires_grad=True)
    a, b = torch.randn(2, 50), torch.randn(2, 50)
    losses = {"mel": 1000.0 * (wav * a).sum(), "features": 1e-3 * (wav * b).sum()}
    Balancer({"time": 1.0, "mel": 1.0, "features": 3.0})(losses, wav).backward()
    unit_a, unit_b = (x / x.norm(dim=1).mean() for x in (a, b))
    torch.testing.assert_close(wav.grad, 0.25 * unit_a + 0.75 * unit_b)


# --- the adversary ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["encodec", "dac"])
def adversary(request) -> Adversary:
    torch.manual_seed(0)
    names = {"encodec": ["stft"], "dac": ["bands"]}[request.param]
    return Adversary(AdversaryConfig(names, form=request.param, windows=(256, 128), filters=4), RATE)


def test_discriminators_learn_from_their_loss_and_the_generator_does_not(adversary):
    real, fake = chirp(1024), (0.1 * torch.randn(2, 1024)).requires_grad_()
    adversary.zero_grad()
    adversary.discriminator_loss(real, fake).backward()
    weights = [p for p in adversary.parameters() if p.ndim > 1]
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in weights)
    assert fake.grad is None


def test_the_generator_learns_from_its_losses_and_discriminators_do_not(adversary):
    real, fake = chirp(1024), (0.1 * torch.randn(2, 1024)).requires_grad_()
    adversary.zero_grad()
    losses = adversary.generator_losses(real, fake)
    sum(losses.values()).backward()
    assert all(p.grad is None and p.requires_grad for p in adversary.parameters())
    assert float(fake.grad.abs().sum()) > 0
    same = adversary.generator_losses(real, real)
    assert same["features"] == 0
    assert same["adversarial"] > 0


def test_periods_bands_and_stft_are_judged_side_by_side():
    names = ["stft", "periods", "bands"]
    adversary = Adversary(AdversaryConfig(names, windows=(256, 128), periods=(2,), filters=2), RATE)
    judged = adversary.discriminators(chirp(1024))
    assert len(judged) == 2 + 1 + 2
    assert [len(features) for features in judged] == [6, 6, 6, 26, 26]


def test_steps_are_those_of_the_generator_and_the_rate_ends_with_them(manifest):
    adversary = AdversaryConfig(["stft"], windows=(256,), filters=2, update_share=0.5, start_step=2)
    trained = fit(manifest, module("encodec", adversary=adversary, balance=True), steps=8)
    assert trained.trainer.global_step == 8
    generator, discriminator = trained.trainer.optimizers
    steps = {int(state["step"]) for state in discriminator.state.values()}
    assert len(steps) == 1
    assert 1 <= steps.pop() <= 6
    last = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * 5 / 6))
    assert generator.param_groups[0]["lr"] == pytest.approx(5e-3 * last, rel=1e-4)


def test_an_exponential_schedule_falls_by_the_same_factor_each_step():
    schedule = ScheduleConfig("exponential", warmup_steps=0, final_fraction=0.2019)
    factors = [schedule_factor(step, schedule, 400_000) for step in (0, 1, 200_000, 400_000, 500_000)]
    assert factors == pytest.approx([1.0, 0.999996, 0.4493, 0.2019, 0.2019], rel=1e-4)  # DAC's 0.999996 a step
    with pytest.raises(ValueError, match="final_fraction=0 is never reached"):
        ScheduleConfig("exponential", final_fraction=0.0)


class Clock(L.Callback):
    """A second for each step."""

    seconds = 0.0

    def on_train_batch_end(self, trainer, pl_module, *args) -> None:
        self.seconds += 1.0


def test_the_rate_follows_the_clock_where_only_time_ends_a_training(manifest, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(Timer, "time_elapsed", lambda self, stage=None: clock.seconds)
    trained = fit(manifest, module("codec"), steps=-1, max_time={"seconds": 10}, callbacks=[clock])
    assert trained.trainer.global_step == 10
    last = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * 7 / 8))  # after 2 steps of warm-up
    assert trained.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(5e-3 * last, rel=1e-4)


@pytest.mark.parametrize("kind", BUT_DAC_SLOWLY[1:])
def test_a_resumed_run_ends_with_the_weights_of_one_that_went_on(kind, manifest, tmp_path):
    adversary = AdversaryConfig(["stft"], windows=(256,), filters=2)
    runs = [module(kind, adversary=adversary, codebook_dropout=0.5) for _ in range(3)]
    fit(manifest, runs[0], steps=6)
    # Six steps to come, as far as the schedule knows, but stopped after three, in the middle of an epoch.
    fit(manifest, runs[1], steps=6, callbacks=[Stop(3, tmp_path / "mid.ckpt")])
    fit(manifest, runs[2], steps=6, ckpt_path=tmp_path / "mid.ckpt")
    assert runs[2].trainer.global_step == 6
    for (name, one), two in zip(runs[0].state_dict().items(), runs[2].state_dict().values(), strict=True):
        assert torch.equal(one, two), name


class Stop(L.Callback):
    """Keep a resume point at a step and stop there."""

    def __init__(self, step: int, path: Path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, pl_module, *args) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True


# --- codebooks -------------------------------------------------------------------------------------------------------


def test_usage_is_what_one_counts_by_hand():
    usage = CodebookUsage(3, 4)
    usage.add(torch.tensor([[[0, 1, 0, 1]], [[0, 1, 0, 1]]]))
    usage.add(torch.tensor([[[0, 1], [3, 3]]]), resets=torch.tensor([2, 5]))
    (first, second, third), resets = usage.take()
    assert (first.perplexity, first.used) == pytest.approx((2.0, 0.5))  # two of four, in equal parts
    assert (second.perplexity, second.used) == pytest.approx((1.0, 0.5))  # one of the two that two frames can show
    assert third is None
    assert resets == 7
    assert usage.take() == ([None] * 3, 0)


def test_dead_codes_are_reset_and_counted():
    codebook, x = Codebook(4, 2, decay=0.5), torch.randn(8, 2)
    codebook.counts[:] = torch.tensor([4.0, 4.0, 0.2, 0.01])
    codes = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    # After the update counts are 4, 4, 0.1, 0.005: dead is what is below 0.03 of their mean, 0.061.
    assert codebook.update(x, codes) == 1
    assert codebook.counts[3] == codebook.counts[:3].sum().add(0.005) / 4
    quantizer = ResidualVectorQuantizer(2, n_codebooks=2, codebook_size=4).train()
    quantizer(x[None])
    second: Any = quantizer.codebooks[1]
    second.counts[:] = torch.tensor([9.0, 9.0, 0.0, 0.0])
    second.vectors[2:] = 1e3  # never chosen
    assert quantizer(x[None]).resets.tolist() == [0, 2]
    assert quantizer.eval()(x[None]).resets.tolist() == [0, 0]


def test_training_reports_usage_and_resets(manifest):
    trained = fit(manifest, module("encodec"), steps=8, log_every_n_steps=2)
    logged = trained.trainer.callback_metrics
    for name in ("train/perplexity.0", "train/used.2", "train/resets", "val/perplexity.2", "val/used.0", "val/loss"):
        assert name in logged, sorted(logged)
    assert 1 <= logged["val/perplexity.0"] <= 32
    assert 0 < logged["val/used.0"] <= 1


# --- the command line ------------------------------------------------------------------------------------------------


def arguments(manifest: Path, root: Path, *more: str) -> list[str]:
    sizes = (
        "{sample_rate_hz: 8000, dimension: 8, n_filters: 2, ratios: [4, 2], lstm: 1, n_codebooks: 2, codebook_size: 16}"
    )
    data = [f"--data.{name}_manifest={manifest}" for name in ("train", "val")]
    quick = ["--data.batch_size=2", "--data.seconds=0.3", "--data.steps_per_epoch=2", "--trainer.accelerator=cpu"]
    where = [f"--trainer.default_root_dir={root}"]
    return ["fit-codec", f"--model.encodec={sizes}", *data, *quick, *where, "--trainer.max_steps=2", *more]


def test_the_command_trains_resumes_and_leaves_a_tokenizer(manifest, tmp_path, capsys):
    assert main(arguments(manifest, tmp_path)) == 0
    first = load_audio_tokenizer(tmp_path / "tokenizer")
    assert (first.sample_rate_hz, first.n_codebooks, first.codebook_size) == (8000, 2, 16)
    resume = ["--trainer.max_steps=3", f"--ckpt_path={tmp_path}/checkpoints/last.ckpt"]
    assert main(arguments(manifest, tmp_path, *resume)) == 0
    assert load_audio_tokenizer(tmp_path / "tokenizer").fingerprint != first.fingerprint


MISTAKES = {
    "--data.sample_rate_hz=16000": "data.sample_rate_hz is 16000, the codec's rate is 8000",
    "--model.encodec.codebook_size=15": "model.encodec: model.codebook_size: is 15, allowed: a power of 2",
    "--data.seconds=0.1": "Set data.seconds to 0.26 or more",
    "--model.nonsense=1": "unitok fit-codec --help",
}


@pytest.mark.parametrize(("flag", "said"), MISTAKES.items())
def test_mistakes_are_told_in_one_line(flag, said, manifest, tmp_path, capsys):
    assert main(arguments(manifest, tmp_path, flag)) == 2
    printed = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in printed


def test_settings_that_do_not_go_together_are_refused():
    with pytest.raises(UnitokError, match="EncodecSizes and DacSizes is given, allowed: one of codec, encodec, dac"):
        CodecModule(encodec=SIZES["encodec"], dac=SIZES["dac"])
    with pytest.raises(UnitokError, match="nothing is given, allowed: one of codec"):
        CodecModule()
    with pytest.raises(UnitokError, match=r"codebook_decay: codebooks of dac follow gradients"):
        module("dac", codebook_decay=0.9)
    with pytest.raises(UnitokError, match=r"codebook_decay is 1\.0, allowed: between 0 and 1"):
        module("encodec", codebook_decay=1.0)
    with pytest.raises(UnitokError, match="freeze_codes needs init_from"):
        module("encodec", freeze_codes=True)
    with pytest.raises(ValueError, match=r"losses\.spectrum is for 'codec'"):
        module("encodec", losses=LossWeights(spectrum=SpectrumWeights()))
    with pytest.raises(UnitokError, match=r"nothing to balance|Set losses\.waveform\.mel"):
        CodecModule(codec=replace(SIZES["codec"], phases="integrated"), balance=True)


def test_the_help_tells_sizes_and_losses(capsys):
    assert main(["fit-codec", "--help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "unitok fit-codec" in printed
    for text in ("Train an EnCodec of these sizes instead", "--model.encodec.help", "--model.losses.waveform"):
        assert text in printed
    assert main(["fit-codec", "--model.encodec.help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "--model.encodec.n_filters N_FILTERS Channels of the first layer; doubled by each stride." in printed


CONFIGS = [name for name in list_cards("configs") if name.startswith("codecs/")]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_recipe_is_understood(name, capsys):
    base = [] if "tiny" not in name else [next(one for one in CONFIGS if one.startswith(f"codecs/{Path(name).stem}_"))]
    configs = [flag for one in (*base, name) for flag in ("--config", one)]
    assert main(["fit-codec", *configs, "--print_config"]) == 0
    assert "max_steps" in capsys.readouterr().out
