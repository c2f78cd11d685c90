"""The tokenizer: SentencePiece, loaded from its bytes, encoding whole batches of text.

Text goes in as it is and comes out as it was: tokens decode to the exact text for every Unicode string,
with the models that `pipeline.tokenizer_training` makes. What looks like a special token in a text
(`</s>`, `<0x0A>`) is text.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import sentencepiece

from pipeline.errors import UserError
from pipeline.shards import token_dtype
from pipeline.tokenizer_training import sample, train

__all__ = ["Figures", "Tokenizer", "sample", "train"]

SPACE = "▁"  # U+2581, which SentencePiece writes for a space in its pieces
_SPACE_BYTES = ("<0xE2>", "<0x96>", "<0x81>")


class Figures(NamedTuple):
    """What a tokenizer made of some texts."""

    documents: int
    characters: int
    """Unicode code points."""
    tokens: int
    unknown: int
    """Tokens that are `unk`: text that the model has no piece and no bytes for."""

    @property
    def characters_per_token(self) -> float:
        """More is better; 0 where there is no token."""
        return self.characters / self.tokens if self.tokens else 0.0

    @property
    def unknown_share(self) -> float:
        """Unknown tokens over tokens."""
        return self.unknown / self.tokens if self.tokens else 0.0


class Tokenizer:
    """A SentencePiece model, ready for use."""

    def __init__(self, model: bytes, name: str = "the tokenizer") -> None:
        """Raises UserError where `model` is none, or has no end-of-text token; `name` is what messages say."""
        try:
            if not model:
                raise RuntimeError("the file is empty")
            self._model = sentencepiece.SentencePieceProcessor(model_proto=model)
            self.vocabulary = int(self._model.get_piece_size())
        except RuntimeError as error:
            raise UserError(f"{name} is no SentencePiece model, or is cut short ({error})") from error
        roles = {
            "unk": self._model.unk_id(),
            "bos": self._model.bos_id(),
            "eot": self._model.eos_id(),
            "pad": self._model.pad_id(),
        }
        self.special: dict[str, int] = {role: token for role, token in roles.items() if token >= 0}
        """Token ids by role: `unk`, `bos`, `eot`, `pad`; a role that the model lacks is absent."""
        if "eot" not in self.special:
            raise UserError(
                f"{name} has no end-of-text token (eos_id is -1), so documents could not be told apart in a shard. "
                "Train it with an eos_id, or let the recipe train one: `tokenizer: {train: {vocabulary: 32000}}`."
            )
        self.dtype = token_dtype(self.vocabulary)
        """uint16 or int32, little-endian: what shards hold."""

    @classmethod
    def from_bytes(cls, model: bytes) -> Tokenizer:
        """The tokenizer of a serialized `.model`. Raises UserError where it is none."""
        return cls(model)

    @classmethod
    def from_file(cls, path: str | Path) -> Tokenizer:
        """The tokenizer of a `.model` file. Raises UserError where it cannot be read or is none."""
        try:
            model = Path(path).read_bytes()
        except OSError as error:
            raise UserError(f"tokenizer.file: {path} cannot be read: {error.strerror}") from error
        return cls(model, str(path))

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over pieces, scores and kinds, and how spaces and letters are normalised: what decides tokens.

        Not over the file, which also holds the training's settings.
        """
        digest = hashlib.sha256()
        model = self._model
        for token in range(self.vocabulary):
            piece = model.id_to_piece(token).encode()
            kinds = (model.is_unknown, model.is_control, model.is_unused, model.is_byte)
            flags = sum(kind(token) << place for place, kind in enumerate(kinds))
            digest.update(struct.pack("<IBf", len(piece), flags, model.get_score(token)) + piece)
        for probe in (" a  b ", "ﬁ½Ａe\u0301", "\n\t"):
            digest.update(model.normalize(probe).encode() + b"\0")
        digest.update(struct.pack("<4i", *(self.special.get(role, -1) for role in ("unk", "bos", "eot", "pad"))))
        return digest.hexdigest()

    def encode(self, texts: pa.Array | pa.ChunkedArray) -> pa.ListArray:
        """The tokens of each text, a list of uint16 or int32; no boundary token. A null text has no tokens.

        One thread: a run's processes are its parallelism.
        """
        if isinstance(texts, pa.ChunkedArray):
            texts = pa.concat_arrays(texts.chunks) if texts.num_chunks else pa.array([], pa.string())
        texts = texts.fill_null("")
        data: list[bytes] = texts.cast(pa.binary()).to_pylist()  # bytes save SentencePiece's binding a conversion
        encoded = list(self._model.encode(data, return_type="numpy", num_threads=1))
        if self._spells_space:
            for row in np.flatnonzero(pc.match_substring(texts, SPACE).to_numpy(zero_copy_only=False)).tolist():
                encoded[row] = self._around_spaces(data[row])
        offsets = np.zeros(len(encoded) + 1, np.int32)
        np.cumsum([len(tokens) for tokens in encoded], out=offsets[1:])
        flat = np.concatenate([np.zeros(0, np.int32), *encoded]).astype(self.dtype.newbyteorder("="))
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat))

    def decode(self, tokens: Sequence[int] | npt.NDArray[Any] | pa.Array) -> str:
        """The text of these tokens. Special tokens give no text, but `unk`, which gives ` ⁇ `; bytes that are
        no UTF-8 (a cut in the middle of a character) give U+FFFD. Raises ValueError for an id that the
        vocabulary does not have."""
        ids = np.asarray(tokens, np.int64)
        if ((ids < 0) | (ids >= self.vocabulary)).any():
            raise ValueError(f"token ids lie from 0 to {self.vocabulary - 1}, not {ids.min()} to {ids.max()}")
        return str(self._model.decode(ids.tolist()))

    def roundtrip_failures(self, texts: pa.Array | pa.ChunkedArray, tokens: pa.ListArray) -> int:
        """How many of the texts their tokens do not decode to. 0 with a model that we trained."""
        if not len(tokens):
            return 0
        ends = tokens.offsets.to_numpy()
        values = tokens.values.to_numpy(zero_copy_only=False).astype(np.int32)
        # arrays, which are half the time of lists of Python integers
        decoded = self._model.decode([values[a:b] for a, b in itertools.pairwise(ends)], num_threads=1)
        wrong = pc.not_equal(pa.array(decoded, pa.large_string()), texts.cast(pa.large_string()).fill_null(""))
        return int(pc.sum(wrong).as_py() or 0)

    def figures(
        self, groups: pa.Array | pa.ChunkedArray, texts: pa.Array | pa.ChunkedArray, tokens: pa.ListArray
    ) -> dict[str, Figures]:
        """The figures of each group: `groups` (a source or language column) has an entry for each text; a null
        one is the group `""`."""
        unknown = np.zeros(len(tokens), np.int64)
        if "unk" in self.special:
            hits = tokens.flatten().to_numpy(zero_copy_only=False) == self.special["unk"]
            ends = np.append(0, np.cumsum(hits))
            lengths = pc.list_value_length(tokens).to_numpy(zero_copy_only=False)
            stops = np.cumsum(lengths)
            unknown = ends[stops] - ends[stops - lengths]
        columns = {
            "group": pc.fill_null(groups.cast(pa.string()), ""),
            "documents": np.ones(len(tokens), np.int64),
            "characters": pc.utf8_length(texts.fill_null("")).cast(pa.int64()),
            "tokens": pc.list_value_length(tokens).cast(pa.int64()),
            "unknown": unknown,
        }
        table = pa.table(columns).group_by("group").aggregate([(name, "sum") for name in Figures._fields])
        return {row.pop("group"): Figures(*row.values()) for row in table.sort_by("group").to_pylist()}

    @functools.cached_property
    def _spells_space(self) -> bool:
        """Whether a U+2581 of the text must be spelt in bytes to come back: a model that keeps text as it is,
        and has the bytes. To others it is lost with much else, and their own tokens are what users expect."""
        model = self._model
        as_it_is = model.normalize(" a  b ") == "▁a▁▁b▁"
        return as_it_is and all(model.is_byte(model.piece_to_id(piece)) for piece in _SPACE_BYTES)

    def _around_spaces(self, text: bytes) -> npt.NDArray[np.int32]:
        """The tokens of a text with U+2581 in it, which SentencePiece itself would decode as a space."""
        mark = np.array([self._model.piece_to_id(piece) for piece in _SPACE_BYTES], np.int32)
        found = []
        for part in self._model.encode(text.split(SPACE.encode()), return_type="numpy", num_threads=1):
            found += [part, mark]
        return np.concatenate(found[:-1])
