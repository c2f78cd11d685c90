"""fastText's supervised models (Joulin et al. 2017), read from their files and applied in one kernel.

No fastText package is needed: all of them put themselves into the place of each other, and score one text at a time.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.kernels import inline, njit
from stages.text.column import Ints, Texts
from stages.text.utf8 import Bytes

_MAGIC, _VERSION = 793_712_314, 12
_LOSSES = {1: "hierarchical softmax", 2: "negative sampling", 3: "softmax", 4: "one against all"}
_SUPERVISED, _WORD, _LABEL = 3, 0, 1
_EOS = b"</s>"
_END = np.frombuffer(_EOS, np.uint8)
_PREFIX = np.frombuffer(b"__label__", np.uint8)
_MOST_BUCKETS = 1 << 26
_LONGEST = 100
Floats = npt.NDArray[np.float32]


class _Words(NamedTuple):
    """The vocabulary as a hash table, and the buckets of n-grams that the model still has."""

    pool: Bytes
    places: Ints
    slots: npt.NDArray[np.int32]
    """Word numbers by hash, -1 for an empty slot."""
    kept: npt.NDArray[np.int32]
    """Row of each bucket behind the words, -1 where it was pruned."""
    sizes: tuple[int, int, int, int]
    """Buckets, shortest and longest character n-gram, longest word n-gram."""
    end: int
    """Number of the word that ends each line, -1 where the model has none."""


class Model(NamedTuple):
    """A model that was read."""

    labels: tuple[str, ...]
    loss: int
    words: _Words
    rows: Floats
    output: Floats
    tree: npt.NDArray[np.int32]
    """Left and right child of each inner node of hierarchical softmax."""

    def probabilities(self, view: Texts) -> Floats:
        """The probability of each label for each text: (n, labels). Line breaks are blanks.

        Of a text without a known word or n-gram all are 0.
        """
        found = np.zeros((len(view.valid), len(self.labels)), np.float32)
        _score(view.data, view.offsets, *self.words, self.rows, self.output, self.tree, self.loss, found)
        if self.loss == 1:
            return found
        if self.loss == 3:
            power = np.exp(found - found.max(1, keepdims=True))
            chance = power / power.sum(1, keepdims=True)
        else:  # by a table of 512 steps between -8 and 8, as fastText
            steps = np.floor((np.clip(found, -8, 8) + 8) * 32) / 32 - 8
            chance = np.where(found < -8, 0, np.where(found > 8, 1, 1 / (1 + np.exp(-steps))))
        known: Floats = np.where(found.any(1, keepdims=True), chance, 0).astype(np.float32)
        return known


class _Reader:
    """Little-endian values one behind the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def values(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return found

    def array(self, kind: Any, count: int) -> npt.NDArray[Any]:
        if count < 0 or self.at + count * np.dtype(kind).itemsize > len(self.data):
            raise struct.error("cut off")
        found = np.frombuffer(self.data, kind, count, self.at)
        self.at += found.nbytes
        return found

    def word(self) -> bytes:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise struct.error("cut off")
        found = self.data[self.at : end]
        self.at = end + 1
        return found


def read(data: bytes) -> Model:
    """The model in a `.bin` or `.ftz` file. Raises ValueError where it is none, or of another kind or version."""
    reader = _Reader(data)
    try:
        return _read(reader)
    except (struct.error, ValueError, IndexError) as error:
        why = "it is cut off" if isinstance(error, struct.error) else error
        raise ValueError(f"this is no model that fastText wrote: {why}") from None


def _read(reader: _Reader) -> Model:
    magic, version = reader.values("ii")
    if magic != _MAGIC or version != _VERSION:
        raise ValueError(f"it begins with {magic} and version {version}, not with {_MAGIC} and {_VERSION}")
    size, _, _, _, _, ngrams, loss, kind, buckets, shortest, longest, _, _ = reader.values("12id")
    if kind != _SUPERVISED or loss not in _LOSSES:
        raise ValueError("it is no classifier, but word vectors")
    if not (0 <= ngrams <= _LONGEST and 0 <= longest <= _LONGEST and 0 <= buckets <= _MOST_BUCKETS) or (
        buckets == 0 and (ngrams > 1 or longest > 0)
    ):
        raise ValueError("its settings are none that fastText writes")
    _, words, labels, _, pruned = reader.values("3iqq")
    vocabulary: list[bytes] = []
    names: list[tuple[str, int]] = []
    for _ in range(words + labels):
        word = reader.word()
        count, role = reader.values("qb")
        if role == _LABEL:
            names.append((word.decode("utf-8", "replace").removeprefix("__label__"), count))
        else:
            vocabulary.append(word)
    pairs = reader.array("<i4", 2 * max(pruned, 0)).reshape(-1, 2)
    if pruned < 0 and buckets > len(reader.data):
        raise struct.error("cut off")
    if len(pairs) and not 0 <= pairs[:, 0].min() <= pairs[:, 0].max() < buckets:
        raise ValueError("its buckets do not fit its settings")
    kept = np.full(max(buckets, 1), -1, np.int32)
    if pruned < 0:
        kept[:] = np.arange(len(kept))
    else:
        kept[pairs[:, 0]] = pairs[:, 1]
    (quantised,) = reader.values("?")
    rows = _quantised(reader) if quantised else _dense(reader)
    (quantised_output,) = reader.values("?")
    output = _quantised(reader) if quantised and quantised_output else _dense(reader)
    needed = len(vocabulary) + (buckets if pruned < 0 else int(pairs[:, 1].max(initial=-1)) + 1)
    fit = rows.shape[1] == size and output.shape == (len(names), size) and len(rows) >= needed
    if not fit or not names or pairs[:, 1].min(initial=0) < 0:
        raise ValueError("its matrices do not fit its vocabulary")
    if not (np.isfinite(rows).all() and np.isfinite(output).all()):
        raise ValueError("it holds numbers that are none")
    table = _vocabulary(vocabulary)
    end = vocabulary.index(_EOS) if _EOS in vocabulary else -1
    tree = _tree([count for _, count in names]) if loss == 1 else np.zeros((1, 2), np.int32)
    return Model(
        tuple(name for name, _ in names), loss, _Words(*table, kept, (buckets, shortest, longest, ngrams), end), rows,
        output, tree,
    )  # fmt: skip


def _dense(reader: _Reader) -> Floats:
    rows, columns = reader.values("qq")
    return reader.array("<f4", rows * columns).reshape(rows, columns)


def _quantised(reader: _Reader) -> Floats:
    """A matrix that was cut into parts, each replaced by the nearest of 256 centroids (Joulin et al. 2016)."""
    normed, rows, columns, size = reader.values("?qqi")
    codes = reader.array(np.uint8, size).reshape(rows, -1)
    parts, centroids = _centroids(reader)
    matrix = np.concatenate([centroids[part][codes[:, part]] for part in range(parts)], axis=1)
    if normed:
        norms = reader.array(np.uint8, rows)
        _, values = _centroids(reader)
        matrix = matrix * values[0][norms]
    if matrix.shape != (rows, columns):
        raise ValueError("a quantised matrix has another shape than it says")
    return np.ascontiguousarray(matrix, np.float32)


def _centroids(reader: _Reader) -> tuple[int, list[Floats]]:
    size, parts, width, last = reader.values("4i")
    values = reader.array("<f4", size * 256)
    found = []
    for part in range(parts):
        own = last if part == parts - 1 else width
        start = part * 256 * width
        found.append(values[start : start + 256 * own].reshape(256, own))
    return parts, found


def _fnv(data: bytes) -> int:
    value = 2166136261
    for byte in data:
        value = ((value ^ (byte | 0xFFFFFF00 if byte & 128 else byte)) * 16777619) & 0xFFFFFFFF
    return value


def _vocabulary(words: list[bytes]) -> tuple[Bytes, Ints, npt.NDArray[np.int32]]:
    room = 16
    while room < 2 * len(words):
        room *= 2
    slots = np.full(room, -1, np.int32)
    for number, word in enumerate(words):
        slot = _fnv(word) & room - 1
        while slots[slot] >= 0:
            slot = slot + 1 & room - 1
        slots[slot] = number
    return np.frombuffer(b"".join(words) + b"\0", np.uint8), np.cumsum([0, *map(len, words)]).astype(np.int64), slots


def _tree(counts: list[int]) -> npt.NDArray[np.int32]:
    """Huffman's tree as fastText builds it from labels in order of descending counts."""
    number = len(counts)
    sums = counts + [10**15] * (number - 1)
    children = np.zeros((max(number - 1, 1), 2), np.int32)
    leaf, node = number - 1, number
    for inner in range(number, 2 * number - 1):
        least = []
        for _ in range(2):
            if leaf >= 0 and sums[leaf] < sums[node]:
                least.append(leaf)
                leaf -= 1
            else:
                least.append(node)
                node += 1
        children[inner - number] = least
        sums[inner] = sums[least[0]] + sums[least[1]]
    return children


@inline
def _hash(value: Any, byte: Any) -> Any:
    """FNV-1a as fastText computes it: bytes are signed."""
    signed = np.uint32(byte) | np.uint32(0xFFFFFF00) if byte & 128 else np.uint32(byte)
    return np.uint32((value ^ signed) * np.uint32(16777619))


@inline
def _splits(byte: int) -> bool:
    return byte == 32 or 9 <= byte <= 13 or byte == 0


@inline
def _begins(data: Bytes, start: int, end: int, text: Bytes) -> bool:
    if start + len(text) > end:
        return False
    for index in range(len(text)):  # noqa: SIM110  (numba knows no generators)
        if data[start + index] != text[index]:
            return False
    return True


@inline
def _add(row: int, rows: Floats, hidden: Floats) -> int:
    for index in range(len(hidden)):
        hidden[index] += rows[row, index]
    return 1


@inline
def _subwords(
    data: Bytes, start: int, end: int, kept: Any, buckets: int, shortest: int, longest: int, words: int, rows: Floats,
    hidden: Floats,
) -> int:  # fmt: skip
    """Adds the character n-grams of a word, `<` in front of it and `>` behind it, at -1 and at its length."""
    added = 0
    for first in range(start - 1, end + 1):
        if start <= first < end and data[first] & 0xC0 == 0x80:
            continue
        value = np.uint32(2166136261)
        place = first
        length = 0
        while place <= end and length < longest:
            byte = np.uint8(60) if place < start else np.uint8(62) if place == end else data[place]
            value = _hash(value, byte)
            place += 1
            while start <= place < end and data[place] & 0xC0 == 0x80:
                value = _hash(value, data[place])
                place += 1
            length += 1
            if length >= shortest and not (length == 1 and (first < start or place == end + 1)):
                row = kept[np.int64(value) % buckets]
                if row >= 0:
                    added += _add(words + row, rows, hidden)
    return added


@njit
def _score(
    data: Bytes, offsets: Ints, pool: Bytes, places: Ints, slots: Any, kept: Any, sizes: Any, ends: int, rows: Floats,
    output: Floats, tree: Any, loss: int, found: Floats,
) -> None:  # fmt: skip
    buckets, shortest, longest, ngrams = sizes
    words = len(places) - 1
    mask = len(slots) - 1
    labels = len(output)
    hidden = np.zeros(rows.shape[1], np.float32)
    scores = np.zeros(2 * labels, np.float32)
    before = np.zeros(max(ngrams, 1), np.int32)  # the hashes of the last words
    for text in range(len(offsets) - 1):
        hidden[:] = 0
        added = seen = 0
        at, end = offsets[text], offsets[text + 1]
        while at <= end:
            if at < end and _splits(data[at]):
                at += 1
                continue
            start = at
            value = np.uint32(2166136261)
            over = True
            if at == end:  # what fastText puts behind each line
                if seen == 0 and added == 0:
                    break
                number = ends
                for byte in (60, 47, 115, 62):
                    value = _hash(value, byte)
                at += 1
            else:
                while at < end and not _splits(data[at]):
                    value = _hash(value, data[at])
                    at += 1
                if _begins(data, start, at, _PREFIX):
                    continue  # a label, which is no word
                over = at - start == len(_END) and _begins(data, start, at, _END)
                if over and seen == 0 and added == 0:
                    break
                slot = np.int64(value) & mask
                number = -1
                while slots[slot] >= 0:
                    first, last = places[slots[slot]], places[slots[slot] + 1]
                    if last - first == at - start:
                        same = True
                        for index in range(last - first):
                            same &= pool[first + index] == data[start + index]
                        if same:
                            number = slots[slot]
                            break
                    slot = slot + 1 & mask
            if number >= 0:
                added += _add(number, rows, hidden)
            if longest > 0 and not over:
                added += _subwords(data, start, at, kept, buckets, shortest, longest, words, rows, hidden)
            if ngrams > 1:
                for back in range(1, min(seen, ngrams - 1) + 1):
                    total = np.uint64(np.int64(before[(seen - back) % ngrams]))
                    for inner in range(seen - back + 1, seen):
                        total = total * np.uint64(116049371) + np.uint64(np.int64(before[inner % ngrams]))
                    total = total * np.uint64(116049371) + np.uint64(np.int64(np.int32(value)))
                    row = kept[np.int64(total % np.uint64(buckets))]
                    if row >= 0:
                        added += _add(words + row, rows, hidden)
                before[seen % ngrams] = np.int32(value)
            seen += 1
            if over:
                break
        if added == 0:
            continue
        for index in range(len(hidden)):
            hidden[index] /= np.float32(added)
        if loss != 1:
            for label in range(labels):
                for index in range(len(hidden)):
                    found[text, label] += output[label, index] * hidden[index]
            continue
        scores[2 * labels - 2] = 0
        for node in range(2 * labels - 2, labels - 1, -1):
            total_ = np.float32(0)
            for index in range(len(hidden)):
                total_ += output[node - labels, index] * hidden[index]
            right = np.float32(1 / (1 + np.exp(-np.float64(total_))))
            scores[tree[node - labels, 0]] = scores[node] + np.float32(np.log(1 - np.float64(right) + 1e-5))
            scores[tree[node - labels, 1]] = scores[node] + np.float32(np.log(np.float64(right) + 1e-5))
        for label in range(labels):
            found[text, label] = np.float32(np.exp(np.float64(scores[label])))
