"""The input files of a recipe, found and checked before any work."""

from __future__ import annotations

import difflib
import glob
import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RecipeError
from pipeline.recipe import Input, Recipe


@dataclass(frozen=True)
class InputFile:
    """One file of one source."""

    source: str
    format: str
    path: str
    name: str
    """How origins call it: its path below the folder that the glob starts from."""
    fields: tuple[tuple[str, str], ...]
    allow_incomplete: bool


def input_files(recipe: Recipe) -> list[InputFile]:
    """All input files, by source and path. Raises RecipeError naming every glob or file that cannot be used."""
    found: dict[tuple[str, str], InputFile] = {}
    problems: list[str] = []
    for number, item in enumerate(recipe.inputs):
        for pattern in [item.path] if isinstance(item.path, str) else item.path:
            files = [path for path in sorted(glob.glob(pattern, recursive=True)) if not os.path.isdir(path)]
            problems += [
                f"inputs[{number}].path: the folder {folder} below {pattern} may not be read"
                for folder in _closed(pattern)
            ]
            if not files:
                problems.append(f"inputs[{number}].path: {_nothing(pattern)}")
            for path in files:
                problem = _problem(path, item)
                if problem:
                    problems.append(f"inputs[{number}].path: {problem}")
                name = os.path.relpath(path, _root(pattern))
                fields = tuple(sorted(item.fields.items()))
                found[item.source, path] = InputFile(
                    item.source, item.format, path, name, fields, item.allow_incomplete
                )
    if problems:
        raise RecipeError("\n".join(problems))
    return sorted(found.values(), key=lambda file: (file.source, file.path))


def _closed(pattern: str) -> list[str]:
    """Folders that the glob would look into but that may not be read: glob itself passes them over in silence."""
    if not glob.has_magic(pattern):
        return []
    closed: set[str] = set()
    folder = os.path.dirname(pattern)
    while glob.has_magic(folder):
        found = glob.glob(os.path.join(folder, ""), recursive=True)
        closed |= {path.rstrip("/") for path in found if not _readable(path)}
        folder = os.path.dirname(folder)
    if folder and os.path.isdir(folder) and not _readable(folder):
        closed.add(folder)
    return sorted(closed)


def _readable(folder: str | Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def _root(pattern: str) -> Path:
    """The folder that a glob starts from."""
    folder = Path(pattern).parent
    while glob.has_magic(str(folder)):
        folder = folder.parent
    return folder


def _problem(path: str, item: Input) -> str | None:
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    if empty and not item.allow_incomplete:
        return f"{path} is empty (0 bytes); a broken download? Remove it, or set `allow_incomplete: true` on this input"
    return None


def _nothing(pattern: str) -> str:
    """Says how far a glob got, and what lies there."""
    folder = Path(pattern)
    while not os.path.isdir(folder) and folder != folder.parent:
        folder = folder.parent
    if not _readable(folder):
        return f"no file matches {pattern}: the folder {folder} may not be read"
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        return f"no file matches {pattern}: {folder}: {error.strerror}"
    rest = Path(pattern).relative_to(folder).parts[0] if folder != Path(pattern) else ""
    missing = f"no file matches {pattern}"
    if folder == Path(pattern):
        return f"{missing}: it is a folder; name files in it, as in {pattern.rstrip('/')}/*"
    near = difflib.get_close_matches(rest, names, n=1)
    return f"{missing}: {folder} has nothing like '{rest}'." + (f" Did you mean '{near[0]}'?" if near else "")
