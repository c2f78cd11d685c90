"""The fuzz bench itself: what it finds is a fault that can be made again, and it finds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest

from stages.base import Outcome, Stage
from tests.bench import fuzz_extract
from tests.bench.fuzz_extract import CRAWLS, Campaign, Found, batch, main, report
from tests.bench.fuzz_mutations import MOST_BYTES, Input, make

PAGES = [b"<html><body><h1>Title</h1><p class='a'>Some words.</p></body></html>", b"<p>" + "字".encode() * 200]


def test_an_input_is_a_function_of_its_seed_and_number() -> None:
    """A crash that was found could not be looked into."""
    made = [make(3, number, PAGES) for number in range(300)]
    assert [make(3, number, PAGES) for number in reversed(range(300))] == made[::-1]
    assert len({one.payload for one in made}) > 250
    assert [make(4, number, PAGES) for number in range(300)] != made
    assert max(len(one.payload) for one in made) <= MOST_BYTES
    assert len({name for one in made for name in one.made_by.split()}) == 18


class Sick:
    """In place of the child process: costs some time, and drops what it likes."""

    reason = "crashed"
    seconds = 0.1

    def __init__(self, stage: Stage, files: Mapping[str, bytes]) -> None:
        self.cpu_seconds = 0.0
        self.peak = 100 << 20
        self._child = None

    def __call__(self, rows: pa.RecordBatch) -> Outcome:
        self.cpu_seconds += self.seconds * rows.num_rows
        return Outcome(rows.slice(1), [(0, self.reason, None, None)])


@pytest.mark.parametrize(
    ("reason", "seconds", "says"),
    [("crashed", 0.1, "crashed"), ("extractor_failed", 0.1, "extractor_failed"), ("no_text", 6.0, "6.0 CPU seconds")],
)
def test_what_is_at_fault_is_saved_and_told(
    reason: str,
    seconds: float,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A fuzz run would end well over an extractor that crashes, hangs or raises."""
    monkeypatch.setattr(fuzz_extract, "Guard", Sick)
    monkeypatch.setattr(Sick, "reason", reason)
    monkeypatch.setattr(Sick, "seconds", seconds)
    found = Campaign({"engine": "blocks"}, 5, PAGES, tmp_path).run(0, 2)
    assert not report("blocks", found)
    told = capsys.readouterr().out
    assert f": {says}" in told
    saved = tmp_path / "blocks-5-0.page"
    assert f"--replay {saved}" in told
    assert saved.read_bytes().endswith(make(5, 0, PAGES).payload)


def test_a_row_that_changes_its_neighbours_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A page's text would depend on the batch that it came in."""
    monkeypatch.setattr(fuzz_extract, "Guard", Sick)
    monkeypatch.setattr(Sick, "reason", "no_text")
    found = Campaign({"engine": "blocks"}, 5, PAGES, tmp_path).run(0, 2)
    assert any("something else in a batch" in fault for fault in found.faults)


def test_memory_that_grows_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    """A worker would need more memory the longer it runs."""
    for peak, resident, reached in ((0, 0, True), (500_000, 0, True), (2_000_000, 0, False), (0, 2_000_000, False)):
        memory = [(0, 10 << 20, 0)]
        torn = [20 << 20, 0, 5 << 20]  # by how torn the heap is: no growth
        memory += [(10_000 + n * 500, (50 << 20) + peak * n // 20, resident * n // 20 + torn[n % 3]) for n in range(41)]
        assert report("blocks", Found(inputs=20_000, memory=memory)) is reached


@pytest.mark.slow
def test_a_short_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The extractor would crash, raise or be slow on some page of every crawl."""
    monkeypatch.setattr(fuzz_extract, "CRAWLS", CRAWLS[1:])
    monkeypatch.setattr(fuzz_extract, "MOST_SECONDS", 60)  # times are for the bench
    status = main(["--inputs", "200", "--seed", "11", "--engine", "blocks", "--save", str(tmp_path)])
    out = capsys.readouterr().out
    assert status == 0, out
    assert out.count("faults: 0") == 2


def test_a_saved_input_can_be_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was saved would be of no use."""
    page = tmp_path / "a.page"
    page.write_bytes(b"content-type: text/html; charset=gbk\n\n" + "<p>今天在北京举行了庆祝活动。</p>".encode("gbk"))
    assert main(["--replay", str(page), "--engine", "resiliparse"]) == 0
    assert "今天在北京" in capsys.readouterr().out
    assert batch([Input(b"x", "", "")]).num_rows == 1
