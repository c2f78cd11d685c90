"""Which fold a site's pages fall into: one function, so that training and scoring never disagree.

Whole sites, not pages: pages of one site share their template, and a model that has seen it would be scored
on what it remembers.
"""

from __future__ import annotations

from stages.hashing import keyed

FOLDS = 5


def fold(site: str, k: int = FOLDS) -> int:
    """The fold, 0 to k-1, that holds every page of this site (a registered domain, or a page's own id).

    A model that scores fold `f` must have been trained on the other folds alone.
    """
    if k < 1:
        raise ValueError(f"there is at least one fold, not {k}")
    return keyed("split", 0, b"extract/" + site.encode()) % k
