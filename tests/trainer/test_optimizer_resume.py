"""Runs of optimisers that remember more than moments, or draw: gone on with, they end as if never stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.checkpoint import load_state
from trainer.config import load_config
from trainer.metrics import read
from trainer.optim import COUNT
from trainer.run import train

SEVERAL = ("sophia_g", "sophia_h", "lbfgs", "newton_cg")
"""Those that evaluate a batch more than once."""

KINDS: list[dict[str, Any]] = [
    {"kind": "lion", "learning_rate": 1e-3},
    {"kind": "soap", "learning_rate": 1e-2, "interval": 3},
    {"kind": "shampoo", "learning_rate": 1e-2, "interval": 3},
    {"kind": "sophia_g", "learning_rate": 1e-2, "interval": 3, "curvature_sequences": 3},
    {"kind": "sophia_h", "learning_rate": 1e-2, "interval": 3},
    {"kind": "lbfgs", "iterations": 2},
    {"kind": "newton_cg", "iterations": 4, "curvature_sequences": 2},
]

BUSY = {
    "layers": 2,
    "width": 16,
    "heads": 2,
    "recompute": "full",
    "dropout": {"residual": 0.1},
    "experts": {"number": 3, "top_k": 1, "balance": {"kind": "bias"}},
}
"""A model that draws, counts and makes activations anew."""

CASES = [(values, {}) for values in KINDS] + [
    (values, {"model": BUSY}) for values in KINDS if values["kind"] in SEVERAL
]
CASES += [
    ({"kind": "newton_cg", "iterations": 3}, {"precision": "bf16"}),
    ({"kind": "muon", "learning_rate": 1e-2}, {"precision": "bf16-stochastic"}),
]


def quiet(line: str) -> None:
    pass


def tensors(value: Any, name: str = "") -> dict[str, Any]:
    """All that is in a checkpoint, under the path to it."""
    if isinstance(value, dict):
        inside: Any = value.items()
    elif isinstance(value, list | tuple):
        inside = enumerate(value)
    else:
        return {name: value}
    return {key: leaf for part, below in inside for key, leaf in tensors(below, f"{name}.{part}").items()}


def equal(one: Any, other: Any) -> bool:
    return one.equal(other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize(("values", "more"), CASES, ids=["-".join([values["kind"], *more]) for values, more in CASES])
def test_every_optimiser_resumes_to_the_bit(
    config_file: Callable[..., Path], tmp_path: Path, values: dict[str, Any], more: dict[str, Any]
) -> None:
    """Else what one of them remembers, or draws, would be another with every stop."""
    path = config_file("run", optimizer=values, steps=10, schedule={"kind": "constant", "warmup": 1}, **more)
    folder = load_config(path).checkpoint.folder
    assert train(path, ["checkpoint.keep=9"], quiet) == 0
    straight = shutil.copytree(folder, tmp_path / "straight")
    shutil.rmtree(folder / "step-00000010")
    assert train(path, ["checkpoint.keep=9"], quiet) == 0
    assert len(read(folder / "metrics.jsonl")) == len(read(straight / "metrics.jsonl"))
    ours, theirs = (tensors(load_state(place / "step-00000010")) for place in (folder, straight))
    assert ours.keys() == theirs.keys()
    assert [name for name, value in ours.items() if not equal(value, theirs[name])] == []
    rows = [row["loss"] for row in read(folder / "metrics.jsonl") if row["kind"] == "step"]
    assert rows == [row["loss"] for row in read(straight / "metrics.jsonl") if row["kind"] == "step"]
    assert len(rows) == 10
    assert rows[-1] < rows[0]


def test_moments_have_names_whatever_the_precision(config_file: Callable[..., Path]) -> None:
    """Else a run of Muon could not change its precision, nor its optimiser, in mid-run."""
    kinds = ["bf16-stochastic", "fp32", "bf16-stochastic"]
    path = config_file("run", optimizer={"kind": "muon"}, schedule={"kind": "constant"})
    folder = load_config(path).checkpoint.folder
    for number, precision in enumerate(kinds, 1):
        assert train(path, [f"steps={2 * number}", f"precision={precision}"], quiet) == 0
        state = load_state(folder / f"step-{2 * number:08d}")
        assert set(state["optimizer"]) == {name for name in state["model"] if "weight" in name}
        assert state["optimizer"]["blocks.0.attention.query.weight"].keys() == {"momentum_buffer"}
        assert state["optimizer"]["norm.weight"]["step"] == 2 * number
    mean = state["optimizer"]["blocks.0.attention.query.weight"]["momentum_buffer"]
    assert train(path, ["steps=7", "precision=bf16-stochastic", "optimizer={kind: lion, beta2: 0}"], quiet) == 0
    after = load_state(folder / "step-00000007")["optimizer"]["blocks.0.attention.query.weight"]
    assert after.keys() == {"exp_avg", COUNT}
    assert after["exp_avg"].shape == mean.shape


def test_settings_at_a_resume_are_those_of_the_configuration(config_file: Callable[..., Path]) -> None:
    """Else another interval or rate would be passed over in silence."""
    path = config_file("run", optimizer={"kind": "soap", "interval": 3}, steps=4)
    assert train(path, say=quiet) == 0
    said: list[str] = []
    assert train(path, ["steps=6", "optimizer.interval=2"], said.append) == 0
    assert any("optimizer.interval 3 -> 2" in line for line in said)
    folder = load_config(path).checkpoint.folder
    state = load_state(folder / "step-00000006")["optimizer"]
    assert {row["precondition_frequency"] for row in state.values()} == {2}
    assert {row[COUNT] for row in state.values()} == {6}
