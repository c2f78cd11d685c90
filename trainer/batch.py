"""A batch: the arrays that one optimiser step learns from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

IGNORED = -100
"""The target where nothing is to be predicted: padding, holes, the last token of a document; a prefix if so asked."""

NO_DOCUMENT = -1
"""The document number of padding and holes."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Side:
    """What the encoder of an encoder-decoder reads: B sequences of S places, each as in `Batch`."""

    tokens_BS: Ints
    positions_BS: Ints
    documents_BS: Ints


@dataclass(frozen=True)
class Batch:
    """A batch of B sequences of T tokens."""

    tokens_BT: npt.NDArray[np.int64]
    targets_BT: npt.NDArray[np.int64]
    """The token behind each one in its document, also where a piece ends in mid-document; else IGNORED."""
    positions_BT: npt.NDArray[np.int64]
    """Counted from 0 in each piece."""
    documents_BT: npt.NDArray[np.int64]
    """Number of the piece in its sequence, which the attention mask is made of; NO_DOCUMENT in padding and holes."""
    groups_B: Ints
    """Which of the plan's groups each sequence is of."""
    prefix_BT: npt.NDArray[np.bool_] | None = None
    """Places that every place of their document may look at, also those before them (prefix-LM); None: none."""
    encoder: Side | None = None
    """What the encoder reads, where there is one. Places of the decoder look at those of the same document there."""

    def first(self, rows: int, filled: int) -> Batch:
        """The first so many rows, and behind them rows without documents up to `filled`."""

        def those(array: npt.NDArray[Any], nothing: int) -> npt.NDArray[Any]:
            made = np.full((filled, *array.shape[1:]), nothing, array.dtype)
            made[:rows] = array[:rows]
            return made

        side, prefix_BT = self.encoder, self.prefix_BT
        return Batch(
            those(self.tokens_BT, 0),
            those(self.targets_BT, IGNORED),
            those(self.positions_BT, 0),
            those(self.documents_BT, NO_DOCUMENT),
            those(self.groups_B, 0),
            None if prefix_BT is None else those(prefix_BT, 0),
            None
            if side is None
            else Side(those(side.tokens_BS, 0), those(side.positions_BS, 0), those(side.documents_BS, NO_DOCUMENT)),
        )

    @cached_property
    def targets(self) -> int:
        """How many tokens are to be predicted."""
        return int(np.count_nonzero(self.targets_BT != IGNORED))

    @cached_property
    def tokens(self) -> int:
        """How many tokens of documents the model reads, on both sides where there are two."""
        sides = [self.documents_BT] + ([self.encoder.documents_BS] if self.encoder is not None else [])
        return sum(int(np.count_nonzero(side != NO_DOCUMENT)) for side in sides)

    @cached_property
    def documents(self) -> int:
        """How many documents, or pieces of them, it has."""
        return int(self.documents_BT.max(initial=-1)) + 1

    @cached_property
    def by_document(self) -> tuple[Ints, Ints]:
        """(P,) each: how many targets each document has, and of which group it is. Those of a row have numbers that
        follow on each other, above those of the rows before."""
        targets_P = np.bincount(self.documents_BT[self.targets_BT != IGNORED], minlength=self.documents)
        last_B = np.maximum.accumulate(self.documents_BT.max(1, initial=NO_DOCUMENT))
        return targets_P, np.repeat(self.groups_B, np.diff(last_B, prepend=NO_DOCUMENT))

    def counted(self, by_document: bool) -> Batch:
        """Itself, its figures reckoned now: where batches are made ahead, the loop need not wait for them."""
        _ = self.targets, self.tokens, by_document and self.by_document
        return self

    @cached_property
    def whole(self) -> bool:
        """Whether each sequence is one text without padding, so that order alone says what a place may look at."""
        return bool((self.documents_BT == self.documents_BT[:, :1]).all() and (self.documents_BT[:, 0] >= 0).all())
