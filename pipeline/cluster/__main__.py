"""`python -m pipeline.cluster up|down|status|fetch|pin`, which `make cluster-up` and `make cluster-down` call."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.cluster import jars, local
from pipeline.cluster.flink import Ports
from pipeline.errors import UserError

SCREEN = Console(highlight=False, soft_wrap=True)


def up(folder: Path, keep: bool, follow: int) -> None:
    """Starts the cluster of this folder, or says that it runs; `keep` and `follow` as for `local.Cluster`."""
    facts = local.running(folder)
    if facts is not None:
        SCREEN.print("The cluster runs already.")
    else:
        SCREEN.print("Starting a Flink cluster; its jars are fetched once for this machine (310 MB) ...")
        local.Cluster(folder, ports=Ports.free(Ports()), keep=keep, follow=follow).start()
        facts = local.Cluster(folder).facts
        SCREEN.print("Ready: a job manager, two task managers with two slots each, a worker pool beside each.")
    SCREEN.print(f"  Flink's page   http://{facts.master}")
    SCREEN.print(f"  job server     {facts.job_endpoint}")
    SCREEN.print(f"  logs           {facts.folder / 'logs'}")
    SCREEN.print("Try next:\n  corpusmill run configs/demo.yaml --out runs/flink-demo --runner flink")
    SCREEN.print("  make cluster-down")


def down(folder: Path) -> None:
    """Ends the cluster of this folder, and all its processes."""
    SCREEN.print("The cluster has ended." if local.end(folder) else "No cluster runs.")


def status(folder: Path) -> int:
    """Prints what is alive, its memory and the slots; 1 where no cluster runs or a part is down."""
    facts = local.running(folder)
    if facts is None:
        SCREEN.print("No cluster runs. Start one with: make cluster-up")
        return 1
    table = Table("part", "process", "RSS MB", "PSS MB", box=None)
    total = [0, 0]
    for name, pid in facts.parts.items():
        used = local.memory(pid) if pid is not None else (0, 0)
        total = [a + b for a, b in zip(total, used, strict=True)]
        table.add_row(name, str(pid or "down"), *(f"{size / 1e6:.0f}" for size in used))
    table.add_row("all", "", *(f"{size / 1e6:.0f}" for size in total))
    SCREEN.print(table)
    try:
        overview = local.Cluster(folder).ask("/overview")
    except OSError as error:
        SCREEN.print(f"Flink does not answer at http://{facts.master}: {error}")
        return 1
    slots = f"{overview['slots-available']} of {overview['slots-total']} slots free"
    SCREEN.print(f"{overview['taskmanagers']} task managers, {slots}, {overview['jobs-running']} jobs running")
    SCREEN.print(f"Flink's page: http://{facts.master}")
    return 0 if all(facts.parts.values()) else 1


def main(words: list[str]) -> int:
    """Does what the words ask; returns the exit code."""
    parser = argparse.ArgumentParser("python -m pipeline.cluster", description="A Flink cluster on this machine.")
    parser.add_argument("what", choices=["up", "down", "status", "fetch", "pin"])
    parser.add_argument("--folder", type=Path, default=local.FOLDER, help="of its logs and state [%(default)s]")
    parser.add_argument("--no-keep", action="store_true", help="of up: do not start anew a part that died")
    parser.add_argument("--follow", type=int, metavar="PID", default=0, help="of up: end it all with this process")
    asked = parser.parse_args(words)
    try:
        if asked.what == "fetch":
            SCREEN.print(f"The jars are in {jars.fetch().folder}.")
        elif asked.what == "pin":
            for engine in jars.ENGINES:
                SCREEN.print(f"Written: {jars.pin(engine)}")
        elif asked.what == "status":
            return status(asked.folder)
        elif asked.what == "up":
            up(asked.folder, not asked.no_keep, asked.follow)
        else:
            down(asked.folder)
    except UserError as error:
        print(f"corpusmill: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
