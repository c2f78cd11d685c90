"""What a training step takes of memory, measured: every allocation and release of PyTorch's CPU allocator."""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch._C._profiler import _EventType
from torch.autograd.profiler import profile, record_function

from trainer.batch import Batch, Side
from trainer.config import TrainConfig
from trainer.learning import Learner
from trainer.model import Model


class Measured(NamedTuple):
    """Bytes, of one step behind others."""

    weights: int
    """Weights and buffers of the model."""
    gradients: int
    moments: int
    forward: int
    """What the first forward pass left, beside what was there before it."""
    peak: int
    """The most that there was at once, with all of that."""
    phase: str
    """What the step was doing then: forward, backward, step."""


def batch_of(config: TrainConfig, vocabulary: int) -> Batch:
    """Random tokens; two documents a row where documents are kept apart."""
    rng = np.random.default_rng(0)
    B, T = config.global_batch, config.sequence_length
    tokens = rng.integers(2, vocabulary, (B, T))
    parts = np.array_split(np.arange(T), 2 if config.data.documents == "separate" else 1)
    positions = np.tile(np.concatenate([part - part[0] for part in parts]), (B, 1))
    documents = np.tile(np.repeat(np.arange(len(parts)), [len(part) for part in parts]), (B, 1))
    both = config.model.arrangement == "encoder-decoder"
    side = Side(tokens, positions, documents) if both else None
    return Batch(tokens, np.roll(tokens, -1, 1), positions, documents, np.zeros(B, np.int64), None, side)


def measured(config: TrainConfig, vocabulary: int) -> Measured:
    """The third step of a run of this configuration on the CPU."""
    torch.manual_seed(0)
    device = torch.device("cpu")
    learner = Learner(Model(config.model, vocabulary), config, device)
    batch = batch_of(config, vocabulary)
    for step in (1, 2):
        learner.learn(batch, 1e-3, step)
    gradients = bytes_of([weight.grad for weight in learner.weights])
    learner.optimizer.zero_grad(set_to_none=True)
    weights = bytes_of([*learner.model.parameters(), *learner.model.buffers()])
    moments = bytes_of(learner.optimizer.state_dict()["state"])
    mean = [] if learner.average is None else [w for m in learner.average.divided.models for w in m.parameters()]
    before = weights + moments + bytes_of(mean)
    losses, optimizer = learner.losses, learner.optimizer

    def marked(name: str, function: Any) -> Any:
        @functools.wraps(function)  # with the attributes of a loss, which some optimisers ask for
        def run(*args: Any, **kwargs: Any) -> Any:
            with record_function(name):
                found = function(*args, **kwargs)
            with record_function(f"{name} end"):
                return found

        return run

    learner.losses = marked("forward", losses)  # type: ignore[assignment]
    optimizer.step = marked("step", optimizer.step)  # type: ignore[method-assign]
    gc.collect()
    gc.disable()  # else what an earlier model left in cycles would be released, and counted, in between
    try:
        with profile(profile_memory=True, use_kineto=True) as found:
            learner.learn(batch, 1e-3, 3)
    finally:
        gc.enable()
    now = most = 0
    phase, at_most, forward = "before", "before", None
    assert found.kineto_results is not None
    for name, size in events(found.kineto_results.experimental_event_tree()):
        if name is not None:
            phase = {"forward": "forward", "forward end": "backward", "step": "step", "step end": "after"}[name]
            if name == "forward end" and forward is None:
                forward = now
            continue
        now += size
        if now > most:
            most, at_most = now, phase
    assert forward is not None
    return Measured(weights, gradients, moments, forward, before + most, at_most)


NAMES = {"forward", "forward end", "step", "step end"}


def events(tree: list[Any]) -> Iterator[tuple[str | None, int]]:
    """Marks (name, 0), and allocations (None, bytes; less than 0 where they end), in the order of time."""
    found: list[tuple[int, int, str | None, int]] = []
    left = list(tree)
    while left:
        one = left.pop()
        left += one.children
        if one.tag == _EventType.Allocation:
            found.append((one.start_time_ns, len(found), None, one.extra_fields.alloc_size))
        elif one.name in NAMES:
            found.append((one.start_time_ns, len(found), one.name, 0))
    return ((name, size) for _, _, name, size in sorted(found, key=lambda each: each[0]))


def bytes_of(value: Any) -> int:
    """Of all tensors in it, each storage once."""
    found: dict[int, int] = {}

    def collect(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
            collect(part)

    collect(value)
    return sum(found.values())
