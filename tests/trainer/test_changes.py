"""Settings that change in mid-run, and what optimisers hand on to each other."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from checkpoints import assert_equal_states, quiet
from pydantic import TypeAdapter

from pipeline.errors import RecipeError
from trainer.carry import carried
from trainer.checkpoint import load_state, read_meta, saved
from trainer.config import load_config
from trainer.metrics import read
from trainer.optim import COUNT, make_optimizer
from trainer.optimizers import AnyOptimizer
from trainer.parallel.local import Weights
from trainer.parallel.state import moments_of, set_moments
from trainer.parallel.world import ALONE
from trainer.run import train

ConfigFile = Callable[..., Path]
KINDS = ("adam", "adamw", "nadam", "rmsprop", "lion", "muon", "sophia_g", "sgd", "adagrad", "adafactor")
MEANS = {"adam", "adamw", "nadam", "lion", "muon", "sophia_g", "sgd"}
SQUARES = {"adam", "adamw", "nadam", "rmsprop"}


def settings(kind: str, **values: Any) -> Any:
    more = {"momentum": 0.8} if kind == "sgd" else {}
    return TypeAdapter(AnyOptimizer).validate_python({"kind": kind, "learning_rate": 1e-3} | more | values)


def named(kind: str, model: torch.nn.Module, steps: int) -> tuple[Any, dict[str, Any]]:
    """An optimiser behind some steps of the gradient 1, and its state by name."""
    optimizer = make_optimizer(model, settings(kind))
    for _ in range(steps):
        for weight in model.parameters():
            weight.grad = torch.ones_like(weight)
        optimizer.step()
    parts = getattr(optimizer, "parts", [optimizer])
    names = {id(weight): name for name, weight in model.named_parameters()}
    found = {}
    for part in parts:
        flat = [weight for group in part.param_groups for weight in group["params"]]
        found |= {names[id(flat[number])]: held for number, held in part.state_dict()["state"].items()}
    return optimizer, found


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.ModuleDict({"blocks": torch.nn.ModuleList([torch.nn.Linear(4, 4)])})


@pytest.mark.parametrize("after", KINDS)
@pytest.mark.parametrize("before", [kind for kind in KINDS if kind not in ("adagrad", "adafactor")])
def test_what_an_optimiser_hands_on(before: str, after: str) -> None:
    """Else a change of the optimiser would begin with a jolt, or with moments that mean something else."""
    _, held = named(before, model(), 6)
    inner = {name for name in held if name.endswith("weight")}
    found = carried(held, settings(before), settings(after), inner)
    name = "blocks.0.weight"
    if before == after:
        assert found == held
        return
    handed = (after in SQUARES and before in SQUARES) or (after in MEANS - SQUARES and before in MEANS)
    assert (name in found) == handed
    if not handed:
        return
    fresh, _ = named(after, model(), 1)
    parts = getattr(fresh, "parts", [fresh])
    usual = next(iter(parts[0].state_dict()["state"].values()))
    assert found[name].keys() == usual.keys()  # nothing is missing that it would look for
    mean = {"adam": 1 - 0.9**6, "adamw": 1 - 0.9**6, "nadam": 1 - 0.9**6, "muon": 1 - 0.95**6}
    if before in mean and after == "sgd":
        assert found[name]["momentum_buffer"] == pytest.approx(torch.full((4, 4), mean[before] / 0.2), rel=1e-4)
    if before == "sgd" and after == "lion":
        assert found[name]["exp_avg"] == pytest.approx(torch.full((4, 4), 0.2 * (1 - 0.8**6) / 0.2), rel=1e-4)
    if before == "adamw" and after == "nadam":
        _, real = named("nadam", model(), 6)
        for key, value in real[name].items():
            assert torch.allclose(torch.as_tensor(found[name][key]), torch.as_tensor(value), rtol=1e-5), key


def with_others(
    before: dict[str, Any], after: dict[str, Any], steps: int = 6, gradient: float | None = None
) -> tuple[Any, torch.nn.Module, dict[str, Any]]:
    """An optimiser that goes on with other settings behind some steps, its model, and what was handed on. Gradients are
    drawn, or all the same."""
    whole = model()
    weights = Weights([whole], ALONE, set(), set())  # type: ignore[list-item]
    old, new = settings(**before), settings(**after)
    one = make_optimizer(whole, old)
    for _ in range(steps):
        step(one, whole, gradient)
    state = carried(moments_of(one, weights), old, new, {"blocks.0.weight"})
    other = make_optimizer(whole, new)
    set_moments(other, weights, state)
    return other, whole, state


def step(optimizer: Any, whole: torch.nn.Module, gradient: float | None = None) -> None:
    """One, of the given gradient or of a quadratic's."""
    for weight in whole.parameters():
        weight.grad = weight.detach() - 0.3 if gradient is None else torch.full_like(weight, gradient)
    optimizer.step()


