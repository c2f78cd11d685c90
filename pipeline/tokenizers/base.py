"""What every tokenizer does: encode batches, decode, count what does not come back, and say what it is."""

from __future__ import annotations

import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import UserError, nearest
from pipeline.shards import token_dtype
from pipeline.tokenizers.pieces import Pieces

ROLES = ("unk", "bos", "eot", "pad")
MOST = 1 << 24
"""Token ids lie below it: there are tables by id, and a larger one is a slip or damage."""
Ids = npt.NDArray[Any]
"""(tokens,) of an integer type."""


@dataclass(frozen=True)
class Options:
    """What a user says about a file that does not say it itself."""

    pattern: str | None = None
    """The regular expression by which a tiktoken file's text is cut into words, or the name of a known one."""
    special: Mapping[str, int] = field(default_factory=dict)
    """Special tokens of a tiktoken file."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """The special token of a role, `eot`, `bos`, `pad` or `unk`, where its usual names are not used."""

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it; for a row of the ledger."""
        return {"pattern": self.pattern, "special": dict(self.special), "roles": dict(self.roles)}


class Tokenizer(ABC):
    """A tokenizer, ready for use."""

    kind: ClassVar[str]
    """sentencepiece, huggingface or tiktoken: the form of its file."""
    file_name: ClassVar[str]
    """How the file is called in a run folder, as users of its library expect it."""
    vocabulary: int
    """Every token id lies below it."""
    special: dict[str, int]
    """Token ids by role: `unk`, `bos`, `eot`, `pad`; a role that the tokenizer lacks is absent."""
    options: Options
    engine: dict[str, Any]
    """Who runs it: `name`, a library or `compiled` (see there), and `why` where that is not the fastest."""

    def choose_engine(self, texts: Sequence[str]) -> dict[str, Any]:
        """Goes over to the fastest library that gives the same ids for all these texts; returns `engine`."""
        return self.engine

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 over all that decides on tokens, and nothing else that the file may hold."""

    @abstractmethod
    def piece(self, token: int) -> str:
        """A token as people know it: its text, or its name where it is special; escaped where it is no UTF-8."""

    @abstractmethod
    def _encode(self, texts: pa.Array) -> tuple[Ids, npt.NDArray[np.int64]]:
        """Tokens of all texts one behind the other, and how many each has; `texts` has no nulls."""

    def _decode(self, rows: Sequence[Ids]) -> list[str]:
        """The texts of these rows of tokens, where `pieces` is None."""
        raise NotImplementedError

    @functools.cached_property
    def pieces(self) -> Pieces | None:
        """The bytes of every token, where the text of tokens is their bytes joined; None where more is done."""
        return None

    @functools.cached_property
    def byte_tokens(self) -> npt.NDArray[np.bool_]:
        """(vocabulary,) which tokens are a single byte of a character that takes several."""
        found = np.zeros(self.vocabulary, bool)
        if self.pieces is not None:
            single = [len(piece := self.pieces[token]) == 1 and piece[0] >= 0x80 for token in range(self.vocabulary)]
            found[:] = single
        return found

    @functools.cached_property
    def dtype(self) -> np.dtype[Any]:
        """uint16 or int32, little-endian: what shards hold."""
        return token_dtype(self.vocabulary)

    def facts(self) -> dict[str, Any]:
        """What a run notes about it; enough to open the file again and get the same tokens."""
        return {
            "kind": self.kind,
            "file": f"tokenizer/{self.file_name}",
            "digest": self.digest,
            "vocabulary": self.vocabulary,
            "special": self.special,
            "options": self.options.to_json(),
            "engine": self.engine,
        }

    def encode(self, texts: pa.Array | pa.ChunkedArray) -> pa.ListArray:
        """The tokens of each text, a list of uint16 or int32; no boundary token. A null text has no tokens.

        One thread: a run's processes are its parallelism.
        """
        if isinstance(texts, pa.ChunkedArray):
            texts = pa.concat_arrays(texts.chunks) if texts.num_chunks else pa.array([], pa.string())
        flat, lengths = self._encode(texts.fill_null("") if texts.null_count else texts)
        offsets = np.zeros(len(lengths) + 1, np.int32)
        np.cumsum(lengths, out=offsets[1:])
        native = self.dtype.newbyteorder("=")
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat.astype(native, copy=False)))

    def decode(self, tokens: Sequence[int] | Ids | pa.Array) -> str:
        """The text of these tokens. Special tokens give no text; bytes that are no UTF-8 (a cut in the middle of a
        character) give U+FFFD. Raises ValueError for an id that the vocabulary does not have."""
        ids = np.asarray(tokens, np.int64)
        if ((ids < 0) | (ids >= self.vocabulary)).any():
            raise ValueError(f"token ids lie from 0 to {self.vocabulary - 1}, not {ids.min()} to {ids.max()}")
        if self.pieces is not None:
            return self.pieces.join(ids).decode(errors="replace")
        return self._decode([ids])[0]

    def comes_back(self, texts: pa.Array | pa.ChunkedArray, tokens: pa.ListArray) -> npt.NDArray[np.bool_]:
        """(texts,) whether the tokens of each text decode to it."""
        if not len(tokens):
            return np.zeros(0, bool)
        if isinstance(texts, pa.ChunkedArray):
            texts = pa.concat_arrays(texts.chunks)
        texts = texts.fill_null("") if texts.null_count else texts
        if self.pieces is not None:
            return self.pieces.spell(texts, tokens)
        ends = tokens.offsets.to_numpy()
        values = tokens.values.to_numpy(zero_copy_only=False)
        decoded = self._decode([values[start:end] for start, end in itertools.pairwise(ends)])
        equal = pc.equal(pa.array(decoded, pa.large_string()), texts.cast(pa.large_string()))
        return np.asarray(equal.to_numpy(zero_copy_only=False))

    def roundtrip_failures(self, texts: pa.Array | pa.ChunkedArray, tokens: pa.ListArray) -> int:
        """How many of the texts their tokens do not decode to. 0 with a tokenizer that we trained."""
        return int(np.count_nonzero(~self.comes_back(texts, tokens)))


USUAL = {
    "eot": ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[EOS]", "<｜end▁of▁sentence｜>"),
    "bos": (
        "<|begin_of_text|>", "<s>", "<bos>", "<|startoftext|>", "<|bos|>", "[BOS]", "<｜begin▁of▁sentence｜>",
    ),
    "pad": ("<|pad|>", "<pad>", "[PAD]", "<|padding|>", "<|finetune_right_pad_id|>", "<｜▁pad▁｜>"),
    "unk": ("<unk>", "[UNK]", "<|unk|>", "<|UNK|>"),
}  # fmt: skip
"""The names that special tokens of a role have in tokenizers that are in use; the first one that is there counts."""


def size_of_vocabulary(name: str, largest: int) -> int:
    """How many tokens there are whose largest id is this one. Raises UserError where that is beyond all reason."""
    if largest >= MOST:
        raise UserError(f"{name} has the token id {largest:,}; token ids lie below {MOST:,}")
    return largest + 1


def by_role(name: str, known: Mapping[str, int], wanted: Mapping[str, str]) -> dict[str, int]:
    """The ids of special tokens by role, from their names. Raises UserError where there is no end-of-text token, or
    no token of a name that the user gave."""
    found: dict[str, int] = {}
    for role in ROLES:
        if role in wanted:
            if wanted[role] not in known:
                there = ", ".join(sorted(known)) or "none"
                raise UserError(
                    f"tokenizer.{role}: {name} has no special token {wanted[role]!r}."
                    f"{nearest(wanted[role], list(known))} Its special tokens: {there}"
                )
            found[role] = known[wanted[role]]
        else:
            usual = next((one for one in USUAL[role] if one in known), None)
            if usual is not None:
                found[role] = known[usual]
    if "eot" not in found:
        there = ", ".join(sorted(known)) or "none"
        raise UserError(
            f"{name} has no end-of-text token of a usual name, so documents could not be told apart in a shard. Say "
            f'which it is, as `tokenizer: {{eot: "<|endoftext|>"}}`. Its special tokens: {there}'
        )
    return found
