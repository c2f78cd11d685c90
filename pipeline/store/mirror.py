"""A run at an address, or some of it, as a folder of this machine: for the commands that look at runs.

The folder holds the ledger and the run's small files; parts come when they are asked for, and no more of them than
the copies of this machine may take. It goes with the process. Parts are links to the copies of `cache`, which are
checked by their digests when they are fetched and stay for the next command.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.errors import UserError
from pipeline.ledger import Ledger, Part
from pipeline.store import cache

SMALL = ("recipe.yaml", "corpus.json", "mixture.json", "pins.json")
NOT_COPIED = ("lock", "runs")
"""In the ledger: who works there, and what is said of attempts."""
SAID = 100_000_000
"""Bytes from which on a command says that it fetches them."""


@dataclass
class _Shown:
    """A run that has such a folder."""

    ledger: Ledger
    parts: dict[str, Part]
    bytes: int = 0
    """Of the parts in the folder."""


_of: dict[Path, _Shown] = {}
"""Those of this process, by their folders."""


def mirrored(address: str, folders: Iterable[str] = ()) -> Path:
    """A run at an address as a folder, with the committed files of some of its part folders; not to be written to.

    Raises UserError where no run is there, or those are too many, Unavailable where it cannot be read.
    """
    ledger = Ledger(address)
    ledger.head()
    folder = cache.own_folder(cache.home() / "looks")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, data in small_files(ledger).items():
        parented(folder / name).write_bytes(data)
    (folder / "ledger" / "rows").mkdir(exist_ok=True)
    _of[folder] = shown = _Shown(ledger, {part.path: part for row in ledger.rows() for part in row.parts})
    wanted = set(folders)
    fill(folder, (name for name in shown.parts if name.split("/")[0] in wanted))
    return folder


def address_of(folder: Path) -> str | None:
    """The address of the run that such a folder shows; None of another folder."""
    return str(_of[folder].ledger.store) if folder in _of else None


def fill(folder: Path, names: Iterable[str]) -> None:
    """Has these committed files in such a folder, those that the run still has; does nothing for another folder.

    Raises UserError where there would be more in the folder than the copies of this machine may take.
    """
    shown = _of.get(folder)
    if shown is None:
        return
    ledger = shown.ledger
    missing = (name for name in dict.fromkeys(names) if name in shown.parts and not (folder / name).exists())
    wanted = [name for name in missing if ledger.holds(name)]
    total = shown.bytes + sum(shown.parts[name].bytes for name in wanted)
    refuse_much(ledger, total)
    shown.bytes = total
    _say(ledger, [shown.parts[name] for name in wanted])
    for name, path in zip(wanted, ledger.store.files(wanted), strict=True):
        try:
            os.link(path, parented(folder / name))
        except OSError:
            shutil.copyfile(path, folder / name)


def refuse_much(ledger: Ledger, total: int) -> None:
    """Raises UserError where these bytes of a run at an address are more than the copies of this machine may take."""
    if total > (most := cache.most_bytes()):
        from pipeline.show import size_text  # brings what draws progress

        raise UserError(
            f"this reads {size_text(total)} of {ledger.store}, and copies on this machine may take {size_text(most)}. "
            f"Copy the run, or its corpus alone (--what corpus): corpusmill fetch {ledger.store} DIR; or set "
            f"CORPUSMILL_SCRATCH_GB higher, where there is room in {cache.home()}"
        )


def _say(ledger: Ledger, parts: Iterable[Part]) -> None:
    """Says how much is fetched, where it is much."""
    copies = cache.of_process()
    coming = sum(part.bytes for part in parts if not copies.has(part.digest, PurePosixPath(part.path).suffix))
    if coming >= SAID:
        from pipeline.show import size_text

        print(f"fetching {size_text(coming)} of {ledger.store}", file=sys.stderr, flush=True)


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
