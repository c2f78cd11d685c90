"""HTML to the text of its main content."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

import pyarrow as pa
from annotated_types import Ge, Le

from stages.base import Limits, Outcome, Processor, Stage
from stages.decode import control_share, decode
from stages.extract import blocks, metadata, rights
from stages.extract.effort import MOST_WORK, effort
from stages.extract.metadata import Metadata
from stages.extract.model import Model, choose, load
from stages.extract.peers import TooDeep, resiliparse_text, trafilatura_text
from stages.extract.render import render
from stages.extract.scan import Events, canonical, scan
from stages.rows import Drop, outcome, strings, text_array

_ANY_PAGE = b"<title>A page</title><article><h1>A page</h1><p>With some text in it, and a second clause.</article>"
BUILTIN_MODEL = "builtin:extract-blocks.npz"
_MOST_ATTRIBUTES = 10_000
_HOPELESS = 10_000  # elements open at a time: so deep that no parser is to see it
_DEEPEST = {"blocks": (1_000, 5_000), "trafilatura": (200, 256), "resiliparse": (100, 256)}
"""Of each engine `max_depth` where it is left out, and the most that it may be."""


class _Dropped(Exception):
    """A page that gives no text: (reason, value, limit)."""


class _Page(NamedTuple):
    """What is taken out of a page."""

    text: str
    says: Metadata = Metadata(None, None, None, None)
    score: float | None = None


@dataclass(frozen=True, kw_only=True)
class Extract(Stage):
    """Takes the main text out of HTML pages, without navigation, boilerplate and markup.

    Reads `payload`, `content_type` and `headers`, and takes them out of the batch. Writes `text`, and what the page
    says of itself, null where it says nothing: `title`, `canonical_url`, `published` (the date of publication),
    `html_language`, `robots` (signals such as `noai`: see the stage `rights`), `license` (`CC-BY-4.0`, or an address)
    and `license_from` (where it is stated). The engine `blocks` adds `extraction_score`: the F1 that its model expects
    of its choice, 0 to 1.
    Rows that have no payload but a text already pass untouched; a payload of type text/plain is decoded alone. Bytes
    are decoded by `stages.decode`. Counts `charset_corrected` (the page's declared charset was wrong) and
    `replaced_characters`. Nothing is remembered from one page to the next.
    """

    name: ClassVar[str] = "extract"
    version: ClassVar[int] = 5
    packages: ClassVar[tuple[str, ...]] = ("selectolax", "trafilatura", "lxml", "justext", "resiliparse", "regex")

    engine: Literal["blocks", "trafilatura", "resiliparse"] = "blocks"
    """The extractor: `blocks`, our own, which a model steers; `trafilatura` (Barbaresi 2021); `resiliparse`
    (Bevendorff et al. 2018)."""
    format: Literal["text", "markdown"] = "text"
    """`markdown` keeps headings, emphasis, lists, tables, code and formulas marked up."""
    min_score: Annotated[float, Ge(0), Le(1)] = 0.0
    """Of blocks: the least `extraction_score` that a page may have (`low_score`)."""
    model: str | None = None
    """Of blocks: a file made by `python -m pipeline.train_extractor`, in place of the model that comes with us."""
    mode: Literal["default", "fast", "precision", "recall"] = "default"
    """Of trafilatura: `fast` goes without the fallback extractors; `precision` takes less, `recall` more of what is
    in doubt."""
    comments: bool | None = None
    """Of the others: whether readers' comments belong to the text. Where it is left out: not with trafilatura, but
    with resiliparse, which takes the posts of a forum for comments."""
    alt_texts: bool | None = None
    """Of resiliparse: whether the descriptions of pictures belong to the text. Where it is left out, they do not."""
    tables: bool = True
    """Of the others: whether tables belong to the text."""
    max_bytes: Annotated[int, Ge(1)] = 5_000_000
    """Most bytes of a page (`too_large`)."""
    max_nodes: Annotated[int, Ge(1)] = 150_000
    """Most elements, counted as `<` in the page (`too_many_nodes`)."""
    max_depth: Annotated[int, Ge(10), Le(5_000)] | None = None
    """Deepest nesting of elements (`too_deep`). Where it is left out, 1,000 with blocks, 200 with trafilatura, 100
    with resiliparse. Of those two at most 256: libxml2 loses what is deeper, and resiliparse's time grows with depth
    times nodes."""
    max_replaced: Annotated[float, Ge(0), Le(1)] = 0.01
    """Greatest share of characters that bytes could not be decoded to (`undecodable_bytes`)."""
    max_control: Annotated[float, Ge(0), Le(1)] = 0.01
    """Greatest share of bytes that are NUL or other control bytes; more is `not_text`, as is a PDF or an image."""
    max_cpu_seconds: Annotated[int, Ge(1)] = 20
    """Most CPU seconds of a page (`cpu_time`): far above what any page within the limits above takes; the last line
    of defence, since a run that meets it is reproducible only with its pins."""
    max_memory: Annotated[int, Ge(1 << 28)] = 2 << 30
    """Most bytes of memory that pages may take beyond what the extractor itself has (`memory`, `crashed`)."""

    @property
    def deepest(self) -> int:
        """The nesting that a page may have: `max_depth`, or what is best for the engine."""
        return _DEEPEST[self.engine][0] if self.max_depth is None else self.max_depth

    def limits(self) -> Limits:
        """The extractors are libraries in C, over pages that anyone may have written."""
        return Limits(self.max_cpu_seconds, self.max_memory)

    def __post_init__(self) -> None:
        for name, (default, engines) in _ENGINES_OF.items():
            value = getattr(self, name)
            if value != default and self.engine not in engines:
                raise ValueError(
                    f"{name}: {value!r} has no meaning for the engine '{self.engine}'; leave {name} out, "
                    f"or take engine: {' or '.join(engines)}"
                )
        most = _DEEPEST[self.engine][1]
        if self.deepest > most:
            raise ValueError(f"max_depth: the engine '{self.engine}' bears at most {most}, not {self.deepest}")

    def files(self) -> dict[str, str]:
        return {"model": self.model or BUILTIN_MODEL} if self.engine == "blocks" else {}

    def bind(self, files: Mapping[str, bytes]) -> Processor:
        chooser = load(files["model"]) if "model" in files else None
        with suppress(_Dropped):  # compiles the kernels now, not at a page's expense
            self.page(_ANY_PAGE, "text/html", None, None, chooser, Counter())
        return functools.partial(self._process, chooser=chooser)

    def process(self, batch: pa.RecordBatch) -> Outcome:
        if self.files():
            return super().process(batch)
        return self._process(batch, chooser=None)

    def _process(self, batch: pa.RecordBatch, chooser: Model | None) -> Outcome:
        drops: list[Drop] = []
        counts: Counter[str] = Counter()
        texts, titles = strings(batch, "text"), strings(batch, "title")
        types = strings(batch, "content_type")
        urls = strings(batch, "url")
        headers = strings(batch, "headers")
        found: list[_Page | None] = [None] * batch.num_rows
        index = batch.schema.get_field_index("payload")
        payloads = batch.column(index) if index >= 0 else pa.nulls(batch.num_rows, pa.binary())
        for row, scalar in enumerate(payloads):
            payload = scalar.as_py()
            if payload is None:
                if texts[row] is None:
                    drops.append((row, "no_text", None, None))
                continue
            try:
                page = self.page(payload, types[row], urls[row], headers[row], chooser, counts)
                texts[row], titles[row], found[row] = page.text, page.says.title, page
            except _Dropped as dropped:
                drops.append((row, *dropped.args))
        kept = [name for name in batch.schema.names if name not in ("payload", "content_type", "headers")]
        columns = {
            "text": text_array(texts),
            "title": text_array(titles),
            "canonical_url": text_array([page and page.says.canonical_url for page in found]),
            "published": pa.array([page and page.says.date for page in found], pa.timestamp("s", tz="UTC")),
            "html_language": text_array([page and page.says.language for page in found]),
            "robots": text_array([page and page.says.rights.robots for page in found]),
            "license": text_array([page and page.says.rights.license for page in found]),
            "license_from": text_array([page and page.says.rights.license_from for page in found]),
        }
        if self.engine == "blocks":
            columns["extraction_score"] = pa.array([page and page.score for page in found], pa.float32())
        return outcome(batch.select(kept), drops, columns, counts)

    def page(
        self,
        payload: bytes,
        content_type: str | None,
        url: str | None,
        headers: str | None,
        chooser: Model | None,
        counts: Counter[str],
    ) -> _Page:
        """Text and metadata of one page; raises _Dropped."""
        if len(payload) > self.max_bytes:
            raise _Dropped("too_large", len(payload), self.max_bytes)
        control = control_share(payload)
        if control > self.max_control:
            raise _Dropped("not_text", control, self.max_control)
        decoded = decode(payload, content_type)
        replaced = decoded.replaced / max(len(decoded.text), 1)
        if replaced > self.max_replaced:
            raise _Dropped("undecodable_bytes", replaced, self.max_replaced)
        if (content_type or "").split(";")[0].strip().lower() == "text/plain":
            page = _Page(decoded.text, Metadata(None, None, None, None, rights.of_headers(headers)))
        else:
            page = self._extracted(decoded.text, url, headers, chooser)
        if not page.text.strip():
            raise _Dropped("no_text", None, None)
        if page.score is not None and page.score < self.min_score:
            raise _Dropped("low_score", page.score, self.min_score)
        counts["charset_corrected"] += decoded.corrected
        counts["replaced_characters"] += decoded.replaced
        return page

    def _extracted(self, html: str, url: str | None, headers: str | None, chooser: Model | None) -> _Page:
        nodes = html.count("<")
        if nodes > self.max_nodes:
            raise _Dropped("too_many_nodes", nodes, self.max_nodes)
        asked = effort(html.encode("utf-8", "replace"))
        if asked.attributes > _MOST_ATTRIBUTES:
            raise _Dropped("too_many_attributes", asked.attributes, _MOST_ATTRIBUTES)
        if asked.work > MOST_WORK:
            if asked.unclosed > _HOPELESS:
                raise _Dropped("too_deep", asked.unclosed, self.deepest)
            raise _Dropped("too_complex", asked.work, MOST_WORK)
        try:
            events = scan(canonical(html))
            score = None
            if self.engine == "trafilatura":
                text = trafilatura_text(html, events, self)
            elif self.engine == "resiliparse":
                text = resiliparse_text(html, events, self)
            else:
                assert chooser is not None
                text, score = self._own(events, chooser)
            return _Page(text, metadata.read(events, url, headers), score)
        except TooDeep as error:
            raise _Dropped("too_deep", error.args[0], self.deepest) from error
        except (ImportError, MemoryError):
            # A missing package or too little memory is the run's trouble, and must never be booked as the page's.
            raise
        except Exception as error:
            raise _Dropped("extractor_failed", None, None) from error

    def _own(self, events: Events, chooser: Model) -> tuple[str, float]:
        if events.depth > self.deepest:
            raise TooDeep(events.depth)
        choice = choose(chooser, blocks.read(events))
        return render(events, choice.keep, self.format == "markdown").decode("utf-8", "replace"), choice.score


_ENGINES_OF: dict[str, tuple[object, tuple[str, ...]]] = {
    "mode": ("default", ("trafilatura",)),
    "comments": (None, ("trafilatura", "resiliparse")),
    "alt_texts": (None, ("resiliparse",)),
    "tables": (True, ("trafilatura", "resiliparse")),
    "format": ("text", ("blocks", "trafilatura")),
    "min_score": (0.0, ("blocks",)),
    "model": (None, ("blocks",)),
}
"""Settings that not every engine has: the default, which suits all, and the engines that take another value."""
