"""The public datasets, in torch's own loaders."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_corpus import grouped_lengths, write_corpus
from torch.utils.data import DataLoader, DistributedSampler

from pipeline.errors import RecipeError, UserError
from pipeline.shards import Corpus
from trainer.data import Loader, Source
from trainer.datasets import DocumentDataset, PackedDataset, StreamingDataset
from trainer.history import History, Start
from trainer.order import Order
from trainer.packing import plan

LENGTH = 32
SHARES = {"web": 0.5, "books": 0.3, "code": 0.2}
NAMES = ("tokens", "labels", "positions", "documents")


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("grouped") / "corpus", grouped_lengths(), shares=SHARES)


def loader(dataset: Any, workers: int = 0, **settings: Any) -> DataLoader[Any]:
    """torch's own; with workers a stuck one is an error, not a test without an end."""
    return DataLoader(dataset, num_workers=workers, timeout=300 if workers else 0, **settings)


def stream(folder: Path, **changes: Any) -> StreamingDataset:
    return StreamingDataset(folder, **{"sequence_length": LENGTH, "global_batch": 6, "seed": 3, "steps": 40, **changes})


def collected(dataset: StreamingDataset, workers: int = 0) -> list[Any]:
    return [batch["tokens"].tolist() for batch in loader(dataset, workers, batch_size=None)]


def joined(ranks: list[list[Any]]) -> list[Any]:
    """The batches of all ranks, put together."""
    return [[row for part in parts for row in part] for parts in zip(*ranks, strict=True)]


def test_stream_is_what_the_trainer_reads(corpus: Corpus) -> None:
    """Else a loop of one's own would train on another order than `corpusmill train` with the same seed."""
    source = Source(corpus, plan(corpus, "train", LENGTH))
    history = History(events=(Start(data_step=1, global_batch=6, sequence_length=LENGTH, seed=3),))
    with Loader(source, Order(source.plan, 3), history, 0) as reader:
        expected = [batch for _, _, _, batch in reader.from_step(1, 40)]
    for number, (batch, theirs) in enumerate(zip(stream(corpus.folder), expected, strict=True), 1):
        assert batch["data_step"] == number
        arrays = (theirs.tokens_BT, theirs.targets_BT, theirs.positions_BT, theirs.documents_BT)
        assert all((batch[name].numpy() == array).all() for name, array in zip(NAMES, arrays, strict=True))


def test_ranks_and_workers_share_without_overlap(grouped: Path) -> None:
    """Else GPUs would train on the same sequences, or none on some, and more workers would mean another order."""
    alone = collected(stream(grouped))
    assert collected(stream(grouped), workers=2) == alone
    ranks = [collected(stream(grouped, rank=rank, world_size=3)) for rank in range(3)]
    assert joined(ranks) == alone
    with pytest.raises(UserError, match="cannot be divided among 4 ranks"):
        stream(grouped, rank=0, world_size=4)
    with pytest.raises(UserError, match="a global_batch of 0 cannot be divided among 1 ranks"):
        stream(grouped, global_batch=0)
    with pytest.raises(UserError, match="a sequence_length of 0 leaves nothing to predict"):
        stream(grouped, sequence_length=0)


def test_another_split_is_read_as_it_is(grouped: Path) -> None:
    """Else a validation split by source could not be streamed: a group of the mixture may have no documents in it."""
    data = StreamingDataset(grouped, "validation", sequence_length=LENGTH, global_batch=1, seed=3)
    packed = plan(Corpus.open(grouped), "validation", LENGTH)
    found = sorted(next(batches)["tokens"][0].tolist() for batches in [iter(data)] for _ in range(packed.sequences))
    assert found == sorted(Source(Corpus.open(grouped), packed).batch(np.arange(packed.sequences)).tokens_BT.tolist())


def test_stream_resumes_at_any_world_size(grouped: Path) -> None:
    """Else a job that comes back on fewer GPUs would repeat or lose data (Megatron-Bridge#5637)."""
    alone = collected(stream(grouped))
    running = stream(grouped)
    batches = iter(running)
    assert [next(batches)["tokens"].tolist() for _ in range(11)] == alone[:11]
    state = pickle.loads(pickle.dumps(running.state_dict()))
    ranks = []
    for rank in range(2):
        later = stream(grouped, rank=rank, world_size=2)
        later.load_state_dict(state)
        ranks.append(collected(later, workers=rank * 2))
    assert joined(ranks) == alone[11:]

    # workers run ahead of the loop, which says itself how far it is
    later = stream(grouped)
    for batch in loader(stream(grouped), 2, batch_size=None):
        if batch["data_step"] == 7:
            later.load_state_dict(stream(grouped).state_after(batch["data_step"]))
            break
    assert collected(later, workers=2) == alone[7:]
    with pytest.raises(UserError, match="another seed"):
        stream(grouped, seed=4).load_state_dict(state)
    with pytest.raises(UserError, match="another sequence length"):
        stream(grouped, sequence_length=16).load_state_dict(state)


