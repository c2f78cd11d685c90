"""Training on a corpus at an address: the same batches, a bounded folder, and what bad stores, disks and kills do."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import boto3
import numpy as np
import pytest
from asked import TEXTS, write_text_corpus
from loopback import ENVIRONMENT, Flaky, upload
from small_corpus import grouped_lengths, small_lengths, write_corpus
from test_objectives import tokenizer_json, with_tokenizer

from pipeline.errors import DamageError, RecipeError, UserError
from pipeline.shards import Corpus
from pipeline.storage.patience import Unavailable
from trainer import block_cache, datasets, unigram
from trainer.block_cache import BlockCache, File
from trainer.config import load_config
from trainer.data import Loader, Source
from trainer.data_settings import CacheConfig
from trainer.datasets import StreamingDataset
from trainer.history import History, LeaveOut, Start
from trainer.judge.subject import tokenizer_of
from trainer.metrics import read
from trainer.objectives import vocabulary_of
from trainer.order import Order
from trainer.packing import plan
from trainer.remote import RemoteCorpus, opened
from trainer.run import checked, train
from trainer.text_bytes import TextBytes

buckets = (f"corpus-{number}" for number in itertools.count())
LENGTH = 32
SMALL = 4096
SHARES = {"web": 0.5, "books": 0.3, "code": 0.2}


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The cache lies in the test's folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(8)
    lengths = {name: [rng.integers(2, 90, 400).tolist() for _ in range(3)] for name in ("train",)}
    return write_corpus(tmp_path_factory.mktemp("remote") / "corpus", lengths | {"validation": [[40] * 9]})


@pytest.fixture
def there(s3: Flaky, folder: Path) -> str:
    """The address of the corpus, in a bucket of its own."""
    bucket = next(buckets)
    upload(s3.where, bucket, folder)
    return f"s3://{bucket}"


def begin() -> History:
    return History(events=(Start(data_step=1, global_batch=4, sequence_length=LENGTH, seed=3),))


def source_of(corpus: Corpus) -> Source:
    return Source(corpus, plan(corpus, "train", LENGTH))


def kept(cache: Path) -> list[Path]:
    return [path for path in (cache / "blocks").glob("*/*") if path.is_file()]


def settings(cache: Path, **more: object) -> CacheConfig:
    return CacheConfig.model_validate({"folder": cache, "block_kilobytes": SMALL >> 10} | more)


@pytest.mark.parametrize(("look_ahead", "read_ahead"), [(0, 0), (3, 20)])
def test_the_same_batches_from_an_address(
    there: str, folder: Path, tmp_path: Path, s3: Flaky, look_ahead: int, read_ahead: int
) -> None:
    """Else training from a store would be another run than from a disk. Every eleventh request fails."""
    here, distant = source_of(Corpus.open(folder)), source_of(opened(there, settings(tmp_path / "cache")))
    shard = here.plan.windows[1].shard
    left_out = here.corpus.documents(shard, ["id"])["id"][3].as_py().hex()
    history = begin().then(LeaveOut(data_step=5, documents=(left_out,)))
    s3.every = 11
    order = Order(here.plan, 3)
    assert distant.plan.fingerprint == here.plan.fingerprint
    with (
        Loader(here, order, history, 0) as local,
        Loader(distant, order, history, look_ahead, read_ahead) as loader,
    ):
        for step, _, _, batch in loader.from_step(1, 80):
            expected = local.read(step)
            for name in ("tokens_BT", "targets_BT", "positions_BT", "documents_BT"):
                assert (getattr(batch, name) == getattr(expected, name)).all()
    assert s3.failed > 0
    assert unigram.counts(distant.corpus, "train").tolist() == unigram.counts(here.corpus, "train").tolist()
    s3.every = 0
    asked = s3.requests["GET"]
    again = source_of(opened(there, settings(tmp_path / "cache")))
    assert (again.batch(np.arange(50)).tokens_BT == here.batch(np.arange(50)).tokens_BT).all()
    assert s3.requests["GET"] == asked + 1  # corpus.json alone


def test_the_folder_stays_within_its_bound(there: str, folder: Path, tmp_path: Path) -> None:
    """Else a run would fill the disk of its machine; or starve, where the bound is less than it is about to read."""
    cache, bound = tmp_path / "cache", 6 * (SMALL + 8)
    here = source_of(Corpus.open(folder))
    distant = source_of(opened(there, settings(cache, gigabytes=bound / 1e9)))
    order, most = Order(here.plan, 3), 0
    with Loader(distant, order, begin(), 2, 30) as loader:
        for step, _, _, batch in loader.from_step(1, 60):
            assert (batch.tokens_BT == here.batch(order.batch(begin(), step)).tokens_BT).all()
            most = max(most, sum(path.stat().st_size for path in kept(cache)))
    assert bound / 2 < most <= bound
    assert sum(shard.tokens for shard in here.corpus.shards("train")) * 2 > 2 * bound


def test_a_run_from_an_address(config_file: Callable[..., Path], there: str, folder: Path, tmp_path: Path) -> None:
    """Else `data.corpus: s3://...` would train on other data, or not at all."""
    logs = []
    for name, corpus in (("near", str(folder)), ("far", there)):
        data = {"corpus": corpus, "cache": {"folder": str(tmp_path / "cache"), "block_kilobytes": 4}}
        path = config_file(name, data=data, steps=6)
        assert load_config(path).data.corpus == (there if name == "far" else folder)
        assert train(path, say=lambda line: None) == 0
        logs.append([row["loss"] for row in read(load_config(path).log_file) if row["kind"] == "step"])
    assert logs[0] == logs[1]


def test_by_source_from_memory(tmp_path: Path) -> None:
    """Else only one kind of store would do, and a mixture's file would not come along."""
    import fsspec

    local = write_corpus(tmp_path / "corpus", grouped_lengths(), shares=SHARES)
    fsspec.filesystem("memory").put(str(local), "/by-source", recursive=True)
    distant = opened("memory://by-source", settings(tmp_path / "cache"))
    assert distant.mixture() == Corpus.open(local).mixture()
    chosen = np.arange(30)
    assert (source_of(distant).batch(chosen).tokens_BT == source_of(Corpus.open(local)).batch(chosen).tokens_BT).all()
    assert opened(f"file://{local}").folder == local
    with pytest.raises(Unavailable, match=r"memory://nothing/corpus\.json cannot be read: there is no such file"):
        opened("memory://nothing", settings(tmp_path / "cache"))
    with pytest.raises(UserError, match="there is no protocol nosuch"):
        opened("nosuch://corpus")


