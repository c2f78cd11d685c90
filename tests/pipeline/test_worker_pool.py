"""`corpusmill worker`: workers of a runner that is not ours, on real pools, and what is left when processes die."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from apache_beam.runners.portability.local_job_service import LocalJobServicer
from pool_jobs import HERE, PATIENCE, Running, gone, hang, hanging, look, pool, run, say_mended, serving
from small_run import write_recipe

from pipeline import nursery
from pipeline.ledger import Ledger
from pipeline.pool import logs as logs_module
from pipeline.pool.logs import Logs
from pipeline.pool.telling import CONTEXT
from pipeline.recipe import Recipe, read_recipe
from pipeline.runner import Order
from pipeline.runner import run as run_order
from pipeline.work import Context

pytestmark = pytest.mark.skipif(not nursery.available(), reason="processes are forked on Linux only")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A pool that tests share: whatever they kill of it, it must go on."""
    with pool(tmp_path_factory.mktemp("pool")) as running:
        yield running
        everyone = running.all
        assert len(everyone) >= 2  # pool, server, nurseries
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(PATIENCE) == 130
        assert gone(everyone)


def seen(running: Running, path: Path, params: dict[str, str] | None = None) -> list[str]:
    run(running.port, look, str(path), params)
    return path.read_text().split("\n")


def test_workers_are_forks_with_the_environment_of_a_run(one: Running, tmp_path: Path) -> None:
    """Else hashing would differ between hosts, modules of the folder would stand in for ours, and each start cost
    seconds."""
    assert "corpusmill 0." in one.ready
    assert "apache-beam 2." in one.ready
    pid, parent, address, seed, safe, _ = seen(one, tmp_path / "a")
    assert (seed, safe) == ("0", "True")
    assert address.startswith("corpusmill-")
    assert psutil.Process(int(parent)).ppid() == one.process.pid
    pid_2, parent_2, *_ = seen(one, tmp_path / "b")
    assert pid_2 != pid  # what a job leaves behind in a process must not meet the next one
    assert parent_2 == parent
    assert gone([other for other in one.all if other.pid in (int(pid), int(pid_2))])
    written = [path.read_text() for path in one.logs.glob("*worker*.log")]
    assert sum("a line of a worker" in text for text in written) >= 2


def test_a_phase_with_a_guarded_stage(one: Running, tmp_path: Path) -> None:
    """Children of guarded stages are asked of the nursery; without one the clean phase could not begin."""
    crawl = write_recipe(tmp_path).parent / "crawl"
    (crawl / "page.html").write_text("<p>" + "Some words of a page that is long enough. " * 20, "utf-8")
    page = (crawl / "page.html").read_bytes()
    head = "WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://a.example/\r\nContent-Type: application/http\r\n"
    body = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page
    (crawl / "a.warc").write_bytes(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body + b"\r\n\r\n")
    inputs = [{"source": "web", "path": "crawl/a.warc", "format": "warc"}]
    path = tmp_path / "guarded.yaml"
    path.write_text(json.dumps({"inputs": inputs, "stages": [{"extract": {}}, {"normalize": {}}]}))
    context = Context(tmp_path / "out", tmp_path, read_recipe(path))
    context.ledger.folder.mkdir(parents=True)
    context.ledger.create("guarded")
    servicer = LocalJobServicer(str(tmp_path / "staging"))
    where = json.dumps({"url": f"localhost:{one.port}", "params": {CONTEXT: json.dumps(context.to_json())}})
    options = [
        f"--job_endpoint=localhost:{servicer.start_grpc_server(0)}",
        "--environment_type=EXTERNAL",
        f"--environment_config={where}",
    ]
    desk = context.ledger.folder / "runs" / "one"
    desk.mkdir(parents=True)
    try:
        done = run_order(Order(context, 1, "PortableRunner", options, desk, until="clean"))
    finally:
        servicer.stop()
    assert done == {"index": 1, "clean": 1}
    (row,) = Ledger(context.out).rows("clean")
    assert [(item["stage"], item["entered"], item["dropped"]) for item in row.body["funnel"][1:]] == [
        ("extract", 1, {}),
        ("normalize", 1, {}),
    ]
    logs = [path.read_text() for path in (desk / "workers").iterdir()]
    assert len(logs) == 2  # a worker for each phase, as runners have it
    assert any(f"clean/{row.key[:12]} of a.warc from byte 0: done" in text for text in logs)


def test_models_of_a_run_are_bound_once(one: Running, tmp_path: Path) -> None:
    """Else each of 32 workers on a host would hold every model by itself."""
    recipe = write_recipe(tmp_path)
    params = [
        {CONTEXT: json.dumps(Context(tmp_path / out, tmp_path, read_recipe(recipe)).to_json())} for out in ("a", "b")
    ]
    first, again, other = (seen(one, tmp_path / name, params[name == "z"]) for name in ("x", "y", "z"))
    assert first[1] == again[1]
    assert first[0] != again[0]
    assert first[5] == again[5] == "2"  # stages of the recipe
    assert other[1] != first[1]


