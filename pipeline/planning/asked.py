"""What `plan-run` is asked for: how large the crawl is, and which machines there are."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.errors import RecipeError

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_NUMBER = r"(?P<number>\d+(?:[_,]\d{3})*(?:\.\d+)?(?:e[+]?\d+)?|\.\d+)"
_SIZE = re.compile(_NUMBER + r"\s*(?P<power>[kmgtp]?)(?P<binary>i?)b(?:ytes)?$", re.IGNORECASE)
_PAGES = re.compile(
    _NUMBER + r"\s*(?P<word>thousand|million|billion)?\s*(?:pages?|documents?|records?)$", re.IGNORECASE
)
_SPEED = re.compile(_NUMBER + r"\s*(?P<power>[kmgt]?)bit(?:/s)?(?:ps)?$", re.IGNORECASE)
_WORDS = {"thousand": 1e3, "million": 1e6, "billion": 1e9}


@dataclass(frozen=True)
class Crawl:
    """How much there is to read: one of the two."""

    pages: float | None = None
    size: float | None = None
    """Bytes of the files as they lie there."""
    file_size: float | None = None
    """Bytes of a file, on average; None for files as large as the run's."""


@dataclass(frozen=True)
class Machines:
    """What there is to read it with. All machines are alike."""

    count: int
    cores: int
    """Workers of a machine: one a core."""
    memory: float = 128 * 2**30
    """Bytes of a machine."""
    disk: float = 2e12
    """Bytes of a machine's own disk."""
    network: float = 1.25e9
    """Bytes a second that a machine reads and writes over the network."""
    busy: float = 1.0
    """CPU time of a unit while all cores of a machine are at work, by that while one is."""
    price: float | None = None
    """Of a machine for an hour, in whatever money."""

    def crowded(self, workers: float) -> float:
        """By what CPU time grows on a machine where so many cores work at once."""
        return 1.0 if self.cores < 2 else 1 + (self.busy - 1) * (min(workers, self.cores) - 1) / (self.cores - 1)

    @property
    def workers(self) -> int:
        """Of all machines."""
        return self.count * self.cores


def crawl(text: str) -> Crawl:
    """`3.2e9 pages`, `3.2 billion pages`, `90TB`. Raises RecipeError."""
    if (found := _PAGES.match(text.strip())) is not None:
        pages = _value(found) * _WORDS.get((found["word"] or "").lower(), 1)
        size = None
    elif (found := _SIZE.match(text.strip())) is not None:
        pages, size = None, _bytes(found)
    else:
        raise RecipeError(f"--crawl {text}: give a number of pages or bytes, such as '3.2e9 pages' or 90TB")
    if not (pages or size):
        raise RecipeError(f"--crawl {text}: nothing to read")
    return Crawl(pages, size)


def machines(text: str) -> tuple[int, int]:
    """`64x32`: so many machines of so many cores. Raises RecipeError."""
    found = re.fullmatch(r"\s*(\d+)\s*[x×*]\s*(\d+)\s*", text, re.IGNORECASE)
    if found is None:
        raise RecipeError(f"--machines {text}: give machines x cores of each, such as 64x32 (or 1x16 for one machine)")
    count, cores = int(found[1]), int(found[2])
    if not (count and cores):
        raise RecipeError(f"--machines {text}: at least one machine with one core")
    return count, cores


def size(option: str, text: str) -> float:
    """A number of bytes: `128GiB`, `2TB`. Raises RecipeError."""
    found = _SIZE.match(text.strip())
    if found is None or not _bytes(found):
        raise RecipeError(f"{option} {text}: give a number of bytes, such as 128GiB or 2TB")
    return _bytes(found)


def speed(option: str, text: str) -> float:
    """Bytes a second, of `10Gbit`. Raises RecipeError."""
    found = _SPEED.match(text.strip())
    if found is None or not _value(found):
        raise RecipeError(f"{option} {text}: give bits a second, such as 10Gbit")
    return float(_value(found) * 1000 ** _POWERS[found["power"].lower()] / 8)


def _value(found: re.Match[str]) -> float:
    return float(re.sub("[_,]", "", found["number"]))


def _bytes(found: re.Match[str]) -> float:
    return float(_value(found) * (1024 if found["binary"] else 1000) ** _POWERS[found["power"].lower()])
