"""Small Beam pipelines on the workers of a pool, and the pools: what they do stands here, where workers find it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import psutil
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import ExternalEnvironment

from pipeline import bound, forks
from pipeline.ports import listens

HERE = Path(__file__).resolve().parent
PATIENCE = 60


@dataclass
class Running:
    """A pool that serves."""

    process: subprocess.Popen[str]
    port: int
    ready: str
    logs: Path

    @property
    def all(self) -> list[psutil.Process]:
        """Every process of it."""
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    @property
    def server(self) -> psutil.Process:
        """The first that it forked, or the latest one."""
        (found,) = (one for one in psutil.Process(self.process.pid).children() if one.net_connections())
        return found


@contextmanager
def pool(folder: Path, env: dict[str, str] | None = None) -> Iterator[Running]:
    """`corpusmill worker` on a free port."""
    command = [sys.executable, "-m", "pipeline.cli", "worker", "--port", "0", "--log-folder", str(folder / "logs")]
    environment = os.environ | {"PYTHONPATH": str(HERE)} | (env or {})
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=(folder / "stderr").open("w"), text=True, env=environment
    )
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert " ready at localhost:" in ready, (folder / "stderr").read_text()
        yield Running(process, int(ready.split("localhost:")[1].split()[0]), ready, folder / "logs")
    finally:
        process.terminate()
        process.wait(PATIENCE)


def run(port: int, work: Callable[[Any], Any], element: Any, params: dict[str, str] | None = None) -> None:
    """A pipeline of one element on a worker of its own."""
    runner = FnApiRunner(ExternalEnvironment(f"localhost:{port}", params))
    pipeline = beam.Pipeline(runner=runner, options=PipelineOptions(["--direct_num_workers=1"]))
    _ = pipeline | beam.Create([element]) | beam.Map(work)
    pipeline.run().wait_until_finish()


def look(path: str) -> None:
    """Writes what the worker is: pids, its nursery, what Python was told, and how many stages it found bound."""
    facts = [os.getpid(), os.getppid(), forks.nursery, os.environ["PYTHONHASHSEED"], sys.flags.safe_path]
    print("a line of a worker", flush=True)
    Path(path).write_text("\n".join(map(str, [*facts, len(bound._kept)])))


def say_mended(path: str) -> None:
    """Writes what the user's own code says, as this worker has it, and the pid of its nursery."""
    import mended

    Path(path).write_text(f"{mended.SAID}\n{os.getppid()}")


def hang(folder: str) -> None:
    """Says who it is, then works until it is told to end."""
    Path(folder, f"at-work-{os.getpid()}").touch()
    while not Path(folder, "end").exists():
        time.sleep(0.02)


def hanging(folder: Path) -> psutil.Process:
    """The worker that hangs in this folder, when it does."""
    for _ in range(PATIENCE * 20):
        for path in folder.glob("at-work-*"):
            return psutil.Process(int(path.name.removeprefix("at-work-")))
        time.sleep(0.05)
    raise AssertionError("no worker has begun")


def gone(processes: list[psutil.Process]) -> bool:
    """Whether they all end soon, and nobody has to reap them."""
    return psutil.wait_procs(processes, timeout=10)[1] == []


def serving(port: int) -> bool:
    """Whether a server soon listens at this port."""
    end = time.monotonic() + PATIENCE
    while not (found := listens(f"localhost:{port}")) and time.monotonic() < end:
        time.sleep(0.05)
    return found


if __name__ == "__main__":
    run(int(sys.argv[1]), hang, sys.argv[2])
