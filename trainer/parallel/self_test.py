"""A test of every machine before the first step, and the list of those to leave out.

One device that is slow makes all others wait in each step, and one that computes wrongly spoils the run in silence
(Jiang et al. 2024, "MegaScale", section 4.3: the same checks, before training begins).
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from pipeline.aside import sync
from pipeline.errors import UserError
from trainer import devices
from trainer.config import TrainConfig
from trainer.parallel.faults import host_name
from trainer.parallel.world import World

FILE = "excluded-nodes.txt"
"""In the checkpoint folder: a host a line."""
SLOW = 0.5
"""Of the median; what is slower is left out."""
STALLED = 0.1
"""The same for disks and loaders, which are slower for a while where many read and write at once."""
DISK = 16 * 2**20
"""Bytes that are written to the disk, and read back."""
TIMES, SECONDS = 8, 0.25
"""Of each measurement the best of so many tries, over so long, counts: what else runs on a machine for a moment is not
its fault."""


@dataclass(frozen=True)
class Measured:
    """What the test of a process found."""

    rank: int
    host: str
    device: str
    right: bool
    """Whether a product of matrices has the values that it must have."""
    kept: bool
    """Whether memory gives back what was written."""
    stored: bool
    """Whether the disk does."""
    flops: float
    """Of that product, a second."""
    memory: float
    """Bytes copied a second."""
    disk: float
    """Bytes written a second, until they are durable."""
    loader: float
    """Batches read a second."""
    link: float | None
    """Bytes a second to another process, of another host where there are several; None where it has no partner."""


@dataclass(frozen=True)
class Suspect:
    """A process whose machine is to be left out."""

    measured: Measured
    why: str

    @property
    def told(self) -> str:
        """One line."""
        return f"{self.measured.host}, {self.measured.device} (rank {self.measured.rank}): {self.why}"


def suspects(found: Sequence[Measured]) -> list[Suspect]:
    """Those that fail, or are slower than half of the median of all."""
    faults = [Suspect(one, "computes wrong products") for one in found if not one.right]
    faults += [Suspect(one, "its memory does not keep what is written") for one in found if not one.kept]
    faults += [Suspect(one, "its disk does not keep what is written") for one in found if not one.stored]
    for what, unit, scale, least, figures in (
        ("multiplies matrices at", "GFLOP/s", 1e9, SLOW, [one.flops for one in found]),
        ("copies memory at", "GB/s", 1e9, SLOW, [one.memory for one in found]),
        ("writes to the disk at", "MB/s", 1e6, STALLED, [one.disk for one in found]),
        ("reads batches at", "a second", 1.0, STALLED, [one.loader for one in found]),
        ("exchanges with others at", "GB/s", 1e9, SLOW, [one.link for one in found]),
    ):
        known = [figure for figure in figures if figure is not None]
        middle = statistics.median(known) if known else 0.0
        for one, figure in zip(found, figures, strict=True):
            if figure is not None and figure < least * middle:
                faults.append(Suspect(one, f"{what} {figure / scale:.3g} {unit}, the median is {middle / scale:.3g}"))
    return faults


def excluded(folder: Path) -> list[str]:
    """The hosts on the list of a checkpoint folder."""
    try:
        lines = (folder / FILE).read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [line.strip() for line in lines if line.strip()]


def exclude(folder: Path, hosts: Sequence[str]) -> None:
    """Puts hosts on the list."""
    folder.mkdir(parents=True, exist_ok=True)
    all_hosts = dict.fromkeys([*excluded(folder), *hosts])
    (folder / FILE).write_text("".join(f"{host}\n" for host in all_hosts), "utf-8")


def leave_out(config: TrainConfig) -> None:
    """Raises UserError where this machine is on the list of a run of many processes."""
    if config.parallel.size > 1 and host_name() in excluded(config.checkpoint.folder):
        raise UserError(
            f"this machine, {host_name()}, failed a self-test: it is on the list {config.checkpoint.folder / FILE}. "
            "Train on others, or take its line out once it is mended."
        )


def check_machines(world: World, folder: Path, read: Callable[[], object], say: Callable[[str], None]) -> None:
    """Tests all machines of a run where the settings want it: product of matrices, memory, disk, loader (`read` makes a
    batch), exchanges.

    Raises UserError, in all processes, with those that fail, which are then on the list.
    """
    hosts = [place.host for place in world.watch.places] if world.watch is not None else [host_name()]
    wanted = world.config.self_test
    if not (wanted if wanted is not None else world.device.type != "cpu" or len(set(hosts)) > 1):
        return
    began = time.perf_counter()
    here = measured(world, hosts, folder, read)
    found: list[Measured] = [here] * world.size
    if world.size > 1:
        dist.all_gather_object(found, here, group=world.control)
    faults = suspects(found)
    if not faults:
        slowest = min(found, key=lambda one: one.flops)
        say(
            f"self-test: {counted(world.size)} well, after {time.perf_counter() - began:.1f} s; "
            f"the slowest makes {slowest.flops / 1e9:,.0f} GFLOP/s"
        )
        return
    bad = sorted({one.measured.host for one in faults})
    if world.first:
        exclude(folder, bad)
    raise UserError(
        "the self-test found\n  "
        + "\n  ".join(one.told for one in faults)
        + f"\n{', '.join(bad)} is on the list {folder / FILE} now. Start again on other machines, as "
        "configs/launch/slurm.sh does; or with parallel.self_test=false, if all is as it should be."
    )


def counted(processes: int) -> str:
    """How many there are."""
    return "1 process is" if processes == 1 else f"{processes} processes are"


def measured(world: World, hosts: Sequence[str], folder: Path, read: Callable[[], object]) -> Measured:
    """Measures this process's device; all processes at the same time."""
    device = world.device
    right, flops = product(device)
    kept, memory = copy(device)
    stored, disk = store(folder, world.rank)
    loader = 1 / best(torch.device("cpu"), read)
    name = device.type if device.index is None else f"{device.type}:{device.index}"
    exchanged = link(world, hosts) if world.size > 1 else None
    return Measured(world.rank, hosts[world.rank], name, right, kept, stored, flops, memory, disk, loader, exchanged)


