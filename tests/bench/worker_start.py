"""How long a runner waits for a worker of a pool, and what that costs: `python -m tests.bench.worker_start [ROUNDS]`.

Beam's own pool (`worker_pool_main`) and `corpusmill worker` take turns. A round is a pipeline of one element on
FnApiRunner with an external environment: from StartWorker until the element is in a DoFn that has all that a unit of a
run needs, in seconds, and the CPU seconds of the pool and all it started in that time.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apache_beam as beam
import psutil
from apache_beam.runners.portability.fn_api_runner import FnApiRunner, worker_handlers
from apache_beam.transforms.environments import ExternalEnvironment

from pipeline.ports import free_port, listens


class Ready(beam.DoFn):
    """Notes when the worker could do a unit."""

    def __init__(self, path: str) -> None:
        self.path = path

    def setup(self) -> None:
        """What the setup of a unit imports."""
        import pipeline.engine  # noqa: F401

    def process(self, element: int) -> Iterator[int]:
        """The time, into the file."""
        Path(self.path).write_text(repr(time.time()))
        yield element


@contextmanager
def pool(command: list[str], where: int) -> Iterator[int]:
    """The pid of a pool that listens there."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        for _ in range(300):
            if listens(f"127.0.0.1:{where}"):
                break
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def spent(pid: int) -> float:
    """CPU seconds of a process and of what it started, ended ones with it."""
    seconds = 0.0
    top = psutil.Process(pid)
    for one in [top, *top.children(recursive=True)]:
        times = one.cpu_times()
        seconds += times.user + times.system + times.children_user + times.children_system
    return seconds


def once(where: int) -> float:
    """Seconds from StartWorker to the element."""
    asked: list[float] = []
    start = worker_handlers.ExternalWorkerHandler.start_worker

    def noted(self: object) -> None:
        asked.append(time.time())
        start(self)

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "ready")
        worker_handlers.ExternalWorkerHandler.start_worker = noted
        try:
            with beam.Pipeline(runner=FnApiRunner(ExternalEnvironment(f"localhost:{where}"))) as pipeline:
                _ = pipeline | beam.Create([1]) | beam.ParDo(Ready(path))
        finally:
            worker_handlers.ExternalWorkerHandler.start_worker = start
        return float(Path(path).read_text()) - asked[0]


def main(rounds: int) -> None:
    """Prints the medians."""
    ports = [free_port(), free_port()]
    beams = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", "--service_port", str(ports[0])]
    ours = [sys.executable, "-m", "pipeline.cli", "worker", "--port", str(ports[1])]
    figures: dict[int, list[tuple[float, float]]] = {where: [] for where in ports}
    with pool(beams, ports[0]) as first, pool(ours, ports[1]) as second:
        for number in range(rounds + 1):
            for pid, where in ((first, ports[0]), (second, ports[1])):
                before = spent(pid)
                seconds = once(where)
                if number:  # the first one of each fills caches
                    figures[where].append((seconds, spent(pid) - before))
    for name, where in zip(("Beam's worker_pool_main", "corpusmill worker"), ports, strict=True):
        seconds, cpu = (statistics.median(column) for column in zip(*figures[where], strict=True))
        print(f"{name:<24} {seconds:6.2f} s to the first element, {cpu:6.2f} s of CPU")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
