"""`corpusmill plan-run`: what a crawl and machines that are not here will take, by a run that is."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loopback import Flaky
from small_run import run_here, write_recipe
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import RecipeError, UserError
from pipeline.ledger import Ledger
from pipeline.planning import asked, forecast, laws, measured
from pipeline.planning.lines import Plan
from pipeline.planning.measured import Measured
from pipeline.planning.share import serial_share
from pipeline.recipe import read_recipe
from pipeline.runner import JOB_UNITS
from pipeline.spent import RunClock
from pipeline.storage.patience import Unavailable
from pipeline.store import opened
from pipeline.work import Trial

Corpusmill = Callable[..., Any]
DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
ONE = asked.Machines(1, 1)


@pytest.fixture(scope="module")
def run(demo_run: Path) -> Measured:
    return measured.read(demo_run)


def planned(run: Measured, times: float, machines: asked.Machines = ONE, **settings: object) -> Plan:
    recipe = run.recipe if not settings else run.recipe.model_copy(update=settings)
    return forecast.plan(run, recipe, asked.Crawl(pages=run.amounts.pages * times), machines)


def test_amounts_are_those_of_the_ledger(run: Measured, corpusmill: Corpusmill) -> None:
    """A plan by other pages, bytes or tokens than the run's would be wrong by that factor."""
    told = json.loads(corpusmill("inspect", run.folder, "--json").stdout)
    first = next(step for step in told["funnel"] if step["stage"] == "extract")
    assert run.amounts.pages == first["entered"]
    assert run.amounts.size == sum(item["bytes"] for item in told["inputs"])
    assert run.amounts.survivors == told["records"]["kept"]
    assert run.amounts.tokens == sum(of["tokens"] for of in told["tokens"]["sources"].values())
    assert run.committed["shard"] == sum(path.stat().st_size for path in (run.folder / "shards").iterdir())
    cpu = {phase: cost.cpu_s for phase, cost in run.phases.items() if cost.units}
    assert cpu == pytest.approx(told["cpu_seconds"], abs=0.002)


def test_the_run_itself_is_foretold(run: Measured) -> None:
    """If it cannot say of the run what the run took, it says nothing of ten times as much."""
    plan = planned(run, 1.0)
    lines = {line.phase: line for line in plan.lines}
    for name, cost in run.phases.items():
        if cost.units:
            assert lines[name].units == cost.units, name
            if lines[name].source == "run":
                assert lines[name].cpu_s == pytest.approx(cost.cpu_s, rel=0.02, abs=0.02), name
            assert lines[name].written == pytest.approx(run.committed[name]), name
            assert lines[name].worker_memory == pytest.approx(cost.peak), name
    assert run.run is not None
    # the run also compiles, once a machine, and starts processes on cores that others use too
    assert plan.cpu_s == pytest.approx(run.run.cpu_s, rel=0.3)
    assert plan.disk == pytest.approx(sum(run.committed.values()) + run.rows_size)


def test_twice_the_pages_are_twice_the_work(run: Measured) -> None:
    """Every line that follows the pages, documents or tokens doubles to the bit; the others say why they do not."""
    large = 10_000.0
    one, two = planned(run, large), planned(run, 2 * large)
    for before, after in zip(one.lines, two.lines, strict=True):
        if before.phase in ("lines", "signatures", "losers", "documents", "tokenise"):
            assert after.units == 2 * before.units, before.phase
            first = laws.FIRST_S.get(before.phase, 0.0)
            assert after.cpu_s == pytest.approx(2 * before.cpu_s, abs=1.001 * first, rel=1e-9), before.phase
        if before.phase != "tokenizer":
            assert after.written == pytest.approx(2 * before.written, rel=1e-9), before.phase
    exact = [next(line for line in plan.lines if line.phase == "exact") for plan in (one, two)]
    more = one.amounts.signed * laws.WHOLE["exact"].memory
    assert exact[1].worker_memory - exact[0].worker_memory == pytest.approx(more)
    assert two.amounts.shard_tokens == pytest.approx(2 * one.amounts.shard_tokens)


