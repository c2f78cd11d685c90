"""Nothing of the data is repeated or lost: weights changed in mid-run, other world sizes, loaders that are killed.

Every token of the corpus is another number, so that what was read is counted token by token, without the loader's word.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "trainer"))

from small_corpus import write_config, write_corpus

from pipeline.errors import UserError
from pipeline.shards import Corpus

pytest.importorskip("torch")

from trainer import loop
from trainer.batch import Batch
from trainer.data import Loader
from trainer.datasets import StreamingDataset
from trainer.run import train

LENGTH, BATCH = 32, 8
SHARES = {"web": 0.6, "books": 0.3, "code": 0.1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(4)
    many = {"web": [60, 70], "books": [50], "code": [40]}
    lengths = {group: [rng.integers(2, 100, n).tolist() for n in shards] for group, shards in many.items()}
    folder = write_corpus(
        tmp_path_factory.mktemp("order") / "corpus", {"train": lengths}, shares=SHARES, vocabulary=13_000
    )
    begin = 2
    for shard in Corpus.open(folder).shards("train"):
        np.arange(begin, begin + shard.tokens, dtype="<u2").tofile(shard.path(".bin"))
        begin += shard.tokens
    assert begin <= 13_000
    return folder


def owners(folder: Path) -> dict[str, list[np.ndarray]]:
    """By group, the tokens of each of its documents."""
    corpus = Corpus.open(folder)
    found: dict[str, list[np.ndarray]] = {}
    for shard in corpus.shards("train"):
        cuts = np.cumsum(corpus.lengths(shard))[:-1]
        found.setdefault(shard.group or "", []).extend(np.split(np.array(corpus.tokens(shard)), cuts))
    return found


def stream(folder: Path, rank: int = 0, world_size: int = 1) -> StreamingDataset:
    return StreamingDataset(
        folder, sequence_length=LENGTH, global_batch=BATCH, seed=2, rank=rank, world_size=world_size
    )


class Count:
    """How often each token was read, and that no document is behind another of its group by more than one."""

    def __init__(self, folder: Path) -> None:
        self.owners = owners(folder)
        self.times: Counter[int] = Counter()

    def add(self, tokens: np.ndarray) -> None:
        self.times.update(tokens[tokens > 1].tolist())  # 0 and 1 are of no document
        for documents in self.owners.values():
            times = [self.times[token] for document in documents for token in document.tolist()]
            assert max(times) - min(times) <= 1, "read again before all of its group was read"

    def epochs(self) -> dict[str, int]:
        """How often all of a group was read."""
        return {
            group: min(self.times[token] for document in documents for token in document.tolist())
            for group, documents in self.owners.items()
        }


WEIGHTS = [
    {"web": 0.1, "books": 0.1, "code": 0.8},
    {"web": 0.8, "books": 0.0, "code": 0.2},
    {"web": 1, "books": 9, "code": 0},
]


def test_a_mixture_changed_in_mid_run_repeats_and_loses_nothing(folder: Path) -> None:
    """Else a mixture changed half-way would read a fifth of the documents again and never see a third of them."""
    dataset, count = stream(folder), Count(folder)
    changes: Iterator[dict[str, float]] = iter(WEIGHTS)
    while min(count.epochs().values()) < 2:
        for step, batch in enumerate(dataset):
            count.add(batch["tokens"].numpy())
            if step == 16:
                break
        dataset.reweigh(next(changes, SHARES))
    assert next(changes, None) is None  # all changes were made on the way
    assert len(set(count.epochs().values())) > 1


def test_a_run_weighed_anew_at_resumes_repeats_and_loses_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else `corpusmill train` would read documents again that it had, and `trace`, which goes by the same order, would
    not tell. What its steps are given is counted."""
    count = Count(folder)

    class Counted(Loader):
        def from_step(self, first: int, last: int) -> Iterator[tuple[int, int, int, Batch]]:
            for step, attempt, data_step, batch in super().from_step(first, last):
                count.add(batch.tokens_BT)
                yield step, attempt, data_step, batch

    monkeypatch.setattr(loop, "Loader", Counted)
    model, data = {"layers": 1, "width": 8, "heads": 1}, {"corpus": str(folder), "validation": None}
    path = write_config(tmp_path, folder, model=model, data=data, global_batch=BATCH, micro_batch=BATCH)
    constant = ["schedule.kind=constant", "schedule.warmup=1"]
    for steps, weights in ((20, SHARES), (40, WEIGHTS[0]), (100, {"web": 0.6, "books": 0.4, "code": 0})):
        given = "{" + ", ".join(f"{name}: {weight}" for name, weight in weights.items()) + "}"
        assert train(path, [f"steps={steps}", f"data.weights={given}", *constant], lambda line: None) == 0
    assert count.times.total() > 80 * BATCH * LENGTH
    assert min(count.epochs().values()) >= 1
    assert max(count.epochs().values()) >= 2


@pytest.mark.parametrize("sizes", [(2, 4), (4, 1, 8, 2)])
def test_another_world_size_drops_nothing(folder: Path, sizes: tuple[int, ...]) -> None:
    """Else going on with 4 ranks instead of 2 would silently lose positions, or train on some twice."""
    count, straight = Count(folder), iter(stream(folder))
    state = None
    for turn in range(12):
        world = sizes[turn % len(sizes)]
        ranks = [stream(folder, rank, world) for rank in range(world)]
        for rank in ranks:
            if state is not None:
                rank.load_state_dict(state)
        parts = [iter(rank) for rank in ranks]
        for _ in range(7):
            batch = np.concatenate([next(part)["tokens"].numpy() for part in parts])
            assert (batch == next(straight)["tokens"].numpy()).all()
            count.add(batch)
        states = [rank.state_dict() for rank in ranks]
        state = states[0]
        assert all(other == state for other in states)
    assert min(count.epochs().values()) >= 1
    with pytest.raises(UserError, match="cannot be divided among 3 ranks"):
        stream(folder, 0, 3)


READING = """
import sys
from torch.utils.data import DataLoader
from trainer.datasets import StreamingDataset

data = StreamingDataset(sys.argv[1], sequence_length=32, global_batch=8, seed=2)
for batch in DataLoader(data, batch_size=None, num_workers=int(sys.argv[2])):
    print(batch["data_step"], int(batch["tokens"].sum()), flush=True)
"""


def session(process: int) -> int | None:
    """The session that a process is of."""
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(process)
    return None


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.thorough), 2])
def test_a_loader_that_was_killed_bars_nobodys_way(folder: Path, workers: int) -> None:
    """Else shared memory or locks of a dead run would stop the next one, until someone removes them by hand.

    torch's own workers unlink a segment as soon as it is open: a kill in between leaves one of each, of a name that
    nobody opens again.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    straight = stream(folder)
    expected = [
        f"{batch['data_step']} {int(batch['tokens'].sum())}" for _, batch in zip(range(9), straight, strict=False)
    ]
    for _ in range(2):
        command = [sys.executable, "-c", READING, str(folder), str(workers)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert process.stdout is not None
        assert [process.stdout.readline().strip() for _ in expected] == expected
        members = [int(one.name) for one in Path("/proc").glob("[0-9]*") if session(int(one.name)) == process.pid]
        assert len(members) > workers or not Path("/proc").exists()  # with those by whose ids segments are called
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        left = [path for member in members for path in Path("/dev/shm").glob(f"*_{member}_*")]
        for path in left:
            path.unlink()
        assert len(left) <= workers
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert not [name for name in names if "lock" in name or name.startswith(".")]
