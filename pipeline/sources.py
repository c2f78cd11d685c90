"""The input files of a recipe, found and checked before any work."""

from __future__ import annotations

import difflib
import glob
import os
from dataclasses import dataclass
from pathlib import Path

from pipeline import listing
from pipeline.errors import RecipeError, UserError
from pipeline.formats import FORMATS, by_ending
from pipeline.recipe import Input, Recipe
from pipeline.storage.address import is_remote, problem, use


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
    options: tuple[tuple[str, str], ...] = ()
    listed: bool = False
    """Whether a list names it: then it may stay away."""
    generation: int = 0
    """Age of its crawl."""


def input_files(recipe: Recipe) -> list[InputFile]:
    """All input files, by source and path. Raises RecipeError naming every glob or file that cannot be used."""
    found: dict[tuple[str, str], InputFile] = {}
    problems: list[str] = []
    use(recipe.storage)
    for number, item in enumerate(recipe.inputs):
        for file in _listed(item, number, problems):
            found[item.source, file.path] = file
        for pattern in item.paths:
            try:
                paths = listing.found(pattern) if is_remote(pattern) else sorted(glob.glob(pattern, recursive=True))
                files = _members(paths, item)
            except UserError as error:
                problems.append(f"inputs[{number}].{error}")
                continue
            problems += [
                f"inputs[{number}].path: the folder {folder} below {pattern} may not be read"
                for folder in _closed(pattern)
            ]
            if not files:
                problems.append(f"inputs[{number}].path: {_nothing(pattern, item.format)}")
            before = len(problems)
            for path, kind, options in files:
                wrong = _problem(path, item)
                if wrong:
                    problems.append(f"inputs[{number}].path: {wrong}")
                name = _name(path, pattern)
                fields = tuple(sorted(item.fields.items())) if FORMATS[kind].mapped else ()
                found[item.source, path] = InputFile(
                    item.source, kind, path, name, fields, item.allow_incomplete, tuple(sorted(options.items())),
                    generation=item.generation,
                )  # fmt: skip
            if files and len(problems) == before and (wrong := _unfit(found[item.source, files[0][0]])):
                problems.append(f"inputs[{number}].fields: {wrong}")
    if problems:
        raise RecipeError("\n".join(problems))
    return sorted(found.values(), key=lambda file: (file.source, file.path))


def _listed(item: Input, number: int, problems: list[str]) -> list[InputFile]:
    """The files that the lists of an input name. They are not asked for here: there may be ninety thousand."""
    if item.base is None or item.format is None:
        return []
    wrong = problem(item.base) if is_remote(item.base) else None
    try:
        files = listing.listed(item.lists, item.base) if wrong is None else []
    except RecipeError as error:
        wrong = str(error)
    if wrong is not None:
        problems.append(f"inputs[{number}].list: {wrong}")
        return []
    fields = tuple(sorted(item.fields.items())) if FORMATS[item.format].mapped else ()
    options = tuple(sorted(item.options.items()))
    return [
        InputFile(item.source, item.format, path, name, fields, item.allow_incomplete, options, True, item.generation)
        for path, name in files
    ]


def _name(path: str, pattern: str) -> str:
    return listing.name_below(path, pattern) if is_remote(pattern) else os.path.relpath(path, _root(pattern))


def _members(paths: list[str], item: Input) -> list[tuple[str, str, dict[str, str]]]:
    """The files among what a glob found, each with its format and options. Raises UserError beginning with a key."""
    if item.format == "datasets":
        from pipeline.readers.datasets import members  # brings a large library

        return members(paths, dict(item.options))
    files = [path for path in paths if not os.path.isdir(path)]
    kinds = [item.format or by_ending(path) for path in files]
    unknown = [path for path, kind in zip(files, kinds, strict=True) if kind is None]
    if unknown:
        more = f" (and of {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise UserError(
            f"format: the ending of {unknown[0]}{more} does not say what it is. Say it, as in `format: jsonl`, or "
            f"narrow the path; known: {', '.join(ending for known in FORMATS.values() for ending in known.endings)}"
        )
    return [(path, kind, dict(item.options)) for path, kind in zip(files, kinds, strict=True) if kind is not None]


def _unfit(file: InputFile) -> str | None:
    """Why a file cannot be read as the recipe maps its columns: asked of the first file of each path, before work."""
    from pipeline.readers import CHECKS  # brings the readers' libraries

    if file.format not in CHECKS:
        return None
    try:
        CHECKS[file.format](file.path, file.name, file.fields, file.options)
    except UserError as error:
        return str(error)
    except OSError:
        return None  # said already, or soon
    return None


def _closed(pattern: str) -> list[str]:
    """Folders that the glob would look into but that may not be read: glob itself passes them over in silence."""
    if is_remote(pattern) or not glob.has_magic(pattern):
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
        if is_remote(path):
            empty = listing.look(path, listed=False).size == 0
        else:
            with open(path, "rb") as file:
                empty = not file.read(1)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    if empty and not item.allow_incomplete:
        return f"{path} is empty (0 bytes); a broken download? Remove it, or set `allow_incomplete: true` on this input"
    return None


def _nothing(pattern: str, kind: str | None) -> str:
    """Says how far a glob got, and what lies there."""
    if is_remote(pattern):
        return f"no file matches {pattern}"
    if kind == "datasets" and not glob.has_magic(pattern) and not os.path.lexists(pattern):
        return (
            f"there is no {pattern}. Nothing is fetched from the Hugging Face hub: save the dataset first, as in "
            "datasets.load_dataset(...).save_to_disk(FOLDER), and name that folder"
        )
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
