"""CPU and memory of a whole page, from its bytes to Arrow text, on one core."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import psutil
import pyarrow as pa

from stages.base import Processor
from tests.bench.extract_contestants import PEERS, batch_of
from tests.bench.extract_scoring import Page

CHUNK = 32

Work = Callable[[], object]


def peer_work(name: str, pages: Sequence[Page]) -> Work:
    """A peer over some pages, its texts in an Arrow array."""

    def run() -> pa.Array:
        texts = []
        for page in pages:
            try:
                texts.append(PEERS[name](page))
            except Exception:  # whatever a peer does on a page is its time
                texts.append("")
        return pa.array(texts, pa.string())

    return run


def stage_work(extractor: Processor, pages: Sequence[Page]) -> Work:
    """Our stage over the same pages."""
    batch = batch_of(pages)
    return lambda: extractor(batch)


def measure(
    makers: Mapping[str, Callable[[Sequence[Page]], Work]], pages: Sequence[Page], rounds: int
) -> dict[str, float]:
    """CPU milliseconds a page of each contestant.

    Contestants take turns on chunks of pages and each chunk counts by its best round, so that another job on the
    machine slows all alike, or spoils a round and not the figure.
    """
    total = dict.fromkeys(makers, 0.0)
    for maker in makers.values():
        maker(pages[:2])()  # imports and compilation
    for start in range(0, len(pages), CHUNK):
        chunk = pages[start : start + CHUNK]
        work = {name: maker(chunk) for name, maker in makers.items()}
        best = dict.fromkeys(makers, float("inf"))
        for _ in range(rounds):
            for name, run in work.items():
                begun = time.process_time()
                run()
                best[name] = min(best[name], time.process_time() - begun)
        for name, seconds in best.items():
            total[name] += seconds
    return {name: 1000 * seconds / max(len(pages), 1) for name, seconds in total.items()}


def grown(work: Work) -> int:
    """Bytes by which the process's peak memory exceeds what it held before the work."""
    import resource

    before = psutil.Process().memory_info().rss
    work()
    return max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before, 0)


def peak(arguments: Sequence[str]) -> int:
    """`grown` in a process of its own: `python -m tests.bench.extract --peak-of NAME ...`."""
    command = [sys.executable, "-m", "tests.bench.extract", *arguments]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
