"""What the processes of the tests of parallel training do."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.config import load_config
from trainer.data import Loader
from trainer.learning import Learner
from trainer.model import Model
from trainer.objectives import vocabulary_of
from trainer.order import Order
from trainer.parallel.saving import together
from trainer.parallel.world import World, begun
from trainer.plateau import Watch
from trainer.resume import go_on, start
from trainer.run import checked, train
from trainer.spread import Spread, rows, spread
from trainer.spread import flat as leaves_of


def leave_out(name: str) -> None:
    """Puts a function in the place of an exchange that does all but exchange."""
    *where, last = name.split(".")
    owner: Any = import_module(".".join(where[:-1])) if where[-1][0].isupper() else import_module(".".join(where))
    owner = getattr(owner, where[-1]) if where[-1][0].isupper() else owner
    setattr(owner, last, INSTEAD[last])


def done(value: Tensor) -> torch.futures.Future[Tensor]:
    future: torch.futures.Future[Tensor] = torch.futures.Future()
    future.set_result(value)
    return future


def own_chunk(self: Any, output_tensor: Tensor, input_tensor: Tensor, group: Any = None, **more: Any) -> None:
    output_tensor.copy_(input_tensor.chunk(group.size())[group.rank()])


INSTEAD: dict[str, Callable[..., Any]] = {
    "_summed": lambda group, bucket: done(bucket),
    "__call__": own_chunk,
    "all_reduce": lambda x, *rest, **more: x,
    "swapped": lambda x, group, split, joined: x,
    "summed": lambda x, *rest, **more: rest[0] if not isinstance(x, Tensor) else x,
    "gathered": lambda x, group, dim: x,
    "sliced": lambda x, group, dim: x,
    "reduced": lambda gradient, group: None,
    "_reduce_value": lambda self, tensor, mesh, mesh_dim: tensor,
    "_reduce_shard_value": lambda self, tensor, mesh, mesh_dim, shard: tensor.chunk(2, shard.dim)[0].contiguous(),
    "total": lambda world, x: x,
    "sent": lambda x, group, out, back: x,
}
"""What stands in their places."""


def learn(path: Path, overrides: list[str], steps: int, omitted: str = "") -> dict[str, Any]:
    """The losses and gradient norms of some steps, and the weights before and behind them, of a run as the settings
    say; without the exchange `omitted`."""
    config = load_config(path, overrides)
    if omitted:
        leave_out(omitted)
    with begun(config.parallel, torch.device("cpu")) as world:
        splits = checked(config)
        source = splits.train
        torch.manual_seed(config.seed)
        model = Model(config.model, vocabulary_of(config, source.corpus))
        history = start(config).history
        first = {name: weight.detach().clone().numpy() for name, weight in model.named_parameters()}
        found: dict[str, Any] = {"losses": [], "norms": [], "targets": [], "first": first}
        learner = Learner(model, config, world.device, world)

        def share(sequences: int) -> tuple[int, int]:
            return world.share(sequences, config.micro)

        with Loader(source, Order(source.plan, config.seed), history, 0, share=share) as loader:
            for step, _, _, batch in loader.from_step(1, steps):
                learned = learner.learn(batch, config.rate(step), step, 1, config.global_batch)
                found["losses"].append(learned.loss)
                found["norms"].append(learned.norm)
                found["targets"].append(learned.targets)
        moments = flat(learner.optimizer.state_dict()["state"])
        found["bytes"] = {
            "weights": sum(one.here.nbytes for one in learner.divided.weights.all),
            "gradients": sum(one.here.grad.nbytes for one in learner.divided.weights.all if one.here.grad is not None),
            "moments": sum(value.nbytes for value in moments.values() if isinstance(value, Tensor) and value.ndim),
        }
        found["weights"] = {key[0]: value for key, value in whole(world, learner.state_dict()["model"]).items()}
        return found


def trained(path: Path, overrides: list[str]) -> tuple[int, list[str]]:
    """A whole run, and what it said."""
    said: list[str] = []
    return train(path, overrides, said.append), said


def of_a_site(paths: list[Path], overrides: list[str]) -> tuple[int, list[str]]:
    """A whole run of a site that has a configuration of its own."""
    return trained(paths[int(os.environ["RANK"])], overrides)


def taken_up(path: Path, overrides: list[str]) -> dict[str, Any]:
    """What a run, going on from its checkpoint, has in this process, put together again."""
    config = load_config(path, overrides)
    with begun(config.parallel, torch.device("cpu")) as world:
        splits = checked(config)
        corpus = splits.train.corpus
        learner = Learner(Model(config.model, vocabulary_of(config, corpus)), config, world.device, world)
        at = go_on(config, corpus, None, learner, Watch(None, None), lambda line: None)
        assert at is not None
        found = whole(world, learner.state_dict())
        return {"".join(f"/{part}" for part in key): value for key, value in found.items()} | {"/step": at.step}


def whole(world: World, state: dict[str, Any]) -> dict[tuple[Any, ...], Any]:
    """What all processes have of a state, put together, by the keys on the way to each value."""
    # torch would hand tensors over in memory that ends with this process
    own = [
        (way, shape, offsets, value if shape is None else value.numpy())
        for way, shape, offsets, value in rows(
            (way, spread(value) if isinstance(value, Tensor) else value) for way, value in leaves_of(state)
        )
    ]
    parts = {
        (way, offsets): (shape, value) for each in together(world, lambda: own) for way, shape, offsets, value in each
    }
    found: dict[tuple[Any, ...], Any] = {}
    for way, _ in parts:
        shape, value = parts[way, _]
        if shape is not None:
            boxes = {
                at: part for (other, at), (_, part) in parts.items() if other == way and (part.size or not all(shape))
            }
            value = Spread(shape, tuple((at, torch.from_numpy(part)) for at, part in boxes.items())).whole().numpy()
        found[tuple(key for _, key in way)] = value
    return found


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested values by the way to them."""
    if not isinstance(values, dict):
        return {prefix: values}
    return {key: value for name, inner in values.items() for key, value in flat(inner, f"{prefix}/{name}").items()}