@pytest.mark.parametrize(
    ("kind", "before", "after", "kept"),
    [
        ("rmsprop", {}, {"centered": True}, 7),
        ("rmsprop", {"centered": True}, {"momentum": 0.9}, 7),
        ("rmsprop", {"momentum": 0.9}, {"alpha": 0.9}, 7),
        ("rmsprop", {"momentum": 0.9, "centered": True}, {"momentum": 0.5, "centered": True}, 7),
        ("sgd", {"momentum": 0}, {"momentum": 0.9}, None),
        ("sgd", {"momentum": 0.9}, {"momentum": 0}, None),
        ("adamw", {}, {"beta1": 0.5, "epsilon": 1e-6}, 7),
        ("nadam", {}, {"momentum_decay": 0.1}, 7),
        ("adagrad", {}, {"epsilon": 1e-6}, 7),
        ("adafactor", {}, {"update_clip": 2.0, "beta2_decay": -0.5}, 7),
        ("shampoo", {"graft": "none"}, {"graft": "adam"}, 1),
        ("shampoo", {"graft": "adam"}, {"graft": "none"}, 7),
        ("shampoo", {}, {"beta2": None}, 1),
        ("shampoo", {}, {"max_dimension": 2}, 1),
        ("shampoo", {}, {"interval": 3, "beta1": 0.5, "epsilon": 1e-8}, 7),
        ("soap", {"max_dimension": 2}, {"max_dimension": 9}, 1),
        ("soap", {"max_dimension": 9}, {"max_dimension": 2}, 1),
        ("soap", {}, {"interval": 2, "beta2": 0.9}, 7),
        ("lion", {}, {"beta2": 0.9}, 7),
        ("muon", {}, {"nesterov": False, "momentum": 0.5, "beta2": 0.9}, 7),
        ("sophia_g", {}, {"gamma": 0.1, "interval": 2}, None),
    ],
)
def test_other_settings_of_the_same_kind(
    kind: str, before: dict[str, Any], after: dict[str, Any], kept: int | None
) -> None:
    """Else the first step behind a change would end the run, or go on with what means something else by now."""
    other, whole, _ = with_others({"kind": kind} | before, {"kind": kind} | after)
    where = [weight.detach().clone() for weight in whole.parameters()]
    for number in range(3):
        step(other, whole)
        assert all(weight.isfinite().all() for weight in whole.parameters())
        if number == 0 and kept is not None:
            held = moments_of(other, Weights([whole], ALONE, set(), set()))["blocks.0.bias"]  # type: ignore[list-item]
            assert held.get("step", held.get(COUNT)) == kept
    assert all(not weight.equal(old) for weight, old in zip(whole.parameters(), where, strict=True))
    fresh = model()
    usual = make_optimizer(fresh, settings(kind, **after))
    step(usual, fresh)
    for old, new in zip(usual.state.values(), other.state.values(), strict=True):  # type: ignore[attr-defined]
        assert old.keys() == new.keys()  # nothing is missing, nothing out of date


def test_a_variance_begins_as_the_mean_square() -> None:
    """Else RMSProp's first steps behind `centered: true` would be by a variance that is too small, so far too long."""
    other, whole, _ = with_others({"kind": "rmsprop"}, {"kind": "rmsprop", "centered": True}, gradient=1.0)
    before = whole.blocks[0].weight.detach().clone()  # type: ignore[index, union-attr]
    step(other, whole, 1.0)
    square, mean = 1 - 0.99**7, 0.01
    moved = before - whole.blocks[0].weight.detach()  # type: ignore[index, union-attr]
    assert moved == pytest.approx(torch.full((4, 4), 1e-3 / (square - mean**2) ** 0.5), rel=1e-4)


def test_a_mean_gradient_of_long_ago_is_forgotten() -> None:
    """Else the variance beside a newer mean square would be below 0, and all weights no numbers."""
    plain, centered = ({"kind": "rmsprop", "alpha": 0.9, "centered": yes} for yes in (False, True))
    _, _, long_ago = with_others(centered, plain, 30, gradient=1.0)
    whole = model()
    weights = Weights([whole], ALONE, set(), set())  # type: ignore[list-item]
    one, other = (make_optimizer(whole, settings(**values)) for values in (plain, centered))
    set_moments(one, weights, long_ago)
    for _ in range(40):
        step(one, whole, 0.01)
    set_moments(other, weights, carried(moments_of(one, weights), settings(**plain), settings(**centered), []))
    step(other, whole, 0.01)
    assert all(weight.isfinite().all() for weight in whole.parameters())


