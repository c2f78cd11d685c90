"""What `corpusmill stages` prints: every stage with its settings."""

from __future__ import annotations

from dataclasses import MISSING

from rich.console import Console

from pipeline.errors import UserError
from pipeline.limited import SETTING as SOURCES
from pipeline.limited import TEXT as SOURCES_TEXT
from stages.registry import STAGES, describe, find


def print_stages(name: str | None, console: Console) -> None:
    """Every stage (or one) with its settings. Raises UserError for an unknown one."""
    try:
        kinds = [find(name)] if name else list(STAGES.values())
    except ValueError as error:
        raise UserError(str(error)) from error
    for kind in kinds:
        console.print(f"\n{kind.name}", style="bold", highlight=False)
        console.print("  " + " ".join((kind.__doc__ or "").split()), highlight=False, markup=False)
        for setting in describe(kind):
            default = "required" if setting.default is MISSING else f"default {setting.default!r}"
            console.print(f"    {setting.name}: {setting.kind} ({default})", highlight=False, markup=False)
            if setting.text:
                console.print(f"        {setting.text}", highlight=False, markup=False)
    console.print(f"\nEvery stage has `{SOURCES}`: {SOURCES_TEXT}", highlight=False, markup=False)
