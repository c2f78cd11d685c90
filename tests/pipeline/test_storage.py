"""Remote files: what is tried again and what is not, ranges and servers without, identities, options and secrets."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopback import Flaky, Web, serving, upload

from pipeline.errors import RecipeError
from pipeline.readers.sources import File
from pipeline.storage import address, patience, remote
from pipeline.storage.patience import Passing, Unavailable, insist

DATA = bytes(range(256)) * 4_000


@pytest.fixture
def web(tmp_path: Path, reach: None) -> Iterator[tuple[Web, str]]:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.bin").write_bytes(DATA)
    (tmp_path / "b.bin").write_bytes(b"")
    app = Web(tmp_path)
    with serving(app) as where:
        yield app, where


def whole(where: str, step: int = 10_007) -> bytes:
    with File(where) as file:
        return b"".join(file.read(position, step) for position in range(0, file.size, step))


@pytest.mark.parametrize("fault", ["", "busy:2", "cut:3", "no-range", "no-validator"])
def test_a_file_over_http_is_read_whole_whatever_its_server_does(web: tuple[Web, str], fault: str) -> None:
    """A short body taken for the whole would lose records without a word."""
    app, where = web
    app.faults = {"sub/a.bin": fault}
    assert whole(f"{where}/sub/a.bin") == DATA
    with File(f"{where}/sub/a.bin") as file:
        assert file.read(300_000, 100) == DATA[300_000:300_100]


@pytest.mark.parametrize(("fault", "why", "asked"), [("gone", "HTTP 404", 2), ("down", "HTTP 500", 8)])
def test_what_is_refused_is_said_and_only_what_may_pass_is_tried_again(
    web: tuple[Web, str], monkeypatch: pytest.MonkeyPatch, fault: str, why: str, asked: int
) -> None:
    """Waiting minutes for a file that is not there wastes a night; giving up on a busy store loses a crawl."""
    monkeypatch.setenv("CORPUSMILL_TRIES", "4")
    app, where = web
    app.faults = {"sub/a.bin": fault}
    with pytest.raises(Unavailable, match=why) as told:
        remote.facts(f"{where}/sub/a.bin")
    assert told.value.answered
    assert told.value.missing == (fault == "gone")
    assert sum(app.seen.values()) == asked  # HEAD, and GET where HEAD is refused, as some servers do


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(DATA) + 10), st.integers(0, 400_000)), min_size=1, max_size=8))
def test_reads_anywhere_in_any_order_give_the_bytes_of_the_file(
    web: tuple[Web, str], reads: list[tuple[int, int]]
) -> None:
    """Blocks that are kept and read ahead must not show."""
    _, where = web
    with File(f"{where}/sub/a.bin") as file:
        for position, size in reads:
            assert file.read(position, size) == DATA[position : position + size]


def test_reading_forward_takes_few_requests_and_little_memory(s3: Flaky, tmp_path: Path) -> None:
    """An object store answers in tens of milliseconds, so small requests would mostly wait."""
    (tmp_path / "x").write_bytes(DATA * 24)
    upload(s3.where, "forward", tmp_path)
    s3.reset(s3.where)
    with remote.Remote("s3://forward/x") as file:
        size = 0
        for position in range(0, file.size, 64 << 10):
            size += len(file.read(position, 64 << 10))
            assert sum(len(data) for _, data in file._blocks) <= 2 * remote.LARGEST_BLOCK
    assert size == len(DATA) * 24
    assert s3.sent == size
    assert s3.requests["GET"] <= 10


def test_a_glob_lists_every_folder_of_a_store_or_fails(s3: Flaky, tmp_path: Path, monkeypatch: Any) -> None:
    """A folder that could not be listed, passed over in silence, would be a part of the corpus lost."""
    for name in ("a/1.gz", "a/b/2.gz", "a/b/c/3.gz", "a/b/note.txt", "a/.hidden/4.gz", "d/5.gz"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(name.encode())
    upload(s3.where, "globbed", tmp_path / "in")
    s3.reset(s3.where, every=3)
    found = {
        pattern: [path.removeprefix("s3://globbed/") for path in remote.listing(f"s3://globbed/{pattern}")]
        for pattern in ("a/*.gz", "a/**/*.gz", "*/b/[0-9].gz", "**", "none/*")
    }
    assert found == {
        "a/*.gz": ["a/1.gz"],
        "a/**/*.gz": ["a/1.gz", "a/b/2.gz", "a/b/c/3.gz"],
        "*/b/[0-9].gz": ["a/b/2.gz"],
        "**": ["a/1.gz", "a/b/2.gz", "a/b/c/3.gz", "a/b/note.txt", "d/5.gz"],
        "none/*": [],
    }
    monkeypatch.setenv("CORPUSMILL_TRIES", "2")
    s3.reset(s3.where, every=1)
    with pytest.raises(Unavailable):
        remote.listing("s3://globbed/**")


def test_a_copy_in_a_store_has_the_identity_of_the_original_and_another_url_has_not(
    s3: Flaky, web: tuple[Web, str], tmp_path: Path
) -> None:
    """A rename redoes nothing; an ETag of a web server, though, says nothing beyond its URL."""
    (tmp_path / "in").mkdir()
    for name, data in (("x", b"same"), ("y", b"same"), ("z", b"emas")):
        (tmp_path / "in" / name).write_bytes(data)
    upload(s3.where, "identities", tmp_path / "in")
    x, y, z = (remote.identity(f"s3://identities/{n}", remote.facts(f"s3://identities/{n}")) for n in "xyz")
    assert x == y != z
    app, where = web
    for name in ("p", "q"):
        (tmp_path / name).write_bytes(b"same")
        os.utime(tmp_path / name, ns=(10**18, 10**18))
    with_etag = [remote.identity(f"{where}/{n}", remote.facts(f"{where}/{n}")) for n in "pq"]
    assert remote.facts(f"{where}/p").looks() == remote.facts(f"{where}/q").looks()
    assert with_etag[0] != with_etag[1]
    app.faults = {"p": "no-validator", "q": "no-validator"}
    by_content = [remote.identity(f"{where}/{n}", remote.facts(f"{where}/{n}", again=True)) for n in "pq"]
    assert by_content[0] == by_content[1]


def test_waits_double_without_jitter_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run must not hang for ever on a store that is down."""
    waits: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", waits.append)
    monkeypatch.setenv("CORPUSMILL_TRIES", "9")
    monkeypatch.setenv("CORPUSMILL_RETRY_SECONDS", "1")

    def fails() -> None:
        raise Passing("short")

    with pytest.raises(Unavailable, match="Passing: short after 9 tries"):
        insist(fails, "s3://x/y")
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), MemoryError(), TypeError("ours"), RecipeError("x")])
def test_failures_of_this_machine_and_of_code_are_not_the_stores(error: Exception) -> None:
    """A full disk called an unavailable file would become a gap in the corpus."""

    def fails() -> None:
        raise error

    with pytest.raises(type(error)) as told:
        insist(fails, "s3://x/y")
    assert told.value is error


