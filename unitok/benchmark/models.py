"""Models of given sizes with random weights: unitok's, and those of others that take as many parameters.

Each can generate so many frames after a prompt of so many positions, with sampling, from one request or several.
K codebooks, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from unitok.errors import MissingDependencyError, UnitokError, suggest

if TYPE_CHECKING:
    from unitok.model.lm import UnitokLM
    from unitok.sequence import TokenSequence
    from unitok.tasks import SequenceBuilder, Task

__all__ = ["FRAME_RATE_HZ", "PEERS", "Contender", "Sizes", "Unitok", "contender", "random_lm"]

TEXT_SIZE, TOP_K = 256, 50
FRAME_RATE_HZ = 50.0
HEAD_WIDTH = 64
LONGEST = 1000
"""Positions that moshi's ring of keys and values holds."""


@dataclass(frozen=True)
class Sizes:
    """Of a model with a global and a local Transformer; a peer without a local one gets all layers in one."""

    layers: int = 12
    """Of the global Transformer."""
    width: int = 768
    """D."""
    local_layers: int = 6
    """Of the local Transformer; 0 is none: one codebook at a time in the pattern `delay`."""
    local_width: int = 768
    """Its width."""
    codebooks: int = 8
    """K."""
    codes: int = 1024
    """Of each codebook."""

    def feed_forward(self, width: int) -> int:
        """Return the width inside the feed-forward part: 2048 at 768, as usual with three matrices."""
        return width * 8 // 3


class Contender(Protocol):
    """A model that is timed."""

    n_parameters: int
    """Weights in all."""
    bytes_per_frame: float
    """Bytes of weights that have to be read for a frame: those of the local part once for each codebook."""

    def generate(self, n_frames: int, n_prompt: int, batch: int) -> None:
        """Generate `n_frames` for each of `batch` requests after a prompt of `n_prompt` positions."""
        ...


