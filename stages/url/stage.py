"""Documents from addresses that somebody listed, or whose address says what they are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Ge

from stages.base import Outcome, Processor, Stage
from stages.listfiles import opened
from stages.rows import Drop, outcome
from stages.text.column import texts
from stages.url import kernels
from stages.url.forms import FORMS, Suffixes
from stages.url.hosts import packed, split
from stages.url.lists import Reader, Table
from stages.url.words import Automaton, automaton, spell

WORDS = "builtin"
CURATED = "curated"
_WORDS_FILE = "builtin:url_words.json"
_CURATED_FILE = "builtin:url_curated.txt"

_PASS, _CURATED, _DOMAIN, _URL, _WORD = range(5)
_REASONS = ("", "curated_source", "blocked_domain", "blocked_url", "blocked_word")


@dataclass(frozen=True, kw_only=True)
class Url(Stage):
    """Drops, or tags, documents by their URL: block lists of domains and URLs, and words in the URL.

    As RefinedWeb (Penedo et al. 2023, section 3.1 and appendix G.1) and FineWeb do before extraction; needs only the
    column `url`, so that it may stand before or behind `extract`. Documents without a URL pass. A domain in a list
    covers the hosts below it; a URL in a list covers the paths below it (up to `/`, `?`, `&` or `;`), on its own
    host, with and without `www.`. Hosts are compared in ASCII (Punycode), lower case, without user name, port and
    trailing dots; an entry with a port holds for that port. Paths are compared in lower case with escapes of letters
    undone. An entry `/path` holds on any host. Reasons: `blocked_domain`, `blocked_url`, `blocked_word`,
    `curated_source`. Counts the documents of each category.
    """

    name: ClassVar[str] = "url"
    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("idna", "tldextract", "regex")

    blocklists: tuple[str, ...] = ()
    """Files, folders or archives with domains and URLs: UT1's (a folder with `domains`, `urls`, `expressions`, or
    many such folders), hosts files (`0.0.0.0 bad.example`), adblock lists (`||bad.example^`, exceptions `@@||`; rules
    about parts of pages are passed over), plain lists (a domain or URL a line, `#` for comments). The form is found
    out, or named: `hosts:lists/bad.txt` (plain, domains, urls, expressions, hosts, adblock). A line in another form
    stops the run before work."""
    categories: tuple[str, ...] = ()
    """Categories (folders) of `blocklists` to use, such as `adult`; empty: all."""
    allowlists: tuple[str, ...] = ()
    """Lists in the same forms of what no list and no word may block."""
    curated: tuple[str, ...] = ()
    """Lists in the same forms of sites that the corpus takes from another, better source (RefinedWeb, appendix G.1,
    leaves out Wikipedia, arXiv and their like); `builtin`: the project's own short list."""
    public_suffixes: Suffixes = "refuse"
    """What to do where a list blocks a public suffix such as `co.uk` (Public Suffix List, ICANN division), and so every
    site below it: `refuse` stops before work, `skip` passes over the line, `block` blocks them all."""
    words: tuple[str, ...] = (WORDS,)
    """Files with one word a line of which one condemns a URL, as a whole word between characters that are no letters
    (in scripts without spaces: anywhere); `builtin`: the project's own list, with the soft ones and those found
    anywhere. Empty: no words."""
    soft_words: tuple[str, ...] = ()
    """Files of words of which more than `max_soft_words` different ones condemn a URL."""
    words_anywhere: tuple[str, ...] = ()
    """Files of words that condemn a URL wherever they stand, inside of others too."""
    max_soft_words: Annotated[int, Ge(0)] = 1
    """Most different soft words in a URL (RefinedWeb, appendix G.1: two are too many)."""
    mode: Literal["drop", "tag"] = "drop"
    """`tag` drops nothing and writes `url_category`: the category of the list, `words`, `curated`, or null."""

    def __post_init__(self) -> None:
        for name in ("blocklists", "allowlists", "curated"):
            for entry in getattr(self, name):
                form, sign, path = entry.partition(":")
                if not entry or (sign and form in FORMS and not path):
                    raise ValueError(f"{name}: '{entry}' names no file; one is named as PATH or FORM:PATH")
        if self.categories and not self.blocklists:
            raise ValueError("categories: there are no blocklists to take them from")

    def files(self) -> dict[str, str]:
        files: dict[str, str] = {}
        for name in ("blocklists", "allowlists", "curated"):
            for number, entry in enumerate(getattr(self, name)):
                _, path = _form(entry)
                files[f"{name}/{number}/"] = _CURATED_FILE if name == "curated" and entry == WORDS else path
        for name in ("words", "soft_words", "words_anywhere"):
            for number, entry in enumerate(getattr(self, name)):
                files[f"{name}/{number}"] = _WORDS_FILE if entry == WORDS else entry
        return files

    def bind(self, files: Mapping[str, bytes]) -> Processor:
        reader = Reader(self.public_suffixes)
        flags = {"allowlists": kernels.ALLOW, "blocklists": kernels.BLOCK, "curated": kernels.CURATED}
        for name, flag in flags.items():
            for number, entry in enumerate(getattr(self, name)):
                role = f"{name}/{number}/"
                form, path = (None, entry) if entry == WORDS else _form(entry)
                read, before = 0, reader.entries
                for key in sorted(key for key in files if key.startswith(role)):
                    inner = key.removeprefix(role)
                    shown = path if not inner or path.endswith(inner) else f"{path.rstrip('/')}/{inner}"
                    read += reader.read(shown, files[key], form, flag, self.categories if flag == kernels.BLOCK else ())
                if not read:
                    some = f" of the categories {', '.join(self.categories)}" if self.categories else ""
                    raise ValueError(f"{name}: there is no list{some} in {path}")
                if reader.entries == before:
                    raise ValueError(f"{name}: {path} has no entry that blocks or allows a page")
        missing = set(self.categories) - set(reader.names)
        if missing:
            raise ValueError(f"categories: there is no {sorted(missing)[0]!r}; there are {', '.join(reader.names)}")
        table = reader.table()
        found = self._automaton(files)
        return lambda batch: self._judge(batch, table, found)

    def _automaton(self, files: Mapping[str, bytes]) -> Automaton | None:
        lists: dict[str, list[str]] = {"words_anywhere": [], "words": [], "soft_words": []}
        for role, data in files.items():
            name = role.partition("/")[0]
            if name not in lists:
                continue
            if getattr(self, name)[int(role.partition("/")[2])] == WORDS:
                for kind, words in json.loads(data).items():
                    lists[kind] += words
                continue
            for _, content in opened(role, data):
                lines = content.decode("utf-8-sig", "replace").splitlines()
                lists[name] += [line.strip() for line in lines if not line.startswith("#")]
        return automaton(lists["words_anywhere"], lists["words"], lists["soft_words"])

    def _judge(self, batch: pa.RecordBatch, table: Table, found: Automaton | None) -> Outcome:
        verdict, category = self._verdicts(batch.column("url"), table, found)
        hit = np.flatnonzero(verdict)
        counts = Counter(f"category_{_category(table, verdict[row], category[row])}" for row in hit.tolist())
        if self.mode == "tag":
            names: list[str | None] = [None] * batch.num_rows
            for row in hit.tolist():
                names[row] = _category(table, verdict[row], category[row])
            return outcome(batch, [], {"url_category": pa.array(names, pa.string())}, counts)
        drops: list[Drop] = [(row, _REASONS[verdict[row]], None, None) for row in hit.tolist()]
        return outcome(batch, drops, None, counts)

    def _verdicts(
        self, column: pa.Array, table: Table, found: Automaton | None
    ) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.uint16]]:
        """For each URL what it falls under, and the category of the list."""
        view = texts(column)
        number = len(column)
        verdict = np.zeros(number, np.int8)
        hosts, paths, category, odd = _look(view.data, view.offsets, table)
        rows = np.flatnonzero(odd)
        if len(rows):
            again = []
            for row in rows.tolist():
                host, port, path = split(bytes(view.data[view.offsets[row] : view.offsets[row + 1]]).decode())
                again.append(f"{host}{':' if port else ''}{port}{path}".encode("latin-1") if host else b"")
            hosts[rows], paths[rows], category[rows], _ = _look(*packed(again), table)
        for flag, place, pattern in table.expressions:
            hit = pc.match_substring_regex(column, pattern, ignore_case=True).fill_null(False)
            rows = np.flatnonzero(hit.to_numpy(zero_copy_only=False))
            paths[rows] |= flag
            if flag == kernels.BLOCK:
                category[rows] = np.minimum(category[rows], place)
        if found is not None:
            strict, soft = np.zeros(number, np.bool_), np.zeros(number, np.int32)
            spell(view.data, view.offsets, *found, strict, soft)
            verdict[strict | (soft > self.max_soft_words)] = _WORD
        verdict[paths & kernels.BLOCK != 0] = _URL
        verdict[hosts & kernels.BLOCK != 0] = _DOMAIN
        verdict[(hosts | paths) & kernels.CURATED != 0] = _CURATED
        verdict[(hosts | paths) & kernels.ALLOW != 0] = _PASS
        return verdict, category


def _look(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], table: Table
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint16], npt.NDArray[np.bool_]]:
    number = len(offsets) - 1
    hosts, paths = np.zeros(number, np.uint8), np.zeros(number, np.uint8)
    category, odd = np.zeros(number, np.uint16), np.zeros(number, np.bool_)
    kernels.judge(data, offsets, *table.keys, table.values, table.rooted, hosts, paths, category, odd)
    return hosts, paths, category, odd


def _form(entry: str) -> tuple[str | None, str]:
    form, sign, path = entry.partition(":")
    return (form, path) if sign and form in FORMS else (None, entry)


def _category(table: Table, verdict: int, category: int) -> str:
    return {_WORD: "words", _CURATED: CURATED}.get(verdict) or table.names[category]