def test_stream_weighed_anew_repeats_and_loses_nothing(grouped: Path) -> None:
    """Else curricula in loops of one's own would have what Megatron's and MosaicML's have: repeats and losses."""
    dataset = stream(grouped, steps=20)
    batches = iter(dataset)
    read = [next(batches) for _ in range(9)]
    dataset.reweigh({"web": 0, "books": 3, "code": 1})
    read += list(dataset)
    assert [batch["data_step"] for batch in read] == list(range(1, 21))
    later = stream(grouped, steps=20)
    later.load_state_dict(dataset.state_after(14))
    for batch, again in zip(read[14:], later, strict=True):
        assert (batch["tokens"] == again["tokens"]).all()
    corpus = Corpus.open(grouped)
    rows = Counter(tuple(row) for batch in read for row in batch["tokens"].tolist())
    packed = plan(corpus, "train", LENGTH)
    source = Source(corpus, packed)
    for group in packed.groups:
        own = [
            tuple(row) for row in source.batch(np.arange(group.first, group.first + group.sequences)).tokens_BT.tolist()
        ]
        times = [rows[row] for row in own]
        assert max(times) - min(times) <= 1
    with pytest.raises(RecipeError, match="Did you mean 'books'"):
        dataset.reweigh({"web": 0, "book": 3, "code": 1})


def test_packed_sequences_by_number(corpus: Corpus) -> None:
    """Else samplers could not be used: every sequence once, shuffled or as packed, in any process."""
    data = PackedDataset(corpus.folder, sequence_length=LENGTH, seed=5)
    source = Source(corpus, plan(corpus, "train", LENGTH))
    expected = sorted(source.batch(np.arange(source.plan.sequences)).tokens_BT.tolist())
    items = [data[number] for number in range(len(data))]
    assert all(set(item) == set(NAMES) and item["tokens"].shape == (LENGTH,) for item in items)
    assert sorted(item["tokens"].tolist() for item in items) == expected
    assert [item["tokens"].tolist() for item in items] != expected
    straight = PackedDataset(corpus.folder, sequence_length=LENGTH, seed=None)
    assert straight[-1]["tokens"].tolist() == source.batch(np.array([len(straight) - 1])).tokens_BT[0].tolist()
    with pytest.raises(IndexError):
        data[len(data)]

    loaded = [row for batch in loader(data, 2, batch_size=5) for row in batch["tokens"].tolist()]
    assert loaded == [item["tokens"].tolist() for item in items]
    shared = []
    for rank in range(2):
        sampler = DistributedSampler(data, num_replicas=2, rank=rank, shuffle=True, seed=1, drop_last=True)
        shared += [row for batch in loader(data, batch_size=5, sampler=sampler) for row in batch["labels"].tolist()]
    assert len(shared) == len(data) // 2 * 2
    assert not Counter(map(tuple, shared)) - Counter(tuple(item["labels"].tolist()) for item in items)


def test_packed_sequences_by_weight(grouped: Path) -> None:
    """Else shards by source could only be read in the shares that they happen to have."""
    corpus = Corpus.open(grouped)
    assert len(PackedDataset(grouped, sequence_length=LENGTH)) == plan(corpus, "train", LENGTH).sequences
    data = PackedDataset(grouped, sequence_length=LENGTH, weights={"web": 0, "books": 1, "code": 0})
    own = plan(corpus, "train", LENGTH).groups[1]
    first = Counter(tuple(data[number]["tokens"].tolist()) for number in range(own.sequences))
    assert set(first.values()) == {1}
    expected = Source(corpus, plan(corpus, "train", LENGTH)).batch(np.arange(own.first, own.first + own.sequences))
    assert sorted(first) == sorted(map(tuple, expected.tokens_BT.tolist()))


def test_a_process_that_is_handed_a_dataset_copies_no_shard(corpus: Corpus) -> None:
    """Else spawned workers would each hold the corpus in memory."""
    data = PackedDataset(corpus.folder, sequence_length=LENGTH)
    before = data[3]
    text = pickle.dumps(data)
    assert corpus.tokens(corpus.shards("train")[0])[:200].tobytes() not in text
    assert (pickle.loads(text)[3]["tokens"] == before["tokens"]).all()


def test_documents_with_what_is_known_of_them(corpus: Corpus) -> None:
    """Else a loop could not weigh or filter by source, nor say where a text is from."""
    data = DocumentDataset(corpus.folder, columns=("id", "source", "url", "language"))
    rows = [row for shard in corpus.shards("train") for row in corpus.documents(shard).to_pylist()]
    tokens = [part for shard in corpus.shards("train")
              for part in np.split(corpus.tokens(shard), np.cumsum(corpus.lengths(shard))[:-1])]  # fmt: skip
    assert len(data) == len(rows)
    for number in (0, 70, 5, 119, -1):
        item, row = data[number], rows[number]
        assert item.keys() == {"tokens", "id", "source", "url", "language"}
        assert item["tokens"].dtype == torch.int64
        assert item["tokens"].tolist() == tokens[number].tolist()
        assert (item["id"], item["url"]) == (row["id"].hex(), row["url"])
    loaded = [item for items in loader(data, 2, batch_size=7, collate_fn=list) for item in items]
    assert [item["id"] for item in loaded] == [row["id"].hex() for row in rows]
    with pytest.raises(UserError, match="no column 'score'; it has id, copy"):
        DocumentDataset(corpus.folder, columns=("score",))


def test_what_there_is_nothing_of_is_said(tmp_path: Path, corpus: Corpus) -> None:
    """Else a loop of one's own would end in a ZeroDivisionError, or learn prompts that it meant to leave out."""
    folder = write_corpus(tmp_path / "c", {"train": [[9] * 20], "validation": [[]]})
    with pytest.raises(UserError, match=r"split 'validation' of .* is empty"):
        StreamingDataset(folder, "validation", sequence_length=LENGTH, global_batch=1)
    for dataset in (stream, lambda folder, **asked: PackedDataset(folder, sequence_length=LENGTH, **asked)):
        with pytest.raises(RecipeError, match=r"data\.prompt_loss: .* has no prompts"):
            dataset(corpus.folder, prompt_loss=False)