def random_lm(sizes: Sizes, **changes: Any) -> tuple[UnitokLM, SequenceBuilder]:
    """Return a model with random weights, and what makes its sequences, of the task `tts`.

    Args:
        sizes: Of the model.
        **changes: Other fields of `LMConfig`.
    """
    from unitok.model.config import LMConfig, TransformerConfig
    from unitok.model.lm import UnitokLM
    from unitok.tasks import SequenceBuilder
    from unitok.tokenizers.bytes import ByteTokenizer
    from unitok.vocabulary import Vocabulary

    def stack(layers: int, width: int) -> TransformerConfig:
        return TransformerConfig(layers, width, width // HEAD_WIDTH, d_ff=sizes.feed_forward(width))

    torch.manual_seed(0)
    vocabulary = Vocabulary.create(["tts"], [], TEXT_SIZE, [sizes.codes] * sizes.codebooks)
    inner = stack(sizes.local_layers, sizes.local_width) if sizes.local_layers else None
    pattern: Any = {"ar_codebooks": sizes.codebooks} if inner else {"pattern": "delay"}
    config = LMConfig(stack(sizes.layers, sizes.width), local=inner, **pattern, **changes)
    lm = UnitokLM(config, vocabulary)
    return lm, SequenceBuilder(vocabulary, ByteTokenizer(), FRAME_RATE_HZ, lm.pattern)


class Unitok:
    """unitok's own, by the engine that `Model.generate` uses."""

    def __init__(
        self, sizes: Sizes, device: torch.device, dtype: str, *, plain: bool = False, compiled: bool = False
    ) -> None:
        from unitok.generation.engine import Engine
        from unitok.kernels.pages import lay_out
        from unitok.model.compact import compact
        from unitok.tasks import Task

        lm, self._builder = random_lm(sizes)
        self.operations_per_position = 2.0 * sum(weight.numel() for weight in lm.transformer.parameters())
        """Multiplications and additions of the global Transformer."""
        self.n_parameters = sum(parameter.numel() for parameter in lm.parameters())
        compact(lm.to(device), dtype)
        lay_out(lm)
        self._task = Task.load("tts")
        self._engine = Engine(lm, self._builder.vocabulary)
        self._engine.compiled = compiled
        self._plain = plain
        parts = {name: _bytes(part) for name, part in lm.named_children()}
        local_steps = sizes.codebooks  # two positions at first, which the weights are read once for, and a head each
        self.bytes_per_frame = parts["transformer"] + parts.get("head", 0) + parts.get("slot_heads", 0)
        if lm.local is not None:
            heads = _bytes(lm.local.heads)
            self.bytes_per_frame += (parts["local"] - heads) * (local_steps - 1) + heads

    @property
    def kernels(self) -> str:
        """What does the work, in words."""
        return self._engine.kernels

    def generate(self, n_frames: int, n_prompt: int, batch: int) -> None:
        """Generate by the engine; no end may come before `n_frames`."""
        from unitok.generation.engine import GenerationRequest
        from unitok.kernels import without
        from unitok.tasks import Sampling

        seconds = n_frames / self._builder.frame_rate_hz
        card = self._task.with_defaults(max_seconds=seconds, min_seconds_per_character=seconds)
        prompt = self._prompt(card, n_prompt)
        requests = [
            GenerationRequest(prompt, card, Sampling(1.0, TOP_K), seed=i, max_seconds=seconds) for i in range(batch)
        ]
        with without() if self._plain else nullcontext():
            self._engine.generate(requests, batch_size=batch)

    def prefill(self, n_prompt: int, batch: int) -> None:
        """Take in prompts of `n_prompt` positions, as before the first frame."""
        lm, device = self._engine.lm, self._engine.device
        tokens = self._prompt(self._task, n_prompt).tokens.expand(batch, -1, -1).to(device)
        positions = torch.arange(tokens.shape[1], device=device).expand(batch, -1)
        lm.step(tokens, positions, lm.new_cache(batch, tokens.shape[1]), torch.ones_like(positions, dtype=torch.bool))

    def _prompt(self, card: Task, n_prompt: int) -> TokenSequence:
        """Return a prompt of so many positions, the start marker of the target among them."""
        return self._builder.build(card, {"text": "x" * (n_prompt - 5)}, targets=False)


class Csm:
    """Sesame's CSM in transformers: a global Transformer and a depth decoder."""

    def __init__(self, sizes: Sizes, device: torch.device) -> None:
        transformers = _transformers()
        common = {"vocab_size": sizes.codes, "num_codebooks": sizes.codebooks}
        depth = transformers.CsmDepthDecoderConfig(
            backbone_hidden_size=sizes.width, **common, **_llama(sizes.local_layers, sizes.local_width, sizes)
        )
        codec = transformers.MimiConfig(
            hidden_size=16, num_filters=2, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
            head_dim=8, intermediate_size=16, codebook_size=64, codebook_dim=8, vector_quantization_hidden_dimension=8,
            num_quantizers=sizes.codebooks, num_semantic_quantizers=1, upsample_groups=16,
        )  # fmt: skip
        config = transformers.CsmConfig(
            **common, **_llama(sizes.layers, sizes.width, sizes), text_vocab_size=TEXT_SIZE,
            depth_decoder_config=depth.to_dict(), codec_config=codec.to_dict(), codebook_pad_token_id=sizes.codes - 1,
            codebook_eos_token_id=sizes.codes - 2, audio_token_id=2, audio_eos_token_id=3, pad_token_id=0,
            bos_token_id=1,
        )  # fmt: skip
        self._model = transformers.CsmForConditionalGeneration(config).eval().to(device)
        self._model.generation_config.eos_token_id = None
        outer, inner = _bytes(self._model.backbone_model.layers), _bytes(self._model.depth_decoder.model.layers)
        self.n_parameters = sum(p.numel() for n, p in self._model.named_parameters() if not n.startswith("codec_model"))
        self.bytes_per_frame = outer + inner * (sizes.codebooks - 1)

    def generate(self, n_frames: int, n_prompt: int, batch: int) -> None:
        """Generate as transformers does."""
        ids = torch.randint(4, TEXT_SIZE, (batch, n_prompt), device=self._model.device)
        self._model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=n_frames, min_new_tokens=n_frames,
            do_sample=True, top_k=TOP_K, depth_decoder_do_sample=True, depth_decoder_top_k=TOP_K,
        )  # fmt: skip


