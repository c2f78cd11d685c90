"""What a worker compares before it works: an installation that is not the driver's is refused by name."""

from __future__ import annotations

import json
import os
import socket
from importlib.metadata import version
from pathlib import Path

import pytest
from apache_beam.runners.portability.local_job_service import LocalJobServicer
from pool_jobs import pool
from small_run import write_recipe

from pipeline import engine, fingerprint, nursery, resources, work
from pipeline.failures import UnitFailed
from pipeline.fingerprint import WorkerMismatch
from pipeline.phases import PHASES
from pipeline.recipe import read_recipe
from pipeline.runner import Order
from pipeline.runner import run as run_order
from pipeline.work import Context


def context_of(recipe: Path) -> Context:
    return Context(recipe.parent / "out", recipe.parent, read_recipe(recipe))


def test_what_a_resume_key_may_hold_is_compared(demo_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A phase that names one more library in its keys must have it compared, without anybody thinking of it."""
    asked: set[str] = set()

    def seen(package: str) -> str:
        asked.add(package)
        return version(package)

    monkeypatch.setattr(work, "release", seen)
    context = Context.from_json(json.loads((demo_run / "ledger" / "context.json").read_text()))
    for phase in PHASES.values():
        phase.tasks(context)
    assert asked >= {"pyarrow", "numba", "tokenizers", "tldextract"} or asked >= {"pyarrow", "numba", "sentencepiece"}
    facts = fingerprint.of(context)
    assert asked <= set(facts["packages"])
    assert {name for _, stage in context.chain for name in stage.packages} <= set(facts["packages"])
    assert facts["packages"]["pyarrow"] == version("pyarrow")
    assert json.loads(json.dumps(facts)) == facts
    fingerprint.check(facts, context)


def test_differences_are_named(tmp_path: Path) -> None:
    """Who reads of a refused worker must learn which host to mend, and what to install there."""
    context = context_of(write_recipe(tmp_path))
    expected = json.loads(json.dumps(fingerprint.of(context)))
    expected["packages"] |= {"pyarrow": "1.0", "ours": "3.0"}
    expected["stages"]["normalize"]["version"] = "0"
    del expected["packages"]["numba"]
    expected["Unicode"] = "1.1"
    expected["code"]["stages"] = "0" * 32
    with pytest.raises(WorkerMismatch) as refused:
        fingerprint.check(expected, context)
    text = str(refused.value)
    assert text.startswith(f"worker on host {socket.gethostname()} has pyarrow {version('pyarrow')}, the driver 1.0; ")
    assert "ours none, the driver 3.0" in text
    assert "; and 2 more." in text
    with pytest.raises(WorkerMismatch, match=r"code\.stages"):
        fingerprint.check({"code": expected["code"]})


def test_another_file_behind_the_name_of_a_model(tmp_path: Path) -> None:
    """A blocklist of last month on one host would let pages through that the keys say are out."""
    stages = [{"url": {"blocklists": ["lists"]}}]
    (tmp_path / "lists").mkdir()
    domains = tmp_path / "lists" / "domains"
    domains.write_text("bad.example\n")
    recipe = write_recipe(tmp_path, stages=stages)
    context = context_of(recipe)
    expected = fingerprint.of(context)
    fingerprint.check(expected, context)
    domains.write_text("bat.example\n")  # of the same size, at once
    with pytest.raises(
        WorkerMismatch, match=r"has stages\.url\.files\.\S*domains [0-9a-f]{12}, the driver [0-9a-f]{12}"
    ):
        fingerprint.check(expected, context)
    domains.unlink()
    with pytest.raises(WorkerMismatch, match=r"worker on host \S+: .*lists.*; the driver has it"):
        fingerprint.check(expected, context)


def test_a_file_that_is_untouched_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker would read gigabytes of models before its first unit, only to compare them."""
    path = tmp_path / "model"
    path.write_bytes(b"one")
    read: list[bytes] = []

    def digest(data: bytes) -> str:
        read.append(data)
        return data.hex()

    monkeypatch.setattr(resources, "digest", digest)
    files = {"model": "model"}
    assert resources.digests(files, tmp_path) == {"model": b"one".hex()}
    assert resources.digests(files, tmp_path) == {"model": b"one".hex()}
    assert len(read) == 2  # it is too young to be trusted
    os.utime(path, (1e9, 1e9))
    for _ in range(3):
        assert resources.digests(files, tmp_path) == {"model": b"one".hex()}
    assert len(read) == 3
    path.write_bytes(b"two")
    assert resources.digests(files, tmp_path) == {"model": b"two".hex()}


@pytest.mark.skipif(not nursery.available(), reason="processes are forked on Linux only")
def test_a_worker_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would do units that look like those of the others, and are not."""
    other = tmp_path / "other"
    for name in ("pyarrow", "corpusmill"):
        stub = other / f"{name}-0.0.1.dist-info"
        stub.mkdir(parents=True)
        (stub / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0.1\n")
    recipe = write_recipe(tmp_path)
    with pool(tmp_path, {"PYTHONPATH": str(other)}) as running:
        assert "corpusmill 0.0.1" in running.ready
        for where in ("by the pool", "by the worker"):
            context = Context(tmp_path / where, tmp_path, read_recipe(recipe))
            context.ledger.folder.mkdir(parents=True)
            context.ledger.create("small")
            desk = context.ledger.folder / "runs" / "one"
            desk.mkdir(parents=True)
            servicer = LocalJobServicer(str(tmp_path / "staging"))
            options = [
                f"--job_endpoint=localhost:{servicer.start_grpc_server(0)}",
                "--environment_type=EXTERNAL",
                f"--environment_config=localhost:{running.port}",
            ]
            try:
                with pytest.raises(UnitFailed) as failed:
                    run_order(Order(context, 1, "PortableRunner", options, desk))
            finally:
                servicer.stop()
            failure = failed.value.failure
            assert failure.expected
            told = f"worker on host {socket.gethostname()} has corpusmill 0.0.1, the driver {version('corpusmill')}"
            if where == "by the worker":
                told += f"; pyarrow 0.0.1, the driver {version('pyarrow')}"
            assert failure.message.startswith(f"{told}. Equal bytes")
            assert context.ledger.rows() == []
            started = list(running.logs.glob("*worker*.log"))
            assert len(started) == (where == "by the worker")  # and nothing is tried again
            monkeypatch.setattr(engine, "told", lambda options, context: list(options))
