"""The order of samples: everything once an epoch, the same whoever asks and whenever."""

from __future__ import annotations

import threading
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.shards import Corpus
from trainer.batch import IGNORED, NO_DOCUMENT
from trainer.data import Loader, Source
from trainer.history import Cool, GlobalBatch, History, Jump, LeaveOut, Start
from trainer.order import Order
from trainer.packing import plan
from trainer.permute import permuted

LENGTH = 32


@pytest.fixture(scope="module")
def source(corpus: Corpus) -> Source:
    return Source(corpus, plan(corpus, "train", LENGTH))


def begin(batch: int = 4) -> History:
    return History(events=(Start(data_step=1, global_batch=batch, sequence_length=LENGTH, seed=3),))


@given(st.integers(1, 300), st.lists(st.integers(0, 2**64 - 1), min_size=8, max_size=8))
def test_permutation(size: int, keys: list[int]) -> None:
    """Else an epoch would read some samples twice and never others, or a trace would name the wrong step."""
    shuffled = permuted(np.arange(size), size, keys)
    assert sorted(shuffled.tolist()) == list(range(size))
    assert permuted(shuffled, size, keys[::-1], inverse=True).tolist() == list(range(size))


def test_order_is_the_one_that_was_released() -> None:
    """Else an update of corpusmill or numpy would change the order under a run that is going on."""
    keys = [1, 2, 3, 4, 5, 6, 7, 8]
    assert permuted(np.arange(10), 10, keys).tolist() == [7, 8, 0, 1, 6, 2, 9, 3, 5, 4]


def test_every_document_once_an_epoch(source: Source) -> None:
    """Else documents would be lost or repeated: counted token by token, over two epochs and a changed batch."""
    order = Order(source.plan, 3)
    history = begin().then(GlobalBatch(data_step=3, global_batch=6))
    sequences: list[int] = []
    data_step = 0
    while len(sequences) < 2 * source.plan.sequences:
        data_step += 1
        sequences += order.batch(history, data_step).tolist()
    for epoch in range(2):
        read = np.array(sequences[epoch * source.plan.sequences : (epoch + 1) * source.plan.sequences])
        seen = {
            (window, document): np.zeros(int(length), int)
            for window, part in enumerate(source.plan.windows)
            for document, length in enumerate(source.corpus.lengths(part.shard))
        }
        for piece in source.placed(read):
            lengths = source.corpus.lengths(source.plan.windows[piece.window].shard)
            start = piece.start - int(lengths[: piece.document].sum())
            seen[piece.window, piece.document][start : start + piece.length] += 1
        assert all((tokens == 1).all() for tokens in seen.values())
        assert len(seen) == 120
    first, second = sequences[: source.plan.sequences], sequences[source.plan.sequences : 2 * source.plan.sequences]
    assert first != second
    assert first != sorted(first)


@pytest.mark.parametrize("look_ahead", [0, 1, 7])
def test_batches_do_not_depend_on_look_ahead_or_start(source: Source, look_ahead: int) -> None:
    """Else a resumed run, or one on a faster machine, would train on other data."""
    order, history = Order(source.plan, 3), begin()
    with Loader(source, order, history, 2) as loader:
        straight = {step: batch for step, _, _, batch in loader.from_step(1, 20)}
    with Loader(source, order, history, look_ahead) as loader:
        resumed = {step: batch for step, _, _, batch in loader.from_step(14, 20)}
    assert list(resumed) == list(range(14, 21))
    for step, batch in resumed.items():
        assert all(np.array_equal(getattr(batch, f.name), getattr(straight[step], f.name)) for f in fields(batch))


def test_loader_ends_early(source: Source) -> None:
    """Else Ctrl-C would hang on a thread that waits for room in its queue."""
    with Loader(source, Order(source.plan, 3), begin(), 2) as loader:
        step, attempt, data_step, _ = next(iter(loader.from_step(1, 1_000_000)))
        assert (step, attempt, data_step) == (1, 0, 1)
        assert [thread.name for thread in threading.enumerate()].count("look-ahead") == 1
    assert "look-ahead" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("look_ahead", [0, 2])
def test_loader_goes_back_by_another_history(source: Source, look_ahead: int) -> None:
    """Else a run that was taken back would go on with batches of what was left out."""
    order, history = Order(source.plan, 3), begin()
    later = history.planned([Jump(data_step=9, step=4)])
    with Loader(source, order, history, look_ahead) as loader:
        seen = []
        for step, attempt, data_step, batch in loader.from_step(1, 7):
            seen.append((step, attempt, data_step))
            expected = source.batch(order.batch(history, data_step))
            assert np.array_equal(batch.tokens_BT, expected.tokens_BT)
            if seen[-1] == (6, 0, 6):
                loader.again(4, later)
    assert seen == [*((step, 0, step) for step in range(1, 7)), *((step, 1, step + 5) for step in range(4, 8))]


def test_a_cooled_rate_rises_again() -> None:
    """Else a run would go on at a lower rate for ever, or at another one than a resume would."""
    history = begin().then(Cool(data_step=5, share=0.5, steps=4)).then(Cool(data_step=7, share=0.5, steps=1))
    shares = [history.at(data_step).rate_share for data_step in range(4, 11)]
    assert shares == pytest.approx([1, 0.5, 0.625, 0.75 * 0.5, 0.875, 1, 1])


