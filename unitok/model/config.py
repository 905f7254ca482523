"""Sizes and settings of the language model, as plain dataclasses: what a config file or a checkpoint holds.

Letters: K codebooks, Kc AR codebooks, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from unitok.errors import suggest
from unitok.pattern import Pattern, PatternName

__all__ = ["FeatureInputConfig", "LMConfig", "RopeScaling", "TransformerConfig"]

FEED_FORWARDS = ("swiglu", "geglu", "gelu", "relu")
NORMS = ("rms", "layer")
LOCAL_WEIGHTS = ("shared", "per_codebook")


@dataclass
class RopeScaling:
    """Stretching of the slow rotary frequencies, as Llama 3 does to read beyond the length it was first trained on."""

    factor: float = 32.0
    """How much longer the slowest waves get."""
    low_freq_factor: float = 1.0
    """Waves longer than original_max_positions / low_freq_factor are stretched by all of `factor`."""
    high_freq_factor: float = 4.0
    """Waves shorter than original_max_positions / high_freq_factor stay as they are; between the two it blends."""
    original_max_positions: int = 8192
    """Positions of the first training."""

    def __post_init__(self) -> None:
        if self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(
                f"high_freq_factor={self.high_freq_factor} must be above low_freq_factor={self.low_freq_factor}."
            )


@dataclass
class TransformerConfig:
    """Sizes of one Transformer: the global one, the local one or the refiner."""

    n_layers: int
    """Blocks."""
    d_model: int
    """Width D."""
    n_heads: int
    """Attention heads H."""
    n_kv_heads: int | None = None
    """Key and value heads, shared by groups of heads; None means as many as heads."""
    d_ff: int | None = None
    """Width inside the feed-forward part; None means 4 d_model, and with a gate 8/3 d_model, rounded up to a multiple
    of 32."""
    head_dim: int | None = None
    """Width of one head; None means d_model / n_heads."""
    rope_theta: float = 10000.0
    """Base of the rotary position angles."""
    rope_scaling: RopeScaling | None = None
    """Stretching of slow rotary frequencies (Llama 3, CSM); None for none."""
    qk_norm: bool = False
    """Normalise queries and keys per head (as Qwen3)."""
    qkv_bias: bool = False
    """Biases on queries, keys and values (as Qwen2)."""
    norm_eps: float = 1e-5
    """Added to the mean square, or to the variance, before its root is taken."""
    dropout: float = 0.0
    """Share of the input and of each block's two outputs that is dropped in training."""
    feed_forward: Literal["swiglu", "geglu", "gelu", "relu"] = "swiglu"
    """What a block does to each position: two matrices with `gelu` or `relu` between them, or three, one of which
    gates another by SiLU (`swiglu`) or GELU (`geglu`)."""
    norm: Literal["rms", "layer"] = "rms"
    """How states are normalised: by their root mean square alone, or also centred (LayerNorm)."""
    bias: bool = False
    """Biases on all matrices of a block and on LayerNorms."""

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            ValueError: With all problems at once.
        """
        problems = [
            f"{name}={value} must be 1 or more"
            for name, value in (
                *((name, getattr(self, name)) for name in ("n_layers", "d_model", "n_heads")),
                *((name, getattr(self, name)) for name in ("n_kv_heads", "d_ff", "head_dim")),
            )
            if value is not None and value < 1
        ]
        if not problems:
            problems = self._head_problems()
        for name, allowed in (("feed_forward", FEED_FORWARDS), ("norm", NORMS)):
            if getattr(self, name) not in allowed:
                problems.append(f"{name}='{getattr(self, name)}', allowed: {', '.join(allowed)}")
        if not 0 <= self.dropout < 1:
            problems.append(f"dropout={self.dropout} must be at least 0 and below 1")
        _raise("TransformerConfig", problems)

    @property
    def kv_heads(self) -> int:
        """Number of key and value heads."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def head_width(self) -> int:
        """Width of one head."""
        return self.d_model // self.n_heads if self.head_dim is None else self.head_dim

    @property
    def ff_width(self) -> int:
        """Width inside the feed-forward part."""
        if self.d_ff is not None:
            return self.d_ff
        return -(-self.d_model * 8 // (3 * 32)) * 32 if self.gated else 4 * self.d_model

    @property
    def gated(self) -> bool:
        """Whether one of three matrices of the feed-forward part gates another."""
        return self.feed_forward in ("swiglu", "geglu")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TransformerConfig:
        """Build from plain values.

        Raises:
            ValueError: If a key is unknown or a value is out of range.
        """
        _check_keys(cls, values)
        scaling = values.get("rope_scaling")
        return cls(**{**values, "rope_scaling": None if scaling is None else RopeScaling(**scaling)})

    def _head_problems(self) -> list[str]:
        problems = []
        if self.head_dim is None and self.d_model % self.n_heads:
            problems.append(
                f"d_model={self.d_model} is not divisible by n_heads={self.n_heads}: change one of them or set head_dim"
            )
        elif self.head_width % 2:
            problems.append(f"a head is {self.head_width} wide, rotary positions need an even width: change head_dim")
        if self.n_heads % self.kv_heads:
            problems.append(f"n_heads={self.n_heads} is not divisible by n_kv_heads={self.n_kv_heads}")
        return problems


@dataclass
class FeatureInputConfig:
    """How the states of an encoder become positions of a sequence (`unitok.model.features`)."""

    encoder: str
    """Name, card or folder of the encoder (`unitok.features`)."""
    trained: bool = False
    """Train the encoder with the rest; otherwise it stays as it is, and its states may be stored with the records."""
    reduce: Literal["none", "stack", "mean", "resample"] = "none"
    """How there come to be fewer positions than states: side by side, their mean, or read by learned queries."""
    factor: int = 1
    """States in a group, which gives one position, or `queries` of them; for `resample` 0 is all states at once."""
    queries: int = 1
    """Positions that `resample` makes of each group."""
    n_layers: int = 2
    """Layers of `resample`."""
    n_heads: int = 4
    """Attention heads of `resample`."""
    projector: Literal["linear", "mlp"] = "linear"
    """What takes states to the model's width."""
    dim: int | None = None
    """Width of the encoder's states; filled in from the encoder."""

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: With all problems at once.
        """
        problems = []
        for name, allowed in (("reduce", ("none", "stack", "mean", "resample")), ("projector", ("linear", "mlp"))):
            if getattr(self, name) not in allowed:
                problems.append(f"{name}='{getattr(self, name)}', allowed: {', '.join(allowed)}")
        smallest = 0 if self.reduce == "resample" else 1
        if self.factor < smallest or (self.reduce == "none" and self.factor != 1):
            wanted = "1, as reduce is 'none'" if self.reduce == "none" else f"{smallest} or more"
            problems.append(f"factor={self.factor}, allowed: {wanted}")
        problems += [
            f"{name}={getattr(self, name)} must be 1 or more"
            for name in ("queries", "n_layers", "n_heads")
            if getattr(self, name) < 1
        ]
        if self.queries > 1 and self.reduce != "resample":
            problems.append(f"queries={self.queries} is of reduce 'resample', this is '{self.reduce}'")
        if self.reduce == "resample" and self.dim is not None and self.dim % self.n_heads:
            problems.append(f"states are {self.dim} wide, which {self.n_heads} heads do not divide: change n_heads")
        _raise("FeatureInputConfig", problems)

    def n_positions(self, n_states: int) -> int:
        """Return how many positions so many states become."""
        groups = 1 if self.factor == 0 else -(-n_states // self.factor)
        return groups * self.queries


@dataclass
class LMConfig:
    """Sizes of a `UnitokLM` and the settings of its losses.

    In the pattern `multiscale`, `ar_codebooks` (Kc) is the dial from VALL-E (1, all else by the refiner) to UniAudio
    (K, no refiner). The other patterns have one Transformer, which generates all codebooks.
    """

    transformer: TransformerConfig
    """The global Transformer, over positions."""
    local: TransformerConfig | None = None
    """The local Transformer, over AR codebooks 1 … Kc-1 of a frame; None exactly where ar_codebooks is 1."""
    refiner: TransformerConfig | None = None
    """The non-autoregressive Transformer for codebooks Kc … K-1; None exactly where ar_codebooks is all K."""
    refinement: Literal["levels", "masked"] = "levels"
    """How the refiner fills a codebook: all frames at once (VALL-E), or over several passes, the surest codes first
    (SoundStorm)."""
    ar_codebooks: int = 1
    """How many codebooks of `multiscale` are generated autoregressively, Kc: 1 … K."""
    pattern: PatternName = "multiscale"
    """Where the codes of a frame stand: drawn in `unitok.pattern`."""
    delays: tuple[int, ...] = ()
    """Rows that each codebook of `delay` is behind the first, K numbers; empty means 0, 1, … K-1."""
    groups: tuple[int, ...] = ()
    """Row in the frame (`flatten`) or pass over the recording (`coarse_first`) of each codebook, K numbers; empty means
    a row for each, and a pass for the first and one for the others."""
    slot_embeddings: Literal["sum", "concat"] = "sum"
    """How the slots' embeddings become one input: added up, or set side by side and projected."""
    embedding_dim: int | None = None
    """Width of an embedding that is set side by side; None means D / K."""
    prefix_lm: bool = False
    """Let the positions before the first target see each other in both directions."""
    condition_weight: float = 0.0
    """Weight of the conditions' loss: 0 learns targets only, 1 everything alike."""
    tie_embeddings: bool = False
    """Use the embedding table as the head of slot 0 too."""
    local_fraction: float = 1.0
    """Share of the target frames that the local Transformer is trained on, drawn anew at each step."""
    codebook_weights: tuple[float, ...] = ()
    """Weight of each codebook's loss, K numbers; empty means 1 for all."""
    spelling: dict[str, list[list[int]]] = field(default_factory=dict)
    """Rows of joint ids for each marker that is not its own id (`unitok.markers`)."""
    slot0_blocks: tuple[str, ...] = ()
    """Blocks of the vocabulary that slot 0 is predicted from; empty means all that it can hold."""
    features: dict[str, FeatureInputConfig] = field(default_factory=dict)
    """Encoders whose states may stand among the conditions, by the name that task cards use (`encoder:`)."""
    history_dropout: float = 0.0
    """Hide up to this share of a target's earlier frames in training, a share drawn anew for each sequence: where a
    frame tells less about the next one, the conditions must tell more."""
    history_sampling: float = 0.0
    """Make this share of a target's earlier frames, in training, what the model itself says there instead of the true
    ones: in generation it reads its own mistakes, and has to have learned how."""
    local_weights: Literal["shared", "per_codebook"] = "shared"
    """Whether all places of the local Transformer have the same weights, or each its own (Moshi)."""

    def __post_init__(self) -> None:
        """Check what can be checked without a vocabulary; `check` does the rest.

        Raises:
            ValueError: With all problems at once.
        """
        self.codebook_weights = tuple(float(weight) for weight in self.codebook_weights)
        self.delays, self.groups = tuple(self.delays), tuple(self.groups)
        self.slot0_blocks = tuple(self.slot0_blocks)
        problems = self._dial_problems() if self.pattern == "multiscale" else self._other_pattern_problems()
        if self.local_weights not in LOCAL_WEIGHTS:
            problems.append(f"local_weights='{self.local_weights}', allowed: {', '.join(LOCAL_WEIGHTS)}")
        if self.local_weights == "per_codebook" and self.local is None:
            problems.append("local_weights='per_codebook' has no local Transformer to apply to: set local")
        if self.refinement not in ("levels", "masked"):
            problems.append(f"refinement='{self.refinement}', allowed: levels, masked")
        if self.refinement == "masked" and self.refiner is None:
            problems.append("refinement='masked' has no refiner to apply to: set refiner, or leave it out")
        if not 0 < self.local_fraction <= 1:
            problems.append(f"local_fraction={self.local_fraction} must be above 0 and at most 1")
        if not 0 <= self.history_dropout <= 1:
            problems.append(f"history_dropout={self.history_dropout} must be at least 0 and at most 1")
        if not 0 <= self.history_sampling <= 1:
            problems.append(f"history_sampling={self.history_sampling} must be at least 0 and at most 1")
        if self.history_sampling and self.pattern != "multiscale":
            problems.append(f"history_sampling needs pattern 'multiscale', this one is '{self.pattern}': leave it out")
        if self.slot_embeddings == "sum" and self.embedding_dim is not None:
            problems.append(f"embedding_dim={self.embedding_dim} is of slot_embeddings 'concat': leave it out")
        if self.slot_embeddings == "concat" and self.tie_embeddings:
            problems.append("tie_embeddings=True needs embeddings as wide as the model: set slot_embeddings='sum'")
        if self.embedding_dim is not None and self.embedding_dim < 1:
            problems.append(f"embedding_dim={self.embedding_dim} must be 1 or more")
        if self.condition_weight < 0:
            problems.append(f"condition_weight={self.condition_weight} must not be negative")
        if self.condition_weight and self.prefix_lm:
            problems.append("a prefix LM sees the conditions that condition_weight would have it predict: drop one")
        if self.condition_weight and self.slot0_blocks and "text" not in self.slot0_blocks:
            problems.append(f"condition_weight needs text among slot0_blocks={list(self.slot0_blocks)}: set it to 0")
        frames = [name for name, rows in self.spelling.items() if any(len(row) > 1 for row in rows)]
        if frames and (self.pattern != "multiscale" or self.refiner is not None):
            problems.append(f"spelling: '{frames[0]}' is a frame, which needs pattern 'multiscale' without refiner")
        if any(weight < 0 for weight in self.codebook_weights):
            problems.append(f"codebook_weights={list(self.codebook_weights)} must not be negative")
        _raise("LMConfig", problems)

    def check(self, n_codebooks: int) -> None:
        """Check the settings against the number of codebooks K of a vocabulary.

        Raises:
            ValueError: With all problems at once.
        """
        problems = []
        try:
            self.layout(n_codebooks)
        except ValueError as error:
            problems.append(str(error).rstrip("."))
        if self.ar_codebooks > n_codebooks:
            problems.append(f"ar_codebooks={self.ar_codebooks} is above the vocabulary's K={n_codebooks} codebooks")
        if self.n_coarse(n_codebooks) < n_codebooks and self.refiner is None:
            problems.append(
                f"ar_codebooks={self.ar_codebooks} of K={n_codebooks} codebooks needs a refiner for the others: "
                f"set refiner, or ar_codebooks={n_codebooks}"
            )
        if self.ar_codebooks == n_codebooks and self.refiner is not None and self.pattern == "multiscale":
            problems.append(
                f"ar_codebooks={self.ar_codebooks} leaves none of the K={n_codebooks} codebooks to a refiner: "
                "set refiner=null, or lower ar_codebooks"
            )
        if self.codebook_weights and len(self.codebook_weights) != n_codebooks:
            problems.append(
                f"codebook_weights has {len(self.codebook_weights)} numbers, the vocabulary has K={n_codebooks} "
                "codebooks: give one per codebook, or none"
            )
        _raise("LMConfig", problems)

    def embedding_width(self, n_codebooks: int) -> int:
        """Return the width of the embedding table of K codebooks."""
        d_model = self.transformer.d_model
        return d_model if self.slot_embeddings == "sum" else self.embedding_dim or -(-d_model // n_codebooks)

    def layout(self, n_codebooks: int) -> Pattern:
        """Return the pattern for K codebooks.

        Raises:
            ValueError: If its delays or groups do not fit.
        """
        return Pattern.of(self.pattern, n_codebooks, self.delays, self.groups)

    def n_coarse(self, n_codebooks: int) -> int:
        """Return how many of K codebooks the global stage sees of a target, the others being a refiner's."""
        return self.ar_codebooks if self.pattern == "multiscale" else n_codebooks

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LMConfig:
        """Build from plain values, as `to_dict` returns them.

        Raises:
            ValueError: If a key is unknown or missing, or a value is out of range.
        """
        _check_keys(cls, values)
        stages = {
            name: None if values.get(name) is None else TransformerConfig.from_dict(values[name])
            for name in ("transformer", "local", "refiner")
        }
        inputs = {name: _feature_input(name, value) for name, value in (values.get("features") or {}).items()}
        return cls(**{**values, **stages, "features": inputs})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values (dicts, lists, numbers), ready for YAML."""
        values = asdict(self)
        listed = ("delays", "groups", "codebook_weights", "slot0_blocks")
        return {**values, **{name: list(values[name]) for name in listed}}

    def _dial_problems(self) -> list[str]:
        problems = []
        if self.ar_codebooks < 1:
            problems.append(f"ar_codebooks={self.ar_codebooks} must be 1 or more")
        if self.ar_codebooks > 1 and self.local is None:
            problems.append(f"ar_codebooks={self.ar_codebooks} needs a local Transformer: set local, or ar_codebooks=1")
        if self.ar_codebooks == 1 and self.local is not None:
            problems.append(
                "ar_codebooks=1 has no use for a local Transformer: set local=null, or ar_codebooks above 1"
            )
        return problems

    def _other_pattern_problems(self) -> list[str]:
        given = [name for name in ("local", "refiner") if getattr(self, name) is not None]
        if self.ar_codebooks != 1:
            given.append("ar_codebooks")
        return [f"pattern '{self.pattern}' takes no {name}: leave it out, or change pattern" for name in given]


def _feature_input(name: str, values: Mapping[str, Any]) -> FeatureInputConfig:
    known = [one.name for one in fields(FeatureInputConfig)]
    for key in values:
        if key not in known:
            raise ValueError(f"features.{name}: unknown key '{key}'.{suggest(key, known)} Allowed: {', '.join(known)}.")
    return FeatureInputConfig(**values)


def _check_keys(cls: type, values: Mapping[str, Any]) -> None:
    known = [one.name for one in fields(cls)]
    problems = [
        f"unknown key '{key}'.{suggest(key, known)} Allowed: {', '.join(known)}" for key in values if key not in known
    ]
    needed = {"TransformerConfig": ("n_layers", "d_model", "n_heads"), "LMConfig": ("transformer",)}[cls.__name__]
    problems += [f"key '{key}' is missing" for key in needed if values.get(key) is None]
    _raise(cls.__name__, problems)


def _raise(what: str, problems: list[str]) -> None:
    if problems:
        raise ValueError(f"{what}: {'; '.join(problems)}.")
