"""Components by large-star and small-star in files: rounds, seconds, memory: `python -m tests.bench.dedup_stars`.

A graph like that of deduplication: each pair of it found in several bands, most nodes alone, clusters of all sizes; and
one path through a tenth of the nodes, shuffled, which deduplication never gives. Units run in this process, one after
another, or on the cluster of `make cluster-up` with `--runner flink`; union-find and scipy's components over the same
edges in memory say whether the result is right.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import yaml
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from pipeline import components, engine, runner
from pipeline.ledger import Staged
from pipeline.phases import PHASES, stars
from pipeline.progress import Reporter
from pipeline.recipe import read_recipe
from pipeline.work import Context
from tests.bench.dedup_matrices import planted
from tests.bench.extract_report import environment

BANDS = 6
"""In which an edge is found, on average."""


def graph(nodes: int, path: bool) -> np.ndarray[tuple[int, int], np.dtype[np.uint32]]:
    """Pairs of nodes in any order."""
    draw = np.random.Generator(np.random.Philox(3))
    clusters, _ = planted(nodes, 3)
    order = np.argsort(clusters, kind="stable")
    ends = np.flatnonzero(np.diff(clusters[order]) == 0)
    pairs = np.stack([order[ends], order[ends + 1]], axis=1)[draw.integers(0, len(ends), BANDS * len(ends))]
    if path:
        walk = draw.permutation(nodes)[: nodes // 10]
        pairs = np.concatenate([pairs, np.stack([walk[1:], walk[:-1]], axis=1)])
    return draw.permutation(pairs).astype(np.uint32)


def main() -> int:
    """Prints the rounds of both graphs; 1 where a component is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=20_000_000)
    parser.add_argument("--runner", help="flink; left out: this process, without Beam")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    right = True
    for path in (False, True):
        pairs = graph(options.nodes, path)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "r.yaml").write_text(yaml.safe_dump({"inputs": [{"source": "a", "path": "a.jsonl"}]}))
            context = Context(folder / "run", folder, read_recipe(folder / "r.yaml"))
            context.ledger.folder.mkdir(parents=True)
            context.ledger.create(context.recipe.name)
            scratch = context.ledger.attempt()
            staged = []
            for number, piece in enumerate(np.array_split(pairs, 4)):
                piece.tofile(scratch / str(number))
                staged.append(Staged(scratch / str(number), f"dedup/edges-{number}.bin"))
            edges = list(context.ledger.commit("join", "0" * 32, staged, {"timing": {}}).parts)
            del piece
            (folder / "reports").mkdir()
            whole = stars.Graph(edges, options.nodes)
            begun = time.monotonic()
            if options.runner:
                on_runner(context, whole, options.runner, options.workers, folder)
            else:
                in_rounds(context, whole, Reporter(folder / "reports"))
            wall, seconds = time.monotonic() - begun, cpu_of_rounds(context, whole)
            rounds = stars.rounds(context.ledger, whole)
            files = [np.fromfile(context.out / part.path, "<u4") for part in stars.leaders(context.ledger, whole)]
        also = ", a path among them" if path else ""
        print(f"{options.nodes:,} nodes, {len(pairs):,} edges{also}: {len(rounds)} rounds")
        for number, one in enumerate(rounds):
            told = f"{one['edges']:>13,} edges {one['changed']:>13,} changed"
            print(f"  {one['step']:<8}{told} {seconds[number]:7.1f} s CPU")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        held = f"this process held {peak:,.0f} MB at most, the graph included"
        print(f"  {wall:.1f} s, {sum(seconds.values()):.1f} s of CPU; {held}")
        label = connected_components(
            coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(options.nodes,) * 2).tocsr(),
            directed=False,
        )[1]
        first = np.full(label.max() + 1, options.nodes, np.int64)
        np.minimum.at(first, label, np.arange(options.nodes))
        united, _ = components.leaders(
            [(pairs[:, 0], pairs[:, 1])], [0, options.nodes], np.arange(options.nodes, dtype=np.uint32)
        )
        found = np.concatenate(files)
        same = {"union-find": bool((found == united).all()), "scipy": bool((found == first[label]).all())}
        right = right and all(same.values())
        print("  equal to " + ", ".join(f"{name}: {equal}" for name, equal in same.items()), flush=True)
    print(json.dumps(environment()))
    return 0 if right else 1


def in_rounds(context: Context, whole: stars.Graph, reporter: Reporter) -> None:
    """All rounds, in this process."""
    while True:
        tasks = stars.units(context.ledger, whole)
        pending = [task for task in tasks if context.ledger.read_row(task.phase, task.key) is None]
        if not pending:
            return
        for task in pending:
            engine.do_unit(task, context, reporter)
        context.ledger.release(stars.spent_rows(context.ledger, whole))


def on_runner(context: Context, whole: stars.Graph, name: str, workers: int, desk: Path) -> None:
    """All rounds, each a job of this runner."""
    stars.graph = lambda context: whole  # type: ignore[assignment]  # of which only this process asks
    order = runner.Order(context, workers, name, [], desk)
    with order.beam:
        runner._rounds(PHASES["stars"], order, "stars-round")


def cpu_of_rounds(context: Context, whole: stars.Graph) -> dict[int, float]:
    """CPU seconds of the units of each round."""
    spent: dict[int, float] = defaultdict(float)
    for task in stars.units(context.ledger, whole):
        row = context.ledger.read_row(task.phase, task.key)
        assert row is not None
        spent[task.spec.get("round", 0)] += row.body["timing"]["cpu_s"]
    return spent


if __name__ == "__main__":
    sys.exit(main())