def test_targets_stay_in_their_document(source: Source) -> None:
    """Else the model would learn to predict one page's beginning from another's end, or lose targets at cuts."""
    batch = source.batch(np.arange(source.plan.sequences))
    shards = [source.corpus.tokens(part.shard) for part in source.plan.windows]
    targets = 0
    for piece in source.placed(np.arange(source.plan.sequences)):
        here = piece.row, slice(piece.column, piece.column + piece.length)
        assert (batch.tokens_BT[here] == shards[piece.window][piece.start : piece.start + piece.length]).all()
        assert batch.positions_BT[here].tolist() == list(range(piece.length))
        assert len(set(batch.documents_BT[here].tolist())) == 1
        number = piece.length - (not piece.goes_on)
        following = shards[piece.window][piece.start + 1 : piece.start + 1 + number]
        assert (batch.targets_BT[here][:number] == following).all()
        assert (batch.targets_BT[here][number:] == IGNORED).all()
        targets += number
    padding = batch.documents_BT == NO_DOCUMENT
    assert (batch.targets_BT[padding] == IGNORED).all()
    lengths = np.concatenate([source.corpus.lengths(part.shard) for part in source.plan.windows])
    assert batch.targets == targets == lengths.sum() - (lengths > 0).sum()
    assert batch.tokens == lengths.sum()


def test_left_out_documents_are_holes(source: Source) -> None:
    """Else leaving out one document would move all samples behind it."""
    order = Order(source.plan, 3)
    before = source.batch(order.batch(begin(), 7))
    piece = source.placed(order.batch(begin(), 7))[2]
    shard = source.plan.windows[piece.window].shard
    document = source.corpus.documents(shard, ["id"])["id"][piece.document].as_py().hex()
    history = begin().then(LeaveOut(data_step=7, documents=(document,)))
    assert history.at(6).left_out == frozenset()
    assert (order.batch(history, 7) == order.batch(begin(), 7)).all()
    after = source.batch(order.batch(history, 7), history.at(7).left_out)
    hole = after.documents_BT != before.documents_BT
    pieces = [
        p for p in source.placed(order.batch(begin(), 7)) if (p.window, p.document) == (piece.window, piece.document)
    ]
    expected = np.zeros_like(hole)
    for p in pieces:
        expected[p.row, p.column : p.column + p.length] = True
    assert ((after.documents_BT == NO_DOCUMENT) & (before.documents_BT != NO_DOCUMENT) == expected).all()
    assert (after.targets_BT[expected] == IGNORED).all()
    assert (after.tokens_BT[~expected] == before.tokens_BT[~expected]).all()
    assert (after.targets_BT[~expected] == before.targets_BT[~expected]).all()


def test_history_replay() -> None:
    """Else cursors would be wrong after a changed batch or a jump, and data would be repeated."""
    history = begin(4).then(GlobalBatch(data_step=3, global_batch=10)).then(Jump(data_step=8, step=6))
    assert [history.at(d).cursor for d in (1, 2, 3, 4, 8)] == [0, 4, 8, 18, 58]
    assert [history.data_step(s) for s in (1, 5, 6, 7)] == [(0, 1), (0, 5), (1, 8), (1, 9)]
    assert [history.step(d) for d in (5, 6, 7, 8, 9)] == [(0, 5), None, None, (1, 6), (1, 7)]
    assert [history.find(p) for p in (0, 3, 4, 7, 8, 17, 18, 58)] == [1, 1, 2, 2, 3, 3, 4, 8]
    assert [history.sequences(s) for s in (0, 1, 2, 3, 5, 6, 7)] == [0, 4, 8, 18, 38, 48, 58]
    back = history.then(Jump(data_step=12, step=4))  # a rollback: steps 4 to 6 are made again
    assert [back.sequences(s) for s in (3, 4, 6)] == [18, 28, 48]
    assert History.model_validate_json(history.model_dump_json()) == history


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 12)), max_size=5), st.integers(1, 12))
def test_find_is_the_inverse_of_the_cursor(changes: list[tuple[int, int]], batch: int) -> None:
    """Else a trace would name a step that never read the document."""
    history, data_step = begin(batch), 1
    for later, size in changes:
        data_step += later
        history = history.then(GlobalBatch(data_step=data_step, global_batch=size))
    for d in range(1, data_step + 5):
        moment = history.at(d)
        assert moment.cursor == sum(history.at(e).global_batch for e in range(1, d))
        assert {history.find(moment.cursor + n) for n in range(moment.global_batch)} == {d}


def test_history_is_append_only() -> None:
    """Else what a checkpoint says about the past could be rewritten."""
    history = begin().then(GlobalBatch(data_step=5, global_batch=2))
    with pytest.raises(ValidationError, match="behind"):
        history.then(LeaveOut(data_step=4, documents=()))
    with pytest.raises(ValidationError, match="one `start`"):
        history.then(Start(data_step=5, global_batch=1, sequence_length=2, seed=0))
    with pytest.raises(ValidationError, match="goes back"):
        history.then(Jump(data_step=6, step=9))
    with pytest.raises(ValidationError, match="begins with"):
        History(events=())
