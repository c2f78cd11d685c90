"""Phase stars: the components of a graph of very many nodes, from files of edges to a file of leaders.

Rounds of units, a unit for each partition of the nodes, each round a Beam pipeline of its own: `spread` cuts the
given edges by partition; `small` and `large` take turns until a `small` changed nothing, which then never will, and
`large` goes on until it changes nothing; `least` writes the component's least node of each node of a partition, and
`ranges` brings these into the order of the nodes. The number
of rounds is found while they run: `units` follows the rows of the ledger as far as they go and adds the round behind
them, so a run that was killed goes on in the round that it was in.

A round reads the files of the round before it, each of which holds its edges cut by the partition that reads them.
Memory: 4 bytes a node of a partition (64 MB) and three pieces of 8 MB; the file that is written is memory-mapped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from pipeline import stars
from pipeline.ledger import Ledger, Part, Row, Staged
from pipeline.mapping import made
from pipeline.phases import bands, exact
from pipeline.progress import Reporter
from pipeline.stars import Edges
from pipeline.work import Context, Task, unit_key

PACKAGES = ("numpy", "numba")
PHASE = "stars"
HIGH, LOW = 0, 1
"""By which node of an edge its file is cut: large-star asks for the least neighbour of the lower one."""
ROW = np.dtype(("<u4", 2))


class Graph(NamedTuple):
    """What is joined."""

    edges: Sequence[Part]
    """Parquet files with columns left and right, or raw files of pairs of u32."""
    nodes: int
    """They count from 0."""
    bounds: tuple[int, ...] = ()
    """The first node of each generation that is joined within itself; other edges are passed over. None: all join."""


def graph(context: Context) -> Graph:
    """The edges of the run and its documents by rank; nothing where union-find in one process does it."""
    near = exact.settings_of(context).near
    if near is None:
        return Graph((), 0)
    found = exact.committed(context).body
    if found["documents"] < near.stars_from:
        return Graph((), 0)
    bounds = tuple(bound for bound in found["bounds"][:-1] if bound >= found["known"])
    return Graph(bands.edges(context), found["documents"], bounds)


def tasks(context: Context) -> list[Task]:
    """The units that are known so far: see `units`."""
    return units(context.ledger, graph(context))


def spent(context: Context) -> list[Row]:
    """The rows whose files no later unit reads."""
    return spent_rows(context.ledger, graph(context))


def result(context: Context) -> list[Part]:
    """The leaders of the run's documents; none where union-find finds them."""
    return leaders(context.ledger, graph(context))


def units(ledger: Ledger, graph: Graph) -> list[Task]:
    """All units that are known so far, those of finished rounds included; the last ones are `ranges`."""
    found: list[Task] = []
    for level, _ in _rounds(ledger, graph):
        found += level
    return found


def spent_rows(ledger: Ledger, graph: Graph) -> list[Row]:
    """The rows of rounds whose files no later unit reads: of all but the last finished one, and the one at work."""
    levels = [rows for _, rows in _rounds(ledger, graph)]
    done = [rows for rows in levels if all(row is not None for row in rows)]
    return [row for rows in done[:-1] for row in rows if row is not None]


def leaders(ledger: Ledger, graph: Graph) -> list[Part]:
    """Raw files of u32, one behind another: for each node the least one of its component. Known once all is done."""
    rows = [ledger.read_row(PHASE, task.key) for task in units(ledger, graph) if task.spec["step"] == "ranges"]
    return [row.part("dedup") for row in rows if row is not None]


def rounds(ledger: Ledger, graph: Graph) -> list[dict[str, Any]]:
    """What each finished round did: step, edges, changed."""
    return [
        {"step": level[0].spec["step"], **_sums([row for row in rows if row is not None])}
        for level, rows in _rounds(ledger, graph)
        if all(row is not None for row in rows)
    ]