@pytest.mark.parametrize(
    ("protocol", "options", "why"),
    [
        ("s3", {"secret": "x"}, "storage.s3.secret: a secret does not belong"),
        ("s3", {"client_kwargs": {"aws_session_token": "x"}}, "storage.s3.client_kwargs.aws_session_token"),
        ("s3", {"endpoint_url": "http://me:word@host/"}, "storage.s3.endpoint_url: a secret"),
        ("s3", {"endpont_url": "x"}, "Did you mean 'endpoint_url'"),
        ("https", {"headers": {"Authorization": "Bearer x"}}, "storage.https.headers.Authorization"),
        ("s4", {}, "Did you mean 's3'"),
    ],
)
def test_secrets_and_slips_in_options_are_named(protocol: str, options: dict[str, Any], why: str) -> None:
    """A recipe is copied into every run folder, and from there to colleagues."""
    (told,) = address.option_problems({protocol: options})
    assert why in told
    assert "word" not in told.replace("password", "")
    assert "Bearer" not in told


def test_harmless_options_pass() -> None:
    """Endpoint, region, profile and anonymous access are what a recipe is to hold."""
    given = {"endpoint_url": "http://127.0.0.1:1", "anon": True, "profile": "x", "client_kwargs": {"region_name": "x"}}
    assert address.option_problems({"s3": given, "https": {"headers": {"User-Agent": "x"}}}) == []


@pytest.mark.parametrize(
    "where", ["https://me:word@host/x.gz", "https://host/x.gz?X-Amz-Signature=word", "s3://a:word@b/c"]
)
def test_secrets_in_addresses_are_refused_and_not_repeated(where: str) -> None:
    """A signed URL works for whoever finds it in a ledger or a log."""
    told = address.problem(where)
    assert told is not None
    assert "run folder" in told
    assert "word" not in told.replace("password", "")


@pytest.mark.parametrize(("protocol", "module", "extra"), [("s3", "s3fs", "s3"), ("https", "aiohttp", "http")])
def test_a_missing_package_is_named_with_its_extra(protocol: str, module: str, extra: str) -> None:
    """`No module named s3fs` after an hour helps nobody."""
    code = "import sys; sys.modules[sys.argv[1]] = None; from pipeline.storage.address import problem as p"
    told = subprocess.run(
        [sys.executable, "-c", f"{code}; print(p(sys.argv[2]))", module, f"{protocol}://host/x"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == (
        f"{protocol}:// needs the package {module}, which is not installed: pip install 'corpusmill[{extra}]'"
    )


@pytest.mark.parametrize(
    ("path", "is_one"),
    [("a/b.gz", False), ("/a", False), ("file:///a", False), ("C:x", False), ("s3://a/b", True), ("HTTPS://a", True)],
)
def test_what_is_remote(path: str, is_one: bool) -> None:
    """A local file must keep its fast path, whatever it is called."""
    assert address.is_remote(path) is is_one
    assert address.local_path("file:///a/b") == "/a/b"