def test_the_server_is_killed(one: Running, tmp_path: Path) -> None:
    """Workers at work must not notice, and the next job must find a server at the same port."""
    job = threading.Thread(target=run, args=(one.port, hang, str(tmp_path)))
    job.start()
    worker = hanging(tmp_path)
    killed = one.server
    killed.kill()
    assert gone([killed])
    assert serving(one.port)
    other = int(seen(one, tmp_path / "other")[0])
    assert worker.is_running()
    assert worker.pid != other
    (tmp_path / "end").touch()
    job.join(PATIENCE)
    assert not job.is_alive()
    assert gone([worker])
    assert "was ended by SIGKILL; it is started again" in (one.logs.parent / "stderr").read_text()


def test_the_server_is_killed_while_it_asks(one: Running, tmp_path: Path) -> None:
    """Half a request would take the pool along, and all workers that are at work on this host."""
    sockets = psutil.Process(one.process.pid).net_connections("unix")
    (address,) = {found.laddr for found in sockets if "corpusmill-pool-" in found.laddr}
    for said in (b"", b"\1\0\0"):
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(address.replace("@", "\0", 1))
            line.sendall(said)
    seen(one, tmp_path / "a")
    assert one.process.poll() is None


def test_code_of_the_users_that_is_mended(tmp_path: Path) -> None:
    """The run that follows would fail as before, or its results come from the old code under the new one's key."""
    code = tmp_path / "mended.py"
    params = {CONTEXT: json.dumps(context_with_code(tmp_path).to_json())}
    with pool(tmp_path, {"PYTHONPATH": f"{HERE}{os.pathsep}{tmp_path}"}) as running:
        parents = set()
        for said in ("as it was at first", "mended"):
            code.write_text(CODE.format(said=said))
            run(running.port, say_mended, str(tmp_path / "said"), params)
            found, parent = (tmp_path / "said").read_text().split("\n")
            assert found == said
            parents.add(parent)
        assert len(parents) == 1  # what is ours is still bound once


CODE = """
from dataclasses import dataclass
from stages.base import Outcome, Stage

SAID = "{said}"

def words(text):
    return text.split()

@dataclass(frozen=True, kw_only=True)
class Mine(Stage):
    name = "mine"
    version = 1

    def process(self, batch):
        return Outcome(batch)
"""


def context_with_code(folder: Path) -> Context:
    """A run with a stage and a segmenter that lie in the folder."""
    stages = [{"normalize": {}}, {"gopher_quality": {"segmenter": {"th": "mended:words"}}}, {"mended:Mine": {}}]
    inputs = [{"source": "a", "path": "a.jsonl", "format": "jsonl"}]
    return Context(folder / "out", folder, Recipe.model_validate({"name": "a", "inputs": inputs, "stages": stages}))


def test_a_nursery_is_killed(one: Running, tmp_path: Path) -> None:
    """The system may take it in want of memory: the run is started again, and finds workers again."""
    parent = psutil.Process(int(seen(one, tmp_path / "a")[1]))
    parent.kill()
    assert gone([parent])
    assert int(seen(one, tmp_path / "b")[1]) != parent.pid


def test_the_runner_is_killed(one: Running, tmp_path: Path) -> None:
    """A worker would work on for nobody."""
    runner = subprocess.Popen([sys.executable, HERE / "pool_jobs.py", str(one.port), str(tmp_path)])
    worker = hanging(tmp_path)
    runner.kill()
    runner.wait()
    assert gone([worker])


def test_all_end_with_the_pool(tmp_path: Path) -> None:
    """Workers would go on, and hold memory, on a host that nobody looks at."""
    with pool(tmp_path) as running:
        runner = subprocess.Popen(
            [sys.executable, HERE / "pool_jobs.py", str(running.port), str(tmp_path)], stderr=subprocess.DEVNULL
        )
        try:
            hanging(tmp_path)
            everyone = running.all
            assert len(everyone) == 4  # pool, server, nursery, worker
            running.process.kill()
            running.process.wait(PATIENCE)
            assert gone(everyone)
        finally:
            runner.kill()
            runner.wait()


def test_a_port_that_is_taken(one: Running, tmp_path: Path) -> None:
    """Two pools at one port would share it unseen, or a traceback would tell of gRPC after seconds."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "worker", "--port", str(one.port), "--log-folder", str(tmp_path)],
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(f"corpusmill: no worker pool at localhost:{one.port}: ")
    assert "already in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_logs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that complains about every page would fill the disk of its host."""
    monkeypatch.setattr(logs_module, "LIMIT", 100_000)
    monkeypatch.setattr(logs_module, "KEPT", 10_000)
    monkeypatch.setattr(logs_module, "FILES", 2)
    logs = Logs(tmp_path)
    path, descriptor = logs.begin("worker-../1 é")
    assert path.parent == tmp_path
    code = "for number in range(20000): print('line', number)"
    subprocess.run([sys.executable, "-c", code], stdout=descriptor, check=True)
    logs.cut()
    text = path.read_text()
    assert len(text) < 11_000
    assert text.startswith("(what came before is cut)\nline ")
    assert text.endswith("line 19999\n")
    os.write(descriptor, b"more\n")
    assert path.read_text() == text + "more\n"
    os.close(descriptor)
    logs.end(path)
    for _ in range(4):
        other, descriptor = logs.begin("x")
        os.close(descriptor)
        logs.end(other)
    assert len(list(tmp_path.iterdir())) == 2
    assert other.exists()
    assert not path.exists()
