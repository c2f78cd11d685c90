"""Components by large-star and small-star: the rounds themselves, and as units of a run over files."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from small_run import run_here, write_recipe

from pipeline import components, engine, runner, stars
from pipeline.cluster.local import Cluster
from pipeline.ledger import Part, Staged
from pipeline.look import clean_folder
from pipeline.look.runfolder import RunFolder
from pipeline.phases import PHASES, Phase
from pipeline.phases import stars as phase
from pipeline.progress import Reporter
from pipeline.recipe import read_recipe
from pipeline.work import Context, Task

Pairs = npt.NDArray[np.int64]
SHUFFLE = np.random.default_rng(5).permutation


def reference(pairs: Pairs, nodes: int) -> list[int]:
    """The least node of each node's component, by union-find in plain Python."""
    parent = list(range(nodes))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for left, right in pairs.tolist():
        one, other = sorted((root(left), root(right)))
        parent[other] = one
    return [root(node) for node in range(nodes)]


def path_of(nodes: int) -> Pairs:
    """A path through shuffled nodes."""
    order = SHUFFLE(nodes)
    return np.stack([order[:-1], order[1:]], axis=1)


GRAPHS: dict[str, tuple[Pairs, int]] = {
    "path": (path_of(10_000), 10_000),
    "path in order": (np.stack([np.arange(9_999), np.arange(1, 10_000)], axis=1), 10_000),
    "star around the last": (np.stack([np.arange(9_999), np.full(9_999, 9_999)], axis=1), 10_000),
    "clique": (np.stack(np.triu_indices(200, 1), axis=1), 220),
    "pairs of many bands": (np.tile(SHUFFLE(4_000).reshape(-1, 2), (14, 1)), 4_000),
    "nothing": (np.zeros((0, 2), np.int64), 50),
    "loops": (np.array([[3, 3], [3, 3], [5, 1]]), 7),
}


@given(
    st.integers(1, 60).flatmap(
        lambda nodes: st.tuples(
            st.just(nodes), st.lists(st.tuples(st.integers(0, nodes - 1), st.integers(0, nodes - 1)), max_size=120)
        )
    )
)
def test_any_graph_gives_what_union_find_gives(graph: tuple[int, list[tuple[int, int]]]) -> None:
    """Above half a thousand million documents a run would remove others than below it."""
    nodes, edges = graph
    pairs = np.array(edges, np.int64).reshape(-1, 2)
    found, _ = stars.components(pairs[:, 0], pairs[:, 1], nodes)
    assert found.tolist() == reference(pairs, nodes)


@pytest.mark.parametrize("name", GRAPHS)
def test_rounds_are_few(name: str) -> None:
    """Each round is a pass over files of hundreds of gigabytes: were there as many as documents in a chain, no large
    run would end. The paper's bound is log² of the nodes; what was seen is twice the logarithm at most."""
    pairs, nodes = GRAPHS[name]
    found, rounds = stars.components(pairs[:, 0], pairs[:, 1], nodes)
    assert found.tolist() == reference(pairs, nodes)
    assert rounds <= 3 + 2 * np.log2(nodes)


def context_in(folder: Path) -> Context:
    """A run folder in which nothing was done yet."""
    (folder / "a.jsonl").write_text('{"text": "a"}\n')
    recipe = folder / "r.yaml"
    recipe.write_text(yaml.safe_dump({"inputs": [{"source": "a", "path": "a.jsonl"}], "stages": []}))
    context = Context(folder / "run", folder, read_recipe(recipe))
    context.ledger.folder.mkdir(parents=True)
    context.ledger.create(context.recipe.name)
    return context


def commit_edges(context: Context, files: Sequence[Pairs]) -> list[Part]:
    """The edges as parts of a ledger row, every other one raw."""
    folder = context.ledger.attempt()
    staged = []
    for number, pairs in enumerate(files):
        path = folder / str(number)
        if number % 2:
            pairs.astype("<u4").tofile(path)
        else:
            columns = {"left": pairs[:, 0].astype(np.uint32), "right": pairs[:, 1].astype(np.uint32)}
            pq.write_table(pa.table(columns), path)
        staged.append(Staged(path, f"dedup/edges-{number}.{'bin' if number % 2 else 'parquet'}"))
    return list(context.ledger.commit("join", "0" * 32, staged, {"timing": {}}).parts)


