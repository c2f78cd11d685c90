"""The bytes of every token of a vocabulary, and whether rows of tokens spell given texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


class Pieces:
    """The bytes of each token, one behind the other."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        """`pieces` by token id; a special token has none."""
        self._starts = np.zeros(len(pieces) + 1, np.int64)
        np.cumsum([len(piece) for piece in pieces], out=self._starts[1:])
        self._bytes = np.frombuffer(b"".join(pieces) + bytes(8), np.uint8)
        """With eight bytes behind, so that eight can be read where each piece begins."""

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, token: int) -> bytes:
        return self._bytes[self._starts[token] : self._starts[token + 1]].tobytes()

    def join(self, tokens: npt.NDArray[Any]) -> bytes:
        """What these tokens spell."""
        return b"".join(self[int(token)] for token in tokens)

    def lengths(self) -> npt.NDArray[np.int64]:
        """(vocabulary,) bytes of each token."""
        return np.diff(self._starts)

    def spell(self, texts: pa.Array, tokens: pa.ListArray) -> npt.NDArray[np.bool_]:
        """(texts,) whether each text, of which none is null, is what its row of tokens spells."""
        ends = tokens.offsets.to_numpy()
        flat = tokens.values.to_numpy(zero_copy_only=False)
        if len(flat) and int(flat.max()) >= len(self):
            raise ValueError(f"token ids lie from 0 to {len(self) - 1}, not to {flat.max()}")
        # These bring the compiler, which who only decodes does not need.
        from pipeline.tokenizers.spelling import spell
        from stages.text.column import texts as view_of

        view = view_of(texts)
        found = np.zeros(len(texts), np.bool_)
        spell(flat, ends, self._bytes, self._starts, view.data, view.offsets, found)
        return found