def other_client(s3: Flaky) -> object:
    secret = ENVIRONMENT["AWS_SECRET_ACCESS_KEY"]
    return boto3.client("s3", endpoint_url=s3.where, aws_secret_access_key=secret, aws_access_key_id="loopback",
                        region_name="us-east-1")  # fmt: skip


@pytest.mark.parametrize("how", ["cut", "changed while read", "of another corpus", "index"])
def test_an_object_that_is_not_what_it_was(there: str, s3: Flaky, tmp_path: Path, how: str) -> None:
    """Else a model would be trained on tokens of two corpora, without a word."""
    corpus = opened(there, settings(tmp_path / "cache"))
    shard = corpus.shards("train")[0]
    key = f"shards/{shard.name}.{'idx' if how == 'index' else 'bin'}"
    client, bucket = other_client(s3), there.removeprefix("s3://")
    data = client.get_object(Bucket=bucket, Key=key)["Body"].read()  # type: ignore[attr-defined]
    tokens = corpus.tokens(shard)
    if how == "changed while read":
        assert len(tokens[:100]) == 100
    changed = data[:-2] if how == "cut" else bytes(reversed(data))
    client.put_object(Bucket=bucket, Key=key, Body=changed)  # type: ignore[attr-defined]
    message = {
        "cut": f"holds {len(changed)} bytes, corpus.json says {len(data)} bytes",
        "changed while read": "was changed while it was read",
    }.get(how, "is not the file that corpus.json describes")
    with pytest.raises(DamageError, match=message):
        corpus.lengths(shard) if how == "index" else tokens[:]
    if how == "of another corpus":
        assert not kept(tmp_path / "cache")