def product(device: torch.device) -> tuple[bool, float]:
    """Whether a product of matrices of small whole numbers, which is exact in each type, is right, and its FLOP/s.

    Checked on the CPU against another order of multiplication, A (B x) = (A B) x (Freivalds 1977).
    """
    n, dtype = (384, torch.float32) if device.type == "cpu" else (8192, torch.bfloat16)
    random = torch.Generator().manual_seed(0)
    a_NN, b_NN = (torch.randint(-1, 2, (n, n), generator=random) for _ in range(2))
    x_N = torch.randint(-8, 9, (n,), generator=random).double()
    a_there, b_there = a_NN.to(device, dtype), b_NN.to(device, dtype)
    k = 256  # sums of so many -1, 0, 1 are whole numbers that bf16 has all
    made = (a_there[:, :k] @ b_there[:k]).cpu().double()
    right = torch.equal(made @ x_N, a_NN[:, :k].double() @ (b_NN[:k].double() @ x_N))
    seconds = best(device, lambda: a_there @ b_there)
    return right, 2 * n**3 / seconds


def copy(device: torch.device) -> tuple[bool, float]:
    """Whether a stretch of memory keeps what is written, and the bytes a second at which it is copied."""
    number = (16 if device.type == "cpu" else 1024) * 2**20
    here = torch.arange(number // 4, dtype=torch.int32, device=device)
    there = torch.empty_like(here)
    seconds = best(device, lambda: there.copy_(here))
    last = number // 4 - 1
    kept = bool((there == here).all()) and int(there.sum(dtype=torch.int64)) == last * (last + 1) // 2
    return kept, number / seconds


def store(folder: Path, rank: int) -> tuple[bool, float]:
    """Whether the disk gives back what is written into a folder, and the bytes a second until it is durable.

    Raises UserError where it does not take it.
    """
    path = folder / f".self-test-{rank}"
    written = os.urandom(DISK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        path.write_bytes(written)
        sync(path)
        seconds = time.perf_counter() - began
        return path.read_bytes() == written, DISK / seconds
    except OSError as error:
        raise UserError(f"checkpoint.folder {folder} cannot be written to: {error.strerror}") from error
    finally:
        path.unlink(missing_ok=True)


def link(world: World, hosts: Sequence[str]) -> float | None:
    """Bytes a second that this process exchanges with the better of two partners: itself is to be judged, not them."""
    size = (1 if world.device.type == "cpu" else 64) * 2**20
    sent, taken = (torch.zeros(size, dtype=torch.uint8, device=world.device) for _ in range(2))
    rates = []
    for round_ in range(2):
        other = partner(world.rank, hosts, round_)
        dist.barrier(world.control)
        if other is None:
            continue

        def exchange(other: int = other) -> None:
            works = [dist.P2POp(dist.isend, sent, other), dist.P2POp(dist.irecv, taken, other)]
            for work in dist.batch_isend_irecv(works):
                work.wait()

        rates.append(size / best(world.device, exchange, seconds=0.0))  # both try as often
    dist.barrier(world.control)
    return max(rates, default=None)


def partner(rank: int, hosts: Sequence[str], round_: int) -> int | None:
    """The rank to exchange with in one of two rounds; None for who is left over.

    Hosts are paired with the one behind them, then with the one before; within a single host its ranks are. As many
    processes are on each host.
    """
    names = list(dict.fromkeys(hosts))
    each = len(hosts) // len(names) if len(names) > 1 else 1
    number, count = rank // each, len(hosts) // each
    other = number + 1 if (number + round_) % 2 == 0 else number - 1
    other = other % count if count > 2 and count % 2 == 0 else other
    if not 0 <= other < count:
        return None
    return other * each + rank % each


def best(device: torch.device, work: Callable[[], object], seconds: float = SECONDS) -> float:
    """The least seconds of TIMES tries, or of as many as fit, behind one that is not counted."""
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while len(taken) <= TIMES or time.perf_counter() < until:
        devices.wait(device)
        began = time.perf_counter()
        work()
        devices.wait(device)
        taken.append(time.perf_counter() - began)
    return min(taken[1:])
