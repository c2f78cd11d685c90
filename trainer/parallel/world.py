"""Where a process stands among the others, and the groups that it talks to."""

from __future__ import annotations

import datetime
import math
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from pipeline.errors import RecipeError
from trainer.parallel.faults import LostError, Place, host_name, is_exchange_failure
from trainer.parallel.watch import Watch
from trainer.parallel_settings import DIMENSIONS, ParallelConfig, started_size

Group = dist.ProcessGroup
Floats = npt.NDArray[np.float64]

PATIENCE = datetime.timedelta(days=1)
"""How long processes wait for each other's disks; the watch sees to those that end meanwhile."""


def check_size(config: ParallelConfig, started: int | None = None) -> None:
    """Raises RecipeError where the settings are for another number of processes than were started."""
    started = started or started_size()
    if config.size != started:
        were = "1 was" if started == 1 else f"{started} were"
        made = "1 process" if config.size == 1 else f"{config.size} processes"
        raise RecipeError(
            f"parallel: {config.told} makes {made}, and {were} started; start it "
            f"with `corpusmill train --nproc {config.size}`, or say what the processes are for: "
            "parallel.dp_replicate=auto makes each a copy of the model, or a worker where `loose` is set"
        )


@dataclass(frozen=True)
class World:
    """This process among all of a run. Alone it has no groups, and every size is 1."""

    config: ParallelConfig
    device: torch.device
    rank: int = 0
    mesh: DeviceMesh | None = None
    """All dimensions of `DIMENSIONS`."""
    dense: DeviceMesh | None = None
    """pp, dp_replicate, fsdp (dp_shard, cp and ep as one), tp: of the weights that all tokens meet."""
    expert: DeviceMesh | None = None
    """pp, dp_replicate, fsdp (dp_shard and cp), ep, tp: of the experts'."""
    ends: Group | None = None
    """The processes of the first and the last pipeline stage that this one is in line with."""
    control: Group | None = None
    """All processes, over CPU tensors: small numbers go there, and wait for no kernel."""
    patient: Group | None = None
    """All processes, over CPU tensors, for those who wait for disks: a thread beside training uses it."""
    own: Group | None = None
    """All processes, over tensors of the device; None: those that were started together."""
    watch: Watch | None = None
    """Over the other processes."""
    worker: int = 0
    """Which of `workers` that are loosely coupled this is: the rest of the figures and groups are of it alone."""
    workers: int = 1
    sites: bool = False
    """Whether these workers have corpora of their own: each then reads whole batches of its own one."""
    """How many of them divide each batch."""
    coupled: Group | None = None
    """The processes that have the same place in each worker."""

    def beat(self, step: int | None = None) -> None:
        """Says to the others that this process goes on, with a step where it begins one."""
        if self.watch is not None:
            self.watch.beat(step)

    @property
    def size(self) -> int:
        """Processes."""
        return self.config.size

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and tells."""
        return self.rank == 0

    def at(self, name: str) -> int:
        """This process's place along a dimension."""
        place: int = 0 if self.mesh is None else self.mesh.get_local_rank(name)
        return place

    def group(self, name: str) -> Group | None:
        """The processes that differ from this one in a dimension alone; None where there are none."""
        return None if self.mesh is None or getattr(self.config, name) == 1 else self.mesh.get_group(name)

    @property
    def reader(self) -> int:
        """Which of the `config.readers` parts of a batch this process reads."""
        c = self.config
        return (self.at("dp_replicate") * c.dp_shard + self.at("dp_shard")) * c.ep + self.at("ep")

    def share(self, sequences: int, micro: int) -> tuple[int, int]:
        """The first sequence of a batch of `sequences` that is this process's, and how many it has: as many as every
        other, in whole micro-batches; some of the last may be behind the end."""
        each = self._each(sequences, micro)
        return (self._part * self.config.readers + self.reader) * each, each

    def of_worker(self, sequences: int, micro: int) -> int:
        """How many sequences of a batch this worker has."""
        each = self._each(sequences, micro) * self.config.readers
        return min(max(sequences - self._part * each, 0), each)

    @property
    def _part(self) -> int:
        return 0 if self.sites else self.worker

    def _each(self, sequences: int, micro: int) -> int:
        parts = 1 if self.sites else self.workers
        return math.ceil(math.ceil(sequences / micro) / (self.config.readers * parts)) * micro

    def summed(self, values: Floats, parts: bool = False, everywhere: int = 0) -> Floats:
        """(n,): of what each reader has, the sum, on all processes alike. With pipelines, the last stages' count.
        `parts`: each process has figures of its part of the sequences alone. `everywhere`: how many of the first values
        every process has a part of."""
        if self.control is None:
            return values
        counts = self.at("tp") == 0 and self.at("pp") == self.config.pp - 1 and (parts or self.at("cp") == 0)
        here = torch.from_numpy(values.copy())
        if not counts:
            here[everywhere:] = 0
        dist.all_reduce(here, group=self.control)
        return here.numpy()

    def most(self, value: int) -> int:
        """The largest of all processes' values."""
        if self.control is None:
            return value
        here = torch.tensor([value])
        dist.all_reduce(here, dist.ReduceOp.MAX, group=self.control)
        return int(here)

    def total(self, x: Tensor) -> Tensor:
        """x (any shape), summed over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(x, group=self.own)
        return x

    def loosened(self, workers: int) -> World:
        """The same process as one of a worker of so many, each of which has weights of its own."""
        wait = datetime.timedelta(seconds=self.config.timeout + 30)
        config = self.config.model_copy(update={"dp_replicate": 1})
        return replace(_joined(config, self.device, wait, workers), watch=self.watch)


ALONE = World(ParallelConfig(), torch.device("cpu"))
"""One process."""


@contextmanager
def begun(config: ParallelConfig, device: torch.device) -> Iterator[World]:
    """The world of a run, for as long as it goes on. Raises RecipeError as `check_size` does."""
    check_size(config)
    if config.size == 1:
        yield World(config, device)
        return
    if device.type != "cpu":
        device = torch.device(device.type, int(os.environ.get("LOCAL_RANK", "0")))
        torch.accelerator.set_device_index(device.index)
    # The watch comes first, since it knows more to say than an exchange that gives up.
    wait = datetime.timedelta(seconds=config.timeout + 30)
    dist.init_process_group(dist.get_default_backend_for_device(device), timeout=wait)
    watch: Watch | None = None
    try:
        world = _joined(config, device, wait)
        watch = _watch(world)
        watch.begin()
        dist.barrier(world.control)
        try:
            yield replace(world, watch=watch)
            dist.barrier(world.control)  # nobody is missed for having come to the end first
        except RuntimeError as error:
            if is_exchange_failure(error) and (gone := watch.gone()):
                names = ", ".join(one.told for one in gone)
                raise LostError(
                    f"{names} ended in mid-run. Its own words, if it had any, say why; started again, the run goes on "
                    "from the last checkpoint"
                ) from error
            raise
        watch.end()
        dist.barrier(world.control)  # nor is the store gone that the others still beat in
    finally:
        dist.destroy_process_group()
        if watch is not None:
            watch.end()


def _watch(world: World) -> Watch:
    places: list[Place] = [Place(0, "", 0)] * world.size
    dist.all_gather_object(places, Place(world.rank, host_name(), os.getpid()), group=world.control)
    token = [uuid.uuid4().hex]
    dist.broadcast_object_list(token, group=world.control)
    return Watch(places, world.rank, token[0], world.config.timeout)


def _joined(config: ParallelConfig, device: torch.device, wait: datetime.timedelta, workers: int = 1) -> World:
    """The world of the processes of a worker; all workers' must ask for it at the same time."""
    sizes = {name: int(getattr(config, name)) for name in DIMENSIONS}
    outermost = {"workers": workers} if workers > 1 else {}
    lines = torch.arange(workers * config.size).view(workers, -1)
    worker, rank = divmod(dist.get_rank(), config.size)

    def mesh(**dimensions: int) -> DeviceMesh:
        dimensions = outermost | dimensions
        return init_device_mesh(device.type, tuple(dimensions.values()), mesh_dim_names=tuple(dimensions))

    def groups(ranks: Tensor, backend: str | None = None, wait: datetime.timedelta = wait) -> Group | None:
        here, _ = dist.new_subgroups_by_enumeration(ranks.tolist(), timeout=wait, backend=backend)
        return here if isinstance(here, Group) else None

    outer = {"pp": sizes["pp"], "dp_replicate": sizes["dp_replicate"]}
    shards = sizes["dp_shard"] * sizes["cp"]
    whole = mesh(**sizes)
    ends = lines.view(workers, config.pp, -1)[:, [0, -1]].transpose(1, 2).reshape(-1, 2)
    return World(
        config,
        device,
        rank,
        whole,
        mesh(**outer, fsdp=shards * sizes["ep"], tp=sizes["tp"]),
        mesh(**outer, fsdp=shards, ep=sizes["ep"], tp=sizes["tp"]),
        groups(ends) if config.pp > 1 else None,
        groups(lines, "gloo"),
        groups(lines, "gloo", PATIENCE),
        groups(lines) if workers > 1 else None,
        worker=worker,
        workers=workers,
        coupled=whole.get_group("workers") if workers > 1 else None,
    )
