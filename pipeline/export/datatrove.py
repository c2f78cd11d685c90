"""datatrove's token files, for its folder dataset and for Nanotron: `.ds`, `.ds.index`, `.ds.metadata`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.corpora.new import put
from pipeline.export.exporting import Part
from pipeline.shards import Corpus


def write(corpus: Corpus, part: Part, folder: Path) -> None:
    """Writes each shard of a part: its tokens (uint16, or uint32 for int32), where its documents end (uint64), and
    two lines that name tokenizer, token size and count."""
    for shard in part.shards:
        file = folder / f"{shard.name}.ds"
        put(shard.path(".bin"), file)
        ends = np.cumsum(corpus.lengths(shard), dtype="<u8")
        file.with_name(f"{file.name}.index").write_bytes(ends.tobytes())
        named = f"{corpus.meta['name']}-{corpus.meta['tokenizer']['digest'][:12]}|{corpus.dtype.itemsize}"
        file.with_name(f"{file.name}.metadata").write_text(f"{named}\n{shard.tokens}\n{shard.tokens / 1e6:.3g} MT")
