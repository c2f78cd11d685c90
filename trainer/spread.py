"""Tensors of which a process or a file holds parts, and nested states as flat ones: what checkpoints are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

Way = tuple[tuple[str, Any], ...]
"""The way to a value in a nested state: at each step what is entered (dict, list or tuple), and the key there."""


@dataclass(frozen=True)
class Spread:
    """A tensor in parts: boxes that do not overlap, and in all files of a checkpoint together make up the whole."""

    shape: tuple[int, ...]
    """Of the whole."""
    parts: tuple[tuple[tuple[int, ...], Tensor], ...]
    """(where it begins in the whole, along each dimension; its numbers)."""

    def cut(self, offsets: Iterable[int], sizes: Iterable[int]) -> Tensor:
        """The box of these sizes that begins there; from a part as it is where one holds it all.

        Raises ValueError where the parts do not hold all of it.
        """
        offsets, sizes = tuple(offsets), tuple(sizes)
        out, found = None, 0
        for start, part in self.parts:
            low = [max(a, b) for a, b in zip(offsets, start, strict=True)]
            high = [min(a + n, b + m) for a, n, b, m in zip(offsets, sizes, start, part.shape, strict=True)]
            if any(a >= b for a, b in zip(low, high, strict=True)):
                continue
            box = _box(part, [a - b for a, b in zip(low, start, strict=True)], low, high)
            if box.shape == sizes:
                return box
            out = part.new_empty(sizes) if out is None else out
            _box(out, [a - b for a, b in zip(low, offsets, strict=True)], low, high).copy_(box)
            found += box.numel()
        if found != math.prod(sizes):
            raise ValueError(f"parts hold {found} of {math.prod(sizes)} numbers")
        return self.parts[0][1].new_empty(sizes) if out is None else out

    def whole(self) -> Tensor:
        """All of it."""
        return self.cut([0] * len(self.shape), self.shape)


def _box(x: Tensor, offsets: list[int], low: list[int], high: list[int]) -> Tensor:
    for dim, (offset, a, b) in enumerate(zip(offsets, low, high, strict=True)):
        x = x.narrow(dim, offset, b - a)
    return x


def spread(x: Tensor) -> Spread:
    """A whole tensor as one part."""
    return Spread(tuple(x.shape), (((0,) * x.ndim, x),))


def unwrapped(value: Any) -> Any:
    """The plain tensor where one part is all of it; anything else as it is."""
    if isinstance(value, Spread) and tuple(value.parts[0][1].shape) == tuple(value.shape):
        return value.parts[0][1]
    return value


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """A nested value with each tensor in it changed, in parts or not."""
    if isinstance(value, Tensor | Spread):
        return change(value)
    if isinstance(value, dict):
        return {key: mapped(inner, change) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(mapped(inner, change) for inner in value)
    return value


def flat(value: Any, at: Way = ()) -> Iterator[tuple[Way, Any]]:
    """(way, value) of each leaf: tensors, numbers, and containers that hold neither tensors nor containers."""
    kind = type(value).__name__
    if isinstance(value, dict) and value:
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list | tuple) and any(isinstance(v, Tensor | Spread | dict | list | tuple) for v in value):
        items = enumerate(value)
    else:
        yield at, value
        return
    for key, inner in items:
        yield from flat(inner, (*at, (kind if isinstance(value, list | tuple) else "dict", key)))


Row = tuple[Way, tuple[int, ...] | None, tuple[int, ...], Any]
"""What a file holds of a value: way, shape of the whole (None: no tensor), where the part begins, the part or value."""


def rows(leaves: Iterable[tuple[Way, Any]]) -> list[Row]:
    """Leaves as a file holds them: plain tuples, which torch.load takes with weights_only."""
    found: list[Row] = []
    for way, value in leaves:
        if isinstance(value, Spread):
            found += [(way, value.shape, offsets, part) for offsets, part in value.parts]
        else:
            found.append((way, None, (), value))
    return found


def joined(rows: Iterable[Row]) -> dict[str, Any]:
    """The state that the rows of all files make up; tensors of one part are plain ones.

    Raises ValueError where parts are missing.
    """
    values: dict[Way, Any] = {}
    for way, shape, offsets, value in rows:
        if shape is None:
            values[way] = value
        else:
            before = values.get(way, Spread(shape, ()))
            values[way] = Spread(shape, (*before.parts, (offsets, value)))
    for way, value in values.items():
        if isinstance(value, Spread):
            here = sum(part.numel() for _, part in value.parts)
            if here != math.prod(value.shape):
                name = ".".join(str(key) for _, key in way)
                raise ValueError(f"{here} of {math.prod(value.shape)} numbers of {name} are there")
            values[way] = unwrapped(value)
    return nested(values.items())


class _Node(dict[Any, Any]):
    kind = "dict"


def nested(leaves: Iterable[tuple[Way, Any]]) -> dict[str, Any]:
    """The state whose leaves these are, in any order."""
    root = _Node()
    for way, value in leaves:
        at = root
        for (kind, key), (below, _) in pairwise(way):
            at.kind = kind
            at = at.setdefault(key, _Node())
            at.kind = below
        at[way[-1][1]] = value
    found: dict[str, Any] = _made(root)
    return found


def _made(node: Any) -> Any:
    if not isinstance(node, _Node):
        return node
    if node.kind == "dict":
        return {key: _made(inner) for key, inner in node.items()}
    values = [_made(node[key]) for key in sorted(node)]
    return values if node.kind == "list" else tuple(values)


class Staging:
    """Copies of states in the CPU's memory, in buffers that are used again: what is written from them may be written
    while the originals move. Where they come from an accelerator they are pinned unless told otherwise: copying is
    several times faster, but the memory is the system's no more, and up to twice as much."""

    def __init__(self, pinned: bool = True) -> None:
        self._pinned = pinned
        self._buffers: dict[Way, Tensor] = {}

    @torch.no_grad()
    def __call__(self, state: dict[str, Any]) -> dict[Way, Any]:
        """The leaves of a state, with every tensor as a `Spread` of copies. The next call writes over them."""
        before, self._buffers = self._buffers, {}
        waiting = False

        def copied(way: Way, x: Tensor) -> Tensor:
            nonlocal waiting
            there = before.get(way)
            # in the same order in memory, which decides how products are rounded when a run goes on
            if there is None or (there.shape, there.stride(), there.dtype) != (x.shape, x.stride(), x.dtype):
                pinned = self._pinned and x.device.type == "cuda"
                there = torch.empty_like(x, device="cpu", requires_grad=False, pin_memory=pinned)
            self._buffers[way] = there
            there.copy_(x, non_blocking=True)
            waiting = waiting or x.device.type != "cpu"
            return there

        found: dict[Way, Any] = {}
        for way, value in flat(state):
            if isinstance(value, Tensor):
                value = spread(value)
            if isinstance(value, Spread):
                ((offsets, here),) = value.parts
                value = Spread(value.shape, ((offsets, copied(way, here)),))
            found[way] = value
        if waiting:
            torch.accelerator.synchronize()
        return found