def _rounds(ledger: Ledger, graph: Graph) -> Iterator[tuple[list[Task], list[Row | None]]]:
    """Round by round its units and their rows, up to the first round that is not done."""
    nodes = graph.nodes
    if not nodes:
        return
    bits = stars.bits_for(nodes)
    parts: Sequence[Part | None] = graph.edges or [None]  # nothing is joined, and every node leads itself
    level = [_spread(part, bits, graph, number) for number, part in enumerate(parts)]
    step, forest, number = "spread", False, 0
    while True:
        rows = [ledger.read_row(PHASE, task.key) for task in level]
        yield level, rows
        done = [row for row in rows if row is not None]
        if step == "ranges" or len(done) < len(rows):
            return
        changed = _sums(done)["changed"]
        forest = forest or (step == "small" and changed == 0)
        step = _next(step, forest, changed)
        number += 1
        count = -(-nodes // stars.PART_NODES) if step == "ranges" else 1 << bits
        level = [_task(step, forest, number, place, bits, nodes, done) for place in range(count)]


def _next(step: str, forest: bool, changed: int) -> str:
    if step == "least":
        return "ranges"
    if step == "large" and forest:
        return "large" if changed else "least"
    return "large" if step == "small" else "small"


def _sums(rows: Sequence[Row]) -> dict[str, int]:
    return {name: sum(row.body[name] for row in rows) for name in ("edges", "changed")}


def _spread(part: Part | None, bits: int, graph: Graph, number: int) -> Task:
    facts = {"step": "spread", "bits": bits, "nodes": graph.nodes, "bounds": list(graph.bounds), "number": number}
    key = unit_key(PHASE, PACKAGES, facts | {"edges": part and part.digest})
    return Task(PHASE, key, part.bytes if part else 0, facts | {"path": part and part.path})


def _task(step: str, forest: bool, number: int, part: int, bits: int, nodes: int, before: Sequence[Row]) -> Task:
    """A unit for a partition, or a range of nodes: which stretches of which files of the round before it reads."""
    facts: dict[str, Any] = {
        "step": step,
        "round": number,
        "part": part,
        "bits": bits,
        "nodes": nodes,
        "of": stars.PART_NODES,
    }
    if step == "large":
        facts["forest"] = forest
    digests = [[item.digest for item in row.parts] for row in before]
    key = unit_key(PHASE, PACKAGES, facts | {"before": digests})
    spec = facts
    size = 0
    if step == "ranges":
        start = part * stars.PART_NODES
        spec |= {"least": [row.parts[0].path for row in before], "start": start}
        spec["count"] = min(stars.PART_NODES, nodes - start)
        return Task(PHASE, key, 4 * spec["count"], spec)
    for column in (HIGH, LOW) if step == "large" else (HIGH,):
        files, cuts = [], []
        for row in before:
            start, end = row.body["cuts"][column][part : part + 2]
            if end > start:
                files.append(row.parts[column].path)
                cuts.append([start, end])
                size += (end - start) * ROW.itemsize
        spec |= {f"files_{column}": files, f"cuts_{column}": cuts}
    return Task(PHASE, key, size, spec)


def work(task: Task, context: Context, folder: Path, reporter: Reporter) -> tuple[Sequence[Staged], dict[str, Any]]:
    """A unit of any of the rounds."""
    spec = task.spec
    step, bits = spec["step"], spec["bits"]
    name = f"dedup/stars-{spec.get('round', 0):03d}-{step}"
    if step == "ranges":
        _ranges(spec, context, folder / "out")
        staged, body = [Staged(folder / "out", f"{name}-{task.key[:20]}.bin")], {"edges": 0, "changed": 0, "cuts": []}
    elif step == "spread":
        staged, body = _write(
            lambda: _given(context, spec["path"], spec["bounds"]), (HIGH,), bits, folder, f"{name}-{task.key[:20]}"
        )
    else:
        part = spec["part"]
        least = stars.leasts(_read(context, spec, HIGH), part, bits, spec["nodes"])
        if step == "least":
            least.astype("<u4", copy=False).tofile(folder / "out")
            joined = int(np.count_nonzero(least != stars.alone(part, bits, spec["nodes"])))
            staged = [Staged(folder / "out", f"{name}-{task.key[:20]}.bin")]
            body = {"edges": joined, "changed": 0, "cuts": []}
        elif step == "small":  # large-star comes next, and needs them by both nodes
            staged, body = _write(
                lambda: stars.after_small(_read(context, spec, HIGH), part, bits, least),
                (HIGH, LOW), bits, folder, f"{name}-{task.key[:20]}",
            )  # fmt: skip
        else:
            staged, body = _write(
                lambda: stars.after_large(_read(context, spec, LOW), bits, least),
                (HIGH, LOW) if spec["forest"] else (HIGH,), bits, folder, f"{name}-{task.key[:20]}",
            )  # fmt: skip
    reporter.add(size=task.size)
    return staged, body


def _given(context: Context, path: str | None, bounds: list[int]) -> Iterator[tuple[Edges, int]]:
    """The edges of an input file, piece by piece."""
    for left, right in _pairs(context.file(path)) if path else ():
        yield stars.within(stars.oriented(left, right), np.array(bounds)), 0


def _pairs(path: Path) -> Iterator[tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]]:
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(stars.CHUNK, columns=["left", "right"]):
                yield batch.column("left").to_numpy(), batch.column("right").to_numpy()
        return
    for edges in _pieces(path, 0, path.stat().st_size // ROW.itemsize):
        yield edges[:, 0], edges[:, 1]


def _read(context: Context, spec: dict[str, Any], column: int) -> Iterator[Edges]:
    """The edges of a unit's partition, out of all files of the round before."""
    paths = context.files(spec[f"files_{column}"])
    for path, (start, end) in zip(paths, spec[f"cuts_{column}"], strict=True):
        yield from _pieces(path, start, end)


def _pieces(path: Path, start: int, end: int) -> Iterator[Edges]:
    with path.open("rb") as file:
        file.seek(start * ROW.itemsize)
        while start < end:
            count = min(stars.CHUNK, end - start)
            yield np.fromfile(file, ROW, count).astype(np.uint32, copy=False)
            start += count


def _write(
    source: Callable[[], Iterator[tuple[Edges, int]]], columns: Sequence[int], bits: int, folder: Path, name: str
) -> tuple[list[Staged], dict[str, Any]]:
    """Writes the edges that `source` gives, cut by partition, once for each of the columns.

    `source` is gone through twice: to learn how long each stretch will be, and to put the edges there.
    """
    mask = (1 << bits) - 1
    counts = np.zeros((len(columns), mask + 1), np.int64)
    changed = 0
    for edges, here in source():
        changed += here
        for column in columns:
            stars.tally(edges, column, mask, counts[column])
    cuts = [np.concatenate([np.zeros(1, np.int64), np.cumsum(count)]) for count in counts]
    total = int(cuts[0][-1])
    paths = [folder / f"by-{column}" for column in columns]
    if not total:
        for path in paths:
            path.touch()
    else:
        files = [made(path, "<u4", (total, 2)) for path in paths]
        ends = [cut[:-1].copy() for cut in cuts]
        for edges, _ in source():
            for column, end, file in zip(columns, ends, files, strict=True):
                stars.place(edges, column, mask, end, file)
    body = {"edges": total, "changed": changed, "cuts": [cut.tolist() for cut in cuts]}
    return [Staged(path, f"{name}-by-{c}.bin") for path, c in zip(paths, ("high", "low"), strict=False)], body


def _ranges(spec: dict[str, Any], context: Context, path: Path) -> None:
    """The leaders of a range of nodes: node n stands at n >> bits of the file of its partition."""
    bits, start = spec["bits"], spec["start"]
    leaders = np.empty(spec["count"], "<u4")
    for part, least in enumerate(context.files(spec["least"])):
        here = leaders[part :: 1 << bits]
        with least.open("rb") as file:
            file.seek((start >> bits) * leaders.itemsize)
            here[:] = np.fromfile(file, "<u4", len(here))
    leaders.tofile(path)
