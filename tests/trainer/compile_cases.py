"""What the process of the test of compiled models does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch._dynamo.utils import counters

from trainer.batch import Batch
from trainer.config import load_config
from trainer.learning import Learner
from trainer.model import Model
from trainer.model_settings import ModelConfig


def compiled_beside_plain(path: Path, batch: Batch) -> tuple[Any, ...]:
    """Graphs that were compiled by a plain model and by one with `compile`, breaks in these, losses and norms of three
    steps of each, and the names of their weights."""
    learners = []
    for compiled in ("false", "true"):
        torch.manual_seed(4)
        config = load_config(path, ["global_batch=8", "micro_batch=2", f"compile={compiled}"])
        learners.append(Learner(Model(ModelConfig(layers=1, width=16, heads=2), 64), config, torch.device("cpu")))
    graphs = []
    for learner in learners:
        learner.learn(batch, 0.0, 1)
        graphs.append(counters["stats"]["unique_graphs"])
    steps = []
    for learner in learners:
        learned = [learner.learn(batch, 1e-2, step) for step in range(1, 4)]
        steps.append([(one.loss, one.norm) for one in learned])
    names = [list(learner.model.state_dict()) for learner in learners]
    return *graphs, len(counters["graph_break"]), *steps, names