@pytest.mark.parametrize(("before", "after"), [(2, 5), (5, 2)])
def test_another_history_of_lbfgs(before: int, after: int) -> None:
    """Else L-BFGS would end the run some steps later, or remember more and more."""
    torch.manual_seed(0)
    curvature = torch.linspace(0.1, 3, 20)
    whole = torch.nn.Linear(4, 4)
    weights = Weights([whole], ALONE, set(), set())  # type: ignore[list-item]

    def closure(backward: bool = True) -> torch.Tensor:
        x = torch.cat([weight.flatten() for weight in whole.parameters()])
        loss = (curvature * (x - 0.3) ** 2).sum() + ((x - 0.3) ** 4).sum()
        if backward:
            whole.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    old, new = (settings("lbfgs", iterations=1, history=number, learning_rate=1) for number in (before, after))
    one, other = make_optimizer(whole, old), make_optimizer(whole, new)
    for _ in range(7):
        one.step(closure)
    held = moments_of(one, weights)
    assert len(held["weight"]["old_dirs"]) == before
    set_moments(other, weights, carried(held, old, new, []))
    loss = closure().item()
    for _ in range(4):
        other.step(closure)
        made = moments_of(other, weights)["weight"]
        assert len(made["old_dirs"]) == len(made["old_stps"]) == len(made["ro"]) <= after
    assert len(made["old_dirs"]) == after
    assert made["old_stps"][0].equal(held["weight"]["old_stps"][-1]) == (after == 5)
    assert closure().item() < loss
    assert carried(held, old, settings("lbfgs", undecayed=[]), []) == {}  # its vectors have another order


CHANGES = [
    {"step": 6, "set": {"optimizer": {"kind": "lion", "learning_rate": 1e-3}, "model.activation": "relu2"}},
    {"step": 11, "set": {"global_batch": 8, "precision": "bf16", "optimizer.learning_rate": 5e-4,
                         "objective": {"kind": "mix", "parts": [{"weight": 1, "objective": {"kind": "prefix"}},
                                                                {"weight": 1, "objective": {"kind": "causal"}}]}}},
]  # fmt: skip
FLAT = "schedule={kind: constant, warmup: 2}"
MODEL = {"layers": 2, "width": 16, "heads": 2, "activation": "gelu"}


@pytest.fixture
def path(config_file: ConfigFile, tmp_path: Path) -> Path:
    checkpoints = {"folder": str(tmp_path / "run"), "every": 4, "keep": 9}
    return config_file("changing", model=MODEL, changes=CHANGES, steps=15, checkpoint=checkpoints)


def test_another_schedule_in_mid_run(config_file: ConfigFile, tmp_path: Path) -> None:
    """Else a rate that turns out too high could be lowered only by hand, at a stop."""
    changes = [{"step": 6, "set": {"schedule": {"kind": "linear", "warmup": 0}, "micro_batch": 1}}]
    checkpoints = {"folder": str(tmp_path / "run"), "every": 4}
    path = config_file("swapped", changes=changes, steps=10, checkpoint=checkpoints)
    assert train(path, [FLAT], say=quiet) == 0
    rows = [row for row in read(tmp_path / "run" / "metrics.jsonl") if row["kind"] == "step"]
    before, after = load_config(path, [FLAT]).at(5), load_config(path, [FLAT]).at(6)
    assert (before.schedule.kind, after.schedule.kind, before.micro, after.micro) == ("constant", "linear", 2, 1)
    rates = [before.rate(step) for step in range(1, 6)] + [after.rate(step) for step in range(6, 11)]
    assert [row["learning_rate"] for row in rows] == pytest.approx(rates)
    assert rates[4] > rates[5] > rates[9]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"kind": "rmsprop"}, {"kind": "rmsprop", "centered": True, "momentum": 0.9}),
        ({"kind": "shampoo", "graft": "none"}, {"kind": "shampoo"}),
        ({"kind": "lbfgs", "history": 3}, {"kind": "lbfgs", "history": 9}),
    ],
    ids=lambda values: values["kind"],
)
def test_other_settings_of_an_optimiser_in_mid_run(
    config_file: ConfigFile, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """Else a week's run would end at the step of the change."""
    path = config_file(optimizer=before, changes=[{"step": 4, "set": {"optimizer": after}}], steps=8)
    assert train(path, say=quiet) == 0
    found = [row for row in read(load_config(path).log_file) if row["kind"] == "step"]
    assert [row["step"] for row in found] == list(range(1, 9))
    assert found[-1]["loss"] < found[0]["loss"]


def test_a_run_that_changes_is_one_that_was_stopped_and_edited(path: Path, tmp_path: Path) -> None:
    """Else the same settings would give another model, by the way they came about."""
    said: list[str] = []
    assert train(path, say=said.append) == 0
    rows = [row for row in read(tmp_path / "run" / "metrics.jsonl") if row["kind"] == "step"]
    assert [row["step"] for row in rows] == list(range(1, 16))
    assert [row["global_batch"] for row in rows] == [4] * 10 + [8] * 5
    told = [line for line in said if re.match("from step", line)]
    assert "optimizer.kind adamw -> lion" in told[0]
    assert "model.activation gelu -> relu2" in told[0]
    assert not [line for line in said if "not equal to the bit" in line]
    meta = read_meta(saved(tmp_path / "run")[0])
    noted = [event for event in meta.history.events if event.what == "changed"]
    assert [(event.step, event.set) for event in noted] == [(c["step"], c["set"]) for c in CHANGES]
    assert meta.config.optimizer.kind == "lion"

    # another activation cannot come about by hand, where it would be a slip
    plain = [
        change | {"set": {k: v for k, v in change["set"].items() if k != "model.activation"}} for change in CHANGES
    ]
    values = yaml.safe_load(path.read_text()) | {"changes": []}
    by_hand = tmp_path / "by-hand.yaml"
    for last, change in ((5, {}), (10, plain[0]["set"]), (15, plain[1]["set"])):
        for key, value in copy.deepcopy(change).items():
            outer, _, inner = key.partition(".")
            if inner:
                values[outer][inner] = value
            else:
                values[outer] = value
        values["checkpoint"]["folder"] = str(tmp_path / "by-hand")
        by_hand.write_text(yaml.safe_dump(values))
        assert train(by_hand, [f"steps={last}", FLAT], say=quiet) == 0  # as if somebody stopped it there
    straight = tmp_path / "straight"
    by_plan = tmp_path / "by-plan.yaml"
    by_plan.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"changes": plain}))
    assert train(by_plan, [f"checkpoint.folder={straight}", FLAT], say=quiet) == 0
    ours, theirs = (load_state(folder / "step-00000015") for folder in (straight, tmp_path / "by-hand"))
    assert_equal_states(ours, theirs)


