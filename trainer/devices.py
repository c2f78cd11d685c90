"""The device of a run, through PyTorch's accelerator interface: nothing else in the trainer names a kind of device."""

from __future__ import annotations

import functools
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import psutil
import torch

from pipeline.errors import RecipeError, nearest

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
"""Where Linux shows the limits of containers and of batch systems' jobs, and which of them are the process's."""


def choose(name: str) -> torch.device:
    """The device of the setting `device`. Raises RecipeError where it is not here."""
    # a build of torch for CUDA names it also where there is no driver
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    known = ["cpu"] + ([here.type] if here is not None else [])
    if name == "auto":
        return torch.device(known[-1])
    if name not in known:
        try:
            torch.device(name)
        except RuntimeError:
            raise RecipeError(
                f"device: {name} is no device of torch.{nearest(name, ['auto', 'cpu', 'cuda', 'mps', 'xpu'])}"
            ) from None
        raise RecipeError(
            f"device: {name}, but torch {torch.__version__} sees no such accelerator here, only {', '.join(known)}; "
            "set device to auto, or install torch for it"
        )
    return torch.device(name)


def memory(device: torch.device) -> dict[str, int]:
    """Bytes in use: `memory_bytes`, the most that tensors took on an accelerator, or what the process holds on the CPU;
    `process_bytes` and `process_peak_bytes`, what it holds and held at most; of an accelerator, what tensors
    (`memory_allocated_bytes`) and the allocator (`memory_reserved_bytes`) have now."""
    resident = _process(os.getpid()).memory_info().rss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    process = {"process_bytes": resident, "process_peak_bytes": peak}
    if device.type == "cpu":
        return {"memory_bytes": resident} | process
    found = torch.accelerator.memory_stats(device)
    return {
        "memory_bytes": found.get("allocated_bytes.all.peak", 0),
        "memory_allocated_bytes": found.get("allocated_bytes.all.current", 0),
        "memory_reserved_bytes": found.get("reserved_bytes.all.current", 0),
    } | process


@functools.cache
def _process(pid: int) -> psutil.Process:
    # to make one takes three times as long as to ask it
    return psutil.Process(pid)


def wait(device: torch.device) -> None:
    """Until all that was begun on it is done."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def memory_left(device: torch.device) -> int:
    """Bytes that can still be had; on the CPU no more than the limits of the process's container leave."""
    if device.type == "cpu":
        return max(0, min([psutil.virtual_memory().available, *_left_in_groups()]))
    free: int = torch.accelerator.get_memory_info(device)[0]
    return free


def _left_in_groups() -> Iterator[int]:
    """Bytes that each control group which the process is in leaves it, of version 1 or 2."""
    for line in OWN_GROUPS.read_text().splitlines() if OWN_GROUPS.exists() else ():
        _, controllers, path = line.split(":", 2)
        version_1 = "memory" in controllers.split(",")
        if controllers and not version_1:
            continue
        root, most, taken, prefix = CGROUPS, "memory.max", "memory.current", ""
        if version_1:
            root, most, taken, prefix = CGROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"
        group = PurePosixPath(path)
        for one in (group, *group.parents):  # inside of a container its own group is the root, whatever its path
            folder = root / one.relative_to("/")
            try:
                limit, used = ((folder / name).read_text().strip() for name in (most, taken))
                lines = (folder / "memory.stat").read_text().splitlines()
            except OSError:
                continue
            stat = {name: int(value) for name, _, value in (line.partition(" ") for line in lines)}
            # what was read of files is let go where memory is needed
            files = stat.get(f"{prefix}active_file", 0) + stat.get(f"{prefix}inactive_file", 0)
            if limit != "max":
                yield int(limit) - int(used) + files


def random_state(device: torch.device) -> dict[str, Any]:
    """The states of torch's random generators, of the CPU and of the device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state()
    return states


@contextmanager
def nothing_drawn(device: torch.device) -> Iterator[None]:
    """What is drawn within it is as if it had not been, for what comes after."""
    states = random_state(device)
    yield
    set_random_state(device, states)


def set_random_state(device: torch.device, states: dict[str, Any]) -> None:
    """Takes them up again; one of another kind of device is left out."""
    torch.set_rng_state(states["cpu"].cpu())
    if device.type != "cpu" and device.type in states:
        torch.get_device_module(device).set_rng_state(states[device.type].cpu())
