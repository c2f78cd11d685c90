"""The cluster of a folder: whether one runs there, what a client of it must know, its memory, its end."""

from __future__ import annotations

import fcntl
import json
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.errors import UserError

FOLDER = Path("runs/cluster")
"""Where `make cluster-up` keeps its cluster, below the checkout."""
PATIENCE = 30.0
"""Seconds that a keeper has for its own end."""
LONGEST = 40.0
"""Seconds after which what still holds the folder is no keeper that could be ended."""


@dataclass(frozen=True)
class Facts:
    """What a client of a running cluster must know."""

    folder: Path
    master: str
    """Host and port of Flink's REST interface; in front of it `http://`, Flink's page."""
    job_endpoint: str
    """Host and port of Beam's job server."""
    environment_config: str
    """Host and port of the worker pool beside each task manager, as that one sees it."""
    keeper: int
    parts: dict[str, int | None]
    """Process of each part by its name; None where it is down."""


def running(folder: Path | None = None) -> Facts | None:
    """The cluster that runs in this folder (by default the one of `make cluster-up` from here), if one does."""
    folder = (folder or FOLDER).resolve()
    if not held(folder):
        return None
    try:
        data = json.loads((folder / "cluster.json").read_text())
    except FileNotFoundError:
        return None  # it is starting, or ending
    return Facts(
        folder, data["master"], data["job_endpoint"], data["environment_config"], data["keeper"], data["parts"]
    )


def end(folder: Path) -> bool:
    """Ends the cluster in this folder, with all its processes; returns whether there was one.

    Raises UserError where something holds the folder that cannot be ended from here.
    """
    folder = folder.resolve()
    there = False
    begun = time.monotonic()
    while held(folder):
        there = True
        spent = time.monotonic() - begun
        if spent > LONGEST:
            raise UserError(
                f"the cluster in {folder} does not end: a process holds {folder / 'lock'} that is no keeper of this "
                "machine, or not yours to end"
            )
        keeper = _keeper(folder)
        if keeper is not None:
            with suppress(psutil.Error):
                keeper.send_signal(signal.SIGTERM if spent < PATIENCE else signal.SIGKILL)
        time.sleep(0.1)
    return there


def memory(pid: int) -> tuple[int, int]:
    """Bytes of RSS and of PSS (shared pages divided among their users) of a part and what it started."""
    rss = pss = 0
    process = psutil.Process(pid)
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            full = each.memory_full_info()
            rss, pss = rss + full.rss, pss + full.pss
    return rss, pss


def _keeper(folder: Path) -> psutil.Process | None:
    """The process that keeps this folder."""
    facts = running(folder)
    if facts is not None:
        with suppress(psutil.Error):
            return psutil.Process(facts.keeper)
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"] and process.info["cmdline"][-2:] == ["pipeline.cluster.keeper", str(folder)]:
            return process
    return None


def held(folder: Path) -> bool:
    """Whether a keeper lives in this folder."""
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
