"""HTML to the text of its main content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import pyarrow as pa
from annotated_types import Ge, Le
from resiliparse.parse.html import HTMLTree

from stages.base import Limits, Outcome, Stage
from stages.decode import control_share, decode
from stages.extract.effort import MOST_WORK, effort
from stages.extract.peers import TooDeep, resiliparse_text, trafilatura_text
from stages.rows import Drop, outcome, strings, text_array

_TITLE_CHARACTERS = 500
_MOST_ATTRIBUTES = 10_000
_HOPELESS = 50  # times `max_depth`: so deep that no parser is to see it


class _Dropped(Exception):
    """A page that gives no text: (reason, value, limit)."""


@dataclass(frozen=True, kw_only=True)
class Extract(Stage):
    """Takes the main text out of HTML pages, without navigation, boilerplate and markup.

    Reads `payload` and `content_type`, writes `text` and `title`, and takes `payload` and `content_type` out
    of the batch. Rows that have no payload but a text already pass untouched; a payload of type text/plain
    is decoded alone. Bytes are decoded by `stages.decode`. Counts `charset_corrected` (the page's declared
    charset was wrong) and `replaced_characters`. Nothing is remembered from one page to the next.
    """

    name: ClassVar[str] = "extract"
    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("trafilatura", "lxml", "justext", "resiliparse", "regex")

    engine: Literal["trafilatura", "resiliparse"] = "trafilatura"
    """The extractor: `trafilatura` (Barbaresi 2021) or `resiliparse` (Bevendorff et al. 2018; ten times as fast)."""
    mode: Literal["default", "fast", "precision", "recall"] = "default"
    """Of trafilatura: `fast` goes without the fallback extractors; `precision` takes less, `recall` more of what is
    in doubt."""
    comments: bool | None = None
    """Whether readers' comments belong to the text. Where it is left out: not with trafilatura, but with resiliparse,
    which takes the posts of a forum for comments."""
    alt_texts: bool | None = None
    """Of resiliparse: whether the descriptions of pictures belong to the text. Where it is left out, they do not."""
    tables: bool = True
    """Whether tables belong to the text."""
    format: Literal["text", "markdown"] = "text"
    """`markdown` keeps headings, emphasis, lists and code marked up."""
    max_bytes: Annotated[int, Ge(1)] = 5_000_000
    """Most bytes of a page (`too_large`)."""
    max_nodes: Annotated[int, Ge(1)] = 150_000
    """Most elements, counted as `<` in the page (`too_many_nodes`)."""
    max_depth: Annotated[int, Ge(10), Le(256)] = 200
    """Deepest nesting of elements (`too_deep`); the extractor calls itself on each level."""
    max_replaced: Annotated[float, Ge(0), Le(1)] = 0.01
    """Greatest share of characters that bytes could not be decoded to (`undecodable_bytes`)."""
    max_control: Annotated[float, Ge(0), Le(1)] = 0.01
    """Greatest share of bytes that are NUL or other control bytes; more is `not_text`, as is a PDF or an image."""
    max_cpu_seconds: Annotated[int, Ge(1)] = 20
    """Most CPU seconds of a page (`cpu_time`): far above what any page within the limits above takes; the last line
    of defence, since a run that meets it is reproducible only with its pins."""
    max_memory: Annotated[int, Ge(1 << 28)] = 2 << 30
    """Most bytes of memory that pages may take beyond what the extractor itself has (`memory`, `crashed`)."""

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

    def process(self, batch: pa.RecordBatch) -> Outcome:
        drops: list[Drop] = []
        counts: Counter[str] = Counter()
        texts, titles = strings(batch, "text"), strings(batch, "title")
        types = strings(batch, "content_type")
        index = batch.schema.get_field_index("payload")
        payloads = batch.column(index) if index >= 0 else pa.nulls(batch.num_rows, pa.binary())
        for row, scalar in enumerate(payloads):
            payload = scalar.as_py()
            if payload is None:
                if texts[row] is None:
                    drops.append((row, "no_text", None, None))
                continue
            try:
                texts[row], titles[row] = self.page(payload, types[row], counts)
            except _Dropped as dropped:
                drops.append((row, *dropped.args))
        kept = [name for name in batch.schema.names if name not in ("payload", "content_type")]
        columns = {"text": text_array(texts), "title": text_array(titles)}
        return outcome(batch.select(kept), drops, columns, counts)

    def page(self, payload: bytes, content_type: str | None, counts: Counter[str]) -> tuple[str, str | None]:
        """Text and title of one page; raises _Dropped."""
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
            text, title = decoded.text, None
        else:
            text, title = self._extracted(decoded.text)
        if not text.strip():
            raise _Dropped("no_text", None, None)
        counts["charset_corrected"] += decoded.corrected
        counts["replaced_characters"] += decoded.replaced
        return text, title

    def _extracted(self, html: str) -> tuple[str, str | None]:
        nodes = html.count("<")
        if nodes > self.max_nodes:
            raise _Dropped("too_many_nodes", nodes, self.max_nodes)
        asked = effort(html.encode("utf-8", "replace"))
        if asked.attributes > _MOST_ATTRIBUTES:
            raise _Dropped("too_many_attributes", asked.attributes, _MOST_ATTRIBUTES)
        if asked.work > MOST_WORK:
            if asked.unclosed > _HOPELESS * self.max_depth:
                raise _Dropped("too_deep", asked.unclosed, self.max_depth)
            raise _Dropped("too_complex", asked.work, MOST_WORK)
        try:
            return _EXTRACTORS[self.engine](html, self), _title(html)
        except TooDeep as error:
            raise _Dropped("too_deep", error.args[0], self.max_depth) from error
        except (ImportError, MemoryError):
            # A missing package or too little memory is the run's trouble, and must never be booked as the page's.
            raise
        except Exception as error:
            raise _Dropped("extractor_failed", None, None) from error


_EXTRACTORS: dict[str, Callable[[str, Extract], str]] = {
    "trafilatura": trafilatura_text,
    "resiliparse": resiliparse_text,
}

_ENGINES_OF: dict[str, tuple[object, tuple[str, ...]]] = {
    "mode": ("default", ("trafilatura",)),
    "comments": (None, ("trafilatura", "resiliparse")),
    "alt_texts": (None, ("resiliparse",)),
    "format": ("text", ("trafilatura",)),
}
"""Settings that not every engine has: the default, which suits all, and the engines that take another value."""


def _title(html: str) -> str | None:
    """The page's `og:title`, which sites write without their own name, else its `title`."""
    tree = HTMLTree.parse(html)
    meta = tree.head.query_selector("meta[property='og:title']") if tree.head else None
    title = " ".join(((meta and meta.getattr("content")) or tree.title or "").split())[:_TITLE_CHARACTERS]
    return title or None
