"""Which documents are held out for validation: whole registered domains, by a keyed hash.

Pages of one site resemble one another, so a site falls on one side as a whole.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ids import AnyIds, matrix, rows
from stages.hashing import keyed_all, threshold

if TYPE_CHECKING:
    import tldextract

_HOST = r"^\s*(?:[A-Za-z][A-Za-z0-9+.\-]*:)?//(?:[^/?#\\]*@)?(?P<host>\[[^\]/?#\\]*\]|[^/?#:\\]*)"


def in_validation(urls: pa.Array | pa.ChunkedArray, ids: AnyIds, seed: int, share: float) -> npt.NDArray[np.bool_]:
    """(documents,) whether each document belongs to the validation split.

    `share` is the probability (0 to 1) with which a registered domain, or a document without a URL, is held
    out: the share of domains is exact in expectation, that of documents and tokens depends on which domains
    these are. A URL without a host (`urn:`, `file:///`, a bare name) counts as none.
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
    limit = threshold(share)
    if limit > 2**64 - 1:
        return np.ones(len(hashes), bool)
    held: npt.NDArray[np.bool_] = hashes < np.uint64(limit)
    return held


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