def test_a_store_that_stays_down(there: str, s3: Flaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a run would hang, or end in a traceback, hours after it began."""
    corpus = opened(there, settings(tmp_path / "cache"))
    source = source_of(corpus)
    monkeypatch.setenv("CORPUSMILL_TRIES", "3")
    s3.every = 1
    with (
        Loader(source, Order(source.plan, 3), begin(), 2, 8) as loader,
        pytest.raises(Unavailable, match=r"\.bin cannot be read: .* after 3 tries"),
    ):
        next(iter(loader.from_step(1, 9)))


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a run would end in a traceback that names no folder and no setting."""
    cache = BlockCache(tmp_path, 1 << 30, SMALL, 2)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(block_cache.os, "replace", full)
    with pytest.raises(UserError, match=r"no room for blocks of it in .* data\.cache\.gigabytes allows 1\.07374 GB"):
        cache.read(File("it", "ab" * 32, SMALL, lambda start, end: bytes(end - start)), 0, 10)
    assert not list((tmp_path / "partly").iterdir())


def test_a_damaged_block_is_fetched_again(tmp_path: Path) -> None:
    """Else what a power cut left of a block would be trained on."""
    data = np.random.default_rng(1).bytes(3 * SMALL + 100)
    file = File("it", "cd" * 32, len(data), lambda start, end: data[start:end])
    assert BlockCache(tmp_path, 1 << 30, SMALL, 2).read(file, 5, 2 * SMALL + 7) == data[5 : 2 * SMALL + 7]
    first, second, third = sorted(kept(tmp_path))
    first.write_bytes(first.read_bytes()[:-9])
    second.write_bytes(b"")
    third.write_bytes(b"x" + third.read_bytes()[1:])
    assert BlockCache(tmp_path, 1 << 30, SMALL, 2).read(file, 0, 3 * SMALL) == data[: 3 * SMALL]


KILLED = """
import sys, time
from pathlib import Path
from trainer import block_cache
from trainer.block_cache import BlockCache, File
data = bytes(range(256)) * 64 * 40

def fetch(start, end):
    time.sleep(0.01)
    return data[start:end]

cache = BlockCache(Path(sys.argv[1]), 10 * 4104, 4096, 4)
file = File("it", sys.argv[2] * 32, len(data), fetch)
print("begun", flush=True)
while True:
    for number in range(0, len(data), 4096):
        assert cache.read(file, number, number + 4096) == data[number:number + 4096]
"""


def test_killed_processes_leave_nothing_that_harms(tmp_path: Path) -> None:
    """Else a crash would leave locks or halves of blocks, and the next start would hang, fail or grow beyond its bound.

    Two share a folder and are killed again and again; two others go on beside them.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for turn in range(4):
        command = [sys.executable, "-c", KILLED, str(tmp_path)]
        running = [
            subprocess.Popen([*command, "ab" if n % 2 else "cd"], env=environment, stdout=subprocess.PIPE)
            for n in range(2)
        ]
        for one in running:
            assert one.stdout is not None
            assert one.stdout.readline() == b"begun\n"
        time.sleep(0.13 + 0.05 * turn)
        for one in running:
            assert one.poll() is None
            one.send_signal(signal.SIGKILL)
        for one in running:
            one.communicate()
    (tmp_path / "partly" / "left-behind").write_bytes(b"half a bl")
    data = bytes(range(256)) * 64 * 40
    cache = BlockCache(tmp_path, 10 * 4104, 4096, 4)
    assert not list((tmp_path / "partly").iterdir())
    file = File("it", "ab" * 32, len(data), lambda start, end: data[start:end])
    found: list[bytes] = []
    readers = [threading.Thread(target=lambda: found.append(cache.read(file, 0, len(data)))) for _ in range(3)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert found == [data] * 3
    assert sum(path.stat().st_size for path in kept(tmp_path)) <= 10 * 4104


def test_what_is_about_to_be_read_is_not_removed(tmp_path: Path) -> None:
    """Else a small folder would fetch each block twice: once in advance, and once when it is needed."""
    asked: list[int] = []

    def fetch(start: int, end: int) -> bytes:
        asked.append(start)
        return bytes(end - start)

    cache = BlockCache(tmp_path, 10 * (SMALL + 8), SMALL, 1)
    file = File("it", "ef" * 32, 50 * SMALL, fetch)
    assert [cache.expect(file, n * SMALL, n * SMALL + 5) for n in range(7)] == [True] * 5 + [False] * 2
    for n in range(20, 40):
        cache.read(file, n * SMALL, n * SMALL + 5)
    for n in range(5):
        cache.read(file, n * SMALL, n * SMALL + 5)
    assert sorted(asked) == [n * SMALL for n in (*range(5), *range(20, 40))]
    assert cache.expect(file, 6 * SMALL, 6 * SMALL + 5)


def test_datasets_read_from_an_address(there: str, folder: Path) -> None:
    """Else training loops of one's own would have to download the corpus first."""
    settings_ = {"sequence_length": LENGTH, "global_batch": 4, "packing": "concatenate", "joined": True}
    near, far = (StreamingDataset(place, steps=20, **settings_) for place in (folder, there))  # type: ignore[arg-type]
    for one, other in zip(near, far, strict=True):
        assert one.keys() == other.keys()
        assert all((one[name] == other[name]).all() for name in ("tokens", "labels", "positions", "documents"))
        assert one["positions"][0].tolist() == list(range(LENGTH))


def test_a_folder_that_cannot_be_used(there: str, tmp_path: Path) -> None:
    """Else a read-only home would end in a traceback."""
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"data\.cache\.folder: .*file cannot be written to"):
        opened(there, settings(tmp_path / "file"))


