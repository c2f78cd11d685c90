"""Whom later stages drop: documents of each group that a stage told apart (`stages.base.Outcome.groups`), by stage.

A filter that takes more documents of one group than of another has a bias that nobody asked for. The counts are sums
over batches, so they are the same on any number of workers; they lie in the funnel of the manifest rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from stages.base import Outcome


class Tally:
    """Of one stage's groups: how many documents reached another stage, and how many it dropped."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.figures = np.zeros((2, len(self.names)), np.int64)

    def facts(self) -> dict[str, list[int]]:
        """[reached, dropped] by group, in the stage's order; groups that nobody is in are left out."""
        rows = zip(self.names, self.figures.T.tolist(), strict=True)
        return {name: figures for name, figures in rows if figures[0]}


class Grouped:
    """The groups of the documents of one batch, from stage to stage."""

    def __init__(self) -> None:
        self._names: dict[str, tuple[str, ...]] = {}
        self._members: dict[str, npt.NDArray[np.bool_]] = {}

    def add(self, label: str, outcome: Outcome, kept: npt.NDArray[np.bool_], tallies: dict[str, Tally]) -> None:
        """Counts what a stage did to the groups so far, and its own, into its tallies, by label of the groups' stage;
        `kept`: which rows are left behind it."""
        if outcome.groups:
            self._names[label] = tuple(outcome.groups)
            self._members[label] = np.stack(list(outcome.groups.values()), axis=1)
        whole = bool(kept.all())
        for name, members in self._members.items():
            tally = tallies.setdefault(name, Tally(self._names[name]))
            tally.figures[0] += members.sum(0)
            if not whole:
                tally.figures[1] += members[~kept].sum(0)
                self._members[name] = members[kept]
