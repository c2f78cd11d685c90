"""Which documents are held out of training: whole registered domains, by a keyed hash.

Pages of one site resemble one another, so a site falls on one side as a whole.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ids import AnyIds, matrix, rows
from stages.hashing import keyed, keyed_all, threshold

if TYPE_CHECKING:
    import tldextract

_HOST = r"^\s*(?:[A-Za-z][A-Za-z0-9+.\-]*:)?//(?:[^/?#\\]*@)?(?P<host>\[[^\]/?#\\]*\]|[^/?#:\\]*)"


TRAIN, VALIDATION = "train", "validation"
LARGEST = Fraction(1, 4)
"""Share of what a split should hold above which a domain is left out of it: it would be most of what is measured."""
_MASK = np.uint64(2**64 - 1)


def split_hashes(urls: pa.Array | pa.ChunkedArray, ids: AnyIds, seed: int) -> npt.NDArray[np.uint64]:
    """(documents,) the hash by which a document falls into a split: that of its registered domain, or of itself where
    it has no URL. A URL without a host (`urn:`, `file:///`, a bare name) counts as none.
    """
    hashes = keyed_all("split", seed, rows(matrix(ids)))
    if isinstance(urls, pa.ChunkedArray):
        urls = urls.combine_chunks()
    if len(urls):
        hosts = pc.struct_field(pc.extract_regex(urls.cast(pa.string()), _HOST), "host")
        hosts = hosts.dictionary_encode()
        of_host = [registered_domain(host) for host in hosts.dictionary.to_pylist()]
        of_domain = keyed_all("split", seed, (domain.encode() for domain in of_host))
        known = np.array([domain != "" for domain in of_host] + [False])
        place = hosts.indices.fill_null(len(of_host)).to_numpy(zero_copy_only=False)
        hashes = np.where(known[place], np.append(of_domain, np.uint64(0))[place], hashes)
    return hashes


def domain_of(url: str | None) -> str:
    """The registered domain of a URL; "" where it has none."""
    host = pc.struct_field(pc.extract_regex(pa.array([url], pa.string()), _HOST), "host")[0].as_py()
    return registered_domain(host or "")


@dataclass(frozen=True)
class Split:
    """What a split that is held out draws of the documents."""

    rows: npt.NDArray[np.int64]
    """The documents in it, ascending."""
    left_out: npt.NDArray[np.int64]
    """A document of each domain that is too large for it, and stays where it was, the largest first."""
    left_out_tokens: npt.NDArray[np.int64]
    """The tokens of these domains."""


def held_out(
    hashes: npt.NDArray[np.uint64], tokens: npt.NDArray[np.integer], shares: Mapping[str, float], seed: int
) -> dict[str, Split]:
    """The documents of each split but `train`, whose are all others.

    `hashes` are those of `split_hashes`, `tokens` the documents' lengths; `shares` holds for each split the probability
    (0 to 1) with which a domain, or a document without a URL, is drawn: the share of domains is exact in expectation,
    that of documents and tokens depends on which domains these are. A domain with more than a quarter of the tokens
    that the split should hold is left out of it. Each split draws by a hash of its own, and the first that draws a
    domain has it: raising the share of one takes of another no more than what both draw.
    """
    free = np.ones(len(hashes), bool)
    total = int(np.sum(tokens, dtype=np.int64))
    found = {}
    for name, share in shares.items():
        limit = threshold(share)
        own = hashes if name == VALIDATION else _mixed(hashes, keyed("split", seed, name.encode()))
        drawn = np.flatnonzero(free & (own < np.uint64(limit) if limit <= int(_MASK) else True))
        _, first, domain = np.unique(hashes[drawn], return_index=True, return_inverse=True)
        sums = np.bincount(domain, tokens[drawn], len(first)).astype(np.int64)  # exact below 2^53
        large = sums > int(LARGEST * Fraction(repr(float(share))) * total)
        chosen = drawn[~large[domain]]
        free[chosen] = False
        by_size = np.lexsort((hashes[drawn[first]], -sums))
        by_size = by_size[large[by_size]]
        found[name] = Split(chosen, drawn[first[by_size]], sums[by_size])
    return found


def _mixed(hashes: npt.NDArray[np.uint64], key: int) -> npt.NDArray[np.uint64]:
    """Hashes that say nothing of the given ones: a step of splitmix64 (Steele et al. 2014)."""
    mixed = hashes ^ np.uint64(key)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@functools.lru_cache(1 << 17)
def registered_domain(host: str) -> str:
    """The part of a host name that somebody registered: `bbc.co.uk` of `www.bbc.co.uk`; ASCII, lower case.

    By the snapshot of the Public Suffix List that tldextract brings; nothing is fetched. Private suffixes
    count: each `NAME.github.io` is a site of its own, else one blog host would fall into one split whole.
    Where the list knows no suffix, the last two labels; an address, a public suffix and a single label are
    returned whole.
    """
    host = host.strip().rstrip(".").lower()
    if not host:
        return ""
    parts = _suffixes().extract_str(host)
    domain = parts.top_domain_under_public_suffix
    if not domain:
        address = host.startswith("[") or parts.ipv4
        domain = host if parts.suffix or address else ".".join(host.split(".")[-2:])
    try:
        return domain.encode("idna").decode("ascii")  # bücher.de and xn--bcher-kva.de are one domain
    except UnicodeError:
        return domain


@functools.cache
def _suffixes() -> tldextract.TLDExtract:
    import tldextract  # brings a client for HTTP: not where no URL is looked at

    return tldextract.TLDExtract(
        cache_dir=None, suffix_list_urls=(), fallback_to_snapshot=True, include_psl_private_domains=True
    )
