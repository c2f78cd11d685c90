"""Byte-level BPE in one compiled pass over Arrow's UTF-8, for the patterns of GPT-4's family.

tiktoken spends most of its time in a regular expression and on words that it has merged before. Here a small automaton
cuts the words, by the same classes of characters (they are asked from tiktoken's own expressions), and a table keeps
the tokens of words that were seen; what is merged, and in which order, is what tiktoken merges. It is used only where
it gave the same ids on a sample, and a text with a very long word is left to tiktoken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.kernels import inline, njit

OTHER, LETTER, DIGIT, BLANK, NEWLINE = range(5)
LONGEST = 1 << 14
"""Most bytes of a word; a text with a longer one is left to tiktoken."""
_SHORT = 24
"""Bytes of a word up to which looking for the lowest rank costs less than keeping a heap."""
_KEPT = 64
"""Bytes of a word up to which its tokens are kept, unless it is a token itself."""
_WORDS = 1 << 18
"""Words whose tokens are kept, beside the vocabulary's own."""
_CHUNK = 4 << 20
"""Bytes of text that are encoded at once."""


class Cut(NamedTuple):
    """How a pattern of the family cuts text."""

    marks: bool
    """Whether marks are parts of words."""
    digits: int
    """Most digits of a piece."""
    tail: bool
    """Whether white space at the end of a text is one piece, newlines and all."""


_FORM = re.compile(
    r"(?:'\(\?i:\[sdmt\]\|ll\|ve\|re\)|\(\?i:'s\|'t\|'re\|'ve\|'m\|'ll\|'d\))"
    r"\|\[\^\\r\\n\\p\{L\}(?P<m1>\\p\{M\})?\\p\{N\}\]\?\+?(?:\\p\{L\}|(?P<m2>\[\\p\{L\}\\p\{M\}\]))\+\+?"
    r"\|\\p\{N\}(?P<digits>\{1,3\}\+?)?"
    r"\| \?\[\^\\s\\p\{L\}(?P<m3>\\p\{M\})?\\p\{N\}\]\+\+?\[\\r\\n\]\*\+?"
    r"(?P<tail>\|\\s\+\+\$)?\|\\s\*\[\\r\\n\]\+?\|\\s\+\(\?!\\S\)\|\\s\+?"
)


def cut_of(pattern: str) -> Cut | None:
    """What the automaton has to do for a regular expression, or None for one of another form."""
    found = _FORM.fullmatch(pattern)
    if found is None or len({found[name] is None for name in ("m1", "m2", "m3")}) > 1:
        return None
    return Cut(found["m1"] is not None, 3 if found["digits"] else 1, found["tail"] is not None)


