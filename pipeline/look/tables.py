"""How tables of `inspect` look: text to the left, figures to the right, and what stands for a share of nothing."""

from __future__ import annotations

from collections.abc import Collection

from rich.table import Table

_BAR = 30
"""Characters of the longest bar."""


def table(title: str, *columns: str, text: Collection[str] = ()) -> Table:
    """A table whose first column, and those of `text`, are flush left; the others are figures."""
    made = Table(title=title, title_justify="left")
    for place, name in enumerate(columns):
        made.add_column(name, justify="left" if place == 0 or name in text else "right")
    return made


def percent(part: float, whole: float, digits: int = 1) -> str:
    """`part` of `whole` in per cent; `-` of nothing."""
    return f"{part / whole:.{digits}%}" if whole else "-"


def bar(value: int, longest: int) -> str:
    """A bar in eighths of a character; what is not 0 is seen."""
    eighths = max(1, round(8 * _BAR * value / longest)) if value else 0
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
