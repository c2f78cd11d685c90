"""A run's files in an object store: what two writers may do to each other, and what a kill or a bad store leaves."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import boto3
import pytest
from loopback import ENVIRONMENT, Flaky, serving

from pipeline import index
from pipeline.errors import DamageError, LockedError, RecipeError, UserError
from pipeline.ledger import Ledger, Row, Staged
from pipeline.recipe import read_recipe
from pipeline.storage import address
from pipeline.storage.patience import Unavailable
from pipeline.store import Put, cache, fetching, lease, mirror, opened, place, protocols
from pipeline.store.folder import file_digest
from pipeline.store.lease import StoreLock
from pipeline.work import Context

buckets = (f"store-{number}" for number in itertools.count())


@pytest.fixture
def run(s3: Flaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An address for a run, in a bucket of its own."""
    monkeypatch.setenv("CORPUSMILL_SCRATCH", str(tmp_path / "scratch"))
    bucket = next(buckets)
    client(s3).create_bucket(Bucket=bucket)
    return f"s3://{bucket}/some/run"


def client(s3: Flaky) -> Any:
    secret = ENVIRONMENT["AWS_SECRET_ACCESS_KEY"]
    return boto3.client("s3", endpoint_url=s3.where, aws_secret_access_key=secret, aws_access_key_id="loopback",
                        region_name="us-east-1")  # fmt: skip


def commit(ledger: Ledger, data: bytes, key: str = "k", final: str = "clean/k.parquet") -> Row:
    folder = ledger.attempt()
    (folder / "out").write_bytes(data)
    return ledger.commit("clean", key, [Staged(folder / "out", final)], {"kept": len(data)})


def test_a_unit_is_real_with_its_row_and_equal_attempts_are_one(run: str) -> None:
    """Else two workers at one unit would count twice, or the later one would replace what the earlier one committed."""
    ledger = Ledger(run)
    ledger.create("name")
    first = commit(ledger, b"text")
    assert commit(Ledger(run), b"text") == first
    with pytest.raises(DamageError, match="two attempts at unit clean/k gave different results"):
        commit(Ledger(run), b"other")
    assert ledger.store.file("clean/k.parquet").read_bytes() == b"text"
    assert ledger.store.file("clean/k.parquet").suffix == ".parquet"
    assert [row.key for row in Ledger(run).rows()] == ["k"]
    with pytest.raises(RecipeError, match="holds the run of recipe 'name', not of 'another'"):
        Ledger(run).check("another")


def test_a_part_that_no_row_claims_is_in_nobodys_way(run: str) -> None:
    """Else a worker killed between its part and its row would leave a unit that can never be done."""
    ledger = Ledger(run)
    ledger.create("name")
    folder = ledger.attempt()
    (folder / "out").write_bytes(b"left behind")
    ledger.store.place([Put(folder / "out", "clean/k.parquet", file_digest(folder / "out"))])
    assert ledger.valid_row("clean", "k") is None
    with pytest.raises(DamageError, match="lies where a part was to be put, with other contents"):
        commit(Ledger(run), b"text")
    again = Ledger(run)
    again.clear_attempts()
    assert commit(again, b"text").parts[0].bytes == 4
    again.refresh()
    assert again.valid_row("clean", "k") is not None
    again.clear_attempts()
    assert again.store.names("clean/") == ["clean/k.parquet"]


def test_a_part_whose_name_has_no_key_gives_way_to_the_next(run: str) -> None:
    """Else a finished run whose recipe asks for other shards now could never be brought up to date."""
    ledger = Ledger(run)
    ledger.create("name")
    commit(ledger, b"old", "a", "shards/train-00000-of-00001.bin")
    commit(ledger, b"stays", "b", "clean/b.parquet")
    again = Ledger(run)
    again.keep_only("clean", ["b", "c"])
    assert again.store.names("shards/") == []
    assert commit(again, b"new", "c", "shards/train-00000-of-00001.bin").parts[0].bytes == 3
    again.refresh()
    again.keep_only("clean", ["b", "c"])
    assert [row.key for row in again.rows() if again.valid_row("clean", row.key)] == ["b", "c"]


