"""The arrays of a batch, cut from memory-mapped shards, and a thread that makes them ready in advance."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DamageError, RecipeError
from pipeline.shards import Corpus
from trainer.batch import IGNORED, NO_DOCUMENT, Batch
from trainer.history import History
from trainer.kernels import fill_rows
from trainer.mixing import Transform
from trainer.objectives import CAUSAL
from trainer.order import Order
from trainer.packing import Plan
from trainer.remote import RemoteCorpus
from trainer.rows import Rows

Ints = npt.NDArray[np.int64]
Share = Callable[[int], tuple[int, int]]
"""Of a batch of so many sequences: the first that is read here, and how many are, those behind the end counted."""


@dataclass(frozen=True)
class Placed:
    """A piece of a document in a batch."""

    window: int
    """Number of the shard in its split."""
    document: int
    """Number of the document in the shard."""
    start: int
    """Place of the piece's first token in the shard."""
    length: int
    """Tokens."""
    goes_on: bool
    """Whether the document has tokens behind the piece."""
    row: int
    """Sequence of the batch."""
    column: int
    """Place of the piece's first token in that sequence."""


@dataclass(frozen=True)
class Source:
    """The sequences of a plan over an opened corpus, and the arrays of those that are asked for."""

    corpus: Corpus
    plan: Plan
    prefix_loss: bool = True
    """Whether the tokens of a document's metadata prefix are targets. They are always read."""
    objective: Transform = CAUSAL
    """What is to be predicted."""
    joined: bool = False
    """Whether the documents of a sequence are read as one text: one mask, positions that go on, targets across them."""
    prompt_loss: bool = True
    """Whether the tokens of the prompt of a record are targets; false: neither they nor the prefix before them."""
    _held: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Without the mapped files and their addresses, which a process that is handed this makes anew."""
        return {name: value for name, value in vars(self).items() if name not in ("_rows", "distant")} | {"_held": {}}

    @cached_property
    def _first_targets(self) -> list[Ints] | None:
        """Of each shard, where the first token of each document (documents,) stands that is a target, or the
        document's beginning where all are. None where all of the corpus are targets."""
        if self.prefix_loss and self.prompt_loss:
            return None
        head = int(self.corpus.boundary == "bos-first")  # the prefix stands behind the first token
        result = []
        for window in self.plan.windows:
            there = self.corpus.columns(window.shard)
            table = self.corpus.documents(window.shard, [name for name in _HEADS if name in there])
            starts, prefix, prompt = (_numbers(table, name) for name in _HEADS)
            without = np.zeros_like(prefix) if self.prefix_loss else prefix
            if not self.prompt_loss:
                without = np.where(prompt > 0, prefix + prompt, without)
            result.append(starts + np.where(without > 0, without + head, 0))
        return result

    @cached_property
    def _pad(self) -> int:
        special = self.corpus.special  # what stands in padding is never attended to by a document, nor predicted
        return special.get("pad", special.get("eot", 0))

    @cached_property
    def _rows(self) -> Rows:
        return Rows(self.corpus, self.plan.windows, self._first_targets)

    @cached_property
    def distant(self) -> bool:
        """Whether the tokens lie at an address, so that it is worth while to `expect` sequences."""
        return self._rows.distant

    def expect(self, sequences: Ints) -> bool:
        """Begins to fetch the tokens of sequences (B,) that will be asked for; False where there is no room for all."""
        windows_B = self.plan.window_of(sequences)
        return self._rows.expect(windows_B, sequences - self.plan.first[windows_B])

    def stop_expecting(self) -> None:
        """Fetches no more than what is under way."""
        if isinstance(self.corpus, RemoteCorpus):
            self.corpus.stop()

    def placed(
        self, sequences: npt.NDArray[np.int64], left_out: frozenset[str] = frozenset(), part: int | None = None
    ) -> list[Placed]:
        """Where documents lie in a batch of these sequences (B,); those left out are not listed.

        `part` as in `batch`.
        """
        holes = self.numbers(left_out)
        most = part or self.plan.sequence_length
        result = []
        for number, sequence in enumerate(sequences.tolist()):
            window, inside = self.plan.locate(sequence)
            pieces = self.plan.windows[window].pieces
            place = number * self.plan.sequence_length
            for piece in range(int(pieces.first[inside]), int(pieces.first[inside + 1])):
                document, start = int(pieces.document[piece]), int(pieces.start[piece])
                end, goes_on = start + int(pieces.length[piece]), bool(pieces.goes_on[piece])
                while start < end:
                    many = min(end - start, most - place % most)
                    if (window, document) not in holes:
                        further = goes_on or start + many < end
                        result.append(Placed(window, document, start, many, further, place // most, place % most))
                    start, place = start + many, place + many
        return result

    def batch(
        self,
        sequences: Ints,
        left_out: frozenset[str] = frozenset(),
        numbers_B: Ints | None = None,
        part: int | None = None,
    ) -> Batch:
        """The batch of these sequences (B,), under the objective.

        What the objective draws for each follows from `numbers_B`: where they are read in the run, else their numbers
        in the plan. With `part`, each is read as T / part sequences of so many places, in their order: no token is
        lost and none moves, the target at a cut stays, and positions and document numbers begin anew at it, since a
        place looks at none before it. Raises DamageError where a shard holds a token beyond the vocabulary.
        """
        length, most = self.plan.sequence_length, part or self.plan.sequence_length
        shape = len(sequences), length
        tokens_BT, targets_BT, positions_BT, documents_BT = (np.empty(shape, np.int64) for _ in range(4))
        windows_B = self.plan.window_of(sequences)
        asked = windows_B, sequences - self.plan.first[windows_B]
        how = self._codes(left_out), self.joined, self.plan.in_order, most, self._pad, IGNORED, NO_DOCUMENT
        made = tokens_BT, targets_BT, positions_BT, documents_BT
        if self.distant:
            with self._rows.lent(*asked) as rows:
                largest = fill_rows(*rows, *how, *made)
        else:
            largest = fill_rows(*self._rows.of(*asked), *how, *made)
        if largest >= self.corpus.vocabulary:
            raise DamageError(
                f"the shards in {self.corpus.folder} hold a token beyond the vocabulary of {self.corpus.vocabulary}; "
                "check them with `corpusmill verify`"
            )
        groups_B, numbers_B = self.plan.group_of(sequences), sequences if numbers_B is None else numbers_B
        if most < length:
            times = length // most
            tokens_BT, targets_BT, positions_BT, documents_BT = (array_BT.reshape(-1, most) for array_BT in made)
            groups_B = groups_B.repeat(times)
            numbers_B = (numbers_B[:, None] * times + np.arange(times)).reshape(-1)
        return self.objective.apply(Batch(tokens_BT, targets_BT, positions_BT, documents_BT, groups_B), numbers_B)

    def _codes(self, left_out: frozenset[str]) -> Ints:
        """The documents left out, as `fill_rows` takes them."""
        held: tuple[frozenset[str], Ints] | None = self._held.get("codes")
        if held is None or held[0] is not left_out:
            codes = sorted(window << 40 | document for window, document in self.numbers(left_out))
            held = self._held["codes"] = left_out, np.array(codes, np.int64)
        return held[1]

    def numbers(self, ids: frozenset[str]) -> frozenset[tuple[int, int]]:
        """(shard in its split, document in its shard) of every copy of the documents of these ids (hex)."""
        known: dict[str, list[tuple[int, int]]] = self._held.setdefault("numbers", {})
        unknown = ids - known.keys()
        if unknown:
            found: dict[str, list[tuple[int, int]]] = defaultdict(list)
            wanted = [bytes.fromhex(text) for text in unknown]
            for window, packed in enumerate(self.plan.windows):
                column = self.corpus.documents(packed.shard, ["id"])["id"]
                for document in np.flatnonzero(pc.is_in(column, pa.array(wanted, column.type)).to_numpy()).tolist():
                    found[column[document].as_py().hex()].append((window, document))
            known.update({text: found[text] for text in unknown})
        return frozenset(place for text in ids for place in known[text])


_HEADS = ("token_start", "prefix_tokens", "prompt_tokens")


def _numbers(table: pa.Table, name: str) -> Ints:
    """A column of a shard's documents (documents,): 0 where a row, or the shard, says nothing."""
    if name not in table.column_names:
        return np.zeros(len(table), np.int64)
    return np.asarray(pc.fill_null(table[name], 0).to_numpy(), np.int64)


def check_left_out(corpus: Corpus, splits: Iterable[str], prefix_loss: bool, prompt_loss: bool) -> None:
    """Raises RecipeError where shards of these splits do not tell what is to be left out of the loss. Shards that have
    no prompts may lie beside others."""
    shards = [shard for split in splits for shard in corpus.shards(split)]
    if not prefix_loss and not all("prefix_tokens" in corpus.columns(shard) for shard in shards):
        raise RecipeError(
            f"data.prefix_loss: {corpus.folder} does not say where its prefixes end (it was made by an older version); "
            "run its recipe again, or leave the setting out"
        )
    if not prompt_loss and not any("prompt_tokens" in corpus.columns(shard) for shard in shards):
        raise RecipeError(
            f"data.prompt_loss: {corpus.folder} has no prompts: no source of its recipe has a template such as "
            '`fields: {text: "{question} {|}{answer}"}`; give one its source and run it again, or leave the setting out'
        )


@dataclass(frozen=True)
class Splits:
    """What a run reads."""

    train: Source
    held_out: Source | None
    """The validation split, where there is one."""
    weights: dict[str, float] | None = None
    """Shares of tokens by group of the mixture; None in layout `mixed`."""


class Loader:
    """Batches of successive data steps, made by one thread that runs up to `look_ahead` batches ahead.

    What a batch holds depends on its data step alone. With `look_ahead` 0 there is no thread.
    """

    def __init__(
        self,
        source: Source,
        order: Order,
        history: History,
        look_ahead: int,
        read_ahead: int = 0,
        share: Share | None = None,
        by_document: bool = False,
    ) -> None:
        """`read_ahead`: batches of which the tokens are fetched in advance, where they lie at an address. `share`: what
        is read here of each batch, of many processes; None: all. `by_document`: whether `Batch.by_document` is going
        to be asked for."""
        self._by_document = by_document
        self._share = share or (lambda sequences: (0, sequences))
        self._read_ahead, self._expected = read_ahead if source.distant else 0, 0
        self._source, self._order, self._history = source, order, history
        self._look_ahead = look_ahead
        self._thread: threading.Thread | None = None
        self._beyond = self._next = self._last = 0

    def jump(self, step: int) -> None:
        """Goes on behind a step that is to come; what lies between is left out."""
        self._beyond = step

    def again(self, step: int, history: History) -> None:
        """Goes on with a step, also one that was read already, by a history that may have events of data steps that
        are made; those are made anew."""
        self._end()
        self._history, self._next, self._beyond, self._expected = history, step, 0, 0
        self._begin()

    def follow(self, history: History) -> None:
        """Goes on with a history that has more events, all of data steps that are not made yet."""
        self._history = history

    def read(self, data_step: int) -> Batch:
        """Batch `data_step`, made now; of many processes, this one's share, filled up to as many rows as the others
        have."""
        history = self._history  # another may take its place meanwhile
        moment = history.at(data_step)
        first, number = self._share(moment.global_batch)
        own = np.arange(moment.cursor, moment.cursor + moment.global_batch)[first : first + number]
        some = own if len(own) else np.array([moment.cursor])  # for the shape of a batch
        batch = self._source.batch(self._order.read(history, some), moment.left_out, some, moment.part)
        if len(own) == number:
            return batch
        parts = len(batch.tokens_BT) // len(some)
        return batch.first(len(own) * parts, number * parts)

    def placed(self, data_step: int) -> list[Placed]:
        """The documents of batch `data_step` that are read here, by their numbers in `Batch.documents_BT`."""
        moment = self._history.at(data_step)
        first, number = self._share(moment.global_batch)
        sequences = self._order.batch(self._history, data_step)[first : first + number]
        return self._source.placed(sequences, moment.left_out, moment.part)

    def _expect(self, step: int, last: int) -> None:
        """Fetches what the steps behind this one need, as far as there is room."""
        self._expected = max(self._expected, step)
        while self._expected < min(step + self._read_ahead, last):
            history = self._history
            sequences = self._order.batch(history, history.data_step(self._expected + 1)[1])
            first, number = self._share(len(sequences))
            if not self._source.expect(sequences[first : first + number]):
                break
            self._expected += 1

    def from_step(self, first: int, last: int) -> Iterator[tuple[int, int, int, Batch]]:
        """(step, attempt, data step, batch) of training steps `first` to `last`. To be called once."""
        self._next, self._last = first, last
        self._begin()
        while self._next <= last:
            step, self._next = self._next, self._next + 1
            if step <= self._beyond:
                continue
            attempt, data_step = self._history.data_step(step)
            if self._look_ahead:
                made, batch = self._ready.get()
                while made < step:  # was made before the jump
                    made, batch = self._ready.get()
                if isinstance(batch, Exception):
                    raise batch
            else:
                self._expect(step, last)
                batch = self.read(data_step)
            yield step, attempt, data_step, batch

    def _begin(self) -> None:
        """Starts the thread that looks ahead, at the next step."""
        self._ready: queue.Queue[tuple[int, Batch | Exception]] = queue.Queue(max(1, self._look_ahead))
        self._closed = threading.Event()
        if self._look_ahead:
            some = self._next, self._last
            self._thread = threading.Thread(target=self._work, args=some, name="look-ahead", daemon=True)
            self._thread.start()

    def _end(self) -> None:
        self._source.stop_expecting()
        if self._thread:
            self._closed.set()
            self._thread.join()
            self._thread = None

    def _work(self, first: int, last: int) -> None:
        for step in range(first, last + 1):
            if step <= self._beyond:
                continue
            try:
                self._expect(step, last)
                made: Batch | Exception = self.read(self._history.data_step(step)[1]).counted(self._by_document)
            except Exception as error:  # raised again where the batch is asked for
                made = error
            while not self._closed.is_set():
                try:
                    self._ready.put((step, made), timeout=0.1)
                    break
                except queue.Full:
                    continue
            if self._closed.is_set() or isinstance(made, Exception):
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
