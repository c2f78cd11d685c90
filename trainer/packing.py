"""The packing plan: which pieces of documents share a sequence. Each shard is packed alone.

`best-fit` (the default) goes over document lengths in descending order (Ding et al. 2024, "Fewer Truncations Improve
Language Modeling", section 3). A document that fits the sequence is never cut; a longer one is cut into ⌈length / T⌉
pieces, all but the last of T tokens. The plan follows from the document lengths alone, so it is computed once and kept
beside the shards, under a fingerprint of all that it depends on.

`concatenate` cuts the documents of a shard, one behind another, at every T tokens, as GPT-2 and most trainers do. It
leaves no padding but behind the shard's last token, and cuts documents that would fit.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from pipeline.errors import UserError
from pipeline.shards import Corpus, Shard
from trainer.kernels import best_fit

VERSION = 1
"""Raised whenever the same lengths give another plan."""

Ints = npt.NDArray[np.int64]

Packing = Literal["best-fit", "concatenate"]
Remainder = Literal["pad", "drop"]


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

    @cached_property
    def tokens(self) -> int:
        """Tokens of its pieces: those of the shard, without a remainder that is dropped."""
        return int(self.pieces.length.sum())


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
    packing: Packing = "best-fit"

    @property
    def in_order(self) -> bool:
        """Whether the tokens of a sequence stand behind those of the sequence before it."""
        return self.packing == "concatenate"

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
            tokens = sum(self.windows[w].tokens for w in own)
            found.append(Group(name, first, behind - first, tokens, _joined(self.windows[w] for w in own)))
        return tuple(found)

    def group_of(self, sequences: Ints) -> Ints:
        """The numbers of the groups that sequences are of; same shape."""
        if len(self.groups) == 1:
            return np.zeros_like(sequences)
        return np.searchsorted(self._group_first, sequences, side="right") - 1

    @cached_property
    def _group_first(self) -> Ints:
        return np.array([group.first for group in self.groups], np.int64)

    def window_of(self, sequences: Ints) -> Ints:
        """The numbers of the windows that sequences are of; same shape."""
        return np.searchsorted(self.first, sequences, side="right") - 1

    @property
    def padding(self) -> float:
        """Share of all places that hold no token."""
        places = self.sequences * self.sequence_length
        return 1 - sum(window.tokens for window in self.windows) / places if places else 0.0

    @property
    def dropped(self) -> int:
        """Tokens of the shards that are in no sequence."""
        return sum(window.shard.tokens - window.tokens for window in self.windows)

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
    sequence[order] = best_fit(length[order], sequence_length)
    by_sequence = order[np.argsort(sequence[order], kind="stable")]
    sequences = int(sequence.max()) + 1 if len(sequence) else 0
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(sequence, minlength=sequences))])
    return Pieces(first, document[by_sequence], start[by_sequence], length[by_sequence], goes_on[by_sequence])


def concatenate(
    lengths: npt.NDArray[np.integer[Any]], sequence_length: int, remainder: Remainder | None = None
) -> Pieces:
    """Documents of these lengths (documents,) one behind another, cut at every `sequence_length` tokens.

    What fills no sequence at the end is one with padding (`pad`, the default), or in none (`drop`).
    """
    lengths = np.asarray(lengths, np.int64)
    ends = np.cumsum(lengths)
    tokens = int(ends[-1]) if len(ends) else 0
    if remainder == "drop":
        tokens -= tokens % sequence_length
    cuts = np.arange(0, tokens, sequence_length)
    start = np.concatenate([(ends - lengths)[(lengths > 0) & (ends - lengths < tokens)], cuts])
    start.sort(kind="stable")  # two sorted rows: merged in one go
    start = start[np.append(True, np.diff(start) > 0)[: len(start)]]
    length = np.diff(start, append=tokens)
    document = np.searchsorted(ends, start, side="right")
    first = np.append(np.searchsorted(start, cuts), len(start))
    return Pieces(first, document, start, length, start + length < ends[document])


def plan(
    corpus: Corpus,
    split: str,
    sequence_length: int,
    packing: Packing = "best-fit",
    remainder: Remainder | None = None,
) -> Plan:
    """The plan of a split; best fit from the files beside its shards where they are there and whole.

    Raises UserError where the corpus has no such split, the length is below 2 or there is no such packing, DamageError
    where an index is damaged.
    """
    windows = tuple(windows_of(corpus, split, sequence_length, packing, remainder))
    sizes = np.array([window.pieces.sequences for window in windows], np.int64)
    return Plan(sequence_length, windows, np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]), packing)


def windows_of(
    corpus: Corpus, split: str, sequence_length: int, packing: Packing, remainder: Remainder | None = None
) -> Iterator[Window]:
    """The windows of a plan, one after another. Raises what `plan` does."""
    if sequence_length < 2:
        raise UserError(f"a sequence_length of {sequence_length} leaves nothing to predict; give 2 or more")
    if packing not in get_args(Packing):
        raise UserError(f"there is no packing '{packing}'; there are {', '.join(get_args(Packing))}")
    for shard in corpus.shards(split):
        if packing == "best-fit":
            yield _window(corpus, shard, sequence_length)
        else:
            yield _cut(corpus, shard, sequence_length, remainder)


def _cut(corpus: Corpus, shard: Shard, sequence_length: int, remainder: Remainder | None) -> Window:
    """Made anew each time, since that takes no longer than reading it."""
    facts = f"concatenate/{VERSION}/{sequence_length}/{remainder}/{shard.digest}/{shard.files['.idx']['sha256']}"
    pieces = concatenate(corpus.lengths(shard), sequence_length, remainder)
    return Window(shard, pieces, hashlib.sha256(facts.encode()).hexdigest())


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
    except Exception:  # of as many kinds as a zip file can be damaged: what is packed anew lacks nothing
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
