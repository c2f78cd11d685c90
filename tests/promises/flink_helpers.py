"""Runs on the Flink cluster of the tests, and what befalls it while they are at work."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import promise_helpers as help
import psutil
from loopback import upload
from promise_helpers import Small

from pipeline.cluster.local import Cluster
from pipeline.cluster.rest import JobManager


def flags(cluster: Cluster) -> list[str]:
    """What leads a run to this cluster."""
    return [
        *("--runner", "flink", "--", f"--flink_master={cluster.master}", f"--job_endpoint={cluster.job_endpoint}"),
        f"--environment_config={cluster.environment_config}",
    ]


def start(cluster: Cluster, recipe: Path, out: Path, *options: object) -> subprocess.Popen[str]:
    """Starts a run there."""
    return help.start("run", recipe, "--out", out, *options, *flags(cluster))


def recipe_in_store(small: Small, where: str, folder: Path) -> Path:
    """The small recipe over a crawl in the object store at `where`, which gets it, and a bucket `mill` for runs."""
    upload(where, "crawl", small.crawl)
    upload(where, "mill", folder / "nothing")
    recipe = help.recipe(small.crawl) | {"storage": {"s3": {"endpoint_url": where}}}
    for item in recipe["inputs"]:
        item["path"] = item["path"].replace(str(small.crawl), "s3://crawl")
    return help.write_recipe(folder / "small.yaml", recipe)


def phase_of(out: Path) -> str:
    """The phase that the latest attempt is in; nothing where it has not begun one."""
    folders = sorted(out.glob("ledger/runs/*"))
    try:
        return str(json.loads((folders[-1] / "phase.json").read_text())["phase"])
    except (IndexError, OSError, ValueError):
        return ""


def when(process: subprocess.Popen[str], out: Path, phase: str, deed: Callable[[], Any]) -> None:
    """Does something as soon as a job of this phase is at work."""
    begun = help.until(
        lambda: (
            process.poll() is not None
            or (phase_of(out) == phase and any(out.glob(f"ledger/runs/*/{phase}-0/reports/*.json")))
        )
    )
    assert begun
    assert process.poll() is None, process.communicate()[0]
    deed()


def kill_worker(out: Path, phase: str) -> None:
    """Kills a worker that has reported in this phase, as the system does where memory is short."""
    report = min(out.glob(f"ledger/runs/*/{phase}-0/reports/*.json"))
    psutil.Process(int(report.stem.rpartition("-")[2])).kill()


def at_work(cluster: Cluster) -> list[str]:
    """The names of jobs that have not ended."""
    return [job.name for job in JobManager(cluster.master).jobs() if not job.over]