class Words:
    """An encoder over ranks: see `pipeline.tokenizers.bpe.Core`, whose ids it gives."""

    def __init__(
        self,
        ranks: Mapping[bytes, int],
        cut: Cut,
        classes: npt.NDArray[np.uint8],
        ids: npt.NDArray[np.int64] | None,
    ) -> None:
        """`classes` says of each code point what it is; `ids` are the tokens by rank."""
        self._cut = np.array([cut.digits, cut.tail], np.int64)
        self._classes = classes
        top = max(ranks.values()) + 1
        self._ids = (np.arange(top) if ids is None else ids).astype(np.int32)
        self._bytes = np.array([ranks[bytes([byte])] for byte in range(256)], np.int32)
        pairs = {
            (left, right): rank
            for piece, rank in ranks.items()
            for place in range(1, len(piece))
            if (left := ranks.get(piece[:place])) is not None and (right := ranks.get(piece[place:])) is not None
        }
        size = 1 << (2 * len(pairs) + 2).bit_length()
        self._pairs = np.zeros(size, np.uint64)
        self._merged = np.zeros(size, np.int32)
        both = np.array(list(pairs), np.uint64).reshape(-1, 2)
        _fill_pairs(both, np.fromiter(pairs.values(), np.int32, len(pairs)), self._pairs, self._merged)
        own = [piece for piece in ranks if len(piece) <= LONGEST]  # a word that is a token is it, merges or not
        self._slots = np.zeros((1 << (2 * (len(own) + _WORDS)).bit_length(), 2), np.uint64)
        """Of each kept word its hash, and one more than the place of its record; 0 where there is none."""
        self._book = np.zeros(sum(3 + (len(piece) + 3) // 4 for piece in own) + 8 * _WORDS, np.int32)
        """Records, one behind the other: bytes of the word, how many tokens, these, and the word's bytes."""
        self._used = np.zeros(2, np.int64)
        """Words that are kept, and how much of the book they take."""
        joined = np.frombuffer(b"".join(own), np.uint8)
        ends = np.append(0, np.cumsum([len(piece) for piece in own]))
        _fill_words(joined, ends, np.array([ranks[piece] for piece in own], np.int32), *self._table())

    def _table(self) -> tuple[npt.NDArray[Any], ...]:
        return self._slots, self._book, self._book.view(np.uint8), self._used

    def encode(self, texts: pa.Array, beyond: list[int]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """The tokens of all texts, of which none is null, one behind the other, and how many each has. Places of texts
        with a very long word are added to `beyond`, and these have no tokens."""
        texts = texts.cast(pa.large_string())
        _, offsets, data = texts.buffers()
        places = np.frombuffer(offsets, np.int64, len(texts) + 1, 8 * texts.offset)
        letters = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
        lengths = np.zeros(len(texts), np.int64)
        found = [np.zeros(0, np.int32)]
        row = 0
        while row < len(texts):
            stop = max(row + 1, int(np.searchsorted(places, places[row] + _CHUNK, side="right")) - 1)
            out = np.empty(int(places[stop] - places[row]), np.int32)
            size = _encode(
                letters, places[row : stop + 1], self._classes, self._cut, self._bytes, self._pairs, self._merged,
                self._ids, *self._table(), out, lengths[row:stop],
            )  # fmt: skip
            found.append(out[:size].copy())
            row = stop
        long = np.flatnonzero(lengths < 0)
        beyond += long.tolist()
        lengths[long] = 0
        return np.concatenate(found), lengths


@inline
def _mix(left: np.uint64, right: np.uint64) -> Any:
    mixed = (left ^ (right * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xD6E8FEB86659FD93)
    return mixed ^ (mixed >> np.uint64(32))


@njit
def _fill_pairs(
    both: npt.NDArray[np.uint64],
    ranks: npt.NDArray[np.int32],
    pairs: npt.NDArray[np.uint64],
    merged: npt.NDArray[np.int32],
) -> None:
    mask = np.uint64(len(pairs) - 1)
    for index in range(len(both)):
        key = ((both[index, 0] << np.uint64(32)) | both[index, 1]) + np.uint64(1)
        slot = _mix(both[index, 0], both[index, 1]) & mask
        while pairs[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        pairs[slot] = key
        merged[slot] = ranks[index]


@inline
def _rank(pairs: npt.NDArray[np.uint64], merged: npt.NDArray[np.int32], left: int, right: int) -> Any:
    """The rank of two neighbours' merge, or a number above all ranks."""
    mask = np.uint64(len(pairs) - 1)
    key = ((np.uint64(left) << np.uint64(32)) | np.uint64(right)) + np.uint64(1)
    slot = _mix(np.uint64(left), np.uint64(right)) & mask
    while pairs[slot] != 0:
        if pairs[slot] == key:
            return np.int64(merged[slot])
        slot = (slot + np.uint64(1)) & mask
    return np.int64(0x7FFFFFFF)


@inline
def _hash(data: npt.NDArray[np.uint8], start: int, stop: int) -> Any:
    state = np.uint64(0xCBF29CE484222325)
    for place in range(start, stop):
        state = (state ^ np.uint64(data[place])) * np.uint64(0x100000001B3)
    return _mix(state, np.uint64(stop - start))


@inline
def _find(
    data: npt.NDArray[np.uint8],
    start: int,
    stop: int,
    key: np.uint64,
    slots: npt.NDArray[np.uint64],
    book: npt.NDArray[np.int32],
    letters: npt.NDArray[np.uint8],
) -> Any:
    """(where the record of a kept word begins or -1, its slot or the free one that it would have)."""
    mask = np.uint64(len(slots) - 1)
    slot = key & mask
    while slots[slot, 1] != 0:
        if slots[slot, 0] == key:
            record = np.int64(slots[slot, 1]) - 1
            if book[record] == stop - start:
                first = 4 * (record + 2 + book[record + 1])
                equal = True
                for offset in range(stop - start):
                    if letters[first + offset] != data[start + offset]:
                        equal = False
                        break
                if equal:
                    return record, np.int64(slot)
        slot = (slot + np.uint64(1)) & mask
    return np.int64(-1), np.int64(slot)


@inline
def _keep(
    data: npt.NDArray[np.uint8],
    start: int,
    stop: int,
    tokens: npt.NDArray[np.int32],
    count: int,
    key: np.uint64,
    slot: int,
    slots: npt.NDArray[np.uint64],
    book: npt.NDArray[np.int32],
    letters: npt.NDArray[np.uint8],
    used: npt.NDArray[np.int64],
) -> None:
    """Keeps the tokens of a word, if there is room."""
    record = used[1]
    first = record + 2 + count
    behind = first + (stop - start + 3) // 4
    if 2 * (used[0] + 1) > len(slots) or behind > len(book):
        return
    book[record], book[record + 1] = stop - start, count
    for index in range(count):
        book[record + 2 + index] = tokens[index]
    for offset in range(stop - start):
        letters[4 * first + offset] = data[start + offset]
    slots[slot, 0], slots[slot, 1] = key, record + 1
    used[0], used[1] = used[0] + 1, behind


@njit
def _fill_words(
    data: npt.NDArray[np.uint8],
    ends: npt.NDArray[np.int64],
    ranks: npt.NDArray[np.int32],
    slots: npt.NDArray[np.uint64],
    book: npt.NDArray[np.int32],
    letters: npt.NDArray[np.uint8],
    used: npt.NDArray[np.int64],
) -> None:
    for index in range(len(ranks)):
        start, stop = ends[index], ends[index + 1]
        key = _hash(data, start, stop)
        _, slot = _find(data, start, stop, key, slots, book, letters)
        _keep(data, start, stop, ranks[index : index + 1], 1, key, slot, slots, book, letters, used)


@inline
def _class(data: npt.NDArray[np.uint8], place: int, classes: npt.NDArray[np.uint8]) -> Any:
    """(the class of the character here, its bytes)."""
    byte = np.int64(data[place])
    if byte < 0x80:
        return np.int64(classes[byte]), 1
    if byte < 0xE0:
        return np.int64(classes[((byte & 0x1F) << 6) | (data[place + 1] & 0x3F)]), 2
    if byte < 0xF0:
        return np.int64(classes[((byte & 0x0F) << 12) | ((data[place + 1] & 0x3F) << 6) | (data[place + 2] & 0x3F)]), 3
    high = ((byte & 0x07) << 18) | ((data[place + 1] & 0x3F) << 12)
    return np.int64(classes[high | ((data[place + 2] & 0x3F) << 6) | (data[place + 3] & 0x3F)]), 4


@inline
def _run(data: npt.NDArray[np.uint8], place: int, stop: int, classes: npt.NDArray[np.uint8], of: int) -> Any:
    """Where characters of a class end."""
    while place < stop:
        kind, size = _class(data, place, classes)
        if kind != of:
            break
        place += size
    return place


@inline
def _next(
    data: npt.NDArray[np.uint8], place: int, stop: int, classes: npt.NDArray[np.uint8], cut: npt.NDArray[np.int64]
) -> Any:
    """Where the word that begins here ends; the alternatives of the pattern in their order."""
    kind, size = _class(data, place, classes)
    if data[place] == 0x27 and place + 1 < stop:  # '
        one = data[place + 1] | 0x20
        if one == 0x73 or one == 0x64 or one == 0x6D or one == 0x74:  # s d m t
            return place + 2
        if place + 2 < stop:
            if data[place + 1] == 0xC5 and data[place + 2] == 0xBF:  # U+017F, an s without regard to case
                return place + 3
            two = data[place + 2] | 0x20
            if (one == 0x6C and two == 0x6C) or ((one == 0x76 or one == 0x72) and two == 0x65):  # ll ve re
                return place + 3
    if kind == LETTER:
        return _run(data, place + size, stop, classes, LETTER)
    behind, width = OTHER, 0
    if place + size < stop:
        behind, width = _class(data, place + size, classes)
        if behind == LETTER and kind in (OTHER, BLANK):
            return _run(data, place + size + width, stop, classes, LETTER)
    if kind == DIGIT:
        end, left = place + size, cut[0] - 1
        while left > 0 and end < stop:
            other, width = _class(data, end, classes)
            if other != DIGIT:
                break
            end += width
            left -= 1
        return end
    if kind == OTHER or (data[place] == 0x20 and width > 0 and behind == OTHER):
        end = _run(data, place + size, stop, classes, OTHER)
        return _run(data, end, stop, classes, NEWLINE)
    end, newline, last = place, -1, place
    while end < stop:
        kind, size = _class(data, end, classes)
        if kind != BLANK and kind != NEWLINE:
            break
        last = end
        end += size
        if kind == NEWLINE:
            newline = end
    if end == stop and cut[1]:
        return end
    if newline > 0:
        return newline
    return end if end == stop or last == place else last


@inline
def _merge(
    data: npt.NDArray[np.uint8],
    start: int,
    stop: int,
    single: npt.NDArray[np.int32],
    pairs: npt.NDArray[np.uint64],
    merged: npt.NDArray[np.int32],
    symbols: npt.NDArray[np.int32],
    ranks: npt.NDArray[np.int64],
) -> Any:
    """Merges the bytes of a word, the lowest rank first and of equal ones the leftmost; how many tokens are left."""
    count = stop - start
    for index in range(count):
        symbols[index] = single[data[start + index]]
    for index in range(count - 1):
        ranks[index] = _rank(pairs, merged, symbols[index], symbols[index + 1])
    while count > 1:
        best = 0
        for index in range(1, count - 1):
            if ranks[index] < ranks[best]:
                best = index
        if ranks[best] == 0x7FFFFFFF:
            break
        symbols[best] = ranks[best]
        count -= 1
        for index in range(best + 1, count):
            symbols[index] = symbols[index + 1]
        for index in range(best + 1, count - 1):
            ranks[index] = ranks[index + 1]
        if best < count - 1:
            ranks[best] = _rank(pairs, merged, symbols[best], symbols[best + 1])
        if best > 0:
            ranks[best - 1] = _rank(pairs, merged, symbols[best - 1], symbols[best])
    return count


@inline
def _push(heap: npt.NDArray[np.int64], size: int, key: int) -> Any:
    place = size
    while place > 0 and heap[(place - 1) // 2] > key:
        heap[place] = heap[(place - 1) // 2]
        place = (place - 1) // 2
    heap[place] = key
    return size + 1


@inline
def _pop(heap: npt.NDArray[np.int64], size: int) -> Any:
    """Takes the least key off the heap; the new size."""
    size -= 1
    key, place = heap[size], 0
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = key
    return size


@inline
def _merge_long(
    data: npt.NDArray[np.uint8],
    start: int,
    stop: int,
    single: npt.NDArray[np.int32],
    pairs: npt.NDArray[np.uint64],
    merged: npt.NDArray[np.int32],
    symbols: npt.NDArray[np.int32],
    ranks: npt.NDArray[np.int64],
    links: npt.NDArray[np.int64],
    heap: npt.NDArray[np.int64],
) -> Any:
    """As `_merge`, by a heap of ranks and places. `ranks` holds the present rank of each place and its neighbour, by
    which keys that are out of date are known."""
    count, size = stop - start, 0
    for index in range(count):
        symbols[index] = single[data[start + index]]
        links[index, 0], links[index, 1] = index - 1, index + 1
    for index in range(count - 1):
        ranks[index] = _rank(pairs, merged, symbols[index], symbols[index + 1])
        if ranks[index] != 0x7FFFFFFF:
            size = _push(heap, size, (ranks[index] << 16) | index)
    ranks[count - 1] = 0x7FFFFFFF
    while size > 0:
        key = heap[0]
        size = _pop(heap, size)
        place = key & 0xFFFF
        if ranks[place] != key >> 16:
            continue
        gone = links[place, 1]
        symbols[place] = ranks[place]
        ranks[place] = ranks[gone] = 0x7FFFFFFF
        behind, before = links[gone, 1], links[place, 0]
        links[place, 1] = behind
        if behind < count:
            links[behind, 0] = place
            ranks[place] = _rank(pairs, merged, symbols[place], symbols[behind])
            if ranks[place] != 0x7FFFFFFF:
                size = _push(heap, size, (ranks[place] << 16) | place)
        if before >= 0:
            ranks[before] = _rank(pairs, merged, symbols[before], symbols[place])
            if ranks[before] != 0x7FFFFFFF:
                size = _push(heap, size, (ranks[before] << 16) | before)
    place = left = 0
    while place < count:
        symbols[left] = symbols[place]
        place = links[place, 1]
        left += 1
    return left


@njit
def _encode(
    data: npt.NDArray[np.uint8],
    places: npt.NDArray[np.int64],
    classes: npt.NDArray[np.uint8],
    cut: npt.NDArray[np.int64],
    single: npt.NDArray[np.int32],
    pairs: npt.NDArray[np.uint64],
    merged: npt.NDArray[np.int32],
    ids: npt.NDArray[np.int32],
    slots: npt.NDArray[np.uint64],
    book: npt.NDArray[np.int32],
    letters: npt.NDArray[np.uint8],
    used: npt.NDArray[np.int64],
    out: npt.NDArray[np.int32],
    lengths: npt.NDArray[np.int64],
) -> Any:
    """Writes the tokens of all texts to `out` and returns how many; the length of a text left to others is -1."""
    symbols, ranks = np.empty(LONGEST + 1, np.int32), np.empty(LONGEST + 1, np.int64)
    links, heap = np.empty((LONGEST + 1, 2), np.int64), np.empty(3 * LONGEST, np.int64)
    size = 0
    for row in range(len(lengths)):
        place, stop = places[row], places[row + 1]
        begun = size
        while place < stop:
            end = _next(data, place, stop, classes, cut)
            if end - place > LONGEST:
                break
            key = _hash(data, place, end)
            record, slot = _find(data, place, end, key, slots, book, letters)
            if record >= 0:
                for index in range(record + 2, record + 2 + book[record + 1]):
                    out[size] = ids[book[index]]
                    size += 1
            else:
                if end - place <= _SHORT:
                    count = _merge(data, place, end, single, pairs, merged, symbols, ranks)
                else:
                    count = _merge_long(data, place, end, single, pairs, merged, symbols, ranks, links, heap)
                for index in range(count):
                    out[size] = ids[symbols[index]]
                    size += 1
                if end - place <= _KEPT:
                    _keep(data, place, end, symbols, count, key, slot, slots, book, letters, used)
            place = end
        lengths[row] = size - begun
        if place < stop:
            size = begun
            lengths[row] = -1
    return size
