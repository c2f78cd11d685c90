"""Learning rates by step: those of PyTorch's schedulers where it has the same, and what each kind promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch.optim import lr_scheduler

from pipeline.errors import RecipeError
from trainer.config import load_config
from trainer.resume import changes
from trainer.schedule import AnySchedule

STEPS = 90
Make = Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]
PEERS: list[tuple[dict[str, Any], Make]] = [
    ({"kind": "constant"}, lambda o: lr_scheduler.ConstantLR(o, 1.0)),
    ({"kind": "linear", "floor": 0.25}, lambda o: lr_scheduler.LinearLR(o, 1.0, 0.25, STEPS)),
    ({"kind": "cosine", "floor": 0.1}, lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, 0.1)),
    (
        {"kind": "cosine_restarts", "period": 7, "growth": 2, "floor": 0.05},
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 7, 2, 0.05),
    ),
    ({"kind": "cosine_restarts", "period": 9}, lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 9)),
    ({"kind": "step", "every": 20, "factor": 0.5}, lambda o: lr_scheduler.StepLR(o, 20, 0.5)),
    ({"kind": "step", "at": [5, 40], "factor": 0.3}, lambda o: lr_scheduler.MultiStepLR(o, [5, 40], 0.3)),
    ({"kind": "exponential", "floor": 0.01}, lambda o: lr_scheduler.ExponentialLR(o, 0.01 ** (1 / STEPS))),
    ({"kind": "polynomial", "power": 1.7}, lambda o: lr_scheduler.PolynomialLR(o, STEPS, 1.7)),
    ({"kind": "cyclic", "period": 20, "floor": 0.1}, lambda o: lr_scheduler.CyclicLR(o, 0.1, 1.0, 10)),
    (
        {"kind": "cyclic", "period": 20, "floor": 0.1, "shrink": 0.5},
        lambda o: lr_scheduler.CyclicLR(o, 0.1, 1.0, 10, mode="triangular2"),
    ),
]


def schedule(settings: dict[str, Any]) -> Any:
    return TypeAdapter(AnySchedule).validate_python(settings)


def rates(make: Make, steps: int) -> Iterator[float]:
    """What a scheduler of PyTorch gives before its first step, and behind each."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler = make(optimizer)
    for _ in range(steps):
        yield optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(("settings", "make"), PEERS, ids=[str(settings) for settings, _ in PEERS])
def test_rates_are_those_of_pytorch(settings: dict[str, Any], make: Make) -> None:
    """Else a run that is moved here would learn at another rate under the same name.

    PyTorch counts from 0 with the highest rate; here step 1 is the first that has left it.
    """
    ours = [schedule(settings).share(step, STEPS) for step in range(1, STEPS)]
    assert ours == pytest.approx(list(rates(make, STEPS))[1:], abs=1e-9)


@pytest.mark.parametrize("shape", ["cosine", "linear"])
def test_one_cycle_is_that_of_pytorch(shape: str) -> None:
    """Both count the first step as the beginning of the rise."""
    mode = "cos" if shape == "cosine" else "linear"
    theirs = rates(
        lambda o: lr_scheduler.OneCycleLR(
            o,
            1.0,
            total_steps=STEPS,
            anneal_strategy=mode,
            div_factor=25,
            final_div_factor=1e4,  # type: ignore[arg-type]
        ),
        STEPS - 1,
    )
    ours = schedule({"kind": "one_cycle", "shape": shape})
    assert [ours.share(step, STEPS) for step in range(1, STEPS)] == pytest.approx(list(theirs), abs=1e-9)
    assert ours.share(STEPS, STEPS) == pytest.approx(4e-6)


