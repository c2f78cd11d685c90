"""Inputs that no local glob finds: files of a store, and files that a list names.

A list, such as the `warc.paths.gz` that a crawl publishes, holds a path a line, each below the input's `base`. A
file that it names and that stays away is no reason to stop: it becomes a gap of its own, `unavailable`, the run
ends as incomplete, and the next run tries once more.
"""

from __future__ import annotations

import os
import posixpath
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import RecipeError, UserError
from pipeline.storage.address import is_remote, problem
from stages.hashing import keyed_all

if TYPE_CHECKING:
    from pipeline.sources import InputFile

UNAVAILABLE = "unavailable"
"""The reason of the gap that stands for a file which cannot be had."""

TRIAL_FILES = 8
"""Listed files that a run with --limit looks into, at least."""
TRIAL_RECORDS = 1_000
"""Records that each of them is taken to hold."""
SIGN_OF_LIFE = 8
"""Listed files that may be without any answer before the base itself is taken to be unreachable."""


@dataclass(frozen=True)
class Look:
    """How an input file looks from outside: `looks` in JSON, its size; `why` where it cannot be had."""

    looks: list[Any]
    size: int
    why: str | None = None


def local_look(path: str) -> Look:
    """Size, modification time in ns, inode. Raises OSError where it is gone."""
    stat = os.stat(path)
    return Look([stat.st_size, stat.st_mtime_ns, stat.st_ino], stat.st_size)


def look(path: str, *, listed: bool, again: bool = False) -> Look:
    """How a file looks; of a listed one also that it cannot be had. Raises UserError where another one is gone."""
    if not is_remote(path):
        try:
            return local_look(path)
        except OSError as error:
            if listed:
                return _away(error.strerror or str(error))
            raise UserError(f"{path} was there when the run began and is gone; run again") from error
    from pipeline.storage.patience import Unavailable
    from pipeline.storage.remote import facts

    try:
        known = facts(path, again=again)
    except Unavailable as error:
        if listed:
            return _away(error.why)
        raise
    return Look(known.looks(), known.size)


progress: Callable[[int, int], None] | None = None
"""Is told how many of the remote files were asked about. The runner sets it, so that the driver sees a sign of life."""


def begin() -> None:
    """Forgets what this process knows of remote files, for a run that begins."""
    _read.clear()
    if remote := sys.modules.get("pipeline.storage.remote"):
        remote.forget()


def looks_of(files: Sequence[InputFile]) -> list[Look]:
    """`look` of all files, remote ones several at once.

    Raises UserError where the first listed files of a base all give no answer: then it is the network, or the base.
    """
    remote = [file.path for file in files if is_remote(file.path)]
    if remote:
        from pipeline.storage.remote import facts_of_all

        _sign_of_life([file for file in files if file.listed and is_remote(file.path)])
        facts_of_all(remote, lambda number: progress(number, len(remote)) if progress else None)
    return [look(file.path, listed=file.listed) for file in files]


def _away(why: str) -> Look:
    return Look([0, UNAVAILABLE], 0, why)


def _sign_of_life(files: list[InputFile]) -> None:
    from pipeline.storage.patience import Unavailable
    from pipeline.storage.remote import facts

    if len(files) < SIGN_OF_LIFE:
        return
    for file in files[:SIGN_OF_LIFE]:
        try:
            facts(file.path)
        except Unavailable as error:
            if error.answered:
                return
            last = error
        else:
            return
    raise UserError(
        f"the first {SIGN_OF_LIFE} of {len(files)} listed files give no answer, so the others were not tried: {last}"
    )


def few(files: list[InputFile], limit: int, seed: int) -> list[InputFile]:
    """The files that a trial of `limit` records a source looks into: of a source's listed ones, by keyed hash of
    their names, so many as will hold that many records."""
    enough = max(TRIAL_FILES, -(-limit // TRIAL_RECORDS))
    kept = [file for file in files if not file.listed]
    for source in sorted({file.source for file in files if file.listed}):
        members = [file for file in files if file.listed and file.source == source]
        hashes = keyed_all("try", seed, (file.name.encode() for file in members))
        order = sorted(range(len(members)), key=lambda place: (int(hashes[place]), members[place].name))
        kept += [members[place] for place in order[:enough]]
    return sorted(kept, key=lambda file: (file.source, file.path))


def found(pattern: str) -> list[str]:
    """The files of a store that an address or glob stands for. Raises UserError, beginning with a key."""
    if wrong := problem(pattern):
        raise UserError(f"path: {wrong}")
    from pipeline.storage.patience import Unavailable
    from pipeline.storage.remote import facts, has_magic, listing

    try:
        if has_magic(pattern):
            return listing(pattern)
        facts(pattern)
        return [pattern]
    except Unavailable as error:
        raise UserError(f"path: {pattern} cannot be read: {error.why}") from error


def name_below(address: str, pattern: str) -> str:
    """How origins call a file of a store: its path below the folder that the glob starts from."""
    from pipeline.storage.remote import has_magic

    root = posixpath.dirname(pattern)
    while has_magic(root):
        root = posixpath.dirname(root)
    return address.removeprefix(root).lstrip("/")


def listed(lists: Sequence[str], base: str) -> list[tuple[str, str]]:
    """(address, name) of each file that the lists name, in order, each once. Raises RecipeError."""
    files: dict[str, str] = {}
    for address in lists:
        for number, line in enumerate(_lines(address), 1):
            if "://" in line or line.startswith("/") or ".." in line.split("/"):
                raise RecipeError(f"{address}, line {number}: '{line[:200]}' is no path below the base {base}")
            files[f"{base.rstrip('/')}/{line}"] = line
    return list(files.items())


_read: dict[str, list[str]] = {}


def _lines(address: str) -> list[str]:
    """The lines of a list; a remote one is read once a process."""
    if address in _read:
        return _read[address]
    from pipeline.storage.patience import Unavailable
    from pipeline.storage.remote import lines

    try:
        if is_remote(address):
            if wrong := problem(address):
                raise RecipeError(wrong)
            data = _whole(address)
        else:
            with open(address, "rb") as file:
                data = file.read()
        found = list(lines(data))
    except OSError as error:
        raise RecipeError(f"{address} cannot be read: {error.strerror}") from error
    except Unavailable as error:
        raise RecipeError(f"{address} cannot be read: {error.why}") from error
    except ValueError as error:
        raise RecipeError(f"{address} is no list of paths: {error}") from error
    if not found:
        raise RecipeError(f"{address} names no file")
    if is_remote(address):
        _read[address] = found
    return found


def _whole(address: str) -> bytes:
    from pipeline.storage.remote import Remote

    with Remote(address) as file:
        return file.read(0, file.size)
