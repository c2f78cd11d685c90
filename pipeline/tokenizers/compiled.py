"""Byte-level BPE in one compiled pass over Arrow's UTF-8, for the patterns of GPT-4's family.

tiktoken spends most of its time in a regular expression and on words that it has merged before. Here a small automaton
cuts the words, by the same classes of characters (they are asked from tiktoken's own expressions), and a table keeps
the tokens of words that were seen; what is merged, and in which order, is what tiktoken merges. It is used only where
it gave the same ids on a sample, and a text with a very long word is left to tiktoken. The kernels are in `stages.bpe`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.bpe.cutting import Classes, Cut, end_of_word
from stages.bpe.kept import Kept, find, keep, kept
from stages.bpe.merging import LONGEST, Merges, Room, merge, merges, room
from stages.kernels import njit
from stages.text.column import texts as view_of
from stages.text.utf8 import Bytes

_KEPT = 64
"""Bytes of a word up to which its tokens are kept, unless it is a token itself."""
_WORDS = 1 << 18
"""Words whose tokens are kept, beside the vocabulary's own."""
_CHUNK = 4 << 20
"""Bytes of text that are encoded at once."""


class Words:
    """An encoder over ranks: see `pipeline.tokenizers.bpe.Core`, whose ids it gives."""

    def __init__(
        self, ranks: Mapping[bytes, int], cut: Cut, classes: Classes, ids: npt.NDArray[np.int64] | None
    ) -> None:
        """`ids` are the tokens by rank; without them they are the ranks."""
        self._cut, self._classes = cut, classes
        self._ids = (np.arange(max(ranks.values()) + 1) if ids is None else ids).astype(np.int32)
        self._merges, self._room = merges(ranks), room()
        # A word that is a token is it, merges or not.
        self._kept = kept({piece: rank for piece, rank in ranks.items() if len(piece) <= LONGEST}, _WORDS)

    def encode(self, texts: pa.Array, beyond: list[int]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """The tokens of all texts, of which none is null, one behind the other, and how many each has. Places of texts
        with a very long word are added to `beyond`, and these have no tokens."""
        view = view_of(texts)
        places = view.offsets
        lengths = np.zeros(len(texts), np.int64)
        found = [np.zeros(0, np.int32)]
        row = 0
        while row < len(texts):
            stop = max(row + 1, int(np.searchsorted(places, places[row] + _CHUNK, side="right")) - 1)
            out = np.empty(int(places[stop] - places[row]), np.int32)
            size = _encode(
                view.data, places[row : stop + 1], self._classes, self._cut, self._merges, self._room, self._kept,
                self._ids, out, lengths[row:stop],
            )  # fmt: skip
            found.append(out[:size].copy())
            row = stop
        long = np.flatnonzero(lengths < 0)
        beyond += long.tolist()
        lengths[long] = 0
        return np.concatenate(found), lengths


@njit
def _encode(
    data: Bytes,
    places: npt.NDArray[np.int64],
    classes: Classes,
    cut: Cut,
    table: Merges,
    room: Room,
    words: Kept,
    ids: npt.NDArray[np.int32],
    out: npt.NDArray[np.int32],
    lengths: npt.NDArray[np.int64],
) -> Any:
    """Writes the tokens of all texts to `out` and returns how many; the length of a text left to others is -1."""
    size = 0
    for row in range(len(lengths)):
        place, stop = places[row], places[row + 1]
        begun = size
        while place < stop:
            end = end_of_word(data, place, stop, classes, cut)
            if end - place > LONGEST:
                break
            record, key, slot = find(data, place, end, words)
            if record >= 0:
                for index in range(record + 2, record + 2 + words.book[record + 1]):
                    out[size] = ids[words.book[index]]
                    size += 1
            else:
                count = merge(data, place, end, table, room)
                for index in range(count):
                    out[size] = ids[room.symbols[index]]
                    size += 1
                if end - place <= _KEPT:
                    keep(data, place, end, room.symbols, count, key, slot, words)
            place = end
        lengths[row] = size - begun
        if place < stop:
            size = begun
            lengths[row] = -1
    return size
