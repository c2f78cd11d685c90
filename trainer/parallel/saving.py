"""Checkpoints that are written while training goes on, by one process or by many together, and read by all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import torch.distributed as dist

from pipeline.errors import UserError
from trainer import checkpoint, devices
from trainer.checkpoint import Meta
from trainer.checkpoint_settings import CheckpointConfig
from trainer.checkpoint_writing import begin, discard, finish, write_file
from trainer.parallel.world import Group, World
from trainer.spread import Staging, Way

T = TypeVar("T")

FAILED = 1 << 30
"""What stands for a failed checkpoint where processes tell each other of signals."""
BEAT = 1.0
"""Seconds between signs of life of a process that waits for a disk."""


class Saver:
    """Writes checkpoints: a copy in memory is made at once, and a thread brings it to the disk.

    One is written at a time. All processes of a run use theirs alike. As a context it waits at its end for the last.
    """

    def __init__(self, world: World, settings: CheckpointConfig) -> None:
        self._world, self._settings = world, settings
        self._staging = Staging()
        self._thread: threading.Thread | None = None
        self._fault: BaseException | None = None

    @property
    def failed(self) -> bool:
        """Whether the last one could not be written: `wait` says why."""
        return self._fault is not None

    def save(self, meta: Meta, state: dict[str, Any]) -> None:
        """Writes a checkpoint of what this process has; it is current some time later, `wait` says when. Waits for the
        one before.

        Raises UserError where that one could not be written, and this one where it is not asynchronous.
        """
        self.wait()
        own = {"random": {str(self._world.rank): devices.random_state(self._world.device)}}
        leaves = self._staging(state | own)
        self._thread = threading.Thread(target=self._write, args=(meta, leaves), name="checkpoint", daemon=True)
        self._thread.start()
        if not self._settings.asynchronous:
            self.wait()

    def wait(self) -> None:
        """Until the last one is current, in all processes. Raises UserError, in all of them, where it could not be
        written in one."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(BEAT)
            self._world.beat()
        self._thread = None
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault

    def _write(self, meta: Meta, leaves: dict[Way, Any]) -> None:
        settings, world = self._settings, self._world
        try:
            if world.size == 1:
                begin(settings.folder, meta.step)
                finish(settings, meta, dict([write_file(settings.folder, meta.step, 0, leaves.items())]))
                return
            from trainer.parallel.storage import write_together

            assert world.patient is not None
            write_together(settings, meta, world.rank, world.patient, leaves)
        except BaseException as error:
            if world.first:
                discard(settings.folder, meta.step)
            self._fault = error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.wait()
            return
        # The folder is not left to another run while this one writes. But of many processes, whoever fails alone finds
        # nobody to write with.
        if self._thread is not None and (self._world.size == 1 or isinstance(error, UserError)):
            self._thread.join()


def newest(
    world: World, folder: Path, say: Callable[[str], None], first: int = 0, before: int | None = None
) -> tuple[Path, Meta] | None:
    """As `checkpoint.newest`, of the checkpoints from a step on and of before another, its files checked: each process
    checks a share of them."""
    paths, *_ = together(world, lambda: checkpoint.candidates(folder, first, before) if world.first else None)

    def read(path: Path) -> Meta:
        def checked() -> Meta:
            meta = checkpoint.read_meta(path)
            checkpoint.check(path, meta, slice(world.rank, None, world.size))
            return meta

        meta: Meta = patiently(world, lambda: together(world, checked, world.patient))[0]
        return meta

    return checkpoint.first_whole(folder, paths, read, say)


def set_random(world: World, states: dict[str, Any], processes: str) -> bool:
    """Takes up again what dropout draws from. Where the run was divided otherwise (`ParallelConfig.told`) there is
    nothing to take up: who drew alike then need not now."""
    if len(states) != world.size or processes != world.config.told:
        return False
    devices.set_random_state(world.device, states[str(world.rank)])
    return True


def together(world: World, action: Callable[[], Any], group: Group | None = None) -> list[Any]:
    """What the action gives in each process. Raises UserError in all of them where it raises one anywhere.

    `group`: of all processes; None: the one that lets nobody wait for longer than `parallel.timeout`.
    """
    if world.size == 1:
        return [action()]
    found: Any = None
    try:
        found = action(), None
    except UserError as error:
        found = None, error
    everywhere: list[Any] = [None] * world.size
    dist.all_gather_object(everywhere, found, group=group or world.control)
    faults = [fault for _, fault in everywhere if fault is not None]
    if faults:
        raise faults[0]
    return [value for value, _ in everywhere]


def patiently(world: World, action: Callable[[], T]) -> T:
    """What the action gives, which may take longer than `parallel.timeout` where files are large: meanwhile this
    process gives signs of life."""
    if world.size == 1:
        return action()
    found: list[T] = []
    fault: list[BaseException] = []

    def work() -> None:
        try:
            found.append(action())
        except BaseException as error:
            fault.append(error)

    thread = threading.Thread(target=work, name="patient", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(BEAT)
        world.beat()
    if fault:
        raise fault[0]
    return found[0]
