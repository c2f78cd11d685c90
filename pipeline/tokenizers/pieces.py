"""The bytes of every token of a vocabulary, and whether rows of tokens spell given texts: one compiled pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.kernels import njit
from stages.text.column import texts as view_of
from stages.text.eight import eight_at, leading


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
        view = view_of(texts)
        found = np.zeros(len(texts), np.bool_)
        _spell(flat, ends, self._bytes, self._starts, view.data, view.offsets, found)
        return found


@njit
def _spell(
    flat: npt.NDArray[Any],
    ends: npt.NDArray[np.int32],
    pieces: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    letters: npt.NDArray[np.uint8],
    places: npt.NDArray[np.int64],
    found: npt.NDArray[np.bool_],
) -> None:
    for row in range(len(found)):
        place, stop = places[row], places[row + 1]
        equal = True
        for index in range(ends[row], ends[row + 1]):
            start = starts[flat[index]]
            size = starts[flat[index] + 1] - start
            if place + size > stop:
                equal = False
                break
            if size < 8 and place + 8 <= len(letters):  # nearly always, in a third of the time
                equal = leading(eight_at(pieces, start) ^ eight_at(letters, place), size) == np.uint64(0)
            else:
                for offset in range(size):
                    equal &= pieces[start + offset] == letters[place + offset]
            if not equal:
                break
            place += size
        found[row] = equal and place == stop
