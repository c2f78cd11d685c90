"""How many hosts a group of documents comes from, and which has the largest part, in bounded memory."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import xxhash

MOST = 500_000
"""Hosts that are held, at most, over all groups."""
_DENSE = 0.01
"""A host with this share of a batch is held whatever its hash says."""


class Hosts:
    """Documents by group and host.

    Beyond MOST hosts only those are held whose hash ends in so many zero bits, and those that are dense somewhere: the
    number of hosts is then an estimate (adaptive sampling, Flajolet 1990), and the largest host's part a lower bound.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.bits = 0
        self.documents: dict[str, int] = {}
        self.counts: dict[tuple[str, str], int] = {}

    def add(self, groups: pa.Array, hosts: pa.Array) -> None:
        """Counts a batch of documents; without a host they are passed over."""
        rows = pa.table({"group": groups, "host": hosts}).filter(hosts.is_valid())
        for row in rows.group_by(["group", "host"]).aggregate([([], "count_all")]).to_pylist():
            key, count = (row["group"], row["host"]), row["count_all"]
            self.documents[key[0]] = self.documents.get(key[0], 0) + count
            if key in self.counts or self._sampled(key[1]) or count > _DENSE * len(rows):
                self.counts[key] = self.counts.get(key, 0) + count
        while len(self.counts) > self.most:
            self.bits += 1
            few = _DENSE * sum(self.documents.values())
            self.counts = {key: n for key, n in self.counts.items() if n > few or self._sampled(key[1])}

    def _sampled(self, host: str) -> bool:
        return self.bits == 0 or xxhash.xxh3_64_intdigest(host.encode()) & ((1 << self.bits) - 1) == 0

    def facts(self, group: str) -> dict[str, Any]:
        """The hosts of a group."""
        mine = {host: count for (name, host), count in self.counts.items() if name == group}
        largest = min(mine, key=lambda host: (-mine[host], host), default=None)
        return {
            "with_host": self.documents.get(group, 0),
            "hosts": sum(self._sampled(host) for host in mine) << self.bits,
            "hosts_exact": self.bits == 0,
            "largest_host": largest,
            "largest_host_documents": mine[largest] if largest is not None else 0,
        }
