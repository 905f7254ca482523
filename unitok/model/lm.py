"""The language model: one global, one local and one refining Transformer over sequences of `[S, K]` tokens.

    tokens [B, S, K] --embed, sum over slots--> global, causal over S --> hidden [B, S, D]
    hidden[s-1] --head--------------------> slot 0 at s: text, markers, codebook 0
    hidden[s-1], c0 … at s --local--------> codebooks 1 … Kc-1 at s
    hidden[s] of all frames --refiner-----> codebooks Kc … K-1 of a target

That is the pattern `multiscale`. In the others (`unitok.pattern`) each slot has a head that reads hidden[s-1].

Training (`loss`) and generation (`step`, `local_stage`, `refine_logits`) share one path. Not here: which ids are legal,
drawing them (`generation/`), sizes (`config.py`).

Letters: B batch, S positions, T frames, K codebooks, Kc AR codebooks, V vocabulary, Vk size of codebook k, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitok.markers import Markers
from unitok.model.cache import StaticCache
from unitok.model.config import LMConfig
from unitok.model.features import FeatureInput
from unitok.model.local import LocalStage, LocalTransformer
from unitok.model.losses import NO_LABEL, LMOutput, LossTally, frame_rows
from unitok.model.refiner import Refiner
from unitok.model.transformer import INIT_STD, Transformer, initialize
from unitok.sequence import FeatureBatch, SequenceBatch
from unitok.vocabulary import Vocabulary, kind_index

__all__ = ["LMOutput", "UnitokLM"]

HISTORY_TEMPERATURE = 0.7
"""Frames of a sampled history are drawn as generation usually draws them: colder than the model says."""


class UnitokLM(nn.Module):
    """All weights of a model, for one vocabulary."""

    def __init__(self, config: LMConfig, vocabulary: Vocabulary) -> None:
        """Draw fresh weights.

        Raises:
            ValueError: If the config does not fit the vocabulary's number of codebooks.
        """
        super().__init__()
        K, Kc, D = vocabulary.n_codebooks, config.ar_codebooks, config.transformer.d_model
        config.check(K)
        with torch.device("cpu"):  # known also where weights have sizes only, on the device `meta`
            Markers(vocabulary, config.spelling)  # refuses what does not fit
            slot0_ids, code_of_token = _slot0_ids(vocabulary, config.slot0_blocks), _code_of_token(vocabulary)
            self.tokens_of_code = [vocabulary.ids_of(f"audio.{k}") for k in range(K)]
        sizes = vocabulary.codebook_sizes
        self.config = config
        self.n_coarse = config.n_coarse(K)
        self.pattern = config.layout(K)
        self.n_codebooks = K
        self.empty_id = vocabulary.empty_id
        width = config.embedding_width(K)
        self.embedding = nn.Embedding(vocabulary.size, width)
        # Side by side and projected is a sum too: of each slot's own projection.
        self.slot_projection = nn.Linear(K * width, D, bias=False) if config.slot_embeddings == "concat" else None
        self.slot0_ids: Tensor
        self.register_buffer("slot0_ids", slot0_ids, persistent=False)
        self.head = None if config.tie_embeddings else nn.Linear(D, len(self.slot0_ids), bias=False)
        slot_heads = nn.ModuleList([nn.Linear(D, size, bias=False) for size in sizes[1:]])
        self.slot_heads = None if config.pattern == "multiscale" else slot_heads
        initialize(self)
        self.feature_inputs = nn.ModuleDict({name: FeatureInput(part, D) for name, part in config.features.items()})
        with torch.no_grad():
            self.embedding.weight[self.empty_id] = 0.0
        self.transformer = Transformer(config.transformer)
        per_place = config.local_weights == "per_codebook"
        self.local = LocalTransformer(config.local, D, sizes[1:Kc], per_place) if config.local else None
        levels = {level: sizes[level] for level in range(Kc, K)}
        self.refiner = Refiner(config.refiner, D, levels, config.refinement == "masked") if config.refiner else None
        self.codebook_weights: Tensor
        self.register_buffer("codebook_weights", torch.tensor(config.codebook_weights or [1.0] * K), persistent=False)
        self.code_of_token: Tensor
        self.register_buffer("code_of_token", code_of_token, persistent=False)

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the slots' embeddings as one, `[B, S, K']` -> `[B, S, D]`; `<empty>` adds exactly nothing.

        Args:
            tokens: The first K' slots of each position, joint ids.
        """
        B, S, n_slots = tokens.shape
        if self.slot_projection is not None:
            return sum(
                (self.embed_slot(tokens[..., k], k) for k in range(1, n_slots)), self.embed_slot(tokens[..., 0], 0)
            )
        # A bag sums without ever holding [B, S, K, D], and leaves `<empty>` out whatever its row may hold.
        embeds = F.embedding_bag(tokens.flatten(0, 1), self.embedding.weight, mode="sum", padding_idx=self.empty_id)
        return embeds.unflatten(0, (B, S))

    def embed_slot(self, tokens: Tensor, slot: int) -> Tensor:
        """Return what one slot adds to `embed`, `[...]` -> `[..., D]`."""
        embeds = F.embedding(tokens, self.embedding.weight)
        embeds = embeds.masked_fill((tokens == self.empty_id)[..., None], 0.0)
        if self.slot_projection is None:
            return embeds
        width = embeds.shape[-1]
        return F.linear(embeds, self.slot_projection.weight[:, slot * width : (slot + 1) * width])

    @torch.no_grad()
    def place_codes(self, vectors: Sequence[Tensor], vocabulary: Vocabulary, std: float = INIT_STD) -> None:
        """Begin with embeddings of codes that lie as the codec's own vectors do: alike where codes sound alike.

        Args:
            vectors: Of each codebook, K times `[Vk, width]`; a random rotation takes them from their width to D.
            vocabulary: Where the codes are.
            std: How far embeddings of other ids spread: a frame, the sum of K, spreads as far as K of them.

        Raises:
            ValueError: If they are not of as many codebooks as the model has.
        """
        if len(vectors) != self.n_codebooks:
            raise ValueError(f"vectors are of {len(vectors)} codebooks, the model has {self.n_codebooks}.")
        weight = self.embedding.weight
        centred = [codebook - codebook.mean(dim=0) for codebook in vectors]
        rotation = nn.init.orthogonal_(torch.empty(vectors[0].shape[1], weight.shape[1]))
        placed = [codebook @ rotation for codebook in centred]
        # A frame, the sum of K embeddings, keeps the size it has with those that `initialize` draws.
        size = torch.stack([codebook.square().mean() for codebook in placed]).sum().sqrt()
        for k, codebook in enumerate(placed):
            weight[vocabulary.ids_of(f"audio.{k}")] = (codebook * std * math.sqrt(len(placed)) / size).to(weight)

    def recompute_activations(self, on: bool = True) -> None:
        """In training, compute the insides of all blocks again in the backward pass: less memory, more time."""
        for module in self.modules():
            if isinstance(module, Transformer):
                module.recompute_activations = on

    @torch.no_grad()
    def grown(self, vocabulary: Vocabulary) -> UnitokLM:
        """Return this model for a vocabulary that was grown from its own; itself, if nothing was added.

        Old ids keep their weights, since new ones come after them.
        """
        if vocabulary.size == len(self.embedding.weight):
            return self
        new = UnitokLM(self.config, vocabulary)
        for name, part in self.feature_inputs.items():
            if part.attached is not None:  # type: ignore[union-attr]
                new.feature_inputs[name].attach(part.attached)  # type: ignore[operator,union-attr]
        target = new.state_dict()
        for name, tensor in self.state_dict().items():
            target[name][tuple(slice(size) for size in tensor.shape)] = tensor
        return new

    @torch.no_grad()
    def begin_as(self, others: Mapping[int, Sequence[int]]) -> None:
        """Let ids begin as the mean of others, in the embedding and among the outputs of slot 0.

        Args:
            others: Ids that slot 0 can hold -> the ids that stood for what each means.
        """
        for id, parts in others.items():
            ids = torch.tensor([id, *parts], device=self.slot0_ids.device)
            tables = [(self.embedding.weight, ids)]
            if self.head is not None:
                tables.append((self.head.weight, torch.searchsorted(self.slot0_ids, ids)))
            for weight, rows in tables:
                weight[rows[0]] = weight[rows[1:]].mean(dim=0)

    def coarse(self, tokens: Tensor, frame_mask: Tensor) -> Tensor:
        """Return tokens `[B, S, K]` as the global stage takes them: target frames keep codebooks below Kc only."""
        fine = torch.arange(self.n_codebooks, device=tokens.device) >= self.n_coarse
        return tokens.masked_fill(frame_mask[..., None] & fine, self.empty_id)

    def add_features(self, embeds: Tensor, features: Mapping[str, FeatureBatch]) -> Tensor:
        """Add features to the embeddings `[B, S, D]` of the positions that they stand at."""
        for name, batch in features.items():
            states = self.feature_inputs[name](batch)
            rows, places = (torch.arange(states.shape[1], device=states.device) < batch.n_positions[:, None]).nonzero(
                as_tuple=True
            )
            where = batch.rows[rows], batch.starts[rows] + places
            embeds = embeds.index_put(where, states[rows, places].to(embeds.dtype), accumulate=True)
        return embeds

    def hidden(
        self,
        tokens: Tensor,
        prefix_mask: Tensor | None = None,
        attention_bias: Tensor | None = None,
        features: Mapping[str, FeatureBatch] | None = None,
    ) -> Tensor:
        """Run the global Transformer over whole sequences. With padding on the right nothing sees it, without a mask.

        Args:
            tokens: `[B, S, K]`, as `coarse` returns them.
            prefix_mask: `[B, S]`, positions before the first target; in a prefix LM they see each other.
            attention_bias: `[B, S, S]`, added to the logits of attention in all layers.
            features: What stands in segments of kind `features`.

        Returns:
            Normalised states `[B, S, D]`.

        Raises:
            ValueError: If a prefix LM is not told where the prefix is.
        """
        embeds = self.add_features(self.embed(tokens), features or {})
        if not self.config.prefix_lm and attention_bias is None:
            return self.transformer(embeds, is_causal=True)
        S = tokens.shape[1]
        mask = torch.ones(S, S, dtype=torch.bool, device=tokens.device).tril()[None]
        if self.config.prefix_lm:
            prefix_mask = _given(prefix_mask, "prefix_mask")
            mask = mask | prefix_mask[:, None, :] & prefix_mask[:, :, None]
        if attention_bias is not None:
            mask = attention_bias.masked_fill(~mask, -torch.inf).to(embeds.dtype)
        return self.transformer(embeds, attn_mask=mask[:, None])

    def slot0_logits(self, hidden: Tensor) -> Tensor:
        """Return logits of the next position's slot 0, `[..., D]` -> `[..., V]`; -inf for what slot 0 never holds."""
        few = self._few_logits(hidden)
        logits = few.new_full((*few.shape[:-1], len(self.embedding.weight)), -torch.inf)
        logits[..., self.slot0_ids] = few
        return logits

    def slot_logits(self, hidden: Tensor, slot: int) -> Tensor:
        """Return logits of the next position's slot 1 … K-1 in a pattern without local stage, `[n, D]` -> `[n, Vk]`.

        Raises:
            ValueError: If the pattern is `multiscale`, or there is no such slot.
        """
        if self.slot_heads is None or not 1 <= slot < self.n_codebooks:
            raise ValueError(f"pattern '{self.pattern.name}', K={self.n_codebooks}: there is no head of slot {slot}.")
        return self.slot_heads[slot - 1](hidden)

    def local_logits(self, hidden: Tensor, tokens: Tensor) -> list[Tensor]:
        """Return teacher-forced logits of codebooks 1 … Kc-1 of frames.

        Args:
            hidden: Global states `[n, D]` of the positions before the frames.
            tokens: `[n, Kc]` or wider, joint ids; entry k sees the state and tokens 0 … k. The last is not looked at.

        Returns:
            Kc-1 logits `[n, Vk]`; entry k is of codebook k+1.

        Raises:
            ValueError: If the model has no local Transformer (Kc = 1).
        """
        local, n_inputs = self._local(), self.config.ar_codebooks - 1
        embeds = torch.stack([self.embed_slot(tokens[:, k], k) for k in range(n_inputs)], dim=1)  # [n, Kc - 1, D]
        return local(torch.cat([hidden[:, None].to(embeds.dtype), embeds], dim=1))

    def refine_logits(self, hidden: Tensor, tokens: Tensor, level: int, valid_mask: Tensor | None = None) -> Tensor:
        """Return logits of one of the codebooks Kc … K-1 for all frames of targets.

        Args:
            hidden: Global states at the frames themselves, `[B, T, D]`.
            tokens: Joint ids `[B, T, K]`; slots from `level` on are not looked at. Masked refinement does look at
                slot `level`: it holds the codes that are known, and `<empty>` where one is asked for.
            level: Which codebook.
            valid_mask: `[B, T]`, False at padding; None means no padding.

        Returns:
            Logits `[B, T, Vk]`.

        Raises:
            ValueError: If `level` is not one of the refiner's.
        """
        if self.refiner is None or not self.config.ar_codebooks <= level < self.n_codebooks:
            raise ValueError(
                f"level is {level}, this model refines levels {self.config.ar_codebooks} to {self.n_codebooks - 1} "
                "(none, where the first is above the last)."
            )
        if self.config.refinement == "levels":
            return self.refiner(hidden, self.embed(tokens[..., :level]), level, valid_mask)
        known = self.embed(tokens[..., : level + 1])
        return self.refiner(hidden, known, level, valid_mask, unknown_mask=tokens[..., level] == self.empty_id)

    def new_cache(self, batch_size: int, max_positions: int) -> StaticCache:
        """Return an empty cache of the global Transformer for `step`."""
        return self.transformer.new_cache(batch_size, max_positions)

    def step(
        self,
        tokens: Tensor,
        positions: Tensor,
        cache: StaticCache,
        valid_mask: Tensor | None = None,
        features: Mapping[str, FeatureBatch] | None = None,
    ) -> Tensor:
        """Run new positions of sequences whose earlier ones are in the cache: a prompt, or one position at a time.

        Prompts of different lengths are padded on the right; nothing sees the padding, and the next positions
        overwrite it.

        Args:
            tokens: `[B, s, K]`, as `coarse` returns them.
            positions: Where they are in their rows, `[B, s]`, int64; rows may differ.
            cache: From `new_cache`.
            valid_mask: `[B, s]`, the prompts' own positions, without padding and without the start marker of the first
                target, if that comes along. In a prefix LM they see each other; otherwise it changes nothing.
            features: What stands in segments of kind `features` of the prompts, which begin at position 0.

        Returns:
            States `[B, s, D]`; at padding they mean nothing.

        Raises:
            ValueError: If a position is beyond the cache, or a prefix LM is not told which positions are the prompt's.
        """
        attn_mask = cache.advance(positions)
        if self.config.prefix_lm and tokens.shape[1] > 1:
            prompt = _given(valid_mask, "valid_mask")
            keys = torch.zeros_like(attn_mask[:, 0, 0]).scatter(1, positions, prompt)  # [B, used]
            attn_mask = attn_mask | prompt[:, None, :, None] & keys[:, None, None, :]
        embeds = self.add_features(self.embed(tokens), features or {})
        return self.transformer(embeds, attn_mask=attn_mask, cache=cache, positions=positions)

    def local_stage(self, hidden: Tensor) -> LocalStage:
        """Begin frames: `stage.logits(tokens [n])` takes codebook 0, 1, … as chosen and returns the next one's logits.

        Args:
            hidden: Global states `[n, D]` that chose codebook 0.

        Raises:
            ValueError: If the model has no local Transformer (Kc = 1).
        """
        return LocalStage(self._local(), self.embed_slot, hidden)

    @torch.no_grad()
    def say_frames(
        self,
        hidden: Tensor,
        tokens: Tensor,
        n_given: int = 0,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return frames as the model says them, each after the history its state has seen.

        Args:
            hidden: Global states `[n, D]` of the positions before the frames.
            tokens: Joint ids `[n, K]` of the true frames.
            n_given: Leave so many of the first codebooks as they are, at most Kc.
            temperature: Of the drawing.
            generator: Of the drawing, on the CPU; None draws from PyTorch's own.

        Returns:
            Joint ids `[n, K]`, codebooks n_given … Kc-1 drawn.
        """

        def drawn(logits: Tensor, k: int) -> Tensor:
            uniform = torch.rand(len(logits), 1, generator=generator).to(logits.device)
            cumulative = (logits.float() / temperature).softmax(dim=-1).cumsum(dim=-1)
            codes = torch.searchsorted(cumulative, uniform * cumulative[:, -1:]).clamp(max=logits.shape[1] - 1)
            return self.tokens_of_code[k].to(logits.device)[codes[:, 0]]

        said = tokens.clone()
        if n_given == 0:
            places = torch.searchsorted(self.slot0_ids, self.tokens_of_code[0].to(hidden.device))
            said[:, 0] = drawn(self._few_logits(hidden)[:, places], 0)
        stage = self.local_stage(hidden) if self.local is not None else None
        for k in range(1, self.n_coarse):
            assert stage is not None, "more than one AR codebook takes a local stage"
            logits = stage.logits(said[:, k - 1])
            if k >= n_given:
                said[:, k] = drawn(logits, k)
        return said

    def loss(self, batch: SequenceBatch, seed: int | None = None, attention_bias: Tensor | None = None) -> LMOutput:
        """Return the training loss of a batch, teacher-forced.

        The weighted mean of the cross-entropy over all labels: slot 0 where `loss_mask` is set, and codebooks 1 … K-1
        of target frames. A label weighs `batch.loss_weight`, times the codebook's weight for audio. Frames drawn for
        the local stage (`config.local_fraction`) and the level drawn for the refiner count for all they were drawn
        from, so that the expected loss does not depend on the drawing.

        Args:
            batch: Sequences padded on the right.
            seed: Of the drawing of frames, level and hidden history (not of `dropout`); None draws from PyTorch's own
                generator.
            attention_bias: `[B, S, S]`, added to the logits of attention (`alignment.attention_bias`).
        """
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        tokens = self.coarse(batch.tokens, batch.frame_mask)
        if self.training and self.config.history_sampling:
            tokens = self._sample_history(tokens, batch, attention_bias, generator)
        if self.training and self.config.history_dropout:
            tokens = self._hide_history(tokens, batch.frame_mask, generator)
        hidden = self.hidden(tokens, batch.prefix_mask, attention_bias, batch.features)
        frame_weights = self._frame_weights(batch)
        slot0_weights = self._slot0_weights(batch)
        tally = LossTally(slot0_weights[batch.loss_mask].sum() + frame_weights[batch.frame_mask][:, 1:].sum())
        self._add_slot0(tally, batch, hidden, slot0_weights)
        if self.config.condition_weight:
            self._add_conditions(tally, batch, hidden)
        if bool(batch.frame_mask.any()):
            self._add_slots(tally, batch, hidden, frame_weights)
            self._add_local(tally, batch, hidden, frame_weights, generator)
            self._add_refiner(tally, batch, hidden, frame_weights, generator)
        return tally.output()

    def count_parameters(self) -> dict[str, int]:
        """Return the number of weights of each part and in `total`; a tied head has none of its own."""
        parts = {name: sum(weight.numel() for weight in part.parameters()) for name, part in self.named_children()}
        return {**{name: n for name, n in parts.items() if n}, "total": sum(parts.values())}

    def _few_logits(self, hidden: Tensor) -> Tensor:
        """Return logits of the ids that slot 0 can hold, `[..., D]` -> `[..., len(slot0_ids)]`."""
        if self.head is not None:
            return self.head(hidden)
        return F.linear(hidden, self.embedding.weight[self.slot0_ids])

    def _hide_history(self, tokens: Tensor, frame_mask: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return tokens with some target frames empty, a share of each sequence's drawn from 0 to `history_dropout`."""
        B, S = frame_mask.shape
        share = torch.rand(B, 1, generator=generator) * self.config.history_dropout
        hidden = (torch.rand(B, S, generator=generator) < share).to(frame_mask.device) & frame_mask
        return tokens.masked_fill(hidden[..., None], self.empty_id)

    @torch.no_grad()
    def _sample_history(
        self, tokens: Tensor, batch: SequenceBatch, attention_bias: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """Return tokens with a share of the target frames as the model says them, each after true ones.

        Source: parallel scheduled sampling (arXiv:1906.04331), one pass.
        """
        drawn = torch.rand(batch.frame_mask.shape, generator=generator) < self.config.history_sampling
        rows, positions = (drawn.to(tokens.device) & batch.frame_mask).nonzero(as_tuple=True)
        if not len(rows):
            return tokens
        hidden = self.hidden(tokens, batch.prefix_mask, attention_bias, batch.features)[rows, positions - 1]
        said = self.say_frames(hidden, tokens[rows, positions], 0, HISTORY_TEMPERATURE, generator)
        return tokens.index_put((rows, positions), said)

    def _frame_weights(self, batch: SequenceBatch) -> Tensor:
        """Return the weight of every slot as a label of a codebook, `[B, S, K]`, 0 where it is empty."""
        weights = batch.loss_weight[..., None] * self.codebook_weights
        if batch.codebook_weight is not None:
            weights = weights * batch.codebook_weight[:, None]
        return weights.masked_fill(batch.tokens == self.empty_id, 0.0)

    def _slot0_weights(self, batch: SequenceBatch) -> Tensor:
        """Return the weight of slot 0 as a label, `[B, S]`: within audio, that of codebook 0 (end marker included)."""
        is_audio = batch.kind == kind_index("audio")
        return torch.where(is_audio, self._frame_weights(batch)[..., 0], batch.loss_weight)

    def _add_slot0(self, tally: LossTally, batch: SequenceBatch, hidden: Tensor, weights: Tensor) -> None:
        labelled = batch.loss_mask[:, 1:]  # the prediction for s comes from s - 1
        kind = batch.kind[:, 1:][labelled]
        labels = torch.searchsorted(self.slot0_ids, batch.tokens[:, 1:, 0][labelled])
        tally.add(kind, self._few_logits(hidden[:, :-1][labelled]), labels, weights[:, 1:][labelled])

    def _add_conditions(self, tally: LossTally, batch: SequenceBatch, hidden: Tensor) -> None:
        """Add what targets leave out: contents and end markers of conditions, their frames' other codebooks."""
        weight = torch.as_tensor(self.config.condition_weight, device=hidden.device)

        def add(logits: Tensor, labels: Tensor) -> None:
            tally.add("conditions", logits, labels, weight.expand(len(labels)))
            tally.total_weight = tally.total_weight + weight * (labels != NO_LABEL).sum()

        labelled = batch.condition_mask[:, 1:]
        labels = torch.searchsorted(self.slot0_ids, batch.tokens[:, 1:, 0][labelled])
        add(self._few_logits(hidden[:, :-1][labelled]), labels)
        is_frame = (batch.tokens[..., 1:] != self.empty_id).any(dim=-1) & batch.prefix_mask
        rows, positions = is_frame.nonzero(as_tuple=True)
        if not len(rows):
            return
        codes = self.code_of_token[batch.tokens[rows, positions]]  # [n, K]
        states = hidden[rows, positions - 1]
        if self.slot_heads is not None:
            for k in range(1, self.n_codebooks):
                add(self.slot_logits(states, k), codes[:, k])
        elif self.local is not None:
            for k, logits in enumerate(self.local_logits(states, batch.tokens[rows, positions]), start=1):
                add(logits, codes[:, k])

    def _add_slots(self, tally: LossTally, batch: SequenceBatch, hidden: Tensor, weights: Tensor) -> None:
        if self.slot_heads is None:
            return
        filled = (batch.tokens != self.empty_id) & batch.frame_mask[..., None]
        for k in range(1, self.n_codebooks):
            rows, positions = filled[..., k].nonzero(as_tuple=True)
            labels = self.code_of_token[batch.tokens[rows, positions, k]]
            tally.add(
                f"audio.{k}", self.slot_logits(hidden[rows, positions - 1], k), labels, weights[rows, positions, k]
            )

    def _add_local(
        self, tally: LossTally, batch: SequenceBatch, hidden: Tensor, weights: Tensor, generator: torch.Generator | None
    ) -> None:
        if self.local is None:
            return
        rows, positions = batch.frame_mask.nonzero(as_tuple=True)
        n_drawn = max(1, round(self.config.local_fraction * len(rows)))
        scale = len(rows) / n_drawn
        if n_drawn < len(rows):
            drawn = torch.randperm(len(rows), generator=generator)[:n_drawn].to(rows.device)
            rows, positions = rows[drawn], positions[drawn]
        tokens, weights = batch.tokens[rows, positions], weights[rows, positions]  # [n, K]
        for k, logits in enumerate(self.local_logits(hidden[rows, positions - 1], tokens), start=1):
            labels = self.code_of_token[tokens[:, k]]
            tally.add(f"audio.{k}", logits, labels, weights[:, k], scale)

    def _add_refiner(
        self, tally: LossTally, batch: SequenceBatch, hidden: Tensor, weights: Tensor, generator: torch.Generator | None
    ) -> None:
        if self.refiner is None:
            return
        first = self.config.ar_codebooks
        level = int(torch.randint(first, self.n_codebooks, (), generator=generator))
        rows, positions, valid_mask = frame_rows(batch.frame_mask)
        tokens = batch.tokens[rows, positions]  # [R, T, K]
        labels = self.code_of_token[tokens[..., level]]
        weights = weights[rows, positions, level]
        asked = valid_mask
        if self.config.refinement == "masked":
            asked = _drawn_mask(valid_mask.cpu(), generator).to(valid_mask.device)
            weights = weights * (valid_mask.sum(dim=1) / asked.sum(dim=1))[:, None]  # those asked for stand for all
            tokens = tokens.clone()
            tokens[..., level] = tokens[..., level].masked_fill(asked, self.empty_id)
        logits = self.refine_logits(hidden[rows, positions], tokens, level, valid_mask)
        scale = self.n_codebooks - first
        tally.add(f"audio.{level}", logits[asked], labels[asked], weights[asked], scale)

    def _local(self) -> LocalTransformer:
        if self.local is None:
            raise ValueError(f"ar_codebooks={self.config.ar_codebooks}: this model has no local Transformer.")
        return self.local


def _slot0_ids(vocabulary: Vocabulary, blocks: Sequence[str] = ()) -> Tensor:
    """Return the ids that slot 0 is predicted from, ascending: of some blocks, or all that it can hold.

    It never holds `<empty>` and codebooks 1 … K-1.
    """
    other = [vocabulary.ids_of(f"audio.{k}") for k in range(1, vocabulary.n_codebooks)]
    possible = torch.ones(vocabulary.size, dtype=torch.bool)
    possible[torch.cat([torch.tensor([vocabulary.empty_id]), *other])] = False
    if blocks:
        possible &= torch.isin(torch.arange(vocabulary.size), torch.cat([vocabulary.ids_of(name) for name in blocks]))
    return possible.nonzero()[:, 0]


def _code_of_token(vocabulary: Vocabulary) -> Tensor:
    """Return the code that each joint id stands for in its codebook, `[V]`, int64; NO_LABEL for other ids."""
    codes = torch.full((vocabulary.size,), NO_LABEL)
    for k in range(vocabulary.n_codebooks):
        ids = vocabulary.ids_of(f"audio.{k}")
        codes[ids] = torch.arange(len(ids))
    return codes


def _drawn_mask(valid_mask: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return which of the frames `[R, T]` to mask: of each row a share, cos of a uniform angle, and at least one."""
    R, T = valid_mask.shape
    lengths = valid_mask.sum(dim=1)
    share = torch.cos(torch.rand(R, generator=generator) * math.pi / 2)
    n_masked = (share * lengths).ceil().clamp(min=1)
    order = torch.rand(R, T, generator=generator).masked_fill(~valid_mask, 2.0).argsort(dim=1).argsort(dim=1)
    return (order < n_masked[:, None]) & valid_mask


def _given(prompt: Tensor | None, name: str) -> Tensor:
    if prompt is None:
        raise ValueError(f"this model has prefix_lm=True: pass {name}, which says which positions are the prompt's.")
    return prompt
