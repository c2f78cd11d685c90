"""The gradient noise scale: the batch above which more data a step brings little.

McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", appendix A.1: from the squared norms of the
gradient over B_small and over B_big sequences follow unbiased estimates of the true gradient's squared norm |G|² and
of the trace of the covariance of one sequence's gradient, tr(Σ). Each is averaged over steps; the noise scale is their
ratio, in sequences. The small batch here is the first micro-batch of a step, the big one the whole step's.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

ENOUGH = 0.5
"""Least weight of the measurements in both means: at a decay of 0.99 that of 69. The ratio of a few is hardly more than
chance, and a batch that grew by it would not shrink again."""


class NoiseScale(BaseModel):
    """Running means of both estimates. A checkpoint keeps them, since they may drive the batch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    signal: float = 0.0
    """Of |G|²."""
    noise: float = 0.0
    """Of tr(Σ)."""
    weight: float = 0.0
    """Of all measurements so far in the means, which divides it out (Kingma and Ba 2015, section 3)."""

    def with_step(self, small: float, small_batch: float, big: float, big_batch: float, decay: float) -> NoiseScale:
        """These means with another step: squared gradient norms over `small_batch` and `big_batch` sequences."""
        signal = (big_batch * big - small_batch * small) / (big_batch - small_batch)
        noise = (small - big) / (1 / small_batch - 1 / big_batch)
        return NoiseScale(
            signal=decay * self.signal + (1 - decay) * signal,
            noise=decay * self.noise + (1 - decay) * noise,
            weight=decay * self.weight + (1 - decay),
        )

    @property
    def sequences(self) -> float | None:
        """The noise scale; None where there are too few measurements, or too few for both means to be above 0."""
        told = self.weight >= ENOUGH and self.signal > 0 and self.noise > 0
        return self.noise / self.signal if told else None
