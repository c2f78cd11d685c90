"""Who a text speaks of, and how. Read `stage` first, then `terms` (lists and where they match), `kernels`, `swap`."""

from stages.bias.stage import Bias

__all__ = ["Bias"]
