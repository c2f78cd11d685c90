"""A run's figures for Prometheus: over HTTP in mid-run, in a file all along, and equal to the books at the end."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from loopback import Flaky
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from small_run import run_here, write_recipe

from pipeline import accounts
from pipeline.errors import LockedError, PromiseError, RecipeError, UserError
from pipeline.exposition import Wanted, exposed
from pipeline.ledger import Ledger
from pipeline.metrics import Metrics
from pipeline.recipe import read_recipe
from pipeline.show import Display
from pipeline.versions import VERSIONS
from pipeline.work import Context

PATIENCE = 300.0

Values = dict[tuple[str, ...], float]
"""By name, then the values of the labels in the order of their names, but for that of the run."""


def values(text: str, run: Path) -> Values:
    """What a text in Prometheus' format says, of this run alone; each family with its help."""
    found: Values = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        assert family.type in {"gauge", "counter"}, family
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("run") == str(run)
            key = (sample.name.removeprefix("corpusmill_"), *(value for _, value in sorted(labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`start(*options)`: a run of the small recipe into `tmp_path/run`, ended with the test."""
    recipe = write_recipe(tmp_path, tokenizer=None, mixture=None, shards=None)
    begun: list[subprocess.Popen[str]] = []

    def run(*options: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pipeline.cli", "run", recipe, "--out", tmp_path / "run", "--workers", "1"]
        words = [str(word) for word in (*command, *options)]
        begun.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return begun[-1]

    yield run
    for process in begun:
        process.kill()
        process.wait()


def address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    words = process.stdout.readline().split()
    assert words[0] == "metrics", words
    return words[1]


def scraped(where: str) -> str | None:
    try:
        with urllib.request.urlopen(where, timeout=30) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain")
            return str(answer.read().decode())
    except (urllib.error.URLError, ConnectionError):
        return None  # the run has ended


def test_figures_of_a_run_grow_and_end_as_the_books_say(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """Who watches a run of weeks on a dashboard sees what is so: in mid-run, and what is left when it is over."""
    out, file = tmp_path / "run", tmp_path / "collected" / "small.prom"
    process = start("--metrics-port", 0, "--metrics-file", file)
    where = address(process)
    seen: list[Values] = []
    files: list[Values] = []
    while (text := scraped(where)) is not None:
        seen.append(values(text, out))
        if file.exists():
            files.append(values(file.read_text(), out))
        time.sleep(0.3)
    assert process.wait(PATIENCE) == 0

    assert not any(("documents_read_total",) in one for one in seen if not any(key[0] == "units_done" for key in one))
    middle = [one for one in seen if one.get(("documents_read_total",), 0) > 0 and ("phase", "documents") not in one]
    assert middle, "nothing was committed while it was looked at"
    assert all(one["run_outcome", "running"] == 1 for one in middle)
    assert any(one["workers",] == 1 for one in seen)
    assert files, "the file came only at the end"
    for earlier, later in itertools.pairwise(seen):
        fallen = [key for key, value in earlier.items() if key[0].endswith("_total") and later.get(key, 0) < value]
        assert not fallen, "a counter went back"
    assert all(
        time.time() - PATIENCE < one["run_start_time_seconds",] <= one["last_progress_timestamp_seconds",] < time.time()
        for one in seen
    )

    end = values(file.read_text(), out)
    ledger = Ledger(out)
    clean = ledger.rows("clean")
    steps = accounts.funnel(ledger)
    assert end["documents_read_total",] == sum(row.body["framed"] for row in clean) > 0
    assert end["documents_written_total",] == accounts.counted(ledger, "documents", "documents") > 0
    dropped = {key[1:]: value for key, value in end.items() if key[0] == "documents_dropped_total"}
    assert dropped == {(reason, step.stage): n for step in steps for reason, n in step.dropped.items()}
    assert {step.stage: end["documents_kept_total", step.stage] for step in steps} == {s.stage: s.kept for s in steps}
    assert end["documents_read_total",] == end["documents_written_total",] + sum(dropped.values())
    sizes = sum(path.stat().st_size for path in (tmp_path / "crawl").iterdir())
    assert sum(value for key, value in end.items() if key[0] == "input_bytes_total") == sizes
    units: Counter[str] = Counter(row.phase for row in ledger.rows())
    assert {key[1]: n for key, n in end.items() if key[0] == "units_done" and n} == units
    assert sum(value for key, value in end.items() if key[0] == "units_pending") == 0
    for phase in units:
        spent = sum(row.body["timing"]["cpu_s"] for row in ledger.rows(phase))
        assert end["cpu_seconds_total", phase] == pytest.approx(spent)
    for step in steps:
        assert end["stage_cpu_seconds_total", step.stage] == pytest.approx(step.seconds)
    written = sum(value for key, value in end.items() if key[0] == "written_bytes_total")
    assert written == sum(part.bytes for row in ledger.rows() for part in row.parts)
    assert (end["run_outcome", "done"], end["run_exit_code",], end["workers",]) == (1, 0, 0)
    assert end["run_outcome", "running"] == 0
    assert end["run_end_time_seconds",] > end["run_start_time_seconds",]
    assert list(file.parent.iterdir()) == [file], "something was left beside it"


def test_a_run_that_is_stopped_says_so_behind_itself(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """An alarm must tell a run that somebody ended from one that is still at work, or that broke."""
    file = tmp_path / "small.prom"
    process = start("--metrics-port", 0, "--metrics-file", file)
    where = address(process)
    while '_phase{phase="clean"' not in (scraped(where) or ""):
        assert process.poll() is None
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(PATIENCE) == 143
    end = values(file.read_text(), tmp_path / "run")
    assert (end["run_outcome", "stopped"], end["run_exit_code",]) == (1, 143)
    assert end["run_outcome", "running"] == 0


def context(folder: Path) -> Context:
    return Context(folder / "run", folder, read_recipe(write_recipe(folder)))


def troubled(context: Context, file: Path) -> None:
    screen = Console(quiet=True)
    with exposed(Wanted(file=file), context, "local", screen) as metrics, Display(screen, metrics) as display:
        display.update({"phase": "clean", "units": 3, "pending": 2, "bytes": 10}, [])
        display.restarted("clean", "")
        display.restarted("clean", "")
        raise PromiseError("a stage dropped more than expected")


def test_restarts_and_what_failed_are_counted(tmp_path: Path) -> None:
    """A machine that loses its workers again and again is seen before the run gives up; then why it did."""
    file = tmp_path / "a.prom"
    with pytest.raises(PromiseError):
        troubled(context(tmp_path), file)
    end = values(file.read_text(), tmp_path / "run")
    assert end["restarts_total", "clean"] == 2
    assert end["units_pending", "clean"] == 2
    assert (end["run_outcome", "failed"], end["run_exit_code",]) == (1, 3)


@pytest.mark.parametrize("refusal", [LockedError, RecipeError])
def test_a_run_that_is_refused_leaves_the_file_of_the_one_before(tmp_path: Path, refusal: type[UserError]) -> None:
    """Else a command given by mistake would report the run that goes on as failed, and one that is done as empty."""
    (tmp_path / "a.prom").write_text("of the first")
    with (
        pytest.raises(refusal),
        exposed(Wanted(file=tmp_path / "a.prom"), context(tmp_path), "local", Console(quiet=True)),
    ):
        raise refusal("nothing was run")
    assert (tmp_path / "a.prom").read_text() == "of the first"


def begun_in_vain(context: Context, file: Path) -> None:
    screen = Console(quiet=True)
    with exposed(Wanted(file=file), context, "local", screen) as metrics, Display(screen, metrics) as display:
        display.update({}, [])
        raise UserError("an input is gone")


def test_a_run_that_fails_before_its_first_phase_says_so(tmp_path: Path) -> None:
    """An input that is gone fails the run of tonight; the figures of last night's must not stand for it."""
    file = tmp_path / "a.prom"
    file.write_text("of the first")
    with pytest.raises(UserError):
        begun_in_vain(context(tmp_path), file)
    end = values(file.read_text(), tmp_path / "run")
    assert (end["run_outcome", "failed"], end["run_exit_code",]) == (1, 1)
    assert not [key for key in end if key[0].startswith("documents_")]


def figures(metrics: Metrics) -> Values:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    return values(generate_latest(registry).decode(), Path("run"))


def test_a_resumed_run_counts_on_from_what_is_committed(tmp_path: Path) -> None:
    """From 0, each resume would add all of the earlier work to what a dashboard sums up over time."""
    run_here(write_recipe(tmp_path), tmp_path / "run", until="clean")
    ledger = Ledger(tmp_path / "run")
    metrics = Metrics(ledger, "run", {})
    assert not [key for key in figures(metrics) if key[0].endswith("_total")]
    metrics.update({"phase": "index", "units": 4, "pending": 0, "bytes": 0}, [])
    after = figures(metrics)
    assert after["documents_read_total",] == sum(row.body["framed"] for row in ledger.rows("clean")) > 0
    assert after["units_done", "clean"] == len(ledger.rows("clean"))


def test_a_store_is_asked_for_each_row_once_and_may_fall_silent(
    s3: Flaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the end of a large run waits for half an hour of requests, and one that fails tells of a run of nothing."""
    monkeypatch.setenv("CORPUSMILL_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("CORPUSMILL_TRIES", "2")
    client = boto3.client("s3", endpoint_url=s3.where, aws_access_key_id="loopback", aws_secret_access_key="loopback",
                          region_name="us-east-1")  # fmt: skip
    client.create_bucket(Bucket="figures")
    ledger = Ledger("s3://figures/run")
    ledger.create("small")

    def commit(number: int) -> None:
        ledger.commit("documents", f"{number:02d}", [], {"documents": 5, "timing": {"cpu_s": 1.0}})

    for number in range(60):
        commit(number)
    metrics = Metrics(Ledger("s3://figures/run"), "run", {})
    metrics.update({"phase": "documents", "units": 61, "pending": 61, "bytes": 0}, [])
    s3.every = 1
    assert not [key for key in figures(metrics) if key[0].startswith("documents_")]
    s3.every = 0
    assert figures(metrics)["documents_written_total",] == 300
    commit(60)
    metrics.end("done", 0)
    s3.every = 1
    end = figures(metrics)
    assert (end["documents_written_total",], end["run_outcome", "done"]) == (300, 1)
    s3.reset(s3.where)
    assert figures(metrics)["documents_written_total",] == 305
    assert s3.requests.total() < 4 * len(VERSIONS), "rows were read again, and not only listed"


@pytest.mark.parametrize("option", ["--metrics-port", "--metrics-file"])
def test_what_cannot_be_had_is_said_before_any_work(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], option: str
) -> None:
    """A port in use, a folder in place of a file: one line, and no run that nobody can watch."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said, _ = (process := start(option, port if option == "--metrics-port" else tmp_path)).communicate()
    assert process.returncode == 2
    assert said.startswith(f"corpusmill: {option} {port if option == '--metrics-port' else tmp_path}")
    assert "Address already in use. Give another port" in said or "is a folder" in said
    assert not (tmp_path / "run").exists()


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for figures in a lean installation is told what to install, before the run."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with (
        pytest.raises(UserError, match=r"pip install 'corpusmill\[metrics\]'"),
        exposed(Wanted(port=0), context(tmp_path), "local", Console(quiet=True)),
    ):
        pass
    with (
        pytest.raises(RecipeError, match="needs --metrics-port"),
        exposed(Wanted(host="0.0.0.0"), context(tmp_path / "again"), "local", Console(quiet=True)),
    ):
        pass
