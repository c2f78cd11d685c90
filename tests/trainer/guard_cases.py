"""What the processes of the tests of the guard do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.batch import Batch
from trainer.learning import Learner
from trainer.run import train


def trained(path: Path, settings: list[str]) -> int:
    """As `corpusmill train`."""
    return train(path, settings, lambda line: None)


def moved_in_the_second(path: Path, settings: list[str], samples: int) -> int:
    """The same; behind so many samples of its weights those of the second process are others."""
    sample, taken = Learner._sample, 0

    def sampled(learner: Learner) -> Tensor:
        nonlocal taken
        taken += 1
        return sample(learner) + float(taken > samples)

    if os.environ["RANK"] == "1":
        Learner._sample = sampled  # type: ignore[method-assign]
    return trained(path, settings)


def spoilt(path: Path, settings: list[str], from_step: int) -> int:
    """The same; behind a step the weights are spoilt, once, in every process."""
    Learner.learn = faulty(from_step, times=1)  # type: ignore[method-assign]
    return trained(path, settings)


def faulty(from_step: int, times: int, factor: float = -2.0) -> Callable[..., Any]:
    """Learns as ever, but the weights are spoilt behind so many steps."""
    learn, done = Learner.learn, []

    def learns(self: Learner, batch: Batch, rate: float, step: int, *others: Any, **more: Any) -> Any:
        learned = learn(self, batch, rate, step, *others, **more)
        if step >= from_step and len(done) < times:
            done.append(step)
            with torch.no_grad():
                for weight in self.weights:
                    weight.mul_(factor)
        return learned

    return learns