def test_killed_around_a_change(path: Path, tmp_path: Path) -> None:
    """Else a kill would decide with which settings the next steps are made."""
    assert train(path, say=quiet) == 0
    for step in (5, 8, 10, 12):
        cut = tmp_path / f"cut-{step}"
        shutil.copytree(tmp_path / "run", cut)
        for later in saved(cut):
            if int(later.name.partition("-")[2]) > step:
                shutil.rmtree(later)
        (cut / "latest").write_text(f"step-{step:08d}\n")
        said: list[str] = []
        assert train(path, [f"checkpoint.folder={cut}"], say=said.append) == 0
        assert not [line for line in said if "not equal" in line]
        assert_equal_states(load_state(cut / "step-00000015"), load_state(tmp_path / "run" / "step-00000015"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("[{step: 5, set: {model.width: 32}}]", r"changes.0.set.model.width cannot change in mid-run"),
        ("[{step: 5, set: {optimiser: adamw}}]", r"changes.0.set.optimiser cannot .* 'optimizer'"),
        ("[{step: 5, set: {optimizer: {kind: lionn}}}]", r"changes.0.set.*lionn"),
        ("[{step: 5, set: {global_batch: 5}}]", r"changes.0.set.*does not divide into micro-batches"),
        ("[{step: 5, set: {}}, {step: 5, set: {}}]", r"changes: the steps 5, 5 do not rise"),
        ("[{step: 1, set: {}}]", "changes.0.step"),
        ("[{step: 5000, set: {}}]", r"changes.0.step 5000 lies behind the last step of the run"),
    ],
)
def test_changes_that_cannot_be_are_refused_at_the_beginning(
    config_file: ConfigFile, changes: str, message: str
) -> None:
    """Else a run would end at the step of a typing error, after a week."""
    with pytest.raises(RecipeError, match=message):
        load_config(config_file(), [f"changes={changes}"])


def test_another_shape_is_refused_before_the_first_step(config_file: ConfigFile) -> None:
    """Else a gated activation would be asked to take the weights of one without."""
    path = config_file(model=MODEL, changes=[{"step": 5, "set": {"model.activation": "swiglu"}}])
    with pytest.raises(RecipeError, match=r"changes.0.set.model.activation swiglu .* a model of another shape"):
        load_config(path)


def test_changes_of_a_run_whose_length_is_in_tokens_are_checked_too(config_file: ConfigFile) -> None:
    """Else the same error would come in mid-run, as a traceback."""
    change = {"step": 3, "set": {"schedule": {"kind": "linear", "warmup": 5000}}}
    with pytest.raises(RecipeError, match=r"changes.0.set.*warmup"):
        train(config_file(steps=None, tokens=4 * 32 * 6, changes=[change]), say=quiet)
    with pytest.raises(RecipeError, match=r"changes.0.step 7 lies behind the last step of the run, 6"):
        train(config_file(steps=None, tokens=4 * 32 * 6, changes=[{"step": 7, "set": {}}]), say=quiet)
