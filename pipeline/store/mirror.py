"""A run at an address, or some of it, as a folder of this machine: for the commands that look at runs.

The folder holds the ledger and the run's small files; parts come when they are asked for. It goes with the process.
Parts are links to the copies of `cache`, which are checked by their digests when they are fetched and stay for the
next command.
"""

from __future__ import annotations

import atexit
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from pipeline.ledger import Ledger
from pipeline.store import cache

SMALL = ("recipe.yaml", "corpus.json", "mixture.json", "pins.json")
NOT_COPIED = ("lock", "runs")
"""In the ledger: who works there, and what is said of attempts."""

_of: dict[Path, Ledger] = {}
"""The ledgers of runs that have such folders in this process."""


def mirrored(address: str, folders: Iterable[str] = ()) -> Path:
    """A run at an address as a folder, with the committed files of some of its part folders; not to be written to.

    Raises UserError where no run is there, Unavailable where it cannot be read.
    """
    ledger = Ledger(address)
    ledger.head()
    folder = cache.own_folder(cache.home() / "looks")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, data in small_files(ledger).items():
        parented(folder / name).write_bytes(data)
    (folder / "ledger" / "rows").mkdir(exist_ok=True)
    _of[folder] = ledger
    wanted = set(folders)
    names = [part.path for row in ledger.rows() for part in row.parts if part.path.split("/")[0] in wanted]
    fill(folder, names)
    return folder


def address_of(folder: Path) -> str | None:
    """The address of the run that such a folder shows; None of another folder."""
    return str(_of[folder].store) if folder in _of else None


def fill(folder: Path, names: Iterable[str]) -> None:
    """Has these committed files in such a folder, those that the run still has; does nothing for another folder."""
    ledger = _of.get(folder)
    if ledger is None:
        return
    wanted = [name for name in names if not (folder / name).exists() and ledger.holds(name)]
    for name, path in zip(wanted, ledger.store.files(wanted), strict=True):
        try:
            os.link(path, parented(folder / name))
        except OSError:
            shutil.copyfile(path, folder / name)


def small_files(ledger: Ledger) -> dict[str, bytes]:
    """All files of a run that are no parts, by name."""
    inside = [name for name in ledger.store.names("ledger/") if name.split("/")[1] not in NOT_COPIED]
    names = [*SMALL, *(name for name in inside if name.count("/") == 1)]
    read = dict(zip(names, ledger.store.each(ledger.small, names), strict=True))
    small = {name: data for name, data in read.items() if data is not None}
    for folder in sorted({name.split("/")[1] for name in inside if name.count("/") > 1}):
        small |= ledger.store.read_all(f"ledger/{folder}/")
    return small


def parented(path: Path) -> Path:
    """The path, in a folder that is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
