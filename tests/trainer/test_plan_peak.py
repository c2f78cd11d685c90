"""The most that a training step takes of memory, on paper and as PyTorch's allocator counts it, by configuration."""

from __future__ import annotations

from typing import Any

import pytest
from measured_memory import measured

from trainer.config import TrainConfig
from trainer.plan.job import Job, Layout
from trainer.plan.memory import memory, over_a_step, stages
from trainer.plan.reading import job_of

ONE_SHORT = {"sequence_length": 16, "global_batch": 2, "micro_batch": 2}
"""Few places, so that weights are more than activations."""

CASES: dict[str, dict[str, Any]] = {
    "dense": {},
    "documents joined, accumulated": {"data": {"documents": "joined"}, "micro_batch": 2},
    "large vocabulary": {"vocabulary": 4096},
    "large vocabulary in chunks": {"vocabulary": 4096, "loss": {"chunk": 64}},
    "selective": {"model": {"recompute": "selective"}},
    "full, mean of weights": {"model": {"recompute": "full", "layers": 6}, "average": {"decay": 0.99}},
    "gpt-2's block, dropout": {
        "model": {
            "norm": "layer", "bias": True, "activation": "gelu", "kv_heads": 4, "tied": False,
            "positions": {"kind": "learned", "limit": 128}, "dropout": {"hidden": 0.1, "residual": 0.1},
        },
    },
    "bf16": {"precision": "bf16"},
    "bf16 full, sgd": {"precision": "bf16", "model": {"recompute": "full"}, "optimizer": {"kind": "sgd"}},
    "bf16-stochastic selective": {"precision": "bf16-stochastic", "model": {"recompute": "selective"}},
    "weights, bf16-stochastic": ONE_SHORT | {"precision": "bf16-stochastic"},
    "bf16-stochastic, accumulated": {"precision": "bf16-stochastic", "micro_batch": 1},
    "experts": {"model": {"experts": {"number": 4, "top_k": 2, "shared": 1}}, "optimizer": {"kind": "adafactor"}},
    "experts, bf16, full": {
        "precision": "bf16", "model": {"experts": {"number": 4, "top_k": 2}, "recompute": "full"},
    },
    "encoder-decoder": {"model": {"arrangement": "encoder-decoder"}, "objective": {"kind": "span"}},
    "weights, adamw": ONE_SHORT,
    "weights, sgd": ONE_SHORT | {"optimizer": {"kind": "sgd", "momentum": 0.9, "nesterov": True}},
    "weights, adafactor": ONE_SHORT | {"optimizer": {"kind": "adafactor"}},
    "weights, lion": ONE_SHORT | {"optimizer": {"kind": "lion"}},
    "weights, muon": ONE_SHORT | {"optimizer": {"kind": "muon"}},
    "weights, soap": ONE_SHORT | {"optimizer": {"kind": "soap"}},
    "shampoo": {"optimizer": {"kind": "shampoo"}},
    "l-bfgs": {"optimizer": {"kind": "lbfgs", "history": 2}},
    "newton-cg": {"optimizer": {"kind": "newton_cg", "iterations": 2}},
    "sophia-h full": {"optimizer": {"kind": "sophia_h", "interval": 1}, "model": {"recompute": "full"}},
    "sophia-g accumulated": {"optimizer": {"kind": "sophia_g", "interval": 1}, "micro_batch": 2},
}  # fmt: skip
"""Changes of the configuration; more than the twelve that are asked for."""


def config_of(vocabulary: int = 256, **changes: Any) -> TrainConfig:
    model = {"layers": 3, "width": 128, "heads": 4, "kv_heads": 2, "vocabulary": vocabulary} | changes.pop("model", {})
    values: dict[str, Any] = {
        "data": {"corpus": "x"} | changes.pop("data", {}), "model": model, "sequence_length": 128, "global_batch": 4,
        "micro_batch": 4, "steps": 10, "device": "cpu", "checkpoint": {"folder": "x"},
    }  # fmt: skip
    return TrainConfig.model_validate(values | changes)


def loss_of(job: Job) -> float:
    """Activations and copies of weights at the end of forward."""
    layout = Layout()
    found = next(one for one in over_a_step(job, stages(job, layout)[0], layout, cpu=True) if one.when == "loss")
    return found.activations + found.copies


@pytest.mark.parametrize("name", CASES)
def test_the_peak_is_what_pytorch_takes(name: str) -> None:
    """Else a run that was planned to fit would end with its memory, or devices be rented that nobody needs."""
    changes = dict(CASES[name])
    config = config_of(**changes)
    job, found = job_of(config), measured(config, changes.get("vocabulary", 256))
    planned = memory(job, Layout(), cpu=True)
    off = {
        "weights": planned.weights / found.weights - 1,
        "moments": (planned.moments - found.moments) / found.peak,
        "peak": planned.total / found.peak - 1,
    }
    if config.loss.chunk is None and config.micro == config.global_batch:
        # In forward the loss leaves its log-probabilities, which the plan counts with the logits.
        places = config.sequence_length * config.micro
        off["activations"] = (loss_of(job) + 4 * places * job.shape.vocabulary - found.forward) / found.peak
    said = f"{found.phase}, planned {planned.when}; {planned.total / 1e6:.2f} of {found.peak / 1e6:.2f} MB"
    assert abs(off["weights"]) < 0.01, (off, said)
    assert abs(off["moments"]) < 0.01, (off, said)
    assert abs(off["peak"]) < 0.1, (off, said)
    assert abs(off.get("activations", 0.0)) < 0.1, (off, said)


def test_the_moment_is_the_one_that_was_measured() -> None:
    """Else parts would be listed that are not there at the same time, and a user would save where nothing is won."""
    long, short = memory(job_of(config_of()), Layout(), True), memory(job_of(config_of(**ONE_SHORT)), Layout(), True)
    assert (long.when, short.when) == ("loss", "optimiser")
    lion = memory(job_of(config_of(**CASES["weights, lion"])), Layout(), True)
    assert (lion.when, lion.activations, lion.copies) == ("optimiser", 0, 0)
    assert measured(config_of(**CASES["weights, lion"]), 256).phase == "step"
    assert (long.gradients, lion.gradients) == (0, lion.weights)


def test_gradients_stay_where_micro_batches_add_to_them() -> None:
    """Else accumulation would seem to need as little as one micro-batch."""
    once, twice = (memory(job_of(config_of(global_batch=batch)), Layout(), True) for batch in (4, 8))
    assert twice.gradients == twice.weights > once.gradients
    assert twice.total == once.total + twice.weights
    halves = config_of(micro_batch=2, precision="bf16-stochastic")  # they add up in fp32
    planned, found = memory(job_of(halves), Layout(), True), measured(halves, 256)
    assert planned.gradients == 2 * planned.weights
    assert found.gradients == pytest.approx(planned.gradients, rel=0.01)
    copies = Layout(dp_replicate=2)  # DDP's buckets hold them from the beginning
    assert memory(job_of(config_of(global_batch=8)), copies, True).gradients == twice.weights
