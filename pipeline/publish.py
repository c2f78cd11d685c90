"""`corpusmill publish`: a finished run's files, put where others can read them, and read back.

At the address lie the files under the names that they have in the run folder, and `published.json`, which names
each with size and SHA-256. It and then `corpus.json` are sent last, and taken away first where something is to be
replaced: what was sent by half is never taken for a whole corpus.
"""

from __future__ import annotations

import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.corpora.folder import at_rest, finished, name_of
from pipeline.errors import DamageError, RecipeError, UserError, nearest
from pipeline.ledger import digest_of
from pipeline.look.runfolder import RunFolder
from pipeline.look.verify import Damage, Report
from pipeline.shards import MIXTURE_FILE, file_sha256
from pipeline.storage.address import is_remote, problem
from pipeline.storage.patience import Unavailable
from pipeline.storage.upload import Place

NAME = "published.json"
FORMAT = "corpusmill-published"
FORMAT_VERSION = 1
PARTS = {"documents": ("documents",), "shards": ("shards", "tokenizer")}
"""What may be asked for, and the folders of the run that it means."""
AT_ONCE = 8
"""Files that are sent or read at once."""
AGAIN = "`corpusmill publish` again"


@dataclass(frozen=True)
class Published:
    """What `publish` did."""

    address: str
    files: int
    bytes: int
    sent: int
    """Files that were sent; the others were there."""


def publish(folder: Path, address: str, what: list[str], card: str | None = None) -> Published:
    """Sends these parts of a finished run, or of a corpus that was made of others, to an address: those that are not
    there yet. `card` is sent as README.md.

    Raises RecipeError for an address or a part that cannot be meant, UserError where the run is not complete,
    Unavailable where the store refuses.
    """
    for name in what:
        if name not in PARTS:
            raise RecipeError(f"--what {name}: no such part.{nearest(name, PARTS)}")
    if is_remote(address) and (wrong := problem(address)):
        raise RecipeError(wrong)
    run = finished(folder)
    with at_rest(run), tempfile.TemporaryDirectory() as scratch:
        return _publish(run, Place(address), what, card, Path(scratch))


def _publish(run: RunFolder, place: Place, what: list[str], card: str | None, scratch: Path) -> Published:
    paths = {name: run.folder / name for name in _names(run, what)}
    if card is not None:
        paths["README.md"] = scratch / "README.md"
        paths["README.md"].write_text(card, "utf-8")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        digests = list(pool.map(file_sha256, paths.values()))
        files: dict[str, dict[str, Any]] = {
            name: {"bytes": path.stat().st_size, "sha256": digest}
            for (name, path), digest in zip(paths.items(), digests, strict=True)
        }
        there = list(pool.map(lambda name: place.holds(paths[name], name), paths))
        missing = [name for name, known in zip(paths, there, strict=True) if not known]
        local = scratch / NAME
        local.write_bytes(manifest_bytes(name_of(run), files))
        if missing or not place.holds(local, NAME):
            place.remove("corpus.json")
            place.remove(NAME)
            list(pool.map(lambda name: place.put(paths[name], name), [n for n in missing if n != "corpus.json"]))
            place.put(local, NAME)
            if "corpus.json" in paths:
                place.put(paths["corpus.json"], "corpus.json")
    return Published(place.address, len(files), sum(one["bytes"] for one in files.values()), len(missing))


def manifest_bytes(name: str, files: dict[str, dict[str, Any]]) -> bytes:
    """What `published.json` holds: each file's size and SHA-256, and `check`, a digest of all that."""
    facts = {"format": FORMAT, "format_version": FORMAT_VERSION, "name": name, "files": files}
    return json.dumps(facts | {"check": digest_of(facts)}, indent=1).encode()


def _names(run: RunFolder, what: list[str]) -> list[str]:
    """The files to send, by their names in the run folder. Raises UserError where some were taken away."""
    names = []
    for part in what:
        for folder in PARTS[part]:
            if run.removed(folder):
                raise UserError(f"`corpusmill clean` took {folder} out of {run.folder}; --what leaves a part out")
            names += [str(path.relative_to(run.folder)) for path in run.parts(folder)]
    # Not removed.json and takedown.txt: who asked for what to be taken out is nobody else's business.
    own = ("recipe.yaml", *((MIXTURE_FILE, "corpus.json") if "shards" in what else ()))
    return [*(name for name in own if (run.folder / name).is_file()), *names]


def verify(address: str) -> Report:
    """Reads every file that was published at a remote address. Raises UserError where nothing whole lies there."""
    if wrong := problem(address):
        raise RecipeError(wrong)
    place = Place(address)
    files = _manifest(place)
    report = Report(complete=True, parts=len(files), bytes=sum(facts["bytes"] for facts in files.values()))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda name: _damage(place, name, files[name]), files)
        report.damage += [damage for damage in found if damage is not None]
    return report


def _damage(place: Place, name: str, facts: dict[str, Any]) -> Damage | None:
    size = place.size(name)
    if size is None:
        return Damage(name, "is missing", AGAIN)
    if size != facts["bytes"]:
        return Damage(name, f"holds {size} bytes, {NAME} says {facts['bytes']}", AGAIN)
    try:
        digest = place.sha256(name)
    except (Unavailable, OSError) as error:
        return Damage(name, f"cannot be read: {error}", AGAIN)
    return None if digest == facts["sha256"] else Damage(name, f"its SHA-256 is not the one in {NAME}", AGAIN)


def _manifest(place: Place) -> dict[str, dict[str, Any]]:
    data = place.read(NAME)
    if data is None:
        raise UserError(f"{place.address} holds nothing that was published whole: there is no {NAME}")
    try:
        return manifest_files(data)
    except ValueError as error:
        raise DamageError(f"{place.at(NAME)} is damaged: {error}") from error


def manifest_files(data: bytes) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of each file that a `published.json` names. Raises ValueError where it is damaged."""
    try:
        facts = json.loads(data)
        if (facts["format"], facts["format_version"]) != (FORMAT, FORMAT_VERSION):
            raise ValueError(f"it is no {FORMAT} of version {FORMAT_VERSION}")
        if manifest_bytes(facts["name"], facts["files"]) != data:
            raise ValueError("its check is not that of its contents")
        return {str(name): {"bytes": int(one["bytes"]), "sha256": str(one["sha256"])}
                for name, one in facts["files"].items()}  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(repr(error)) from error
