"""Copies of a store's files on this machine: shared, checked, bounded, and never taken from under a reader."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import xxhash

from pipeline.store import cache as caches
from pipeline.store.cache import Cache, Damaged, own_folder

KB = 1000


def digest(data: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(data)


def get(cache: Cache, data: bytes, sent: bytes | None = None) -> Path:
    return cache.get(
        digest(data), ".bin", len(data), lambda path: path.write_bytes(data if sent is None else sent) and None
    )


def test_a_copy_is_fetched_once_and_checked(tmp_path: Path) -> None:
    """Else each unit would pay for the same gigabytes again, and a broken download would become training text."""
    cache = Cache(tmp_path)
    fetched: list[Path] = []

    def fetch(path: Path) -> None:
        fetched.append(path)
        path.write_bytes(b"text")

    paths = {cache.get(digest(b"text"), ".parquet", 4, fetch) for _ in range(3)}
    assert len(fetched) == 1
    assert [path.read_bytes() for path in paths] == [b"text"]
    assert paths.pop().suffix == ".parquet"
    with pytest.raises(Damaged):
        get(cache, b"whole", b"who")
    assert get(cache, b"whole").read_bytes() == b"whole"
    assert not list((tmp_path / "partly").iterdir())


def test_room_is_made_of_what_nobody_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a long run would fill the disk, or take a mapped part from under the unit that reads it."""
    monkeypatch.setenv("CORPUSMILL_SCRATCH_GB", "0.00001")  # ten kilobytes
    mine, other = Cache(tmp_path), Cache(tmp_path)
    blocks = [bytes([number]) * 4 * KB for number in range(6)]
    held = get(other, blocks[0])
    first = get(mine, blocks[1])
    mine.done()
    paths = []
    for block in blocks[2:]:
        time.sleep(0.01)
        paths.append(get(mine, block))
        mine.done()
    assert held.read_bytes() == blocks[0]
    assert not first.exists()
    assert [path.exists() for path in paths] == [False, False, False, True]
    other.done()
    get(mine, b"x" * 9 * KB)
    assert not held.exists()


def test_units_of_one_process_keep_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a unit that ends would have what another thread of its process still reads taken away."""
    monkeypatch.setenv("CORPUSMILL_SCRATCH_GB", "0.00001")
    cache = Cache(tmp_path)

    def take(data: bytes, owner: str) -> Path:
        return cache.get(digest(data), ".bin", len(data), lambda path: path.write_bytes(data) and None, owner)

    first, second = take(b"a" * 6 * KB, "one"), take(b"b" * 6 * KB, "two")
    cache.done("two")
    get(Cache(tmp_path), b"c" * 6 * KB)
    assert first.exists()
    assert not second.exists()


def test_several_processes_fetch_one_file_once(tmp_path: Path) -> None:
    """Else the workers of one machine would each download what all of them read."""
    script = f"""
import sys, time
from pathlib import Path
from pipeline.store.cache import Cache
def fetch(path):
    with open({str(tmp_path / "fetched")!r}, "a") as file:
        file.write("once\\n")
    time.sleep(0.3)
    path.write_bytes(b"text")
print(Cache(Path({str(tmp_path)!r})).get({digest(b"text")!r}, "", 4, fetch).read_text())
"""
    running = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0].strip() for process in running] == ["text"] * 3
    assert (tmp_path / "fetched").read_text() == "once\n"
    cache = Cache(tmp_path)  # and so do the threads of one process, also where the fetch fails at first
    tries: list[int] = []

    def fetch(path: Path) -> None:
        tries.append(1)
        time.sleep(0.05)
        if len(tries) == 1:
            raise TimeoutError
        path.write_bytes(b"other")

    found: list[bytes] = []

    def work() -> None:
        try:
            found.append(cache.get(digest(b"other"), "", 5, fetch).read_bytes())
        except TimeoutError:
            found.append(b"failed")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [b"failed", *[b"other"] * 3]
    assert len(tries) == 2


def test_what_a_killed_process_listed_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each killed worker would keep a piece of the disk for ever."""
    script = f"""
import os, signal
from pathlib import Path
from pipeline.store.cache import Cache, own_folder
own_folder(Path({str(tmp_path)!r}) / "own")
Cache(Path({str(tmp_path)!r})).get({digest(b"a" * 9 * KB)!r}, "", 9000, lambda path: path.write_bytes(b"a" * 9000))
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    (left,) = (tmp_path / "files").glob("*/*")
    assert len(list((tmp_path / "own").iterdir())) == 1
    monkeypatch.setenv("CORPUSMILL_SCRATCH_GB", "0.00001")
    get(Cache(tmp_path), b"b" * 9 * KB)
    assert not left.exists()
    assert list((tmp_path / "own").iterdir()) != []
    mine = own_folder(tmp_path / "own")
    assert list((tmp_path / "own").iterdir()) == [mine.parent]
    assert own_folder(tmp_path / "own").parent == mine.parent


def test_what_killed_fetches_left_is_removed(tmp_path: Path) -> None:
    """Else the halves of large files, and a list of each process that ever was, would lie there for ever."""
    script = f"""
