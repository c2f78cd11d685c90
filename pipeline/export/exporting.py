"""What an export is made of: the documents of a shard in blocks, and a folder that is there when it is whole.

An export has a folder for each split, `OUT/SPLIT`; in layout `by_source` one for each group and split,
`OUT/GROUP/SPLIT`, since the weights are not in the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpora.new import new_folder
from pipeline.shards import Corpus, Shard, group_labels

_TOKENS = 1 << 22  # of a block, so that memory does not grow with the corpus
_ROWS = 4096


@dataclass(frozen=True)
class Block:
    """Documents that stand one behind the other in a shard."""

    tokens: npt.NDArray[Any]
    """All their tokens."""
    ends: npt.NDArray[np.int64]
    """(documents + 1,): document i is tokens[ends[i]] to tokens[ends[i + 1]]."""
    rows: pa.Table
    """Their rows of `.docs.parquet`, the columns asked for."""


def blocks(corpus: Corpus, shard: Shard, columns: list[str]) -> Iterator[Block]:
    """The documents of a shard in order, with these columns. A block has 4 million tokens at most, or one document."""
    tokens = corpus.tokens(shard)
    with pq.ParquetFile(shard.path(".docs.parquet")) as file:
        for batch in file.iter_batches(_ROWS, columns=[*columns, "token_start", "token_end"]):
            starts, ends = (batch[name].to_numpy() for name in ("token_start", "token_end"))
            first = 0
            while first < len(starts):
                behind = max(first + 1, int(np.searchsorted(ends, starts[first] + _TOKENS, side="right")))
                at = int(starts[first])
                offsets = np.append(starts[first:behind], ends[behind - 1]) - at
                rows = pa.Table.from_batches([batch.slice(first, behind - first)]).select(columns)
                yield Block(tokens[at : int(ends[behind - 1])], offsets, rows)
                first = behind


@dataclass(frozen=True)
class Part:
    """The shards of one split, or of one group of it."""

    split: str
    group: str | None
    shards: tuple[Shard, ...]
    folder: Path
    """Relative to the export."""


def parts(corpus: Corpus, split: str | None) -> list[Part]:
    """The parts of a corpus, or of one of its splits. Raises UserError where it has no such split."""
    found = {name: corpus.shards(name) for name in ([split] if split else corpus.splits)}
    groups = list(dict.fromkeys(shard.group for shards in found.values() for shard in shards))
    labels = group_labels(group for group in groups if group is not None)
    return [
        Part(name, group, own, Path(labels[group], name) if group is not None else Path(name))
        for group in groups
        for name, shards in found.items()
        if (own := tuple(shard for shard in shards if shard.group == group))
    ]


def export(
    corpus: Corpus,
    out: Path,
    split: str | None,
    write: Callable[[Corpus, Part, Path], None],
    card: Callable[[Corpus, list[Part]], str] | None = None,
) -> list[Part]:
    """Calls `write` for each part with its folder; `out` is there once all are written. Returns the parts.

    What `card` returns becomes the export's README.md.

    Raises RecipeError where `out` exists, UserError where the corpus has no such split or the disk refuses.
    """
    made = parts(corpus, split)
    with new_folder(out) as aside:
        for part in made:
            (aside / part.folder).mkdir(parents=True)
            write(corpus, part, aside / part.folder)
        if card:
            (aside / "README.md").write_text(card(corpus, made), "utf-8")
    return made
