"""A page as an example to learn from: a target and a weight for each block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.train_extractor.labels import shares
from pipeline.train_extractor.pages import Page
from stages.decode import decode
from stages.extract.blocks import Blocks, read
from stages.extract.scan import canonical, scan
from stages.extract.tokens import DIGEST, TOKENS, tokens

Floats = npt.NDArray[np.float32]

SILVER = 0.4
"""The weight of a page whose text no person took out, against one of those."""
TYPE_WEIGHTS = {"product": 2.0, "collection": 1.5, "listing": 1.3, "forum": 1.3}
"""Page types that are rare in the data count for more."""
_PAGE_MOST = 6.0  # a page of many blocks around a short text would outweigh all others
_COPY_TOKENS = 4


@dataclass(frozen=True)
class Example:
    """A page of B blocks."""

    id: str
    site: str
    fold: int
    blocks: Blocks
    target: Floats
    """B shares of the block that belong to the main text."""
    weight: Floats
    """B weights: a block counts as its share of the page's main text."""


def example(page: Page) -> Example | None:
    """What is to be learned from a page; None where nobody said anything about it.

    A page with nothing but snippets takes trafilatura's text for the truth, at a lower weight, wherever the
    snippets do not say otherwise.
    """
    blocks = read(scan(canonical(decode(page.payload, page.content_type).text)))
    text = page.gold or (_silver(page) if page.wanted else None)
    if not text or not len(blocks.counts):
        return None
    gold = tokens(text)
    target = _same_for_copies(blocks, shares(blocks.token, blocks.token_block, len(blocks.counts), gold))
    weight = (blocks.counts[:, TOKENS] + 1) / (len(gold) + 50)
    weight *= min(1.0, _PAGE_MOST / weight.sum()) * TYPE_WEIGHTS.get(page.page_type or "", 1.0)
    if not page.gold:
        weight *= SILVER
        for snippets, wanted in ((page.wanted, True), (page.unwanted, False)):
            for snippet in snippets:
                here = _where(blocks, tokens(snippet), only=not wanted)
                target[here] = wanted
                weight[here] *= 2
    return Example(page.id, page.site, page.fold, blocks, target, weight.astype(np.float32))


def _silver(page: Page) -> str | None:
    import trafilatura

    text: str | None = trafilatura.extract(page.payload, include_comments=False)
    return text


def _same_for_copies(blocks: Blocks, target: Floats) -> Floats:
    """Equal texts get one target: which copy the alignment took is chance."""
    _, group = np.unique(blocks.counts[:, DIGEST], return_inverse=True)
    best = np.zeros(group.max() + 1, np.float32)
    np.maximum.at(best, group, target)
    return np.where(blocks.counts[:, TOKENS] >= _COPY_TOKENS, best[group], target).astype(np.float32)


def _where(blocks: Blocks, snippet: npt.NDArray[np.uint32], *, only: bool) -> npt.NDArray[np.int32]:
    """The blocks that hold the first place of a snippet of two tokens or more; with `only`, none if there are more."""
    size = len(snippet)
    if size < 2 or len(blocks.token) < size:
        return np.empty(0, np.int32)
    starts = np.flatnonzero(blocks.token[: len(blocks.token) - size + 1] == snippet[0])
    starts = np.array([at for at in starts if (blocks.token[at : at + size] == snippet).all()], np.int64)
    if not len(starts) or (only and len(starts) > 1):
        return np.empty(0, np.int32)
    return np.unique(blocks.token_block[starts[0] : starts[0] + size])
