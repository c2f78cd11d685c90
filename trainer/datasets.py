"""The shards as PyTorch datasets, for training loops of your own.

Packed sequences, in this trainer's order, resumable at any step, world size and number of workers:

    data = StreamingDataset("runs/demo", sequence_length=1024, global_batch=64)
    for batch in DataLoader(data, batch_size=None, num_workers=2):
        loss = model(batch["tokens"], labels=batch["labels"])

The same sequences by number, for samplers; and documents, each with what is known of it:

    DataLoader(PackedDataset("runs/demo", sequence_length=1024), batch_size=8, sampler=DistributedSampler(...))
    DocumentDataset("runs/demo", "validation")[0]["url"]

A sequence holds pieces of several documents. `labels` are the next tokens (so they are shifted already), -100 where
nothing is to be predicted; `positions` count from 0 in each piece; `documents` says which places are of one piece, of
which an attention mask is made, -1 in padding. With `packing="concatenate", joined=True` they are windows of one long
text instead. The corpus may lie at an address, such as s3://bucket/corpus.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from pipeline.errors import UserError
from trainer.batch import Batch
from trainer.data import Source, check_left_out
from trainer.history import History, Start, Weights
from trainer.mixture import weights_of
from trainer.order import Order
from trainer.packing import Packing, Plan, plan
from trainer.remote import opened

Item = dict[str, Any]

READ_AHEAD = 64
"""Batches of which the tokens are fetched in advance, where the corpus lies at an address."""


class PackedDataset(Dataset[Item]):
    """Packed sequences of a split by number: (T,) tensors `tokens`, `labels`, `positions`, `documents`.

    They are shuffled by `seed`; with None they stand as they were packed. Without `weights` every sequence is there
    once. With weights (shares of tokens by group, for shards by source) there are as many items, drawn in these shares:
    a small group repeats, each of its epochs in another order.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str = "train",
        *,
        sequence_length: int,
        seed: int | None = 0,
        weights: Mapping[str, float] | None = None,
        prefix_loss: bool = True,
        prompt_loss: bool = True,
        packing: Packing = "best-fit",
        joined: bool = False,
    ) -> None:
        corpus = opened(folder)
        check_left_out(corpus, [split], prefix_loss, prompt_loss)
        packed = plan(corpus, split, sequence_length, packing)
        events: list[Start | Weights] = [_start(1, sequence_length, seed or 0)]
        if weights is None:
            packed = _one_group(packed)
        else:
            shares = weights_of(weights, corpus, packed, split)
            assert shares is not None
            events.append(Weights(data_step=1, weights=shares))
        self._source = Source(corpus, packed, prefix_loss, joined=joined, prompt_loss=prompt_loss)
        self._history = History(events=tuple(events))
        self._order = Order(packed, seed) if seed is not None else None
        if self._order is None and weights is not None:
            raise UserError("weights need a seed, since they are drawn; give one, or leave out the weights")

    def __len__(self) -> int:
        return self._source.plan.sequences

    def __getitem__(self, number: int) -> Item:
        if not -len(self) <= number < len(self):
            raise IndexError(f"item {number} of {len(self)}")
        chosen = np.array([number % len(self)])
        if self._order is not None:
            chosen = self._order.read(self._history, chosen)
        return {name: tensor[0] for name, tensor in _tensors(self._source.batch(chosen)).items()}


