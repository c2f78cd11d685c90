"""Both packings of a split side by side: what each pads, cuts and drops."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np

from pipeline.shards import Corpus
from trainer.packing import Packing, Plan, Remainder, Window, windows_of


@dataclass(frozen=True)
class Figures:
    """What a packing makes of a split."""

    packing: Packing
    documents: int
    tokens: int
    """Of the split."""
    sequences: int
    padding: float
    """Share of all places that hold no token."""
    cuts: int
    """How often documents are cut."""
    documents_cut: int
    """How many documents are cut."""
    fitting_cut: int
    """How many of them would fit a sequence."""
    dropped: int
    """Tokens that are in no sequence."""

    def line(self) -> str:
        """All of it, in words."""
        text = (
            f"{self.packing}: {self.sequences:,} sequences, {self.padding:.2%} padding, {self.cuts:,} cuts in "
            f"{self.documents_cut:,} of {self.documents:,} documents ({self.fitting_cut:,} of which would fit)"
        )
        return f"{text}, {self.dropped:,} tokens dropped" if self.dropped else text


def figures(corpus: Corpus, packing: Packing, sequence_length: int, windows: Iterable[Window]) -> Figures:
    """The figures of a plan, of which one window at a time need be in memory."""
    documents = tokens = sequences = placed = cuts = documents_cut = fitting_cut = 0
    for window in windows:
        pieces, lengths = window.pieces, corpus.lengths(window.shard)
        cut = np.unique(pieces.document[pieces.goes_on])
        documents += len(lengths)
        tokens += window.shard.tokens
        sequences += pieces.sequences
        placed += window.tokens
        cuts += int(pieces.goes_on.sum())
        documents_cut += len(cut)
        fitting_cut += int((lengths[cut] <= sequence_length).sum())
    padding = 1 - placed / (sequences * sequence_length) if sequences else 0.0
    return Figures(
        packing, documents, tokens, sequences, padding, cuts, documents_cut, fitting_cut, dropped=tokens - placed
    )


def side_by_side(
    corpus: Corpus, split: str, sequence_length: int, remainder: Remainder | None = None, known: Plan | None = None
) -> Iterator[Figures]:
    """The figures of every packing, that of the plan that is `known` first. Raises what `plan` does."""
    first = [known.packing] if known else []
    for packing in [*first, *(one for one in get_args(Packing) if one not in first)]:
        given = known.windows if known and known.packing == packing else None
        made = given or windows_of(corpus, split, sequence_length, packing, remainder)
        yield figures(corpus, packing, sequence_length, made)
