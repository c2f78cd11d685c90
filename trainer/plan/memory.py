"""Bytes on a device, by part: weights, gradients, moments, activations, logits, buffers of communication.

A step needs most at one of a few moments, which are gone through in turn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from trainer.optimizers import NewtonCG, SophiaH
from trainer.plan import activations
from trainer.plan.job import Job, Layout
from trainer.plan.moments import VECTORS, remembered, temporaries
from trainer.plan.shape import BlockShape

TWICE = 2.4
"""What a graph that is differentiated twice keeps, as a multiple of what it does for one derivative. As measured."""


@dataclass(frozen=True)
class Memory:
    """Of the device that needs most, at the moment of a step when it does, in bytes."""

    weights: float
    gradients: float
    """Those that are made by then."""
    moments: float
    average: float
    """The running mean of the weights."""
    copies: float
    """Weights in the type of matrix products (autocast)."""
    activations: float
    """What forward keeps for backward, of all micro-batches that are on their way."""
    peak: float
    """What is there for that moment alone: the logits with their gradients; or gradients of a block's activations, and
    the block itself where it is made anew; or what the optimiser computes with."""
    buffers: float
    """Weights gathered for use, gradients before they are shared, buckets."""
    when: str = "loss"
    """The moment: loss (between forward and backward), forward, backward, optimiser."""

    @property
    def parts(self) -> dict[str, float]:
        """Bytes by name."""
        return {name: value for name, value in vars(self).items() if name != "when"}

    @property
    def total(self) -> float:
        """All of it. PyTorch's allocator and the device's libraries take more."""
        return float(sum(self.parts.values()))


@dataclass(frozen=True)
class Stage:
    """What a device of a pipeline holds."""

    blocks: tuple[BlockShape, ...]
    first: bool
    """Whether the embedding is among it."""
    last: bool
    """Whether the head is among it."""
    place: int
    """In the pipeline, from 0."""


def stages(job: Job, layout: Layout) -> list[Stage]:
    """The devices of a pipeline that may need most: the first and the last one. With layers of unlike kinds, each is
    taken to have as many of a kind as another."""
    blocks = job.shape.blocks
    if layout.pp == 1:
        return [Stage(blocks, True, True, 0)]
    share = math.ceil(len(blocks) / layout.pp)
    return [
        Stage(blocks[-share:], True, False, 0),
        Stage(blocks[-share:], False, True, layout.pp - 1),
    ]


def weights_of(job: Job, stage: Stage, layout: Layout) -> tuple[float, float]:
    """Weights of a stage after tensor, pipeline and expert parallelism, before they are divided for FSDP: those that
    all tokens meet, and experts'."""
    shape = job.shape
    routed = sum(block.routed for block in stage.blocks) / (layout.ep * layout.tp)
    whole = sum(block.whole for block in stage.blocks)
    dense = sum(block.weights - block.routed - block.whole for block in stage.blocks) / layout.tp + whole
    ends = (shape.ends if stage.first and stage.last else 0) or _end(job, stage)
    return dense + ends / layout.tp, routed


def _end(job: Job, stage: Stage) -> float:
    """The embedding, or the head: of a tied one each end of the pipeline has its own."""
    head = sum(product.weights for product in job.shape.head)
    return (job.shape.embedding if stage.first else 0) + (head if stage.last else 0)


def on_its_way(job: Job, layout: Layout, place: int) -> float:
    """Micro-batches whose activations a device of the pipeline holds at once, at most, as multiples of what its blocks
    keep of one (Narayanan et al. 2021, section 2.2)."""
    number, pp, each = job.micro_batches(layout), layout.pp, layout.stages_each
    if layout.schedule == "gpipe":
        return number
    if each == 1:
        return min(pp - place, number)
    return min(number * each, 2 * (pp - place - 1) + (each - 1) * pp + 1) / each


def of_stage(job: Job, stage: Stage, layout: Layout, cpu: bool = False) -> Memory:
    """What the devices of a stage need, at the moment when that is most."""
    return max(over_a_step(job, stage, layout, cpu), key=lambda one: one.total)


