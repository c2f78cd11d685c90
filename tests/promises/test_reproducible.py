"""Promise 2, reproducible: equal bytes on any number of workers, in any order of files, after any kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import promise_helpers as help
import pytest
import yaml
from promise_helpers import Small

KILLS = [
    ("index", {"match": "rows/index/", "nth": 3}),
    ("clean", {"match": "/clean/", "nth": 1}),  # the part is written, not yet committed
    ("clean", {"match": "rows/clean/", "nth": 2}),  # the parts lie in their places, the row does not
    ("clean", {"match": "rows/clean/", "moment": "half"}),  # the row is being written
    ("clean", {"match": "rows/clean/", "moment": "torn"}),  # as on a file system that tears
    ("lines", {"match": "/host/lines-", "nth": 2, "moment": "after"}),
    ("host_lines", {"match": "rows/host_lines/"}),
    ("host", {"match": "/edits/", "moment": "after"}),
    ("host", {"match": "rows/host/", "nth": 2}),
    ("signatures", {"match": "rows/signatures/", "nth": 2}),
    ("exact", {"match": "rows/exact/"}),
    ("bands", {"match": "rows/bands/", "nth": 2, "moment": "after"}),
    ("join", {"match": "rows/join/", "nth": 4}),
    ("clusters", {"match": "rows/clusters/"}),
    ("losers", {"match": "/duplicates/", "moment": "after"}),
    ("documents", {"match": "/documents/", "nth": 2, "moment": "after"}),
    ("tokenizer", {"match": "tokenizer/facts.json$"}),
    ("tokenise", {"match": "rows/tokenise/", "nth": 3}),
    ("plan", {"match": "rows/plan/"}),
    ("shard", {"match": r"shards/.*\.idx$", "nth": 3}),
    ("shard", {"match": "corpus.json$"}),
]


@pytest.mark.slow(minutes=2)
@pytest.mark.parametrize("kills", [KILLS[1::3], pytest.param(KILLS, marks=pytest.mark.thorough)], ids=["some", "all"])
def test_killed_in_every_phase_and_resumed(
    small: Small, tmp_path: Path, kills: list[tuple[str, dict[str, Any]]]
) -> None:
    """Else a power cut or a preempted machine would cost the run, or silently change what it gives."""
    out = tmp_path / "out"
    for number, (phase, kill) in enumerate(kills):
        flag = tmp_path / f"killed-{number}"
        status, output = help.run("run", small.recipe, "--out", out, "--workers", 1, kill=kill | {"flag": str(flag)})
        assert status == -signal.SIGKILL, f"{phase} was not killed:\n{output}"
        assert flag.exists()
    status, output = help.run("run", small.recipe, "--out", out, "--workers", 1)
    assert status == 0, output
    assert help.shards(out) == small.shards
    assert help.statistics(help.inspect(out)) == small.statistics  # fault 3: they cover all attempts
    assert not list((out / "ledger" / "attempts").iterdir())
    assert _files(out) == _files(small.out)


@pytest.mark.thorough  # the README's test holds a run on all cores against one, another test each phase
@pytest.mark.slow
def test_any_number_of_workers(demo_run: Path, tmp_path: Path) -> None:
    """Else nobody else could make the corpus again, on a machine with other cores."""
    out = tmp_path / "out"
    status, output = help.run("run", help.ROOT / "configs" / "demo.yaml", "--out", out, "--workers", 5)
    assert status == 0, output
    assert help.shards(out) == help.shards(demo_run)
    assert help.statistics(help.inspect(out)) == help.statistics(help.inspect(demo_run))


def test_input_files_renamed_and_in_another_order(small: Small, tmp_path: Path) -> None:
    """Else the same crawl, downloaded to another place, would give another corpus."""
    names = {"web-a.warc.gz": "z/last.gz", "web-b.warc.gz": "a/first.gz", "damaged.warc.gz": "m/middle.gz"}
    for old, new in names.items():
        (tmp_path / new).parent.mkdir()
        shutil.copy(small.crawl / old, tmp_path / new)
    shutil.copy(small.crawl / "notes.jsonl", tmp_path / "lines")
    shutil.copy(small.crawl / "table.parquet", tmp_path / "t")
    data = help.recipe(small.crawl)
    web, notes, docs = data["inputs"]
    first, *others = (str(tmp_path / new) for new in names.values())
    data["inputs"] = [
        web | {"path": others[::-1]},
        notes | {"path": str(tmp_path / "l*")},
        web | {"path": first},
        docs | {"path": str(tmp_path / "t")},
    ]
    recipe = help.write_recipe(tmp_path / "other.yaml", data)
    status, output = help.run("run", recipe, "--out", tmp_path / "out", "--workers", 1)
    assert status == 0, output
    assert help.shards(tmp_path / "out") == small.shards
    assert help.statistics(help.inspect(tmp_path / "out")) == small.statistics


@pytest.mark.parametrize(
    ("moment", "nth"),
    [
        pytest.param("before", 1, marks=pytest.mark.thorough),
        ("start", 1),
        pytest.param("start", 2, marks=pytest.mark.thorough),
    ],
)
def test_a_killed_worker_is_replaced(small: Small, tmp_path: Path, moment: str, nth: int) -> None:
    """Else one worker that runs out of memory at night would leave a run that hangs until somebody looks.

    The first process that starts is the one that leads the others.
    """
    kill = {"match": "/clean/", "moment": moment, "nth": nth, "victim": "worker", "flag": str(tmp_path / "killed")}
    status, output = help.run("run", small.recipe, "--out", tmp_path / "out", "--workers", 2, kill=kill)
    assert (tmp_path / "killed").exists()
    assert status == 0, output
    assert "A worker died" in output
    assert help.shards(tmp_path / "out") == small.shards
    assert help.statistics(help.inspect(tmp_path / "out")) == small.statistics


def test_a_killed_nursery_is_replaced(small: Small, tmp_path: Path) -> None:
    """The system may take it in want of memory, as any worker: the run would hang, or lose what was done."""
    process = help.start_held(tmp_path, "run", small.recipe, "--out", tmp_path / "out", "--workers", 2)
    nursery = [one for one in help.processes_of(process.pid) if one.pid == os.getpgid(one.pid) != process.pid]
    assert len(nursery) == 1
    nursery[0].kill()
    help.release(tmp_path)
    status, output = help.finish(process)
    assert status == 0, output
    assert "A worker died" in output
    assert help.shards(tmp_path / "out") == small.shards


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.thorough)]
)
def test_stopped_by_a_signal(small: Small, tmp_path: Path, number: int, status: int) -> None:
    """Else Ctrl-C or a scheduler's stop would leave processes behind, or a folder that cannot go on."""
    out = tmp_path / "out"
    process = help.start_held(tmp_path, "run", small.recipe, "--out", out, "--workers", 2)
    os.kill(process.pid, number)
    ended, output = help.finish(process)  # which fails where a process is left
    assert ended == status, output
    assert "run the same command to go on" in output
    assert "Traceback" not in output
    if number == signal.SIGTERM:  # both leave the same
        ended, output = help.run("run", small.recipe, "--out", out, "--workers", 1)
        assert ended == 0, output
        assert help.shards(out) == small.shards


