"""The most memory that the processes of a run hold, by role, while it lasts; those of its cluster too."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Self

import psutil

from pipeline import forks
from pipeline.forker import name_of

SECONDS = 0.5
"""Between two looks."""
DRIVER, WORKING, WORKERS = "driver", "working process", "workers"
"""The command, the process of it that gives out units, and those that do them with what they are forked from."""


class Peaks:
    """Looks at memory again and again while this lasts; `peaks` then has the most bytes of each role at one time, and
    under `all` of all together."""

    def __init__(self, look: Callable[[], Iterable[tuple[str, int]]], seconds: float) -> None:
        """`look` gives roles and bytes; a role may come several times. `seconds` lie between two looks."""
        self.peaks: Counter[str] = Counter()
        self._look = look
        self._seconds = seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(self._seconds):
            held: Counter[str] = Counter()
            for role, size in self._look():
                held[role] += size
            held["all"] = sum(held.values())
            self.peaks |= held  # the greater one of each


class TreeMemory(Peaks):
    """Looks at a process and all below it, and at those that `others` names by role. PSS: what several share counts
    once."""

    def __init__(self, pid: int, others: Callable[[], Iterable[tuple[str, int]]] = list) -> None:
        super().__init__(self._sizes, SECONDS)
        self._pid = pid
        self._others = others

    def _sizes(self) -> Iterator[tuple[str, int]]:
        for role, process in self._roles():
            with suppress(psutil.Error):  # it ended meanwhile
                yield role, process.memory_full_info().pss

    def _roles(self) -> list[tuple[str, psutil.Process]]:
        found: list[tuple[str, psutil.Process]] = []
        try:
            found += _below(psutil.Process(self._pid), DRIVER)
        except psutil.Error:
            return found
        for role, pid in self._others():
            try:
                found += [(role, each) for each in _family(psutil.Process(pid))]
            except psutil.Error:
                continue
        return found


def _below(process: psutil.Process, role: str) -> list[tuple[str, psutil.Process]]:
    """A process and its descendants, each with its role: that of its parent unless its command line says another."""
    found = [(role, process)]
    for child in process.children():
        try:
            words = f"{child.name()} {' '.join(child.cmdline())}"
        except psutil.Error:
            continue
        begins = {
            name_of(forks.WORKING): WORKING,  # a fork, by its name
            "pipeline.runner": WORKING,
            "pipeline.nursery": WORKERS,
            "apache_beam": WORKERS,
        }
        known = [its for word, its in begins.items() if word in words]
        found += _below(child, known[0] if known else role)
    return found


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]
