"""What `corpusmill try` prints: the text after each stage, with the changes marked, and the verdict."""

from __future__ import annotations

import difflib
import itertools
import re
import unicodedata
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from pipeline.look.runfolder import one_line, origin_text, printable
from pipeline.look.try_page import Step, Trying

SHORT = 1_200
"""Characters of a text that are shown without --full."""
CHANGES = 12
"""Changes of a stage that are shown without --full."""
AROUND = 30
"""Characters shown on each side of a change."""
_WORDS = 4_000
"""Most words of a line in which single changes are looked for; in a longer one, the stretch that changed."""


def print_trying(trying: Trying, console: Console, *, full: bool) -> None:
    """The way of a page through the stages."""
    _say(console, f"{trying.page} as a record of source '{trying.source}'" + (f", {trying.url}" if trying.url else ""))
    if trying.origin:
        _say(console, f"  in {trying.origin['path']}: {origin_text(trying.origin)}")
    for step in trying.steps:
        _print_step(step, console, full)
    lost = trying.dropped
    if lost is None:
        _say(console, "verdict: kept", "bold green")
        if trying.untried:
            _say(console, f"  by the stages; {' and '.join(trying.untried)} look at the whole corpus: not tried here")
        return
    figure = f", {lost['value']:g}" if lost["value"] is not None else ""
    limit = f" against the limit {lost['limit']:g}" if lost["limit"] is not None else ""
    _say(console, f"verdict: dropped by {lost['stage']}: {lost['reason']}{figure}{limit}", "bold red")


def _print_step(step: Step, console: Console, full: bool) -> None:
    facts = [f"{name} {_value(value)}" for name, value in step.columns.items() if value is not None]
    facts += [f"{name.replace('_', ' ')} {count}" for name, count in step.counts.items() if count]
    if step.before is None and step.after is not None:
        facts.insert(0, f"text of {len(step.after):,} characters")
    elif step.before == step.after:
        facts.insert(0, "text unchanged")
    _say(console, f"── {step.stage}: {', '.join(facts) or 'text changed'}", "bold")
    if step.after is None or step.before == step.after:
        return
    if step.before is None:
        _say(console, shortened(printable(step.after), full))
        return
    changes = list(itertools.islice(differences(step.before, step.after), None if full else CHANGES + 1))
    for before, old, new, after in changes if full else changes[:CHANGES]:
        line = Text(f"  {one_line(before)}")
        if old:
            line.append(f"[-{old}-]", style="red")
        if new:
            line.append(f"{{+{new}+}}", style="green")
        console.print(line.append(one_line(after)))
    if not full and len(changes) > CHANGES:
        _say(console, "  ... more changes; --full shows all")


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else one_line(str(value))


def shortened(text: str, full: bool) -> str:
    """The text, or its beginning and end with a word on what is left out."""
    if full or len(text) <= SHORT:
        return text
    head, tail = text[: SHORT * 2 // 3], text[-SHORT // 3 :]
    return f"{head}\n  [... {len(text) - len(head) - len(tail):,} characters; --full shows all ...]\n{tail}"


def differences(old: str, new: str) -> Iterator[tuple[str, str, str, str]]:
    """Each change as (text before it, what went, what came, text behind it), in order.

    First by lines, then by words inside lines that changed; what cannot be seen is spelled in escapes.
    """
    a, b = old.splitlines(keepends=True), new.splitlines(keepends=True)
    for kind, a0, a1, b0, b1 in difflib.SequenceMatcher(None, a, b, autojunk=len(a) > 2_000).get_opcodes():
        if kind == "equal":
            continue
        if a1 - a0 == b1 - b0:
            for left, right in zip(a[a0:a1], b[b0:b1], strict=True):
                yield from _inside(left, right)
        else:
            yield from _inside("".join(a[a0:a1]), "".join(b[b0:b1]))


def _inside(old: str, new: str) -> Iterator[tuple[str, str, str, str]]:
    a, b = (re.findall(r"\w+|\s+|.", text, re.S) for text in (old, new))
    if len(a) > _WORDS or len(b) > _WORDS:
        yield _around(old, 0, len(old), new)
        return
    place = 0
    for kind, a0, a1, b0, b1 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        gone = "".join(a[a0:a1])
        if kind != "equal":
            yield _around(old, place, place + len(gone), "".join(b[b0:b1]))
        place += len(gone)


def _around(text: str, start: int, end: int, new: str) -> tuple[str, str, str, str]:
    """One change with its surroundings, less what `text[start:end]` and `new` have in common at both ends."""
    while start < end and new and text[start] == new[0]:
        start, new = start + 1, new[1:]
    while start < end and new and text[end - 1] == new[-1]:
        end, new = end - 1, new[:-1]
    old = text[start:end]
    alike = unicodedata.normalize("NFC", old) == unicodedata.normalize("NFC", new)
    spelled = [shortened("".join(_spelled(char, alike) for char in piece), False) for piece in (old, new)]
    return text[max(0, start - AROUND) : start], spelled[0], spelled[1], text[end : end + AROUND]


def _spelled(char: str, alike: bool) -> str:
    """A character, as an escape where it could not be seen, or not be told from what replaced it."""
    hidden = char != " " and unicodedata.category(char)[0] in "CZ"
    if hidden or (alike and not char.isascii()):
        return char.encode("unicode_escape").decode("ascii")
    return char


def _say(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, markup=False, highlight=False, style=style)
