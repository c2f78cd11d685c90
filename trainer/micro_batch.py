"""The micro-batch finder: how many sequences of one forward and backward pass fit into memory."""

from __future__ import annotations

import copy
import functools
import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pipeline.errors import UserError
from trainer import checkpoint, devices, offload
from trainer.config import TrainConfig
from trainer.data import Source
from trainer.hugging_face import stored_model
from trainer.learning import Learner
from trainer.lora import adapt
from trainer.model import Model
from trainer.plan.job import Layout
from trainer.plan.memory import Memory, over_a_step, stages
from trainer.plan.reading import job_of

USED = 0.8
"""Share of the CPU's free memory that a run may take, as it is planned: the plan is right within a tenth, and the
process needs some beside tensors."""

LOGITS = 24
"""Bytes of each logit that a teacher adds: its own, and what is computed of both."""


def with_micro_batch(
    config: TrainConfig, model: Model, source: Source, device: torch.device, say: Callable[[str], None]
) -> TrainConfig:
    """The configuration with a number for `micro_batch`: that of the checkpoint where the run goes on from one, else
    the largest divisor of every planned batch that fits. Raises UserError where not even one sequence does."""
    if config.micro_batch != "auto":
        return config
    found = checkpoint.newest(config.checkpoint.folder, lambda line: None)
    micro = found[1].config.micro if found is not None else 0
    if not micro or any(batch % micro for _, batch in config.stages):
        with devices.nothing_drawn(device):
            micro = largest(config, model, source, device)
        gc.collect()
    say(f"micro_batch: {micro} (of a global batch of {config.stages[0][1]})")
    return config.model_copy(update={"micro_batch": micro})


def largest(config: TrainConfig, model: Model, source: Source, device: torch.device) -> int:
    """The largest micro-batch that fits."""
    whole = int(np.gcd.reduce([batch for _, batch in config.stages]))
    if config.batch_ramp is not None and config.batch_ramp.kind == "noise":
        whole //= 2  # two at least, to measure by
    divisors = [n for n in range(1, whole + 1) if whole % n == 0]
    shape = config.model.model_copy(update={"vocabulary": model.vocabulary})  # else each plan would open the corpus
    config = config.model_copy(update={"model": shape})
    if device.type == "cpu":
        fitting = by_plan(config, model, divisors)
    else:
        # of a copy: what it turns into, counts or learns here is not the run's
        alone = config.model_copy(update={"micro_batch": 1, "compile": False})
        fitting = by_trial(Learner(copy.deepcopy(model), alone, device), source, divisors)
    if fitting is None:
        raise UserError(
            f"micro_batch: auto, but not even one sequence of {config.sequence_length} tokens fits into the memory "
            f"of {device}; make the model or sequence_length smaller, or set model.recompute: full"
        )
    return fitting


def by_trial(learner: Learner, source: Source, divisors: list[int]) -> int | None:
    """The largest that an accelerator takes, tried from the smallest up, beside as many bytes as the optimiser will
    have there."""
    fitting, config, device = None, learner.config, learner.device
    again = config.optimizer.needs != "gradient"  # the loss is evaluated in the step too, with more beside it
    for micro in divisors:
        at_rest, at_loss, forward, *others = planned(config, learner.model, micro, device)
        # what there is at the loss the trial shows, but for vectors, which are all that forward has for its moment
        most = max(one.total for one in (at_loss, *others))
        beside = most - at_loss.total + forward.peak if again else 0.0
        try:
            remembered = torch.empty(int(at_rest.moments + beside), dtype=torch.uint8, device=device)
            for _ in range(min(2, config.global_batch // micro)):  # gradients of the one before are there in the next
                backward(learner, source, micro)
            computed = torch.empty(0 if again else int(at_rest.peak), dtype=torch.uint8, device=device)
            del remembered, computed
        except RuntimeError as error:
            if not ran_out(error):
                raise
            break
        finally:
            learner.optimizer.zero_grad(set_to_none=True)
            torch.get_device_module(device).empty_cache()
        fitting = micro
    return fitting


def ran_out(error: RuntimeError) -> bool:
    """Whether an error of PyTorch is of memory: the driver and the libraries of matrix products have their own."""
    told = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in told or "ALLOC" in told


def by_plan(config: TrainConfig, model: Model, divisors: list[int]) -> int | None:
    """The largest with which a run on the CPU fits into the memory that is free, as `trainer.plan` reckons: a CPU that
    has too little does not say so, the process is killed."""
    device = torch.device("cpu")
    here = sum(weight.nbytes for weight in model.parameters())
    room = here + USED * devices.memory_left(device)
    return max((micro for micro in divisors if on_cpu(config, model, micro) <= room), default=None)


def on_cpu(config: TrainConfig, model: Model, micro: int) -> float:
    """Bytes of a run's tensors on the CPU at the moment when they are most: those of a step, the copies that
    checkpoints and the guard make, a teacher."""
    steps = planned(config, model, micro, torch.device("cpu"))
    guarded = config.guard is not None and config.guard.snapshot_every is not None
    copies = config.checkpoint.asynchronous + (2 if guarded else 0)
    held = max(one.weights + one.moments + one.average for one in steps)
    return max(one.total for one in steps) + copies * held + _of_teacher(config, model, micro)


def planned(config: TrainConfig, model: Model, micro: int, device: torch.device) -> list[Memory]:
    """The moments of a step that may need most, the optimiser's own first; with gradients and moments of the weights
    that are trained, and moments where they are on the device."""
    job, layout = job_of(config).with_micro(micro), Layout()
    share = _trained(config, model)
    there = 0.0 if offload.wanted(config.offload, device) else share
    at_rest, *others = (
        replace(one, gradients=share * one.gradients, moments=there * one.moments)
        for one in over_a_step(job, stages(job, layout)[0], layout, device.type == "cpu")
    )
    return [replace(at_rest, peak=there * at_rest.peak), *others]


def _trained(config: TrainConfig, model: Model) -> float:
    """Weights that are trained, as a share of the model's: all of them, or those of adapters."""
    if config.lora is None:
        return 1.0
    with torch.device("meta"):
        twin = Model(config.model, model.vocabulary)
    adapt(twin, config.lora, config.seed)
    return sum(weight.numel() for weight in twin.parameters() if weight.requires_grad) / model.parameter_count


def _of_teacher(config: TrainConfig, model: Model, micro: int) -> float:
    """Bytes of a teacher and of what its predictions add to the student's, which are as many."""
    if config.distill is None:
        return 0.0
    places = min(config.loss.chunk or micro * config.sequence_length, micro * config.sequence_length)
    each = max(weight.element_size() for weight in model.parameters())
    return each * _numbers(config.distill.teacher) + LOGITS * places * model.vocabulary


@functools.cache
def _numbers(teacher: Path) -> int:
    _, weights = stored_model(teacher, "distill.teacher", lambda line: None)
    return sum(weight.numel() for weight in weights.values())


def backward(learner: Learner, source: Source, micro: int) -> None:
    """A forward and a backward pass over so many sequences."""
    batch = source.batch(np.arange(micro) % source.plan.sequences)
    with offload.activations(learner.config.offload, learner.device, learner.model):
        found = learner.losses(batch, slice(None))
    found.share_of(batch.targets, len(batch.tokens_BT)).backward()  # type: ignore[no-untyped-call]