@pytest.fixture
def without_beam(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units one after another in this process: a pipeline of Beam for each of many rounds takes a while."""

    def do(of: Phase, tasks: list[Task], order: runner.Order, name: str) -> None:
        (order.desk / "reports").mkdir(exist_ok=True)
        for task in tasks:
            engine.do_unit(task, order.context, Reporter(order.desk / "reports"))

    monkeypatch.setattr(runner, "_do", do)


def in_rounds(context: Context) -> int:
    """The phase, by the runner, until it is done: units that were."""
    desk = context.ledger.folder / "runs" / uuid.uuid4().hex
    desk.mkdir(parents=True)
    return runner._rounds(PHASES["stars"], runner.Order(context, 1, "local", [], desk), "stars-round")


def result(context: Context) -> list[int]:
    files = [context.out / part.path for part in phase.result(context)]
    return [int(leader) for path in files for leader in np.fromfile(path, "<u4")]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Partitions and pieces so small that a graph of a test has several of each."""
    monkeypatch.setattr(stars, "PART_NODES", 512)
    monkeypatch.setattr(stars, "CHUNK", 100)


def wire(monkeypatch: pytest.MonkeyPatch, edges: list[Part], nodes: int, bounds: tuple[int, ...] = ()) -> None:
    monkeypatch.setattr(phase, "graph", lambda context: phase.Graph(edges, nodes, bounds))


def chains(nodes: int) -> Pairs:
    """Chains of different lengths, some nodes alone."""
    order = SHUFFLE(nodes)
    pairs = np.stack([order[:-1], order[1:]], axis=1)
    return pairs[np.arange(len(pairs)) % 37 != 0]


@pytest.mark.usefixtures("small_parts", "without_beam")
def test_files_give_what_memory_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest runs, which nobody checks by hand, would name survivors of other clusters."""
    context, nodes = context_in(tmp_path), 3_000
    pairs = chains(nodes)
    edges = commit_edges(context, [pairs[:1_000], pairs[1_000:1_000], pairs[1_000:], pairs[:5]])
    wire(monkeypatch, edges, nodes)
    done = in_rounds(context)
    assert result(context) == reference(pairs, nodes)
    told = phase.rounds(context.ledger, phase.graph(context))
    assert [one["step"] for one in told][:4] == ["spread", "small", "large", "small"]
    steps = [one["step"] for one in told]
    assert [one["changed"] for one in told][-3:] == [0, 0, 0]
    still = [one["step"] == "small" and not one["changed"] for one in told].index(True)
    assert steps[still:] == ["small", *["large"] * (len(steps) - still - 3), "least", "ranges"]
    assert done == len(context.ledger.keys("stars")) == 4 + 8 * (len(told) - 2) + 6
    assert in_rounds(context) == 0


@pytest.mark.usefixtures("small_parts", "without_beam")
def test_used_files_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty rounds would fill the disk with twenty copies of all edges."""
    context, nodes = context_in(tmp_path), 1_200
    edges = commit_edges(context, [chains(nodes)])
    wire(monkeypatch, edges, nodes)
    in_rounds(context)
    left = {path.name.split("-")[2] for path in context.out.glob("dedup/stars-*")}
    assert left == {"ranges"}


def failing_at(monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
    """Has the unit of this number fail, as where a disk is full or a worker is killed."""
    real, calls = PHASES["stars"].work, iter(range(turn))

    def work(*arguments: Any) -> Any:
        if next(calls, None) is None:
            raise ValueError("killed")
        return real(*arguments)

    monkeypatch.setitem(PHASES, "stars", PHASES["stars"]._replace(work=work))


@pytest.mark.usefixtures("small_parts", "without_beam")
@pytest.mark.parametrize("turn", [0, 3, 17, 30])
def test_a_stopped_phase_goes_on_in_its_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
    """A run of days that is killed in its twentieth round would begin with the first."""
    context, nodes = context_in(tmp_path), 1_800
    pairs = chains(nodes)
    edges = commit_edges(context, [pairs])
    wire(monkeypatch, edges, nodes)
    with monkeypatch.context() as killed:
        failing_at(killed, turn)
        with pytest.raises(ValueError, match="killed"):
            in_rounds(context)
    before = set(context.ledger.keys("stars"))
    assert len(before) >= min(turn, 1)
    rest = in_rounds(context)
    assert len(context.ledger.keys("stars")) == len(before) + rest
    assert result(context) == reference(pairs, nodes)


@pytest.mark.usefixtures("small_parts", "without_beam")
def test_a_lost_file_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a lost file was made from is deleted by then: the run could never be mended."""
    context, nodes = context_in(tmp_path), 1_200
    pairs = chains(nodes)
    edges = commit_edges(context, [pairs])
    wire(monkeypatch, edges, nodes)
    in_rounds(context)
    whole = result(context)
    context.out.joinpath(phase.result(context)[1].path).unlink()
    order = runner.Order(context, 1, "local", [], tmp_path / "desk")
    (tmp_path / "desk").mkdir()
    pending = runner.missing(PHASES["stars"], PHASES["stars"].tasks(context), context)
    assert len(pending) == 1
    assert runner._used_up(PHASES["stars"], pending, context)
    runner._again(PHASES["stars"], pending, order, "test")
    assert result(context) == whole == reference(pairs, nodes)


@pytest.mark.usefixtures("small_parts", "without_beam")
def test_generations_are_joined_within_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer document would join two older clusters, and take back what was published."""
    context, nodes, bounds = context_in(tmp_path), 1_500, (300, 800)
    pairs = chains(nodes)
    wire(monkeypatch, commit_edges(context, [pairs]), nodes, bounds)
    in_rounds(context)
    inside = [(300 <= a < 800 and 300 <= b < 800) or (a >= 800 and b >= 800) for a, b in pairs.tolist()]
    assert result(context) == reference(pairs[np.array(inside)], nodes)


@pytest.mark.slow
@pytest.mark.thorough  # on one machine they do, and the phases before on a cluster
def test_rounds_on_a_cluster_give_what_union_find_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flink_cluster: Cluster
) -> None:
    """The phase is for crawls that no machine holds: on the cluster it must not name survivors of other clusters."""
    monkeypatch.setattr(stars, "PART_NODES", 512)  # what units there are is found here, workers are told
    context, nodes = context_in(tmp_path), 3_000
    pairs = SHUFFLE(nodes)[: nodes // 5 * 3].reshape(-1, 3)[:, [0, 1, 1, 2]].reshape(-1, 2)
    pairs = SHUFFLE(np.concatenate([pairs, pairs[::3]]))
    wire(monkeypatch, commit_edges(context, [pairs[:1_000], pairs[1_000:]]), nodes)
    facts = flink_cluster.facts
    where = {"flink_master": facts.master, "job_endpoint": facts.job_endpoint}
    where["environment_config"] = facts.environment_config
    (desk := tmp_path / "desk").mkdir()
    order = runner.Order(context, 2, "flink", [f"--{name}={value}" for name, value in where.items()], desk)
    with order.beam:
        runner._rounds(PHASES["stars"]._replace(parallel_from=0), order, "stars-round")
    steps = [one["step"] for one in phase.rounds(context.ledger, phase.graph(context))]
    assert steps[:3] == ["spread", "small", "large"]
    assert steps[-2:] == ["least", "ranges"]
    assert len({report.name for report in desk.glob("stars-round-1/reports/*")}) == 2, "one worker did all"
    left, right = pairs.astype(np.uint32).T
    found, _ = components.leaders([(left, right)], [0, nodes], np.arange(nodes, dtype=np.uint32))
    assert result(context) == found.tolist() == reference(pairs, nodes)


def clusters_of(folder: Path, *changes: str, mode: str) -> list[dict[str, Any]]:
    """The duplicates of a run over the small recipe's inputs, of two generations."""
    recipe = write_recipe(folder)
    data = yaml.safe_load(recipe.read_text())
    data["inputs"].append({"source": "later", "path": "later.jsonl", "generation": 1})
    short = {"tokenizer": None, "mixture": None, "shards": None}
    text = folder / "crawl" / "notes-0.jsonl"
    lines = [line for line in text.read_text("utf-8").splitlines() if line.endswith("}")]
    again = [json.dumps(json.loads(line) | {"title": str(at)}) for at, line in enumerate(lines[:20])]
    (folder / "later.jsonl").write_text("\n".join(again), "utf-8")
    data["dedup"] = {"near": {"threshold": 0.5}}
    recipe.write_text(yaml.safe_dump({key: value for key, value in data.items() if key not in short}))
    run_here(recipe, folder / mode, *changes)
    files = RunFolder(folder / mode).parts("duplicates")
    return sorted((row for path in files for row in pq.read_table(path).to_pylist()), key=lambda row: str(row["loser"]))


def test_a_run_by_stars_removes_the_same(tmp_path: Path) -> None:
    """The setting that is for the largest crawls would change the result, or not work at all."""
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    plain = clusters_of(tmp_path / "a", mode="plain")
    assert len(plain) > 10
    assert clusters_of(tmp_path / "b", "dedup.near.stars_from=1", mode="stars") == plain
    assert list((tmp_path / "b" / "stars").glob("dedup/stars-*-ranges-*"))
    assert not list((tmp_path / "a" / "plain").glob("dedup/stars-*"))


def test_what_clean_took_away_is_made_again_round_by_round(tmp_path: Path) -> None:
    """A changed setting would end in a missing file once `corpusmill clean` had been there."""
    setting = "dedup.near.stars_from=1"
    clusters_of(tmp_path, setting, mode="stars")
    out = tmp_path / "stars"
    clean_folder.carry_out(clean_folder.plan(out, ["documents"]))
    done = run_here(tmp_path / "small.yaml", out, setting, "dedup.near.max_cluster=2")
    assert {"join", "stars", "clusters"} <= done.keys()
    assert done["stars"] > 4
    assert run_here(tmp_path / "small.yaml", out, setting, "dedup.near.max_cluster=2") == {}


@pytest.mark.usefixtures("small_parts")
def test_without_an_edge_all_lead_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crawl without a duplicate would end in an error, or empty."""
    context, nodes = context_in(tmp_path), 700
    wire(monkeypatch, [], nodes)
    in_rounds(context)
    assert result(context) == list(range(nodes))


def test_partitions_hold_what_they_say() -> None:
    """A worker's memory would grow with the crawl."""
    assert [stars.bits_for(nodes) for nodes in (1, 1 << 24, (1 << 24) + 1, 500_000_000, 1 << 32)] == [0, 0, 1, 5, 8]