class StreamingDataset(IterableDataset[Item]):
    """This trainer's batches: (B, T) tensors `tokens`, `labels`, `positions`, `documents`, and the number `data_step`.

    B is `global_batch` divided by `world_size`; rank r has its r-th part of every batch, and each worker of a
    DataLoader makes every n-th batch, so that together they give the order of a single process. For
    `DataLoader(batch_size=None)`.

    To resume, hand `load_state_dict` what `state_dict` gave; world size and number of workers may be others. In
    a loop without workers, or with torchdata's StatefulDataLoader, `state_dict` says where the loop is. Workers of
    torch's own DataLoader run ahead of the loop: there use `state_after(batch["data_step"])`.

    `weights` are shares of tokens by group, for shards by source; None: of the training split those of `mixture.json`,
    while another is read as it is. `rank` and `world_size` default to those of torch.distributed, else of the
    environment (RANK, WORLD_SIZE), else 0 and 1. It ends after `steps` batches; None: never. Raises UserError where
    corpus and settings do not fit each other.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str = "train",
        *,
        sequence_length: int,
        global_batch: int,
        seed: int = 0,
        weights: Mapping[str, float] | None = None,
        steps: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        prefix_loss: bool = True,
        prompt_loss: bool = True,
        packing: Packing = "best-fit",
        joined: bool = False,
    ) -> None:
        rank_, size = _place()
        self.rank = rank_ if rank is None else rank
        self.world_size = size if world_size is None else world_size
        if global_batch < 1 or global_batch % self.world_size or not 0 <= self.rank < self.world_size:
            raise UserError(
                f"a global_batch of {global_batch} cannot be divided among {self.world_size} ranks "
                f"(this is rank {self.rank})"
            )
        self._corpus, self._split = opened(folder), split
        check_left_out(self._corpus, [split], prefix_loss, prompt_loss)
        packed = plan(self._corpus, split, sequence_length, packing)
        if not packed.sequences:
            raise UserError(f"split '{split}' of {folder} is empty; name another, or make the corpus larger")
        self._source = Source(self._corpus, packed, prefix_loss, joined=joined, prompt_loss=prompt_loss)
        self._order = Order(self._source.plan, seed)
        self._history = History(events=(_start(global_batch, sequence_length, seed),))
        self._steps = steps
        self._origin = self._first = self._next = 1
        shares = self._shares(weights)
        if shares is not None:
            self._history = self._history.then(Weights(data_step=1, weights=shares))

    def __iter__(self) -> Iterator[Item]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        rows = self._history.start.global_batch // self.world_size
        # the first worker makes the first batch, also where this worker goes on in the middle
        data_step = self._first + (number - (self._first - self._origin)) % workers
        self._next = expected = data_step
        while self._steps is None or data_step <= self._steps:
            mine = slice(self.rank * rows, (self.rank + 1) * rows)
            while self._source.distant and expected < data_step + READ_AHEAD * workers:
                if not self._source.expect(self._order.batch(self._history, expected)[mine]):
                    break
                expected += workers
            sequences = self._order.batch(self._history, data_step)[mine]
            batch = _tensors(self._source.batch(sequences))
            self._next = data_step + workers
            yield batch | {"data_step": data_step}
            data_step += workers

    def reweigh(self, weights: Mapping[str, float]) -> None:
        """Other shares of tokens by group, from the batch on with which the next iteration begins.

        Each group is read on where it stands: nothing is repeated or lost. Call it in every rank alike; where workers
        of torch's DataLoader were reading, after `load_state_dict(state_after(...))`.
        """
        shares = self._shares(weights)
        if shares is not None:
            self._history = self._history.then(Weights(data_step=self._next, weights=shares))
        self._first = self._origin = self._next

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands: behind the last batch that was asked of it."""
        # in a worker, `origin` says which batches are its own and not another's
        return self._state(self._next, self._origin if get_worker_info() else self._next)

    def state_after(self, data_step: int) -> dict[str, Any]:
        """Where the stream stands behind batch `data_step`."""
        return self._state(data_step + 1, data_step + 1)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Makes the next iteration begin there. Raises UserError where the state is of other data."""
        if state["plan"] != self._source.plan.fingerprint:
            raise UserError(f"this state is of other shards, or of another sequence length, than {self._corpus.folder}")
        history = History.model_validate({"events": state["events"]})
        if history.start != self._history.start:
            raise UserError(
                f"this state is of another seed or global_batch: {history.start}, not {self._history.start}"
            )
        self._history = history
        self._first = self._next = state["data_step"]
        self._origin = state["origin"]

    def _state(self, data_step: int, origin: int) -> dict[str, Any]:
        events = self._history.model_dump(mode="json")["events"]
        return {"data_step": data_step, "origin": origin, "events": events, "plan": self._source.plan.fingerprint}

    def _shares(self, weights: Mapping[str, float] | None) -> dict[str, float] | None:
        return weights_of(weights, self._corpus, self._source.plan, self._split)


class DocumentDataset(Dataset[Item]):
    """The documents of a split in shard order: `tokens` (length,), boundary token included, and the `columns` asked for
    of what the corpus knows of them; `id` as hex. Items are of different lengths and may hold None: give a DataLoader a
    `collate_fn`, such as `list`.
    """

    def __init__(
        self, folder: str | Path, split: str = "train", columns: Sequence[str] = ("id", "copy", "source", "url")
    ) -> None:
        self._corpus = opened(folder)
        self._shards = self._corpus.shards(split)
        self._columns = list(columns)
        self._first = np.cumsum([0] + [shard.documents for shard in self._shards]).tolist()
        for shard in self._shards[:1]:
            there = self._corpus.columns(shard)
            if unknown := [name for name in columns if name not in there]:
                raise UserError(f"{folder} has no column '{unknown[0]}'; it has {', '.join(there)}")
        self._group: tuple[int, int, pa.Table] | None = None  # shard, first row, and a row group: the last one read

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, number: int) -> Item:
        if not -len(self) <= number < len(self):
            raise IndexError(f"document {number} of {len(self)}")
        number %= len(self)
        shard = bisect_right(self._first, number) - 1
        row = self._row(shard, number - self._first[shard])
        start, end = row.pop("token_start"), row.pop("token_end")
        tokens = self._corpus.tokens(self._shards[shard])[start:end].astype(np.int64)
        return {"tokens": torch.from_numpy(tokens)} | {
            name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()
        }

    def _row(self, shard: int, number: int) -> Item:
        if self._group is None or self._group[0] != shard or not 0 <= number - self._group[1] < len(self._group[2]):
            first = self._row_groups[shard]
            group = bisect_right(first, number) - 1
            with pq.ParquetFile(self._shards[shard].path(".docs.parquet")) as file:
                columns = list(dict.fromkeys([*self._columns, "token_start", "token_end"]))
                self._group = shard, first[group], file.read_row_group(group, columns, use_threads=False)
        _, begin, table = self._group
        return dict(table.slice(number - begin, 1).to_pylist()[0])

    @cached_property
    def _row_groups(self) -> list[list[int]]:
        """Of each shard, the first row of each row group."""
        result = []
        for shard in self._shards:
            meta = pq.read_metadata(shard.path(".docs.parquet"))
            sizes = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
            result.append(np.cumsum([0, *sizes])[:-1].tolist())
        return result


def _start(global_batch: int, sequence_length: int, seed: int) -> Start:
    return Start(data_step=1, global_batch=global_batch, sequence_length=sequence_length, seed=seed)


def _one_group(packed: Plan) -> Plan:
    """The plan without its groups, so that every sequence is read once an epoch."""
    windows = tuple(replace(window, shard=replace(window.shard, group=None)) for window in packed.windows)
    return replace(packed, windows=windows)


def _tensors(batch: Batch) -> dict[str, torch.Tensor]:
    arrays = {
        "tokens": batch.tokens_BT,
        "labels": batch.targets_BT,
        "positions": batch.positions_BT,
        "documents": batch.documents_BT,
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _place() -> tuple[int, int]:
    """(rank, world size) of this process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
