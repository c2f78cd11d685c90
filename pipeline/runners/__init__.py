"""Who does the phases: Beam on this machine, or on a cluster.

Recipe, units, parts and ledger are the same everywhere; a runner only says where Beam puts the workers. Read in this
order: `base` (what a runner is), `flags` (its settings), `local`; `portable` with `jobserver` (the Java process that
hands jobs to a cluster), `flink`, `spark`; `dataflow`.

A runner's workers reach the run folder, the crawl and the files that the recipe names under the same names as the
driver does: all of them lie on a file system that the machines share, or in a store (`s3://...`).
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import RecipeError, nearest
from pipeline.runners.base import Runner

NAMES = ("local", "flink", "spark", "dataflow")
ALSO = {"FlinkRunner": "flink", "SparkRunner": "spark", "DataflowRunner": "dataflow"}
"""Beam's own names for these."""
PLAIN = ("PortableRunner", "BundleBasedDirectRunner")
"""Runners of Beam that are called by its name, with nothing of ours about them."""
REFUSED = {
    "DirectRunner": "it first tries to download another runner, and which one then runs depends on that",
    "DaskRunner": "it loses data silently where a collection has two consumers, and reports success",
    "InteractiveRunner": "it keeps every collection in memory",
}


def make(name: str, options: Sequence[str]) -> Runner:
    """The runner of this name, with its flags; nothing is started. Raises RecipeError where it cannot be used."""
    if name in REFUSED:
        raise RecipeError(f"--runner {name} is refused: {REFUSED[name]}. Use local, or flink on a cluster.")
    kind = ALSO.get(name, name)
    if kind == "local":
        from pipeline.runners.local import Local

        return Local(options)
    if kind == "flink":
        from pipeline.runners.flink import Flink

        return Flink(options)
    if kind == "spark":
        from pipeline.runners.spark import Spark

        return Spark(options)
    if kind == "dataflow":
        from pipeline.runners.dataflow import Dataflow

        return Dataflow(options)
    if kind in PLAIN:
        from pipeline.runners.base import Plain

        return Plain(kind, options)
    known = sorted({*NAMES, *ALSO, *PLAIN})
    raise RecipeError(f"--runner {name}: no such runner.{nearest(name, known)}")
