"""What an installation is made of, as far as the bytes of a run depend on it; and whether a worker's is the driver's.

Resume keys are computed by the driver, from what it has installed. A worker on another host with another release of a
library, or another file behind the name of a model, would put its own results under these keys.
"""

from __future__ import annotations

import inspect
import json
import platform
import socket
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import xxhash

import pipeline
import stages
from pipeline.errors import RecipeError, UserError
from pipeline.formats import FORMATS
from pipeline.resources import digests
from pipeline.work import Context
from stages import kernels
from stages.base import Stage

BESIDES = ("apache-beam", "llvmlite", "numba", "tldextract")
"""Distributions that results depend on beside those that phases, formats and stages name."""
TOLD = 4
"""Differences that a message names."""
NOTHING = "none"
MEND = (
    "Equal bytes need equal installations: install there what the driver has (configs/cluster/requirements.txt, or "
    "the image of configs/cluster), start its worker pool anew, and run again."
)


class WorkerMismatch(UserError):
    """A worker's installation is not the driver's; it does nothing."""


def of(context: Context | None = None) -> dict[str, Any]:
    """What this installation is: versions and digests by name, as JSON can hold them.

    With the context of a run, also what its formats and stages call and load. Raises RecipeError where a file of a
    stage is not there.
    """
    found = _installation()
    if context is None:
        return found
    kinds = {kind for item in context.recipe.inputs for kind in item.formats}
    called = [FORMATS[kind].packages for kind in sorted(kinds)] + [stage.packages for _, stage in context.chain]
    return found | {
        "packages": found["packages"] | {name: _version(name) for packages in called for name in packages},
        "stages": {
            label: {
                "version": str(stage.version),
                "files": digests(stage.files(), context.folder),
                "code": _code_of(type(stage)),
            }
            for label, stage in context.chain
        },
    }


def check(expected: dict[str, Any], context: Context | None = None) -> None:
    """Compares what the driver found with what is installed here.

    Without a context only what can be said before it is read: a worker of another version may not understand it.
    Raises WorkerMismatch that names this host and what differs.
    """
    host = socket.gethostname()
    try:
        here = _flat(of(context))
    except RecipeError as error:
        raise WorkerMismatch(f"worker on host {host}: {error}; the driver has it. {MEND}") from error
    there = _flat(expected)
    if context is None:
        there = {name: value for name, value in there.items() if name in here}
    names = [*there, *(name for name in here if name not in there)]
    told = [
        f"{name} {_short(here.get(name, NOTHING))}, the driver {_short(there.get(name, NOTHING))}"
        for name in names
        if here.get(name, NOTHING) != there.get(name, NOTHING)
    ]
    if told:
        more = f"; and {len(told) - TOLD} more" if len(told) > TOLD else ""
        raise WorkerMismatch(f"worker on host {host} has {'; '.join(told[:TOLD])}{more}. {MEND}")


def check_release(expected: str) -> None:
    """Compares the release of corpusmill alone: a worker of another one may not even be able to read its job.

    Raises WorkerMismatch.
    """
    here = _version("corpusmill")
    if here != expected:
        raise WorkerMismatch(
            f"worker on host {socket.gethostname()} has corpusmill {here}, the driver {expected}. {MEND}"
        )


def checked(job: dict[str, Any]) -> Context:
    """The context of a job, for a worker: if the job has the driver's fingerprint, it is compared before all else.

    Raises WorkerMismatch.
    """
    expected = job.get("fingerprint")
    if expected is not None:
        check(expected)
    context = Context.from_json(job["context"])
    if expected is not None:
        check(expected, context)
    return context


@cache
def _installation() -> dict[str, Any]:
    """What can be said without a recipe. Found once in a process: code that is loaded does not change with its file."""
    return {
        "corpusmill": _version("corpusmill"),
        "packages": {name: _version(name) for name in sorted({*BESIDES, *_packages_of_phases()})},
        "Python": sys.version,
        "Unicode": unicodedata.unidata_version,
        "machine": f"{platform.machine()} {sys.byteorder}-endian",
        "code": {package.__name__: _code(Path(next(iter(package.__path__)))) for package in (pipeline, stages)},
        "kernels": kernels.digest(),
    }


def _packages_of_phases() -> Iterator[str]:
    """The distributions that units of phases name in their keys: each module of a phase has them as PACKAGES."""
    from pipeline.phases import PHASES
    from pipeline.tokenizers.files import PACKAGES as BY_KIND
    from stages.minhash import PACKAGES as OF_SIGNATURES

    yield from ("pyarrow", *OF_SIGNATURES)
    for packages in BY_KIND.values():
        yield from packages
    for phase in PHASES.values():
        packages = getattr(sys.modules[phase.work.__module__], "PACKAGES", ())
        yield from packages if isinstance(packages, tuple) else ()


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return NOTHING


def _code(folder: Path) -> str:
    """The digest of all Python files below a folder."""
    state = xxhash.xxh3_128()
    for path in sorted(folder.rglob("*.py")):
        source = path.read_bytes()
        state.update(f"{path.relative_to(folder).as_posix()}\0{len(source)}\0".encode())
        state.update(source)
    return state.hexdigest()


def _code_of(stage: type[Stage]) -> str:
    """The digest of the file of a user's own stage; nothing for one of ours, which is in `code`."""
    if stage.__module__.partition(".")[0] == stages.__name__:
        return ""
    try:
        return xxhash.xxh3_128_hexdigest(Path(inspect.getfile(stage)).read_bytes())
    except (OSError, TypeError):
        return NOTHING


def _flat(facts: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Facts within facts by one name: `stages.language.files.model`; of packages the name alone is said."""
    found: dict[str, str] = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            found |= _flat(value, prefix if name == "packages" else f"{prefix}{name}.")
        elif value is not None:
            found[prefix + name] = value if isinstance(value, str) else json.dumps(value)
    return found


def _short(value: str) -> str:
    """Of a digest its beginning; of Python's version what stands in one line."""
    value = " ".join(value.split())
    return value[:12] if len(value) == 32 and value.isalnum() else value