import os, signal
from pathlib import Path
from pipeline.store.cache import Cache
def fetch(path):
    path.write_bytes(b"ha")
    os.kill(os.getpid(), signal.SIGKILL)
Cache(Path({str(tmp_path)!r})).get({digest(b"half")!r}, "", 4, fetch)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    assert len(list((tmp_path / "partly").iterdir())) == 1
    living = Cache(tmp_path)
    seen: list[int] = []

    def fetch(path: Path) -> None:
        Cache(tmp_path).close()  # another process begins meanwhile
        seen.append(len(list((tmp_path / "partly").iterdir())))
        path.write_bytes(b"whole")

    assert living.get(digest(b"whole"), "", 5, fetch).read_bytes() == b"whole"
    assert seen == [1], "that of the living one alone"
    assert [str(path) for path in (tmp_path / "users").iterdir()] == [living._list.name]


def test_threads_that_begin_at_once_share_what_they_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the list of one would be let go, and another process would remove a copy between its fetch and its use."""
    monkeypatch.setenv("CORPUSMILL_SCRATCH", str(tmp_path))
    begin, found = threading.Barrier(16), []

    def work() -> None:
        begin.wait()
        found.append(caches.of_process())

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {id(one) for one in found} == {id(caches.of_process())}
    assert len(list((tmp_path / "users").iterdir())) == 1


def test_folders_of_living_processes_elsewhere_stay(tmp_path: Path) -> None:
    """Else two containers that share a disk would remove each other's attempts, for pids mean nothing there."""
    script = f"""
import os, sys
from pathlib import Path
os.getpid = lambda: 2 ** 22 + 1  # which no process of this machine can have
from pipeline.store.cache import own_folder
(own_folder(Path({str(tmp_path)!r}) / "own") / "out").touch()
print("made", flush=True)
sys.stdin.read()
"""
    there = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert there.stdout is not None
    assert there.stdout.readline() == "made\n"
    (out,) = (tmp_path / "own").glob("*/*/out")
    own_folder(tmp_path / "own")
    caches.clear_of_dead(tmp_path / "own")
    assert out.exists()
    there.communicate()
    caches.clear_of_dead(tmp_path / "own")
    assert not out.exists()


def test_copies_are_listed_only_where_room_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each fetch would stat thousands of copies, while all other processes of the machine wait."""
    listed: list[str] = []
    plain = Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, pattern: listed.append(pattern) or plain(self, pattern))
    monkeypatch.setenv("CORPUSMILL_SCRATCH_GB", "0.0001")  # a hundred kilobytes
    cache = Cache(tmp_path)
    blocks = [bytes([number]) * 2 * KB for number in range(200)]
    paths = []
    for block in blocks[:50]:
        paths.append(get(cache, block))
        cache.done()
    assert all(path.exists() for path in paths)
    assert len(listed) == 1, "the first time, for nobody knew"
    for block in blocks[50:100]:
        get(cache, block)
        cache.done()
        assert sum(path.stat().st_size for path in plain(tmp_path / "files", "*/*")) <= 100 * KB
    assert len(listed) < 12
    listed.clear()
    held = [get(cache, block) for block in blocks[100:]]  # all in use, twice what may lie there
    assert all(path.exists() for path in held)
    assert len(listed) < 25
