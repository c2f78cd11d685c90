"""Lists and models that stages read: opened here, handed to the stages as bytes."""

from __future__ import annotations

from pathlib import Path

import xxhash

import stages
from pipeline.errors import RecipeError

BUILTIN = "builtin:"


def locate(path: str, folder: Path) -> Path:
    """The file that a stage names: `builtin:NAME` under stages/data, else relative to the recipe's folder.

    Raises RecipeError where there is none.
    """
    if path.startswith(BUILTIN):
        file = Path(next(iter(stages.__path__))) / "data" / path.removeprefix(BUILTIN)
    else:
        file = next((root for root in (folder / path, Path(path)) if root.is_file()), folder / path)
    if not file.is_file():
        raise RecipeError(f"there is no file {path}")
    return file


def load(files: dict[str, str], folder: Path) -> dict[str, bytes]:
    """The contents of a stage's files by role."""
    return {role: locate(path, folder).read_bytes() for role, path in files.items()}


def digests(files: dict[str, str], folder: Path) -> dict[str, str]:
    """The digests of a stage's files by role."""
    return {role: xxhash.xxh3_128_hexdigest(data) for role, data in load(files, folder).items()}
