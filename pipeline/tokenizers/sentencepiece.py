"""SentencePiece models, unigram and BPE, run by SentencePiece itself.

With the models that `training` makes, tokens decode to the exact text for every Unicode string.
"""

from __future__ import annotations

import functools
import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import sentencepiece

from pipeline.errors import UserError, nearest
from pipeline.tokenizers.base import Ids, Options, Tokenizer
from pipeline.tokenizers.pieces import Pieces

SPACE = "▁"  # U+2581, which SentencePiece writes for a space in its pieces
_SPACE_BYTES = ("<0xE2>", "<0x96>", "<0x81>")


class SentencePiece(Tokenizer):
    """A SentencePiece model."""

    kind = "sentencepiece"
    file_name = "tokenizer.model"

    def __init__(self, model: bytes, name: str = "the tokenizer", options: Options | None = None) -> None:
        """Raises UserError where `model` is none, or has no end-of-text token; `name` is what messages say."""
        self.options = options or Options()
        self.engine = {"name": self.kind, "why": None}
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
        roles |= self._given(self.options.roles, name)
        self.special = {role: token for role, token in roles.items() if token >= 0}
        if "eot" not in self.special:
            raise UserError(
                f"{name} has no end-of-text token (eos_id is -1), so documents could not be told apart in a shard. "
                'Train it with an eos_id, say which of its special tokens it is, as `tokenizer: {eot: "<eot>"}`, or '
                "let the recipe train one: `tokenizer: {train: {vocabulary: 32000}}`."
            )

    def _given(self, roles: Mapping[str, str], name: str) -> dict[str, int]:
        """The pieces that the user named for roles: control symbols, since no text may turn into them."""
        model = self._model
        control = [model.id_to_piece(one) for one in range(self.vocabulary) if model.is_control(one)] if roles else []
        for role, piece in roles.items():
            if piece not in control and not (role == "unk" and model.is_unknown(model.piece_to_id(piece))):
                raise UserError(
                    f"tokenizer.{role}: {name} has no control symbol {piece!r}.{nearest(piece, control)} "
                    f"Its control symbols: {', '.join(control) or 'none'}"
                )
        return {role: int(model.piece_to_id(piece)) for role, piece in roles.items()}

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

    def piece(self, token: int) -> str:
        """The piece as SentencePiece writes it, spaces as U+2581, bytes as <0x0A>."""
        return str(self._model.id_to_piece(token))

    @functools.cached_property
    def byte_tokens(self) -> npt.NDArray[np.bool_]:
        """(vocabulary,) which tokens are single bytes, for text that has no piece."""
        return np.array([self._model.is_byte(token) for token in range(self.vocabulary)], bool)

    @functools.cached_property
    def pieces(self) -> Pieces | None:
        """The bytes of the pieces of a model that keeps text as it is."""
        if not self._as_it_is:
            return None
        model = self._model
        found = []
        for token in range(self.vocabulary):
            piece = model.id_to_piece(token)
            if model.is_byte(token):
                found.append(bytes([int(piece[3:5], 16)]))
            elif model.is_unknown(token):
                found.append(model.decode([token]).encode())
            else:
                found.append(b"" if model.is_control(token) else piece.replace(SPACE, " ").encode())
        return Pieces(found)

    def _encode(self, texts: pa.Array) -> tuple[Ids, npt.NDArray[np.int64]]:
        data: list[bytes] = texts.cast(pa.binary()).to_pylist()  # bytes save SentencePiece's binding a conversion
        encoded = list(self._model.encode(data, return_type="numpy", num_threads=1))
        if self._spells_space:
            mark = SPACE.encode()
            for row, text in enumerate(data):
                if mark in text:
                    encoded[row] = self._around_spaces(text)
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        return np.concatenate([np.zeros(0, np.int32), *encoded]), lengths

    def _decode(self, rows: Sequence[Ids]) -> list[str]:
        # arrays, which are half the time of lists of Python integers
        arrays: Any = [np.asarray(row, np.int32) for row in rows]
        return list(self._model.decode(arrays, num_threads=1))

    @functools.cached_property
    def _as_it_is(self) -> bool:
        """Whether the model neither adds, removes nor changes spaces, so that a text is its pieces joined."""
        return bool(self._model.normalize(" a  b ") == "▁a▁▁b▁")

    @functools.cached_property
    def _spells_space(self) -> bool:
        """Whether a U+2581 of the text must be spelt in bytes to come back: a model that keeps text as it is,
        and has the bytes. To others it is lost with much else, and their own tokens are what users expect."""
        model = self._model
        return self._as_it_is and all(model.is_byte(model.piece_to_id(piece)) for piece in _SPACE_BYTES)

    def _around_spaces(self, text: bytes) -> npt.NDArray[np.int32]:
        """The tokens of a text with U+2581 in it, which SentencePiece itself would decode as a space."""
        mark = np.array([self._model.piece_to_id(piece) for piece in _SPACE_BYTES], np.int32)
        found: list[Any] = []
        for part in self._model.encode(text.split(SPACE.encode()), return_type="numpy", num_threads=1):
            found += [part, mark]
        return np.concatenate(found[:-1])