def test_a_part_that_was_replaced_is_found_and_redone(run: str, s3: Flaky) -> None:
    """Else whoever can write to the bucket could change a run without anybody noticing."""
    ledger = Ledger(run)
    ledger.create("name")
    commit(ledger, b"text")
    commit(ledger, b"more", "other", "clean/other.parquet")
    bucket = run.split("/")[2]
    client(s3).put_object(Bucket=bucket, Key="some/run/clean/k.parquet", Body=b"evil")
    found = Ledger(run)
    row = found.read_row("clean", "k")
    assert row is not None
    assert found.part_problem(row.parts[0], trust_stat=True) == "has other contents than were committed"
    assert found.valid_row("clean", "k") is None
    with pytest.raises(DamageError, match="was not put by corpusmill"):
        found.store.file("clean/k.parquet")
    found.clear_attempts()
    assert found.keys("clean") == ["other"]
    assert found.store.names("clean/") == ["clean/other.parquet"]
    found.distrust(found.rows()[0], ["clean/other.parquet"])  # as `verify` does: it is read again, and is fine
    fresh = Ledger(run)
    assert fresh.rows()[0].parts[0].stat == (0, 0)
    assert fresh.valid_row("clean", "other") is not None


def test_two_runs_at_once_are_refused_and_an_ended_one_is_not_waited_for(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else two runs would sweep away each other's parts; or each run would wait half a minute for the one before."""
    monkeypatch.setenv("CORPUSMILL_LEASE", "3")
    with StoreLock(run) as lock:
        assert lock.number == 1
        with pytest.raises(LockedError, match=rf"another run works in {run} \(pid {os.getpid()} on host .*, since 20"):
            StoreLock(run)
    begun = time.monotonic()
    with StoreLock(run) as lock:
        assert lock.number == 2
    assert time.monotonic() - begun < 2
    monkeypatch.setenv("CORPUSMILL_LEASE", "soon")
    with pytest.raises(RecipeError, match="CORPUSMILL_LEASE=soon"):
        StoreLock(run)


def test_the_lock_of_a_holder_that_died_elsewhere_is_taken_after_its_lease(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a machine that was taken away would lock its run for ever."""
    monkeypatch.setenv("CORPUSMILL_LEASE", "1.5")
    lock = StoreLock(run)
    lock._ended.set()  # no sign of life any more, and no word of farewell
    lock._beats.join()
    monkeypatch.setattr(lease.socket, "gethostname", lambda: "elsewhere")  # so its pid says nothing
    told: list[str] = []
    begun = time.monotonic()
    with StoreLock(run, waiting=told.append) as taken:
        assert time.monotonic() - begun >= 1.5
        assert taken.number == 2
    assert len(told) == 1
    assert f"pid {os.getpid()}" in told[0]


WORKER = """
import sys
from pathlib import Path
from pipeline.storage.address import use
from pipeline.ledger import Ledger, Staged
from pipeline.store.lease import StoreLock
run, endpoint = sys.argv[1:]
use({"s3": {"endpoint_url": endpoint}})
lock = StoreLock(run)
ledger = Ledger(run, lock.number)
ledger.create("name")
print("locked", flush=True)
sys.stdin.readline()
folder = ledger.attempt()
(folder / "out").write_bytes(b"of a zombie")
try:
    ledger.commit("clean", "k", [Staged(folder / "out", "clean/k.parquet")], {})
    print("committed", flush=True)
except Exception as error:
    print(f"{type(error).__name__}: {error}", flush=True)
sys.stdin.readline()
print(lock.lost, flush=True)
"""


def worker(run: str, s3: Flaky) -> subprocess.Popen[str]:
    """A process that holds the lock of a run, and commits a unit when it is told a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, run, s3.where], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    return process.stdout.readline()


def test_a_holder_that_slept_past_its_lease_commits_nothing(
    run: str, s3: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a machine that was paused, or cut off, would write into a run that another one has taken over."""
    monkeypatch.setenv("CORPUSMILL_LEASE", "1.5")
    process = worker(run, s3)
    try:
        process.send_signal(signal.SIGSTOP)
        with StoreLock(run) as lock:
            ledger = Ledger(run, lock.number)
            ledger.clear_attempts()
            process.send_signal(signal.SIGCONT)
            assert "LockedError: this run has lost its lock" in said(process)
            assert f"pid {os.getpid()} on host" in said(process)
            assert ledger.keys("clean") == []
            assert ledger.store.names("clean/") == [], "where it would lie in the way of the same part of this run"
            ledger.clear_attempts()
            assert commit(ledger, b"text").parts[0].bytes == 4
    finally:
        process.kill()
        process.wait()


def test_the_lock_of_a_killed_process_of_this_host_is_free_at_once(run: str, s3: Flaky) -> None:
    """Else each restart after a kill would wait out the lease."""
    process = worker(run, s3)
    process.kill()
    process.wait()
    begun = time.monotonic()
    with StoreLock(run) as lock:
        assert lock.number == 2
    assert time.monotonic() - begun < 5


UPLOAD = """
import sys
from pathlib import Path
from pipeline.storage.address import use
from pipeline.store import protocols
from pipeline.ledger import Ledger, Staged
run, endpoint = sys.argv[1:]
use({"s3": {"endpoint_url": endpoint}})
protocols.CHUNK = 5 << 20
ledger = Ledger(run)
folder = ledger.attempt()
(folder / "out").write_bytes(b"x" * (12 << 20))
ledger.commit("clean", "k", [Staged(folder / "out", "clean/k.parquet")], {})
"""


def test_an_upload_that_was_killed_half_way_is_never_seen(run: str, s3: Flaky, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a half part would be read as a whole one, or be paid for until somebody looks at the bill."""
    Ledger(run).create("name")
    bucket = run.split("/")[2]
    stuck = _Stuck(s3.app)
    with serving(stuck) as where:  # the same store, behind a line that holds the second part back
        process = subprocess.Popen([sys.executable, "-c", UPLOAD, run, where])
        end = time.monotonic() + 60
        while time.monotonic() < end and not _uploaded(s3, bucket):
            time.sleep(0.05)
        process.kill()
        process.wait()
        found = len(_uploaded(s3, bucket))
        stuck.open.set()
    assert found == 1
    ledger = Ledger(run)
    assert ledger.store.names("clean/") == []
    assert ledger.valid_row("clean", "k") is None
    ledger.clear_attempts()
    assert client(s3).list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
    monkeypatch.setattr(protocols, "CHUNK", 5 << 20)
    row = commit(ledger, b"x" * (12 << 20))
    assert "-3" in str(row.parts[0].stat[0])  # an upload in three parts
    assert Ledger(run).valid_row("clean", "k") is not None
    assert ledger.store.digest("clean/k.parquet") == row.parts[0].digest
    with pytest.raises(DamageError):
        commit(Ledger(run), b"y" * (12 << 20))


def _uploaded(s3: Flaky, bucket: str) -> list[Any]:
    uploads = client(s3).list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    found = (client(s3).list_parts(Bucket=bucket, Key=one["Key"], UploadId=one["UploadId"]) for one in uploads)
    return [part for one in found for part in one.get("Parts", [])]


class _Stuck:
    """Lets no second part of a large upload through."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.open = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if "partNumber=" in environ["QUERY_STRING"] and "partNumber=1" not in environ["QUERY_STRING"]:
            self.open.wait(60)
        return self.app(environ, start_response)  # type: ignore[no-any-return]


class _Conflicting:
    """A store in which two puts of one object meet, once."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.told = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if "HTTP_IF_NONE_MATCH" in environ and not self.told:
            self.told += 1
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            body = b"<Error><Code>ConditionalRequestConflict</Code></Error>"
            start_response("409 Conflict", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body]
        return self.app(environ, start_response)  # type: ignore[no-any-return]


def test_puts_that_meet_are_tried_again(run: str, s3: Flaky, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two attempts at one unit, at the same moment, would end the whole run."""
    conflicting = _Conflicting(s3.app)
    with serving(conflicting) as where:
        address.use({"s3": {"endpoint_url": where}})
        assert opened(run).create("ledger/notes/a", b"first")
        assert not opened(run).create("ledger/notes/a", b"second")
    assert conflicting.told == 1


class _Careless:
    """A store that knows nothing of conditions."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ.pop("HTTP_IF_NONE_MATCH", None)
        return self.app(environ, start_response)  # type: ignore[no-any-return]


def test_a_store_that_replaces_what_it_should_not_is_refused(run: str, s3: Flaky) -> None:
    """Else its runs would go well until two workers meet."""
    with serving(_Careless(s3.app)) as where:
        address.use({"s3": {"endpoint_url": where}})
        with pytest.raises(RecipeError, match="puts an object where there is one already"):
            StoreLock(run)


def test_a_store_that_fails_at_times_changes_nothing(run: str, s3: Flaky, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a throttled put, of which nobody knows whether it arrived, would stop a run or count as another's."""
    s3.reset(s3.where, every=4)
    ledger = Ledger(run)
    ledger.create("name")
    for number in range(12):
        commit(ledger, b"text" * number, str(number), f"clean/{number}.parquet")
    fresh = Ledger(run)
    assert len([row for row in fresh.rows() if fresh.valid_row("clean", row.key)]) == 12
    assert s3.failed > 5
    monkeypatch.setenv("CORPUSMILL_TRIES", "2")
    s3.every = 1
    with pytest.raises(Unavailable, match="What is committed stays; run again"):
        commit(ledger, b"late", "late", "clean/late.parquet")
    s3.every = 0
    commit(ledger, b"late", "late", "clean/late.parquet")


def test_what_cannot_hold_a_run_is_refused_by_name(run: str, s3: Flaky, tmp_path: Path) -> None:
    """Else a run would begin where it can never commit, or among somebody's other files."""
    for wrong, why in {
        "https://host/run": "no put that fails where a file is already",
        "hf://datasets/me/run": "no put that fails where a file is already",
        "s3://bucket": "name a folder in a bucket, such as s3://bucket/run",
        "s4://bucket/run": "s4",
    }.items():
        with pytest.raises(RecipeError) as refused:
            Ledger(wrong)
        assert why in str(refused.value)
    bucket = run.split("/")[2]
    client(s3).put_object(Bucket=bucket, Key="some/run/photo.jpg", Body=b"x")
    with pytest.raises(RecipeError, match="is not empty and holds no run"):
        Ledger(run).check("name")
    with pytest.raises(UserError, match=r"is no run folder: it has no ledger/run\.json"):
        Ledger(run).head()
    with pytest.raises(UserError, match=f"corpusmill fetch {run} DIR"):
        _ = Ledger(run).out
    assert place("s3://b/run/") == "s3://b/run"
    assert place("file:///tmp/x") == Path("/tmp/x")


def test_a_look_takes_what_it_asks_for_and_no_more_than_there_is_room_for(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else `head -n 2` of a corpus of a terabyte would copy all of it, without a word."""
    ledger = Ledger(run)
    ledger.create("name")
    for number in range(3):
        commit(ledger, bytes([number]) * 4000, str(number), f"shards/{number}.bin")
    monkeypatch.setenv("CORPUSMILL_SCRATCH_GB", "0.00001")  # ten kilobytes
    monkeypatch.setattr(mirror, "SAID", 4000)
    with pytest.raises(UserError, match=rf"this reads 12.0 kB of {run}.*corpusmill fetch {run} DIR; or set CORPUSMILL"):
        mirror.mirrored(run, ["shards"])
    assert not list((tmp_path / "scratch" / "files").glob("*/*.bin"))
    folder = mirror.mirrored(run)
    mirror.fill(folder, ["shards/0.bin", "shards/gone.bin"])
    mirror.fill(folder, ["shards/0.bin", "shards/1.bin"])
    assert sorted(path.name for path in folder.glob("shards/*")) == ["0.bin", "1.bin"]
    assert capsys.readouterr().err == 2 * f"fetching 4.0 kB of {run}\n"
    with pytest.raises(UserError, match=r"this reads 12.0 kB"):
        mirror.fill(folder, ["shards/2.bin"])


def test_a_run_is_copied_while_nobody_works_there(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a copy would mix what a run held before with what it holds now, or miss what went meanwhile."""
    monkeypatch.setenv("CORPUSMILL_LEASE", "3")
    ledger = Ledger(run)
    ledger.create("name")
    commit(ledger, b"text")
    ledger.set_complete(True)
    with StoreLock(run), pytest.raises(LockedError, match=rf"another run works in {run} .*Copy it when that has ended"):
        fetching.fetch(run, tmp_path / "copy", "run")
    assert fetching.fetch(run, tmp_path / "copy", "run").there == 0
    assert Ledger(tmp_path / "copy").valid_row("clean", "k") is not None


def test_copies_of_an_index_go_with_the_unit_that_read_them(
    run: str, s3: Flaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run against an index that is larger than the disk would fill it."""
    monkeypatch.setenv("CORPUSMILL_SCRATCH_GB", "0.00001")
    (tmp_path / "part").write_bytes(b"x" * 8000)
    opened(run).place([Put(tmp_path / "part", "a.generation/00000.bin", file_digest(tmp_path / "part"))])
    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        "name: small\ninputs: [{source: a, path: x.warc}]\nstages: [extract]\n"
        f"dedup: {{index: '{run}'}}\nstorage: {{s3: {{endpoint_url: '{s3.where}'}}}}\n"
    )
    other = cache.Cache()

    def take(text: bytes) -> None:
        (tmp_path / "text").write_bytes(text)
        other.get(file_digest(tmp_path / "text"), "", len(text), lambda path: path.write_bytes(text) and None)
        other.done()

    for out in (tmp_path / "run", f"{run}/out"):
        context = Context(out, tmp_path, read_recipe(recipe))
        copy = index.opener(context)("a.generation/00000.bin")
        take(b"a" * 8000)
        assert copy.exists()
        context.ledger.store.done()
        take(b"b" * 8000)
        assert not copy.exists()


@pytest.mark.parametrize("kind", ["folder", "objects"])
def test_a_store_is_one_thing_wherever_it_lies(kind: str, run: str, tmp_path: Path) -> None:
    """Else what works in a folder would fail on a cluster, where nobody looks until the bill comes."""
    out = tmp_path / "run" if kind == "folder" else run
    Ledger(out).create("name")
    store = opened(out)
    assert store.create("ledger/notes/a", b"first")
    assert not store.create("ledger/notes/a", b"second")
    store.write("ledger/notes/b/c", b"old")
    store.write("ledger/notes/b/c", b"new")
    assert store.read_all("ledger/notes/") == {"ledger/notes/a": b"first", "ledger/notes/b/c": b"new"}
    assert store.names("ledger/notes/") == ["ledger/notes/a", "ledger/notes/b/c"]
    assert {name: look.bytes for name, look in store.looks("ledger/notes/").items()} == {
        "ledger/notes/a": 5, "ledger/notes/b/c": 3,
    }  # fmt: skip
    assert store.looks("ledger/notes/")["ledger/notes/a"] == store.look("ledger/notes/a")
    (tmp_path / "part").write_bytes(b"part")
    digest = file_digest(tmp_path / "part")
    (look,) = store.place([Put(tmp_path / "part", "clean/p.bin", digest)])
    assert look == store.look("clean/p.bin")
    assert store.digest("clean/p.bin") == digest
    assert store.file("clean/p.bin").read_bytes() == b"part"
    store.delete("clean/p.bin", "ledger/notes/a", "ledger/notes/never")
    assert not store.exists("clean/p.bin")
    assert store.names("ledger/nothing/") == []
    with pytest.raises(FileNotFoundError):
        store.read("ledger/notes/a")
