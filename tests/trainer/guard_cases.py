"""What the processes of the tests of the guard do."""

from __future__ import annotations

import os
from pathlib import Path

from torch import Tensor

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
