"""The extraction stage over mutated real pages, as a run calls it: `make bench-fuzz`, or
`python -m tests.bench.fuzz_extract [--inputs 100000] [--seed 1]`.

Batches go to the child process that a run has for the stage, with the stage's own limits. It ends with status 1
where a page crashes or hangs that process, makes `blocks` raise, costs more than 5 CPU seconds, changes what becomes
of its neighbours or vanishes; or where that process's memory grows by more than 1 MiB for 10,000 inputs, once it has
seen the heaviest pages that the limits let through and 10,000 others. What is at fault is saved, and `--replay FILE`
puts it through the stage again, in this process.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import xxhash
from fastwarc.warc import ArchiveIterator, WarcRecordType

from pipeline.guard import REASONS, Guard
from pipeline.resources import load as load_files
from stages import kernels
from stages.base import Outcome
from stages.extract import Extract
from stages.extract.model import load as load_model
from stages.registry import make as make_stage
from stages.schema import READ
from tests.bench.fuzz_mutations import Input, make

ROOT = Path(__file__).parents[2]
CRAWLS = (ROOT.parent / "shared" / "data" / "crawl", ROOT / "tests" / "data" / "crawl")
MOST_SECONDS = 5.0
MOST_GROWTH = 1 << 20
WARM_UP = 10_000
_PAGES = 400
_BATCH = 20
_LOOK = 500  # inputs between two looks at the process's memory
_STRETCH = 8  # looks
_SINGLY = 0.02  # share of batches that go through once more, row by row
_HANGS = 900  # seconds on the wall without an answer: it sleeps, for no stage may take that much CPU time
_CONTENT_TYPE = b"content-type: "

CAMPAIGNS: tuple[tuple[dict[str, str], float], ...] = (
    ({"engine": "blocks"}, 0.5),
    ({"engine": "blocks", "format": "markdown"}, 0.5),
    ({"engine": "resiliparse"}, 0.02),
    ({"engine": "trafilatura"}, 0.01),
)
"""Settings of the stage, and the share of the inputs that it gets."""


@dataclass
class Found:
    """What a campaign came upon."""

    inputs: int = 0
    seconds: float = 0.0
    worst: float = 0.0
    worst_input: int = -1
    reasons: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    memory: list[tuple[int, int, int]] = field(default_factory=list)
    """(inputs so far, peak, resident bytes now) of the process."""

    def growth(self) -> float | None:
        """Bytes for 10,000 inputs by which memory grew after the warm-up; None where too little came behind it.

        The greater of two: by the peak, and by the line (least squares) through the least that is resident between
        batches in each stretch of inputs: a leak raises it, while how torn the heap is goes up and down.
        """
        behind = [each for each in self.memory if each[0] >= WARM_UP]
        floors = [
            (stretch[0][0], min(resident for _, _, resident in stretch))
            for stretch in (behind[start : start + _STRETCH] for start in range(0, len(behind), _STRETCH))
            if len(stretch) == _STRETCH
        ]
        if len(floors) < 3:
            return None
        by_peak = (behind[-1][1] - behind[0][1]) / (behind[-1][0] - behind[0][0])
        slope = float(statistics.linear_regression(*zip(*floors, strict=True)).slope)
        return float(max(by_peak, slope) * 10_000)


class Campaign:
    """One setting of the stage, under fuzz."""

    def __init__(self, settings: Mapping[str, str], seed: int, pages: Sequence[bytes], folder: Path) -> None:
        self.settings, self.seed, self.pages, self.folder = settings, seed, pages, folder
        self.name = " ".join(settings.values())
        stage = make_stage(Extract, dict(settings))
        self.guard = Guard(stage, load_files(stage.files(), ROOT))
        self.found = Found()
        self._rng = random.Random(seed)

    def run(self, start: int, stop: int) -> Found:
        """The inputs of these numbers."""
        begun = time.monotonic()
        if stop - start > WARM_UP:
            self._try({-1 - number: one for number, one in enumerate(heaviest())})
            self.found.inputs = 0
            self.found.reasons.clear()
        for first in range(start, stop, _BATCH):
            numbers = range(first, min(first + _BATCH, stop))
            self._try({number: make(self.seed, number, self.pages) for number in numbers})
            done = numbers.stop - start
            if done % _LOOK < _BATCH:
                self.found.memory.append((done, *self._memory()))
                self._tell(done, stop - start, time.monotonic() - begun)
        sys.stderr.write("\n" if sys.stderr.isatty() else "")
        return self.found

    def _try(self, inputs: dict[int, Input]) -> None:
        found = self.found
        outcome, seconds = self._judged(list(inputs.values()), next(iter(inputs)))
        found.inputs += len(inputs)
        found.seconds += seconds
        if outcome is None:
            return
        what = becomes(outcome)
        reasons = {row: reason for row, reason, _, _ in outcome.dropped}
        found.reasons.update(reasons.get(row, "kept") for row in range(len(inputs)))
        for row, reason in reasons.items():
            if reason in REASONS or (reason == "extractor_failed" and self.settings["engine"] == "blocks"):
                self._fault(list(inputs)[row], list(inputs.values())[row], reason)
        if len(what) != len(inputs):
            self._fault(next(iter(inputs)), next(iter(inputs.values())), f"{len(what)} rows of {len(inputs)} come back")
            return
        # The time of a batch bounds that of each row: only a slower batch than the worst row can hold a worse one.
        if seconds <= found.worst and self._rng.random() > _SINGLY:
            return
        for row, (number, one) in enumerate(inputs.items()):
            alone, cost = self._judged([one], number)
            if alone is not None and becomes(alone) != {0: what[row]}:
                self._fault(number, one, "becomes something else in a batch than alone")
            if cost > found.worst:
                found.worst, found.worst_input = cost, number
                if cost > MOST_SECONDS:
                    self._fault(number, one, f"{cost:.1f} CPU seconds")

    def _judged(self, inputs: list[Input], number: int) -> tuple[Outcome | None, float]:
        before = self.guard.cpu_seconds
        signal.signal(signal.SIGALRM, self._late)
        signal.alarm(_HANGS)
        try:
            outcome = self.guard(batch(inputs))
            outcome.batch.validate(full=True)
        except TimeoutError:
            for place, one in enumerate(inputs):
                self._fault(number + place, one, f"this or a neighbour: no answer for {_HANGS} s")
            raise
        except Exception as error:
            for place, one in enumerate(inputs):
                self._fault(number + place, one, f"this or a neighbour: {type(error).__name__}: {error}")
            return None, self.guard.cpu_seconds - before
        finally:
            signal.alarm(0)
        return outcome, self.guard.cpu_seconds - before

    def _late(self, *_: object) -> None:
        child = self.guard._child
        if child is not None and psutil.Process(child._process.pid).status() == psutil.STATUS_STOPPED:
            signal.alarm(_HANGS)  # somebody has halted it
        else:
            raise TimeoutError

    def _fault(self, number: int, one: Input, what: str) -> None:
        path = self.folder / f"{self.name.replace(' ', '-')}-{self.seed}-{number}.page"
        path.write_bytes(_CONTENT_TYPE + one.content_type.encode() + b"\n\n" + one.payload)
        told = " ".join(f"--{key} {value}" for key, value in self.settings.items())
        self.found.faults.append(
            f"input {number} ({one.made_by}): {what}\n    python -m tests.bench.fuzz_extract {told} --replay {path}"
        )

    def _memory(self) -> tuple[int, int]:
        """Peak and resident bytes of the child."""
        child = self.guard._child
        resident = 0
        if child is not None:
            pages = Path(f"/proc/{child._process.pid}/statm").read_text().split()[1]
            resident = int(pages) * os.sysconf("SC_PAGE_SIZE")
        return self.guard.peak, resident

    def _tell(self, done: int, of: int, seconds: float) -> None:
        if sys.stderr.isatty() or done % (20 * _LOOK) < _BATCH:
            peak, resident = self._memory()
            words = f"{self.name}: {done} of {of}, {seconds:.0f} s, worst {self.found.worst:.2f} s CPU, "
            words += f"memory {resident / 2**20:.1f} of {peak / 2**20:.1f} MiB, {len(self.found.faults)} faults"
            sys.stderr.write(f"\r{words}" if sys.stderr.isatty() else words + "\n")
            sys.stderr.flush()


def batch(inputs: Sequence[Input]) -> pa.RecordBatch:
    """What a reader hands the stage."""
    rows: list[dict[str, Any]] = [
        {
            "id": xxhash.xxh3_128_digest(one.payload),
            "source": "fuzz",
            "url": "https://example.org/a",
            "payload": one.payload,
            "content_type": one.content_type,
        }
        for one in inputs
    ]
    return pa.RecordBatch.from_pylist(rows, schema=READ)


def heaviest() -> list[Input]:
    """Pages as large as the limits let through, and a batch as large as one may be: memory peaks at them or before."""
    blocks = "".join(f"<p>Block {number} of the page." for number in range(149_900))
    pages = [
        "<html><title>A page</title>" + blocks,
        "<p>今天在北京举行了盛大的庆祝活动。</p>" + "市民们" * 540_000,
        "<p>Block</p><div>" * 900 + "<p>Block" * 140_000,
        f"<p class='{'ab ' * 1_600_000}'>A paragraph with some words.</p>",
        "<p>a &lt; b</p>" + "&amp;" * 990_000,
        *("<div><p>Some words.</p>" + "x" * 4_990_000 for _ in range(8)),
    ]
    return [Input(page.encode(), "text/html", "the heaviest") for page in pages]


def becomes(outcome: Outcome) -> dict[int, Any]:
    """What each row of the batch became, by its number: its columns, or its reason with figures."""
    dropped = {row: told for row, *told in outcome.dropped}
    kept = iter(outcome.batch.to_pylist())
    total = len(dropped) + outcome.batch.num_rows
    return {row: dropped[row] if row in dropped else next(kept) for row in range(total)}


def real_pages(seed: int) -> tuple[list[bytes], Path]:
    """400 pages drawn from the first crawl that is there (all, where there are fewer), and its folder."""
    folder = next(folder for folder in CRAWLS if folder.is_dir())
    rng = random.Random(seed)
    drawn: list[bytes] = []
    seen = 0
    for path in sorted(folder.glob("*.warc.gz")):
        for record in [] if path.name in ("damaged.warc.gz", "odd.warc.gz") else _responses(path):
            place = seen if seen < _PAGES else rng.randrange(seen + 1)
            seen += 1
            if place < _PAGES:
                drawn[place : place + 1] = [record.reader.read()]
    return drawn, folder


def _responses(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        yield from ArchiveIterator(file, record_types=WarcRecordType.response)


def replay(path: Path, settings: Mapping[str, str]) -> int:
    """Puts a saved input through the stage, in this process and without a limit on its CPU time."""
    header, payload = path.read_bytes().split(b"\n\n", 1)
    stage = make_stage(Extract, dict(settings))
    assert isinstance(stage, Extract)
    files = load_files(stage.files(), ROOT)
    outcome = stage.bind(files)(batch([Input(payload, header.removeprefix(_CONTENT_TYPE).decode(), "")]))
    print(
        f"{len(payload)} bytes: {[drop[1:] for drop in outcome.dropped] or outcome.batch.to_pylist()[0]['text'][:500]}"
    )
    begun = time.process_time()
    chooser = load_model(files["model"]) if files else None
    try:
        stage.page(payload, header.removeprefix(_CONTENT_TYPE).decode(), "https://example.org/a", chooser, Counter())
    except Exception as error:
        if error.__cause__:  # what stands behind `extractor_failed`
            raise error.__cause__  # noqa: B904
    finally:
        print(f"{time.process_time() - begun:.2f} s CPU")
    return 0


def report(name: str, found: Found) -> bool:
    """Prints what a campaign came upon; whether it reached the goals."""
    growth = found.growth()
    print(f"{name}: {found.inputs} inputs, {1000 * found.seconds / max(found.inputs, 1):.1f} ms CPU a page")
    print(f"  worst input: {found.worst:.2f} s CPU (input {found.worst_input}); goal at most {MOST_SECONDS:.0f} s")
    if growth is not None:
        peak = found.memory[-1][1]
        print(
            f"  peak memory {peak / 2**20:.0f} MiB, grows by {growth / 2**20:.2f} MiB for 10,000 inputs; goal at most 1"
        )
    for reason, count in found.reasons.most_common():
        print(f"  {reason:<20} {count:>7}")
    print(f"  faults: {len(found.faults)}")
    for fault in found.faults[:20]:
        print(f"  {fault}")
    return not found.faults and (growth is None or growth <= MOST_GROWTH)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it; 0 where every goal is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="mutated pages through `blocks`")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--from", type=int, default=0, dest="first", help="number of the first input")
    parser.add_argument("--engine", help="this engine alone")
    parser.add_argument("--format", default="text", help="of --replay")
    parser.add_argument("--check-bounds", action="store_true", help="kernels check every index; slow")
    parser.add_argument("--save", type=Path, help="where inputs at fault go")
    parser.add_argument("--replay", type=Path, help="an input that was saved")
    asked = parser.parse_args(arguments)
    if asked.check_bounds and not os.environ.get("NUMBA_BOUNDSCHECK"):
        cache = os.environ["NUMBA_CACHE_DIR"] + "-bounds"  # code with checks must not be taken for code without
        environment = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": cache}
        os.execve(sys.executable, [sys.executable, "-m", "tests.bench.fuzz_extract", *sys.argv[1:]], environment)
    if asked.replay:
        return replay(asked.replay, {"engine": asked.engine or "blocks", "format": asked.format})
    folder = asked.save or Path(tempfile.mkdtemp(prefix="fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    pages, crawl = real_pages(asked.seed)
    print(f"{len(pages)} pages of {os.path.relpath(crawl, ROOT)}, seed {asked.seed}, kernels {kernels.digest()}")
    reached = []
    first = asked.first
    for settings, share in CAMPAIGNS:
        if asked.engine in (None, settings["engine"]):
            stop = first + int(asked.inputs * share)
            campaign = Campaign(settings, asked.seed, pages, folder)
            reached.append(report(campaign.name, campaign.run(first, stop)))
            first = stop
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