class MusicGen:
    """MusicGen's decoder in transformers: one Transformer, pattern `delay`, without guidance."""

    def __init__(self, sizes: Sizes, device: torch.device) -> None:
        transformers = _transformers()
        config = transformers.MusicgenDecoderConfig(
            vocab_size=sizes.codes, num_hidden_layers=sizes.layers + sizes.local_layers, hidden_size=sizes.width,
            ffn_dim=4 * sizes.width, num_attention_heads=sizes.width // 64, num_codebooks=sizes.codebooks,
        )  # fmt: skip
        self._model = transformers.MusicgenForCausalLM(config).eval().to(device)
        self._model.generation_config.update(decoder_start_token_id=sizes.codes, pad_token_id=sizes.codes)
        self._sizes = sizes
        unused = sum(p.numel() for n, p in self._model.named_parameters() if "encoder_attn" in n)
        self.n_parameters = sum(parameter.numel() for parameter in self._model.parameters()) - unused
        self.bytes_per_frame = _bytes(self._model.model.decoder.layers) - 4.0 * unused + _bytes(self._model.lm_heads)

    def generate(self, n_frames: int, n_prompt: int, batch: int) -> None:
        """Generate as transformers does: `n_frames`, and the steps that the delays cost."""
        K = self._sizes.codebooks
        prompt = torch.randint(0, self._sizes.codes, (batch * K, n_prompt), device=self._model.device)
        new = n_frames + K
        self._model.generate(
            inputs=prompt, do_sample=True, top_k=TOP_K, max_new_tokens=new, min_new_tokens=new, num_return_sequences=1
        )  # fmt: skip


class Moshi:
    """Kyutai's moshi: a global Transformer with a text stream, and a depth Transformer with one set of weights."""

    def __init__(self, sizes: Sizes, device: torch.device) -> None:
        try:
            from moshi.models.lm import LMGen, LMModel  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingDependencyError(
                f"peer 'moshi' needs its package ({error}): pip install --no-deps moshi sphn. It asks for an older "
                "torch, and runs with ours."
            ) from error
        K = sizes.codebooks
        common = {"max_period": 10000, "gating": "silu", "layer_scale": None}
        model = LMModel(
            delays=[0] * (K + 1), n_q=K, dep_q=K, card=sizes.codes, text_card=TEXT_SIZE, dim=sizes.width,
            num_heads=sizes.width // HEAD_WIDTH, num_layers=sizes.layers, hidden_scale=4, norm="rms_norm_f32",
            positional_embedding="rope", context=LONGEST, depformer_dim=sizes.local_width,
            depformer_num_heads=sizes.local_width // HEAD_WIDTH, depformer_num_layers=sizes.local_layers,
            depformer_dim_feedforward=4 * sizes.local_width, depformer_multi_linear=True, depformer_pos_emb="none",
            depformer_weights_per_step=True, depformer_weights_per_step_schedule=[0] * K,
            **common, **{f"depformer_{name}": value for name, value in common.items()},
        ).eval().to(device)  # fmt: skip
        self._generator, self._device = LMGen(model, top_k=TOP_K), device
        self.n_parameters = sum(parameter.numel() for parameter in model.parameters())
        outer, inner = _bytes(model.transformer), _bytes(model.depformer)
        self.bytes_per_frame = outer + inner * K + _bytes(model.linears)

    def generate(self, n_frames: int, n_prompt: int, batch: int) -> None:
        """Generate frame by frame; there is no prompt, which would have to go in frame by frame as well."""
        nothing = torch.zeros(batch, 0, 1, dtype=torch.long, device=self._device)
        with torch.inference_mode(), self._generator.streaming(batch):
            for _ in range(n_frames):
                self._generator.step(nothing)


PEERS: dict[str, Callable[[Sizes, torch.device], Contender]] = {"csm": Csm, "musicgen": MusicGen, "moshi": Moshi}


CPU = torch.device("cpu")


def contender(name: str, sizes: Sizes, device: torch.device = CPU, dtype: str = "float32") -> Contender:
    """Return a model by name: `unitok`, `unitok-pytorch` (plain), `unitok-compiled`, or one of `PEERS`.

    Raises:
        UnitokError: If there is none of that name.
        MissingDependencyError: If transformers is not installed.
    """
    torch.manual_seed(0)  # of the peers
    if name in ("unitok", "unitok-pytorch", "unitok-compiled"):
        return Unitok(sizes, device, dtype, plain=name == "unitok-pytorch", compiled=name == "unitok-compiled")
    if name not in PEERS:
        raise UnitokError(f"peer '{name}' is unknown.{suggest(name, PEERS)} Allowed: {', '.join(PEERS)}.")
    return PEERS[name](sizes, device)


def _llama(layers: int, width: int, sizes: Sizes) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "intermediate_size": sizes.feed_forward(width),
        "num_attention_heads": width // 64,
        "num_key_value_heads": width // 64,
        "head_dim": 64,
    }


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError("peers need transformers: pip install 'unitok[hf]'") from error
    transformers.utils.logging.set_verbosity_error()
    return transformers


def _bytes(module: torch.nn.Module) -> float:
    buffers = [buffer for name, buffer in module.named_buffers() if name.endswith((".weight", ".scale"))]
    return float(sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *buffers)))