def test_driver_killed_alone(small: Small, tmp_path: Path) -> None:
    """Else workers of a killed command would go on in a folder that the next command works in."""
    out = tmp_path / "out"
    process = help.start_held(tmp_path, "run", small.recipe, "--out", out, "--workers", 2)
    assert help.until(lambda: len(help.processes_of(process.pid)) > 3)  # the second worker may still start
    os.kill(process.pid, signal.SIGKILL)
    status, output = help.run("run", small.recipe, "--out", out, "--workers", 1)  # at once: it waits for the lock
    assert status == 0, output
    assert help.finish(process)[0] == -signal.SIGKILL
    assert help.shards(out) == small.shards
    assert help.statistics(help.inspect(out)) == small.statistics


@pytest.mark.slow(minutes=2)
def test_every_phase_on_several_workers(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the later phases, which one worker does on small data, might differ on a corpus large enough for more."""
    from pipeline import runner
    from pipeline.ledger import Ledger
    from pipeline.phases import PHASES
    from pipeline.recipe import check
    from pipeline.work import Context

    for name in ("lines", "host", "bands", "tokenise", "shard"):
        monkeypatch.setitem(PHASES, name, PHASES[name]._replace(parallel_from=0))
    out, desk = tmp_path / "out", tmp_path / "out" / "ledger" / "desk"
    desk.mkdir(parents=True)
    context = Context(out, small.recipe.parent, check(yaml.safe_load(small.recipe.read_text()), "recipe", tmp_path))
    Ledger(out).create("small")
    done = runner.run(runner.Order(context, 2, "local", [], desk))
    asked = {name for name in done if Ledger(out).keys(name)}  # not phases that this recipe does not ask for
    assert {"lines", "host_lines", "host", "signatures", "bands", "join", "shard"} <= asked
    assert all(done[name] > 0 for name in asked)
    for name in ("lines", "host", "bands", "tokenise", "shard"):  # more than one unit, so two workers shared the queue
        assert len(json.loads((desk / f"{name}-0" / "job.json").read_text())["tasks"]) > 1
    assert help.shards(out) == small.shards


def _files(out: Path) -> dict[str, Any]:
    """Every committed file with its size, and every manifest row but its times."""
    found: dict[str, Any] = {}
    for path in out.rglob("*"):
        inside = path.relative_to(out)
        if path.is_file() and inside.parts[0] != "ledger":
            found[str(inside)] = path.stat().st_size
        elif inside.parts[:2] == ("ledger", "rows") and path.is_file():
            row = json.loads(path.read_text())["row"]
            row["body"].pop("timing")
            found[str(inside)] = [row["body"], [part["digest"] for part in row["parts"]]]
    return found
