"""`micro_batch: auto`: the choice beside what a step takes of memory, measured; and what counts as too little of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from measured_memory import measured
from test_plan_peak import config_of

from trainer import devices
from trainer.config import TrainConfig, load_config
from trainer.data import Source
from trainer.learning import Learner
from trainer.micro_batch import by_plan, by_trial, on_cpu, planned
from trainer.model import Model

V = 256
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
AT_ONCE = {"checkpoint": {"folder": "x", "asynchronous": False}}
"""Without a copy for checkpoints, which no single step shows."""
CASES: dict[str, dict[str, Any]] = {
    "adamw": {},
    "selective": {"model": {"recompute": "selective"}},
    "bf16-stochastic": {"precision": "bf16-stochastic"},
    "large vocabulary, full, mean of weights": {
        "vocabulary": 2048, "model": {"recompute": "full"}, "average": {"decay": 0.99},
    },
    "shampoo": {"optimizer": {"kind": "shampoo"}},
}  # fmt: skip


def configured(name: str, **more: Any) -> tuple[TrainConfig, Model]:
    changes = AT_ONCE | CASES[name] | {"global_batch": 8} | more
    vocabulary = changes.get("vocabulary", V)
    config = config_of(**changes)
    return config, Model(config.model, vocabulary)


def bytes_of(model: Model) -> int:
    return sum(weight.nbytes for weight in model.parameters())


@pytest.mark.parametrize("name", CASES)
def test_the_largest_that_fits_is_chosen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else memory would lie idle; or the process would be killed in mid-run, with no word of why."""
    config, model = configured(name, micro_batch=4)
    peak = {micro: measured(configured(name, micro_batch=micro)[0], model.vocabulary).peak for micro in (1, 4)}

    def chosen(room: float) -> int | None:
        monkeypatch.setattr(devices, "memory_left", lambda device: (room - bytes_of(model)) / 0.8)
        return by_plan(config, model, [1, 2, 4, 8])

    assert on_cpu(config, model, 4) == pytest.approx(peak[4], rel=0.12)
    assert chosen(1.12 * peak[4]) == 4
    assert chosen(0.85 * peak[1]) is None


def test_adapters_have_no_moments_of_the_whole_model() -> None:
    """Else a large model that is only adapted would seem not to fit at all."""
    whole, model = configured("adamw")
    config = config_of(**AT_ONCE, model={"init_from": "x"}, lora={"rank": 4}, global_batch=8, micro_batch=4)
    assert measured(config, V).peak < on_cpu(config, model, 4) < on_cpu(whole, model, 4) - 2 * bytes_of(model)


def test_copies_are_counted() -> None:
    """Else a run would fit until its first checkpoint."""
    config, model = configured("adamw")
    copied = config.model_copy(update={"checkpoint": config.checkpoint.model_copy(update={"asynchronous": True})})
    more = on_cpu(copied, model, 2) - on_cpu(config, model, 2)
    assert more == pytest.approx(3 * bytes_of(model), rel=0.01)
    guarded = config_of(**AT_ONCE, guard={})
    assert on_cpu(guarded, model, 2) - on_cpu(config, model, 2) == pytest.approx(2 * more, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "times"),
    [
        ({}, 2),
        ({"optimizer": {"kind": "lbfgs"}}, 22),
        ({"precision": "bf16-stochastic"}, 4),
        ({"offload": {"optimizer": True}}, 0),
    ],
)
def test_an_accelerator_keeps_room_for_what_the_optimiser_will_have(
    changes: dict[str, Any], times: int, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a micro-batch that is found to fit would end the first step; or half of the device would lie idle."""
    config = config_of(**changes)
    at_rest = planned(config, Model(config.model, V), 1, CUDA)[0]
    assert at_rest.when == "optimiser"
    assert at_rest.moments == pytest.approx(times * at_rest.weights, rel=0.01)
    if "offload" in changes:
        return  # it is never wanted on this device
    asked: list[int] = []
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda size, **more: asked.append(size) or empty(0, **more))
    monkeypatch.setattr("trainer.micro_batch.backward", lambda *args: asked.append(-1))
    monkeypatch.setattr(torch, "get_device_module", lambda device: type("Module", (), {"empty_cache": lambda: None}))
    learner = Learner(Model(config.model, V), config, CPU)
    asked.clear()
    assert by_trial(learner, source, [1, 4]) == 4
    before, after = [size for size in asked if size >= 0][:2]
    assert before >= int(at_rest.moments)
    assert asked == [before, -1, -1, after, before, -1, after]  # behind another one its gradients are there


def test_any_lack_of_memory_is_one(
    config_file: Callable[..., Path], source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the search would end the run where libraries of the device run out before PyTorch does; or a fault of
    another kind would be taken for the memory's end."""
    monkeypatch.setattr(torch, "get_device_module", lambda device: type("Module", (), {"empty_cache": lambda: None}))
    config = load_config(config_file(), ["global_batch=8"])
    learner = Learner(Model(config.model, 64), config, CPU)

    def found(error: Exception) -> int | None:
        def fails(learner: Learner, source: Source, micro: int) -> None:
            if micro > 2:
                raise error

        monkeypatch.setattr("trainer.micro_batch.backward", fails)
        return by_trial(learner, source, [1, 2, 4, 8])

    assert found(torch.OutOfMemoryError()) == 2
    assert found(torch.AcceleratorError("CUDA error: out of memory")) == 2
    assert found(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")) == 2
    with pytest.raises(RuntimeError, match="shapes"):
        found(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize(
    ("line", "group", "names", "limit"),
    [
        ("0::/job/step", "job", ("memory.max", "memory.current", ""), "3000000"),
        ("0::/not/seen/inside", "", ("memory.max", "memory.current", ""), "3000000"),
        ("4:cpu,memory:/job", "memory/job", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"), "3000000"),
        ("0::/job", "job", ("memory.max", "memory.current", ""), "max"),
    ],
)
def test_the_memory_of_a_container_is_all_there_is(
    line: str, group: str, names: tuple[str, str, str], limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run in a container would plan with the whole machine's memory, and be killed. Pages of files count as
    taken there, and are given back."""
    folder = tmp_path / "groups" / group
    folder.mkdir(parents=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text("2500000\n")
    (folder / "memory.stat").write_text(f"{names[2]}active_file 100000\n{names[2]}inactive_file 300000\n")
    (tmp_path / "own").write_text(f"7:pids:/\n{line}\n")
    monkeypatch.setattr(devices, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(devices, "OWN_GROUPS", tmp_path / "own")
    left = devices.memory_left(CPU)
    assert left == 900_000 if limit != "max" else left > 1 << 20
