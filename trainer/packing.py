"""The packing plan: which pieces of documents share a sequence.

Each shard is packed alone, by best fit over document lengths taken in descending order (Ding et al. 2024, "Fewer
Truncations Improve Language Modeling", section 3). A document that fits the sequence is never cut; a longer one is
cut into ⌈length / T⌉ pieces, all but the last of T tokens. The plan follows from the document lengths alone, so it is
computed once and kept beside the shards, under a fingerprint of all that it depends on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import UserError
from pipeline.shards import Corpus, Shard

VERSION = 1
"""Raised whenever the same lengths give another plan."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pieces:
    """Pieces of documents, one an entry, grouped by sequence and in their order inside it."""

    first: Ints
    """(sequences + 1,): the pieces of sequence s are first[s] to first[s + 1]."""
    document: Ints
    """(pieces,): number of the document in its shard."""
    start: Ints
    """(pieces,): place of the first token in the shard."""
    length: Ints
    """(pieces,): tokens."""
    goes_on: npt.NDArray[np.bool_]
    """(pieces,): whether the document has tokens behind the piece."""

    @property
    def sequences(self) -> int:
        """Number of sequences."""
        return len(self.first) - 1


@dataclass(frozen=True)
class Window:
    """The pieces of one shard, and their fingerprint."""

    shard: Shard
    pieces: Pieces
    fingerprint: str


@dataclass(frozen=True)
class Group:
    """The sequences that are weighed together: a group of the mixture, or all where the mixture is in the files."""

    name: str | None
    """None in layout `mixed`."""
    first: int
    """Its first sequence; they stand together."""
    sequences: int
    tokens: int
    fingerprint: str


@dataclass(frozen=True)
class Plan:
    """All sequences of a split, numbered through its shards in their order."""

    sequence_length: int
    windows: tuple[Window, ...]
    first: Ints
    """(windows + 1,): the sequences of window w are first[w] to first[w + 1]."""

    @property
    def sequences(self) -> int:
        """Number of sequences."""
        return int(self.first[-1])

    @cached_property
    def fingerprint(self) -> str:
        """A digest of all that the plan depends on: token files, sequence length, version."""
        return _joined(self.windows)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups, in the order of their shards."""
        found = []
        for name, members in groupby(range(len(self.windows)), key=lambda w: self.windows[w].shard.group):
            own = list(members)
            first, behind = int(self.first[own[0]]), int(self.first[own[-1] + 1])
            tokens = sum(self.windows[w].shard.tokens for w in own)
            found.append(Group(name, first, behind - first, tokens, _joined(self.windows[w] for w in own)))
        return tuple(found)

    def group_of(self, sequences: Ints) -> Ints:
        """The numbers of the groups that sequences are of; same shape."""
        return np.searchsorted([group.first for group in self.groups], sequences, side="right") - 1

    @property
    def padding(self) -> float:
        """Share of all places that hold no token."""
        places = self.sequences * self.sequence_length
        return 1 - sum(int(window.pieces.length.sum()) for window in self.windows) / places if places else 0.0

    @property
    def cuts(self) -> int:
        """How often a document is cut."""
        return sum(int(window.pieces.goes_on.sum()) for window in self.windows)

    def locate(self, sequence: int) -> tuple[int, int]:
        """(window, sequence inside it) of a sequence."""
        window = int(np.searchsorted(self.first, sequence, side="right")) - 1
        return window, sequence - int(self.first[window])


def _joined(windows: Iterable[Window]) -> str:
    return hashlib.sha256("".join(window.fingerprint for window in windows).encode()).hexdigest()


def pack(lengths: npt.NDArray[np.integer[Any]], sequence_length: int) -> Pieces:
    """The best-fit plan for documents of these lengths (documents,), in tokens, in shard order."""
    lengths = np.asarray(lengths, np.int64)
    counts = -(-lengths // sequence_length)  # an empty document has no piece
    document = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)  # of the piece in its document
    length = np.minimum(lengths[document] - number * sequence_length, sequence_length)
    start = np.repeat(np.cumsum(lengths) - lengths, counts) + number * sequence_length
    goes_on = number + 1 < counts[document]

    order = np.argsort(-length, kind="stable")
    sequence = np.empty(len(order), np.int64)
    sequence[order] = _best_fit(length[order].tolist(), sequence_length)
    by_sequence = order[np.argsort(sequence[order], kind="stable")]
    sequences = int(sequence.max()) + 1 if len(sequence) else 0
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(sequence, minlength=sequences))])
    return Pieces(first, document[by_sequence], start[by_sequence], length[by_sequence], goes_on[by_sequence])


def _best_fit(lengths: list[int], capacity: int) -> list[int]:
    """For each piece, longest first, the bin with the least room that still takes it, or a new bin."""
    bins: list[int] = []
    with_room: list[list[int]] = [[] for _ in range(capacity + 1)]  # bins by the room that they have left
    mask = 0  # bit r is set where with_room[r] has a bin: the least sufficient room is found by its lowest set bit
    opened = 0
    for length in lengths:
        sufficient = mask >> length
        if sufficient:
            room = length + (sufficient & -sufficient).bit_length() - 1
            chosen = with_room[room].pop()
            if not with_room[room]:
                mask ^= 1 << room
        else:
            room, chosen, opened = capacity, opened, opened + 1
        bins.append(chosen)
        if room > length:
            with_room[room - length].append(chosen)
            mask |= 1 << (room - length)
    return bins


def plan(corpus: Corpus, split: str, sequence_length: int) -> Plan:
    """The plan of a split, from the files beside its shards where they are there and whole.

    Raises UserError where the corpus has no such split or the length is below 2, DamageError where an index is damaged.
    """
    if sequence_length < 2:
        raise UserError(f"a sequence_length of {sequence_length} leaves nothing to predict; give 2 or more")
    windows = tuple(_window(corpus, shard, sequence_length) for shard in corpus.shards(split))
    sizes = [window.pieces.sequences for window in windows]
    return Plan(sequence_length, windows, np.concatenate([np.zeros(1, np.int64), np.cumsum(np.array(sizes, np.int64))]))


def _window(corpus: Corpus, shard: Shard, sequence_length: int) -> Window:
    # The index says where documents end, which the token file alone does not, so both digests count.
    facts = f"packing/{VERSION}/{sequence_length}/{shard.digest}/{shard.files['.idx']['sha256']}"
    fingerprint = hashlib.sha256(facts.encode()).hexdigest()
    path = shard.stem.parent / "plans" / f"{fingerprint[:32]}.npz"
    pieces = _read(path, shard)
    if pieces is None:
        pieces = pack(corpus.lengths(shard), sequence_length)
        _write(path, pieces)
    return Window(shard, pieces, fingerprint)


def _read(path: Path, shard: Shard) -> Pieces | None:
    """The pieces in a file, or None where there is no file or it is not what was once written."""
    try:
        with np.load(path, allow_pickle=False) as arrays:  # a zip file: every array has its own checksum
            pieces = Pieces(**{name: arrays[name] for name in Pieces.__dataclass_fields__})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return pieces if int(pieces.length.sum()) == shard.tokens else None


def _write(path: Path, pieces: Pieces) -> None:
    """Writes aside and renames. A corpus that cannot be written to is no fault: the plan stays in memory."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(exist_ok=True)
        with aside.open("wb") as file:
            np.savez(file, **vars(pieces))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink()
