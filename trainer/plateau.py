"""What the validation loss decides in mid-run: a lower learning rate, or the end."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from trainer.learning_settings import EarlyStopConfig, PlateauConfig


class Watch:
    """Follows the validation loss. Its state is part of a checkpoint."""

    def __init__(self, plateau: PlateauConfig | None, early: EarlyStopConfig | None) -> None:
        self._early, self._best, self._without = early, float("inf"), 0
        # PyTorch's own, on a rate of 1: what it makes of that is the share of the schedule's rate
        self._rate = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        self._falls = plateau and ReduceLROnPlateau(
            self._rate,
            factor=plateau.factor,
            patience=plateau.patience,
            threshold=plateau.threshold,
            threshold_mode="abs",
            cooldown=plateau.cooldown,
            min_lr=plateau.floor,
        )

    def see(self, validation_loss: float) -> None:
        """Takes an evaluation into account."""
        if self._falls:
            self._falls.step(validation_loss)
        better = validation_loss < self._best - (self._early.threshold if self._early else 0.0)
        self._without = 0 if better or self._early is None else self._without + 1
        if better:
            self._best = validation_loss

    @property
    def rate_share(self) -> float:
        """What the learning rate is multiplied by."""
        share: float = self._rate.param_groups[0]["lr"]
        return share

    @property
    def over(self) -> bool:
        """Whether the run is to end."""
        return self._early is not None and self._without >= self._early.patience

    def state_dict(self) -> dict[str, Any]:
        """Numbers alone."""
        falls = self._falls.state_dict() if self._falls else {}
        kept = {key: falls[key] for key in ("best", "num_bad_epochs", "cooldown_counter", "last_epoch") if key in falls}
        return {"best": self._best, "without": self._without, "share": self.rate_share, "falls": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it up again; settings stay the configuration's."""
        self._best, self._without = state["best"], state["without"]
        if self._falls:
            self._falls.load_state_dict({"best": self._best} | state["falls"])
            self._rate.param_groups[0]["lr"] = state["share"]