def test_another_corpus_at_the_same_address(tmp_path: Path) -> None:
    """Else two corpora at one address in turn would be mixed: the folder goes by what corpus.json says."""
    import fsspec

    memory = fsspec.filesystem("memory")
    found = []
    for seed in (0, 1):
        local = write_corpus(tmp_path / f"c{seed}", small_lengths(), seed)
        memory.put(f"{local}/", "/turn/", recursive=True)
        found.append(source_of(opened("memory://turn", settings(tmp_path / "cache"))).batch(np.arange(9)).tokens_BT)
        assert (found[-1] == source_of(Corpus.open(local)).batch(np.arange(9)).tokens_BT).all()
        shutil.rmtree(local)
    assert not np.array_equal(*found)


def test_the_tokenizer_comes_along(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """Else masks would have another id than from a disk, special tokens would be masked, losses not be told by bytes,
    and nothing be written on the way."""
    import fsspec

    memory = fsspec.filesystem("memory")
    marked = write_corpus(tmp_path / "marked", small_lengths())
    with_tokenizer(marked, "huggingface", tokenizer_json(["<|fim_suffix|>", "[MASK]"]))
    memory.put(str(marked), "/marked", recursive=True)
    encoder = {"layers": 1, "width": 16, "heads": 2, "arrangement": "encoder"}

    def masked(place: str, cache: str = "cache") -> tuple[int, np.ndarray, np.ndarray]:
        data = {"corpus": place, "cache": {"folder": str(tmp_path / cache), "block_kilobytes": 4}}
        config = load_config(config_file(data=data, model=encoder, objective={"kind": "masked"}))
        source = checked(config).train
        batch = source.batch(np.arange(20))
        return vocabulary_of(config, source.corpus), batch.tokens_BT, batch.targets_BT

    for near, far in zip(masked(str(marked)), masked("memory://marked"), strict=True):
        assert (near == far).all() if isinstance(near, np.ndarray) else near == far == 64
    memory.rm("/marked/tokenizer", recursive=True)
    shutil.rmtree(marked / "tokenizer")
    masked("memory://marked")  # it is here
    for place in (str(marked), "memory://marked"):
        with pytest.raises(DamageError, match=f"^{place} has no tokenizer file tokenizer/file, which its corpus.json"):
            masked(place, "another")

    told = write_text_corpus(tmp_path / "told", TEXTS, 2)
    memory.put(str(told), "/told", recursive=True)
    distant = opened("memory://told", settings(tmp_path / "cache"))
    sizes, expected = TextBytes.of(distant), TextBytes.of(Corpus.open(told))
    assert sizes is not None
    assert expected is not None
    assert (sizes.size_V == expected.size_V).all()
    assert tokenizer_of(distant).digest == tokenizer_of(Corpus.open(told)).digest


AHEAD = 12


@pytest.mark.parametrize("how", ["in turn", "with look-ahead", "dataset"])
def test_upcoming_batches_are_fetched_before_they_are_asked_for(
    there: str, folder: Path, tmp_path: Path, s3: Flaky, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Else each step would wait for the store, and one that is away for a moment would stop the run."""
    monkeypatch.setenv("CORPUSMILL_TRIES", "1")
    here = source_of(Corpus.open(folder))
    order = Order(here.plan, 3)
    distant = source_of(opened(there, settings(tmp_path / "cache")))
    with Loader(distant, order, begin(), 2 if how == "with look-ahead" else 0, AHEAD) as loader:
        corpus, found = distant.corpus, (batch.tokens_BT for _, _, _, batch in loader.from_step(1, 60))
        if how == "dataset":
            monkeypatch.setattr(datasets, "opened", lambda place: opened(place, settings(tmp_path / "cache")))
            monkeypatch.setattr(datasets, "READ_AHEAD", AHEAD + 1)
            data = StreamingDataset(there, sequence_length=LENGTH, global_batch=4, seed=3)
            corpus, found = data._corpus, (batch["tokens"].numpy() for batch in data)
        next(found)
        assert isinstance(corpus, RemoteCorpus)
        assert corpus.blocks is not None
        deadline = time.monotonic() + 60
        while corpus.blocks._coming and time.monotonic() < deadline:
            time.sleep(0.01)
        s3.every = 1  # nothing comes from here on
        for step in range(2, AHEAD + 2):
            assert (next(found) == here.batch(order.batch(begin(), step)).tokens_BT).all()
        with pytest.raises(Unavailable):
            list(found)


def test_the_end_of_a_run_reads_a_bounded_part_of_the_corpus(
    config_file: Callable[..., Path], there: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else all of a corpus would be downloaded to print one figure, by each process, also where nothing asks for it."""
    monkeypatch.setattr(unigram, "_CHUNK", SMALL // 2)
    monkeypatch.setattr(unigram, "_MOST", 6 * (SMALL // 2))
    corpus, cache = Corpus.open(folder), tmp_path / "cache"
    found = unigram.counts(opened(there, settings(cache)), "train")
    assert found.tolist() == unigram.counts(corpus, "train").tolist()
    assert 6 <= len(kept(cache)) <= 9  # the last chunks of shards are smaller
    shards = {path.name.partition("-")[0] for path in kept(cache)}
    assert len(shards) == len(corpus.shards("train"))
    every = np.concatenate([np.array(corpus.tokens(shard)) for shard in corpus.shards("train")])
    whole = np.bincount(every, minlength=corpus.vocabulary)
    assert unigram.entropy(found) == pytest.approx(unigram.entropy(whole), abs=0.01)

    def refused(*_: object) -> None:
        raise AssertionError("counted")

    monkeypatch.setattr(unigram, "counts", refused)
    path = config_file(data={"corpus": str(folder), "validation": None}, steps=2, schedule={"warmup": 1})
    assert train(path, say=lambda line: None) == 0


def test_a_replaced_file_is_found_by_those_who_share_its_blocks(tmp_path: Path) -> None:
    """Else a token file of the same size that took the place of another would be trained on wherever two processes
    fetch each a part of it."""
    data = np.random.default_rng(2).bytes(4 * SMALL)
    fetched: list[int] = []

    def fetch(start: int, end: int) -> bytes:
        fetched.append(start)
        return data[start:end]

    good, other = (File("it", digest, len(data), fetch) for digest in (hashlib.sha256(data).hexdigest(), "ab" * 32))
    for file, raises in ((good, False), (other, True)):
        one, two = (BlockCache(tmp_path, 1 << 30, SMALL, 1) for _ in range(2))
        one.read(file, 0, 3 * SMALL)
        if raises:
            with pytest.raises(DamageError, match=r"is not the file that corpus\.json describes"):
                two.read(file, 3 * SMALL, len(data))
            assert len(kept(tmp_path)) == 4  # those of the good one
        else:
            assert two.read(file, 0, len(data)) == data
            assert sorted(fetched) == [0, SMALL, 2 * SMALL, 3 * SMALL]


def test_a_damaged_block_that_may_not_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a folder that several users share would end runs in a traceback that names no setting."""
    file = File("it", "cd" * 32, SMALL, lambda start, end: bytes(end - start))
    with pytest.raises(DamageError):
        BlockCache(tmp_path, 1 << 30, SMALL, 1).read(file, 0, SMALL)
    block = tmp_path / "blocks" / f"cd/{'cd' * 20}-{SMALL}-000000"
    block.write_bytes(b"x")

    def forbidden(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    cache = BlockCache(tmp_path, 1 << 30, SMALL, 1)
    monkeypatch.setattr(Path, "unlink", forbidden)
    with pytest.raises(UserError, match=r"data\.cache\.folder: .*-000000 is damaged and cannot be removed: Operation"):
        cache.read(file, 0, SMALL)


def test_small_files_of_corpora_that_nobody_opens_go(tmp_path: Path) -> None:
    """Else the folder would grow for ever beside the bound of its blocks: each run of a recipe is another corpus."""
    import fsspec

    for seed in (0, 1, 2):
        local = write_corpus(tmp_path / f"c{seed}", small_lengths(), seed)
        fsspec.filesystem("memory").put(str(local), f"/aged-{seed}", recursive=True)
    corpora = [opened(f"memory://aged-{seed}", settings(tmp_path / "cache")) for seed in (0, 1)]
    for corpus in corpora:
        os.utime(corpus.folder, (0, time.time() - 40 * 86_400))
        assert corpus.lengths(corpus.shards("train")[0]).sum() > 0
    opened("memory://aged-1", settings(tmp_path / "cache"))
    assert [corpus.folder.exists() for corpus in corpora] == [False, True]
    assert corpora[0].lengths(corpora[0].shards("train")[0]).sum() > 0  # who still reads it fetches it again


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gigabytes": float("inf")}, r"data\.cache\.gigabytes: .*finite"),
        (
            {"gigabytes": 0.0001, "block_kilobytes": 100},
            r"data\.cache: gigabytes: 0\.0001 is less than two blocks of 100",
        ),
    ],
)
def test_bounds_that_cannot_be_held(
    config_file: Callable[..., Path], settings: dict[str, object], message: str
) -> None:
    """Else a run would end in an OverflowError, or fill more of a disk than it was given."""
    with pytest.raises(RecipeError, match=message):
        load_config(config_file(data={"corpus": "memory://c", "cache": settings}))
