"""The report on a tokenizer (`pipeline.tokenizers.report`) as tables of a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.look.tables import percent

GROUPS = ("documents", "tokens", "characters a token", "bytes a token", "tokens a word", "unknown", "single bytes")
LISTS = {
    "longest": "The longest tokens that are used",
    "never": "Never used in the sample",
    "rare": "Used once or twice",
    "unreachable": "Not made by their own text",
    "not_utf8": "No whole characters",
}


def tables(found: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Each table as its title, head and rows."""
    if not found:
        return []
    made = []
    for title, name in (("By language", "languages"), ("By source", "sources")):
        rows = [(key, *_figures(one)) for key, one in found[name].items()]
        made.append({"title": title, "head": [title.rpartition(" ")[2], *GROUPS], "rows": rows})
    for name, title in LISTS.items():
        of = found["tokens"].get(name)
        some = of if isinstance(of, list) else (of or {}).get("longest", [])
        if some:
            count = f": {of['count']:,}" if isinstance(of, dict) else ""
            rows = [(f"[{one['text']}]", f"{one['token']:,}", f"{one['uses']:,}") for one in some]
            made.append({"title": f"{title}{count}", "head": ["token", "id", "uses"], "rows": rows})
    return made


def _figures(one: Mapping[str, Any]) -> tuple[str, ...]:
    tokens, words = one["tokens"], one["words"]
    return (
        f"{one['documents']:,}", f"{tokens:,}", _ratio(one["characters"], tokens), _ratio(one["bytes"], tokens),
        _ratio(tokens, words), percent(one["unknown"], tokens, 2), percent(one["byte_tokens"], tokens, 2),
    )  # fmt: skip


def _ratio(part: int, whole: int | None) -> str:
    return f"{part / whole:.2f}" if whole else "–"


def used(found: Mapping[str, Any] | None) -> str:
    """How much of the vocabulary the sample uses, and what of it is of no use."""
    if not found:
        return ""
    tokens = found["tokens"]
    ordinary = found["vocabulary"] - tokens["special"]
    text = f"Of {ordinary:,} tokens that text can be, a sample of {found['sample']['documents']:,} documents uses "
    text += f"{tokens['used']:,} ({percent(tokens['used'], ordinary)})"
    lost = tokens.get("unreachable")
    return text + (f"; {lost['count']:,} are not made by their own text." if lost else ".")