@pytest.mark.parametrize("shape", ["linear", "cosine", "sqrt", "exponential"])
def test_stable_then_a_tail(shape: str) -> None:
    """Else a run that is prolonged would have to go back to before the rate began to fall."""
    made = schedule({"kind": "wsd", "warmup": 10, "tail": 0.25, "shape": shape, "floor": 0.01})
    found = [made.share(step, 110) for step in range(1, 111)]
    assert found[:10] == pytest.approx([n / 10 for n in range(1, 11)])
    assert found[9:85] == [1.0] * 76
    assert found[85] < 1
    assert all(later < earlier for earlier, later in pairwise(found[84:]))
    assert found[-1] == pytest.approx(0.01)
    longer = [made.share(step, 1010) for step in range(1, 86)]
    assert longer == found[:85]


def test_inverse_square_root_of_the_paper() -> None:
    """Vaswani et al. 2017, equation 3: min(s^-1/2, s · w^-3/2), which is w^-1/2 at its highest."""
    made = schedule({"kind": "inverse_sqrt", "warmup": 16})
    theirs = [min(step**-0.5, step * 16**-1.5) * 16**0.5 for step in range(1, 200)]
    assert [made.share(step, 200) for step in range(1, 200)] == pytest.approx(theirs)


@pytest.mark.parametrize("settings", [one for one, _ in PEERS] + [{"kind": "wsd"}, {"kind": "inverse_sqrt"}])
def test_warmup_comes_before_all_kinds(settings: dict[str, Any]) -> None:
    """Else the rate would jump where the warm-up ends."""
    made = schedule(settings | {"warmup": 10})
    found = [made.share(step, 1000) for step in range(1, 1001)]
    assert found[:10] == pytest.approx([n / 10 for n in range(1, 11)])
    assert found[10] > (0.85 if settings["kind"] != "step" else 0.29)
    assert all(0 <= share <= 1 for share in found)


@pytest.mark.parametrize("period", [2, 5, 6, 9])
def test_a_cycle_behind_a_warmup_goes_on_from_its_highest_rate(period: int) -> None:
    """Else the rate would stay high, or jump, where the warm-up ends; of an odd number of steps too."""
    found = [schedule({"kind": "cyclic", "period": period, "warmup": 4}).share(step, 99) for step in range(4, 99)]
    heights = [abs(1 - 2 * step / period % 2) for step in range(95)]  # from 1 down, up again, and so on
    assert found == pytest.approx([0.1 + 0.9 * height for height in heights])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schedule={kind: cyclic, period: 1}", "schedule.period: input should be greater than or equal to 2, found 1"),
        ("schedule.kind=cosin", "schedule.kind: no such kind, found 'cosin'. Did you mean 'cosine'?"),
        ("schedule={kind: wsd, tial: 0.1}", "schedule.tial: no such key of kind wsd. Did you mean 'tail'?"),
        ("schedule={kind: wsd, shape: exponential}", "schedule: an exponential tail never reaches floor 0"),
        ("schedule={kind: step}", "schedule: give either `every`, or the steps in `at`"),
        ("schedule={kind: step, at: [5, 3]}", "schedule: the steps in `at` must ascend"),
        ("schedule={kind: cosine_restarts}", "schedule.period: is missing"),
        ("schedule={kind: linear, floor: 2}", "schedule.floor: input should be less than or equal to 1, found 2"),
        ("schedule={kind: one_cycle, warmup: 3}", "schedule.warmup: no such key of kind one_cycle"),
        ("schedule={kind: constant, warmup: 20}", "schedule.warmup 20 leaves nothing of 20 steps"),
    ],
)
def test_settings(config_file: Callable[..., Path], text: str, message: str) -> None:
    """Else a typing error would train with another schedule than was meant."""
    with pytest.raises(RecipeError) as caught:
        load_config(config_file(), [text])
    assert message in str(caught.value)


def test_another_schedule_at_a_resume_is_told(config_file: Callable[..., Path]) -> None:
    """Else nobody would know why a run does not equal the one that never stopped; of kinds with other settings too."""
    before, after = load_config(config_file()), load_config(config_file(), ["schedule={kind: wsd, warmup: 2}"])
    assert changes(before, before, 10) == []
    found = changes(before, after, 10)
    assert "schedule.kind cosine -> wsd" in found
    assert "schedule.tail None -> 0.2" in found