def over_a_step(job: Job, stage: Stage, layout: Layout, cpu: bool = False) -> Iterator[Memory]:
    """The moments of a step that may need most: the end of forward, the loss, backward of each block, the optimiser.

    Activations go and gradients come as backward passes through the blocks; so which moment it is depends on whether
    weights or activations are larger.
    """
    numbers, places = job.numbers, job.places(layout)
    dense, routed = weights_of(job, stage, layout)
    held = dense / layout.shards + routed / (layout.dp_shard * layout.cp)
    whole = dense + routed
    again = job.recompute in ("selective", "full")
    blocks = _blocks(job, stage, layout, cpu)
    one_block = max(block.weights for block in blocks)
    # With autocast the copies of a micro-batch's weights live as long as what it keeps: until they are made anew. A
    # table of embeddings that is no projection is not copied.
    table = 0 if job.shape.config.tied or not stage.first else job.shape.embedding / layout.tp
    copied, cast = whole - table, numbers.compute if numbers.cast else 0
    kept = sum(block.kept for block in blocks) * on_its_way(job, layout, stage.place)
    ends = activations.of_ends(job, layout, cpu) * places if stage.last else 0
    gradients = (held if layout.zero > 1 else whole) * max(4, numbers.weight)  # in fp32 also of bf16 weights
    early = 0.0 if _come_one_by_one(job, layout) else gradients
    at_rest = Memory(
        weights=held * numbers.weight + (whole * numbers.gathered if layout.zero < 3 and layout.shards > 1 else 0),
        gradients=gradients,
        moments=_moments(job, held, remembered(job.shape, job.optimizer)),
        average=held * numbers.weight if job.average else 0,
        copies=0,
        activations=0,
        peak=_moments(job, held, temporaries(job.shape, job.optimizer, cpu)) + _widened(job, held),
        buffers=0,
        when="optimiser",
    )
    yield at_rest
    # what evaluates the loss again in its step does so beside its vectors
    vectors = _moments(job, held, VECTORS.get(job.optimizer.kind, 0.0) * job.shape.weights)
    running = replace(at_rest, buffers=_buffers(job, stage, layout, one_block), gradients=early, peak=vectors)
    at_loss = replace(running, activations=kept + ends, when="loss")
    logits = activations.of_logits(job, layout) if stage.last else 0
    # Of a loss in chunks each makes a gradient of the head, which is added to that of those before it.
    head = 2 * _head(job, stage, layout) * numbers.gathered if job.chunk and job.chunk < places else 0
    yield replace(at_loss, copies=(one_block if again else copied) * cast, peak=vectors + logits + head)
    # Autocast remembers its copies to the end of forward, also of blocks that are made anew.
    yield replace(at_loss, copies=copied * cast, when="forward")
    if isinstance(job.optimizer, NewtonCG | SophiaH):
        # with all scores of attention, and nothing made anew: the kernels without them have no second derivative
        plain = _blocks(replace(job, scores=True, recompute="none"), stage, layout, cpu)
        twice = TWICE * (sum(block.kept for block in plain) * on_its_way(job, layout, stage.place) + ends)
        if isinstance(job.optimizer, NewtonCG) and job.micro_batches(layout) > 1:
            twice *= 2  # that of the micro-batch before goes when the next one's is made
        yield replace(running, activations=twice, copies=copied * cast, peak=vectors + 2 * logits, when="optimiser")
    behind = _head(job, stage, layout)
    for block in reversed(blocks):
        yield replace(
            running,
            gradients=early or gradients * behind / whole,
            copies=(block.weights if again else copied - behind) * cast,
            activations=kept,
            peak=vectors + block.backward + block.anew,
            when="backward",
        )
        kept -= block.kept * on_its_way(job, layout, stage.place)
        behind += block.weights


@dataclass(frozen=True)
class _Held:
    """Of a block on a device."""

    weights: float
    kept: float
    anew: float
    """What backward makes anew of it."""
    backward: float
    """Gradients of its activations."""


def _blocks(job: Job, stage: Stage, layout: Layout, cpu: bool) -> list[_Held]:
    places, known = job.places(layout), dict[int, _Held]()
    for block in stage.blocks:
        known.setdefault(
            id(block),
            _Held(
                (block.weights - block.routed) / layout.tp + block.routed / (layout.ep * layout.tp),
                activations.kept(job, block, layout, cpu) * places,
                activations.made_anew(job, block, layout, cpu) * places,
                activations.of_backward(job, block, layout) * places,
            ),
        )
    return [known[id(block)] for block in stage.blocks]


def _come_one_by_one(job: Job, layout: Layout) -> bool:
    """Whether gradients are made as backward goes: not where earlier micro-batches have left them, nor where they are
    views of buckets (DDP), nor where the optimiser evaluates the loss while it has them."""
    bucketed = layout.devices > 1 and (layout.zero < 3 or layout.shards == 1)
    return job.micro_batches(layout) == 1 and not bucketed and job.optimizer.needs == "gradient"


def _head(job: Job, stage: Stage, layout: Layout) -> float:
    """Weights behind the blocks, whose gradients come first; a tied embedding among them."""
    return sum(product.weights for product in job.shape.head) / layout.tp if stage.last else 0.0


def _moments(job: Job, held: float, numbers: float) -> float:
    """Bytes of so many numbers of the whole model's optimiser, on a device that holds so many weights. In fp32,
    whatever the weights are in; in fp64 where they are."""
    return numbers * held / job.shape.weights * max(4, job.numbers.weight)


def _widened(job: Job, held: float) -> float:
    """Copies of weights in fp32, which the step over bf16 weights is made on."""
    return 4 * held if job.precision == "bf16-stochastic" else 0.0


def _buffers(job: Job, stage: Stage, layout: Layout, one_block: float) -> float:
    if layout.shards == 1:
        return 0.0  # DDP's buckets are the gradients themselves
    ends = (job.shape.ends if stage.first and stage.last else _end(job, stage)) / layout.tp
    # The block at work and the next one, and what is outside of blocks, which stays gathered from forward to backward;
    # and a gradient before it is shared.
    gathered = 2 * one_block + ends if layout.zero == 3 else 0
    whole = max(one_block, ends) if layout.zero > 1 else 0
    return (gathered + whole) * job.numbers.gathered


def memory(job: Job, layout: Layout, cpu: bool = False) -> Memory:
    """Of the device that needs most."""
    return max((of_stage(job, stage, layout, cpu) for stage in stages(job, layout)), key=lambda one: one.total)
