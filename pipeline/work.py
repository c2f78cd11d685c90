"""A unit of work, and what every unit of a run shares."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, TypeVar

from pipeline.ledger import Ledger, digest_of
from pipeline.recipe import Recipe
from pipeline.storage.address import use
from pipeline.store import place
from pipeline.versions import VERSIONS
from stages.base import Stage
from stages.releases import release

Found = TypeVar("Found")

SPLIT_BYTES = 64 << 20
"""Input files above this size are cut into splits of about this size."""


@dataclass(frozen=True)
class Task:
    """One unit of work: a split of an input file, a committed part, or a step of its own."""

    phase: str
    key: str
    size: int
    """Bytes that it reads, for the largest-first order and the time left."""
    spec: dict[str, Any]
    reads: tuple[str, ...] = ()
    """Parts that it reads and its `spec` does not name."""

    @property
    def title(self) -> str:
        """How messages call it: phase, beginning of the key, and the input file that it reads, if it does."""
        place = f" of {self.spec['name']} from byte {self.spec['start']}" if self.phase == "clean" else ""
        return f"{self.phase}/{self.key[:12]}{place}"


@dataclass(frozen=True)
class Trial:
    """`--limit` and `--sample`: how much of the inputs a trial run reads."""

    limit: int | None = None
    """Most records of each source."""
    sample: float | None = None
    """Share of the records, chosen by keyed hash of their ids."""

    @property
    def given(self) -> bool:
        """Whether this is a trial run. Then a mixture's budget is not applied, a validation split may come out
        empty and a vocabulary smaller: they are meant for the whole."""
        return self.limit is not None or self.sample is not None


@dataclass(frozen=True)
class Context:
    """What every unit of a run shares: where it writes, what it was asked for."""

    out: Path | str
    """The run folder: of this machine, or an address (see `pipeline.store.place`)."""
    folder: Path
    """The recipe's folder: paths of stages' files are relative to it."""
    recipe: Recipe
    trial: Trial = field(default_factory=Trial)
    fence: int | None = None
    """Of a run at an address: the number of its lock, under which alone its workers write."""

    def __post_init__(self) -> None:
        use(self.recipe.storage)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger of the run folder."""
        return Ledger(self.out, self.fence)

    def file(self, name: str) -> Path:
        """A committed file of the run, by its name in the run folder, as one of this machine; not to be written to.

        Of a run at an address it is a copy, which stays until the unit that asked for it ends.
        """
        return self.ledger.store.file(name)

    def files(self, names: Iterable[str]) -> list[Path]:
        """`file` of several, which are fetched at once."""
        return self.ledger.store.files(names)

    @cached_property
    def chain(self) -> list[tuple[str, Stage]]:
        """The stages with their labels."""
        return self.recipe.chain()

    @cached_property
    def known(self) -> dict[str, Any]:
        """What `once` has found."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """The context as JSON."""
        return {
            "out": str(self.out),
            "folder": str(self.folder),
            "recipe": self.recipe.model_dump(mode="json"),
            "trial": vars(self.trial),
        } | ({} if self.fence is None else {"fence": self.fence})

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Context:
        """The context that `to_json` gave."""
        recipe = Recipe.model_validate(data["recipe"], strict=False)
        return cls(place(data["out"]), Path(data["folder"]), recipe, Trial(**data["trial"]), data.get("fence"))


def unit_key(phase: str, packages: tuple[str, ...], facts: dict[str, Any]) -> str:
    """The resume key of a unit: a digest of everything that its result depends on.

    The phase's version (see `versions`) stands for its own code, `packages` are the distributions that it calls. The
    Unicode data of the interpreter count as well.
    """
    return digest_of(
        {
            "phase": phase,
            "version": VERSIONS[phase],
            "packages": {package: release(package) for package in ("pyarrow", *packages)},
            "unicode": unicodedata.unidata_version,
            "facts": facts,
        }
    )


def once(function: Callable[[Context], Found]) -> Callable[[Context], Found]:
    """Keeps what a function of the context found until `context.known` is cleared.

    The units of a phase follow from the rows of the phases before it, which no longer change once these
    are done; without this, each phase would work out all earlier ones again.
    """
    name = f"{function.__module__}.{function.__qualname__}"

    @wraps(function)
    def kept(context: Context) -> Found:
        if name not in context.known:
            context.known[name] = function(context)
        found: Found = context.known[name]
        return found

    return kept