def test_more_machines_are_faster_until_one_process_is_all(run: Measured) -> None:
    """Else nobody could tell when to stop paying for machines."""
    walls = [planned(run, 1e5, asked.Machines(count, 32)).wall_s for count in (1, 4, 16, 64, 256)]
    assert walls == sorted(walls, reverse=True)
    plan = planned(run, 1e5, asked.Machines(256, 32))
    assert plan.wall_s > plan.alone_s > plan.wall_s / 4


def test_a_cluster_does_a_large_phase_in_jobs(run: Measured) -> None:
    """Each job starts workers and waits for its last unit: with more workers than a job has units, more do nothing."""
    times = 1e6
    clean = {
        count: next(line for line in planned(run, times, asked.Machines(count, 32)).lines if line.phase == "clean")
        for count in (1, 64, 1000, 4000)
    }
    jobs = -(-clean[64].units // JOB_UNITS)
    assert [line.jobs for line in clean.values()] == [1, jobs, jobs, jobs]
    assert jobs > 100
    assert clean[64].parts_s["start"] >= jobs * laws.JOB_S
    last = clean[64].units - (jobs - 1) * JOB_UNITS
    rounds = (jobs - 1) * -(-JOB_UNITS // 2048) + -(-last // 2048)
    assert clean[64].parts_s["cpu"] / clean[1000].parts_s["cpu"] == pytest.approx(rounds / jobs)
    assert clean[64].parts_s["longest unit"] == pytest.approx(
        jobs * run.phases["clean"].skew * clean[64].parts_s["cpu"] / rounds
    )
    assert (clean[1000].workers, clean[4000].workers) == (JOB_UNITS, JOB_UNITS)
    assert clean[4000].wall_s == pytest.approx(clean[1000].wall_s, rel=0.1)


def test_a_budget_of_tokens_bounds_the_shards_alone(run: Measured) -> None:
    """A billion tokens out of a large crawl are not the crawl's size in shards."""
    mixture = run.recipe.mixture
    assert mixture is not None
    plan = planned(run, 1e5, mixture=mixture.model_copy(update={"tokens": 1_000_000_000}))
    assert plan.amounts.shard_tokens == 1e9
    assert plan.amounts.tokens == pytest.approx(1e5 * run.amounts.tokens)


def test_what_fails_is_named_with_what_would_ease_it(run: Measured) -> None:
    """A plan that hides that a run must fail is worth nothing: 32-bit numbers, one process's memory, disks."""
    huge = planned(run, 2**33 / run.amounts.signed, asked.Machines(64, 32, memory=64e9, disk=1e12))
    by_phase = {(problem.phase, problem.what.split(":")[0]): problem for problem in huge.problems}
    texts = [f"{problem.phase}: {problem.what}" for problem in huge.problems]
    assert any("exact" in text and "4,294,967,295" in text for text in texts), texts
    assert any("exact: one process holds" in text for text in texts), texts
    assert any("shard: each machine reads" in text for text in texts), texts
    assert all(problem.ease for problem in by_phase.values())
    small = planned(run, 1e3, asked.Machines(2, 8, memory=2e9))
    assert any("at most" in problem.ease and problem.fails for problem in small.problems)
    assert not [problem for problem in planned(run, 100.0, asked.Machines(1, 2)).problems if problem.fails]
    full = planned(run, 1e5, asked.Machines(1, 32, disk=1e10))
    assert "disk" in [problem.phase for problem in full.problems]


def test_fewer_larger_files_are_fewer_units(run: Measured) -> None:
    """The trial's files are small; a crawl's are a gigabyte each, and planning by small ones frightens."""
    pages = run.amounts.pages * 1e6
    many, few = (
        forecast.plan(run, run.recipe, asked.Crawl(pages, file_size=size), asked.Machines(64, 32))
        for size in (None, 1e9)
    )
    units = [next(line.units for line in plan.lines if line.phase == "clean") for plan in (many, few)]
    assert units[1] < units[0] / 5
    assert few.wall_s < many.wall_s


def test_a_trial_by_limit_foretells_the_files_of_the_whole(tmp_path: Path) -> None:
    """`--limit` reads a few pages, but its index reads every file whole: scaled by pages, that frightens by hours."""
    recipe = write_recipe(
        tmp_path, inputs=[{"source": "notes", "path": "crawl/many-*.jsonl", "format": "jsonl"}],
        tokenizer=None, mixture=None, shards=None,
    )  # fmt: skip
    lines = (recipe.parent / "crawl" / "notes-0.jsonl").read_text("utf-8")
    for number in range(12):
        (recipe.parent / "crawl" / f"many-{number}.jsonl").write_text(lines * 8, "utf-8")
    few = lines.count("\n")
    run_here(recipe, tmp_path / "run", trial=Trial(limit=few))
    trial = measured.read(tmp_path / "run")
    whole = 12 * 8 * trial.amounts.pages
    assert trial.files == 12
    plan = forecast.plan(trial, trial.recipe, asked.Crawl(pages=whole), ONE)
    found = {line.phase: line for line in plan.lines}
    assert (found["index"].units, found["clean"].units, found["signatures"].units) == (12, 12, 12)
    assert found["index"].cpu_s == pytest.approx(trial.phases["index"].cpu_s, rel=0.02)
    larger = forecast.plan(trial, trial.recipe, asked.Crawl(pages=1000 * whole), ONE)
    assert larger.lines[0].units == pytest.approx(12_000, rel=0.02)
    assert larger.lines[0].cpu_s == pytest.approx(1000 * trial.phases["index"].cpu_s, rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--crawl", "many", "--machines", "1x2"], "--crawl many: give a number of pages or bytes"),
        (["--crawl", "3e9", "--machines", "1x2"], "such as '3.2e9 pages' or 90TB"),
        (["--crawl", "0 pages", "--machines", "1x2"], "nothing to read"),
        (["--crawl", "3e9", "pages", "--machines", "64"], "--machines 64: give machines x cores"),
        (["--crawl", "3e9 pages", "--machines", "0x4"], "at least one machine"),
        (["--crawl", "1TB", "--machines", "1x2", "--memory", "lots"], "--memory lots: give a number of bytes"),
        (["--crawl", "1TB", "--machines", "1x2", "--network", "10GB"], "--network 10GB: give bits a second"),
        (["--crawl", "1TB", "--machines", "1x2"], "neither runs/demo-trial nor runs/demo holds a finished one"),
        (["--crawl", "1TB", "--machines", "1x2", "--from", "s3://bucket/runs/trial"], "corpusmill fetch s3://bucket"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a typing error ends in a traceback, or in a plan for something else."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["plan-run", str(DEMO), *arguments])
    assert done.exit_code == 2
    assert said in done.output


@pytest.mark.parametrize(
    ("text", "pages", "size"),
    [("3.2e9 pages", 3.2e9, None), ("3.2 billion pages", 3.2e9, None), ("1,000 documents", 1000, None),
     ("90TB", None, 9e13), ("1.5 TiB", None, 1.5 * 2**40)],
)  # fmt: skip
def test_sizes_of_crawls(text: str, pages: float | None, size: float | None) -> None:
    """The ways in which people write them."""
    assert asked.crawl(text) == asked.Crawl(pages, size)


def test_without_a_folder_the_trial_is_measured_else_the_run(
    demo_run: Path, tmp_path: Path, corpusmill: Corpusmill
) -> None:
    """Who follows the documentation gives no folder to either command; which run a plan goes by is said."""
    asks = ["plan-run", DEMO, "--crawl", "3.2e9 pages", "--machines", "64x32"]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(demo_run)
    (tmp_path / "runs" / "demo-trial").mkdir()
    assert corpusmill(*asks, cwd=tmp_path).stdout.startswith("by the run in runs/demo:")
    (tmp_path / "runs" / "demo-trial").rmdir()
    (tmp_path / "runs" / "demo-trial").symlink_to(demo_run)
    assert corpusmill(*asks, cwd=tmp_path).stdout.startswith("by the run in runs/demo-trial:")


def test_a_run_that_is_none_or_not_finished_is_refused(demo_run: Path, tmp_path: Path) -> None:
    """Half of a run would make a plan of half the costs."""
    with pytest.raises(UserError, match="no such folder"):
        measured.read(tmp_path / "none")
    copy = tmp_path / "run"
    shutil.copytree(demo_run / "ledger", copy / "ledger")
    (copy / "ledger" / "complete.json").unlink()
    with pytest.raises(UserError, match="no finished run"):
        measured.read(copy)


def test_other_settings_than_the_runs_are_named(run: Measured, tmp_path: Path) -> None:
    """Else one plans a recipe by the costs of another one."""
    changed = read_recipe(DEMO, ["dedup.near.threshold=0.7", "stages.gopher_quality.min_words=31"], bind=False)
    assert sorted(forecast.differing(run.recipe, changed)) == ["dedup.near", "stages.gopher_quality"]
    assert forecast.differing(run.recipe, read_recipe(DEMO, bind=False)) == []


def test_what_is_printed_and_json_say_the_same(run: Measured, corpusmill: Corpusmill) -> None:
    """The tables are for people, the JSON for their scripts."""
    asks = [
        "plan-run",
        DEMO,
        "--from",
        run.folder,
        "--crawl",
        "3.2e9",
        "pages",
        "--machines",
        "64x32",
        "--price",
        "1.2",
    ]
    text, told = corpusmill(*asks).stdout, json.loads(corpusmill(*asks, "--json").stdout)
    assert told["crawl"]["pages"] == pytest.approx(3.2e9)
    assert [phase["phase"] for phase in told["phases"]] == [
        name for name, cost in run.phases.items() if cost.units or name == "stars"
    ]
    assert told["cost"] == pytest.approx(64 * 1.2 * told["wall_seconds"] / 3600)
    for phase in told["phases"]:
        assert phase["phase"] in text
    assert "the run is too small to tell of exact, join, clusters, plan" in text
    for word in ("widest shuffle", "first bottleneck", "what would ease it", "serial share", "assumed"):
        assert word in text, word
    assert told["first_bottleneck"]["phase"] in text


def test_a_plan_can_be_checked_by_hand_out_of_its_json(run: Measured, corpusmill: Corpusmill) -> None:
    """A figure that no other one explains must be believed, and nobody pays for a cluster on belief."""
    asks = ["plan-run", DEMO, "--from", run.folder, "--crawl", "1e9 pages", "--machines", "64x32", "--json"]
    told = json.loads(corpusmill(*asks, "--file-size", "1GB").stdout)
    begun, phases = told["startup"], told["phases"]
    for phase in phases:
        of = phase["seconds_of"]
        assert of["planning"] == pytest.approx(begun["plan_unit_s"] * phase["units"])
        work = max(value for name, value in of.items() if name not in ("planning", "start"))
        assert phase["wall_seconds"] == pytest.approx(work + of["planning"] + of["start"])
        units, workers, cost = phase["units"], phase["workers"], phase["run"]
        most = units / laws.STARS_ROUNDS if phase["phase"] == "stars" else JOB_UNITS
        full, rest = divmod(units, most)
        rounds = full * -(-most // workers) + -(-rest // workers)
        assert phase["jobs"] == full + (rest > 0)
        assert of["start"] == pytest.approx(
            phase["jobs"] * max(begun["pipeline"], laws.JOB_S) + begun["round"] * rounds
        )
        if phase["source"] == "run":
            waits = cost["wall_seconds"] / cost["cpu_seconds"] if cost["cpu_seconds"] > 1 else 1.0
            mean = phase["cpu_seconds"] / units * max(1.0, waits)
            assert of["cpu"] == pytest.approx(rounds * mean)
            skew = cost["longest_seconds"] * cost["units"] / cost["wall_seconds"]
            assert of["longest unit"] == pytest.approx(phase["jobs"] * mean * skew)
    wall = begun["run_s"] + sum(phase["wall_seconds"] for phase in phases)
    assert told["wall_seconds"] == pytest.approx(wall)
    serial = begun["fixed_cpu_s"] + begun["driver_share"] * wall
    serial += sum(phase["seconds_of"]["planning"] for phase in phases)
    serial += sum(phase["cpu_seconds"] for phase in phases if laws.LAWS[phase["phase"]].single)
    assert told["serial_seconds"] == pytest.approx(serial)
    beside = sum(
        begun["worker_cpu_s"] * phase["workers"] * phase["jobs"] + begun["commit_cpu_s"] * phase["units"]
        for phase in phases
    )
    assert told["beside_units_seconds"] == pytest.approx(beside)
    clean = next(phase for phase in phases if phase["phase"] == "clean")
    unit, scale = laws.UNIT_S["clean"], told["scale"]
    inside, stages = clean["run"]["cpu_seconds"] - unit * clean["run"]["units"], told["run"]["stage_cpu_s"]
    by_hand = (inside - stages) * scale + stages * scale / told["run"]["sampled"] + unit * clean["units"]
    assert clean["cpu_seconds"] == pytest.approx(by_hand)
    assert told["crawl"]["files"] == pytest.approx(told["crawl"]["size"] / 1e9, abs=1)
    assert "in files of 1.0 GB" in told["assumed"][0]


def test_what_a_cluster_showed_of_itself_is_not_guessed(run: Measured) -> None:
    """A trial on the cluster tells how long a job takes to start there; a guess in its place would be kept for ever."""
    assert run.run is not None
    there = replace(run, run=replace(run.run, local=False))
    for machine, least in ((run, laws.JOB_S), (there, 0.0)):
        plan = planned(machine, 1e4, asked.Machines(4, 8))
        assert plan.startup.pipeline < laws.JOB_S
        exact = next(line for line in plan.lines if line.phase == "exact")
        start = max(least, plan.startup.pipeline) + plan.startup.round
        assert exact.parts_s["start"] == pytest.approx(start)


def test_an_account_that_cannot_be_written_fails_no_run(
    s3: Flaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run of weeks that is done would end as failed, by a store that was busy for its last request."""
    monkeypatch.setenv("CORPUSMILL_SCRATCH", str(tmp_path))
    monkeypatch.setenv("CORPUSMILL_TRIES", "2")
    store = opened("s3://account/run")
    s3.every = 1
    with pytest.raises(Unavailable):
        store.write("ledger/spent/run.json", b"{}")
    RunClock().end(store, {"clean": 1}, 1, 0.0, local=True)


def test_serial_share_is_told_of_a_run(run: Measured, corpusmill: Corpusmill) -> None:
    """By it one sees whether more cores would help; its parts must be parts of the whole."""
    share = serial_share(Ledger(run.folder))
    assert share is not None
    assert 0 < share["share"] < 1
    assert share["serial_seconds"] == pytest.approx(sum(share["of"].values()), abs=0.01)
    assert {"tokenizer", "exact", "clusters", "plan", "working process", "driver"} <= share["of"].keys()
    assert "clean" not in share["of"]
    assert "serial share" in corpusmill("inspect", run.folder).stdout


def test_every_phase_has_a_law(run: Measured) -> None:
    """A new phase without one would be missing in every plan."""
    assert list(laws.LAWS) == list(run.phases)
    with pytest.raises(RecipeError):
        asked.machines("64 by 32")


def test_the_page_of_formulas_names_every_phase_and_constant() -> None:
    """Who checks a plan by hand finds each term there."""
    page = (Path(forecast.__file__).parent / "README.md").read_text("utf-8")
    for name in laws.LAWS:
        assert f"`{name}`" in page, name
    own = re.findall(r"^([A-Z_]+)(?: = |, )", Path(laws.__file__).read_text("utf-8"), re.MULTILINE)
    assert len(own) > 15
    for name in own:
        if isinstance(getattr(laws, name), int | float):
            assert f"`{name}`" in page, name
    for whole in laws.WHOLE.values():
        assert f"{whole.memory:g}" in page
