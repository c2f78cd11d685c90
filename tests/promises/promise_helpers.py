"""A small crawl, recipes over it, and runs in processes of their own, for the tests of the promises."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pyarrow.parquet as pq
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CRAWL = ROOT / "tests" / "data" / "crawl"
KILLING = Path(__file__).parent / "killing"
GAP = (312_023, 6_961)
"""Offset and length of the zeroed member of damaged.warc.gz."""

PATIENCE = 600.0
"""Seconds that are waited for what must happen: only a run that hangs ever takes them."""

PHASES = (
    "index", "clean", "lines", "host_lines", "host", "signatures", "exact", "bands", "join", "clusters", "losers",
    "documents", "tokenizer", "tokenise", "plan", "shard",
)  # fmt: skip


def members(data: bytes, start: int = 0) -> Iterator[tuple[int, int]]:
    """(begin, end) of the gzip members that follow one another from `start`, as zlib sees them."""
    while start < len(data):
        stream = zlib.decompressobj(31)
        try:
            stream.decompress(data[start:])
        except zlib.error:
            return
        if not stream.eof:
            return
        end = len(data) - len(stream.unused_data)
        yield start, end
        start = end


def small_crawl(folder: Path) -> Path:
    """A slice of the bundled crawl: pages, a stretch with the zeroed member in it, notes in English, the table.

    In it are an equal record, an equal text and a near duplicate.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pages = (CRAWL / "web-000.warc.gz").read_bytes()
    cuts = [end for _, end in members(pages)]
    (folder / "web-a.warc.gz").write_bytes(pages[: cuts[8]])
    again = pages[cuts[1] : cuts[2]]  # a record of web-a, byte for byte
    (folder / "web-b.warc.gz").write_bytes(pages[cuts[8] : cuts[12]] + again)
    damaged = (CRAWL / "damaged.warc.gz").read_bytes()
    before = [begin for begin, _ in members(damaged)]
    after = [end for _, end in members(damaged, GAP[0] + GAP[1])]
    (folder / "damaged.warc.gz").write_bytes(damaged[before[-6] : after[5]])
    notes = gzip.decompress((CRAWL / "notes.jsonl.gz").read_bytes()).splitlines(keepends=True)
    odd = [notes[place] for place in (10, 20, 30, 40, 50, 60)]
    english = [line for line in notes if b'"en"' in line and line not in odd][:20]
    last = json.loads(english[-1])
    twins = [last | {"title": "copy"}, last | {"text": last["text"][: len(last["text"]) * 15 // 16]}]
    lines = [*english, *odd, *(json.dumps(twin).encode() + b"\n" for twin in twins)]
    (folder / "notes.jsonl").write_bytes(b"".join(lines))
    shutil.copy(CRAWL / "table.parquet", folder / "table.parquet")
    return folder


TABLE = {"text": "body", "url": "link", "title": "headline", "date": "published", "language": "lang"}


def recipe(crawl: Path) -> dict[str, Any]:
    """A recipe with every section over `small_crawl`, made for speed."""
    return {
        "name": "small",
        "inputs": [
            {"source": "web", "path": str(crawl / "*.warc.gz"), "format": "warc"},
            {"source": "notes", "path": str(crawl / "notes.jsonl"), "format": "jsonl"},
            {"source": "docs", "path": str(crawl / "table.parquet"), "format": "parquet", "fields": TABLE},
        ],
        "stages": [
            {"extract": {}},
            {"normalize": {}},
            {"language": {"min_score": 0.3}},
            {"gopher_quality": {"min_words": 20}},
            {"toxicity": {}},
        ],
        "host": {"repeated_lines": {"min_pages": 3}},
        "dedup": {"exact": ["url", "text"], "near": {"threshold": 0.8, "permutations": 64}},
        "tokenizer": {"train": {"vocabulary": 800, "sample_bytes": 60_000}},
        "mixture": {"shares": {"web": 0.4, "notes": 0.2, "docs": 0.4}, "max_epochs": 8},
        "shards": {"tokens_per_shard": 40_000, "validation": 0.2},
        "seed": 11,
    }


class Small(NamedTuple):
    """A finished run over the small crawl. Tests must not change it."""

    crawl: Path
    recipe: Path
    out: Path
    shards: dict[str, str]
    statistics: dict[str, Any]
    output: str


def write_recipe(path: Path, data: dict[str, Any]) -> Path:
    """The recipe as a file."""
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def start(*args: object, kill: dict[str, Any] | None = None, env: dict[str, str] | None = None, **settings: Any):
    """Starts `corpusmill ARGS` in a session of its own, output in `process.stdout`; `kill`: see sitecustomize."""
    paths = [str(KILLING)] if kill else []
    extra = {"COLUMNS": "160", "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]).strip(":")}
    if kill:
        extra["CORPUSMILL_TEST_KILL"] = json.dumps({"nth": 1, "moment": "before", "victim": "run"} | kill)
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", *map(str, args)],
        env=os.environ | extra | (env or {}),
        cwd=settings.pop("cwd", ROOT),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **settings,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and output of a started command; whatever it left running is ended, and fails the test."""
    output, _ = process.communicate(timeout=PATIENCE)
    left = until(lambda: not processes_of(process.pid), seconds=60)
    stop_all(process.pid)
    assert left, f"processes were left behind by a command that ended:\n{output}"
    return process.returncode, output


def run(*args: object, **settings: Any) -> tuple[int, str]:
    """`start` and `finish`."""
    return finish(start(*args, **settings))


def processes_of(session: int) -> list[psutil.Process]:
    """The living processes of a session."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> bool:
    """Waits until the condition holds; False where it never does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())


def start_held(folder: Path, *args: object, **settings: Any) -> subprocess.Popen[str]:
    """Starts `corpusmill ARGS`, and returns when a worker has taken up a unit of phase clean.

    There it waits until `release(folder)`, so that the run is still at work whenever the test does its part.
    """
    flag = folder / "held"
    kill = {"match": "/clean-0/reports/", "moment": "hold", "flag": str(flag)}
    process = start(*args, kill=kill, **settings)
    until(lambda: flag.exists() or process.poll() is not None)
    if not flag.exists():
        stop_all(process.pid)
        pytest.fail(f"phase clean never began:\n{process.communicate()[0]}", pytrace=False)
    return process


def release(folder: Path) -> None:
    """Lets the worker of `start_held` go on."""
    (folder / "held.go").touch()


def send_all(session: int, number: int) -> None:
    """Sends a signal to every process of a session that is still there."""
    for process in processes_of(session):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def stop_all(session: int) -> None:
    """Kills every process of a session at once."""
    send_all(session, signal.SIGKILL)


def shards(out: Path) -> dict[str, str]:
    """SHA-256 of every `.bin` and `.idx`."""
    files = sorted([*out.glob("shards/*.bin"), *out.glob("shards/*.idx")])
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def statistics(facts: dict[str, Any]) -> dict[str, Any]:
    """What `inspect --json` says, without times and without the names of files."""
    facts = {key: value for key, value in facts.items() if key not in ("folder", "cpu_seconds", "peak_bytes", "serial")}
    for step in facts["funnel"]:
        step.pop("seconds")
    nameless = ("path", "file")
    for section in ("inputs", "gaps"):
        plain = [{key: value for key, value in item.items() if key not in nameless} for item in facts[section]]
        facts[section] = sorted(plain, key=lambda item: json.dumps(item, sort_keys=True))
    return facts


def inspect(out: Path) -> dict[str, Any]:
    """`corpusmill inspect --json`."""
    status, output = run("inspect", out, "--json")
    assert status == 0, output
    return dict(json.loads(output))


def rows(out: Path, folder: str) -> list[dict[str, Any]]:
    """All rows of the tables in a folder of the run, read as the files lie there."""
    found: list[dict[str, Any]] = []
    for path in sorted((out / folder).glob("*.parquet")):
        found += pq.read_table(path).to_pylist()
    return found


def ledger_rows(out: Path) -> dict[str, int]:
    """Each manifest row with its modification time: a unit that was redone has another one."""
    return {
        str(path.relative_to(out / "ledger" / "rows")): path.stat().st_mtime_ns for path in out.glob("ledger/rows/*/*")
    }


def redone(before: dict[str, int], after: dict[str, int]) -> set[str]:
    """The phases of which a row was written anew."""
    return {name.split("/")[0] for name, moment in after.items() if before.get(name) != moment}
