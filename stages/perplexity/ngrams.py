"""N-gram models with back-off as KenLM lays them out (Heafield 2011): read where they lie, or made from an ARPA file.

All is 32-bit words. A table of the vocabulary (64-bit hash of a word, its number), then two floats for each word
(logarithm of its probability to base 10, back-off), then a table for each longer n-gram (64-bit hash of its words'
numbers, the same two floats; for the longest no back-off). A table is open addressing with linear probing, its
hash modulo its size; the hash 0 is an empty slot. KenLM's `build_binary` writes this, unless asked for a trie.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.kernels import inline, njit
from stages.text.utf8 import Bytes

Words = npt.NDArray[np.uint32]
Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

_MAGIC = b"mmap lm http://kheafield.com/code format version "
_REFERENCE = (_MAGIC + b"5\n").ljust(56, b"\0") + struct.pack("<3f3IQ", 0.0, 1.0, -0.5, 1, 0xFFFFFFFF, 0, 1)
_KINDS = ("", "probing with rest costs", "a trie", "a quantised trie", "an array trie", "a quantised array trie")
_MURMUR = np.uint64(0xC6A4A7935BD1E995)
MIX_1, MIX_2 = np.uint64(8978948897894561157), np.uint64(17894857484156487943)
"""By which the hash of an n-gram is made from its words, the newest first."""
_NO_UNKNOWN = -100.0
"""What a word costs that is not in a vocabulary without `<unk>`, as KenLM has it."""
_MOST_ORDER = 12


class Ngrams(NamedTuple):
    """A model. Kernels take the parts as arguments."""

    words: Words
    """All of it, as integers."""
    floats: npt.NDArray[np.float32]
    """All of it, as floats."""
    places: Ints
    """(order + 1,) where in the words the vocabulary's table, the single words and each longer n-gram's table begin."""
    slots: Ints
    """(order + 1,) how many slots or entries each of these has."""
    begin: int
    """Number of `<s>`."""
    end: int
    """Number of `</s>`."""


def read(data: bytes) -> Ngrams:
    """The model in a binary or ARPA file of KenLM, which may be gzipped. Raises ValueError where it is none."""
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"the gzip file is broken: {error}") from None
    if data.startswith(b"mmap lm "):
        return _binary(data)
    if data[:1000].lstrip().startswith(b"\\data\\"):
        return _arpa(data)
    raise ValueError(f"it begins neither as KenLM's binary files nor as ARPA files, but with {data[:20]!r}")


def _binary(data: bytes) -> Ngrams:
    if data[: len(_REFERENCE)] != _REFERENCE:
        raise ValueError("it is cut off, or of another version or machine than `build_binary` of KenLM 5 writes")
    try:
        order, multiplier, kind, _, version = struct.unpack_from("<B3xfIB3xI", data, len(_REFERENCE))
        counts = struct.unpack_from(f"<{order}Q", data, len(_REFERENCE) + 20)
    except struct.error:
        raise ValueError("it is cut off") from None
    if kind:
        name = _KINDS[kind] if kind < len(_KINDS) else f"of an unknown kind {kind}"
        raise ValueError(f"it is {name}; the form that can be read is what `build_binary FILE.arpa FILE.bin` writes")
    if not (2 <= order <= _MOST_ORDER and 1 <= multiplier < 100 and version == 0):
        raise ValueError("its header is damaged")
    if max(counts) > len(data):
        raise ValueError("it is cut off, or its header is damaged")
    start = (len(_REFERENCE) + 20 + 8 * order + 7) // 8 * 8
    slots = _slots(counts, multiplier)
    places = _places(slots, start // 4 + 2)  # before the vocabulary stand its version and bound
    needed = 4 * int(places[-1] + 3 * slots[-1])
    if len(data) < needed:
        raise ValueError(f"it is cut off: it has {len(data):,} bytes, and its header says {needed:,}")
    return _model(np.frombuffer(data, np.uint32, needed // 4), places, slots)


def _slots(counts: tuple[int, ...], multiplier: float) -> Ints:
    tables = [max(n + 1, int(np.float32(multiplier) * np.float32(n))) for n in counts]
    return np.array([tables[0], counts[0] + 1, *tables[1:]], np.int64)


def _places(slots: Ints, first: int) -> Ints:
    sizes = [3, 2, *[4] * (len(slots) - 3), 3]
    ends = first + np.cumsum(slots * sizes)
    return np.array([first, *ends[:-1]], np.int64)


def _model(words: Words, places: Ints, slots: Ints) -> Ngrams:
    words.setflags(write=False)
    floats = words.view(np.float32)
    numbers = words[places[0] + 2 : places[1] : 3]
    if not np.isfinite(floats[places[1] : places[2]]).all() or numbers.max(initial=0) >= slots[1]:
        raise ValueError("its words are damaged")
    found = np.zeros(2, np.int64)
    said = np.frombuffer(b"<s></s>", np.uint8)
    for which, (at, end) in enumerate(((0, 3), (3, 7))):
        found[which] = number_of(words, places[0], slots[0], said, at, end)
        if not found[which]:
            raise ValueError("its vocabulary has no <s> or no </s>")
    return Ngrams(words, floats, places, slots, int(found[0]), int(found[1]))


def _arpa(data: bytes) -> Ngrams:
    counts: list[int] = []
    numbers: dict[bytes, int] = {b"<unk>": 0}
    grams: list[list[tuple[int, ...]]] = []
    weights: list[list[tuple[float, float]]] = []
    size = 0
    ended = False
    for place, line in enumerate(data.split(b"\n"), 1):
        parts = line.split()
        if not parts or (len(parts) == 1 and parts[0] == b"\\data\\"):
            continue
        try:
            if size == 0 and parts[0] == b"ngram":
                counts.append(int(line.partition(b"=")[2]))
            elif parts[0] == b"\\end\\":
                ended = True
                break
            elif parts[0] == b"\\%d-grams:" % (size + 1):
                size += 1
                grams.append([])
                weights.append([])
            else:
                said = parts[1 : 1 + size]
                chance, back = float(parts[0]), float(parts[1 + size]) if len(parts) > 1 + size else 0.0
                if len(said) < size or len(parts) > 2 + size or not size or chance > 0 or math.isnan(chance + back):
                    raise ValueError
                if size == 1:
                    numbers.setdefault(said[0], len(numbers))
                grams[-1].append(tuple(numbers[word] for word in said))
                weights[-1].append((chance, back))
        except (ValueError, KeyError, IndexError):
            raise ValueError(f"line {place} of the ARPA file cannot be meant: {line[:60]!r}") from None
    if not ended or [len(found) for found in grams] != counts:
        told = ", ".join(map(str, counts))
        raise ValueError(f"it is cut off: it says {told} n-grams, and has {', '.join(str(len(g)) for g in grams)}")
    if not 2 <= size <= _MOST_ORDER:
        raise ValueError(f"its n-grams have up to {size} words; 2 to {_MOST_ORDER} can be read")
    slots = _slots((len(numbers), *counts[1:]), 1.5)
    places = _places(slots, 0)
    words = np.zeros(places[-1] + 3 * slots[-1], np.uint32)
    pool = np.frombuffer(b"".join(numbers), np.uint8)
    ends = np.cumsum([0, *map(len, numbers)]).astype(np.int64)
    hashes = np.array([murmur(pool, ends[n], ends[n + 1]) for n in range(1, len(numbers))], np.uint64)
    put(words, places[0], slots[0], 3, hashes, np.arange(1, len(numbers), dtype=np.uint32).reshape(-1, 1))
    single = np.zeros((len(numbers) + 1, 2), np.float32)
    single[0] = _NO_UNKNOWN, 0
    single[[gram[0] for gram in grams[0]]] = weights[0]
    words[places[1] : places[2]] = single.view(np.uint32).ravel()
    before: Hashes = np.zeros(0, np.uint64)
    for n in range(2, size + 1):
        table = np.array(grams[n - 1], np.uint64).reshape(-1, n)
        keys = table[:, -1]
        for column in range(n - 2, -1, -1):
            if column == 0 and n > 2 and not np.isin(keys, before).all():
                raise ValueError(f"some {n}-grams have no entry for their last {n - 1} words; `build_binary` adds them")
            keys = keys * MIX_1 ^ (table[:, column] + np.uint64(1)) * MIX_2
        own = np.array(weights[n - 1], np.float32).reshape(-1, 2)[:, : 1 if n == size else 2]
        values = np.ascontiguousarray(own).view(np.uint32)
        put(words, places[n], slots[n], 3 if n == size else 4, keys, values)
        before = keys
    return _model(words, places, slots)


@njit
def murmur(data: Bytes, at: int, end: int) -> Any:
    """MurmurHash64A (Appleby) of some bytes, seed 0."""
    value = np.uint64(end - at) * _MURMUR
    while end - at >= 8:
        part = np.uint64(0)
        for index in range(8):
            part |= np.uint64(data[at + index]) << np.uint64(8 * index)
        part *= _MURMUR
        part ^= part >> np.uint64(47)
        value = (value ^ part * _MURMUR) * _MURMUR
        at += 8
    if at < end:
        for index in range(end - at):
            value ^= np.uint64(data[at + index]) << np.uint64(8 * index)
        value *= _MURMUR
    value ^= value >> np.uint64(47)
    value *= _MURMUR
    return value ^ value >> np.uint64(47)


@inline
def find(words: Words, place: int, slots: int, size: int, key: Any) -> Any:
    """Where the slot of a key lies in the table at `place`, whose slots have `size` words; -1 where it has none."""
    slot: Any = np.int64(key % np.uint64(slots))
    for _ in range(slots):  # a damaged table may be full
        at = place + slot * size
        found = np.uint64(words[at]) | np.uint64(words[at + 1]) << np.uint64(32)
        if found == key:
            return at
        if found == 0:
            return -1
        slot = slot + 1 if slot + 1 < slots else 0
    return -1


@njit
def number_of(words: Words, place: int, slots: int, data: Bytes, at: int, end: int) -> Any:
    """The number of a word; 0 for one that the vocabulary lacks."""
    found = find(words, place, slots, 3, murmur(data, at, end))
    return np.int64(words[found + 2]) if found >= 0 else 0


@njit
def put(words: Words, place: int, slots: int, size: int, keys: Hashes, values: Any) -> None:
    """Fills the table at `place`; a key that comes twice keeps its first values."""
    for entry in range(len(keys)):
        slot: Any = np.int64(keys[entry] % np.uint64(slots))
        while True:
            at = place + slot * size
            found = np.uint64(words[at]) | np.uint64(words[at + 1]) << np.uint64(32)
            if found == 0:
                words[at], words[at + 1] = np.uint32(keys[entry] & np.uint64(0xFFFFFFFF)), keys[entry] >> np.uint64(32)
                for index in range(size - 2):
                    words[at + 2 + index] = values[entry, index]
                break
            if found == keys[entry]:
                break
            slot = slot + 1 if slot + 1 < slots else 0
