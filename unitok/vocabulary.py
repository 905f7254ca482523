"""The vocabulary: what each id of the joint vocabulary means. Frozen once made, hashed, grown without moving an id.

Ids lie in blocks, in this order: `control`, `task`, `lang`, `text`, [`semantic`], `audio.0` … `audio.K-1`. The first
three hold spare ids. A vocabulary that outgrows a block gets a further range of the same name after its last id:

    control  task  lang  text       audio.0  audio.1  │ text        lang
    0…31     …     …     160…1183   …        …        │ grown: text ids 1024…, languages beyond the spare ones

so first id + position within the block is not always the id: go through `ids_of`, `codes_to_tokens` and their
inverses, which know all ranges.

Letters: T frames, K codebooks. `codes` are ids inside one codebook, `tokens` ids of the joint vocabulary.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unitok.errors import CheckpointError, TokenizerError, VocabularyMismatchError, suggest
from unitok.files import write_text

__all__ = ["KINDS", "Block", "Vocabulary", "kind_index"]

KINDS = ("text", "label", "audio", "semantic", "features")
"""What a segment can hold. Each kind has the control ids `<kind>` and `</kind>`."""

CONTROL_NAMES = ("<empty>", "<bos>", "<eos>", *(name for kind in KINDS for name in (f"<{kind}>", f"</{kind}>")))
NAMED_BLOCKS = ("control", "task", "lang")
DEFAULT_BLOCK_SIZES = {"control": 32, "task": 64, "lang": 64}
MINIMUM_SPARE = 16
FORMAT = 1


def kind_index(kind: str) -> int:
    """Return the number of a segment kind in `SequenceBatch.kind`: 0 for control, 1… in the order of `KINDS`."""
    return KINDS.index(kind) + 1 if kind in KINDS else 0


@dataclass(frozen=True)
class Block:
    """Ids `[first, first + size)` that belong together."""

    name: str
    """`control`, `task`, `lang`, `text`, `semantic` or `audio.k`."""
    first: int
    """First id."""
    size: int
    """How many ids, spare ones included."""

    @property
    def stop(self) -> int:
        """One past the last id."""
        return self.first + self.size


@dataclass(frozen=True)
class Vocabulary:
    """All ids of a model; make one with `Vocabulary.create`, `.load` or `.grow`."""

    blocks: tuple[Block, ...]
    """Without gaps, in the order of ids. A block that was grown is there more than once."""
    control_names: tuple[str, ...]
    """Names of the first ids of `control`."""
    task_names: tuple[str, ...]
    """Task names in the order of their ids; never reordered."""
    lang_names: tuple[str, ...]
    """Languages in the order of their ids; never reordered."""

    @classmethod
    def create(
        cls,
        tasks: Sequence[str],
        langs: Sequence[str],
        text_size: int,
        codebook_sizes: Sequence[int],
        semantic_size: int = 0,
        spare: int | Mapping[str, int] | None = None,
    ) -> Vocabulary:
        """Assign all ids, once.

        Args:
            tasks: Task names; their ids follow this order for ever.
            langs: Languages, likewise.
            text_size: Ids of the text tokenizer.
            codebook_sizes: Ids of each of the K codebooks.
            semantic_size: Ids of the semantic tokenizer; 0 for none.
            spare: Unused ids in `control`, `task` and `lang`, one number or one per block. By default the blocks have
                32, 64 and 64 ids, or 16 more than they have names.

        Raises:
            ValueError: If a name comes twice or a size is not positive.
        """
        names = {"control": CONTROL_NAMES, "task": tuple(tasks), "lang": tuple(langs)}
        for block, given in names.items():
            _check_names(block, given)
        named = [(block, len(given) + _spare(block, len(given), spare)) for block, given in names.items()]
        sizes = [(block, size) for block, size in named if size] + [("text", text_size)]
        if semantic_size:
            sizes.append(("semantic", semantic_size))
        sizes += [(f"audio.{k}", size) for k, size in enumerate(codebook_sizes)]
        return cls(_laid_out(sizes), *names.values())

    def __post_init__(self) -> None:
        """Check that blocks follow each other and hold their names.

        Raises:
            ValueError: If they do not.
        """
        end = 0
        for block in self.blocks:
            if block.first != end or block.size < 0:
                raise ValueError(
                    f"block '{block.name}' has ids [{block.first}, {block.stop}), it has to begin at {end}."
                )
            end = block.stop
        for name in NAMED_BLOCKS:
            size, names = self.size_of(name), self._names_of(name)
            if len(names) > size:
                raise ValueError(f"block '{name}' has {size} ids for {len(names)} names.")

    @property
    def size(self) -> int:
        """Number of ids, V."""
        return self.blocks[-1].stop

    @cached_property
    def n_codebooks(self) -> int:
        """Number of codebooks, K: slots of a position."""
        return len({block.name for block in self.blocks if block.name.startswith("audio.")})

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Ids of each codebook."""
        return tuple(self.size_of(f"audio.{k}") for k in range(self.n_codebooks))

    @property
    def text_size(self) -> int:
        """Ids of the text tokenizer."""
        return self.size_of("text")

    @property
    def semantic_size(self) -> int:
        """Ids of the semantic tokenizer; 0 where there is none."""
        return self.size_of("semantic")

    @cached_property
    def hash(self) -> str:
        """`sha256:…` over the content: equal exactly where every id means the same."""
        canonical = json.dumps(self._content(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()

    def ranges(self, name: str) -> tuple[Block, ...]:
        """Return all ranges of one block, first the oldest; empty for a block that is not there."""
        return tuple(block for block in self.blocks if block.name == name)

    def size_of(self, name: str) -> int:
        """Return the number of ids of one block over all its ranges; 0 for a block that is not there."""
        return sum(block.size for block in self.ranges(name))

    def block(self, name: str) -> Block:
        """Return a block that lies in one piece.

        Raises:
            KeyError: If there is no such block.
            ValueError: If it was grown into several ranges.
        """
        ranges = self.ranges(name)
        if len(ranges) == 1:
            return ranges[0]
        if ranges:
            raise ValueError(f"block '{name}' was grown and lies in {len(ranges)} ranges. Use ids_of('{name}').")
        names = list(dict.fromkeys(block.name for block in self.blocks))
        raise KeyError(f"the vocabulary has no block '{name}'.{suggest(name, names)} It has: {', '.join(names)}.")

    def ids_of(self, name: str) -> Tensor:
        """Return the joint ids of one block `[size]`, int64, in the order of codes or text-tokenizer ids."""
        return self._ids.get(name, torch.empty(0, dtype=torch.int64))

    def id(self, name: str) -> int:
        """Return the id of a control, task or language token by its name, such as `<bos>`, `<task:tts>`, `<lang:en>`.

        Raises:
            KeyError: If there is none.
        """
        if name not in self._id_of_name:
            raise KeyError(f"the vocabulary has no token '{name}'.{suggest(name, self._id_of_name)}")
        return self._id_of_name[name]

    def name(self, id: int) -> str:
        """Return what an id stands for: `<bos>`, `<task:tts>`, `text:17`, `audio.0:5`, `spare lang:7` (unused).

        Raises:
            KeyError: If the id is outside the vocabulary.
        """
        if id in self._name_of_id:
            return self._name_of_id[id]
        before: dict[str, int] = {}
        for block in self.blocks:
            if block.first <= id < block.stop:
                within = id - block.first + before.get(block.name, 0)
                return f"{'spare ' if block.name in NAMED_BLOCKS else ''}{block.name}:{within}"
            before[block.name] = before.get(block.name, 0) + block.size
        raise KeyError(f"id {id} is outside the vocabulary of {self.size} ids.")

    @property
    def empty_id(self) -> int:
        """`<empty>`, always 0: an unfilled slot and padding. Its embedding is zero; never a label, never sampled."""
        return 0

    @property
    def bos_id(self) -> int:
        """`<bos>`: the first token of every sequence. Never sampled."""
        return self.id("<bos>")

    @property
    def eos_id(self) -> int:
        """`<eos>`: the last token of every sequence, behind the last target. Forced, never sampled."""
        return self.id("<eos>")

    def task_id(self, task: str) -> int:
        """Return the id of a task's token.

        Raises:
            VocabularyMismatchError: If the vocabulary does not have the task.
        """
        return self._given_id("task", task, self.task_names)

    def lang_id(self, lang: str) -> int:
        """Return the id of a language's token.

        Raises:
            VocabularyMismatchError: If the vocabulary does not have the language.
        """
        return self._given_id("lang", lang, self.lang_names)

    def start_id(self, kind: str) -> int:
        """Return the id of `<kind>`, which opens a segment. Forced, never sampled."""
        return self.id(f"<{kind}>")

    def end_id(self, kind: str) -> int:
        """Return the id of `</kind>`, which closes a segment. Sampled: it ends a target."""
        return self.id(f"</{kind}>")

    def codes_to_tokens(self, codes: Tensor) -> Tensor:
        """Turn codec ids into positions of a sequence.

        Args:
            codes: `[K', T]`, integer, `K' <= K`.

        Returns:
            Tokens `[T, K]`, int64; slots from K' on are `<empty>`.

        Raises:
            TokenizerError: If there are more codebooks than the vocabulary has, or a code lies outside its codebook.
        """
        self._check_codes(codes)
        n_codebooks, T = codes.shape
        tokens = torch.zeros(T, self.n_codebooks, dtype=torch.int64, device=codes.device)
        tokens[:, :n_codebooks] = self._ids_of_codes[:n_codebooks].to(codes.device).gather(1, codes.long()).T
        return tokens

    def tokens_to_codes(self, tokens: Tensor) -> Tensor:
        """Turn positions of audio frames back into codec ids.

        Args:
            tokens: `[T, K]`, integer; every frame fills the same leading slots.

        Returns:
            Codes `[K', T]`, int64; K' is the number of filled slots (K where T is 0).

        Raises:
            TokenizerError: If a slot holds an id of another block, or frames fill different slots.
        """
        if tokens.ndim != 2 or tokens.shape[1] != self.n_codebooks:
            raise TokenizerError(f"tokens have shape {list(tokens.shape)}, audio frames have [T, {self.n_codebooks}].")
        filled = tokens != self.empty_id
        n_codebooks = int(filled[0].sum()) if len(tokens) else self.n_codebooks
        leading = torch.arange(self.n_codebooks, device=tokens.device) < n_codebooks
        if not torch.equal(filled, leading.expand_as(filled)):
            raise TokenizerError(
                f"frames fill different slots: the first fills {n_codebooks}, "
                f"others {sorted(set(filled.sum(1).tolist()))}. All frames of a segment fill the same leading slots."
            )
        return (
            torch.stack([self._within(f"audio.{k}", tokens[:, k]) for k in range(n_codebooks)])
            if n_codebooks
            else (tokens.new_zeros(0, len(tokens), dtype=torch.int64))
        )

    def text_to_tokens(self, ids: Sequence[int] | Tensor) -> list[int]:
        """Turn ids of the text tokenizer into joint ids.

        Raises:
            TokenizerError: If an id is outside the text block.
        """
        return self._to_tokens("text", ids)

    def tokens_to_text(self, tokens: Sequence[int] | Tensor) -> list[int]:
        """Turn joint ids of the text block into ids of the text tokenizer.

        Raises:
            TokenizerError: If a token is not text.
        """
        return self._within("text", torch.as_tensor(tokens, dtype=torch.int64)).tolist()

    def semantic_to_tokens(self, ids: Sequence[int] | Tensor) -> list[int]:
        """Turn ids of the semantic tokenizer into joint ids, as `text_to_tokens` does for text."""
        return self._to_tokens("semantic", ids)

    def tokens_to_semantic(self, tokens: Sequence[int] | Tensor) -> list[int]:
        """Turn joint ids of the semantic block into ids of the semantic tokenizer."""
        return self._within("semantic", torch.as_tensor(tokens, dtype=torch.int64)).tolist()

    def grow(
        self,
        tasks: Sequence[str] = (),
        langs: Sequence[str] = (),
        text_size: int | None = None,
        codebook_sizes: Sequence[int] | None = None,
        semantic_size: int | None = None,
    ) -> Vocabulary:
        """Return a vocabulary with more in it, in which every old id still means what it meant.

        New tasks and languages take spare ids first. What does not fit goes into new ranges after the last id, so a
        trained embedding is grown by appending rows.

        Args:
            tasks: Names to add; those already there are passed over.
            langs: Languages to add, likewise.
            text_size: New number of text ids, at least the present one.
            codebook_sizes: New size of each codebook, at least as many and as large as at present.
            semantic_size: New number of semantic ids, at least the present one.

        Raises:
            ValueError: If anything would shrink.
        """
        task_names = (*self.task_names, *(name for name in dict.fromkeys(tasks) if name not in self.task_names))
        lang_names = (*self.lang_names, *(name for name in dict.fromkeys(langs) if name not in self.lang_names))
        wanted = {"task": len(task_names), "lang": len(lang_names)}
        for block in ("task", "lang"):
            if wanted[block] > self.size_of(block):
                wanted[block] += MINIMUM_SPARE
        wanted["text"] = _not_smaller("text_size", self.text_size, text_size)
        wanted["semantic"] = _not_smaller("semantic_size", self.semantic_size, semantic_size)
        sizes = self.codebook_sizes if codebook_sizes is None else tuple(codebook_sizes)
        if len(sizes) < self.n_codebooks:
            raise ValueError(f"codebook_sizes has {len(sizes)} codebooks, the vocabulary has {self.n_codebooks}.")
        for k, size in enumerate(sizes):
            wanted[f"audio.{k}"] = _not_smaller(f"codebook_sizes[{k}]", self.size_of(f"audio.{k}"), size)
        more = [(name, size - self.size_of(name)) for name, size in wanted.items() if size > self.size_of(name)]
        return Vocabulary(self.blocks + _laid_out(more, self.size), self.control_names, task_names, lang_names)

    def check_same(self, other: Vocabulary, what: str = "checkpoint") -> None:
        """Make sure that `other`, the vocabulary of `what`, gives every id the same meaning.

        Raises:
            VocabularyMismatchError: If it does not; the message names the first block that moved.
        """
        if self.hash != other.hash:
            raise VocabularyMismatchError(
                f"the vocabulary of the {what} is another one: {self._difference(other, what)} Ids would mean "
                f"different things. Use the vocabulary.json of the {what}, or make it anew with this one."
            )

    def save(self, path: str | Path) -> None:
        """Write `vocabulary.json` (atomically), with its hash."""
        write_text(path, json.dumps({**self._content(), "hash": self.hash}, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Read a `vocabulary.json` and check its hash.

        Raises:
            CheckpointError: If the file is missing, is no vocabulary, or was changed after it was written.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise CheckpointError(
                    f"{path}: vocabulary format {content['format']}, this unitok reads format {FORMAT}. Update unitok."
                )
            names = (tuple(map(str, content[key])) for key in ("controls", "tasks", "langs"))
            blocks = tuple(Block(str(b["name"]), int(b["first"]), int(b["size"])) for b in content["blocks"])
            vocabulary, stored = cls(blocks, *names), content["hash"]
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
        except CheckpointError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: is no vocabulary file ({type(error).__name__}: {error}).") from error
        if vocabulary.hash != stored:
            raise CheckpointError(
                f"{path}: was changed after it was written (its hash is {stored}, its content's {vocabulary.hash}). "
                "Take the file from the checkpoint it belongs to; add tasks or languages with Vocabulary.grow."
            )
        return vocabulary

    @cached_property
    def _ids(self) -> dict[str, Tensor]:
        names = dict.fromkeys(block.name for block in self.blocks)
        return {name: torch.cat([torch.arange(b.first, b.stop) for b in self.ranges(name)]) for name in names}

    @cached_property
    def _within_of_id(self) -> Tensor:
        """`[V]`: position of each id within its block."""
        within = torch.empty(self.size, dtype=torch.int64)
        for ids in self._ids.values():
            within[ids] = torch.arange(len(ids))
        return within

    @cached_property
    def _name_of_id(self) -> dict[int, str]:
        names: dict[int, str] = {}
        for block, form in zip(NAMED_BLOCKS, ("{}", "<task:{}>", "<lang:{}>"), strict=True):
            names |= {
                id: form.format(name)
                for id, name in zip(self.ids_of(block).tolist(), self._names_of(block), strict=False)
            }
        return names

    @cached_property
    def _id_of_name(self) -> dict[str, int]:
        return {name: id for id, name in self._name_of_id.items()}

    @cached_property
    def _ids_of_codes(self) -> Tensor:
        """Joint ids of the codes of each codebook, `[K, size of the largest]`; 0 where there is no code."""
        return pad_sequence([self.ids_of(f"audio.{k}") for k in range(self.n_codebooks)], batch_first=True)

    def _names_of(self, block: str) -> tuple[str, ...]:
        return {"control": self.control_names, "task": self.task_names, "lang": self.lang_names}[block]

    def _given_id(self, block: str, name: str, names: tuple[str, ...]) -> int:
        if name not in names:
            raise VocabularyMismatchError(
                f"this vocabulary has no {block} '{name}'.{suggest(name, names)} It has: {', '.join(names) or 'none'}. "
                f"Vocabulary.grow({block}s=['{name}']) adds it; the model then has to be trained on it."
            )
        return self.id(f"<{block}:{name}>")

    def _check_codes(self, codes: Tensor) -> None:
        if codes.ndim != 2 or codes.is_floating_point():
            raise TokenizerError(
                f"codes have shape {list(codes.shape)} and type {codes.dtype}, allowed: integers [K, T]."
            )
        n_codebooks, K = len(codes), self.n_codebooks
        if n_codebooks > K:
            raise TokenizerError(
                f"codes have K={n_codebooks} codebooks, the vocabulary has K={K}. "
                f"Pass codes[:{K}] or call set_codebooks({K}) on the audio tokenizer."
            )
        if not codes.numel():
            return
        bounds = zip(codes.amin(1).tolist(), codes.amax(1).tolist(), self.codebook_sizes, strict=False)
        for k, (low, high, size) in enumerate(bounds):
            if not 0 <= low <= high < size:
                raise TokenizerError(
                    f"codebook {k} holds codes from {low} to {high}, allowed: 0 to {size - 1}. "
                    "The codes come from another tokenizer than this vocabulary was made for."
                )

    def _to_tokens(self, block: str, ids: Sequence[int] | Tensor) -> list[int]:
        local = torch.as_tensor(ids, dtype=torch.int64)
        size = self.size_of(block)
        if local.numel() and not 0 <= int(local.min()) <= int(local.max()) < size:
            raise TokenizerError(
                f"{block} ids go from {int(local.min())} to {int(local.max())}, this vocabulary has 0 to {size - 1}. "
                f"The {block} tokenizer is another one than this vocabulary was made for."
            )
        return self.ids_of(block)[local].tolist() if local.numel() else []

    def _within(self, block: str, tokens: Tensor) -> Tensor:
        """Return positions within `block` of joint ids; all have to belong to it."""
        inside = torch.zeros_like(tokens, dtype=torch.bool)
        for part in self.ranges(block):
            inside |= (tokens >= part.first) & (tokens < part.stop)
        if not bool(inside.all()):
            wrong = int(tokens[~inside][0])
            name = self.name(wrong) if 0 <= wrong < self.size else "outside the vocabulary"
            raise TokenizerError(f"token {wrong} ({name}) is not in block '{block}'.")
        return self._within_of_id.to(tokens.device)[tokens.long()]

    def _difference(self, other: Vocabulary, what: str) -> str:
        for mine, theirs in zip_longest(self.blocks, other.blocks):
            if mine != theirs:
                name = (mine or theirs).name
                return f"block '{name}' moved: {_shown(mine)} here, {_shown(theirs)} in the {what}."
        for block in NAMED_BLOCKS:
            for mine, theirs in zip_longest(self._names_of(block), other._names_of(block), fillvalue="unused"):
                if mine != theirs:
                    return f"block '{block}' moved: an id is '{mine}' here, '{theirs}' in the {what}."
        raise AssertionError(f"hashes {self.hash} and {other.hash} differ, contents do not")

    def _content(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "blocks": [asdict(block) for block in self.blocks],
            "controls": list(self.control_names),
            "tasks": list(self.task_names),
            "langs": list(self.lang_names),
        }


def _laid_out(sizes: Sequence[tuple[str, int]], first: int = 0) -> tuple[Block, ...]:
    blocks = []
    for name, size in sizes:
        if size <= 0:
            raise ValueError(f"block '{name}' would have {size} ids, allowed: 1 or more.")
        blocks.append(Block(name, first, size))
        first += size
    return tuple(blocks)


def _spare(block: str, n_names: int, spare: int | Mapping[str, int] | None) -> int:
    if spare is None:
        return max(DEFAULT_BLOCK_SIZES[block] - n_names, MINIMUM_SPARE)
    return spare if isinstance(spare, int) else spare.get(block, 0)


def _check_names(block: str, names: Sequence[str]) -> None:
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"{block} names come twice: {', '.join(sorted(twice))}.")


def _not_smaller(what: str, now: int, wanted: int | None) -> int:
    if wanted is not None and wanted < now:
        raise ValueError(f"{what} is {wanted}, the vocabulary has {now} already and cannot shrink.")
    return now if wanted is None else wanted


def _shown(block: Block | None) -> str:
    return f"ids {block.first} to {block.stop - 1}" if block else "absent"
