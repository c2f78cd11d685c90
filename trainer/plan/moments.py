"""Numbers that an optimiser remembers between steps, by its kind; those that `trainer.optim` makes."""

from __future__ import annotations

import math
from collections.abc import Iterator

from trainer import optimizers
from trainer.optimizers import AnyOptimizer
from trainer.plan.shape import ModelShape

SIZES = {"adamw": 2.0, "adam": 2.0, "nadam": 2.0, "adagrad": 1.0, "lion": 1.0, "sophia_g": 2.0, "sophia_h": 2.0}
"""Of kinds that remember the same for each weight: how many numbers."""

ONE_BY_ONE = {
    "adamw": 0.0, "adam": 0.0, "nadam": 3.0, "sgd": 1.0, "adagrad": 2.0, "rmsprop": 2.0, "adafactor": 2.0, "muon": 2.7,
    "sophia_g": 2.0, "sophia_h": 2.0,
}  # fmt: skip
"""Numbers for each of the largest tensor while a step goes from weight to weight; Adam's is one kernel."""

OVER_LISTS = {"nadam": 1.0, "sgd": 1.0, "adagrad": 2.0, "rmsprop": 1.0, "lion": 1.0}
"""Numbers for each weight while a step goes over lists of tensors."""

TURNS = 5.0
"""Squares of the longest side that has a basis, while SOAP turns it or Shampoo takes roots."""

VECTORS = {"lbfgs": 9.0, "newton_cg": 13.0, "sophia_g": 1.5, "sophia_h": 4.0}
"""Vectors over all weights that are there while an optimiser evaluates the loss again: of a line search, of conjugate
gradients, of an estimate of the curvature. As measured."""


def remembered(shape: ModelShape, optimizer: AnyOptimizer) -> float:
    """Numbers that the optimiser of a whole model remembers, but for counts of steps."""
    if optimizer.kind in SIZES:
        return SIZES[optimizer.kind] * shape.weights
    if isinstance(optimizer, optimizers.SGD):
        return shape.weights if optimizer.momentum else 0
    if isinstance(optimizer, optimizers.RMSProp):
        return shape.weights * (1 + bool(optimizer.momentum) + optimizer.centered)
    if isinstance(optimizer, optimizers.LBFGS):
        return shape.weights * (2 * optimizer.history + 2)  # pairs, the last gradient and the last direction
    if isinstance(optimizer, optimizers.NewtonCG):
        return shape.weights  # the last solution
    return sum(number * _of_tensor(sides, inside, optimizer) for sides, number, inside in _tensors(shape))


def temporaries(shape: ModelShape, optimizer: AnyOptimizer, cpu: bool = False) -> float:
    """Numbers that the optimiser of a whole model has for the time of its step, beside those that it remembers.

    Weight by weight, as on the CPU, they are multiples of the largest tensor; over lists of tensors, as PyTorch does
    on accelerators where it has that, of all weights. What evaluates the loss in its step has its vectors.
    """
    if isinstance(optimizer, optimizers.LBFGS | optimizers.NewtonCG):
        return VECTORS[optimizer.kind] * shape.weights
    if optimizer.kind == "lion" or (not cpu and optimizer.kind in OVER_LISTS):
        return OVER_LISTS[optimizer.kind] * shape.weights * (_penalised(optimizer) if optimizer.kind == "sgd" else 1)
    tensors = [sides for sides, _, _ in _tensors(shape)]
    if isinstance(optimizer, optimizers.SOAP | optimizers.Shampoo):
        longest = [side for sides in tensors if len(sides) > 1 for side in sides if side <= optimizer.max_dimension]
        return TURNS * max(longest, default=0) ** 2
    largest = max(math.prod(sides) for sides in tensors)
    return ONE_BY_ONE[optimizer.kind] * largest * (_penalised(optimizer) if optimizer.kind == "sgd" else 1)


def _penalised(optimizer: AnyOptimizer) -> bool:
    return bool(optimizer.weight_decay) or bool(getattr(optimizer, "nesterov", False))


def _of_tensor(sides: tuple[int, ...], inside: bool, optimizer: AnyOptimizer) -> float:
    """`inside`: whether the weight is of a block."""
    size = float(sides[0] * (sides[1] if len(sides) > 1 else 1))
    matrix = len(sides) > 1
    if isinstance(optimizer, optimizers.Muon):
        return size if matrix and inside else 2 * size
    if isinstance(optimizer, optimizers.Adafactor):
        return sum(sides) if matrix else size
    if isinstance(optimizer, optimizers.SOAP):
        bases = sum(2 * side**2 for side in sides if side <= optimizer.max_dimension)
        return 2 * size + (bases if matrix else 0)
    assert isinstance(optimizer, optimizers.Shampoo)
    full = [side if matrix and side <= optimizer.max_dimension else 1 for side in sides]
    statistics = sum(2 * side * width for side, width in zip(sides, full, strict=True))
    return size * (2 if optimizer.graft == "adam" else 1) + statistics


def _tensors(shape: ModelShape) -> Iterator[tuple[tuple[int, ...], int, bool]]:
    """(sides, how many, whether in a block) of all weights; what stands outside of blocks and is no table, as one
    vector."""
    for block in shape.blocks:
        for product in block.products:
            yield (product.outputs, product.inputs), product.copies, True
            if product.bias:
                yield (product.outputs,), product.copies, True
        yield (block.vectors,), 1, True
    config = shape.config
    yield (shape.vocabulary, config.width), 1, False
    left = shape.others
    for product in shape.head[:-1] if config.tied else shape.head:
        yield (product.outputs, product.inputs), 1, False
        left += product.outputs if product.bias else 0
    yield (left,), 1, False
