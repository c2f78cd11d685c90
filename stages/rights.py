"""What pages and servers say may not be done with a page, and the licences that a corpus may hold."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from stages.base import Outcome, Rule, Stage, judged
from stages.extract.rights import AGENTS, FROM, NAMES, SIGNALS
from stages.rows import strings


@dataclass(frozen=True, kw_only=True)
class Rights(Stage):
    """Drops documents whose page or server asks not to be used, or whose licence is not among those wanted.

    Reads the columns that `extract` writes: `robots`, `license`, `license_from`; stands behind it. Signals are read as
    they stand in the page (`meta name=robots` and robots by name) and in HTTP headers (`X-Robots-Tag`,
    `tdm-reservation`, `Link`). What stands in `robots.txt`, in `/.well-known/tdmrep.json` or in terms of use, a page
    does not tell. A licence found on a page may be that of its text, or of something in it: see `trust`. Reasons: the
    signal (`noai`, `tdm`, ...), `license`, `no_license`.
    """

    name: ClassVar[str] = "rights"
    version: ClassVar[int] = 1

    drop: tuple[str, ...] = ("noai", "tdm")
    """Signals that take a document out: `noai`, `noimageai`, `tdm` (text and data mining reserved, W3C TDMRep),
    `noindex`, `nofollow`, `noarchive`, `nocache`, `nosnippet`, `noimageindex`, `notranslate`, `unavailable_after`."""
    agents: tuple[str, ...] = ()
    """Robots whose signals count beside those for all, such as `gptbot`, `ccbot`; `*`: those of any robot."""
    licenses: tuple[str, ...] = ()
    """Licences to keep, as `CC-BY-4.0`, `CC0-1.0`, with `*` for anything (`CC-BY-SA-*`), or addresses
    (`https://example.org/*`); empty: any."""
    keep_unknown: bool = True
    """Keep documents without a licence, or with one that is not trusted, where `licenses` are named."""
    trust: tuple[Literal["json-ld", "meta", "rel", "header", "link"], ...] = ("json-ld", "meta", "rel", "header")
    """Where a licence counts: `json-ld`: what the page says of itself for machines; `meta`: Dublin Core and others;
    `rel`: a link with `rel=license`; `header`: the server's `Link`; `link`: a bare link to Creative Commons, which may
    as well be that of a picture."""

    def __post_init__(self) -> None:
        for setting, names, known in (
            ("drop", self.drop, SIGNALS), ("agents", self.agents, ("*", *AGENTS)), ("trust", self.trust, FROM)
        ):  # fmt: skip
            for name in names:
                if name not in known and (setting != "agents" or name != name.lower()):
                    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
                    hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(known)}."
                    raise ValueError(f"{setting}: there is no '{name}'. {hint}")
        for pattern in self.licenses:
            if "/" not in pattern and not any(fnmatchcase(name, pattern) for name in NAMES):
                near = difflib.get_close_matches(pattern.upper(), NAMES, n=1, cutoff=0.5)
                hint = f"Did you mean '{near[0]}'?" if near else "Others go by their addresses."
                raise ValueError(f"licenses: there is no '{pattern}'. {hint}")

    def process(self, batch: pa.RecordBatch) -> Outcome:
        said = [set((robots or "").split(",")) for robots in strings(batch, "robots")]
        rules = [
            Rule(signal, np.array([self._says(signals, signal) for signals in said], np.bool_)) for signal in self.drop
        ]
        if self.licenses:
            places = strings(batch, "license_from")
            stated = [
                name if place in self.trust else None
                for name, place in zip(strings(batch, "license"), places, strict=True)
            ]
            unknown = np.array([name is None for name in stated], np.bool_)
            fits = np.array([name is not None and self._wanted(name) for name in stated], np.bool_)
            rules.append(Rule("license", ~unknown & ~fits))
            if not self.keep_unknown:
                rules.append(Rule("no_license", unknown))
        return judged(batch, rules)

    def _says(self, signals: set[str], signal: str) -> bool:
        if signal in signals:
            return True
        told = {one.partition(":")[0] for one in signals if one.endswith(":" + signal)}
        return bool(told) and ("*" in self.agents or not told.isdisjoint(self.agents))

    def _wanted(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.licenses)
