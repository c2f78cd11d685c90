"""What of an optimiser's memory is of use to another: where the optimiser is changed in mid-run.

| from | to | what is carried |
|---|---|---|
| adam, adamw, nadam | adam, adamw, nadam | mean, mean square, steps |
| adam, adamw, nadam | rmsprop | mean square, steps |
| rmsprop | adam, adamw, nadam | mean square, steps; the mean begins at 0 |
| those with a mean: adam, adamw, nadam, lion, muon, sophia, sgd | lion, muon, sophia, sgd with momentum | mean |

The mean is that of the gradients; SGD's momentum is a sum, (1 - momentum) of which is the mean. Everything else begins
anew, such as the factors of Adafactor, Shampoo and SOAP: a mean without its square would make Adam's first steps huge.

Of the same kind with other settings all is carried, but:

| change | what becomes of it |
|---|---|
| sgd, rmsprop: to momentum 0 | the momentum is forgotten |
| rmsprop: to a momentum above 0 | the momentum begins at 0 |
| rmsprop: to centered | the mean gradient begins at 0, so the variance is the mean square at first |
| rmsprop: to not centered | the mean gradient is forgotten |
| shampoo: graft to adam; beta2 to or from null; max_dimension | all begins anew |
| shampoo: graft to none | the mean square is forgotten |
| soap: max_dimension | all begins anew |
| lbfgs: history | of more steps than that the last are carried |
| lbfgs: undecayed | all begins anew: it changes the order of the weights in its vectors |

What is forgotten would be out of date where it is wanted again: a mean gradient beside a newer mean square could leave
a variance below 0. Shampoo's mean square may not begin at 0, since its bias correction counts the statistics' steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from trainer import optimizers
from trainer.optim import COUNT
from trainer.optimizers import AnyOptimizer
from trainer.spread import Spread

ADAMS = ("adam", "adamw", "nadam")


def carried(
    state: Mapping[str, Any], before: AnyOptimizer, after: AnyOptimizer, matrices: Collection[str]
) -> dict[str, Any]:
    """The state of the optimiser `after`, by the name of the weight, out of that of the one before. Weights that are
    not in it begin anew. `matrices`: names of the weights that Muon moves; it leaves others to AdamW."""
    if before == after:
        return dict(state)
    if before.kind == after.kind:
        return {name: kept for name, held in state.items() if (kept := _kept(held, before, after))}
    made = {}
    for name, held in state.items():
        found = _given(held, _kind(before, name in matrices), before)
        new = _taken(found, _kind(after, name in matrices), after) if found else None
        if new is not None:
            made[name] = new
    return made


def _kept(held: dict[str, Any], before: AnyOptimizer, after: AnyOptimizer) -> dict[str, Any]:
    """The state of a weight for other settings of the same kind; nothing where it begins anew."""
    if isinstance(after, optimizers.SGD) and not after.momentum:
        return {}
    if isinstance(after, optimizers.RMSProp):
        asked = {"momentum_buffer": after.momentum > 0, "grad_avg": after.centered}
        begun = {key: _zeros(held["square_avg"]) for key in asked if asked[key] and key not in held}
        return {key: value for key, value in held.items() if asked.get(key, True)} | begun
    if isinstance(after, optimizers.Shampoo) and isinstance(before, optimizers.Shampoo):
        grafted = after.graft == "adam" and before.graft != "adam"
        summed = (after.beta2 is None) != (before.beta2 is None)
        if grafted or summed or after.max_dimension != before.max_dimension:
            return {}
        return {key: value for key, value in held.items() if key != "squares" or after.graft == "adam"}
    if isinstance(after, optimizers.SOAP) and isinstance(before, optimizers.SOAP):
        return held if after.max_dimension == before.max_dimension else {}
    if isinstance(after, optimizers.LBFGS):
        if set(after.undecayed) != set(before.undecayed):
            return {}
        last = {key: held[key][-after.history :] for key in ("old_dirs", "old_stps", "ro") if key in held}
        return {key: value for key, value in held.items() if key != "al"} | last  # `al` is of the old length
    return held


def _kind(settings: AnyOptimizer, inner: bool) -> str:
    return "adamw" if settings.kind == "muon" and not inner else settings.kind


def _given(held: Any, kind: str, settings: AnyOptimizer) -> dict[str, Any]:
    """Mean, mean square and steps, as far as they are known."""
    if not isinstance(held, Mapping):
        return {}
    if kind in ADAMS:
        return {"mean": held["exp_avg"], "square": held["exp_avg_sq"], "steps": held["step"]}
    if kind == "rmsprop":
        return {"square": held["square_avg"], "steps": held["step"]}
    if kind == "lion":
        return {"mean": held["exp_avg"]}
    if kind in ("sophia_g", "sophia_h"):
        return {"mean": held["mean"]}
    if kind == "muon":
        return {"mean": held["momentum_buffer"]}
    if isinstance(settings, optimizers.SGD) and held.get("momentum_buffer") is not None:
        return {"mean": _each(held["momentum_buffer"], lambda x: x * (1 - settings.momentum))}
    return {}


def _taken(found: dict[str, Any], kind: str, settings: AnyOptimizer) -> dict[str, Any] | None:
    """The state of a weight, or None where too little is known."""
    mean, square = found.get("mean"), found.get("square")
    if kind in ADAMS and square is not None:
        steps = torch.as_tensor(found["steps"], dtype=torch.float32)
        made = {"step": steps, "exp_avg": _zeros(square) if mean is None else mean, "exp_avg_sq": square}
        if isinstance(settings, optimizers.NAdam):
            made["mu_product"] = _product(settings, int(steps))
        return made
    if isinstance(settings, optimizers.RMSProp) and square is not None:
        made = {"step": torch.as_tensor(found["steps"], dtype=torch.float32), "square_avg": square}
        return _kept(made, settings, settings)
    if mean is None:
        return None
    if kind == "lion":
        return {"exp_avg": mean, COUNT: 0}
    if kind in ("sophia_g", "sophia_h"):
        return {"mean": mean, "curvature": _zeros(mean)}
    if kind == "muon":
        return {"momentum_buffer": mean}
    if isinstance(settings, optimizers.SGD) and settings.momentum:
        return {"momentum_buffer": _each(mean, lambda x: x / (1 - settings.momentum))}
    return None


def _each(x: Tensor | Spread, change: Callable[[Tensor], Tensor]) -> Tensor | Spread:
    if isinstance(x, Spread):
        return Spread(x.shape, tuple((offsets, change(part)) for offsets, part in x.parts))
    return change(x)


def _zeros(like: Any) -> Any:
    return _each(like, torch.zeros_like)


def _product(settings: optimizers.NAdam, steps: int) -> Tensor:
    """Of NAdam's momenta so far (Dozat 2016)."""
    numbers = torch.arange(1, steps + 1, dtype=torch.float64)
    momenta = settings.beta1 * (1 - 0.5 * 0.96 ** (numbers * settings.momentum_decay))
    return momenta.prod().float()
